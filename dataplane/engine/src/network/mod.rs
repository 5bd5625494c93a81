//! The logical network: one immutable snapshot (promise 5).
//!
//! Control builds a [`Network`] and hands it over in an `Arc`; the core never changes it. Objects
//! refer to each other by index. An object that lives on in the next snapshot keeps its index, so
//! that sessions, which name nodes by index, stay valid over a change.

mod balancer;
mod changes;
mod classifier;
mod ethernet;
mod fib;
mod firewall;
mod gateway_firewall;
mod nat;
mod security;

pub use balancer::{Member, NoMembers, PoolSnat, VirtualServer, VirtualServers};
pub use changes::{Changes, Object, Reads};
pub use classifier::{Asked, Compiled};
pub use ethernet::{EthernetAction, EthernetRule, MacSet};
pub use fib::{Fib, NextHop, Prefix, Route, RouteSource, RouteTarget};
pub use firewall::{
    Action, AddressSet, Category, Direction, Firewall, IcmpMatch, PolicyChange, Rule, Service,
    ServicePorts,
};
pub use gateway_firewall::{GatewayCategory, GatewayFirewall, GatewayRule};
pub use nat::{AddressRange, FirewallMatch, NatAction, NatRule, NatTable, PortMap, offset};
pub use security::{GroupRates, GroupTraffic, SegmentSecurity};

use crate::session::TimerSettings;
use packet::{Addr, Mac};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Index of a [`Port`] in [`Network::ports`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PortId(pub u32);

/// Index of a [`Segment`] in [`Network::segments`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub u32);

/// Index of a [`Router`] in [`Network::routers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(pub u32);

/// Index of an [`Interface`] in [`Router::interfaces`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceId(pub u32);

/// One immutable state of the configuration.
#[derive(Clone, Debug, Default)]
pub struct Network {
    /// Raised with every snapshot; cached actions of an older one are checked again.
    pub epoch: u64,
    /// Seed of every hash: flow cache, ECMP, NAT port search.
    pub seed: u64,
    /// Where frames come from and go to.
    pub ports: Vec<Port>,
    /// Layer-2 domains.
    pub segments: Vec<Segment>,
    /// Tier-0 and Tier-1 gateways.
    pub routers: Vec<Router>,
    /// The distributed firewall, applied at every vNIC.
    pub firewall: Firewall,
    /// The distributed load balancer: ClusterIPs, applied at every vNIC.
    pub distributed_balancer: VirtualServers,
    /// Session timers and table limits.
    pub timers: TimerSettings,
    /// The epoch of another snapshot, and what differs from it. Without, every cached action is made
    /// again.
    pub changes: Option<(u64, Arc<Changes>)>,
}

/// A place where frames enter and leave: the vNIC of a pod or VM, or a host on an external network.
#[derive(Clone, Debug)]
pub struct Port {
    /// Stable name: `pod/NS/NAME`, `vm/NAME:ethN`, `host/NAME:IF`.
    pub name: String,
    /// The segment it is attached to.
    pub segment: SegmentId,
    /// Largest IP packet that leaves by this port, octets.
    pub mtu: u32,
    /// Set for workloads on NSX segments; external hosts have none and pass no firewall.
    pub vnic: Option<Vnic>,
}

/// The virtual interface of a workload.
#[derive(Clone, Debug)]
pub struct Vnic {
    /// The only source MAC it may use.
    pub mac: Mac,
    /// The only source addresses it may use, link-local ones included.
    pub addresses: Vec<Addr>,
    /// The hypervisor it runs on: distributed load balancing keeps its state a hypervisor.
    pub hypervisor: u32,
    /// Whose workload it is: a number for each namespace.
    pub tenant: u32,
    /// Drop what another MAC or address claims to have sent.
    pub spoof_guard: bool,
    /// What else the segment refuses from it, or to it.
    pub security: SegmentSecurity,
    /// Indices into [`Firewall::ethernet`] that apply to frames towards the workload, in order.
    pub ethernet_in: Arc<[u32]>,
    /// Indices into [`Firewall::ethernet`] that apply to frames from the workload, in order.
    pub ethernet_out: Arc<[u32]>,
    /// Indices into [`Firewall::rules`] that apply to traffic towards the workload, in order.
    /// Workloads with the same rules share the list.
    pub rules_in: Arc<[u32]>,
    /// Indices into [`Firewall::rules`] that apply to traffic from the workload, in order.
    pub rules_out: Arc<[u32]>,
}

/// A layer-2 domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// Name, unique.
    pub name: String,
    /// VLAN identifier for display, where the segment is VLAN-backed.
    pub vlan: Option<u16>,
    /// Attached ports, in order.
    pub ports: Vec<PortId>,
    /// Router interfaces in this segment.
    pub gateways: Vec<(RouterId, InterfaceId)>,
    /// Whether source MACs are learned and unknown unicast is flooded. NSX segments know their
    /// stations from their ports; networks outside learn.
    pub learning: bool,
    /// Stations that never move: workloads of this segment.
    pub stations: BTreeMap<Mac, PortId>,
    /// Addresses whose MAC is known: ARP and ND for them are answered here and never flooded.
    pub neighbors: BTreeMap<Addr, Mac>,
}

/// Which gateway a router is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tier {
    /// Borders the outside.
    Tier0,
    /// Has the segments of a tenant.
    Tier1,
}

/// A Tier-0 or Tier-1 gateway.
#[derive(Clone, Debug)]
pub struct Router {
    /// Name, unique.
    pub name: String,
    /// Its place.
    pub tier: Tier,
    /// Interfaces.
    pub interfaces: Vec<Interface>,
    /// Forwarding table.
    pub fib: Fib,
    /// NAT rules; applied to flows that cross an uplink.
    pub nat: NatTable,
    /// Its own firewall; applied to flows that cross an uplink.
    pub gateway_firewall: GatewayFirewall,
    /// The server load balancer: L4 virtual servers.
    pub balancer: VirtualServers,
    /// Addresses that end here without being an interface's, beside those of NAT rules: SNAT and load
    /// balancer addresses.
    pub local: BTreeSet<Addr>,
    /// Prefixes whose addresses must not cross the uplink untranslated: outwards they need a NAT
    /// rule that matches (NO_SNAT is one), inwards a session. Empty where the topology is routed.
    pub private: Vec<Prefix>,
    /// What ECMP hashes.
    pub ecmp: EcmpHash,
}

/// What ECMP hashes to choose a path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EcmpHash {
    /// Addresses, protocol and ports.
    #[default]
    FiveTuple,
    /// Addresses only.
    TwoTuple,
}

/// Unicast reverse path forwarding (RFC 3704) of an interface.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Urpf {
    /// No check.
    #[default]
    None,
    /// Some route to the source exists; a default route counts.
    Loose,
    /// A best route to the source leaves by the interface the packet came in; of equal-cost paths
    /// any counts.
    Strict,
}

/// What a router interface is attached to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attachment {
    /// A segment.
    Segment(SegmentId),
    /// Another router, by the transit link between tiers.
    Router(RouterId, InterfaceId),
}

/// Which side of the router an interface is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards workloads.
    Downlink,
    /// Towards the outside.
    Uplink,
}

/// A router interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Name, unique in the router.
    pub name: String,
    /// What it is attached to.
    pub attachment: Attachment,
    /// Which side it is on.
    pub side: Side,
    /// Its MAC on a segment.
    pub mac: Mac,
    /// Addresses with the length of their subnet's prefix.
    pub addresses: Vec<(Addr, u8)>,
    /// Largest IP packet that leaves by it, octets.
    pub mtu: u32,
    /// Reverse path check of what comes in.
    pub urpf: Urpf,
}

impl Interface {
    /// The first address of the same family as `like`: what an ICMP error is sent from.
    #[must_use]
    pub fn address_like(&self, like: Addr) -> Option<Addr> {
        self.addresses
            .iter()
            .map(|(a, _)| *a)
            .find(|a| a.is_v4() == like.is_v4() && !a.is_link_local())
            .or_else(|| self.addresses.iter().map(|(a, _)| *a).find(|a| a.is_v4() == like.is_v4()))
    }
}

impl Router {
    /// Whether packets to `addr` end at this router.
    #[must_use]
    pub fn owns(&self, addr: Addr) -> bool {
        self.is_service_address(addr) || self.is_interface_address(addr)
    }

    /// Whether `addr` ends here without being an interface's: NAT's and the load balancer's.
    #[must_use]
    pub fn is_service_address(&self, addr: Addr) -> bool {
        self.local.contains(&addr) || self.nat.owns(addr)
    }

    /// Whether one of the interfaces has `addr`.
    #[must_use]
    pub fn is_interface_address(&self, addr: Addr) -> bool {
        self.interfaces.iter().any(|i| i.addresses.iter().any(|(a, _)| *a == addr))
    }

    /// Whether it looks at the state of connections.
    #[must_use]
    pub fn keeps_state(&self) -> bool {
        self.tier == Tier::Tier1
            || self.gateway_firewall.remembers()
            || self.nat.remembers()
            || !self.balancer.servers().is_empty()
    }

    /// The interface `id`.
    #[must_use]
    pub fn interface(&self, id: InterfaceId) -> Option<&Interface> {
        self.interfaces.get(id.0 as usize)
    }
}

impl Network {
    /// Notes what is different from `before`, which the workers have.
    pub fn follow(&mut self, before: &Network) {
        self.changes = Some((before.epoch, Arc::new(Changes::between(before, self))));
    }

    /// The port `id`.
    #[must_use]
    pub fn port(&self, id: PortId) -> Option<&Port> {
        self.ports.get(id.0 as usize)
    }

    /// The segment `id`.
    #[must_use]
    pub fn segment(&self, id: SegmentId) -> Option<&Segment> {
        self.segments.get(id.0 as usize)
    }

    /// The router `id`.
    #[must_use]
    pub fn router(&self, id: RouterId) -> Option<&Router> {
        self.routers.get(id.0 as usize)
    }

    /// The port with this name.
    #[must_use]
    pub fn port_named(&self, name: &str) -> Option<PortId> {
        self.ports
            .iter()
            .position(|p| p.name == name)
            .and_then(|i| u32::try_from(i).ok())
            .map(PortId)
    }
}
