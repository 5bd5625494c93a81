//! The engine by itself, in memory, one core: parse, cached packets by number of flows, new sessions
//! by number of firewall rules, and realization. The network is the lab of the source articles.
#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark that cannot run should say why and stop"
)]

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use definitions::Input;
use engine::{Received, Worker, WorkerConfig};
use hosts::generator::Generator;
use packet::{FrameBuilder, Time};
use realization::Allocations;
use std::hint::black_box;
use tierlab_benches::{ends, network, supervisor, supervisor_path, with_rules};

fn parse(c: &mut Criterion) {
    let realized = supervisor();
    let e = ends(&realized);
    let frame = FrameBuilder::new(e.inside.2, e.outside).udp(1024, 9).payload(&[0; 18]).build();
    c.bench_function("parse/udp-64", |b| b.iter(|| packet::parse(black_box(&frame.bytes))));
}

fn established(c: &mut Criterion) {
    let realized = supervisor();
    let (net, e) = (network(&realized), ends(&realized));
    let mut group = c.benchmark_group("chain-established");
    group.sample_size(20);
    for flows in [1usize, 10_000, 100_000, 1_000_000] {
        let mut generator = Generator::new(&net, &e, flows).expect("flows open");
        group.throughput(Throughput::Elements(flows as u64 * 2));
        group.bench_function(format!("{flows}-flows"), |b| b.iter(|| generator.round(&net)));
    }
}

fn new_sessions(c: &mut Criterion) {
    let realized = supervisor();
    let (net, e) = (network(&realized), ends(&realized));
    let mut group = c.benchmark_group("new-sessions");
    group.sample_size(10);
    for rules in [0, 10_000] {
        let net = with_rules(&net, rules);
        let flows = if rules == 0 { 10_000 } else { 1_000 };
        group.throughput(Throughput::Elements(flows as u64));
        group.bench_function(format!("{rules}-more-rules"), |b| {
            b.iter_batched(|| (), |()| Generator::new(&net, &e, flows), BatchSize::PerIteration)
        });
    }
}

fn expiry(c: &mut Criterion) {
    let realized = supervisor();
    let (net, e) = (network(&realized), ends(&realized));
    let mut group = c.benchmark_group("expiry");
    group.sample_size(10);
    group.throughput(Throughput::Elements(100_000));
    group.bench_function("100000-sessions", |b| {
        b.iter_batched(
            || {
                let mut worker = Worker::new(WorkerConfig::default());
                let mut tx = Vec::new();
                for i in 0..100_000u32 {
                    let (port, mac, source) = e.inside;
                    let to = packet::Addr::v4(0x0af4_0012 + (i / 50_000));
                    let src_port = u16::try_from(1024 + i % 50_000).unwrap_or(u16::MAX);
                    let frame =
                        FrameBuilder::new(source, to).macs(mac, e.gateway).udp(src_port, 9).build();
                    let mut batch = vec![Received { port, frame }];
                    worker.process(&net, &mut batch, Time::ZERO, &mut tx);
                    tx.clear();
                }
                worker
            },
            |mut worker| {
                worker.advance(&net, Time::from_secs(100_000), &mut Vec::new());
                worker
            },
            BatchSize::PerIteration,
        )
    });
}

fn realize(c: &mut Criterion) {
    let path = supervisor_path();
    c.bench_function("realize/supervisor", |b| {
        b.iter(|| {
            let loaded = definitions::load(&[Input::Path(path.clone())]).expect("the lab loads");
            realization::realize(&loaded.definitions, &Allocations::default())
        })
    });
}

criterion_group!(benches, parse, established, new_sessions, expiry, realize);
criterion_main!(benches);
