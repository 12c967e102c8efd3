//! The wiring: which rooms there are, what starts which output, and in what order all ends.
//!
//! A [`Gateway`] owns every task of the program. It can be started in-process, with port 0 for any free
//! port, and ends by [`Gateway::shutdown`].

mod about;
mod banner;
mod numbers;
mod outputs;
mod settings;
mod stream_key;

pub use banner::Banner;

use crate::admission::{EgressGuard, Exempt, KeyAttempts, Refusals};
use crate::auth::Keyring;
use crate::config::{Config, Credentials, CredentialsError, HoldMode};
use crate::declarations::Declarations;
use crate::events::{Feed, Journal, Thresholds};
use crate::hls::{Hls, HlsSettings};
use crate::http::{Http, HttpError, HttpSettings, Origins, Rooms};
use crate::media::{Ladders, Transcoding};
use crate::metrics::{self, Metrics};
use crate::pipeline::{self, EncoderSettings, PipelineError, Pipelines, SlateError};
use crate::restream::Restreams;
use crate::rtmp::{RootsError, RtmpError};
use crate::store::{Store, StoreError};
use crate::stream::{Graces, Hub};
use crate::tls::{self, TlsError};
use crate::webhooks::Webhooks;
use crate::webrtc::{IceMode, WebRtc, WebRtcError, WebRtcSettings};
use numbers::Numbers;
use outputs::Outputs;
use settings::{access, hold, ice_servers, proxies, rates, restream_settings, rtmp, webhook_settings};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

/// The name of the stream that `--demo` publishes.
const DEMO: &str = "demo";
/// For publishers, viewers and outputs to end in order.
const ENDING: Duration = Duration::from_secs(7);
/// For what has happened to be kept for webhooks, and for deliveries that are under way.
const LAST_DELIVERIES: Duration = Duration::from_millis(1_200);
/// From the last media to the end of the HTTP server: players fetch what ends their playlists.
const LAST_FETCHES: Duration = Duration::from_millis(200);
/// For everything.
const SHUTDOWN: Duration = Duration::from_millis(9_500);

/// A running gateway.
pub struct Gateway {
    config: Config,
    credentials: Credentials,
    http_addr: SocketAddr,
    rtmp_addr: SocketAddr,
    rtmps_addr: Option<SocketAddr>,
    hub: Hub,
    webrtc: Arc<WebRtc>,
    restreams: Arc<Restreams>,
    webhooks: Arc<Webhooks>,
    /// New sessions are refused.
    closing: CancellationToken,
    /// Ends the demo and the watcher.
    sources: CancellationToken,
    rtmp_cancel: CancellationToken,
    outputs_cancel: CancellationToken,
    events_cancel: CancellationToken,
    http_cancel: CancellationToken,
    tasks: Tasks,
}

/// The tasks, in the order in which they are awaited.
struct Tasks {
    rtmp: JoinHandle<()>,
    demo: Option<JoinHandle<()>>,
    keyring: JoinHandle<()>,
    watcher: JoinHandle<()>,
    outputs: JoinHandle<()>,
    events: JoinHandle<()>,
    http: JoinHandle<()>,
}

/// Why the gateway can't start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The keys can't be read or made.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// What was kept can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The certificates for targets can't be used.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// GStreamer, or an element of a description, is missing.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// The operator's slate can't be used.
    #[error(transparent)]
    Slate(#[from] SlateError),
    /// No HTTP.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// No RTMP.
    #[error(transparent)]
    Rtmp(#[from] RtmpError),
    /// The certificate or its key can't be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// No WebRTC.
    #[error(transparent)]
    WebRtc(#[from] WebRtcError),
}

/// The end took longer than it may.
#[derive(Debug, thiserror::Error)]
#[error("the ordered end took longer than {} s", SHUTDOWN.as_secs_f64())]
pub struct Overdue;

impl Gateway {
    /// Takes the ports and starts everything. On an error nothing is left running.
    pub async fn start(config: Config) -> Result<Self, GatewayError> {
        let started = (SystemTime::now(), std::time::Instant::now());
        metrics::count_panics();
        tls::install_provider();
        let credentials = Credentials::load(&config)?;
        let store = Store::open(&config.state_dir).await?;
        let keyring = Keyring::load(store.clone()).await?;
        let access = access(&config, &credentials, keyring.clone());
        let graces = Graces { default: config.stream_grace, by_name: config.stream_grace_for.clone() };
        let (hub, watcher) = Hub::new(graces);
        let declarations = Declarations::load(store.clone(), hub.clone()).await?;
        let numbers = Numbers::take(store.clone()).await?;
        let outputs = Outputs::subscribe(hub.clone(), numbers);
        let journal = Journal::new(SystemTime::now(), config.events_kept);
        let thresholds = Thresholds::new(config.events_viewer_thresholds.iter().copied());
        let closing = CancellationToken::new();

        let encoders = EncoderSettings {
            audio_bitrate: config.transcode_audio_bitrate,
            opus_bitrate: config.transcode_opus_bitrate,
            cpu_budget: config.transcode_cpu_budget,
        };
        let pipelines = Pipelines::load_with(config.pipelines_dir.as_deref(), encoders)?;
        let hold = hold(&config, &pipelines).await?;
        let transcoding = Transcoding {
            video: config.transcode_video,
            b_frames: config.webrtc_b_frames,
            opus: config.hls_audio,
        };
        let ladders = Ladders {
            default: config.transcode_ladder.clone(),
            by_name: config.transcode_ladder_for.clone(),
        };
        let hls = Hls::new(
            HlsSettings {
                part_duration: config.hls_part_duration,
                segment_duration: config.hls_segment_duration,
                window: config.hls_window,
                always: config.hls_always,
                ladders: ladders.clone(),
                opus: config.hls_audio,
                pauses_are_filled: config.stream_hold != HoldMode::Off,
                first_discontinuity: outputs.first_discontinuity(),
            },
            pipelines.clone(),
        );
        let guard = EgressGuard::new(config.restream_egress_allow.iter().copied());
        let settings = restream_settings(&config, guard.clone(), pipelines.clone())?;
        let restreams = Restreams::new(hub.clone(), store.clone(), settings);
        let feed = Feed::subscribe(hub.clone(), &restreams, journal.clone(), thresholds);
        let exempt = Exempt::new(config.limits_exempt.iter().copied());
        let refusals = Refusals::default();
        let key_attempts = KeyAttempts::new(config.limits_key_attempts_per_minute, exempt.clone());
        let rates = rates(&config, Arc::new(key_attempts.counting(refusals.clone())), exempt, &refusals);
        let rtmp = rtmp(&config, &hub, access.clone(), &rates).await?;
        let webrtc = WebRtc::start(
            WebRtcSettings {
                listen: config.webrtc_listen,
                external_addresses: config.webrtc_external_addresses.clone(),
                workers: config.webrtc_workers,
                tcp: config.webrtc_tcp,
                ice: if config.webrtc_full_ice { IceMode::Full } else { IceMode::Lite },
                half_open_per_source: config.limits_half_open_per_source,
                half_open: config.limits_half_open,
                refusals,
                transcoding,
                budget: pipelines.budget().clone(),
            },
            hub.clone(),
        )?;
        let webhook_guard = EgressGuard::new(config.webhooks_egress_allow.iter().copied())
            .for_setting("webhooks.egress_allow");
        let webhooks = Webhooks::new(store, webhook_settings(&config, webhook_guard.clone()));
        let sources = metrics::Sources {
            hub: hub.clone(),
            restreams: restreams.clone(),
            webrtc: webrtc.clone(),
            rtmp: rtmp.sessions(),
            refusals: rates.refusals.clone(),
            pipelines: pipelines.clone(),
            journal: journal.clone(),
            webhooks: webhooks.clone(),
        };
        let rooms = Rooms {
            hub: hub.clone(),
            hls: hls.clone(),
            webrtc: webrtc.clone(),
            restreams: restreams.clone(),
            journal: journal.clone(),
            webhooks: webhooks.clone(),
            rtmp: rtmp.sessions(),
            declarations,
            metrics: Metrics::new(sources, config.metrics_per_stream),
        };
        let settings = HttpSettings {
            listen: config.http_listen,
            connections_per_source: config.http_connections_per_source,
            proxies: proxies(&config),
            rates,
            origins: config.http_cors_origins.clone().map_or(Origins::Any, Origins::Only),
            ice_servers: ice_servers(&config),
            about: about::of(&config, started, rtmp.local_addr(), rtmp.tls_addr()),
            hosts: config.http_hosts.clone(),
            open_metrics: config.metrics_open,
        };
        let http = match Http::bind(settings, rooms, access, closing.clone()).await {
            Ok(http) => http,
            Err(error) => {
                webrtc.shutdown().await;
                return Err(error.into());
            }
        };

        let (sources, rtmp_cancel) = (CancellationToken::new(), CancellationToken::new());
        let (outputs_cancel, http_cancel) = (CancellationToken::new(), CancellationToken::new());
        let events_cancel = CancellationToken::new();
        let (http_addr, rtmp_addr, rtmps_addr) = (http.local_addr(), rtmp.local_addr(), rtmp.tls_addr());
        let listeners = [Some(http_addr), Some(rtmp_addr), rtmps_addr, Some(webrtc.local_addr())];
        for guard in [guard, webhook_guard] {
            guard.own_listeners(listeners.into_iter().flatten());
        }
        let restored = restreams.restore().await.and(webhooks.restore(&journal).await);
        if let Err(error) = restored {
            webrtc.shutdown().await;
            return Err(error.into());
        }
        let tasks = Tasks {
            watcher: tokio::spawn(watcher.run(sources.clone())),
            keyring: tokio::spawn(keyring.run(http_cancel.clone())),
            outputs: tokio::spawn(outputs.run(
                pipelines.clone(),
                hls,
                transcoding,
                ladders,
                hold,
                outputs_cancel.clone(),
            )),
            events: tokio::spawn(feed.run(events_cancel.clone())),
            http: tokio::spawn(http.run(http_cancel.clone())),
            rtmp: tokio::spawn(rtmp.run(rtmp_cancel.clone())),
            demo: config.demo.then(|| {
                let name = DEMO.parse().expect("a name within the grammar");
                tokio::spawn(pipeline::run_demo(pipelines, hub.clone(), name, sources.clone()))
            }),
        };
        info!(http = %http_addr, rtmp = %rtmp_addr, webrtc = %webrtc.local_addr(), "Listening.");
        if let Some(address) = rtmps_addr {
            info!(rtmps = %address, "Listening with TLS.");
        }
        Ok(Self {
            config,
            credentials,
            http_addr,
            rtmp_addr,
            rtmps_addr,
            hub,
            webrtc,
            restreams,
            webhooks,
            closing,
            sources,
            rtmp_cancel,
            outputs_cancel,
            events_cancel,
            http_cancel,
            tasks,
        })
    }

    /// Where HTTP is served.
    pub fn http_addr(&self) -> SocketAddr {
        self.http_addr
    }

    /// Where RTMP publishers connect.
    pub fn rtmp_addr(&self) -> SocketAddr {
        self.rtmp_addr
    }

    /// Where RTMPS publishers connect, if there is a certificate.
    pub fn rtmps_addr(&self) -> Option<SocketAddr> {
        self.rtmps_addr
    }

    /// The streams.
    pub fn hub(&self) -> &Hub {
        &self.hub
    }

    /// The keys in use.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What to tell the operator. Shows the keys: for the terminal, not for the log.
    pub fn banner(&self) -> Banner<'_> {
        Banner::new(&self.config, &self.credentials, self.http_addr, self.rtmp_addr, self.webrtc.candidates())
            .with_rtmps(self.rtmps_addr)
    }

    /// Ends in order, within 10 s: refuse the new, end publishers, flush outputs, end targets and viewers
    /// cleanly, and serve HTTP until players have the end of their playlists. Must not be cancelled.
    pub async fn shutdown(self) -> Result<(), Overdue> {
        let started = Instant::now();
        let ending = started + ENDING;
        let overall = started + SHUTDOWN;
        info!("Shutting down.");

        // 1. Nobody new: readiness is 503, RTMP closes its port.
        self.closing.cancel();
        self.sources.cancel();
        self.rtmp_cancel.cancel();

        // 2. Publishers are kicked, readers are told that their streams are over.
        self.hub.close();

        // 3. Outputs flush what they have and end what they feed. None waits for another.
        self.outputs_cancel.cancel();
        let tasks = self.tasks;
        let ended = tokio::join!(
            within(ending, "outputs", joined(tasks.outputs)),
            within(ending, "restream targets", self.restreams.shutdown()),
            within(ending, "WebRTC sessions", self.webrtc.shutdown()),
            within(ending, "RTMP connections", joined(tasks.rtmp)),
            within(ending, "streams", joined(tasks.watcher)),
            within(ending, "demo", async {
                if let Some(demo) = tasks.demo {
                    joined(demo).await;
                }
            }),
        );
        let in_time = ended.0 && ended.1 && ended.2 && ended.3 && ended.4 && ended.5;

        // 4. What has happened is told.
        self.events_cancel.cancel();
        let told = async {
            joined(tasks.events).await;
            self.webhooks.shutdown().await;
        };
        let in_time = within(ending + LAST_DELIVERIES, "events and webhooks", told).await && in_time;

        // 5. Last, HTTP.
        tokio::time::sleep(LAST_FETCHES).await;
        self.http_cancel.cancel();
        let last = async {
            joined(tasks.http).await;
            joined(tasks.keyring).await;
        };
        let in_time = within(overall, "HTTP connections", last).await && in_time;
        info!(after = ?started.elapsed(), "Shut down.");
        if in_time { Ok(()) } else { Err(Overdue) }
    }
}

/// Whether `work` was done by `deadline`.
async fn within(deadline: Instant, what: &'static str, work: impl Future<Output = ()>) -> bool {
    let done = timeout_at(deadline, work).await.is_ok();
    if !done {
        error!(what, "Not ended in time; given up.");
    }
    done
}

async fn joined(task: JoinHandle<()>) {
    if let Err(error) = task.await {
        error!(%error, "A task failed.");
    }
}

#[cfg(test)]
mod tests;
