//! What is sent in each combination, and everything that must come of it.

use std::collections::BTreeMap;

use engine::network::{Network, PortId};
use engine::{DropReason, Received, Stage, Worker, WorkerConfig};
use packet::{Frame, Headers, IcmpMessage, Payload, Time, Transport};

use crate::lab::{Address, End, Lab};
use crate::table::{Cell, Guard, OWN_PORTS, Path, Policy, Protocol, Size, Towards};
use crate::wire::{Body, Packet, Segment, TTL};

/// The client's own port, which every translation keeps because nobody else has it.
const CLIENT_PORT: u16 = 40_000;
/// Data octets of what is fragmented: three pieces.
const LARGE: usize = 1_200;
const SMALL: usize = 24;
/// Orders in which three fragments come.
const ORDERS: [[usize; 3]; 3] = [[0, 1, 2], [2, 1, 0], [1, 0, 2]];

type Drops = BTreeMap<(Stage, DropReason, String), u64>;

/// What came of sending: frames by the name of their port, and drops.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    frames: Vec<(String, Vec<u8>)>,
    drops: Drops,
}

/// A worker in the lab, fresh for each conversation.
struct Bench<'l> {
    lab: &'l Lab,
    net: &'l Network,
    worker: Worker,
}

impl<'l> Bench<'l> {
    fn new(lab: &'l Lab, policy: Policy) -> Bench<'l> {
        let worker = Worker::new(WorkerConfig { seed: 7, ..WorkerConfig::default() });
        Bench { lab, net: lab.under(policy), worker }
    }

    fn drops(&self) -> Drops {
        let mut drops = Drops::new();
        for (key, traffic) in self.worker.drops() {
            *drops.entry((key.stage, key.reason, key.object.clone())).or_default() +=
                traffic.packets;
        }
        drops
    }

    /// Sends frames one by one; hosts outside answer when they are asked for their MAC.
    fn send(&mut self, from: End, frames: Vec<Vec<u8>>) -> Seen {
        let before = self.drops();
        let mut seen = Seen::default();
        let mut queue: Vec<(PortId, Frame)> =
            frames.into_iter().map(|f| (self.lab.port(from), Frame::new(f))).collect();
        while !queue.is_empty() {
            let mut answers = Vec::new();
            for (port, frame) in queue {
                let mut tx = Vec::new();
                let mut batch = vec![Received { port, frame }];
                self.worker.process(self.net, &mut batch, Time::from_secs(1), &mut tx);
                for (port, frame) in tx {
                    match self.resolution(port, &frame) {
                        Resolution::Asked(answer) => answers.push((port, answer)),
                        Resolution::NotForIt => {}
                        Resolution::Packet => {
                            seen.frames.push((self.lab.name(port).to_owned(), frame.bytes));
                        }
                    }
                }
            }
            queue = answers;
        }
        assert!(self.worker.accounting().balances(), "{:?}", self.worker.accounting());
        for (key, count) in self.drops() {
            let new = count - before.get(&key).copied().unwrap_or(0);
            if new > 0 {
                seen.drops.insert(key, new);
            }
        }
        seen.frames.sort();
        seen
    }

    fn resolution(&self, port: PortId, frame: &Frame) -> Resolution {
        let headers = packet::parse(&frame.bytes).unwrap();
        let asked = match headers.payload {
            Payload::Arp(arp) => Some(arp.target),
            _ => solicited(&headers),
        };
        let Some(target) = asked else { return Resolution::Packet };
        let ends = [End::Far, End::Partner];
        let end = ends.into_iter().find(|end| self.lab.port(*end) == port);
        let Some(end) =
            end.filter(|end| packet::Addr::from(self.lab.address(Address::Of(*end))) == target)
        else {
            return Resolution::NotForIt;
        };
        let mac = packet::Mac(self.lab.macs(end).0);
        let answer = packet::arp_reply(&headers, mac)
            .or_else(|| packet::neighbor_advertisement(&headers, mac, false));
        Resolution::Asked(answer.unwrap())
    }
}

enum Resolution {
    /// A question for this host, and its answer.
    Asked(Frame),
    /// A question for somebody else on its network.
    NotForIt,
    Packet,
}

fn solicited(headers: &Headers) -> Option<packet::Addr> {
    match headers.ip()?.transport {
        Transport::Icmp(icmp) => match icmp.message {
            IcmpMessage::NeighborSolicitation { target, .. } => Some(target),
            _ => None,
        },
        _ => None,
    }
}

/// One conversation on one path.
struct Conversation<'l> {
    bench: Bench<'l>,
    path: Path,
    fragmented: bool,
    order: [usize; 3],
}

/// A frame sent, and that it must arrive at the other end, translated and nothing else.
impl Conversation<'_> {
    fn ports(&self, protocol: Protocol) -> (u16, u16) {
        match protocol {
            Protocol::Tcp => (self.path.ports.0, OWN_PORTS.0),
            Protocol::Udp | Protocol::Error => (self.path.ports.1, OWN_PORTS.1),
        }
    }

    fn ends(&self, towards: Towards) -> (End, End) {
        match towards {
            Towards::Server => (self.path.client, self.path.server),
            Towards::Client => (self.path.server, self.path.client),
        }
    }

    /// A packet as its sender sends it and as its receiver gets it.
    fn pair(&self, towards: Towards, body: &dyn Fn(bool) -> Body) -> (Packet, Packet) {
        let lab = self.bench.lab;
        let client = lab.address(Address::Of(self.path.client));
        let service = lab.address(self.path.to);
        let server = lab.address(Address::Of(self.path.server));
        let from = lab.address(self.path.from);
        let (sent, seen) = match towards {
            Towards::Server => ((client, service), (from, server)),
            Towards::Client => ((server, from), (service, client)),
        };
        let packet = |(src, dst), ttl, arrived| Packet { src, dst, ttl, body: body(arrived) };
        (packet(sent, TTL, false), packet(seen, TTL - self.path.hops, true))
    }

    fn tcp(&self, towards: Towards, segment: Segment, length: usize) -> (Packet, Packet) {
        let (service, own) = self.ports(Protocol::Tcp);
        // Client's sequence numbers from 1000, the server's from 5000; data only in the last segment of each.
        let (seq, ack) = match (towards, segment) {
            (Towards::Server, Segment::Syn) => (1000, 0),
            (Towards::Server, _) => (1001, 5001),
            (Towards::Client, Segment::Ack) => (5001, 1001),
            (Towards::Client, _) => (5000, 1001),
        };
        self.pair(towards, &|arrived| {
            let ports = match (towards, arrived) {
                (Towards::Server, false) => (CLIENT_PORT, service),
                (Towards::Server, true) => (CLIENT_PORT, own),
                (Towards::Client, false) => (own, CLIENT_PORT),
                (Towards::Client, true) => (service, CLIENT_PORT),
            };
            Body::Tcp { ports, segment, seq, ack, data: length }
        })
    }

    fn udp(&self, towards: Towards, length: usize) -> (Packet, Packet) {
        let (service, own) = self.ports(Protocol::Udp);
        self.pair(towards, &|arrived| Body::Udp {
            ports: match (towards, arrived) {
                (Towards::Server, false) => (CLIENT_PORT, service),
                (Towards::Server, true) => (CLIENT_PORT, own),
                (Towards::Client, false) => (own, CLIENT_PORT),
                (Towards::Client, true) => (service, CLIENT_PORT),
            },
            data: length,
        })
    }

    /// An error about a datagram that came the other way: its sender quotes it as it got it, its receiver must find it
    /// quoted as it sent it, but for the TTL, which is the one it had come down to.
    fn error(&self, towards: Towards) -> (Packet, Packet) {
        let back = match towards {
            Towards::Server => Towards::Client,
            Towards::Client => Towards::Server,
        };
        let (mut sent, got) = self.udp(back, LARGE);
        sent.ttl = got.ttl;
        let fragmented = self.fragmented;
        self.pair(towards, &|arrived| {
            let about = if arrived { &sent } else { &got };
            Body::Unreachable { quote: about.quoted(fragmented) }
        })
    }

    fn send(&mut self, towards: Towards, packet: &Packet, fragmented: bool) -> Seen {
        let (from, _) = self.ends(towards);
        let mut frames = packet.frames(self.bench.lab.macs(from), fragmented);
        if fragmented {
            frames = self.order.iter().map(|i| frames[*i].clone()).collect();
        }
        self.bench.send(from, frames)
    }

    /// Sends a packet that must arrive, and nothing else anywhere.
    fn arrives(
        &mut self,
        towards: Towards,
        (sent, got): &(Packet, Packet),
        fragmented: bool,
    ) -> Result<(), String> {
        let (_, to) = self.ends(towards);
        let (own, gateway) = self.bench.lab.macs(to);
        let frames = got.frames((gateway, own), fragmented).into_iter();
        let mut frames: Vec<(String, Vec<u8>)> =
            frames.map(|f| (to.port().to_owned(), f)).collect();
        frames.sort();
        let seen = self.send(towards, sent, fragmented);
        compare(&seen, &Seen { frames, drops: Drops::new() }, sent)
    }

    /// Sends a packet that must be dropped there, its later fragments with it, and nothing may come of it.
    fn dropped(
        &mut self,
        towards: Towards,
        (sent, _): &(Packet, Packet),
        fragmented: bool,
        why: (Stage, DropReason, String),
    ) -> Result<(), String> {
        let (from, _) = self.ends(towards);
        let mut drops = Drops::from([(why, 1)]);
        if fragmented {
            drops.insert((Stage::Port, DropReason::Fragment, from.port().to_owned()), 2);
        }
        let seen = self.send(towards, sent, fragmented);
        compare(&seen, &Seen { frames: Vec::new(), drops }, sent)
    }

    /// Lets the conversation begin, up to what the last packet needs.
    fn establish(&mut self, protocol: Protocol) -> Result<(), String> {
        use Towards::{Client, Server};
        if protocol == Protocol::Tcp {
            for (towards, segment) in
                [(Server, Segment::Syn), (Client, Segment::SynAck), (Server, Segment::Ack)]
            {
                let packet = self.tcp(towards, segment, 0);
                self.arrives(towards, &packet, false)?;
            }
            return Ok(());
        }
        // What an error is about was a whole datagram, or one in fragments.
        let fragmented = protocol == Protocol::Error && self.fragmented;
        for towards in [Server, Client] {
            let packet = self.udp(towards, if fragmented { LARGE } else { SMALL });
            self.arrives(towards, &packet, fragmented)?;
        }
        Ok(())
    }

    /// The packet that the combination is about, of a conversation under way. An error comes whole: it is the packet that it
    /// quotes that was in fragments.
    fn subject(&self, cell: &Cell) -> ((Packet, Packet), bool) {
        let length = if self.fragmented { LARGE } else { SMALL };
        match cell.protocol {
            Protocol::Tcp => (self.tcp(cell.towards, Segment::Ack, length), self.fragmented),
            Protocol::Udp => (self.udp(cell.towards, length), self.fragmented),
            Protocol::Error => (self.error(cell.towards), false),
        }
    }

    /// Where the firewall drops what goes this way.
    fn judged(&self, towards: Towards) -> Option<(Stage, DropReason, String)> {
        let (stage, end) = match (self.path.guard, towards) {
            (Guard::Nobody, _) => return None,
            (Guard::Server, Towards::Server) => (Stage::DfwIn, self.path.server),
            (Guard::Server, Towards::Client) => (Stage::DfwOut, self.path.server),
            (Guard::Client, Towards::Server) => (Stage::DfwOut, self.path.client),
            (Guard::Client, Towards::Client) => (Stage::DfwIn, self.path.client),
        };
        Some((stage, DropReason::Firewall, end.port().to_owned()))
    }
}

fn compare(seen: &Seen, expected: &Seen, sent: &Packet) -> Result<(), String> {
    if seen == expected {
        return Ok(());
    }
    let show = |seen: &Seen| {
        let frames = seen.frames.iter().map(|(port, frame)| {
            let what =
                packet::parse(frame).map_or_else(|e| e.to_string(), |h| packet::describe(&h));
            format!("    {port}: {what}\n      {frame:02x?}\n")
        });
        format!("{}    drops {:?}", frames.collect::<String>(), seen.drops)
    };
    Err(format!("sent {sent:?}\n  came:\n{}\n  must come:\n{}", show(seen), show(expected)))
}

/// Runs a combination on one of its paths; in each order of fragments, where there are any.
pub fn run(lab: &Lab, cell: &Cell, path: Path) -> Result<(), String> {
    let fragmented = cell.size == Size::Fragmented;
    let orders = if fragmented { &ORDERS[..] } else { &ORDERS[..1] };
    for order in orders {
        let begin = |policy| Conversation {
            bench: Bench::new(lab, policy),
            path,
            fragmented,
            order: *order,
        };
        match cell.policy {
            Policy::Allowed => talk(begin(Policy::Allowed), cell)?,
            Policy::Denied if path.guard == Guard::Nobody => talk(begin(Policy::Denied), cell)?,
            Policy::Denied => {
                refused(begin(Policy::Denied), cell).map_err(|e| format!("fresh: {e}"))?;
                revoked(begin(Policy::Allowed), cell).map_err(|e| format!("revoked: {e}"))?;
            }
        }
    }
    Ok(())
}

/// What is allowed arrives, translated; twice, the second time perhaps by the cache.
fn talk(mut talk: Conversation<'_>, cell: &Cell) -> Result<(), String> {
    talk.establish(cell.protocol)?;
    let (packet, fragmented) = talk.subject(cell);
    talk.arrives(cell.towards, &packet, fragmented)?;
    if !fragmented {
        talk.arrives(cell.towards, &packet, fragmented)?;
    }
    Ok(())
}

/// Live conversations that are no longer allowed: the next packet either way is dropped by the rule.
fn revoked(mut talk: Conversation<'_>, cell: &Cell) -> Result<(), String> {
    talk.establish(cell.protocol)?;
    talk.bench.net = &talk.bench.lab.denied;
    let (packet, fragmented) = talk.subject(cell);
    let why = talk.judged(cell.towards).ok_or("nobody judges")?;
    talk.dropped(cell.towards, &packet, fragmented, why)
}

/// Nothing begins: not the first packet, nor what pretends that there had been one.
fn refused(mut talk: Conversation<'_>, cell: &Cell) -> Result<(), String> {
    let length = if talk.fragmented { LARGE } else { SMALL };
    let client = talk.path.client.port().to_owned();
    let server = talk.path.server.port().to_owned();
    let tier1 = talk.bench.net.routers.iter().find(|r| r.tier == engine::network::Tier::Tier1);
    let tier1 = tier1.ok_or("no Tier-1")?.name.clone();
    let (packet, fragmented) = match (cell.protocol, cell.towards) {
        // A SYN with data: RFC 9293, 3.10.7.4 lets it carry some.
        (Protocol::Tcp, Towards::Server) => {
            (talk.tcp(Towards::Server, Segment::Syn, length), talk.fragmented)
        }
        (Protocol::Tcp, Towards::Client) => {
            (talk.tcp(Towards::Client, Segment::SynAck, length), talk.fragmented)
        }
        _ => talk.subject(cell),
    };
    // An egress address and a private one are refused at the Tier-1, from outside.
    let at_gateway = |reason| match talk.path.from {
        Address::Snat(_) => (Stage::T1Nat, reason, tier1.clone()),
        _ => (Stage::T1Nat, DropReason::PrivateDestination, tier1.clone()),
    };
    let why = match (cell.protocol, cell.towards) {
        (Protocol::Tcp | Protocol::Udp, Towards::Server) => {
            talk.judged(Towards::Server).ok_or("nobody judges")?
        }
        (Protocol::Tcp, Towards::Client) if talk.path.server.is_pod() => {
            (Stage::DfwOut, DropReason::NotSyn, server)
        }
        // A datagram begins a flow of its own, which is another combination: nothing says that it is a reply.
        (Protocol::Udp, Towards::Client) if talk.path.server.is_pod() => return Ok(()),
        (Protocol::Tcp | Protocol::Udp, Towards::Client) => at_gateway(DropReason::NoSession),
        (Protocol::Error, Towards::Client) if talk.path.server.is_pod() => {
            (Stage::DfwOut, DropReason::IcmpUnmatched, server)
        }
        (Protocol::Error, Towards::Client) => at_gateway(DropReason::IcmpUnmatched),
        (Protocol::Error, Towards::Server) => match (talk.path.to, talk.path.client.is_pod()) {
            (Address::ClusterIp(..), _) => (Stage::Dlb, DropReason::IcmpUnmatched, client),
            (_, true) => (Stage::DfwOut, DropReason::IcmpUnmatched, client),
            (_, false) => (Stage::T1Nat, DropReason::IcmpUnmatched, tier1.clone()),
        },
    };
    talk.dropped(cell.towards, &packet, fragmented, why)?;
    match talk.bench.worker.sessions().as_slice() {
        [] => Ok(()),
        left => Err(format!("a denied packet left state behind: {left:?}")),
    }
}
