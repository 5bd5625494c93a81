//! Seeded hashing.
//!
//! Every hash table of the core takes its seed from the lab: the same seed gives the same run
//! (promise 1), and a sender who does not know it cannot choose keys that collide (reliability R31).

use ahash::RandomState;
use std::hash::Hash;

/// The hasher of every table in the core.
pub type SeededState = RandomState;

/// A hasher for the purpose numbered `salt` under the lab's `seed`. Different salts give
/// independent hashes, so that for instance ECMP and the flow cache never correlate.
#[must_use]
pub fn seeded(seed: u64, salt: u64) -> SeededState {
    RandomState::with_seeds(
        seed ^ 0x9e37_79b9_7f4a_7c15,
        salt.wrapping_mul(0xbf58_476d_1ce4_e5b9),
        seed.rotate_left(32),
        salt ^ 0x94d0_49bb_1331_11eb,
    )
}

/// The 64-bit hash of `value` for the purpose `salt`.
#[must_use]
pub fn hash_of<T: Hash>(seed: u64, salt: u64, value: &T) -> u64 {
    seeded(seed, salt).hash_one(value)
}
