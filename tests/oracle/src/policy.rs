//! NetworkPolicy of `networking.k8s.io/v1`: reading it, and whether one of its rules lets a flow pass.

use crate::address::Block;
use crate::cluster::{Pod, Protocol};
use crate::selector::Selector;
use crate::yaml::{Node, OracleError};

/// A policy. A direction it does not affect is `None`; one it affects without a rule is an empty list, and nothing passes.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    /// The namespace it lives in: it selects pods of this namespace only.
    pub(crate) namespace: String,
    /// `spec.podSelector`.
    pub(crate) pods: Selector,
    /// The ingress rules, if the policy affects ingress.
    pub(crate) ingress: Option<Vec<Rule>>,
    /// The egress rules, if the policy affects egress.
    pub(crate) egress: Option<Vec<Rule>>,
}

/// A rule: some peer and some port must match. `None` is "all of them".
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    peers: Option<Vec<Peer>>,
    ports: Option<Vec<Port>>,
}

/// NetworkPolicyPeer.
#[derive(Debug, Clone)]
enum Peer {
    /// Pods by label. Without `namespaces`: pods of the policy's own namespace. Without `pods`: all pods of those namespaces.
    Pods { namespaces: Option<Selector>, pods: Option<Selector> },
    /// Addresses.
    Block { block: Block, except: Vec<Block> },
}

/// NetworkPolicyPort.
#[derive(Debug, Clone)]
struct Port {
    protocol: Protocol,
    which: PortNumbers,
}

#[derive(Debug, Clone)]
enum PortNumbers {
    All,
    Named(String),
    /// First and last, inclusive.
    Range(u16, u16),
}

/// What a rule is asked about.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Flow<'a> {
    /// The other end: the source for an ingress rule, the destination for an egress rule.
    pub(crate) peer: &'a Pod,
    /// The destination in either direction: a named port is a port of the pod that is connected to.
    pub(crate) destination: &'a Pod,
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The destination port.
    pub(crate) port: u16,
}

impl Policy {
    /// Reads a whole NetworkPolicy object that lives in `namespace`.
    pub(crate) fn read(object: &Node<'_>, namespace: String) -> Result<Self, OracleError> {
        object.only(&["apiVersion", "kind", "metadata", "spec"])?;
        let spec = object.require("spec")?;
        spec.only(&["podSelector", "policyTypes", "ingress", "egress"])?;
        let (affects_ingress, affects_egress) = policy_types(&spec)?;
        Ok(Self {
            namespace,
            pods: Selector::read(&spec.require("podSelector")?)?,
            ingress: affects_ingress.then(|| rules(&spec, "ingress", "from")).transpose()?,
            egress: affects_egress.then(|| rules(&spec, "egress", "to")).transpose()?,
        })
    }
}

/// Whether the policy affects ingress and egress. Without `policyTypes` every policy affects ingress, and one that has egress
/// rules affects egress as well.
fn policy_types(spec: &Node<'_>) -> Result<(bool, bool), OracleError> {
    let types = spec.get("policyTypes").map(|types| types.list()).transpose()?.unwrap_or_default();
    if types.is_empty() {
        let egress_rules =
            spec.get("egress").map(|rules| rules.list()).transpose()?.unwrap_or_default();
        return Ok((true, !egress_rules.is_empty()));
    }
    let (mut ingress, mut egress) = (false, false);
    for policy_type in types {
        match policy_type.string()? {
            "Ingress" => ingress = true,
            "Egress" => egress = true,
            other => return Err(policy_type.error(format!("{other} is not a policy type"))),
        }
    }
    Ok((ingress, egress))
}

/// The rules of one direction. An absent section and an empty one are the same: no rule.
fn rules(spec: &Node<'_>, section: &str, peers: &str) -> Result<Vec<Rule>, OracleError> {
    let Some(section) = spec.get(section) else {
        return Ok(Vec::new());
    };
    section
        .list()?
        .iter()
        .map(|rule| {
            rule.only(&[peers, "ports"])?;
            Ok(Rule {
                peers: non_empty(rule, peers, Peer::read)?,
                ports: non_empty(rule, "ports", Port::read)?,
            })
        })
        .collect()
}

/// The elements of the list `key`; "if this field is empty or missing, this rule matches all" gives `None`.
fn non_empty<T>(
    node: &Node<'_>,
    key: &str,
    read: impl Fn(&Node<'_>) -> Result<T, OracleError>,
) -> Result<Option<Vec<T>>, OracleError> {
    let Some(list) = node.get(key) else {
        return Ok(None);
    };
    let items = list.list()?.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    Ok((!items.is_empty()).then_some(items))
}

impl Rule {
    /// Whether this rule of a policy of `namespace` lets the flow pass.
    pub(crate) fn allows(&self, namespace: &str, flow: Flow<'_>) -> Result<bool, OracleError> {
        let ports =
            self.ports.as_ref().is_none_or(|ports| ports.iter().any(|port| port.matches(flow)));
        if !ports {
            return Ok(false);
        }
        let Some(peers) = &self.peers else {
            return Ok(true);
        };
        for peer in peers {
            if peer.matches(namespace, flow.peer)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Peer {
    fn read(node: &Node<'_>) -> Result<Self, OracleError> {
        node.only(&["podSelector", "namespaceSelector", "ipBlock"])?;
        let selector = |key| node.get(key).map(|selector| Selector::read(&selector)).transpose();
        match (node.get("ipBlock"), selector("namespaceSelector")?, selector("podSelector")?) {
            (Some(ip_block), None, None) => Self::read_block(&ip_block),
            (None, None, None) => {
                Err(node.error("a peer needs a podSelector, a namespaceSelector or an ipBlock"))
            }
            (None, namespaces, pods) => Ok(Self::Pods { namespaces, pods }),
            (Some(_), _, _) => Err(node.error("an ipBlock stands alone")),
        }
    }

    fn read_block(node: &Node<'_>) -> Result<Self, OracleError> {
        node.only(&["cidr", "except"])?;
        let block = Block::read(&node.require("cidr")?)?;
        let mut except = Vec::new();
        if let Some(list) = node.get("except") {
            for item in list.list()? {
                let inner = Block::read(&item)?;
                if !block.strictly_contains(&inner) {
                    return Err(item.error("is not a strict part of cidr"));
                }
                except.push(inner);
            }
        }
        Ok(Self::Block { block, except })
    }

    fn matches(&self, namespace: &str, pod: &Pod) -> Result<bool, OracleError> {
        match self {
            Self::Pods { namespaces, pods } => {
                let in_namespace = match namespaces {
                    Some(selector) => selector.matches(&pod.namespace_labels),
                    None => pod.namespace == namespace,
                };
                Ok(in_namespace
                    && pods.as_ref().is_none_or(|selector| selector.matches(&pod.labels)))
            }
            Self::Block { block, except } => {
                let address = pod.address.ok_or_else(|| {
                    OracleError::new(
                        format!("pod {}/{}", pod.namespace, pod.name),
                        "an ipBlock needs its address",
                    )
                })?;
                Ok(block.contains(address) && !except.iter().any(|inner| inner.contains(address)))
            }
        }
    }
}

impl Port {
    fn read(node: &Node<'_>) -> Result<Self, OracleError> {
        node.only(&["protocol", "port", "endPort"])?;
        let protocol = node
            .get("protocol")
            .map(|protocol| Protocol::read(&protocol))
            .transpose()?
            .unwrap_or(Protocol::Tcp);
        let end = node.get("endPort").map(|end| end.port()).transpose()?;
        let which = match (node.get("port"), end) {
            (None, None) => PortNumbers::All,
            (Some(port), None) if !port.is_integer() => {
                PortNumbers::Named(port.string()?.to_owned())
            }
            (Some(port), end) if port.is_integer() => {
                let first = port.port()?;
                let last = end.unwrap_or(first);
                if last < first {
                    return Err(node.error("endPort is below port"));
                }
                PortNumbers::Range(first, last)
            }
            _ => return Err(node.error("endPort needs a port, and a numeric one")),
        };
        Ok(Self { protocol, which })
    }

    fn matches(&self, flow: Flow<'_>) -> bool {
        self.protocol == flow.protocol
            && match &self.which {
                PortNumbers::All => true,
                PortNumbers::Range(first, last) => (*first..=*last).contains(&flow.port),
                PortNumbers::Named(name) => flow.destination.ports.iter().any(|port| {
                    port.name.as_ref() == Some(name)
                        && port.protocol == flow.protocol
                        && port.number == flow.port
                }),
            }
    }
}
