//! Which sessions there are, as HTTP needs to know it: whose they are, on which path, and what goes with
//! them. WebRTC knows the rest.

use super::subscription::Subscription;
use crate::http::problem::Problem;
use crate::http::rates::PatchRate;
use crate::media::{Codec, MediaKind, PacketBatch, Secret, StreamName, Tracks};
use crate::stream::{CompatiblePackets, Stream};
use crate::webrtc::{SessionError, SessionId, SessionKind, Traffic};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::SystemTime;
use tokio_util::sync::CancellationToken;

/// All sessions. One that is over is forgotten at the next [`sweep`](Self::sweep); how many there are is
/// bounded by WebRTC.
#[derive(Default)]
pub(in crate::http) struct Sessions(Mutex<HashMap<SessionId, Arc<Entry>>>);

/// One session.
pub(in crate::http) struct Entry {
    pub(in crate::http) kind: SessionKind,
    pub(in crate::http) stream: StreamName,
    /// Tells sessions apart where their ids must not be told: unique while the process lives.
    pub(in crate::http) number: u64,
    pub(in crate::http) remote: SocketAddr,
    pub(in crate::http) since: SystemTime,
    pub(in crate::http) traffic: Arc<Traffic>,
    /// The token that was shown with the offer.
    pub(super) principal: Option<Secret>,
    /// Cancelled when the session is over.
    pub(super) ended: CancellationToken,
    /// How often it may be changed; `None`: as often as one likes.
    pub(super) rate: Option<PatchRate>,
    /// Which m-section of the offer is the video's.
    pub(super) video: Option<usize>,
    /// What is sent is made of the stream's pictures, as H.264.
    pub(super) transcoded: bool,
    /// What was sent when the session began.
    pub(super) codecs: Option<Codecs>,
    pub(super) subscriptions: Mutex<Vec<Arc<Subscription>>>,
}

/// A live session with its id.
pub(in crate::http) struct Known {
    pub(in crate::http) id: SessionId,
    pub(in crate::http) entry: Arc<Entry>,
}

/// The codecs of video and audio. Sound is Opus whenever there is any: that it begins or stops changes nothing.
pub(super) type Codecs = [Option<Codec>; 2];

fn codecs(tracks: &Tracks) -> Codecs {
    [tracks.codec(MediaKind::Video), tracks.codec(MediaKind::Audio).or(Some(Codec::Opus))]
}

/// What viewers of `stream` get now; `transcoded`: those that lack its video codec.
pub(super) fn codecs_now(stream: &Stream, transcoded: bool) -> Option<Codecs> {
    let epoch = match transcoded {
        false => stream.epoch::<PacketBatch>(),
        true => stream.epoch::<CompatiblePackets>(),
    };
    epoch.map(|epoch| codecs(&epoch.tracks))
}

impl Sessions {
    pub(super) fn insert(&self, id: SessionId, entry: Entry) {
        self.0.lock().insert(id, Arc::new(entry));
    }

    /// The session, if it is a live one of this kind and stream: the path is part of its name.
    pub(super) fn find(
        &self,
        kind: SessionKind,
        stream: &StreamName,
        id: &SessionId,
    ) -> Result<Arc<Entry>, Problem> {
        let found = self.0.lock().get(id).cloned();
        let fits =
            |entry: &Arc<Entry>| entry.kind == kind && entry.stream == *stream && !entry.ended.is_cancelled();
        found.filter(fits).ok_or_else(|| SessionError::UnknownSession.into())
    }

    /// The live ones, in no order.
    pub(in crate::http) fn list(&self) -> Vec<Known> {
        let sessions = self.0.lock();
        let live = sessions.iter().filter(|(_, entry)| !entry.ended.is_cancelled());
        live.map(|(id, entry)| Known { id: *id, entry: entry.clone() }).collect()
    }

    /// The live one with this number.
    pub(in crate::http) fn by_number(&self, number: u64) -> Option<Known> {
        let sessions = self.0.lock();
        let (id, entry) = sessions.iter().find(|(_, entry)| entry.number == number)?;
        (!entry.ended.is_cancelled()).then(|| Known { id: *id, entry: entry.clone() })
    }

    /// Forgets the sessions that are over.
    pub(in crate::http) fn sweep(&self) {
        let mut sessions = self.0.lock();
        sessions.retain(|_, entry| !entry.ended.is_cancelled());
        if sessions.capacity() > 4 * (sessions.len() + 64) {
            sessions.shrink_to_fit();
        }
    }
}

impl Entry {
    /// A number that no other session has or had.
    pub(super) fn next_number() -> u64 {
        static LAST: AtomicU64 = AtomicU64::new(0);
        LAST.fetch_add(1, Relaxed) + 1
    }

    /// One more change of this session.
    pub(super) fn take(&self) -> Result<(), Problem> {
        self.rate.as_ref().map_or(Ok(()), PatchRate::take)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn w20_a_session_is_found_on_its_own_path_only_and_while_it_lives() {
        let sessions = Sessions::default();
        let id: SessionId = "0123456789abcdef0123456789abcdef".parse().expect("an id");
        let [stream, other]: [StreamName; 2] = ["a", "b"].map(|name| name.parse().expect("a name"));
        let ended = CancellationToken::new();
        let entry = Entry {
            kind: SessionKind::Whip,
            stream: stream.clone(),
            number: 7,
            remote: SocketAddr::from(([192, 0, 2, 1], 1)),
            since: SystemTime::now(),
            traffic: Arc::default(),
            principal: None,
            ended: ended.clone(),
            rate: None,
            video: None,
            transcoded: false,
            codecs: None,
            subscriptions: Mutex::default(),
        };
        sessions.insert(id, entry);
        let found = |kind, stream| sessions.find(kind, stream, &id).is_ok();
        assert!(found(SessionKind::Whip, &stream));
        assert!(!found(SessionKind::Whep, &stream) && !found(SessionKind::Whip, &other));
        sessions.sweep();
        assert!(found(SessionKind::Whip, &stream));
        assert!(sessions.by_number(7).is_some() && sessions.by_number(8).is_none());
        assert_eq!(sessions.list().len(), 1);
        ended.cancel();
        assert!(sessions.by_number(7).is_none() && sessions.list().is_empty());
        assert!(!found(SessionKind::Whip, &stream), "before the sweep");
        sessions.sweep();
        assert!(sessions.0.lock().is_empty());
    }
}
