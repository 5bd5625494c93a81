//! Namespaces and what their annotations pin.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta::{Scope, digest_meta, pinned};
use crate::diagnostic::Subject;
use crate::model::{Namespace, NamespacePins, annotation};
use crate::node::Node;
use crate::text::Cidr4;

/// Checks and digests a Namespace.
pub(crate) fn namespace(
    subject: &mut Subject<'_>,
    document: &Node,
    metadata: ObjectMeta,
) -> Option<Namespace> {
    let before = subject.report.errors();
    let mut meta =
        digest_meta(subject, document, metadata, Scope::ClusterLabel, &annotation::NAMESPACE)?;
    let subnet: Option<Cidr4> = pinned(
        subject,
        document,
        &meta.annotations,
        annotation::SUBNET,
        "an IPv4 network without host bits",
    );
    let own = pinned(subject, document, &meta.annotations, annotation::SNAT_IP, "an IPv4 address");
    let ncp = pinned(
        subject,
        document,
        &meta.annotations,
        annotation::NCP_STATIC_SNAT_IP,
        "an IPv4 address",
    );
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
        pins: NamespacePins { subnet: subnet.map(|net| *net), snat_ip: own.or(ncp) },
        implicit: false,
    })
}
