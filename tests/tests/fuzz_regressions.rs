//! The fuzz targets without a fuzzer: every kept input (crashes that were found, in `tests/fuzz/regressions`, and the seed corpus in
//! `tests/fuzz/corpus`) and a slice of the seeded generator through the same bodies that libFuzzer runs.
//!
//! `TIERLAB_FUZZ_COUNT` is how many frames (inputs, for formats) each body takes from the generator, `TIERLAB_FUZZ_SEED` the first
//! seed. A failure names its seed or file; `cargo run -p fuzz-bodies -- BODY FILE` repeats it alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

use std::path::{Path, PathBuf};

use fuzz_bodies::{BODIES, Body, generator};

/// Frames that each body takes from the generator, and inputs where it reads a format: some seconds for all of them.
const SLICE: (u64, u64) = (20_000, 500);

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// The files of a directory, sorted.
fn files(kind: &str, body: &Body) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(kind).join(body.name);
    let Ok(entries) = std::fs::read_dir(&directory) else { return Vec::new() };
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn kept_inputs() {
    for body in &BODIES {
        let corpus = files("corpus", body);
        assert!(!corpus.is_empty(), "{} has no seed corpus", body.name);
        for file in corpus.into_iter().chain(files("regressions", body)) {
            if let Err(failure) = (body.run)(&std::fs::read(&file).unwrap()) {
                panic!("{}: {failure}", file.display());
            }
        }
    }
}

#[test]
fn a_slice_of_the_generator() {
    let first = number("TIERLAB_FUZZ_SEED", 1);
    for body in &BODIES {
        let slice = if body.decodes { SLICE.0 } else { SLICE.1 };
        let count = number("TIERLAB_FUZZ_COUNT", slice);
        let corpus: Vec<Vec<u8>> =
            files("corpus", body).iter().map(|file| std::fs::read(file).unwrap()).collect();
        let (mut done, mut seed) = (0, first);
        while done < count {
            let input = generator::input(body, &corpus, seed);
            done += (body.run)(&input)
                .unwrap_or_else(|failure| panic!("{}, seed {seed}: {failure}", body.name));
            seed += 1;
        }
        println!("{}: {done} in {} inputs", body.name, seed - first);
    }
}

/// A body that never failed would prove nothing: what is wrong is noticed.
#[test]
fn the_lab_lets_packets_through() {
    let body = fuzz_bodies::body("pipeline").unwrap();
    // The seed corpus begins with a conversation: more frames go in than the six introductions.
    let file = files("corpus", body).into_iter().next().unwrap();
    assert!((body.run)(&std::fs::read(file).unwrap()).unwrap() > 8);
}
