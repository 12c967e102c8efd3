//! What Prometheus is told.
//!
//! Nearly all values are read from the rooms' own statistics when somebody asks; only HTTP requests, answered
//! events and panics are counted here. No label has more values than the program has words for them, unless
//! the operator wants series of single streams, and then those are bounded, too. Knows no HTTP.

mod gateway;
mod http;
mod panics;
mod process;
mod sheet;
mod streams;

pub use gateway::Sources;
pub use http::{HttpMetrics, Request};
pub use panics::count_panics;

use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use std::sync::Arc;

/// The media type of [`Metrics::prometheus`].
pub const PROMETHEUS: &str = prometheus_text::CONTENT_TYPE;
/// The media type of [`Metrics::open_metrics`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// All metrics of the process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http: Arc<HttpMetrics>,
}

impl Metrics {
    /// Metrics of these rooms; with `per_stream`, series of single streams as well.
    pub fn new(sources: Sources, per_stream: bool) -> Arc<Self> {
        let http = Arc::new(HttpMetrics::default());
        let mut registry = Registry::default();
        registry.register_collector(Box::new(process::Process::begin()));
        if per_stream {
            registry.register_collector(Box::new(streams::Streams(sources.hub.clone())));
        }
        registry.register_collector(Box::new(sources));
        registry.register_collector(Box::new(http::Shown(http.clone())));
        Arc::new(Self { registry, http })
    }

    /// Where HTTP requests are counted.
    pub fn http(&self) -> &HttpMetrics {
        &self.http
    }

    /// All values in the Prometheus text format 0.0.4.
    pub fn prometheus(&self) -> String {
        let mut page = String::new();
        prometheus_text::encode(&mut page, &self.registry).expect("a String takes all");
        page
    }

    /// All values in the OpenMetrics text format 1.0.0.
    pub fn open_metrics(&self) -> String {
        let mut page = String::new();
        text::encode(&mut page, &self.registry).expect("a String takes all");
        page
    }
}
