//! The digested definitions: what realization is written against.
//!
//! Invariants of a [`Definitions`] that came out of [`load`](crate::load):
//! - every object lies in a map under its key, so the order of files and documents is gone;
//! - addresses, ports, protocols and selectors are typed and were checked one by one;
//! - every namespace that an object lies in is in [`Definitions::namespaces`];
//! - every name that one of our own kinds refers to (networks, gateways, hosts, ports) exists;
//! - workloads are expanded: [`Definitions::pods`] holds every pod there is, and nothing else describes pods.

mod annotations;
mod guest;
mod policy;
mod security_policy;
mod selector;
mod service;
mod workload;

pub use annotations::{
    ClusterPins, NamespacePins, PinnedAddresses, PinnedNetworks, PodPins, ServicePins, annotation,
};
pub use guest::{DistributionVersion, GuestCluster};
pub use policy::{NetworkPolicy, PolicyPeer, PolicyPort, PolicyRule, PortMatch};
pub use security_policy::{
    PolicyCategory, SecurityAction, SecurityDirection, SecurityPolicy, SecurityRule,
};
pub use selector::{Operator, Requirement, Selector};
pub use service::{
    ClusterIp, Endpoint, EndpointPort, EndpointSlice, EndpointSubset, Endpoints, Service,
    ServicePort, ServiceType, TargetPort, TrafficPolicy,
};
pub use workload::{ContainerPort, Owner, Pod};

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::own::{
    AttachmentSpec, ExternalHostSpec, ExternalNetworkSpec, PacketTestSpec, SupervisorClusterSpec,
    Tier0GatewaySpec,
};

/// Labels or annotations of an object.
pub type Labels = BTreeMap<String, String>;

/// Where an object was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The path as the user gave it, `<stdin>`, or the name of an in-memory text.
    pub file: Arc<str>,
    /// Line of the document's first key, from 1.
    pub line: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Namespace and name: the identity of a namespaced object of one kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectName {
    /// The namespace, `default` where the manifest names none.
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
}

impl ObjectName {
    /// The name `namespace/name`.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> ObjectName {
        ObjectName { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What every object carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// The namespace; empty for kinds that have none (Namespace and our own kinds).
    pub namespace: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`, of checked syntax.
    pub labels: Labels,
    /// `metadata.annotations`.
    pub annotations: Labels,
    /// Where the object is defined; for an expanded pod, where its workload is.
    pub source: Source,
}

impl Meta {
    /// The key under which a namespaced object lies in its map.
    #[must_use]
    pub fn key(&self) -> ObjectName {
        ObjectName::new(&*self.namespace, &*self.name)
    }
}

/// A layer-4 protocol that Services and policies can name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the Kubernetes default.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP: matched by policies; no emulated endpoint speaks it.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "TCP",
            Protocol::Udp => "UDP",
            Protocol::Sctp => "SCTP",
        })
    }
}

/// A namespace: a segment, an egress address and a policy domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Name and labels. `kubernetes.io/metadata.name` is always among the labels, as the API server sets it.
    pub meta: Meta,
    /// Addresses fixed by annotation.
    pub pins: NamespacePins,
    /// Nobody wrote it: a system namespace that exists because an object lies in it.
    pub implicit: bool,
}

/// An object of one of our own kinds.
#[derive(Clone, Debug, PartialEq)]
pub struct Object<S> {
    /// Name, labels, place. The namespace is empty: our kinds have none.
    pub meta: Meta,
    /// `spec`.
    pub spec: S,
}

/// A supervisor cluster.
pub type SupervisorCluster = Object<SupervisorClusterSpec>;
/// A Tier-0 gateway.
pub type Tier0Gateway = Object<Tier0GatewaySpec>;
/// A layer-2 network outside of the cluster.
pub type ExternalNetwork = Object<ExternalNetworkSpec>;
/// A host, router or leaf switch outside of the cluster.
pub type ExternalHost = Object<ExternalHostSpec>;
/// A port that something real is plugged into.
pub type Attachment = Object<AttachmentSpec>;
/// A packet test.
pub type PacketTest = Object<PacketTestSpec>;

/// Everything the user defined.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Definitions {
    /// Namespaces by name, implicit ones included.
    pub namespaces: BTreeMap<String, Namespace>,
    /// All pods, those of expanded workloads included.
    pub pods: BTreeMap<ObjectName, Pod>,
    /// Services.
    pub services: BTreeMap<ObjectName, Service>,
    /// Endpoints of Services without selector.
    pub endpoints: BTreeMap<ObjectName, Endpoints>,
    /// EndpointSlices of Services without selector.
    pub endpoint_slices: BTreeMap<ObjectName, EndpointSlice>,
    /// Network policies.
    pub network_policies: BTreeMap<ObjectName, NetworkPolicy>,
    /// Security policies: the ordered user firewall.
    pub security_policies: BTreeMap<ObjectName, SecurityPolicy>,
    /// Guest clusters: counted, not emulated yet.
    pub guest_clusters: BTreeMap<ObjectName, GuestCluster>,
    /// Supervisor clusters by name: none or one (manifests do not say which cluster they are for).
    pub supervisor_clusters: BTreeMap<String, SupervisorCluster>,
    /// Tier-0 gateways by name.
    pub tier0_gateways: BTreeMap<String, Tier0Gateway>,
    /// External networks by name. The management network is always among them when there is a cluster.
    pub external_networks: BTreeMap<String, ExternalNetwork>,
    /// External hosts by name.
    pub external_hosts: BTreeMap<String, ExternalHost>,
    /// Attachments by name.
    pub attachments: BTreeMap<String, Attachment>,
    /// Packet tests by name.
    pub packet_tests: BTreeMap<String, PacketTest>,
}

impl Definitions {
    /// The supervisor cluster, where one is defined.
    #[must_use]
    pub fn supervisor(&self) -> Option<&SupervisorCluster> {
        self.supervisor_clusters.values().next()
    }

    /// The Tier-0 gateway that `cluster` hangs from: the named one, else the only one, else none.
    #[must_use]
    pub fn tier0_of(&self, cluster: &SupervisorCluster) -> Option<&Tier0Gateway> {
        if cluster.spec.detached {
            return None;
        }
        match &cluster.spec.tier0 {
            Some(name) => self.tier0_gateways.get(name),
            None => self.tier0_gateways.values().next(),
        }
    }
}
