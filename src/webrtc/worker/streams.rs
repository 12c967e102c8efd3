//! Streams on their way to the viewers of one worker: one task reads each, for all of them.

use super::{FanOutId, Session, Worker, guarded};
use crate::media::PacketBatch;
use crate::stream::{Media, Stream, Subscriber};
use crate::webrtc::egress::Reading;
use crate::webrtc::session::SessionState;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;
use tracing::{debug, error};

impl Worker {
    /// Gives a batch of a stream to its viewers.
    fn fan_out(&mut self, now: Instant, id: FanOutId, batch: &PacketBatch, lost: u64) {
        let Self { fan_outs, sessions, exits, buffer, .. } = self;
        let Some(fan_out) = fan_outs.get_mut(&id) else { return };
        let (template, change) = fan_out.take(now, batch, lost);
        let sound_lag = fan_out.sound_lag();
        let mut over = Vec::new();
        for viewer_id in fan_out.viewers() {
            let Some(Session::Viewer(viewer, ..)) = sessions.get_mut(viewer_id) else { continue };
            let sent = guarded(*viewer_id, || {
                change.tell(viewer, &batch.epoch);
                viewer.send(now, &template, sound_lag, exits, buffer);
            });
            if sent.is_none() || matches!(viewer.state(), SessionState::Ended(_)) {
                over.push(*viewer_id);
            }
        }
        for viewer in over {
            self.end(now, viewer, "a fault of ours");
        }
    }

    /// A stream has ended: its viewers are told.
    fn stream_ended(&mut self, now: Instant, id: FanOutId) {
        let viewers = self.fan_outs.get(&id).map(|fan_out| fan_out.viewers().to_vec()).unwrap_or_default();
        for viewer in viewers {
            self.close(now, viewer, "the stream ended");
        }
        self.fan_outs.remove(&id);
    }
}

/// Reads a stream for its viewers on this worker.
pub(super) async fn read_stream(worker: Rc<RefCell<Worker>>, id: FanOutId, reading: Reading) {
    let fan_out = |batch: &PacketBatch, lost| worker.borrow_mut().fan_out(Instant::now(), id, batch, lost);
    match reading {
        Reading::Published(reader) => feed(reader, |batch| batch, fan_out).await,
        Reading::Compatible(reader) => feed(reader, |packets| &packets.0, fan_out).await,
    }
    worker.borrow_mut().stream_ended(Instant::now(), id);
}

/// Gives each batch to `fan_out`, with the items lost so far, until the stream ends or `fan_out` panics.
async fn feed<T: Media>(
    mut reader: Subscriber<T>,
    batch: fn(&T) -> &PacketBatch,
    mut fan_out: impl FnMut(&PacketBatch, u64),
) {
    let stream: Arc<Stream> = reader.stream().clone();
    while let Some(item) = reader.recv().await {
        let lost = reader.lost();
        if catch_unwind(AssertUnwindSafe(|| fan_out(batch(&item), lost))).is_err() {
            // Its viewers would see a picture that stands still; closed, they come again.
            error!(stream = %stream.name(), "The fan-out of a stream panicked; its viewers are closed.");
            return;
        }
    }
    debug!(stream = %stream.name(), "The viewers' stream ended.");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Tracks;
    use crate::stream::{Hub, Source, SourceKind};
    use std::time::{Duration, SystemTime};

    #[tokio::test]
    async fn a_panic_in_a_fan_out_ends_the_reading_so_that_its_viewers_are_closed() {
        let (hub, _reaper) = Hub::new(Duration::from_secs(60));
        let source = Source { kind: SourceKind::Whip, remote: None };
        let publisher = hub.publish::<PacketBatch>("a".parse().expect("a name"), source).expect("free");
        let reader = publisher.stream().subscribe::<PacketBatch>();
        let epoch = publisher.begin_epoch(Tracks::default(), SystemTime::UNIX_EPOCH);
        publisher.write(PacketBatch { epoch, packets: Vec::new() });
        let fed = feed(reader, |batch| batch, |_, _| panic!("a fault in a fan-out"));
        tokio::time::timeout(Duration::from_secs(5), fed).await.expect("it ends although the stream goes on");
    }
}
