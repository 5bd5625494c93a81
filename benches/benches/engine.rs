//! Established flows and walks, in memory, one core: what a packet costs by the number of flows, by the work, by
//! the number of rules, and while the network changes.
#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark that cannot run should say why and stop"
)]

use bench::{BATCH, Extras, Generator, Size, Work, change_during, generators};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use packet::{Addr, FrameBuilder, tcp_flags};
use std::collections::BTreeSet;
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use tierlab_benches::Lab;

/// An end of the frames that are only parsed.
const ENDS: (Addr, Addr) = (Addr::v4(0x0af4_0012), Addr::v4(0xc612_0101));

fn parse(c: &mut Criterion) {
    let udp = FrameBuilder::new(ENDS.0, ENDS.1).udp(1024, 9).payload(&[0; 18]).build();
    let tcp =
        FrameBuilder::new(ENDS.0, ENDS.1).tcp(1024, 9, tcp_flags::ACK).payload(&[0; 6]).build();
    let mut group = c.benchmark_group("parse");
    for (name, frame) in [("udp-64", udp), ("tcp-64", tcp)] {
        group.bench_function(name, |b| b.iter(|| packet::parse(black_box(&frame.bytes))));
    }
}

/// Sends batches of established flows; a batch is counted as its frames.
fn batches(c: &mut Criterion, group: &str, name: &str, generator: &mut Generator<'_>) {
    let mut group = c.benchmark_group(group);
    group.sample_size(20);
    group.throughput(Throughput::Elements(generator.frames().min(BATCH as u64)));
    group.bench_function(name, |b| b.iter(|| generator.step(BATCH).expect("no packet is lost")));
}

fn hit(c: &mut Criterion) {
    let lab = Lab::new();
    let rig = lab.rig(Work::Chain, Extras::default());
    let setup = rig.setup(Size::B64);
    for flows in [1, 1_000, 10_000, 100_000, 1_000_000, 4_000_000] {
        for mut generator in generators(&setup, flows, 1).expect("ends have flows enough") {
            generator.open().expect("flows open");
            batches(c, "hit-by-flows", &flows.to_string(), &mut generator);
        }
    }
    for work in Work::ALL {
        let rig = lab.rig(work, Extras::default());
        let setup = rig.setup(Size::B64);
        for mut generator in generators(&setup, 10_000, 1).expect("ends have flows enough") {
            generator.open().expect("flows open");
            batches(c, "hit-by-work", work.name(), &mut generator);
        }
    }
}

/// The first half of a first packet's passage: parsed, not in the cache, walked; nothing is committed.
fn walk(c: &mut Criterion) {
    let lab = Lab::new();
    let mut group = c.benchmark_group("walk-by-rules");
    group.sample_size(20);
    for rules in [0, 100, 1_000, 10_000] {
        let rig = lab.rig(Work::Chain, Extras { rules, ..Extras::default() });
        let setup = rig.setup(Size::B64);
        let net = rig.snapshots.newest();
        // The neighbours are known; flows that were never opened are walked.
        let mut team = generators(&setup, 64, 1).expect("ends have flows enough");
        let Some(generator) = team.first_mut() else { continue };
        generator.open().expect("flows open");
        let strange = |mut frame: packet::Frame| {
            // Another source port, and the checksum that goes with it.
            let port = frame.bytes.get_mut(34..36).and_then(|b| b.first_chunk_mut::<2>());
            if let Some(port) = port {
                *port = 999u16.to_be_bytes();
            }
            packet::complete(&mut frame);
            frame
        };
        let inside = |r: &engine::Received| net.port(r.port).is_some_and(|p| p.vnic.is_some());
        let first = generator.received().find(inside).expect("a frame of a workload");
        let (port, frame, now) = (first.port, strange(first.frame), generator.now());
        let worker = generator.worker();
        let mut tx = Vec::new();
        worker.advance(&net, now, &mut tx);
        group.bench_function(BenchmarkId::from_parameter(rules), |b| {
            b.iter(|| worker.begin(&net, port, frame.clone(), now, &mut tx).is_some());
        });
    }
}

/// Unrelated changes, as often as the issue asks for.
fn changes(c: &mut Criterion) {
    let lab = Lab::new();
    let mut group = c.benchmark_group("hit-under-change");
    group.sample_size(10);
    group.throughput(Throughput::Elements(BATCH as u64));
    for flows in [10_000, 1_000_000] {
        for per_second in [0, 100] {
            let rig = lab.rig(Work::Chain, Extras::default());
            let setup = rig.setup(Size::B64);
            let mut team = generators(&setup, flows, 1).expect("ends have flows enough");
            let Some(generator) = team.first_mut() else { continue };
            generator.open().expect("flows open");
            let shared = Arc::clone(generator.worker().shared());
            let name = format!("{flows}-flows/{per_second}-a-second");
            group.bench_function(name, |b| {
                b.iter_custom(|batches| {
                    let send = || {
                        let started = Instant::now();
                        for _ in 0..batches {
                            generator.step(BATCH).expect("no packet is lost");
                        }
                        started.elapsed()
                    };
                    change_during(&rig.snapshots, &shared, &BTreeSet::new(), per_second, send).0
                });
            });
        }
    }
}

criterion_group!(benches, parse, hit, walk, changes);
criterion_main!(benches);
