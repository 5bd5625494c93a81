//! Whether one set of addresses or services lies within another, and what is left of one without another.

use std::sync::LazyLock;

use engine::network::{AddressSet, Direction, GatewayRule, Rule, Service, ServicePorts};
use packet::Addr;

use crate::rules::intersection;

/// Whether every address of `inner` is in `outer`.
pub(super) fn covers(outer: &AddressSet, inner: &AddressSet) -> bool {
    // Ranges that touch are one, so that an inner range lies in a single outer one.
    inner.ranges().iter().all(|(first, last)| {
        let after = outer.ranges().partition_point(|(start, _)| start <= first);
        let range = after.checked_sub(1).and_then(|i| outer.ranges().get(i));
        range.is_some_and(|(_, end)| last <= end)
    })
}

/// Whether some address is in both.
pub(super) fn overlap(a: &AddressSet, b: &AddressSet) -> bool {
    a.ranges().iter().any(|(first, last)| {
        let after = b.ranges().partition_point(|(_, end)| end < first);
        b.ranges().get(after).is_some_and(|(start, _)| start <= last)
    })
}

/// Whether every packet of the `inner` services is one of the `outer` ones.
pub(super) fn covers_services(outer: &[Service], inner: &[Service]) -> bool {
    outer.is_empty()
        || (!inner.is_empty() && inner.iter().all(|service| covers_service(outer, service)))
}

fn covers_service(outer: &[Service], inner: &Service) -> bool {
    let same = || outer.iter().filter(|service| service.protocol == inner.protocol);
    if same().any(|service| service.ports == ServicePorts::Any) {
        return true;
    }
    match &inner.ports {
        ServicePorts::Any => false,
        ServicePorts::Icmp(wanted) => same().any(|service| match &service.ports {
            ServicePorts::Icmp(m) => {
                m.kind == wanted.kind && m.code.is_none_or(|code| wanted.code == Some(code))
            }
            _ => false,
        }),
        ServicePorts::Destination(wanted) => {
            let known = || {
                let ranges = same().filter_map(|service| match &service.ports {
                    ServicePorts::Destination(ranges) => Some(ranges),
                    _ => None,
                });
                ranges.flatten()
            };
            // From the first port on as far as ranges reach.
            wanted.iter().all(|(first, last)| {
                let mut next = u32::from(*first);
                while let Some(end) = known()
                    .filter(|(a, b)| (u32::from(*a)..=u32::from(*b)).contains(&next))
                    .map(|(_, b)| u32::from(*b))
                    .max()
                {
                    next = end + 1;
                }
                next > u32::from(*last)
            })
        }
    }
}

/// Every address.
static ANYBODY: LazyLock<AddressSet> = LazyLock::new(AddressSet::any);

/// Values of a protocol: destination ports, or ICMP type and code in an octet each.
const VALUES: u32 = 1 << 16;

/// What a rule asks of a packet, of whichever firewall it is.
pub(super) trait Matching {
    /// Sources.
    fn source(&self) -> &AddressSet;
    /// Destinations.
    fn destination(&self) -> &AddressSet;
    /// Services; none is every protocol.
    fn services(&self) -> &[Service];
}

impl Matching for Rule {
    fn source(&self) -> &AddressSet {
        &self.source
    }

    /// Inwards what a vNIC receives is for itself: a rule names its address, if any.
    fn destination(&self) -> &AddressSet {
        if self.direction == Direction::In { &ANYBODY } else { &self.destination }
    }

    fn services(&self) -> &[Service] {
        &self.services
    }
}

impl Matching for GatewayRule {
    fn source(&self) -> &AddressSet {
        &self.source
    }

    fn destination(&self) -> &AddressSet {
        &self.destination
    }

    fn services(&self) -> &[Service] {
        &self.services
    }
}

/// Packets by source, destination and service: every combination of the three.
#[derive(Clone, Debug)]
pub(super) struct Region {
    source: AddressSet,
    destination: AddressSet,
    /// Ranges of numbers, not of addresses: [`VALUES`] of them a protocol.
    services: AddressSet,
}

impl Region {
    /// What a rule matches.
    pub(super) fn of(rule: &impl Matching) -> Region {
        Region {
            source: rule.source().clone(),
            destination: rule.destination().clone(),
            services: numbers(rule.services()),
        }
    }

    /// Whether a rule matches some of it.
    pub(super) fn meets(&self, rule: &impl Matching) -> bool {
        overlap(&self.source, rule.source())
            && overlap(&self.destination, rule.destination())
            && overlap(&self.services, &numbers(rule.services()))
    }

    /// How many ranges it is made of: what a comparison with it costs.
    pub(super) fn ranges(&self) -> usize {
        [&self.source, &self.destination, &self.services].iter().map(|s| s.ranges().len()).sum()
    }

    /// What a rule leaves of it, in at most three disjoint pieces.
    pub(super) fn without(&self, rule: &impl Matching) -> Vec<Region> {
        let source = intersection(&self.source, rule.source());
        let destination = intersection(&self.destination, rule.destination());
        let pieces = [
            Region { source: self.source.without(rule.source()), ..self.clone() },
            Region {
                source: source.clone(),
                destination: self.destination.without(rule.destination()),
                services: self.services.clone(),
            },
            Region {
                source,
                destination,
                services: self.services.without(&numbers(rule.services())),
            },
        ];
        pieces.into_iter().filter(|piece| !piece.is_empty()).collect()
    }

    fn is_empty(&self) -> bool {
        self.source.is_empty() || self.destination.is_empty() || self.services.is_empty()
    }
}

/// Services as numbers, protocol by protocol.
fn numbers(services: &[Service]) -> AddressSet {
    let range = |protocol: u8, first: u16, last: u16| {
        let number = |value: u16| Addr(u128::from(u32::from(protocol) * VALUES + u32::from(value)));
        (number(first), number(last))
    };
    if services.is_empty() {
        return AddressSet::from_ranges([(range(0, 0, 0).0, range(u8::MAX, 0, u16::MAX).1)]);
    }
    AddressSet::from_ranges(services.iter().flat_map(|service| match &service.ports {
        ServicePorts::Any => vec![range(service.protocol, 0, u16::MAX)],
        ServicePorts::Destination(ports) => {
            ports.iter().map(|(first, last)| range(service.protocol, *first, *last)).collect()
        }
        ServicePorts::Icmp(icmp) => {
            let value = |code| u16::from_be_bytes([icmp.kind, code]);
            let (first, last) = (icmp.code.unwrap_or(0), icmp.code.unwrap_or(u8::MAX));
            vec![range(service.protocol, value(first), value(last))]
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::network::IcmpMatch;
    use packet::protocol;

    fn set(ranges: &[(u32, u32)]) -> AddressSet {
        AddressSet::from_ranges(ranges.iter().map(|(a, b)| (Addr::v4(*a), Addr::v4(*b))))
    }

    #[test]
    fn addresses_are_covered_by_ranges_that_touch_and_not_by_ranges_with_a_hole() {
        assert!(covers(&set(&[(1, 4), (5, 9)]), &set(&[(3, 6), (9, 9)])));
        assert!(!covers(&set(&[(1, 4), (6, 9)]), &set(&[(3, 6)])));
        assert!(!covers(&set(&[(1, 4)]), &set(&[(1, 5)])));
        assert!(!covers(&set(&[(2, 4)]), &set(&[(1, 2)])));
        assert!(covers(&AddressSet::any(), &set(&[(1, 5)])));
        assert!(!covers(&set(&[(0, u32::MAX)]), &AddressSet::any()));
        assert!(!covers(&AddressSet::default(), &set(&[(1, 1)])));
    }

    #[test]
    fn ranges_overlap_where_they_share_an_address() {
        assert!(overlap(&set(&[(1, 4), (8, 9)]), &set(&[(4, 7)])));
        assert!(overlap(&set(&[(5, 5)]), &set(&[(1, 3), (4, 7)])));
        assert!(overlap(&AddressSet::any(), &set(&[(3, 3)])));
        assert!(!overlap(&set(&[(1, 4), (8, 9)]), &set(&[(5, 7), (10, 12)])));
        assert!(!overlap(&set(&[(1, 4)]), &AddressSet::default()));
        assert!(!overlap(&AddressSet::default(), &AddressSet::any()));
    }

    #[test]
    fn services_are_covered_protocol_by_protocol() {
        let of = |protocol, ports| Service { protocol, ports };
        let tcp =
            |ranges: &[(u16, u16)]| of(protocol::TCP, ServicePorts::Destination(ranges.to_vec()));
        let any = |protocol| of(protocol, ServicePorts::Any);
        let icmp = |kind, code| of(protocol::ICMP, ServicePorts::Icmp(IcmpMatch { kind, code }));
        for (outer, inner, covered) in [
            (vec![], vec![], true),
            (vec![], vec![tcp(&[(80, 80)])], true),
            (vec![any(protocol::TCP)], vec![], false),
            (vec![any(protocol::TCP)], vec![tcp(&[(0, 65535)])], true),
            (vec![tcp(&[(0, 65535)])], vec![any(protocol::TCP)], false),
            (vec![any(protocol::UDP)], vec![tcp(&[(80, 80)])], false),
            (vec![tcp(&[(81, 90), (79, 80)])], vec![tcp(&[(80, 85)])], true),
            (vec![tcp(&[(80, 80)]), tcp(&[(81, 65535)])], vec![tcp(&[(80, 65535)])], true),
            (vec![tcp(&[(80, 80), (82, 90)])], vec![tcp(&[(80, 85)])], false),
            (vec![tcp(&[(80, 84)])], vec![tcp(&[(80, 85)])], false),
            (vec![tcp(&[(80, 80)])], vec![tcp(&[(80, 80)]), any(protocol::UDP)], false),
            (vec![icmp(8, None)], vec![icmp(8, Some(0))], true),
            (vec![icmp(8, Some(0))], vec![icmp(8, None)], false),
            (vec![any(protocol::ICMP)], vec![icmp(8, None)], true),
        ] {
            assert_eq!(covers_services(&outer, &inner), covered, "{outer:?} {inner:?}");
        }
    }
}
