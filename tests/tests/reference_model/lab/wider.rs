//! What only the labs of seeds from [`super::super::WIDER`] on have: settings and rules that the model learned after seeds were
//! kept, whose labs would be others otherwise.

use super::gateway::Firewall;
use super::nat::named;
use crate::random::Random;

/// Settings of a wider lab.
#[derive(Clone)]
pub struct Wider {
    /// The firewall of the Tier-0.
    tier0: Firewall,
    active_standby: bool,
    /// Live sessions are kept when rules change.
    keeps: bool,
    /// Timers of the profile `rfc`.
    rfc: bool,
}

impl Wider {
    /// Random ones.
    pub fn new(random: &mut Random) -> Wider {
        let active_standby = random.chance(70);
        Wider {
            tier0: Firewall::of_tier0(random, active_standby),
            active_standby,
            keeps: random.chance(30),
            rfc: random.chance(30),
        }
    }

    /// Changes something and says what.
    pub fn change(&mut self, random: &mut Random) -> String {
        match random.below(8) {
            0 => {
                self.keeps = !self.keeps;
                format!("sessions are kept when rules change: {}", self.keeps)
            }
            1 => {
                self.rfc = !self.rfc;
                format!("timers of the RFCs: {}", self.rfc)
            }
            _ => format!("Tier-0: {}", self.tier0.change(random)),
        }
    }

    /// Fields of the SupervisorCluster's `distributedFirewall`.
    pub fn firewall_fields(&self) -> &'static str {
        if self.keeps { "onPolicyChange: keep, " } else { "" }
    }

    /// Fields of the SupervisorCluster.
    pub fn cluster_fields(&self) -> String {
        let timers = if self.rfc { "rfc" } else { "nsx" };
        format!("\n  sessions: {{timers: {timers}}}\n  snatPools: [{SNAT_POOLS}]")
    }

    /// Fields of the Tier-0.
    pub fn tier0_fields(&self) -> String {
        let mode = if self.active_standby { "active-standby" } else { "active-active" };
        format!("\n  haMode: {mode}\n  gatewayFirewall: {}", self.tier0.yaml())
    }
}

/// Pools of one address, of some, for one namespace only, and two of one name.
const SNAT_POOLS: &str = "{name: one, addresses: [172.16.4.1]}, {name: some, addresses: [172.16.4.8/29]}, \
     {name: own, addresses: [172.16.4.17-172.16.4.19], namespaces: [ns-0]}, \
     {name: twice, addresses: [172.16.4.24]}, {name: twice, addresses: [172.16.4.25]}";

/// What a Service asks for by `ncp/snat_pool`.
pub fn snat_pool(random: &mut Random) -> Option<&'static str> {
    random.pick(&[
        None,
        None,
        None,
        None,
        Some("one"),
        Some("some"),
        Some("some"),
        Some("own"),
        Some("twice"),
        Some("nowhere"),
    ])
}

/// A NAT rule of the Tier-1 of a kind that other labs do not have: DNAT to a target outside.
pub fn nat_rule(random: &mut Random) -> String {
    let destination = random.pick(&super::EXTERNAL);
    let target = random.pick(&["192.0.2.10", "198.51.100.2", "203.0.113.5"]);
    let source = random.pick(&["Any", "Any", "10.244.0.0/20", "203.0.113.0/24"]);
    let rule =
        format!("action: DNAT, source: {source}, destination: {destination}, translated: {target}");
    named(random, &rule)
}
