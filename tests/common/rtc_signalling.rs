//! [`RtcClient`]s at the server under test.

use super::Server;
use super::rtc_client::{RtcClient, RtcOptions};

impl RtcClient {
    /// A WHIP publisher; panics unless the offer is answered 201.
    pub async fn publish(server: &Server, stream: &str, options: RtcOptions) -> Self {
        Self::expect(Self::try_publish(server, stream, options).await).await
    }

    /// A WHEP viewer; panics unless the offer is answered 201.
    pub async fn view(server: &Server, stream: &str, options: RtcOptions) -> Self {
        Self::expect(Self::try_view(server, stream, options).await).await
    }

    /// A WHIP publisher, or the response that refused it.
    pub async fn try_publish(
        server: &Server,
        stream: &str,
        options: RtcOptions,
    ) -> Result<Self, reqwest::Response> {
        Self::post(&server.client, &server.url(&format!("/{stream}/whip")), true, options).await
    }

    /// A WHEP viewer, or the response that refused it.
    pub async fn try_view(
        server: &Server,
        stream: &str,
        options: RtcOptions,
    ) -> Result<Self, reqwest::Response> {
        Self::post(&server.client, &server.url(&format!("/{stream}/whep")), false, options).await
    }

    async fn expect(outcome: Result<Self, reqwest::Response>) -> Self {
        match outcome {
            Ok(client) => client,
            Err(response) => {
                let (url, status) = (response.url().clone(), response.status());
                panic!("POST {url}: {status} {}", response.text().await.unwrap_or_default());
            }
        }
    }
}
