//! Finding the first rule that matches without asking every one.
//!
//! Rules name few different sets of addresses, and an address is in few of them. So the sets come first:
//! which of them a source and a destination are in is one search each, over intervals in which no set
//! begins or ends. Then only rules of these sets are asked, and among many of the same sets only those
//! that have the flow's protocol and port (as the bit vectors of Lakshman and Stiliadis, SIGCOMM 1998, but
//! with lists: most sets hold few rules). Whatever is found is asked by [`Rule::matches`], so that a
//! classifier can only be incomplete, never wrong in what it finds; it is exact because every rule stands
//! in a list of each of its parts.
//!
//! A workload's list of up to [`SHORT`] rules is searched as it is. A longer one is compiled when a flow
//! first asks for it, once in a snapshot.

use super::{AddressSet, Rule, ServicePorts};
use crate::hash::{SeededState, seeded};
use hashbrown::HashMap;
use packet::Addr;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock};

/// Rules that are asked one by one rather than by an index.
const SHORT: usize = 24;
/// Places a member may take in an interval map, on average, and those that a small map may take anyway.
const PLACES_EACH: usize = 32;
const PLACES_ANYWAY: usize = 65_536;

/// A flow, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Destination port.
    pub dst_port: u16,
    /// ICMP type and code.
    pub icmp: Option<(u8, u8)>,
}

/// Who has a point: members by intervals in which none begins or ends.
#[derive(Debug, Default)]
struct Intervals<K> {
    /// Where intervals begin, each with the place of its members.
    starts: Vec<K>,
    places: Vec<(u32, u32)>,
    members: Vec<u32>,
    /// Members that would take too many places, to be asked themselves.
    wide: Vec<u32>,
}

impl<K: Copy + Ord> Intervals<K> {
    /// Of members and the inclusive ranges of each. `after` is the point behind another, if there is one.
    fn new(ranges: &[(u32, Vec<(K, K)>)], after: impl Fn(K) -> Option<K>) -> Intervals<K> {
        let all = ranges.iter().flat_map(|(_, ranges)| ranges);
        let mut starts: Vec<K> = Vec::with_capacity(2 * ranges.len());
        for (a, b) in all.clone() {
            starts.push(*a);
            starts.extend(after(*b));
        }
        starts.sort_unstable();
        starts.dedup();
        let at = |point: K| starts.partition_point(|start| *start < point);
        // The intervals of each range, in the order of members.
        let covered: Vec<Range<usize>> =
            all.map(|(a, b)| at(*a)..after(*b).map_or(starts.len(), at)).collect();
        let mut rest = covered.as_slice();
        let mut by_size: Vec<(usize, u32, &[Range<usize>])> = Vec::with_capacity(ranges.len());
        for (member, ranges) in ranges {
            let (own, others) = rest.split_at_checked(ranges.len()).unwrap_or((rest, &[]));
            rest = others;
            by_size.push((own.iter().map(ExactSizeIterator::len).sum(), *member, own));
        }
        let most = PLACES_ANYWAY + PLACES_EACH * ranges.len();
        let mut wide = Vec::new();
        if by_size.iter().map(|(size, ..)| size).sum::<usize>() > most {
            by_size.sort_unstable_by_key(|(size, member, _)| (*size, *member));
            let mut taken = 0usize;
            let fitting = by_size.iter().take_while(|(size, ..)| {
                taken = taken.saturating_add(*size);
                taken <= most
            });
            let fits = fitting.count();
            wide.extend(by_size.drain(fits..).map(|(_, member, _)| member));
        }
        let mut pairs: Vec<(usize, u32)> = by_size
            .iter()
            .flat_map(|(_, member, own)| own.iter().cloned().flatten().map(|i| (i, *member)))
            .collect();
        pairs.sort_unstable();
        pairs.dedup();
        let mut places = vec![(0, 0); starts.len()];
        for (place, (interval, _)) in (0u32..).zip(&pairs) {
            if let Some((first, count)) = places.get_mut(*interval) {
                if *count == 0 {
                    *first = place;
                }
                *count += 1;
            }
        }
        let members = pairs.into_iter().map(|(_, member)| member).collect();
        Intervals { starts, places, members, wide }
    }

    /// The members that have `point`, but for wide ones.
    fn at(&self, point: K) -> &[u32] {
        let interval = self.starts.partition_point(|start| *start <= point).checked_sub(1);
        let place = interval.and_then(|i| self.places.get(i));
        let range = place.map(|(first, count)| *first as usize..(*first + *count) as usize);
        range.and_then(|range| self.members.get(range)).unwrap_or_default()
    }
}

/// Different sets of addresses, by their numbers.
#[derive(Debug, Default)]
struct Sets {
    intervals: Intervals<u128>,
    /// Those that would take too many places.
    wide: Vec<(u32, AddressSet)>,
    /// The set of every address.
    any: Option<u32>,
}

/// Gives different sets numbers, from 0.
struct Numbered<'r> {
    numbers: HashMap<&'r [(Addr, Addr)], u32, SeededState>,
    sets: Vec<&'r AddressSet>,
}

impl<'r> Numbered<'r> {
    fn new() -> Numbered<'r> {
        Numbered { numbers: HashMap::with_hasher(seeded(0, 6)), sets: Vec::new() }
    }

    fn number(&mut self, set: &'r AddressSet) -> u32 {
        let next = u32::try_from(self.sets.len()).unwrap_or(u32::MAX);
        let number = *self.numbers.entry(set.ranges()).or_insert(next);
        if number == next {
            self.sets.push(set);
        }
        number
    }
}

impl Sets {
    fn new(numbered: &Numbered<'_>) -> Sets {
        let any = numbered.sets.iter().position(|set| set.is_any());
        let any = any.and_then(|number| u32::try_from(number).ok());
        let numbers = (0u32..).zip(&numbered.sets).filter(|(number, _)| Some(*number) != any);
        let ranges = |set: &AddressSet| set.ranges().iter().map(|(a, b)| (a.0, b.0)).collect();
        let ranges: Vec<(u32, Vec<(u128, u128)>)> =
            numbers.map(|(number, set)| (number, ranges(set))).collect();
        let intervals = Intervals::new(&ranges, |point: u128| point.checked_add(1));
        let wide = intervals.wide.iter().filter_map(|number| {
            numbered.sets.get(*number as usize).map(|set| (*number, AddressSet::clone(set)))
        });
        Sets { wide: wide.collect(), any, intervals }
    }

    /// The numbers of the sets that `addr` is in.
    fn of(&self, addr: Addr) -> impl Iterator<Item = u32> + Clone + '_ {
        let wide = self.wide.iter().filter(move |(_, set)| set.contains(addr));
        let wide = wide.map(|(number, _)| *number);
        self.intervals.at(addr.0).iter().copied().chain(wide).chain(self.any)
    }
}

/// Rules of the same sets, by protocol and port.
#[derive(Debug)]
enum Services {
    /// To be asked one by one: a range of [`Classifier::places`].
    Few(Range<u32>),
    Many {
        /// Those that are about no port in particular, of whatever protocol.
        others: Vec<u32>,
        ports: BTreeMap<u8, Intervals<u16>>,
    },
}

impl Services {
    /// Of more than a few places in the list, ascending.
    fn many<'r>(places: &[u32], rule_at: impl Fn(u32) -> Option<&'r Rule>) -> Services {
        type Ranges = Vec<(u32, Vec<(u16, u16)>)>;
        let mut others = Vec::new();
        let mut by_protocol: BTreeMap<u8, Ranges> = BTreeMap::new();
        for place in places.iter().copied() {
            let services = rule_at(place).map(|rule| rule.services.as_slice()).unwrap_or_default();
            let has_ports = |ports: &ServicePorts| matches!(ports, ServicePorts::Destination(_));
            if services.is_empty() || !services.iter().all(|s| has_ports(&s.ports)) {
                others.push(place);
                continue;
            }
            for service in services {
                if let ServicePorts::Destination(ranges) = &service.ports {
                    let ranges = ranges.iter().copied().filter(|(a, b)| a <= b).collect();
                    by_protocol.entry(service.protocol).or_default().push((place, ranges));
                }
            }
        }
        let ports = by_protocol.into_iter().map(|(protocol, ranges)| {
            (protocol, Intervals::new(&ranges, |port: u16| port.checked_add(1)))
        });
        Services::Many { others, ports: ports.collect() }
    }

    /// The places that may match, each list ascending but for the last.
    fn candidates<'c>(&'c self, places: &'c [u32], asked: &Asked) -> [&'c [u32]; 3] {
        match self {
            Services::Few(range) => {
                let range = range.start as usize..range.end as usize;
                [places.get(range).unwrap_or_default(), &[], &[]]
            }
            Services::Many { others, ports } => {
                let ports = ports.get(&asked.protocol);
                let at = ports.map(|ports| ports.at(asked.dst_port)).unwrap_or_default();
                [others, at, ports.map(|p| p.wide.as_slice()).unwrap_or_default()]
            }
        }
    }
}

/// Rules with the same set of destinations.
#[derive(Clone, Debug, Default)]
struct Destination {
    /// The first of them: what has been found earlier spares the search.
    first: u32,
    /// Where they stand in [`Classifier::groups`].
    groups: Range<u32>,
}

/// A list of rules, compiled.
#[derive(Debug)]
pub(super) struct Classifier {
    sources: Sets,
    destinations: Sets,
    /// By the number of the set.
    by_destination: Vec<Destination>,
    /// Rules with the same sets, by those of their sources, for one destination after the other.
    groups: Vec<(u32, Services)>,
    /// Places in the list, group by group, ascending in each.
    places: Vec<u32>,
}

impl Classifier {
    /// Compiles the rules that `list` names.
    pub(super) fn new(list: &[u32], rules: &[Rule]) -> Classifier {
        let rule_at = |place: u32| {
            let index = *list.get(place as usize)?;
            rules.get(index as usize)
        };
        let (mut sources, mut destinations) = (Numbered::new(), Numbered::new());
        let mut sorted: Vec<(u32, u32, u32)> = Vec::with_capacity(list.len());
        for (place, index) in (0u32..).zip(list) {
            if let Some(rule) = rules.get(*index as usize) {
                let destination = destinations.number(&rule.destination);
                sorted.push((destination, sources.number(&rule.source), place));
            }
        }
        sorted.sort_unstable();
        let places: Vec<u32> = sorted.iter().map(|(.., place)| *place).collect();
        let mut by_destination = vec![Destination::default(); destinations.sets.len()];
        let mut groups: Vec<(u32, Services)> = Vec::new();
        let mut at = 0u32;
        for group in sorted.chunk_by(|a, b| (a.0, a.1) == (b.0, b.1)) {
            let Some((destination, source, first)) = group.first().copied() else { continue };
            let number = u32::try_from(groups.len()).unwrap_or(u32::MAX);
            let end = at + u32::try_from(group.len()).unwrap_or(u32::MAX);
            let own = places.get(at as usize..end as usize).unwrap_or_default();
            let few = own.len() <= SHORT;
            let services = if few { Services::Few(at..end) } else { Services::many(own, rule_at) };
            groups.push((source, services));
            at = end;
            if let Some(entry) = by_destination.get_mut(destination as usize) {
                if entry.groups.is_empty() {
                    *entry = Destination { first, groups: number..number };
                }
                entry.first = entry.first.min(first);
                entry.groups.end = number + 1;
            }
        }
        let (sources, destinations) = (Sets::new(&sources), Sets::new(&destinations));
        Classifier { sources, destinations, by_destination, groups, places }
    }

    /// The place of the first rule that `matches`, of those that may.
    pub(super) fn first(&self, asked: &Asked, matches: impl Fn(u32) -> bool) -> Option<u32> {
        let sources = self.sources.of(asked.src);
        let mut found: Option<u32> = None;
        let is_earlier = |place: u32, found: Option<u32>| found.is_none_or(|at| place < at);
        for destination in self.destinations.of(asked.dst) {
            let Some(rules) = self.by_destination.get(destination as usize) else { continue };
            if !is_earlier(rules.first, found) {
                continue;
            }
            let groups = rules.groups.start as usize..rules.groups.end as usize;
            let groups = self.groups.get(groups).unwrap_or_default();
            let of_source = |source: u32| {
                let at = groups.binary_search_by_key(&source, |(source, _)| *source).ok()?;
                groups.get(at).map(|(_, services)| services)
            };
            for services in sources.clone().filter_map(of_source) {
                let [others, at, wide] = services.candidates(&self.places, asked);
                for ascending in [others, at] {
                    let earlier = ascending.iter().copied().take_while(|p| is_earlier(*p, found));
                    found = { earlier }.find(|place| matches(*place)).or(found);
                }
                for place in wide {
                    if is_earlier(*place, found) && matches(*place) {
                        found = Some(*place);
                    }
                }
            }
        }
        found
    }
}

/// Compiled lists of one snapshot's rules. A copy of the snapshot begins without any: it may be changed.
#[derive(Debug, Default)]
pub struct Compiled {
    lists: RwLock<Lists>,
}

#[derive(Debug, Default)]
struct Lists {
    /// Of which snapshot.
    epoch: u64,
    /// By the place of a list in memory, which it keeps as long as it stands here.
    by_place: BTreeMap<usize, (Arc<[u32]>, Arc<Classifier>)>,
}

impl Clone for Compiled {
    fn clone(&self) -> Compiled {
        Compiled::default()
    }
}

impl Compiled {
    /// The first rule of `list`, of the snapshot `epoch`, that matches.
    pub(super) fn first<'r>(
        &self,
        epoch: u64,
        rules: &'r [Rule],
        list: &Arc<[u32]>,
        asked: &Asked,
    ) -> Option<&'r Rule> {
        let rule_at = |index: &u32| rules.get(*index as usize);
        let matches =
            |r: &Rule| r.matches(asked.src, asked.dst, asked.protocol, asked.dst_port, asked.icmp);
        if list.len() <= SHORT {
            return list.iter().filter_map(rule_at).find(|rule| matches(rule));
        }
        let at_place = |place: u32| list.get(place as usize).and_then(rule_at);
        let first = |classifier: &Classifier| {
            let place = classifier.first(asked, |place| at_place(place).is_some_and(&matches))?;
            at_place(place)
        };
        let key = list.as_ptr() as usize;
        {
            let lists = self.lists.read().unwrap_or_else(PoisonError::into_inner);
            if lists.epoch == epoch
                && let Some((_, classifier)) = lists.by_place.get(&key)
            {
                return first(classifier);
            }
        }
        let classifier = Arc::new(Classifier::new(list, rules));
        let mut lists = self.lists.write().unwrap_or_else(PoisonError::into_inner);
        if lists.epoch != epoch {
            lists.by_place.clear();
            lists.epoch = epoch;
        }
        lists.by_place.insert(key, (Arc::clone(list), Arc::clone(&classifier)));
        drop(lists);
        first(&classifier)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::super::{Action, Category, Direction, IcmpMatch, Service};
    use super::*;
    use proptest::prelude::*;

    fn set() -> impl Strategy<Value = AddressSet> {
        let v4 = |n: u8| Addr::v4(0x0a00_0000 + u32::from(n));
        let v6 = |n: u8| Addr(0x2001_0db8 << 96 | u128::from(n));
        let range = (any::<bool>(), 0u8..40, 0u8..12);
        let range = range.prop_map(move |(is_v4, first, more)| {
            let at = |n| if is_v4 { v4(n) } else { v6(n) };
            (at(first), at(first + more))
        });
        prop_oneof![
            1 => Just(AddressSet::any()),
            4 => proptest::collection::vec(range, 0..4).prop_map(AddressSet::from_ranges),
        ]
    }

    fn service() -> impl Strategy<Value = Service> {
        let protocol = prop_oneof![Just(1u8), Just(6), Just(17)];
        let range = (0u16..20, 0u16..6).prop_map(|(a, more)| (a, a + more));
        let ports = prop_oneof![
            1 => Just(ServicePorts::Any),
            6 => proptest::collection::vec(range, 0..3).prop_map(ServicePorts::Destination),
            1 => Just(ServicePorts::Destination(vec![(0, u16::MAX)])),
            1 => (0u8..3, proptest::option::of(0u8..2))
                .prop_map(|(kind, code)| ServicePorts::Icmp(IcmpMatch { kind, code })),
        ];
        (protocol, ports).prop_map(|(protocol, ports)| Service { protocol, ports })
    }

    fn rule() -> impl Strategy<Value = Rule> {
        let services = proptest::collection::vec(service(), 0..3);
        (set(), set(), services).prop_map(|(source, destination, services)| Rule {
            id: 1,
            name: String::new(),
            section: String::new(),
            origin: String::new(),
            category: Category::Application,
            direction: Direction::InOut,
            source,
            source_text: String::new(),
            destination,
            destination_text: String::new(),
            services,
            strict: true,
            applied_to_text: String::new(),
            action: Action::Allow,
        })
    }

    fn asked() -> impl Strategy<Value = Asked> {
        let addr = prop_oneof![
            (0u32..55).prop_map(|n| Addr::v4(0x0a00_0000 + n)),
            (0u128..55).prop_map(|n| Addr(0x2001_0db8 << 96 | n)),
        ];
        let protocol = prop_oneof![Just(1u8), Just(6), Just(17), Just(47)];
        let icmp = proptest::option::of((0u8..4, 0u8..3));
        (addr.clone(), addr, protocol, 0u16..28, icmp).prop_map(
            |(src, dst, protocol, dst_port, icmp)| Asked { src, dst, protocol, dst_port, icmp },
        )
    }

    proptest! {
        /// The oracle is the search from the first to the last.
        #[test]
        fn finds_what_the_search_one_by_one_finds(
            kinds in proptest::collection::vec(rule(), 1..60),
            list in proptest::collection::vec(0u32..70, 0..200),
            flows in proptest::collection::vec(asked(), 1..50),
        ) {
            // Numbers tell equal rules apart.
            let rules: Vec<Rule> =
                (0u32..).zip(kinds).map(|(id, rule)| Rule { id, ..rule }).collect();
            let (classifier, compiled) = (Classifier::new(&list, &rules), Compiled::default());
            let list: Arc<[u32]> = list.into();
            for asked in flows {
                let matches = |r: &Rule| {
                    r.matches(asked.src, asked.dst, asked.protocol, asked.dst_port, asked.icmp)
                };
                let rule_at = |place: u32| rules.get(*list.get(place as usize)? as usize);
                let expected = (0u32..).zip(&*list).map(|(place, _)| place)
                    .find(|place| rule_at(*place).is_some_and(matches));
                let found = classifier
                    .first(&asked, |place| rule_at(place).is_some_and(matches));
                prop_assert_eq!(found, expected);
                let found = compiled.first(1, &rules, &list, &asked);
                prop_assert_eq!(found.map(|r| r.id), expected.and_then(rule_at).map(|r| r.id));
            }
        }
    }

    #[test]
    fn members_that_would_take_too_many_places_are_still_found() {
        // Ranges that contain one another: each interval would have half of them.
        let count = 2_000u32;
        let nested = |i: u32| vec![(u128::from(i), u128::from(4 * count - i))];
        let ranges: Vec<(u32, Vec<(u128, u128)>)> = (0..count).map(|i| (i, nested(i))).collect();
        let intervals = Intervals::new(&ranges, |point: u128| point.checked_add(1));
        assert!(!intervals.wide.is_empty());
        assert!(intervals.members.len() <= PLACES_ANYWAY + PLACES_EACH * count as usize);
        for point in [0u128, 1, 77, 1_999, 4_000, 8_000, 8_001] {
            let has = |i: &u32| (u128::from(*i)..=u128::from(4 * count - *i)).contains(&point);
            let mut found: Vec<u32> = intervals.at(point).to_vec();
            found.extend(intervals.wide.iter().copied().filter(has));
            found.sort_unstable();
            let expected: Vec<u32> = (0..count).filter(has).collect();
            assert_eq!(found, expected, "{point}");
        }
    }

    #[test]
    fn a_copy_of_a_snapshot_that_was_changed_is_compiled_anew() {
        let rule = |address: &str| {
            let address: Addr = address.parse().unwrap();
            let destination = AddressSet::from_ranges([(address, address)]);
            let template = Rule { destination, ..any_rule() };
            vec![template; 40]
        };
        let list: Arc<[u32]> = (0..40).collect();
        let compiled = Compiled::default();
        let asked = Asked {
            src: "10.0.0.1".parse().unwrap(),
            dst: "10.0.0.2".parse().unwrap(),
            protocol: 6,
            dst_port: 80,
            icmp: None,
        };
        let (hit, missed) = (rule("10.0.0.2"), rule("10.0.0.3"));
        assert!(compiled.first(1, &hit, &list, &asked).is_some());
        assert!(compiled.first(2, &missed, &list, &asked).is_none());
        assert!(compiled.clone().first(2, &hit, &list, &asked).is_some());
    }

    fn any_rule() -> Rule {
        Rule {
            id: 1,
            name: String::new(),
            section: String::new(),
            origin: String::new(),
            category: Category::Application,
            direction: Direction::InOut,
            source: AddressSet::any(),
            source_text: String::new(),
            destination: AddressSet::any(),
            destination_text: String::new(),
            services: Vec::new(),
            strict: true,
            applied_to_text: String::new(),
            action: Action::Allow,
        }
    }
}
