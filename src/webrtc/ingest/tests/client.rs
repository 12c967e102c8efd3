//! The publisher: `rtc`'s whole stack, and an interceptor that counts the feedback that reaches it.

use super::*;

/// A publisher and its offer.
pub(super) fn publisher(
    now: Instant,
    kinds: &[MediaKind],
    feedback: Arc<Feedback>,
) -> (RTCPeerConnection, String) {
    let mut engine = MediaEngine::default();
    let parameters = |mime: &str, payload_type, clock_rate, channels, fmtp: &str| RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime.to_owned(),
            clock_rate,
            channels,
            sdp_fmtp_line: fmtp.to_owned(),
            rtcp_feedback: Vec::new(),
        },
        payload_type,
    };
    let h264 = parameters(
        "video/H264",
        VIDEO_TYPE,
        90_000,
        0,
        "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    );
    let opus = parameters("audio/opus", AUDIO_TYPE, 48_000, 2, "minptime=10");
    engine.register_codec(h264.clone(), RtpCodecKind::Video).expect("codec");
    engine
        .register_codec(parameters("video/rtx", 97, 90_000, 0, "apt=96"), RtpCodecKind::Video)
        .expect("codec");
    engine.register_codec(opus.clone(), RtpCodecKind::Audio).expect("codec");
    for parameter in ["", "pli"] {
        let typ = "nack".to_owned();
        let parameter = parameter.to_owned();
        engine.register_feedback(
            rtc::rtp_transceiver::rtp_sender::RTCPFeedback { typ, parameter },
            RtpCodecKind::Video,
        );
    }
    let registry = Registry::new()
        .with(Slot::NackResponder, NackResponderBuilder::new().build())
        .with(Slot::from(60_000), Listener { feedback, ..Listener::default() });
    let mut client = RTCPeerConnectionBuilder::new()
        .with_media_engine(engine)
        .with_interceptor_registry(registry)
        .with_setting_engine(
            SettingEngineBuilder::new().with_answering_dtls_role(RTCDtlsRole::Client).build(),
        )
        .build(now)
        .expect("a client");
    for kind in kinds {
        let (kind, codec, ssrc, rtx) = match kind {
            MediaKind::Video => (RtpCodecKind::Video, &h264, VIDEO_SSRC, Some(RTX_SSRC)),
            MediaKind::Audio => (RtpCodecKind::Audio, &opus, AUDIO_SSRC, None),
        };
        let coding = RTCRtpEncodingParameters {
            rtp_coding_parameters: RTCRtpCodingParameters {
                ssrc: Some(ssrc),
                rtx: rtx.map(|ssrc| RTCRtpRtxParameters { ssrc }),
                ..Default::default()
            },
            active: true,
            codec: codec.rtp_codec.clone(),
            ..Default::default()
        };
        let track =
            MediaStreamTrack::new("stream".into(), format!("{kind}"), format!("{kind}"), kind, vec![coding]);
        client.add_track(track).expect("a track");
    }
    let offer = client.create_offer(None).expect("an offer");
    client.set_local_description(now, offer).expect("an offer of its own");
    let candidate = "candidate:1 1 udp 2130706431 127.0.0.1 5000 typ host".to_owned();
    client.add_local_candidate(RTCIceCandidateInit { candidate, ..Default::default() }).expect("a candidate");
    client.add_local_candidate(RTCIceCandidateInit::default()).expect("the end");
    let offer = client.local_description().expect("an offer").sdp;
    (client, offer)
}

/// Counts the feedback that reaches the publisher.
#[derive(Default)]
struct Listener {
    feedback: Arc<Feedback>,
    inbound: VecDeque<TaggedPacket>,
    outbound: VecDeque<TaggedPacket>,
}

impl Protocol<TaggedPacket, TaggedPacket, ()> for Listener {
    type Rout = TaggedPacket;
    type Wout = TaggedPacket;
    type Eout = ();
    type Error = RtcError;
    type Time = Instant;

    fn handle_read(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        if let ChainPacket::Rtcp(reports) = &packet.message.packet {
            let losses = reports.iter().filter_map(|report| report.as_any().downcast_ref());
            let keyframes_of: Vec<u32> = losses.map(|loss: &PictureLossIndication| loss.media_ssrc).collect();
            if !keyframes_of.is_empty() {
                self.feedback.keyframes_of.lock().push((packet.now, keyframes_of));
            }
            for report in reports {
                let count =
                    |counter: &AtomicUsize, yes: bool| counter.fetch_add(usize::from(yes), Ordering::Relaxed);
                count(&self.feedback.keyframe_requests, report.as_any().is::<PictureLossIndication>());
                count(&self.feedback.losses_reported, report.as_any().is::<TransportLayerNack>());
                if let Some(estimate) = report.as_any().downcast_ref::<ReceiverEstimatedMaximumBitrate>() {
                    self.feedback.estimates.lock().push((estimate.bitrate as u64, estimate.ssrcs.clone()));
                }
                if let Some(nack) = report.as_any().downcast_ref::<TransportLayerNack>() {
                    let missing = nack.nacks.iter().flat_map(|pair| pair.packet_list());
                    self.feedback.lost.lock().extend(missing.map(|number| (nack.media_ssrc, number)));
                }
            }
        }
        self.inbound.push_back(packet);
        Ok(())
    }
    fn poll_read(&mut self) -> Option<TaggedPacket> {
        self.inbound.pop_front()
    }
    fn handle_write(&mut self, packet: TaggedPacket) -> Result<(), RtcError> {
        self.outbound.push_back(packet);
        Ok(())
    }
    fn poll_write(&mut self) -> Option<TaggedPacket> {
        self.outbound.pop_front()
    }
}

impl Interceptor for Listener {
    fn bind_local_stream(&mut self, _: &StreamInfo) {}
    fn unbind_local_stream(&mut self, _: &StreamInfo) {}
    fn bind_remote_stream(&mut self, _: &StreamInfo) {}
    fn unbind_remote_stream(&mut self, _: &StreamInfo) {}
}
