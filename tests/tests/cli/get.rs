//! `get`: every table in every format, and the same whatever the order of files.

use serde_json::Value;

use crate::support::{Desk, csv, documents, topology};

const KINDS: [&str; 13] = [
    "namespaces",
    "segments",
    "pods",
    "hosts",
    "services",
    "virtualservers",
    "nat",
    "dfw",
    "gatewayfirewall",
    "routes",
    "sessions",
    "ports",
    "drops",
];

fn get(desk: &Desk, kind: &str, format: &str, paths: &[&str]) -> String {
    let mut arguments = vec!["get", kind, "-o", format];
    for path in paths {
        arguments.extend(["-f", path]);
    }
    desk.ok(&arguments)
}

/// Where columns begin: where the header has a word after two blanks.
fn columns(header: &str) -> Vec<usize> {
    let bytes = header.as_bytes();
    (0..bytes.len())
        .filter(|&i| bytes[i] != b' ' && (i == 0 || (i >= 2 && bytes[i - 2..i] == *b"  ")))
        .collect()
}

#[test]
fn every_table_in_every_format() {
    let lab = topology("supervisor");
    let desk = Desk::new();
    for kind in KINDS {
        let json: Value = serde_json::from_str(&get(&desk, kind, "json", &[&lab])).unwrap();
        let rows = json.as_array().unwrap_or_else(|| panic!("{kind}: {json}"));
        // The articles have no gateway firewall.
        let is_empty = ["sessions", "drops", "gatewayfirewall"].contains(&kind);
        assert_eq!(rows.is_empty(), is_empty, "{kind}");
        // Every row of a table has the same fields.
        let names = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
        assert!(rows.iter().all(|row| names(row) == names(&rows[0])), "{kind}: {json}");

        let yaml: Value = serde_saphyr::from_str(&get(&desk, kind, "yaml", &[&lab])).unwrap();
        assert_eq!(yaml, json, "{kind}");

        let table = csv(&get(&desk, kind, "csv", &[&lab]));
        assert_eq!(table.len(), rows.len() + 1, "{kind}");
        assert!(table.iter().all(|row| row.len() == table[0].len()), "{kind}: {table:?}");
        assert!(
            table[0].iter().all(|name| !name.is_empty() && *name == name.to_lowercase()),
            "{kind}"
        );

        for format in ["table", "wide"] {
            let text = get(&desk, kind, format, &[&lab]);
            let lines: Vec<&str> = text.lines().collect();
            assert_eq!(lines.len(), rows.len() + 1, "{kind}:\n{text}");
            assert_eq!(lines[0], lines[0].to_uppercase(), "{kind}");
            let begin = columns(lines[0]);
            let width = if format == "wide" {
                begin.len() == table[0].len()
            } else {
                begin.len() <= table[0].len()
            };
            assert!(width, "{kind}:\n{text}");
            for line in &lines {
                assert_eq!(*line, line.trim_end(), "{kind}: blanks at the end");
                // Before a column there is space, in it something begins.
                for at in begin.iter().skip(1) {
                    assert_eq!(line.get(at - 2..*at), Some("  "), "{kind}:\n{text}");
                    assert_ne!(line.get(*at..at + 1), Some(" "), "{kind}:\n{text}");
                }
            }
        }
    }
}

#[test]
fn a_namespaces_rows_only() {
    let lab = topology("supervisor");
    for (kind, all, some) in
        [("pods", 7, 4), ("services", 28, 2), ("virtualservers", 38, 3), ("segments", 8, 1)]
    {
        let count = |more: &[&str]| {
            let line = [&["get", kind, "-o", "json", "-f", &lab], more].concat();
            let value: Value = serde_json::from_str(&Desk::new().ok(&line)).unwrap();
            value.as_array().unwrap().len()
        };
        assert_eq!((count(&[]), count(&["-n", "banking"])), (all, some), "{kind}");
    }
}

/// NCP's words for egress addresses: of namespaces and Services in `get`, all of them in `validate`'s JSON, those of what went
/// wrong in its table. A lab with such a Service is valid.
#[test]
fn statuses_of_egress_addresses() {
    let (desk, lab) = (Desk::new(), topology("egress"));
    let column = |kind: &str| -> Vec<String> {
        let table = csv(&get(&desk, kind, "csv", &[&lab]));
        let at = table[0].iter().position(|name| name == "status").unwrap();
        table[1..].iter().map(|row| row[at].clone()).collect()
    };
    let good = "IP_ALLOCATED_SUCCESSFULLY";
    assert_eq!(column("namespaces"), [good, good]);
    assert_eq!(column("services"), [good, "IP_POOL_NOT_FOUND", good]);
    let rows: Value = serde_json::from_str(&get(&desk, "services", "json", &[&lab])).unwrap();
    assert_eq!(rows[0]["snat"], "172.16.4.11");
    assert_eq!(rows[1]["snat"], Value::Null);
    assert_eq!(rows[1]["status"], "IP_POOL_NOT_FOUND");

    let text = desk.ok(&["validate", "-f", &lab]);
    assert!(
        text.ends_with(
            "\n\nOBJECT              KEY             STATUS\nService bank/vault  ncp/error.snat  IP_POOL_NOT_FOUND\n\nvalid\n"
        ),
        "{text}"
    );
    let json: Value =
        serde_json::from_str(&desk.ok(&["validate", "-f", &lab, "-o", "json"])).unwrap();
    assert_eq!(json["valid"], true);
    let statuses = json["statuses"].as_array().unwrap();
    assert_eq!(statuses.len(), 5);
    assert_eq!(
        statuses[3],
        serde_json::json!({"object": "Service bank/vault", "key": "ncp/error.snat", "value": "IP_POOL_NOT_FOUND"})
    );
    // Where nothing went wrong there is no such table.
    assert!(!desk.ok(&["validate", "-f", &topology("first-lab")]).contains("STATUS"));
}

/// `--help` says: hypervisors, control-plane VMs and external hosts.
#[test]
fn hosts_has_the_hypervisors() {
    let text = get(&Desk::new(), "hosts", "table", &[&topology("supervisor")]);
    for name in ["esx-1", "esx-4", "vm/cp-1", "host/client"] {
        assert!(text.contains(name), "{name} is not in\n{text}");
    }
}

#[test]
fn an_empty_lab() {
    let desk = Desk::with("apiVersion: v1\nkind: List\nitems: []\n");
    for kind in KINDS {
        assert_eq!(get(&desk, kind, "json", &["lab.yaml"]), "[]\n", "{kind}");
        let yaml: Value = serde_saphyr::from_str(&get(&desk, kind, "yaml", &["lab.yaml"])).unwrap();
        assert_eq!(yaml, Value::Array(Vec::new()), "{kind}");
        assert_eq!(get(&desk, kind, "csv", &["lab.yaml"]).lines().count(), 1, "{kind}");
        assert_eq!(get(&desk, kind, "table", &["lab.yaml"]).lines().count(), 1, "{kind}");
    }
}

/// The supervisor lab cut into documents.
fn supervisor() -> Vec<String> {
    ["supervisor", "physical", "dns", "system-services", "workloads"]
        .iter()
        .flat_map(|name| {
            let text = std::fs::read_to_string(topology("supervisor") + "/" + name + ".yaml");
            documents(&text.unwrap())
        })
        .collect()
}

/// Tables without the places of definitions, which no table prints.
fn tables(desk: &Desk, paths: &[&str]) -> Vec<String> {
    KINDS
        .iter()
        .flat_map(|kind| ["wide", "json"].map(|format| get(desk, kind, format, paths)))
        .collect()
}

#[test]
fn the_order_of_files_and_documents_means_nothing() {
    let documents = supervisor();
    assert!(documents.len() > 70);
    let one = Desk::with(documents.join("---\n"));
    let expected = tables(&one, &["lab.yaml"]);
    assert_eq!(tables(&one, &["lab.yaml"]), expected, "the same twice");

    let backwards: Vec<String> = documents.iter().rev().cloned().collect();
    assert_eq!(tables(&Desk::with(backwards.join("---\n")), &["lab.yaml"]), expected);

    // Every seventh document first, then the next ones, in files of their own in nested directories.
    let shuffled = Desk::new();
    for (i, document) in documents.iter().enumerate() {
        shuffled.write(format!("d{}/e/f{i}.yml", i % 7), document);
    }
    assert_eq!(tables(&shuffled, &["d6", "d3", "d0", "d1", "d5", "d2", "d4"]), expected);
}
