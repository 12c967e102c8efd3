//! From the configuration to the settings of the rooms.

use super::{GatewayError, stream_key};
use crate::admission::{EgressGuard, Exempt, KeyAttempts, Refusals};
use crate::auth::{Access, Keyring, Publishing};
use crate::config::{Config, Credentials, HoldMode};
use crate::http::{ForwardedHeader, IceServers, Proxies, RateSettings, TurnCredentials};
use crate::pipeline::{HoldPicture, Pipelines, Slate, SlateError};
use crate::restream::RestreamSettings;
use crate::rtmp::{Dialer, RootsError, RtmpLimits, RtmpServer, TlsRoots};
use crate::stream::Hub;
use crate::tls::ServerTls;
use crate::webhooks::WebhookSettings;
use std::sync::Arc;

/// Who may publish and who may administer.
pub(super) fn access(config: &Config, credentials: &Credentials, keyring: Arc<Keyring>) -> Access {
    let publishing = match &credentials.publish_key {
        _ if config.open => Publishing::Open,
        Some(key) => Publishing::Key(key.clone()),
        None => Publishing::StreamKeys,
    };
    Access { admin_token: credentials.admin_token.clone(), publishing, keyring }
}

/// What fills the pauses of publishers.
pub(super) async fn hold(config: &Config, pipelines: &Pipelines) -> Result<Option<HoldPicture>, SlateError> {
    Ok(match (config.stream_hold, &config.stream_slate) {
        (HoldMode::Off, _) => None,
        (HoldMode::Slate, Some(path)) => Some(HoldPicture::Slate(Slate::load(pipelines, path).await?)),
        (HoldMode::LastPicture, _) | (HoldMode::Slate, None) => Some(HoldPicture::Last),
    })
}

/// RTMP, and RTMPS where there is a certificate.
pub(super) async fn rtmp(
    config: &Config,
    hub: &Hub,
    access: Access,
    rates: &RateSettings,
) -> Result<RtmpServer, GatewayError> {
    let limits = RtmpLimits {
        connections: config.limits_rtmp_connections,
        connections_per_source: config.limits_rtmp_connections_per_source,
        half_open: config.limits_half_open,
        half_open_per_source: config.limits_half_open_per_source,
        exempt: rates.exempt.clone(),
        refusals: rates.refusals.clone(),
    };
    let authorize = stream_key::authorize(access, rates.key_attempts.clone());
    let server = RtmpServer::bind(config.rtmp_listen, hub.clone(), authorize).await?.with_limits(limits);
    let (Some(certificate), Some(key)) = (&config.tls_certificate, &config.tls_private_key) else {
        return Ok(server);
    };
    let tls = ServerTls::load(certificate, key)?;
    Ok(server.with_tls(config.rtmp_tls_listen, tls).await?)
}

pub(super) fn webhook_settings(config: &Config, guard: EgressGuard) -> WebhookSettings {
    WebhookSettings {
        guard,
        tries: config.webhooks_tries,
        first_retry: config.webhooks_first_retry,
        timeout: config.webhooks_timeout,
    }
}

/// How targets are reached, and how many there may be.
pub(super) fn restream_settings(
    config: &Config,
    guard: EgressGuard,
    pipelines: Arc<Pipelines>,
) -> Result<RestreamSettings, RootsError> {
    let roots = TlsRoots::system(config.restream_extra_roots.as_deref())?;
    Ok(RestreamSettings {
        dialer: Dialer::new(roots, guard),
        transcoding: config.transcode_video,
        pipelines: Some(pipelines),
        targets_per_stream: config.restream_targets_per_stream,
        targets: config.restream_targets,
    })
}

pub(super) fn rates(
    config: &Config,
    key_attempts: Arc<KeyAttempts>,
    exempt: Exempt,
    refusals: &Refusals,
) -> RateSettings {
    RateSettings {
        posts_per_second: config.limits_posts_per_second,
        post_burst: config.limits_post_burst,
        patches_per_second: config.limits_patches_per_second,
        session_requests_per_second: config.limits_session_requests_per_second,
        key_attempts,
        exempt,
        refusals: refusals.clone(),
    }
}

pub(super) fn proxies(config: &Config) -> Proxies {
    let header = match config.http_proxies_follow_rfc_7239 {
        true => ForwardedHeader::Forwarded,
        false => ForwardedHeader::XForwardedFor,
    };
    Proxies::new(config.http_trusted_proxies.iter().copied(), header)
}

pub(super) fn ice_servers(config: &Config) -> IceServers {
    let (username, credential) = (&config.webrtc_turn_username, &config.webrtc_turn_credential);
    let credentials = match (username.clone(), credential.clone(), config.webrtc_turn_secret.clone()) {
        (Some(username), Some(credential), _) => TurnCredentials::Static { username, credential },
        (_, _, Some(secret)) => TurnCredentials::Shared { secret, ttl: config.webrtc_turn_ttl },
        _ => TurnCredentials::None,
    };
    IceServers { servers: config.webrtc_ice_servers.clone(), credentials }
}
