//! Commands and their arguments.

mod bench;

pub use bench::Bench;

use crate::output::Format;
use clap::builder::RangedU64ValueParser;
use clap::{Args, Parser, Subcommand, ValueEnum};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Lets `-f` take several paths and still be followed by other arguments: `-f A B pod/x/a` becomes
/// `-f A -f B pod/x/a`, because the first value is always a path and a further one is if it exists. One that does
/// not exist but can be nothing else is taken for a path too, so that it is missed by its name.
pub fn expand(args: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut out: Vec<OsString> = Vec::new();
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
            let command = out.get(1).map(|command| command.to_string_lossy());
            if text == "-"
                || Path::new(&arg).exists()
                || is_only_a_path(command.as_deref().unwrap_or_default(), &text)
            {
                out.push("-f".into());
            } else {
                after_file = 0;
            }
        }
        out.push(arg);
    }
    out
}

/// Whether an argument of `command` that is no file can only have been meant as one.
fn is_only_a_path(command: &str, text: &str) -> bool {
    let definition = [".yaml", ".yml", ".json"].iter().any(|end| text.ends_with(end));
    let lab_name = ["pod/", "svc/", "host/", "vm/"].iter().any(|kind| text.starts_with(kind));
    match command {
        // Its paths without -f are files as well.
        "test" => false,
        // A URL may be without its scheme.
        "curl" => ["/", "./", "../"].iter().any(|start| text.starts_with(start)),
        _ => definition || text.contains('/') && !lab_name,
    }
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
    /// List the running labs
    Labs(Labs),
    /// Change a running lab: have these objects as they are written
    Apply(Apply),
    /// Change a running lab: have these objects no more
    Delete(Delete),
    /// End a running lab
    Down(Down),
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
    /// Measure what the network of a lab costs a packet
    Bench(Bench),
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

/// A lab that is built for the command, or one that is running.
#[derive(Clone, Debug, Args)]
pub struct AnyLab {
    /// Files and directories with definitions; `-` is standard input
    #[arg(short, long = "file", value_name = "PATH", num_args = 1, conflicts_with = "running")]
    pub file: Vec<PathBuf>,
    /// Directory with the allocations of a lab that has run before
    #[arg(long, value_name = "DIR", default_value = ".tierlab")]
    pub state: PathBuf,
    /// A running lab; without this and -f, the only one that is running
    #[arg(long = "lab", value_name = "NAME")]
    pub running: Option<String>,
}

impl AnyLab {
    /// The lab that is to be built; `None` if a running one is meant.
    pub fn built(&self) -> Option<Lab> {
        let Self { file, state, .. } = self;
        (!file.is_empty()).then(|| Lab { file: file.clone(), state: state.clone() })
    }
}

/// A running lab.
#[derive(Clone, Debug, Args)]
pub struct RunningLab {
    /// The lab; without, the only one that is running
    #[arg(long = "lab", value_name = "NAME")]
    pub running: Option<String>,
}

/// `labs`.
#[derive(Debug, Args)]
pub struct Labs {
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `apply`.
#[derive(Debug, Args)]
pub struct Apply {
    /// Files and directories with what is to be there; `-` is standard input
    #[arg(short, long = "file", value_name = "PATH", num_args = 1, required = true)]
    pub file: Vec<PathBuf>,
    /// The lab.
    #[command(flatten)]
    pub lab: RunningLab,
}

/// `delete`.
#[derive(Debug, Args)]
pub struct Delete {
    /// Kind of the object: as in a manifest, or in kubectl's words, like netpol
    #[arg(requires = "name", required_unless_present = "file", conflicts_with = "file")]
    pub kind: Option<String>,
    /// Its name
    pub name: Option<String>,
    /// Its namespace
    #[arg(short, long, value_name = "NS")]
    pub namespace: Option<String>,
    /// Files and directories with the objects that are to go; `-` is standard input
    #[arg(short, long = "file", value_name = "PATH", num_args = 1)]
    pub file: Vec<PathBuf>,
    /// The lab.
    #[command(flatten)]
    pub lab: RunningLab,
}

/// `down`.
#[derive(Debug, Args)]
pub struct Down {
    /// The lab.
    #[command(flatten)]
    pub lab: RunningLab,
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
    /// An object: the counts and an array of results.
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
    /// Name of the running lab, for other commands; the SupervisorCluster's by default
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
}

/// The tables of `get`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Kind {
    /// Namespaces, their networks, egress addresses and what NCP would say of these
    Namespaces,
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
    /// Gateway firewall rules in the order of evaluation
    #[value(alias = "gfw")]
    Gatewayfirewall,
    /// Routes of all gateways
    Routes,
    /// Sessions
    Sessions,
    /// Ports and their traffic
    Ports,
    /// Neighbours of the gateways
    Neighbors,
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
    pub lab: AnyLab,
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
    /// http://ADDRESS-OR-NAME[:PORT][/PATH], names resolved by the asker's name server; or
    /// svc/NS/NAME[:PORT][/PATH], pod/..., host/... or vm/...
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
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
    pub lab: AnyLab,
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
    #[arg(long, value_name = "PROTO/PORT,...", num_args = 1.., value_delimiter = ',', required = true)]
    pub ports: Vec<String>,
    /// Services as destinations too
    #[arg(long)]
    pub services: bool,
    /// Outside clients: external hosts by name or address
    #[arg(long, value_name = "HOST,...", num_args = 1.., value_delimiter = ',')]
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
    #[arg(long = "in", value_name = "PORT=FILE.pcap", num_args = 1.., required = true)]
    pub inputs: Vec<String>,
    /// Further ports whose output is written
    #[arg(long, value_name = "PORT,...", num_args = 1.., value_delimiter = ',')]
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
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
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
    fn a_missing_file_is_no_other_argument() {
        for path in ["b.yaml", "b.yml", "dir/b", "./b", "/no/such", "b.json"] {
            assert_eq!(
                expanded(&["tierlab", "get", "-f", "missing.yaml", path, "pods"]),
                ["tierlab", "get", "-f", "missing.yaml", "-f", path, "pods"]
            );
        }
        for other in ["pod/x/a", "svc/x/a:80", "host/h:eth0", "vm/cp-1", "10.0.0.1", "pods"] {
            assert_eq!(
                expanded(&["tierlab", "trace", "-f", "missing.yaml", other]),
                ["tierlab", "trace", "-f", "missing.yaml", other]
            );
        }
        for url in ["http://a/b.json", "10.0.0.1/b.yaml", "web.shop/x"] {
            assert_eq!(
                expanded(&["tierlab", "curl", "-f", "missing.yaml", url]),
                ["tierlab", "curl", "-f", "missing.yaml", url]
            );
        }
    }

    #[test]
    fn lists_are_taken_in_every_form() {
        for line in [
            "replay -f l --in a=1 b=2 --tap p q --out d",
            "replay -f l --in a=1 --in b=2 --tap p,q --out d",
            "replay -f l --tap p --in a=1 b=2 --tap q --out d",
        ] {
            let args = ["tierlab"].into_iter().chain(line.split(' '));
            let Command::Replay(replay) = Cli::try_parse_from(args).unwrap().command else {
                panic!("{line}")
            };
            assert_eq!(replay.inputs, ["a=1", "b=2"], "{line}");
            assert_eq!(replay.tap, ["p", "q"], "{line}");
        }
        let line = "tierlab matrix -f l --ports tcp/80 udp/53,tcp/443 --ext a b";
        let Command::Matrix(matrix) = Cli::try_parse_from(line.split(' ')).unwrap().command else {
            panic!("{line}")
        };
        assert_eq!(matrix.ports, ["tcp/80", "udp/53", "tcp/443"]);
        assert_eq!(matrix.ext, ["a", "b"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
