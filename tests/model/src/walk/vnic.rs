//! The vNIC: spoof guard, distributed load balancer, distributed firewall.

use definitions::own::OnPolicyChange;

use super::Scope;
use super::balancer::{counter_of, server};
use super::{Stop, Walk, gone};
use crate::memory::{Deed, Memory, Place, Way};
use crate::network::Workload;
use crate::packet::Flow;
use crate::policy::{Judgement, ethernet, judge};

impl Walk<'_> {
    pub(super) fn leaves_workload(&mut self, workload: &Workload) -> Stop<()> {
        let packet = self.frame.packet;
        if self.frame.src_mac != workload.mac || !workload.addresses.contains(&packet.src) {
            return gone("spoof guard");
        }
        let stations = (self.frame.src_mac, self.frame.dst_mac);
        if !ethernet::passes(self.network, workload, stations, &packet, false) {
            return gone("an Ethernet rule");
        }
        self.legal_flags()?;
        if packet.src == packet.dst {
            return gone("to itself without a service");
        }
        self.cluster_ip(workload)?;
        self.firewall(workload, false)
    }

    pub(super) fn reaches_workload(&mut self, workload: &Workload) -> Stop<u32> {
        let switched = self.passed == 0 && self.network.workload_at(self.port).is_some();
        let src_mac = if switched { self.frame.src_mac } else { self.network.gateway_mac };
        let stations = (src_mac, workload.mac);
        if !ethernet::passes(self.network, workload, stations, &self.done.packet, true) {
            return gone("an Ethernet rule");
        }
        self.firewall(workload, true)?;
        if let Some((memory, way)) = self.recall(Place::Balancer(workload.port))? {
            self.follow(&memory, way);
        }
        if let Some((id, Way::Back)) = self.done.known
            && self
                .model
                .memories
                .began(id)
                .is_some_and(|b| b.reversed() != self.done.packet.flow())
        {
            return gone("an answer that the workload would not know: it was translated once");
        }
        Ok(workload.port)
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
        self.done.blamed = Some(counter_of(server, false));
        let scope = Scope::Host(workload.host.clone());
        let member = self.choose(server, scope, flow, Some(&workload.host))?;
        let to_itself = workload.addresses.contains(&member.address);
        let src = if to_itself { server.address } else { flow.src };
        let wanted = Flow { src, dst: member.address, dst_port: member.port, ..flow };
        let Some(went) = self.allocate(&[place, Place::Firewall(workload.port)], flow, wanted)
        else {
            return gone("no port is free");
        };
        let service = (server.address, server.port);
        self.done.blamed = None;
        let counter = counter_of(server, false);
        self.remember(place, (flow, went), Deed::Balanced { service, to_itself }, Some(counter));
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
        let Some(went) = self.allocate(&[place, Place::Firewall(workload.port)], flow, flow) else {
            return gone("no port is free");
        };
        self.remember(place, (flow, went), Deed::KeptApart, None);
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
            if self.network.on_policy_change == OnPolicyChange::Keep {
                // It passes by the rule that it began with, which goes on counting it.
                return Ok(());
            }
            let (judgement, by) = judge(self.network, workload, judged, into);
            if matches!(judgement, Judgement::Passes { .. }) {
                // The rule that lets it pass now counts it from now on.
                self.done.recounted.push(Memory { counter: by, ..memory });
                return Ok(());
            }
            self.done.killed = Some(memory.conversation);
            self.done.blamed = by;
            return self.denied(judgement, format!("no longer allowed at {}", workload.name));
        }
        if self.done.packet.is_error() {
            return gone("an error about no conversation");
        }
        let (judgement, by) = judge(self.network, workload, flow, into);
        let begins = match judgement {
            Judgement::Passes { loose: true } => self.may_be_picked_up(),
            Judgement::Passes { loose: false } => self.may_begin(),
            _ => {
                let way = if into { "into" } else { "out of" };
                self.done.blamed = by;
                return self.denied(judgement, format!("not allowed {way} {}", workload.name));
            }
        };
        if !begins {
            return gone("cannot begin a conversation at the firewall");
        }
        self.remember(place, (flow, flow), Deed::Allowed { judged: flow, into }, by);
        Ok(())
    }

    fn denied(&mut self, judgement: Judgement, why: String) -> Stop<()> {
        if judgement == Judgement::Rejects {
            self.prohibit();
            return gone(format!("rejected: {why}"));
        }
        gone(why)
    }
}
