//! From definitions to a network: a supervisor of 256 namespaces, 10,000 pods, 1,000 services and 2,000 policies at
//! first, and after one object of it has changed.
#![allow(
    clippy::expect_used,
    missing_docs,
    reason = "a benchmark that cannot run should say why and stop"
)]

use criterion::{Criterion, criterion_group, criterion_main};
use definitions::{Change, Input};
use engine::network::Network;
use engine::{Worker, WorkerConfig};
use realization::Allocations;
use std::hint::black_box;
use tierlab_benches::{big_supervisor, policy};

fn first(c: &mut Criterion) {
    let inputs = [Input::text("big.yaml", big_supervisor())];
    let mut group = c.benchmark_group("big-supervisor");
    group.sample_size(10);
    group.bench_function("load", |b| b.iter(|| definitions::load(&inputs).expect("it loads")));
    let loaded = definitions::load(&inputs).expect("it loads");
    let none = Allocations::default();
    group.bench_function("realize", |b| {
        b.iter(|| realization::realize(&loaded.definitions, &none).expect("it is realized"))
    });
}

/// As a running lab does it: read, realized with what was allocated before, published to a worker.
fn one_change(c: &mut Criterion) {
    let inputs = [Input::text("big.yaml", big_supervisor())];
    let loaded = definitions::load(&inputs).expect("it loads");
    let realized =
        realization::realize(&loaded.definitions, &Allocations::default()).expect("it is realized");
    let mut worker = Worker::new(WorkerConfig::default());
    let mut epoch = 1;
    let published = Network { epoch, ..realized.network.clone() };
    worker.advance(&published, packet::Time::ZERO, &mut Vec::new());
    let mut group = c.benchmark_group("big-supervisor");
    group.sample_size(10);
    group.bench_function("one-policy-changed", |b| {
        b.iter(|| {
            epoch += 1;
            let port = if epoch % 2 == 0 { 8081 } else { 8080 };
            let text = Input::text("change.yaml", policy(1_999, port));
            let change = Change::apply(&[text]).expect("it is a change");
            let loaded = loaded.manifests.change(&change).expect("it fits");
            let next = realization::realize(&loaded.definitions, &realized.allocations)
                .expect("it is realized");
            let net = Network { epoch, ..next.network };
            worker.shared().publish(&net);
            worker.advance(&net, packet::Time::ZERO, &mut Vec::new());
            black_box(net.epoch)
        });
    });
}

criterion_group!(benches, first, one_change);
criterion_main!(benches);
