//! `run.tanzu.vmware.com/v1alpha1 TanzuKubernetesCluster`: guest clusters, which are counted but not emulated yet.
//!
//! Only `metadata` and the version are read. The rest is the guest's own business and is not judged.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::meta::{Scope, digest_meta};
use crate::diagnostic::Subject;
use crate::model::GuestCluster;
use crate::node::{Fault, Node};

/// The kind.
pub(crate) const GUEST_CLUSTER: &str = "TanzuKubernetesCluster";
/// The `apiVersion` in which it is read. Later ones name a release by reference and are skipped like any other kind.
pub(crate) const GUEST_CLUSTER_VERSION: &str = "run.tanzu.vmware.com/v1alpha1";

/// Checks and digests a guest cluster.
pub(crate) fn guest_cluster(subject: &mut Subject<'_>, document: &Node) -> Option<GuestCluster> {
    let Some(metadata) = document.get("metadata") else {
        subject.error(document, "metadata is missing");
        return None;
    };
    let metadata: ObjectMeta = subject.read(metadata)?;
    let meta = digest_meta(subject, document, metadata, Scope::NamespacedSubdomain, &[]);
    let distribution = document.at("spec").at("distribution");
    // Where both stand, the full one says which release exactly.
    let Some(at) = distribution.get("fullVersion").or_else(|| distribution.get("version")) else {
        subject.fault(
            Fault::at(distribution, "spec.distribution.version is missing")
                .help("write for instance distribution: {version: v1.17}"),
        );
        return None;
    };
    let Some(text) = at.text() else {
        subject.error(at, "spec.distribution.version is not a string");
        return None;
    };
    let version = subject.check(at, text.parse())?;
    Some(GuestCluster { meta: meta?, version })
}
