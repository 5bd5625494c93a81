//! Our own kinds: group `lab.tierlab.dev`, version `v1alpha1`.
//!
//! They describe what Kubernetes has no kind for. A field that is not listed here is an error. The JSON Schemas in
//! `docs/schema/` are generated from these types.

mod attachment;
mod change;
mod expression;
mod external;
mod gateway_firewall;
mod layers;
mod nat;
mod packet_test;
mod port;
mod rule_service;
mod security;
mod snat_pool;
mod supervisor;
mod table;
mod tier0;

pub use attachment::{AttachmentSpec, InterfacePlug, PcapPlug, Plug, TapPlug};
pub use change::{Apply, Delete, Manifest};
pub use expression::{AddressExpr, MacExpr, NumberExpr, Target};
pub use external::{
    ExternalHostSpec, ExternalNetworkSpec, HostInterface, HostRoute, HostRule, HostService,
    HostServiceKind, HostServiceProtocol, RouteTarget,
};
pub use gateway_firewall::{
    GatewayAction, GatewayCategory, GatewayDirection, GatewayFirewall, GatewayFloodProtection,
    GatewayRule,
};
pub use layers::{
    ArpFields, ArpOperation, EmbeddedFields, EthFields, FlowProtocol, FragmentFields, Hex,
    IcmpExpect, IcmpSend, IcmpType, IpFields, TcpExpect, TcpFlags, TcpSend, UdpExpect, UdpSend,
};
pub use nat::{FirewallMatch, NatAction, NatExemption, NatMatch, NatRule, NatTranslated};
pub use packet_test::{
    Expect, ExpectDrop, ExpectNothing, Handshake, PacketTestSpec, Piece, SaveField, Send, Step,
};
pub use port::PortRef;
pub use rule_service::{PortRange, RuleAddresses, RuleProtocol, RuleService};
pub use security::{
    DistributedFirewall, EthernetAction, EthernetProtocol, EthernetRule, EthernetTarget,
    FloodProtection, LabelExpression, LabelOperator, LabelSelector, OnPolicyChange, RateLimits,
    RuleDirection, SegmentSecurity, SessionTimers, Sessions, TimerProfile,
};
pub use snat_pool::{AddressRange, SnatPool};
pub use supervisor::{
    AddressBlock, ControlPlane, Dns, Hosts, Isolation, LoadBalancer, ManagementNetwork, NatMode,
    Profile, SnatMode, SupervisorClusterSpec, Tier1, Tier1Route, VmMacs,
};
pub use table::{
    BindingRow, CounterRow, DropRow, Ends, ExpectTable, PortRow, RouteRow, RuleRow, SessionRow,
};
pub use tier0::{
    Bfd, Bgp, BgpAggregate, BgpNeighbor, Ecmp, EcmpHash, HaMode, Tier0GatewaySpec, Tier0Route,
    UplinkInterface, UrpfMode,
};

/// The API group of our own kinds.
pub const GROUP: &str = "lab.tierlab.dev";
/// Its only version.
pub const VERSION: &str = "v1alpha1";
/// `apiVersion` of our own kinds.
pub const API_VERSION: &str = "lab.tierlab.dev/v1alpha1";

/// Our kinds and what they are.
pub const KINDS: [(&str, &str); 6] = [
    ("SupervisorCluster", "the cluster network, its pools and its Tier-1 gateway"),
    ("Tier0Gateway", "the edge of the lab"),
    ("ExternalNetwork", "a layer-2 network outside"),
    ("ExternalHost", "a host, router or leaf switch outside"),
    ("Attachment", "something real in the place of an emulated endpoint"),
    ("PacketTest", "frames sent and frames expected"),
];

pub(crate) use expression::is_variable_name;
pub(crate) use port::is_interface_name;
