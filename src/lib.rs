//! Tidegate: a live-video gateway. WHIP and RTMP in; Low-Latency HLS, WHEP and RTMP restreams out.
//!
//! Rooms, lowest first; a room imports only rooms below it (`tests/architecture.rs` checks that):
//! [`media`] nouns and parsing · [`admission`] bounds by source · [`tls`] · [`stream`] the hub · `pipeline` GStreamer · `hls`, `rtmp`, `webrtc` ·
//! [`store`] · [`auth`] who may · [`declarations`] · `restream` · [`events`] the journal · [`webhooks`] · [`metrics`] ·
//! `http` · [`check_hls`] · `gateway`, `config`, `telemetry`.

pub mod admission;
pub mod auth;
pub mod check_hls;
pub mod config;
pub mod declarations;
pub mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
pub mod gateway;
pub mod hls;
pub mod http;
pub mod media;
pub mod metrics;
pub mod pipeline;
pub mod restream;
pub mod rtmp;
pub mod store;
pub mod stream;
pub mod telemetry;
pub mod tls;
pub mod webhooks;
pub mod webrtc;
