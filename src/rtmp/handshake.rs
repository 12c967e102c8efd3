//! The handshake of RTMP 1.0 §5.2, simple or with digests, for both sides.
//!
//! The bytes are computed by `rml_rtmp`, which answers a peer's digest with one and a plain handshake
//! with an echo. Nothing here waits longer than the caller's timeout; nothing holds more than 5 KiB.

use bytes::BytesMut;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Why a handshake failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum HandshakeError {
    #[error("the peer does not speak RTMP")]
    NotRtmp,
    #[error("the peer closed the connection during the handshake")]
    Closed,
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Waits for a client's handshake and answers it. Gives the bytes that came after it.
pub(super) async fn accept<S>(stream: &mut S) -> Result<BytesMut, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    run(stream, Handshake::new(PeerType::Server)).await
}

/// Greets a server. Gives the bytes that came after its handshake.
pub(super) async fn connect<S>(stream: &mut S) -> Result<BytesMut, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut handshake = Handshake::new(PeerType::Client);
    let greeting = handshake.generate_outbound_p0_and_p1().map_err(|_| HandshakeError::NotRtmp)?;
    stream.write_all(&greeting).await?;
    stream.flush().await?;
    run(stream, handshake).await
}

async fn run<S>(stream: &mut S, mut handshake: Handshake) -> Result<BytesMut, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut input = [0; 2048];
    loop {
        let count = stream.read(&mut input).await?;
        if count == 0 {
            return Err(HandshakeError::Closed);
        }
        let result = catch_unwind(AssertUnwindSafe(|| handshake.process_bytes(&input[..count])));
        let (response, rest) = match result {
            Ok(Ok(HandshakeProcessResult::InProgress { response_bytes })) => (response_bytes, None),
            Ok(Ok(HandshakeProcessResult::Completed { response_bytes, remaining_bytes })) => {
                (response_bytes, Some(remaining_bytes))
            }
            Ok(Err(_)) | Err(_) => return Err(HandshakeError::NotRtmp),
        };
        if !response.is_empty() {
            stream.write_all(&response).await?;
            stream.flush().await?;
        }
        if let Some(rest) = rest {
            return Ok(BytesMut::from(&rest[..]));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn both_sides_understand_each_other() {
        let (mut client, mut server) = tokio::io::duplex(10_000);
        let (a, b) = tokio::join!(connect(&mut client), accept(&mut server));
        assert!(a.expect("done").is_empty() && b.expect("done").is_empty());
    }

    #[tokio::test]
    async fn a_simple_handshake_is_answered_with_an_echo_and_later_bytes_are_kept() {
        let (mut client, mut server) = tokio::io::duplex(10_000);
        let task = tokio::spawn(async move { accept(&mut server).await });
        let greeting: Vec<u8> = std::iter::once(3).chain([0; 8]).chain((0..1528).map(|n| n as u8)).collect();
        client.write_all(&greeting).await.expect("open");
        let mut answer = vec![0; 1 + 1536 + 1536];
        client.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(answer[1537..], greeting[1..]);
        client.write_all(&answer[1..1537]).await.expect("open");
        client.write_all(b"more").await.expect("open");
        let rest = task.await.expect("no panic").expect("done");
        assert!(b"more".starts_with(&rest[..]));
    }

    #[tokio::test]
    async fn http_is_not_rtmp() {
        let (mut client, mut server) = tokio::io::duplex(10_000);
        client.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("open");
        assert!(matches!(accept(&mut server).await, Err(HandshakeError::NotRtmp)));
    }
}
