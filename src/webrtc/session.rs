//! What all WebRTC sessions share: their id, their state and the reasons why one can't be had.

use crate::media::{BFramesRefused, Codec, StreamName};
use std::fmt;
use std::str::FromStr;

/// The unguessable name of a session in its URL: 128 random bits, 32 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(u128);

impl SessionId {
    /// A new one from a generator that the system's random source seeds.
    pub(super) fn random() -> Self {
        Self(rand::random())
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The id authorises PATCH and DELETE: a debug print shows its first eight digits only.
impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}…", (self.0 >> 96) as u32)
    }
}

/// A text that is not a session id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session id is 32 lower-case hexadecimal digits")]
pub struct InvalidSessionId;

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 32 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        if !digits {
            return Err(InvalidSessionId);
        }
        u128::from_str_radix(text, 16).map(Self).map_err(|_| InvalidSessionId)
    }
}

/// Which of the two protocols a session speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionKind {
    /// A publisher's (RFC 9725).
    Whip,
    /// A viewer's (draft-ietf-wish-whep).
    Whep,
}

/// Which encoding of a simulcast stream a viewer wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LayerSelection {
    /// The best that its bandwidth holds.
    Automatic,
    /// The one with this restriction identifier (RFC 8851).
    Rid(String),
}

/// What came of a PATCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Patched {
    /// Candidates were taken note of (RFC 9725 §4.3.2).
    Trickled,
    /// ICE was restarted, now or by the same request before (RFC 9725 §4.3.3).
    Restarted {
        /// Our credentials and candidates since (RFC 8840).
        fragment: String,
        /// The entity tag of the new ICE session, without quotation marks.
        etag: String,
    },
}

/// The life of a session, as its driver sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SessionState {
    /// ICE and DTLS are on their way.
    Connecting,
    /// Media may flow.
    Connected,
    /// Over; the text says why.
    Ended(&'static str),
}

/// Why pictures are not encoded again for a viewer that has H.264.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotEncoded {
    /// It is configured so.
    Off,
    /// No picture has come of it in time.
    InTime,
    /// There is no processor time for it at the moment.
    Budget,
}

impl NotEncoded {
    fn as_str(self) -> &'static str {
        match self {
            Self::Off => {
                "; with transcode.video = \"on-demand\" this viewer would get H.264, but it is \"off\" here"
            }
            Self::InTime => "; for this viewer it is encoded again as H.264, but no picture has come in time",
            Self::Budget => {
                "; this viewer would get H.264, but for encoding it the CPU budget (transcode.cpu_budget) is spent: try again"
            }
        }
    }
}

/// Why a session can't be had, changed or closed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SessionError {
    /// The offer is not SDP, or goes beyond the bounds.
    #[error("the offer can't be read: {0}")]
    MalformedOffer(String),
    /// The offer is understood and can't be served; the text says which m-section and why.
    #[error("the offer can't be accepted: {0}")]
    UnacceptableOffer(String),
    /// The stream's codec is not among those that the viewer decodes.
    #[error(
        "no codec in common: the stream has {stream}, the offer has {}{}",
        if offered.is_empty() { "none" } else { offered },
        h264.map_or("", NotEncoded::as_str)
    )]
    NoCommonCodec {
        /// The stream's codec without a match.
        stream: Codec,
        /// What the offer's m-section of that kind lists, comma-separated.
        offered: String,
        /// Why the viewer, which has H.264, does not get the pictures as such; `None` if that would not help.
        h264: Option<NotEncoded>,
    },
    /// The stream's video has B-frames, and is not changed for viewers.
    #[error(transparent)]
    BFrames(BFramesRefused),
    /// Another publisher is live on this name.
    #[error("stream {0} already has a publisher")]
    StreamTaken(StreamName),
    /// The stream is known and has no media now.
    #[error("stream {0} is not live")]
    NotLive(StreamName),
    /// No such stream.
    #[error("there is no stream {0}")]
    UnknownStream(StreamName),
    /// No such session, or it is over.
    #[error("there is no such session")]
    UnknownSession,
    /// The body of a PATCH is not an SDP fragment (RFC 8840).
    #[error("the fragment can't be read: {0}")]
    MalformedFragment(String),
    /// The `If-Match` of a PATCH names an ICE session that is over (RFC 9725 §4.3.1).
    #[error("the entity tag is not that of the present ICE session")]
    StaleEntityTag,
    /// The stream has no such encoding.
    #[error("the stream has no layer {rid:?}; it has {}", if known.is_empty() { "no layers to choose from" } else { known })]
    UnknownLayer {
        /// What was asked for.
        rid: String,
        /// What there is, comma-separated.
        known: String,
    },
    /// Too many sessions; try again later.
    #[error("the server has too many sessions")]
    Overloaded,
    /// The gateway is shutting down.
    #[error("the server is shutting down")]
    Closing,
    /// A fault of ours.
    #[error("internal error: {0}")]
    Internal(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_survive_the_way_through_text() {
        let id = SessionId::random();
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(SessionId(10).to_string().len(), 32);
    }

    #[test]
    fn other_texts_are_no_ids() {
        let upper = "A".repeat(32);
        let long = "a".repeat(33);
        for text in ["", "abc", "+0000000000000000000000000000001", &upper, &long] {
            assert_eq!(text.parse::<SessionId>(), Err(InvalidSessionId), "{text}");
        }
    }

    #[test]
    fn a_debug_print_hides_most_of_the_id() {
        assert!(format!("{:?}", SessionId::random()).chars().count() < 10);
    }
}
