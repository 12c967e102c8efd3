//! The table of settings: each key, what fits, and where it goes.

use super::value::Value;
use super::{Config, HoldMode};
use crate::media::Secret;
use crate::telemetry;
use std::num::NonZeroU32;

/// A key, what fits it, and the setter, which gives `None` for a value that does not fit.
#[derive(Debug)]
pub(super) struct Definition {
    pub(super) key: &'static str,
    pub(super) expected: &'static str,
    pub(super) set: fn(&mut Config, &Value) -> Option<()>,
}

const ADDRESS: &str = "an address and a port, such as \"0.0.0.0:8080\" or \"[::1]:8080\"";
const SECRET: &str = "8 to 256 letters, digits or characters of \"-._~\"";
const SWITCH: &str = "true or false";
const PEM: &str = "a PEM file";

const TURN_SECRET: &str = "1 to 256 printable ASCII characters";
const COUNT: &str = "a number from 1 to 100000, or \"off\"";
const RATE: &str = "a number from 1 to 1000000, or \"off\"";

pub(super) const DEFINITIONS: &[Definition] = &[
    Definition { key: "http.listen", expected: ADDRESS, set: |c, v| put(&mut c.http_listen, v.parse()) },
    Definition {
        key: "http.connections_per_source",
        expected: "a number from 1 to 100000",
        set: |c, v| put(&mut c.http_connections_per_source, v.parse().filter(|n| (1..=100_000).contains(n))),
    },
    Definition {
        key: "http.trusted_proxies",
        expected: "a list of networks, such as [\"127.0.0.1/32\", \"10.0.0.0/8\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.http_trusted_proxies, v.list()),
    },
    Definition {
        key: "http.forwarded_header",
        expected: "\"x-forwarded-for\" or \"forwarded\"",
        set: |c, v| {
            let follow_rfc_7239 = match v.text()? {
                "x-forwarded-for" => false,
                "forwarded" => true,
                _ => return None,
            };
            put(&mut c.http_proxies_follow_rfc_7239, Some(follow_rfc_7239))
        },
    },
    Definition {
        key: "http.cors_origins",
        expected: "\"*\" for all, or a list of origins such as [\"https://example.net\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.http_cors_origins, v.origins()),
    },
    Definition {
        key: "http.hosts",
        expected: "a list of names without ports, such as [\"live.example.net\", \"localhost\"] (in the environment: between commas)",
        set: |c, v| {
            put(&mut c.http_hosts, v.list().map(|hosts| Some(hosts).filter(|hosts| !hosts.is_empty())))
        },
    },
    Definition { key: "rtmp.listen", expected: ADDRESS, set: |c, v| put(&mut c.rtmp_listen, v.parse()) },
    Definition {
        key: "rtmp.tls_listen",
        expected: ADDRESS,
        set: |c, v| put(&mut c.rtmp_tls_listen, v.parse()),
    },
    Definition {
        key: "tls.certificate",
        expected: PEM,
        set: |c, v| put(&mut c.tls_certificate, v.path().map(Some)),
    },
    Definition {
        key: "tls.private_key",
        expected: PEM,
        set: |c, v| put(&mut c.tls_private_key, v.path().map(Some)),
    },
    Definition {
        key: "limits.rtmp_connections",
        expected: COUNT,
        set: |c, v| put(&mut c.limits_rtmp_connections, v.count()),
    },
    Definition {
        key: "limits.rtmp_connections_per_source",
        expected: COUNT,
        set: |c, v| put(&mut c.limits_rtmp_connections_per_source, v.count()),
    },
    Definition { key: "webrtc.listen", expected: ADDRESS, set: |c, v| put(&mut c.webrtc_listen, v.parse()) },
    Definition {
        key: "webrtc.external_addresses",
        expected: "a list of IP addresses, such as [\"203.0.113.7\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.webrtc_external_addresses, v.list()),
    },
    Definition { key: "webrtc.tcp", expected: SWITCH, set: |c, v| put(&mut c.webrtc_tcp, v.parse()) },
    Definition {
        key: "webrtc.ice",
        expected: "\"lite\" or \"full\"",
        set: |c, v| {
            let full = match v.text()? {
                "lite" => false,
                "full" => true,
                _ => return None,
            };
            put(&mut c.webrtc_full_ice, Some(full))
        },
    },
    Definition {
        key: "webrtc.workers",
        expected: "a number of threads from 1 to 64",
        set: |c, v| put(&mut c.webrtc_workers, v.parse().filter(|n| (1..=64).contains(n))),
    },
    Definition {
        key: "limits.half_open_per_source",
        expected: COUNT,
        set: |c, v| put(&mut c.limits_half_open_per_source, v.count()),
    },
    Definition {
        key: "limits.half_open",
        expected: COUNT,
        set: |c, v| put(&mut c.limits_half_open, v.count()),
    },
    Definition {
        key: "webrtc.ice_servers",
        expected: "a list of STUN and TURN URLs, such as [\"stun:stun.example.net\", \"turn:turn.example.net:3478?transport=udp\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.webrtc_ice_servers, v.list()),
    },
    Definition {
        key: "webrtc.turn_username",
        expected: TURN_SECRET,
        set: |c, v| put(&mut c.webrtc_turn_username, v.printable().map(|text| Some(text.to_owned()))),
    },
    Definition {
        key: "webrtc.turn_credential",
        expected: TURN_SECRET,
        set: |c, v| put(&mut c.webrtc_turn_credential, v.printable().map(|text| Some(Secret::new(text)))),
    },
    Definition {
        key: "webrtc.turn_secret",
        expected: TURN_SECRET,
        set: |c, v| put(&mut c.webrtc_turn_secret, v.printable().map(|text| Some(Secret::new(text)))),
    },
    Definition {
        key: "webrtc.turn_ttl",
        expected: "a duration from 1m to 24h, such as \"12h\"",
        set: |c, v| put(&mut c.webrtc_turn_ttl, v.duration(60_000, 86_400_000)),
    },
    Definition {
        key: "limits.posts_per_second",
        expected: RATE,
        set: |c, v| put(&mut c.limits_posts_per_second, v.rate()),
    },
    Definition {
        key: "limits.post_burst",
        expected: "a number from 1 to 1000000",
        set: |c, v| put(&mut c.limits_post_burst, v.parse().filter(|n: &NonZeroU32| n.get() <= 1_000_000)),
    },
    Definition {
        key: "limits.patches_per_second",
        expected: RATE,
        set: |c, v| put(&mut c.limits_patches_per_second, v.rate()),
    },
    Definition {
        key: "limits.session_requests_per_second",
        expected: RATE,
        set: |c, v| put(&mut c.limits_session_requests_per_second, v.rate()),
    },
    Definition {
        key: "limits.key_attempts_per_minute",
        expected: RATE,
        set: |c, v| put(&mut c.limits_key_attempts_per_minute, v.rate()),
    },
    Definition {
        key: "limits.exempt",
        expected: "a list of networks, such as [\"127.0.0.0/8\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.limits_exempt, v.list()),
    },
    Definition {
        key: "hls.part_duration",
        expected: "a duration from 100ms to 2s, such as \"250ms\"",
        set: |c, v| put(&mut c.hls_part_duration, v.duration(100, 2_000)),
    },
    Definition {
        key: "hls.segment_duration",
        expected: "a duration from 1s to 20s, such as \"2s\"",
        set: |c, v| put(&mut c.hls_segment_duration, v.duration(1_000, 20_000)),
    },
    Definition {
        key: "hls.window",
        expected: "a number of segments from 6 to 1000",
        set: |c, v| put(&mut c.hls_window, v.parse().filter(|n| (6..=1_000).contains(n))),
    },
    Definition { key: "hls.always", expected: SWITCH, set: |c, v| put(&mut c.hls_always, v.parse()) },
    Definition {
        key: "hls.audio",
        expected: "\"aac\" or \"opus\"",
        set: |c, v| put(&mut c.hls_audio, v.parse()),
    },
    Definition {
        key: "transcode.video",
        expected: "\"off\" or \"on-demand\"",
        set: |c, v| put(&mut c.transcode_video, v.parse()),
    },
    Definition {
        key: "transcode.audio_bitrate",
        expected: "bits a second from \"16k\" to \"320k\", such as \"128k\"",
        set: |c, v| put(&mut c.transcode_audio_bitrate, v.bitrate(16_000, 320_000)),
    },
    Definition {
        key: "transcode.opus_bitrate",
        expected: "bits a second from \"32k\" to \"256k\", such as \"96k\"",
        set: |c, v| put(&mut c.transcode_opus_bitrate, v.bitrate(32_000, 256_000)),
    },
    Definition {
        key: "transcode.cpu_budget",
        expected: "a number of percent from 1 to 100",
        set: |c, v| put(&mut c.transcode_cpu_budget, v.parse().filter(|n| (1..=100).contains(n))),
    },
    Definition {
        key: "transcode.ladder",
        expected: "a list of up to eight rungs from \"144p\" to \"2160p\" and \"audio\", such as [\"720p\", \"480p\", \"audio\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.transcode_ladder, v.ladder()),
    },
    Definition {
        key: "transcode.ladder_for",
        expected: "a list of stream names with rungs each, such as [\"show=720p+480p+audio\", \"door=off\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.transcode_ladder_for, v.by_stream(Value::parse)),
    },
    Definition {
        key: "webrtc.b_frames",
        expected: "\"transcode\", \"drop\" or \"refuse\"",
        set: |c, v| put(&mut c.webrtc_b_frames, v.parse()),
    },
    Definition {
        key: "auth.admin_token",
        expected: SECRET,
        set: |c, v| put(&mut c.auth_admin_token, v.secret().map(Some)),
    },
    Definition {
        key: "auth.publish_key",
        expected: "8 to 256 letters, digits or characters of \"-._~\"; or \"off\": each stream needs a key of its own",
        set: |c, v| {
            c.auth_stream_keys_only = v.text() == Some("off");
            match c.auth_stream_keys_only {
                true => put(&mut c.auth_publish_key, Some(None)),
                false => put(&mut c.auth_publish_key, v.secret().map(Some)),
            }
        },
    },
    Definition {
        key: "restream.egress_allow",
        expected: "a list of networks, such as [\"10.0.0.0/8\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.restream_egress_allow, v.list()),
    },
    Definition {
        key: "restream.targets_per_stream",
        expected: COUNT,
        set: |c, v| put(&mut c.restream_targets_per_stream, v.count()),
    },
    Definition {
        key: "restream.targets",
        expected: COUNT,
        set: |c, v| put(&mut c.restream_targets, v.count()),
    },
    Definition {
        key: "restream.extra_roots",
        expected: PEM,
        set: |c, v| put(&mut c.restream_extra_roots, v.path().map(Some)),
    },
    Definition {
        key: "events.kept",
        expected: "a number from 100 to 100000",
        set: |c, v| put(&mut c.events_kept, v.parse().filter(|n| (100..=100_000).contains(n))),
    },
    Definition {
        key: "events.viewer_thresholds",
        expected: "a list of numbers from 1 on, such as [1, 100] (in the environment: between commas)",
        set: |c, v| {
            let fits = |numbers: &Vec<usize>| numbers.len() <= 32 && !numbers.contains(&0);
            put(&mut c.events_viewer_thresholds, v.list().filter(fits))
        },
    },
    Definition {
        key: "webhooks.egress_allow",
        expected: "a list of networks, such as [\"10.0.0.0/8\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.webhooks_egress_allow, v.list()),
    },
    Definition {
        key: "webhooks.tries",
        expected: "a number from 1 to 100",
        set: |c, v| put(&mut c.webhooks_tries, v.parse().filter(|n| (1..=100).contains(n))),
    },
    Definition {
        key: "webhooks.first_retry",
        expected: "a duration from 10ms to 10m, such as \"7s\"",
        set: |c, v| put(&mut c.webhooks_first_retry, v.duration(10, 600_000)),
    },
    Definition {
        key: "webhooks.timeout",
        expected: "a duration from 100ms to 60s, such as \"10s\"",
        set: |c, v| put(&mut c.webhooks_timeout, v.duration(100, 60_000)),
    },
    Definition { key: "metrics.open", expected: SWITCH, set: |c, v| put(&mut c.metrics_open, v.parse()) },
    Definition {
        key: "metrics.per_stream",
        expected: SWITCH,
        set: |c, v| put(&mut c.metrics_per_stream, v.parse()),
    },
    Definition {
        key: "stream.grace",
        expected: "a duration from 0s to 10m, such as \"60s\"",
        set: |c, v| put(&mut c.stream_grace, v.duration(0, 600_000)),
    },
    Definition {
        key: "stream.grace_for",
        expected: "a list of stream names with a duration from 0s to 10m each, such as [\"show=5m\", \"door=0s\"] (in the environment: between commas)",
        set: |c, v| put(&mut c.stream_grace_for, v.by_stream(|v| v.duration(0, 600_000))),
    },
    Definition {
        key: "stream.hold",
        expected: "\"last-picture\", \"slate\" or \"off\"",
        set: |c, v| {
            let hold = match v.text()? {
                "last-picture" => HoldMode::LastPicture,
                "slate" => HoldMode::Slate,
                "off" => HoldMode::Off,
                _ => return None,
            };
            put(&mut c.stream_hold, Some(hold))
        },
    },
    Definition {
        key: "stream.slate",
        expected: "a PNG or JPEG file that can be read",
        set: |c, v| put(&mut c.stream_slate, v.path().map(Some)),
    },
    Definition { key: "state_dir", expected: "a folder", set: |c, v| put(&mut c.state_dir, v.path()) },
    Definition {
        key: "pipelines_dir",
        expected: "a folder",
        set: |c, v| put(&mut c.pipelines_dir, v.path().map(Some)),
    },
    Definition {
        key: "log",
        expected: "\"error\", \"warn\", \"info\", \"debug\", \"trace\", or directives such as \"warn,tidegate=debug\"",
        set: |c, v| put(&mut c.log, v.text().filter(|text| telemetry::is_filter(text)).map(str::to_owned)),
    },
    Definition { key: "open", expected: SWITCH, set: |c, v| put(&mut c.open, v.parse()) },
    Definition { key: "demo", expected: SWITCH, set: |c, v| put(&mut c.demo, v.parse()) },
    // Read before the table is consulted; listed so that it is known and documented.
    Definition { key: "config", expected: "a file", set: |_, _| Some(()) },
];

fn put<T>(field: &mut T, value: Option<T>) -> Option<()> {
    *field = value?;
    Some(())
}
