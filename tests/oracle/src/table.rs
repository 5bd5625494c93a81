//! The truth table of a cluster, in the CSV of `tierlab matrix -o csv`.

use std::fmt::Write as _;

use crate::cluster::{Cluster, Protocol};
use crate::yaml::OracleError;

/// The first line of the table.
pub const CSV_HEADER: &str = "from,to,proto,port,verdict";

/// A protocol and destination port to ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Probe {
    /// The protocol.
    pub protocol: Protocol,
    /// The destination port, 1 to 65535.
    pub port: u16,
}

/// Every ordered pair of different pods and every probe, as CSV with [`CSV_HEADER`], sorted by from, to, protocol, port.
///
/// # Errors
/// As [`Cluster::verdict`].
pub fn truth_table(cluster: &Cluster, probes: &[Probe]) -> Result<String, OracleError> {
    let mut probes = probes.to_vec();
    probes.sort_unstable();
    let mut csv = format!("{CSV_HEADER}\n");
    for from in cluster.pods() {
        for to in cluster.pods().filter(|&to| to != from) {
            for &Probe { protocol, port } in &probes {
                let verdict =
                    if cluster.verdict(from, to, protocol, port)? { "allow" } else { "deny" };
                // Writing to a String does not fail.
                let _ = writeln!(csv, "{from},{to},{protocol},{port},{verdict}");
            }
        }
    }
    Ok(csv)
}
