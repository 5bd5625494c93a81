//! `SupervisorCluster`: the cluster network, its pools and its Tier-1 gateway.
//!
//! Defaults are the values of the source article, so that a first lab needs none of them.

use std::borrow::Cow;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};

use super::SnatPool;
use super::gateway_firewall::GatewayFirewall;
use super::nat::{NatExemption, NatRule};
use super::security::{DistributedFirewall, SegmentSecurity, Sessions};
use crate::model::ClusterPins;
use crate::text::{Cidr, Cidr4, Cidr6, MacAddress, is_dns_subdomain, parse_range};

/// The most ESXi hosts of a vSphere cluster.
pub const MAX_HOSTS: usize = 64;

/// `spec` of a SupervisorCluster.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SupervisorClusterSpec {
    /// Which vSphere release's topology is built.
    pub profile: Profile,
    /// ESXi hosts: how many (named esx-1 and so on), or their names.
    pub hosts: Hosts,
    /// Control-plane VMs and the management network.
    pub control_plane: ControlPlane,
    /// Root of the blocks that namespaces get their segments from.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Cidr4,
    /// Prefix length of one block, 16 to 30: a segment with 2^(32-n) - 3 addresses for pods.
    #[schemars(range(min = 16, max = 30))]
    pub namespace_prefix: u8,
    /// Pool of ClusterIPs.
    #[serde(rename = "serviceCIDR")]
    pub service_cidr: Cidr4,
    /// Pool of virtual addresses outside (LoadBalancer).
    #[serde(rename = "ingressCIDR")]
    pub ingress_cidr: Cidr4,
    /// Pool of the namespaces' egress (SNAT) addresses.
    #[serde(rename = "egressCIDR")]
    pub egress_cidr: Cidr4,
    /// Root of the namespaces' IPv6 networks; a /64 each. None: IPv4 only.
    #[serde(rename = "podCIDRv6")]
    pub pod_cidr_v6: Option<Cidr6>,
    /// Name servers.
    pub dns: Dns,
    /// Whether pods are hidden behind egress addresses.
    pub nat_mode: NatMode,
    /// What is denied where no NetworkPolicy speaks.
    pub isolation: Isolation,
    /// The Tier-0 gateway above; left out: the only one defined, if there is one.
    pub tier0: Option<String>,
    /// The Tier-1 has no uplink, whatever Tier-0 gateways there are.
    pub detached: bool,
    /// Network of the links between Tier-0 and Tier-1; a /31 each.
    #[serde(rename = "transitCIDR")]
    pub transit_cidr: Cidr4,
    /// Allocate the first and last address of the egress pool too (256 of a /24, not 254).
    pub egress_use_edge_addresses: bool,
    /// The Tier-1 gateway's own settings.
    pub tier1: Tier1,
    /// Namespaces of system services beyond `default`, `kube-*` and `vmware-system-*`: they exist without a
    /// manifest and belong to the system.
    pub system_namespaces: Vec<String>,
    /// The server load balancer's settings.
    pub load_balancer: LoadBalancer,
    /// The distributed firewall's own settings and its Ethernet rules.
    pub distributed_firewall: DistributedFirewall,
    /// What segments refuse from workloads.
    pub segment_security: SegmentSecurity,
    /// When sessions expire.
    pub sessions: Sessions,
    /// Pools of egress addresses that Services ask for with the annotation `ncp/snat_pool`.
    pub snat_pools: Vec<SnatPool>,
    /// What annotations of the object fix; not a field of `spec`.
    #[serde(skip)]
    pub pins: ClusterPins,
}

impl Default for SupervisorClusterSpec {
    fn default() -> SupervisorClusterSpec {
        SupervisorClusterSpec {
            profile: Profile::default(),
            hosts: Hosts::default(),
            control_plane: ControlPlane::default(),
            pod_cidr: net4(10, 244, 0, 0, 20),
            namespace_prefix: 28,
            service_cidr: net4(10, 96, 0, 0, 23),
            ingress_cidr: net4(172, 16, 1, 0, 24),
            egress_cidr: net4(172, 16, 2, 0, 24),
            pod_cidr_v6: None,
            dns: Dns::default(),
            nat_mode: NatMode::default(),
            isolation: Isolation::default(),
            tier0: None,
            detached: false,
            transit_cidr: net4(100, 64, 0, 0, 16),
            egress_use_edge_addresses: false,
            tier1: Tier1::default(),
            system_namespaces: Vec::new(),
            load_balancer: LoadBalancer::default(),
            distributed_firewall: DistributedFirewall::default(),
            segment_security: SegmentSecurity::default(),
            sessions: Sessions::default(),
            snat_pools: Vec::new(),
            pins: ClusterPins::default(),
        }
    }
}

/// A network from literals: the prefix length is one of this file's constants, never input.
fn net4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Cidr4 {
    Cidr4::from(ipnet::Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix))
}

impl SupervisorClusterSpec {
    /// Names of the control-plane VMs: `cp-1` and so on, as `vm/NAME` names them.
    #[must_use]
    pub fn control_plane_vms(&self) -> Vec<String> {
        (1..=self.control_plane.replicas).map(|n| format!("cp-{n}")).collect()
    }

    /// The external network that the control-plane VMs' `eth0` is in.
    #[must_use]
    pub fn management_network(&self) -> &str {
        self.control_plane.management.network.as_deref().unwrap_or("management")
    }
}

/// A vSphere release's topology.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
pub enum Profile {
    /// 7.0: one Tier-1 for everything.
    #[default]
    #[serde(rename = "vsphere-7.0ga")]
    V70Ga,
    /// 7.0 U1c: a Tier-1 per namespace. Not emulated yet: refused when loaded.
    #[serde(rename = "vsphere-7.0u1c")]
    V70U1c,
    /// 7.0 U3 without NAT: pods are routed.
    #[serde(rename = "vsphere-7.0u3-nonat")]
    V70U3NoNat,
}

/// The ESXi hosts' names, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hosts(Vec<String>);

impl Hosts {
    /// `count` hosts named esx-1 and so on.
    fn numbered(count: usize) -> Hosts {
        Hosts((1..=count).map(|n| format!("esx-{n}")).collect())
    }

    /// The names, 1 to 64, all different.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.0
    }
}

impl Default for Hosts {
    fn default() -> Hosts {
        Hosts::numbered(4)
    }
}

impl<'de> Deserialize<'de> for Hosts {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Hosts, D::Error> {
        struct HostsVisitor;
        impl<'de> Visitor<'de> for HostsVisitor {
            type Value = Hosts;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "a number of hosts from 1 to {MAX_HOSTS} or a list of names")
            }
            fn visit_u64<E: Error>(self, count: u64) -> Result<Hosts, E> {
                match usize::try_from(count) {
                    Ok(count) if (1..=MAX_HOSTS).contains(&count) => Ok(Hosts::numbered(count)),
                    _ => Err(E::custom(format!("{count} hosts: a cluster has 1 to {MAX_HOSTS}"))),
                }
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Hosts, A::Error> {
                let mut names: Vec<String> = Vec::new();
                while let Some(name) = seq.next_element::<String>()? {
                    if !is_dns_subdomain(&name) {
                        return Err(A::Error::custom(format!(
                            "host name '{name}' is not a DNS name (RFC 1123)"
                        )));
                    }
                    if names.contains(&name) {
                        return Err(A::Error::custom(format!("host '{name}' is listed twice")));
                    }
                    names.push(name);
                    if names.len() > MAX_HOSTS {
                        return Err(A::Error::custom(format!(
                            "a cluster has at most {MAX_HOSTS} hosts"
                        )));
                    }
                }
                if names.is_empty() {
                    return Err(A::Error::custom("a cluster needs at least one host"));
                }
                Ok(Hosts(names))
            }
        }
        deserializer.deserialize_any(HostsVisitor)
    }
}

impl JsonSchema for Hosts {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Hosts".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How many hosts (named esx-1 and so on), or their names",
            "oneOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_HOSTS},
                {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": MAX_HOSTS}
            ]
        })
    }
}

/// `spec.controlPlane`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ControlPlane {
    /// How many control-plane VMs, 1 to 5.
    #[schemars(range(min = 1, max = 5))]
    pub replicas: u8,
    /// The network of `eth0`.
    pub management: ManagementNetwork,
    /// MAC addresses, VM by VM; those left out are generated.
    pub macs: Vec<VmMacs>,
}

impl Default for ControlPlane {
    fn default() -> ControlPlane {
        ControlPlane { replicas: 3, management: ManagementNetwork::default(), macs: Vec::new() }
    }
}

/// MAC addresses of one control-plane VM.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct VmMacs {
    /// In the management network.
    pub eth0: Option<MacAddress>,
    /// In the cluster network.
    pub eth1: Option<MacAddress>,
}

/// `spec.controlPlane.management`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ManagementNetwork {
    /// An ExternalNetwork; left out: one called `management`, made if it is not defined.
    pub network: Option<String>,
    /// Its addresses.
    pub cidr: Cidr4,
    /// The default gateway of `eth0`.
    pub gateway: Ipv4Addr,
    /// The VMs' addresses in order, then the floating address that the leader holds, then spares: a VM more than
    /// there are replicas at least. vSphere asks for five in a row.
    pub addresses: AddressBlock,
}

impl Default for ManagementNetwork {
    fn default() -> ManagementNetwork {
        ManagementNetwork {
            network: None,
            cidr: net4(192, 168, 10, 0, 24),
            gateway: Ipv4Addr::new(192, 168, 10, 254),
            addresses: AddressBlock(
                (45..=49).map(|last| Ipv4Addr::new(192, 168, 10, last)).collect(),
            ),
        }
    }
}

/// Addresses, written as `FIRST-LAST` or as a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressBlock(Vec<Ipv4Addr>);

impl AddressBlock {
    /// The most addresses that a block may have.
    pub const MAX: usize = 16;

    /// The addresses in written order, 1 to [`AddressBlock::MAX`], all different.
    #[must_use]
    pub fn addresses(&self) -> &[Ipv4Addr] {
        &self.0
    }
}

impl<'de> Deserialize<'de> for AddressBlock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<AddressBlock, D::Error> {
        struct BlockVisitor;
        impl<'de> Visitor<'de> for BlockVisitor {
            type Value = AddressBlock;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a block such as 192.168.10.45-192.168.10.49 or a list of addresses")
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<AddressBlock, E> {
                parse_range(text, AddressBlock::MAX).map(AddressBlock).map_err(E::custom)
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<AddressBlock, A::Error> {
                let mut addresses: Vec<Ipv4Addr> = Vec::new();
                while let Some(address) = seq.next_element::<Ipv4Addr>()? {
                    if addresses.contains(&address) {
                        return Err(A::Error::custom(format!("{address} is listed twice")));
                    }
                    addresses.push(address);
                    if addresses.len() > AddressBlock::MAX {
                        return Err(A::Error::custom(format!(
                            "at most {} addresses",
                            AddressBlock::MAX
                        )));
                    }
                }
                if addresses.is_empty() {
                    return Err(A::Error::custom("at least one address is needed"));
                }
                Ok(AddressBlock(addresses))
            }
        }
        deserializer.deserialize_any(BlockVisitor)
    }
}

impl JsonSchema for AddressBlock {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "AddressBlock".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A block FIRST-LAST or a list of addresses",
            "examples": ["192.168.10.45-192.168.10.49"],
            "oneOf": [
                {"type": "string"},
                {"type": "array", "items": {"type": "string", "format": "ipv4"}, "minItems": 1, "maxItems": AddressBlock::MAX}
            ]
        })
    }
}

/// `spec.dns`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Dns {
    /// Used by the control-plane VMs.
    pub management: Vec<IpAddr>,
    /// Where CoreDNS forwards to; reached through `eth1`.
    pub workload: Vec<IpAddr>,
}

/// `spec.natMode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NatMode {
    /// Namespaces leave through their egress address.
    #[default]
    Nat,
    /// Pod addresses are routed outside.
    NoNat,
}

impl JsonSchema for NatMode {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "NatMode".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"oneOf": [{"enum": ["nat", "no-nat"]}, {"type": "boolean"}]})
    }
}

/// `spec.isolation`: the rules behind all NetworkPolicies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Isolation {
    /// Traffic inside a namespace and all egress are allowed; ingress from elsewhere is denied.
    #[default]
    Ingress,
    /// Only traffic inside a namespace is allowed.
    Full,
    /// Everything is allowed, as in plain Kubernetes.
    None,
}

/// `spec.tier1`.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Tier1 {
    /// Static routes beside the generated default route.
    pub static_routes: Vec<Tier1Route>,
    /// NO_SNAT rules beside the generated ones.
    pub no_snat: Vec<NatExemption>,
    /// The whole NAT table, in place of the generated one.
    pub nat_rules: Option<Vec<NatRule>>,
    /// Its firewall, for what crosses its uplink.
    pub gateway_firewall: GatewayFirewall,
    /// MTU of segments and links in bytes, 576 to 9000.
    #[schemars(range(min = 576, max = 9000))]
    pub mtu: u16,
}

impl Default for Tier1 {
    fn default() -> Tier1 {
        Tier1 {
            static_routes: Vec::new(),
            no_snat: Vec::new(),
            nat_rules: None,
            gateway_firewall: GatewayFirewall::default(),
            mtu: 1500,
        }
    }
}

/// A static route of the Tier-1; exactly one of `nextHop`, `blackhole`, `unreachable`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Tier1Route {
    /// Where to.
    pub network: Cidr,
    /// The next router.
    pub next_hop: Option<IpAddr>,
    /// Drop in silence.
    #[serde(default)]
    pub blackhole: bool,
    /// Drop and answer with host unreachable.
    #[serde(default)]
    pub unreachable: bool,
}

/// `spec.loadBalancer`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct LoadBalancer {
    /// Whose address backends see.
    pub snat: SnatMode,
    /// With `snat: pool`: these addresses.
    pub pool: Option<Cidr4>,
}

/// Whose address the backends of a server load balancer see.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SnatMode {
    /// The load balancer's own interface.
    #[default]
    Automap,
    /// The client's.
    Transparent,
    /// One of a pool.
    Pool,
}

impl<'de> Deserialize<'de> for NatMode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<NatMode, D::Error> {
        struct ModeVisitor;
        impl Visitor<'_> for ModeVisitor {
            type Value = NatMode;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("nat (or true) or no-nat (or false)")
            }
            fn visit_bool<E: Error>(self, nat: bool) -> Result<NatMode, E> {
                Ok(if nat { NatMode::Nat } else { NatMode::NoNat })
            }
            fn visit_str<E: Error>(self, text: &str) -> Result<NatMode, E> {
                match text {
                    "nat" => Ok(NatMode::Nat),
                    "no-nat" => Ok(NatMode::NoNat),
                    _ => Err(E::unknown_variant(text, &["nat", "no-nat"])),
                }
            }
        }
        deserializer.deserialize_any(ModeVisitor)
    }
}
