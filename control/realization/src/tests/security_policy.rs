//! SecurityPolicy as rules: order, applied-to, peers, ports; the exclude list; rules that an earlier one shadows.
//! Pods: `a/db` is 10.244.0.18, `a/web` 10.244.0.19, `b/web` 10.244.0.34.

use super::*;
use engine::network::{Action, Category, Direction, Rule, Vnic};

fn policy(name: &str, spec: &str) -> String {
    policy_with(&format!("{{name: {name}, namespace: a}}"), spec)
}

fn policy_with(metadata: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: nsx.vmware.com/v1alpha1, kind: SecurityPolicy, metadata: {metadata}, spec: {spec}}}"
    )
}

fn network_policy(name: &str, spec: &str) -> String {
    format!(
        "{{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {{name: {name}, namespace: a}}, spec: {spec}}}"
    )
}

fn ported(namespace: &str, name: &str, port: u16) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}, labels: {{app: {name}}}}}, \
         spec: {{containers: [{{name: c, image: i, ports: [{{name: http, containerPort: {port}}}]}}]}}}}"
    )
}

fn lab(policies: &[String]) -> Realized {
    let mut parts = vec![
        CLUSTER.to_owned(),
        namespace("a"),
        namespace("b"),
        ported("a", "web", 80),
        ported("a", "db", 8080),
        ported("b", "web", 81),
    ];
    parts.extend_from_slice(policies);
    realized(&parts.join("\n---\n"))
}

/// The rules made from policies, in order.
fn rules(lab: &Realized) -> Vec<&Rule> {
    let all = lab.network.firewall.rules.iter();
    all.filter(|r| r.category != Category::Default).collect()
}

fn names(lab: &Realized) -> Vec<&str> {
    rules(lab).iter().map(|r| r.name.as_str()).collect()
}

fn notices(lab: &Realized) -> Vec<String> {
    lab.notices.iter().map(ToString::to_string).collect()
}

fn vnic<'a>(lab: &'a Realized, pod: &str) -> &'a Vnic {
    let (_, place) = lab.names.port(pod).unwrap();
    lab.network.port(place.port).unwrap().vnic.as_ref().unwrap()
}

/// Names of the rules towards and from a pod that policies made.
fn applied(lab: &Realized, pod: &str) -> (Vec<String>, Vec<String>) {
    let vnic = vnic(lab, pod);
    let names = |list: &[u32]| {
        let rules = list.iter().map(|i| &lab.network.firewall.rules[*i as usize]);
        rules.filter(|r| r.category != Category::Default).map(|r| r.name.clone()).collect()
    };
    (names(&vnic.rules_in), names(&vnic.rules_out))
}

fn ranges(set: &engine::network::AddressSet) -> Vec<String> {
    let text = |(a, b): &(packet::Addr, packet::Addr)| {
        if a == b { a.to_string() } else { format!("{a}-{b}") }
    };
    set.ranges().iter().map(text).collect()
}

#[test]
fn categories_then_priorities_then_names_and_network_policies_last() {
    let any = "appliedTo: [{podSelector: {}}], rules: [{direction: in, action: allow}]";
    let spec = |priority: u16| format!("{{priority: {priority}, {any}}}");
    let made = lab(&[
        network_policy("a", "{podSelector: {}, ingress: [{}]}"),
        policy("late", &spec(1000)),
        policy("z", &spec(7)),
        policy("b", &spec(7)),
        policy("first", &format!("{{{any}}}")),
        policy_with(
            "{name: env, namespace: a, labels: {lab.tierlab.dev/category: Environment}}",
            &spec(3),
        ),
        policy_with(
            "{name: infra, namespace: a, annotations: {lab.tierlab.dev/category: Infrastructure}}",
            &spec(1000),
        ),
        policy_with(
            "{name: stop, namespace: a, annotations: {lab.tierlab.dev/category: Emergency}}",
            &spec(1000),
        ),
    ]);
    let order = [
        "sp.a.stop.0",
        "sp.a.infra.0",
        "sp.a.env.0",
        "sp.a.first.0",
        "sp.a.b.0",
        "sp.a.z.0",
        "sp.a.late.0",
        "np.a.a.allow-ingress-0",
        "np.a.a.isolate-ingress",
    ];
    assert_eq!(names(&made), order);
    // Every vNIC has them in this order, too.
    assert_eq!(applied(&made, "pod/a/web").0, order);
    assert!(applied(&made, "pod/b/web").0.is_empty());
    let rows = cells(&made.logical.dfw[..4], &["CATEGORY", "ACTION", "NAME"]);
    assert_eq!(
        rows,
        [
            "Emergency ALLOW sp.a.stop.0",
            "Infrastructure ALLOW sp.a.infra.0",
            "Environment ALLOW sp.a.env.0",
            "Application ALLOW sp.a.first.0",
        ]
    );
}

#[test]
fn rules_keep_their_order_and_are_not_strict() {
    let made = lab(&[policy(
        "p",
        "{appliedTo: [{podSelector: {matchLabels: {app: web}}}], rules: [
          {direction: In, action: Reject, sources: [{podSelector: {matchLabels: {app: db}}}], ports: [{port: 80}, {protocol: UDP, port: 53, endPort: 55}]},
          {direction: EGRESS, action: drop, destinations: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: b}}}]},
          {direction: Ingress, action: ALLOW, name: the rest}]}",
    )]);
    let made_rules = rules(&made);
    assert_eq!(names(&made), ["sp.a.p.0", "sp.a.p.1", "sp.a.p:the rest"]);
    let [reject, drop, allow] = made_rules.as_slice() else { panic!() };
    assert_eq!(
        (reject.action, drop.action, allow.action),
        (Action::Reject, Action::Drop, Action::Allow)
    );
    assert_eq!(
        (reject.direction, drop.direction, allow.direction),
        (Direction::In, Direction::Out, Direction::In)
    );
    assert_eq!(ranges(&reject.source), ["10.244.0.18"]);
    assert!(reject.destination.is_any() && drop.source.is_any() && allow.source.is_any());
    assert_eq!(ranges(&drop.destination), ["10.244.0.34"]);
    let services: Vec<String> = reject.services.iter().map(ToString::to_string).collect();
    assert_eq!(services, ["TCP/80", "UDP/53-55"]);
    assert!(drop.services.is_empty());
    for rule in &made_rules {
        assert!(!rule.strict, "{}", rule.name);
        assert_eq!(rule.origin, "SecurityPolicy a/p");
        assert_eq!(rule.applied_to_text, "pods app=web in a");
    }
    let (into, out) = applied(&made, "pod/a/web");
    assert_eq!(
        (into, out),
        (vec!["sp.a.p.0".into(), "sp.a.p:the rest".into()], vec!["sp.a.p.1".into()])
    );
    assert_eq!(applied(&made, "pod/a/db"), (vec![], vec![]));
    // What is Kubernetes' own stays strict.
    assert!(made.network.firewall.rules.iter().all(|r| r.strict || r.name.starts_with("sp.")));
}

#[test]
fn the_policys_applied_to_outranks_a_rules() {
    let web = "appliedTo: [{podSelector: {matchLabels: {app: web}}}]";
    let db = "appliedTo: [{podSelector: {matchLabels: {app: db}}}]";
    let both =
        lab(&[policy("p", &format!("{{{web}, rules: [{{direction: in, action: drop, {db}}}]}}"))]);
    assert_eq!(applied(&both, "pod/a/web").0, ["sp.a.p.0"]);
    assert!(applied(&both, "pod/a/db").0.is_empty());
    let own = lab(&[policy(
        "p",
        &format!(
            "{{rules: [{{direction: in, action: drop, {db}}}, {{direction: in, action: allow, {web}}}]}}"
        ),
    )]);
    assert_eq!(applied(&own, "pod/a/db").0, ["sp.a.p.0"]);
    assert_eq!(applied(&own, "pod/a/web").0, ["sp.a.p.1"]);
}

#[test]
fn peers_are_united_and_none_but_vms_is_nobody() {
    let made = lab(&[policy(
        "p",
        "{appliedTo: [{podSelector: {}}], rules: [
          {direction: in, action: allow, sources: [{podSelector: {matchLabels: {app: web}}, ipBlocks: [{cidr: 192.0.2.9/24}, {cidr: 198.51.100.7/32}]}]},
          {direction: in, action: drop, sources: [{vmSelector: {}}]},
          {direction: out, action: drop, destinations: [{namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}]}]}",
    )]);
    let made_rules = rules(&made);
    assert_eq!(
        ranges(&made_rules[0].source),
        ["10.244.0.19", "192.0.2.0-192.0.2.255", "198.51.100.7"]
    );
    assert!(made_rules[1].source.is_empty());
    assert_eq!(made_rules[1].source_text, "nobody");
    assert_eq!(ranges(&made_rules[2].destination), ["10.244.0.19", "10.244.0.34"]);
}

#[test]
fn a_named_port_is_each_destinations_own() {
    let made = lab(&[policy(
        "p",
        "{appliedTo: [{podSelector: {}}], rules: [
          {direction: in, action: allow, name: web, ports: [{port: http}]},
          {direction: out, action: drop, destinations: [{namespaceSelector: {}}], ports: [{port: http}, {port: none}]}]}",
    )]);
    assert_eq!(
        names(&made),
        [
            "sp.a.p.TCP-http-80:web",
            "sp.a.p.TCP-http-8080:web",
            "sp.a.p.TCP-http-80.1",
            "sp.a.p.TCP-http-81.1",
            "sp.a.p.TCP-http-8080.1",
        ]
    );
    assert_eq!(applied(&made, "pod/a/web").0, ["sp.a.p.TCP-http-80:web"]);
    assert_eq!(applied(&made, "pod/a/db").0, ["sp.a.p.TCP-http-8080:web"]);
    // Inwards its own address, whatever else a frame for its vNIC says.
    assert_eq!(ranges(&rules(&made)[1].destination), ["10.244.0.18"]);
    assert_eq!(ranges(&rules(&made)[3].destination), ["10.244.0.34"]);
    let found = notices(&made);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains(
            "SecurityPolicy a/p: sp.a.p.1: none of its destinations has a TCP port named 'none'"
        ),
        "{found:?}"
    );
}

#[test]
fn a_named_rule_keeps_its_number_when_another_is_put_before_it() {
    let spec = |before: &str| {
        format!(
            "{{appliedTo: [{{podSelector: {{}}}}], rules: [{before}{{direction: in, action: allow, name: keep, ports: [{{port: 9}}]}}]}}"
        )
    };
    let build = |spec: &str, kept: &Allocations| {
        realized_with(
            &documents(&[CLUSTER, &namespace("a"), &pod("a", "web"), &policy("p", spec)]),
            kept,
        )
    };
    let before = build(&spec(""), &Allocations::default());
    let after =
        build(&spec("{direction: in, action: drop, ports: [{port: 8}]}, "), &before.allocations);
    let number = |lab: &Realized| rules(lab).iter().find(|r| r.name == "sp.a.p:keep").unwrap().id;
    assert_eq!(number(&before), number(&after));
    assert_eq!(names(&after), ["sp.a.p.0", "sp.a.p:keep"]);
    // Two of one name are told apart by their places.
    let twice = build(
        &spec("{direction: in, action: drop, name: keep, ports: [{port: 8}]}, "),
        &Allocations::default(),
    );
    assert_eq!(names(&twice), ["sp.a.p.0", "sp.a.p.1"]);
}

#[test]
fn excluded_pods_have_no_rules() {
    let excluded = "{apiVersion: v1, kind: Pod, metadata: {name: free, namespace: a, annotations: {lab.tierlab.dev/dfw-exclude: 'true'}}, spec: {containers: [{name: c}]}}";
    let made = lab(&[
        excluded.to_owned(),
        policy(
            "p",
            "{appliedTo: [{podSelector: {}}], rules: [{direction: in, action: drop}, {direction: out, action: drop}]}",
        ),
        network_policy("n", "{podSelector: {}, policyTypes: [Ingress, Egress]}"),
    ]);
    let free = vnic(&made, "pod/a/free");
    assert!(free.rules_in.is_empty() && free.rules_out.is_empty());
    assert_eq!(applied(&made, "pod/a/web").0, ["sp.a.p.0", "np.a.n.isolate-ingress"]);
}

/// The notices of policy `p`, whose rules these are, all for every pod of `a` that says nothing else.
fn shadowed(rules: &str) -> Vec<String> {
    notices(&lab(&[policy("p", &format!("{{rules: [{rules}]}}"))]))
}

#[test]
fn a_shadowed_rule_is_told_with_both_names_and_a_packet() {
    let found = shadowed(
        "{direction: in, action: drop, appliedTo: [{podSelector: {}}], sources: [{podSelector: {}}], ports: [{port: 1, endPort: 100}]}, \
         {direction: in, action: allow, appliedTo: [{podSelector: {matchLabels: {app: db}}}], sources: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: 80}]}",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].contains(
            "SecurityPolicy a/p: rule 1002 'sp.a.p.1' can never match: rule 1001 'sp.a.p.0' (SecurityPolicy a/p, DROP) \
             takes all of its packets, for instance 10.244.0.19 > 10.244.0.18 TCP/80"
        ),
        "{found:?}"
    );
    // Outwards, and behind a rule of another category.
    let found = notices(&lab(&[
        policy_with(
            "{name: stop, namespace: a, annotations: {lab.tierlab.dev/category: Emergency}}",
            "{priority: 1000, appliedTo: [{podSelector: {}}], rules: [{direction: out, action: reject}]}",
        ),
        policy(
            "p",
            "{appliedTo: [{podSelector: {matchLabels: {app: db}}}], rules: [{direction: out, action: allow, destinations: [{ipBlocks: [{cidr: 192.0.2.0/24}]}]}]}",
        ),
    ]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("rule 1001 'sp.a.stop.0' (SecurityPolicy a/stop, REJECT)"));
    assert!(found[0].contains("for instance 10.244.0.18 > 192.0.2.1 TCP/80"), "{found:?}");
}

#[test]
fn a_named_port_shadows_its_number() {
    let web = "appliedTo: [{podSelector: {matchLabels: {app: web}}}]";
    let found = shadowed(&format!(
        "{{direction: in, action: allow, {web}, ports: [{{port: http}}]}}, \
         {{direction: in, action: drop, {web}, ports: [{{port: 80}}]}}"
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("'sp.a.p.1' can never match: rule 1001 'sp.a.p.TCP-http-80.0'"));
}

#[test]
fn a_packet_that_a_third_rule_takes_says_so() {
    // The second covers the third; the first takes the only port of it.
    let all = "appliedTo: [{podSelector: {}}]";
    let found = shadowed(&format!(
        "{{direction: in, action: allow, {all}, ports: [{{port: 80}}]}}, \
         {{direction: in, action: drop, {all}, ports: [{{port: 80}}, {{port: 81}}]}}, \
         {{direction: in, action: reject, {all}, ports: [{{port: 80}}, {{port: 81}}]}}"
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("rule 1003 'sp.a.p.2' can never match: rule 1002 'sp.a.p.1'"));
    assert!(found[0].ends_with("TCP/81; narrow the earlier rule, or remove this one; in a SecurityPolicy it can also be put before it"), "{found:?}");
}

#[test]
fn a_witness_that_even_earlier_rules_take_says_so() {
    // 90 would be one, but only the ends of a range are tried.
    let all = "appliedTo: [{podSelector: {}}]";
    let found = shadowed(&format!(
        "{{direction: in, action: allow, {all}, ports: [{{port: 80}}, {{port: 99}}]}}, \
         {{direction: in, action: drop, {all}, ports: [{{port: 1, endPort: 100}}]}}, \
         {{direction: in, action: reject, {all}, ports: [{{port: 80, endPort: 99}}]}}"
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("'sp.a.p.2' can never match: rule 1002 'sp.a.p.1'"), "{found:?}");
    assert!(found[0].contains("TCP/80, which even rule 1001 'sp.a.p.0' takes;"), "{found:?}");
}

#[test]
fn what_is_not_wholly_shadowed_is_not_told() {
    let all = "appliedTo: [{podSelector: {}}]";
    let db = "appliedTo: [{podSelector: {matchLabels: {app: db}}}]";
    for rules in [
        // Fewer vNICs, addresses, ports, protocols; the other direction; the wider rule second.
        format!("{{direction: in, action: drop, {db}}}, {{direction: in, action: allow, {all}}}"),
        format!(
            "{{direction: in, action: drop, {all}, sources: [{{podSelector: {{}}}}]}}, {{direction: in, action: allow, {all}}}"
        ),
        format!(
            "{{direction: in, action: drop, {all}, ports: [{{port: 80}}]}}, {{direction: in, action: allow, {all}, ports: [{{port: 80, endPort: 81}}]}}"
        ),
        format!(
            "{{direction: in, action: drop, {all}, ports: [{{}}]}}, {{direction: in, action: allow, {all}}}"
        ),
        format!(
            "{{direction: in, action: drop, {all}, ports: [{{}}]}}, {{direction: in, action: allow, {all}, ports: [{{protocol: UDP}}]}}"
        ),
        format!("{{direction: in, action: drop, {all}}}, {{direction: out, action: allow, {all}}}"),
        // One written rule of which a named port has a number that is there already.
        format!("{{direction: in, action: allow, {all}, ports: [{{port: 80}}, {{port: http}}]}}"),
        // A rule that is applied to nothing, or names nobody.
        format!(
            "{{direction: in, action: drop, {all}}}, {{direction: in, action: allow, appliedTo: [{{podSelector: {{matchLabels: {{app: no}}}}}}]}}"
        ),
        format!(
            "{{direction: in, action: drop, {all}}}, {{direction: in, action: allow, {all}, sources: [{{podSelector: {{matchLabels: {{app: no}}}}}}]}}"
        ),
    ] {
        let mut found = shadowed(&rules);
        found.retain(|notice| !notice.contains("appliedTo selects no pod"));
        assert!(found.is_empty(), "{rules}: {found:?}");
    }
    // What a NetworkPolicy and a namespace isolate stands behind other rules by design.
    let made = lab(&[
        policy("p", &format!("{{{all}, rules: [{{direction: in, action: drop}}]}}")),
        network_policy("n", "{podSelector: {}}"),
    ]);
    assert!(notices(&made).is_empty(), "{:?}", notices(&made));
}

#[test]
fn a_network_policys_rule_can_be_shadowed_too() {
    let made = lab(&[
        policy(
            "p",
            "{appliedTo: [{podSelector: {}}], rules: [{direction: in, action: drop, ports: [{port: 80}]}]}",
        ),
        network_policy(
            "n",
            "{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 80}]}, {ports: [{port: 81}]}]}",
        ),
    ]);
    let found = notices(&made);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("NetworkPolicy a/n: rule 1002 'np.a.n.allow-ingress-0' can never match: rule 1001 'sp.a.p.0'"));
}

#[test]
fn the_search_is_bounded_and_says_so() {
    // Each rule is wider than all before it, so that none is shadowed and every pair is compared.
    let rule = |i: usize| {
        format!(
            "{{direction: in, action: allow, appliedTo: [{{podSelector: {{}}}}], ports: [{{port: 1, endPort: {}}}]}}",
            i + 1
        )
    };
    let list: Vec<String> = (0..3_300).map(rule).collect();
    let found = shadowed(&list.join(", "));
    assert_eq!(found.len(), 1, "{}", found.len());
    assert!(found[0].contains("ended here, after 5000000 comparisons"), "{found:?}");
    // So are the messages.
    let list = vec!["{direction: in, action: allow, appliedTo: [{podSelector: {}}]}"; 60];
    let found = shadowed(&list.join(", "));
    assert_eq!(found.len(), 51);
}

#[test]
fn a_rule_that_is_applied_to_nobody_is_told_once() {
    let rules = "{rules: [\
        {appliedTo: [{podSelector: {matchLabels: {app: nobody}}}], action: drop, direction: in}, \
        {appliedTo: [{podSelector: {matchLabels: {app: nobody}}}], action: allow, direction: out}, \
        {appliedTo: [{podSelector: {matchLabels: {app: web}}}], action: allow, direction: out}]}";
    let lab = lab(&[policy("p", rules)]);
    let notices: Vec<String> = lab.notices.iter().map(ToString::to_string).collect();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("SecurityPolicy a/p: rules[0]: appliedTo selects no pod"));
}
