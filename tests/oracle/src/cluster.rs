//! Namespaces, pods and policies as read from manifests, and the verdict on a flow between two pods.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

use crate::policy::{Flow, Policy, Rule};
use crate::yaml::{Node, OracleError, documents};

/// A transport protocol that a NetworkPolicy can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default wherever a protocol may be left out.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP. No probe uses it, but a policy for it isolates like any other.
    Sctp,
}

impl Protocol {
    pub(crate) fn read(node: &Node<'_>) -> Result<Self, OracleError> {
        match node.string()? {
            "TCP" => Ok(Self::Tcp),
            "UDP" => Ok(Self::Udp),
            "SCTP" => Ok(Self::Sctp),
            other => Err(node.error(format!("{other} is not a protocol"))),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// What happens to a pod in a direction for which no policy selects it: `isolation` of a `SupervisorCluster`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Isolation {
    /// Standard Kubernetes: everything passes.
    None,
    /// All egress passes; ingress passes from the pod's own namespace only. The default.
    #[default]
    Ingress,
    /// Ingress and egress pass within the pod's own namespace only.
    Full,
}

impl Isolation {
    /// All modes.
    pub const ALL: [Self; 3] = [Self::None, Self::Ingress, Self::Full];

    fn read(node: &Node<'_>) -> Result<Self, OracleError> {
        let text = node.string()?;
        let mode = Self::ALL.into_iter().find(|mode| mode.to_string() == text);
        mode.ok_or_else(|| node.error(format!("{text} is not an isolation mode")))
    }
}

impl fmt::Display for Isolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Ingress => "ingress",
            Self::Full => "full",
        })
    }
}

/// A pod, with what its namespace adds to it.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) namespace_labels: BTreeMap<String, String>,
    pub(crate) ports: Vec<ContainerPort>,
    pub(crate) address: Option<IpAddr>,
}

/// A declared container port; it matters to named ports only.
#[derive(Debug, Clone)]
pub(crate) struct ContainerPort {
    pub(crate) name: Option<String>,
    pub(crate) protocol: Protocol,
    pub(crate) number: u16,
}

/// Everything that decides whether one pod may talk to another.
#[derive(Debug, Clone)]
pub struct Cluster {
    isolation: Isolation,
    pods: BTreeMap<String, Pod>,
    policies: Vec<Policy>,
}

impl Cluster {
    /// Reads Namespaces, Pods, NetworkPolicies and one `SupervisorCluster` (of which only `isolation` is looked at) from a stream
    /// of YAML documents, in any order.
    ///
    /// # Errors
    /// Malformed YAML; a kind other than these (the oracle would not know what it does); a misspelt or malformed field of a
    /// policy; a pod or policy in a namespace that is not defined; an object defined twice.
    pub fn from_yaml(text: &str) -> Result<Self, OracleError> {
        let documents = documents(text)?;
        let mut isolation = None;
        let mut namespaces = BTreeMap::new();
        let mut pods = BTreeMap::new();
        let mut policies = BTreeMap::new();
        for (index, document) in documents.iter().enumerate() {
            let root = Node::root(document, format!("document {}", index + 1));
            let kind = root.require("kind")?.string()?;
            let metadata = root.require("metadata")?;
            let name = metadata.require("name")?.string()?.to_owned();
            let namespace = metadata
                .get("namespace")
                .map(|node| node.string())
                .transpose()?
                .unwrap_or("default")
                .to_owned();
            let object = root.named(format!("document {} ({kind} {namespace}/{name})", index + 1));
            let labels =
                metadata.get("labels").map(|node| node.strings()).transpose()?.unwrap_or_default();
            let key = format!("{namespace}/{name}");
            let twice = match kind {
                "SupervisorCluster" => {
                    let mode = object.get("spec").and_then(|spec| spec.get("isolation"));
                    isolation
                        .replace(
                            mode.map(|mode| Isolation::read(&mode))
                                .transpose()?
                                .unwrap_or_default(),
                        )
                        .is_some()
                }
                "Namespace" => {
                    // The API server sets this label on every namespace.
                    let mut labels = labels;
                    labels.insert("kubernetes.io/metadata.name".to_owned(), name.clone());
                    namespaces.insert(name, labels).is_some()
                }
                "Pod" => pods.insert(key, (object.clone(), namespace, name, labels)).is_some(),
                "NetworkPolicy" => {
                    policies.insert(key, Policy::read(&object, namespace)?).is_some()
                }
                _ => return Err(object.error("the oracle does not know this kind")),
            };
            if twice {
                return Err(object.error("is defined twice"));
            }
        }
        let mut resolved = BTreeMap::new();
        for (key, (object, namespace, name, labels)) in pods {
            let namespace_labels = namespaces
                .get(&namespace)
                .cloned()
                .ok_or_else(|| object.error("its namespace is not defined"))?;
            let ports = container_ports(&object)?;
            resolved.insert(
                key,
                Pod { namespace, name, labels, namespace_labels, ports, address: None },
            );
        }
        if let Some(policy) =
            policies.values().find(|policy| !namespaces.contains_key(&policy.namespace))
        {
            return Err(OracleError::new(
                format!("NetworkPolicy in {}", policy.namespace),
                "its namespace is not defined",
            ));
        }
        let isolation =
            isolation.ok_or_else(|| OracleError::new("manifest", "no SupervisorCluster"))?;
        Ok(Self { isolation, pods: resolved, policies: policies.into_values().collect() })
    }

    /// Gives pods (`namespace/name`) their addresses. Only an `ipBlock` looks at them.
    #[must_use]
    pub fn with_addresses(mut self, addresses: &BTreeMap<String, IpAddr>) -> Self {
        for (key, pod) in &mut self.pods {
            pod.address = addresses.get(key).copied();
        }
        self
    }

    /// The pods as `namespace/name`, sorted.
    pub fn pods(&self) -> impl Iterator<Item = &str> {
        self.pods.keys().map(String::as_str)
    }

    /// Whether the first packet of a new flow from pod `from` to pod `to` (both `namespace/name`) reaches it.
    ///
    /// # Errors
    /// No such pod; or an `ipBlock` had to be judged and the pod's address is not known.
    pub fn verdict(
        &self,
        from: &str,
        to: &str,
        protocol: Protocol,
        port: u16,
    ) -> Result<bool, OracleError> {
        let (source, destination) = (self.pod(from)?, self.pod(to)?);
        let same_namespace = source.namespace == destination.namespace;
        let ingress_default = self.isolation == Isolation::None || same_namespace;
        let egress_default = self.isolation != Isolation::Full || same_namespace;
        let outward = Flow { peer: destination, destination, protocol, port };
        let inward = Flow { peer: source, destination, protocol, port };
        Ok(self.direction_allows(
            source,
            |policy| policy.egress.as_deref(),
            outward,
            egress_default,
        )? && self.direction_allows(
            destination,
            |policy| policy.ingress.as_deref(),
            inward,
            ingress_default,
        )?)
    }

    /// One direction at one pod: the union of the rules of all policies that select it, or the default if none does.
    fn direction_allows<'a>(
        &'a self,
        pod: &Pod,
        rules: impl Fn(&'a Policy) -> Option<&'a [Rule]>,
        flow: Flow<'_>,
        default: bool,
    ) -> Result<bool, OracleError> {
        let mut isolated = false;
        for policy in &self.policies {
            if policy.namespace != pod.namespace || !policy.pods.matches(&pod.labels) {
                continue;
            }
            let Some(rules) = rules(policy) else { continue };
            isolated = true;
            for rule in rules {
                if rule.allows(&policy.namespace, flow)? {
                    return Ok(true);
                }
            }
        }
        Ok(!isolated && default)
    }

    fn pod(&self, key: &str) -> Result<&Pod, OracleError> {
        self.pods.get(key).ok_or_else(|| OracleError::new(format!("pod {key}"), "is not defined"))
    }
}

fn container_ports(pod: &Node<'_>) -> Result<Vec<ContainerPort>, OracleError> {
    let mut ports = Vec::new();
    for container in pod.require("spec")?.require("containers")?.list()? {
        let Some(list) = container.get("ports") else {
            continue;
        };
        for port in list.list()? {
            port.only(&["name", "containerPort", "protocol"])?;
            ports.push(ContainerPort {
                name: port.get("name").map(|name| name.string()).transpose()?.map(str::to_owned),
                protocol: port
                    .get("protocol")
                    .map(|node| Protocol::read(&node))
                    .transpose()?
                    .unwrap_or(Protocol::Tcp),
                number: port.require("containerPort")?.port()?,
            });
        }
    }
    Ok(ports)
}
