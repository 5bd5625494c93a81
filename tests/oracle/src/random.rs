//! Random labs: the same nine pods at the same addresses, but with random labels, port names, isolation mode and up to six
//! random policies. What the API allows appears here, including what nobody would write on purpose; what the API server refuses
//! does not, because a refused manifest tests the parser and not the firewall.

use std::net::Ipv4Addr;

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use crate::cluster::Isolation;
use crate::lab;

/// A whole lab as one YAML stream, to be given to [`crate::Cluster::from_yaml`] with [`lab::addresses`], and to tierlab.
pub fn manifest() -> impl Strategy<Value = String> {
    (
        select(&Isolation::ALL[..]),
        vec(extra_labels(), lab::NAMESPACES.len()),
        vec((extra_labels(), port_names()), lab::NAMESPACES.len() * lab::PODS.len()),
        vec(policy(), 0..=6),
    )
        .prop_map(|(isolation, namespaces, pods, policies)| {
            let mut yaml = lab::cluster(isolation);
            for (namespace, labels) in lab::NAMESPACES.iter().zip(&namespaces) {
                yaml += &lab::namespace_document(namespace, labels);
            }
            for ((namespace, name, address), (labels, names)) in lab::pods().zip(&pods) {
                let ports: Vec<_> = lab::PORTS
                    .iter()
                    .zip(names)
                    .map(|(&(_, protocol, number), &name)| (name, protocol, number))
                    .collect();
                yaml += &lab::pod_document(namespace, name, address, labels, &ports);
            }
            for (index, policy) in policies.iter().enumerate() {
                yaml += &policy.replace("POLICY", &format!("policy-{index}"));
            }
            yaml
        })
}

/// Labels besides the name: `tier` and `team` are there or not, on namespaces as on pods.
fn extra_labels() -> impl Strategy<Value = String> {
    (option::of(select(&["web", "db"][..])), option::of(select(&["red", "blue"][..]))).prop_map(
        |(tier, team)| {
            let label = |key: &str, value: Option<&str>| {
                value.map(|value| format!(", {key}: {value}")).unwrap_or_default()
            };
            label("tier", tier) + &label("team", team)
        },
    )
}

/// The names of a pod's four ports. Most have the usual ones; on some pods one port is called `metrics`, not always the same
/// one, so that a named port is a different number on different pods and absent on others.
fn port_names() -> impl Strategy<Value = Vec<Option<&'static str>>> {
    (option::weighted(0.4, 0..lab::PORTS.len()), option::weighted(0.2, 0..lab::PORTS.len()))
        .prop_map(|(metrics, unnamed)| {
            lab::PORTS
                .iter()
                .enumerate()
                .map(|(index, &(name, ..))| match index {
                    _ if Some(index) == unnamed => None,
                    _ if Some(index) == metrics => Some("metrics"),
                    _ => Some(name),
                })
                .collect()
        })
}

/// A NetworkPolicy document whose name is yet to be filled in.
fn policy() -> impl Strategy<Value = String> {
    let types = prop_oneof![
        2 => Just(""),
        1 => Just("  policyTypes: []\n"),
        2 => Just("  policyTypes: [Ingress]\n"),
        2 => Just("  policyTypes: [Egress]\n"),
        3 => Just("  policyTypes: [Ingress, Egress]\n"),
        1 => Just("  policyTypes: [Egress, Ingress]\n"),
    ];
    (
        select(&lab::NAMESPACES[..]),
        selector(),
        types,
        section("ingress", "from"),
        section("egress", "to"),
    )
        .prop_map(|(namespace, pods, types, ingress, egress)| {
            format!(
                r#"---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: POLICY, namespace: "{namespace}"}}
spec:
  podSelector: {pods}
{types}{ingress}{egress}"#
            )
        })
}

/// The ingress or egress section: absent, without a rule, or with up to three.
fn section(name: &'static str, peers: &'static str) -> impl Strategy<Value = String> {
    let rule = (list(peer(), 3), list(port(), 3)).prop_map(move |(list, ports)| {
        let fields = [
            list.map(|list| format!("{peers}: {list}")),
            ports.map(|ports| format!("ports: {ports}")),
        ];
        format!("  - {{{}}}\n", fields.into_iter().flatten().collect::<Vec<_>>().join(", "))
    });
    prop_oneof![
        2 => Just(String::new()),
        1 => Just(format!("  {name}: []\n")),
        6 => vec(rule, 1..=3).prop_map(move |rules| format!("  {name}:\n{}", rules.concat())),
    ]
}

/// A flow-style list: absent, empty or with up to `most` elements.
fn list(
    element: impl Strategy<Value = String>,
    most: usize,
) -> impl Strategy<Value = Option<String>> {
    option::weighted(
        0.8,
        vec(element, 0..=most).prop_map(|items| format!("[{}]", items.join(", "))),
    )
}

/// A label selector in flow style. Most match something.
fn selector() -> impl Strategy<Value = String> {
    let label = || {
        prop_oneof![
            select(&lab::PODS[..]).prop_map(|pod| ("pod", pod)),
            select(&lab::NAMESPACES[..]).prop_map(|ns| ("ns", ns)),
            select(&["web", "db"][..]).prop_map(|tier| ("tier", tier)),
            select(&["red", "blue"][..]).prop_map(|team| ("team", team)),
        ]
    };
    let expression = prop_oneof![
        (select(&["In", "NotIn"][..]), subsequence(lab::PODS.to_vec(), 1..=2))
            .prop_map(|(op, v)| membership("pod", op, &v)),
        (select(&["In", "NotIn"][..]), subsequence(lab::NAMESPACES.to_vec(), 1..=2))
            .prop_map(|(op, v)| membership("ns", op, &v)),
        (select(&["In", "NotIn"][..]), subsequence(vec!["web", "db"], 1..=2))
            .prop_map(|(op, v)| membership("tier", op, &v)),
        (
            select(&["tier", "team", "pod", "nobody-has-this"][..]),
            select(&["Exists", "DoesNotExist"][..])
        )
            .prop_map(|(key, operator)| format!("{{key: {key}, operator: {operator}}}")),
    ];
    prop_oneof![
        3 => Just("{}".to_owned()),
        4 => label().prop_map(|(key, value)| format!("{{matchLabels: {{{key}: \"{value}\"}}}}")),
        3 => vec(expression.clone(), 1..=2).prop_map(|list| format!("{{matchExpressions: [{}]}}", list.join(", "))),
        1 => (label(), expression).prop_map(|((key, value), expression)| {
            format!("{{matchLabels: {{{key}: \"{value}\"}}, matchExpressions: [{expression}]}}")
        }),
    ]
}

fn membership(key: &str, operator: &str, values: &[&str]) -> String {
    format!("{{key: {key}, operator: {operator}, values: {values:?}}}")
}

/// A NetworkPolicyPeer.
fn peer() -> impl Strategy<Value = String> {
    // Namespaces have no `pod` label and pods no `ns` label, so these selectors are drawn to match what they select.
    let namespaces = || {
        prop_oneof![
            1 => Just("{}".to_owned()),
            3 => select(&lab::NAMESPACES[..]).prop_map(|ns| format!("{{matchLabels: {{ns: \"{ns}\"}}}}")),
            2 => select(&lab::NAMESPACES[..]).prop_map(|ns| format!("{{matchLabels: {{kubernetes.io/metadata.name: \"{ns}\"}}}}")),
            2 => selector(),
        ]
    };
    prop_oneof![
        3 => selector().prop_map(|pods| format!("{{podSelector: {pods}}}")),
        3 => namespaces().prop_map(|namespaces| format!("{{namespaceSelector: {namespaces}}}")),
        3 => (namespaces(), selector())
            .prop_map(|(namespaces, pods)| format!("{{namespaceSelector: {namespaces}, podSelector: {pods}}}")),
        3 => ip_block(),
    ]
}

/// An ipBlock around a pod's address, or around all, with parts of it excepted.
fn ip_block() -> impl Strategy<Value = String> {
    let near = (0u8..3, 0u8..16, select(&[0u32, 8, 20, 22, 24, 28, 29, 30, 31, 32][..]));
    (near, vec((0u8..3, 0u8..16, 1u32..=32), 0..=2)).prop_map(
        |((namespace, host, length), holes)| {
            let masked = |namespace: u8, host: u8, length: u32| {
                let address = u32::from(Ipv4Addr::new(10, 244, namespace + 1, host));
                Ipv4Addr::from(address & u32::MAX.checked_shl(32 - length).unwrap_or(0))
            };
            let network = masked(namespace, host, length);
            // Only what lies strictly inside may be excepted.
            let inside = |&&(namespace, host, inner): &&(u8, u8, u32)| {
                inner > length && masked(namespace, host, length) == network
            };
            let except: Vec<_> = holes
                .iter()
                .filter(inside)
                .map(|&(namespace, host, inner)| {
                    format!("{}/{inner}", masked(namespace, host, inner))
                })
                .collect();
            let except = if except.is_empty() {
                String::new()
            } else {
                format!(", except: [{}]", except.join(", "))
            };
            format!("{{ipBlock: {{cidr: {network}/{length}{except}}}}}")
        },
    )
}

/// A NetworkPolicyPort. Some name a port that no pod has, or a name with the other protocol.
fn port() -> impl Strategy<Value = String> {
    let protocol = prop_oneof![
        3 => Just(""),
        3 => Just("protocol: TCP, "),
        4 => Just("protocol: UDP, "),
        1 => Just("protocol: SCTP, "),
    ];
    let names = &[
        "serve-80-tcp",
        "serve-81-tcp",
        "serve-80-udp",
        "serve-81-udp",
        "metrics",
        "nobody-has-this",
    ][..];
    let which = prop_oneof![
        3 => (79u16..=82).prop_map(|port| format!("port: {port}")),
        2 => (79u16..=82, 0u16..=3).prop_map(|(port, more)| format!("port: {port}, endPort: {}", port + more)),
        3 => select(names).prop_map(|name| format!("port: {name}")),
        2 => Just(String::new()),
    ];
    (protocol, which).prop_map(|(protocol, which)| {
        format!("{{{}}}", format!("{protocol}{which}").trim_end_matches(", "))
    })
}

#[cfg(test)]
mod tests {
    use proptest::strategy::ValueTree;

    use super::*;
    use crate::{Cluster, truth_table};

    proptest! {
        /// The generator writes only what the API accepts, and its labs are judged without a gap.
        #[test]
        fn every_random_lab_can_be_judged(yaml in manifest()) {
            let cluster = Cluster::from_yaml(&yaml).map_err(|error| TestCaseError::fail(error.to_string()))?;
            let table = truth_table(&cluster.with_addresses(&lab::addresses()), &lab::probes())
                .map_err(|error| TestCaseError::fail(error.to_string()))?;
            // Nine pods, eight others each, four probes, and the header.
            prop_assert_eq!(table.lines().count(), 9 * 8 * 4 + 1);
        }
    }

    /// A generator whose labs deny or allow everything would prove nothing.
    #[test]
    fn random_labs_are_mixed() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let (mut allowed, mut denied) = (0, 0);
        for _ in 0..64 {
            let table = manifest().new_tree(&mut runner).ok().and_then(|tree| {
                let cluster =
                    Cluster::from_yaml(&tree.current()).ok()?.with_addresses(&lab::addresses());
                truth_table(&cluster, &lab::probes()).ok()
            });
            let table = table.unwrap_or_default();
            allowed += table.matches(",allow\n").count();
            denied += table.matches(",deny\n").count();
        }
        assert_eq!(allowed + denied, 64 * 9 * 8 * 4);
        assert!(
            allowed * 10 > denied && denied * 10 > allowed,
            "{allowed} allowed, {denied} denied"
        );
    }
}
