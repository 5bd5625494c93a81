//! Where definitions come from: files, directories, standard input, lists, JSON; and the allocations of a lab that has run before.

use serde_json::{Value, json};

use crate::support::{Desk, fields};

/// A supervisor with a namespace `a`, and in it pods of these names.
fn lab(pods: &[&str]) -> String {
    let pods: String = pods
        .iter()
        .map(|name| {
            format!("---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: a}}\nspec: {{containers: [{{name: c, image: i}}]}}\n")
        })
        .collect();
    format!(
        "kind: SupervisorCluster\nmetadata: {{name: s}}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: a}}\n{pods}"
    )
}

/// Names and addresses of pods, of `get pods` with these arguments.
fn pods(desk: &Desk, arguments: &[&str]) -> Vec<String> {
    let text = desk.ok(&[&["get", "pods", "-o", "json"], arguments].concat());
    let rows: Value = serde_json::from_str(&text).unwrap();
    rows.as_array()
        .unwrap()
        .iter()
        .map(|row| fields(row, &["name", "addresses"]).join(" "))
        .collect()
}

const P_AND_Q: [&str; 2] = ["p 10.244.0.18", "q 10.244.0.19"];

#[test]
fn files_directories_and_standard_input() {
    let desk = Desk::with(lab(&["p"]));
    let q = "apiVersion: v1\nkind: Pod\nmetadata: {name: q, namespace: a}\nspec: {containers: [{name: c, image: i}]}\n";
    desk.write("more/deep/q.yml", q);
    // What is no definition by its name is not read.
    desk.write("more/README.md", "# not YAML: [");
    for arguments in [
        &["-f", "lab.yaml", "-f", "more"][..],
        &["-f", "more", "-f", "lab.yaml"],
        &["-f", "lab.yaml", "more/deep/q.yml"],
        &["--file", "lab.yaml", "--file", "more/deep"],
        &["-f", "."],
        // Given twice, read once.
        &["-f", ".", "-f", "lab.yaml"],
        // A file that is named is read, whatever its name.
        &["-f", "lab.yaml", "-f", "./more/deep/../deep/q.yml"],
    ] {
        assert_eq!(pods(&desk, arguments), P_AND_Q, "{arguments:?}");
    }
    let done = desk.run_in_shell(
        "",
        "< more/deep/q.yml",
        &["get", "pods", "-o", "csv", "-f", "lab.yaml", "-f", "-"],
    );
    assert!(done.status.success(), "{}", done.stderr);
    assert_eq!(done.stdout.lines().count(), 3, "{}", done.stdout);

    // Messages name standard input.
    desk.write("bad.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: P}\n");
    let done = desk.run_in_shell("", "< bad.yaml", &["validate", "-f", "-"]);
    assert_eq!(done.status.code(), Some(2));
    assert!(done.stderr.starts_with("<stdin>:3: Pod default/P: "), "{}", done.stderr);
}

#[test]
fn lists_and_json() {
    let pod = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "a"},
               "spec": {"containers": [{"name": "c", "image": "i"}]}})
    };
    let start = lab(&[]);
    for (name, text) in [
        ("list.json", json!({"apiVersion": "v1", "kind": "List", "items": [pod("q"), pod("p")]}).to_string()),
        ("typed.json", json!({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": ""}, "items": [pod("q"), pod("p")]}).to_string()),
        ("pretty.json", serde_json::to_string_pretty(&json!({"apiVersion": "v1", "kind": "List", "items": [pod("q"), pod("p")]})).unwrap()),
        ("list.yaml", "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: q, namespace: a}, spec: {}}\n- {apiVersion: v1, kind: Pod, metadata: {name: p, namespace: a}, spec: {}}\n".to_owned()),
        ("crlf.yaml", "apiVersion: v1\r\nkind: Pod\r\nmetadata: {name: q, namespace: a}\r\nspec: {}\r\n---\r\napiVersion: v1\r\nkind: Pod\r\nmetadata: {name: p, namespace: a}\r\nspec: {}\r\n".to_owned()),
        ("bom.yaml", format!("\u{feff}{}---\n{}", pod("q"), "{\"apiVersion\": \"v1\", \"kind\": \"Pod\", \"metadata\": {\"name\": \"p\", \"namespace\": \"a\"}, \"spec\": {}}\n")),
    ] {
        let desk = Desk::with(&start);
        desk.write(name, text.replace("}---", "}\n---"));
        assert_eq!(pods(&desk, &["-f", "lab.yaml", "-f", name]), P_AND_Q, "{name}");
    }
    // A fault in a list is at its own line.
    let desk = Desk::with(start);
    desk.write("list.yaml", "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Pod\n  metadata:\n    name: P\n");
    let said = desk.fails(2, &["validate", "-f", "lab.yaml", "-f", "list.yaml"]);
    assert!(said.starts_with("list.yaml:7: Pod default/P: "), "{said}");
}

#[test]
fn what_is_not_emulated_gives_a_notice_and_no_error() {
    let desk = Desk::with(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: p}\n---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: r}\n---\napiVersion: example.com/v1\nkind: Pod\nmetadata: {name: x}\n",
    );
    let done = desk.run(&["validate", "-f", "lab.yaml"]);
    assert_eq!(done.status.code(), Some(0));
    let lines: Vec<&str> = done.stderr.lines().collect();
    assert_eq!(lines.len(), 3, "{}", done.stderr);
    assert!(lines[0].starts_with("lab.yaml:1: PersistentVolumeClaim p: skipped"), "{}", lines[0]);
    assert!(lines[1].starts_with("lab.yaml:5: ClusterRole r: skipped"), "{}", lines[1]);
    assert!(
        lines[2].starts_with("lab.yaml:9: Pod") && lines[2].contains("skipped"),
        "{}",
        lines[2]
    );
}

#[test]
fn allocations_are_kept_where_a_lab_has_run_and_fresh_elsewhere() {
    // With nothing attached, `up` needs no rights.
    let desk = Desk::with(lab(&["p", "q"]));
    desk.ok(&["up", "-f", "lab.yaml", "--duration", "1"]);
    let kept = desk.read(".tierlab/allocations.yaml");
    assert_eq!(pods(&desk, &["-f", "lab.yaml"]), P_AND_Q);

    // `a` sorts first, and yet the others keep what they have; without the file it comes first.
    desk.write("lab.yaml", lab(&["a", "p", "q"]));
    assert_eq!(
        pods(&desk, &["-f", "lab.yaml"]),
        ["a 10.244.0.20", "p 10.244.0.18", "q 10.244.0.19"]
    );
    let fresh = ["a 10.244.0.18", "p 10.244.0.19", "q 10.244.0.20"];
    assert_eq!(pods(&desk, &["-f", "lab.yaml", "--state", "elsewhere"]), fresh);
    assert_eq!(pods(&Desk::with(lab(&["a", "p", "q"])), &["-f", "lab.yaml"]), fresh);

    // What an object that is gone had is free again, and only `up` writes the file.
    desk.write("lab.yaml", lab(&["a", "q"]));
    assert_eq!(pods(&desk, &["-f", "lab.yaml"]), ["a 10.244.0.18", "q 10.244.0.19"]);
    assert_eq!(desk.read(".tierlab/allocations.yaml"), kept);
    assert!(!desk.path().join("elsewhere").exists());
    desk.ok(&["up", "-f", "lab.yaml", "--duration", "1"]);
    assert_ne!(desk.read(".tierlab/allocations.yaml"), kept);

    // Packet tests are hermetic: they do not see it.
    desk.write("lab.yaml", lab(&["a", "p", "q"]) + "---\nkind: PacketTest\nmetadata: {name: t}\nspec:\n  steps:\n  - send: {from: pod/a/a, udp: {to: \"10.244.0.19:9\", payload: x}}\n  - expect: {at: pod/a/p, udp: {payload: x}}\n");
    desk.ok(&["test", "lab.yaml"]);
}

#[test]
fn a_damaged_file_of_allocations_is_refused_or_costs_only_kept_addresses() {
    let desk = Desk::with(lab(&["p", "q"]));
    // An address of somebody else's pool, one address twice, an object that is gone.
    desk.write(
        ".tierlab/allocations.yaml",
        "version: 1\npods: {a/p: 192.0.2.1, a/q: 10.244.0.18, a/gone: 10.244.0.18}\nblocks: {a/0: 10.244.0.16/28}\n",
    );
    assert_eq!(pods(&desk, &["-f", "lab.yaml"]), ["p 10.244.0.19", "q 10.244.0.18"]);
    for text in ["version: 99\n", "version: 1\nfrob: {}\n", "[", "\u{1b}[31m"] {
        desk.write(".tierlab/allocations.yaml", text);
        let said = desk.fails(2, &["get", "pods", "-f", "lab.yaml"]);
        assert!(said.contains(".tierlab/allocations.yaml"), "{text:?}: {said}");
        assert!(!said.contains('\u{1b}'), "{said:?}");
    }
}
