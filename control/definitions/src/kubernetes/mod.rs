//! Unmodified Kubernetes manifests, read with `k8s-openapi`'s types and digested to our model.
//!
//! Validation follows the API server's (`pkg/apis/*/validation`) in what the network depends on. Fields that say
//! nothing about the network (volumes, resources, probes) are accepted because those types know them.

mod guest;
mod meta;
mod namespace;
mod pins;
mod policy;
mod security_policy;
mod selector;
mod service;
mod workload;

pub(crate) use guest::{GUEST_CLUSTER, GUEST_CLUSTER_VERSION, guest_cluster};
pub(crate) use meta::{Scope, digest_meta};
pub(crate) use namespace::namespace;
pub(crate) use pins::cluster as cluster_pins;
pub(crate) use policy::network_policy;
pub(crate) use security_policy::{
    Manifest as SecurityPolicyManifest, SECURITY_POLICY, security_policy,
};
pub(crate) use selector::selector;
pub(crate) use service::{endpoint_slice, endpoints, service};
pub(crate) use workload::{Workload, pod, workload};

use std::borrow::Cow;

use crate::diagnostic::Subject;
use crate::model::Protocol;
use crate::node::{Node, Value, typing_error};

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

/// The emulated kind that `kind` is a typing error of, in a group where such kinds live.
pub(crate) fn misspelt(kind: &str, group: &str) -> Option<&'static str> {
    let known = EMULATED.iter().map(|(name, _)| *name);
    is_own_group(group).then(|| typing_error(kind, known)).flatten()
}

/// `document` without what says nothing about the network but which today's types need not know: `status`,
/// which is returned, and fields of older clusters, each with a notice.
pub(crate) fn set_aside<'d>(
    subject: &mut Subject<'_>,
    kind: &str,
    document: &'d Node,
) -> (Cow<'d, Node>, Node) {
    let retired: [(&str, &str, &str); 2] =
        [("metadata", "clusterName", ""), ("spec", "topologyKeys", "Service")];
    let mut rest = Cow::Borrowed(document);
    for (section, field, of) in retired {
        let there = document.get(section).and_then(|section| section.get(field));
        let Some(there) = there.filter(|_| of.is_empty() || of == kind) else {
            continue;
        };
        if there.value != Value::Null {
            subject.notice(
                there,
                format!("{section}.{field}, a field of older clusters, has no effect"),
            );
        }
        rest.to_mut().get_mut(section).and_then(|section| section.remove(field));
    }
    let mut status = Node { value: Value::Null, ..*document };
    if document.get("status").is_some()
        && let Some(entry) = rest.to_mut().remove("status")
    {
        status = entry.value;
    }
    (rest, status)
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
