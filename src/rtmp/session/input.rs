//! Reading without a buffer a connection: one a thread is lent to whoever has bytes to read.
//!
//! A connection holds it from [`fill`] to [`release`], between which nothing is awaited; while it waits it
//! keeps only the bytes of a header that is not whole.

use bytes::BytesMut;
use std::cell::RefCell;
use std::io;
use std::mem;
use std::pin::pin;
use std::task::{Poll, ready};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Bytes read at once, at most.
const READ_SIZE: usize = 64 * 1024;
/// Less than this is no buffer worth lending.
const SMALL: usize = 1024;

thread_local! {
    static SPARE: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Waits for bytes and appends them to `input`; 0: the peer has closed. Cancel safe.
pub(super) async fn fill<R: AsyncRead + Unpin>(
    connection: &mut R,
    input: &mut BytesMut,
) -> io::Result<usize> {
    std::future::poll_fn(|context| {
        SPARE.with_borrow_mut(|spare| {
            spare.clear();
            spare.reserve(READ_SIZE);
            spare.extend_from_slice(input);
            let read = pin!(connection.read_buf(spare));
            let count = ready!(read.poll(context))?;
            mem::swap(spare, input);
            Poll::Ready(Ok(count))
        })
    })
    .await
}

/// Gives the lent buffer back; what is left in `input` moves to one of its own size.
pub(super) fn release(input: &mut BytesMut) {
    // What was consumed is no capacity any more, until it is reclaimed.
    if input.len() < SMALL && input.try_reclaim(SMALL) {
        let rest = if input.is_empty() { BytesMut::new() } else { BytesMut::from(&input[..]) };
        let lent = mem::replace(input, rest);
        SPARE.with_borrow_mut(|spare| {
            if lent.capacity() > spare.capacity() {
                *spare = lent;
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Buf;
    use tokio::io::AsyncWriteExt;

    #[tokio::test]
    async fn a_connection_that_waits_holds_only_what_it_could_not_use() {
        let (mut peer, mut connection) = tokio::io::duplex(256 * 1024);
        let mut input = BytesMut::new();
        peer.write_all(&[7; 50_000]).await.expect("room");
        assert_eq!(fill(&mut connection, &mut input).await.expect("open"), 50_000);
        input.advance(49_990);
        release(&mut input);
        assert_eq!((&input[..], input.capacity() < SMALL), (&[7; 10][..], true));
        peer.write_all(&[8; 5]).await.expect("room");
        assert_eq!(fill(&mut connection, &mut input).await.expect("open"), 5);
        assert_eq!(input[..], [[7; 10].as_slice(), &[8; 5]].concat());
        input.clear();
        release(&mut input);
        assert_eq!(input.capacity(), 0);
        // A read that fills the buffer, consumed to the last byte.
        peer.write_all(&[9; READ_SIZE]).await.expect("room");
        let mut count = 0;
        while count < READ_SIZE {
            count += fill(&mut connection, &mut input).await.expect("open");
            input.advance(input.len());
            release(&mut input);
        }
        assert!(!input.try_reclaim(1), "nothing is held");
        assert!(SPARE.with_borrow_mut(|spare| spare.try_reclaim(READ_SIZE)), "the one buffer is back");
        drop(peer);
        assert_eq!(fill(&mut connection, &mut input).await.expect("closed in order"), 0);
    }
}
