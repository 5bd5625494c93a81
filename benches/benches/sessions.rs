//! Flows that begin and end: opening from an empty table to a full one, and a million that expire at once.
#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark that cannot run should say why and stop"
)]

use bench::{Extras, Size, Work, generators};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::{Duration, Instant};
use tierlab_benches::Lab;

/// Flows of a full table.
const MANY: u32 = 1_000_000;

/// First packet and first answer of each flow are forwarded, through DFW and SNAT, while the table grows
/// from nothing.
fn opening(c: &mut Criterion) {
    let lab = Lab::new();
    let mut group = c.benchmark_group("new-sessions");
    group.sample_size(10);
    for (rules, flows) in [(0, MANY), (10_000, MANY / 10)] {
        let rig = lab.rig(Work::Chain, Extras { rules, ..Extras::default() });
        let setup = rig.setup(Size::B64);
        group.throughput(Throughput::Elements(u64::from(flows)));
        group.bench_function(format!("0-to-{flows}/{rules}-more-rules"), |b| {
            b.iter_custom(|times| {
                (0..times)
                    .flat_map(|_| generators(&setup, flows, 1).expect("ends have flows enough"))
                    .map(|mut generator| generator.open().expect("flows open").took)
                    .sum()
            });
        });
    }
}

/// The moment at which all sessions have expired.
fn expiry(c: &mut Criterion) {
    let lab = Lab::new();
    let rig = lab.rig(Work::Chain, Extras::default());
    let setup = rig.setup(Size::B64);
    let net = rig.snapshots.newest();
    let mut group = c.benchmark_group("expiry");
    group.sample_size(10);
    group.throughput(Throughput::Elements(u64::from(MANY)));
    group.bench_function(format!("{MANY}-sessions"), |b| {
        b.iter_custom(|times| {
            (0..times)
                .flat_map(|_| generators(&setup, MANY, 1).expect("ends have flows enough"))
                .map(|mut generator| {
                    generator.open().expect("flows open");
                    generator.pass(Duration::from_secs(80_000));
                    let (now, started) = (generator.now(), Instant::now());
                    generator.worker().advance(&net, now, &mut Vec::new());
                    started.elapsed()
                })
                .sum()
        });
    });
}

criterion_group!(benches, opening, expiry);
criterion_main!(benches);
