//! Pods and the workloads that are expanded to pods.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Container, Pod as KubernetesPod, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};

use super::meta::{Scope, digest_meta, labels, pinned};
use super::selector::selector;
use super::{pins, port, protocol};
use crate::diagnostic::Subject;
use crate::model::{ContainerPort, Meta, Owner, Pod, PodPins, Source, annotation};
use crate::node::{Fault, Node, Value, excerpt};
use crate::text::{MacAddress, is_dns_subdomain, is_port_name};

/// How many pods a workload makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replicas {
    /// This many, numbered from 0.
    Count(u32),
    /// One on every host.
    EveryHost,
}

/// A workload, to be expanded when all hosts are known.
pub(crate) struct Workload {
    /// The workload's own.
    pub meta: Meta,
    pub kind: &'static str,
    pub replicas: Replicas,
    /// Every pod, but for its name and host.
    pub template: Pod,
    /// The number of the first replica (StatefulSet's `ordinals.start`).
    pub first: u32,
    /// What is fixed for single replicas, by the end of their pods' names: the ordinal, a DaemonSet's host.
    pins: BTreeMap<String, PodPins>,
    /// Where that was written.
    pins_at: Node,
}

/// The most replicas of one workload.
const MAX_REPLICAS: u32 = 10_000;

/// Checks and digests a Pod; `status` is what the document had under that key, whatever that is.
pub(crate) fn pod(
    subject: &mut Subject<'_>,
    document: &Node,
    pod: KubernetesPod,
    status: &Node,
) -> Option<Pod> {
    let before = subject.report.errors();
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let meta =
        digest_meta(subject, document, pod.metadata, Scope::NamespacedSubdomain, &annotation::POD)?;
    let terminal = matches!(status.get("phase").and_then(Node::text), Some("Succeeded" | "Failed"));
    let ready = !terminal && is_ready(status);
    let Some(spec) = pod.spec else {
        subject.error(document, "spec is missing");
        return None;
    };
    let pod = pod_of(subject, document, meta, document.at("spec"), spec);
    let pod = Pod { ready, terminating, terminal, ..pod };
    (subject.report.errors() == before).then_some(pod)
}

/// Whether a pod with this status is ready: what its `Ready` condition says, true where there is none.
fn is_ready(status: &Node) -> bool {
    let Some(Value::Seq(conditions)) = status.get("conditions").map(|node| &node.value) else {
        return true;
    };
    conditions
        .iter()
        .find(|condition| condition.get("type").and_then(Node::text) == Some("Ready"))
        .is_none_or(|condition| condition.get("status").and_then(Node::text) == Some("True"))
}

/// A pod from its metadata and spec; `owner` is the node with `metadata` in it.
fn pod_of(subject: &mut Subject<'_>, owner: &Node, meta: Meta, at: &Node, spec: PodSpec) -> Pod {
    let mut ports = Vec::new();
    let host_network = spec.host_network.unwrap_or(false);
    for (index, container) in spec.containers.into_iter().enumerate() {
        let at = at.at("containers").item(index);
        container_ports(subject, at, container, host_network, &mut ports);
    }
    // A sidecar is an init container that is never done.
    for (index, container) in spec.init_containers.unwrap_or_default().into_iter().enumerate() {
        if container.restart_policy.as_deref() == Some("Always") {
            let at = at.at("initContainers").item(index);
            container_ports(subject, at, container, host_network, &mut ports);
        }
    }
    let mac: Option<MacAddress> =
        pinned(subject, owner, &meta.annotations, annotation::MAC, "a unicast MAC address");
    let ip = pins::read(subject, owner, &meta.annotations, annotation::IP, pins::addresses);
    let excluded: Option<bool> =
        pinned(subject, owner, &meta.annotations, annotation::DFW_EXCLUDE, "\"true\" or \"false\"");
    let host = meta.annotations.get(annotation::HOST).cloned().or(spec.node_name);
    if let Some(host) = host.as_ref().filter(|host| !is_dns_subdomain(host)) {
        subject.error(at, format!("host '{}' is not a DNS name (RFC 1123)", excerpt(host)));
    }
    Pod {
        meta,
        ports,
        host,
        ready: true,
        terminating: false,
        terminal: false,
        host_network,
        owner: None,
        pins: PodPins { ip: ip.unwrap_or_default(), mac: mac.map(|mac| *mac) },
        firewall_excluded: excluded.unwrap_or(false),
    }
}

fn container_ports(
    subject: &mut Subject<'_>,
    at: &Node,
    container: Container,
    host_network: bool,
    ports: &mut Vec<ContainerPort>,
) {
    let mut names = std::collections::BTreeSet::new();
    for (index, declared) in container.ports.unwrap_or_default().into_iter().enumerate() {
        let at = at.at("ports").item(index);
        let number = port(subject, at.at("containerPort"), declared.container_port);
        // On the host's own network every port is the host's, and the API server writes so.
        if !host_network && declared.host_port.is_some_and(|port| port != 0) {
            subject.notice(
                at.at("hostPort"),
                "hostPort is not emulated: the port is only at the pod's own address",
            );
        }
        let protocol = protocol(subject, at.at("protocol"), declared.protocol.as_deref());
        if let Some(name) = declared.name.as_deref() {
            if !is_port_name(name) {
                subject.fault(
                    Fault::at(at.at("name"), format!("port name '{}' is not valid", excerpt(name)))
                        .help("use at most 15 lower-case letters, digits and '-', with at least one letter"),
                );
            } else if !names.insert(name.to_owned()) {
                subject.error(
                    at.at("name"),
                    format!("port name '{name}' is used twice in this container"),
                );
            }
        }
        if let (Some(port), Some(protocol)) = (number, protocol) {
            ports.push(ContainerPort { name: declared.name, port, protocol });
        }
    }
}

/// Checks and digests a workload of `kind`, one of Deployment, ReplicaSet, StatefulSet and DaemonSet.
pub(crate) fn workload(subject: &mut Subject<'_>, document: &Node, kind: &str) -> Option<Workload> {
    let (kind, parts) = match kind {
        "Deployment" => ("Deployment", subject.read::<Deployment>(document).map(Template::parts)),
        "ReplicaSet" => ("ReplicaSet", subject.read::<ReplicaSet>(document).map(Template::parts)),
        "StatefulSet" => {
            ("StatefulSet", subject.read::<StatefulSet>(document).map(Template::parts))
        }
        _ => ("DaemonSet", subject.read::<DaemonSet>(document).map(Template::parts)),
    };
    let parts = parts?;
    let before = subject.report.errors();
    let meta = digest_meta(
        subject,
        document,
        parts.metadata,
        Scope::NamespacedSubdomain,
        &annotation::WORKLOAD,
    )?;
    let pins = replica_pins(subject, document, &meta);
    let at = document.at("spec");
    let replicas = match parts.replicas {
        None => Replicas::EveryHost,
        Some(count) => match u32::try_from(count) {
            Ok(count) if count <= MAX_REPLICAS => Replicas::Count(count),
            _ => {
                subject.error(
                    at.at("replicas"),
                    format!("replicas {count} is not in 0..{MAX_REPLICAS}"),
                );
                return None;
            }
        },
    };
    let template = at.at("template");
    let template_meta = parts.template.metadata.unwrap_or_default();
    let template_labels = labels(
        subject,
        template.at("metadata").at("labels"),
        template_meta.labels.clone().unwrap_or_default(),
    );
    let selected = selector(subject, at.at("selector"), parts.selector);
    if selected.is_empty() {
        subject
            .error(at.at("selector"), "the selector is empty; it must match the template's labels");
    } else if !selected.matches(&template_labels) {
        subject.error(
            at.at("selector"),
            "the selector does not match the labels of the template: no pod would belong to it",
        );
    }
    // The template has no name of its own; its annotations are judged like a pod's.
    let template_meta = digest_meta(
        subject,
        template,
        ObjectMeta {
            name: Some(meta.name.clone()),
            namespace: Some(meta.namespace.clone()),
            labels: None,
            ..template_meta
        },
        Scope::NamespacedSubdomain,
        &annotation::POD,
    )?;
    let template_meta = Meta {
        labels: template_labels,
        source: Source { file: Arc::clone(&subject.file), line: document.line },
        ..template_meta
    };
    let Some(spec) = parts.template.spec else {
        subject.error(template, "spec.template.spec is missing");
        return None;
    };
    let template_pod = pod_of(subject, template, template_meta, template.at("spec"), spec);
    if template_pod.pins != PodPins::default() && !matches!(replicas, Replicas::Count(0 | 1)) {
        subject.fault(
            Fault::at(
                template.at("metadata").at("annotations"),
                "a pinned address cannot belong to several replicas",
            )
            .help(format!(
                "pin each by its ordinal with {} or {} of the {kind} itself",
                annotation::IPS,
                annotation::MACS
            )),
        );
    }
    (subject.report.errors() == before).then_some(Workload {
        meta,
        kind,
        replicas,
        template: template_pod,
        first: parts.first,
        pins,
        pins_at: Node { value: Value::Null, ..*document.at("metadata").at("annotations") },
    })
}

/// What a workload's annotations fix for its replicas.
fn replica_pins(
    subject: &mut Subject<'_>,
    document: &Node,
    meta: &Meta,
) -> BTreeMap<String, PodPins> {
    let (ips, macs) = (annotation::IPS, annotation::MACS);
    let ips = pins::read(subject, document, &meta.annotations, ips, pins::named_addresses);
    let macs = pins::read(subject, document, &meta.annotations, macs, pins::named_macs);
    let mut all: BTreeMap<String, PodPins> = BTreeMap::new();
    for (replica, ip) in ips.unwrap_or_default() {
        all.entry(replica).or_default().ip = ip;
    }
    for (replica, mac) in macs.unwrap_or_default() {
        all.entry(replica).or_default().mac = Some(mac);
    }
    all
}

/// What the four kinds have in common.
struct Parts {
    metadata: ObjectMeta,
    /// `None`: one on every host.
    replicas: Option<i32>,
    selector: LabelSelector,
    template: PodTemplateSpec,
    first: u32,
}

/// A kind that makes pods from a template.
trait Template {
    /// Its parts. A missing spec is an empty one, whose selector is refused.
    fn parts(self) -> Parts;
}

impl Template for Deployment {
    fn parts(self) -> Parts {
        let spec = self.spec;
        Parts {
            metadata: self.metadata,
            replicas: Some(spec.replicas.unwrap_or(1)),
            selector: spec.selector,
            template: spec.template,
            first: 0,
        }
    }
}

impl Template for ReplicaSet {
    fn parts(self) -> Parts {
        let spec = self.spec;
        Parts {
            metadata: self.metadata,
            replicas: Some(spec.replicas.unwrap_or(1)),
            selector: spec.selector,
            template: spec.template.unwrap_or_default(),
            first: 0,
        }
    }
}

impl Template for StatefulSet {
    fn parts(self) -> Parts {
        let spec = self.spec;
        Parts {
            metadata: self.metadata,
            replicas: Some(spec.replicas.unwrap_or(1)),
            selector: spec.selector,
            template: spec.template,
            first: spec
                .ordinals
                .and_then(|ordinals| ordinals.start)
                .and_then(|start| u32::try_from(start).ok())
                .unwrap_or(0),
        }
    }
}

impl Template for DaemonSet {
    fn parts(self) -> Parts {
        let spec = self.spec;
        Parts {
            metadata: self.metadata,
            replicas: None,
            selector: spec.selector,
            template: spec.template,
            first: 0,
        }
    }
}

impl Workload {
    /// Its pods; `hosts` are the cluster's.
    pub fn pods<'a>(&'a self, hosts: &'a [String]) -> Box<dyn Iterator<Item = Pod> + 'a> {
        let one = |suffix: String, host: Option<&String>| Pod {
            meta: Meta {
                name: format!("{}-{suffix}", self.meta.name),
                ..self.template.meta.clone()
            },
            owner: Some(Owner { kind: self.kind, name: self.meta.name.clone() }),
            host: host.or(self.template.host.as_ref()).cloned(),
            pins: self.pins.get(&suffix).copied().unwrap_or(self.template.pins),
            ..self.template.clone()
        };
        match self.replicas {
            Replicas::Count(count) => Box::new(
                (0..count)
                    .map(move |n| one((u64::from(self.first) + u64::from(n)).to_string(), None)),
            ),
            Replicas::EveryHost => {
                Box::new(hosts.iter().map(move |host| one(host.clone(), Some(host))))
            }
        }
    }

    /// What is wrong with the pins of single replicas: they name one that there is not, or fix what the template's
    /// annotations fix too.
    pub fn pins_fault(&self, hosts: &[String]) -> Option<Fault> {
        let exists = |replica: &str| match self.replicas {
            // Written as the pods' names have it: no sign, no leading zero.
            Replicas::Count(count) => replica.parse::<u32>().is_ok_and(|n| {
                n.to_string() == replica && n.checked_sub(self.first).is_some_and(|n| n < count)
            }),
            Replicas::EveryHost => hosts.iter().any(|host| host == replica),
        };
        if let Some(unknown) = self.pins.keys().find(|replica| !exists(replica)) {
            let message = format!("an address is pinned for replica '{}'", excerpt(unknown));
            let known = match self.replicas {
                Replicas::Count(0) => "it has none".to_owned(),
                Replicas::Count(count) => {
                    let last = u64::from(self.first) + u64::from(count) - 1;
                    format!("its replicas are {} to {last}", self.first)
                }
                Replicas::EveryHost => format!("its replicas are {}", hosts.join(", ")),
            };
            return Some(Fault::at(&self.pins_at, message).help(known));
        }
        let both = !self.pins.is_empty() && self.template.pins != PodPins::default();
        both.then(|| {
            Fault::at(&self.pins_at, "addresses are pinned here and in the template")
                .help("leave out one of the two")
        })
    }
}
