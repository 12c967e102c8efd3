//! Well-known services: `twitch://KEY` stands for the service's secure ingest with that key.

/// Scheme, and what stands in front of the key in the address that its service gives to encoders.
const PRESETS: [(&str, &str); 3] = [
    ("twitch", "rtmps://ingest.global-contribute.live-video.net:443/app/"),
    ("youtube", "rtmps://a.rtmps.youtube.com:443/live2/"),
    ("facebook", "rtmps://live-api-s.facebook.com:443/rtmp/"),
];

/// The preset that `scheme` names, with its address before the key.
pub(super) fn preset(scheme: &str) -> Option<(&'static str, &'static str)> {
    PRESETS.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name))
}
