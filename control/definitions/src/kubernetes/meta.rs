//! `metadata`: names, labels and the annotations that pin addresses.

use std::str::FromStr;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::diagnostic::Subject;
use crate::model::{Labels, Meta, Source, annotation};
use crate::node::{Fault, Node, excerpt, suggestion};
use crate::text::{is_dns_label, is_dns_subdomain, is_label_key, is_label_value};

/// What names a kind takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// In a namespace; the name is a DNS label.
    NamespacedLabel,
    /// In a namespace; the name is a DNS subdomain.
    NamespacedSubdomain,
    /// In no namespace; the name is a DNS label.
    ClusterLabel,
    /// In no namespace; the name is a DNS subdomain.
    ClusterSubdomain,
}

/// Checks and digests `metadata` of `document`; `pins` are the annotations of ours that its kind takes.
pub(crate) fn digest_meta(
    subject: &mut Subject<'_>,
    document: &Node,
    meta: ObjectMeta,
    scope: Scope,
    pins: &[&str],
) -> Option<Meta> {
    let before = subject.report.errors();
    let at = document.at("metadata");
    let Some(name) = meta.name else {
        let missing = Fault::at(at, "metadata.name is missing");
        subject.fault(match meta.generate_name {
            Some(_) => missing.help("give it a name in place of generateName"),
            None => missing,
        });
        return None;
    };
    let valid = match scope {
        Scope::NamespacedLabel | Scope::ClusterLabel => is_dns_label(&name),
        Scope::NamespacedSubdomain | Scope::ClusterSubdomain => is_dns_subdomain(&name),
    };
    if !valid {
        subject.fault(
            Fault::at(
                at.at("name"),
                format!("name '{}' is not a DNS name (RFC 1123)", excerpt(&name)),
            )
            .help("use lower-case letters, digits and '-', beginning and ending with a letter or digit"),
        );
    }
    let namespace = match scope {
        Scope::NamespacedLabel | Scope::NamespacedSubdomain => {
            let namespace =
                meta.namespace.filter(|n| !n.is_empty()).unwrap_or_else(|| "default".to_owned());
            if !is_dns_label(&namespace) {
                subject.error(
                    at.at("namespace"),
                    format!("namespace '{}' is not a DNS label (RFC 1123)", excerpt(&namespace)),
                );
            }
            namespace
        }
        Scope::ClusterLabel | Scope::ClusterSubdomain => {
            if meta.namespace.is_some_and(|n| !n.is_empty()) {
                subject.error(at.at("namespace"), "this kind lies in no namespace");
            }
            String::new()
        }
    };
    let labels = labels(subject, at.at("labels"), meta.labels.unwrap_or_default());
    let annotations = meta.annotations.unwrap_or_default();
    for key in annotations.keys() {
        if subject.report.is_full() {
            break;
        }
        let place = at.at("annotations").at(key);
        if !is_label_key(&key.to_lowercase()) {
            subject.error(place, format!("'{}' is not an annotation's key", excerpt(key)));
        } else if key.starts_with(annotation::PREFIX) && !pins.contains(&key.as_str()) {
            let owners = owners_of(key);
            subject.fault(if owners.is_empty() {
                let own = annotation::OWN.into_iter().flat_map(|(_, names)| names).copied();
                Fault {
                    help: suggestion(key, own),
                    ..Fault::at(place, format!("unknown annotation '{}'", excerpt(key)))
                }
            } else {
                Fault::at(place, format!("annotation '{key}' is not one of this kind"))
                    .help(format!("it belongs to {}", owners.join(" or ")))
            });
        } else if key.starts_with(annotation::NCP_PREFIX)
            && !annotation::NCP.contains(&key.as_str())
        {
            subject.notice(place, format!("annotation '{}' is not emulated", excerpt(key)));
        }
    }
    (subject.report.errors() == before).then(|| Meta {
        namespace,
        name,
        labels,
        annotations,
        source: Source { file: Arc::clone(&subject.file), line: document.line },
    })
}

/// The objects that an annotation of ours belongs to.
fn owners_of(key: &str) -> Vec<&'static str> {
    let own = annotation::OWN.into_iter().filter(|(_, names)| names.contains(&key));
    own.map(|(owner, _)| owner).collect()
}

/// Checks the syntax of labels.
pub(crate) fn labels(subject: &mut Subject<'_>, at: &Node, labels: Labels) -> Labels {
    for (key, value) in &labels {
        if subject.report.is_full() {
            break;
        }
        if !is_label_key(key) {
            subject.error(
                at.at(key),
                format!("'{}' is not a label's key: [prefix/]name, at most 63 of letters, digits, '-', '_', '.'", excerpt(key)),
            );
        } else if !is_label_value(value) {
            subject.error(
                at.at(key),
                format!(
                    "'{}' is not a label's value: at most 63 of letters, digits, '-', '_', '.'",
                    excerpt(value)
                ),
            );
        }
    }
    labels
}

/// The value of a pinning annotation, if it is there and well written.
pub(crate) fn pinned<T: FromStr>(
    subject: &mut Subject<'_>,
    document: &Node,
    annotations: &Labels,
    key: &str,
    expected: &str,
) -> Option<T> {
    let text = annotations.get(key)?;
    let value = text.parse().ok();
    if value.is_none() {
        subject.error(
            document.at("metadata").at("annotations").at(key),
            format!("annotation {key}: '{}' is not {expected}", excerpt(text)),
        );
    }
    value
}
