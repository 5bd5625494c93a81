//! `bench`: its arguments, its JSON, its comparison, and each of its works on a few flows. No figure is looked at: what is
//! checked is that the work was done, and that what cannot be done is said.

use serde_json::Value;

use crate::support::{Desk, topology};

const QUICK: [&str; 4] = ["--flows", "64", "--duration", "0.01"];

fn bench(desk: &Desk, more: &[&str]) -> Value {
    let all = [&["bench"], more, &QUICK, &["-o", "json"]].concat();
    serde_json::from_str(&desk.ok(&all)).unwrap()
}

fn works(report: &Value) -> Vec<&str> {
    report["rows"].as_array().unwrap().iter().map(|row| row["work"].as_str().unwrap()).collect()
}

#[test]
fn every_work_is_done_and_checked() {
    let report = bench(&Desk::new(), &[]);
    assert_eq!(report["schema"], "tierlab-bench/1");
    assert_eq!(works(&report), ["l2", "route", "dfw", "snat", "dlb", "slb", "chain"]);
    assert_eq!(report["skipped"], Value::Array(Vec::new()));
    for row in report["rows"].as_array().unwrap() {
        assert_eq!(row["flows"], 64, "{row}");
        // Both directions of every flow, before and after.
        assert_eq!(row["verified_frames"], 256, "{row}");
        assert!(row["mpps"].as_f64().unwrap() > 0.0, "{row}");
        assert!(row["ns_per_packet"].as_f64().unwrap() > 0.0, "{row}");
        let latency = &row["latency_ns"];
        let percentile = |name: &str| latency[name].as_f64().unwrap();
        assert!(percentile("p50") <= percentile("p99"), "{row}");
        assert!(percentile("p99") <= percentile("p99_9"), "{row}");
        assert_eq!(row["ratio"], Value::Null, "{row}");
        // Too few to be weighed.
        assert_eq!(row["memory_per_flow_bytes"], Value::Null, "{row}");
    }
}

#[test]
fn sizes_extras_and_workers() {
    let desk = Desk::new();
    for size in ["512", "1518", "imix"] {
        let report = bench(&desk, &["chain", "--size", size]);
        assert_eq!(report["rows"][0]["size"], size);
        assert_eq!(report["rows"][0]["verified_frames"], 256);
    }
    let extras = ["slb", "--rules", "100", "--services", "50", "--routes", "200", "--workers", "2"];
    let row = &bench(&desk, &extras)["rows"][0];
    assert_eq!(
        (&row["rules"], &row["services"], &row["routes"]),
        (&100.into(), &50.into(), &200.into())
    );
    assert_eq!(row["mpps_per_worker"].as_array().unwrap().len(), 2);
    assert_eq!(row["verified_frames"], 256);
}

#[test]
fn ipv6_as_far_as_it_goes() {
    let report = bench(&Desk::new(), &["--ipv6"]);
    assert_eq!(works(&report), ["l2", "route", "dfw"]);
    let row = &report["rows"][0];
    assert_eq!((&row["ipv6"], &row["verified_frames"]), (&true.into(), &256.into()));
}

#[test]
fn flows_that_begin_and_a_network_that_changes() {
    let desk = Desk::new();
    let row = &bench(&desk, &["chain", "--new-sessions"])["rows"][0];
    assert_eq!(row["new_sessions"], true);
    assert!(row["sessions_per_second"].as_f64().unwrap() > 0.0);
    assert_eq!(row["zero_loss"], Value::Null);
    let all = [
        "bench",
        "chain",
        "--flows",
        "64",
        "--duration",
        "0.5",
        "--changes-per-second",
        "50",
        "-o",
        "json",
    ];
    let report: Value = serde_json::from_str(&desk.ok(&all)).unwrap();
    let row = &report["rows"][0];
    assert!(row["changes"].as_u64().unwrap() > 0, "{row}");
    assert!(row["undisturbed_mpps"].as_f64().unwrap() > 0.0, "{row}");
    assert_eq!(row["verified_frames"], 256, "{row}");
}

#[test]
fn any_lab_can_be_measured_as_far_as_it_goes() {
    let lab = topology("supervisor");
    let report = bench(&Desk::new(), &["-f", &lab]);
    assert_eq!(works(&report), ["l2", "route", "dfw", "snat", "dlb", "slb", "chain"]);
    // The first lab has no service.
    let first = topology("first-lab");
    let report = bench(&Desk::new(), &["-f", &first]);
    assert_eq!(works(&report), ["l2", "route", "dfw", "snat", "chain"]);
    let skipped: Vec<&str> =
        report["skipped"].as_array().unwrap().iter().map(|s| s["work"].as_str().unwrap()).collect();
    assert_eq!(skipped, ["dlb", "slb"]);
    let said = Desk::new().fails(2, &["bench", "slb", "-f", &first]);
    assert!(said.contains("'slb' cannot be measured here"), "{said}");
    assert!(said.contains("LoadBalancer"), "{said}");
}

#[test]
fn a_lab_without_anybody_says_what_is_missing_of_each_work() {
    let desk = Desk::with(
        "kind: SupervisorCluster\nmetadata: {name: empty}\nspec: {controlPlane: {replicas: 1}}\n",
    );
    let said = desk.fails(2, &["bench", "-f", "lab.yaml"]);
    for work in ["l2", "route", "dfw", "snat", "dlb", "slb", "chain"] {
        assert!(said.contains(&format!("'{work}' cannot be measured here")), "{said}");
    }
}

#[test]
fn wrong_arguments_are_refused() {
    let desk = Desk::new();
    for (wrong, told) in [
        (&["bench", "l4"][..], "l4"),
        (&["bench", "l2", "--flows", "0"], "--flows"),
        (&["bench", "l2", "--flows", "9000000"], "--flows"),
        (&["bench", "l2", "--size", "65"], "--size"),
        (&["bench", "l2", "--workers", "0"], "--workers"),
        (&["bench", "l2", "--workers", "65"], "--workers"),
        (&["bench", "l2", "--duration", "0"], "--duration"),
        (&["bench", "l2", "--duration", "nan"], "--duration"),
        (&["bench", "l2", "--tolerance", "5"], "--compare"),
        (&["bench", "l2", "--compare", "missing.json"], "missing.json"),
        (&["bench", "l2", "--new-sessions", "--changes-per-second", "1"], "--changes-per-second"),
        (&["bench", "l2", "-f", "missing.yaml"], "missing.yaml"),
    ] {
        let said = desk.fails(2, wrong);
        assert!(said.contains(told), "{wrong:?}: {said}");
    }
}

#[test]
fn a_former_report_is_compared_with() {
    let desk = Desk::new();
    let mut report = bench(&desk, &["l2"]);
    let mut rated = |mpps: f64| {
        report["rows"][0]["mpps"] = mpps.into();
        desk.write("former.json", report.to_string());
    };
    let arguments =
        ["bench", "l2", "--compare", "former.json", "--flows", "64", "--duration", "0.01"];
    rated(1e-9);
    let table = desk.ok(&arguments);
    assert!(table.lines().next().unwrap().ends_with("RATIO"), "{table}");
    rated(1e9);
    let said = desk.fails(1, &arguments);
    assert!(said.contains("'l2' has 0.00 of the former rate"), "{said}");
    // All of it may be lost, if one says so.
    desk.ok(&[&arguments[..], &["--tolerance", "100"]].concat());
    let said = desk.fails(
        2,
        &["bench", "dfw", "--compare", "former.json", "--flows", "64", "--duration", "0.01"],
    );
    assert!(said.contains("none of these rows"), "{said}");
}

#[test]
fn a_lab_on_standard_input() {
    let desk = Desk::with(std::fs::read(format!("{}/lab.yaml", topology("bench"))).unwrap());
    let done = desk.run_in_shell(
        "",
        "< lab.yaml",
        &["bench", "-f", "-", "--flows", "64", "--duration", "0.01"],
    );
    let table = done.success().unwrap();
    assert_eq!(table.lines().count(), 8, "{table}");
}
