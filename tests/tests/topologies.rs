//! Every lab under `topologies/` is valid, and its packet tests pass.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use tierlab_tests::{root, run, tierlab};

/// The directories under `topologies/`, sorted.
fn labs() -> Vec<PathBuf> {
    let mut labs: Vec<_> = std::fs::read_dir(root().join("topologies"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .collect();
    labs.sort();
    assert!(!labs.is_empty());
    labs
}

/// Runs `tierlab ARGUMENTS LAB` for every lab, each in a directory of its own so that no lab finds another's allocations.
fn every_lab(arguments: &[&str]) {
    let failures: Vec<_> = labs()
        .into_iter()
        .filter_map(|lab| {
            let directory = tempfile::tempdir().unwrap();
            let mut command = Command::new(tierlab().unwrap_or_else(|error| panic!("{error}")));
            command.current_dir(directory.path()).args(arguments).arg(&lab);
            let finished = run(&mut command, Duration::from_secs(120))
                .and_then(tierlab_tests::Finished::success);
            finished
                .err()
                .map(|message| format!("{} {}: {message}", arguments.join(" "), lab.display()))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn are_valid() {
    every_lab(&["validate", "-f"]);
}

#[test]
fn pass_their_packet_tests() {
    every_lab(&["test"]);
}
