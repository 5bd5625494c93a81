//! A packet's way: vNIC, segment, Tier-1, Tier-0, and back down. Nothing here changes the model; what has to be remembered if the
//! packet gets through is collected on the way.

mod answers;
mod balancer;
mod crossing;
mod gateways;
mod nat;
mod recall;
mod vnic;

use std::net::IpAddr;

use crate::counters::Counter;
use crate::memory::{Deed, Memory, Place, Way};
use crate::network::Network;
use crate::packet::{Content, Flow, Framed, Packet, Seen, flag};
use crate::tcp::is_legal;
use crate::{Model, Pair};

/// TTL of what the network itself sends.
const OWN_TTL: u8 = 64;

/// Who counts turns: every host for itself, and the Tier-1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    Host(String),
    Tier1,
}

/// How a way ends.
#[derive(Debug)]
pub(crate) enum End {
    /// It leaves by this port.
    Out(u32),
    /// It waits for this neighbour.
    Asks(IpAddr),
    /// It ends here, perhaps with an answer.
    Gone(String),
}

type Stop<T> = Result<T, End>;

fn gone<T>(why: impl Into<String>) -> Stop<T> {
    Err(End::Gone(why.into()))
}

/// A member that was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Choice {
    pub(crate) scope: Scope,
    pub(crate) server: (IpAddr, u8, u16),
    pub(crate) client: IpAddr,
    pub(crate) member: usize,
    pub(crate) address: (IpAddr, u16),
    pub(crate) sticky_seconds: Option<u32>,
    /// Chosen by affinity: nobody's turn is used up.
    pub(crate) stuck: bool,
}

/// What a way came to.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) packet: Packet,
    pub(crate) known: Option<(u64, Way)>,
    pub(crate) fresh: Vec<Memory>,
    /// Memories that another rule counts from now on.
    pub(crate) recounted: Vec<Memory>,
    pub(crate) superseded: Vec<u64>,
    pub(crate) killed: Option<u64>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) path: Option<(Flow, IpAddr)>,
    /// The address that a host was given of a pool.
    pub(crate) pair: Option<Pair>,
    /// How many addresses it might have been, where nothing that was observed says which.
    pub(crate) guesses: usize,
    pub(crate) answer: Option<Packet>,
    /// The smallest MTU of the way, where the packet has to be cut for it.
    pub(crate) cut_to: Option<u16>,
    /// Whose rule dropped it.
    pub(crate) blamed: Option<Counter>,
    /// Rules without state that let it pass.
    pub(crate) let_pass: Vec<Counter>,
    /// It has reached whom it was for, though it left by no port.
    pub(crate) arrived: bool,
}

/// A packet on its way.
pub(crate) struct Walk<'a> {
    model: &'a Model,
    network: &'a Network,
    port: u32,
    frame: &'a Framed,
    observed: &'a [Seen],
    /// Which of several addresses is taken where nothing that was observed says it.
    guess: usize,
    /// Octets with the IP header.
    size: u32,
    to_itself: bool,
    /// Routers that it has left behind; answers pass them too.
    passed: u8,
    done: Done,
}

/// A gateway's interface that a packet came in by.
struct Entry {
    addresses: Vec<IpAddr>,
    uplink: bool,
}

impl Entry {
    fn address(&self, like: IpAddr) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|a| a.is_ipv4() == like.is_ipv4())
    }
}

impl<'a> Walk<'a> {
    /// `size` is that of the packet; a later fragment walks with the content of its first one.
    pub(crate) fn new(
        model: &'a Model,
        port: u32,
        frame: &'a Framed,
        size: u32,
        observed: &'a [Seen],
        guess: usize,
    ) -> Walk<'a> {
        let done = Done {
            packet: frame.packet,
            known: None,
            fresh: Vec::new(),
            recounted: Vec::new(),
            superseded: Vec::new(),
            killed: None,
            choices: Vec::new(),
            path: None,
            pair: None,
            guesses: 0,
            answer: None,
            cut_to: None,
            blamed: None,
            let_pass: Vec::new(),
            arrived: false,
        };
        let network = &model.network;
        Walk {
            model,
            network,
            port,
            frame,
            observed,
            guess,
            size,
            to_itself: false,
            passed: 0,
            done,
        }
    }

    pub(crate) fn run(&mut self) -> End {
        match self.way().and_then(|port| self.carries(port)) {
            Ok(port) => End::Out(port),
            Err(end) => end,
        }
    }

    pub(crate) fn finish(self) -> Done {
        self.done
    }

    fn way(&mut self) -> Stop<u32> {
        let network = self.network;
        if let Some(workload) = network.workload_at(self.port) {
            self.leaves_workload(workload)?;
            let own = |address: &IpAddr| network.block_of(*address);
            let Some(block) = workload.addresses.iter().find_map(own) else {
                return gone("no segment");
            };
            if self.frame.dst_mac == network.gateway_mac {
                let addresses = block.gateways().collect();
                return self.tier1(&Entry { addresses, uplink: false });
            }
            let to = network.workloads.iter().find(|w| {
                w.mac == self.frame.dst_mac && w.addresses.iter().any(|a| block.holds(*a))
            });
            return match to {
                Some(to) if to.port != self.port => self.reaches_workload(to),
                _ => gone("nobody in the segment has this MAC"),
            };
        }
        let here = network.outside.iter().find(|(_, s)| s.port == self.port);
        let Some((link, _)) = here else { return gone("no such port") };
        let uplink =
            network.uplinks.iter().find(|u| u.network == *link && u.mac == self.frame.dst_mac);
        if let Some(uplink) = uplink {
            let entry = Entry { addresses: uplink.addresses.clone(), uplink: true };
            self.urpf(link, uplink.urpf, &entry)?;
            return self.tier0(&entry);
        }
        let to = network
            .outside
            .iter()
            .find(|(network, s)| network == link && s.mac == self.frame.dst_mac);
        match to {
            Some((_, to)) if to.port != self.port => Ok(to.port),
            _ => gone("nobody on the link has this MAC"),
        }
    }

    /// The network at a port carries only so much: what is switched, or comes from an interface with a greater MTU, is lost.
    fn carries(&self, port: u32) -> Stop<u32> {
        let mtu = self.network.port_mtu(port);
        let largest = self.done.cut_to.map_or(self.size, u32::from);
        if largest > u32::from(mtu) { gone("too big for the port") } else { Ok(port) }
    }

    fn legal_flags(&self) -> Stop<()> {
        match self.done.packet.content {
            Content::Tcp { flags, .. } if !is_legal(flags) => gone("flags that no TCP sends"),
            _ => Ok(()),
        }
    }

    /// Strict: a session begins with a SYN, a datagram or a query.
    fn may_begin(&self) -> bool {
        match self.done.packet.content {
            Content::Tcp { flags, .. } => {
                // A later fragment begins no connection in the place of one that has ended since its first one.
                let later = self.frame.packet.is_later_piece();
                flags & (flag::SYN | flag::ACK | flag::FIN | flag::RST) == flag::SYN && !later
            }
            Content::Udp { .. } | Content::Rest { .. } => true,
            Content::Echo { reply, .. } => !reply,
            Content::Error { .. } => false,
        }
    }

    /// Loose: a connection under way is picked up at a segment with ACK; SYN, FIN or RST with it open nothing.
    fn may_be_picked_up(&self) -> bool {
        let control = flag::SYN | flag::FIN | flag::RST;
        self.may_begin() || self.done.packet.flags() & (flag::ACK | control) == flag::ACK
    }

    fn remember(
        &mut self,
        place: Place,
        (came, went): (Flow, Flow),
        deed: Deed,
        counter: Option<Counter>,
    ) {
        self.done.fresh.push(Memory { conversation: 0, place, came, went, deed, counter });
    }

    /// Makes the packet one of `to`. What an ICMP error quotes is turned around; its source stays unless it is the flow's own.
    fn rewrite(&mut self, from: Flow, to: Flow) {
        let packet = &mut self.done.packet;
        if !packet.is_error() || packet.src == from.src {
            packet.src = to.src;
        }
        packet.dst = to.dst;
        match &mut packet.content {
            Content::Tcp { src_port, dst_port, .. } | Content::Udp { src_port, dst_port, .. } => {
                (*src_port, *dst_port) = (to.src_port, to.dst_port);
            }
            Content::Echo { id, .. } => *id = to.src_port,
            Content::Error { quote, .. } => *quote = to.reversed(),
            Content::Rest { .. } => {}
        }
    }
}
