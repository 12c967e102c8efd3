//! The rooms behind the servers of the tests: real, and empty.

use super::Rooms;
use crate::declarations::Declarations;
use crate::events::Journal;
use crate::hls::{Hls, HlsSettings};
use crate::metrics::{Metrics, Sources};
use crate::pipeline::Pipelines;
use crate::restream::{RestreamSettings, Restreams};
use crate::store::Store;
use crate::stream::Hub;
use crate::webhooks::Webhooks;
use crate::webrtc::{WebRtc, WebRtcSettings};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Streams wait for their publishers for `grace`.
pub(super) async fn rooms(grace: Duration) -> Rooms {
    let (hub, _reaper) = Hub::new(grace);
    let pipelines = Pipelines::load(None).expect("GStreamer");
    let webrtc = WebRtcSettings::new("127.0.0.1:0".parse().expect("an address"));
    let sources = Sources {
        webhooks: Webhooks::idle(),
        hub: hub.clone(),
        restreams: Restreams::new(hub.clone(), Store::in_memory(), RestreamSettings::default()),
        webrtc: WebRtc::start(webrtc, hub.clone()).expect("a port"),
        rtmp: Arc::default(),
        refusals: Default::default(),
        pipelines: pipelines.clone(),
        journal: Journal::new(SystemTime::now(), 100),
    };
    Rooms {
        hub: hub.clone(),
        hls: Hls::new(HlsSettings::default(), pipelines),
        webrtc: sources.webrtc.clone(),
        restreams: sources.restreams.clone(),
        rtmp: sources.rtmp.clone(),
        declarations: Declarations::load(Store::in_memory(), hub).await.expect("empty"),
        journal: sources.journal.clone(),
        webhooks: sources.webhooks.clone(),
        metrics: Metrics::new(sources, false),
    }
}
