//! The command line, as a new user and as a hostile one: good and bad arguments of every command, inputs of every form, formats,
//! determinism, wrong definitions, and `replay`.
//!
//! Exit codes: 0 done and held, 1 an assertion or probe failed, 2 wrong input, 3 the environment lacks something. 4 is a fault of
//! ours, and so nothing here expects it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "cli/bench.rs"]
mod bench;
#[path = "cli/changes.rs"]
mod changes;
#[path = "cli/commands.rs"]
mod commands;
#[path = "cli/get.rs"]
mod get;
#[path = "cli/hostile.rs"]
mod hostile;
#[path = "cli/inputs.rs"]
mod inputs;
#[path = "cli/matrix.rs"]
mod matrix;
#[path = "cli/replay.rs"]
mod replay;
#[path = "cli/running.rs"]
mod running;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the facts, which use some of it")]
mod support;
