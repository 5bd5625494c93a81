//! `chain FLOWS ROUNDS [WORK [RULES]]`: opens flows that do a work, the whole chain unless another is named, and sends
//! every one of them ROUNDS packets a direction. For callgrind, whose instruction counts do not depend on the
//! machine's load; `benches/instructions` is what uses it:
//!
//! `valgrind --tool=callgrind --toggle-collect='*Generator*round*' target/release/chain 1000 20`
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say why and stop")]

use bench::{Extras, Size, Work, generators};
use tierlab_benches::Lab;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: u32| {
        arguments.get(i).map_or(default, |text| text.parse().expect("a number"))
    };
    let named = arguments.get(2).map_or("chain", String::as_str);
    let work = Work::ALL.into_iter().find(|work| work.name() == named).expect("a work");
    let lab = Lab::new();
    let rig = lab.rig(work, Extras { rules: number(3, 0), ..Extras::default() });
    let setup = rig.setup(Size::B64);
    let mut team = generators(&setup, number(0, 1_000), 1).expect("the ends have flows enough");
    let mut frames = 0;
    for generator in &mut team {
        generator.open().expect("flows open");
        for _ in 0..number(1, 20) {
            frames += generator.round().expect("no packet is lost");
        }
    }
    println!("{frames} frames");
}
