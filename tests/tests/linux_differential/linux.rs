//! Linux's half: two routers in network namespaces, and a third namespace with every end.
//!
//! ```text
//! ends ── red ───┐
//! ends ── blue ── t1 (nftables: rules.nft) ── uplink ── t0 ── out (MTU 1300) ── ends
//! ends ── violet ┘
//! ```
//! The Tier-0 has `tier0.nft`.
//! The ends have no addresses and no stack: `agent.py` sends and captures there. Neighbours are static.
//!
//! Nothing waits by the clock: behind every sending goes a datagram to the server and one back, and as
//! all of it is one queue (see `agent.py`), what has not come before the second does not come.

use std::io::{self, BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use tierlab_tests::{Finished, run};

use crate::packet::Ip;
use crate::wire::{End, Mac, Wire};

/// Long enough for a busy machine; a test that works never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

const RULES: &str = include_str!("rules.nft");
const TIER0_RULES: &str = include_str!("tier0.nft");
const AGENT: &str = include_str!("agent.py");
const ROUTER_PROGRAM: &str = include_str!("router.py");

const TOOLS: [&str; 4] = ["ip", "nft", "python3", "sh"];

/// Ports of the datagrams that follow every sending; no scenario uses them.
const MARKER_PORTS: (u16, u16) = (61_000, 61_001);

/// Whether `test` can run here. If not it says so, loudly, or fails where skipping is not wanted.
pub fn privileged(test: &str) -> bool {
    let Some(reason) = missing() else { return true };
    let set = |name, value| std::env::var(name).is_ok_and(|v| v == value);
    if set("CI", "true") || set("TIERLAB_REQUIRE_PRIVILEGED", "1") {
        panic!("{test} must not be skipped here, but cannot run: {reason}");
    }
    // Not `eprintln!`: the test harness swallows what passing tests print with it.
    let _ = writeln!(io::stderr(), "SKIPPED: {test} because {reason}");
    false
}

fn missing() -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let absent = |tool: &&&str| !path.split(':').any(|place| Path::new(place).join(tool).is_file());
    let absent: Vec<&str> = TOOLS.iter().filter(absent).copied().collect();
    if !absent.is_empty() {
        let packages = "apt install iproute2 nftables python3";
        return Some(format!("not installed: {} ({packages})", absent.join(", ")));
    }
    let id = run(Command::new("id").arg("-u"), PATIENCE).and_then(Finished::success);
    if id.as_deref().map(str::trim) != Ok("0") {
        return Some("not root".to_owned());
    }
    let probe = match Namespace::add("probe") {
        Ok(probe) => probe,
        Err(error) => return Some(format!("no network namespaces: {}", error.trim())),
    };
    let rules = probe.load(RULES);
    rules.err().map(|error| format!("the kernel does not take the rules: {}", error.trim()))
}

/// A network namespace, for as long as this lives. Deleting it deletes its interfaces too.
struct Namespace(String);

impl Namespace {
    fn add(role: &str) -> Result<Namespace, String> {
        let name = format!("tld{}-{role}", std::process::id());
        run(Command::new("ip").args(["netns", "add", &name]), PATIENCE)?.success()?;
        Ok(Namespace(name))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0]).args(arguments);
        command
    }

    /// Loads nftables rules.
    fn load(&self, rules: &str) -> Result<String, String> {
        let file = tempfile::NamedTempFile::new().map_err(|error| error.to_string())?;
        std::fs::write(file.path(), rules).map_err(|error| error.to_string())?;
        let file = file.path().to_string_lossy();
        run(&mut self.command(&["nft", "-f", &file]), PATIENCE)?.success()
    }

    /// Runs lines of `ip`.
    fn ip(&self, lines: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), lines).unwrap();
        let mut command = Command::new("ip");
        command.args(["-n", &self.0, "-batch"]).arg(file.path());
        run(&mut command, PATIENCE).unwrap().success().unwrap_or_else(|e| panic!("{lines}{e}"));
    }

    /// Writes values below /proc/sys/net.
    fn set(&self, values: &[(&str, &str)]) {
        let lines =
            values.iter().map(|(name, value)| format!("echo {value} >/proc/sys/net/{name}\n"));
        let script = format!("set -e\n{}", lines.collect::<String>());
        let done = run(&mut self.command(&["sh", "-c", &script]), PATIENCE).unwrap();
        done.success().unwrap_or_else(|error| panic!("{script}{error}"));
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "delete", &self.0]), PATIENCE);
    }
}

/// A Python program in a namespace that is told what to do, a line a command.
struct Agent {
    child: Child,
    commands: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Agent {
    fn start(namespace: &Namespace, program: &str, interfaces: &[&str]) -> Agent {
        let mut command = namespace.command(&[&["python3", "-c", program], interfaces].concat());
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        // `ip netns exec` becomes the program: the child's id is the program's.
        let mut child = command.spawn().unwrap();
        let commands = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut agent = Agent { child, commands, answers };
        assert_eq!(agent.line(), "ready");
        agent
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(!line.is_empty(), "the agent has ended; its standard error says why");
        line.trim_end().to_owned()
    }

    fn tell(&mut self, command: &str, interface: &str, octets: &[u8]) {
        let hex: String = octets.iter().map(|octet| format!("{octet:02x}")).collect();
        writeln!(self.commands.as_mut().unwrap(), "{command} {interface} {hex}").unwrap();
    }

    /// All that comes in until a frame that ends with `marker` is at `interface`.
    fn until(&mut self, interface: &str, marker: &[u8], into: &mut Vec<(String, Vec<u8>)>) {
        self.tell("until", interface, marker);
        loop {
            let line = self.line();
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["frame", interface, hex] => {
                    let octets = (0..hex.len()).step_by(2);
                    let frame = octets.map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
                    into.push((interface.to_owned(), frame.collect()));
                }
                ["done"] => return,
                _ => panic!("{line}: a marker did not come to {interface}; there came {into:02x?}"),
            }
        }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It ends at the end of its input.
        self.commands = None;
        let _ = self.child.wait();
    }
}

pub struct Linux {
    // Dropped in this order: programs end before their namespaces go.
    /// `agent.py` at the ends.
    agent: Agent,
    /// `router.py` at the Tier-1 and the Tier-0.
    routers: [Agent; 2],
    _namespaces: [Namespace; 3],
    marker: u32,
}

const ENDS: &str = "
link add red type veth peer name red netns @t1
link add blue type veth peer name blue netns @t1
link add violet type veth peer name violet netns @t1
link add out type veth peer name out netns @t0
link set red up
link set blue up
link set violet up
link set out up
";

/// The SNAT addresses and the VIP are the router's own, as masquerading and most balancers have it. What has
/// to be translated and is not leads nowhere, and nobody is told.
const T1: &str = "
link set lo up
link set red address 02:00:00:00:01:01
link set blue address 02:00:00:00:01:02
link set violet address 02:00:00:00:01:04
link add uplink type veth peer name uplink netns @t0
address add 10.244.0.33/28 dev red
address add 10.244.0.17/28 dev blue
address add 10.244.0.49/28 dev violet
address add 100.64.0.1/31 dev uplink
address add 172.16.2.2/32 dev lo
address add 172.16.2.3/32 dev lo
address add 172.16.2.4/32 dev lo
address add 172.16.1.1/32 dev lo
link set red up
link set blue up
link set violet up
link set uplink address 02:00:00:00:02:01
link set uplink up
neighbor add 10.244.0.34 lladdr 02:00:00:00:00:00 dev red nud permanent
neighbor add 10.244.0.35 lladdr 02:00:00:00:00:01 dev red nud permanent
neighbor add 10.244.0.18 lladdr 02:00:00:00:00:02 dev blue nud permanent
neighbor add 10.244.0.50 lladdr 02:00:00:00:00:04 dev violet nud permanent
neighbor add 10.244.0.51 lladdr 02:00:00:00:00:05 dev violet nud permanent
neighbor add 10.244.0.52 lladdr 02:00:00:00:00:06 dev violet nud permanent
neighbor add 100.64.0.0 lladdr 02:00:00:00:02:00 dev uplink nud permanent
route add blackhole 172.16.0.0/16
";

const T0: &str = "
link set lo up
link set uplink address 02:00:00:00:02:00
link set out address 02:00:00:00:01:03 mtu 1300
address add 100.64.0.0/31 dev uplink
address add 192.168.100.2/24 dev out
link set uplink up
link set out up
neighbor add 100.64.0.1 lladdr 02:00:00:00:02:01 dev uplink nud permanent
neighbor add 192.168.100.1 lladdr 02:00:00:00:00:03 dev out nud permanent
route add 10.244.0.0/20 via 100.64.0.1
route add 172.16.0.0/16 via 100.64.0.1
";

const ROUTER: [(&str, &str); 6] = [
    ("ipv4/ip_forward", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    // No kind of ICMP message is held back: a scenario needs every one of its own.
    ("ipv4/icmp_ratemask", "0"),
];

impl Linux {
    pub fn new() -> Linux {
        let [ends, t1, t0] = ["ends", "t1", "t0"].map(|role| Namespace::add(role).unwrap());
        // Absent where the kernel has no IPv6.
        if Path::new("/proc/sys/net/ipv6").exists() {
            let off =
                ["ipv6/conf/all/disable_ipv6", "ipv6/conf/default/disable_ipv6"].map(|n| (n, "1"));
            [&ends, &t1, &t0].into_iter().for_each(|namespace| namespace.set(&off));
        }
        t1.set(&ROUTER);
        t0.set(&ROUTER);
        let names = |lines: &str| lines.replace("@t1", &t1.0).replace("@t0", &t0.0);
        ends.ip(&names(ENDS));
        t1.ip(&names(T1));
        t0.ip(&names(T0));
        t1.ip("route add default via 100.64.0.0\n");
        let tier1 = Agent::start(&t1, ROUTER_PROGRAM, &["red", "blue", "violet", "uplink"]);
        let tier0 = Agent::start(&t0, ROUTER_PROGRAM, &["uplink", "out"]);
        t1.load(RULES).unwrap();
        t0.load(TIER0_RULES).unwrap();
        // A session begins with a SYN.
        t1.set(&[("netfilter/nf_conntrack_tcp_loose", "0")]);
        let agent = Agent::start(&ends, AGENT, &["red", "blue", "violet", "out"]);
        Linux { agent, routers: [tier1, tier0], _namespaces: [ends, t1, t0], marker: 0 }
    }

    fn send(&mut self, from: End, frame: &[u8]) {
        self.agent.tell("send", interface(from), frame);
    }

    /// A datagram that nothing else is like.
    fn marker(&mut self, from: End, packet: &Ip) -> Vec<u8> {
        let (own, gateway) = self.macs(from);
        self.send(from, &[gateway.as_slice(), &own, &[8, 0], &packet.bytes()].concat());
        packet.payload[8..].to_vec()
    }
}

fn interface(end: End) -> &'static str {
    match end {
        End::Client | End::Other => "red",
        End::Web => "blue",
        End::Pooled | End::Target | End::Twin => "violet",
        End::Server => "out",
    }
}

impl Wire for Linux {
    fn begin(&mut self) {
        for router in &mut self.routers {
            writeln!(router.commands.as_mut().unwrap(), "forget").unwrap();
            assert_eq!(router.line(), "done");
        }
    }

    fn exchange(&mut self, from: End, frames: &[Vec<u8>]) -> Vec<(End, Vec<u8>)> {
        for frame in frames {
            self.send(from, frame);
        }
        self.marker += 1;
        let text = format!("marker {:08x}", self.marker);
        let (sport, dport) = MARKER_PORTS;
        let (client, server) = (End::Client.address(), End::Server.address());
        let snat = crate::scenarios::RED_OUTSIDE;
        let mut seen = Vec::new();
        let there = Ip::udp((client, sport), (server, dport), format!("{text} >").as_bytes());
        let marker = self.marker(End::Client, &there);
        self.agent.until("out", &marker, &mut seen);
        let back = Ip::udp((server, dport), (snat, sport), format!("{text} <").as_bytes());
        let marker = self.marker(End::Server, &back);
        self.agent.until("red", &marker, &mut seen);
        seen.retain(|(_, frame)| !frame.windows(text.len()).any(|part| part == text.as_bytes()));
        let end_of = |(interface, frame): (String, Vec<u8>)| {
            let is = |end| frame[..6] == self.macs(end).0;
            let end = match interface.as_str() {
                "red" if is(End::Other) => End::Other,
                "red" => End::Client,
                "blue" => End::Web,
                "violet" if is(End::Pooled) => End::Pooled,
                "violet" if is(End::Twin) => End::Twin,
                "violet" => End::Target,
                _ => End::Server,
            };
            (end, frame)
        };
        seen.into_iter().map(end_of).collect()
    }

    fn macs(&self, end: End) -> (Mac, Mac) {
        let (own, gateway) = match end {
            End::Client => (0, 1),
            End::Other => (1, 1),
            End::Web => (2, 2),
            End::Server => (3, 3),
            End::Pooled => (4, 4),
            End::Target => (5, 4),
            End::Twin => (6, 4),
        };
        ([2, 0, 0, 0, 0, own], [2, 0, 0, 0, 1, gateway])
    }

    fn is_reference(&self) -> bool {
        true
    }
}
