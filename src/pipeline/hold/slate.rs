//! The operator's slate: the picture that is shown while a publisher is silent, if so configured.
//!
//! Owns reading the file and the bounds of what is taken. Decoding it is a pipeline's business.

use super::picture::{self, Picture};
use crate::pipeline::{PipelineError, Pipelines};
use bytes::Bytes;
use std::path::Path;

/// The largest file that is taken, in bytes.
const LARGEST_FILE: u64 = 32 << 20;
/// The longest side that is taken, in pixels.
const LONGEST_SIDE: u32 = 8192;
/// Its size on a stream that has told none.
pub(super) const DEFAULT_SIZE: (u32, u32) = (1280, 720);

/// Why a slate can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlateError {
    /// The file can't be read.
    #[error("the slate {file} can't be read: {why}")]
    Unreadable {
        /// The file.
        file: String,
        /// The system's word.
        why: String,
    },
    /// It is larger than 32 MiB.
    #[error("the slate {0} is larger than 32 MiB")]
    TooLarge(String),
    /// It is neither PNG nor JPEG, or ends before its size is told.
    #[error("the slate {0} is neither a PNG nor a JPEG picture")]
    Unknown(String),
    /// A side of it is longer than 8192 pixels, or has none.
    #[error("the slate {file} has {width}x{height} pixels; each side may have 1 to 8192")]
    Size {
        /// The file.
        file: String,
        /// In pixels.
        width: u32,
        /// In pixels.
        height: u32,
    },
    /// It does not decode.
    #[error("the slate {file} can't be decoded: {why}")]
    Broken {
        /// The file.
        file: String,
        /// The pipeline's word.
        why: String,
    },
}

/// A slate that was decoded once, so that it will be again.
#[derive(Clone, Debug)]
pub struct Slate {
    pub(super) format: Format,
    pub(super) data: Bytes,
}

/// The file formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Png,
    Jpeg,
}

impl Slate {
    /// Reads and checks the picture in `path`.
    pub async fn load(pipelines: &Pipelines, path: &Path) -> Result<Self, SlateError> {
        let file = path.display().to_string();
        let unreadable =
            |error: std::io::Error| SlateError::Unreadable { file: file.clone(), why: error.to_string() };
        let metadata = tokio::fs::metadata(path).await.map_err(unreadable)?;
        if metadata.len() > LARGEST_FILE {
            return Err(SlateError::TooLarge(file));
        }
        let data = Bytes::from(tokio::fs::read(path).await.map_err(unreadable)?);
        let Some((format, (width, height))) = look(&data) else {
            return Err(SlateError::Unknown(file));
        };
        let fits = 1..=LONGEST_SIDE;
        if !fits.contains(&width) || !fits.contains(&height) {
            return Err(SlateError::Size { file, width, height });
        }
        let slate = Self { format, data };
        match slate.picture(pipelines, DEFAULT_SIZE).await {
            Ok(Some(_)) => Ok(slate),
            Ok(None) => Err(SlateError::Broken { file, why: "no picture comes out".into() }),
            Err(error) => Err(SlateError::Broken { file, why: error.to_string() }),
        }
    }

    /// As a raw picture of `size`.
    pub(super) async fn picture(
        &self,
        pipelines: &Pipelines,
        size: (u32, u32),
    ) -> Result<Option<Picture>, PipelineError> {
        picture::of_slate(pipelines, self, size).await
    }
}

impl Format {
    /// What decodes it, as it stands in a description.
    pub(super) fn decoder(self) -> &'static str {
        match self {
            Self::Png => "pngdec",
            Self::Jpeg => "jpegdec",
        }
    }

    pub(super) fn media_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
        }
    }
}

/// Format, width and height, from the first bytes.
fn look(data: &[u8]) -> Option<(Format, (u32, u32))> {
    // PNG §5.2 and §11.2.1: the signature, then the header chunk.
    if data.starts_with(b"\x89PNG\r\n\x1a\n") {
        let number = |at: usize| Some(u32::from_be_bytes(data.get(at..at + 4)?.try_into().ok()?));
        return (data.get(12..16)? == b"IHDR")
            .then_some(())
            .and_then(|()| Some((Format::Png, (number(16)?, number(20)?))));
    }
    // JPEG (ITU-T T.81 §B.1): segments from the start of image to the frame header.
    let mut rest = data.strip_prefix(&[0xff, 0xd8])?;
    loop {
        let (&[0xff, marker], body) = rest.split_first_chunk()? else { return None };
        if marker == 0xff {
            rest = &rest[1..]; // fill byte
            continue;
        }
        let length = usize::from(u16::from_be_bytes(*body.first_chunk()?));
        let number = |at: usize| Some(u32::from(u16::from_be_bytes(body.get(at..at + 2)?.try_into().ok()?)));
        if matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc) {
            return Some((Format::Jpeg, (number(5)?, number(3)?)));
        }
        rest = body.get(length.max(2)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;
    use std::process::Command;

    fn draw(folder: &Path, name: &str, size: &str) -> PathBuf {
        let (path, source) = (folder.join(name), format!("color=red:s={size}"));
        let arguments = ["-v", "error", "-f", "lavfi", "-i", &source, "-frames:v", "1"];
        let status = Command::new("ffmpeg").args(arguments).arg(&path).status();
        assert!(status.is_ok_and(|status| status.success()), "{name}");
        path
    }

    /// Luma of one pixel.
    fn luma(picture: &Picture, width: usize, x: usize, y: usize) -> u8 {
        picture.buffer.map_readable().expect("readable")[y * width.next_multiple_of(4) + x]
    }

    #[tokio::test]
    async fn a_slate_keeps_its_shape_and_gets_black_borders() {
        let pipelines = Pipelines::load(None).expect("installed");
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["slate.png", "slate.jpg"] {
            let slate = Slate::load(&pipelines, &draw(folder.path(), name, "301x300")).await.expect(name);
            // Odd sizes and sizes out of bounds are brought to what can be encoded.
            for (asked, width, height) in [((641, 361), 640, 360), ((4, 9_000), 16, 4096)] {
                let picture = slate.picture(&pipelines, asked).await.expect("decodes").expect("a picture");
                let caps = picture.caps.structure(0).expect("caps");
                assert_eq!(
                    (caps.get::<i32>("width"), caps.get::<i32>("height")),
                    (Ok(width), Ok(height)),
                    "{name}"
                );
                let (width, height) = (width as usize, height as usize);
                let red = luma(&picture, width, width / 2, height / 2);
                assert!((70..95).contains(&red), "{red} in the middle of {name}");
                assert!(luma(&picture, width, 0, 0) < 20, "a border of {name}");
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_shown_is_refused_with_the_files_name() {
        let pipelines = Pipelines::load(None).expect("installed");
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("slate.png");
        let refused =
            async |path: &Path| Slate::load(&pipelines, path).await.expect_err("refused").to_string();
        assert!(refused(&path).await.contains("slate.png can't be read"));
        std::fs::write(&path, "GIF89a").expect("written");
        assert!(refused(&path).await.contains("neither a PNG nor a JPEG"));
        let whole = std::fs::read(draw(folder.path(), "whole.png", "64x64")).expect("a file");
        std::fs::write(&path, &whole[..40]).expect("written");
        assert!(refused(&path).await.contains("can't be decoded"));
        let mut huge = whole;
        huge[16..20].copy_from_slice(&100_000u32.to_be_bytes());
        std::fs::write(&path, huge).expect("written");
        assert!(refused(&path).await.contains("100000x64"));
    }

    #[test]
    fn no_beginning_of_a_file_panics() {
        let jpeg =
            [0xff, 0xd8, 0xff, 0xe0, 0, 4, 1, 2, 0xff, 0xff, 0xc0, 0, 11, 8, 1, 0, 2, 0, 1, 1, 0x11, 0];
        assert_eq!(look(&jpeg), Some((Format::Jpeg, (512, 256))));
        for end in 0..jpeg.len() - 4 {
            assert_eq!(look(&jpeg[..end]).filter(|_| end < 18), None, "{end}");
        }
        assert_eq!(look(&[0xff, 0xd8, 0xff, 0xe0, 0, 0, 0xff, 0xe0, 0, 0]), None);
        assert_eq!(look(b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR\0\0\0"), None);
    }
}
