//! Rules that earlier ones shadow: by one that takes all of their packets, or by several together.
//!
//! Whether one rule covers another is compared directly. Several together are found by taking from the rule's
//! packets what each earlier rule matches, at each vNIC, until nothing is left: exact, because addresses, ports
//! and ICMP types are ranges of numbers. The search is bounded: a rule whose remainder falls into more than
//! [`MAX_PIECES`] is not told, and after [`MAX_COMPARED`] comparisons it ends and says so.

use std::collections::BTreeSet;
use std::rc::Rc;

use engine::network::{AddressSet, Direction, Rule};
use packet::Addr;

use super::cover::{Matching, Region, covers, covers_services};
use super::{MAX_TRIED, Packet, Vnics, numbered, ports};
use crate::fault::Messages;
use crate::rules::Draft;

/// The most comparisons of rules, ranges and pods in the search for shadowed rules: a fraction of a second.
pub(super) const MAX_COMPARED: usize = 5_000_000;
/// The most shadowed rules that are told.
pub(super) const MAX_TOLD: usize = 50;
/// The most pieces that earlier rules may leave of a rule's packets in the search for those that shadow it together.
pub(super) const MAX_PIECES: usize = 256;
/// The most rules that are named of those that shadow one together.
const MAX_NAMED: usize = 3;

/// Notices of rules that earlier rules shadow entirely.
pub(crate) fn notice_shadowed(vnics: Vnics<'_, '_>, messages: &mut Messages) {
    let mut search = Search { vnics, left: MAX_COMPARED };
    let mut told = 0usize;
    for (at, draft) in (0..).zip(vnics.drafts) {
        let Some(author) = &draft.author else { continue };
        let mut shadow = search.shadow(at, draft);
        if shadow.is_none() {
            shadow = search.together(at, draft);
        }
        if search.left == 0 {
            let message = format!(
                "the search for rules that earlier ones shadow ended here, after {MAX_COMPARED} comparisons"
            );
            messages.notice(&author.subject, message, "");
            return;
        }
        let Some(Shadow { rules, list }) = shadow else { continue };
        told += 1;
        if told > MAX_TOLD {
            let message = format!("more than {MAX_TOLD} rules are shadowed; the rest is not told");
            messages.notice(&author.subject, message, "");
            return;
        }
        let mut message = format!(
            "{} can never match: {}",
            numbered(&draft.rule),
            take_all(rules.iter().map(|r| described(r)))
        );
        if let Some(witness) = search.witness(draft, &rules, list) {
            message = format!("{message}, for instance {witness}");
        }
        let help = "narrow the earlier rule, or remove this one; in a SecurityPolicy it can also be put before it";
        messages.notice(&author.subject, message, help);
    }
}

/// The rules that take all packets of another, by what they are called.
pub(super) fn take_all(rules: impl ExactSizeIterator<Item = String>) -> String {
    let all = rules.len();
    let mut names: Vec<String> = rules.take(MAX_NAMED).collect();
    match (all, names.len()) {
        (0 | 1, _) => return format!("{} takes all of its packets", names.join("")),
        (all, named) if all > named => names.push(format!("{} more", all - named)),
        _ => {}
    }
    let last = names.pop().unwrap_or_default();
    format!("{} and {last} together take all of its packets", names.join(", "))
}

fn described(rule: &Rule) -> String {
    format!("{} ({}, {})", numbered(rule), rule.origin, rule.action)
}

/// Who shadows a rule, and the rules of a vNIC where they do.
struct Shadow<'s> {
    rules: Vec<&'s Rule>,
    list: &'s [u32],
}

struct Search<'s, 'a> {
    vnics: Vnics<'s, 'a>,
    /// Comparisons that may still be made.
    left: usize,
}

impl<'s> Search<'s, '_> {
    fn spend(&mut self, comparisons: usize) {
        self.left = self.left.saturating_sub(comparisons);
    }

    /// The first rule that alone shadows the draft.
    fn shadow(&mut self, at: u32, draft: &Draft) -> Option<Shadow<'s>> {
        if draft.rule.source.is_empty() || draft.rule.destination.is_empty() {
            return None;
        }
        let (_, list) = self.vnics.first(draft)?;
        // A rule of all vNICs of the draft is one of this vNIC.
        for i in before(list, at) {
            let candidate = self.vnics.drafts.get(*i as usize)?;
            if self.is_shadow(candidate, draft) {
                return Some(Shadow { rules: vec![&candidate.rule], list });
            }
            if self.left == 0 {
                return None;
            }
        }
        None
    }

    /// Several rules that shadow the draft together, at each of its vNICs.
    fn together(&mut self, at: u32, draft: &Draft) -> Option<Shadow<'s>> {
        let (_, first) = self.vnics.first(draft)?;
        let whole = Region::of(&draft.rule);
        let mut takers: BTreeSet<u32> = BTreeSet::new();
        // vNICs with the same rules share their list.
        let mut seen: BTreeSet<*const u32> = BTreeSet::new();
        for place in draft.pods.iter() {
            self.spend(1);
            let Some(list) = self.vnics.rules(*place, draft.rule.direction) else { continue };
            if seen.insert(list.as_ptr()) {
                takers.extend(self.takers(&whole, before(list, at), draft)?);
            }
        }
        let drafts = takers.iter().filter_map(|i| self.vnics.drafts.get(*i as usize));
        let rules: Vec<&Rule> = drafts.map(|d| &d.rule).collect();
        (!rules.is_empty()).then_some(Shadow { rules, list: first })
    }

    /// The rules that leave nothing of a region, each of which takes something of it.
    fn takers(&mut self, whole: &Region, earlier: &[u32], draft: &Draft) -> Option<Vec<u32>> {
        let mut rest = vec![whole.clone()];
        let mut takers = Vec::new();
        for i in earlier {
            let candidate = self.vnics.drafts.get(*i as usize)?;
            self.spend(1);
            if is_same_written(candidate, draft)
                || !is_in_direction(&candidate.rule, draft.rule.direction)
            {
                continue;
            }
            self.spend(rest.iter().map(Region::ranges).sum());
            if self.left == 0 {
                return None;
            }
            if !rest.iter().any(|region| region.meets(&candidate.rule)) {
                continue;
            }
            rest = rest.iter().flat_map(|region| region.without(&candidate.rule)).collect();
            takers.push(*i);
            if rest.is_empty() {
                return Some(takers);
            }
            if rest.len() > MAX_PIECES {
                return None;
            }
        }
        None
    }

    fn is_shadow(&mut self, earlier: &Draft, draft: &Draft) -> bool {
        let (a, b) = (&earlier.rule, &draft.rule);
        self.spend(1);
        if is_same_written(earlier, draft)
            || !is_in_direction(a, b.direction)
            || !covers_services(&a.services, &b.services)
        {
            return false;
        }
        for (outer, inner) in [(a.source(), b.source()), (a.destination(), b.destination())] {
            if outer.is_any() {
                continue;
            }
            self.spend(inner.ranges().len());
            if !covers(outer, inner) {
                return false;
            }
        }
        if Rc::ptr_eq(&earlier.pods, &draft.pods) {
            return true;
        }
        self.spend(draft.pods.len());
        draft.pods.iter().all(|place| {
            earlier.pods.binary_search(place).is_ok()
                || self.vnics.rules(*place, draft.rule.direction).is_none()
        })
    }

    /// A packet that the draft would match, taken by one of `rules` if such a packet is found soon.
    fn witness(&self, draft: &Draft, rules: &[&Rule], list: &[u32]) -> Option<String> {
        let (place, _) = self.vnics.first(draft)?;
        let own = self.vnics.places.get(place)?.2.v4();
        let rule = &draft.rule;
        let outwards = rule.direction == Direction::Out;
        let others = self.others(if outwards { &rule.destination } else { &rule.source }, own);
        let (protocol, ports) = ports(&rule.services);
        let mut first = None;
        let packets = ports.iter().flat_map(|port| others.iter().map(move |other| (*port, *other)));
        for (port, other) in packets.take(MAX_TRIED) {
            let (src, dst) = if outwards { (own, other) } else { (other, own) };
            let packet = Packet { src, dst, protocol, port };
            let Some(taker) = self.vnics.taker(list, packet) else { continue };
            if !packet.is_matched_by(rule) {
                continue;
            }
            match rules {
                [one] if one.name == taker.name => return Some(packet.to_string()),
                [_, _, ..] if rules.iter().any(|r| r.name == taker.name) => {
                    return Some(format!("{packet}, which {} takes", numbered(taker)));
                }
                _ => {}
            }
            first.get_or_insert_with(|| format!("{packet}, which even {} takes", numbered(taker)));
        }
        first
    }

    /// Some IPv4 addresses of a set, pods' before any others, without `own`.
    fn others(&self, set: &AddressSet, own: Addr) -> Vec<Addr> {
        let pods = self.vnics.places.all().map(|(.., workload)| workload.v4());
        // TEST-NET-1, RFC 5737: somebody outside.
        let outside = std::iter::once(Addr::v4(0xc000_0201));
        let ranges = set.ranges().iter().map(|(first, _)| *first);
        let usable = |a: &Addr| a.is_v4() && !a.is_unspecified() && *a != own && set.contains(*a);
        pods.filter(usable).take(8).chain(outside.chain(ranges).filter(usable)).take(16).collect()
    }
}

/// The rules of a list that stand before another.
fn before(list: &[u32], at: u32) -> &[u32] {
    list.get(..list.partition_point(|i| *i < at)).unwrap_or_default()
}

/// Of one written rule each named port is a rule of its own, and may have a number that is there already.
fn is_same_written(a: &Draft, b: &Draft) -> bool {
    let authors = a.author.as_ref().zip(b.author.as_ref());
    authors.is_some_and(|(x, y)| Rc::ptr_eq(&x.subject, &y.subject) && x.rule == y.rule)
}

fn is_in_direction(rule: &Rule, direction: Direction) -> bool {
    rule.direction == direction || rule.direction == Direction::InOut
}
