//! Commands and their arguments.

use crate::output::Format;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Lets `-f` take several paths and still be followed by other arguments: `-f A B pod/x/a` becomes
/// `-f A -f B pod/x/a`, because the first value is always a path and a further one is if it exists.
pub fn expand(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut out = Vec::new();
    let mut after_file = 0;
    for arg in args {
        let text = arg.to_string_lossy();
        if text == "-f" || text == "--file" {
            after_file = 1;
        } else if text.starts_with('-') && text != "-" {
            after_file = 0;
        } else if after_file == 1 {
            after_file = 2;
        } else if after_file == 2 {
            if text == "-" || Path::new(&arg).exists() {
                out.push("-f".into());
            } else {
                after_file = 0;
            }
        }
        out.push(arg);
    }
    out
}

/// A network data-plane emulator: the NSX-T network under a vSphere Supervisor Cluster, with real
/// frames, on a laptop.
#[derive(Debug, Parser)]
#[command(name = "tierlab", version, about, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the Supervisor lab at work: what is realized, then real frames across it
    Demo(Demo),
    /// Check definitions without running anything
    Validate(Validate),
    /// Run the packet tests in these files
    Test(Test),
    /// Run a lab on the wall clock, attached to TAPs and network namespaces
    Up(Up),
    /// Print tables of a lab
    Get(Get),
    /// Ping between endpoints of a lab
    Ping(Ping),
    /// Get a page from inside a lab
    Curl(Curl),
    /// Show every decision on a packet's way
    Trace(Trace),
    /// Probe every pair of endpoints with the first packet of a new flow
    Matrix(Matrix),
    /// Send captured frames through a lab and write what comes out
    Replay(Replay),
}

/// Where the lab is defined.
#[derive(Clone, Debug, Args)]
pub struct Lab {
    /// Files and directories with definitions; `-` is standard input
    #[arg(short, long = "file", value_name = "PATH", num_args = 1, required = true)]
    pub file: Vec<PathBuf>,
    /// Directory with the allocations of a lab that has run before
    #[arg(long, value_name = "DIR", default_value = ".tierlab")]
    pub state: PathBuf,
}

/// `demo`.
#[derive(Debug, Args)]
pub struct Demo {
    /// Leave out the measurement of the engine's rate
    #[arg(long)]
    pub no_bench: bool,
}

/// `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// The lab.
    #[command(flatten)]
    pub lab: Lab,
    /// Output format of the summary
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// How test results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TestFormat {
    /// One line a test, failures at length.
    #[default]
    Human,
    /// An array of results.
    Json,
    /// Test Anything Protocol.
    Tap,
}

/// `test`.
#[derive(Debug, Args)]
pub struct Test {
    /// Files and directories with packet tests and, unless -f names them, the definitions of their lab
    #[arg(value_name = "PATH", required = true)]
    pub paths: Vec<PathBuf>,
    /// Definitions of the lab that the tests run in
    #[arg(short, long = "file", value_name = "PATH", num_args = 1)]
    pub file: Vec<PathBuf>,
    /// Run only tests whose name contains this
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// List the tests and run none
    #[arg(long)]
    pub list: bool,
    /// Tests at a time; as many as there are cores by default
    #[arg(short, long, value_name = "N", value_parser = RangedU64ValueParser::<usize>::new().range(1..))]
    pub jobs: Option<usize>,
    /// Write the results as JUnit XML too
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: TestFormat,
}

/// `up`.
#[derive(Debug, Args)]
pub struct Up {
    /// The lab.
    #[command(flatten)]
    pub lab: Lab,
    /// End after this many seconds; without, on SIGINT or SIGTERM
    #[arg(long, value_name = "SECONDS")]
    pub duration: Option<u64>,
}

/// The tables of `get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// Layer-2 segments and their subnets
    Segments,
    /// Pods and their addresses
    Pods,
    /// Hypervisors, control-plane VMs and external hosts
    Hosts,
    /// Kubernetes services
    Services,
    /// Virtual servers of both load balancers
    Virtualservers,
    /// NAT rules in the order of evaluation
    Nat,
    /// Distributed firewall rules in the order of evaluation
    Dfw,
    /// Routes of all gateways
    Routes,
    /// Sessions
    Sessions,
    /// Ports and their traffic
    Ports,
    /// Dropped frames by cause
    Drops,
}

/// `get`.
#[derive(Debug, Args)]
pub struct Get {
    /// Which table
    #[arg(value_enum)]
    pub kind: Kind,
    /// The lab.
    #[command(flatten)]
    pub lab: Lab,
    /// Only objects of this namespace
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `ping`.
#[derive(Debug, Args)]
pub struct Ping {
    /// Who pings: pod/NS/NAME, host/NAME[:IF] or vm/NAME[:ethN]
    pub from: String,
    /// Who is pinged: the same, svc/NS/NAME or an address
    pub to: String,
    /// The lab.
    #[command(flatten)]
    pub lab: Lab,
    /// Requests to send
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_535))]
    pub count: u32,
    /// Octets of data
    #[arg(short, long, default_value_t = 56, value_parser = clap::value_parser!(u16).range(..=65_507))]
    pub size: u16,
    /// TTL of the requests
    #[arg(short, long, value_parser = clap::value_parser!(u8).range(1..))]
    pub ttl: Option<u8>,
    /// Forbid fragmentation
    #[arg(long)]
    pub df: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Brief,
}

/// Formats of commands that print no table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Brief {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// `curl`.
#[derive(Debug, Args)]
pub struct Curl {
    /// Who asks: pod/NS/NAME, host/NAME or vm/NAME
    pub from: String,
    /// http://ADDRESS-OR-NAME[:PORT][/PATH]; names are resolved by the asker's name server
    pub url: String,
    /// The lab.
    #[command(flatten)]
    pub lab: Lab,
    /// Print status and headers too
    #[arg(short, long)]
    pub include: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Brief,
}

/// Protocols of `trace` and `matrix`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Proto {
    /// TCP
    #[default]
    Tcp,
    /// UDP
    Udp,
    /// ICMP echo
    Icmp,
}

/// `trace`.
#[derive(Debug, Args)]
pub struct Trace {
    /// Who sends: pod/NS/NAME, host/NAME[:IF] or vm/NAME[:ethN]
    pub from: String,
    /// Who is sent to: the same, svc/NS/NAME or an address; with :PORT for TCP and UDP
    pub to: String,
    /// The lab.
    #[command(flatten)]
    pub lab: Lab,
    /// Protocol; ICMP echo where no port is given
    #[arg(long, value_enum)]
    pub proto: Option<Proto>,
    /// Follow the first answer too
    #[arg(long)]
    pub reply: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Brief,
}

/// `matrix`.
#[derive(Debug, Args)]
pub struct Matrix {
    /// The lab.
    #[command(flatten)]
    pub lab: Lab,
    /// Only pods of this namespace as sources and destinations
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Ports to probe, for instance tcp/80,udp/53
    #[arg(long, value_name = "PROTO/PORT,...", value_delimiter = ',', required = true)]
    pub ports: Vec<String>,
    /// Services as destinations too
    #[arg(long)]
    pub services: bool,
    /// Outside clients: external hosts by name or address
    #[arg(long, value_name = "HOST,...", value_delimiter = ',')]
    pub ext: Vec<String>,
    /// Compare with this CSV; exit 1 and list the rows that differ
    #[arg(long, value_name = "FILE")]
    pub expect: Option<PathBuf>,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `replay`.
#[derive(Debug, Args)]
pub struct Replay {
    /// The lab.
    #[command(flatten)]
    pub lab: Lab,
    /// Frames that enter at a port
    #[arg(long = "in", value_name = "PORT=FILE.pcap", required = true)]
    pub inputs: Vec<String>,
    /// Further ports whose output is written
    #[arg(long, value_name = "PORT")]
    pub tap: Vec<String>,
    /// Directory that gets PORT.pcap for every port named
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// How long the clock runs on after the last frame
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    pub drain: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expanded(args: &[&str]) -> Vec<String> {
        expand(args.iter().map(OsString::from))
            .into_iter()
            .map(|a| a.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn file_takes_every_path_that_exists_and_nothing_else() {
        assert_eq!(
            expanded(&["tierlab", "ping", "-f", "missing.yaml", "/", "-", "pod/x/a", "pod/x/b"]),
            ["tierlab", "ping", "-f", "missing.yaml", "-f", "/", "-f", "-", "pod/x/a", "pod/x/b"]
        );
        assert_eq!(
            expanded(&["tierlab", "get", "pods", "-n", "x", "-f", "a", "-o", "json"]),
            ["tierlab", "get", "pods", "-n", "x", "-f", "a", "-o", "json"]
        );
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
