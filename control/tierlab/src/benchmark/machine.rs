//! Facts of the machine without which a figure means nothing.

use serde::{Deserialize, Serialize};
use std::fs;

/// Where figures were taken.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// Model of the processor.
    pub cpu: String,
    /// Its nominal clock, MHz: what the model's name says, else what the kernel says now. On x86 the time stamp counter
    /// runs at this.
    pub mhz: Option<f64>,
    /// Cores that this process may use.
    pub cores: usize,
    /// Memory, octets.
    pub memory_bytes: Option<u64>,
    /// Release of the kernel.
    pub kernel: String,
    /// Transparent huge pages: always, madvise or never.
    pub huge_pages: String,
    /// Version of tierlab.
    pub version: String,
    /// Whether it was built with optimization (`--release`).
    pub optimized: bool,
}

impl Machine {
    /// This machine.
    pub fn this() -> Machine {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let cpuinfo = read("/proc/cpuinfo");
        let cpu = field(&cpuinfo, "model name").unwrap_or("unknown").to_owned();
        let mhz = clock(&cpuinfo);
        let memory = read("/proc/meminfo");
        let huge_pages = read("/sys/kernel/mm/transparent_hugepage/enabled");
        Machine {
            cpu,
            mhz,
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: kilobytes(&memory, "MemTotal"),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            huge_pages: chosen(&huge_pages).unwrap_or("unknown").to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimized: !cfg!(debug_assertions),
        }
    }
}

/// Memory of this process that is in use, octets.
pub fn resident() -> Option<u64> {
    kilobytes(&fs::read_to_string("/proc/self/status").ok()?, "VmRSS")
}

/// The first value of `name: value` (`proc(5)`).
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key.trim() == name).then_some(value.trim())
    })
}

fn kilobytes(text: &str, name: &str) -> Option<u64> {
    let number = field(text, name)?.strip_suffix("kB")?.trim();
    number.parse::<u64>().ok()?.checked_mul(1_024)
}

/// Megahertz: of `... CPU @ 2.30GHz`, else of `cpu MHz`.
fn clock(cpuinfo: &str) -> Option<f64> {
    let named = field(cpuinfo, "model name").and_then(|name| {
        let gigahertz: f64 = name.rsplit_once('@')?.1.trim().strip_suffix("GHz")?.parse().ok()?;
        Some(gigahertz * 1_000.0)
    });
    named.or_else(|| field(cpuinfo, "cpu MHz")?.parse().ok()).filter(|mhz: &f64| *mhz > 0.0)
}

/// The word in brackets.
fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_clock_is_the_nominal_one_where_the_model_says_it() {
        let named =
            "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) CPU @ 2.30GHz\ncpu MHz\t\t: 3100.0\n";
        assert_eq!(clock(named), Some(2_300.0));
        assert_eq!(clock("model name\t: AMD EPYC\ncpu MHz\t\t: 2596.122\n"), Some(2_596.122));
        assert_eq!(clock("Processor : AArch64\n"), None);
        assert_eq!(clock("cpu MHz : 0\n"), None);
    }

    #[test]
    fn values_are_read_as_proc_writes_them() {
        assert_eq!(kilobytes("VmPeak:\t 9 kB\nVmRSS:\t    1024 kB\n", "VmRSS"), Some(1 << 20));
        assert_eq!(kilobytes("VmRSS:\t x kB\n", "VmRSS"), None);
        assert_eq!(chosen("always [madvise] never\n"), Some("madvise"));
        assert!(resident().unwrap() > 1 << 20);
    }
}
