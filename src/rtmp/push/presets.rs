//! Well-known services: `twitch://KEY` stands for the service's secure ingest with that key.

/// Scheme, and what stands in front of the key in the address that its service gives to encoders.
const PRESETS: [(&str, &str); 3] = [
    // dev.twitch.tv/docs/video-broadcast/reference/ingest, the first of its answer's examples ("Default"):
    // rtmps://ingest.global-contribute.live-video.net/app/{stream_key}. It leads to the nearest ingest.
    ("twitch", "rtmps://ingest.global-contribute.live-video.net:443/app/"),
    // developers.google.com/youtube/v3/live/guides/rtmps-ingestion: port 443, the host's name in SNI, and a host
    // with "rtmps" in its name; which host, `cdn.ingestionInfo.rtmpsIngestionAddress` of a stream says. This is the
    // primary one in OBS Studio's plugins/rtmp-services/data/services.json ("YouTube - RTMPS").
    ("youtube", "rtmps://a.rtmps.youtube.com:443/live2/"),
    // developers.facebook.com/docs/live-video-api/overview: RTMPS only, at the `secure_stream_url` that comes with
    // each broadcast. Its examples are cut off behind "rtmps://rtmp-api.facebook"; no document of Meta's was found
    // that names this host, which many programs have as what Live Producer shows. Who is given another address by
    // it writes that out instead of the preset.
    ("facebook", "rtmps://live-api-s.facebook.com:443/rtmp/"),
];

/// The preset that `scheme` names, with its address before the key.
pub(super) fn preset(scheme: &str) -> Option<(&'static str, &'static str)> {
    PRESETS.into_iter().find(|(name, _)| scheme.eq_ignore_ascii_case(name))
}
