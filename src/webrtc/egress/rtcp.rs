//! The RTCP of a viewer: feedback in, sender reports out (RFC 3550 §6, RFC 4585 §6, RFC 5104 §4.3.1).

use std::time::{Duration, SystemTime};

/// Feedback messages read from one datagram; more are ignored.
const MAX_FEEDBACK: usize = 128;
/// Seconds from the NTP era's begin (1900) to the Unix epoch.
const NTP_TO_UNIX: u64 = 2_208_988_800;

/// What a viewer asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Feedback {
    /// One entry of a generic NACK: the packet `first`, and for each bit i of `following` the packet
    /// `first + i + 1`.
    Nack { ssrc: u32, first: u16, following: u16 },
    /// PLI or FIR.
    Keyframe { ssrc: u32 },
    /// A report block (RFC 3550 §6.4.1): of 256 packets since the last one so many were lost, and so many since
    /// the beginning (less those that came twice); the middle of the NTP timestamp of the last sender report, and
    /// how long ago that came, in 65536ths of a second.
    Reception { ssrc: u32, lost: u8, lost_in_all: i32, report: u32, delay: u32 },
    /// REMB: so many bits a second get through (draft-alvestrand-rmcat-remb-03 §2.2).
    Estimate { bits: u64 },
}

impl Feedback {
    /// Reads a compound or reduced-size packet. What is unknown or broken is passed over.
    pub(super) fn read(mut data: &[u8], mut take: impl FnMut(Self)) {
        let mut left = MAX_FEEDBACK;
        while data.len() >= 4 && data[0] >> 6 == 2 {
            let length = 4 * (usize::from(word16(data, 2)) + 1);
            let Some(packet) = data.get(..length) else { return };
            data = &data[length..];
            let (format, kind) = (packet[0] & 0x1f, packet[1]);
            if packet.len() < 12 {
                continue;
            }
            let media = word32(packet, 8);
            match kind {
                200 | 201 => {
                    let blocks = packet.get(if kind == 200 { 28.. } else { 8.. }).unwrap_or_default();
                    for block in blocks.chunks_exact(24).take(usize::from(format)) {
                        let (report, delay) = (word32(block, 16), word32(block, 20));
                        // 24 bits with a sign.
                        let lost_in_all = (word32(block, 4) << 8) as i32 >> 8;
                        let (ssrc, lost) = (word32(block, 0), block[4]);
                        take(Self::Reception { ssrc, lost, lost_in_all, report, delay });
                    }
                    continue;
                }
                206 if format == 15 => {
                    if let Some([b'R', b'E', b'M', b'B', _, a, b, c]) = packet.get(12..20) {
                        let mantissa = u64::from(*a & 3) << 16 | u64::from(*b) << 8 | u64::from(*c);
                        take(Self::Estimate {
                            bits: mantissa.checked_shl(u32::from(a >> 2)).unwrap_or(u64::MAX),
                        });
                    }
                    continue;
                }
                _ => {}
            }
            match (kind, format) {
                (205, 1) => {
                    for entry in packet[12..].chunks_exact(4).take(left) {
                        take(Self::Nack {
                            ssrc: media,
                            first: word16(entry, 0),
                            following: word16(entry, 2),
                        });
                        left -= 1;
                    }
                }
                (206, 1) => take(Self::Keyframe { ssrc: media }),
                // FIR names its media in entries; the common field is zero.
                (206, 4) => {
                    for entry in packet[12..].chunks_exact(8).take(left) {
                        take(Self::Keyframe { ssrc: word32(entry, 0) });
                        left -= 1;
                    }
                }
                _ => {}
            }
        }
    }
}

/// What a sender report states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SenderReport {
    pub(super) ssrc: u32,
    /// The instant, on the wall clock of the stream's timeline.
    pub(super) ntp: SystemTime,
    /// The same instant on the track's RTP clock.
    pub(super) timestamp: u32,
    pub(super) packets: u32,
    pub(super) octets: u32,
}

impl SenderReport {
    /// The middle 32 bits of its NTP timestamp, by which receivers name it.
    pub(super) fn middle(&self) -> u32 {
        (ntp(self.ntp) >> 16) as u32
    }

    /// Writes a compound of the report and an SDES with `cname`, of at most 255 bytes.
    pub(super) fn write(&self, cname: &str, output: &mut Vec<u8>) {
        output.extend([0x80, 200, 0, 6]);
        output.extend(self.ssrc.to_be_bytes());
        output.extend(ntp(self.ntp).to_be_bytes());
        for field in [self.timestamp, self.packets, self.octets] {
            output.extend(field.to_be_bytes());
        }
        let cname = &cname.as_bytes()[..cname.len().min(255)];
        // Chunk: SSRC, item, at least one zero, to a multiple of four.
        let chunk = (4 + 2 + cname.len() + 1).next_multiple_of(4);
        output.extend([0x81, 202]);
        output.extend(((chunk / 4) as u16).to_be_bytes());
        let start = output.len();
        output.extend(self.ssrc.to_be_bytes());
        output.extend([1, cname.len() as u8]);
        output.extend(cname);
        output.resize(start + chunk, 0);
    }
}

/// A wall-clock time as a 64-bit NTP timestamp; the era wraps in 2036, as it should.
fn ntp(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    let fraction = (u64::from(since.subsec_nanos()) << 32) / 1_000_000_000;
    (since.as_secs().wrapping_add(NTP_TO_UNIX) << 32) | fraction
}

fn word16(data: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([data[at], data[at + 1]])
}

fn word32(data: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([data[at], data[at + 1], data[at + 2], data[at + 3]])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::rtcp::packet::{Packet, marshal, unmarshal};
    use rtc::rtcp::payload_feedbacks::full_intra_request::{FirEntry, FullIntraRequest};
    use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtc::rtcp::receiver_report::ReceiverReport;
    use rtc::rtcp::reception_report::ReceptionReport;
    use rtc::rtcp::sender_report::SenderReport as Reference;
    use rtc::rtcp::source_description::SourceDescription;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::{NackPair, TransportLayerNack};

    fn read(data: &[u8]) -> Vec<Feedback> {
        let mut all = Vec::new();
        Feedback::read(data, |feedback| all.push(feedback));
        all
    }

    #[test]
    fn feedback_of_a_compound_is_read() {
        let packets: Vec<Box<dyn Packet>> = vec![
            Box::new(ReceiverReport::default()),
            Box::new(TransportLayerNack {
                sender_ssrc: 1,
                media_ssrc: 7,
                nacks: vec![
                    NackPair { packet_id: 65_535, lost_packets: 5 },
                    NackPair { packet_id: 9, lost_packets: 0 },
                ],
            }),
            Box::new(PictureLossIndication { sender_ssrc: 1, media_ssrc: 7 }),
            Box::new(FullIntraRequest {
                sender_ssrc: 1,
                media_ssrc: 0,
                fir: vec![FirEntry { ssrc: 8, sequence_number: 3 }],
            }),
        ];
        let data = marshal(&packets).expect("marshalled");
        let expected = [
            Feedback::Nack { ssrc: 7, first: 65_535, following: 5 },
            Feedback::Nack { ssrc: 7, first: 9, following: 0 },
            Feedback::Keyframe { ssrc: 7 },
            Feedback::Keyframe { ssrc: 8 },
        ];
        assert_eq!(read(&data), expected);
        for length in 0..data.len() {
            assert!(read(&data[..length]).len() <= expected.len());
        }
    }

    #[test]
    fn losses_of_a_report_block_have_a_sign() {
        for (total_lost, lost_in_all) in [(7, 7), (0x7f_ffff, 0x7f_ffff), (0xff_ffff, -1)] {
            let reports =
                vec![ReceptionReport { ssrc: 9, fraction_lost: 3, total_lost, ..Default::default() }];
            let report = ReceiverReport { ssrc: 1, reports, ..Default::default() };
            let data = marshal(&[Box::new(report) as Box<dyn Packet>]).expect("marshalled");
            let expected = Feedback::Reception { ssrc: 9, lost: 3, lost_in_all, report: 0, delay: 0 };
            assert_eq!(read(&data), [expected]);
        }
    }

    #[test]
    fn garbage_is_passed_over_and_floods_are_cut() {
        assert_eq!(read(&[]), []);
        assert_eq!(read(&[0xff; 64]), []);
        assert_eq!(read(&[0x81, 205, 0, 0, 0x81, 206, 0, 1, 0, 0, 0, 0]), []);
        let mut flood = vec![0x81, 205, 0x03, 0xff];
        flood.resize(4 * 0x400, 0);
        assert_eq!(read(&flood).len(), MAX_FEEDBACK);
    }

    #[test]
    fn the_report_is_what_others_read() {
        for cname in ["", "abc", "abcdefgh"] {
            let ntp = SystemTime::UNIX_EPOCH + Duration::from_millis(1_500);
            let report = SenderReport { ssrc: 5, ntp, timestamp: 6, packets: 7, octets: 8 };
            let mut data = Vec::new();
            report.write(cname, &mut data);
            let read = unmarshal(&mut &data[..]).expect("readable");
            let reference = read[0].as_any().downcast_ref::<Reference>().expect("a sender report");
            assert_eq!(reference.ntp_time, ((NTP_TO_UNIX + 1) << 32) + (1 << 31));
            let fields = (reference.ssrc, reference.rtp_time, reference.packet_count, reference.octet_count);
            assert_eq!(fields, (5, 6, 7, 8));
            let description = read[1].as_any().downcast_ref::<SourceDescription>().expect("a description");
            assert_eq!(description.chunks[0].items[0].text, cname);
        }
    }
}
