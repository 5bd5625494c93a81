//! Inputs to [`Definitions`]: reading, sorting out kinds, and the order of checks.
//!
//! Each object is first read and checked alone. Only when all are good are they checked against each other, so that
//! one fault gives one message and not a cascade.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Endpoints, Namespace as KubernetesNamespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::check;
use crate::diagnostic::{Diagnostic, Report, Subject};
use crate::input::{Input, gather, of_file};
use crate::kubernetes::{self, Scope, Workload};
use crate::manifests::{Document, Documents, Manifests};
use crate::model::{Definitions, Meta, Object};
use crate::node::{Entry, Fault, Node, Value, excerpt, suggestion};
use crate::own::{self, SupervisorClusterSpec};
use crate::yaml;

/// What was loaded.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    /// The definitions.
    pub definitions: Definitions,
    /// What they were read from: what a change is made to.
    pub manifests: Manifests,
    /// What the user should know: skipped objects, settings without effect. Sorted by place.
    pub notices: Vec<Diagnostic>,
}

/// The most octets that expanded pods may take: a template with many labels times many replicas.
const MAX_EXPANDED: usize = 64 * 1024 * 1024;
/// The most pods, expanded ones included.
const MAX_PODS: usize = 65_536;

/// Reads all inputs. Their order does not matter.
///
/// # Errors
/// Every fault, sorted by place; at least one. Nothing is loaded then.
pub fn load(inputs: &[Input]) -> Result<Loaded, Vec<Diagnostic>> {
    let mut loader = Loader::default();
    loader.read(inputs);
    loader.finish()
}

/// Definitions on their way.
#[derive(Default)]
pub(crate) struct Loader {
    definitions: Definitions,
    documents: Documents,
    workloads: Vec<(Arc<str>, Node, Workload)>,
    report: Report,
}

/// `apiVersion` split into group and version; the core group is empty.
fn group_of(api_version: &str) -> &str {
    api_version.rsplit_once('/').map_or("", |(group, _)| group)
}

impl Loader {
    /// Reads all inputs, each object alone.
    pub fn read(&mut self, inputs: &[Input]) {
        let texts = gather(inputs, &mut self.report);
        let first = texts.keys().next().cloned();
        let others = texts.len().saturating_sub(1);
        let mut nothing = true;
        let mut nodes = yaml::MAX_NODES;
        for (file, bytes) in texts {
            if nodes == 0 && self.report.errors() > 0 {
                break;
            }
            let documents = yaml::parse(&bytes, &mut nodes);
            drop(bytes);
            match documents {
                Ok(documents) => {
                    nothing &= documents.is_empty();
                    for document in documents {
                        if self.report.is_full() {
                            break;
                        }
                        self.document(&file, document);
                    }
                }
                Err(unreadable) => {
                    let mut subject = self.subject(&file);
                    subject.object = unreadable.within.as_ref().and_then(|document| {
                        Some(described(document.get("kind")?.text()?, document))
                    });
                    subject.fault(unreadable.fault);
                }
            }
        }
        if let Some(first) = first.filter(|_| nothing && self.report.errors() == 0) {
            let message = match others {
                0 => "there is nothing in it".to_owned(),
                _ => format!("there is nothing in it, nor in {others} further files"),
            };
            self.report.push(of_file(&first, message));
        }
    }

    /// Takes documents that have been read before.
    pub fn take(&mut self, documents: &Documents) {
        for ((kind, _), Document { file, node }) in documents {
            self.object(file, kind, Arc::clone(node));
        }
    }

    /// What was read, each object checked alone.
    ///
    /// # Errors
    /// As [`load`].
    pub fn documents(self) -> Result<(Documents, Vec<Diagnostic>), Vec<Diagnostic>> {
        Ok((self.documents, self.report.finish()?))
    }

    /// Checks all objects against each other.
    ///
    /// # Errors
    /// As [`load`].
    pub fn finish(mut self) -> Result<Loaded, Vec<Diagnostic>> {
        if self.report.errors() == 0 {
            self.expand();
        }
        let mut manifests = Manifests::new(self.documents);
        if self.report.errors() == 0 {
            check::together(&mut self.definitions, &manifests, &mut self.report);
        }
        let notices = self.report.finish()?;
        manifests.told(&notices);
        Ok(Loaded { definitions: self.definitions, manifests, notices })
    }

    fn subject(&mut self, file: &Arc<str>) -> Subject<'_> {
        Subject { report: &mut self.report, file: Arc::clone(file), object: None }
    }

    /// One document: an object or a list of objects.
    pub fn document(&mut self, file: &Arc<str>, mut document: Node) {
        let mut subject = self.subject(file);
        if !matches!(document.value, Value::Map(_)) {
            return subject.error(
                &document,
                "this document is not an object: a mapping with apiVersion and kind",
            );
        }
        let Some(kind) = document.get("kind").and_then(Node::text).map(str::to_owned) else {
            return subject.error(document.at("kind"), "kind is missing");
        };
        subject.object = Some(described(&kind, &document));
        let own_kind = own::KINDS.iter().find(|(name, _)| *name == kind);
        let api_version = match (document.get("apiVersion").map(Node::text), own_kind) {
            (Some(Some(text)), _) => text.to_owned(),
            (None, Some(_)) => own::API_VERSION.to_owned(),
            _ => return subject.error(document.at("apiVersion"), "apiVersion is missing"),
        };
        if group_of(&api_version) == own::GROUP {
            let Some((kind, _)) = own_kind else {
                let mut fault = Fault::at(
                    document.at("kind"),
                    format!("unknown kind '{}' in group {}", excerpt(&kind), own::GROUP),
                );
                fault.help = suggestion(&kind, own::KINDS.iter().map(|(name, _)| *name));
                return subject.fault(fault);
            };
            if api_version != own::API_VERSION {
                return subject.error(
                    document.at("apiVersion"),
                    format!("unknown version; it is {}", own::API_VERSION),
                );
            }
            return self.object(file, kind, Arc::new(document));
        }
        if kind.ends_with("List") && document.get("items").is_some() {
            return self.list(file, &kind, &api_version, &mut document);
        }
        if kind == kubernetes::GUEST_CLUSTER && api_version == kubernetes::GUEST_CLUSTER_VERSION {
            return self.object(file, kubernetes::GUEST_CLUSTER, Arc::new(document));
        }
        // A kind may be read in several groups; the first is the one to recommend.
        let known = || kubernetes::EMULATED.iter().filter(|(name, _)| *name == kind);
        let read = known().find(|(_, version)| *version == api_version);
        match read.or_else(|| known().next()) {
            Some((kind, version)) if *version == api_version => {
                self.object(file, kind, Arc::new(document));
            }
            Some((kind, version)) if kubernetes::is_own_group(group_of(&api_version)) => {
                subject.error(
                    document.at("apiVersion"),
                    format!("{kind} is read as {version}, not {}", excerpt(&api_version)),
                );
            }
            _ if let Some(meant) = kubernetes::misspelt(&kind, group_of(&api_version)) => {
                // Skipped, a policy would fail open.
                subject.fault(
                    Fault::at(
                        document.at("kind"),
                        format!("unknown kind '{}' in {}", excerpt(&kind), excerpt(&api_version)),
                    )
                    .help(format!("did you mean '{meant}'?")),
                );
            }
            _ => subject.notice(
                &document,
                format!("skipped: {} {} is not emulated", excerpt(&api_version), excerpt(&kind)),
            ),
        }
    }

    /// `kind: List` and typed lists, whose items may leave out what the list's kind says.
    fn list(&mut self, file: &Arc<str>, kind: &str, api_version: &str, document: &mut Node) {
        let Value::Map(entries) = &mut document.value else {
            return;
        };
        let items = entries.iter_mut().find(|entry| &*entry.key == "items");
        let Some(items) = items.map(|entry| std::mem::replace(&mut entry.value.value, Value::Null))
        else {
            return;
        };
        let items = match items {
            Value::Seq(items) => items,
            Value::Null => Vec::new(),
            _ => return self.subject(file).error(document, "items is not a list"),
        };
        let item_kind = kind.strip_suffix("List").filter(|kind| !kind.is_empty());
        for mut item in items {
            if self.report.is_full() {
                break;
            }
            let (line, column) = (item.line, item.column);
            if let (Some(item_kind), Value::Map(entries)) = (item_kind, &mut item.value) {
                for (key, value) in [("apiVersion", api_version), ("kind", item_kind)] {
                    if !entries.iter().any(|entry| &*entry.key == key) {
                        entries.push(Entry {
                            key: key.into(),
                            line,
                            column,
                            value: Node {
                                line,
                                column,
                                quoted: false,
                                value: Value::Text(value.into()),
                            },
                        });
                    }
                }
            }
            self.document(file, item);
        }
    }

    /// An object of a kind that is read.
    fn object(&mut self, file: &Arc<str>, kind: &'static str, document: Arc<Node>) {
        if own::KINDS.iter().any(|(name, _)| *name == kind) {
            self.own_object(file, kind, document);
        } else if kind == kubernetes::GUEST_CLUSTER {
            self.guest_cluster(file, document);
        } else {
            self.kubernetes_object(file, kind, document);
        }
    }

    /// Notes where an object is; false, with a message, if it is there already.
    fn first(
        &mut self,
        file: &Arc<str>,
        document: Arc<Node>,
        kind: &'static str,
        meta: &Meta,
    ) -> bool {
        if let Some(other) = self.documents.get(&(kind, meta.key())) {
            let source = other.source();
            let mut subject = self.subject(file);
            subject.object = Some(described(kind, &document));
            subject.fault(
                Fault::at(&document, format!("is already defined at {source}"))
                    .help("remove one of the two or rename it"),
            );
            return false;
        }
        let document = Document { file: Arc::clone(file), node: document };
        self.documents.insert((kind, meta.key()), document);
        true
    }

    /// A guest cluster: checked, counted and skipped.
    fn guest_cluster(&mut self, file: &Arc<str>, document: Arc<Node>) {
        let mut subject = self.subject(file);
        subject.object = Some(described(kubernetes::GUEST_CLUSTER, &document));
        let Some(guest) = kubernetes::guest_cluster(&mut subject, &document) else {
            return;
        };
        subject.notice(
            &document,
            format!("skipped: guest clusters ({}) are not emulated yet", guest.version),
        );
        if self.first(file, document, kubernetes::GUEST_CLUSTER, &guest.meta) {
            self.definitions.guest_clusters.insert(guest.meta.key(), guest);
        }
    }

    fn kubernetes_object(&mut self, file: &Arc<str>, kind: &'static str, written: Arc<Node>) {
        let mut subject = self.subject(file);
        subject.object = Some(described(kind, &written));
        let subject = &mut subject;
        let (document, status) = kubernetes::set_aside(subject, kind, &written);
        let document: &Node = &document;
        /// Reads, digests and inserts an object of one kind.
        macro_rules! take {
            ($type:ty, $digest:expr, $map:ident) => {{
                let object = subject
                    .read::<$type>(document)
                    .and_then(|object| $digest(subject, document, object));
                if let Some(object) = object
                    && self.first(file, Arc::clone(&written), kind, &object.meta)
                {
                    self.definitions.$map.insert(object.meta.key(), object);
                }
            }};
        }
        match kind {
            "Namespace" => {
                let object = subject
                    .read::<KubernetesNamespace>(document)
                    .and_then(|object| kubernetes::namespace(subject, document, object.metadata));
                if let Some(object) = object
                    && self.first(file, Arc::clone(&written), kind, &object.meta)
                {
                    self.definitions.namespaces.insert(object.meta.name.clone(), object);
                }
            }
            "Pod" => {
                let digest = |subject: &mut Subject<'_>, document: &Node, pod: Pod| {
                    kubernetes::pod(subject, document, pod, &status)
                };
                take!(Pod, digest, pods);
            }
            "Service" => take!(Service, kubernetes::service, services),
            "Endpoints" => take!(Endpoints, kubernetes::endpoints, endpoints),
            "EndpointSlice" => take!(EndpointSlice, kubernetes::endpoint_slice, endpoint_slices),
            "NetworkPolicy" => take!(NetworkPolicy, kubernetes::network_policy, network_policies),
            kubernetes::SECURITY_POLICY => take!(
                kubernetes::SecurityPolicyManifest,
                kubernetes::security_policy,
                security_policies
            ),
            _ => {
                if let Some(workload) = kubernetes::workload(subject, document, kind)
                    && self.first(file, Arc::clone(&written), kind, &workload.meta)
                {
                    // Only the place is needed later.
                    let place = Node { value: Value::Null, ..*document };
                    self.workloads.push((Arc::clone(file), place, workload));
                }
            }
        }
    }

    fn own_object(&mut self, file: &Arc<str>, kind: &'static str, document: Arc<Node>) {
        /// Reads, checks and inserts an object of one of our kinds.
        macro_rules! take {
            ($map:ident) => {{
                let mut subject = self.subject(file);
                subject.object = Some(described(kind, &document));
                let object = own_object(&mut subject, &document);
                if let Some(object) = object
                    && self.first(file, document, kind, &object.meta)
                {
                    self.definitions.$map.insert(object.meta.name.clone(), object);
                }
            }};
        }
        match kind {
            "SupervisorCluster" => take!(supervisor_clusters),
            "Tier0Gateway" => take!(tier0_gateways),
            "ExternalNetwork" => take!(external_networks),
            "ExternalHost" => take!(external_hosts),
            "Attachment" => take!(attachments),
            _ => take!(packet_tests),
        }
    }

    /// Workloads to pods.
    fn expand(&mut self) {
        let hosts = self.definitions.supervisor().map_or_else(
            || SupervisorClusterSpec::default().hosts,
            |cluster| cluster.spec.hosts.clone(),
        );
        let mut expanded = 0usize;
        for (file, place, workload) in std::mem::take(&mut self.workloads) {
            let mut subject = Subject {
                report: &mut self.report,
                file,
                object: Some(format!("{} {}", workload.kind, workload.meta.key())),
            };
            if let Some(fault) = workload.pins_fault(hosts.names()) {
                subject.fault(fault);
                continue;
            }
            let size = size_of(&workload.template);
            for pod in workload.pods(hosts.names()) {
                expanded += size;
                if expanded > MAX_EXPANDED {
                    return subject.error(
                        &place,
                        "the labels and annotations of all replicas take more than 64 MiB",
                    );
                }
                if !crate::text::is_dns_subdomain(&pod.meta.name) {
                    subject
                        .error(&place, "the names of its pods would be longer than 253 characters");
                    break;
                }
                if self.definitions.pods.len() >= MAX_PODS {
                    return subject.error(&place, format!("a lab has at most {MAX_PODS} pods"));
                }
                let name = pod.meta.name.clone();
                if let Some(other) = self.definitions.pods.insert(pod.meta.key(), pod) {
                    subject.fault(
                        Fault::at(
                            &place,
                            format!("its pod '{name}' is already defined at {}", other.meta.source),
                        )
                        .help("rename one of the two"),
                    );
                    break;
                }
            }
        }
    }
}

/// About how many octets a copy of `pod` takes.
fn size_of(pod: &crate::model::Pod) -> usize {
    let texts = |labels: &crate::model::Labels| -> usize {
        labels.iter().map(|(k, v)| k.len() + v.len() + 64).sum()
    };
    512 + texts(&pod.meta.labels) + texts(&pod.meta.annotations) + 64 * pod.ports.len()
}

/// `Kind name` or `Kind namespace/name`, as far as the document says.
fn described(kind: &str, document: &Node) -> String {
    let text = |key: &str| {
        document
            .get("metadata")
            .and_then(|metadata| metadata.get(key))
            .and_then(Node::text)
            .map(excerpt)
    };
    let kind = excerpt(kind);
    let is_ours = own::KINDS.iter().any(|(name, _)| *name == kind);
    match (text("namespace"), text("name")) {
        (Some(namespace), Some(name)) => format!("{kind} {namespace}/{name}"),
        (None, Some(name)) if is_ours || kind == "Namespace" => format!("{kind} {name}"),
        (None, Some(name))
            if kind == kubernetes::GUEST_CLUSTER
                || kubernetes::EMULATED.iter().any(|(k, _)| *k == kind) =>
        {
            format!("{kind} default/{name}")
        }
        (None, Some(name)) => format!("{kind} {name}"),
        (_, None) => kind,
    }
}

/// The outside of an object of our own kinds.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Envelope {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: String,
    metadata: ObjectMeta,
    #[serde(rename = "spec")]
    _spec: Option<IgnoredAny>,
}

/// Reads an object of our own kinds and checks it alone.
fn own_object<S: DeserializeOwned + check::Spec>(
    subject: &mut Subject<'_>,
    document: &Node,
) -> Option<Object<S>> {
    let before = subject.report.errors();
    let envelope: Envelope = subject.read(document)?;
    let meta = kubernetes::digest_meta(
        subject,
        document,
        envelope.metadata,
        Scope::ClusterSubdomain,
        S::ANNOTATIONS,
    );
    let empty = Node { value: Value::Map(Vec::new()), ..*document };
    let node = document.get("spec").unwrap_or(&empty);
    let mut spec: S = subject.read(node)?;
    spec.check(subject, node);
    let meta = meta?;
    spec.pin(subject, document, &meta.annotations);
    (subject.report.errors() == before).then_some(Object { meta, spec })
}
