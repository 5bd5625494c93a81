//! The local API of a running lab: a UNIX socket, one request a connection.
//!
//! * [`registry`]: where the sockets are, whose they are, and which labs are alive.
//! * [`protocol`]: what is said: JSON behind its length.
//! * [`server`]: the lab's side: a thread of its own, bounded in every respect.
//! * [`control`]: what requests do.
//! * [`client`]: the command line's side.
//!
//! Only the user who runs a lab, and root, can talk to it. Even such a client is not trusted to be right: what it
//! sends is limited in size, time and number, and what it asks for costs forwarding at most half of its time
//! ([`super::jobs`]).

pub mod client;
pub mod control;
pub mod protocol;
pub mod registry;
pub mod server;
pub mod tracing;
