//! `chain FLOWS ROUNDS`: opens flows through the whole chain and sends every one of them ROUNDS
//! packets a direction. For callgrind, whose instruction counts do not depend on the machine's load:
//!
//! `valgrind --tool=callgrind --toggle-collect='*Generator*round*' target/release/chain 1000 20`
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say why and stop")]

use hosts::generator::Generator;
use tierlab_benches::{ends, network, supervisor};

fn main() {
    let mut arguments = std::env::args().skip(1).map(|a| a.parse::<usize>().expect("a number"));
    let flows = arguments.next().unwrap_or(1_000);
    let rounds = arguments.next().unwrap_or(20);
    let realized = supervisor();
    let net = network(&realized);
    let mut generator = Generator::new(&net, &ends(&realized), flows).expect("flows open");
    let mut frames = 0;
    for _ in 0..rounds {
        frames += generator.round(&net).expect("no packet is lost");
    }
    println!("{frames} frames");
}
