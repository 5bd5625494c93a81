//! Changes to what was loaded, as `kubectl apply` and `kubectl delete` make them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use definitions::model::{ObjectName, Source};
use definitions::{Change, Effect, Input, Loaded, ObjectRef, kind_named, load};

const LAB: &str = "\
apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: v1
kind: Pod
metadata: {name: front, namespace: shop, labels: {app: front}}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}
---
kind: PacketTest
metadata: {name: of-front}
spec: {steps: [{send: {from: pod/shop/front, icmp: {to: 192.0.2.1}}}]}
";

fn lab() -> Loaded {
    load(&[Input::text("lab.yaml", LAB)]).unwrap()
}

fn apply(text: &str) -> Change {
    Change::apply(&[Input::text("new.yaml", text)]).unwrap()
}

fn object(kind: &str, namespace: Option<&str>, name: &str) -> ObjectRef {
    ObjectRef {
        kind: kind.to_owned(),
        namespace: namespace.map(str::to_owned),
        name: name.to_owned(),
    }
}

fn delete(kind: &str, namespace: Option<&str>, name: &str) -> Result<Change, String> {
    let place = Source { file: "test.yaml".into(), line: 7 };
    Change::delete_object(&object(kind, namespace, name), place).map_err(|faults| text(&faults))
}

fn text(faults: &[definitions::Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

fn pods(loaded: &Loaded) -> Vec<String> {
    loaded.definitions.pods.keys().map(ToString::to_string).collect()
}

#[test]
fn applying_replaces_adds_and_leaves_the_rest() {
    let before = lab();
    let change = apply(
        "apiVersion: v1\nkind: Pod\nmetadata: {name: front, namespace: shop, labels: {app: other}}\n\
         spec: {containers: [{name: c, image: i}]}\n---\n\
         apiVersion: v1\nkind: Pod\nmetadata: {name: back, namespace: shop}\n\
         spec: {containers: [{name: c, image: i}]}\n",
    );
    let after = before.manifests.change(&change).unwrap();
    assert_eq!(pods(&after), ["shop/back", "shop/front", "shop/web-0", "shop/web-1"]);
    let front = &after.definitions.pods[&ObjectName::new("shop", "front")];
    assert_eq!(front.meta.labels["app"], "other");
    assert_eq!(front.meta.source.to_string(), "new.yaml:1");
    assert!(after.definitions.packet_tests.is_empty());
    assert_eq!(
        before.manifests.effects(&after.manifests),
        [
            (object("Pod", Some("shop"), "back"), Effect::Created),
            (object("Pod", Some("shop"), "front"), Effect::Configured),
        ]
    );
}

#[test]
fn a_change_gives_what_loading_the_changed_files_gives() {
    let change = apply(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, namespace: shop}\n\
         spec: {replicas: 1, selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, spec: {containers: [{name: c, image: i}]}}}\n",
    );
    let changed = lab().manifests.change(&change).unwrap();
    // Without its packet test.
    let written =
        LAB.split("---\nkind: PacketTest").next().unwrap().replace("replicas: 2", "replicas: 1");
    let loaded = load(&[Input::text("lab.yaml", written)]).unwrap();
    assert_eq!(pods(&changed), ["shop/front", "shop/web-0"]);
    assert_eq!(pods(&changed), pods(&loaded));
    assert!(loaded.manifests.effects(&changed.manifests).is_empty());
}

#[test]
fn the_same_again_changes_nothing() {
    let before = lab();
    // Written in another order and place.
    let change = apply(
        "\n\nmetadata: {labels: {app: front}, namespace: shop, name: front}\nkind: Pod\napiVersion: v1\nspec: {containers: [{image: i, name: c}]}\n",
    );
    let after = before.manifests.change(&change).unwrap();
    assert!(before.manifests.effects(&after.manifests).is_empty());
}

#[test]
fn deleting_takes_a_namespace_with_all_in_it() {
    let before = lab();
    let after = before.manifests.change(&delete("Namespace", None, "shop").unwrap()).unwrap();
    assert!(pods(&after).is_empty() && after.definitions.namespaces.is_empty());
    let effects = before.manifests.effects(&after.manifests);
    assert_eq!(effects.len(), 3);
    assert!(effects.iter().all(|(_, effect)| *effect == Effect::Deleted));
    let after = before.manifests.change(&delete("Deployment", Some("shop"), "web").unwrap());
    assert_eq!(pods(&after.unwrap()), ["shop/front"]);
    // And by the file: the namespace is gone before what lies in it, which is no fault.
    let file = Change::delete(&[Input::text("lab.yaml", LAB)]).unwrap();
    assert!(pods(&before.manifests.change(&file).unwrap()).is_empty());
}

#[test]
fn a_bad_change_says_where_and_changes_nothing() {
    let before = lab();
    for (change, expected) in [
        (
            delete("Pod", Some("shop"), "fornt"),
            "test.yaml:7: Pod shop/fornt: there is nothing of this name to delete; did you mean 'Pod shop/front'?",
        ),
        (
            delete("Pod", Some("shop"), "web-0"),
            "test.yaml:7: Pod shop/web-0: there is nothing of this name to delete",
        ),
        (
            delete("Pod", None, "front"),
            "test.yaml:7: Pod default/front: there is nothing of this name to delete",
        ),
        (
            delete("Pdo", None, "front"),
            "test.yaml:7: Pdo front: 'Pdo' is no kind that can be deleted; did you mean 'Pod'?",
        ),
        (delete("PacketTest", None, "of-front"), "'PacketTest' is no kind that can be deleted"),
        (
            delete("Namespace", Some("a"), "shop"),
            "Namespace a/shop: this kind lies in no namespace",
        ),
        (
            Ok(apply(
                "apiVersion: v1\nkind: Pod\nmetadata: {name: x, namespace: shpo}\nspec: {containers: [{name: c, image: i}]}\n",
            )),
            "new.yaml:1: Pod shpo/x: namespace 'shpo' is not defined; did you mean 'shop'?",
        ),
    ] {
        let found = match change {
            Ok(change) => text(&before.manifests.change(&change).unwrap_err()),
            Err(text) => text,
        };
        assert!(found.contains(expected), "{found}\n{expected}");
    }
    let unreadable = Change::apply(&[Input::text("new.yaml", "kind: Pod\n")]).unwrap_err();
    assert_eq!(text(&unreadable), "new.yaml:1: Pod: apiVersion is missing");
}

#[test]
fn a_notice_is_told_once() {
    let skipped = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let before = load(&[Input::text("lab.yaml", format!("{LAB}---\n{skipped}"))]).unwrap();
    assert_eq!(before.notices.len(), 1);
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";
    let after = before.manifests.change(&apply(namespace)).unwrap();
    assert!(after.notices.is_empty());
    let after = after.manifests.change(&apply(&format!("{namespace}---\n{skipped}"))).unwrap();
    assert_eq!(
        text(&after.notices),
        "new.yaml:5: ConfigMap a: skipped: v1 ConfigMap is not emulated"
    );
}

#[test]
fn kinds_are_named_as_on_kubectls_command_line() {
    for (word, kind) in [
        ("pod", Some("Pod")),
        ("PODS", Some("Pod")),
        ("po", Some("Pod")),
        ("svc", Some("Service")),
        ("endpoints", Some("Endpoints")),
        ("netpol", Some("NetworkPolicy")),
        ("networkpolicies", Some("NetworkPolicy")),
        ("SecurityPolicy", Some("SecurityPolicy")),
        ("tier0gateways", Some("Tier0Gateway")),
        ("TanzuKubernetesCluster", Some("TanzuKubernetesCluster")),
        // No part of a lab that changes.
        ("packettest", None),
        ("configmap", None),
        ("", None),
    ] {
        assert_eq!(kind_named(word), kind, "{word}");
    }
    let resource = |kind: &str| {
        ObjectRef { kind: kind.to_owned(), namespace: Some("a".to_owned()), name: "x".to_owned() }
            .resource()
    };
    assert_eq!(resource("Pod"), "pod/x");
    assert_eq!(resource("Deployment"), "deployment.apps/x");
    assert_eq!(resource("NetworkPolicy"), "networkpolicy.networking.k8s.io/x");
    assert_eq!(resource("SecurityPolicy"), "securitypolicy.nsx.vmware.com/x");
    assert_eq!(resource("Attachment"), "attachment.lab.tierlab.dev/x");
}
