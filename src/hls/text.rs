//! The text of a playlist, plain and gzipped. Each form is made once, whoever asks and how often.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::io::Write;
use std::sync::OnceLock;

/// A playlist as it goes out.
#[derive(Clone, Debug, Default)]
pub(super) struct Text {
    plain: Bytes,
    gzipped: OnceLock<Bytes>,
}

impl Text {
    /// As it is written.
    pub fn plain(&self) -> &Bytes {
        &self.plain
    }

    /// The same as one gzip member (RFC 1952). At the lowest level: playlists are repetitive, and wanted at
    /// once.
    pub fn gzipped(&self) -> &Bytes {
        self.gzipped.get_or_init(|| {
            const INFALLIBLE: &str = "a vector takes all that is written";
            let mut encoder =
                GzEncoder::new(Vec::with_capacity(self.plain.len() / 4 + 64), Compression::fast());
            encoder.write_all(&self.plain).expect(INFALLIBLE);
            encoder.finish().expect(INFALLIBLE).into()
        })
    }
}

impl From<Bytes> for Text {
    fn from(plain: Bytes) -> Self {
        Self { plain, gzipped: OnceLock::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::read::GzDecoder;
    use std::io::Read;

    #[test]
    fn l15_the_gzipped_form_holds_the_plain_one_and_is_made_once() {
        let text = Text::from(Bytes::from("#EXTM3U\n".repeat(100)));
        let gzipped = text.gzipped();
        assert!(gzipped.len() < text.plain().len() / 4);
        let mut read = Vec::new();
        GzDecoder::new(&gzipped[..]).read_to_end(&mut read).expect("gzip");
        assert_eq!(&read[..], &text.plain()[..]);
        assert_eq!(gzipped.as_ptr(), text.gzipped().as_ptr());
    }
}
