//! What the user writes: our own kinds and unmodified Kubernetes manifests, parsed, checked and digested.
//!
//! [`load`] takes files, directories, standard input or texts and gives [`Definitions`], or every fault with its
//! file, line and object. Nothing here knows the engine, a clock, or the order in which files were given.
//!
//! Promises:
//! - a field that is not known is an error, because a dropped selector fails open;
//! - a kind that is not emulated is skipped with one notice;
//! - hostile input (alias bombs, deep nesting, not UTF-8, huge files) fails within 2 s and 256 MiB.

mod check;
pub mod diagnostic;
mod input;
mod kubernetes;
mod load;
mod manifests;
pub mod model;
mod node;
pub mod own;
pub mod schema;
mod suggestion;
pub mod text;
mod yaml;

pub use diagnostic::{Diagnostic, Severity};
pub use input::{Input, read};
pub use load::{Loaded, load};
pub use manifests::{Change, Effect, Manifests, ObjectRef, kind_named};
pub use model::Definitions;
