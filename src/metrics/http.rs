//! HTTP requests, by route.

use super::sheet::{Buckets, Label, Sheet};
use parking_lot::RwLock;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper bounds of the durations, in seconds: playlists and parts take less than the first, held ones up to
/// some seconds.
const BOUNDS: [f64; 11] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 2.5, 10.0];
const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "other"];
const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Requests that were answered.
#[derive(Debug, Default)]
pub struct HttpMetrics {
    /// By pattern: there are as many as the program has routes.
    routes: RwLock<BTreeMap<String, Arc<Route>>>,
}

/// One request that was answered.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The pattern that its path fits, such as `/{stream}/whep`.
    pub route: &'a str,
    /// `GET` …
    pub method: &'a str,
    /// The status.
    pub status: u16,
    /// From its headers to those of the answer.
    pub duration: Duration,
    /// The length of the answer's body, where it is known beforehand.
    pub body: u64,
}

#[derive(Debug, Default)]
struct Route {
    requests: [[AtomicU64; CLASSES.len()]; METHODS.len()],
    durations: [AtomicU64; BOUNDS.len() + 1],
    microseconds: AtomicU64,
    bytes: AtomicU64,
}

impl HttpMetrics {
    /// Counts a request.
    pub fn count(&self, request: Request<'_>) {
        let known = self.routes.read().get(request.route).cloned();
        let route =
            known.unwrap_or_else(|| self.routes.write().entry(request.route.to_owned()).or_default().clone());
        route.count(&request);
    }
}

impl Route {
    fn count(&self, request: &Request<'_>) {
        let method = METHODS.iter().position(|method| *method == request.method);
        let class = usize::from(request.status / 100).clamp(1, CLASSES.len()) - 1;
        self.requests[method.unwrap_or(METHODS.len() - 1)][class].fetch_add(1, Relaxed);
        let seconds = request.duration.as_secs_f64();
        self.durations[BOUNDS.partition_point(|bound| *bound < seconds)].fetch_add(1, Relaxed);
        let microseconds = u64::try_from(request.duration.as_micros()).unwrap_or(u64::MAX);
        self.microseconds.fetch_add(microseconds, Relaxed);
        self.bytes.fetch_add(request.body, Relaxed);
    }

    /// Method, class and number of what there was.
    fn requests(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let cells = METHODS.iter().zip(&self.requests).flat_map(|(method, classes)| {
            CLASSES.iter().zip(classes).map(move |(class, count)| (*method, *class, count.load(Relaxed)))
        });
        cells.filter(|(_, _, count)| *count > 0)
    }

    fn buckets(&self) -> Buckets {
        let bounds = BOUNDS.into_iter().chain([f64::INFINITY]);
        Buckets {
            sum: self.microseconds.load(Relaxed) as f64 / 1e6,
            counts: bounds.zip(self.durations.iter().map(|count| count.load(Relaxed))).collect(),
        }
    }
}

/// What Prometheus sees of them.
#[derive(Debug)]
pub(super) struct Shown(pub(super) Arc<HttpMetrics>);

impl Collector for Shown {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let routes: Vec<(String, Arc<Route>)> =
            self.0.routes.read().iter().map(|(pattern, route)| (pattern.clone(), route.clone())).collect();
        let mut sheet = Sheet(encoder);
        let requests = routes.iter().flat_map(|(pattern, route)| {
            let labels = |method, class| -> [Label<'_>; 3] {
                [("method", method), ("route", pattern), ("status", class)]
            };
            route.requests().map(move |(method, class, count)| (labels(method, class), count))
        });
        sheet.counters("tidegate_http_requests", "HTTP requests that were answered", requests)?;
        let durations =
            routes.iter().map(|(pattern, route)| ([("route", pattern.as_str())], route.buckets()));
        let help = "Time from a request to the headers of its answer";
        sheet.histograms("tidegate_http_request_duration_seconds", help, durations)?;
        let bytes =
            routes.iter().map(|(pattern, route)| ([("route", pattern.as_str())], route.bytes.load(Relaxed)));
        let help = "Bodies of answers whose length is known beforehand, uncompressed ones";
        sheet.counters("tidegate_http_response_bytes", help, bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use prometheus_client::encoding::prometheus_text;
    use prometheus_client::registry::Registry;

    #[test]
    fn requests_are_counted_by_route_method_and_class() {
        let http = Arc::new(HttpMetrics::default());
        let request = |method, status, milliseconds| Request {
            route: "/{stream}/whep",
            method,
            status,
            duration: Duration::from_millis(milliseconds),
            body: 100,
        };
        http.count(request("POST", 201, 2));
        http.count(request("POST", 201, 3));
        http.count(request("BREW", 405, 60_000));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(Shown(http)));
        let mut page = String::new();
        prometheus_text::encode(&mut page, &registry).expect("text");
        for line in [
            r#"tidegate_http_requests_total{method="POST",route="/{stream}/whep",status="2xx"} 2"#,
            r#"tidegate_http_requests_total{method="other",route="/{stream}/whep",status="4xx"} 1"#,
            r#"tidegate_http_request_duration_seconds_bucket{route="/{stream}/whep",le="0.0025"} 1"#,
            r#"tidegate_http_request_duration_seconds_bucket{route="/{stream}/whep",le="10"} 2"#,
            r#"tidegate_http_request_duration_seconds_bucket{route="/{stream}/whep",le="+Inf"} 3"#,
            r#"tidegate_http_request_duration_seconds_count{route="/{stream}/whep"} 3"#,
            r#"tidegate_http_request_duration_seconds_sum{route="/{stream}/whep"} 60.005"#,
            r#"tidegate_http_response_bytes_total{route="/{stream}/whep"} 300"#,
        ] {
            assert!(page.lines().any(|found| found == line), "{line} in\n{page}");
        }
    }
}
