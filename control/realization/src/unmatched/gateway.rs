//! Rules of a gateway's firewall that earlier ones shadow, one of them alone or several together.
//!
//! The search is that of `shadowed`, with one list instead of a list a vNIC. A rule of both directions is shadowed
//! if it is in each. A stateful rule does not judge each packet of a session, nor ICMP errors, as a stateless one
//! does: it shadows stateful rules only. The rule of `defaultAction` is meant to stand behind all others.

use engine::Tuple;
use engine::network::{
    AddressSet, Direction, GatewayFirewall, GatewayRule, IcmpMatch, Service, ServicePorts,
};
use packet::{Addr, protocol};

use super::cover::{Region, covers, covers_services};
use super::shadowed::{MAX_COMPARED, MAX_PIECES, MAX_TOLD, take_all};
use crate::fault::{Messages, Subject};
use crate::gateway_firewall::DEFAULT_RULE;

/// Notices of rules of a gateway's firewall that earlier rules shadow entirely.
pub(crate) fn notice_shadowed_at_gateway(
    firewall: &GatewayFirewall,
    subject: &Subject,
    messages: &mut Messages,
) {
    if firewall.is_disabled() {
        return;
    }
    let mut search = Search { rules: firewall.rules(), left: MAX_COMPARED };
    let mut told = 0usize;
    for (at, rule) in firewall.rules().iter().enumerate() {
        if rule.disabled || rule.name == DEFAULT_RULE {
            continue;
        }
        let shadow = search.shadow(at, rule);
        if search.left == 0 {
            let message = format!(
                "the search for gateway firewall rules that earlier ones shadow ended here, after {MAX_COMPARED} comparisons"
            );
            return messages.notice(subject, message, "");
        }
        let Some(shadow) = shadow else { continue };
        told += 1;
        if told > MAX_TOLD {
            let message = format!(
                "more than {MAX_TOLD} gateway firewall rules are shadowed; the rest is not told"
            );
            return messages.notice(subject, message, "");
        }
        let mut message = format!(
            "gateway firewall: rule {} '{}' can never match: {}",
            rule.id,
            rule.name,
            take_all(shadow.iter().map(|r| described(r)))
        );
        if let Some(witness) = witness(firewall, rule) {
            message = format!("{message}, for instance {witness}");
        }
        let help = "narrow the earlier rule, remove this one, or give it a lower sequence or an earlier category";
        messages.notice(subject, message, help);
    }
}

fn described(rule: &GatewayRule) -> String {
    format!("rule {} '{}' ({})", rule.id, rule.name, rule.action)
}

/// The directions that a rule matches.
fn ways(direction: Direction) -> &'static [Direction] {
    match direction {
        Direction::In => &[Direction::In],
        Direction::Out => &[Direction::Out],
        Direction::InOut => &[Direction::In, Direction::Out],
    }
}

struct Search<'r> {
    /// In the order of evaluation.
    rules: &'r [GatewayRule],
    /// Comparisons that may still be made.
    left: usize,
}

impl<'r> Search<'r> {
    fn spend(&mut self, comparisons: usize) {
        self.left = self.left.saturating_sub(comparisons);
    }

    /// The rules before place `at` that take everything that `rule` there would.
    fn shadow(&mut self, at: usize, rule: &GatewayRule) -> Option<Vec<&'r GatewayRule>> {
        let before = self.rules.get(..at).unwrap_or_default();
        let able = |r: &&GatewayRule| !r.disabled && (rule.stateful || !r.stateful);
        let earlier: Vec<&GatewayRule> = before.iter().filter(able).collect();
        for candidate in &earlier {
            self.spend(1 + rule.source.ranges().len() + rule.destination.ranges().len());
            if alone(candidate, rule) {
                return Some(vec![*candidate]);
            }
            if self.left == 0 {
                return None;
            }
        }
        let mut takers: Vec<usize> = Vec::new();
        for way in ways(rule.direction) {
            takers.extend(self.together(&earlier, rule, *way)?);
        }
        takers.sort_unstable();
        takers.dedup();
        Some(takers.iter().filter_map(|i| earlier.get(*i).copied()).collect())
    }

    /// The places in `earlier` of the rules that leave nothing of a rule in one direction.
    fn together(
        &mut self,
        earlier: &[&GatewayRule],
        rule: &GatewayRule,
        way: Direction,
    ) -> Option<Vec<usize>> {
        let mut rest = vec![Region::of(rule)];
        let mut takers = Vec::new();
        for (at, candidate) in earlier.iter().enumerate() {
            self.spend(1 + rest.iter().map(Region::ranges).sum::<usize>());
            if self.left == 0 {
                return None;
            }
            if !ways(candidate.direction).contains(&way)
                || !rest.iter().any(|region| region.meets(*candidate))
            {
                continue;
            }
            rest = rest.iter().flat_map(|region| region.without(*candidate)).collect();
            takers.push(at);
            if rest.is_empty() {
                return Some(takers);
            }
            if rest.len() > MAX_PIECES {
                return None;
            }
        }
        None
    }
}

/// Whether one rule takes everything that another would.
fn alone(earlier: &GatewayRule, rule: &GatewayRule) -> bool {
    ways(rule.direction).iter().all(|way| ways(earlier.direction).contains(way))
        && covers_services(&earlier.services, &rule.services)
        && covers(&earlier.source, &rule.source)
        && covers(&earlier.destination, &rule.destination)
}

/// A flow that the rule would match, and the rule that takes it. None where the rule's addresses are of two
/// families, so that no packet has them.
fn witness(firewall: &GatewayFirewall, rule: &GatewayRule) -> Option<String> {
    let way = *ways(rule.direction).first()?;
    let (protocol, port, icmp) = service(&rule.services);
    // Documentation addresses (RFC 5737, RFC 3849) stand for whom the rule does not name.
    let v4 = (Addr::v4(0xc000_0201), Addr::v4(0xc633_6401));
    let v6 = (Addr(0x2001_0db8 << 96 | 1), Addr(0x2001_0db8 << 96 | 2));
    let (src, dst) = [v4, v6]
        .into_iter()
        .find_map(|(a, b)| Some((address(&rule.source, a)?, address(&rule.destination, b)?)))?;
    let flow = Tuple { src, dst, protocol, src_port: 0, dst_port: port };
    let inward = way == Direction::In;
    GatewayFirewall::new(true, vec![rule.clone()]).lookup(inward, flow, icmp)?;
    let taker = firewall.lookup(inward, flow, icmp).filter(|taker| taker.id != rule.id)?;
    let ports = match icmp {
        Some((kind, code)) => ServicePorts::Icmp(IcmpMatch { kind, code: Some(code) }),
        None if port == 0 => ServicePorts::Any,
        None => ServicePorts::Destination(vec![(port, port)]),
    };
    let sent = Service { protocol, ports };
    let way = if inward { "inwards" } else { "outwards" };
    Some(format!("{src} > {dst} {sent} {way}, which {} takes", described(taker)))
}

/// An address of a set, of the family of `usual` and `usual` itself if it is in the set. The first address of a
/// network is nobody's: the next one is taken.
fn address(set: &AddressSet, usual: Addr) -> Option<Addr> {
    if set.contains(usual) {
        return Some(usual);
    }
    let (first, last) = *set.ranges().iter().find(|(first, _)| first.is_v4() == usual.is_v4())?;
    Some(if first == last { first } else { Addr(first.0 + 1) })
}

/// Protocol, destination port, and ICMP type and code of a packet of the services.
fn service(services: &[Service]) -> (u8, u16, Option<(u8, u8)>) {
    let Some(service) = services.first() else { return (protocol::TCP, 80, None) };
    match (&service.ports, service.protocol) {
        (ServicePorts::Destination(ranges), of) => {
            (of, ranges.first().map_or(80, |(first, _)| *first), None)
        }
        (ServicePorts::Icmp(m), of) => (of, 0, Some((m.kind, m.code.unwrap_or(0)))),
        // Echo requests: RFC 792, RFC 4443.
        (ServicePorts::Any, of @ protocol::ICMP) => (of, 0, Some((8, 0))),
        (ServicePorts::Any, of @ protocol::ICMPV6) => (of, 0, Some((128, 0))),
        (ServicePorts::Any, of @ (protocol::TCP | protocol::UDP)) => (of, 80, None),
        (ServicePorts::Any, of) => (of, 0, None),
    }
}
