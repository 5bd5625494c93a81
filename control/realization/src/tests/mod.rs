//! Tests of the whole of realization, from manifests. Expected values are the articles' or computed by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod allocation;
mod article;
mod faults;
mod gateways;
mod network;
mod pins;
mod policy;
mod security;
mod security_policy;
mod services;
mod snat_pool;
mod unmatched;

use crate::logical::Row;
use crate::{Allocations, Realized, realize};
use definitions::{Definitions, Input, load};

/// A cluster and nothing else.
pub(super) const CLUSTER: &str = "{kind: SupervisorCluster, metadata: {name: sup}}";

pub(super) fn definitions(text: &str) -> Definitions {
    match load(&[Input::text("test.yaml", text)]) {
        Ok(loaded) => loaded.definitions,
        Err(faults) => {
            panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    }
}

pub(super) fn realized_with(text: &str, kept: &Allocations) -> Realized {
    match realize(&definitions(text), kept) {
        Ok(realized) => realized,
        Err(faults) => {
            panic!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
        }
    }
}

pub(super) fn realized(text: &str) -> Realized {
    realized_with(text, &Allocations::default())
}

/// What is wrong with definitions that load.
pub(super) fn faults_with(text: &str, kept: &Allocations) -> Vec<String> {
    match realize(&definitions(text), kept) {
        Ok(_) => panic!("realized"),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

pub(super) fn faults(text: &str) -> Vec<String> {
    faults_with(text, &Allocations::default())
}

/// Documents in a row.
pub(super) fn documents(parts: &[&str]) -> String {
    parts.join("\n---\n")
}

/// A namespace. Names are quoted: to YAML 1.1 a bare `y` is a boolean.
pub(super) fn namespace(name: &str) -> String {
    format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: '{name}'}}}}")
}

pub(super) fn pod(namespace: &str, name: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Pod, metadata: {{name: '{name}', namespace: '{namespace}', labels: {{app: '{name}'}}}}, \
         spec: {{containers: [{{name: c, image: i}}]}}}}"
    )
}

/// The cells of a table, some columns of it.
pub(super) fn cells<R: Row>(rows: &[R], columns: &[&str]) -> Vec<String> {
    let wanted: Vec<usize> = columns
        .iter()
        .map(|c| R::COLUMNS.iter().position(|column| column.name == *c).unwrap())
        .collect();
    rows.iter()
        .map(|row| {
            let cells = row.cells();
            assert_eq!(cells.len(), R::COLUMNS.len());
            wanted.iter().map(|i| cells[*i].as_str()).collect::<Vec<_>>().join(" ")
        })
        .collect()
}
