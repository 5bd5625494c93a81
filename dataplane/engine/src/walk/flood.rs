//! Flood protection on the way: a flow that a vNIC's firewall or a gateway would have to remember is
//! refused if the place has as many of its class as it may. Flows that are remembered already never are.

use super::{Stop, Walk, firewall_stage, nat_stage};
use crate::drops::{DropReason, Stage};
use crate::network::{Port, PortId, Router, RouterId};
use crate::session::{
    FloodLimits, FlowClass, FlowPlace, Progress, Records, SessionId, TcpState, counted,
};
use crate::trace::Observer;

impl<O: Observer> Walk<'_, O> {
    /// Refuses a flow that the firewall at a vNIC is about to remember.
    pub(super) fn flood_protection_at_vnic(
        &mut self,
        id: PortId,
        stage: Stage,
        port: &Port,
    ) -> Stop<()> {
        let limits = self.view.net.firewall.flood;
        match self.exceeded(FlowPlace::Vnic(id), &limits) {
            Some(exceeded) => Err(self.drop_flood(stage, &port.name, exceeded)),
            None => Ok(()),
        }
    }

    /// Refuses a flow that a gateway is about to remember: its NAT, its balancer or its firewall. A
    /// gateway whose firewall is switched off protects nothing.
    pub(super) fn flood_protection_at_gateway(
        &mut self,
        id: RouterId,
        router: &Router,
    ) -> Stop<()> {
        let Some(limits) = router.gateway_firewall.flood() else { return Ok(()) };
        match self.exceeded(FlowPlace::Gateway(id), limits) {
            Some(exceeded @ (FlowClass::Nat, _)) => {
                Err(self.drop_flood(nat_stage(router), &router.name, exceeded))
            }
            Some(exceeded) => Err(self.drop_flood(firewall_stage(router), &router.name, exceeded)),
            None => Ok(()),
        }
    }

    /// The first class of which the place has as many flows as it may, if this packet's flow would be
    /// one more. Those that it takes the place of are over.
    fn exceeded(&self, place: FlowPlace, limits: &FloodLimits) -> Option<(FlowClass, u32)> {
        if self.plan.records.is_empty() || *limits == FloodLimits::default() {
            return None;
        }
        let sessions = &self.sessions;
        let number = self.original.ip()?.protocol;
        let known: Records =
            self.session.iter().flat_map(|(session, _)| sessions.records(session.id)).collect();
        let progress = match &self.session {
            Some((session, _)) => session.progress,
            None if self.plan.picked_up => Progress::Tcp(TcpState::under_way()),
            None => Progress::new(number),
        };
        let class = FlowClass::of(number, progress);
        let before = counted(class, &known);
        let after = counted(class, known.iter().chain(&self.plan.records));
        after.iter().copied().filter(|(at, _)| *at == place).find_map(|key| {
            let most = limits.limit(key.1)?;
            let times = |all: &[_]| all.iter().filter(|of| **of == key).count();
            let more = times(&after).saturating_sub(times(&before));
            let counts = |id: &SessionId| {
                let records: Records = sessions.records(*id).collect();
                counted(sessions.class(*id), &records).iter().filter(|of| **of == key).count()
            };
            let over: usize = self.plan.replaces.iter().map(counts).sum();
            let has = sessions.flows(place, key.1).saturating_sub(over);
            (more > 0 && has + more > most as usize).then_some((key.1, most))
        })
    }

    fn drop_flood(
        &mut self,
        stage: Stage,
        object: &str,
        (class, most): (FlowClass, u32),
    ) -> Box<crate::plan::Verdict> {
        self.note(stage, object, || {
            let flows = match class {
                FlowClass::TcpHalfOpen => "half-open TCP connections",
                FlowClass::Udp => "UDP flows",
                FlowClass::Icmp => "ICMP queries",
                FlowClass::Other => "flows of other protocols",
                FlowClass::Nat => "translated flows",
            };
            format!("it has {most} {flows} already, the limit of flood protection")
        });
        self.drop(stage, DropReason::FloodProtection, object, None)
    }
}
