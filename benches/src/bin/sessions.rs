//! `sessions FLOWS RULES [udp|tcp] [nocache] [sparse]`: new sessions through the whole chain (DFW, SNAT,
//! both gateways), first packet and first reply, the table growing from nothing to FLOWS; with RULES
//! more firewall rules that do not match. Prints new sessions a second by tenth of the fill, with the
//! longest batch, resident memory a session, and how long the expiry of all of them takes.
//!
//! The same frames in every run. For callgrind, whose counts do not depend on the machine's load:
//! `valgrind --tool=callgrind --toggle-collect='*process_batch*' target/release/sessions 2000 0`
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say why and stop")]

use definitions::Input;
use engine::network::{
    Action, AddressSet, Category, Direction, Network, PortId, Rule, Service, ServicePorts,
};
use engine::{Received, Worker, WorkerConfig};
use packet::{Addr, Frame, FrameBuilder, Mac, Payload, Time, tcp_flags};
use realization::{Allocations, Realized};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Frames a batch, as the live lab takes them from a port.
const BATCH: usize = 64;
/// Flows whose frames are made at a time.
const AHEAD: usize = 8_192;

/// How the flows are made.
#[derive(Clone, Copy)]
struct Setup {
    tcp: bool,
    /// A new second begins with every thousandth flow.
    sparse: bool,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |at: usize, default: usize| {
        arguments.get(at).map_or(default, |a| a.parse().expect("a number"))
    };
    let (flows, rules) = (number(0, 100_000), number(1, 0));
    let has = |word: &str| arguments.iter().any(|a| a == word);
    let realized = supervisor();
    let mut net = network(&realized);
    net.timers.max_sessions = net.timers.max_sessions.max(flows * 2);
    net.timers.max_tenant_sessions = net.timers.max_tenant_sessions.max(flows * 2);
    let net = with_rules(&net, u32::try_from(rules).expect("a number of rules"));
    let config = WorkerConfig { seed: net.seed, cache: !has("nocache"), ..WorkerConfig::default() };
    let setup = Setup { tcp: has("tcp"), sparse: has("sparse") };
    fill(&net, &ends(&realized), config, flows, setup);
}

fn fill(net: &Network, ends: &Ends, config: WorkerConfig, flows: usize, setup: Setup) {
    let mut worker = Worker::new(config);
    // The first ones, one by one, have the neighbours on every path asked for.
    for first in 0..BATCH {
        open(net, &mut worker, ends, first, 1, setup);
    }
    let before = resident();
    let tenth = (flows / 10).max(1);
    let (mut at, mut rates) = (BATCH, Vec::new());
    while at < flows {
        let (mut spent, mut opened) = (Spent::default(), 0);
        while opened < tenth && at < flows {
            let count = AHEAD.min(flows - at).min(tenth - opened);
            spent.add(&open(net, &mut worker, ends, at, count, setup));
            at += count;
            opened += count;
        }
        let rate = |time: Duration| opened as f64 / time.as_secs_f64();
        let Spent { wall, cpu, longest } = spent;
        println!(
            "{at:>9} sessions: {:>9.0}/s, by CPU time {:>9.0}/s, longest batch {longest:?}",
            rate(wall),
            rate(cpu)
        );
        rates.push(rate(cpu));
    }
    let bytes = resident().saturating_sub(before) as f64 / flows as f64;
    rates.sort_by(f64::total_cmp);
    let median = rates.get(rates.len() / 2).copied().unwrap_or_default();
    println!("median {median:.0} new sessions/s of CPU time, {bytes:.0} resident octets each");
    let (after, began) = (Time::from_secs(1_000_000), cpu_time());
    expire(net, &mut worker, after);
    println!("expired in {:?} of CPU time", cpu_time() - began);
    assert_eq!(worker.sessions().len(), 0, "all have expired");
}

#[inline(never)]
fn expire(net: &Network, worker: &mut Worker, now: Time) {
    worker.advance(net, now, &mut Vec::new());
}

/// How long something took.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    wall: Duration,
    /// The same without what the system gave to others. It advances in ticks: right in sum.
    cpu: Duration,
    /// The longest single batch.
    longest: Duration,
}

impl Spent {
    fn add(&mut self, more: &Spent) {
        self.wall += more.wall;
        self.cpu += more.cpu;
        self.longest = self.longest.max(more.longest);
    }
}

/// First packets of `count` flows, then their first replies. Frames are made before, and dropped after,
/// the time that is taken.
fn open(
    net: &Network,
    worker: &mut Worker,
    ends: &Ends,
    first: usize,
    count: usize,
    setup: Setup,
) -> Spent {
    let (port, mac, source) = ends.inside;
    let now = Time::from_millis(if setup.sparse { 1 + first as u64 } else { 1 });
    let asks = (first..first + count).map(|i| {
        let src_port = u16::try_from(1024 + i % 50_000).unwrap_or(u16::MAX);
        let dst_port = u16::try_from(9 + i / 50_000).unwrap_or(u16::MAX);
        let frame = FrameBuilder::new(source, ends.outside).macs(mac, ends.gateway);
        let frame = if setup.tcp {
            frame.tcp(src_port, dst_port, tcp_flags::SYN).build()
        } else {
            frame.udp(src_port, dst_port).payload(&[0; 18]).build()
        };
        Received { port, frame }
    });
    let (mut spent, mut tx) = send(net, worker, asks.collect(), now);
    // Neighbours that are asked for answer, and the packets that waited go on.
    while let Some(at) = tx.iter().position(|(_, frame)| asks_neighbor(frame)) {
        let (out, frame) = tx.swap_remove(at);
        let headers = packet::parse(&frame.bytes).expect("a frame of its own");
        let own = Mac([0x02, 0, 0, 0, 0, u8::try_from(out.0 % 256).unwrap_or(0)]);
        let reply = packet::arp_reply(&headers, own).expect("a request");
        let mut batch = vec![Received { port: out, frame: reply }];
        worker.process(net, &mut batch, now, &mut tx);
    }
    assert_eq!(tx.len(), count, "every first packet comes out");
    let replies = tx.iter().map(|(out, frame)| answer(*out, frame)).collect();
    let (more, tx) = send(net, worker, replies, now);
    assert_eq!(tx.len(), count, "every reply comes out");
    spent.add(&more);
    spent
}

/// Sends frames in batches, and keeps what comes out.
fn send(
    net: &Network,
    worker: &mut Worker,
    frames: Vec<Received>,
    now: Time,
) -> (Spent, Vec<(PortId, Frame)>) {
    let mut tx = Vec::with_capacity(frames.len() + BATCH);
    let mut batch = Vec::with_capacity(BATCH);
    let mut frames = frames.into_iter();
    let mut spent = Spent::default();
    let (began, began_cpu) = (Instant::now(), cpu_time());
    loop {
        batch.extend(frames.by_ref().take(BATCH));
        if batch.is_empty() {
            break;
        }
        let began = Instant::now();
        process_batch(net, worker, &mut batch, now, &mut tx);
        spent.longest = spent.longest.max(began.elapsed());
    }
    spent.wall = began.elapsed();
    spent.cpu = cpu_time() - began_cpu;
    (spent, tx)
}

/// Time on the CPU so far; wall time where the system does not tell.
fn cpu_time() -> Duration {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = stat.split_whitespace().next().and_then(|n| n.parse().ok());
    nanos.map_or_else(|| START.elapsed(), Duration::from_nanos)
}

fn answer(port: PortId, frame: &Frame) -> Received {
    let headers = packet::parse(&frame.bytes).expect("a frame of its own");
    let ip = headers.ip().expect("an IP packet");
    let back = FrameBuilder::new(ip.dst, ip.src).macs(headers.dst_mac, headers.src_mac);
    let (src_port, dst_port) = ip.ports();
    let frame = if ip.tcp().is_some() {
        back.tcp(dst_port, src_port, tcp_flags::SYN | tcp_flags::ACK).build()
    } else {
        back.udp(dst_port, src_port).payload(&[0; 18]).build()
    };
    Received { port, frame }
}

fn asks_neighbor(frame: &Frame) -> bool {
    packet::parse(&frame.bytes)
        .is_ok_and(|h| matches!(h.payload, Payload::Arp(arp) if arp.operation == 1))
}

/// What is measured.
#[inline(never)]
fn process_batch(
    net: &Network,
    worker: &mut Worker,
    batch: &mut Vec<Received>,
    now: Time,
    tx: &mut Vec<(PortId, Frame)>,
) {
    worker.process(net, batch, now, tx);
}

/// Resident memory of this process, octets.
fn resident() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split_whitespace().nth(1).and_then(|p| p.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}

/// The two ends of the flows.
struct Ends {
    /// The workload's port, MAC and address.
    inside: (PortId, Mac, Addr),
    /// The MAC of its gateway.
    gateway: Mac,
    /// The address outside that it talks to.
    outside: Addr,
}

/// The lab of the source articles.
fn supervisor() -> Realized {
    let loaded = definitions::load(&[Input::Path(
        concat!(env!("CARGO_MANIFEST_DIR"), "/../topologies/supervisor").into(),
    )])
    .expect("the lab loads");
    realization::realize(&loaded.definitions, &Allocations::default()).expect("the lab is realized")
}

/// Its network, ready for a worker.
fn network(realized: &Realized) -> Network {
    let mut network = realized.network.clone();
    network.epoch = 1;
    network.seed = 7;
    network
}

/// A pod of it and a client outside: between them are firewall, SNAT, both gateways and ECMP.
fn ends(realized: &Realized) -> Ends {
    let (_, teller) = realized.names.port("pod/banking/teller").expect("the lab's pod");
    let (_, client) = realized.names.port("host/client").expect("the lab's client");
    let address =
        |place: &realization::names::Place| place.addresses.first().copied().expect("an address");
    Ends {
        inside: (teller.port, teller.mac, address(teller)),
        gateway: Mac([0x02, 0x50, 0x56, 0x56, 0x44, 0x52]),
        outside: address(client),
    }
}

/// A network with `count` rules before its own that match nothing of the flow: each has a destination of
/// its own, every second one a port too.
fn with_rules(net: &Network, count: u32) -> Network {
    let mut net = net.clone();
    let own = u32::try_from(net.firewall.rules.len()).expect("a few rules");
    let tcp = |port: u16| Service {
        protocol: packet::protocol::TCP,
        ports: ServicePorts::Destination(vec![(port, port)]),
    };
    for i in 0..count {
        // Of the network for benchmarks (RFC 2544, C.2.2).
        let none = Addr::v4(0xc612_0000 + i % 0x2_0000);
        net.firewall.rules.push(Rule {
            id: 100_000 + i,
            name: format!("bench-{i}"),
            section: "bench".into(),
            origin: "bench".into(),
            category: Category::Application,
            direction: Direction::Out,
            source: AddressSet::any(),
            source_text: "any".into(),
            destination: AddressSet::from_ranges([(none, none)]),
            destination_text: none.to_string(),
            services: if i % 2 == 0 { Vec::new() } else { vec![tcp((i % 60_000) as u16)] },
            strict: true,
            applied_to_text: "all".into(),
            action: Action::Drop,
        });
    }
    for vnic in net.ports.iter_mut().filter_map(|p| p.vnic.as_mut()) {
        vnic.rules_out = (own..own + count).chain(vnic.rules_out.iter().copied()).collect();
    }
    net
}
