//! NetworkPolicy (networking.k8s.io/v1), with every defaulting rule applied.

use ipnet::IpNet;

use super::{Meta, Protocol, Selector};

/// The port part of a policy rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortMatch {
    /// Every port of the protocol.
    Any,
    /// This port.
    Number(u16),
    /// From the first to the last, both included; first ≤ last.
    Range(u16, u16),
    /// The container port of this name at the destination pod, of the same protocol.
    Name(String),
}

/// One entry of `ports`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyPort {
    /// TCP unless stated.
    pub protocol: Protocol,
    /// Which of its ports.
    pub port: PortMatch,
}

/// One entry of `from` or `to`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PolicyPeer {
    /// Addresses in `cidr` but in none of `except` (each lies inside `cidr`).
    IpBlock {
        /// The block.
        cidr: IpNet,
        /// Its holes.
        except: Vec<IpNet>,
    },
    /// Pods; at least one selector is there, and both must match.
    Pods {
        /// Over namespaces; `None`: the policy's own.
        namespaces: Option<Selector>,
        /// Over pods; `None`: all of these namespaces.
        pods: Option<Selector>,
    },
}

/// One rule: a packet matches if any peer and any port does.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyRule {
    /// The other side; empty: everybody.
    pub peers: Vec<PolicyPeer>,
    /// Ports at the destination; empty: all of every protocol.
    pub ports: Vec<PolicyPort>,
}

/// A network policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkPolicy {
    /// Name, labels, place.
    pub meta: Meta,
    /// The pods of its namespace that it isolates.
    pub pod_selector: Selector,
    /// `None`: it says nothing about ingress. `Some`: its pods are isolated and these rules allow; empty allows nothing.
    pub ingress: Option<Vec<PolicyRule>>,
    /// The same for egress.
    pub egress: Option<Vec<PolicyRule>>,
}
