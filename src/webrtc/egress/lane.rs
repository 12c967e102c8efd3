//! Which lane of its stream a viewer is sent: for its whole life the one that its offer fits.

use crate::media::{Codec, MediaKind, PacketBatch};
use crate::stream::{CompatiblePackets, LayerInfo, Stream, Subscriber};
use std::sync::Arc;

/// A lane of packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::webrtc) enum ViewerLane {
    /// The packets as they are published.
    Published,
    /// H.264 and Opus, whatever is published.
    Compatible,
}

/// A read half of it.
pub(in crate::webrtc) enum Reading {
    Published(Subscriber<PacketBatch>),
    Compatible(Subscriber<CompatiblePackets>),
}

impl ViewerLane {
    /// Reads it.
    pub(in crate::webrtc) fn read(self, stream: &Arc<Stream>) -> Reading {
        match self {
            Self::Published => Reading::Published(stream.subscribe()),
            Self::Compatible => Reading::Compatible(stream.subscribe()),
        }
    }

    /// The encodings to choose from: what is encoded again is one.
    pub(super) fn layers(self, stream: &Stream) -> Arc<[LayerInfo]> {
        let as_published = self == Self::Published
            || stream
                .epoch::<PacketBatch>()
                .is_some_and(|epoch| epoch.tracks.codec(MediaKind::Video) == Some(Codec::H264));
        if as_published { stream.layers() } else { Arc::default() }
    }

    /// Asks whoever makes its pictures for a keyframe.
    pub(super) fn request_keyframe(self, stream: &Stream, layer: u8) {
        match self {
            Self::Published => stream.request_layer_keyframe(layer),
            Self::Compatible => stream.request_compatible_keyframe(layer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::{Tracks, VideoTrack};
    use crate::stream::{Hub, Source, SourceKind};
    use std::time::{Duration, SystemTime};

    #[tokio::test]
    async fn only_published_pictures_have_layers_and_each_lane_is_asked_for_its_own_keyframes() {
        let (hub, _watcher) = Hub::new(Duration::from_secs(60));
        let source = Source { kind: SourceKind::Whip, remote: None };
        let publisher = hub.publish::<PacketBatch>("a".parse().expect("a name"), source).expect("free");
        let stream = publisher.stream();
        let layer = |rid: &str| LayerInfo { rid: rid.into(), resolution: None, bitrate: 1, active: true };
        publisher.set_layers(vec![layer("h"), layer("l")]);
        let count = |lane: ViewerLane| lane.layers(stream).len();
        let begin = |codec| {
            let tracks = Tracks { video: Some(VideoTrack::new(codec)), audio: None };
            let epoch = publisher.begin_epoch(tracks, SystemTime::UNIX_EPOCH);
            publisher.write(PacketBatch { epoch, packets: Vec::new() });
        };
        begin(Codec::Vp8);
        assert_eq!((count(ViewerLane::Published), count(ViewerLane::Compatible)), (2, 0));
        begin(Codec::H264);
        assert_eq!(count(ViewerLane::Compatible), 2, "they pass as they are");

        let mut published = publisher.keyframe_requests();
        let mut compatible = stream.watch_compatible_keyframe_requests();
        let mut asked = || {
            let changed = (published.has_changed().expect("open"), compatible.has_changed().expect("open"));
            published.mark_unchanged();
            compatible.mark_unchanged();
            changed
        };
        ViewerLane::Compatible.request_keyframe(stream, 0);
        assert_eq!(asked(), (false, true));
        ViewerLane::Published.request_keyframe(stream, 0);
        assert_eq!(asked(), (true, false));
    }
}
