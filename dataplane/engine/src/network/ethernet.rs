//! The Ethernet category of the distributed firewall: rules that see stations and EtherTypes.
//!
//! NSX evaluates it before every other category, without state: each frame is judged for itself, at the
//! vNIC that it leaves and at the one that it reaches, address resolution and what nobody else looks into
//! included. The first match decides; what no rule matches passes, which is NSX's default layer-2
//! rule. There is no REJECT: layer 2 has no way to say so.

use super::Direction;
use packet::{Headers, Mac};
use std::fmt;

/// What an Ethernet rule does with a frame that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EthernetAction {
    /// Pass on to the layer-3 categories.
    Allow,
    /// Discard in silence.
    Drop,
}

impl fmt::Display for EthernetAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            EthernetAction::Allow => "ALLOW",
            EthernetAction::Drop => "DROP",
        })
    }
}

/// A set of stations: some, or all but some.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacSet {
    /// Sorted, each once.
    macs: Vec<Mac>,
    excluded: bool,
}

impl MacSet {
    /// Every station.
    #[must_use]
    pub fn any() -> MacSet {
        MacSet::except([])
    }

    /// These stations.
    #[must_use]
    pub fn only(macs: impl IntoIterator<Item = Mac>) -> MacSet {
        MacSet::new(macs, false)
    }

    /// Every station but these.
    #[must_use]
    pub fn except(macs: impl IntoIterator<Item = Mac>) -> MacSet {
        MacSet::new(macs, true)
    }

    fn new(macs: impl IntoIterator<Item = Mac>, excluded: bool) -> MacSet {
        let mut macs: Vec<Mac> = macs.into_iter().collect();
        macs.sort_unstable();
        macs.dedup();
        MacSet { macs, excluded }
    }

    /// Whether `mac` is in the set.
    #[must_use]
    pub fn contains(&self, mac: Mac) -> bool {
        self.macs.binary_search(&mac).is_ok() != self.excluded
    }
}

/// `any`, `02:00:00:00:00:01, 02:00:00:00:00:02` or `not 02:00:00:00:00:01`.
impl fmt::Display for MacSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.macs.is_empty() {
            return f.write_str(if self.excluded { "any" } else { "nobody" });
        }
        if self.excluded {
            f.write_str("not ")?;
        }
        for (i, mac) in self.macs.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{mac}")?;
        }
        Ok(())
    }
}

/// One rule of the Ethernet category.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EthernetRule {
    /// Number that users and drop records name; of the same numbers as [`super::Rule::id`], and unique
    /// among both.
    pub id: u32,
    /// Name.
    pub name: String,
    /// The object that it was made from, e.g. `SupervisorCluster sup`.
    pub origin: String,
    /// Direction, as seen from the workload.
    pub direction: Direction,
    /// Sending stations.
    pub source: MacSet,
    /// Stations that frames are sent to; a group is a station of its own here.
    pub destination: MacSet,
    /// EtherTypes; empty is every frame, also one with a length in the place of an EtherType.
    pub ether_types: Vec<u16>,
    /// The workloads it is applied to, for people; the vNICs list their rules.
    pub applied_to_text: String,
    /// What it does.
    pub action: EthernetAction,
}

impl EthernetRule {
    /// Whether the rule matches a frame.
    #[must_use]
    pub fn matches(&self, headers: &Headers) -> bool {
        (self.ether_types.is_empty() || self.ether_types.contains(&headers.ether_type))
            && self.source.contains(headers.src_mac)
            && self.destination.contains(headers.dst_mac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Mac = Mac([2, 0, 0, 0, 0, 1]);
    const B: Mac = Mac([2, 0, 0, 0, 0, 2]);

    #[test]
    fn sets_of_stations() {
        assert!(MacSet::any().contains(A));
        assert!(MacSet::only([A]).contains(A));
        assert!(!MacSet::only([A]).contains(B));
        assert!(!MacSet::except([B, A]).contains(A));
        assert!(MacSet::except([A]).contains(B));
        assert!(!MacSet::only([]).contains(A));
    }

    #[test]
    fn sets_read_as_they_are() {
        assert_eq!(MacSet::any().to_string(), "any");
        assert_eq!(MacSet::only([]).to_string(), "nobody");
        assert_eq!(MacSet::only([B, A, B]).to_string(), "02:00:00:00:00:01, 02:00:00:00:00:02");
        assert_eq!(MacSet::except([A]).to_string(), "not 02:00:00:00:00:01");
    }
}
