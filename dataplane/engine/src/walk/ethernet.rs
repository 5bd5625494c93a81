//! Stateless checks of frames at a vNIC: the Ethernet category of the distributed firewall, and the rate
//! limits of group-addressed frames.
//!
//! Every frame passes here, address resolution and copies of a flood too, once on its way out of a
//! workload and once on its way in. Nothing is remembered, so a rule holds for the very next frame. The
//! cache repeats the outcome safely: the source MAC is a guard, the destination MAC is in the key, the
//! EtherType is the key's family, and what a router writes follows from snapshot and learned tables.

use super::{Stop, Walk};
use crate::drops::{Drop, DropReason, Stage};
use crate::network::{EthernetAction, EthernetRule, GroupTraffic, Network, Port, PortId, Vnic};
use crate::session::{RuleKey, StatelessRule};
use crate::tables::Tables;
use crate::trace::Observer;
use packet::{Headers, Mac, Time};

/// How a group-addressed frame counts for rate limits.
fn group_traffic(headers: &Headers, ingress: bool) -> Option<GroupTraffic> {
    match (headers.dst_mac, ingress) {
        (Mac::BROADCAST, true) => Some(GroupTraffic::RxBroadcast),
        (Mac::BROADCAST, false) => Some(GroupTraffic::TxBroadcast),
        (mac, true) if mac.is_group() => Some(GroupTraffic::RxMulticast),
        (mac, false) if mac.is_group() => Some(GroupTraffic::TxMulticast),
        _ => None,
    }
}

/// What the stateless checks say of a frame at a vNIC.
pub(crate) struct Checked<'n> {
    /// The first Ethernet rule that matches it.
    pub(crate) rule: Option<&'n EthernetRule>,
    /// How it counts for rate limits, where one is set.
    pub(crate) metered: Option<GroupTraffic>,
    /// Why it does not pass.
    pub(crate) refused: Option<Drop>,
}

/// Checks a frame on its way to (`ingress`) or from the workload at a port.
pub(crate) fn check<'n>(
    net: &'n Network,
    tables: &Tables,
    (id, port, vnic): (PortId, &Port, &Vnic),
    headers: &Headers,
    ingress: bool,
    now: Time,
) -> Checked<'n> {
    let drop =
        |stage, reason, rule| Drop { stage, reason, object: port.name.clone(), rule, parse: None };
    let metered =
        group_traffic(headers, ingress).filter(|t| vnic.security.rates.limit(*t).is_some());
    let exceeded = metered.is_some_and(|traffic| {
        let limit = vnic.security.rates.limit(traffic);
        limit.is_some_and(|most| tables.group_frames(id, traffic, now) >= most)
    });
    if exceeded {
        let refused = Some(drop(Stage::Vnic, DropReason::RateLimit, None));
        return Checked { rule: None, metered: None, refused };
    }
    let (list, stage) = if ingress {
        (&vnic.ethernet_in, Stage::DfwIn)
    } else {
        (&vnic.ethernet_out, Stage::DfwOut)
    };
    let rule = net.firewall.ethernet_rule(list, headers);
    let refused = rule
        .filter(|r| r.action == EthernetAction::Drop)
        .map(|rule| drop(stage, DropReason::EthernetRule, Some(RuleKey::Firewall(rule.id))));
    Checked { rule, metered, refused }
}

impl<O: Observer> Walk<'_, O> {
    /// Checks the frame at the vNIC that it leaves or reaches.
    pub(super) fn ethernet(
        &mut self,
        id: PortId,
        port: &Port,
        vnic: &Vnic,
        ingress: bool,
    ) -> Stop<()> {
        let net = self.view.net;
        let at = (id, port, vnic);
        let checked = check(net, self.view.tables, at, &self.headers, ingress, self.view.now);
        self.plan.metered.extend(checked.metered.map(|traffic| (id, traffic)));
        if let Some(rule) = checked.rule {
            let stage = if ingress { Stage::DfwIn } else { Stage::DfwOut };
            self.note(stage, &port.name, || {
                format!(
                    "{} by Ethernet rule {} '{}' ({})",
                    rule.action, rule.id, rule.name, rule.origin
                )
            });
        }
        match checked.refused {
            Some(Drop { stage, reason, rule, .. }) => {
                Err(self.drop(stage, reason, &port.name, rule))
            }
            None => {
                self.plan
                    .stateless
                    .extend(checked.rule.map(|rule| StatelessRule::Ethernet(rule.id)));
                Ok(())
            }
        }
    }

    /// Judges a copy of a flooded frame on its way to a port: what refuses it, if anything does.
    pub(super) fn refuses_copy(&mut self, id: PortId, port: &Port) -> Option<Drop> {
        let vnic = port.vnic.as_ref()?;
        let at = (id, port, vnic);
        let checked =
            check(self.view.net, self.view.tables, at, &self.headers, true, self.view.now);
        self.plan.metered.extend(checked.metered.map(|traffic| (id, traffic)));
        if checked.refused.is_some() {
            return checked.refused;
        }
        if let Some(rule) = self.refuses_group(vnic) {
            return Some(Drop {
                stage: Stage::DfwIn,
                reason: DropReason::Firewall,
                object: port.name.clone(),
                rule: Some(rule),
                parse: None,
            });
        }
        self.plan.stateless.extend(checked.rule.map(|rule| StatelessRule::Ethernet(rule.id)));
        None
    }
}
