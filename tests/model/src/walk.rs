//! A packet's way: vNIC, segment, Tier-1, Tier-0, and back down. Nothing here changes the model; what has to be remembered if the
//! packet gets through is collected on the way.

mod gateways;

use std::net::Ipv4Addr;

use crate::Model;
use crate::memory::{Deed, Memory, Place, Way};
use crate::network::{Member, Network, Server, Workload};
use crate::packet::{Content, Flow, Framed, Packet, Seen, flag, protocol};
use crate::policy;
use crate::tcp::is_legal;

/// TTL of what the network itself sends.
const OWN_TTL: u8 = 64;
/// Ports that NAT may allocate.
const NAT_PORTS: std::ops::RangeInclusive<u16> = 1024..=65_535;

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
    Asks(Ipv4Addr),
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
    pub(crate) server: (Ipv4Addr, u8, u16),
    pub(crate) client: Ipv4Addr,
    pub(crate) member: usize,
    pub(crate) address: (Ipv4Addr, u16),
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
    pub(crate) superseded: Vec<u64>,
    pub(crate) killed: Option<u64>,
    pub(crate) choices: Vec<Choice>,
    pub(crate) path: Option<(Flow, Ipv4Addr)>,
    pub(crate) answer: Option<Packet>,
}

/// A packet on its way.
pub(crate) struct Walk<'a> {
    model: &'a Model,
    network: &'a Network,
    port: u32,
    frame: &'a Framed,
    observed: &'a [Seen],
    to_itself: bool,
    /// Routers that it has left behind; answers pass them too.
    passed: u8,
    done: Done,
}

/// A gateway's interface that a packet came in by.
struct Entry {
    address: Ipv4Addr,
    uplink: bool,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(
        model: &'a Model,
        port: u32,
        frame: &'a Framed,
        observed: &'a [Seen],
    ) -> Walk<'a> {
        let done = Done {
            packet: frame.packet,
            known: None,
            fresh: Vec::new(),
            superseded: Vec::new(),
            killed: None,
            choices: Vec::new(),
            path: None,
            answer: None,
        };
        let network = &model.network;
        Walk { model, network, port, frame, observed, to_itself: false, passed: 0, done }
    }

    pub(crate) fn run(&mut self) -> End {
        match self.way() {
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
            if self.frame.dst_mac == network.gateway_mac {
                let block = network.block_of(workload.address);
                let gateway = block.map(|b| b.gateway).ok_or(End::Gone("no segment".to_owned()))?;
                return self.tier1(Entry { address: gateway, uplink: false });
            }
            let block = network.block_of(workload.address).map(|b| b.net);
            let to = network.workloads.iter().find(|w| {
                w.mac == self.frame.dst_mac && block.is_some_and(|net| net.contains(&w.address))
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
            self.urpf(link, uplink.urpf, uplink.address)?;
            return self.tier0(Entry { address: uplink.address, uplink: true });
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

    // The vNIC.

    fn leaves_workload(&mut self, workload: &Workload) -> Stop<()> {
        let packet = self.frame.packet;
        if self.frame.src_mac != workload.mac || packet.src != workload.address {
            return gone("spoof guard");
        }
        self.legal_flags()?;
        if packet.src == packet.dst {
            return gone("to itself without a service");
        }
        self.cluster_ip(workload)?;
        self.firewall(workload, false)
    }

    fn reaches_workload(&mut self, workload: &Workload) -> Stop<u32> {
        self.firewall(workload, true)?;
        if let Some((memory, way)) = self.recall(Place::Balancer(workload.port))? {
            self.follow(&memory, way);
        }
        Ok(workload.port)
    }

    fn legal_flags(&self) -> Stop<()> {
        match self.done.packet.content {
            Content::Tcp { flags, .. } if !is_legal(flags) => gone("flags that no TCP sends"),
            _ => Ok(()),
        }
    }

    /// Strict everywhere: a session begins with a SYN, a datagram or a query.
    fn may_begin(&self) -> bool {
        match self.done.packet.content {
            Content::Tcp { flags, .. } => {
                flags & (flag::SYN | flag::ACK | flag::FIN | flag::RST) == flag::SYN
            }
            Content::Udp { .. } => true,
            Content::Echo { reply, .. } => !reply,
            Content::Error { .. } => false,
        }
    }

    fn cluster_ip(&mut self, workload: &Workload) -> Stop<()> {
        let place = Place::Balancer(workload.port);
        if let Some((memory, way)) = self.recall(place)? {
            if let Deed::Balanced { to_itself, .. } = memory.deed {
                self.to_itself = to_itself;
            }
            self.follow(&memory, way);
            return Ok(());
        }
        let flow = self.done.packet.flow();
        if !self.network.service_net.contains(&flow.dst) {
            return self.keep_apart(workload, flow);
        }
        let network = self.network;
        let Some(server) = server(&network.cluster_servers, flow) else {
            return gone("a port that the ClusterIP does not have");
        };
        let scope = Scope::Host(workload.host.clone());
        let member = self.choose(server, scope, flow, Some(&workload.host))?;
        let to_itself = member.address == workload.address;
        let src = if to_itself { server.address } else { flow.src };
        let wanted = Flow { src, dst: member.address, dst_port: member.port, ..flow };
        let Some(went) = self.allocate(&[place, Place::Firewall(workload.port)], wanted) else {
            return gone("no port is free");
        };
        let service = (server.address, server.port);
        self.remember(place, flow, went, Deed::Balanced { service, to_itself });
        self.rewrite(flow, went);
        self.to_itself = to_itself;
        Ok(())
    }

    /// A direct flow beside one of a ClusterIP that looks the same behind the balancer gets another source port, as in Linux.
    fn keep_apart(&mut self, workload: &Workload, flow: Flow) -> Stop<()> {
        let place = Place::Balancer(workload.port);
        let taken = self.model.memories.is_known(place, flow.reversed(), &self.done.superseded);
        if !taken || !self.may_begin() {
            return Ok(());
        }
        let Some(went) = self.allocate(&[place, Place::Firewall(workload.port)], flow) else {
            return gone("no port is free");
        };
        self.remember(place, flow, went, Deed::KeptApart);
        self.rewrite(flow, went);
        Ok(())
    }

    fn firewall(&mut self, workload: &Workload, into: bool) -> Stop<()> {
        if self.to_itself {
            // A pod can never block itself.
            return Ok(());
        }
        let place = Place::Firewall(workload.port);
        let flow = self.done.packet.flow();
        if let Some((memory, way)) = self.recall(place)? {
            let untouched = self.frame.packet.flow() == memory.came;
            if !into
                && way == Way::Along
                && untouched
                && self.model.memories.made_at(workload.port, memory.conversation, memory.came)
            {
                return gone("looks like a flow that the balancer made here");
            }
            let Deed::Allowed { judged, into } = memory.deed else { return Ok(()) };
            if !policy::allows(self.network, workload, judged, into) {
                self.done.killed = Some(memory.conversation);
                return gone(format!("no longer allowed at {}", workload.address));
            }
            return Ok(());
        }
        if self.done.packet.is_error() {
            return gone("an error about no conversation");
        }
        if !policy::allows(self.network, workload, flow, into) {
            let way = if into { "into" } else { "out of" };
            return gone(format!("not allowed {way} {}", workload.address));
        }
        if !self.may_begin() {
            return gone("cannot begin a conversation at the firewall");
        }
        self.remember(place, flow, flow, Deed::Allowed { judged: flow, into });
        Ok(())
    }

    // What is remembered.

    fn remember(&mut self, place: Place, came: Flow, went: Flow, deed: Deed) {
        self.done.fresh.push(Memory { conversation: 0, place, came, went, deed });
    }

    /// What a place remembers of the packet's conversation, unless this packet begins another one.
    fn recall(&mut self, place: Place) -> Stop<Option<(Memory, Way)>> {
        let packet = self.done.packet;
        let found = self.model.memories.find(place, packet.flow());
        let Some((memory, way)) = found else { return Ok(None) };
        let memories = &self.model.memories;
        let id = memory.conversation;
        if self.done.superseded.contains(&id) {
            return Ok(None);
        }
        if packet.flags() & flag::RST != 0 && !memories.believes(id, way, &packet) {
            return gone("a reset outside of the window");
        }
        let known = self.done.known.map(|(known, _)| known);
        // A SYN on a finished connection begins another one.
        let again = memories.is_over(id) && self.may_begin();
        // Translated anew just now, it is another conversation, whatever this place remembers.
        let anew = known.is_none()
            && !packet.is_error()
            && self.done.fresh.iter().any(|m| m.came != m.went);
        if again || anew {
            self.done.superseded.push(id);
            return Ok(None);
        }
        if known.is_some_and(|known| known != id) {
            return gone("two places remember two conversations");
        }
        // Whichever place notices first.
        if memories.of(id).any(|m| self.has_left(m)) {
            self.done.superseded.push(id);
            return Ok(None);
        }
        self.done.known = Some((id, way));
        Ok(Some((memory, way)))
    }

    /// Datagrams move on when their member has left the service; a connection stays until it ends.
    fn has_left(&self, memory: &Memory) -> bool {
        let Deed::Balanced { service: (address, port), .. } = memory.deed else { return false };
        if self.done.packet.is_error() || self.model.memories.is_tcp(memory.conversation) {
            return false;
        }
        let servers = match memory.place {
            Place::Tier1 => &self.network.outer_servers,
            _ => &self.network.cluster_servers,
        };
        let wanted = Flow { dst: address, dst_port: port, ..memory.came };
        let member = (memory.went.dst, memory.went.dst_port);
        let stays = server(servers, wanted)
            .is_some_and(|s| s.members.iter().any(|m| (m.address, m.port) == member));
        !stays
    }

    fn follow(&mut self, memory: &Memory, way: Way) {
        match way {
            Way::Along => self.rewrite(memory.came, memory.went),
            Way::Back => self.rewrite(memory.went.reversed(), memory.came.reversed()),
        }
    }

    /// Makes the packet one of `to`. What an ICMP error quotes is turned around; its source stays unless it is the flow's own.
    fn rewrite(&mut self, from: Flow, to: Flow) {
        let packet = &mut self.done.packet;
        if !packet.is_error() || packet.src == from.src {
            packet.src = to.src;
        }
        packet.dst = to.dst;
        match &mut packet.content {
            Content::Tcp { src_port, dst_port, .. } | Content::Udp { src_port, dst_port } => {
                (*src_port, *dst_port) = (to.src_port, to.dst_port);
            }
            Content::Echo { id, .. } => *id = to.src_port,
            Content::Error { quote, .. } => *quote = to.reversed(),
        }
    }

    // Choices.

    fn choose(
        &mut self,
        server: &Server,
        scope: Scope,
        flow: Flow,
        host: Option<&str>,
    ) -> Stop<Member> {
        if !self.may_begin() {
            return gone("cannot begin a conversation at the balancer");
        }
        let key = (server.address, server.protocol, server.port);
        let may = |m: &Member| !server.local_only || Some(m.host.as_str()) == host;
        let stuck = self.model.stickies.iter().find(|s| {
            s.scope == scope
                && s.server == key
                && s.client == flow.src
                && s.until > self.model.now
                && server.sticky_seconds.is_some()
        });
        let stuck = stuck.and_then(|s| {
            server.members.iter().position(|m| (m.address, m.port) == s.member && may(m))
        });
        let turn = self.model.turns.iter().find(|t| t.scope == scope && t.server == key);
        let first = turn.map_or(0, |t| t.next);
        let count = server.members.len();
        let next = (first..first + count)
            .filter_map(|i| i.checked_rem(count))
            .find(|i| server.members.get(*i).is_some_and(may));
        let Some(at) = stuck.or(next) else {
            self.refuse();
            return gone("no member");
        };
        let Some(member) = server.members.get(at) else { return gone("no member") };
        self.done.choices.push(Choice {
            scope,
            server: key,
            client: flow.src,
            member: at,
            address: (member.address, member.port),
            sticky_seconds: server.sticky_seconds,
            stuck: stuck.is_some(),
        });
        Ok(member.clone())
    }

    /// The wanted flow if its answers would be nobody else's at these places, else the same with the port that was observed, if
    /// it is free. What was dropped later showed no port; any free one will do.
    fn allocate(&self, places: &[Place], wanted: Flow) -> Option<Flow> {
        let own = self.done.packet.flow();
        let is_free = |flow: Flow| {
            flow.reversed() != own
                && places.iter().all(|place| {
                    !self.model.memories.is_known(*place, flow.reversed(), &self.done.superseded)
                })
        };
        if is_free(wanted) {
            return Some(wanted);
        }
        let with = |port: u16| match wanted.protocol {
            protocol::ICMP => Flow { src_port: port, dst_port: port, ..wanted },
            _ => Flow { src_port: port, ..wanted },
        };
        let seen = self.observed.iter().map(|seen| seen.packet.flow().src_port);
        seen.chain(NAT_PORTS.clone())
            .filter(|port| NAT_PORTS.contains(port))
            .map(with)
            .find(|flow| is_free(*flow))
    }

    // Answers, from the packet as it was sent. They go back by the routers that it passed, untouched by any stage.

    fn error(&mut self, kind: u8, code: u8, from: Ipv4Addr) {
        let original = self.frame.packet;
        if original.is_error() {
            return;
        }
        self.done.answer = Some(Packet {
            src: from,
            dst: original.src,
            ttl: OWN_TTL - self.passed,
            content: Content::Error { kind, code, quote: original.flow() },
        });
    }

    /// What a closed port says (RFC 9293, 3.10.7.1; RFC 1122, 3.2.2.1).
    fn refuse(&mut self) {
        let original = self.frame.packet;
        let Content::Tcp { src_port, dst_port, flags, seq, ack, len } = original.content else {
            return self.error(3, 3, original.dst);
        };
        if flags & flag::RST != 0 {
            return;
        }
        let control = (flags & (flag::SYN | flag::FIN)).count_ones();
        let (flags, seq, ack) = if flags & flag::ACK != 0 {
            (flag::RST, ack, 0)
        } else {
            (flag::RST | flag::ACK, 0, seq.wrapping_add(len).wrapping_add(control))
        };
        self.done.answer = Some(Packet {
            src: original.dst,
            dst: original.src,
            ttl: OWN_TTL - self.passed,
            content: Content::Tcp {
                src_port: dst_port,
                dst_port: src_port,
                flags,
                seq,
                ack,
                len: 0,
            },
        });
    }

    /// A packet for one of a gateway's own addresses.
    fn local(&mut self, pingable: bool, has_interface: bool) -> Stop<u32> {
        let original = self.frame.packet;
        match self.done.packet.content {
            Content::Echo { reply: false, id } if pingable => {
                self.done.answer = Some(Packet {
                    src: original.dst,
                    dst: original.src,
                    ttl: OWN_TTL - self.passed,
                    content: Content::Echo { reply: true, id },
                });
                gone("pinged a gateway")
            }
            Content::Udp { .. } if has_interface => {
                self.error(3, 3, original.dst);
                gone("a gateway's closed port")
            }
            _ => gone("nothing for a gateway"),
        }
    }

    fn time_to_live(&mut self, entry: &Entry) -> Stop<()> {
        if self.done.packet.ttl > 1 {
            self.done.packet.ttl -= 1;
            return Ok(());
        }
        self.error(11, 0, entry.address);
        gone("TTL exceeded")
    }

    fn martians(&self, entry: &Entry) -> Stop<()> {
        let packet = self.done.packet;
        let never = |a: Ipv4Addr| {
            a.is_loopback() || a.is_multicast() || a.octets()[0] == 0 || a.octets()[0] >= 240
        };
        if never(packet.src)
            || never(packet.dst)
            || packet.src == packet.dst
            || packet.src == entry.address
            || packet.src.is_link_local()
            || packet.dst.is_link_local()
        {
            return gone("martian");
        }
        Ok(())
    }

    /// An error's own source is no flow's: a private one stays inside, unless its flow goes out as it is.
    fn keeps_private(&self, private: bool, memory: Option<&Memory>) -> Stop<()> {
        let plain = memory.is_some_and(|m| m.came == m.went);
        if self.done.packet.is_error() && private && !plain {
            return gone("an error from a private address");
        }
        Ok(())
    }
}

/// The virtual server of a flow's destination.
fn server(servers: &[Server], flow: Flow) -> Option<&Server> {
    servers
        .iter()
        .find(|s| s.address == flow.dst && s.protocol == flow.protocol && s.port == flow.dst_port)
}
