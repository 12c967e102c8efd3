//! A client of server-sent events (WHATWG HTML §9.2).

use std::time::Duration;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;

/// One event as it was told.
#[derive(Clone, Debug)]
pub struct Told {
    pub id: Option<String>,
    pub event: String,
    pub data: Value,
}

/// An open stream of events.
pub struct EventStream {
    response: Response,
    text: String,
}

impl EventStream {
    /// Sends `request` and waits for the first words, so that nothing from now on is missed.
    pub async fn open(request: RequestBuilder) -> Self {
        let response = request.send().await.expect("an answer");
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut stream = Self { response, text: String::new() };
        stream.more().await.expect("the first words");
        stream
    }

    /// The next event; `None` at the end of the stream. Panics after `limit`.
    pub async fn next(&mut self, limit: Duration) -> Option<Told> {
        tokio::time::timeout(limit, self.read()).await.unwrap_or_else(|_| panic!("no event within {limit:?}"))
    }

    /// The next event of the type `event`; what comes before it is given, too, the wanted last.
    pub async fn until(&mut self, event: &str, limit: Duration) -> Vec<Told> {
        let mut told: Vec<Told> = Vec::new();
        let deadline = tokio::time::Instant::now() + limit;
        while told.last().is_none_or(|last| last.event != event) {
            let next = tokio::time::timeout_at(deadline, self.read()).await;
            let names: Vec<_> = told.iter().map(|told| told.event.clone()).collect();
            let next = next.unwrap_or_else(|_| panic!("no {event} within {limit:?}, but {names:?}"));
            told.push(next.unwrap_or_else(|| panic!("the stream ended before {event}, after {names:?}")));
        }
        told
    }

    async fn read(&mut self) -> Option<Told> {
        loop {
            while let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                if let Some(told) = parse(&block) {
                    return Some(told);
                }
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Option<()> {
        let chunk = self.response.chunk().await.expect("an unbroken stream")?;
        self.text += std::str::from_utf8(&chunk).expect("text");
        Some(())
    }
}

/// One block; `None` for comments and `retry`.
fn parse(block: &str) -> Option<Told> {
    let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let data = serde_json::from_str(field("data")?).expect("JSON");
    Some(Told { id: field("id").map(str::to_owned), event: field("event")?.to_owned(), data })
}
