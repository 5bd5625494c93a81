#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
use super::*;
use crate::exit::Exit;
use crate::open::realize;
use definitions::Input;
use realization::Allocations;

/// A cluster with one pod, a forwarding host with two interfaces, and these Attachments.
fn plan_of(attachments: &[(&str, &str)]) -> Result<Plan, Error> {
    let mut text = String::from(
        "kind: SupervisorCluster
metadata: {name: sup}
---
kind: ExternalNetwork
metadata: {name: outside}
---
kind: Tier0Gateway
metadata: {name: tier0}
spec: {uplinks: [{name: uplink, network: outside, addresses: [192.168.100.2/24]}]}
---
kind: ExternalNetwork
metadata: {name: office}
spec: {mtu: 1400}
---
kind: ExternalHost
metadata: {name: router}
spec:
  forwarding: true
  ttl: 128
  interfaces:
  - {name: lan0, network: office, addresses: [192.168.7.1/24]}
  - {name: wan0, network: outside, addresses: [192.168.100.1/24]}
  routes: [{to: 172.16.0.0/16, via: 192.168.100.2}, {to: default, via: 192.168.7.254}]
  rules: [{from: 192.168.7.0/24, table: 100, priority: 10}]
---
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: front, namespace: shop}
spec: {containers: [{name: web, image: web}]}
---
apiVersion: v1
kind: Service
metadata: {name: kube-dns, namespace: kube-system}
spec: {clusterIP: 10.96.0.10, ports: [{port: 53, protocol: UDP}]}
",
    );
    for (name, spec) in attachments {
        text += &format!("---\nkind: Attachment\nmetadata: {{name: {name}}}\nspec: {spec}\n");
    }
    let opened = realize(&[Input::text("lab.yaml", text)], &Allocations::default())?;
    Plan::of(&opened)
}

fn machine_of(plan: &Plan, index: usize) -> &Machine {
    match &plan.plugs[index].what {
        What::Machine(machine) => machine,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_pods_machine_is_what_the_pod_was() {
    let plan =
        plan_of(&[("web", "{port: pod/shop/front, tap: {netns: web, createNamespace: true}}")]);
    let plan = plan.unwrap();
    assert!(plan.needs_taps() && plan.notices.is_empty(), "{:?}", plan.notices);
    let planned = &plan.plugs[0];
    // The second block of 16 is the first namespace's; .17 is its gateway.
    assert_eq!(planned.addresses, [("10.244.0.18".parse().unwrap(), 28)]);
    assert_eq!(planned.gateways, ["10.244.0.17".parse().unwrap()]);
    let machine = machine_of(&plan, 0);
    assert!(machine.create && machine.rules.is_empty() && machine.settings.is_empty());
    let interface = &machine.interface;
    assert_eq!((interface.name.as_str(), interface.mtu), ("eth0", Some(1500)));
    assert_eq!(interface.mac, Some(planned.mac));
    assert_eq!(interface.addresses, ["10.244.0.18/28".parse::<IpNet>().unwrap()]);
    let routes: Vec<String> = machine.routes.iter().map(|call| call.join(" ")).collect();
    assert_eq!(routes, ["route append 0.0.0.0/0 via 10.244.0.17 dev eth0"]);
    // As the kubelet writes it.
    let resolver = machine.resolver.as_ref().unwrap();
    assert_eq!(resolver.nameservers, ["10.96.0.10".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(resolver.search, ["shop.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
    assert_eq!(resolver.options, ["ndots:5"]);
}

#[test]
fn a_hosts_machine_has_its_routing_and_the_rest_is_said() {
    let plan = plan_of(&[("r", "{port: host/router, tap: {netns: r, name: in0}}")]).unwrap();
    assert_eq!(
        plan.notices,
        ["host/router: 1 of its 2 interfaces attached; it is emulated at the others"]
    );
    let planned = &plan.plugs[0];
    assert_eq!(planned.name, "host/router:lan0");
    let machine = machine_of(&plan, 0);
    let rules_of_host = machine.rules.clone();
    assert!(!machine.create && machine.resolver.is_none());
    assert_eq!((machine.interface.name.as_str(), machine.interface.mtu), ("in0", Some(1400)));
    let routes: Vec<String> = machine.routes.iter().map(|call| call.join(" ")).collect();
    assert_eq!(routes, ["route append 0.0.0.0/0 via 192.168.7.254 dev in0"]);
    let rules: Vec<String> = machine.rules.iter().map(|call| call.join(" ")).collect();
    assert_eq!(rules, ["-4 rule add priority 10 from 192.168.7.0/24 lookup 100"]);
    let set = |file, value: &str| machine.settings.contains(&(file, value.to_owned()));
    assert!(set("net/ipv4/ip_forward", "1") && set("net/ipv4/ip_default_ttl", "128"));
    // With both attached nothing remains emulated.
    let both = [
        ("a", "{port: 'host/router:lan0', tap: {netns: r}}"),
        ("b", "{port: 'host/router:wan0', tap: {netns: r}}"),
    ];
    let plan = plan_of(&both).unwrap();
    assert!(plan.notices.is_empty());
    // What is the host's is done once.
    let (first, second) = (machine_of(&plan, 0), machine_of(&plan, 1));
    assert!(first.rules == rules_of_host && !first.settings.is_empty());
    assert!(second.rules.is_empty() && second.settings.is_empty() && !second.routes.is_empty());
}

#[test]
fn a_tap_without_namespace_gets_no_address_and_captures_need_no_rights() {
    let plan = plan_of(&[("tap", "{port: pod/shop/front, tap: {name: tl-web}}")]).unwrap();
    assert!(matches!(
        &plan.plugs[0].what,
        What::Tap { device: Some(name), mtu: 1500 } if name.as_str() == "tl-web"
    ));
    assert!(plan.notices[0].starts_with("pod/shop/front: its TAP stays outside"));
    let plan = plan_of(&[("c", "{port: pod/shop/front, pcap: {write: out.pcap}}")]);
    assert!(!plan.unwrap().needs_taps());
    assert!(!plan_of(&[]).unwrap().needs_taps());
}

#[test]
fn what_cannot_be_made_is_an_error_of_the_input_with_its_place() {
    let pod = "port: pod/shop/front";
    let cases: [(&[(&str, &str)], &str); 5] = [
        (&[("a", "{port: pod/shop/front, tap: {netns: 'two words'}}")], "network namespace"),
        (&[("a", "{port: pod/shop/front, tap: {netns: net1, name: '-x'}}")], "interface"),
        (&[("a", "{port: pod/shop/front, interface: {name: '-x'}}")], "interface"),
        (
            &[
                ("a", "{port: pod/shop/front, tap: {netns: net1, name: lan0}}"),
                ("b", "{port: host/router, tap: {netns: net1}}"),
            ],
            "Attachment 'a' has lan0 in namespace net1 too",
        ),
        (
            &[
                ("a", "{port: pod/shop/front, pcap: {write: x.pcap}}"),
                ("b", "{port: host/router, pcap: {write: x.pcap}}"),
            ],
            "Attachment 'a' has the file x.pcap too",
        ),
    ];
    for (attachments, words) in cases {
        let error = plan_of(attachments).unwrap_err();
        assert_eq!(error.exit, Exit::BadInput, "{attachments:?}");
        assert!(error.message.contains(words), "{attachments:?}: {error}");
        assert!(error.message.starts_with("lab.yaml:"), "{attachments:?}: {error}");
    }
    assert!(plan_of(&[("a", &format!("{{{pod}, tap: {{netns: net1}}}}"))]).is_ok());
}
