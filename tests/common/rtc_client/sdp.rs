//! The few things that tests read from and change in SDP, as text.

use std::net::SocketAddr;

/// The value of the first `a=name:value` line.
pub fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':'))
}

/// ICE user fragment and password of an offer, answer or fragment.
pub fn credentials(sdp: &str) -> (String, String) {
    let read = |name| attribute(sdp, name).unwrap_or_else(|| panic!("no {name} in\n{sdp}")).to_owned();
    (read("ice-ufrag"), read("ice-pwd"))
}

/// The addresses of the candidates over `transport` (`udp`, `tcp`), without repetition.
pub fn candidates(sdp: &str, transport: &str) -> Vec<SocketAddr> {
    let mut found = Vec::new();
    for line in sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:")) {
        let words: Vec<_> = line.split_whitespace().collect();
        let [_, _, protocol, _, ip, port, ..] = words[..] else { continue };
        let (Ok(ip), Ok(port)) = (ip.parse(), port.parse()) else { continue };
        let address = SocketAddr::new(ip, port);
        if protocol.eq_ignore_ascii_case(transport) && !found.contains(&address) {
            found.push(address);
        }
    }
    found
}

/// `sdp` without the lines that begin with `prefix`.
pub fn lines_without(sdp: &str, prefix: &str) -> String {
    sdp.split_inclusive('\n').filter(|line| !line.starts_with(prefix)).collect()
}

/// The fragment (RFC 8840 §9) that tells the credentials and candidates of an offer.
pub fn fragment_of(offer: &str) -> String {
    let (ufrag, pwd) = credentials(offer);
    let first = |prefix| offer.lines().find(|line| line.starts_with(prefix)).unwrap_or_default();
    let mut fragment = format!(
        "{}\r\n{}\r\n{}\r\na=ice-ufrag:{ufrag}\r\na=ice-pwd:{pwd}\r\n",
        first("a=group:"),
        first("m="),
        first("a=mid:")
    );
    let mut told = Vec::new();
    for line in offer.lines().filter(|line| line.starts_with("a=candidate:")) {
        if !told.contains(&line) {
            told.push(line);
            fragment.extend([line, "\r\n"]);
        }
    }
    fragment + "a=end-of-candidates\r\n"
}

/// `answer` with the credentials of `fragment`, and its candidates if it has any.
pub(super) fn answer_after_restart(answer: &str, fragment: &str) -> String {
    let (ufrag, pwd) = credentials(fragment);
    let candidates: Vec<_> = fragment.lines().filter(|line| line.starts_with("a=candidate:")).collect();
    let mut changed = String::new();
    for line in answer.lines() {
        if line.starts_with("a=ice-ufrag:") {
            changed.push_str(&format!("a=ice-ufrag:{ufrag}\r\n"));
        } else if line.starts_with("a=ice-pwd:") {
            changed.push_str(&format!("a=ice-pwd:{pwd}\r\n"));
            candidates.iter().for_each(|line| changed.extend([line, "\r\n"]));
        } else if candidates.is_empty() || !line.starts_with("a=candidate:") {
            changed.extend([line, "\r\n"]);
        }
    }
    changed
}
