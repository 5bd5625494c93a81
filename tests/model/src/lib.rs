//! A deliberately naive model of the whole network: what must come out for a packet that goes in.
//!
//! It is written against the definitions, features.md and docs/choices.md, not against the engine: policies are evaluated as
//! Kubernetes states them, conversations are two lists, nothing is cached, planned or indexed, and every packet is judged anew.
//! What the definitions leave open, it takes from the program it judges: allocated addresses ([`Atlas`]), and of each answer the
//! port that NAT allocated where the sender's own was taken, and the path of equal ones. It checks that such a port was free and
//! that a flow keeps its path.
//!
//! Left out: IPv6, fragments, MTU, ARP (but for neighbours that do not answer), groups, SecurityPolicy, more than one segment a
//! namespace, and Endpoints written by hand.

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

pub use network::{Atlas, Station};

use memory::{Memories, Memory};
use network::Network;
use packet::{Flow, Framed, Packet, Seen};
use walk::{End, Scope, Walk};

/// How long a router asks for a neighbour: three requests, one second apart (features.md 3.L).
const PATIENCE: Duration = Duration::from_secs(3);
/// How many packets wait for one neighbour.
const WAITING: usize = 8;

/// A neighbour that is being asked for.
#[derive(Clone, Debug)]
struct Asked {
    address: std::net::Ipv4Addr,
    until: Duration,
    /// What the senders are told in the end, with their ports.
    senders: Vec<(u32, Option<Packet>)>,
}

/// Whose turn it is at a virtual server.
#[derive(Clone, Debug)]
struct Turn {
    scope: Scope,
    server: (std::net::Ipv4Addr, u8, u16),
    next: usize,
}

/// A client that stays with a member.
#[derive(Clone, Debug)]
struct Sticky {
    scope: Scope,
    server: (std::net::Ipv4Addr, u8, u16),
    client: std::net::Ipv4Addr,
    member: (std::net::Ipv4Addr, u16),
    until: Duration,
}

/// The model and all it remembers.
#[derive(Clone, Debug)]
pub struct Model {
    network: Network,
    memories: Memories,
    turns: Vec<Turn>,
    stickies: Vec<Sticky>,
    paths: Vec<(Flow, std::net::Ipv4Addr)>,
    asked: Vec<Asked>,
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
            asked: Vec::new(),
            now: Duration::ZERO,
        })
    }

    /// Puts other definitions in place. What is remembered stays, but for conversations of workloads that are no more: who gets
    /// their ports and addresses inherits nothing.
    ///
    /// # Errors
    /// As [`Model::new`].
    pub fn replace(&mut self, definitions: &Definitions, atlas: &Atlas) -> Result<(), String> {
        let next = Network::new(definitions, atlas)?;
        for old in &self.network.workloads {
            if !next.workloads.iter().any(|new| new.name == old.name) {
                self.memories.forget_workload(old.port, old.address);
            }
        }
        self.network = next;
        Ok(())
    }

    /// Lets time pass until `now` and says what leaves by itself: routers that give up on a neighbour tell the senders.
    pub fn pass(&mut self, now: Duration) -> Vec<Seen> {
        self.now = self.now.max(now);
        self.memories.age(self.now);
        let now = self.now;
        let (given_up, asked) = self.asked.drain(..).partition(|a| a.until <= now);
        self.asked = asked;
        let given_up: Vec<Asked> = given_up;
        given_up
            .into_iter()
            .flat_map(|a| a.senders)
            .filter_map(|(port, answer)| answer.map(|packet| Seen { port, packet }))
            .collect()
    }

    /// A frame comes in by `port`. `observed` is what the judged program sent for it: read only where the definitions leave a
    /// choice.
    pub fn receive(&mut self, port: u32, frame: &Framed, observed: &[Seen]) -> Verdict {
        let mut walk = Walk::new(self, port, frame, observed);
        let end = walk.run();
        let done = walk.finish();
        let mut out: Vec<Seen> = Vec::new();
        let why = match end {
            End::Out(to) => {
                if let Some(conflict) = self.conflict(&done.fresh, &done.superseded) {
                    return Verdict { out, why: conflict };
                }
                out.push(Seen { port: to, packet: done.packet });
                self.remember(frame, &done);
                "delivered".to_owned()
            }
            End::Asks(address) => {
                self.ask(address, port, done.answer);
                return Verdict { out, why: format!("waits for {address}") };
            }
            End::Gone(why) => why,
        };
        if let Some(killed) = done.killed {
            self.memories.forget(killed);
        }
        out.extend(done.answer.map(|packet| Seen { port, packet }));
        Verdict { out, why }
    }

    /// How many conversations are remembered, and how many memories of them there are.
    #[must_use]
    pub fn remembered(&self) -> (usize, usize) {
        self.memories.count()
    }

    /// What is remembered, for people.
    #[must_use]
    pub fn conversations(&self) -> Vec<String> {
        self.memories.lines()
    }

    fn ask(&mut self, address: std::net::Ipv4Addr, port: u32, answer: Option<Packet>) {
        let until = self.now + PATIENCE;
        match self.asked.iter_mut().find(|a| a.address == address) {
            Some(asked) if asked.senders.len() < WAITING => asked.senders.push((port, answer)),
            Some(_) => {}
            None => self.asked.push(Asked { address, until, senders: vec![(port, answer)] }),
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
    fn remember(&mut self, frame: &Framed, done: &walk::Done) {
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
        let Some((conversation, way)) = known else { return };
        for fresh in &done.fresh {
            let memory = if way == memory::Way::Back { fresh.turned() } else { *fresh };
            self.memories.add(Memory { conversation, ..memory });
        }
        self.memories.passed(conversation, way, &frame.packet, self.now);
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
