//! Pipeline descriptions: text files, embedded in the binary, singly overridable from a folder.
//!
//! Owns their parsing and the check that each element they name is installed. Builds no pipeline.

use super::beat::Beat;
use super::tally::Tally;
use super::{CpuBudget, PipelineCount, PipelineError};
use crate::media::Codec;
use gstreamer as gst;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// The descriptions, checked, and GStreamer initialised.
#[derive(Debug)]
pub struct Pipelines {
    texts: BTreeMap<&'static str, String>,
    tallies: BTreeMap<&'static str, Arc<Tally>>,
    h264_decoder: &'static str,
    aac_decoder: &'static str,
    mp3_decoder: &'static str,
    av1_decoder: &'static str,
    h265_decoder: &'static str,
    encoders: EncoderSettings,
    budget: Arc<CpuBudget>,
    beat: Beat,
}

/// What encoding may cost and give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EncoderSettings {
    /// Bits a second of sound that is encoded as AAC.
    pub audio_bitrate: u32,
    /// Bits a second of sound that is encoded as Opus.
    pub opus_bitrate: u32,
    /// Percent of the machine's processor time from which on nothing more is encoded for WHEP viewers.
    pub cpu_budget: u8,
}

impl Default for EncoderSettings {
    fn default() -> Self {
        Self { audio_bitrate: 128_000, opus_bitrate: 96_000, cpu_budget: 80 }
    }
}

macro_rules! embedded {
    ($($name:literal),* $(,)?) => {
        [$((concat!($name, ".launch"), include_str!(concat!("../../pipelines/", $name, ".launch")))),*]
    };
}

/// All descriptions: file name and text.
const EMBEDDED: [(&str, &str); 19] = embedded![
    "demo-audio",
    "demo-video",
    "frames-to-aac",
    "frames-to-baseline-frames",
    "frames-to-h264-frames",
    "frames-to-opus",
    "h265-packets-to-frames",
    "hold-last-picture",
    "hold-slate",
    "hold-still",
    "ladder-decode",
    "ladder-rung",
    "mux-audio",
    "mux-video",
    "mux-vp9",
    "opus-packets-to-frames",
    "opus-packets-to-opus-frames",
    "vp8-packets-to-h264-frames",
    "vp9-packets-to-frames",
];

/// A value for every placeholder.
const SAMPLES: [(&str, &str); 9] = [
    ("audio_decoder", "opusdec"),
    ("parser", "h264parse !"),
    ("fragment", "2000000000"),
    ("chunk", "333000000"),
    ("bitrate", "2000"),
    ("video_decoder", "vp9dec"),
    ("image_decoder", "pngdec"),
    ("width", "1280"),
    ("height", "720"),
];

/// Where Debian keeps the elements.
const PACKAGES: [(&str, &[&str]); 5] = [
    (
        "gstreamer1.0-plugins-base",
        &[
            "appsrc",
            "appsink",
            "opusenc",
            "opusdec",
            "audiorate",
            "audioconvert",
            "audioresample",
            "videoconvert",
            "videoscale",
        ],
    ),
    (
        "gstreamer1.0-plugins-good",
        &[
            "rtph264depay",
            "rtph265depay",
            "rtpopusdepay",
            "rtpvp8depay",
            "rtpvp9depay",
            "aacparse",
            "vp8dec",
            "vp9dec",
            "imagefreeze",
            "pngdec",
            "jpegdec",
            "mpg123audiodec",
        ],
    ),
    (
        "gstreamer1.0-plugins-bad",
        &["h264parse", "h265parse", "vp9parse", "opusparse", "voaacenc", "faad", "openh264dec", "av1dec"],
    ),
    ("gstreamer1.0-plugins-ugly", &["x264enc"]),
    ("gstreamer1.0-libav", &["avdec_h264", "avdec_h265", "avdec_aac", "avdec_mp3"]),
];

impl Pipelines {
    /// How many pipelines of each description there were, and how many failed.
    pub fn counts(&self) -> Vec<PipelineCount> {
        self.tallies.iter().map(|(file, tally)| tally.count(file)).collect()
    }

    /// Where those of the description `file` are counted.
    pub(super) fn tally(&self, file: &str) -> Arc<Tally> {
        self.tallies.get(file).cloned().unwrap_or_default()
    }

    /// Initialises GStreamer, registers the fragmented MP4 muxer, and reads the descriptions, each from
    /// `overrides` if a file of its name is there. Every element named must be installed. Takes some
    /// hundred milliseconds the first time: call it before there are sessions.
    pub fn load(overrides: Option<&Path>) -> Result<Arc<Self>, PipelineError> {
        Self::load_with(overrides, EncoderSettings::default())
    }

    /// As [`Self::load`], with these settings for what is encoded.
    pub fn load_with(
        overrides: Option<&Path>,
        encoders: EncoderSettings,
    ) -> Result<Arc<Self>, PipelineError> {
        let failed = |error: gst::glib::Error| PipelineError::Initialisation(error.to_string());
        gst::init().map_err(failed)?;
        gstfmp4::plugin_register_static()
            .map_err(|error| PipelineError::Initialisation(error.to_string()))?;
        let mut texts = BTreeMap::new();
        for (file, text) in EMBEDDED {
            texts
                .insert(file, without_comments(&overridden(overrides, file)?.unwrap_or_else(|| text.into())));
        }
        let pipelines = Self {
            tallies: texts.keys().map(|file| (*file, Arc::default())).collect(),
            texts,
            h264_decoder: either(
                "frames-to-baseline-frames.launch",
                [("avdec_h264", "avdec_h264 max-threads=1"), ("openh264dec", "openh264dec")],
            )?,
            aac_decoder: either("frames-to-opus.launch", [("avdec_aac", "avdec_aac"), ("faad", "faad")])?,
            mp3_decoder: either(
                "frames-to-opus.launch",
                [("mpg123audiodec", "mpg123audiodec"), ("avdec_mp3", "avdec_mp3")],
            )?,
            encoders,
            budget: Arc::new(CpuBudget::new(encoders.cpu_budget)),
            beat: Beat::new(Instant::now()),
            av1_decoder: either(
                "frames-to-h264-frames.launch",
                [("av1dec", "av1dec"), ("dav1ddec", "dav1ddec n-threads=1")],
            )?,
            h265_decoder: either(
                "frames-to-h264-frames.launch",
                [("avdec_h265", "avdec_h265 max-threads=1"), ("libde265dec", "libde265dec max-threads=1")],
            )?,
        };
        for (file, text) in &pipelines.texts {
            for element in elements(text) {
                if gst::ElementFactory::find(element).is_none() {
                    let (file, element) = (file.to_string(), element.to_string());
                    let package = package(&element);
                    return Err(PipelineError::MissingElement { file, element, package });
                }
            }
            // Building each once finds mistakes now, and loads the plugins before a stream waits for them.
            let text = pipelines.describe(file, &SAMPLES)?;
            gst::parse::launch(&text).map_err(|error| PipelineError::Description {
                file: file.to_string(),
                why: error.to_string(),
            })?;
        }
        Ok(Arc::new(pipelines))
    }

    /// Loads the plugin that decodes the sound of RTMP publishers. FFmpeg's takes 0.3 s and some megabytes the first
    /// time, so it is not loaded at the start, and not when a viewer waits.
    pub(super) fn load_sound_decoder(&self) {
        let element = self.aac_decoder.split(' ').next().unwrap_or_default();
        let loaded = gst::ElementFactory::find(element)
            .map(|factory| gst::prelude::PluginFeatureExtManual::load(&factory));
        if let Some(Err(error)) = loaded {
            tracing::warn!(element, %error, "A decoder can't be loaded.");
        }
    }

    /// What decodes frames of `codec`, as it stands in a description.
    pub(super) fn video_decoder(&self, codec: Codec) -> Option<&'static str> {
        match codec {
            Codec::H264 => Some(self.h264_decoder),
            Codec::H265 => Some(self.h265_decoder),
            Codec::Vp9 => Some("vp9dec threads=1"),
            Codec::Av1 => Some(self.av1_decoder),
            Codec::Vp8 | Codec::Opus | Codec::Aac | Codec::Mp3 => None,
        }
    }

    /// When bridges look for packets.
    pub(super) fn beat(&self) -> Beat {
        self.beat
    }

    /// Whether there is processor time to encode for WHEP viewers.
    pub fn budget(&self) -> &Arc<CpuBudget> {
        &self.budget
    }

    /// What decodes sound of `codec`, as it stands in a description.
    pub(super) fn audio_decoder(&self, codec: Codec) -> Option<&'static str> {
        match codec {
            Codec::Aac => Some(self.aac_decoder),
            Codec::Mp3 => Some(self.mp3_decoder),
            Codec::Opus => Some("opusdec use-inband-fec=false plc=true"),
            Codec::H264 | Codec::H265 | Codec::Vp8 | Codec::Vp9 | Codec::Av1 => None,
        }
    }

    /// The description `file` with its placeholders filled.
    pub(super) fn describe(
        &self,
        file: &'static str,
        values: &[(&str, &str)],
    ) -> Result<String, PipelineError> {
        let wrong = |why: String| PipelineError::Description { file: file.into(), why };
        let EncoderSettings { audio_bitrate, opus_bitrate, .. } = self.encoders;
        let [audio_bitrate, opus_bitrate] = [audio_bitrate, opus_bitrate].map(|bitrate| bitrate.to_string());
        let own = [("audio_bitrate", &*audio_bitrate), ("opus_bitrate", &*opus_bitrate)];
        let mut text =
            self.texts.get(file).ok_or_else(|| wrong("there is no such description".into()))?.clone();
        for (name, value) in values.iter().chain(&own) {
            text = text.replace(&format!("{{{name}}}"), value);
        }
        match text.find('{') {
            Some(at) => {
                Err(wrong(format!("nothing fills {:?}", text[at..].lines().next().unwrap_or_default())))
            }
            None => Ok(text),
        }
    }
}

fn overridden(folder: Option<&Path>, file: &str) -> Result<Option<String>, PipelineError> {
    let Some(path) = folder.map(|folder| folder.join(file)) else {
        return Ok(None);
    };
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => {
            Err(PipelineError::Unreadable { file: path.display().to_string(), why: error.to_string() })
        }
    }
}

/// The first of two elements that is installed, as it stands in a description.
fn either(file: &str, choices: [(&str, &'static str); 2]) -> Result<&'static str, PipelineError> {
    let found = choices.iter().find(|(element, _)| gst::ElementFactory::find(element).is_some());
    found.map(|(_, text)| *text).ok_or_else(|| PipelineError::MissingElement {
        file: file.into(),
        element: choices.map(|(element, _)| element).join(" or "),
        package: package(choices[0].0),
    })
}

fn package(element: &str) -> Option<&'static str> {
    PACKAGES.iter().find(|(_, elements)| elements.contains(&element)).map(|(package, _)| *package)
}

fn without_comments(text: &str) -> String {
    text.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// The names of the elements in a description: the first word of each link of the chain, unless it is
/// a caps filter (`video/x-h264,…`), a reference to a named element (`mux.`) or a placeholder.
fn elements(text: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let links = text.split(move |character| {
        quoted ^= character == '"';
        character == '!' && !quoted
    });
    links
        .filter_map(|link| link.split_whitespace().find(|word| !word.starts_with('{')))
        .filter(|word| !word.contains(['/', ',', '=', '.']))
}

#[cfg(test)]
mod tests {
    use super::super::source::Source;
    use super::*;
    use gst::prelude::*;

    #[test]
    fn every_description_has_its_header_and_parses() {
        let pipelines = Pipelines::load(None).expect("all elements are installed");
        for (file, text) in EMBEDDED {
            for heading in ["# Purpose:", "# Inputs:", "# Outputs:"] {
                assert!(text.contains(heading), "{file} lacks {heading}");
            }
            let text = pipelines.describe(file, &SAMPLES).expect("all placeholders are filled");
            let pipeline = gst::parse::launch(&text).unwrap_or_else(|error| panic!("{file}: {error}"));
            let pipeline = pipeline.downcast::<gst::Pipeline>().expect("more than one element");
            assert!(Source::of(&pipeline).is_some() && pipeline.by_name("out").is_some(), "{file}");
        }
    }

    #[test]
    fn a_missing_element_is_named_with_its_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let text = "# mine\nappsrc name=in ! nosuchelement a=\"!b\" ! video/x-raw,width=1 ! appsink name=out";
        std::fs::write(folder.path().join("demo-video.launch"), text).expect("written");
        let error = Pipelines::load(Some(folder.path())).expect_err("it is not installed");
        let told = error.to_string();
        assert!(told.contains("demo-video.launch") && told.contains("nosuchelement"), "{told}");
    }

    /// Linked into the binary.
    const MUXERS: [&str; 2] = ["cmafmux", "isofmp4mux"];

    #[test]
    fn known_elements_have_their_package() {
        assert_eq!(package("x264enc"), Some("gstreamer1.0-plugins-ugly"));
        for (file, text) in EMBEDDED {
            for element in elements(&without_comments(text)).filter(|element| !MUXERS.contains(element)) {
                assert!(package(element).is_some(), "{element} of {file}");
            }
        }
    }

    #[test]
    fn sound_is_encoded_with_the_bitrates_that_are_configured() {
        let encoders =
            EncoderSettings { audio_bitrate: 64_000, opus_bitrate: 160_000, ..EncoderSettings::default() };
        let pipelines = Pipelines::load_with(None, encoders).expect("all elements are installed");
        for (file, encoder) in [
            ("frames-to-opus.launch", "opusenc bitrate=160000"),
            ("frames-to-aac.launch", "voaacenc name=encoder bitrate=64000"),
        ] {
            let text = pipelines.describe(file, &SAMPLES).expect("all placeholders are filled");
            assert!(text.contains(encoder), "{text}");
        }
    }

    #[test]
    fn a_placeholder_nobody_fills_is_an_error() {
        let pipelines = Pipelines::load(None).expect("all elements are installed");
        let error = pipelines.describe("mux-audio.launch", &[("chunk", "1")]).expect_err("no {fragment}");
        assert!(error.to_string().contains("{fragment}"), "{error}");
    }
}
