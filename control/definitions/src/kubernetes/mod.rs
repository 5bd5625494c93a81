//! Unmodified Kubernetes manifests, read with `k8s-openapi`'s types and digested to our model.
//!
//! Validation follows the API server's (`pkg/apis/*/validation`) in what the network depends on. Fields that say
//! nothing about the network (volumes, resources, probes) are accepted because those types know them.

mod guest;
mod meta;
mod policy;
mod security_policy;
mod selector;
mod service;
mod workload;

pub(crate) use guest::{GUEST_CLUSTER, GUEST_CLUSTER_VERSION, guest_cluster};
pub(crate) use meta::{Scope, digest_meta, pinned};
pub(crate) use policy::network_policy;
pub(crate) use security_policy::{
    Manifest as SecurityPolicyManifest, SECURITY_POLICY, security_policy,
};
pub(crate) use service::{endpoint_slice, endpoints, service};
pub(crate) use workload::{Workload, pod, workload};

use crate::diagnostic::Subject;
use crate::model::Protocol;
use crate::node::Node;

/// The kinds of Kubernetes, NCP and nsx-operator that are emulated, with their `apiVersion`s.
pub(crate) const EMULATED: [(&str, &str); 12] = [
    ("Namespace", "v1"),
    ("Pod", "v1"),
    ("Service", "v1"),
    ("Endpoints", "v1"),
    ("Deployment", "apps/v1"),
    ("ReplicaSet", "apps/v1"),
    ("StatefulSet", "apps/v1"),
    ("DaemonSet", "apps/v1"),
    ("EndpointSlice", "discovery.k8s.io/v1"),
    ("NetworkPolicy", "networking.k8s.io/v1"),
    (SECURITY_POLICY, "nsx.vmware.com/v1alpha1"),
    // The group of nsx-operator's VPC mode; the kind is the same.
    (SECURITY_POLICY, "crd.nsx.vmware.com/v1alpha1"),
];

/// Whether `group` is one in which a kind of [`EMULATED`] lives or lived: there the same kind in another version is
/// a fault, because skipping a policy fails open. In any other group it is somebody else's kind.
pub(crate) fn is_own_group(group: &str) -> bool {
    matches!(
        group,
        "" | "apps"
            | "extensions"
            | "networking.k8s.io"
            | "discovery.k8s.io"
            | "nsx.vmware.com"
            | "crd.nsx.vmware.com"
    )
}

/// A protocol's name, which is TCP where there is none.
fn protocol(subject: &mut Subject<'_>, at: &Node, name: Option<&str>) -> Option<Protocol> {
    match name {
        None | Some("" | "TCP") => Some(Protocol::Tcp),
        Some("UDP") => Some(Protocol::Udp),
        Some("SCTP") => Some(Protocol::Sctp),
        Some(other) => {
            subject.error(
                at,
                format!(
                    "unknown protocol '{}'; it is TCP, UDP or SCTP",
                    crate::node::excerpt(other)
                ),
            );
            None
        }
    }
}

/// A port number, 1 to 65535.
fn port(subject: &mut Subject<'_>, at: &Node, number: i32) -> Option<u16> {
    let port = u16::try_from(number).ok().filter(|port| *port != 0);
    if port.is_none() {
        subject.error(at, format!("port {number} is not in 1..65535"));
    }
    port
}
