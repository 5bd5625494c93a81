//! The facts that the source articles state (F1 to F24 of the project's feature list), each asked of the program as a user would
//! ask: against the labs under `topologies/`, through its commands. What is expected here is copied from the articles.
//!
//! Three facts need what comes later, and are tested as far as static configuration goes: BGP with its route maps and
//! summaries on the wire (F12, F13), BFD (F14), and the profile with a Tier-1 for each namespace (F11).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

#[path = "facts/routing.rs"]
mod routing;
#[path = "cli/support.rs"]
#[allow(dead_code, reason = "shared with the tests of the command line, which use all of it")]
mod support;
#[path = "facts/tables.rs"]
mod tables;
#[path = "facts/workloads.rs"]
mod workloads;
