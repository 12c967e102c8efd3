//! The process as the system sees it, under the names that Prometheus' own clients use.

use super::panics;
use super::sheet::Sheet;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Of times in `/proc/…/stat`: what Linux shows to programs, whatever its own clock does (proc(5)).
const TICKS_PER_SECOND: f64 = 100.0;

/// This process.
#[derive(Debug)]
pub(super) struct Process {
    started: SystemTime,
}

impl Process {
    /// It starts now.
    pub(super) fn begin() -> Self {
        Self { started: SystemTime::now() }
    }
}

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet(encoder);
        let version = [([("version", env!("CARGO_PKG_VERSION"))], 1)];
        sheet.gauges("tidegate_build_info", "The version that runs; always 1", version)?;
        let panics = "Panics, those included that ended one session or one message only";
        sheet.counter("tidegate_panics", panics, panics::count())?;
        let started = self.started.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        sheet.gauge("process_start_time_seconds", "Start of the process, in seconds since 1970", started)?;
        // Elsewhere than on Linux there is nothing of this.
        let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
        if let Some(seconds) = cpu_seconds(&read("stat")) {
            sheet.seconds("process_cpu_seconds", "Processor time, of user and system together", seconds)?;
        }
        let status = read("status");
        let mut from_status = |name, help, key, unit| match number(&status, key) {
            Some(value) => sheet.gauge(name, help, value * unit),
            None => Ok(()),
        };
        from_status("process_resident_memory_bytes", "Memory in use", "VmRSS:", 1024)?;
        from_status("process_virtual_memory_bytes", "Address space in use", "VmSize:", 1024)?;
        from_status("process_threads", "Threads", "Threads:", 1)?;
        if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
            // Reading takes one itself.
            let open = (open.count() as u64).saturating_sub(1);
            sheet.gauge("process_open_fds", "File descriptors in use", open)?;
        }
        match number(&read("limits"), "Max open files") {
            Some(most) => sheet.gauge("process_max_fds", "File descriptors that may be in use", most),
            None => Ok(()),
        }
    }
}

/// Fields 14 and 15 of `/proc/…/stat`. The program's name, before them, may hold anything, but ends with the
/// last bracket.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(11);
    let ticks = |field: Option<&str>| field?.parse::<u64>().ok();
    Some((ticks(fields.next())? + ticks(fields.next())?) as f64 / TICKS_PER_SECOND)
}

/// The first number behind `key` at the beginning of a line.
fn number(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_it_is_written() {
        let stat =
            "42 (a) b) S 1 42 42 0 -1 4194560 100 0 0 0 150 25 0 0 20 0 8 0 100 1000 10 18446744073709551615";
        assert_eq!(cpu_seconds(stat), Some(1.75));
        assert_eq!(cpu_seconds(""), None);
        assert_eq!(number("Name:\tx\nVmRSS:\t    1234 kB\n", "VmRSS:"), Some(1234));
        let limits =
            "Max processes   1 1 processes\nMax open files            1024                 524288   files\n";
        assert_eq!(number(limits, "Max open files"), Some(1024));
        assert_eq!(number("Max open files unlimited", "Max open files"), None);
    }
}
