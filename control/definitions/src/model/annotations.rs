//! Annotations that pin what would otherwise be allocated, and say what manifests have no field for.
//!
//! Unknown `lab.tierlab.dev/*` annotations are refused when they are loaded: a misspelt pin would be an address
//! that silently moves.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use packet::Mac;

/// Names of the annotations that are read.
pub mod annotation {
    /// The prefix of our own annotations.
    pub const PREFIX: &str = "lab.tierlab.dev/";
    /// Pod: its address.
    pub const IP: &str = "lab.tierlab.dev/ip";
    /// Pod: its Ethernet address.
    pub const MAC: &str = "lab.tierlab.dev/mac";
    /// Pod: the ESXi host it runs on; outranks `spec.nodeName`.
    pub const HOST: &str = "lab.tierlab.dev/host";
    /// Namespace: its first block, for instance `10.244.0.16/28`.
    pub const SUBNET: &str = "lab.tierlab.dev/subnet";
    /// Namespace: its egress address.
    pub const SNAT_IP: &str = "lab.tierlab.dev/snat-ip";
    /// Service: its ClusterIP; the same as `spec.clusterIP`.
    pub const CLUSTER_IP: &str = "lab.tierlab.dev/cluster-ip";
    /// Service: its virtual address outside; the same as `spec.loadBalancerIP`.
    pub const VIP: &str = "lab.tierlab.dev/vip";
    /// Pod: `true` puts it on the distributed firewall's exclude list.
    pub const DFW_EXCLUDE: &str = "lab.tierlab.dev/dfw-exclude";
    /// SecurityPolicy: its firewall category; a label of this name does the same.
    pub const CATEGORY: &str = "lab.tierlab.dev/category";
    /// NCP's own name for [`SNAT_IP`].
    pub const NCP_STATIC_SNAT_IP: &str = "ncp/static_snat_ip";
    /// NCP, Service: the load balancer keeps the client's address.
    pub const NCP_TRANSPARENT_LB: &str = "ncp/transparent-lb";

    /// Every name under [`PREFIX`].
    pub const OWN: [&str; 9] =
        [IP, MAC, HOST, SUBNET, SNAT_IP, CLUSTER_IP, VIP, DFW_EXCLUDE, CATEGORY];
    /// Those of a Pod, or of a workload's template.
    pub const POD: [&str; 4] = [IP, MAC, HOST, DFW_EXCLUDE];
    /// Those of a Namespace.
    pub const NAMESPACE: [&str; 2] = [SUBNET, SNAT_IP];
    /// Those of a Service.
    pub const SERVICE: [&str; 2] = [CLUSTER_IP, VIP];
    /// Those of a SecurityPolicy.
    pub const SECURITY_POLICY: [&str; 1] = [CATEGORY];
    /// The prefix of NCP's own annotations.
    pub const NCP_PREFIX: &str = "ncp/";
}

/// What a Pod's annotations fix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodPins {
    /// [`annotation::IP`].
    pub ip: Option<IpAddr>,
    /// [`annotation::MAC`]: a unicast address.
    pub mac: Option<Mac>,
}

/// What a Namespace's annotations fix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespacePins {
    /// [`annotation::SUBNET`].
    pub subnet: Option<Ipv4Net>,
    /// [`annotation::SNAT_IP`] or [`annotation::NCP_STATIC_SNAT_IP`].
    pub snat_ip: Option<Ipv4Addr>,
}

/// What a Service's annotations fix; merged with the fields of the same meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePins {
    /// [`annotation::CLUSTER_IP`].
    pub cluster_ip: Option<IpAddr>,
    /// [`annotation::VIP`].
    pub vip: Option<IpAddr>,
}
