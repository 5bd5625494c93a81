//! A packet of an established flow allocates nothing.
#![allow(clippy::unwrap_used, reason = "tests")]

use bench::{BATCH, Extras, Size, Work, generators};
use tierlab_benches::Lab;

/// Packets of each work.
const PACKETS: u64 = 100_000;

#[test]
fn a_hit_allocates_nothing() {
    let lab = Lab::new();
    for work in Work::ALL {
        let rig = lab.rig(work, Extras::default());
        let setup = rig.setup(Size::B64);
        let mut team = generators(&setup, 500, 1).unwrap();
        let generator = team.first_mut().unwrap();
        generator.open().unwrap();
        generator.verify().unwrap();
        // Buffers have grown to what they need.
        generator.round().unwrap();
        let mut sent = 0;
        let counted = allocation_counter::measure(|| {
            while sent < PACKETS {
                sent += generator.step(BATCH).unwrap() as u64;
            }
        });
        assert_eq!(counted.count_total, 0, "{work}: {counted:?} for {sent} packets");
    }
}

#[test]
fn what_is_counted_is_counted() {
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(vec![0u8; 100])));
    assert_eq!(counted.count_total, 1);
}

/// The first packet of a flow does allocate: the count would see a packet that is not in the cache.
#[test]
fn opening_allocates() {
    let lab = Lab::new();
    let rig = lab.rig(Work::Chain, Extras::default());
    let setup = rig.setup(Size::B64);
    let mut team = generators(&setup, 100, 1).unwrap();
    let counted = allocation_counter::measure(|| {
        team.first_mut().unwrap().open().unwrap();
    });
    assert!(counted.count_total >= 100, "{counted:?}");
}
