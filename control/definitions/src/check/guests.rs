//! How many guest clusters a Supervisor takes.
//!
//! The numbers are those of VMware's Configuration Maximums for vSphere 7.0. They are refused here although guests are not
//! emulated yet: a lab that the real system would refuse proves nothing about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Report, Severity};
use crate::kubernetes::GUEST_CLUSTER;
use crate::model::{Definitions, GuestCluster};

/// The most guest clusters of one namespace.
const PER_NAMESPACE: usize = 93;
/// The most guest clusters of one Supervisor.
const PER_SUPERVISOR: usize = 190;

/// Refuses guest clusters above the limits: one message a limit, at the first cluster beyond it in the order of names.
pub(super) fn limits(definitions: &Definitions, report: &mut Report) {
    let mut namespaces: BTreeMap<&str, Vec<&GuestCluster>> = BTreeMap::new();
    for guest in definitions.guest_clusters.values() {
        namespaces.entry(&guest.meta.namespace).or_default().push(guest);
    }
    for (namespace, guests) in namespaces {
        if let Some(beyond) = guests.get(PER_NAMESPACE) {
            refuse(
                report,
                beyond,
                format!(
                    "namespace '{namespace}' has {} Tanzu Kubernetes clusters; the limit is {PER_NAMESPACE} in a namespace",
                    guests.len()
                ),
            );
        }
    }
    if let Some(beyond) = definitions.guest_clusters.values().nth(PER_SUPERVISOR) {
        refuse(
            report,
            beyond,
            format!(
                "the Supervisor Cluster has {} Tanzu Kubernetes clusters; the limit is {PER_SUPERVISOR}",
                definitions.guest_clusters.len()
            ),
        );
    }
}

fn refuse(report: &mut Report, guest: &GuestCluster, message: String) {
    report.push(Diagnostic {
        file: Arc::clone(&guest.meta.source.file),
        line: guest.meta.source.line,
        column: 1,
        severity: Severity::Error,
        object: Some(format!("{GUEST_CLUSTER} {}", guest.meta.key())),
        message,
        help: Some("remove some".to_owned()),
    });
}
