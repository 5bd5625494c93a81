//! Choices of the load balancers, and ports that translations take.

use super::{Choice, Scope, Stop, Walk, gone};
use crate::counters::Counter;
use crate::memory::Place;
use crate::network::{Member, Server};
use crate::packet::{Flow, protocol};

/// Ports that NAT may allocate.
const NAT_PORTS: std::ops::RangeInclusive<u16> = 1024..=65_535;

/// The virtual server of a flow's destination.
pub(super) fn server(servers: &[Server], flow: Flow) -> Option<&Server> {
    servers
        .iter()
        .find(|s| s.address == flow.dst && s.protocol == flow.protocol && s.port == flow.dst_port)
}

/// What counts for a virtual server.
pub(super) fn counter_of(server: &Server, gateway: bool) -> Counter {
    let Server { address, protocol, port, .. } = *server;
    Counter::Server { gateway, address, protocol, port }
}

impl Walk<'_> {
    pub(super) fn choose(
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

    /// What `came` goes on as: the wanted flow if its answers would be nobody else's at these places, else the same with the port
    /// that was observed, if it is free. What was dropped later showed no port; any free one will do.
    pub(super) fn allocate(&self, places: &[Place], came: Flow, wanted: Flow) -> Option<Flow> {
        let is_free = |flow: Flow| {
            flow.reversed() != came
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
}
