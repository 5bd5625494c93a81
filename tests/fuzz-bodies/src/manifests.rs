//! Manifests: whatever they say, they end in a network or in messages, in bounded time, and the same network whatever the order.

use std::time::{Duration, Instant};

use definitions::{Diagnostic, Input, load};
use realization::{Allocations, Realized, realize};

use crate::Outcome;

/// Far more than 16 KiB may take (reliability.md R41), debug builds on a busy machine included.
const LIMIT: Duration = Duration::from_secs(10);

fn whole(inputs: &[Input], kept: &Allocations) -> Result<Realized, Vec<Diagnostic>> {
    realize(&load(inputs)?.definitions, kept)
}

/// Manifests.
///
/// # Errors
/// A refusal without a message, more time than is allowed, a second realization that gives out other addresses, or documents that
/// mean something else in another order.
pub fn run(bytes: &[u8]) -> Outcome {
    let text = String::from_utf8_lossy(bytes);
    let begun = Instant::now();
    let realized = match whole(&[Input::text("fuzz.yaml", text.clone())], &Allocations::default()) {
        Ok(realized) => realized,
        Err(faults) if faults.is_empty() => return Err("refused without a message".into()),
        Err(faults) => {
            return match faults.iter().find(|fault| fault.to_string().trim().is_empty()) {
                Some(fault) => Err(format!("a fault without words: {fault:?}")),
                None => in_time(begun),
            };
        }
    };
    let again = whole(&[Input::text("fuzz.yaml", text.clone())], &realized.allocations)
        .map_err(|faults| format!("refused the second time: {faults:?}"))?;
    if again.allocations != realized.allocations {
        return Err("the second realization gave out something else".into());
    }
    let mut documents: Vec<&str> = text.split("\n---\n").collect();
    documents.reverse();
    let reversed = documents.join("\n---\n");
    // A separator within a quoted text is none, and two objects of one name are refused either way: only what both orders
    // accept is compared.
    if let Ok(other) = whole(&[Input::text("fuzz.yaml", reversed)], &Allocations::default())
        && other.names_of_objects() == realized.names_of_objects()
        && other.allocations != realized.allocations
    {
        return Err("another order of documents gave out something else".into());
    }
    in_time(begun)
}

fn in_time(begun: Instant) -> Outcome {
    let taken = begun.elapsed();
    if taken < LIMIT { Ok(1) } else { Err(format!("took {taken:?}")) }
}

/// What a realization is about.
trait Objects {
    fn names_of_objects(&self) -> Vec<String>;
}

impl Objects for Realized {
    /// Ports, sorted: cutting a quoted text at a separator may leave other objects.
    fn names_of_objects(&self) -> Vec<String> {
        let mut names: Vec<String> = self.network.ports.iter().map(|p| p.name.clone()).collect();
        names.sort();
        names
    }
}
