//! The lines that an operator pastes into OBS, a browser or a shell.

use super::DEMO;
use super::stream_key::{APPLICATION, MAIN};
use crate::config::{Config, Credentials};
use crate::media::Secret;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Shows itself as a page of text. It holds the keys: print it, don't log it.
#[derive(Clone, Debug)]
pub struct Banner<'a> {
    config: &'a Config,
    credentials: &'a Credentials,
    http: SocketAddr,
    rtmp: SocketAddr,
    rtmps: Option<SocketAddr>,
    /// An address under which other machines reach this one.
    elsewhere: Option<IpAddr>,
}

impl<'a> Banner<'a> {
    pub(super) fn new(
        config: &'a Config,
        credentials: &'a Credentials,
        http: SocketAddr,
        rtmp: SocketAddr,
        candidates: &[SocketAddr],
    ) -> Self {
        let addresses = candidates.iter().map(SocketAddr::ip).filter(|address| !address.is_loopback());
        // The familiar form first.
        let elsewhere = addresses.min_by_key(IpAddr::is_ipv6).filter(|_| http.ip().is_unspecified());
        Self { config, credentials, http, rtmp, rtmps: None, elsewhere }
    }

    /// With the address for RTMPS.
    pub(super) fn with_rtmps(self, rtmps: Option<SocketAddr>) -> Self {
        Self { rtmps, ..self }
    }
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, credentials) = (self.config, self.credentials);
        let http = format!("http://{}", on_this_machine(self.http));
        let rtmp = format!("rtmp://{}/{APPLICATION}", on_this_machine(self.rtmp));
        let key = credentials
            .publish_key
            .as_ref()
            .map_or("(make one: POST /api/v1/streams/main/keys)", Secret::reveal);
        let line = |f: &mut fmt::Formatter<'_>, what: &str, text: &str| writeln!(f, "  {what:<19}{text}");

        writeln!(f, "\nTidegate {} is live.\n", env!("CARGO_PKG_VERSION"))?;
        line(f, "All streams", &format!("{http}/"))?;
        line(f, "Watch", &format!("{http}/{}", if config.demo { DEMO } else { MAIN }))?;
        line(f, "Publish (browser)", &format!("{http}/{MAIN}/publish"))?;
        if !config.open {
            line(f, "  publish key", key)?;
        }
        writeln!(f)?;
        line(f, "OBS, WHIP server", &format!("{http}/{MAIN}/whip"))?;
        line(f, "  bearer token", if config.open { "(none needed)" } else { key })?;
        line(f, "OBS, RTMP server", &rtmp)?;
        if let Some(address) = self.rtmps {
            line(f, "  or with TLS", &format!("rtmps://{}/{APPLICATION}", on_this_machine(address)))?;
        }
        let stream_key = match &credentials.publish_key {
            _ if config.open => MAIN.to_owned(),
            Some(key) => format!("{MAIN}?key={}", key.reveal()),
            None => "(the same key)".to_owned(),
        };
        line(f, "  stream key", &stream_key)?;
        writeln!(f)?;
        line(f, "API", &format!("{http}/api/v1/streams"))?;
        line(f, "  admin token", credentials.admin_token.reveal())?;
        let token = credentials.admin_token.reveal();
        line(f, "  try", &format!("curl -H 'Authorization: Bearer {token}' {http}/api/v1/streams"))?;
        if config.demo {
            writeln!(f)?;
            line(f, "Demo, HLS", &format!("{http}/{DEMO}/index.m3u8"))?;
            line(f, "Demo, WHEP", &format!("{http}/{DEMO}/whep"))?;
        }
        if let Some(address) = self.elsewhere {
            let host = on_this_machine(SocketAddr::new(address, self.http.port()));
            writeln!(f, "\n  From other machines, write {} for localhost.", host_of(&host))?;
            writeln!(f, "  (Browsers lend camera and screen to https pages and to localhost only.)")?;
        }
        Ok(())
    }
}

/// `address` as this machine reaches it: a wildcard becomes `localhost`.
fn on_this_machine(address: SocketAddr) -> String {
    let wildcard = [IpAddr::from(Ipv4Addr::UNSPECIFIED), IpAddr::from(Ipv6Addr::UNSPECIFIED)];
    if wildcard.contains(&address.ip()) {
        format!("localhost:{}", address.port())
    } else {
        address.to_string()
    }
}

fn host_of(authority: &str) -> &str {
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::Secret;

    fn shown(open: bool, demo: bool) -> String {
        let mut config = Config::new("/state");
        (config.open, config.demo) = (open, demo);
        let credentials = Credentials {
            admin_token: Secret::new("admin-token"),
            publish_key: Some(Secret::new("publish-key")),
        };
        let candidates = ["127.0.0.1:8189", "[2001:db8::5]:8189", "192.0.2.5:8189"];
        let candidates = candidates.map(|candidate| candidate.parse().expect("an address"));
        Banner::new(&config, &credentials, config.http_listen, config.rtmp_listen, &candidates)
            .with_rtmps(demo.then_some(config.rtmp_tls_listen))
            .to_string()
    }

    #[test]
    fn a_guarded_gateway_shows_all_that_is_to_be_pasted() {
        let banner = shown(false, true);
        for part in [
            "http://localhost:8080/demo\n",
            "http://localhost:8080/main/publish\n",
            "http://localhost:8080/main/whip\n",
            "rtmp://localhost:1935/live\n",
            "rtmps://localhost:1936/live\n",
            "main?key=publish-key\n",
            "curl -H 'Authorization: Bearer admin-token' http://localhost:8080/api/v1/streams\n",
            "http://localhost:8080/demo/index.m3u8\n",
            "http://localhost:8080/demo/whep\n",
            "write 192.0.2.5 for localhost",
        ] {
            assert!(banner.contains(part), "{banner}\nlacks {part:?}");
        }
    }

    #[test]
    fn an_open_gateway_shows_no_publish_key() {
        let banner = shown(true, false);
        assert!(!banner.contains("publish-key") && !banner.contains("/demo"), "{banner}");
        assert!(!banner.contains("rtmps://"), "{banner}");
    }
}
