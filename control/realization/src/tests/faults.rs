//! What cannot be realized: one clear message each, and nothing done. Most faults between our own kinds are
//! found when definitions are loaded; those of a [`Definitions`] that was made otherwise are found here.

use super::*;
use definitions::model::{ExternalNetwork, SupervisorCluster};

const LAB: &str = "{kind: SupervisorCluster, metadata: {name: sup}}
---
{kind: ExternalNetwork, metadata: {name: outside}, spec: {cidr: 192.168.100.0/24}}
---
{kind: Tier0Gateway, metadata: {name: t0}, spec: {uplinks: [{name: up, network: outside, addresses: [192.168.100.2/24]}], \
 staticRoutes: [{network: 0.0.0.0/0, nextHops: [192.168.100.1]}]}}
---
{kind: ExternalHost, metadata: {name: server}, spec: {interfaces: [{name: eth0, network: outside, addresses: [192.168.100.1/24]}], \
 routes: [{to: 172.16.0.0/16, via: 192.168.100.2}]}}";

/// The faults of [`LAB`] after a change.
fn broken(change: impl Fn(&mut Definitions)) -> Vec<String> {
    let mut lab = definitions(LAB);
    change(&mut lab);
    let faults = realize(&lab, &Allocations::default()).err().unwrap_or_default();
    faults.iter().map(ToString::to_string).collect()
}

fn cluster(lab: &mut Definitions) -> &mut SupervisorCluster {
    lab.supervisor_clusters.get_mut("sup").unwrap()
}

fn network(lab: &mut Definitions) -> &mut ExternalNetwork {
    lab.external_networks.get_mut("outside").unwrap()
}

#[test]
fn each_fault_is_told_once() {
    assert!(broken(|_| {}).is_empty());
    type Change = fn(&mut Definitions);
    let cases: [(Change, &str, &str); 12] = [
        (
            |lab| {
                let mut second = cluster(lab).clone();
                second.meta.name = "two".into();
                lab.supervisor_clusters.insert("two".into(), second);
            },
            "SupervisorCluster two",
            "a second SupervisorCluster",
        ),
        (
            |lab| {
                lab.external_networks.remove("outside");
                lab.tier0_gateways.clear();
            },
            "ExternalHost server",
            "there is no ExternalNetwork 'outside'",
        ),
        (
            |lab| {
                lab.tier0_gateways.get_mut("t0").unwrap().spec.uplinks[0].addresses =
                    vec!["192.168.101.2/24".parse().unwrap()]
            },
            "Tier0Gateway t0",
            "uplink up: 192.168.101.2/24 does not fit into network 'outside'",
        ),
        (
            |lab| {
                lab.tier0_gateways.get_mut("t0").unwrap().spec.uplinks[0].addresses =
                    vec!["192.168.100.1/24".parse().unwrap()]
            },
            "Tier0Gateway t0",
            "192.168.100.1 is in network 'outside' already: ExternalHost server, interface eth0",
        ),
        (
            |lab| {
                let mac = Some("00:50:56:00:00:aa".parse().unwrap());
                let mut twin = lab.external_hosts["server"].clone();
                twin.meta.name = "twin".into();
                twin.spec.interfaces[0].addresses = vec!["192.168.100.9/24".parse().unwrap()];
                twin.spec.interfaces[0].mac = mac;
                lab.external_hosts.get_mut("server").unwrap().spec.interfaces[0].mac = mac;
                lab.external_hosts.insert("twin".into(), twin);
            },
            "ExternalHost twin",
            "00:50:56:00:00:aa is asked for twice: host/server:eth0 has it",
        ),
        (
            |lab| {
                lab.tier0_gateways.get_mut("t0").unwrap().spec.static_routes[0].next_hops =
                    vec!["192.168.101.1".parse().unwrap()]
            },
            "Tier0Gateway t0",
            "next hop 192.168.101.1 is on none of its connected subnets",
        ),
        (
            |lab| {
                lab.tier0_gateways.get_mut("t0").unwrap().spec.static_routes[0].next_hops =
                    vec!["192.168.100.2".parse().unwrap()]
            },
            "Tier0Gateway t0",
            "next hop 192.168.100.2 is the gateway's own address",
        ),
        (
            |lab| cluster(lab).spec.pod_cidr = "192.168.96.0/19".parse().unwrap(),
            "SupervisorCluster sup",
            "podCIDR 192.168.96.0/19 overlaps ExternalNetwork 'outside', 192.168.100.0/24",
        ),
        (
            |lab| {
                network(lab).spec.cidr = None;
                cluster(lab).spec.egress_cidr = "192.168.100.0/25".parse().unwrap();
            },
            "SupervisorCluster sup",
            "egressCIDR 192.168.100.0/25 overlaps ExternalNetwork 'outside'",
        ),
        (
            |lab| cluster(lab).spec.service_cidr = "10.244.8.0/24".parse().unwrap(),
            "SupervisorCluster sup",
            "podCIDR 10.244.0.0/20 overlaps serviceCIDR 10.244.8.0/24",
        ),
        (
            |lab| cluster(lab).spec.namespace_prefix = 30,
            "SupervisorCluster sup",
            "3 control-plane VMs do not fit into a /30 block, which has 1 addresses",
        ),
        (
            |lab| cluster(lab).spec.pod_cidr_v6 = Some("fd00::/60".parse().unwrap()),
            "SupervisorCluster sup",
            "podCIDRv6 fd00::/60 holds fewer /64 networks than podCIDR 10.244.0.0/20 has blocks",
        ),
    ];
    for (i, (change, object, message)) in cases.into_iter().enumerate() {
        let all = broken(change);
        assert!(
            all.len() == 1 && all[0].contains(object) && all[0].contains(message),
            "case {i}: {all:?}"
        );
    }
}

#[test]
fn an_uplink_has_no_other_stations_mac() {
    let all = broken(|lab| {
        let mac = Some("00:50:56:00:00:aa".parse().unwrap());
        lab.external_hosts.get_mut("server").unwrap().spec.interfaces[0].mac = mac;
        lab.tier0_gateways.get_mut("t0").unwrap().spec.uplinks[0].mac = mac;
    });
    assert!(
        all.len() == 1 && all[0].contains("00:50:56:00:00:aa is taken: host/server:eth0 has it"),
        "{all:?}"
    );
}

#[test]
fn routes_of_hosts_and_the_tier1_lead_somewhere() {
    let all = broken(|lab| {
        let route = "{network: 10.0.0.0/8, nextHop: 192.0.2.1}";
        let text = format!(
            "{{kind: SupervisorCluster, metadata: {{name: sup}}, spec: {{tier1: {{staticRoutes: [{route}]}}}}}}"
        );
        lab.supervisor_clusters = definitions(&text).supervisor_clusters;
    });
    assert!(
        all.len() == 1
            && all[0].contains("static route to 10.0.0.0/8: next hop 192.0.2.1 is on none"),
        "{all:?}"
    );
    let all = broken(|lab| {
        lab.external_hosts.get_mut("server").unwrap().spec.routes[0].via =
            Some("192.0.2.1".parse().unwrap())
    });
    assert!(
        all.len() == 1 && all[0].contains("route to 172.16.0.0/16: no interface of it leads there"),
        "{all:?}"
    );
}

#[test]
fn pods_need_a_cluster() {
    let all = faults(&documents(&[&namespace("a"), &pod("a", "x"), &pod("a", "y")]));
    assert!(all.len() == 1 && all[0].contains("Pod a/x: there is no SupervisorCluster"), "{all:?}");
    // A lab of external hosts alone is a lab.
    assert!(realized("{kind: ExternalNetwork, metadata: {name: net}}").logical.pods.is_empty());
}

#[test]
fn a_pod_runs_on_a_host_there_is() {
    let mut lab = definitions(&documents(&[CLUSTER, &namespace("a"), &pod("a", "x")]));
    lab.pods.values_mut().next().unwrap().host = Some("esx-9".into());
    let faults = realize(&lab, &Allocations::default()).unwrap_err();
    assert_eq!(
        faults[0].to_string(),
        "test.yaml:5: Pod a/x: no host is called 'esx-9'; the cluster's hosts are esx-1, esx-2, esx-3, esx-4"
    );
}
