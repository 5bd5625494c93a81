//! Checks of our own kinds alone ([`Spec`]), and of all objects against each other ([`together`]).

mod guests;
mod nat;
mod outside;
mod packet_test;
mod security;
mod snat_pools;
mod steps;
mod supervisor;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Report, Severity, Subject};
use crate::manifests::{Document, Manifests};
use crate::model::{
    Definitions, Labels, Meta, Namespace, NamespacePins, Object, Source, annotation,
};
use crate::node::{Fault, Node};
use crate::own::{ExternalNetworkSpec, PortRef};

/// A `spec` of our own kinds.
pub(crate) trait Spec {
    /// The annotations of ours that the kind takes.
    const ANNOTATIONS: &'static [&'static str] = &[];

    /// Checks what needs no other object; `at` is the spec's place. May complete defaults that depend on others.
    fn check(&mut self, subject: &mut Subject<'_>, at: &Node);

    /// Takes over what the annotations of `document` fix; called after [`Spec::check`].
    fn pin(&mut self, _subject: &mut Subject<'_>, _document: &Node, _annotations: &Labels) {}
}

/// Namespaces that a Supervisor has without anyone writing them.
const SYSTEM_NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// And all with this prefix.
const SYSTEM_PREFIX: &str = "vmware-system-";

/// Names of `known` for a help text.
fn listed<'a>(known: impl Iterator<Item = &'a String> + Clone) -> String {
    let shown: Vec<&str> = known.clone().take(8).map(String::as_str).collect();
    match shown.len() {
        0 => "none is defined".to_owned(),
        _ if known.count() > 8 => format!("defined are {} and more", shown.join(", ")),
        _ => format!("defined are {}", shown.join(", ")),
    }
}

/// Reports a name that nothing has.
fn undefined<'a>(
    subject: &mut Subject<'_>,
    at: &Node,
    what: &str,
    name: &str,
    known: impl Iterator<Item = &'a String> + Clone,
) {
    let help = crate::node::suggestion(name, known.clone().map(String::as_str))
        .filter(|help| help.starts_with("did"))
        .unwrap_or_else(|| listed(known));
    subject.fault(
        Fault::at(at, format!("{what} '{}' is not defined", crate::node::excerpt(name))).help(help),
    );
}

/// Whether `port` exists.
fn port_exists(
    subject: &mut Subject<'_>,
    at: &Node,
    definitions: &Definitions,
    port: &PortRef,
) -> bool {
    match port {
        PortRef::Pod(pod) => {
            if !definitions.pods.contains_key(pod) {
                let near: Vec<String> = definitions
                    .pods
                    .keys()
                    .filter(|key| key.namespace == pod.namespace)
                    .take(crate::node::MAX_COMPARED)
                    .map(ToString::to_string)
                    .collect();
                undefined(subject, at, "pod", &pod.to_string(), near.iter());
                return false;
            }
        }
        PortRef::Host { name, interface } => {
            let Some(host) = definitions.external_hosts.get(name) else {
                undefined(subject, at, "host", name, definitions.external_hosts.keys());
                return false;
            };
            if let Some(interface) = interface
                && !host.spec.interfaces.iter().any(|i| i.name == *interface)
            {
                let names: Vec<String> =
                    host.spec.interfaces.iter().map(|i| i.name.clone()).collect();
                undefined(subject, at, "interface", interface, names.iter());
                return false;
            }
        }
        PortRef::Vm { name, .. } => {
            let names = definitions
                .supervisor()
                .map(|cluster| cluster.spec.control_plane_vms())
                .unwrap_or_default();
            if !names.contains(name) {
                undefined(subject, at, "control-plane VM", name, names.iter());
                return false;
            }
        }
    }
    true
}

/// Checks all objects against each other and adds what is there without being written.
pub(crate) fn together(definitions: &mut Definitions, manifests: &Manifests, report: &mut Report) {
    add_management_network(definitions);
    namespaces(definitions, report);
    guests::limits(definitions, report);
    places(definitions, report);
    let mut addresses = outside::Addresses::default();
    let mut changes = packet_test::Changes::new(manifests);
    // In the order of kind and name, not of files.
    for ((kind, name), Document { file, node }) in manifests.documents() {
        let (at, name) = (node.at("spec"), name.name.as_str());
        let subject = &mut Subject {
            report: &mut *report,
            file: Arc::clone(file),
            object: Some(format!("{kind} {name}")),
        };
        match *kind {
            "SupervisorCluster" => {
                supervisor::together(subject, at, definitions, name, &mut addresses);
            }
            "Tier0Gateway" => outside::tier0(subject, at, definitions, name, &mut addresses),
            "ExternalHost" => outside::host(subject, at, definitions, name, &mut addresses),
            "Attachment" => steps::attachment(subject, at, definitions, name),
            "PacketTest" => {
                let made = packet_test::packet_test(subject, at, definitions, &mut changes, name);
                if let Some(test) = definitions.packet_tests.get_mut(name) {
                    test.spec.changes = made;
                }
            }
            _ => {}
        }
    }
}

/// The management network where nobody defined it.
fn add_management_network(definitions: &mut Definitions) {
    let Some(cluster) = definitions.supervisor() else {
        return;
    };
    let management = &cluster.spec.control_plane.management;
    if management.network.is_none() {
        let name = cluster.spec.management_network().to_owned();
        let network = Object {
            meta: Meta {
                namespace: String::new(),
                name: name.clone(),
                labels: Labels::new(),
                annotations: Labels::new(),
                source: cluster.meta.source.clone(),
            },
            spec: ExternalNetworkSpec {
                cidr: Some(management.cidr),
                ..ExternalNetworkSpec::default()
            },
        };
        definitions.external_networks.entry(name).or_insert(network);
    }
}

/// Every namespace that an object lies in is defined, or one of the system's, which is then added.
fn namespaces(definitions: &mut Definitions, report: &mut Report) {
    let extra: Vec<String> = definitions
        .supervisor()
        .map(|cluster| cluster.spec.system_namespaces.clone())
        .unwrap_or_default();
    let is_system = |name: &str| {
        SYSTEM_NAMESPACES.contains(&name)
            || name.starts_with(SYSTEM_PREFIX)
            || extra.iter().any(|system| system == name)
    };
    let d = &*definitions;
    let objects = d
        .pods
        .values()
        // A workload's pods lie where it does; one message is for all.
        .map(|pod| match &pod.owner {
            Some(owner) => (owner.kind, &pod.meta, Some(&owner.name)),
            None => ("Pod", &pod.meta, None),
        })
        .chain(d.services.values().map(|o| ("Service", &o.meta, None)))
        .chain(d.endpoints.values().map(|o| ("Endpoints", &o.meta, None)))
        .chain(d.endpoint_slices.values().map(|o| ("EndpointSlice", &o.meta, None)))
        .chain(d.network_policies.values().map(|o| ("NetworkPolicy", &o.meta, None)))
        .chain(
            d.security_policies
                .values()
                .map(|o| (crate::kubernetes::SECURITY_POLICY, &o.meta, None)),
        )
        .chain(
            d.guest_clusters.values().map(|o| (crate::kubernetes::GUEST_CLUSTER, &o.meta, None)),
        );
    let mut implicit: BTreeMap<String, Source> = BTreeMap::new();
    let mut reported = std::collections::BTreeSet::new();
    for (kind, meta, owner) in objects {
        if report.is_full() {
            break;
        }
        if d.namespaces.contains_key(&meta.namespace) {
            continue;
        }
        if is_system(&meta.namespace) {
            implicit.entry(meta.namespace.clone()).or_insert_with(|| meta.source.clone());
            continue;
        }
        let name = owner.unwrap_or(&meta.name);
        if !reported.insert((kind, meta.namespace.clone(), name.clone())) {
            continue;
        }
        report.push(Diagnostic {
            file: Arc::clone(&meta.source.file),
            line: meta.source.line,
            column: 1,
            severity: Severity::Error,
            object: Some(format!("{kind} {}/{name}", meta.namespace)),
            message: format!("namespace '{}' is not defined", meta.namespace),
            help: Some(
                crate::node::suggestion(&meta.namespace, d.namespaces.keys().map(String::as_str))
                    .filter(|help| help.starts_with("did"))
                    .unwrap_or_else(|| "add a Namespace of this name".to_owned()),
            ),
        });
    }
    for (name, source) in implicit {
        let labels = Labels::from([("kubernetes.io/metadata.name".to_owned(), name.clone())]);
        definitions.namespaces.insert(
            name.clone(),
            Namespace {
                meta: Meta {
                    namespace: String::new(),
                    name,
                    labels,
                    annotations: Labels::new(),
                    source,
                },
                pins: NamespacePins::default(),
                implicit: true,
            },
        );
    }
}

/// Pods are placed on hosts that exist, and no two have the same pinned address.
///
/// An unknown `spec.nodeName` is what a manifest dumped from a real cluster has: it is dropped with a notice. Pods
/// on the host's own network may be on a control-plane VM too.
fn places(definitions: &mut Definitions, report: &mut Report) {
    let hosts = definitions.supervisor().map(|cluster| cluster.spec.hosts.clone());
    let vms = definitions
        .supervisor()
        .map(|cluster| cluster.spec.control_plane_vms())
        .unwrap_or_default();
    let mut pinned = BTreeMap::new();
    for pod in definitions.pods.values_mut() {
        let (source, key) = (pod.meta.source.clone(), pod.meta.key());
        let mut say = |severity, message, help| {
            report.push(Diagnostic {
                file: Arc::clone(&source.file),
                line: source.line,
                column: 1,
                severity,
                object: Some(format!("Pod {key}")),
                message,
                help,
            });
        };
        if let (Some(host), Some(hosts)) = (&pod.host, &hosts)
            && !hosts.names().contains(host)
            && !(pod.host_network && vms.contains(host))
        {
            let message = format!("it is placed on host '{host}', which the cluster does not have");
            if pod.meta.annotations.contains_key(annotation::HOST) {
                say(Severity::Error, message, Some(listed(hosts.names().iter())));
            } else {
                say(Severity::Notice, message, Some("another is chosen".to_owned()));
                pod.host = None;
            }
        }
        for ip in pod.pins.ip.iter() {
            if let Some(other) = pinned.insert(ip, key.clone()) {
                say(
                    Severity::Error,
                    format!("its pinned address {ip} is also that of pod {other}"),
                    Some("give each its own".to_owned()),
                );
            }
        }
    }
}
