//! The live lab: the same [`hosts::Lab`] as everywhere, driven by the wall clock, with real
//! interfaces and capture files in the place of emulated endpoints.
//!
//! What is attached where is decided first ([`plan`]), without touching the system; then made
//! ([`wiring`]); then one thread carries frames and time to the lab and back ([`run`]). Everything
//! random or timed is still handed in: the engine does not know that it is live. Other commands reach the lab by a
//! socket ([`api`]), whose thread hands the packet thread [`jobs`] to do between two batches.
//!
//! What was made goes away again when the lab ends: TAPs and sockets with their descriptors, however
//! the process ends; namespaces and resolver files by the inventory of `ports`, at the latest at the
//! next start.

pub mod api;
pub mod capture;
pub mod ending;
pub mod intake;
pub mod jobs;
pub mod packet_socket;
pub mod patience;
pub mod plan;
pub mod port;
pub mod routes;
pub mod run;
pub mod wiring;
