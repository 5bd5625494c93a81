//! The oracle against verdicts worked out by hand from the API reference and the definition of the isolation modes.
//!
//! One line a cell: case, from, to, protocol/port, and the verdict in the modes `none`, `ingress` and `full`, `+` for allow and
//! `-` for deny. A new case should bring its lines.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};

use oracle::{Cluster, Isolation, Probe, Protocol, cases, lab, truth_table};

const CELLS: &str = "
no-policy                           x/a x/b TCP/80  + + +
no-policy                           x/a y/b TCP/80  + - -
no-policy                           z/c x/a UDP/81  + - -

deny-ingress                        x/a x/b TCP/80  - - -
deny-ingress                        y/a x/b TCP/80  - - -
deny-ingress                        x/a y/a TCP/80  + - -
deny-ingress                        y/a y/b UDP/81  + + +

deny-egress                         x/a x/b TCP/80  - - -
deny-egress                         x/a y/a TCP/80  - - -
deny-egress                         y/a x/a TCP/80  + - -
deny-egress                         y/a y/b TCP/80  + + +

deny-all                            x/a x/b TCP/80  - - -
deny-all                            y/a x/a UDP/80  - - -
deny-all                            y/a y/b TCP/80  + + +

deny-ingress-by-default-types       x/b x/a TCP/80  - - -
deny-ingress-by-default-types       x/a x/b TCP/80  + + +
deny-ingress-by-default-types       x/b x/c TCP/80  + + +

empty-egress-does-not-isolate       x/a x/b TCP/80  + + +
empty-egress-does-not-isolate       y/a x/a TCP/80  + + -
empty-egress-does-not-isolate       x/a y/a TCP/80  + - -

egress-rule-isolates-egress         x/b x/a TCP/80  - - -
egress-rule-isolates-egress         x/a x/b TCP/80  + + +
egress-rule-isolates-egress         x/a x/c TCP/80  - - -
egress-rule-isolates-egress         x/a y/b TCP/80  - - -

empty-policy-types                  x/b x/a TCP/80  - - -
empty-policy-types                  x/a x/b TCP/80  + + +
empty-policy-types                  x/a x/b TCP/81  - - -
empty-policy-types                  x/a x/b UDP/80  - - -

allow-all-ingress                   y/a x/a UDP/81  + + -
allow-all-ingress                   x/a y/a TCP/80  + - -

allow-all-egress                    x/a y/a TCP/80  + - -
allow-all-egress                    y/a x/a TCP/80  + - -
allow-all-egress                    x/a x/b TCP/80  + + +

ingress-from-pod                    x/b x/a TCP/80  + + +
ingress-from-pod                    x/c x/a TCP/80  - - -
ingress-from-pod                    y/b x/a TCP/80  - - -
ingress-from-pod                    x/a x/c TCP/80  + + +

ingress-from-namespace              y/a x/a TCP/80  + + -
ingress-from-namespace              x/b x/a TCP/80  - - -
ingress-from-namespace              z/a x/a TCP/80  - - -

ingress-from-namespace-and-pod      y/b x/a TCP/80  + + -
ingress-from-namespace-and-pod      y/a x/a TCP/80  - - -
ingress-from-namespace-and-pod      x/b x/a TCP/80  - - -
ingress-from-namespace-and-pod      z/b x/a TCP/80  - - -

ingress-from-namespace-or-pod       y/a x/a TCP/80  + + -
ingress-from-namespace-or-pod       y/b x/a TCP/80  + + -
ingress-from-namespace-or-pod       x/b x/a TCP/80  + + +
ingress-from-namespace-or-pod       x/c x/a TCP/80  - - -
ingress-from-namespace-or-pod       z/b x/a TCP/80  - - -

ingress-from-any-namespace          x/b x/a TCP/80  + + +
ingress-from-any-namespace          z/c x/a TCP/80  + + -

ingress-from-any-pod-of-the-namespace x/b x/a TCP/80  + + +
ingress-from-any-pod-of-the-namespace y/a x/a TCP/80  - - -

ingress-from-pod-in-any-namespace   x/b x/a TCP/80  + + +
ingress-from-pod-in-any-namespace   z/b x/a TCP/80  + + -
ingress-from-pod-in-any-namespace   z/a x/a TCP/80  - - -

empty-from-is-everybody             x/b x/a TCP/80  + + +
empty-from-is-everybody             z/a x/a TCP/80  + + -
empty-from-is-everybody             z/a x/a TCP/81  - - -

namespace-not-in                    y/a x/a TCP/80  + + -
namespace-not-in                    x/b x/a TCP/80  - - -

not-in-without-the-label            y/a x/a TCP/80  + + -
not-in-without-the-label            z/c x/b UDP/81  + + -
not-in-without-the-label            x/a x/b TCP/80  - - -
not-in-without-the-label            x/a y/a TCP/80  - - -

namespace-by-name                   z/a x/a TCP/80  + + -
namespace-by-name                   y/a x/a TCP/80  - - -

pod-in                              x/c x/a TCP/80  - - -
pod-in                              x/a x/b TCP/80  - - -
pod-in                              x/a x/c TCP/80  + + +

expressions-all-hold                x/a x/c TCP/80  - - -
expressions-all-hold                x/c x/a TCP/80  + + +

selector-matches-nobody             x/a x/b TCP/80  + + +
selector-matches-nobody             y/a x/b TCP/80  + - -

policy-of-another-namespace         y/b y/a TCP/80  - - -
policy-of-another-namespace         x/b x/a TCP/80  + + +

ingress-port                        y/a x/a TCP/80  + + -
ingress-port                        y/a x/a TCP/81  - - -
ingress-port                        y/a x/a UDP/80  - - -
ingress-port                        x/b x/a TCP/80  + + +

ingress-named-port                  x/b x/a TCP/81  + + +
ingress-named-port                  x/b x/a TCP/80  - - -
ingress-named-port                  x/b x/a UDP/81  - - -
ingress-named-port                  y/a x/c TCP/81  + + -

ingress-named-port-other-protocol   x/b x/a UDP/80  - - -
ingress-named-port-other-protocol   x/b x/a TCP/80  - - -

ingress-udp                         x/b x/a UDP/81  + + +
ingress-udp                         x/b x/a UDP/80  - - -
ingress-udp                         x/b x/a TCP/81  - - -

ingress-protocol-without-port       x/b x/a UDP/80  + + +
ingress-protocol-without-port       x/b x/a UDP/81  + + +
ingress-protocol-without-port       x/b x/a TCP/80  - - -

ingress-sctp-is-not-tcp             x/b x/a TCP/80  - - -
ingress-sctp-is-not-tcp             x/b x/a UDP/80  - - -

ingress-port-range                  x/b x/a TCP/80  + + +
ingress-port-range                  x/b x/a TCP/81  + + +
ingress-port-range                  x/b x/a UDP/80  - - -

ingress-port-range-edge             x/b x/a TCP/80  + + +
ingress-port-range-edge             x/b x/a TCP/81  - - -
ingress-port-range-edge             x/a x/b UDP/81  + + +
ingress-port-range-edge             x/a x/b UDP/80  - - -
ingress-port-range-edge             x/a x/b TCP/81  - - -

rule-is-a-product                   y/a x/a TCP/80  + + -
rule-is-a-product                   z/a x/a TCP/81  + + -
rule-is-a-product                   x/b x/a TCP/80  - - -

rules-are-a-union                   y/a x/a TCP/80  + + -
rules-are-a-union                   y/a x/a TCP/81  - - -
rules-are-a-union                   z/a x/a TCP/81  + + -
rules-are-a-union                   z/a x/a TCP/80  - - -

policies-are-a-union                x/b x/a TCP/80  + + +
policies-are-a-union                x/b x/a TCP/81  - - -
policies-are-a-union                z/c x/a TCP/81  + + -
policies-are-a-union                z/c x/a TCP/80  - - -
policies-are-a-union                z/c x/b TCP/81  + + -
policies-are-a-union                x/a x/b TCP/80  - - -

allow-beats-deny                    y/a x/a TCP/80  + + -
allow-beats-deny                    x/a x/b TCP/80  + + +

egress-to-pod                       x/a x/b TCP/80  + + +
egress-to-pod                       x/a x/c TCP/80  - - -
egress-to-pod                       x/a y/b TCP/80  - - -
egress-to-pod                       x/b y/a TCP/80  + - -

egress-to-namespace-port            x/a y/a UDP/80  + - -
egress-to-namespace-port            x/a y/a TCP/80  - - -
egress-to-namespace-port            x/a x/b UDP/80  - - -

egress-named-port                   x/a x/b TCP/80  + + +
egress-named-port                   x/a x/b TCP/81  - - -
egress-named-port                   x/a y/b TCP/80  + - -

both-ends-must-agree                x/a y/b TCP/80  - - -
both-ends-must-agree                x/a y/b TCP/81  - - -
both-ends-must-agree                x/b y/b TCP/81  + + -

both-ends-open                      x/a y/b TCP/80  + + +
both-ends-open                      x/a y/b TCP/81  - - -
both-ends-open                      x/b y/b TCP/80  - - -
both-ends-open                      y/a y/b TCP/80  - - -

egress-open-ingress-denied          x/a y/a TCP/80  - - -
egress-open-ingress-denied          x/a z/a TCP/80  + - -

ingress-section-ignored             x/b x/a TCP/81  + + +
ingress-section-ignored             x/a x/b TCP/80  - - -
ingress-section-ignored             z/a x/a TCP/80  + - -

egress-section-ignored              x/a x/b TCP/81  + + +
egress-section-ignored              x/b x/a TCP/80  - - -

ip-block                            y/c x/a TCP/80  + + -
ip-block                            x/b x/a TCP/80  - - -
ip-block                            z/a x/a TCP/80  - - -

ip-block-except                     y/a x/a TCP/80  + + -
ip-block-except                     y/b x/a TCP/80  - - -
ip-block-except                     z/a x/a TCP/80  - - -
ip-block-except                     z/b x/a TCP/80  - - -
ip-block-except                     z/c x/a TCP/80  + + -
ip-block-except                     x/b x/a TCP/80  + + +

ip-block-except-is-no-deny          y/b x/a TCP/80  + + -
ip-block-except-is-no-deny          y/a x/a TCP/80  + + -
ip-block-except-is-no-deny          z/a x/a TCP/80  - - -

ip-block-egress                     x/a y/b TCP/80  + - -
ip-block-egress                     x/a y/a TCP/80  - - -
ip-block-egress                     x/a x/b TCP/80  - - -

ip-block-egress-except              x/a y/a TCP/80  - - -
ip-block-egress-except              x/a x/b TCP/80  + + +
ip-block-egress-except              x/a z/a TCP/80  + - -

ip-block-or-pod                     z/c x/a UDP/81  + + -
ip-block-or-pod                     x/c x/a UDP/81  + + +
ip-block-or-pod                     x/b x/a UDP/81  - - -
ip-block-or-pod                     z/c x/a TCP/81  - - -
";

fn cluster(isolation: Isolation, policies: &str) -> Cluster {
    Cluster::from_yaml(&lab::manifest(isolation, policies))
        .unwrap()
        .with_addresses(&lab::addresses())
}

#[test]
fn every_cell() {
    let modes = [Isolation::None, Isolation::Ingress, Isolation::Full];
    let mut judged = BTreeSet::new();
    for line in CELLS.lines().filter(|line| !line.is_empty()) {
        let [name, from, to, probe, verdicts @ ..] =
            &line.split_whitespace().collect::<Vec<_>>()[..]
        else {
            panic!("malformed line: {line}");
        };
        let (protocol, port) = probe.split_once('/').unwrap();
        let protocol = if protocol == "TCP" { Protocol::Tcp } else { Protocol::Udp };
        let case = cases::find(name).unwrap_or_else(|| panic!("no case {name}"));
        assert_eq!(verdicts.len(), modes.len(), "{line}");
        for (mode, expected) in modes.into_iter().zip(verdicts) {
            let verdict = cluster(mode, case.policies)
                .verdict(from, to, protocol, port.parse().unwrap())
                .unwrap();
            assert_eq!(if verdict { "+" } else { "-" }, *expected, "isolation {mode}: {line}");
        }
        judged.insert(*name);
    }
    let unjudged: Vec<_> =
        cases::ALL.iter().map(|case| case.name).filter(|name| !judged.contains(name)).collect();
    assert!(unjudged.is_empty(), "cases without a hand-computed cell: {unjudged:?}");
}

#[test]
fn the_table_lists_the_files() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("cases");
    let files: BTreeSet<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    let names: BTreeSet<_> = cases::ALL.iter().map(|case| case.name.to_owned()).collect();
    assert_eq!(files, names);
    assert_eq!(names.len(), cases::ALL.len(), "a case is listed twice");
}

#[test]
fn the_table_as_csv() {
    let yaml = lab::manifest(Isolation::Full, cases::find("ingress-udp").unwrap().policies);
    // Two namespaces of one pod each and x/b are enough to see the format; `z` and the other pods are cut away.
    let kept: Vec<_> = yaml
        .split("---\n")
        .filter(|document| {
            !document.contains("kind: Pod\n")
                || ["10.244.1.2", "10.244.1.3", "10.244.2.2"].iter().any(|ip| document.contains(ip))
        })
        .collect();
    let cluster = Cluster::from_yaml(&kept.join("---\n")).unwrap();
    let probes =
        [Probe { protocol: Protocol::Udp, port: 81 }, Probe { protocol: Protocol::Tcp, port: 80 }];
    let expected = "\
from,to,proto,port,verdict
x/a,x/b,TCP,80,allow
x/a,x/b,UDP,81,allow
x/a,y/a,TCP,80,deny
x/a,y/a,UDP,81,deny
x/b,x/a,TCP,80,deny
x/b,x/a,UDP,81,allow
x/b,y/a,TCP,80,deny
x/b,y/a,UDP,81,deny
y/a,x/a,TCP,80,deny
y/a,x/a,UDP,81,deny
y/a,x/b,TCP,80,deny
y/a,x/b,UDP,81,deny
";
    assert_eq!(truth_table(&cluster, &probes).unwrap(), expected);
}

/// The same port name is another number on another pod: the name is looked up on the pod that is connected to, in both
/// directions.
#[test]
fn a_named_port_is_the_destinations() {
    let policy = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: by-name, namespace: x}
spec:
  podSelector: {}
  policyTypes: [Ingress, Egress]
  ingress: [{ports: [{port: serve-80-tcp}]}]
  egress: [{ports: [{port: serve-80-tcp}]}]
";
    let yaml = lab::manifest(Isolation::None, policy);
    // x/b calls its port 81 what the others call their port 80.
    let documents: Vec<_> = yaml
        .split("---\n")
        .map(|document| match document.contains("10.244.1.3") {
            true => document
                .replace("serve-81-tcp", "other")
                .replace("serve-80-tcp", "serve-81-tcp")
                .replace("other", "serve-80-tcp"),
            false => document.to_owned(),
        })
        .collect();
    let cluster = Cluster::from_yaml(&documents.join("---\n")).unwrap();
    let verdict = |from, to, port| cluster.verdict(from, to, Protocol::Tcp, port).unwrap();
    assert!(verdict("x/b", "x/a", 80) && !verdict("x/b", "x/a", 81));
    assert!(verdict("x/a", "x/b", 81) && !verdict("x/a", "x/b", 80));
}

#[test]
fn what_the_oracle_refuses() {
    let policy = |spec: &str| {
        format!(
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: p, namespace: x}}\nspec: {spec}\n"
        )
    };
    let refused: BTreeMap<&str, String> = [
        ("misspelt selector", policy("{podSelectr: {}}")),
        ("no selector", policy("{policyTypes: [Ingress]}")),
        ("misspelt rule", policy("{podSelector: {}, ingress: [{form: []}]}")),
        ("`to` in ingress", policy("{podSelector: {}, ingress: [{to: []}]}")),
        ("peer of nothing", policy("{podSelector: {}, ingress: [{from: [{}]}]}")),
        ("ipBlock and selector", policy("{podSelector: {}, ingress: [{from: [{podSelector: {}, ipBlock: {cidr: 10.0.0.0/8}}]}]}")),
        ("except outside", policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [11.0.0.0/16]}}]}]}")),
        ("except is all of it", policy("{podSelector: {}, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.0.0.0/8]}}]}]}")),
        ("port 0", policy("{podSelector: {}, ingress: [{ports: [{port: 0}]}]}")),
        ("port 70000", policy("{podSelector: {}, ingress: [{ports: [{port: 70000}]}]}")),
        ("endPort without port", policy("{podSelector: {}, ingress: [{ports: [{endPort: 80}]}]}")),
        ("endPort with a name", policy("{podSelector: {}, ingress: [{ports: [{port: http, endPort: 80}]}]}")),
        ("endPort below port", policy("{podSelector: {}, ingress: [{ports: [{port: 81, endPort: 80}]}]}")),
        ("unknown protocol", policy("{podSelector: {}, ingress: [{ports: [{protocol: tcp}]}]}")),
        ("unknown type", policy("{podSelector: {}, policyTypes: [ingress]}")),
        ("unknown namespace", policy("{podSelector: {}}").replace("namespace: x", "namespace: nowhere")),
        ("unknown kind", "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: x}\n".to_owned()),
        ("twice", policy("{podSelector: {}}") + "---\n" + &policy("{podSelector: {}}")),
    ]
    .into();
    for (what, yaml) in refused {
        assert!(
            Cluster::from_yaml(&lab::manifest(Isolation::None, &yaml)).is_err(),
            "{what} was accepted"
        );
    }
    let lab = cluster(Isolation::None, "");
    assert!(lab.verdict("x/a", "x/nobody", Protocol::Tcp, 80).is_err());
    let without_addresses = Cluster::from_yaml(&lab::manifest(
        Isolation::None,
        cases::find("ip-block").unwrap().policies,
    ))
    .unwrap();
    assert!(
        without_addresses.verdict("y/a", "x/a", Protocol::Tcp, 80).is_err(),
        "an ipBlock was judged without addresses"
    );
    assert!(Cluster::from_yaml("a: [").is_err());
    assert!(Cluster::from_yaml("").is_err(), "no SupervisorCluster");
}
