//! Services and their endpoints.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::{Labels, Meta, ObjectName, Protocol, Selector};

/// `spec.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ServiceType {
    /// A virtual address inside the cluster.
    #[default]
    ClusterIp,
    /// As ClusterIP, and a port on every node.
    NodePort,
    /// As ClusterIP, and a virtual address outside.
    LoadBalancer,
    /// Only a DNS alias.
    ExternalName,
}

/// `spec.clusterIP`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClusterIp {
    /// To be allocated.
    #[default]
    Allocate,
    /// `None`: the Service has no virtual address, DNS answers with its endpoints.
    Headless,
    /// Fixed by field or annotation.
    Fixed(IpAddr),
}

/// `internalTrafficPolicy` and `externalTrafficPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficPolicy {
    /// Every ready endpoint.
    #[default]
    Cluster,
    /// Only endpoints on the client's (internal) or the receiving (external) host.
    Local,
}

/// `targetPort`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TargetPort {
    /// This number at every endpoint.
    Number(u16),
    /// The container port of this name, looked up pod by pod.
    Name(String),
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; only a Service with a single port may leave it out.
    pub name: Option<String>,
    /// TCP unless stated.
    pub protocol: Protocol,
    /// The port at the virtual address, 1 to 65535.
    pub port: u16,
    /// The port at the endpoint; equal to `port` unless stated.
    pub target: TargetPort,
    /// A fixed node port.
    pub node_port: Option<u16>,
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Name, labels, place.
    pub meta: Meta,
    /// What kind of addresses it gets.
    pub kind: ServiceType,
    /// Which pods of its namespace are its endpoints; none: Endpoints or EndpointSlices say.
    pub selector: Option<Labels>,
    /// Its ports in written order; (port, protocol) is unique.
    pub ports: Vec<ServicePort>,
    /// Its address inside, with the annotation already merged in.
    pub cluster_ip: ClusterIp,
    /// A fixed address outside: annotation, `ncp`'s or `spec.loadBalancerIP`.
    pub vip: Option<IpAddr>,
    /// Clients that may use the address outside; empty: all.
    pub source_ranges: Vec<IpNet>,
    /// `sessionAffinity: ClientIP` with its time in seconds (1 to 86400, 10800 unless stated).
    pub affinity_seconds: Option<u32>,
    /// For clients inside.
    pub internal_traffic_policy: TrafficPolicy,
    /// For clients outside.
    pub external_traffic_policy: TrafficPolicy,
    /// Endpoints count before they are ready.
    pub publish_not_ready_addresses: bool,
    /// The alias of an ExternalName Service.
    pub external_name: Option<String>,
    /// `ncp/transparent-lb`: backends see the client's address.
    pub transparent: bool,
    /// `ncp/snat_pool`, as written: the pools that its pods are to leave through. One is meant; more are an error that
    /// the Service's status tells, as NCP does.
    pub snat_pools: Vec<String>,
    /// The address of that pool, where it is fixed.
    pub snat_ip: Option<Ipv4Addr>,
    /// What tables of virtual servers call it, where that is not its name.
    pub display_name: Option<String>,
}

impl Service {
    /// The selector over pod labels, where the Service has one.
    #[must_use]
    pub fn pod_selector(&self) -> Option<Selector> {
        self.selector.as_ref().map(Selector::from_labels)
    }
}

/// One endpoint of a Service without selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its addresses; all of one family, at least one.
    pub addresses: Vec<IpAddr>,
    /// It takes new connections.
    pub ready: bool,
    /// It answers, though it may be terminating.
    pub serving: bool,
    /// It is going away.
    pub terminating: bool,
    /// The host it is on.
    pub host: Option<String>,
    /// The pod it is, where `targetRef` says.
    pub pod: Option<ObjectName>,
}

/// One port of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointPort {
    /// Matches the name of a Service port; `None` matches the only, unnamed one.
    pub name: Option<String>,
    /// TCP unless stated.
    pub protocol: Protocol,
    /// The port at the endpoint; `None` (slices only) means every port.
    pub port: Option<u16>,
}

/// Endpoints that share ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointSubset {
    /// The endpoints.
    pub endpoints: Vec<Endpoint>,
    /// Their ports.
    pub ports: Vec<EndpointPort>,
}

/// An Endpoints object; it belongs to the Service of its own name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Name, labels, place.
    pub meta: Meta,
    /// Groups of endpoints.
    pub subsets: Vec<EndpointSubset>,
}

/// An EndpointSlice (discovery.k8s.io/v1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointSlice {
    /// Name, labels, place.
    pub meta: Meta,
    /// The Service it belongs to, in its namespace: label `kubernetes.io/service-name`.
    pub service: Option<String>,
    /// Its endpoints and their ports.
    pub subset: EndpointSubset,
}
