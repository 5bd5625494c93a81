//! A deliberately naive model of the whole network: what must come out for a packet that goes in.
//!
//! It is written against the definitions, features.md and docs/choices.md, not against the engine: policies are evaluated as
//! Kubernetes states them, conversations are two lists, nothing is cached, planned or indexed, and every packet is judged anew.
//! What the definitions leave open, it takes from the program it judges: allocated addresses ([`Atlas`]), and of each answer the
//! port that NAT allocated where the sender's own was taken, and the path of equal ones. It checks that such a port was free and
//! that a flow keeps its path.
//!
//! Left out: IPv6 fragments and services (there are no virtual IPv6 addresses), ARP and neighbour discovery (but for neighbours that
//! do not answer), groups, Endpoints written by hand, REFLEXIVE rules, NAT of the Tier-0, what Ethernet rules count,
//! flood protection, and timers that are set one by one.

mod counters;
mod fragments;
mod memory;
mod network;
pub mod packet;
mod policy;
mod tcp;
mod timers;
mod walk;
pub mod wire;

use std::time::Duration;

use definitions::Definitions;

pub use counters::{Count, Counter};
pub use memory::Tier;
pub use network::{Atlas, Block, NatKind, NatRule, Pool, Service, Station};

use counters::Counters;
use fragments::{First, Fragments};
use memory::{Memories, Memory};
use network::{Network, Server};
use packet::{Flow, Framed, Mac, Packet, Seen};
use walk::{End, Scope, Walk};

/// How long a router asks for a neighbour: three requests, one second apart (features.md 3.L).
const PATIENCE: Duration = Duration::from_secs(3);
/// How many packets wait for one neighbour.
const WAITING: usize = 8;

/// A sender, by its port and both stations of its frame, and what it is told.
#[derive(Clone, Debug)]
struct Told {
    port: u32,
    stations: (Mac, Mac),
    answer: Option<Packet>,
}

/// A neighbour that is being asked for.
#[derive(Clone, Debug)]
struct Asked {
    address: std::net::IpAddr,
    until: Duration,
    /// What the senders are told in the end.
    senders: Vec<Told>,
}

/// Whose turn it is at a virtual server.
#[derive(Clone, Debug)]
struct Turn {
    scope: Scope,
    server: (std::net::IpAddr, u8, u16),
    next: usize,
}

/// A client that stays with a member.
#[derive(Clone, Debug)]
struct Sticky {
    scope: Scope,
    server: (std::net::IpAddr, u8, u16),
    client: std::net::IpAddr,
    member: (std::net::IpAddr, u16),
    until: Duration,
}

/// A host's address of an SNAT pool.
#[derive(Clone, Copy, Debug)]
struct Pair {
    pool: Pool,
    host: std::net::IpAddr,
    address: std::net::IpAddr,
}

/// The model and all it remembers.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    memories: Memories,
    turns: Vec<Turn>,
    stickies: Vec<Sticky>,
    paths: Vec<(Flow, std::net::IpAddr)>,
    /// The address that a host has of a pool.
    paired: Vec<Pair>,
    asked: Vec<Asked>,
    fragments: Fragments,
    counters: Counters,
    now: Duration,
}

/// What the model says of a packet.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// What leaves now.
    pub out: Vec<Seen>,
    /// Why.
    pub why: String,
}

impl Model {
    /// A model of these definitions, at time zero.
    ///
    /// # Errors
    /// The definitions have something that the model does not know; the text names it.
    pub fn new(definitions: &Definitions, atlas: &Atlas) -> Result<Model, String> {
        Ok(Model {
            network: Network::new(definitions, atlas)?,
            memories: Memories::default(),
            turns: Vec::new(),
            stickies: Vec::new(),
            paths: Vec::new(),
            paired: Vec::new(),
            asked: Vec::new(),
            fragments: Fragments::default(),
            counters: Counters::default(),
            now: Duration::ZERO,
        })
    }

    /// Puts other definitions in place. What is remembered stays, but for conversations of workloads and Services that are no
    /// more, and of translations that no rule gives: who gets their ports and addresses inherits nothing.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn replace(&mut self, definitions: &Definitions, atlas: &Atlas) -> Result<(), String> {
        let next = Network::new(definitions, atlas)?;
        for old in &self.network.workloads {
            let same = |new: &&network::Workload| (&new.name, new.port) == (&old.name, old.port);
            match next.workloads.iter().find(same) {
                // The same one with other addresses keeps what is not about those that it lost.
                Some(new) => {
                    let lost: Vec<std::net::IpAddr> = old
                        .addresses
                        .iter()
                        .copied()
                        .filter(|address| !new.addresses.contains(address))
                        .collect();
                    self.memories.forget_workload(None, &lost);
                }
                None => self.memories.forget_workload(Some(old.port), &old.addresses),
            }
        }
        let same = |a: &Server, b: &Server| {
            (&a.service, a.address, a.protocol, a.port)
                == (&b.service, b.address, b.protocol, b.port)
        };
        for (outside, before, now) in [
            (false, &self.network.cluster_servers, &next.cluster_servers),
            (true, &self.network.outer_servers, &next.outer_servers),
        ] {
            for old in before.iter().filter(|old| !now.iter().any(|new| same(old, new))) {
                self.memories.forget_server(outside, (old.address, old.port), old.protocol);
            }
        }
        self.memories.translate_by(&next.nat_rules);
        self.network = next;
        Ok(())
    }

    /// Lets time pass until `now` and says what leaves by itself: routers that give up on a neighbour tell the senders.
    pub fn pass(&mut self, now: Duration) -> Vec<Seen> {
        self.now = self.now.max(now);
        self.memories.age(self.network.timers, self.now);
        self.fragments.age(self.now);
        let now = self.now;
        let (given_up, asked) = self.asked.drain(..).partition(|a| a.until <= now);
        self.asked = asked;
        let given_up: Vec<Asked> = given_up;
        given_up.into_iter().flat_map(|a| a.senders).filter_map(|told| self.tells(&told)).collect()
    }

    /// A frame comes in by `port`. `observed` is what the judged program sent for it: read only where the definitions leave a
    /// choice.
    pub fn receive(&mut self, port: u32, frame: &Framed, observed: &[Seen]) -> Verdict {
        let Some(piece) = frame.packet.piece else {
            return self.one(port, frame, &frame.packet, observed).0;
        };
        let first = self.fragments.comes(port, &frame.packet, piece, self.now);
        let verdict = match first {
            None => Verdict { out: Vec::new(), why: "overlapping fragments".to_owned() },
            Some(First::Refused) => {
                Verdict { out: Vec::new(), why: "a fragment of a lost datagram".to_owned() }
            }
            Some(First::Passed(content)) => self.later(port, frame, content, observed),
            Some(First::Awaited) if piece.offset > 0 => {
                self.fragments.waits(port, frame);
                Verdict { out: Vec::new(), why: "waits for the first fragment".to_owned() }
            }
            Some(First::Awaited) => self.first(port, frame, observed),
        };
        self.fragments.forget_complete();
        verdict
    }

    /// The first fragment, and those that waited for it.
    fn first(&mut self, port: u32, frame: &Framed, observed: &[Seen]) -> Verdict {
        let content = frame.packet.content;
        let (mut verdict, passed) = self.one(port, frame, &frame.packet, observed);
        let fate = match passed {
            Some(true) => First::Passed(content),
            Some(false) => First::Refused,
            None => First::Awaited,
        };
        if fate == First::Awaited {
            return verdict;
        }
        for waiting in self.fragments.settles(port, &frame.packet, fate) {
            if fate != First::Refused {
                verdict.out.extend(self.later(port, &waiting, content, observed).out);
            }
        }
        verdict
    }

    /// A later fragment goes its first one's way.
    fn later(
        &mut self,
        port: u32,
        frame: &Framed,
        content: packet::Content,
        observed: &[Seen],
    ) -> Verdict {
        let mut walks = *frame;
        walks.packet.content = content;
        self.one(port, &walks, &frame.packet, observed).0
    }

    /// One packet: `frame` is what places look at, `original` what it is. Whether it passed; `None`: it waits.
    fn one(
        &mut self,
        port: u32,
        frame: &Framed,
        original: &Packet,
        observed: &[Seen],
    ) -> (Verdict, Option<bool>) {
        let mut guess = 0;
        let (end, done) = loop {
            let mut walk = Walk::new(self, port, frame, original.size(), observed, guess);
            let end = walk.run();
            let done = walk.finish();
            guess += 1;
            // Rules behind may drop one address of a pool and let another pass: what was not seen was not let pass.
            let differs = observed.is_empty() && matches!(end, End::Out(_));
            if !differs || guess >= done.guesses {
                break (end, done);
            }
        };
        let mut out: Vec<Seen> = Vec::new();
        let (why, passed) = match end {
            End::Out(to) => {
                if let Some(conflict) = self.conflict(&done.fresh, &done.superseded) {
                    return (Verdict { out, why: conflict }, Some(false));
                }
                let mut packet = done.packet;
                if original.is_later_piece() {
                    packet.content = original.content;
                }
                let pieces = fragments::cut(packet, done.cut_to.unwrap_or(u16::MAX));
                out.extend(pieces.into_iter().map(|packet| Seen { port: to, packet }));
                self.remember(frame, original, &done);
                ("delivered".to_owned(), true)
            }
            End::Asks(address) => {
                let stations = (frame.dst_mac, frame.src_mac);
                self.ask(address, Told { port, stations, answer: done.answer });
                return (Verdict { out, why: format!("waits for {address}") }, None);
            }
            End::Gone(why) => {
                if let Some(counter) = &done.blamed {
                    self.counters.packet(counter, octets(original), self.now);
                }
                (why, false)
            }
        };
        if passed || done.arrived {
            for counter in &done.let_pass {
                self.counters.packet(counter, octets(original), self.now);
            }
        }
        if let Some(killed) = done.killed {
            self.memories.forget(killed);
        }
        let stations = (frame.dst_mac, frame.src_mac);
        out.extend(self.tells(&Told { port, stations, answer: done.answer }));
        (Verdict { out, why }, Some(passed))
    }

    /// What has counted how much, in order.
    #[must_use]
    pub fn counts(&self) -> Vec<(Counter, Count)> {
        self.counters.list()
    }

    /// What is remembered: place, flow as it came and as it went on, and the state of the conversation.
    #[must_use]
    pub fn conversations(&self) -> Vec<String> {
        self.memories.lines()
    }

    /// An answer to a workload is judged at its vNIC when it comes there, like any other frame.
    fn tells(&self, told: &Told) -> Option<Seen> {
        let Told { port, stations, answer } = told;
        let packet = (*answer)?;
        let passes = self.network.workload_at(*port).is_none_or(|workload| {
            policy::ethernet::passes(&self.network, workload, *stations, &packet, true)
        });
        passes.then_some(Seen { port: *port, packet })
    }

    fn ask(&mut self, address: std::net::IpAddr, told: Told) {
        let until = self.now + PATIENCE;
        match self.asked.iter_mut().find(|a| a.address == address) {
            Some(asked) if asked.senders.len() < WAITING => asked.senders.push(told),
            Some(_) => {}
            None => self.asked.push(Asked { address, until, senders: vec![told] }),
        }
    }

    /// Two conversations that a place could not tell apart.
    fn conflict(&self, fresh: &[Memory], superseded: &[u64]) -> Option<String> {
        let clash = fresh.iter().find(|m| {
            self.memories.is_known(m.place, m.came, superseded)
                || self.memories.is_known(m.place, m.went.reversed(), superseded)
        });
        clash.map(|m| format!("{:?} could not tell {:?} from another", m.place, m.came))
    }

    /// The packet has passed: what it taught stays.
    fn remember(&mut self, frame: &Framed, original: &Packet, done: &walk::Done) {
        for old in &done.superseded {
            self.memories.forget(*old);
        }
        if let Some((flow, hop)) = done.path {
            self.paths.retain(|(f, _)| *f != flow);
            self.paths.push((flow, hop));
        }
        let mut known = done.known;
        if known.is_none() && !done.fresh.is_empty() {
            known = Some((self.memories.begin(&frame.packet, self.now), memory::Way::Along));
        }
        self.paired.extend(done.pair);
        let Some((conversation, way)) = known else { return };
        for fresh in &done.fresh {
            let fresh = fresh.clone();
            if let Some(counter) = &fresh.counter {
                self.counters.session(counter);
            }
            let memory = if way == memory::Way::Back { fresh.turned() } else { fresh };
            self.memories.add(Memory { conversation, ..memory });
        }
        for memory in &done.recounted {
            self.memories.recount(memory);
        }
        let has_header = !original.is_later_piece();
        self.memories.passed(conversation, way, &frame.packet, has_header, self.now);
        for counter in self.memories.of(conversation).filter_map(|m| m.counter.as_ref()) {
            self.counters.packet(counter, octets(original), self.now);
        }
        for choice in &done.choices {
            if !choice.stuck {
                self.turns.retain(|t| t.scope != choice.scope || t.server != choice.server);
                let next = choice.member + 1;
                self.turns.push(Turn { scope: choice.scope.clone(), server: choice.server, next });
            }
            if let Some(seconds) = choice.sticky_seconds {
                self.stickies.retain(|s| {
                    s.scope != choice.scope
                        || s.server != choice.server
                        || s.client != choice.client
                });
                self.stickies.push(Sticky {
                    scope: choice.scope.clone(),
                    server: choice.server,
                    client: choice.client,
                    member: choice.address,
                    until: self.now + Duration::from_secs(u64::from(seconds)),
                });
            }
        }
    }
}

/// Octets of a packet's frame.
fn octets(packet: &Packet) -> u32 {
    14 + packet.size()
}
