//! What places remember of conversations: two plain lists, searched from the front. A memory is looked at for its age whenever
//! time is told.

use std::net::IpAddr;
use std::time::Duration;

use definitions::own::TimerProfile;

use crate::counters::Counter;
use crate::network::{NatKind, NatRule};
use crate::packet::{Content, Flow, Packet, flag};
use crate::tcp::{Connection, Segment};
use crate::timers::{Column, State, lifetime};

/// A gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// The Tier-0.
    Tier0,
    /// The Tier-1.
    Tier1,
}

/// A place that remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// The load balancer at the vNIC with this port.
    Balancer(u32),
    /// The firewall at the vNIC with this port.
    Firewall(u32),
    /// NAT and load balancer of the Tier-1.
    Tier1,
    /// The firewall of a gateway.
    GatewayFirewall(Tier),
}

/// What a place did to a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    /// Let it pass, judged as this flow, into (true) or out of the workload.
    Allowed { judged: Flow, into: bool },
    /// Gave it to a member of the service at this address and port.
    Balanced { service: (IpAddr, u16), to_itself: bool },
    /// Gave it another source port than a ClusterIP's flow has.
    KeptApart,
    /// Translated its source, or left it by a rule.
    Natted,
    /// Let it cross the uplink, judged as this flow, which began inwards or outwards with an ICMP message of this type.
    Crossed { judged: Flow, inward: bool, query: Option<u8> },
    /// Let it in as it came, though a rule would translate its answers.
    LetIn,
}

/// What one place remembers of one conversation: the flow of its beginner as it came and as it went on.
#[derive(Clone, Debug)]
pub(crate) struct Memory {
    pub(crate) conversation: u64,
    pub(crate) place: Place,
    pub(crate) came: Flow,
    pub(crate) went: Flow,
    pub(crate) deed: Deed,
    /// What counts the conversation for it.
    pub(crate) counter: Option<Counter>,
}

impl Memory {
    fn column(&self) -> Column {
        match self.deed {
            Deed::Allowed { .. } => Column::Firewall,
            Deed::Balanced { .. } | Deed::KeptApart => Column::Balancer,
            Deed::Natted | Deed::LetIn | Deed::Crossed { .. } => Column::Gateway,
        }
    }

    /// The same, as the other side would have begun it.
    pub(crate) fn turned(self) -> Memory {
        Memory { came: self.went.reversed(), went: self.came.reversed(), ..self }
    }

    /// The flows that are recognized by it: as it came, and the answer to what went on.
    fn knows(&self, flow: Flow) -> Option<Way> {
        if self.came == flow {
            Some(Way::Along)
        } else if self.went.reversed() == flow {
            Some(Way::Back)
        } else {
            None
        }
    }
}

/// Which way a packet goes in its conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// As its first packet.
    Along,
    /// Against it.
    Back,
}

impl Way {
    fn sender(self) -> usize {
        match self {
            Way::Along => 0,
            Way::Back => 1,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Protocol {
    Tcp(Connection),
    Datagrams { along: u32, answered: bool },
    Query,
}

#[derive(Clone, Copy, Debug)]
struct Conversation {
    serial: u64,
    last: Duration,
    protocol: Protocol,
    /// As its first packet was sent.
    began: Flow,
}

impl Conversation {
    fn state(&self) -> State {
        match self.protocol {
            Protocol::Tcp(connection) => connection.state(),
            Protocol::Datagrams { answered: true, .. } => State::UdpMultiple,
            Protocol::Datagrams { along, .. } if along > 1 => State::UdpSingle,
            Protocol::Datagrams { .. } => State::UdpFirst,
            Protocol::Query => State::IcmpFirst,
        }
    }
}

fn segment(packet: &Packet) -> Option<Segment> {
    match packet.content {
        Content::Tcp { flags, seq, ack, len, .. } => Some(Segment { flags, seq, ack, len }),
        _ => None,
    }
}

/// All memories of all places.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memories {
    conversations: Vec<Conversation>,
    list: Vec<Memory>,
    serial: u64,
}

impl Memories {
    fn conversation(&self, serial: u64) -> Option<&Conversation> {
        self.conversations.iter().find(|c| c.serial == serial)
    }

    /// Forgets what is too old at `now`.
    pub(crate) fn age(&mut self, timers: TimerProfile, now: Duration) {
        let conversations = &self.conversations;
        self.list.retain(|memory| {
            let of = conversations.iter().find(|c| c.serial == memory.conversation);
            of.is_some_and(|c| c.last + lifetime(timers, memory.column(), c.state()) > now)
        });
        let list = &self.list;
        self.conversations.retain(|c| list.iter().any(|m| m.conversation == c.serial));
    }

    /// What `place` remembers of the flow.
    pub(crate) fn find(&self, place: Place, flow: Flow) -> Option<(Memory, Way)> {
        self.list
            .iter()
            .filter(|m| m.place == place)
            .find_map(|m| m.knows(flow).map(|way| (m.clone(), way)))
    }

    /// All memories of a conversation.
    pub(crate) fn of(&self, conversation: u64) -> impl Iterator<Item = &Memory> {
        self.list.iter().filter(move |m| m.conversation == conversation)
    }

    /// Whether any memory of this place, but those of `except`, recognizes the flow.
    pub(crate) fn is_known(&self, place: Place, flow: Flow, except: &[u64]) -> bool {
        self.list.iter().any(|m| {
            m.place == place && !except.contains(&m.conversation) && m.knows(flow).is_some()
        })
    }

    /// Whether some place of this conversation is a balancer at `port` that made `flow` of another.
    pub(crate) fn made_at(&self, port: u32, conversation: u64, flow: Flow) -> bool {
        self.list.iter().any(|m| {
            m.conversation == conversation
                && m.place == Place::Balancer(port)
                && m.went == flow
                && m.came != flow
        })
    }

    /// Whether a gateway would still remember a conversation.
    pub(crate) fn is_fresh_at_gateways(
        &self,
        timers: TimerProfile,
        serial: u64,
        now: Duration,
    ) -> bool {
        let of = self.conversation(serial);
        of.is_some_and(|c| c.last + lifetime(timers, Column::Gateway, c.state()) > now)
    }

    /// How a conversation began, as it was sent.
    pub(crate) fn began(&self, serial: u64) -> Option<Flow> {
        self.conversation(serial).map(|c| c.began)
    }

    /// Whether a connection is over, so that a SYN begins another one.
    pub(crate) fn is_over(&self, serial: u64) -> bool {
        let state = self.conversation(serial).map(Conversation::state);
        matches!(state, Some(State::TcpFinWait | State::TcpClosed))
    }

    pub(crate) fn is_tcp(&self, serial: u64) -> bool {
        self.conversation(serial).is_some_and(|c| matches!(c.protocol, Protocol::Tcp(_)))
    }

    /// Whether a reset would be believed.
    pub(crate) fn believes(&self, serial: u64, way: Way, packet: &Packet) -> bool {
        match (self.conversation(serial).map(|c| c.protocol), segment(packet)) {
            (Some(Protocol::Tcp(connection)), Some(reset)) => {
                connection.believes(way.sender(), reset)
            }
            _ => true,
        }
    }

    /// Forgets a conversation everywhere.
    pub(crate) fn forget(&mut self, serial: u64) {
        self.list.retain(|m| m.conversation != serial);
        self.conversations.retain(|c| c.serial != serial);
    }

    /// Forgets all conversations at a port, if there is one, and of addresses.
    pub(crate) fn forget_workload(&mut self, port: Option<u32>, addresses: &[IpAddr]) {
        let own = port.map(|port| [Place::Balancer(port), Place::Firewall(port)]);
        let is_about = |m: &Memory| {
            let ends = [m.came.src, m.came.dst, m.went.src, m.went.dst];
            own.is_some_and(|own| own.contains(&m.place))
                || ends.iter().any(|end| addresses.contains(end))
        };
        self.forget_all(is_about);
    }

    /// Forgets all conversations that were balanced for a port of a Service, at the clients or at the Tier-1.
    pub(crate) fn forget_server(&mut self, outside: bool, server: (IpAddr, u16), protocol: u8) {
        self.forget_all(|m| {
            let of = matches!(m.deed, Deed::Balanced { service, .. } if service == server);
            of && m.came.protocol == protocol && (m.place == Place::Tier1) == outside
        });
    }

    /// Translations are another rule's now, which gives the same, or are forgotten with their conversation where none does.
    pub(crate) fn translate_by(&mut self, rules: &[NatRule]) {
        let mut gone = Vec::new();
        for memory in self.list.iter_mut().filter(|m| m.deed == Deed::Natted) {
            let (came, went) = (memory.came, memory.went);
            let target = went.target();
            let moved = target != came.target();
            // What a source rule sees of what leaves; of a hairpin it sees the destination that was asked for.
            let seen = Flow { dst: went.dst, dst_port: went.dst_port, ..came };
            // What type of query it began with is not asked again.
            let gives_source = |rule: &NatRule, flow: Flow| match rule.kind {
                NatKind::Snat(pool) => rule.matches(flow, None) && pool.contains(went.src),
                NatKind::NoSnat => rule.matches(flow, None) && came.src == went.src,
                NatKind::NoAddress | NatKind::NoDnat | NatKind::Dnat(..) => false,
            };
            let gives = |rule: &&NatRule| match rule.kind {
                NatKind::Dnat(..) if rule.matches(came, None) => {
                    rule.with_destination(came).target() == target
                }
                NatKind::NoAddress | NatKind::Dnat(..) => false,
                NatKind::NoDnat => !moved && came.src == went.src && rule.matches(came, None),
                NatKind::NoSnat | NatKind::Snat(_) => !moved && gives_source(rule, seen),
            };
            // Where both sides changed, both have to be given.
            let source_given =
                rules.iter().any(|rule| gives_source(rule, came) || gives_source(rule, seen));
            let lost = moved && ![came.src, came.dst].contains(&went.src) && !source_given;
            let Some(first) = rules.iter().find(gives).filter(|_| !lost) else {
                gone.push(memory.conversation);
                continue;
            };
            // Its own rule goes on as long as it gives its side.
            let own = |rule: &&NatRule| {
                memory.counter == Some(rule.counter()) && (gives(rule) || gives_source(rule, seen))
            };
            memory.counter = Some(rules.iter().find(own).unwrap_or(first).counter());
        }
        for conversation in gone {
            self.forget(conversation);
        }
    }

    fn forget_all(&mut self, is_about: impl Fn(&Memory) -> bool) {
        let gone: Vec<u64> =
            self.list.iter().filter(|m| is_about(m)).map(|m| m.conversation).collect();
        for conversation in gone {
            self.forget(conversation);
        }
    }

    /// Begins a conversation.
    pub(crate) fn begin(&mut self, packet: &Packet, now: Duration) -> u64 {
        self.serial += 1;
        let protocol = match packet.content {
            Content::Tcp { flags, .. } if flags & flag::SYN == 0 => {
                Protocol::Tcp(Connection::under_way())
            }
            Content::Tcp { .. } => Protocol::Tcp(Connection::default()),
            Content::Udp { .. } | Content::Rest { .. } => {
                Protocol::Datagrams { along: 0, answered: false }
            }
            Content::Echo { .. } | Content::Error { .. } => Protocol::Query,
        };
        let began = packet.flow();
        self.conversations.push(Conversation { serial: self.serial, last: now, protocol, began });
        self.serial
    }

    /// Remembers.
    pub(crate) fn add(&mut self, memory: Memory) {
        self.list.push(memory);
    }

    /// Another rule counts for what a place remembers.
    pub(crate) fn recount(&mut self, memory: &Memory) {
        let same = |m: &&mut Memory| {
            (m.conversation, m.place, m.came) == (memory.conversation, memory.place, memory.came)
        };
        if let Some(known) = self.list.iter_mut().find(same) {
            known.counter.clone_from(&memory.counter);
        }
    }

    /// A packet of the conversation has passed all places. A later piece has no TCP header that could tell anything. An ICMP error neither refreshes nor ends anything (RFC 5508, REQ-10).
    pub(crate) fn passed(
        &mut self,
        serial: u64,
        way: Way,
        packet: &Packet,
        has_header: bool,
        now: Duration,
    ) {
        let Some(conversation) = self.conversations.iter_mut().find(|c| c.serial == serial) else {
            return;
        };
        if packet.is_error() {
            return;
        }
        conversation.last = now;
        match &mut conversation.protocol {
            Protocol::Tcp(connection) => {
                if let Some(segment) = segment(packet).filter(|_| has_header) {
                    connection.see(way.sender(), segment);
                }
            }
            Protocol::Datagrams { along, answered } => match way {
                Way::Along => *along += 1,
                Way::Back => *answered = true,
            },
            Protocol::Query => {}
        }
    }

    /// Every memory with its conversation's state.
    pub(crate) fn lines(&self) -> Vec<String> {
        let line = |m: &Memory| {
            let state =
                self.conversation(m.conversation).map_or(State::IcmpFirst, Conversation::state);
            format!("{:?}: {:?} went on as {:?}, {state:?}", m.place, m.came, m.went)
        };
        self.list.iter().map(line).collect()
    }
}
