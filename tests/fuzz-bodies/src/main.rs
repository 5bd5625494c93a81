//! Long runs of a fuzz body without a fuzzer, and what it does with single inputs.
//!
//! ```text
//! fuzz-bodies BODY --count N [--seed S]    until N frames (or inputs, for formats) are through; a failing input is written down
//! fuzz-bodies BODY FILE...                 these inputs
//! fuzz-bodies BODY --shrink FILE           the smallest part of an input that still fails, written beside it
//! ```

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use fuzz_bodies::{BODIES, Body, Outcome, body, generator};

const USAGE: &str = "usage: fuzz-bodies BODY (--count N [--seed S] | FILE... | --shrink FILE)";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match command(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn command(arguments: &[String]) -> Result<(), String> {
    let [name, rest @ ..] = arguments else { return Err(USAGE.into()) };
    let names = BODIES.map(|body| body.name).join(", ");
    let body = body(name).ok_or_else(|| format!("there is no body '{name}'; there are {names}"))?;
    let number = |text: &str| text.parse::<u64>().map_err(|_| format!("'{text}' is not a number"));
    match rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--count", count] => long(body, number(count)?, 1),
        ["--count", count, "--seed", seed] => long(body, number(count)?, number(seed)?),
        ["--shrink", file] => shrink(body, Path::new(file)),
        [] => Err(USAGE.into()),
        ref files => files.iter().try_for_each(|file| single(body, Path::new(file))),
    }
}

/// Runs a body; a panic is a failure like any other.
fn attempt(body: &Body, input: &[u8]) -> Outcome {
    catch_unwind(AssertUnwindSafe(|| (body.run)(input))).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().cloned();
        Err(format!("panicked: {}", said.unwrap_or_else(|| "see above".into())))
    })
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))
}

fn single(body: &Body, file: &Path) -> Result<(), String> {
    let count = attempt(body, &read(file)?).map_err(|e| format!("{}: {e}", file.display()))?;
    println!("{}: {count} through", file.display());
    Ok(())
}

/// The corpus kept in the repository, where there is one.
fn corpus(body: &Body) -> Result<Vec<Vec<u8>>, String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(body.name);
    let Ok(entries) = std::fs::read_dir(&directory) else { return Ok(Vec::new()) };
    let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    files.sort();
    files.iter().map(|file| read(file)).collect()
}

fn long(body: &Body, count: u64, seed: u64) -> Result<(), String> {
    let corpus = corpus(body)?;
    let begun = Instant::now();
    let (mut done, mut runs, mut told) = (0, 0u64, 0);
    while done < count {
        let input = generator::input(body, &corpus, seed.wrapping_add(runs));
        runs += 1;
        match attempt(body, &input) {
            Ok(more) => done += more,
            Err(failure) => {
                let file = format!("{}-seed-{}.bin", body.name, seed.wrapping_add(runs - 1));
                std::fs::write(&file, &input).map_err(|e| format!("{file}: {e}"))?;
                return Err(format!(
                    "after {done} in {runs} runs: {failure}\ninput kept in {file}"
                ));
            }
        }
        if done / 1_000_000 > told {
            told = done / 1_000_000;
            println!("{}: {done} in {runs} runs, {:.0?}", body.name, begun.elapsed());
        }
    }
    println!(
        "{}: {done} in {runs} runs from seed {seed}, no violation, {:.1?}",
        body.name,
        begun.elapsed()
    );
    Ok(())
}

/// Leaves out pieces, halves first, as long as the rest fails.
fn shrink(body: &Body, file: &Path) -> Result<(), String> {
    let mut input = read(file)?;
    if attempt(body, &input).is_ok() {
        return Err(format!("{}: does not fail", file.display()));
    }
    let mut piece = input.len().next_power_of_two();
    while piece > 0 {
        let mut at = 0;
        while at < input.len() {
            let end = (at + piece).min(input.len());
            let less = [input.get(..at).unwrap_or_default(), input.get(end..).unwrap_or_default()]
                .concat();
            if attempt(body, &less).is_err() {
                input = less;
            } else {
                at += piece;
            }
        }
        piece /= 2;
    }
    let smaller = file.with_extension("min");
    std::fs::write(&smaller, &input).map_err(|e| format!("{}: {e}", smaller.display()))?;
    println!(
        "{}: {} octets\n{}",
        smaller.display(),
        input.len(),
        attempt(body, &input).err().unwrap_or_default()
    );
    Ok(())
}
