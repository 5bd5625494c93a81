//! Pods, and what workloads expand to.

use super::{Meta, PodPins, Protocol};

/// The workload a pod was expanded from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Owner {
    /// `Deployment`, `ReplicaSet`, `StatefulSet` or `DaemonSet`.
    pub kind: &'static str,
    /// Its name, in the pod's namespace.
    pub name: String,
}

/// A port that a container says it listens on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContainerPort {
    /// The name that Services and policies may use instead of the number.
    pub name: Option<String>,
    /// 1 to 65535.
    pub port: u16,
    /// TCP unless stated.
    pub protocol: Protocol,
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pod {
    /// Name, labels, place.
    pub meta: Meta,
    /// The ports of all its containers, sidecars (init containers that restart always) included, in written order.
    pub ports: Vec<ContainerPort>,
    /// The host it was placed on, by annotation or `spec.nodeName`.
    pub host: Option<String>,
    /// Whether it counts as a ready endpoint: its `Ready` condition, true where the manifest has none.
    pub ready: bool,
    /// It has a `deletionTimestamp`: it still serves, but new connections prefer others.
    pub terminating: bool,
    /// Its phase is `Succeeded` or `Failed`: its containers have ended for good. It holds no address and is never
    /// ready.
    pub terminal: bool,
    /// `spec.hostNetwork`: it has no address of its own.
    pub host_network: bool,
    /// The workload that made it.
    pub owner: Option<Owner>,
    /// What annotations fix.
    pub pins: PodPins,
    /// It is on the firewall's exclude list ([`annotation::DFW_EXCLUDE`](super::annotation::DFW_EXCLUDE)): no rule is
    /// applied to it.
    pub firewall_excluded: bool,
}

impl Pod {
    /// The number of the container port called `name` for `protocol`, as Services and policies resolve it.
    #[must_use]
    pub fn named_port(&self, name: &str, protocol: Protocol) -> Option<u16> {
        self.ports
            .iter()
            .find(|p| p.protocol == protocol && p.name.as_deref() == Some(name))
            .map(|p| p.port)
    }
}
