//! What the fuzz targets do with their input.
//!
//! Each body takes any octets, does with them what an attacker could, and says what went wrong: a [`Body`] that returns an error or
//! panics has found a bug. Three drivers share them, so that a crash that one finds is a test for all: libFuzzer (`tests/fuzz`),
//! the ordinary test `fuzz_regressions` (kept inputs, and a slice of the seeded generator), and long runs (this package's program).
//!
//! Bodies for protocols and networks decode their input into things that get deep (packets of hosts that exist, answers to what
//! came out, errors about live sessions): almost every octet string is a good run, so that a generator that knows nothing finds
//! its way as well as one that is guided by coverage. Bodies for formats take the octets as they are.
//!
//! The oracles are those of reliability.md R22, and the promises of the design: see [`pipeline`].

pub mod capture;
mod checksums;
mod embedded;
mod fragments;
pub mod generator;
mod input;
mod lab;
mod manifests;
mod oracles;
mod parser;
pub mod pipeline;
mod rig;
mod traffic;

/// What a run did, in the unit of its body: frames, or 1 a run.
pub type Outcome = Result<u64, String>;

/// A fuzz target's body.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    /// The name of its target, its corpus and its regressions.
    pub name: &'static str,
    /// Runs it. An error is a bug found, in words; so is a panic.
    pub run: fn(&[u8]) -> Outcome,
    /// Whether inputs are decoded: then random octets do; else inputs are made from the corpus.
    pub decodes: bool,
    /// The largest input that is worth trying, octets.
    pub longest: usize,
}

/// All bodies.
pub const BODIES: [Body; 6] = [
    Body { name: "parser", run: parser::run, decodes: false, longest: 2_048 },
    Body { name: "pipeline", run: pipeline::run, decodes: true, longest: 4_096 },
    Body { name: "fragments", run: fragments::run, decodes: true, longest: 1_024 },
    Body { name: "embedded", run: embedded::run, decodes: true, longest: 1_024 },
    Body { name: "manifests", run: manifests::run, decodes: false, longest: 16_384 },
    Body { name: "capture", run: capture::run, decodes: false, longest: 4_096 },
];

/// The body of that name.
#[must_use]
pub fn body(name: &str) -> Option<&'static Body> {
    BODIES.iter().find(|body| body.name == name)
}

/// Runs a body for a driver that knows a failure by a panic.
///
/// # Panics
/// If an oracle does not hold, or there is no such body.
#[allow(clippy::panic, reason = "what libFuzzer takes for a finding")]
pub fn must_hold(name: &str, input: &[u8]) {
    let Some(body) = body(name) else { panic!("there is no body '{name}'") };
    if let Err(failure) = (body.run)(input) {
        panic!("{failure}");
    }
}
