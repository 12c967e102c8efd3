//! Credentials, checks and restarts of one agent, in memory.

use super::super::stun::{Stun, request};
use super::*;
use rtc::crypto::{RTCCryptoProvider, default_provider};
use std::sync::Arc;
use std::time::Duration;

const THEIRS: &str = "0123456789012345678901";

fn provider() -> Arc<dyn RTCCryptoProvider> {
    default_provider().expect("a provider")
}

fn path() -> Path {
    Path::udp(SocketAddr::from(([192, 0, 2, 1], 5000)), [127, 0, 0, 1].into())
}

fn lite() -> Ice {
    Ice::new(IceMode::Lite, "them", THEIRS, false)
}

/// A check of the client's for what `ice` has told it.
fn check(fragments: (&str, &str), password: &str, role: (bool, u64), nominate: bool) -> Vec<u8> {
    let username = format!("{}:{}", fragments.0, fragments.1);
    request(rand::random(), username, role, nominate, password, provider().crypto()).expect("built")
}

fn good_check(ice: &Ice, nominate: bool) -> Vec<u8> {
    check((ice.fragment(), ice.remote().0), ice.password(), (true, 1), nominate)
}

#[test]
fn an_authentic_check_is_answered() {
    let (provider, mut ice) = (provider(), lite());
    for nominate in [false, true] {
        let request = good_check(&ice, nominate);
        let heard = ice.hear(&request, path(), provider.crypto()).expect("authentic");
        assert!(heard.proven && !heard.restarted);
        assert_eq!(heard.nominated, nominate);
        let reply = heard.reply.expect("an answer");
        assert!(reply.len() * 10 <= request.len() * 13);
        let mut response = Stun::read(&reply).expect("readable");
        assert_eq!((response.kind, &reply[8..20]), (Kind::Success, &request[8..20]));
        assert!(response.is_authentic(ice.password(), provider.crypto()));
    }
}

#[test]
fn anything_else_gets_no_answer() {
    let (provider, mut ice) = (provider(), lite());
    let good = good_check(&ice, false);
    let (fragment, password) = (ice.fragment().to_owned(), ice.password().to_owned());
    let mut answers = |data: &[u8]| ice.hear(data, path(), provider.crypto()).is_some();
    assert!(answers(&good));
    assert!(!answers(&check((&fragment, "them"), "wrong", (true, 1), false)));
    assert!(!answers(&check((&fragment, "else"), &password, (true, 1), false)));
    assert!(!answers(&check((&fragment, "themx"), &password, (true, 1), false)));
    assert!(!answers(&check(("", "them"), &password, (true, 1), false)));
    // The fingerprint is optional: without its type it is an attribute that does not count.
    for position in 0..good.len() - 8 {
        let mut changed = good.clone();
        changed[position] ^= 0x11;
        assert!(!answers(&changed), "byte {position}");
        assert!(!answers(&good[..position]));
    }
    let mut longer = good.clone();
    longer.extend([0; 4]);
    assert!(!answers(&longer));
}

#[test]
fn w37_after_a_restart_the_old_credentials_hold_until_the_new_ones_have_worked() {
    let (provider, mut ice) = (provider(), lite());
    let old = good_check(&ice, false);
    ice.restart("newer", "9876543210987654321098");
    assert_eq!(ice.fragments().count(), 2);
    let heard = ice.hear(&old, path(), provider.crypto()).expect("still valid");
    assert!(heard.proven && !heard.restarted);
    let new = good_check(&ice, false);
    let forged = check((ice.fragment(), "newer"), "wrong", (true, 1), false);
    assert!(ice.hear(&forged, path(), provider.crypto()).is_none());
    assert!(ice.hear(&old, path(), provider.crypto()).is_some(), "a forged check has changed nothing");
    assert!(ice.hear(&new, path(), provider.crypto()).expect("valid").restarted);
    assert!(!ice.hear(&new, path(), provider.crypto()).expect("valid").restarted, "once");
    assert!(ice.hear(&old, path(), provider.crypto()).is_none());
    assert!(ice.is_past("them") && !ice.is_past("newer"));
}

#[test]
fn w38_of_two_restarts_the_later_counts_and_the_first_session_lives_on_until_then() {
    let (provider, mut ice) = (provider(), lite());
    let first = good_check(&ice, false);
    ice.restart("second", THEIRS);
    let second = good_check(&ice, false);
    ice.restart("third", THEIRS);
    let third = good_check(&ice, false);
    assert!(ice.hear(&second, path(), provider.crypto()).is_none(), "never used, replaced");
    assert!(ice.hear(&first, path(), provider.crypto()).is_some());
    assert!(ice.hear(&third, path(), provider.crypto()).expect("valid").restarted);
    assert!(ice.is_past("them") && ice.is_past("second"));
}

/// What a client does that only answers checks.
fn answer(client: (&str, &str), check: &[u8]) -> Vec<u8> {
    let provider = provider();
    let mut message = Stun::read(check).expect("readable");
    assert_eq!(message.kind, Kind::Request);
    assert!(message.username.starts_with(format!("{}:", client.0).as_bytes()));
    assert!(message.is_authentic(client.1, provider.crypto()), "signed with the client's password");
    message.success(path().peer, client.1, provider.crypto()).expect("an answer")
}

#[test]
fn a_full_agent_reaches_a_client_that_sends_nothing_first() {
    let (provider, start) = (provider(), Instant::now());
    let mut ice = Ice::new(IceMode::Full, "them", THEIRS, false);
    ice.add_candidate(path().peer);
    let (to, lost) = ice.poll_check(start, provider.crypto()).expect("due");
    assert_eq!(to.peer, path().peer);
    assert!(ice.poll_check(start, provider.crypto()).is_none());
    // The first is lost.
    let (_, again) =
        ice.poll_check(start + Duration::from_millis(300), provider.crypto()).expect("due again");
    assert_eq!(lost, again);
    let response = answer(("them", THEIRS), &again);
    let mut forged = response.clone();
    forged[30] ^= 1;
    assert!(ice.hear(&forged, path(), provider.crypto()).is_none());
    let elsewhere = Path::udp(SocketAddr::from(([192, 0, 2, 66], 5000)), path().local);
    assert!(ice.hear(&response, elsewhere, provider.crypto()).is_none(), "not from where the check went");
    let heard = ice.hear(&response, path(), provider.crypto()).expect("authentic");
    assert!(heard.proven && heard.reply.is_none() && !heard.nominated, "the client nominates, it controls");
    let nominating = good_check(&ice, true);
    assert!(ice.hear(&nominating, path(), provider.crypto()).expect("authentic").nominated);
}

#[test]
fn a_lite_agent_sends_no_checks() {
    let mut ice = lite();
    ice.add_candidate(path().peer);
    assert!(ice.is_lite() && ice.poll_check(Instant::now(), provider().crypto()).is_none());
    assert!(ice.consent_check(provider().crypto()).is_none());
}

#[test]
fn with_a_lite_client_we_control_and_nominate() {
    let (provider, now) = (provider(), Instant::now());
    let mut ice = Ice::new(IceMode::Full, "them", THEIRS, true);
    ice.add_candidate(path().peer);
    let (_, first) = ice.poll_check(now, provider.crypto()).expect("due");
    let read = Stun::read(&first).expect("readable");
    assert_eq!((read.role.map(|role| role.0), read.nominates), (Some(true), false));
    ice.hear(&answer(("them", THEIRS), &first), path(), provider.crypto()).expect("authentic");
    let (_, second) = ice.poll_check(now, provider.crypto()).expect("the nomination");
    assert!(Stun::read(&second).expect("readable").nominates);
    let heard = ice.hear(&answer(("them", THEIRS), &second), path(), provider.crypto()).expect("authentic");
    assert!(heard.proven && heard.nominated);
}

#[test]
fn a_role_conflict_is_won_by_the_larger_tie_breaker() {
    let provider = provider();
    // We control; so does the client.
    for (tie_breaker, refused) in [(0, true), (u64::MAX, false)] {
        let mut ice = Ice::new(IceMode::Full, "them", THEIRS, true);
        let check = check((ice.fragment(), "them"), ice.password(), (true, tie_breaker), false);
        let heard = ice.hear(&check, path(), provider.crypto()).expect("authentic");
        assert_eq!(heard.proven, !refused);
        let mut reply = Stun::read(&heard.reply.expect("an answer")).expect("readable");
        assert_eq!(reply.kind, if refused { Kind::Error(487) } else { Kind::Success });
        assert!(reply.is_authentic(ice.password(), provider.crypto()));
        assert_eq!(ice.full.as_ref().map(|full| full.controlling), Some(refused), "else we give way");
    }
    // We are controlled; so is the client.
    for (tie_breaker, refused) in [(0, false), (u64::MAX, true)] {
        let mut ice = Ice::new(IceMode::Full, "them", THEIRS, false);
        let check = check((ice.fragment(), "them"), ice.password(), (false, tie_breaker), false);
        let heard = ice.hear(&check, path(), provider.crypto()).expect("authentic");
        assert_eq!(
            (heard.proven, ice.full.as_ref().map(|full| full.controlling)),
            (!refused, Some(!refused))
        );
    }
}

#[test]
fn a_client_that_refuses_our_role_gets_its_way() {
    let (provider, now) = (provider(), Instant::now());
    let mut ice = Ice::new(IceMode::Full, "them", THEIRS, true);
    ice.add_candidate(path().peer);
    let (_, first) = ice.poll_check(now, provider.crypto()).expect("due");
    let message = Stun::read(&first).expect("readable");
    let refusal = message.role_conflict(THEIRS, provider.crypto()).expect("built");
    assert!(!ice.hear(&refusal, path(), provider.crypto()).expect("authentic").proven);
    let (_, second) = ice.poll_check(now, provider.crypto()).expect("again, at once");
    assert_eq!(Stun::read(&second).expect("readable").role.map(|role| role.0), Some(false));
}

#[test]
fn consent_is_asked_for_and_its_answer_counts_once() {
    let provider = provider();
    let mut ice = Ice::new(IceMode::Full, "them", THEIRS, false);
    let check = ice.consent_check(provider.crypto()).expect("full");
    let response = answer(("them", THEIRS), &check);
    assert!(ice.hear(&response, path(), provider.crypto()).expect("authentic").proven);
    assert!(ice.hear(&response, path(), provider.crypto()).is_none(), "replayed");
}
