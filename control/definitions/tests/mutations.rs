//! Whatever is done to a good text, loading gives definitions or messages: it never panics, and an error never has a
//! place outside of the text.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use definitions::{Input, load};
use proptest::prelude::*;

const GOOD: &str = r#"apiVersion: lab.tierlab.dev/v1alpha1
kind: SupervisorCluster
metadata: {name: s}
spec:
  hosts: [a, b]
  controlPlane: {management: {addresses: 192.168.10.45-192.168.10.49}}
  tier1: {natRules: [{action: SNAT, translated: 172.16.2.1}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: p}
spec:
  podSelector: {matchExpressions: [{key: app, operator: In, values: [web]}]}
  ingress:
  - from: [{ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16]}}]
    ports: [{port: 80, endPort: 90}]
---
apiVersion: nsx.vmware.com/v1alpha1
kind: SecurityPolicy
metadata: {name: p, labels: {lab.tierlab.dev/category: Environment}}
spec:
  priority: 10
  rules:
  - {action: reject, direction: in, appliedTo: [{podSelector: {}}], sources: [{ipBlocks: [{cidr: 10.0.0.0/8}]}], ports: [{port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: web}
spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80, targetPort: http}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
---
kind: PacketTest
metadata: {name: t}
spec:
  steps:
  - send: {from: pod/default/web-0, tcp: {to: "vip(default/web):80"}}
  - expect: {at: pod/default/web-1, save: {port: tcp.src}}
  - send: {from: vm/cp-1, udp: {to: "10.0.0.1:${port}", payload: x}}
  - advance: 1h30m
"#;

fn judged(text: &str) -> Result<(), TestCaseError> {
    if let Err(errors) = load(&[Input::text("t.yaml", text)]) {
        prop_assert!(!errors.is_empty());
        // A fault at the end of the text may be on the line after the last.
        let lines = u32::try_from(text.lines().count()).unwrap() + 2;
        for error in errors {
            prop_assert!(error.line <= lines, "{error}");
            prop_assert!(!error.message.is_empty());
        }
    }
    Ok(())
}

#[test]
fn the_text_itself_is_good() {
    assert!(load(&[Input::text("t.yaml", GOOD)]).is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn replaced_characters(edits in prop::collection::vec((0..GOOD.len(), "[ -~\n\u{e9}]{0,3}"), 1..4)) {
        let mut text: Vec<String> = GOOD.chars().map(String::from).collect();
        for (at, new) in edits {
            text[at] = new;
        }
        judged(&text.concat())?;
    }

    #[test]
    fn replaced_values(edits in prop::collection::vec((0usize..200, prop::sample::select(vec![
        "", "~", "0", "-1", "70000", "99999999999999999999", "1.5", "true", "\"80\"", "[]", "{}", "[{}]", "x", "10.0.0.0/8",
        "&a x", "*a", "!!binary aGk=", "${x}", "é",
    ])), 1..3)) {
        // Words are what stands between separators.
        let mut words: Vec<&str> = GOOD.split_inclusive([' ', ',', '}', ']', '\n']).collect();
        for (at, new) in &edits {
            let at = at % words.len();
            words[at] = new;
        }
        judged(&words.join(" "))?;
        judged(&words.concat())?;
    }

    #[test]
    fn any_text(text in "\\PC{0,200}") {
        judged(&text)?;
    }
}
