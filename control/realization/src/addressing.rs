//! Which object has which address, MAC and place: the first half of realization.
//!
//! The order within a pool: what belongs to the system first (the control-plane segment is the first block, the
//! system's egress address the first of its pool: facts F2 and F10), then by sorted names.
//!
//! System namespaces (`default`, `kube-*`, `vmware-system-*` and `spec.systemNamespaces`) share one egress address and
//! have a segment only if they contain pods; every other namespace has both from its definition on.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::ops::RangeInclusive;

use definitions::model::{ClusterIp, Definitions, ObjectName, Pod, ServiceType, SupervisorCluster};
use definitions::own::{NatMode, Profile, SnatMode, SupervisorClusterSpec};
use engine::network::Prefix;
use ipnet::{Ipv4Net, Ipv6Net};
use packet::{Addr, Mac};

use crate::allocate::{Pool, Request, assign};
use crate::allocations::Allocations;
use crate::blocks::{self, PodAddresses, Seat};
use crate::egress;
use crate::fault::{Messages, Subject};
use crate::grid::GATEWAY;
use crate::macs::{station_macs, workload_macs};
use crate::snat_pool::{self, ServiceSnat};

/// Who holds the egress address that system namespaces share.
pub(crate) const SYSTEM: &str = "@system";
/// Who holds the control plane's block.
pub(crate) const CONTROL_PLANE: &str = "@control-plane";
/// The MAC of NSX's distributed router: every gateway interface on a segment has it.
pub(crate) const ROUTER_MAC: Mac = Mac([0x02, 0x50, 0x56, 0x56, 0x44, 0x52]);

/// A block of the pod CIDR, which is a segment.
#[derive(Clone, Debug)]
pub(crate) struct Block {
    /// Namespace, or [`CONTROL_PLANE`].
    pub(crate) owner: String,
    /// Its number within the owner: the second block of a namespace is 1.
    pub(crate) index: u32,
    /// Its addresses; the first host address is the gateway's.
    pub(crate) net: Ipv4Net,
    /// Its IPv6 network, where the cluster has any.
    pub(crate) v6: Option<Ipv6Net>,
}

impl Block {
    /// Name of the segment.
    pub(crate) fn segment(&self) -> String {
        if self.owner == CONTROL_PLANE {
            "seg-control-plane".to_owned()
        } else {
            format!("seg-{}-{}", self.owner, self.index)
        }
    }

    /// The gateway's addresses with their prefix lengths.
    pub(crate) fn gateways(&self) -> Vec<(Addr, u8)> {
        let v4 = Addr::v4(u32::from(self.net.network()).wrapping_add(GATEWAY));
        let v6 = self
            .v6
            .map(|net| (Addr(u128::from(net.network()) + u128::from(GATEWAY)), net.prefix_len()));
        std::iter::once((v4, self.net.prefix_len())).chain(v6).collect()
    }

    /// The addresses of a workload in this block with their prefix lengths.
    fn addresses_of(&self, seat: &Seat) -> Vec<(Addr, u8)> {
        let v6 = seat.v6.zip(self.v6).map(|(v6, net)| (v6.into(), net.prefix_len()));
        std::iter::once((seat.v4.into(), self.net.prefix_len())).chain(v6).collect()
    }

    /// What the firewall takes as "this segment".
    pub(crate) fn ranges(&self) -> impl Iterator<Item = (Addr, Addr)> {
        let v6 = self.v6.map(|n| Prefix::new(n.network().into(), n.prefix_len()));
        std::iter::once(prefix4(self.net)).chain(v6).map(|p| (p.first(), p.last()))
    }
}

/// A workload with a vNIC on a segment: a pod, or `eth1` of a control-plane VM.
#[derive(Clone, Debug)]
pub(crate) struct Workload {
    /// Addresses with their prefix lengths, IPv4 first.
    pub(crate) addresses: Vec<(Addr, u8)>,
    /// MAC.
    pub(crate) mac: Mac,
    /// Index into [`Cluster::blocks`].
    pub(crate) block: usize,
    /// Index of the ESXi host.
    pub(crate) hypervisor: u32,
}

impl Workload {
    /// Its IPv4 address.
    pub(crate) fn v4(&self) -> Addr {
        self.addresses.first().map_or(Addr::UNSPECIFIED_V4, |(a, _)| *a)
    }
}

/// A control-plane VM.
#[derive(Clone, Debug)]
pub(crate) struct Vm {
    /// `cp-1`.
    pub(crate) name: String,
    /// Its address in the management network.
    pub(crate) eth0: Ipv4Addr,
    /// The floating address there, which the leader holds (F18): the first VM, as long as none fails.
    pub(crate) floating: Option<Ipv4Addr>,
    /// Its MAC there.
    pub(crate) eth0_mac: Mac,
    /// Its vNIC in the cluster network.
    pub(crate) eth1: Workload,
}

/// A supervisor cluster with all addresses.
#[derive(Debug)]
pub(crate) struct Cluster<'a> {
    /// The definition.
    pub(crate) object: &'a SupervisorCluster,
    /// Whether pods are hidden behind egress addresses.
    pub(crate) nat: bool,
    /// Blocks in the order of their owners, the control plane's first.
    pub(crate) blocks: Vec<Block>,
    /// Control-plane VMs in order.
    pub(crate) vms: Vec<Vm>,
    /// Pods that have an address.
    pub(crate) pods: BTreeMap<ObjectName, (&'a Pod, Workload)>,
    /// Egress addresses by namespace; [`SYSTEM`] for the shared one.
    pub(crate) snat: BTreeMap<String, Addr>,
    /// What became of the pools that Services ask for.
    pub(crate) service_snat: BTreeMap<ObjectName, ServiceSnat>,
    /// ClusterIPs.
    pub(crate) cluster_ips: BTreeMap<ObjectName, Addr>,
    /// Addresses outside.
    pub(crate) vips: BTreeMap<ObjectName, Addr>,
    /// The link between the tiers: the Tier-0's (even) and the Tier-1's (odd) address.
    pub(crate) transit: (Addr, Addr),
}

impl Cluster<'_> {
    /// The definition's `spec`.
    pub(crate) fn spec(&self) -> &SupervisorClusterSpec {
        &self.object.spec
    }

    /// Name of the Tier-1.
    pub(crate) fn tier1(&self) -> String {
        tier1_name(self.object)
    }

    /// The blocks of a namespace, in order.
    pub(crate) fn blocks_of<'b>(&'b self, owner: &'b str) -> impl Iterator<Item = &'b Block> {
        self.blocks.iter().filter(move |b| b.owner == owner)
    }

    /// The addresses that the server load balancer takes as source in mode `pool`.
    pub(crate) fn balancer_pool(&self) -> Vec<Addr> {
        let settings = &self.spec().load_balancer;
        match settings.pool {
            Some(pool) if settings.snat == SnatMode::Pool => pool.hosts().map(Addr::from).collect(),
            _ => Vec::new(),
        }
    }

    /// The addresses that backends see of what comes through the server load balancer, unless it is transparent.
    pub(crate) fn balancer_addresses(&self) -> Vec<Addr> {
        match self.spec().load_balancer.snat {
            SnatMode::Automap => vec![self.transit.1],
            SnatMode::Transparent => Vec::new(),
            SnatMode::Pool => self.balancer_pool(),
        }
    }

    /// The address that a namespace's flows leave with.
    pub(crate) fn egress_address(&self, namespace: &str) -> Option<Addr> {
        let shared = is_system(self.spec(), namespace) || self.spec().tier1.nat_rules.is_some();
        let system = || self.snat.get(SYSTEM).filter(|_| shared);
        self.snat.get(namespace).or_else(system).copied()
    }
}

/// All addresses of a lab.
#[derive(Debug)]
pub(crate) struct Addressing<'a> {
    /// The cluster, if there is one.
    pub(crate) cluster: Option<Cluster<'a>>,
    /// MACs of external hosts' interfaces by port name, and of Tier-0 uplinks by `TIER0:UPLINK`.
    pub(crate) macs: BTreeMap<String, Mac>,
}

/// `Prefix` of an IPv4 network.
pub(crate) fn prefix4(net: Ipv4Net) -> Prefix {
    Prefix::new(net.network().into(), net.prefix_len())
}

/// Name of a cluster's Tier-1.
pub(crate) fn tier1_name(cluster: &SupervisorCluster) -> String {
    format!("tier1/{}", cluster.meta.name)
}

/// Key of a Tier-0 uplink's MAC.
pub(crate) fn uplink_key(tier0: &str, uplink: &str) -> String {
    format!("tier0/{tier0}:{uplink}")
}

/// Whether a namespace belongs to the system.
pub(crate) fn is_system(spec: &SupervisorClusterSpec, namespace: &str) -> bool {
    matches!(namespace, "default" | "kube-system" | "kube-public" | "kube-node-lease")
        || namespace.starts_with("vmware-system-")
        || spec.system_namespaces.iter().any(|n| n == namespace)
}

/// Gives everything its address. What it gave is written to `next`.
pub(crate) fn address<'a>(
    definitions: &'a Definitions,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> Addressing<'a> {
    let macs = station_macs(definitions, kept, messages);
    next.macs.extend(macs.iter().map(|(k, m)| (k.clone(), m.to_string())));
    let cluster = definitions
        .supervisor()
        .map(|cluster| address_cluster(definitions, cluster, &macs, kept, next, messages));
    Addressing { cluster, macs }
}

fn address_cluster<'a>(
    definitions: &'a Definitions,
    object: &'a SupervisorCluster,
    stations: &BTreeMap<String, Mac>,
    kept: &Allocations,
    next: &mut Allocations,
    messages: &mut Messages,
) -> Cluster<'a> {
    let spec = &object.spec;
    let subject = Subject::new("SupervisorCluster", &object.meta);
    let nat = spec.nat_mode == NatMode::Nat && spec.profile != Profile::V70U3NoNat;
    let names = spec.control_plane_vms();
    let given = blocks::allocate(definitions, object, &names, kept, messages);
    for block in &given.blocks {
        let key = format!("{}/{}", block.owner, block.index);
        next.blocks.insert(key.clone(), block.net);
        next.blocks_v6.extend(block.v6.map(|v6| (key, v6)));
    }
    let pods = given.pods.iter().map(|(key, seat)| (key.to_string(), seat));
    let vms = names.iter().map(|name| format!("{CONTROL_PLANE}/{name}")).zip(&given.vms);
    for (key, seat) in pods.chain(vms) {
        next.pods.insert(key.clone(), seat.v4);
        next.pods_v6.extend(seat.v6.map(|v6| (key, v6)));
    }

    let placements = place(definitions, object, &given, kept, messages);
    let hosts = spec.hosts.names();
    next.placements.extend(
        placements
            .iter()
            .filter_map(|(pod, host)| Some((pod.to_string(), hosts.get(*host as usize)?.clone()))),
    );
    let macs = workload_macs(definitions, object, &given, kept, messages);
    next.macs.extend(macs.iter().map(|(k, m)| (k.clone(), m.to_string())));

    let mac = |key: &str| macs.get(key).copied().unwrap_or_default();
    let mut vms = Vec::new();
    for (i, (name, seat)) in names.into_iter().zip(&given.vms).enumerate() {
        let Some(block) = given.blocks.get(seat.block) else { break };
        let block_of_five = spec.control_plane.management.addresses.addresses();
        let eth0 = block_of_five.get(i).copied();
        let floating = block_of_five.get(usize::from(spec.control_plane.replicas)).copied();
        vms.push(Vm {
            floating: floating.filter(|_| i == 0),
            eth0: eth0.unwrap_or(Ipv4Addr::UNSPECIFIED),
            eth0_mac: stations.get(&format!("vm/{name}:eth0")).copied().unwrap_or_default(),
            eth1: Workload {
                addresses: block.addresses_of(seat),
                mac: mac(&format!("vm/{name}:eth1")),
                block: seat.block,
                hypervisor: u32::try_from(i % hosts.len().max(1)).unwrap_or(0),
            },
            name,
        });
    }
    let pods: BTreeMap<ObjectName, (&Pod, Workload)> = given
        .pods
        .iter()
        .filter_map(|(key, seat)| {
            let workload = Workload {
                addresses: given.blocks.get(seat.block)?.addresses_of(seat),
                mac: mac(&format!("pod/{key}")),
                block: seat.block,
                hypervisor: placements.get(key).copied().unwrap_or(0),
            };
            Some((key.clone(), (definitions.pods.get(key)?, workload)))
        })
        .collect();
    let (mut snat, mut service_snat) = (BTreeMap::new(), BTreeMap::new());
    if nat {
        snat = egress::allocate(definitions, object, kept, next, messages);
        service_snat = snat_pool::allocate(definitions, object, &pods, kept, next, messages);
    } else {
        egress::without_effect(definitions, object, "the cluster does no NAT", messages);
    }
    let cluster_ips = cluster_ips(definitions, spec, kept, messages);
    let vips = vips(definitions, spec, kept, messages);
    next.cluster_ips.extend(cluster_ips.iter().map(|(k, a)| (k.to_string(), Ipv4Addr::from(*a))));
    next.vips.extend(vips.iter().map(|(k, a)| (k.to_string(), Ipv4Addr::from(*a))));
    let even = transit(object, kept, &subject, messages);
    next.transit.insert(tier1_name(object), Ipv4Addr::from(even));
    let addrs =
        |map: BTreeMap<ObjectName, u32>| map.into_iter().map(|(k, a)| (k, Addr::v4(a))).collect();
    Cluster {
        object,
        nat,
        blocks: given.blocks,
        vms,
        pods,
        snat,
        service_snat,
        cluster_ips: addrs(cluster_ips),
        vips: addrs(vips),
        transit: (Addr::v4(even), Addr::v4(even.wrapping_add(1))),
    }
}

/// Where pods run: as they say, else where they ran, else on the host with the fewest.
fn place(
    definitions: &Definitions,
    object: &SupervisorCluster,
    given: &PodAddresses,
    kept: &Allocations,
    messages: &mut Messages,
) -> BTreeMap<ObjectName, u32> {
    let hosts = object.spec.hosts.names();
    let index =
        |name: &str| hosts.iter().position(|h| h == name).and_then(|i| u32::try_from(i).ok());
    let mut load = vec![0_usize; hosts.len()];
    let mut placed: BTreeMap<ObjectName, u32> = BTreeMap::new();
    let mut open: Vec<&ObjectName> = Vec::new();
    for key in given.pods.keys() {
        let Some(pod) = definitions.pods.get(key) else { continue };
        let wanted = match &pod.host {
            Some(name) => {
                let found = index(name);
                if found.is_none() {
                    let message = format!("no host is called '{name}'");
                    let help = format!("the cluster's hosts are {}", hosts.join(", "));
                    messages.fault(&Subject::new("Pod", &pod.meta), message, help);
                }
                found
            }
            None => kept.placements.get(&key.to_string()).and_then(|h| index(h)),
        };
        match wanted {
            Some(host) => {
                if let Some(n) = load.get_mut(host as usize) {
                    *n += 1;
                }
                placed.insert(key.clone(), host);
            }
            None => open.push(key),
        }
    }
    for key in open {
        let least = load.iter().enumerate().min_by_key(|(i, n)| (**n, *i)).map_or(0, |(i, _)| i);
        if let Some(n) = load.get_mut(least) {
            *n += 1;
        }
        placed.insert(key.clone(), u32::try_from(least).unwrap_or(0));
    }
    placed
}

pub(crate) fn show_v4(number: u64) -> String {
    Addr::v4(u32::try_from(number).unwrap_or(u32::MAX)).to_string()
}

/// The addresses of a network that are given out.
pub(crate) fn v4_band(net: Ipv4Net, edges: bool) -> RangeInclusive<u64> {
    // Networks of one or two addresses have no edges (RFC 3021).
    let inset = u64::from(!edges && net.prefix_len() < 31);
    v4_number(net.network()) + inset..=v4_number(net.broadcast()) - inset
}

/// The addresses of a pool: all but the network's and the broadcast address, unless `edges` count too.
pub(crate) fn v4_pool(what: &'static str, field: &str, net: Ipv4Net, edges: bool) -> Pool {
    Pool {
        what,
        name: format!("{field} {net}"),
        bands: vec![v4_band(net, edges)],
        reserved: BTreeMap::new(),
        open: false,
        show: show_v4,
    }
}

pub(crate) fn v4_number(address: Ipv4Addr) -> u64 {
    u64::from(u32::from(address))
}

pub(crate) fn to_v4(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn pinned_v4(pin: IpAddr, what: &str, subject: &Subject, messages: &mut Messages) -> Option<u64> {
    match pin {
        IpAddr::V4(v4) => Some(v4_number(v4)),
        IpAddr::V6(v6) => {
            let message = format!("{v6} cannot be its {what}: the pool is IPv4");
            messages.fault(subject, message, "pin an address of the pool");
            None
        }
    }
}

/// ClusterIPs. As in Kubernetes, automatic ones come from above the static band and from the band itself only
/// when the rest is used up (KEP-3070: the band is min(max(16, size/16), 256) addresses).
fn cluster_ips(
    definitions: &Definitions,
    spec: &SupervisorClusterSpec,
    kept: &Allocations,
    messages: &mut Messages,
) -> BTreeMap<ObjectName, u32> {
    let mut requests = Vec::new();
    for (key, service) in &definitions.services {
        if service.kind == ServiceType::ExternalName || service.cluster_ip == ClusterIp::Headless {
            continue;
        }
        let subject = Subject::new("Service", &service.meta);
        let pin = match service.cluster_ip {
            ClusterIp::Fixed(address) => pinned_v4(address, "ClusterIP", &subject, messages),
            ClusterIp::Allocate | ClusterIp::Headless => None,
        };
        requests.push(Request { owner: key.to_string(), pin, subject });
    }
    let mut pool = v4_pool("ClusterIP", "serviceCIDR", *spec.service_cidr, false);
    if let Some(all) = pool.bands.first().cloned() {
        let size = 1_u64 << (32 - u32::from(spec.service_cidr.prefix_len()));
        let band = (size / 16).clamp(16, 256);
        let split = all.start() + band;
        if size > 16 && split <= *all.end() {
            pool.bands = vec![split..=*all.end(), *all.start()..=split - 1];
        }
    }
    let given =
        assign(&pool, &requests, |k| kept.cluster_ips.get(k).copied().map(v4_number), messages);
    by_service(definitions, &given)
}

fn by_service(
    definitions: &Definitions,
    given: &BTreeMap<String, u64>,
) -> BTreeMap<ObjectName, u32> {
    definitions
        .services
        .keys()
        .filter_map(|key| Some((key.clone(), to_v4(*given.get(&key.to_string())?))))
        .collect()
}

/// Addresses outside, of Services of type LoadBalancer.
fn vips(
    definitions: &Definitions,
    spec: &SupervisorClusterSpec,
    kept: &Allocations,
    messages: &mut Messages,
) -> BTreeMap<ObjectName, u32> {
    let mut requests = Vec::new();
    for (key, service) in &definitions.services {
        if service.kind == ServiceType::LoadBalancer {
            let subject = Subject::new("Service", &service.meta);
            let pin = service.vip.and_then(|a| pinned_v4(a, "address outside", &subject, messages));
            requests.push(Request { owner: key.to_string(), pin, subject });
        }
    }
    let pool = v4_pool("address", "ingressCIDR", *spec.ingress_cidr, false);
    let given = assign(&pool, &requests, |k| kept.vips.get(k).copied().map(v4_number), messages);
    by_service(definitions, &given)
}

/// The even address of the link between the tiers, a /31 (RFC 3021).
fn transit(
    object: &SupervisorCluster,
    kept: &Allocations,
    subject: &Subject,
    messages: &mut Messages,
) -> u32 {
    fn show(link: u64) -> String {
        format!("{}/31", show_v4(link * 2))
    }
    let net = *object.spec.transit_cidr;
    let pool = Pool {
        what: "link",
        name: format!("transitCIDR {net}"),
        bands: vec![v4_number(net.network()).div_ceil(2)..=v4_number(net.broadcast()) / 2],
        reserved: BTreeMap::new(),
        open: false,
        show,
    };
    let owner = tier1_name(object);
    let pin = object.spec.pins.transit.map(|link| v4_number(link.network()) / 2);
    let requests = [Request { owner: owner.clone(), pin, subject: subject.clone() }];
    let given =
        assign(&pool, &requests, |k| kept.transit.get(k).map(|a| v4_number(*a) / 2), messages);
    to_v4(given.get(&owner).copied().unwrap_or_default() * 2)
}
