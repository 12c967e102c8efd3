//! Which protection profiles a DTLS ClientHello offers, put together from its fragments.
//!
//! `rtc::dtls` as server follows the client's order of profiles, and Chromium's puts the slower one
//! first; so the offer is read before a configuration is chosen. A post-quantum key share makes the hello
//! longer than one datagram. Reads only; the datagrams go to the DTLS endpoint afterwards unchanged.

/// Longest hello put together; Chromium's has 1.4 kB.
const MAX_HELLO: usize = 4096;
/// Datagrams held before we go on without having understood.
const MAX_DATAGRAMS: usize = 8;

/// Collects the datagrams of a hello.
#[derive(Debug, Default)]
pub(super) struct HelloReader {
    datagrams: Vec<Vec<u8>>,
    body: Vec<u8>,
    have: Vec<bool>,
}

/// What [`HelloReader::push`] found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Hello {
    /// Fragments are missing.
    Incomplete,
    /// The ids of the `use_srtp` extension (RFC 5764 §4.1.1) in the client's order; empty if there is no
    /// such extension or the hello can't be understood. With the datagrams held so far.
    Offered(Vec<u16>, Vec<Vec<u8>>),
}

impl HelloReader {
    /// Takes one datagram.
    pub(super) fn push(&mut self, datagram: &[u8]) -> Hello {
        self.datagrams.push(datagram.to_vec());
        let complete = self.collect(datagram);
        if complete == Some(false) && self.datagrams.len() < MAX_DATAGRAMS {
            return Hello::Incomplete;
        }
        let profiles = complete.filter(|complete| *complete).and_then(|_| use_srtp(&self.body));
        Hello::Offered(profiles.unwrap_or_default(), std::mem::take(&mut self.datagrams))
    }

    /// Adds the fragments in `datagram`; whether the hello is complete. `None`: this is no hello.
    fn collect(&mut self, datagram: &[u8]) -> Option<bool> {
        let mut records = Reader(datagram);
        while !records.0.is_empty() {
            // RFC 6347 §4.1: type, version, epoch, sequence number, length.
            let kind = records.take(1)?[0];
            records.take(10)?;
            let mut record = Reader(records.sized16()?);
            if kind != 22 {
                return None;
            }
            while !record.0.is_empty() {
                // RFC 6347 §4.2.2: type, length, message sequence, fragment offset and length.
                let message = record.take(1)?[0];
                let length = record.number24()?;
                record.take(2)?;
                let (offset, size) = (record.number24()?, record.number24()?);
                let fragment = record.take(size)?;
                let same = self.body.is_empty() || self.body.len() == length;
                if message != 1 || length > MAX_HELLO || offset + size > length || !same {
                    return None;
                }
                self.body.resize(length, 0);
                self.have.resize(length, false);
                self.body[offset..offset + size].copy_from_slice(fragment);
                self.have[offset..offset + size].fill(true);
            }
        }
        Some(!self.have.is_empty() && self.have.iter().all(|have| *have))
    }
}

/// The profiles of the `use_srtp` extension in the body of a ClientHello.
fn use_srtp(body: &[u8]) -> Option<Vec<u16>> {
    let mut hello = Reader(body);
    hello.take(2 + 32)?; // version, random
    hello.sized8()?; // session id
    hello.sized8()?; // cookie
    hello.sized16()?; // cipher suites
    hello.sized8()?; // compression methods
    let mut extensions = Reader(hello.sized16()?);
    while !extensions.0.is_empty() {
        let kind = extensions.number16()?;
        let mut value = Reader(extensions.sized16()?);
        if kind == 14 {
            let profiles = value.sized16()?;
            return Some(profiles.chunks_exact(2).map(|id| u16::from_be_bytes([id[0], id[1]])).collect());
        }
    }
    None
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn number16(&mut self) -> Option<u16> {
        self.take(2).map(|bytes| u16::from_be_bytes([bytes[0], bytes[1]]))
    }

    fn number24(&mut self) -> Option<usize> {
        self.take(3).map(|b| usize::from(b[0]) << 16 | usize::from(b[1]) << 8 | usize::from(b[2]))
    }

    fn sized8(&mut self) -> Option<&'a [u8]> {
        let size = self.take(1)?[0];
        self.take(usize::from(size))
    }

    fn sized16(&mut self) -> Option<&'a [u8]> {
        let size = self.number16()?;
        self.take(usize::from(size))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(filler: usize) -> Vec<u8> {
        let mut extensions = vec![0, 21];
        extensions.extend((filler as u16).to_be_bytes());
        extensions.resize(extensions.len() + filler, 0);
        extensions.extend([0, 14, 0, 7, 0, 4, 0, 1, 0, 7, 0]);
        let mut body = vec![0xfe, 0xfd];
        body.extend([9; 32]);
        body.extend([0, 0, 0, 2, 0xc0, 0x2b, 1, 0]);
        body.extend((extensions.len() as u16).to_be_bytes());
        body.extend(extensions);
        body
    }

    fn record(body: &[u8], offset: usize, size: usize) -> Vec<u8> {
        let number24 = |number: usize| (number as u32).to_be_bytes()[1..].to_vec();
        let mut message = vec![1];
        message.extend(number24(body.len()));
        message.extend([0, 0]);
        message.extend(number24(offset));
        message.extend(number24(size));
        message.extend(&body[offset..offset + size]);
        let mut record = vec![22, 0xfe, 0xff, 0, 0, 0, 0, 0, 0, 0, 0];
        record.extend((message.len() as u16).to_be_bytes());
        record.extend(message);
        record
    }

    #[test]
    fn a_hello_in_one_datagram_is_read() {
        let body = body(0);
        let whole = record(&body, 0, body.len());
        assert_eq!(HelloReader::default().push(&whole), Hello::Offered(vec![1, 7], vec![whole]));
    }

    #[test]
    fn fragments_are_put_together_in_any_order() {
        let body = body(1400);
        let (first, second) = (record(&body, 0, 1200), record(&body, 1200, body.len() - 1200));
        for order in [[&first, &second], [&second, &first]] {
            let mut reader = HelloReader::default();
            assert_eq!(reader.push(order[0]), Hello::Incomplete);
            assert_eq!(reader.push(order[0]), Hello::Incomplete, "a repetition");
            let Hello::Offered(profiles, held) = reader.push(order[1]) else { panic!("complete") };
            assert_eq!((profiles, held.len()), (vec![1, 7], 3));
        }
    }

    #[test]
    fn broken_hellos_are_handed_on_and_not_held() {
        let body = body(0);
        let good = record(&body, 0, body.len());
        for length in 0..good.len() {
            let Hello::Offered(profiles, held) = HelloReader::default().push(&good[..length]) else {
                continue;
            };
            assert!(profiles.is_empty() && held.len() == 1);
        }
        let mut lying = good.clone();
        lying[19] = 0xff; // the fragment's offset
        assert_eq!(HelloReader::default().push(&lying), Hello::Offered(vec![], vec![lying]));
        let part = record(&body, 0, 10);
        let mut reader = HelloReader::default();
        for _ in 1..MAX_DATAGRAMS {
            assert_eq!(reader.push(&part), Hello::Incomplete);
        }
        assert!(matches!(reader.push(&part), Hello::Offered(profiles, _) if profiles.is_empty()));
    }
}
