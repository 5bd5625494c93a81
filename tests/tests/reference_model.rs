//! The engine against the naive model of `tests/model`: random labs, packets, answers, errors, forgeries, changes and jumps of
//! time. After every step what left the engine must be what the model says: the same packets by the same ports, and nothing else.
//! Where they differ, one of them is wrong.
//!
//! `TIERLAB_MODEL_STEPS` is how many steps are made (a slice of a few seconds unless told; 1000000 for the long run),
//! `TIERLAB_MODEL_SEED` the seed of the first lab (from 1000000 on they are wider, before every other one is), `TIERLAB_MODEL_FAILURES` how many failing labs are shown. A failure names its
//! seed, which belongs into [`KEPT`] once its bug is fixed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "reference_model/bench.rs"]
mod bench;
#[path = "reference_model/counts.rs"]
mod counts;
#[path = "reference_model/lab/mod.rs"]
mod lab;
#[path = "reference_model/random.rs"]
mod random;
#[path = "reference_model/steps.rs"]
mod steps;

use std::collections::BTreeMap;

use bench::{Bench, WIDER};

/// Steps in one lab.
const STEPS: usize = 200;
/// Steps of the slice that CI makes.
const SLICE: usize = 100_000;

/// A lab that showed a bug.
struct Case {
    seed: u64,
    bug: &'static str,
}

/// Bugs that were fixed. A seed names its lab for as long as nothing in the generator changes; a bug therefore has a test beside the
/// code too, where one could be written.
const KEPT: [Case; 10] = [
    Case {
        seed: 54,
        bug: "with internalTrafficPolicy Local, a host whose only endpoint is going away rejected",
    },
    Case {
        seed: 107,
        bug: "what came in untranslated for the target of a DNAT rule was not remembered",
    },
    Case {
        seed: 2008,
        bug: "of two records of one session at one firewall, both counted for the rule that now allows one of them",
    },
    Case {
        seed: 3555,
        bug: "what DNAT sends to no segment from inside turned around in the model, and was judged as if it did",
    },
    Case {
        seed: 3824,
        bug: "a named port met a frame for another address that reached the pod's vNIC",
    },
    Case {
        seed: 5762,
        bug: "an answer that waited for a neighbour was judged in the model by Ethernet rules from before it was sent",
    },
    Case {
        seed: 8373,
        bug: "a session that a gateway first met in an answer was judged twice in the model",
    },
    Case {
        seed: 1_000_366,
        bug: "a ping whose identifier NAT had changed ended with any change of the NAT table",
    },
    Case {
        seed: 1_000_654,
        bug: "in the model a later fragment told of the TCP header of its first one, to whichever connection came between",
    },
    Case {
        seed: 1_001_830,
        bug: "a later fragment of a SYN began a connection in the place of one that had been reset since",
    },
];

fn number(name: &str, default: usize) -> usize {
    match std::env::var(name) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")),
        Err(_) => default,
    }
}

/// Runs one lab and counts how often the model said what.
fn run(seed: u64, said: &mut BTreeMap<String, usize>) -> Result<(), String> {
    let mut bench = Bench::new(seed);
    for step in 0..STEPS {
        let differs = bench.step().err();
        if let Some(difference) = differs {
            return Err(format!(
                "seed {seed}, step {step}: {difference}\nbefore it:\n{}\nthe lab:\n{}",
                bench.history(),
                bench.manifest()
            ));
        }
    }
    for (why, count) in bench.said() {
        *said.entry(why.clone()).or_default() += count;
    }
    Ok(())
}

#[test]
fn the_engine_does_what_the_model_says() {
    let first = u64::try_from(number("TIERLAB_MODEL_SEED", 1)).unwrap();
    let labs = u64::try_from(number("TIERLAB_MODEL_STEPS", SLICE).div_ceil(STEPS)).unwrap();
    let most = number("TIERLAB_MODEL_FAILURES", 1);
    let (mut said, mut failures) = (BTreeMap::new(), Vec::new());
    let seed = |n| if first < WIDER { first + n / 2 + n % 2 * WIDER } else { first + n };
    for seed in (0..labs).map(seed) {
        if let Err(failure) = run(seed, &mut said) {
            failures.push(failure);
            if failures.len() >= most {
                break;
            }
        }
    }
    let total: usize = said.values().sum();
    let table: Vec<String> = said.iter().map(|(why, n)| format!("{n:8} {why}")).collect();
    println!("{total} packets\n{}", table.join("\n"));
    assert!(failures.is_empty(), "{}", failures.join("\n========\n"));
    // Steps that end at the first firewall would prove little; a single lab may be such a one.
    let delivered = said.get("delivered").copied().unwrap_or(0);
    assert!(
        labs < 10 || delivered * 4 > total,
        "only {delivered} of {total} packets were delivered"
    );
}

#[test]
fn seeds_that_once_showed_a_bug() {
    for Case { seed, bug } in KEPT {
        if let Err(failure) = run(seed, &mut BTreeMap::new()) {
            panic!("{bug}, again: {failure}");
        }
    }
}
