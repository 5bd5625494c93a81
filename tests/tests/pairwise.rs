//! Proof by combination (reliability.md R34): {ClusterIP, VIP, hairpin, direct, ingress} x {allowed, denied} x {SNAT, not} x
//! {whole, fragmented} x {TCP, UDP, ICMP error} x {to the server, to the client} x {IPv4, IPv6}. Not pairs only: the whole
//! product, but for the combinations that mean nothing, which [`table::MEANINGLESS`] lists.
//!
//! Each combination is a conversation of its own over every path that it can take, from YAML through realization and the engine.
//! What is sent and every frame that must come out are written from scratch with etherparse from the few facts of a
//! [`table::Path`] and compared octet for octet; drops are compared by stage, reason, object and number, and nothing else may
//! appear at any port. "Denied" is both: a flow that may not begin, and one under way that is no longer allowed. "Fragmented"
//! comes in three orders; an ICMP error is then about a datagram that was in fragments.
//!
//! `cargo test -p tierlab-tests --test pairwise -- --nocapture` prints the table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "pairwise/conversation.rs"]
mod conversation;
#[path = "pairwise/lab.rs"]
mod lab;
#[path = "pairwise/table.rs"]
mod table;
#[path = "pairwise/wire.rs"]
mod wire;

use std::collections::BTreeMap;

use lab::Lab;
use table::{Cell, Family, MEANINGLESS, PATHS};

/// Why a combination means nothing.
fn meaningless(cell: &Cell) -> Option<&'static str> {
    let found =
        MEANINGLESS.iter().find(|(way, source, _)| (*way, *source) == (cell.way, cell.source));
    found.map(|(_, _, why)| *why)
}

#[test]
fn every_combination() {
    let labs: BTreeMap<Family, Lab> = Family::ALL.iter().map(|f| (*f, Lab::new(*f))).collect();
    let (mut covered, mut failures, mut conversations) = (Vec::new(), Vec::new(), 0);
    for cell in Cell::all() {
        let paths: Vec<_> =
            PATHS.iter().filter(|p| (p.way, p.source) == (cell.way, cell.source)).collect();
        assert_eq!(paths.is_empty(), meaningless(&cell).is_some(), "{cell:?}");
        for path in &paths {
            conversations += 1;
            if let Err(failure) = conversation::run(&labs[&cell.family], &cell, **path) {
                failures.push(format!("{} ({}): {failure}", cell.texts().join(", "), path.name));
            }
        }
        if !paths.is_empty() {
            covered.push(cell);
        }
    }
    print(&covered, conversations);
    let shown = failures.len().min(6);
    assert!(failures.is_empty(), "{} failed\n{}", failures.len(), failures[..shown].join("\n\n"));
    every_pair(&covered);
}

/// Each value of an axis with each value of every other, but for those that mean nothing in any combination.
fn every_pair(covered: &[Cell]) {
    let have: Vec<[&str; 7]> = covered.iter().map(|cell| cell.texts()).collect();
    for cell in Cell::all() {
        let texts = cell.texts();
        for a in 0..texts.len() {
            for b in a + 1..texts.len() {
                let is_covered = have.iter().any(|c| c[a] == texts[a] && c[b] == texts[b]);
                let excused = MEANINGLESS.iter().any(|(way, source, _)| {
                    let of_way = MEANINGLESS.iter().filter(|(other, ..)| other == way).count();
                    let whole_way =
                        of_way == 2 && (texts[a] == way.text() || texts[b] == way.text());
                    whole_way || (texts[a], texts[b]) == (way.text(), source.text())
                });
                assert!(is_covered != excused, "{} with {}: {is_covered}", texts[a], texts[b]);
            }
        }
    }
}

/// One line for each way, source and protocol; what was run of the rest.
fn print(covered: &[Cell], conversations: usize) {
    println!("{} combinations in {conversations} conversations and their orders", covered.len());
    println!(
        "{:<10} {:<8} {:<11} {:>5}  of {{policy, size, direction, family}}",
        "way", "source", "protocol", "run"
    );
    let mut lines: BTreeMap<_, usize> = BTreeMap::new();
    for cell in covered {
        *lines.entry((cell.way, cell.source, cell.protocol)).or_default() += 1;
    }
    for ((way, source, protocol), count) in lines {
        println!("{:<10} {:<8} {:<11} {count:>2}/16", way.text(), source.text(), protocol.text());
    }
    for (way, source, why) in MEANINGLESS {
        println!("{:<10} {:<8} none: {why}", way.text(), source.text());
    }
}
