//! Panics of the whole process: each is counted and logged, wherever it is caught (REL-08).

use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use tracing::error;

static PANICS: AtomicU64 = AtomicU64::new(0);
static HOOK: Once = Once::new();

/// From now on panics are counted; what was done at a panic before is done as well. Any number of times.
pub fn count_panics() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Relaxed);
            let place = panic.location().map(ToString::to_string).unwrap_or_default();
            error!(place, "A task panicked. What it served is closed; all else goes on.");
            before(panic);
        }));
    });
}

/// Panics since then.
pub(super) fn count() -> u64 {
    PANICS.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Frame;
    use crate::stream::{Hub, Source, SourceKind, StreamState};
    use std::time::Duration;

    #[tokio::test]
    async fn rel08_a_task_that_panics_is_counted_and_what_it_published_is_free() {
        count_panics();
        let (hub, _watcher) = Hub::new(Duration::from_secs(60));
        let name: crate::media::StreamName = "show".parse().expect("a name");
        let source = || Source { kind: SourceKind::Rtmp, remote: None };
        let publisher = hub.publish::<Frame>(name.clone(), source()).expect("free");
        let before = count();
        let task = tokio::spawn(async move {
            let _publisher = publisher;
            panic!("as a fault of ours would");
        });
        assert!(task.await.is_err_and(|error| error.is_panic()));
        assert!(count() > before, "counted");
        let state = hub.get(&name).map(|stream| stream.state().0);
        assert_eq!(state, Some(StreamState::Waiting), "its publication has ended");
        hub.publish::<Frame>(name, source()).expect("the name is free, the process lives");
    }
}
