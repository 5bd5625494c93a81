//! Annotations that pin what would otherwise be allocated, and say what manifests have no field for.
//!
//! Unknown `lab.tierlab.dev/*` annotations are refused when they are loaded: a misspelt pin would be an address
//! that silently moves.
//!
//! A list in an annotation is separated by commas; blanks around its parts count for nothing. Where an object has an
//! address of each family, both are written in one annotation, in either order.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use packet::Mac;

/// Names of the annotations that are read.
pub mod annotation {
    /// The prefix of our own annotations.
    pub const PREFIX: &str = "lab.tierlab.dev/";
    /// Pod: its address; one of each family in a dual-stack cluster: `10.244.0.20, fd00:244::14`.
    pub const IP: &str = "lab.tierlab.dev/ip";
    /// Pod: its Ethernet address.
    pub const MAC: &str = "lab.tierlab.dev/mac";
    /// Workload: addresses of single replicas by ordinal, a DaemonSet's by host: `0=10.244.0.20, 2=10.244.0.22`; one of each family may be written.
    pub const IPS: &str = "lab.tierlab.dev/ips";
    /// Workload: Ethernet addresses of single replicas, written in the same way.
    pub const MACS: &str = "lab.tierlab.dev/macs";
    /// Pod: the ESXi host it runs on; outranks `spec.nodeName`.
    pub const HOST: &str = "lab.tierlab.dev/host";
    /// Namespace: its blocks in order, the first one first, for instance `10.244.0.16/28, 10.244.0.64/28`; so its IPv6 networks, a /64 each.
    pub const SUBNET: &str = "lab.tierlab.dev/subnet";
    /// Namespace: its egress address. SupervisorCluster: the one that system namespaces share. Service: the one from its pool (`ncp/snat_pool`).
    pub const SNAT_IP: &str = "lab.tierlab.dev/snat-ip";
    /// Service: its ClusterIP; the same as `spec.clusterIP`.
    pub const CLUSTER_IP: &str = "lab.tierlab.dev/cluster-ip";
    /// Service: its virtual address outside; the same as `spec.loadBalancerIP`.
    pub const VIP: &str = "lab.tierlab.dev/vip";
    /// Service: the name that `get virtualservers` shows, 1 to 255 characters; NSX takes longer ones than Kubernetes.
    pub const DISPLAY_NAME: &str = "lab.tierlab.dev/display-name";
    /// SupervisorCluster: the control plane's block, and its IPv6 network: `10.244.0.0/28, fd00:244::/64`.
    pub const CONTROL_PLANE_SUBNET: &str = "lab.tierlab.dev/control-plane-subnet";
    /// SupervisorCluster: addresses of control-plane VMs' `eth1`: `cp-1=10.244.0.2, cp-1=fd00:244::2`.
    pub const CONTROL_PLANE_IPS: &str = "lab.tierlab.dev/control-plane-ips";
    /// SupervisorCluster: the link between Tier-0 and Tier-1, a /31: the even address is the Tier-0's.
    pub const TRANSIT_SUBNET: &str = "lab.tierlab.dev/transit-subnet";
    /// Pod: `true` puts it on the distributed firewall's exclude list.
    pub const DFW_EXCLUDE: &str = "lab.tierlab.dev/dfw-exclude";
    /// SecurityPolicy: its firewall category; a label of this name does the same.
    pub const CATEGORY: &str = "lab.tierlab.dev/category";
    /// NCP's own name for `lab.tierlab.dev/snat-ip` of a Namespace.
    pub const NCP_STATIC_SNAT_IP: &str = "ncp/static_snat_ip";
    /// NCP, Service: its pods leave with an address from this pool of `spec.snatPools`.
    pub const NCP_SNAT_POOL: &str = "ncp/snat_pool";
    /// NCP, Service: the load balancer keeps the client's address.
    pub const NCP_TRANSPARENT_LB: &str = "ncp/transparent-lb";

    /// Those of a Pod, or of a workload's template.
    pub const POD: [&str; 4] = [IP, MAC, HOST, DFW_EXCLUDE];
    /// Those of a workload itself.
    pub const WORKLOAD: [&str; 2] = [IPS, MACS];
    /// Those of a Namespace.
    pub const NAMESPACE: [&str; 2] = [SUBNET, SNAT_IP];
    /// Those of a Service.
    pub const SERVICE: [&str; 4] = [CLUSTER_IP, VIP, SNAT_IP, DISPLAY_NAME];
    /// Those of a SupervisorCluster.
    pub const SUPERVISOR_CLUSTER: [&str; 4] =
        [CONTROL_PLANE_SUBNET, CONTROL_PLANE_IPS, SNAT_IP, TRANSIT_SUBNET];
    /// Those of a SecurityPolicy.
    pub const SECURITY_POLICY: [&str; 1] = [CATEGORY];
    /// Every name under [`PREFIX`] by the objects that it belongs to.
    pub const OWN: [(&str, &[&str]); 6] = [
        ("a Pod, or to a workload's template", &POD),
        ("a workload itself", &WORKLOAD),
        ("a Namespace", &NAMESPACE),
        ("a Service", &SERVICE),
        ("a SupervisorCluster", &SUPERVISOR_CLUSTER),
        ("a SecurityPolicy", &SECURITY_POLICY),
    ];
    /// The prefix of NCP's own annotations.
    pub const NCP_PREFIX: &str = "ncp/";
    /// Those of NCP's that are read.
    pub const NCP: [&str; 3] = [NCP_STATIC_SNAT_IP, NCP_SNAT_POOL, NCP_TRANSPARENT_LB];
}

/// Addresses that are fixed: at most one of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PinnedAddresses {
    /// The IPv4 address.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub v6: Option<Ipv6Addr>,
}

impl PinnedAddresses {
    /// Adds an address; `false` if there is one of its family already.
    pub(crate) fn add(&mut self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => self.v4.replace(v4).is_none(),
            IpAddr::V6(v6) => self.v6.replace(v6).is_none(),
        }
    }

    /// The addresses, IPv4 first.
    pub fn iter(self) -> impl Iterator<Item = IpAddr> {
        self.v4.map(IpAddr::V4).into_iter().chain(self.v6.map(IpAddr::V6))
    }
}

/// What a Pod's annotations fix, or those of its workload for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PodPins {
    /// [`annotation::IP`] or [`annotation::IPS`].
    pub ip: PinnedAddresses,
    /// [`annotation::MAC`] or [`annotation::MACS`]: a unicast address.
    pub mac: Option<Mac>,
}

/// Networks that are fixed, in order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PinnedNetworks {
    /// The IPv4 networks: blocks of the pod CIDR.
    pub v4: Vec<Ipv4Net>,
    /// The IPv6 networks: the first one is the first block's.
    pub v6: Vec<Ipv6Net>,
}

/// What a Namespace's annotations fix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NamespacePins {
    /// [`annotation::SUBNET`].
    pub subnets: PinnedNetworks,
    /// [`annotation::SNAT_IP`] or [`annotation::NCP_STATIC_SNAT_IP`].
    pub snat_ip: Option<Ipv4Addr>,
}

/// What a Service's annotations fix; the first two are merged with the fields of the same meaning.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServicePins {
    /// [`annotation::CLUSTER_IP`].
    pub cluster_ip: Option<IpAddr>,
    /// [`annotation::VIP`].
    pub vip: Option<IpAddr>,
    /// [`annotation::SNAT_IP`]: which address of the pool that [`annotation::NCP_SNAT_POOL`] names.
    pub snat_ip: Option<Ipv4Addr>,
}

/// What a SupervisorCluster's annotations fix.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterPins {
    /// [`annotation::CONTROL_PLANE_SUBNET`]: at most one network of each family.
    pub control_plane: PinnedNetworks,
    /// [`annotation::CONTROL_PLANE_IPS`] by VM.
    pub vms: BTreeMap<String, PinnedAddresses>,
    /// [`annotation::SNAT_IP`].
    pub snat_ip: Option<Ipv4Addr>,
    /// [`annotation::TRANSIT_SUBNET`]: a /31.
    pub transit: Option<Ipv4Net>,
}
