//! Precedence and errors of the configuration.

use super::*;

fn load(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let arguments = std::iter::once("tidegate").chain(arguments.iter().copied()).map(OsString::from);
    let home = [("HOME", "/home/op")];
    let environment = home.iter().chain(environment).map(|(name, value)| (name.into(), value.into()));
    Config::load(arguments, environment)
}

fn fault(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    load(arguments, environment).expect_err("a wrong configuration").to_string()
}

struct TomlFile(tempfile::TempDir);

impl TomlFile {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::write(folder.path().join("tidegate.toml"), text).expect("written");
        Self(folder)
    }

    fn path(&self) -> String {
        self.0.path().join("tidegate.toml").display().to_string()
    }
}

#[test]
fn without_sources_the_defaults_hold() {
    let config = load(&[], &[]).expect("defaults");
    assert_eq!(config.http_listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.rtmp_listen.to_string(), "0.0.0.0:1935");
    assert_eq!(config.webrtc_listen.to_string(), "0.0.0.0:8189");
    assert_eq!(config.state_dir, PathBuf::from("/home/op/.local/state/tidegate"));
    assert!(!config.open && !config.demo);
    let config = load(&[], &[("XDG_STATE_HOME", "/var/state")]).expect("defaults");
    assert_eq!(config.state_dir, PathBuf::from("/var/state/tidegate"));
}

#[test]
fn flags_win_over_environment_and_environment_over_file() {
    let file = TomlFile::new(
        "[http]\nlisten = \"127.0.0.1:1\"\n[rtmp]\nlisten = \"127.0.0.1:1\"\n[webrtc]\nlisten = \"127.0.0.1:1\"\n",
    );
    let config = load(
        &["--config", &file.path(), "--http-listen", "127.0.0.1:3"],
        &[("TIDEGATE_HTTP_LISTEN", "127.0.0.1:2"), ("TIDEGATE_RTMP_LISTEN", "127.0.0.1:2")],
    );
    let config = config.expect("right");
    let ports = [config.http_listen, config.rtmp_listen, config.webrtc_listen].map(|address| address.port());
    assert_eq!(ports, [3, 2, 1]);
}

#[test]
fn every_key_is_read_from_the_file() {
    let file = TomlFile::new(
        r#"
        state_dir = "/s"
        pipelines_dir = "/p"
        log = "debug"
        open = true
        demo = true
        [http]
        listen = "[::1]:1"
        connections_per_source = 5
        cors_origins = ["https://example.net", "http://localhost:3000"]
        trusted_proxies = ["127.0.0.1/32", "2001:db8::/32"]
        forwarded_header = "forwarded"
        [rtmp]
        listen = "127.0.0.1:2"
        tls_listen = "127.0.0.1:4"
        [tls]
        certificate = "/c.pem"
        private_key = "/k.pem"
        [webrtc]
        listen = "127.0.0.1:3"
        external_addresses = ["203.0.113.7", "2001:db8::7"]
        ice_servers = ["stun:stun.example.net", "turn:turn.example.net?transport=udp"]
        turn_secret = "shared secret"
        turn_ttl = "1h"
        [limits]
        posts_per_second = 7
        post_burst = 8
        patches_per_second = "off"
        session_requests_per_second = 0
        key_attempts_per_minute = 9
        rtmp_connections = 11
        rtmp_connections_per_source = "off"
        exempt = ["127.0.0.0/8", "::1/128"]
        [hls]
        part_duration = "200ms"
        segment_duration = "1s"
        window = 10
        [transcode]
        cpu_budget = 60
        opus_bitrate = "160k"
        ladder = ["480p", "720p", "audio"]
        ladder_for = ["show=360p+audio", "door = off"]
        [auth]
        admin_token = "admin-admin"
        publish_key = "publish-publish"
        [restream]
        egress_allow = ["10.0.0.0/8", "fd00::/8"]
        targets_per_stream = 3
        targets = "off"
        extra_roots = "/r.pem"
        [stream]
        grace = "1m"
        grace_for = ["show=5m", "door = 0s"]
        "#,
    );
    let config = load(&["--config", &file.path()], &[]).expect("right");
    assert_eq!(config.hls_part_duration, Duration::from_millis(200));
    assert_eq!(config.hls_segment_duration, Duration::from_secs(1));
    assert_eq!((config.hls_window, config.http_connections_per_source), (10, 5));
    assert_eq!((config.http_trusted_proxies.len(), config.http_proxies_follow_rfc_7239), (2, true));
    assert_eq!(config.webrtc_external_addresses.len(), 2);
    assert_eq!(config.restream_egress_allow.len(), 2);
    assert_eq!((config.restream_targets_per_stream, config.restream_targets), (3, usize::MAX));
    assert_eq!(config.restream_extra_roots, Some(PathBuf::from("/r.pem")));
    assert_eq!(config.stream_grace, Duration::from_secs(60));
    let graces: Vec<_> =
        config.stream_grace_for.iter().map(|(name, grace)| (name.as_str(), *grace)).collect();
    assert_eq!(graces, [("door", Duration::ZERO), ("show", Duration::from_secs(300))]);
    assert_eq!(config.transcode_ladder, "720p+480p+audio".parse().expect("a ladder"));
    let ladders: Vec<_> =
        config.transcode_ladder_for.iter().map(|(name, ladder)| (name.as_str(), ladder.clone())).collect();
    let ladder = |text: &str| text.parse().expect("a ladder");
    assert_eq!(ladders, [("door", ladder("off")), ("show", ladder("360p+audio"))]);
    assert_eq!((config.transcode_cpu_budget, config.transcode_opus_bitrate), (60, 160_000));
    assert!(config.open && config.demo);
    assert!(config.auth_admin_token.expect("set").matches("admin-admin"));
    assert_eq!(config.pipelines_dir, Some(PathBuf::from("/p")));
    assert_eq!(config.http_cors_origins.expect("a list").len(), 2);
    assert_eq!((config.webrtc_ice_servers.len(), config.webrtc_turn_ttl), (2, Duration::from_secs(3600)));
    assert!(config.webrtc_turn_secret.expect("set").matches("shared secret"));
    let rate = |rate: Option<NonZeroU32>| rate.map(NonZeroU32::get);
    assert_eq!((rate(config.limits_posts_per_second), config.limits_post_burst.get()), (Some(7), 8));
    assert_eq!(config.limits_patches_per_second, None);
    assert_eq!(config.limits_session_requests_per_second, None);
    assert_eq!(rate(config.limits_key_attempts_per_minute), Some(9));
    assert_eq!(config.limits_exempt.len(), 2);
    let connections = (config.limits_rtmp_connections, config.limits_rtmp_connections_per_source);
    assert_eq!(connections, (11, usize::MAX));
    assert_eq!(config.rtmp_tls_listen.port(), 4);
    let files = [config.tls_certificate, config.tls_private_key].map(Option::unwrap_or_default);
    assert_eq!(files, ["/c.pem", "/k.pem"].map(PathBuf::from));
}

#[test]
fn a_certificate_and_its_key_come_together() {
    let error = fault(&[], &[("TIDEGATE_TLS_CERTIFICATE", "/c.pem")]);
    assert!(error.contains("tls.private_key is not set"), "{error}");
    let error = fault(&[], &[("TIDEGATE_TLS_PRIVATE_KEY", "/k.pem")]);
    assert!(error.contains("tls.certificate is not set"), "{error}");
}

#[test]
fn every_key_is_read_from_the_environment() {
    for (name, value) in [
        ("TIDEGATE_HTTP_LISTEN", "127.0.0.1:1"),
        ("TIDEGATE_HTTP_CONNECTIONS_PER_SOURCE", "5"),
        ("TIDEGATE_RTMP_LISTEN", "127.0.0.1:1"),
        ("TIDEGATE_WEBRTC_LISTEN", "127.0.0.1:1"),
        ("TIDEGATE_WEBRTC_EXTERNAL_ADDRESSES", "203.0.113.7, 2001:db8::7"),
        ("TIDEGATE_HTTP_CORS_ORIGINS", "https://example.net,https://example.org:8443"),
        ("TIDEGATE_WEBRTC_ICE_SERVERS", "stun:stun.example.net, stuns:[2001:db8::7]:5349"),
        ("TIDEGATE_WEBRTC_TURN_SECRET", "shared"),
        ("TIDEGATE_WEBRTC_TURN_TTL", "24h"),
        ("TIDEGATE_LIMITS_POSTS_PER_SECOND", "off"),
        ("TIDEGATE_LIMITS_POST_BURST", "1"),
        ("TIDEGATE_LIMITS_PATCHES_PER_SECOND", "0"),
        ("TIDEGATE_LIMITS_SESSION_REQUESTS_PER_SECOND", "1"),
        ("TIDEGATE_LIMITS_KEY_ATTEMPTS_PER_MINUTE", "60"),
        ("TIDEGATE_LIMITS_EXEMPT", "127.0.0.0/8"),
        ("TIDEGATE_HLS_PART_DURATION", "500ms"),
        ("TIDEGATE_HLS_SEGMENT_DURATION", "4s"),
        ("TIDEGATE_HLS_WINDOW", "12"),
        ("TIDEGATE_TRANSCODE_CPU_BUDGET", "100"),
        ("TIDEGATE_TRANSCODE_OPUS_BITRATE", "64000"),
        ("TIDEGATE_AUTH_ADMIN_TOKEN", "admin-admin"),
        ("TIDEGATE_AUTH_PUBLISH_KEY", "publish-publish"),
        ("TIDEGATE_RESTREAM_EGRESS_ALLOW", "10.0.0.0/8,fd00::/8"),
        ("TIDEGATE_RESTREAM_TARGETS_PER_STREAM", "5"),
        ("TIDEGATE_RESTREAM_TARGETS", "5"),
        ("TIDEGATE_RESTREAM_EXTRA_ROOTS", "/r.pem"),
        ("TIDEGATE_STREAM_GRACE", "0s"),
        ("TIDEGATE_STREAM_GRACE_FOR", "show=5m, door=0s"),
        ("TIDEGATE_STATE_DIR", "/s"),
        ("TIDEGATE_PIPELINES_DIR", "/p"),
        ("TIDEGATE_LOG", "trace"),
        ("TIDEGATE_OPEN", "true"),
        ("TIDEGATE_DEMO", "false"),
    ] {
        load(&[], &[(name, value)]).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let config =
        load(&[], &[("TIDEGATE_WEBRTC_EXTERNAL_ADDRESSES", "203.0.113.7, 2001:db8::7")]).expect("right");
    assert_eq!(config.webrtc_external_addresses.len(), 2);
}

#[test]
fn a_bad_value_names_key_value_and_what_would_be_right() {
    for (variable, value, key, right) in [
        ("TIDEGATE_HTTP_LISTEN", "8080", "http.listen", "an address and a port"),
        ("TIDEGATE_HLS_PART_DURATION", "333", "hls.part_duration", "250ms"),
        ("TIDEGATE_HLS_PART_DURATION", "1h", "hls.part_duration", "from 100ms to 2s"),
        ("TIDEGATE_HLS_WINDOW", "2", "hls.window", "from 6 to 1000"),
        ("TIDEGATE_TRANSCODE_OPUS_BITRATE", "24k", "transcode.opus_bitrate", "\"32k\" to \"256k\""),
        ("TIDEGATE_TRANSCODE_CPU_BUDGET", "0", "transcode.cpu_budget", "from 1 to 100"),
        ("TIDEGATE_RESTREAM_EGRESS_ALLOW", "ten/8", "restream.egress_allow", "10.0.0.0/8"),
        ("TIDEGATE_OPEN", "yes", "open", "true or false"),
        ("TIDEGATE_WEBRTC_ICE_SERVERS", "http://a", "webrtc.ice_servers", "stun:stun.example.net"),
        ("TIDEGATE_HTTP_CORS_ORIGINS", "https://a/", "http.cors_origins", "https://example.net"),
        ("TIDEGATE_LIMITS_POSTS_PER_SECOND", "many", "limits.posts_per_second", "off"),
        ("TIDEGATE_LOG", "tidegate=loud", "log", "\"info\""),
    ] {
        let fault = fault(&[], &[(variable, value)]);
        for part in [variable, value, key, right] {
            assert!(fault.contains(part), "{fault:?} lacks {part:?}");
        }
    }
    let fault = fault(&["--http-listen", "here"], &[]);
    assert!(fault.contains("--http-listen") && fault.contains("\"here\""), "{fault}");
}

#[test]
fn a_bad_secret_is_not_shown() {
    let fault = fault(&[], &[("TIDEGATE_AUTH_PUBLISH_KEY", "canary with blanks")]);
    assert!(fault.contains("auth.publish_key") && !fault.contains("canary"), "{fault}");
    let file = TomlFile::new("[auth]\npublish_key = canary\n");
    let fault = super::tests::fault(&["--config", &file.path()], &[]);
    assert!(fault.contains("line 2") && !fault.contains("canary"), "{fault}");
}

#[test]
fn a_turn_server_needs_credentials_of_one_kind() {
    let turn = ("TIDEGATE_WEBRTC_ICE_SERVERS", "turn:turn.example.net");
    let name = ("TIDEGATE_WEBRTC_TURN_USERNAME", "tide");
    let password = ("TIDEGATE_WEBRTC_TURN_CREDENTIAL", "canary");
    let secret = ("TIDEGATE_WEBRTC_TURN_SECRET", "canary");
    for (settings, key) in [
        (&[turn][..], "webrtc.turn_secret"),
        (&[turn, name], "webrtc.turn_credential"),
        (&[turn, password], "webrtc.turn_username"),
        (&[turn, name, password, secret], "webrtc.turn_secret"),
        (&[turn, name, secret], "webrtc.turn_credential"),
    ] {
        let fault = fault(&[], settings);
        assert!(fault.contains(key) && !fault.contains("canary"), "{fault}");
    }
    for settings in [&[turn, name, password][..], &[turn, secret], &[("TIDEGATE_WEBRTC_ICE_SERVERS", "")]] {
        load(&[], settings).expect("right");
    }
}

#[test]
fn all_origins_or_some_may_use_whip_and_whep() {
    let origins = |text| load(&[], &[("TIDEGATE_HTTP_CORS_ORIGINS", text)]).expect("right").http_cors_origins;
    assert_eq!(origins("*"), None);
    assert_eq!(origins(""), Some(Vec::new()));
    assert_eq!(origins("https://example.net"), Some(vec!["https://example.net".to_owned()]));
}

#[test]
fn an_unknown_key_names_itself_and_its_neighbours() {
    let fault = fault(&[], &[("TIDEGATE_HTTP_LISTN", "127.0.0.1:1")]);
    assert!(fault.contains("TIDEGATE_HTTP_LISTN") && fault.contains("TIDEGATE_HTTP_LISTEN,"), "{fault}");
    let file = TomlFile::new("[http]\nlisen = \"127.0.0.1:1\"\n");
    let fault = super::tests::fault(&["--config", &file.path()], &[]);
    for part in ["http.lisen", "127.0.0.1:1", "http.listen", &file.path()] {
        assert!(fault.contains(part), "{fault:?} lacks {part:?}");
    }
    assert!(!fault.contains("rtmp.listen"), "{fault}");
}

#[test]
fn a_file_that_is_missing_or_no_toml_is_named() {
    assert!(fault(&["--config", "/nowhere/tidegate.toml"], &[]).contains("/nowhere/tidegate.toml"));
    assert!(fault(&[], &[("TIDEGATE_CONFIG", "/nowhere/other.toml")]).contains("/nowhere/other.toml"));
    let file = TomlFile::new("[http\nlisten");
    assert!(fault(&["--config", &file.path()], &[]).contains("line 1"));
}

#[test]
fn settings_that_contradict_each_other_are_refused() {
    let same = [("TIDEGATE_AUTH_PUBLISH_KEY", "canary-key"), ("TIDEGATE_AUTH_ADMIN_TOKEN", "canary-key")];
    let fault = fault(&[], &same);
    assert!(fault.contains("auth.publish_key") && !fault.contains("canary"), "{fault}");
    let durations = [("TIDEGATE_HLS_PART_DURATION", "2s"), ("TIDEGATE_HLS_SEGMENT_DURATION", "1s")];
    assert!(super::tests::fault(&[], &durations).contains("hls.part_duration = \"2s\""));
}
