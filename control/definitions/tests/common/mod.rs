//! What the tests of this crate share.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "tests")]

use definitions::{Definitions, Diagnostic, Input, Loaded, load};

/// Loads one text called `t.yaml`.
pub fn try_load(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    load(&[Input::text("t.yaml", text)])
}

/// Loads one good text.
pub fn loaded(text: &str) -> Loaded {
    try_load(text).unwrap_or_else(|errors| {
        let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
        panic!("{}\nin\n{text}", lines.join("\n"))
    })
}

/// The definitions of one good text.
pub fn definitions(text: &str) -> Definitions {
    loaded(text).definitions
}

/// The messages of a bad text, as printed.
pub fn errors(text: &str) -> Vec<String> {
    match try_load(text) {
        Ok(_) => panic!("accepted:\n{text}"),
        Err(errors) => errors.iter().map(ToString::to_string).collect(),
    }
}

/// Asserts that `text` has exactly one fault, whose message begins with `start` and contains `part`.
#[track_caller]
pub fn one_fault(text: &str, start: &str, part: &str) {
    let errors = errors(text);
    assert_eq!(errors.len(), 1, "{}\nin\n{text}", errors.join("\n"));
    assert!(
        errors[0].starts_with(start) && errors[0].contains(part),
        "{}\nis not\n{start} … {part}",
        errors[0]
    );
}
