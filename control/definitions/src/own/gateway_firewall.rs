//! The firewall of a gateway, as NSX-T's Policy API has it.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;

use super::rule_service::{RuleAddresses, RuleService};

/// The firewall of a Tier-1 or Tier-0, for what crosses its uplink.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayFirewall {
    /// False: nothing is judged, and what a stateful NAT rule translates is dropped, unless the rule has
    /// `firewallMatch: BYPASS`.
    pub enabled: bool,
    /// What becomes of a flow that no rule matches.
    pub default_action: GatewayAction,
    /// The rules.
    pub rules: Vec<GatewayRule>,
    /// Most flows that the gateway remembers at a time; stated, its firewall remembers whatever crosses the
    /// uplink, though there are no rules. Left out: NSX's limits of what it remembers anyway.
    pub flood_protection: Option<GatewayFloodProtection>,
}

impl Default for GatewayFirewall {
    fn default() -> GatewayFirewall {
        GatewayFirewall {
            enabled: true,
            default_action: GatewayAction::Allow,
            rules: Vec::new(),
            flood_protection: None,
        }
    }
}

/// Most flows that a gateway may remember at a time, in its NAT, its load balancer and its firewall together,
/// as in NSX's gateway flood protection profile. A new flow beyond a limit is dropped, flows that exist are
/// left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GatewayFloodProtection {
    /// TCP connections whose handshake is not complete, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tcp_half_open: u32,
    /// UDP flows, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub udp: u32,
    /// ICMP queries, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub icmp: u32,
    /// Flows of other protocols, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub other: u32,
    /// Flows of whichever protocol that a NAT rule translates, 1 to 4294967295; left out: no limit.
    #[schemars(range(min = 1))]
    pub nat: Option<u32>,
}

impl Default for GatewayFloodProtection {
    /// What NSX has at an edge where a field of the profile is empty.
    fn default() -> GatewayFloodProtection {
        GatewayFloodProtection {
            tcp_half_open: 1_000_000,
            udp: 1_000_000,
            icmp: 10_000,
            other: 10_000,
            nat: None,
        }
    }
}

/// A rule of a gateway's firewall.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GatewayRule {
    /// Its name, unique in the gateway; `default` is the rule of `defaultAction`.
    pub name: String,
    /// Categories are evaluated in their order.
    #[serde(default)]
    pub category: GatewayCategory,
    /// Lower is asked first in its category; equal ones by name. Left out: ten times its place in the list.
    pub sequence: Option<u32>,
    /// What becomes of a flow that matches.
    pub action: GatewayAction,
    /// From any of these; none is everywhere.
    #[serde(default)]
    pub sources: Vec<RuleAddresses>,
    /// To any of these; none is everywhere.
    #[serde(default)]
    pub destinations: Vec<RuleAddresses>,
    /// Any of these; none is everything.
    #[serde(default)]
    pub services: Vec<RuleService>,
    /// IN is from the uplink towards the workloads.
    #[serde(default)]
    pub direction: GatewayDirection,
    /// Passed over.
    #[serde(default)]
    pub disabled: bool,
    /// Whether it remembers what it allows. Left out: true, but false on an active-active Tier-0, which has no
    /// stateful rules.
    pub stateful: Option<bool>,
}

/// What a rule of a gateway's firewall does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
pub enum GatewayAction {
    /// Let it pass.
    #[default]
    Allow,
    /// Discard in silence.
    Drop,
    /// Discard and tell the sender: TCP RST, otherwise ICMP administratively prohibited.
    Reject,
}

/// Category of a gateway firewall rule, in the order of evaluation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
pub enum GatewayCategory {
    /// Quarantine and the like.
    Emergency,
    /// Made by the system.
    SystemRules,
    /// Shared by gateways.
    SharedPreRules,
    /// The gateway's own.
    #[default]
    LocalGatewayRules,
    /// Made for the gateway's services.
    AutoServiceRules,
    /// Before `defaultAction`.
    Default,
}

impl fmt::Display for GatewayCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            GatewayCategory::Emergency => "Emergency",
            GatewayCategory::SystemRules => "SystemRules",
            GatewayCategory::SharedPreRules => "SharedPreRules",
            GatewayCategory::LocalGatewayRules => "LocalGatewayRules",
            GatewayCategory::AutoServiceRules => "AutoServiceRules",
            GatewayCategory::Default => "Default",
        })
    }
}

/// Which way a flow goes that a rule matches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum GatewayDirection {
    /// From the uplink towards the workloads.
    #[serde(rename = "IN")]
    In,
    /// From the workloads to the uplink.
    #[serde(rename = "OUT")]
    Out,
    /// Both.
    #[default]
    #[serde(rename = "IN_OUT")]
    InOut,
}
