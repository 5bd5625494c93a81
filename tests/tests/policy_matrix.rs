//! The program's reachability matrix against the oracle of `tests/oracle`: every named case in every isolation mode, and random
//! policies. The program sends real first packets through its engine; the oracle only reads the policies. Where they differ, one
//! of them is wrong.
//!
//! `TIERLAB_POLICY_CASES` is how many random labs are tried (64 unless told), `TIERLAB_POLICY_SEED` where they begin. A failure
//! prints the smallest lab it could find, ready for `tierlab matrix -f`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::fmt::{self, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use oracle::{Cluster, Isolation, cases, lab, random, truth_table};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestRunner};
use tierlab_tests::{Finished, run, tierlab};

/// `lab::probes` as the program takes them.
const PORTS: &str = "tcp/80,tcp/81,udp/80,udp/81";
/// Far more than 288 probes take.
const LIMIT: Duration = Duration::from_secs(120);

/// Runs `tierlab matrix` on a manifest in a directory of its own.
fn matrix(directory: &Path, manifest: &str, more: &[&str]) -> Result<Finished, String> {
    let file = directory.join("lab.yaml");
    std::fs::write(&file, manifest).map_err(|error| error.to_string())?;
    let mut command = Command::new(tierlab()?);
    command
        .current_dir(directory)
        .arg("matrix")
        .arg("-f")
        .arg(&file)
        .args(["--ports", PORTS])
        .args(more);
    run(&mut command, LIMIT)
}

/// The program's table of a manifest.
fn programs_table(manifest: &str) -> Result<String, String> {
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    matrix(directory.path(), manifest, &["-o", "csv"])?.success()
}

/// The oracle's table of a manifest.
fn oracles_table(manifest: &str) -> Result<String, String> {
    let cluster = Cluster::from_yaml(manifest)
        .map_err(|error| error.to_string())?
        .with_addresses(&lab::addresses());
    truth_table(&cluster, &lab::probes()).map_err(|error| error.to_string())
}

/// Compares the two tables line by line, header and order included.
fn compare(manifest: &str) -> Result<(), String> {
    let (program, oracle) = (programs_table(manifest)?, oracles_table(manifest)?);
    if program == oracle {
        return Ok(());
    }
    let mut message = String::new();
    for line in oracle.lines().filter(|line| !program.lines().any(|other| other == *line)) {
        writeln!(message, "  only the oracle says   {line}").unwrap();
    }
    for line in program.lines().filter(|line| !oracle.lines().any(|other| other == *line)) {
        writeln!(message, "  only the program says  {line}").unwrap();
    }
    if message.is_empty() {
        message = format!("  the same lines in another order or number:\n{program}");
    }
    Err(message)
}

/// Does `work` for 0..count on as many threads as the machine has cores, and returns what failed, in order.
fn in_parallel(count: usize, work: impl Fn(usize) -> Result<(), String> + Sync) -> Vec<String> {
    let next = AtomicUsize::new(0);
    let (failed, failures) = mpsc::channel();
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            let (failed, next, work) = (failed.clone(), &next, &work);
            scope.spawn(move || {
                loop {
                    let index = next.fetch_add(1, Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    if let Err(message) = work(index) {
                        failed.send((index, message)).expect("the receiver outlives the threads");
                    }
                }
            });
        }
    });
    drop(failed);
    let mut failures: Vec<_> = failures.into_iter().collect();
    failures.sort();
    failures.into_iter().map(|(_, message)| message).collect()
}

#[test]
fn every_case_in_every_isolation_mode() {
    tierlab().unwrap_or_else(|error| panic!("{error}"));
    let all: Vec<_> =
        cases::ALL.iter().flat_map(|case| Isolation::ALL.map(|mode| (case, mode))).collect();
    let failures = in_parallel(all.len(), |index| {
        let (case, mode) = all[index];
        let compared = compare(&lab::manifest(mode, case.policies));
        compared.map_err(|message| format!("{} with isolation {mode}:\n{message}", case.name))
    });
    assert!(
        failures.is_empty(),
        "{} of {} tables differ\n{}",
        failures.len(),
        all.len(),
        failures.join("\n")
    );
}

/// A manifest that a failing test prints as the file it is.
#[derive(Clone)]
struct Lab(String);

impl fmt::Debug for Lab {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

#[test]
fn random_policies() {
    tierlab().unwrap_or_else(|error| panic!("{error}"));
    let number = |name: &str, default| match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    };
    let config = Config {
        cases: u32::try_from(number("TIERLAB_POLICY_CASES", 64))
            .expect("TIERLAB_POLICY_CASES fits 32 bits"),
        // The same labs in every run, so that CI fails for what a change did and not for luck.
        rng_seed: RngSeed::Fixed(number("TIERLAB_POLICY_SEED", 1)),
        failure_persistence: None,
        max_shrink_iters: 256,
        ..Config::default()
    };
    let labs = random::manifest().prop_map(Lab);
    let outcome =
        TestRunner::new(config).run(&labs, |lab| compare(&lab.0).map_err(TestCaseError::fail));
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// `--expect` is how users run this test on labs of their own.
#[test]
fn expect_accepts_the_oracles_table_and_names_a_wrong_row() {
    let directory = tempfile::tempdir().unwrap();
    let manifest = lab::manifest(Isolation::Ingress, cases::find("ingress-port").unwrap().policies);
    let expected = directory.path().join("expected.csv");
    let table = oracles_table(&manifest).unwrap();
    let check = |table: &str| {
        std::fs::write(&expected, table).unwrap();
        matrix(directory.path(), &manifest, &["--expect", expected.to_str().unwrap(), "-o", "csv"])
            .unwrap()
    };
    let agreed = check(&table);
    assert!(agreed.status.success(), "{}{}", agreed.stdout, agreed.stderr);

    let row = "y/a,x/a,TCP,81";
    assert!(table.contains(&format!("{row},deny\n")));
    let differs = check(&table.replace(&format!("{row},deny"), &format!("{row},allow")));
    assert_eq!(differs.status.code(), Some(1), "{}{}", differs.stdout, differs.stderr);
    assert!(differs.stdout.contains(row), "the differing row is not named:\n{}", differs.stdout);
    assert!(
        !differs.stdout.contains("y/a,x/a,TCP,80"),
        "a row that agrees is named:\n{}",
        differs.stdout
    );
}
