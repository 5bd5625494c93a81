//! An independent oracle for NetworkPolicy and namespace isolation.
//!
//! It answers one question: may the first packet of a new flow from this pod to that pod, on this protocol and port, pass?
//! It is written from the API reference of `networking.k8s.io/v1` (NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort,
//! IPBlock, LabelSelector) and from tierlab's definition of the three isolation modes, and it shares no code with
//! `control/definitions`, `control/realization` or `dataplane/engine`, not even the YAML reader. It favours being obviously
//! right over being fast: nothing is indexed, compiled or cached.
//!
//! The rules, all of them:
//!
//! 1. A pod that is selected by at least one policy for a direction is *isolated* in that direction, and what passes is the
//!    union of the rules of those policies. There is no deny rule and no order.
//! 2. A pod that no policy selects for a direction follows the [`Isolation`] mode.
//! 3. Both ends must agree: the egress side of the source and the ingress side of the destination.
//! 4. A connection's answers are part of it. The verdict is about who may begin.
//!
//! [`cases`] holds named policies with a truth table each, [`random`] makes policies nobody thought of, [`lab`] is the lab of
//! three namespaces of three pods in which both are judged.

pub mod cases;
pub mod lab;
pub mod random;

mod address;
mod cluster;
mod policy;
mod selector;
mod table;
mod yaml;

pub use cluster::{Cluster, Isolation, Protocol};
pub use table::{CSV_HEADER, Probe, truth_table};
pub use yaml::OracleError;
