//! NetworkPolicy and isolation as rules: by hand for what the sections look like, by the independent oracle
//! of tests/oracle for what they mean.

use super::*;
use std::sync::Arc;

use engine::network::{Action, Category, Network, Port, Rule};
use oracle::{Cluster, Isolation, Protocol, cases, lab, random};
use packet::{Addr, protocol};
use proptest::prelude::*;

fn first_match(network: &Network, rules: &[u32], flow: (Addr, Addr, u8, u16)) -> Action {
    let (src, dst, proto, port) = flow;
    let hit = rules
        .iter()
        .map(|i| &network.firewall.rules[*i as usize])
        .find(|r| r.matches(src, dst, proto, port, None));
    hit.map_or(Action::Allow, |r| r.action)
}

fn port<'a>(lab: &'a Realized, name: &str) -> (&'a Port, Addr) {
    let (_, place) = lab.names.port(name).unwrap();
    (lab.network.port(place.port).unwrap(), place.addresses[0])
}

#[test]
fn pods_with_the_same_rules_share_the_lists() {
    let policy = |name: &str, selector: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: a}}, \
             spec: {{podSelector: {selector}, policyTypes: [Ingress, Egress], ingress: [{{}}]}}}}"
        )
    };
    let lab = realized(&documents(&[
        CLUSTER,
        &namespace("a"),
        &pod("a", "x"),
        &pod("a", "y"),
        &pod("a", "z"),
        &policy("all", "{}"),
        &policy("same", "{matchExpressions: [{key: app, operator: Exists}]}"),
        &policy("z", "{matchLabels: {app: z}}"),
    ]));
    let lists = |name: &str| {
        let vnic = port(&lab, name).0.vnic.clone().unwrap();
        [vnic.rules_in, vnic.rules_out]
    };
    let (x, y, z) = (lists("pod/a/x"), lists("pod/a/y"), lists("pod/a/z"));
    for (own, other) in x.iter().zip(&y) {
        assert!(Arc::ptr_eq(own, other));
    }
    // Three allow, then three isolation rules each way, and the namespace's three: x is not in the policy z.
    assert_eq!((&*x[0], &*x[1]), (&[0, 1, 3, 5, 9, 10, 11][..], &[4, 6][..]));
    assert_eq!((&*z[0], &*z[1]), (&[0, 1, 2, 3, 5, 7, 9, 10, 11][..], &[4, 6, 8][..]));
}

/// What the firewall says of the first packet of a flow.
fn allowed(lab: &Realized, from: &str, to: &str, proto: u8, dst_port: u16) -> bool {
    let ((source, src), (destination, dst)) = (port(lab, from), port(lab, to));
    let flow = (src, dst, proto, dst_port);
    let out = source
        .vnic
        .as_ref()
        .map_or(Action::Allow, |v| first_match(&lab.network, &v.rules_out, flow));
    let into = destination
        .vnic
        .as_ref()
        .map_or(Action::Allow, |v| first_match(&lab.network, &v.rules_in, flow));
    out == Action::Allow && into == Action::Allow
}

/// Compares every cell of the oracle's lab; the first difference is told.
fn compare(manifest: &str) -> Result<(), String> {
    let model = Cluster::from_yaml(manifest).unwrap().with_addresses(&lab::addresses());
    let made = realized(manifest);
    let pods: Vec<String> = model.pods().map(str::to_owned).collect();
    for (from, to) in
        pods.iter().flat_map(|f| pods.iter().map(move |t| (f, t))).filter(|(f, t)| f != t)
    {
        for probe in lab::probes() {
            let number = match probe.protocol {
                Protocol::Tcp => protocol::TCP,
                Protocol::Udp => protocol::UDP,
                Protocol::Sctp => protocol::SCTP,
            };
            let want = model.verdict(from, to, probe.protocol, probe.port).unwrap();
            let have =
                allowed(&made, &format!("pod/{from}"), &format!("pod/{to}"), number, probe.port);
            if want != have {
                return Err(format!(
                    "{from} to {to} {}/{}: oracle {want}, rules {have}",
                    probe.protocol, probe.port
                ));
            }
        }
    }
    Ok(())
}

#[test]
fn every_case_of_the_oracle_in_every_mode() {
    for case in cases::ALL {
        for isolation in Isolation::ALL {
            compare(&lab::manifest(isolation, case.policies))
                .unwrap_or_else(|e| panic!("{} ({isolation}): {e}", case.name));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]
    #[test]
    fn random_policies_mean_what_the_oracle_says(manifest in random::manifest()) {
        compare(&manifest).map_err(TestCaseError::fail)?;
    }
}

fn with_policy(spec: &str) -> Realized {
    let policy = format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: a}}, spec: {spec}}}"
    );
    realized(&documents(&[
        CLUSTER,
        &namespace("a"),
        &namespace("b"),
        &pod("a", "web"),
        &pod("a", "db"),
        &pod("b", "web"),
        &policy,
    ]))
}

fn rule<'a>(lab: &'a Realized, name: &str) -> &'a Rule {
    let known = || lab.network.firewall.rules.iter().map(|r| r.name.as_str()).collect::<Vec<_>>();
    lab.network
        .firewall
        .rules
        .iter()
        .find(|r| r.name == name)
        .unwrap_or_else(|| panic!("{name} of {:?}", known()))
}

fn range(set: &engine::network::AddressSet) -> Vec<String> {
    set.ranges()
        .iter()
        .map(|(a, b)| if a == b { a.to_string() } else { format!("{a}-{b}") })
        .collect()
}

#[test]
fn sections_stand_in_order_and_are_numbered_from_1001() {
    let lab = with_policy(
        "{podSelector: {matchLabels: {app: web}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {}}]}]}",
    );
    let names: Vec<(u32, Category, &str)> =
        lab.network.firewall.rules.iter().map(|r| (r.id, r.category, r.name.as_str())).collect();
    assert_eq!(
        names,
        [
            (1001, Category::Application, "np.a.p.allow-ingress-0"),
            (1002, Category::Application, "np.a.p.isolate-ingress"),
            (1003, Category::Application, "np.a.p.isolate-egress"),
            (1004, Category::Default, "ns.a.ingress-control-plane"),
            (1005, Category::Default, "ns.a.ingress-namespace"),
            (1006, Category::Default, "ns.a.ingress-others"),
            (1007, Category::Default, "ns.b.ingress-control-plane"),
            (1008, Category::Default, "ns.b.ingress-namespace"),
            (1009, Category::Default, "ns.b.ingress-others"),
        ]
    );
    let vnic = port(&lab, "pod/a/web").0.vnic.as_ref().unwrap();
    assert_eq!((&*vnic.rules_in, &*vnic.rules_out), (&[0, 1, 3, 4, 5][..], &[2][..]));
    let other = port(&lab, "pod/a/db").0.vnic.as_ref().unwrap();
    assert_eq!((&*other.rules_in, &*other.rules_out), (&[3, 4, 5][..], &[][..]));
    let row = &cells(
        &lab.logical.dfw,
        &["ID", "DIRECTION", "SOURCE", "DESTINATION", "SERVICES", "APPLIED-TO", "ACTION", "ORIGIN"],
    )[0];
    assert_eq!(row, "1001 IN ns a any any pods app=web in a ALLOW NetworkPolicy a/p");
}

#[test]
fn all_allow_sections_come_before_all_isolation_sections() {
    let policy = |name: &str, port: u16| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: '{name}', namespace: a}}, \
             spec: {{podSelector: {{}}, ingress: [{{ports: [{{port: {port}}}]}}]}}}}"
        )
    };
    let lab = realized(&documents(&[
        CLUSTER,
        &namespace("a"),
        &namespace("b"),
        &pod("a", "x"),
        &pod("b", "y"),
        &policy("p", 80),
        &policy("q", 81),
    ]));
    let names: Vec<&str> =
        lab.network.firewall.rules.iter().take(4).map(|r| r.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "np.a.p.allow-ingress-0",
            "np.a.q.allow-ingress-0",
            "np.a.p.isolate-ingress",
            "np.a.q.isolate-ingress"
        ]
    );
    // The union of both.
    for (port, want) in [(80, true), (81, true), (82, false)] {
        assert_eq!(allowed(&lab, "pod/b/y", "pod/a/x", protocol::TCP, port), want, "{port}");
    }
}

#[test]
fn blocks_and_their_holes_are_ranges() {
    let lab = with_policy(
        "{podSelector: {}, egress: [{to: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.244.0.32/28]}}]}], policyTypes: [Egress]}",
    );
    let allow = rule(&lab, "np.a.p.allow-egress-0");
    assert_eq!(
        range(&allow.destination),
        ["10.0.0.0-10.0.255.255", "10.2.0.0-10.244.0.31", "10.244.0.48-10.255.255.255"]
    );
    assert_eq!(allow.destination_text, "10.0.0.0/8 except 10.1.0.0/16 and 10.244.0.32/28");
    assert_eq!(allow.applied_to_text, "ns a");
    assert!(allow.source.is_any());
}

#[test]
fn ports_of_one_protocol_are_one_service() {
    let lab = with_policy(
        "{podSelector: {}, ingress: [{ports: [{port: 80}, {port: 8000, endPort: 8010}, {port: 53, protocol: UDP}, {protocol: SCTP}]}]}",
    );
    let services: Vec<String> =
        rule(&lab, "np.a.p.allow-ingress-0").services.iter().map(ToString::to_string).collect();
    assert_eq!(services, ["TCP/80,8000-8010", "UDP/53", "SCTP"]);
    // A protocol without port is all of it, whatever else is listed.
    let lab = with_policy(
        "{podSelector: {}, ingress: [{ports: [{port: 80}, {protocol: TCP}, {port: 81}]}]}",
    );
    let services: Vec<String> =
        rule(&lab, "np.a.p.allow-ingress-0").services.iter().map(ToString::to_string).collect();
    assert_eq!(services, ["TCP"]);
}

#[test]
fn a_named_port_is_a_matter_of_the_destination() {
    let web = |ns: &str, name: &str, port: u16| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {ns}, labels: {{app: web}}}}, \
             spec: {{containers: [{{name: c, image: i, ports: [{{name: http, containerPort: {port}}}]}}]}}}}"
        )
    };
    let policy = |kind: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: a}}, \
             spec: {{podSelector: {{}}, policyTypes: [{kind}], {}: [{{ports: [{{port: http}}]}}]}}}}",
            kind.to_lowercase()
        )
    };
    let base = [
        CLUSTER.to_owned(),
        namespace("a"),
        namespace("b"),
        web("a", "one", 80),
        web("a", "two", 8080),
        pod("a", "none"),
        pod("b", "x"),
    ];
    let lab = realized(
        &base.iter().cloned().chain([policy("Ingress")]).collect::<Vec<_>>().join("\n---\n"),
    );
    assert!(allowed(&lab, "pod/b/x", "pod/a/one", protocol::TCP, 80));
    assert!(!allowed(&lab, "pod/b/x", "pod/a/one", protocol::TCP, 8080));
    assert!(allowed(&lab, "pod/b/x", "pod/a/two", protocol::TCP, 8080));
    assert!(!allowed(&lab, "pod/b/x", "pod/a/two", protocol::TCP, 80));
    assert!(!allowed(&lab, "pod/b/x", "pod/a/two", protocol::UDP, 8080));
    // A pod without such a port is isolated all the same.
    assert!(!allowed(&lab, "pod/b/x", "pod/a/none", protocol::TCP, 80));
    let lab = realized(
        &base.iter().cloned().chain([policy("Egress")]).collect::<Vec<_>>().join("\n---\n"),
    );
    let made = rule(&lab, "np.a.p.allow-egress-0.TCP-http-8080");
    assert_eq!(range(&made.destination), ["10.244.0.20"]);
    assert!(allowed(&lab, "pod/a/none", "pod/a/two", protocol::TCP, 8080));
    assert!(!allowed(&lab, "pod/a/none", "pod/a/two", protocol::TCP, 80));
}

#[test]
fn the_control_plane_is_exempt_but_a_policy_isolates_to_the_letter() {
    let text = |isolation: &str, policy: &str| {
        let cluster = format!(
            "{{kind: SupervisorCluster, metadata: {{name: s}}, spec: {{isolation: {isolation}}}}}"
        );
        let mut parts = vec![cluster, namespace("a"), namespace("b"), pod("a", "x"), pod("b", "y")];
        if !policy.is_empty() {
            parts.push(policy.to_owned());
        }
        parts.join("\n---\n")
    };
    let deny = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: deny, namespace: a}, \
                spec: {podSelector: {}, policyTypes: [Ingress, Egress]}}";
    let tcp = |lab: &Realized, from: &str, to: &str| allowed(lab, from, to, protocol::TCP, 80);
    for (isolation, out_of, into) in
        [("ingress", true, false), ("full", false, false), ("none", true, true)]
    {
        let lab = realized(&text(isolation, ""));
        assert!(tcp(&lab, "vm/cp-1", "pod/a/x") && tcp(&lab, "pod/a/x", "vm/cp-3"), "{isolation}");
        assert_eq!(tcp(&lab, "pod/b/y", "pod/a/x"), into, "{isolation}");
        let vnic = port(&lab, "pod/a/x").0.vnic.as_ref().unwrap();
        let outside = first_match(
            &lab.network,
            &vnic.rules_out,
            (port(&lab, "pod/a/x").1, "192.0.2.1".parse().unwrap(), 6, 80),
        );
        assert_eq!(outside == Action::Allow, out_of, "{isolation}");
        let lab = realized(&text(isolation, deny));
        assert!(
            !tcp(&lab, "vm/cp-1", "pod/a/x") && !tcp(&lab, "pod/a/x", "vm/cp-1"),
            "{isolation}"
        );
        // The VMs themselves have no rules.
        let vm = port(&lab, "vm/cp-1").0.vnic.as_ref().unwrap();
        assert!(vm.rules_in.is_empty() && vm.rules_out.is_empty());
    }
    assert!(realized(&text("none", "")).network.firewall.rules.is_empty());
}

#[test]
fn a_rule_keeps_its_number_when_others_come_and_go() {
    let policy = |name: &str| {
        format!(
            "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: '{name}', namespace: a}}, spec: {{podSelector: {{}}}}}}"
        )
    };
    let text = |names: &[&str]| {
        let mut parts = vec![CLUSTER.to_owned(), namespace("a"), pod("a", "x")];
        parts.extend(names.iter().map(|n| policy(n)));
        parts.join("\n---\n")
    };
    let first = realized(&text(&["m", "n"]));
    let second = realized_with(&text(&["a", "n"]), &first.allocations);
    assert_eq!(
        rule(&first, "np.a.n.isolate-ingress").id,
        rule(&second, "np.a.n.isolate-ingress").id
    );
    // One that is gone leaves its number to nobody: its sessions and hits are not the new one's.
    let highest = first.network.firewall.rules.iter().map(|r| r.id).max().unwrap();
    assert_eq!(rule(&second, "np.a.a.isolate-ingress").id, highest + 1);
    assert_eq!(second.network.firewall.rules[0].name, "np.a.a.isolate-ingress");
}

#[test]
fn a_peer_that_selects_nobody_is_nobody() {
    let lab = with_policy(
        "{podSelector: {}, ingress: [{from: [{podSelector: {matchLabels: {app: nobody}}}]}]}",
    );
    let made = rule(&lab, "np.a.p.allow-ingress-0");
    assert!(made.source.is_empty());
    assert_eq!(made.source_text, "pods app=nobody in a");
    assert!(!allowed(&lab, "pod/a/db", "pod/a/web", protocol::TCP, 80));
    let lab = with_policy(
        "{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [db]}]}}]}]}",
    );
    let made = rule(&lab, "np.a.p.allow-ingress-0");
    assert_eq!(made.source_text, "pods app notin (db) in all namespaces");
    assert_eq!(range(&made.source), ["10.244.0.19", "10.244.0.34"]);
}

#[test]
fn a_rule_that_can_never_match_is_told() {
    let notices = |lab: &Realized| lab.notices.iter().map(ToString::to_string).collect::<Vec<_>>();
    let block = |direction: &str, side: &str, cidr: &str| {
        format!(
            "{{podSelector: {{}}, policyTypes: [{direction}], {}: [{{{side}: [{{ipBlock: {{cidr: {cidr}}}}}]}}]}}",
            direction.to_lowercase()
        )
    };
    // Clients outside come through the load balancer and have its address, 100.64.0.1.
    let lab = with_policy(&block("Ingress", "from", "192.0.2.0/24"));
    assert_eq!(notices(&lab).len(), 1);
    assert!(
        notices(&lab)[0].contains("NetworkPolicy a/p: 192.0.2.0/24: this can never match"),
        "{:?}",
        notices(&lab)
    );
    for cidr in ["100.64.0.0/16", "10.244.0.0/20", "0.0.0.0/0"] {
        assert!(notices(&with_policy(&block("Ingress", "from", cidr))).is_empty(), "{cidr}");
    }
    // A ClusterIP is a backend by the time the firewall judges it.
    assert!(
        notices(&with_policy(&block("Egress", "to", "10.96.0.10/32")))[0]
            .contains("has become a backend")
    );
    assert!(notices(&with_policy(&block("Egress", "to", "192.0.2.0/24"))).is_empty());
}

/// An IPv6 block covers the mapped IPv4 space in bits, not in meaning: `::/0` is no IPv4 address, and its holes are none either.
#[test]
fn an_ipv6_block_matches_no_ipv4() {
    let manifest = |cidr: &str| {
        documents(&[
            "{kind: SupervisorCluster, metadata: {name: s}, spec: {podCIDRv6: 'fd00:244::/48'}}",
            &namespace("a"),
            &pod("a", "x"),
            &pod("a", "y"),
            &format!(
                "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: p, namespace: a}}, \
                 spec: {{podSelector: {{}}, policyTypes: [Ingress], ingress: [{{from: [{{ipBlock: {{{cidr}}}}}]}}]}}}}"
            ),
        ])
    };
    for (cidr, v4, v6) in [
        ("cidr: '::/0'", Action::Drop, Action::Allow),
        ("cidr: '::/0', except: ['fd00::/8']", Action::Drop, Action::Drop),
        ("cidr: '::/64'", Action::Drop, Action::Drop),
        ("cidr: 0.0.0.0/0", Action::Allow, Action::Drop),
    ] {
        let lab = realized(&manifest(cidr));
        let rules = port(&lab, "pod/a/y").0.vnic.clone().unwrap().rules_in;
        let addresses = |name: &str| lab.names.port(name).unwrap().1.addresses.clone();
        let (from, to) = (addresses("pod/a/x"), addresses("pod/a/y"));
        for (at, expected) in [v4, v6].into_iter().enumerate() {
            let flow = (from[at], to[at], protocol::TCP, 80);
            assert_eq!(first_match(&lab.network, &rules, flow), expected, "{cidr}, {}", from[at]);
        }
    }
}
