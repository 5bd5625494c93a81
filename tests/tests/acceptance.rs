//! Acceptance: labs unlike those under `topologies/`, seen from outside. What must come out was computed by hand from the definitions
//! (addresses: lowest free in sorted order, pins first; packets: the session timers, RFC 1812, RFC 3704), never taken from the program.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tierlab_tests::{root, run, tierlab};

fn lab(name: &str) -> PathBuf {
    root().join("tests/tests/acceptance").join(name)
}

/// What `tierlab ARGUMENTS` prints, run in a directory of its own so that no lab finds another's allocations.
fn printed(arguments: &[&str], lab: &PathBuf) -> String {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(tierlab().unwrap_or_else(|error| panic!("{error}")));
    command.current_dir(directory.path()).args(arguments).arg(lab);
    run(&mut command, Duration::from_secs(60))
        .and_then(tierlab_tests::Finished::success)
        .unwrap_or_else(|error| {
            panic!("tierlab {} {}: {error}", arguments.join(" "), lab.display())
        })
}

/// The named columns of a table in CSV whose fields hold no commas, a line each.
fn columns(csv: &str, names: &[&str]) -> Vec<String> {
    let mut lines = csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header = lines.next().unwrap();
    let wanted: Vec<_> =
        names.iter().map(|name| header.iter().position(|field| field == name).unwrap()).collect();
    lines.map(|line| wanted.iter().map(|at| line[*at]).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn packets_take_the_ways_that_were_computed() {
    for name in ["three-uplinks", "mixed"] {
        printed(&["test"], &lab(name));
    }
}

/// The namespaces' blocks: the pinned address 172.20.64.70 of `mid/tool` takes .64/27; `alpha` has 33 pods and 29 addresses a block, so it
/// gets the lowest free one, .32/27, and the next, .96/27; `omega` gets what is left then.
#[test]
fn a_full_block_is_followed_by_the_next_free_one() {
    let pods = printed(&["get", "pods", "-o", "csv", "-f"], &lab("private-range"));
    let pods = columns(&pods, &["namespace", "name", "address", "segment", "snat"]);
    assert_eq!(pods.len(), 36);
    for row in [
        "alpha web-0 172.20.64.34 seg-alpha-0 198.51.100.18",
        "alpha web-5 172.20.64.62 seg-alpha-0 198.51.100.18",
        "alpha web-6 172.20.64.98 seg-alpha-1 198.51.100.18",
        "alpha web-9 172.20.64.101 seg-alpha-1 198.51.100.18",
        "mid tool 172.20.64.70 seg-mid-0 198.51.100.29",
        "omega db-0 172.20.64.130 seg-omega-0 198.51.100.19",
        "omega db-1 172.20.64.131 seg-omega-0 198.51.100.19",
    ] {
        assert!(pods.iter().any(|pod| pod == row), "{row} is not in\n{}", pods.join("\n"));
    }
}

/// A /22 of 1024 addresses keeps min(max(16, 1024/16), 256) = 64 of them for those who ask; .10 is asked for.
#[test]
fn service_addresses_begin_behind_the_static_band() {
    let services = printed(&["get", "services", "-o", "json", "-f"], &lab("private-range"));
    let services: Vec<serde_json::Value> = serde_json::from_str(&services).unwrap();
    let addresses: BTreeSet<_> = services
        .iter()
        .map(|s| format!("{} {} {}", s["namespace"], s["name"], s["clusterIp"]).replace('"', ""))
        .collect();
    let expected = [
        "alpha web 10.200.4.65",
        "kube-system kube-dns 10.200.4.10",
        "omega db 10.200.4.66",
        "omega heads null",
        "omega legacy 10.200.4.67",
        "omega outer null",
    ];
    assert_eq!(addresses, expected.map(str::to_owned).into());
}

/// Two pods of one Service name different ports alike; db-1 has no port `mon`; db-0 only knows of port 9100 by a range.
#[test]
fn named_ports_ranges_and_exceptions_are_judged_pod_by_pod() {
    let matrix = printed(
        &["matrix", "--ports", "tcp/5432,tcp/15432,tcp/9100", "--services", "-o", "csv", "-f"],
        &lab("private-range"),
    );
    let verdict = |from: &str, to: &str, port: u16| {
        let row = format!("{from},{to},TCP,{port},");
        let line = matrix.lines().find(|line| line.starts_with(&row));
        line.unwrap_or_else(|| panic!("{row}")).rsplit(',').next().unwrap().to_owned()
    };
    for (from, to, port, expected) in [
        ("alpha/web-0", "omega/db-0", 5432, "allow"),
        ("alpha/web-0", "omega/db-0", 15432, "deny"),
        ("alpha/web-0", "omega/db-1", 5432, "deny"),
        ("alpha/web-0", "omega/db-1", 15432, "allow"),
        // The first block of alpha is the exception of the range, the second is not.
        ("alpha/web-0", "omega/db-0", 9100, "deny"),
        ("alpha/web-6", "omega/db-0", 9100, "allow"),
        ("mid/tool", "omega/db-0", 9100, "allow"),
        ("mid/tool", "svc:omega/db", 9100, "allow"),
        ("mid/tool", "svc:omega/db", 5432, "deny"),
        ("omega/db-1", "omega/db-0", 5432, "deny"),
    ] {
        assert_eq!(verdict(from, to, port), expected, "{from} to {to} port {port}");
    }
}

/// `isolation: full` without NAT: nothing crosses a namespace's border but what `green/g` lets out of `green/p`. It lets `red/q` in, too,
/// but `red` lets nobody out.
#[test]
fn full_isolation_opens_only_where_a_policy_says_so() {
    let matrix = printed(
        &["matrix", "--ports", "tcp/80,udp/53", "--services", "--ext", "h", "-o", "csv", "-f"],
        &lab("no-nat"),
    );
    let allowed: Vec<_> = matrix.lines().filter(|line| line.ends_with(",allow")).collect();
    let expected = [
        "green/p,ext:10.63.0.5,TCP,80,allow",
        "red/p,red/q,TCP,80,allow",
        "red/p,red/q,UDP,53,allow",
        "red/q,red/p,TCP,80,allow",
        "red/q,red/p,UDP,53,allow",
    ];
    assert_eq!(allowed, expected);
    // Four pods and a client each to everybody else but themselves, and to the Service; twice two ports. Header.
    assert_eq!(matrix.lines().count(), 1 + (4 * (3 + 1 + 1) + (4 + 1)) * 2);
}

/// The lab was changed while it was down: m/b is gone; a, m/a, m/c and a/aa are new.
#[test]
fn what_lives_keeps_its_addresses_and_what_is_new_gets_the_lowest_free() {
    let state = tempfile::tempdir().unwrap();
    std::fs::copy(lab("kept/allocations.yaml"), state.path().join("allocations.yaml")).unwrap();
    let state = state.path().to_str().unwrap();
    let get =
        |kind| printed(&["get", kind, "--state", state, "-o", "csv", "-f"], &lab("kept/lab.yaml"));
    assert_eq!(
        columns(&get("pods"), &["namespace", "name", "address", "mac", "snat"]),
        [
            "a z 10.244.0.50 04:50:56:00:d0:03 172.16.2.4",
            "m a 10.244.0.18 04:50:56:00:d0:06 172.16.2.2",
            "m c 10.244.0.20 04:50:56:00:d0:07 172.16.2.2",
            "m d 10.244.0.19 04:50:56:00:d0:04 172.16.2.2",
            "s x 10.244.0.34 04:50:56:00:d0:05 172.16.2.3",
        ]
    );
    assert_eq!(
        columns(&get("services"), &["namespace", "name", "cluster-ip", "external-ip"]),
        ["a aa 10.96.0.34 172.16.1.2", "s q 10.96.0.33 172.16.1.1"]
    );
}
