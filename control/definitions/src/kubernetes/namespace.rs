//! Namespaces and what their annotations pin.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta::{Scope, digest_meta};
use super::pins;
use crate::diagnostic::Subject;
use crate::model::{Namespace, NamespacePins, annotation};
use crate::node::Node;

/// Checks and digests a Namespace.
pub(crate) fn namespace(
    subject: &mut Subject<'_>,
    document: &Node,
    metadata: ObjectMeta,
) -> Option<Namespace> {
    let before = subject.report.errors();
    let mut meta =
        digest_meta(subject, document, metadata, Scope::ClusterLabel, &annotation::NAMESPACE)?;
    let subnets =
        pins::read(subject, document, &meta.annotations, annotation::SUBNET, pins::networks);
    let mut address = |key| pins::read(subject, document, &meta.annotations, key, pins::address_v4);
    let own = address(annotation::SNAT_IP);
    let ncp = address(annotation::NCP_STATIC_SNAT_IP);
    if let (Some(own), Some(ncp)) = (own, ncp)
        && own != ncp
    {
        subject.error(
            document.at("metadata").at("annotations"),
            format!(
                "annotations {} and {} differ",
                annotation::SNAT_IP,
                annotation::NCP_STATIC_SNAT_IP
            ),
        );
    }
    let name = meta.name.clone();
    meta.labels.insert("kubernetes.io/metadata.name".to_owned(), name);
    (subject.report.errors() == before).then(|| Namespace {
        meta,
        pins: NamespacePins { subnets: subnets.unwrap_or_default(), snat_ip: own.or(ncp) },
        implicit: false,
    })
}
