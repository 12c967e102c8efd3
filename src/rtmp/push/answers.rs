//! What a server says: pings, acknowledgements, refusals.

use super::dialer::Transport;
use super::{PushError, PushUrl, WINDOW};
use crate::rtmp::chunk::{ChunkReader, Message, control_number, kind};
use crate::rtmp::command::Command;
use tokio::io::{AsyncReadExt, ReadHalf};
use tokio::sync::mpsc;

/// What the listening task tells the writing side.
pub(super) enum News {
    /// A ping to answer: its four bytes.
    Ping([u8; 4]),
    /// Bytes received, to acknowledge.
    Received(u64),
    Failed(PushError),
}

/// Reads what the server says during the show.
pub(super) async fn listen(
    mut input: ReadHalf<Box<dyn Transport>>,
    mut reader: ChunkReader,
    news: mpsc::Sender<News>,
    url: PushUrl,
) {
    let (mut window, mut acknowledged) = (u64::from(WINDOW), 0);
    let error = 'show: loop {
        loop {
            let message = match reader.next_message() {
                Ok(Some(message)) => message,
                Ok(None) => break,
                Err(error) => break 'show protocol(error),
            };
            if message.kind == kind::WINDOW_SIZE
                && let Ok(size) = control_number(&message.data)
            {
                window = u64::from(size).clamp(16 * 1024, 1 << 30);
            }
            if let Some(ping) = ping(&message)
                && news.send(News::Ping(ping)).await.is_err()
            {
                return;
            }
            match to_command(&message) {
                Ok(Some(command)) => {
                    if let Some(refusal) = refusal(&command, &url) {
                        break 'show refusal;
                    }
                }
                Ok(None) => {}
                Err(error) => break 'show error,
            }
        }
        if reader.received() - acknowledged >= window / 2 {
            acknowledged = reader.received();
            if news.send(News::Received(acknowledged)).await.is_err() {
                return;
            }
        }
        reader.input().reserve(4096);
        match input.read_buf(reader.input()).await {
            Ok(count) if count > 0 => {}
            Err(error) if error.kind() == std::io::ErrorKind::TimedOut => {
                break PushError::Silent("the show");
            }
            _ => break PushError::Closed("the show"),
        }
    };
    // If nobody hears it, the push is over already.
    let _ = news.send(News::Failed(error)).await;
}

pub(super) fn protocol(error: impl std::fmt::Display) -> PushError {
    PushError::Protocol(error.to_string())
}

pub(super) fn ping(message: &Message) -> Option<[u8; 4]> {
    match &message.data[..] {
        [0, 6, timestamp @ ..] if message.kind == kind::USER_CONTROL => timestamp.first_chunk().copied(),
        _ => None,
    }
}

pub(super) fn to_command(message: &Message) -> Result<Option<Command>, PushError> {
    match message.kind {
        kind::COMMAND | kind::COMMAND_AMF3 => {
            Command::parse(message.kind, &message.data).map(Some).map_err(protocol)
        }
        _ => Ok(None),
    }
}

/// A refusal, with what is secret of `url` taken out of the server's words.
pub(super) fn refusal(command: &Command, url: &PushUrl) -> Option<PushError> {
    let failed = match command.name.as_str() {
        "_error" | "close" => true,
        "onStatus" => command.property("level") == Some("error"),
        _ => false,
    };
    if !failed {
        return None;
    }
    let clean = |text: Option<&str>| -> String {
        url.scrub(text.unwrap_or_default()).chars().filter(|c| !c.is_control()).take(200).collect()
    };
    let code = clean(command.property("code"));
    let code = if code.is_empty() { command.name.clone() } else { code };
    Some(PushError::Rejected { code, description: clean(command.property("description")) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtmp::amf;
    use rml_rtmp::rml_amf0::Amf0Value;

    #[test]
    fn a_refusal_never_repeats_the_key() {
        let information = amf::object([
            ("level", amf::text("error")),
            ("code", amf::text("NetStream.Publish.BadName")),
            ("description", amf::text("canary is\nalready publishing")),
        ]);
        let command = Command {
            name: "onStatus".into(),
            transaction: 0.0,
            object: Amf0Value::Null,
            arguments: vec![information],
        };
        let url = "rtmp://host/app/canary".parse().expect("valid");
        let error = refusal(&command, &url).expect("a refusal");
        assert!(error.is_name_taken());
        let text = error.to_string();
        assert_eq!(text, "the server refused: NetStream.Publish.BadName *** isalready publishing");
    }
}
