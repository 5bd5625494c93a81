//! Packet tests that change their lab: bad changes are wrong input, with file and line and before anything has run; failures show
//! the table as it is and what has changed.

use crate::support::Desk;

const LAB: &str = "\
kind: SupervisorCluster
metadata: {name: s}
spec: {egressCIDR: 172.16.2.0/29}
---
apiVersion: v1
kind: Namespace
metadata: {name: a}
---
apiVersion: v1
kind: Pod
metadata: {name: p, namespace: a}
spec: {containers: [{name: c, image: i}]}
---
apiVersion: v1
kind: Pod
metadata: {name: q, namespace: a}
spec: {containers: [{name: c, image: i}]}
";

/// Runs a packet test with these steps; the first stands in line 4 of `test.yaml`.
fn run(steps: &str) -> (Option<i32>, String) {
    let desk = Desk::with(LAB);
    desk.write("changes/r.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: r, namespace: a}\nspec: {containers: [{name: c, image: i}]}\n");
    desk.write(
        "changes/bad.yaml",
        "apiVersion: v1\nkind: Pod\nmetadata: {name: r, namespace: a}\nspec: {containrs: []}\n",
    );
    desk.write(
        "test.yaml",
        format!("kind: PacketTest\nmetadata: {{name: t}}\nspec: {{steps: [\n{steps}\n]}}\n"),
    );
    let done = desk.run(&["test", "test.yaml", "-f", "lab.yaml"]);
    (done.status.code(), done.stdout + &done.stderr)
}

const NEW_POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: r, namespace: a}, spec: {containers: [{name: c, image: i}]}}";

#[test]
fn manifests_are_applied_from_the_test_and_from_files_beside_it() {
    for apply in [
        format!("{{apply: {{manifests: [{NEW_POD}]}}}}"),
        "{apply: {file: changes/r.yaml}}".to_owned(),
        "{apply: {files: [./changes/../changes/r.yaml]}}".to_owned(),
    ] {
        let (code, out) = run(&format!(
            "{apply},\n{{send: {{from: pod/a/p, icmp: {{to: pod/a/r}}}}}},\n{{expect: {{at: pod/a/r, ip: {{src: pod/a/p}}, icmp: {{type: echo-request}}}}}},\n\
             {{delete: {{file: changes/r.yaml}}}},\n{{expectTable: {{sessions: [{{absent: true}}]}}}}"
        ));
        assert_eq!(code, Some(0), "{out}");
    }
}

#[test]
fn a_bad_change_is_wrong_input_before_anything_runs() {
    let one_by_one = |steps: &str, expected: &[&str]| {
        // The first step would fail if it ran.
        let (code, out) = run(&format!("{{expectTable: {{sessions: [{{count: 7}}]}}}},\n{steps}"));
        assert_eq!(code, Some(2), "{steps}\n{out}");
        for part in expected {
            assert!(out.contains(part), "'{part}' is not in\n{out}");
        }
    };
    one_by_one(
        "{apply: {manifests: [{apiVersion: v1, kind: Pod,\nmetadata: {name: r, namespace: b}, spec: {containers: [{name: c, image: i}]}}]}}",
        &["test.yaml:5: Pod b/r: namespace 'b' is not defined (in step 2 of PacketTest t)"],
    );
    one_by_one(
        "{apply: {manifests: [{apiVersion: networking.k8s.io/v1,\nkind: NetworkPolcy}]}}",
        &["test.yaml:6: NetworkPolcy: unknown kind 'NetworkPolcy' in networking.k8s.io/v1"],
    );
    one_by_one(
        "{apply: {file: changes/bad.yaml}}",
        &["changes/bad.yaml:4: Pod a/r: ", "containrs"],
    );
    one_by_one(
        "{apply: {file: changes/none.yaml}}",
        &["changes/none.yaml: cannot be read: no such file"],
    );
    one_by_one("{apply: {}}", &["test.yaml:5: PacketTest t: nothing to apply"]);
    one_by_one(
        "{delete: {kind: Pod}}",
        &["test.yaml:5: PacketTest t: an object is named by kind and name"],
    );
    one_by_one(
        "{delete: {kind: Pod, name: p, file: changes/r.yaml}}",
        &["either an object or files"],
    );
    one_by_one(
        "{delete: {kind: Pod, name: x, namespace: a}}",
        &["test.yaml:5: Pod a/x: there is nothing of this name to delete"],
    );
    one_by_one(
        "{delete: {kind: Pod, name: p, namespace: a}},\n{send: {from: pod/a/p, icmp: {to: pod/a/q}}}",
        &["test.yaml:6: PacketTest t: pod 'a/p' is not defined"],
    );
    one_by_one(
        "{send: {from: pod/a/r, icmp: {to: pod/a/q}}},\n{apply: {file: changes/r.yaml}}",
        &["test.yaml:5: PacketTest t: pod 'a/r' is not defined"],
    );
    one_by_one("{expectTable: {}}", &["no row is stated"]);
    one_by_one(
        "{expectTable: {rules: [{rule: x, absent: true, count: 2}]}}",
        &["either absent or has a count"],
    );
    // What only realization knows: the pool of egress addresses is exhausted.
    let many: Vec<String> = (0..9)
        .map(|n| format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: n{n}}}}}"))
        .collect();
    one_by_one(
        &format!("{{apply: {{manifests: [{}]}}}}", many.join(",")),
        &[
            "BAD INPUT 1  t  (2 steps, 0s virtual)",
            "test.yaml:5: PacketTest t, step 2 (apply): ",
            "egress address left",
        ],
    );
    // Words that no table has.
    let (code, out) = run("{expectTable: {sessions: [{state: open}]}}");
    assert_eq!(code, Some(2), "{out}");
    assert!(out.contains("'open' is no state of a session; there are tcp-first"), "{out}");
}

#[test]
fn a_failure_shows_the_table_and_the_changes() {
    let (code, out) = run(&format!(
        "{{apply: {{manifests: [{NEW_POD}]}}}},\n{{send: {{from: pod/a/p, udp: {{to: 'pod/a/r:53', sport: 5000}}}}}},\n{{expect: {{at: pod/a/r}}}},\n\
         {{expectTable: {{sessions: [{{initiating: {{src: pod/a/p, sport: 5001}}}}]}}}}"
    ));
    assert_eq!(code, Some(1), "{out}");
    for part in [
        "test.yaml:7: PacketTest t, step 4 (expectTable): table sessions has no such row",
        "expected a row: initiating.src 10.244.0.18, initiating.sport 5001",
        "udp       10.244.0.18     5000 ",
        "udp-first  1/0      42/0   dfw pod/a/p, dfw pod/a/r",
        "step 1: Pod a/r created",
    ] {
        assert!(out.contains(part), "'{part}' is not in\n{out}");
    }
}

#[test]
fn the_next_test_finds_the_lab_as_it_was_written() {
    let desk = Desk::with(LAB);
    desk.write(
        "test.yaml",
        "kind: PacketTest\nmetadata: {name: a-deletes}\nspec: {steps: [{delete: {kind: Pod, name: q, namespace: a}}]}\n---\n\
         kind: PacketTest\nmetadata: {name: b-uses}\nspec: {steps: [{send: {from: pod/a/p, icmp: {to: pod/a/q}}}, {expect: {at: pod/a/q}}]}\n",
    );
    for jobs in ["1", "2"] {
        let out = desk.ok(&["test", "test.yaml", "-f", "lab.yaml", "-j", jobs]);
        assert!(out.ends_with("2 passed, 0 failed\n"), "{out}");
    }
}
