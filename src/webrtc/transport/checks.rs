//! The checks that a full ICE agent sends itself (RFC 8445 §6, §7.2): which pair, when, how often.
//!
//! Bounded: few pairs, each tried for some seconds, one check each 50 ms. All pairs have the one socket as
//! their local end; which address of ours a peer reaches is seen when it answers.

use super::stun::Transaction;
use crate::webrtc::path::{Path, Protocol};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

/// Candidates of the peer's that are checked.
const MAX_PAIRS: usize = 16;
/// From one pair's check to the next one's (RFC 8445 §14.2).
const PACE: Duration = Duration::from_millis(50);
/// To the first repetition of a check; doubled each time.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// Times that a check is sent.
const ATTEMPTS: u8 = 6;

/// The pairs of one ICE session.
#[derive(Debug, Default)]
pub(super) struct Checks {
    pairs: Vec<Pair>,
    next: Option<Instant>,
    /// As the controlling agent we have chosen a pair.
    chosen: bool,
}

#[derive(Debug)]
struct Pair {
    path: Path,
    state: State,
    transaction: Transaction,
    /// The check says that this pair is the one.
    nominate: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    /// To be checked when its turn comes.
    Waiting,
    /// To be checked at once: the peer's check came over it, or it is nominated.
    Triggered,
    Sent {
        attempts: u8,
        again: Instant,
    },
    Valid,
    Failed,
}

impl Checks {
    /// A candidate of the peer's.
    pub(super) fn add(&mut self, candidate: SocketAddr) {
        let known = self.pairs.iter().any(|pair| pair.path.peer == candidate);
        let usable = match candidate.ip().to_canonical() {
            IpAddr::V4(four) => !four.is_broadcast() && !four.is_multicast() && !four.is_unspecified(),
            IpAddr::V6(six) => !six.is_multicast() && !six.is_unspecified(),
        };
        if !known && usable && candidate.port() != 0 && self.pairs.len() < MAX_PAIRS {
            let path = Path::udp(candidate, IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            self.push(path, State::Waiting);
        }
    }

    /// A check of the peer's came over `path`: that way is checked next (RFC 8445 §7.3.1.4).
    pub(super) fn trigger(&mut self, path: Path) {
        match self.pairs.iter_mut().find(|pair| same(pair.path, path)) {
            Some(pair) => {
                if !matches!(pair.state, State::Valid | State::Sent { attempts: 1, .. }) {
                    pair.state = State::Triggered;
                }
            }
            None => {
                if self.pairs.len() == MAX_PAIRS {
                    self.pairs.retain(|pair| pair.state != State::Failed);
                }
                if self.pairs.len() < MAX_PAIRS {
                    self.push(path, State::Triggered);
                }
            }
        }
    }

    /// The next check that is due: where to, under which transaction, and whether it nominates.
    /// `new_transaction` makes a transaction.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        mut new_transaction: impl FnMut() -> Transaction,
    ) -> Option<(Path, Transaction, bool)> {
        let paced = self.next.is_some_and(|next| now < next);
        let due = |pair: &Pair| match pair.state {
            State::Triggered => true,
            State::Sent { again, .. } => !paced && now >= again,
            State::Waiting => !paced,
            State::Valid | State::Failed => false,
        };
        let triggered = self.pairs.iter().position(|pair| pair.state == State::Triggered);
        let position = triggered.or_else(|| self.pairs.iter().position(due))?;
        let pair = &mut self.pairs[position];
        let attempts = match pair.state {
            State::Sent { attempts, .. } => attempts,
            _ => {
                pair.transaction = new_transaction();
                0
            }
        };
        if attempts == ATTEMPTS {
            pair.state = State::Failed;
            self.chosen &= !pair.nominate;
            pair.nominate = false;
            return self.poll(now, new_transaction);
        }
        pair.state =
            State::Sent { attempts: attempts + 1, again: now + FIRST_WAIT * 2u32.pow(attempts.into()) };
        self.next = Some(now + PACE);
        Some((pair.path, pair.transaction, pair.nominate))
    }

    /// An authentic answer came over `path`: whether it is one of ours', and then whether the pair is now
    /// nominated by us.
    pub(super) fn answered(
        &mut self,
        transaction: Transaction,
        path: Path,
        controlling: bool,
    ) -> Option<bool> {
        let pair = self.pairs.iter_mut().find(|pair| {
            // RFC 8445 §7.2.5.2.1: the answer must come from where the check went.
            pair.transaction == transaction && pair.state != State::Failed && same(pair.path, path)
        })?;
        pair.path = path;
        pair.state = State::Valid;
        if pair.nominate {
            return Some(true);
        }
        if controlling && !self.chosen {
            // Regular nomination (RFC 8445 §8.1.1): the first that works.
            self.chosen = true;
            (pair.nominate, pair.state) = (true, State::Triggered);
        }
        Some(false)
    }

    /// Whether `transaction` is one of ours; after a role conflict its check is to be sent again.
    pub(super) fn conflicted(&mut self, transaction: Transaction) -> bool {
        let Some(pair) = self.pairs.iter_mut().find(|pair| pair.transaction == transaction) else {
            return false;
        };
        pair.state = State::Triggered;
        pair.nominate = false;
        self.chosen = false;
        true
    }

    fn push(&mut self, path: Path, state: State) {
        self.pairs.push(Pair { path, state, transaction: [0; 12], nominate: false });
    }
}

/// Whether two paths lead to the same peer the same way: of ours, the address may be unknown still.
fn same(one: Path, other: Path) -> bool {
    let local = one.local == other.local || one.local.is_unspecified() || other.local.is_unspecified();
    one.peer == other.peer && one.protocol == other.protocol && (local || one.protocol != Protocol::Udp)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn counter() -> impl FnMut() -> Transaction {
        let mut count = 0;
        move || {
            count += 1;
            [count; 12]
        }
    }

    #[test]
    fn checks_are_paced_repeated_and_given_up() {
        let (mut checks, mut ids, start) = (Checks::default(), counter(), Instant::now());
        checks.add(candidate(1));
        checks.add(candidate(1));
        let mut sent = Vec::new();
        for milliseconds in 0..30_000 {
            let now = start + Duration::from_millis(milliseconds);
            if let Some((path, id, _)) = checks.poll(now, &mut ids) {
                assert_eq!((path.peer, id), (candidate(1), [1; 12]), "a repetition is the same request");
                sent.push(milliseconds);
            }
        }
        assert_eq!(sent, [0, 250, 750, 1750, 3750, 7750]);
    }

    #[test]
    fn many_candidates_are_not_sent_at_once_and_not_all() {
        let (mut checks, mut ids, start) = (Checks::default(), counter(), Instant::now());
        (1..100).for_each(|port| checks.add(candidate(port)));
        checks.add(SocketAddr::from(([255, 255, 255, 255], 9)));
        assert_eq!(checks.pairs.len(), MAX_PAIRS);
        let sent = (0..200).filter(|ms| checks.poll(start + Duration::from_millis(*ms), &mut ids).is_some());
        assert_eq!(sent.count(), 4, "one each 50 ms");
    }

    #[test]
    fn a_peers_check_is_answered_by_one_of_ours_at_once() {
        let (mut checks, mut ids, now) = (Checks::default(), counter(), Instant::now());
        checks.add(candidate(1));
        checks.poll(now, &mut ids).expect("the first");
        let path = Path::udp(candidate(2), [127, 0, 0, 1].into());
        checks.trigger(path);
        let (to, id, _) = checks.poll(now, &mut ids).expect("the triggered one is not paced");
        assert_eq!(to, path);
        assert_eq!(checks.answered(id, Path::udp(candidate(3), path.local), false), None, "from elsewhere");
        assert_eq!(checks.answered([9; 12], path, false), None, "not ours");
        assert_eq!(checks.answered(id, path, false), Some(false));
        checks.trigger(path);
        assert_eq!(checks.poll(now, &mut ids), None, "it is valid already");
    }

    #[test]
    fn a_controlling_agent_nominates_the_first_pair_that_works() {
        let (mut checks, mut ids, now) = (Checks::default(), counter(), Instant::now());
        checks.add(candidate(1));
        let (path, id, nominate) = checks.poll(now, &mut ids).expect("due");
        assert!(!nominate);
        assert_eq!(checks.answered(id, path, true), Some(false));
        let (again, id, nominate) = checks.poll(now, &mut ids).expect("the nomination, at once");
        assert!(nominate && again == path);
        assert_eq!(checks.answered(id, path, true), Some(true));
    }

    #[test]
    fn after_a_role_conflict_the_check_is_sent_again() {
        let (mut checks, mut ids, now) = (Checks::default(), counter(), Instant::now());
        checks.add(candidate(1));
        let (path, id, _) = checks.poll(now, &mut ids).expect("due");
        assert!(!checks.conflicted([7; 12]) && checks.conflicted(id));
        let (again, other, _) = checks.poll(now, &mut ids).expect("due at once");
        assert!(again == path && other != id);
    }
}
