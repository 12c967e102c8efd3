//! The `tidegate` binary: reads the configuration, starts the gateway, prints what to paste where, and
//! ends in order on SIGTERM or SIGINT; on a second signal, at once. With `check-hls`, checks a stream instead.
//!
//! Exit codes: 0 after an ordered end, 64 for a wrong command line or configuration, 1 for all else; those of
//! `check-hls` are in its `--help`.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;
use tidegate::config::{CheckHls, Command, Config, ConfigError, EXIT_USAGE};
use tidegate::gateway::Gateway;
use tidegate::telemetry;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// For threads that still work after the ordered end.
const LAST_WORK: Duration = Duration::from_millis(200);

/// Of `check-hls`: there was nothing to judge.
const EXIT_NOT_CHECKED: u8 = 2;

fn main() -> ExitCode {
    match Command::read(std::env::args_os(), std::env::vars_os()) {
        Ok(Command::Serve(config)) => serve(*config),
        Ok(Command::CheckHls(command)) => check_hls(&command),
        Err(error) => wrong_usage(&error),
    }
}

fn serve(config: Config) -> ExitCode {
    if let Err(error) = telemetry::start(&config.log) {
        return failed(&error);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let code = runtime.block_on(run(config));
    runtime.shutdown_timeout(LAST_WORK);
    code
}

fn check_hls(command: &CheckHls) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&error),
    };
    let report = match runtime.block_on(command.check().run()) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("tidegate: {error}");
            return ExitCode::from(EXIT_NOT_CHECKED);
        }
    };
    let text = match command.json {
        true => serde_json::to_string_pretty(&report).expect("a report is made of strings and numbers"),
        false => report.to_string(),
    };
    let _ = writeln!(std::io::stdout().lock(), "{text}");
    if report.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

async fn run(config: Config) -> ExitCode {
    // Before anything starts, so that no signal meets the default action halfway.
    let mut signals = match Signals::new() {
        Ok(signals) => signals,
        Err(error) => return failed(&error),
    };
    let gateway = match Gateway::start(config).await {
        Ok(gateway) => gateway,
        Err(error) => return failed(&error),
    };
    // A closed standard output is no reason to stop.
    let _ = writeln!(std::io::stdout().lock(), "{}", gateway.banner());
    signals.next().await;
    tokio::select! {
        ended = gateway.shutdown() => match ended {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => failed(&error),
        },
        code = signals.next() => {
            eprintln!("tidegate: second signal: ending at once");
            std::process::exit(code);
        }
    }
}

/// What asks the program to end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The next signal, as the exit code that a shell gives it.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.terminate.recv() => 128 + 15,
            _ = self.interrupt.recv() => 128 + 2,
        }
    }
}

fn wrong_usage(error: &ConfigError) -> ExitCode {
    match error {
        // `--help` and `--version` come this way, too, and are no faults.
        ConfigError::Usage(error) => {
            let _ = error.print();
            if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
        }
        error => {
            eprintln!("tidegate: {error}");
            ExitCode::from(EXIT_USAGE)
        }
    }
}

fn failed(error: &dyn std::error::Error) -> ExitCode {
    eprintln!("tidegate: {error}");
    ExitCode::FAILURE
}
