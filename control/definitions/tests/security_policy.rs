//! SecurityPolicy and the firewall's exclude list: what is accepted, what it becomes, what is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
use common::{definitions, loaded, one_fault};
use definitions::model::{
    ObjectName, PolicyCategory, PolicyPeer, PolicyPort, PortMatch, Protocol, SecurityAction,
    SecurityDirection,
};

fn name(text: &str) -> ObjectName {
    let (namespace, name) = text.split_once('/').unwrap();
    ObjectName::new(namespace, name)
}

/// nsx-operator's own example, its status too, and the other group.
#[test]
fn security_policies_as_nsx_operator_writes_them() {
    let text = "apiVersion: GROUP/v1alpha1
kind: SecurityPolicy
metadata: {name: db-isolation}
spec:
  priority: 1
  appliedTo:
  - podSelector: {matchLabels: {role: db}}
  rules:
  - direction: in
    action: allow
    sources:
    - namespaceSelector: {matchLabels: {role: control}}
    - podSelector: {matchLabels: {role: frontend}}
    ports:
    - {protocol: TCP, port: 8000}
  - direction: Egress
    action: REJECT
    name: no dns
    destinations:
    - ipBlocks: [{cidr: 192.168.1.1/24}, {cidr: 2001:db8::1/128}]
    - vmSelector: {matchLabels: {role: dns}}
    ports:
    - {protocol: UDP, port: 53, endPort: 54}
    - {port: http}
    appliedTo:
    - vmSelector: {matchLabels: {user: internal}}
  - {direction: In, action: Drop}
status:
  conditions:
  - {type: Ready, status: True, reason: SuccessfulRealized}
";
    for group in ["nsx.vmware.com", "crd.nsx.vmware.com"] {
        let loaded = loaded(&text.replace("GROUP", group));
        let notices: Vec<String> = loaded.notices.iter().map(ToString::to_string).collect();
        assert_eq!(notices.len(), 3, "{notices:?}");
        assert!(
            notices[0].starts_with("t.yaml:21: ")
                && notices[0].contains("vmSelector selects nothing")
        );
        assert!(
            notices[1].starts_with("t.yaml:26: ")
                && notices[1].contains("that of the policy outranks it")
        );
        assert!(
            notices[2].starts_with("t.yaml:26: ")
                && notices[2].contains("vmSelector selects nothing")
        );
        let policy = &loaded.definitions.security_policies[&name("default/db-isolation")];
        assert_eq!((policy.priority, policy.category), (1, PolicyCategory::Application));
        let [allow, reject, drop] = policy.rules.as_slice() else { panic!("{policy:?}") };
        assert_eq!(
            [allow.action, reject.action, drop.action],
            [SecurityAction::Allow, SecurityAction::Reject, SecurityAction::Drop]
        );
        assert_eq!(
            [allow.direction, reject.direction, drop.direction],
            [SecurityDirection::In, SecurityDirection::Out, SecurityDirection::In]
        );
        assert_eq!(reject.name.as_deref(), Some("no dns"));
        for rule in &policy.rules {
            assert!(rule.applied_to[0].matches(&[("role".to_owned(), "db".to_owned())].into()));
            assert_eq!(rule.applied_to.len(), 1);
        }
        assert_eq!(allow.peers.as_ref().map(Vec::len), Some(2));
        // Host bits are allowed there, as in the API's example; the VMs are nobody.
        let block =
            |cidr: &str| PolicyPeer::IpBlock { cidr: cidr.parse().unwrap(), except: vec![] };
        assert_eq!(reject.peers, Some(vec![block("192.168.1.0/24"), block("2001:db8::1/128")]));
        let port = |protocol, port| PolicyPort { protocol, port };
        assert_eq!(
            reject.ports,
            [
                port(Protocol::Udp, PortMatch::Range(53, 54)),
                port(Protocol::Tcp, PortMatch::Name("http".into())),
            ]
        );
        assert!(drop.peers.is_none() && drop.ports.is_empty());
    }
    // Nobody is not everybody.
    let text = "apiVersion: nsx.vmware.com/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: p, labels: {lab.tierlab.dev/category: Infrastructure}}
spec: {rules: [{direction: in, action: allow, appliedTo: [{vmSelector: {}}], sources: [{vmSelector: {}}]}]}\n";
    let d = definitions(text);
    let policy = &d.security_policies[&name("default/p")];
    assert_eq!((policy.priority, policy.category), (0, PolicyCategory::Infrastructure));
    assert_eq!(policy.rules[0].peers.as_deref(), Some([].as_slice()));
    assert!(policy.rules[0].applied_to.is_empty());
}

/// A SecurityPolicy with these lines in its spec from line 5 on.
fn security_policy(spec: &str) -> String {
    format!(
        "apiVersion: nsx.vmware.com/v1alpha1\nkind: SecurityPolicy\nmetadata: {{name: p}}\nspec:\n{spec}"
    )
}

#[test]
fn security_policies() {
    let all = "  appliedTo: [{podSelector: {}}]\n";
    for (spec, line, part) in [
        ("  priority: 1001\n  rules: []".to_owned(), 5, "priority 1001 is not in 0..1000"),
        ("  priority: -1\n  rules: []".to_owned(), 5, "priority -1 is not in 0..1000"),
        ("  priority: '1'".to_owned(), 5, "take the quotes away"),
        ("  rules:\n  - {action: allow, direction: in}".to_owned(), 6, "appliedTo is missing"),
        (format!("{all}  rules:\n  - {{action: allow}}"), 7, "field 'direction' is missing"),
        (
            format!("{all}  rules:\n  - {{direction: in}}"),
            7,
            "field 'action' is missing; it is one of Allow, Drop, Reject",
        ),
        (format!("{all}  rules:\n  - {{direction: in, action: Deny}}"), 7, "unknown action 'Deny'"),
        (
            format!("{all}  rules:\n  - direction: inn\n    action: Drop"),
            7,
            "unknown direction 'inn'; did you mean 'In'?",
        ),
        (
            format!("{all}  rules:\n  - {{direction: in, action: drop, from: []}}"),
            7,
            "unknown field 'from'",
        ),
        ("  appliedTo: [{podSelectr: {}}]".to_owned(), 5, "did you mean 'podSelector'?"),
        ("  appliedTo: [{}]".to_owned(), 5, "an empty target"),
        (
            "  appliedTo:\n  - podSelector: {}\n    vmSelector: {}".to_owned(),
            6,
            "in one entry select nothing; write two entries",
        ),
        (
            format!("{all}  rules:\n  - direction: in\n    action: drop\n    sources: [{{}}]"),
            9,
            "an empty peer",
        ),
        (
            format!(
                "{all}  rules:\n  - direction: in\n    action: drop\n    sources: [{{podSelector: {{}}, vmSelector: {{}}}}]"
            ),
            9,
            "in one entry select nothing",
        ),
        (
            format!(
                "{all}  rules:\n  - direction: in\n    action: drop\n    destinations: [{{podSelector: {{}}}}]"
            ),
            9,
            "destinations of an ingress rule, which NSX would ignore",
        ),
        (
            format!(
                "{all}  rules:\n  - direction: out\n    action: drop\n    sources: [{{podSelector: {{}}}}]"
            ),
            9,
            "sources of an egress rule",
        ),
        (
            format!(
                "{all}  rules:\n  - direction: in\n    action: drop\n    sources: [{{ipBlocks: [{{cidr: 10.0.0.0/33}}]}}]"
            ),
            9,
            "'10.0.0.0/33' is not a network",
        ),
        (
            format!(
                "{all}  rules:\n  - direction: in\n    action: drop\n    sources: [{{ipBlocks: [{{cidr: 10.0.0.1}}]}}]"
            ),
            9,
            "for instance 192.0.2.1/32",
        ),
        (
            format!(
                "{all}  rules:\n  - direction: in\n    action: drop\n    sources: [{{ipBlocks: [{{}}]}}]"
            ),
            9,
            "field 'cidr' is missing",
        ),
        (
            format!("{all}  rules:\n  - direction: in\n    action: drop\n    ports: [{{port: 0}}]"),
            9,
            "port 0 is not in 1..65535",
        ),
        (
            format!(
                "{all}  rules:\n  - direction: in\n    action: drop\n    ports: [{{port: 9, endPort: 8}}]"
            ),
            9,
            "endPort 8 is below port 9",
        ),
        (
            format!(
                "{all}  rules:\n  - direction: in\n    action: drop\n    ports: [{{port: web, endPort: 8}}]"
            ),
            9,
            "endPort with a named port",
        ),
        (
            format!("{all}  rules:\n  - direction: in\n    action: drop\n    name: \"a\\e[31m\""),
            9,
            "is not 1 to 255 printable characters",
        ),
        (
            "  appliedTo: [{podSelector: {matchExpressions: [{key: a, operator: IsIn}]}}]"
                .to_owned(),
            5,
            "unknown operator 'IsIn'",
        ),
    ] {
        let start = format!("t.yaml:{line}: SecurityPolicy default/p: ");
        one_fault(&security_policy(&spec), &start, part);
    }
    one_fault(
        "apiVersion: nsx.vmware.com/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: p}\n",
        "t.yaml:1: SecurityPolicy default/p: ",
        "spec is missing",
    );
    // Another version of either group is not skipped: a Drop would fail open.
    for group in ["nsx.vmware.com", "crd.nsx.vmware.com"] {
        one_fault(
            &format!(
                "apiVersion: {group}/v1\nkind: SecurityPolicy\nmetadata: {{name: p}}\nspec: {{}}\n"
            ),
            "t.yaml:1: SecurityPolicy default/p: ",
            "is read as nsx.vmware.com/v1alpha1",
        );
    }
    let in_category = |metadata: &str| {
        format!(
            "apiVersion: nsx.vmware.com/v1alpha1\nkind: SecurityPolicy\nmetadata:\n  name: p\n{metadata}\nspec: {{}}\n"
        )
    };
    one_fault(
        &in_category("  annotations: {lab.tierlab.dev/category: Emergncy}"),
        "t.yaml:5: SecurityPolicy default/p: ",
        "unknown category 'Emergncy'; did you mean 'Emergency'?",
    );
    one_fault(
        &in_category(
            "  annotations: {lab.tierlab.dev/category: Emergency}\n  labels: {lab.tierlab.dev/category: Environment}",
        ),
        "t.yaml:6: SecurityPolicy default/p: ",
        "annotation and label lab.tierlab.dev/category differ",
    );
    one_fault(
        "apiVersion: nsx.vmware.com/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: p, namespace: nowhere}\nspec: {}\n",
        "t.yaml:1: SecurityPolicy nowhere/p: ",
        "namespace 'nowhere' is not defined",
    );
    let twice = "apiVersion: nsx.vmware.com/v1alpha1\nkind: SecurityPolicy\nmetadata: {name: p}\nspec: {}\n";
    let other = twice.replace("nsx.vmware.com", "crd.nsx.vmware.com");
    one_fault(&format!("{twice}---\n{other}"), "t.yaml:6: ", "is already defined at t.yaml:1");
}

#[test]
fn the_exclude_list_is_of_pods_and_true_or_false() {
    let pod = |value: &str| {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: p, annotations: {{lab.tierlab.dev/dfw-exclude: {value}}}}}\nspec: {{containers: []}}\n"
        )
    };
    one_fault(&pod("'yes'"), "t.yaml:3: Pod default/p: ", "'yes' is not \"true\" or \"false\"");
    one_fault(
        "apiVersion: v1\nkind: Namespace\nmetadata: {name: a, annotations: {lab.tierlab.dev/dfw-exclude: 'true'}}\n",
        "t.yaml:3: Namespace a: ",
        "is not one of this kind",
    );
    for (value, excluded) in [("'true'", true), ("'false'", false)] {
        let pods = loaded(&pod(value)).definitions.pods;
        assert!(pods.values().all(|pod| pod.firewall_excluded == excluded), "{value}");
    }
}
