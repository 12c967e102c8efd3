//! User name and password by Adobe's challenge (`authmod=adobe`), answered as FFmpeg and librtmp do.
//!
//! A server that wants it rejects `connect`, says in its words what it wants, and closes. So there are up to three
//! connections: one as the URL was typed, one that names the user, one with the answer to the challenge. In the
//! last two the password itself is not sent. Pure: chance is an argument.

use super::{PushError, PushUrl};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use md5::{Digest, Md5};

/// What is sent with `connect`, and how far the dialogue is.
pub(super) struct Login<'a> {
    url: &'a PushUrl,
    /// What stands behind the application's name; empty at first.
    query: String,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing was asked for yet.
    Silent,
    /// The user is named.
    Named,
    /// The challenge is answered.
    Answered,
}

impl<'a> Login<'a> {
    /// Begins as if nothing were asked for.
    pub(super) fn new(url: &'a PushUrl) -> Self {
        Self { url, query: String::new(), stage: Stage::Silent }
    }

    /// The application, as `connect` names it.
    pub(super) fn app(&self) -> String {
        self.with_query(self.url.app.reveal().to_owned())
    }

    /// The `tcUrl`. Where a challenge stands for the password, the password stays out of it.
    pub(super) fn tc_url(&self) -> String {
        match self.stage {
            Stage::Silent => self.url.tc_url(),
            Stage::Named | Stage::Answered => self.with_query(self.url.tc_url_without_user()),
        }
    }

    /// The server has rejected `connect` in these words. True: it may take the next one. False: they are about
    /// something else. An error says what the operator must change.
    pub(super) fn rejected(&mut self, words: &str, chance: u32) -> Result<bool, PushError> {
        if !words.contains("authmod=adobe") {
            return Ok(false);
        }
        let Some((user, password)) = self.url.credentials() else {
            return Err(refused(
                "it wants a user name and a password: write them into the URL, rtmp://USER:PASSWORD@host/app/key",
            ));
        };
        if words.contains("?reason=authfailed") || words.contains("?reason=nosuchuser") {
            return Err(refused("it does not know this user name with this password"));
        }
        match (self.stage, words.split_once("?reason=needauth")) {
            (Stage::Silent, None) if words.contains("code=403 need auth") => {
                self.query = format!("authmod=adobe&user={user}");
                self.stage = Stage::Named;
            }
            (Stage::Silent | Stage::Named, Some((_, challenge))) => {
                self.query = answer(challenge, user, password, chance);
                self.stage = Stage::Answered;
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn with_query(&self, mut text: String) -> String {
        if !self.query.is_empty() {
            text.push(if text.contains('?') { '&' } else { '?' });
            text.push_str(&self.query);
        }
        text
    }
}

/// The answer to a challenge, `&salt=…&challenge=…&opaque=…`, of which the last may be missing.
fn answer(challenge: &str, user: &str, password: &str, chance: u32) -> String {
    let field = |name: &str| {
        let mut fields = challenge.split('&').filter_map(|field| field.split_once('='));
        fields.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
    };
    // The server may write the name in its own way.
    let user = field("user").unwrap_or(user);
    let opaque = field("opaque");
    let ours = format!("{chance:08x}");
    let secret = hash(&[user, field("salt").unwrap_or_default(), password]);
    let response = hash(&[&secret, opaque.or(field("challenge")).unwrap_or_default(), &ours]);
    let opaque = opaque.map(|opaque| format!("&opaque={opaque}")).unwrap_or_default();
    format!("authmod=adobe&user={user}&challenge={ours}&response={response}{opaque}")
}

fn hash(parts: &[&str]) -> String {
    let mut hash = Md5::new();
    parts.iter().for_each(|part| hash.update(part));
    STANDARD.encode(hash.finalize())
}

fn refused(description: &str) -> PushError {
    PushError::Rejected {
        code: "NetConnection.Connect.Rejected".to_owned(),
        description: description.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEED: &str = "[ AccessManager.Reject ] : [ code=403 need auth; authmod=adobe ] : ";
    const CHALLENGE: &str = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=needauth&user=me&salt=salt1\
        &challenge=challenge1&opaque=opaque1";

    fn url(text: &str) -> PushUrl {
        text.parse().expect("valid")
    }

    #[test]
    fn the_challenge_is_answered_as_others_do() {
        let url = url("rtmp://me:pass:word@host/live/key");
        let mut login = Login::new(&url);
        assert_eq!((login.app().as_str(), login.tc_url()), ("live", "rtmp://me:pass:word@host/live".into()));
        assert_eq!(login.rejected(NEED, 42), Ok(true));
        assert_eq!(login.app(), "live?authmod=adobe&user=me");
        assert_eq!(login.tc_url(), "rtmp://host/live?authmod=adobe&user=me");
        assert_eq!(login.rejected(NEED, 42), Ok(false), "it turns in circles");
        assert_eq!(login.rejected(CHALLENGE, 42), Ok(true));
        // Reckoned with Python's hashlib.
        let answered =
            "authmod=adobe&user=me&challenge=0000002a&response=BffZJ1ZSOioz4LJ6f9ykYA==&opaque=opaque1";
        assert_eq!(login.app(), format!("live?{answered}"));
        assert_eq!(login.rejected(CHALLENGE, 42), Ok(false), "once is enough");
        let plain = answer("&salt=salt1&challenge=challenge1", "me", "pass:word", 42);
        assert_eq!(plain, "authmod=adobe&user=me&challenge=0000002a&response=zzq4RLpSWOWUNPVXUgMpNQ==");
    }

    #[test]
    fn what_is_not_about_a_login_is_left_alone_and_what_is_wrong_is_said() {
        let (known, nobody) = (url("rtmp://me:pw@host/live?x=1/key"), url("rtmp://host/live/key"));
        assert_eq!(Login::new(&known).rejected("the application is closed", 0), Ok(false));
        assert_eq!(Login::new(&nobody).rejected("the application is closed", 0), Ok(false));
        let error = Login::new(&nobody).rejected(NEED, 0).expect_err("nobody is named").to_string();
        assert!(error.contains("rtmp://USER:PASSWORD@"), "{error}");
        let wrong = "[ AccessManager.Reject ] : [ authmod=adobe ] : ?reason=authfailed&opaque=x";
        let mut login = Login::new(&known);
        let error = login.rejected(wrong, 0).expect_err("wrong");
        assert!(error.is_refusal() && error.to_string().contains("password"), "{error}");
        login.rejected(NEED, 0).expect("named");
        assert_eq!(login.app(), "live?x=1&authmod=adobe&user=me");
    }
}
