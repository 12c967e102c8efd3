//! What the API tells of the gateway: what is switched on, and the bounds.

use crate::config::{Config, HoldMode};
use crate::http::About;
use crate::media::VideoTranscoding;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Instant, SystemTime};

pub(super) fn of(
    config: &Config,
    started: (SystemTime, Instant),
    rtmp: SocketAddr,
    rtmps: Option<SocketAddr>,
) -> About {
    let features = vec![
        ("demo", config.demo),
        ("hls.always", config.hls_always),
        ("open", config.open),
        ("rtmps", rtmps.is_some()),
        ("stream.hold", config.stream_hold != HoldMode::Off),
        ("transcode.video", config.transcode_video != VideoTranscoding::Off),
        ("webrtc.full_ice", config.webrtc_full_ice),
        ("webrtc.tcp", config.webrtc_tcp),
    ];
    let count = |count: usize| (count != usize::MAX).then_some(count as u64);
    let rate = |rate: Option<NonZeroU32>| rate.map(|rate| u64::from(rate.get()));
    let limits = vec![
        ("http.connections_per_source", count(config.http_connections_per_source)),
        ("limits.half_open", count(config.limits_half_open)),
        ("limits.half_open_per_source", count(config.limits_half_open_per_source)),
        ("limits.key_attempts_per_minute", rate(config.limits_key_attempts_per_minute)),
        ("limits.patches_per_second", rate(config.limits_patches_per_second)),
        ("limits.post_burst", rate(Some(config.limits_post_burst))),
        ("limits.posts_per_second", rate(config.limits_posts_per_second)),
        ("limits.rtmp_connections", count(config.limits_rtmp_connections)),
        ("limits.rtmp_connections_per_source", count(config.limits_rtmp_connections_per_source)),
        ("limits.session_requests_per_second", rate(config.limits_session_requests_per_second)),
        ("restream.targets", count(config.restream_targets)),
        ("restream.targets_per_stream", count(config.restream_targets_per_stream)),
        ("webrtc.workers", count(config.webrtc_workers)),
    ];
    About { started, rtmp, rtmps, features, limits }
}
