//! The events of a WHEP session and their way to the player.
//!
//! All events tell of states: whether the stream is active, its layers, its viewers. So nothing is queued: a
//! player that reads slowly gets the newest state when it is ready for it.

use super::subscription::Subscription;
use super::table::{self, Entry};
use crate::http::event_stream::{self, COMMENT, HELLO, KEEP_ALIVE};
use crate::http::problem::Problem;
use crate::stream::{LaneWatch, LayerInfo, Stream};
use axum::body::{Body, Bytes};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// How often what can't be waited for is looked at.
const STEP: Duration = Duration::from_secs(1);
/// Bitrates alone are told at most so often.
const BITRATES: Duration = Duration::from_secs(5);

/// What there is to be told (draft-ietf-wish-whep-events).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// There is a publisher that sends.
    Active,
    /// There is none any more, or no media come from it.
    Inactive,
    /// The encodings of a simulcast stream.
    Layers,
    /// The player should open a new session: this one can't go on.
    Reconnect,
    /// How many watch.
    ViewerCount,
}

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Active, Self::Inactive, Self::Layers, Self::Reconnect, Self::ViewerCount];

    fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Inactive => "inactive",
            Self::Layers => "layers",
            Self::Reconnect => "reconnect",
            Self::ViewerCount => "viewercount",
        }
    }

    pub(super) fn names() -> [&'static str; 5] {
        Self::ALL.map(Self::name)
    }
}

/// The events that a player names; one that is not known is 400, as the draft has it.
pub(super) fn parse(names: &[String]) -> Result<Vec<Kind>, Problem> {
    let kind = |name: &String| {
        Kind::ALL.into_iter().find(|kind| kind.name() == name).ok_or_else(|| {
            let known = Kind::names().join(", ");
            Problem::bad_request("unknown-event", format!("there is no event {name:?}; there are {known}"))
        })
    };
    names.iter().map(kind).collect()
}

/// The events of `subscription` from now on, until `reader` is cancelled.
pub(super) fn body(
    stream: Arc<Stream>,
    entry: Arc<Entry>,
    subscription: Arc<Subscription>,
    reader: CancellationToken,
    closing: CancellationToken,
) -> Body {
    let mut ticks = interval(STEP);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let feed = Feed {
        lanes: stream.watch_lanes(),
        layers: stream.watch_layers(),
        stream,
        entry,
        subscription,
        reader,
        closing,
        ticks,
        told: None,
    };
    Body::from_stream(futures_util::stream::unfold(feed, |mut feed| async {
        let text = feed.next().await?;
        Some((Ok::<_, Infallible>(Bytes::from(text)), feed))
    }))
}

/// One reader of one subscription.
struct Feed {
    stream: Arc<Stream>,
    entry: Arc<Entry>,
    subscription: Arc<Subscription>,
    reader: CancellationToken,
    closing: CancellationToken,
    lanes: watch::Receiver<LaneWatch>,
    layers: watch::Receiver<Arc<[LayerInfo]>>,
    ticks: Interval,
    /// `None` before the first words.
    told: Option<Told>,
}

/// What this reader knows.
#[derive(Default)]
struct Told {
    at: Option<Instant>,
    active: Option<bool>,
    layers: Option<(Instant, Arc<[LayerInfo]>)>,
    viewers: Option<usize>,
    reconnect: bool,
}

impl Feed {
    /// What is to be told next; `None` when there will be nothing more.
    async fn next(&mut self) -> Option<String> {
        loop {
            // Sessions end soon after the gateway begins to shut down: that is told all the same.
            let farewell = self.closing.is_cancelled() && !self.has_told_reconnect();
            if self.reader.is_cancelled() && !farewell {
                return None;
            }
            let text = self.news(Instant::now());
            if !text.is_empty() {
                return Some(text);
            }
            let reconnects = !self.has_told_reconnect();
            let over = async {
                // The stream is over: the session ends, too.
                if self.lanes.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                () = self.reader.cancelled() => {}
                () = self.closing.cancelled(), if reconnects => {}
                () = over => {}
                Ok(()) = self.layers.changed() => {}
                _ = self.ticks.tick() => {}
            }
        }
    }

    fn has_told_reconnect(&self) -> bool {
        self.told.as_ref().is_some_and(|told| told.reconnect)
    }

    /// What this reader doesn't know yet.
    fn news(&mut self, now: Instant) -> String {
        let mut text = String::new();
        if self.told.is_none() {
            text += HELLO;
        }
        let mut told = self.told.take().unwrap_or_default();
        let wanted = |kind| self.subscription.wanted.contains(&kind);
        let tell = |text: &mut String, kind: Kind, data: &Value| {
            if wanted(kind) {
                event_stream::write(text, kind.name(), data);
            }
        };
        let lanes = *self.lanes.borrow_and_update();
        let active = lanes.native.is_some() && !lanes.stalled;
        if told.active != Some(active) {
            let known = self.subscription.note_active(active);
            match active {
                true => tell(&mut text, Kind::Active, &json!({})),
                // There must be no inactive event before an active one.
                false if known => tell(&mut text, Kind::Inactive, &json!({})),
                false => {}
            }
            told.active = Some(active);
        }
        let layers = self.layers.borrow_and_update().clone();
        // What is encoded again has none.
        let layers = if self.entry.transcoded { Arc::default() } else { layers };
        if let Some(video) = self.entry.video
            && told.layers.as_ref().is_none_or(|(at, known)| is_news(known, &layers, now - *at))
        {
            tell(&mut text, Kind::Layers, &json!({ video.to_string(): describe(&layers) }));
            told.layers = Some((now, layers));
        }
        let viewers = self.stream.statistics().snapshot().whep_readers;
        if told.viewers != Some(viewers) {
            tell(&mut text, Kind::ViewerCount, &json!({ "viewercount": viewers }));
            told.viewers = Some(viewers);
        }
        if !told.reconnect && (self.closing.is_cancelled() || self.has_other_codecs()) {
            tell(&mut text, Kind::Reconnect, &json!({}));
            told.reconnect = true;
        }
        if text.is_empty() && told.at.is_some_and(|at| now - at >= KEEP_ALIVE) {
            text += COMMENT;
        }
        if !text.is_empty() {
            told.at = Some(now);
        }
        self.told = Some(told);
        text
    }

    /// The publisher came back with codecs that this session did not agree upon.
    fn has_other_codecs(&self) -> bool {
        let now = table::codecs_now(&self.stream, self.entry.transcoded);
        self.entry.codecs.zip(now).is_some_and(|(agreed, now)| agreed != now)
    }
}

/// Which encodings there are is news at once; how much they take, after a while.
fn is_news(known: &[LayerInfo], now: &[LayerInfo], age: Duration) -> bool {
    let same = |known: &LayerInfo, now: &LayerInfo| {
        (&known.rid, known.resolution, known.active) == (&now.rid, now.resolution, now.active)
    };
    let kept = known.len() == now.len() && known.iter().zip(now).all(|(known, now)| same(known, now));
    !kept || (known != now && age >= BITRATES)
}

/// Without bitrate a layer is inactive. Earlier drafts called the rid `encodingId`.
fn describe(layers: &[LayerInfo]) -> Value {
    let describe = |layer: &LayerInfo| {
        let mut object = json!({ "rid": layer.rid, "encodingId": layer.rid });
        if let Some((width, height)) = layer.resolution {
            object["width"] = width.into();
            object["height"] = height.into();
        }
        if layer.active {
            object["bitrate"] = layer.bitrate.max(1).into();
        }
        object
    };
    layers.iter().map(describe).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(rid: &str, bitrate: u64, active: bool) -> LayerInfo {
        LayerInfo { rid: rid.to_owned(), resolution: Some((640, 360)), bitrate, active }
    }

    #[test]
    fn e07_unknown_events_are_refused_by_name() {
        let parse =
            |names: &[&str]| super::parse(&names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>());
        assert_eq!(parse(&["layers", "active"]).expect("known"), [Kind::Layers, Kind::Active]);
        let problem = parse(&["layers", "weather"]).expect_err("unknown");
        assert_eq!(problem.status().as_u16(), 400);
        assert!(format!("{problem:?}").contains("weather"), "{problem:?}");
    }

    #[test]
    fn e07_layers_are_told_when_they_change() {
        let known = [layer("h", 500_000, true)];
        assert!(!is_news(&known, &known, Duration::MAX));
        assert!(is_news(&known, &[layer("h", 500_000, false)], Duration::ZERO));
        assert!(is_news(&known, &[], Duration::ZERO));
        let other = [layer("h", 600_000, true)];
        assert!(!is_news(&known, &other, Duration::from_secs(4)) && is_news(&known, &other, BITRATES));
    }

    #[test]
    fn e07_a_layer_without_bitrate_is_inactive() {
        let layers = [layer("h", 500_000, true), layer("q", 0, false)];
        assert_eq!(
            describe(&layers),
            json!([
                { "rid": "h", "encodingId": "h", "width": 640, "height": 360, "bitrate": 500_000 },
                { "rid": "q", "encodingId": "q", "width": 640, "height": 360 },
            ])
        );
    }
}
