//! Packet tests against the lab that they run in: everything that a step names exists in the lab as the changes
//! before it have left it, and each change can be made.
//!
//! So a bad manifest in a step is a fault of loading, with its file and line, before anything runs.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::steps::Expressions;
use super::{port_exists, undefined};
use crate::diagnostic::{Diagnostic, Subject};
use crate::input::Input;
use crate::load::Loaded;
use crate::manifests::{Change, Manifests, ObjectRef};
use crate::model::{Definitions, ObjectName, Source};
use crate::node::{Node, Value};
use crate::own::{AddressExpr, Apply, Delete, MacExpr, PortRef, Step};

/// The most values that all changes of one load may make be read again, so that loading takes seconds.
const MAX_READ: usize = 10_000_000;

/// The lab that tests change, and how much may still be read for that.
pub(super) struct Changes<'m> {
    manifests: &'m Manifests,
    /// Values of the lab without its tests.
    size: usize,
    left: usize,
}

impl<'m> Changes<'m> {
    pub fn new(manifests: &'m Manifests) -> Changes<'m> {
        Changes { manifests, size: manifests.size(), left: MAX_READ }
    }

    /// What a step does, and the lab after it.
    fn make(
        &mut self,
        subject: &mut Subject<'_>,
        at: &Node,
        step: &Step,
        before: Option<&Manifests>,
    ) -> Result<Option<(Change, Loaded)>, Vec<Diagnostic>> {
        let change = match step {
            Step::Apply(apply) => applied(&subject.file, at.at("apply"), apply)?,
            Step::Delete(delete) => deleted(&subject.file, at, delete)?,
            _ => return Ok(None),
        };
        let cost = self.size + change.size();
        let Some(left) = self.left.checked_sub(cost) else {
            let message = format!(
                "the changes of all packet tests together read more than {MAX_READ} values"
            );
            subject.error(at, message);
            return Err(Vec::new());
        };
        self.left = left;
        let loaded = before.unwrap_or(self.manifests).change(&change)?;
        Ok(Some((change, loaded)))
    }
}

/// Where a file that a test names is.
fn inputs(test: &str, file: Option<&String>, files: &[String]) -> Vec<Input> {
    let directory = Path::new(test).parent().unwrap_or(Path::new(""));
    file.into_iter().chain(files).map(|file| Input::Path(directory.join(file))).collect()
}

fn applied(test: &Arc<str>, at: &Node, apply: &Apply) -> Result<Change, Vec<Diagnostic>> {
    let inputs = inputs(test, apply.file.as_ref(), &apply.files);
    let nodes = match at.get("manifests").map(|manifests| &manifests.value) {
        Some(Value::Seq(items)) => items.clone(),
        _ => Vec::new(),
    };
    Change::apply_with(&inputs, test, nodes)
}

fn deleted(test: &Arc<str>, at: &Node, delete: &Delete) -> Result<Change, Vec<Diagnostic>> {
    let (Some(kind), Some(name)) = (&delete.kind, &delete.name) else {
        return Change::delete(&inputs(test, delete.file.as_ref(), &delete.files));
    };
    let object =
        ObjectRef { kind: kind.clone(), namespace: delete.namespace.clone(), name: name.clone() };
    let place = Source { file: Arc::clone(test), line: at.line };
    Change::delete_object(&object, place)
}

/// Checks a test against the other objects. Returns its changes, by the index of their step.
pub(super) fn packet_test(
    subject: &mut Subject<'_>,
    at: &Node,
    definitions: &Definitions,
    changes: &mut Changes<'_>,
    name: &str,
) -> BTreeMap<usize, Change> {
    let mut made = BTreeMap::new();
    let Some(test) = definitions.packet_tests.get(name) else {
        return made;
    };
    let mut now: Option<Loaded> = None;
    for (index, step) in test.spec.steps.iter().enumerate() {
        if subject.report.is_full() {
            break;
        }
        let at = at.at("steps").item(index);
        match changes.make(subject, at, step, now.as_ref().map(|loaded| &loaded.manifests)) {
            Ok(None) => {
                let definitions = now.as_ref().map_or(definitions, |loaded| &loaded.definitions);
                names(subject, at, definitions, step);
            }
            Ok(Some((change, loaded))) => {
                for notice in &loaded.notices {
                    subject.report.push(notice.clone());
                }
                made.insert(index, change);
                now = Some(loaded);
            }
            Err(faults) => {
                for mut fault in faults {
                    fault.message += &format!(" (in step {} of PacketTest {name})", index + 1);
                    subject.report.push(fault);
                }
                // What the later steps name might have come with it.
                break;
            }
        }
    }
    made
}

/// Everything that a step names exists.
fn names(subject: &mut Subject<'_>, at: &Node, definitions: &Definitions, step: &Step) {
    let all = Expressions::of(step);
    let namespace = |subject: &mut Subject<'_>, name: &String| {
        if !definitions.namespaces.contains_key(name) {
            undefined(subject, at, "namespace", name, definitions.namespaces.keys());
        }
    };
    let service = |subject: &mut Subject<'_>, name: &ObjectName| {
        if !definitions.services.contains_key(name) {
            let near: Vec<String> = definitions.services.keys().map(ToString::to_string).collect();
            undefined(subject, at, "Service", &name.to_string(), near.iter());
        }
    };
    // A port that several expressions name is reported once.
    let mut ports: std::collections::BTreeSet<&PortRef> = all.ports.into_iter().collect();
    for address in all.addresses {
        match address {
            AddressExpr::Snat(name) | AddressExpr::Gateway(name) => namespace(subject, name),
            AddressExpr::Vip(name)
            | AddressExpr::ClusterIp(name)
            | AddressExpr::ServiceSnat(name) => service(subject, name),
            AddressExpr::Port(port) => {
                ports.insert(port);
            }
            AddressExpr::Ip(_) | AddressExpr::Variable(_) => {}
        }
    }
    for mac in all.macs {
        match mac {
            MacExpr::Gateway(name) => namespace(subject, name),
            MacExpr::Port(port) => {
                ports.insert(port);
            }
            MacExpr::Mac(_) | MacExpr::Variable(_) => {}
        }
    }
    for port in ports {
        port_exists(subject, at, definitions, port);
    }
}
