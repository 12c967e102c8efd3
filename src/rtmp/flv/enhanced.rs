//! The extended headers of Enhanced RTMP v2 ("Enhanced Audio", "Enhanced Video"): modifiers, several tracks in
//! a message, and the FourCC of each.

use super::FlvError;
use crate::media::MediaKind;
use bytes::Bytes;

/// `VideoPacketType` and `AudioPacketType`, as far as they agree.
pub(super) mod packet_type {
    pub(in crate::rtmp::flv) const SEQUENCE_START: u8 = 0;
    pub(in crate::rtmp::flv) const CODED_FRAMES: u8 = 1;
    pub(in crate::rtmp::flv) const SEQUENCE_END: u8 = 2;
    /// Video only.
    pub(in crate::rtmp::flv) const CODED_FRAMES_X: u8 = 3;
    /// Video only.
    pub(in crate::rtmp::flv) const METADATA: u8 = 4;
    /// Audio only.
    pub(in crate::rtmp::flv) const MULTICHANNEL_CONFIG: u8 = 4;
    /// Video only.
    pub(in crate::rtmp::flv) const MPEG2_TS_SEQUENCE_START: u8 = 5;
    pub(super) const AUDIO_MULTITRACK: u8 = 5;
    pub(super) const VIDEO_MULTITRACK: u8 = 6;
    pub(super) const MOD_EX: u8 = 7;
}

/// Modifiers of one message; more are an attack.
const MODIFIERS: usize = 16;
/// `AudioPacketModExType` and `VideoPacketModExType`.
const TIMESTAMP_OFFSET_NANO: u8 = 0;
const LONGEST_OFFSET_NANOS: u32 = 999_999;
/// `AvMultitrackType`.
const ONE_TRACK: u8 = 0;
const MANY_TRACKS: u8 = 1;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

/// One track's part of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Packet {
    pub(super) packet_type: u8,
    pub(super) four_cc: [u8; 4],
    /// To be added to the message's timestamp; less than a millisecond.
    pub(super) nanos: u32,
    /// Shares the message's memory.
    pub(super) body: Bytes,
}

/// Which of a publisher's tracks of one kind is taken: the first that comes. A message of one track without
/// a number is track 0.
#[derive(Clone, Debug, Default)]
pub(in crate::rtmp) struct TrackChoice {
    taken: Option<u8>,
    /// A bit for each other track that came.
    others: [u64; 4],
}

impl TrackChoice {
    /// Whether track `number` is the one; the others are noted.
    pub(super) fn takes(&mut self, number: u8) -> bool {
        let taken = *self.taken.get_or_insert(number);
        if taken != number {
            self.others[usize::from(number / 64)] |= 1 << (number % 64);
        }
        taken == number
    }

    /// How many tracks came and were not taken.
    pub(in crate::rtmp) fn left_out(&self) -> u32 {
        self.others.iter().map(|bits| bits.count_ones()).sum()
    }
}

/// Reads a message of which the first byte says `packet_type`. `None` if the track that is taken is not in it.
pub(super) fn read(
    data: &Bytes,
    kind: MediaKind,
    packet_type: u8,
    choice: &mut TrackChoice,
) -> Result<Option<Packet>, FlvError> {
    let mut rest = Reader { data, position: 1, kind };
    let (mut packet_type, nanos) = modifiers(&mut rest, packet_type)?;
    let multitrack = match kind {
        MediaKind::Video => packet_type::VIDEO_MULTITRACK,
        MediaKind::Audio => packet_type::AUDIO_MULTITRACK,
    };
    if packet_type != multitrack {
        let four_cc = rest.array()?;
        let packet = Packet { packet_type, four_cc, nanos, body: rest.take_all() };
        return Ok(choice.takes(0).then_some(packet));
    }
    let [types] = rest.array()?;
    let mode = types >> 4;
    packet_type = types & 0x0f;
    if packet_type == multitrack || mode > MANY_TRACKS_MANY_CODECS {
        return Err(FlvError::Multitrack(kind));
    }
    let shared = if mode == MANY_TRACKS_MANY_CODECS { None } else { Some(rest.array()?) };
    let mut taken = None;
    loop {
        let four_cc = match shared {
            Some(four_cc) => four_cc,
            None => rest.array()?,
        };
        let [number] = rest.array()?;
        let body = match mode {
            MANY_TRACKS | MANY_TRACKS_MANY_CODECS => {
                let [a, b, c] = rest.array()?;
                rest.take(u32::from_be_bytes([0, a, b, c]) as usize)?
            }
            _ => rest.take_all(),
        };
        if choice.takes(number) && taken.is_none() {
            taken = Some(Packet { packet_type, four_cc, nanos, body });
        }
        if mode == ONE_TRACK || rest.is_empty() {
            return Ok(taken);
        }
    }
}

/// Reads what modifies the message; gives the type that it modifies, and nanoseconds for its timestamp.
fn modifiers(rest: &mut Reader<'_>, mut packet_type: u8) -> Result<(u8, u32), FlvError> {
    let (mut nanos, mut count) = (0, 0);
    while packet_type == packet_type::MOD_EX {
        count += 1;
        if count > MODIFIERS {
            return Err(FlvError::Modifiers(rest.kind));
        }
        let [size] = rest.array()?;
        let mut size = usize::from(size) + 1;
        if size == 256 {
            size = usize::from(u16::from_be_bytes(rest.array()?)) + 1;
        }
        let value = rest.take(size)?;
        let [types] = rest.array()?;
        packet_type = types & 0x0f;
        // What other modifiers mean is not known; they say how long they are, so they can be passed over.
        if types >> 4 == TIMESTAMP_OFFSET_NANO
            && let [a, b, c, ..] = value[..]
        {
            nanos = u32::from_be_bytes([0, a, b, c]).min(LONGEST_OFFSET_NANOS);
        }
    }
    Ok((packet_type, nanos))
}

struct Reader<'a> {
    data: &'a Bytes,
    position: usize,
    kind: MediaKind,
}

impl Reader<'_> {
    fn take(&mut self, count: usize) -> Result<Bytes, FlvError> {
        let end = self.position.saturating_add(count);
        if end > self.data.len() {
            return Err(FlvError::Truncated(self.kind));
        }
        let taken = self.data.slice(self.position..end);
        self.position = end;
        Ok(taken)
    }

    fn take_all(&mut self) -> Bytes {
        let taken = self.data.slice(self.position..);
        self.position = self.data.len();
        taken
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], FlvError> {
        let rest = self.data.get(self.position..).unwrap_or_default();
        let (array, _) = rest.split_first_chunk().ok_or(FlvError::Truncated(self.kind))?;
        self.position += N;
        Ok(*array)
    }

    fn is_empty(&self) -> bool {
        self.position >= self.data.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use MediaKind::{Audio, Video};

    fn video(data: &[u8], choice: &mut TrackChoice) -> Result<Option<Packet>, FlvError> {
        read(&Bytes::copy_from_slice(data), Video, data[0] & 0x0f, choice)
    }

    fn packet(
        packet_type: u8,
        four_cc: &[u8; 4],
        nanos: u32,
        body: &[u8],
    ) -> Result<Option<Packet>, FlvError> {
        Ok(Some(Packet { packet_type, four_cc: *four_cc, nanos, body: Bytes::copy_from_slice(body) }))
    }

    #[test]
    fn a_message_of_one_track() {
        let mut choice = TrackChoice::default();
        assert_eq!(video(b"\x91hvc1body", &mut choice), packet(1, b"hvc1", 0, b"body"));
        assert_eq!(video(b"\x93av01", &mut choice), packet(3, b"av01", 0, b""));
        assert_eq!(video(b"\x91hvc", &mut choice), Err(FlvError::Truncated(Video)));
        assert_eq!(choice.left_out(), 0);
    }

    #[test]
    fn r16_modifiers_shift_the_timestamp_or_are_passed_over() {
        let mut choice = TrackChoice::default();
        let nano = b"\x97\x02\x07\xa1\x1f\x01hvc1x"; // 3 bytes: 500 000 less 1 ns; then CodedFrames
        assert_eq!(video(nano, &mut choice), packet(1, b"hvc1", 499_999, b"x"));
        let too_long = b"\x97\x02\xff\xff\xff\x01hvc1x";
        assert_eq!(video(too_long, &mut choice), packet(1, b"hvc1", 999_999, b"x"));
        let unknown_then_nano = b"\x97\x00\xaa\xf7\x02\x00\x00\x05\x03hvc1x";
        assert_eq!(video(unknown_then_nano, &mut choice), packet(3, b"hvc1", 5, b"x"));
        let long = [b"\x97\xff\x01\x2b", &[9; 300][..], b"\xf1hvc1x"].concat();
        assert_eq!(video(&long, &mut choice), packet(1, b"hvc1", 0, b"x"));
        let endless = [b"\x97".as_slice(), &b"\x00\xaa\xf7".repeat(17), b"hvc1x"].concat();
        assert_eq!(video(&endless, &mut choice), Err(FlvError::Modifiers(Video)));
        assert_eq!(video(b"\x97\xff\xff\xff", &mut choice), Err(FlvError::Truncated(Video)));
    }

    #[test]
    fn r16_the_first_track_of_several_is_taken_and_the_others_are_counted() {
        let mut choice = TrackChoice::default();
        let many = b"\x96\x11hvc1\x00\x00\x00\x01a\x01\x00\x00\x02bc";
        assert_eq!(video(many, &mut choice), packet(1, b"hvc1", 0, b"a"));
        let other_order = b"\x96\x11hvc1\x01\x00\x00\x02bc\x00\x00\x00\x01a";
        assert_eq!(video(other_order, &mut choice), packet(1, b"hvc1", 0, b"a"));
        let codecs = b"\x96\x21zzzz\x07\x00\x00\x01zhvc1\x00\x00\x00\x01a";
        assert_eq!(video(codecs, &mut choice), packet(1, b"hvc1", 0, b"a"));
        assert_eq!(video(b"\x96\x01hvc1\x01bc", &mut choice), Ok(None));
        assert_eq!(video(b"\x91hvc1a", &mut choice), packet(1, b"hvc1", 0, b"a"), "0 without saying so");
        assert_eq!(choice.left_out(), 2);
        let mut choice = TrackChoice::default();
        assert_eq!(video(b"\x96\x01hvc1\xffbc", &mut choice), packet(1, b"hvc1", 0, b"bc"));
        assert_eq!(video(b"\x91hvc1a", &mut choice), Ok(None));
        assert_eq!(choice.left_out(), 1);
    }

    #[test]
    fn r16_lengths_that_lie_and_modes_that_do_not_exist() {
        let mut choice = TrackChoice::default();
        for short in [&b"\x96"[..], b"\x96\x11", b"\x96\x11hvc1\x00\x00\x00\x09a", b"\x96\x21hvc1\x00\x00"] {
            assert_eq!(video(short, &mut choice), Err(FlvError::Truncated(Video)), "{short:x?}");
        }
        assert_eq!(video(b"\x96\x16hvc1\x00", &mut choice), Err(FlvError::Multitrack(Video)), "in itself");
        assert_eq!(video(b"\x96\x31hvc1\x00", &mut choice), Err(FlvError::Multitrack(Video)));
        let audio = Bytes::from_static(b"\x95\x11Opus\x00\x00\x00\x01a");
        let mut choice = TrackChoice::default();
        assert_eq!(read(&audio, Audio, 5, &mut choice), packet(1, b"Opus", 0, b"a"));
    }
}
