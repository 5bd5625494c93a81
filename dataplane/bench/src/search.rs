//! Finds flows that do a work, in whatever network: proposes ends, sends a packet and an answer between them, and looks
//! at the session that came of it.

mod probe;
mod proposals;

use crate::Work;
use crate::flows::Flows;
use crate::neighbors::Stations;
use engine::network::Network;
use engine::{Node, RecordKind, StageRecord};
use probe::Prober;
use proposals::{Proposal, proposals};

/// Most ports that a measurement's flows come in by.
const MOST_SOURCES: usize = 96;
/// Most proposals that are tried for a work.
const MOST_PROPOSALS: usize = 2_048;

/// A network in which a work cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{work}' cannot be measured here: {what}")]
pub struct Missing {
    /// The work.
    pub work: Work,
    /// What the network lacks.
    pub what: &'static str,
}

impl Missing {
    fn of(work: Work) -> Missing {
        let what = match work {
            Work::L2 => {
                "there are no two workloads of one segment, nor two hosts of one network outside, that may talk to each other over UDP or TCP"
            }
            Work::Route => {
                "there are no two workloads of different segments, nor two hosts outside at different uplinks, that may talk to each other untranslated"
            }
            Work::Dfw => {
                "no rule of the distributed firewall lets one workload talk to another; a NetworkPolicy or SecurityPolicy that allows it is missing"
            }
            Work::Snat => {
                "no workload gets out with another source address; a NAT rule that translates (natMode: nat), a Tier-0 with an uplink, or a host there is missing, or a rule forbids it"
            }
            Work::Dlb => {
                "no workload gets through to a ClusterIP over UDP or TCP; a Service with ready endpoints is missing, or a rule forbids it"
            }
            Work::Slb => {
                "nobody outside gets through to a virtual address over UDP or TCP; a Service of type LoadBalancer with ready endpoints, a Tier-0 with an uplink and a host there are needed, and a rule that lets the outside in"
            }
            Work::Chain => {
                "neither gets a workload out through SNAT, nor somebody outside in through a virtual server (see 'snat' and 'slb')"
            }
        };
        Missing { work, what }
    }
}

/// Flows that do `work` in `net`. Of several that do, those that most rules of the distributed firewall let pass where these
/// belong to the work, and otherwise the first.
///
/// # Errors
/// [`Missing`] says what the network lacks.
pub fn find(net: &Network, stations: &Stations, work: Work) -> Result<Flows, Missing> {
    let mut prober = Prober::new(net, stations);
    let mut best: Option<(usize, Flows)> = None;
    let wants_rules = matches!(work, Work::Dfw | Work::Chain);
    for proposal in proposals(net, stations, work).into_iter().take(MOST_PROPOSALS) {
        let Some((flows, rules)) = accept(&mut prober, proposal) else { continue };
        if work == Work::Dfw && rules == 0 {
            continue;
        }
        if best.as_ref().is_none_or(|(most, _)| rules > *most) {
            best = Some((rules, flows));
        }
        // One at either end is all that there can be.
        if !wants_rules || rules >= 2 || work == Work::Chain && rules >= 1 {
            break;
        }
    }
    best.map(|(_, flows)| flows).ok_or(Missing::of(work))
}

/// The flows of a proposal with the sources that get through, and by how many rules of the distributed firewall they do.
fn accept(prober: &mut Prober<'_>, proposal: Proposal) -> Option<(Flows, usize)> {
    let Proposal { flows: mut proposed, more_ports } = proposal;
    let to = proposed.destinations.first;
    proposed.sources.retain(|source| source.addresses.first.is_v4() == to.is_v4());
    let mut accepted = Vec::new();
    let mut rules = None;
    let mut failed = 0;
    for source in std::mem::take(&mut proposed.sources) {
        let records = prober
            .send(&proposed, &source, proposed.port)
            .filter(|records| does(proposed.work, records));
        match records {
            Some(records) => {
                let by = records.iter().filter(|r| is_rule(r)).count();
                // All of them do the same.
                if *rules.get_or_insert(by) == by {
                    accepted.push(source);
                }
            }
            None => failed += 1,
        }
        if accepted.len() >= MOST_SOURCES || (accepted.is_empty() && failed >= 4) {
            break;
        }
    }
    let rules = rules?;
    proposed.sources = accepted;
    let first = *proposed.sources.first()?;
    if more_ports > 1 {
        let last = proposed.port.saturating_add(more_ports - 1);
        let open = prober.send(&proposed, &first, last).is_some_and(|r| does(proposed.work, &r));
        proposed.ports = if open { more_ports } else { 1 };
    }
    Some((proposed, rules))
}

fn is_rule(record: &StageRecord) -> bool {
    matches!(record.node, Node::Firewall(_))
        && matches!(record.kind, RecordKind::Firewall { rule: Some(_), .. })
}

/// Whether the session that these records are of did a work.
fn does(work: Work, records: &[StageRecord]) -> bool {
    let translated =
        |r: &StageRecord| matches!(r.kind, RecordKind::Nat { .. }) && r.before.src != r.after.src;
    let balanced = |at_gateway: bool| {
        records.iter().any(|r| {
            matches!(r.kind, RecordKind::Balancer { hairpin: false, .. })
                && matches!(r.node, Node::Gateway(_)) == at_gateway
        })
    };
    let changed = records.iter().any(|r| r.before != r.after);
    match work {
        Work::L2 | Work::Route | Work::Dfw => !changed,
        Work::Snat => records.iter().any(translated),
        Work::Dlb => balanced(false),
        Work::Slb => balanced(true),
        Work::Chain => records.iter().any(translated) || balanced(true),
    }
}
