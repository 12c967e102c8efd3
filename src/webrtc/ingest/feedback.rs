//! The RTCP that we write to publishers (RFC 3550 §6.4, RFC 4585 §6, RFC 5104 §4.3.1), appended to a buffer.

/// Sequence numbers of one NACK: it stays below 1200 bytes.
pub(super) const MAX_NACKS: usize = 250;
/// Who speaks: we send no media.
pub(super) const OUR_SSRC: u32 = 1;

/// Begins a receiver report with so many blocks, which follow.
pub(super) fn receiver_report(blocks: usize, output: &mut Vec<u8>) {
    debug_assert!(blocks < 32);
    output.extend([0x80 | blocks as u8, 201]);
    output.extend((1 + 6 * blocks as u16).to_be_bytes());
    output.extend(OUR_SSRC.to_be_bytes());
}

/// A source description with our canonical name: each compound has one (RFC 3550 §6.1).
pub(super) fn description(output: &mut Vec<u8>) {
    output.extend([0x81, 202, 0, 4]);
    output.extend(OUR_SSRC.to_be_bytes());
    output.extend(b"\x01\x08tidegate\0\0");
}

/// Asks for packets again (RFC 4585 §6.2.1). `missing` is in order and has at most [`MAX_NACKS`] numbers.
pub(super) fn nack(media: u32, missing: &[u16], output: &mut Vec<u8>) {
    let start = output.len();
    head(1, 205, media, output);
    let mut rest = missing;
    while let Some((&first, after)) = rest.split_first() {
        let mut following = 0_u16;
        rest = after;
        while let Some((&next, after)) = rest.split_first() {
            let distance = next.wrapping_sub(first);
            if !(1..=16).contains(&distance) {
                break;
            }
            following |= 1 << (distance - 1);
            rest = after;
        }
        output.extend(first.to_be_bytes());
        output.extend(following.to_be_bytes());
    }
    let words = ((output.len() - start) / 4 - 1) as u16;
    output[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

/// Picture loss indication (RFC 4585 §6.3.1).
pub(super) fn picture_loss(media: u32, output: &mut Vec<u8>) {
    head(1, 206, media, output);
}

/// Full intra request (RFC 5104 §4.3.1); each new one has another number.
pub(super) fn full_intra_request(media: u32, number: u8, output: &mut Vec<u8>) {
    let start = output.len();
    head(4, 206, 0, output);
    output[start + 3] = 4;
    output.extend(media.to_be_bytes());
    output.extend([number, 0, 0, 0]);
}

/// What the way from the publisher holds, for all its sources (draft-alvestrand-rmcat-remb-03 §2.2).
pub(super) fn estimate(bits: u64, sources: &[u32], output: &mut Vec<u8>) {
    let start = output.len();
    head(15, 206, 0, output);
    let exponent = (64 - bits.leading_zeros()).saturating_sub(18);
    let [.., high, middle, low] = ((bits >> exponent) as u32).to_be_bytes();
    let sources = &sources[..sources.len().min(31)];
    output.extend(b"REMB");
    output.extend([sources.len() as u8, (exponent as u8) << 2 | high, middle, low]);
    for source in sources {
        output.extend(source.to_be_bytes());
    }
    let words = ((output.len() - start) / 4 - 1) as u16;
    output[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

fn head(format: u8, kind: u8, media: u32, output: &mut Vec<u8>) {
    output.extend([0x80 | format, kind, 0, 2]);
    output.extend(OUR_SSRC.to_be_bytes());
    output.extend(media.to_be_bytes());
}

/// What a publisher's sender report states (RFC 3550 §6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub(super) ssrc: u32,
    pub(super) ntp: u64,
    pub(super) timestamp: u32,
}

/// The sender reports in a compound or reduced-size packet, which is decrypted. What is unknown or broken is
/// passed over.
pub(super) fn sender_reports(mut data: &[u8]) -> impl Iterator<Item = Report> {
    std::iter::from_fn(move || {
        loop {
            let head: &[u8; 4] = data.first_chunk().filter(|head| head[0] >> 6 == 2)?;
            let length = 4 * (usize::from(u16::from_be_bytes([head[2], head[3]])) + 1);
            let (packet, rest) = data.split_at_checked(length)?;
            data = rest;
            let fields: Option<&[u8; 20]> = packet.first_chunk();
            if let Some(fields) = fields.filter(|fields| fields[1] == 200) {
                let word = |at: usize| {
                    u32::from_be_bytes([fields[at], fields[at + 1], fields[at + 2], fields[at + 3]])
                };
                let ntp = u64::from(word(8)) << 32 | u64::from(word(12));
                return Some(Report { ssrc: word(4), ntp, timestamp: word(16) });
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtc::rtcp::packet::{marshal, unmarshal};
    use rtc::rtcp::payload_feedbacks::full_intra_request::FullIntraRequest;
    use rtc::rtcp::payload_feedbacks::picture_loss_indication::PictureLossIndication;
    use rtc::rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
    use rtc::rtcp::receiver_report::ReceiverReport;
    use rtc::rtcp::sender_report::SenderReport;
    use rtc::rtcp::source_description::SourceDescription;
    use rtc::rtcp::transport_feedbacks::transport_layer_nack::TransportLayerNack;

    #[test]
    fn others_read_what_is_written() {
        let mut output = Vec::new();
        receiver_report(1, &mut output);
        let block = [7, 0, 0, 9, 128, 0, 0, 3, 0, 1, 0, 2, 0, 0, 0, 4, 5, 5, 5, 5, 0, 0, 0, 6];
        output.extend(block);
        description(&mut output);
        let missing = [65_530, 65_535, 0, 10, 11, 27, 28, 100];
        nack(7, &missing, &mut output);
        picture_loss(8, &mut output);
        full_intra_request(9, 3, &mut output);
        estimate(2_345_678, &[7, 8], &mut output);
        let read = unmarshal(&mut &output[..]).expect("readable");
        let report = read[0].as_any().downcast_ref::<ReceiverReport>().expect("a report");
        assert_eq!((report.ssrc, report.reports.len()), (OUR_SSRC, 1));
        let block = &report.reports[0];
        assert_eq!((block.ssrc, block.fraction_lost, block.total_lost), (0x0700_0009, 128, 3));
        assert_eq!((block.last_sequence_number, block.jitter, block.delay), (0x0001_0002, 4, 6));
        let name = read[1].as_any().downcast_ref::<SourceDescription>().expect("a description");
        assert_eq!(name.chunks[0].items[0].text, "tidegate");
        let nack = read[2].as_any().downcast_ref::<TransportLayerNack>().expect("a NACK");
        let asked: Vec<u16> = nack.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
        assert_eq!((nack.media_ssrc, asked), (7, missing.to_vec()));
        let loss = read[3].as_any().downcast_ref::<PictureLossIndication>().expect("a PLI");
        assert_eq!(loss.media_ssrc, 8);
        let intra = read[4].as_any().downcast_ref::<FullIntraRequest>().expect("a FIR");
        assert_eq!((intra.fir[0].ssrc, intra.fir[0].sequence_number), (9, 3));
        let estimate =
            read[4 + 1].as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>().expect("a REMB");
        assert_eq!(estimate.ssrcs, [7, 8]);
        assert!((2_345_000.0..2_345_679.0).contains(&estimate.bitrate), "{}", estimate.bitrate);
        assert_eq!(read.len(), 6);
    }

    #[test]
    fn sender_reports_are_found_and_garbage_is_passed_over() {
        let report =
            SenderReport { ssrc: 5, ntp_time: 0x0102_0304_0506_0708, rtp_time: 9, ..Default::default() };
        let packets: Vec<Box<dyn rtc::rtcp::Packet>> =
            vec![Box::new(ReceiverReport::default()), Box::new(report)];
        let data = marshal(&packets).expect("marshalled");
        let expected = Report { ssrc: 5, ntp: 0x0102_0304_0506_0708, timestamp: 9 };
        assert_eq!(sender_reports(&data).collect::<Vec<_>>(), [expected]);
        for length in 0..data.len() {
            assert_eq!(sender_reports(&data[..length]).count(), 0);
        }
        assert_eq!(sender_reports(&[0xff; 64]).count(), 0);
        assert_eq!(sender_reports(&[0x80, 200, 0, 0, 0x80, 200, 0, 1, 1, 2, 3, 4]).count(), 0);
    }
}
