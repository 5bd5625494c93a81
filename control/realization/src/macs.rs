//! MAC addresses: of vNICs, and of stations outside.

use std::collections::BTreeMap;

use definitions::model::{Definitions, SupervisorCluster};
use packet::Mac;

use crate::addressing::{ROUTER_MAC, uplink_key};
use crate::allocate::{Pool, Request, assign};
use crate::allocations::Allocations;
use crate::blocks::PodAddresses;
use crate::fault::{Messages, Subject};

/// First MAC of a workload: `04:50:56:00:d0:00`, as the article shows (F3).
const FIRST_WORKLOAD_MAC: u64 = 0x0450_5600_d000;
/// First MAC of stations outside: VMware's prefix `00:50:56`.
const FIRST_STATION_MAC: u64 = 0x0050_5600_0000;
/// First MAC of Tier-0 uplinks.
const FIRST_UPLINK_MAC: u64 = 0x0250_5600_0000;

fn show_mac(number: u64) -> String {
    Mac::from_u64(number).to_string()
}

fn mac_pool(what: &'static str, first: u64, count: u64) -> Pool {
    let reserved =
        BTreeMap::from([(ROUTER_MAC.to_u64(), "it is the gateways' on every segment".to_owned())]);
    Pool {
        what,
        name: format!("the range from {}", Mac::from_u64(first)),
        bands: vec![first..=first + count - 1],
        reserved,
        open: true,
        show: show_mac,
    }
}

fn kept_mac(kept: &Allocations, key: &str) -> Option<u64> {
    kept.macs.get(key)?.parse::<Mac>().ok().map(Mac::to_u64)
}

fn to_macs(given: BTreeMap<String, u64>) -> BTreeMap<String, Mac> {
    given.into_iter().map(|(k, n)| (k, Mac::from_u64(n))).collect()
}

/// MACs outside: interfaces of hosts, `eth0` of VMs, Tier-0 uplinks.
pub(crate) fn station_macs(
    definitions: &Definitions,
    kept: &Allocations,
    messages: &mut Messages,
) -> BTreeMap<String, Mac> {
    let mut requests = Vec::new();
    if let Some(cluster) = definitions.supervisor() {
        for (i, vm) in cluster.spec.control_plane_vms().iter().enumerate() {
            let pin = cluster.spec.control_plane.macs.get(i).and_then(|m| m.eth0);
            requests.push(Request {
                owner: format!("vm/{vm}:eth0"),
                pin: pin.map(|m| m.to_u64()),
                subject: Subject::new("SupervisorCluster", &cluster.meta),
            });
        }
    }
    for host in definitions.external_hosts.values() {
        for interface in &host.spec.interfaces {
            requests.push(Request {
                owner: format!("host/{}:{}", host.meta.name, interface.name),
                pin: interface.mac.map(|m| m.to_u64()),
                subject: Subject::new("ExternalHost", &host.meta),
            });
        }
    }
    let pool = mac_pool("MAC address", FIRST_STATION_MAC, 1 << 22);
    let mut given = assign(&pool, &requests, |k| kept_mac(kept, k), messages);
    let mut uplinks = Vec::new();
    for tier0 in definitions.tier0_gateways.values() {
        for uplink in &tier0.spec.uplinks {
            uplinks.push(Request {
                owner: uplink_key(&tier0.meta.name, &uplink.name),
                pin: uplink.mac.map(|m| m.to_u64()),
                subject: Subject::new("Tier0Gateway", &tier0.meta),
            });
        }
    }
    let mut pool = mac_pool("MAC address", FIRST_UPLINK_MAC, 1 << 16);
    let others = given.iter().map(|(owner, mac)| (*mac, format!("{owner} has it")));
    pool.reserved.extend(others);
    given.extend(assign(&pool, &uplinks, |k| kept_mac(kept, k), messages));
    to_macs(given)
}

/// MACs of vNICs: the VMs' first, so that the first VM has the article's, then the pods' in order.
pub(crate) fn workload_macs(
    definitions: &Definitions,
    object: &SupervisorCluster,
    given: &PodAddresses,
    kept: &Allocations,
    messages: &mut Messages,
) -> BTreeMap<String, Mac> {
    let mut requests = Vec::new();
    for (i, vm) in object.spec.control_plane_vms().iter().enumerate() {
        let pin = object.spec.control_plane.macs.get(i).and_then(|m| m.eth1);
        requests.push(Request {
            owner: format!("vm/{vm}:eth1"),
            pin: pin.map(|m| m.to_u64()),
            subject: Subject::new("SupervisorCluster", &object.meta),
        });
    }
    for key in given.pods.keys() {
        let Some(pod) = definitions.pods.get(key) else { continue };
        requests.push(Request {
            owner: format!("pod/{key}"),
            pin: pod.pins.mac.map(Mac::to_u64),
            subject: Subject::new("Pod", &pod.meta),
        });
    }
    let pool = mac_pool("MAC address", FIRST_WORKLOAD_MAC, 1 << 22);
    to_macs(assign(&pool, &requests, |k| kept_mac(kept, k), messages))
}
