//! Rules that can never match, and the packets that show it: these are really sent.
//! Pods: `a/db` is 10.244.0.18, `a/web` 10.244.0.19, `b/web` 10.244.0.34; `host/client` is 192.0.2.9.

use super::*;
use engine::RuleKey;
use hosts::{Lab, TcpOptions};
use packet::Addr;
use std::sync::Arc;
use std::time::Duration;

const OUTSIDE: &str = "
{kind: SupervisorCluster, metadata: {name: sup}}
---
{kind: ExternalNetwork, metadata: {name: outside}}
---
kind: Tier0Gateway
metadata: {name: t0}
spec: {uplinks: [{name: up, network: outside, addresses: [192.0.2.1/24]}]}
---
kind: ExternalHost
metadata: {name: client}
spec: {interfaces: [{name: eth0, network: outside, addresses: [192.0.2.9/24]}], routes: [{to: 172.16.0.0/16, via: 192.0.2.1}]}
---
{apiVersion: v1, kind: Service, metadata: {name: web, namespace: a}, spec: {type: LoadBalancer, clusterIP: 10.96.0.50, selector: {app: web}, ports: [{port: 8000, targetPort: 80}]}}
---
{apiVersion: v1, kind: Service, metadata: {name: none, namespace: a}, spec: {clusterIP: 10.96.0.51, selector: {app: none}, ports: [{port: 80}]}}
";

fn lab(policies: &[&str]) -> Realized {
    let mut parts = vec![OUTSIDE.to_owned(), namespace("a"), namespace("b")];
    parts.extend([pod("a", "web"), pod("a", "db"), pod("b", "web")]);
    parts.extend(policies.iter().map(|p| (*p).to_owned()));
    realized(&parts.join("\n---\n"))
}

fn network_policy(spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: n, namespace: a}}, spec: {spec}}}"
    )
}

/// A policy whose rules are applied to every pod of the namespace.
fn security_policy(rules: &str) -> String {
    security_policy_with("appliedTo: [{podSelector: {}}], ", rules)
}

/// `applied` ends with a comma; it is empty where each rule says what it is applied to.
fn security_policy_with(applied: &str, rules: &str) -> String {
    format!(
        "{{apiVersion: nsx.vmware.com/v1alpha1, kind: SecurityPolicy, metadata: {{name: p, namespace: a}}, spec: {{{applied}rules: [{rules}]}}}}"
    )
}

fn notice(lab: &Realized) -> String {
    let notices: Vec<String> = lab.notices.iter().map(ToString::to_string).collect();
    assert_eq!(notices.len(), 1, "{notices:?}");
    notices[0].clone()
}

/// The witness of the only notice: source, destination and port of what is sent, then all that is said of it.
fn witness(lab: &Realized) -> (Addr, Addr, u16, String) {
    let notice = notice(lab);
    let (_, said) = notice.split_once("for instance ").unwrap();
    let words: Vec<&str> = said.split(' ').collect();
    let port = words[3].trim_end_matches([',', ';']).strip_prefix("TCP/").unwrap();
    let (src, dst) = (words[0].parse().unwrap(), words[2].parse().unwrap());
    (src, dst, port.parse().unwrap(), said.to_owned())
}

/// What became of a connection's first packets: the rules that counted it, and the reasons of drops.
fn sent(made: &Realized, src: Addr, dst: Addr, port: u16) -> (Vec<u32>, Vec<&'static str>) {
    let mut lab = Lab::new(Arc::new(made.network.clone()), made.hosts.clone());
    let has = |spec: &hosts::HostSpec| {
        spec.config.interfaces.iter().any(|i| i.addresses.iter().any(|(a, _)| *a == src))
    };
    let host = lab.specs().iter().position(has).unwrap();
    lab.with_host(host, |h, now, out| h.start_tcp(dst, port, TcpOptions::default(), now, out));
    lab.advance(Duration::from_millis(500));
    let hits = lab.worker().hits();
    let rules = hits.keys().filter_map(|key| match key {
        RuleKey::Firewall(id) => Some(*id),
        _ => None,
    });
    let rules = rules.collect();
    (rules, lab.worker().drops().keys().map(|key| key.reason.name()).collect())
}

fn number(made: &Realized, name: &str) -> u32 {
    made.network.firewall.rules.iter().find(|r| r.name == name).unwrap().id
}

#[test]
fn a_cluster_ip_in_an_egress_rule_is_shown_by_what_takes_the_backend() {
    let made = lab(&[&network_policy(
        "{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.96.0.50/32}}], ports: [{port: 8000}]}]}",
    )]);
    let isolation = number(&made, "np.a.n.isolate-egress");
    let (src, dst, port, said) = witness(&made);
    assert!(
        said.starts_with(&format!(
            "10.244.0.18 > 10.96.0.50 TCP/8000 comes as 10.244.0.18 > 10.244.0.19 TCP/80, which rule {isolation} 'np.a.n.isolate-egress' drops"
        )),
        "{said}"
    );
    assert_eq!(sent(&made, src, dst, port), (vec![isolation], vec!["firewall"]));
}

#[test]
fn what_takes_the_backend_may_let_it_pass() {
    // The rule that was meant to stop it stands first, and does nothing.
    let made = lab(&[&security_policy(
        "{direction: out, action: drop, destinations: [{ipBlocks: [{cidr: 10.96.0.50/32}]}]}, {direction: out, action: allow}",
    )]);
    let (src, dst, port, said) = witness(&made);
    let allowing = number(&made, "sp.a.p.1");
    assert!(said.contains(&format!("which rule {allowing} 'sp.a.p.1' allows")), "{said}");
    let (rules, drops) = sent(&made, src, dst, port);
    assert!(rules.contains(&allowing) && drops.is_empty(), "{rules:?} {drops:?}");
}

#[test]
fn a_cluster_ip_without_members_or_port_ends_at_the_balancer() {
    let rule = |cidr: &str, port: u16| {
        network_policy(&format!(
            "{{podSelector: {{}}, policyTypes: [Egress], egress: [{{to: [{{ipBlock: {{cidr: {cidr}}}}}], ports: [{{port: {port}}}]}}]}}"
        ))
    };
    for (cidr, port, reason) in
        [("10.96.0.51/32", 80, "no-member"), ("10.96.0.50/32", 9, "vip-no-port")]
    {
        let made = lab(&[&rule(cidr, port)]);
        let (src, dst, port, said) = witness(&made);
        assert!(said.contains(&format!("ends at the load balancer: {reason}")), "{said}");
        assert_eq!(sent(&made, src, dst, port), (vec![], vec![reason]));
    }
}

#[test]
fn a_client_outside_is_shown_by_what_takes_the_load_balancers_address() {
    let made = lab(&[&network_policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}], ports: [{port: 80}]}]}",
    )]);
    let isolation = number(&made, "np.a.n.isolate-ingress");
    let (src, dst, port, said) = witness(&made);
    // The first address of the ingress pool; the Tier-1's end of the link between the tiers.
    assert!(
        said.starts_with(&format!(
            "192.0.2.9 > 172.16.1.1 TCP/8000 comes as 100.64.0.1 > 10.244.0.19 TCP/80, which rule {isolation} 'np.a.n.isolate-ingress' drops"
        )),
        "{said}"
    );
    let (rules, drops) = sent(&made, src, dst, port);
    assert_eq!((rules, drops), (vec![isolation], vec!["firewall"]));
}

#[test]
fn a_client_outside_of_a_pod_without_virtual_server_gets_nowhere() {
    let made = lab(&[&network_policy(
        "{podSelector: {matchLabels: {app: db}}, ingress: [{from: [{ipBlock: {cidr: 192.0.2.0/24}}]}]}",
    )]);
    let (src, dst, port, said) = witness(&made);
    assert!(said.starts_with("192.0.2.9 > 10.244.0.18 TCP/80 reaches no pod"), "{said}");
    assert!(sent(&made, src, dst, port).0.is_empty());
}

#[test]
fn several_rules_that_only_together_shadow_one_are_told() {
    let ports = |first: u16, last: u16| format!("ports: [{{port: {first}, endPort: {last}}}]");
    let drop = |rest: &str| format!("{{direction: in, action: drop, {rest}}}");
    let allow = |rest: &str| format!("{{direction: in, action: allow, {rest}}}");
    let block = |cidr: &str| format!("sources: [{{ipBlocks: [{{cidr: {cidr}}}]}}]");
    let cases = [
        // Ports.
        [drop(&ports(1, 80)), drop(&ports(81, 100)), allow(&ports(50, 90))],
        // Addresses: a /27 and its neighbour are a /26.
        [
            drop(&block("10.244.0.0/27")),
            drop(&block("10.244.0.32/27")),
            allow(&block("10.244.0.0/26")),
        ],
        // Both: four corners of a square, two rules each way.
        [
            drop(&format!("{}, {}", block("10.244.0.0/26"), ports(1, 80))),
            drop(&format!("{}, {}", block("10.244.0.0/25"), ports(81, 100))),
            allow(&format!("{}, {}", block("10.244.0.32/27"), ports(80, 81))),
        ],
    ];
    for rules in cases {
        let made = lab(&[&security_policy(&rules.join(", "))]);
        let told = notice(&made);
        let (one, two) = (number(&made, "sp.a.p.0"), number(&made, "sp.a.p.1"));
        let expected = format!(
            "'sp.a.p.2' can never match: rule {one} 'sp.a.p.0' (SecurityPolicy a/p, DROP) and rule {two} 'sp.a.p.1' (SecurityPolicy a/p, DROP) together take all of its packets, for instance "
        );
        assert!(told.contains(&expected), "{told}");
        let (src, dst, port, _) = witness(&made);
        let (taken, drops) = sent(&made, src, dst, port);
        assert!(taken == [one] || taken == [two], "{told}: {taken:?}");
        assert_eq!(drops, ["firewall"], "{told}");
    }
}

#[test]
fn a_gap_of_one_port_address_or_pod_is_no_shadow() {
    let all = "sources: [{ipBlocks: [{cidr: 10.244.0.0/26}]}]";
    for rules in [
        // Port 81 is left.
        "{direction: in, action: drop, ports: [{port: 1, endPort: 80}]}, {direction: in, action: drop, ports: [{port: 82, endPort: 100}]}, {direction: in, action: allow, ports: [{port: 50, endPort: 90}]}".to_owned(),
        // From 10.244.0.48 on all are left.
        format!("{{direction: in, action: drop, sources: [{{ipBlocks: [{{cidr: 10.244.0.0/27}}]}}]}}, {{direction: in, action: drop, sources: [{{ipBlocks: [{{cidr: 10.244.0.32/28}}]}}]}}, {{direction: in, action: allow, {all}}}"),
        // One direction does not count in the other.
        "{direction: in, action: drop, ports: [{port: 1, endPort: 80}]}, {direction: out, action: drop, ports: [{port: 81, endPort: 100}]}, {direction: in, action: allow, ports: [{port: 50, endPort: 90}]}".to_owned(),
    ] {
        let made = lab(&[&security_policy(&rules)]);
        assert!(made.notices.is_empty(), "{rules}: {:?}", made.notices);
    }
    // At web the second does not stand before it.
    let made = lab(&[&security_policy_with(
        "",
        "{direction: in, action: drop, ports: [{port: 1, endPort: 80}], appliedTo: [{podSelector: {}}]}, \
         {direction: in, action: drop, ports: [{port: 81, endPort: 100}], appliedTo: [{podSelector: {matchLabels: {app: db}}}]}, \
         {direction: in, action: allow, ports: [{port: 50, endPort: 90}], appliedTo: [{podSelector: {}}]}",
    )]);
    assert!(made.notices.is_empty(), "{:?}", made.notices);
}

#[test]
fn at_each_vnic_others_may_take_what_one_rule_would() {
    // At db the first and the second, at web the third alone.
    let made = lab(&[&security_policy_with(
        "",
        "{direction: in, action: drop, ports: [{port: 1, endPort: 80}], appliedTo: [{podSelector: {matchLabels: {app: db}}}]}, \
         {direction: in, action: drop, ports: [{port: 81, endPort: 100}], appliedTo: [{podSelector: {matchLabels: {app: db}}}]}, \
         {direction: in, action: drop, appliedTo: [{podSelector: {matchLabels: {app: web}}}]}, \
         {direction: in, action: allow, ports: [{port: 50, endPort: 90}], appliedTo: [{podSelector: {}}]}",
    )]);
    let told = notice(&made);
    for name in ["sp.a.p.0", "sp.a.p.1", "sp.a.p.2"] {
        assert!(told.contains(&format!("rule {} '{name}'", number(&made, name))), "{told}");
    }
}
