//! Load balancing: the distributed one at the client's vNIC, the server one at a gateway.

use super::{Stop, Walk, balancer_stage};
use crate::drops::{DropReason, Stage};
use crate::hash::hash_of;
use crate::network::{
    Member, NoMembers, PoolSnat, Port, PortId, Router, RouterId, VirtualServer, Vnic,
};
use crate::plan::Choice;
use crate::session::{RecordKind, RuleKey, StageRecord, TimerClass};
use crate::tables::{BalancerScope, ServerKey};
use crate::trace::Observer;
use crate::tuple::{Node, Tuple};
use packet::{IcmpErrorKind, Transport};

/// Ports that NAT and SNAT automap hand out when the source's own is taken. A source port below
/// stays as it is where it is free.
pub const NAT_PORTS: std::ops::RangeInclusive<u16> = 1024..=65_535;

impl<O: Observer> Walk<'_, O> {
    /// ClusterIPs: destination NAT at the client's vNIC. The source stays, except that a client
    /// which is its own backend sees the service's address, or it would answer itself directly.
    pub(super) fn distributed_balancer(
        &mut self,
        id: PortId,
        port: &Port,
        vnic: &Vnic,
    ) -> Stop<()> {
        let node = Node::Balancer(id);
        if let Some((record, direction)) = self.recall(Stage::Dlb, &port.name, node)? {
            if let RecordKind::Balancer { hairpin, .. } = record.kind {
                self.hairpin = hairpin;
            }
            self.follow(&record, direction);
            self.note(Stage::Dlb, &port.name, || "known session: translated as before".to_owned());
            return Ok(());
        }
        let Some(tuple) = self.tuple() else {
            return Ok(());
        };
        let net = self.view.net;
        let servers = &net.distributed_balancer;
        self.asks(tuple.dst);
        if !servers.owns(tuple.dst) {
            return self.keep_apart(id, port, tuple);
        }
        let Some((_, server)) = self.lookup_port(servers, tuple) else {
            return Err(self.drop(Stage::Dlb, DropReason::VipNoPort, &port.name, None));
        };
        let scope = BalancerScope::Hypervisor(vnic.hypervisor);
        let member = self
            .choose(Stage::Dlb, &port.name, server, scope, None, tuple, Some(vnic.hypervisor))?
            .clone();
        let hairpin = vnic.addresses.contains(&member.address);
        let wanted = Tuple {
            src: if hairpin { server.address } else { tuple.src },
            dst: member.address,
            dst_port: member.port,
            ..tuple
        };
        // The client may be talking to the same backend directly, from the same port: as with any
        // translation the later flow gets another port (RFC 4787, REQ-3).
        let Some(after) = self.allocate(&[node, Node::Firewall(id)], wanted) else {
            return Err(self.drop(Stage::Dlb, DropReason::NatPortExhausted, &port.name, None));
        };
        self.record_choice(node, server, tuple, after, hairpin);
        self.hairpin = hairpin;
        self.note(Stage::Dlb, &port.name, || {
            format!(
                "virtual server {}: member {} {}:{}",
                server.name, member.name, member.address, member.port
            )
        });
        Ok(())
    }

    /// A flow to a backend directly, where a ClusterIP's flow already looks the same behind the
    /// balancer: it gets another source port.
    fn keep_apart(&mut self, id: PortId, port: &Port, tuple: Tuple) -> Stop<()> {
        let node = Node::Balancer(id);
        if self.is_free(node, tuple, tuple) || self.is_icmp_error() || self.may_begin().is_err() {
            return Ok(());
        }
        let Some(after) = self.allocate(&[node, Node::Firewall(id)], tuple) else {
            return Err(self.drop(Stage::Dlb, DropReason::NatPortExhausted, &port.name, None));
        };
        self.plan.records.push(StageRecord {
            node,
            before: tuple,
            after,
            kind: RecordKind::SourcePort,
            timers: TimerClass::Balancer,
        });
        self.translate(tuple, after);
        self.note(Stage::Dlb, &port.name, || {
            format!("source port {}: a ClusterIP's flow has {}", after.src_port, tuple.src_port)
        });
        Ok(())
    }

    /// Server load balancer of a gateway. Returns whether a virtual server took the packet.
    pub(super) fn server_balancer(&mut self, id: RouterId, router: &Router) -> Stop<bool> {
        let stage = balancer_stage(router);
        let Some(tuple) = self.tuple() else {
            return Ok(false);
        };
        if !router.balancer.has_server(tuple.dst) {
            return Ok(false);
        }
        let icmp = self.ip().is_some_and(|ip| matches!(ip.transport, Transport::Icmp(_)));
        if icmp {
            // Ping of the address, or an error that belongs to no session: decided as local.
            return Ok(false);
        }
        let Some((_, server)) = self.lookup_port(&router.balancer, tuple) else {
            return Err(self.drop(stage, DropReason::VipNoPort, &router.name, None));
        };
        if !server.source_ranges.is_empty()
            && !server.source_ranges.iter().any(|p| p.contains(tuple.src))
        {
            let key = RuleKey::Server(Some(id), server.address, server.protocol, server.port);
            return Err(self.drop(stage, DropReason::SourceRange, &router.name, Some(key)));
        }
        let scope = BalancerScope::Gateway(id);
        let member =
            self.choose(stage, &router.name, server, scope, Some(id), tuple, None)?.clone();
        let node = Node::Gateway(id);
        let to_member = Tuple { dst: member.address, dst_port: member.port, ..tuple };
        let after = match &server.snat {
            // A client that is its own member: as with a ClusterIP it sees the service's address.
            PoolSnat::Transparent if to_member.src == to_member.dst => {
                self.allocate(&[node], Tuple { src: server.address, ..to_member })
            }
            PoolSnat::Transparent => {
                let free = to_member.reversed() != tuple && self.is_free(node, tuple, to_member);
                free.then_some(to_member)
            }
            PoolSnat::Automap(addr) => self.allocate(&[node], Tuple { src: *addr, ..to_member }),
            PoolSnat::Pool(addrs) => addrs
                .iter()
                .find_map(|addr| self.allocate(&[node], Tuple { src: *addr, ..to_member })),
        };
        let Some(after) = after else {
            let key = RuleKey::Server(Some(id), server.address, server.protocol, server.port);
            return Err(self.drop(stage, DropReason::NatPortExhausted, &router.name, Some(key)));
        };
        self.record_choice(node, server, tuple, after, false);
        self.translate(tuple, after);
        self.note(stage, &router.name, || {
            format!(
                "virtual server {}: member {} {}:{}, source {}:{}",
                server.name, member.name, member.address, member.port, after.src, after.src_port
            )
        });
        Ok(true)
    }

    fn lookup_port<'n>(
        &self,
        servers: &'n crate::network::VirtualServers,
        tuple: Tuple,
    ) -> Option<(usize, &'n VirtualServer)> {
        servers.lookup(tuple.dst, tuple.protocol, tuple.dst_port)
    }

    #[allow(
        clippy::too_many_arguments,
        reason = "one call a balancer; a struct would only rename them"
    )]
    fn choose<'n>(
        &mut self,
        stage: Stage,
        object: &str,
        server: &'n VirtualServer,
        scope: BalancerScope,
        router: Option<RouterId>,
        tuple: Tuple,
        hypervisor: Option<u32>,
    ) -> Stop<&'n Member> {
        let rule = RuleKey::Server(router, server.address, server.protocol, server.port);
        self.may_begin().map_err(|reason| self.drop(stage, reason, object, Some(rule)))?;
        let key = ServerKey {
            scope,
            address: server.address,
            protocol: server.protocol,
            port: server.port,
        };
        let eligible = |m: &Member| !server.local_only || m.hypervisor == hypervisor;
        let count = server.members.len();
        let (start, stuck) = {
            let balancing = self.view.tables.balancing();
            let stuck = server.affinity.and(balancing.sticky(key, tuple.src, self.view.now));
            (balancing.position(&key), stuck)
        };
        let sticky = stuck.and_then(|member| {
            server.members.iter().position(|m| (m.address, m.port) == member && eligible(m))
        });
        let rotated = (0..count)
            .map(|i| (start + i) % count)
            .find(|i| server.members.get(*i).is_some_and(eligible));
        let Some((at, member)) =
            sticky.or(rotated).and_then(|i| server.members.get(i).map(|m| (i, m)))
        else {
            if server.no_members == NoMembers::Reject {
                self.answer_reject(IcmpErrorKind::PortUnreachable);
            }
            return Err(self.drop(stage, DropReason::NoMember, object, Some(rule)));
        };
        self.plan.choices.push(Choice {
            server: key,
            member: at,
            position: start,
            stuck,
            affinity: server.affinity.map(|d| {
                let nanos = u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
                (tuple.src, (member.address, member.port), nanos)
            }),
            rotate: sticky.is_none(),
        });
        Ok(member)
    }

    fn record_choice(
        &mut self,
        node: Node,
        server: &VirtualServer,
        before: Tuple,
        after: Tuple,
        hairpin: bool,
    ) {
        self.plan.records.push(StageRecord {
            node,
            before,
            after,
            kind: RecordKind::Balancer { server: server.address, port: server.port, hairpin },
            timers: TimerClass::Balancer,
        });
        if matches!(node, Node::Balancer(_)) {
            self.translate(before, after);
        }
    }

    /// A tuple like `wanted` whose reply is nobody else's at these nodes: with its own source port if that is
    /// free, else the first free one from a place that the seed and the flow choose. `None` if
    /// every port towards this destination is in use, or the protocol has none and is taken.
    pub(super) fn allocate(&self, nodes: &[Node], wanted: Tuple) -> Option<Tuple> {
        self.allocate_from(self.tuple()?, nodes, wanted)
    }

    /// As [`Walk::allocate`], for a packet that came as `came` and has been translated since.
    pub(super) fn allocate_from(
        &self,
        came: Tuple,
        nodes: &[Node],
        wanted: Tuple,
    ) -> Option<Tuple> {
        // A reply that looks like the request could not be told from it.
        let is_free = |tuple: Tuple| {
            tuple.reversed() != came && nodes.iter().all(|node| self.is_free(*node, came, tuple))
        };
        if is_free(wanted) {
            return Some(wanted);
        }
        let has_ports = wanted.is_icmp()
            || self
                .ip()
                .is_some_and(|ip| matches!(ip.transport, Transport::Tcp(_) | Transport::Udp(_)));
        if !has_ports {
            return None;
        }
        let (first, last) = (u32::from(*NAT_PORTS.start()), u32::from(*NAT_PORTS.end()));
        let span = last - first + 1;
        let start = hash_of(self.view.net.seed, 3, &(wanted, came.src));
        (0..span).find_map(|i| {
            let offset = (start.wrapping_add(u64::from(i)) % u64::from(span)) as u32;
            let port = u16::try_from(first + offset).ok()?;
            let candidate = if wanted.is_icmp() {
                Tuple { src_port: port, dst_port: port, ..wanted }
            } else {
                Tuple { src_port: port, ..wanted }
            };
            is_free(candidate).then_some(candidate)
        })
    }
}
