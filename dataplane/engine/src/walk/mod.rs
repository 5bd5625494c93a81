//! The walk: a packet's way through the logical network, node by node.
//!
//! The walk reads the snapshot, the sessions and the learned tables, edits a copy of the headers,
//! and fills a [`Plan`]. It changes nothing else (promise 3), so that a trace is the same walk with
//! a recorder and without a commit. Order of the stages:
//!
//! 1. vNIC, from the workload: segment security, SpoofGuard, rate limits, Ethernet rules, distributed
//!    load balancer, distributed firewall (egress).
//! 2. Segment: ARP and neighbour discovery; same segment switches, the gateway's MAC routes.
//! 3. Router: reverse path check; known flow, else virtual server, else NAT of the destination; if it
//!    came by an uplink, gateway firewall; local delivery; route; if it leaves by an uplink, gateway
//!    firewall and NAT of the source.
//! 4. vNIC, to the workload: rate limits, Ethernet rules, distributed firewall (ingress), un-DNAT of
//!    replies.

mod balancer;
mod ethernet;
mod firewall;
mod flood;
mod gateway_firewall;
mod nat;
mod neighbor;
mod router;
mod segment;
mod vnic;

pub(crate) use ethernet::check as check_ethernet;

use crate::cache::wire_len;
use crate::drops::{Drop, DropReason, Stage};
use crate::network::{
    InterfaceId, Network, Object, Port, PortId, Router, RouterId, SegmentId, Tier,
};
use crate::plan::{Outcome, Plan, Solicitation, Verdict};
use crate::session::{
    Direction, Known, Progress, Reading, RecordKind, Records, RuleKey, Segment, SessionId,
    Sessions, StageRecord, legal_tcp_flags,
};
use crate::tables::Tables;
use crate::trace::{LEAVES, Observer, Step, packet_line};
use crate::tuple::{Node, Tuple};
use packet::{
    Addr, Frame, Headers, Icmp, IcmpErrorKind, IcmpMessage, Ip, Rewrite, Transport, icmp_error,
    parse, tcp_flags, tcp_reset,
};

/// Most routers that a packet may pass inside the lab.
pub const MAX_HOPS: u8 = 16;

/// What a walk reads.
#[derive(Clone, Copy)]
pub struct View<'a> {
    /// The configuration.
    pub net: &'a Network,
    /// The sessions.
    pub sessions: &'a Sessions,
    /// Learned tables and balancer positions.
    pub tables: &'a Tables,
    /// State of the learned tables.
    pub generation: u64,
    /// The moment.
    pub now: packet::Time,
}

/// A stage either lets the packet go on or ends the walk with a verdict.
type Stop<T> = Result<T, Box<Verdict>>;

/// Where a packet is.
#[derive(Clone, Copy, Debug)]
enum Place {
    /// In a segment, having come in by a port.
    Entering(SegmentId),
    /// In a segment, sent by a router to the station with the destination MAC.
    Leaving(SegmentId),
    /// At a router, having come in by an interface.
    Router(RouterId, InterfaceId),
    /// At the port it leaves by.
    Port(PortId),
}

/// A walk in progress.
pub struct Walk<'a, O: Observer> {
    view: View<'a>,
    /// The sessions as they are during the walk.
    sessions: Reading<'a>,
    observer: &'a mut O,
    frame: &'a Frame,
    /// Headers as the frame came in.
    original: Headers,
    headers: Headers,
    ingress: PortId,
    /// Routers that the packet has come to.
    hops: u8,
    /// Routers that it has left behind.
    passed: u8,
    mtu: u32,
    /// The session that the packet belongs to, once a node knew it.
    session: Option<(Known, Direction)>,
    /// The packet goes from a workload to itself by its own service.
    hairpin: bool,
    answer: Option<Frame>,
    answer_is_error: bool,
    fragment_to: Option<u32>,
    hold: Option<Box<(Solicitation, Drop)>>,
    cacheable: bool,
    /// A stage has looked at TCP flags, which only a session's guard looks at again.
    reads_flags: bool,
    /// A stage that remembers others has let it pass by a stateless rule.
    meets_state: bool,
    /// On the heap: an outcome changes hands several times before its plan is committed.
    plan: Box<Plan>,
}

impl<'a, O: Observer> Walk<'a, O> {
    /// A walk of `frame`, which came in at `ingress` and parsed to `headers`.
    pub fn new(
        view: View<'a>,
        ingress: PortId,
        frame: &'a Frame,
        headers: Headers,
        observer: &'a mut O,
    ) -> Walk<'a, O> {
        Walk {
            sessions: view.sessions.read(),
            view,
            observer,
            frame,
            original: headers,
            headers,
            ingress,
            hops: 0,
            passed: 0,
            mtu: u32::MAX,
            session: None,
            hairpin: false,
            answer: None,
            answer_is_error: false,
            fragment_to: None,
            hold: None,
            cacheable: true,
            reads_flags: false,
            meets_state: false,
            plan: Box::new(Plan { initiating: headers.ip().map(Tuple::of), ..Plan::default() }),
        }
    }

    /// Walks to the end.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        let verdict = match self.go() {
            Ok(port) => Verdict::Deliver(port),
            Err(stop) => *stop,
        };
        self.plan.terminating = self.headers.ip().map(Tuple::of);
        self.plan.session = self.session.as_ref().map(|(s, d)| (s.id, *d));
        let plain = self
            .headers
            .ip()
            .is_some_and(|ip| ip.fragment.is_none() && !ip.options && ip.embedded().is_none());
        let (known, begins) = (self.plan.session.is_some(), !self.plan.records.is_empty());
        let guarded = match self.meets_state {
            // The next such packet may find there what this one begins or extends.
            true => known && !begins,
            false => !self.reads_flags || known || begins,
        };
        let cacheable = self.cacheable
            && guarded
            && plain
            && self.fragment_to.is_none()
            && self.answer.is_none()
            && matches!(verdict, Verdict::Deliver(_));
        Outcome {
            verdict,
            headers: self.headers,
            answer: self.answer,
            answer_is_error: self.answer_is_error,
            fragment_to: self.fragment_to,
            mtu: self.mtu,
            plan: self.plan,
            hold: self.hold,
            generation: self.view.generation,
            cacheable,
        }
    }

    fn go(&mut self) -> Stop<PortId> {
        let net = self.view.net;
        self.reads(Object::Port(self.ingress));
        let Some(port) = net.port(self.ingress) else {
            return Err(self.drop(Stage::Port, DropReason::UnknownPort, "port", None));
        };
        self.enter_port(port)?;
        if let Some(vnic) = &port.vnic {
            self.workload_sends(port, vnic)?;
        }
        let mut place = Place::Entering(port.segment);
        loop {
            place = match place {
                Place::Entering(segment) => self.enter_segment(segment)?,
                Place::Leaving(segment) => self.reach_station(segment)?,
                Place::Router(router, interface) => self.route(router, interface)?,
                Place::Port(out) => {
                    self.leave_port(out)?;
                    return Ok(out);
                }
            };
        }
    }

    /// Notes what the walk's result depends on.
    fn reads(&mut self, object: Object) {
        self.plan.reads.objects.push(object);
    }

    /// Notes that the result depends on what an address means to routers or balancers.
    fn asks(&mut self, address: Addr) {
        self.plan.reads.addresses.push(address);
    }

    fn enter_port(&mut self, port: &Port) -> Stop<()> {
        if self.headers.src_mac.is_group() || self.headers.src_mac == packet::Mac::ZERO {
            return Err(self.drop(Stage::Port, DropReason::BadSourceMac, &port.name, None));
        }
        if self.headers.vlan.is_some() {
            return Err(self.drop(Stage::Port, DropReason::VlanTagged, &port.name, None));
        }
        Ok(())
    }

    fn leave_port(&mut self, out: PortId) -> Stop<()> {
        let net = self.view.net;
        self.reads(Object::Port(out));
        let Some(port) = net.port(out) else {
            return Err(self.drop(Stage::Port, DropReason::UnknownPort, "port", None));
        };
        if let Some(vnic) = &port.vnic {
            self.workload_receives(out, port, vnic)?;
        }
        self.mtu = self.mtu.min(port.mtu);
        if self.is_too_large_for(port) {
            // A switch has no address to answer from: the sender's own segment MTU is wrong.
            return Err(self.drop(Stage::Port, DropReason::FragmentationNeeded, &port.name, None));
        }
        self.note(Stage::Port, &port.name, || LEAVES.to_owned());
        Ok(())
    }

    /// Whether the packet, cut if it may be, does not fit a port's link.
    fn is_too_large_for(&self, port: &Port) -> bool {
        let fits = self.ip().is_none_or(|ip| wire_len(self.frame, &self.headers, ip) <= port.mtu);
        !fits && self.fragment_to.is_none_or(|to| to > port.mtu)
    }

    /// Ends the walk with a counted drop.
    fn drop(
        &mut self,
        stage: Stage,
        reason: DropReason,
        object: &str,
        rule: Option<RuleKey>,
    ) -> Box<Verdict> {
        self.note(stage, object, || match rule {
            Some(RuleKey::Firewall(id) | RuleKey::GatewayFirewall(_, id)) => {
                format!("dropped: {reason}, rule {id}")
            }
            _ => format!("dropped: {reason}"),
        });
        Box::new(Verdict::Drop(Drop {
            stage,
            reason,
            object: object.to_owned(),
            rule,
            parse: None,
        }))
    }

    /// Tells whoever watches.
    fn note(&mut self, stage: Stage, object: &str, text: impl FnOnce() -> String) {
        if O::WATCHES {
            self.observer.step(Step {
                stage,
                object: object.to_owned(),
                text: text(),
                packet: packet_line(&self.headers),
            });
        }
    }

    /// Has an ICMP error sent to the packet's sender. It is built from the packet as it came in,
    /// which is the packet as it is here with this walk's own translations reversed, but for the TTL:
    /// the quote has the one that the packet has got down to.
    fn answer_error(&mut self, kind: IcmpErrorKind, source: Option<Addr>) {
        if let Some(source) = source {
            let mut seen = self.frame.clone();
            age(&mut seen, &self.original, self.passed);
            let error = icmp_error(&seen, &self.original, kind, source);
            self.answer(error);
            self.answer_is_error = true;
        }
    }

    /// Has a frame sent to the packet's sender, back through the routers that the packet has passed.
    fn answer(&mut self, frame: Option<Frame>) {
        self.answer = frame.map(|mut frame| {
            if let Ok(headers) = parse(&frame.bytes) {
                age(&mut frame, &headers, self.passed);
            }
            frame
        });
    }

    /// Has the packet's sender told that it was rejected: TCP RST, otherwise ICMP
    /// administratively prohibited, from the address that the sender used.
    fn answer_reject(&mut self, kind: IcmpErrorKind) {
        let Some(ip) = self.original.ip() else { return };
        if ip.tcp().is_some() {
            let reset = tcp_reset(self.frame, &self.original);
            self.answer(reset);
            self.answer_is_error = true;
        } else {
            self.answer_error(kind, Some(ip.dst));
        }
    }

    fn ip(&self) -> Option<&Ip> {
        self.headers.ip()
    }

    /// The tuple of the packet as it is here.
    fn tuple(&self) -> Option<Tuple> {
        self.headers.ip().map(Tuple::of)
    }

    /// Whether the packet may begin a session where a stage is strict: a TCP SYN, a datagram, an
    /// ICMP query.
    fn may_begin(&self) -> Result<(), DropReason> {
        let Some(ip) = self.ip() else {
            return Err(DropReason::NonIp);
        };
        match &ip.transport {
            Transport::Tcp(t) => {
                use tcp_flags::{ACK, FIN, RST, SYN};
                // A later fragment follows its first one, but begins no connection in the place of one that has ended since.
                let later = ip.fragment.is_some_and(|f| f.offset > 0);
                if t.flags & (SYN | ACK | RST | FIN) == SYN && !later {
                    Ok(())
                } else {
                    Err(DropReason::NotSyn)
                }
            }
            Transport::Icmp(Icmp { message, .. }) => match message {
                IcmpMessage::Query { .. } => Ok(()),
                IcmpMessage::Error(_) => Err(DropReason::IcmpUnmatched),
                _ => Err(DropReason::NoSession),
            },
            Transport::LaterFragment => Err(DropReason::Fragment),
            Transport::Udp(_) | Transport::Other => Ok(()),
        }
    }

    /// Drops TCP flags that no TCP sends, where a stage keeps state.
    fn legal_flags(&mut self, stage: Stage, object: &str) -> Stop<()> {
        let later = self.ip().and_then(|ip| ip.fragment).is_some_and(|f| f.offset > 0);
        let flags = self.ip().and_then(|ip| ip.tcp()).map(|t| t.flags);
        self.reads_flags |= flags.is_some();
        match flags {
            Some(flags) if !later && !legal_tcp_flags(flags) => {
                Err(self.drop(stage, DropReason::TcpFlags, object, None))
            }
            _ => Ok(()),
        }
    }

    fn is_icmp_error(&self) -> bool {
        self.ip().is_some_and(|ip| ip.embedded().is_some())
    }

    /// Whether it is an ICMP error that is not sent to who sent the packet it quotes, as every true one is
    /// (RFC 792; RFC 4443, 2.2). It is of no flow: by the address of one tenant it would reach another's.
    /// Linux' conntrack refuses it too (`nf_conntrack_inet_error`).
    fn is_stray_error(&self) -> bool {
        self.ip().is_some_and(|ip| ip.embedded().is_some_and(|quoted| quoted.src != ip.dst))
    }

    /// What `node` remembers of the packet's flow, and which way the packet goes in it.
    fn recall(
        &mut self,
        stage: Stage,
        object: &str,
        node: Node,
    ) -> Stop<Option<(StageRecord, Direction)>> {
        match self.tuple() {
            Some(tuple) => self.recall_as(stage, object, node, tuple),
            None => Ok(None),
        }
    }

    /// As [`Walk::recall`], by a tuple that is not the packet's own any more.
    fn recall_as(
        &mut self,
        stage: Stage,
        object: &str,
        node: Node,
        tuple: Tuple,
    ) -> Stop<Option<(StageRecord, Direction)>> {
        if self.is_stray_error() {
            return Ok(None);
        }
        let Some(found) = self.sessions.find(node, &tuple) else {
            return Ok(None);
        };
        if self.plan.replaces.contains(&found.session) {
            return Ok(None);
        }
        let known = self.session.as_ref().map(|(s, _)| s.id);
        let Some(session) = self.sessions.known(found.session) else { return Ok(None) };
        if let Progress::Tcp(tcp) = session.progress
            && let Some(segment) = self
                .ip()
                .filter(|ip| ip.embedded().is_none())
                .and_then(|ip| ip.tcp())
                .map(Segment::of)
            && segment.flags & tcp_flags::RST != 0
            && !tcp.takes_reset(found.direction, segment)
        {
            self.session = Some((session, found.direction));
            return Err(self.drop(stage, DropReason::TcpWindow, object, None));
        }
        // A SYN on a finished connection begins another one: rules, backend and port are chosen
        // anew (features.md 5, complaint 2).
        if session.progress.is_over() && !self.is_icmp_error() && self.may_begin().is_ok() {
            self.plan.replaces.push(found.session);
            return Ok(None);
        }
        // A translation that was made anew just now leads to the tuple of one that is forgotten: what
        // other stages still remember is that one's, not this connection's.
        let anew = known.is_none()
            && self.plan.records.iter().any(|r| r.before != r.after)
            && !self.is_icmp_error();
        if anew {
            self.plan.replaces.push(found.session);
            return Ok(None);
        }
        if known.is_some_and(|id| id != found.session) {
            return Err(self.drop(stage, DropReason::SessionConflict, object, None));
        }
        // Asked at every stage that remembers the session, whichever stage the balancer's is: a late
        // answer of a member that has left must not pass as a reply of something that is over.
        let balanced = self.sessions.is_balanced(session.id);
        if balanced {
            let records: Records = self.sessions.records(session.id).collect();
            for record in &records {
                if let RecordKind::Balancer { server, .. } = record.kind {
                    self.asks(server);
                }
            }
            if !matches!(session.progress, Progress::Tcp(_))
                && records.iter().any(|r| self.has_moved(&session, r))
            {
                self.plan.replaces.push(found.session);
                return Ok(None);
            }
        }
        self.session = Some((session, found.direction));
        Ok(self.sessions.record(&found).map(|record| (record, found.direction)))
    }

    /// Whether datagrams to a service must choose again, because the member they went to has left it.
    /// A connection stays with its member until it ends.
    fn has_moved(&self, session: &Known, record: &StageRecord) -> bool {
        let RecordKind::Balancer { server, port, .. } = record.kind else { return false };
        let net = self.view.net;
        let servers = match record.node {
            Node::Gateway(router) => net.router(router).map(|r| &r.balancer),
            _ => Some(&net.distributed_balancer),
        };
        let stays = servers
            .and_then(|s| s.lookup(server, record.before.protocol, port))
            .is_some_and(|(_, server)| {
                let member = (record.after.dst, record.after.dst_port);
                server.members.iter().any(|m| (m.address, m.port) == member)
            });
        !stays && !self.is_icmp_error() && !matches!(session.progress, Progress::Tcp(_))
    }

    /// Rewrites the packet as a record says. An ICMP error follows the flow of the packet it quotes:
    /// what changes for the flow's source and destination changes in the quote, turned around, and
    /// in the outer header.
    fn translate(&mut self, from: Tuple, to: Tuple) {
        let Some(ip) = self.headers.ip_mut() else {
            return;
        };
        // An error may come from a router on the way: its source is the flow's only if it says so.
        if ip.embedded().is_none() || ip.src == from.src {
            ip.src = to.src;
        }
        ip.dst = to.dst;
        match &mut ip.transport {
            Transport::Tcp(t) => (t.src_port, t.dst_port) = (to.src_port, to.dst_port),
            Transport::Udp(u) => (u.src_port, u.dst_port) = (to.src_port, to.dst_port),
            Transport::Icmp(icmp) => match &mut icmp.message {
                IcmpMessage::Query { id, .. } | IcmpMessage::Reply { id, .. } => *id = to.src_port,
                IcmpMessage::Error(e) => {
                    (e.src, e.dst) = (to.dst, to.src);
                    (e.src_port, e.dst_port) = (to.dst_port, to.src_port);
                }
                _ => {}
            },
            Transport::Other | Transport::LaterFragment => {}
        }
    }

    /// Follows a record in the direction the packet goes.
    fn follow(&mut self, record: &StageRecord, direction: Direction) {
        let (from, to) = match direction {
            Direction::Forward => (record.before, record.after),
            Direction::Reply => (record.after.reversed(), record.before.reversed()),
        };
        self.translate(from, to);
    }

    /// Whether a record of a flow that comes to `node` as `before` and leaves it as `after` can be made: its reply is
    /// nobody else's, and not in quarantine after somebody else.
    fn is_free(&self, node: Node, before: Tuple, after: Tuple) -> bool {
        self.sessions.is_free(node, before, after, &self.plan.replaces)
    }

    /// The session that the packet belongs to, if a node has known it.
    fn session_id(&self) -> Option<SessionId> {
        self.session.as_ref().map(|(s, _)| s.id)
    }
}

/// The stages of a router by its tier.
fn nat_stage(router: &Router) -> Stage {
    match router.tier {
        Tier::Tier0 => Stage::T0Nat,
        Tier::Tier1 => Stage::T1Nat,
    }
}

fn firewall_stage(router: &Router) -> Stage {
    match router.tier {
        Tier::Tier0 => Stage::T0Firewall,
        Tier::Tier1 => Stage::T1Firewall,
    }
}

fn balancer_stage(router: &Router) -> Stage {
    match router.tier {
        Tier::Tier0 => Stage::T0Lb,
        Tier::Tier1 => Stage::T1Lb,
    }
}

fn route_stage(router: &Router) -> Stage {
    match router.tier {
        Tier::Tier0 => Stage::T0Route,
        Tier::Tier1 => Stage::T1Route,
    }
}

/// Takes `routers` from a frame's TTL, as if it had passed so many.
fn age(frame: &mut Frame, headers: &Headers, routers: u8) {
    let mut after = *headers;
    if let Some(ip) = after.ip_mut() {
        ip.ttl = ip.ttl.saturating_sub(routers);
    }
    Rewrite::between(headers, &after).apply(frame, headers);
}
