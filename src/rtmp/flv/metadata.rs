//! `onMetaData`: what a publisher announces, and what a push tells.

use crate::media::{AudioTrack, Tracks, VideoTrack};
use rml_rtmp::rml_amf0::Amf0Value;

/// Which tracks `onMetaData` announces; `None` if it tells nothing.
pub(in crate::rtmp) fn announced(metadata: &Amf0Value) -> Option<(bool, bool)> {
    let Amf0Value::Object(properties) = metadata else { return None };
    let states = |name: &str| match properties.get(name) {
        Some(Amf0Value::Number(id)) => *id > 0.0,
        Some(Amf0Value::Utf8String(id)) => !id.is_empty(),
        _ => false,
    };
    match (states("videocodecid"), states("audiocodecid")) {
        (false, false) => None,
        tracks => Some(tracks),
    }
}

/// The `onMetaData` of these tracks.
pub(in crate::rtmp) fn metadata(tracks: &Tracks) -> Amf0Value {
    let mut properties = std::collections::HashMap::new();
    let mut put = |name: &str, value| properties.insert(name.to_owned(), value);
    put("duration", Amf0Value::Number(0.0));
    put("encoder", Amf0Value::Utf8String(concat!("Tidegate/", env!("CARGO_PKG_VERSION")).into()));
    if let Some(VideoTrack { resolution, frame_rate, .. }) = &tracks.video {
        put("videocodecid", Amf0Value::Number(7.0));
        if let Some((width, height)) = resolution {
            put("width", Amf0Value::Number((*width).into()));
            put("height", Amf0Value::Number((*height).into()));
        }
        if let Some(rate) = frame_rate {
            put("framerate", Amf0Value::Number(*rate));
        }
    }
    if let Some(AudioTrack { sample_rate, channels, .. }) = &tracks.audio {
        put("audiocodecid", Amf0Value::Number(10.0));
        put("audiosamplerate", Amf0Value::Number((*sample_rate).into()));
        put("audiosamplesize", Amf0Value::Number(16.0));
        put("audiochannels", Amf0Value::Number((*channels).into()));
        put("stereo", Amf0Value::Boolean(*channels >= 2));
    }
    Amf0Value::Object(properties)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_announces_tracks() {
        let tracks = |properties: Vec<(&str, Amf0Value)>| {
            announced(&Amf0Value::Object(properties.into_iter().map(|(k, v)| (k.to_owned(), v)).collect()))
        };
        assert_eq!(tracks(vec![("videocodecid", Amf0Value::Number(7.0))]), Some((true, false)));
        assert_eq!(tracks(vec![("audiocodecid", Amf0Value::Utf8String("mp4a".into()))]), Some((false, true)));
        assert_eq!(tracks(vec![("title", Amf0Value::Null)]), None);
        assert_eq!(announced(&Amf0Value::Null), None);
    }
}
