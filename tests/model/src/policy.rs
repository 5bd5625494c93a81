//! The distributed firewall at one vNIC: who judges, in which order, and what the verdict is.
//!
//! SecurityPolicies come first, by category, priority, namespace and name, and the first of their rules that matches decides. Behind
//! them NetworkPolicies and isolation as Kubernetes states them (features.md 3.G; docs/choices.md, "Firewall").

pub(crate) mod ethernet;
mod kubernetes;
mod peers;
mod security;

use crate::counters::Counter;
use crate::network::{Network, Workload};
use crate::packet::Flow;

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// It passes.
    Passes {
        /// A connection may be picked up in mid-stream.
        loose: bool,
    },
    /// It is dropped in silence.
    Drops,
    /// The sender is told.
    Rejects,
}

/// Judges a flow into (or out of) a workload. Also says whose rule it is, if any is.
pub(crate) fn judge(
    network: &Network,
    workload: &Workload,
    flow: Flow,
    into: bool,
) -> (Judgement, Option<Counter>) {
    // Control-plane VMs have no rules, and the exclude list takes a pod from all of them.
    let Some(namespace) = workload.namespace.as_ref().filter(|_| !workload.excluded) else {
        return (Judgement::Passes { loose: false }, None);
    };
    if let Some((judgement, by)) = security::judge(network, workload, namespace, flow, into) {
        return (judgement, Some(Counter::Policy(by)));
    }
    let (allowed, by) = kubernetes::allows(network, workload, namespace, flow, into);
    let judgement = if allowed { Judgement::Passes { loose: false } } else { Judgement::Drops };
    (judgement, by.map(Counter::Policy))
}
