//! `ncp/snat_pool`: addresses, rules, routes, and NCP's names for what goes wrong.

use super::*;

/// Two pools of one name, one of a single namespace, one of a single address, and a usual one.
const POOLS: &str = "{kind: SupervisorCluster, metadata: {name: sup}, spec: {snatPools: [\
    {name: out, addresses: [172.16.3.0/29, 172.16.4.10-172.16.4.11, 172.16.5.5]}, \
    {name: one, addresses: [172.16.6.1]}, \
    {name: private, addresses: [172.16.7.0/24], namespaces: [b]}, \
    {name: twin, addresses: [172.16.8.1]}, {name: twin, addresses: [172.16.8.2]}]}}";

fn service(namespace: &str, name: &str, app: &str, annotations: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Service, metadata: {{name: {name}, namespace: {namespace}, annotations: {{{annotations}}}}}, \
         spec: {{selector: {{app: {app}}}, ports: [{{port: 80}}]}}}}"
    )
}

fn in_pool(name: &str, app: &str, pool: &str) -> String {
    service("a", name, app, &format!("ncp/snat_pool: '{pool}'"))
}

fn lab(parts: &[String]) -> String {
    let mut all = vec![POOLS.to_owned(), namespace("a"), namespace("b")];
    all.extend(["x", "z"].map(|name| pod("a", name)));
    all.push(pod("b", "x"));
    all.extend(parts.iter().cloned());
    all.join("\n---\n")
}

/// `Service a/web ncp/error.snat IP_POOL_NOT_FOUND`.
fn statuses(lab: &Realized) -> Vec<String> {
    let services = lab.statuses.iter().filter(|s| s.object.starts_with("Service"));
    services.map(|s| format!("{} {} {}", s.object, s.key, s.value)).collect()
}

fn nat(lab: &Realized) -> Vec<String> {
    cells(&lab.logical.nat, &["PRIORITY", "ACTION", "SOURCE", "TRANSLATION", "NAME"])
}

#[test]
fn a_services_pods_leave_with_an_address_of_its_pool() {
    let text = lab(&[in_pool("web", "x", "out")]);
    let lab = realized(&text);
    assert_eq!(statuses(&lab), ["Service a/web ncp/snat_ip_status IP_ALLOCATED_SUCCESSFULLY"]);
    assert_eq!(
        nat(&lab),
        [
            "100 No SNAT 10.244.0.0/20 Any no-snat-egress",
            "100 No SNAT 10.244.0.0/20 Any no-snat-pods",
            // Of a network the first and the last address are not given out. Pod b/x has the same label.
            "500 SNAT 10.244.0.18/32 172.16.3.1 snat-service-a/web",
            "1000 SNAT 10.244.0.16/28 172.16.2.2 snat-namespace-a",
            "1000 SNAT 10.244.0.32/28 172.16.2.3 snat-namespace-b",
            "2000 SNAT Any 172.16.2.1 snat-system"
        ]
    );
    assert_eq!(
        cells(&lab.logical.pods, &["NAMESPACE", "NAME", "SNAT"]),
        ["a x 172.16.3.1", "a z 172.16.2.2", "b x 172.16.2.3"]
    );
    assert_eq!(
        cells(&lab.logical.services, &["NAME", "SNAT", "STATUS"]),
        ["web 172.16.3.1 IP_ALLOCATED_SUCCESSFULLY"]
    );
    let key = definitions::model::ObjectName::new("a", "web");
    assert_eq!(lab.names.service_snat(&key).unwrap().to_string(), "172.16.3.1");
    // The address is kept, and said to be.
    let again = realized_with(&text, &lab.allocations);
    assert_eq!(again.allocations, lab.allocations);
    assert_eq!(statuses(&again), ["Service a/web ncp/snat_ip_status IP_ALREADY_ALLOCATED"]);
}

#[test]
fn pool_addresses_have_routes_and_the_rest_of_the_pool_ends() {
    let tier0 = "{kind: Tier0Gateway, metadata: {name: t0}, spec: {uplinks: [{name: up, network: net, addresses: [192.168.20.2/24]}]}}\n---\n\
         {kind: ExternalNetwork, metadata: {name: net}, spec: {cidr: 192.168.20.0/24}}";
    let lab = realized(&lab(&[in_pool("web", "x", "out"), tier0.to_owned()]));
    let rows = cells(&lab.logical.routes, &["ROUTER", "PREFIX", "SOURCE", "NEXT-HOP"]);
    for wanted in [
        "tier0/t0 172.16.3.1/32 tier1-nat via 100.64.0.1 dev tier1/sup",
        "tier0/t0 172.16.3.0/29 summary blackhole",
        "tier0/t0 172.16.4.10/31 summary blackhole",
        "tier0/t0 172.16.5.5/32 summary blackhole",
        "tier0/t0 172.16.8.2/32 summary blackhole",
    ] {
        assert!(rows.iter().any(|r| r == wanted), "{wanted}: {rows:?}");
    }
    let own = lab.logical.routes.iter().find(|r| r.prefix == "172.16.3.1/32").unwrap();
    assert_eq!(own.namespace.as_deref(), Some("a"));
}

#[test]
fn what_goes_wrong_has_ncps_name() {
    for (pool, error, why) in [
        (
            "nowhere",
            "IP_POOL_NOT_FOUND",
            "no pool is called 'nowhere'; there are one, out, private, twin",
        ),
        ("twin", "IP_POOL_NOT_UNIQUE", "several pools are called 'twin'"),
        ("out, one", "IP_POOL_NOT_UNIQUE", "2 pools are named, one is meant"),
        ("private", "POOL_ACCESS_DENIED", "pool 'private' is for b"),
    ] {
        let lab = realized(&lab(&[in_pool("web", "x", pool)]));
        assert_eq!(statuses(&lab), [format!("Service a/web ncp/error.snat {error}")]);
        let notice = lab.notices.iter().map(ToString::to_string).find(|n| n.contains(error));
        let notice = notice.unwrap();
        assert!(
            notice.contains(&format!(
                "Service a/web: ncp/error.snat: {error}: {why}; until that is set right"
            )),
            "{notice}"
        );
        // No address, no translation, and nothing for the namespace's rule to translate.
        assert!(lab.allocations.service_snat.is_empty());
        assert_eq!(nat(&lab)[2], "600 SNAT 10.244.0.18/32 - snat-service-a/web");
        assert_eq!(
            cells(&lab.logical.pods, &["NAMESPACE", "NAME", "SNAT"])[..2],
            ["a x -", "a z 172.16.2.2"]
        );
        assert_eq!(cells(&lab.logical.services, &["SNAT", "STATUS"]), [format!("- {error}")]);
    }
    // Whoever the pool is for has it.
    let web = service("b", "web", "x", "ncp/snat_pool: private");
    let lab = realized(&lab(&[web]));
    assert_eq!(statuses(&lab), ["Service b/web ncp/snat_ip_status IP_ALLOCATED_SUCCESSFULLY"]);
}

#[test]
fn a_pool_that_is_used_up() {
    let parts = [in_pool("m", "x", "one"), in_pool("n", "z", "one")];
    let first = realized(&lab(&parts));
    assert_eq!(
        statuses(&first),
        [
            "Service a/m ncp/snat_ip_status IP_ALLOCATED_SUCCESSFULLY",
            "Service a/n ncp/error.snat IP_POOL_EXHAUSTED"
        ]
    );
    assert_eq!(first.allocations.service_snat.len(), 1);
    // A newcomer that sorts first gets nothing; a pin of it is a fault that names both.
    let mut more = parts.to_vec();
    more.push(in_pool("b", "none", "one"));
    let second = realized_with(&lab(&more), &first.allocations);
    assert_eq!(statuses(&second)[0], "Service a/b ncp/error.snat IP_POOL_EXHAUSTED");
    assert_eq!(statuses(&second)[1], "Service a/m ncp/snat_ip_status IP_ALREADY_ALLOCATED");
    more.pop();
    more.push(service("a", "b", "none", "ncp/snat_pool: one, lab.tierlab.dev/snat-ip: 172.16.6.1"));
    let all = faults_with(&lab(&more), &first.allocations);
    assert!(
        all.len() == 1
            && all[0].contains("Service a/m: 172.16.6.1 is held by it and pinned by Service a/b"),
        "{all:?}"
    );
}

#[test]
fn a_pod_is_behind_one_pool() {
    let parts = [in_pool("m", "x", "out"), in_pool("n", "x", "one")];
    let first = realized(&lab(&parts));
    assert_eq!(
        statuses(&first),
        [
            "Service a/m ncp/snat_ip_status IP_ALLOCATED_SUCCESSFULLY",
            "Service a/n ncp/error.snat SNAT_RULE_OVERLAPPED"
        ]
    );
    assert_eq!(
        nat(&first)[2..4],
        [
            "500 SNAT 10.244.0.18/32 172.16.3.1 snat-service-a/m",
            "600 SNAT 10.244.0.18/32 - snat-service-a/n"
        ]
    );
    assert_eq!(cells(&first.logical.pods, &["SNAT"])[0], "172.16.3.1");
    // Who holds an address keeps it against a Service that sorts first.
    let second =
        realized_with(&lab(&[in_pool("b", "x", "one"), parts[0].clone()]), &first.allocations);
    assert_eq!(
        statuses(&second),
        [
            "Service a/b ncp/error.snat SNAT_RULE_OVERLAPPED",
            "Service a/m ncp/snat_ip_status IP_ALREADY_ALLOCATED"
        ]
    );
    // A Service without a pool is no obstacle.
    let lab = realized(&lab(&[in_pool("m", "x", "nowhere"), in_pool("n", "x", "one")]));
    assert_eq!(cells(&lab.logical.pods, &["SNAT"])[0], "172.16.6.1");
}

#[test]
fn addresses_are_pinned_and_independent_of_the_order_of_files() {
    let pinned = |name: &str, app: &str, ip: &str| {
        service("a", name, app, &format!("ncp/snat_pool: out, lab.tierlab.dev/snat-ip: {ip}"))
    };
    let mut parts =
        vec![in_pool("b", "x", "out"), pinned("c", "z", "172.16.3.1"), in_pool("d", "none", "out")];
    let forward = realized(&lab(&parts));
    parts.reverse();
    assert_eq!(realized(&lab(&parts)).allocations, forward.allocations);
    assert_eq!(
        cells(&forward.logical.services, &["NAME", "SNAT"]),
        ["b 172.16.3.2", "c 172.16.3.1", "d 172.16.3.3"]
    );
    // Ranges are given out whole, in the order of writing.
    let last = realized(&lab(&[pinned("c", "z", "172.16.5.5"), pinned("e", "x", "172.16.4.11")]));
    assert_eq!(cells(&last.logical.services, &["SNAT"]), ["172.16.5.5", "172.16.4.11"]);
    let all = faults(&lab(&[pinned("c", "z", "172.16.3.7")]));
    assert!(
        all.len() == 1
            && all[0].contains(
                "Service a/c: 172.16.3.7 is no address of SNAT pool 'out'; pin one that is"
            ),
        "{all:?}"
    );
    let all = faults(&lab(&[pinned("c", "z", "172.16.3.4"), pinned("d", "x", "172.16.3.4")]));
    assert!(
        all.len() == 1
            && all[0].contains("Service a/d: 172.16.3.4 is asked for twice: Service a/c has it"),
        "{all:?}"
    );
}

#[test]
fn where_it_has_no_effect() {
    let web = in_pool("web", "x", "out");
    let with = |spec: &str| {
        let sup = format!(
            "{{kind: SupervisorCluster, metadata: {{name: sup}}, spec: {{snatPools: [{{name: out, addresses: [172.16.3.1]}}], {spec}}}}}"
        );
        realized(&documents(&[&sup, &namespace("a"), &pod("a", "x"), &web]))
    };
    for (spec, why) in [
        ("natMode: no-nat", "the cluster does no NAT"),
        (
            "tier1: {natRules: [{action: SNAT, translated: 172.16.2.1}]}",
            "spec.tier1.natRules is the whole NAT table",
        ),
    ] {
        let lab = with(spec);
        assert_eq!(statuses(&lab), Vec::<String>::new());
        let notices: Vec<String> = lab.notices.iter().map(ToString::to_string).collect();
        let wanted = format!("Service a/web: its SNAT pool has no effect; {why}");
        assert!(notices.iter().any(|n| n.ends_with(&wanted)), "{notices:?}");
    }
    let bare = "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: a, annotations: {ncp/snat_pool: out}}, spec: {ports: [{port: 80}]}}";
    let lab = realized(&lab(&[bare.to_owned()]));
    assert!(lab.notices.iter().any(|n| n.to_string().contains("selects no pods")));
    assert!(lab.allocations.service_snat.is_empty());
}

#[test]
fn namespaces_have_ncps_words_too() {
    let ns = |annotations: &str| {
        format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: a, annotations: {{{annotations}}}}}}}"
        )
    };
    let status = |lab: &Realized| cells(&lab.logical.namespaces, &["NAME", "SNAT", "STATUS"]);
    let pinned = ns("ncp/static_snat_ip: 172.16.2.9");
    let first = realized(&documents(&[CLUSTER, &pinned]));
    assert_eq!(status(&first), ["a 172.16.2.9 IP_ALLOCATED_SUCCESSFULLY"]);
    let text = documents(&[CLUSTER, &pinned]);
    assert_eq!(
        status(&realized_with(&text, &first.allocations)),
        ["a 172.16.2.9 IP_ALREADY_ALLOCATED"]
    );
    let routed = "{kind: SupervisorCluster, metadata: {name: sup}, spec: {natMode: no-nat}}";
    assert_eq!(status(&realized(&documents(&[routed, &pinned]))), ["a - IP_NOT_REALIZED"]);
    assert_eq!(status(&realized(&documents(&[routed, &namespace("a")]))), ["a - -"]);
    for (annotations, wanted) in [
        ("ncp/static_snat_ip: 172.16.3.1", "(ncp/snat_ip_status: IP_NOT_IN_POOL); pin one that is"),
        (
            "ncp/static_snat_ip: 172.16.2.255",
            "(ncp/snat_ip_status: IP_NOT_IN_POOL); pin one that is",
        ),
    ] {
        let all = faults(&documents(&[CLUSTER, &ns(annotations)]));
        assert!(all.len() == 1 && all[0].ends_with(&format!("{wanted}, or none")), "{all:?}");
    }
    let small =
        "{kind: SupervisorCluster, metadata: {name: sup}, spec: {egressCIDR: 172.16.2.0/30}}";
    let all = faults(&documents(&[small, &namespace("a"), &namespace("b")]));
    assert!(
        all.len() == 1
            && all[0].contains("Namespace b: egressCIDR 172.16.2.0/30 has no egress address left for it: all 2 are in use (ncp/snat_ip_status: IP_POOL_EXHAUSTED)"),
        "{all:?}"
    );
}

#[test]
fn pools_are_apart_from_networks_outside() {
    let text = documents(&[
        "{kind: SupervisorCluster, metadata: {name: sup}, spec: {snatPools: [{name: out, addresses: [192.168.20.200-192.168.20.210]}]}}",
        "{kind: ExternalNetwork, metadata: {name: net}}",
        "{kind: ExternalHost, metadata: {name: h}, spec: {interfaces: [{name: eth0, network: net, addresses: [192.168.20.5/24]}]}}",
    ]);
    let all = faults(&text);
    assert!(
        all.len() == 1
            && all[0].contains("SNAT pool 'out': 192.168.20.200-192.168.20.210 overlaps ExternalNetwork 'net', 192.168.20.0/24"),
        "{all:?}"
    );
}
