//! What a target does now, and why, in words that stay: programs read them.

use crate::media::StreamName;
use crate::rtmp::{FailureClass, PushError};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

/// What a target does now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum TargetState {
    /// The stream is not live.
    Waiting {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// A connection is being made, or is made and waits for a keyframe.
    Connecting {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The server has accepted the publication, and media flows.
    Live {
        /// Since when.
        since: DateTime<Utc>,
        /// The publisher pauses; what flows is the held picture and silence.
        held: bool,
    },
    /// The last try failed; another will come soon.
    Retrying {
        /// When the last try failed.
        since: DateTime<Utc>,
        /// Which failure in a row it was.
        attempt: u32,
        /// Why, in plain words, without the key.
        reason: String,
        /// When the next try is due.
        next_try: DateTime<Utc>,
    },
    /// It won't work until somebody changes something: the server says no, the address is not allowed, or the
    /// stream's video can't be sent on.
    Failing {
        /// Since when.
        since: DateTime<Utc>,
        /// Why, in plain words, and what would help.
        reason: String,
        /// When it is tried nevertheless; `null`: when the publisher sends other media.
        next_try: Option<DateTime<Utc>>,
    },
    /// The operator has paused it.
    Disabled {
        /// Since when.
        since: DateTime<Utc>,
    },
    /// The target was removed; its connection has ended.
    Ended {
        /// Since when.
        since: DateTime<Utc>,
    },
}

/// A [`TargetState`] without its details.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // as there
pub enum TargetStateKind {
    Waiting,
    Connecting,
    Live,
    Retrying,
    Failing,
    Disabled,
    Ended,
}

/// How many targets there are, by what they do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[allow(missing_docs)] // as there
pub struct TargetCounts {
    /// All together.
    pub total: usize,
    pub waiting: usize,
    pub connecting: usize,
    pub live: usize,
    pub retrying: usize,
    pub failing: usize,
    pub disabled: usize,
}

/// Why a target failed the last time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TargetFailure {
    /// What kind of failure it was.
    pub class: FailureClass,
    /// The server's own code, where it refused.
    pub code: Option<String>,
    /// In plain words, without the key.
    pub reason: String,
    /// When it failed.
    pub at: DateTime<Utc>,
}

/// A target's state has changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetEvent {
    /// The target's id.
    pub target: String,
    /// Its stream.
    pub stream: StreamName,
    /// What people call it.
    pub name: String,
    /// What it did until now.
    pub old: TargetStateKind,
    /// What it does now.
    pub new: TargetStateKind,
    /// Since when.
    pub at: DateTime<Utc>,
    /// Why, if it is retrying or failing.
    pub failure: Option<TargetFailure>,
}

impl TargetState {
    /// Without details.
    pub fn kind(&self) -> TargetStateKind {
        match self {
            Self::Waiting { .. } => TargetStateKind::Waiting,
            Self::Connecting { .. } => TargetStateKind::Connecting,
            Self::Live { .. } => TargetStateKind::Live,
            Self::Retrying { .. } => TargetStateKind::Retrying,
            Self::Failing { .. } => TargetStateKind::Failing,
            Self::Disabled { .. } => TargetStateKind::Disabled,
            Self::Ended { .. } => TargetStateKind::Ended,
        }
    }

    /// Since when.
    pub fn since(&self) -> DateTime<Utc> {
        match self {
            Self::Waiting { since }
            | Self::Connecting { since }
            | Self::Live { since, .. }
            | Self::Retrying { since, .. }
            | Self::Failing { since, .. }
            | Self::Disabled { since }
            | Self::Ended { since } => *since,
        }
    }

    /// When the next try is due, while one is.
    pub fn next_try(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Retrying { next_try, .. } => Some(*next_try),
            Self::Failing { next_try, .. } => *next_try,
            _ => None,
        }
    }
}

impl TargetStateKind {
    const ALL: [Self; 7] = [
        Self::Waiting,
        Self::Connecting,
        Self::Live,
        Self::Retrying,
        Self::Failing,
        Self::Disabled,
        Self::Ended,
    ];

    /// That of `kind as u8`, so that it can be kept where no lock guards it.
    pub(super) fn of(number: u8) -> Self {
        Self::ALL.get(usize::from(number)).copied().unwrap_or(Self::Ended)
    }

    /// As the API and metrics have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Retrying => "retrying",
            Self::Failing => "failing",
            Self::Disabled => "disabled",
            Self::Ended => "ended",
        }
    }
}

impl TargetCounts {
    /// Counts one more; one that has ended is none any more.
    pub(super) fn add(&mut self, kind: TargetStateKind) {
        let count = match kind {
            TargetStateKind::Waiting => &mut self.waiting,
            TargetStateKind::Connecting => &mut self.connecting,
            TargetStateKind::Live => &mut self.live,
            TargetStateKind::Retrying => &mut self.retrying,
            TargetStateKind::Failing => &mut self.failing,
            TargetStateKind::Disabled => &mut self.disabled,
            TargetStateKind::Ended => return,
        };
        *count += 1;
        self.total += 1;
    }

    /// Each state by its name, with how many are in it.
    pub fn by_state(&self) -> [(&'static str, usize); 6] {
        use TargetStateKind as K;
        [
            (K::Waiting, self.waiting),
            (K::Connecting, self.connecting),
            (K::Live, self.live),
            (K::Retrying, self.retrying),
            (K::Failing, self.failing),
            (K::Disabled, self.disabled),
        ]
        .map(|(kind, count)| (kind.as_str(), count))
    }
}

impl TargetFailure {
    pub(super) fn now(error: &PushError) -> Self {
        Self {
            class: error.class(),
            code: error.code().map(str::to_owned),
            reason: error.to_string(),
            at: Utc::now(),
        }
    }

    /// The same, where the server closed the connection in the moment in which many judge the key: not all of
    /// them say so.
    pub(super) fn suspecting_key(mut self) -> Self {
        self.reason += ", right after it was told the stream key; usually that means that the key is wrong or \
            has expired";
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_known_by_its_number() {
        for kind in TargetStateKind::ALL {
            assert_eq!(TargetStateKind::of(kind as u8), kind);
        }
    }

    #[test]
    fn each_kind_is_counted_by_its_name() {
        let mut counts = TargetCounts::default();
        for (number, kind) in TargetStateKind::ALL.into_iter().enumerate() {
            (0..=number).for_each(|_| counts.add(kind));
        }
        let named = counts.by_state();
        assert_eq!(
            named,
            [
                ("waiting", 1),
                ("connecting", 2),
                ("live", 3),
                ("retrying", 4),
                ("failing", 5),
                ("disabled", 6)
            ]
        );
        assert_eq!(
            counts.total,
            named.iter().map(|(_, count)| count).sum::<usize>(),
            "those that ended are none"
        );
    }
}
