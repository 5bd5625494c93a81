//! Issue 3, proof 4: the same frames through tierlab and through Linux, what arrives compared field by field.
//!
//! Linux is two routers in network namespaces with nftables rules that say what `lab.yaml` says;
//! tierlab is `tierlab replay`. Every difference stands in the table of docs/linux.md with its reason: one
//! that does not fails the test, and so does a row that is no longer true.
//!
//! Needs root, network namespaces, nftables in the kernel, and the programs that `linux.rs` lists.
//! Without them it says loudly that it was skipped, and passes; with `CI=true` or
//! `TIERLAB_REQUIRE_PRIVILEGED=1` it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "linux_differential/difference.rs"]
mod difference;
#[path = "linux_differential/linux.rs"]
mod linux;
#[path = "linux_differential/nat.rs"]
mod nat;
#[path = "linux_differential/packet.rs"]
mod packet;
#[path = "linux_differential/scenarios.rs"]
mod scenarios;
#[path = "linux_differential/simulated.rs"]
mod simulated;
#[path = "linux_differential/wire.rs"]
mod wire;

use std::collections::BTreeSet;

use difference::{compare, explained, unaccounted};
use linux::{Linux, privileged};
use scenarios::Scenario;
use simulated::Simulated;
use wire::{Step, Talk, Wire};

fn document() -> String {
    std::fs::read_to_string(tierlab_tests::root().join("docs/linux.md")).unwrap()
}

fn play(wire: &mut dyn Wire, scenario: &Scenario) -> (Vec<Step>, Option<String>) {
    let mut talk = Talk::new(wire, scenario.name);
    let _ended_early = (scenario.play)(&mut talk);
    (talk.steps, talk.surprise)
}

#[test]
fn linux_and_tierlab_differ_only_where_the_document_says() {
    if !privileged("linux_and_tierlab_differ_only_where_the_document_says") {
        return;
    }
    let mut linux = Linux::new();
    let mut tierlab = Simulated::new();
    let (mut found, mut wrong) = (BTreeSet::new(), Vec::new());
    for scenario in scenarios::all() {
        let (there, surprise) = play(&mut linux, &scenario);
        wrong.extend(surprise);
        let (here, _) = play(&mut tierlab, &scenario);
        found.extend(compare(scenario.name, &there, &here));
    }
    wrong.extend(unaccounted(&found, &explained(&document())));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Needs no rights: names in the document are those of the scenarios, and the other way round.
#[test]
fn the_document_names_the_scenarios() {
    let document = document();
    let names: BTreeSet<&str> = scenarios::all().iter().map(|scenario| scenario.name).collect();
    assert_eq!(names.len(), scenarios::all().len(), "a name is used twice");
    for row in explained(&document) {
        let name = row.0.scenario.as_str();
        assert!(names.contains(name), "docs/linux.md: no scenario {name}");
    }
    for name in names {
        assert!(document.contains(&format!("`{name}`")), "docs/linux.md does not name {name}");
    }
}
