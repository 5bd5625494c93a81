//! Services: members, addresses, DNS.

use super::*;
use definitions::model::ObjectName;
use engine::network::{NoMembers, PoolSnat, VirtualServer};
use hosts::{ServiceKind, ServiceProtocol};
use std::time::Duration;

fn lab_pod(name: &str, app: &str, extra: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: a, labels: {{app: {app}}}}}, \
         spec: {{containers: [{{name: c, image: i, ports: [{{name: http, containerPort: 8080}}]}}]}}{extra}}}"
    )
}

fn service(spec: &str) -> String {
    format!("{{apiVersion: v1, kind: Service, metadata: {{name: s, namespace: a}}, spec: {spec}}}")
}

fn lab(parts: &[String]) -> Realized {
    let mut all = vec![CLUSTER.to_owned(), namespace("a")];
    all.extend(parts.iter().cloned());
    realized(&all.join("\n---\n"))
}

fn members(server: &VirtualServer) -> Vec<String> {
    server.members.iter().map(|m| format!("{} {}:{}", m.name, m.address, m.port)).collect()
}

fn only(lab: &Realized) -> &VirtualServer {
    let servers = lab.network.distributed_balancer.servers();
    assert_eq!(servers.len(), 1);
    &servers[0]
}

#[test]
fn members_are_the_ready_pods_it_selects() {
    let not_ready = ", status: {conditions: [{type: Ready, status: 'False'}]}";
    let made = lab(&[
        lab_pod("p", "web", ""),
        lab_pod("q", "web", not_ready),
        lab_pod("r", "db", ""),
        pod("a", "web"),
        service("{selector: {app: web}, ports: [{port: 80, targetPort: http}]}"),
    ]);
    // q is not ready, r is not selected, and the pod `web` has no port called http.
    assert_eq!(members(only(&made)), ["pod/a/p 10.244.0.18:8080"]);
    assert_eq!(only(&made).name, "a/s:80/TCP");
    assert_eq!(only(&made).no_members, NoMembers::Reject);
    let made = lab(&[
        lab_pod("p", "web", ""),
        lab_pod("q", "web", not_ready),
        service(
            "{selector: {app: web}, publishNotReadyAddresses: true, ports: [{port: 80, targetPort: 9}]}",
        ),
    ]);
    assert_eq!(members(only(&made)), ["pod/a/p 10.244.0.18:9", "pod/a/q 10.244.0.19:9"]);
}

/// KEP-1669: with `internalTrafficPolicy: Local` a host whose only endpoint is going away still serves, whatever others have.
#[test]
fn a_pod_that_is_going_away_serves_where_no_other_does() {
    let pod = |name: &str, host: u8, meta: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: a, labels: {{app: web}}, \
             annotations: {{lab.tierlab.dev/host: esx-{host}}}{meta}}}, \
             spec: {{containers: [{{name: c, image: i}}]}}}}"
        )
    };
    let going = ", deletionTimestamp: '2026-01-01T00:00:00Z'";
    let pods = [pod("p", 1, ""), pod("q", 1, going), pod("r", 2, going)];
    let served = |policy: &str, pods: &[String]| {
        let spec = format!("{{selector: {{app: web}}, {policy}ports: [{{port: 80}}]}}");
        members(only(&lab(&[pods, &[service(&spec)]].concat())))
    };
    let (p, q, r) = ("pod/a/p 10.244.0.18:80", "pod/a/q 10.244.0.19:80", "pod/a/r 10.244.0.20:80");
    assert_eq!(served("", &pods), [p]);
    assert_eq!(served("internalTrafficPolicy: Local, ", &pods), [p, r]);
    let (q_alone, r_alone) = (q.replace(".19", ".18"), r.replace(".20", ".19"));
    assert_eq!(served("", &pods[1..]), [q_alone, r_alone]);
}

#[test]
fn a_name_that_no_pod_has_is_told() {
    let made = lab(&[
        lab_pod("p", "web", ""),
        service("{selector: {app: web}, ports: [{port: 80, targetPort: htpp}]}"),
    ]);
    assert!(only(&made).members.is_empty());
    assert!(
        made.notices
            .iter()
            .any(|n| n.to_string().contains("no ready pod it selects has a TCP port named 'htpp'"))
    );
}

#[test]
fn without_selector_endpoints_and_slices_say_who() {
    let endpoints = "{apiVersion: v1, kind: Endpoints, metadata: {name: s, namespace: a}, \
        subsets: [{addresses: [{ip: 192.0.2.9}], notReadyAddresses: [{ip: 192.0.2.8}], ports: [{name: x, port: 90}, {name: z, port: 91}]}]}";
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: s-1, namespace: a, labels: {kubernetes.io/service-name: s}}, \
        addressType: IPv4, endpoints: [{addresses: [10.244.0.3]}, {addresses: [192.0.2.7], conditions: {ready: false}}], ports: [{name: x, port: 92}]}";
    let made = lab(&[endpoints.into(), slice.into(), service("{ports: [{name: x, port: 80}]}")]);
    assert_eq!(members(only(&made)), ["vm/cp-2 10.244.0.3:92", "192.0.2.9 192.0.2.9:90"]);
}

#[test]
fn load_balancers_have_two_servers_and_their_settings() {
    let text = |cluster: &str, spec: &str| {
        let cluster =
            format!("{{kind: SupervisorCluster, metadata: {{name: s}}, spec: {{{cluster}}}}}");
        [cluster, namespace("a"), lab_pod("p", "web", ""), service(spec)].join("\n---\n")
    };
    let made = realized(&text(
        "",
        "{type: LoadBalancer, selector: {app: web}, sessionAffinity: ClientIP, loadBalancerSourceRanges: [192.0.2.0/24], \
          internalTrafficPolicy: Local, ports: [{port: 80, targetPort: http}]}",
    ));
    let inside = only(&made);
    let outside = &made.network.routers[0].balancer.servers()[0];
    assert_eq!(
        (inside.address, outside.address),
        ("10.96.0.33".parse().unwrap(), "172.16.1.1".parse().unwrap())
    );
    assert_eq!(inside.members, outside.members);
    assert_eq!(inside.snat, PoolSnat::Transparent);
    assert_eq!(outside.snat, PoolSnat::Automap("100.64.0.1".parse().unwrap()));
    assert_eq!(inside.affinity, Some(Duration::from_secs(10_800)));
    assert!(inside.local_only && !outside.local_only);
    assert!(inside.source_ranges.is_empty());
    assert_eq!(outside.source_ranges, ["192.0.2.0/24".parse().unwrap()]);
    let vip = ObjectName::new("a", "s");
    assert_eq!(made.names.vip(&vip).unwrap(), outside.address);
    assert!(made.network.routers[0].owns(outside.address));
    let spec = "{type: LoadBalancer, externalTrafficPolicy: Local, selector: {app: web}, ports: [{port: 80}]}";
    assert_eq!(
        realized(&text("", spec)).network.routers[0].balancer.servers()[0].snat,
        PoolSnat::Transparent
    );
    let spec = "{type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}";
    let made = realized(&text("loadBalancer: {snat: pool, pool: 172.16.9.0/30}", spec));
    let pool = vec!["172.16.9.1".parse().unwrap(), "172.16.9.2".parse().unwrap()];
    assert_eq!(made.network.routers[0].balancer.servers()[0].snat, PoolSnat::Pool(pool.clone()));
    assert!(pool.iter().all(|a| made.network.routers[0].owns(*a)));
}

#[test]
fn what_has_no_virtual_address_has_no_server_but_perhaps_a_name() {
    let dns_pod = "{apiVersion: v1, kind: Pod, metadata: {name: dns, namespace: a}, \
        spec: {containers: [{name: c, image: i, ports: [{containerPort: 53, protocol: UDP}]}]}}";
    let made = lab(&[
        lab_pod("p", "web", ""),
        dns_pod.into(),
        service("{clusterIP: None, externalName: example.com, selector: {app: web}, ports: [{port: 80}]}"),
        "{apiVersion: v1, kind: Service, metadata: {name: alias, namespace: a}, spec: {type: ExternalName, externalName: example.com}}".into(),
        "{apiVersion: v1, kind: Service, metadata: {name: none, namespace: a}, spec: {clusterIP: None, selector: {app: none}, ports: [{port: 80}]}}".into(),
    ]);
    assert!(made.network.distributed_balancer.servers().is_empty());
    assert!(made.names.cluster_ip(&ObjectName::new("a", "s")).is_err());
    let dns = made.hosts.iter().find(|h| h.config.name == "pod/a/dns").unwrap();
    let service = &dns.config.services[0];
    assert_eq!((service.protocol, service.port), (ServiceProtocol::Udp, 53));
    let ServiceKind::Dns(zone) = &service.kind else { panic!("{service:?}") };
    // dns has the lower name, hence 10.244.0.18.
    assert_eq!(zone.lookup("s.a.svc.cluster.local").unwrap(), ["10.244.0.19".parse().unwrap()]);
    let mut expected = zone.as_ref().clone();
    expected.alias("alias.a.svc.cluster.local", "example.com");
    assert_eq!(**zone, expected, "what it stands for is known");
    expected.alias("s.a.svc.cluster.local", "example.com");
    assert_ne!(**zone, expected, "only an ExternalName Service stands for anything");
    assert!(zone.lookup("none.a.svc.cluster.local").is_none());
}

#[test]
fn pods_listen_on_their_ports_and_on_what_services_send() {
    let made = lab(&[
        lab_pod("p", "web", ""),
        pod("a", "plain"),
        service("{selector: {app: plain}, ports: [{port: 80, targetPort: 9000}, {name: u, port: 81, targetPort: 9001, protocol: UDP}]}")
            .replace("{port: 80,", "{name: t, port: 80,"),
    ]);
    let services = |name: &str| {
        let host = made.hosts.iter().find(|h| h.config.name == name).unwrap();
        host.config
            .services
            .iter()
            .map(|s| (s.protocol, s.port, s.kind.clone()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        services("pod/a/p"),
        [(ServiceProtocol::Tcp, 8080, ServiceKind::Talk { identity: "pod a/p".into() })]
    );
    assert_eq!(
        services("pod/a/plain"),
        [
            (ServiceProtocol::Tcp, 9000, ServiceKind::Talk { identity: "pod a/plain".into() }),
            (ServiceProtocol::Udp, 9001, ServiceKind::Echo)
        ]
    );
}

#[test]
fn a_stateful_sets_pods_have_names_below_their_headless_service() {
    let workload = |kind: &str, name: &str, extra: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: {kind}, metadata: {{name: {name}, namespace: a}}, spec: {{replicas: 2{extra}, \
             selector: {{matchLabels: {{app: db}}}}, template: {{metadata: {{labels: {{app: db}}}}, \
             spec: {{containers: [{{name: c, image: i, ports: [{{containerPort: 53, protocol: UDP}}]}}]}}}}}}}}"
        )
    };
    let made = lab(&[
        workload("StatefulSet", "db", ", serviceName: s"),
        workload("Deployment", "other", ""),
        service("{clusterIP: None, selector: {app: db}, ports: [{port: 53, protocol: UDP}]}"),
    ]);
    let host = made.hosts.iter().find(|h| h.config.name == "pod/a/db-0").unwrap();
    let ServiceKind::Dns(zone) = &host.config.services[0].kind else { panic!() };
    let address = |pod: &str| made.names.address_of(&format!("pod/a/{pod}")).unwrap();
    for pod in ["db-0", "db-1"] {
        let name = format!("{pod}.s.a.svc.cluster.local");
        assert_eq!(zone.lookup(&name).unwrap(), [address(pod)], "{name}");
    }
    assert_eq!(zone.lookup("s.a.svc.cluster.local").unwrap().len(), 4);
    // A Deployment's pods have no names that last, and there is no third.
    for name in ["other-0", "db-2"] {
        assert!(zone.lookup(&format!("{name}.s.a.svc.cluster.local")).is_none(), "{name}");
    }
}

#[test]
fn a_service_has_two_addresses_for_two_sides() {
    let made = lab(&[
        service("{type: LoadBalancer, ports: [{port: 80}]}"),
        service("{ports: [{port: 80}]}").replace("name: s", "name: inside"),
        service("{clusterIP: None, ports: [{port: 80}]}").replace("name: s", "name: none"),
    ]);
    let ask = |outside, name: &str| {
        made.names.service_from(outside, &ObjectName::new("a", name)).map(|a| a.to_string())
    };
    // ClusterIPs are given in the order of names, from 10.96.0.33 on.
    assert_eq!(ask(true, "s").unwrap(), "172.16.1.1");
    assert_eq!(ask(false, "s").unwrap(), "10.96.0.34");
    assert_eq!(ask(true, "inside").unwrap(), "10.96.0.33");
    for outside in [false, true] {
        assert!(ask(outside, "none").is_err() && ask(outside, "nobody").is_err());
    }
}

#[test]
fn pods_ask_kube_dns() {
    let made = lab(&[
        pod("a", "x"),
        "{apiVersion: v1, kind: Service, metadata: {name: kube-dns, namespace: kube-system}, \
          spec: {clusterIP: 10.96.0.10, ports: [{port: 53, protocol: UDP}]}}"
            .into(),
    ]);
    let host = made.hosts.iter().find(|h| h.config.name == "pod/a/x").unwrap();
    assert_eq!(host.config.resolver, ["10.96.0.10".parse().unwrap()]);
    assert_eq!(host.config.search, ["a.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
    assert_eq!(host.config.ndots, 5);
    // Without the service there is nobody to ask.
    let made = lab(&[pod("a", "x")]);
    let host = made.hosts.iter().find(|h| h.config.name == "pod/a/x").unwrap();
    assert_eq!((host.config.resolver.len(), host.config.search.len()), (0, 0));
}
