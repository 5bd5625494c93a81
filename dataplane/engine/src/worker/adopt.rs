//! A new snapshot: what has gone takes its sessions with it.
//!
//! Ports and addresses are used again. A workload that gets the index or the address of one that has
//! gone must never inherit its sessions: they would carry it past rules that it was never judged by.

use super::Worker;
use crate::network::{Network, PortId};
use crate::session::Session;
use crate::tuple::{Node, Tuple};
use packet::Addr;
use std::collections::{BTreeMap, BTreeSet};

/// The workloads that a worker has seen: name and addresses by port.
#[derive(Debug, Default)]
pub(super) struct Known {
    epoch: Option<u64>,
    workloads: BTreeMap<PortId, (String, Vec<Addr>)>,
}

impl Known {
    fn of(net: &Network) -> Known {
        let workloads = (0u32..)
            .zip(&net.ports)
            .filter_map(|(i, port)| {
                let vnic = port.vnic.as_ref()?;
                Some((PortId(i), (port.name.clone(), vnic.addresses.clone())))
            })
            .collect();
        Known { epoch: Some(net.epoch), workloads }
    }
}

impl Worker {
    /// Ends the sessions of workloads that the new snapshot no longer has at the same port with the
    /// same addresses.
    pub(super) fn adopt(&mut self, net: &Network) {
        if self.known.epoch == Some(net.epoch) {
            return;
        }
        let before = std::mem::replace(&mut self.known, Known::of(net));
        let now = &self.known.workloads;
        let mut ports: BTreeSet<PortId> = BTreeSet::new();
        let mut addresses: BTreeSet<Addr> = BTreeSet::new();
        for (port, (name, had)) in before.workloads {
            match now.get(&port) {
                Some((same, has)) if *same == name => {
                    addresses.extend(had.into_iter().filter(|a| !has.contains(a)));
                }
                _ => {
                    ports.insert(port);
                    addresses.extend(had);
                }
            }
        }
        if ports.is_empty() && addresses.is_empty() {
            return;
        }
        let gone = |tuple: &Tuple| addresses.contains(&tuple.src) || addresses.contains(&tuple.dst);
        let over = |session: &Session| {
            session.records.iter().any(|r| {
                let at = match r.node {
                    Node::Balancer(port) | Node::Firewall(port) => ports.contains(&port),
                    Node::Gateway(_) => false,
                };
                at || gone(&r.before) || gone(&r.after)
            })
        };
        let ended: Vec<_> =
            self.sessions.list().into_iter().filter(over).map(|session| session.id).collect();
        for id in ended {
            self.end(id);
        }
    }
}
