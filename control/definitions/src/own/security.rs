//! Security settings of a SupervisorCluster: `spec.distributedFirewall`, `spec.segmentSecurity` and
//! `spec.sessions`.
//!
//! Fields and ranges are those of NSX's profiles (firewall flood protection, session timers, segment
//! security) and of its Ethernet rules.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};

use crate::model::{Operator, Requirement, Selector};
use crate::text::MacOrGroup;

/// `spec.distributedFirewall`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct DistributedFirewall {
    /// What becomes of live sessions when rules change.
    pub on_policy_change: OnPolicyChange,
    /// Most flows of one vNIC.
    pub flood_protection: FloodProtection,
    /// The category Ethernet: stateless rules before all others.
    pub ethernet_rules: Vec<EthernetRule>,
}

/// What becomes of live sessions when rules change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnPolicyChange {
    /// They are judged again, and stop if they are no longer allowed.
    #[default]
    Reevaluate,
    /// They pass by the rule that they began with until they end; only new flows are judged by the new rules.
    Keep,
}

/// Most flows that one vNIC may have at a time, as in NSX's flood protection profile; left out: no limit. A new
/// flow beyond a limit is dropped, flows that exist are left alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FloodProtection {
    /// TCP connections whose handshake is not complete, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tcp_half_open: Option<u32>,
    /// UDP flows, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub udp: Option<u32>,
    /// ICMP queries, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub icmp: Option<u32>,
    /// Flows of other protocols, 1 to 1000000.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub other: Option<u32>,
}

/// A rule of the category Ethernet. The first that matches decides; what none matches passes.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EthernetRule {
    /// Its name, a DNS label (RFC 1123), different from the other rules'.
    pub name: String,
    /// Lower comes first; rules of one priority stand in the order of their names.
    #[serde(default)]
    pub priority: u32,
    /// What it does with a frame that it matches.
    pub action: EthernetAction,
    /// Sending stations; empty: any.
    #[serde(default)]
    pub sources: Vec<MacOrGroup>,
    /// The rule matches all stations but `sources`.
    #[serde(default)]
    pub sources_excluded: bool,
    /// Receiving stations and groups; empty: any.
    #[serde(default)]
    pub destinations: Vec<MacOrGroup>,
    /// The rule matches all stations but `destinations`.
    #[serde(default)]
    pub destinations_excluded: bool,
    /// What frames carry; empty: anything.
    #[serde(default)]
    pub protocols: Vec<EthernetProtocol>,
    /// As seen from the workloads that it is applied to.
    #[serde(default)]
    pub direction: RuleDirection,
    /// The pods at whose vNIC it is evaluated; empty: all.
    #[serde(default)]
    pub applied_to: Vec<EthernetTarget>,
}

/// What an Ethernet rule does. Layer 2 cannot reject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum EthernetAction {
    /// Let it pass on to the other categories.
    #[serde(rename = "ALLOW")]
    Allow,
    /// Drop it in silence.
    #[serde(rename = "DROP")]
    Drop,
}

/// Direction of a rule, as NSX writes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum RuleDirection {
    /// To the workload.
    #[serde(rename = "IN")]
    In,
    /// From the workload.
    #[serde(rename = "OUT")]
    Out,
    /// Both.
    #[default]
    #[serde(rename = "IN_OUT")]
    InOut,
}

/// Pods of some namespaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct EthernetTarget {
    /// Over namespaces; left out: all.
    pub namespace_selector: Option<LabelSelector>,
    /// Over pods; left out: all of these namespaces.
    pub pod_selector: Option<LabelSelector>,
}

/// A label selector as Kubernetes has it; an empty one selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LabelSelector {
    /// Labels with their values; all must be there.
    pub match_labels: BTreeMap<String, String>,
    /// Requirements; all must hold.
    pub match_expressions: Vec<LabelExpression>,
}

/// A requirement of a label selector.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LabelExpression {
    /// The label's key.
    pub key: String,
    /// What is asked of its value.
    pub operator: LabelOperator,
    /// Values, for `In` and `NotIn`.
    #[serde(default)]
    pub values: Vec<String>,
}

/// What a requirement asks of a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum LabelOperator {
    /// It is there, with one of the values.
    In,
    /// It is absent, or has none of the values.
    NotIn,
    /// It is there.
    Exists,
    /// It is absent.
    DoesNotExist,
}

impl LabelSelector {
    /// The selector as the rest of the model has it.
    #[must_use]
    pub fn selector(&self) -> Selector {
        let mut selector = Selector::from_labels(&self.match_labels);
        selector.requirements.extend(self.match_expressions.iter().map(|expression| {
            let values = || expression.values.iter().cloned().collect::<BTreeSet<String>>();
            Requirement {
                key: expression.key.clone(),
                operator: match expression.operator {
                    LabelOperator::In => Operator::In(values()),
                    LabelOperator::NotIn => Operator::NotIn(values()),
                    LabelOperator::Exists => Operator::Exists,
                    LabelOperator::DoesNotExist => Operator::DoesNotExist,
                },
            }
        }));
        selector.requirements.sort();
        selector.requirements.dedup();
        selector
    }
}

/// What an Ethernet frame carries: its EtherType.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EthernetProtocol(u16);

/// Protocols that have a name here, with their EtherTypes.
const PROTOCOLS: [(&str, u16); 4] =
    [("ARP", 0x0806), ("IPv4", 0x0800), ("IPv6", 0x86dd), ("LLDP", 0x88cc)];
/// The lowest EtherType; below it the field is a length (IEEE 802.3, 3.2.6).
const LOWEST_ETHER_TYPE: u16 = 0x0600;

impl EthernetProtocol {
    /// The EtherType, 0x0600 or more.
    #[must_use]
    pub fn ether_type(self) -> u16 {
        self.0
    }

    /// How an EtherType is written: its name, or its number such as `0x88cc`.
    #[must_use]
    pub fn text(ether_type: u16) -> String {
        match PROTOCOLS.iter().find(|(_, number)| *number == ether_type) {
            Some((name, _)) => (*name).to_owned(),
            None => format!("{ether_type:#06x}"),
        }
    }

    fn new(number: u64) -> Result<EthernetProtocol, String> {
        match u16::try_from(number) {
            Ok(number) if number >= LOWEST_ETHER_TYPE => Ok(EthernetProtocol(number)),
            _ => Err(format!("{number:#06x} is no EtherType: they go from 0x0600 to 0xffff")),
        }
    }

    fn named(text: &str) -> Result<EthernetProtocol, String> {
        if let Some((_, number)) = PROTOCOLS.iter().find(|(n, _)| n.eq_ignore_ascii_case(text)) {
            return Ok(EthernetProtocol(*number));
        }
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        match digits.map(|digits| u64::from_str_radix(digits, 16)) {
            Some(Ok(number)) => EthernetProtocol::new(number),
            _ => Err(format!(
                "'{text}' is no protocol: write ARP, IPv4, IPv6, LLDP or an EtherType such as 0x88cc"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for EthernetProtocol {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<EthernetProtocol, D::Error> {
        struct ProtocolVisitor;
        impl Visitor<'_> for ProtocolVisitor {
            type Value = EthernetProtocol;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("ARP, IPv4, IPv6, LLDP or an EtherType such as 0x88cc")
            }
            fn visit_u64<E: Error>(self, number: u64) -> Result<EthernetProtocol, E> {
                EthernetProtocol::new(number).map_err(E::custom)
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<EthernetProtocol, E> {
                EthernetProtocol::named(text).map_err(E::custom)
            }
        }
        deserializer.deserialize_any(ProtocolVisitor)
    }
}

impl JsonSchema for EthernetProtocol {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "EthernetProtocol".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "ARP, IPv4, IPv6, LLDP or an EtherType",
            "examples": ["ARP", "0x88cc"],
            "oneOf": [
                {"type": "string"},
                {"type": "integer", "minimum": LOWEST_ETHER_TYPE, "maximum": u16::MAX}
            ]
        })
    }
}

/// `spec.segmentSecurity`: what the segments refuse from pods and control-plane VMs, before any firewall. The
/// switches are those of NSX's SpoofGuard and segment security profiles.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SegmentSecurity {
    /// Drop what comes from another MAC or address than the workload's own.
    pub spoof_guard: bool,
    /// Drop bridge protocols, to 01:80:c2:00:00:00 to :0f.
    pub bpdu_filter: bool,
    /// Drop what DHCP servers send.
    pub dhcp_server_block: bool,
    /// Drop what DHCP clients send.
    pub dhcp_client_block: bool,
    /// Drop IPv6 router advertisements. NSX's default is off.
    pub ra_guard: bool,
    /// Drop all but ARP, IPv4, IPv6 and bridge protocols. NSX's default is off.
    pub non_ip_block: bool,
    /// Most broadcasts and multicasts.
    pub rate_limits: RateLimits,
}

impl Default for SegmentSecurity {
    fn default() -> SegmentSecurity {
        SegmentSecurity {
            spoof_guard: true,
            bpdu_filter: true,
            dhcp_server_block: true,
            dhcp_client_block: false,
            ra_guard: true,
            non_ip_block: true,
            rate_limits: RateLimits::default(),
        }
    }
}

/// Most group-addressed frames of one vNIC a second; left out: no limit. `rx` is to the workload, `tx` from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct RateLimits {
    /// Broadcasts to the workload, 1 to 1000000 a second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rx_broadcast: Option<u32>,
    /// Broadcasts from the workload, 1 to 1000000 a second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tx_broadcast: Option<u32>,
    /// Other groups' frames to the workload, 1 to 1000000 a second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub rx_multicast: Option<u32>,
    /// Other groups' frames from the workload, 1 to 1000000 a second.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub tx_multicast: Option<u32>,
}

/// `spec.sessions`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Sessions {
    /// Whose timers sessions expire by.
    pub timers: TimerProfile,
    /// Timers of the distributed firewall in the place of the profile's.
    pub dfw: SessionTimers,
    /// Timers of the gateways, firewall and NAT, in the place of the profile's.
    pub gateway: SessionTimers,
}

/// A named set of session timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum TimerProfile {
    /// NSX's: distributed firewall, gateway and load balancer each have their own.
    #[default]
    Nsx,
    /// RFC 4787 (UDP 300 s), RFC 5382 (TCP established 7440 s, otherwise 240 s) and RFC 5508 (ICMP 60 s),
    /// everywhere.
    Rfc,
}

/// Session timers in seconds, 10 to 4320000; left out: the profile's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SessionTimers {
    /// SYN seen.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub tcp_first: Option<u32>,
    /// SYN answered.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub tcp_opening: Option<u32>,
    /// Handshake complete; at least 120.
    #[schemars(range(min = 120, max = 4_320_000))]
    pub tcp_established: Option<u32>,
    /// One FIN seen.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub tcp_closing: Option<u32>,
    /// Both FINs seen.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub tcp_fin_wait: Option<u32>,
    /// RST seen.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub tcp_closed: Option<u32>,
    /// One datagram. Also protocols without ports.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub udp_first: Option<u32>,
    /// Several datagrams, one direction.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub udp_single: Option<u32>,
    /// Datagrams in both directions.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub udp_multiple: Option<u32>,
    /// ICMP query, answered or not.
    #[schemars(range(min = 10, max = 4_320_000))]
    pub icmp_first: Option<u32>,
}

impl SessionTimers {
    /// The timers with their names, in the order of the published table.
    #[must_use]
    pub fn all(&self) -> [(&'static str, Option<u32>); 10] {
        [
            ("tcpFirst", self.tcp_first),
            ("tcpOpening", self.tcp_opening),
            ("tcpEstablished", self.tcp_established),
            ("tcpClosing", self.tcp_closing),
            ("tcpFinWait", self.tcp_fin_wait),
            ("tcpClosed", self.tcp_closed),
            ("udpFirst", self.udp_first),
            ("udpSingle", self.udp_single),
            ("udpMultiple", self.udp_multiple),
            ("icmpFirst", self.icmp_first),
        ]
    }
}
