//! What was written, object by object, and changes to it, as `kubectl apply` and `kubectl delete` make them.
//!
//! A change is made to the documents, never to the digested definitions: what comes of it is what loading all
//! documents as they then are would give, with every check between objects. Packet tests are no part of a lab that
//! changes: they are left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Severity};
use crate::input::Input;
use crate::kubernetes;
use crate::load::{Loaded, Loader};
use crate::model::{ObjectName, Source};
use crate::node::{Node, Value, excerpt, suggestion};
use crate::own;
use crate::yaml;

/// Kind, namespace (empty for kinds that lie in none) and name.
pub(crate) type Identity = (&'static str, ObjectName);
/// Documents by what they describe.
pub(crate) type Documents = BTreeMap<Identity, Document>;

/// The kind that a change neither applies nor deletes.
const PACKET_TEST: &str = "PacketTest";

/// A document and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Document {
    pub file: Arc<str>,
    pub node: Arc<Node>,
}

impl Document {
    pub fn source(&self) -> Source {
        Source { file: Arc::clone(&self.file), line: self.node.line }
    }
}

/// An object by kind and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectRef {
    /// Its kind, as in a manifest.
    pub kind: String,
    /// Its namespace; `None` for kinds that lie in none, and for namespace `default`.
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
}

impl ObjectRef {
    /// As `kubectl` names it, without its namespace: `service/web`, `networkpolicy.networking.k8s.io/web`.
    #[must_use]
    pub fn resource(&self) -> String {
        let kubernetes = kubernetes::EMULATED.iter().copied();
        let guest = (kubernetes::GUEST_CLUSTER, kubernetes::GUEST_CLUSTER_VERSION);
        let own = own::KINDS.iter().map(|(kind, _)| (*kind, own::API_VERSION));
        let mut known = kubernetes.chain([guest]).chain(own);
        let version = known.find(|(kind, _)| *kind == self.kind).map_or("", |(_, version)| version);
        let kind = self.kind.to_lowercase();
        match version.rsplit_once('/') {
            Some((group, _)) => format!("{kind}.{group}/{}", self.name),
            None => format!("{kind}/{}", self.name),
        }
    }
}

/// The kind that a word means, as on `kubectl`'s command line: in any case, singular or plural, or the short name.
/// `None` for what is no kind of a lab that changes.
#[must_use]
pub fn kind_named(word: &str) -> Option<&'static str> {
    const SHORT: [(&str, &str); 9] = [
        ("ns", "Namespace"),
        ("po", "Pod"),
        ("svc", "Service"),
        ("ep", "Endpoints"),
        ("deploy", "Deployment"),
        ("rs", "ReplicaSet"),
        ("sts", "StatefulSet"),
        ("ds", "DaemonSet"),
        ("netpol", "NetworkPolicy"),
    ];
    let word = word.to_lowercase();
    let plural = |kind: &str| match kind.strip_suffix('y') {
        // Gateways, but policies.
        Some(stem) if !stem.ends_with('a') => format!("{stem}ies"),
        _ => format!("{kind}s"),
    };
    let short = SHORT.iter().find(|(short, _)| *short == word).map(|(_, kind)| *kind);
    let kubernetes = kubernetes::EMULATED.iter().map(|(kind, _)| *kind);
    let own = own::KINDS.iter().map(|(kind, _)| *kind).filter(|kind| *kind != PACKET_TEST);
    short.or_else(|| {
        kubernetes.chain([kubernetes::GUEST_CLUSTER]).chain(own).find(|kind| {
            let kind = kind.to_lowercase();
            word == kind || word == plural(&kind)
        })
    })
}

/// `Kind name` or `Kind namespace/name`.
impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// What a change did to an object, in `kubectl`'s words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It is new.
    Created,
    /// It was there and is different now.
    Configured,
    /// It is gone.
    Deleted,
}

impl fmt::Display for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Effect::Created => "created",
            Effect::Configured => "configured",
            Effect::Deleted => "deleted",
        })
    }
}

/// What a change does with its objects.
#[derive(Clone, Debug, PartialEq)]
enum Verb {
    Apply(Documents),
    /// With the place where each deletion was asked for.
    Delete(BTreeMap<Identity, Source>),
}

/// A change to a lab's definitions; each object of it is well written by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Change {
    verb: Verb,
    notices: Vec<Diagnostic>,
}

impl Change {
    /// The objects that are to be there, or no longer to be there, sorted.
    #[must_use]
    pub fn objects(&self) -> Vec<ObjectRef> {
        match &self.verb {
            Verb::Apply(documents) => documents.keys().map(object).collect(),
            Verb::Delete(objects) => objects.keys().map(object).collect(),
        }
    }

    /// Objects that are to be there as they are written here, whether or not they are there already.
    ///
    /// # Errors
    /// Every fault, sorted by place.
    pub fn apply(inputs: &[Input]) -> Result<Change, Vec<Diagnostic>> {
        Change::applied(|loader| loader.read(inputs))
    }

    /// As [`Change::apply`], also of documents that stand in one of `file`.
    pub(crate) fn apply_with(
        inputs: &[Input],
        file: &Arc<str>,
        nodes: Vec<Node>,
    ) -> Result<Change, Vec<Diagnostic>> {
        Change::applied(|loader| {
            loader.read(inputs);
            nodes.into_iter().for_each(|node| loader.document(file, node));
        })
    }

    /// How many values its documents have.
    pub(crate) fn size(&self) -> usize {
        match &self.verb {
            Verb::Apply(documents) => documents.values().map(|d| d.node.count()).sum(),
            Verb::Delete(objects) => objects.len(),
        }
    }

    fn applied(read: impl FnOnce(&mut Loader)) -> Result<Change, Vec<Diagnostic>> {
        let mut loader = Loader::default();
        read(&mut loader);
        let (mut documents, notices) = loader.documents()?;
        documents.retain(|(kind, _), _| *kind != PACKET_TEST);
        Ok(Change { verb: Verb::Apply(documents), notices })
    }

    /// The objects that are written here are to be there no more; a namespace goes with all that lies in it.
    ///
    /// # Errors
    /// Every fault, sorted by place.
    pub fn delete(inputs: &[Input]) -> Result<Change, Vec<Diagnostic>> {
        let Change { verb, notices } = Change::apply(inputs)?;
        let objects = match verb {
            Verb::Apply(documents) => {
                documents.into_iter().map(|(id, document)| (id, document.source())).collect()
            }
            Verb::Delete(objects) => objects,
        };
        Ok(Change { verb: Verb::Delete(objects), notices })
    }

    /// As [`Change::delete`], of one object. `place` is where this was asked for; line 0 stands for none.
    ///
    /// # Errors
    /// There is no such kind, or it lies in no namespace and one is named.
    pub fn delete_object(object: &ObjectRef, place: Source) -> Result<Change, Vec<Diagnostic>> {
        let fault = |message: String, help: Option<String>| {
            vec![diagnostic(&place, object.to_string(), message, help)]
        };
        let own = own::KINDS.iter().map(|(kind, _)| *kind).filter(|kind| *kind != PACKET_TEST);
        let kubernetes = kubernetes::EMULATED.iter().map(|(kind, _)| *kind);
        let kinds: BTreeSet<&'static str> =
            own.clone().chain(kubernetes).chain([kubernetes::GUEST_CLUSTER]).collect();
        let Some(kind) = kinds.iter().copied().find(|kind| *kind == object.kind) else {
            let help = suggestion(&object.kind, kinds.iter().copied());
            return Err(fault(
                format!("'{}' is no kind that can be deleted", excerpt(&object.kind)),
                help,
            ));
        };
        let lies_in_none = kind == "Namespace" || own.into_iter().any(|own| own == kind);
        let namespace = match (&object.namespace, lies_in_none) {
            (None, true) => "",
            (None, false) => "default",
            (Some(namespace), false) => namespace.as_str(),
            (Some(_), true) => {
                return Err(fault("this kind lies in no namespace".to_owned(), None));
            }
        };
        let identity = (kind, ObjectName::new(namespace, &*object.name));
        let objects = BTreeMap::from([(identity, place)]);
        Ok(Change { verb: Verb::Delete(objects), notices: Vec::new() })
    }
}

/// An error at `place`.
fn diagnostic(place: &Source, object: String, message: String, help: Option<String>) -> Diagnostic {
    Diagnostic {
        file: Arc::clone(&place.file),
        line: place.line,
        column: u32::from(place.line > 0),
        severity: Severity::Error,
        object: Some(object),
        message,
        help,
    }
}

/// What an identity means.
fn object((kind, name): &Identity) -> ObjectRef {
    ObjectRef {
        kind: (*kind).to_owned(),
        namespace: Some(name.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        name: name.name.clone(),
    }
}

/// `Kind name` or `Kind namespace/name`.
fn shown((kind, name): &Identity) -> String {
    if name.namespace.is_empty() {
        format!("{kind} {}", name.name)
    } else {
        format!("{kind} {name}")
    }
}

/// Everything that definitions were made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Manifests {
    documents: Documents,
    /// What the user knows already.
    told: BTreeSet<Diagnostic>,
}

impl Manifests {
    pub(crate) fn new(documents: Documents) -> Manifests {
        Manifests { documents, told: BTreeSet::new() }
    }

    pub(crate) fn documents(&self) -> &Documents {
        &self.documents
    }

    /// How many values the documents of a lab have, without its packet tests.
    pub(crate) fn size(&self) -> usize {
        let lab = self.documents.iter().filter(|((kind, _), _)| *kind != PACKET_TEST);
        lab.map(|(_, document)| document.node.count()).sum()
    }

    /// Notes what the user has been told.
    pub(crate) fn told(&mut self, notices: &[Diagnostic]) {
        self.told = notices.iter().cloned().collect();
    }

    /// What these manifests and a change give together. Its notices are those that are new.
    ///
    /// # Errors
    /// Every fault, sorted by place: something to delete is not there, or the objects no longer fit together.
    pub fn change(&self, change: &Change) -> Result<Loaded, Vec<Diagnostic>> {
        let mut documents = self.documents.clone();
        documents.retain(|(kind, _), _| *kind != PACKET_TEST);
        match &change.verb {
            Verb::Apply(new) => {
                documents.extend(new.iter().map(|(id, document)| (id.clone(), document.clone())));
            }
            Verb::Delete(objects) => self.remove(&mut documents, objects)?,
        }
        let nodes: usize = documents.values().map(|document| document.node.count()).sum();
        if nodes > yaml::MAX_NODES {
            let place = Source { file: "the changed lab".into(), line: 0 };
            let message = format!("would have {nodes} values, at most {}", yaml::MAX_NODES);
            return Err(vec![Diagnostic {
                object: None,
                ..diagnostic(&place, String::new(), message, None)
            }]);
        }
        let mut loader = Loader::default();
        loader.take(&documents);
        let mut loaded = loader.finish()?;
        loaded.notices.retain(|notice| !self.told.contains(notice));
        loaded.notices.extend(change.notices.iter().cloned());
        loaded.notices.sort();
        loaded.notices.dedup();
        Ok(loaded)
    }

    /// Takes objects out, a namespace with all that lies in it.
    fn remove(
        &self,
        documents: &mut Documents,
        objects: &BTreeMap<Identity, Source>,
    ) -> Result<(), Vec<Diagnostic>> {
        let mut faults = Vec::new();
        for (identity, place) in objects {
            if self.documents.contains_key(identity) {
                continue;
            }
            let all: Vec<String> = self
                .documents
                .keys()
                .filter(|(kind, _)| *kind == identity.0)
                .take(crate::node::MAX_COMPARED)
                .map(shown)
                .collect();
            let near = suggestion(&shown(identity), all.iter().map(String::as_str));
            let help = match (identity.0, near) {
                ("Pod", None) => Some(
                    "a workload's pods go with it: delete that, or apply it with fewer replicas"
                        .to_owned(),
                ),
                (_, near) => near,
            };
            let message = "there is nothing of this name to delete".to_owned();
            faults.push(diagnostic(place, shown(identity), message, help));
        }
        if !faults.is_empty() {
            faults.sort();
            return Err(faults);
        }
        let namespaces: BTreeSet<&str> = objects
            .keys()
            .filter(|(kind, _)| *kind == "Namespace")
            .map(|(_, name)| name.name.as_str())
            .collect();
        documents.retain(|identity, _| {
            !objects.contains_key(identity) && !namespaces.contains(identity.1.namespace.as_str())
        });
        Ok(())
    }

    /// What became of each object on the way from these manifests to `after`, sorted; unchanged ones are left out.
    #[must_use]
    pub fn effects(&self, after: &Manifests) -> Vec<(ObjectRef, Effect)> {
        let mut effects = Vec::new();
        for (identity, document) in &self.documents {
            match after.documents.get(identity) {
                None if identity.0 != PACKET_TEST => {
                    effects.push((object(identity), Effect::Deleted));
                }
                Some(new) if !same(&document.node, &new.node) => {
                    effects.push((object(identity), Effect::Configured));
                }
                _ => {}
            }
        }
        let new = after.documents.keys().filter(|identity| !self.documents.contains_key(*identity));
        effects.extend(new.map(|identity| (object(identity), Effect::Created)));
        effects.sort_by(|(a, _), (b, _)| a.cmp(b));
        effects
    }
}

/// Whether two documents say the same, wherever they stand.
fn same(a: &Node, b: &Node) -> bool {
    match (&a.value, &b.value) {
        (Value::Seq(a), Value::Seq(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Map(entries), Value::Map(others)) => {
            entries.len() == others.len()
                && entries.iter().all(|e| b.get(&e.key).is_some_and(|other| same(&e.value, other)))
        }
        (a, b) => a == b,
    }
}
