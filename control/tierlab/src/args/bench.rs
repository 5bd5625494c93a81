//! Arguments of `bench`.

use super::Brief;
use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use std::path::PathBuf;

/// What `bench` measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Between two stations of one segment
    L2,
    /// Between two segments, through their gateway, untranslated
    Route,
    /// Between two workloads, by a rule of the distributed firewall
    Dfw,
    /// From a workload to the outside, with another source address
    Snat,
    /// From a workload to a ClusterIP
    Dlb,
    /// From outside to a virtual address of the server load balancer
    Slb,
    /// Distributed firewall, SNAT or a virtual server, Tier-1 and Tier-0 at once
    Chain,
}

impl From<Work> for ::bench::Work {
    fn from(work: Work) -> ::bench::Work {
        match work {
            Work::L2 => ::bench::Work::L2,
            Work::Route => ::bench::Work::Route,
            Work::Dfw => ::bench::Work::Dfw,
            Work::Snat => ::bench::Work::Snat,
            Work::Dlb => ::bench::Work::Dlb,
            Work::Slb => ::bench::Work::Slb,
            Work::Chain => ::bench::Work::Chain,
        }
    }
}

/// Octets of the frames of `bench`, with their FCS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FrameSize {
    /// The shortest
    #[value(name = "64")]
    B64,
    /// 512
    #[value(name = "512")]
    B512,
    /// The longest without a tag
    #[value(name = "1518")]
    B1518,
    /// Seven of 64, four of 594, one of 1518
    Imix,
}

impl From<FrameSize> for ::bench::Size {
    fn from(size: FrameSize) -> ::bench::Size {
        match size {
            FrameSize::B64 => ::bench::Size::B64,
            FrameSize::B512 => ::bench::Size::B512,
            FrameSize::B1518 => ::bench::Size::B1518,
            FrameSize::Imix => ::bench::Size::Imix,
        }
    }
}

/// `bench`.
#[derive(Debug, Args)]
pub struct Bench {
    /// What to measure; without, everything that the lab can do
    #[arg(value_enum)]
    pub work: Option<Work>,
    /// Files and directories with definitions; `-` is standard input; without, a lab that has everything
    #[arg(short, long = "file", value_name = "PATH", num_args = 1)]
    pub file: Vec<PathBuf>,
    /// Directory with the allocations of a lab that has run before
    #[arg(long, value_name = "DIR", default_value = ".tierlab")]
    pub state: PathBuf,
    /// Flows, each in both directions [default: 10000; 1000000 with --new-sessions]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8_000_000))]
    pub flows: Option<u32>,
    /// Firewall rules that match nothing, at every workload before its own
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub rules: u32,
    /// Virtual servers that nobody uses, in every load balancer
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub services: u32,
    /// Routes that nothing takes, in every gateway
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub routes: u32,
    /// Octets of a frame with its FCS
    #[arg(long, value_enum, default_value = "64")]
    pub size: FrameSize,
    /// Over IPv6
    #[arg(long)]
    pub ipv6: bool,
    /// Workers, each a thread with an equal share of the flows
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = RangedU64ValueParser::<usize>::new().range(1..=64))]
    pub workers: usize,
    /// Measure how fast flows are opened, from none to all
    #[arg(long, conflicts_with = "changes_per_second")]
    pub new_sessions: bool,
    /// Change the network so often while it is measured, in what concerns none of the flows
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub changes_per_second: u32,
    /// Seconds a row, not counting the opening of the flows
    #[arg(long, value_name = "SECONDS", default_value = "2", value_parser = seconds)]
    pub duration: f64,
    /// Frames that wait for a worker at most, in the search for the rate without loss
    #[arg(long, value_name = "FRAMES", default_value_t = 4_096, value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    pub queue: u64,
    /// Set the ratio to this report of before (-o json) beside each row; exit 1 if one is slower
    #[arg(long, value_name = "FILE")]
    pub compare: Option<PathBuf>,
    /// By how many percent a row may be slower
    #[arg(long, value_name = "PERCENT", default_value = "10", requires = "compare", value_parser = percent)]
    pub tolerance: f64,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Brief,
}

/// A time to measure for.
fn seconds(text: &str) -> Result<f64, String> {
    number(text, 0.001, 86_400.0)
        .ok_or_else(|| "not a number of seconds from 0.001 to 86400".to_owned())
}

fn percent(text: &str) -> Result<f64, String> {
    number(text, 0.0, 100.0).ok_or_else(|| "not a number from 0 to 100".to_owned())
}

fn number(text: &str, least: f64, most: f64) -> Option<f64> {
    text.parse().ok().filter(|number| (least..=most).contains(number))
}
