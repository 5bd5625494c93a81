//! NAT rules and the firewall of a gateway, Tier-1 or Tier-0.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use super::security;
use crate::diagnostic::Subject;
use crate::node::{Fault, Node, excerpt};
use crate::own::{
    GatewayFirewall, GatewayRule, HaMode, NatAction, NatMatch, NatRule, PortRange, RuleAddresses,
    RuleService,
};

/// The most addresses of an SNAT pool.
const MAX_POOL: u128 = 1024;
/// The longest name of a rule, characters: NSX's limit of a display name.
const MAX_NAME: usize = 255;
/// The name of the rule of `defaultAction`.
const DEFAULT_RULE: &str = "default";

/// How an active-active Tier-0 comes to what it refuses.
const STANDBY: &str = "state 'haMode: active-standby', or do it at the Tier-1";

/// Checks a rule's name, and that no other has it.
fn name<'a>(subject: &mut Subject<'_>, at: &Node, name: &'a str, seen: &mut BTreeSet<&'a str>) {
    if name.is_empty() || name.chars().count() > MAX_NAME || name.chars().any(char::is_control) {
        let message = format!(
            "'{}' is not a rule's name: 1 to {MAX_NAME} printable characters",
            excerpt(name)
        );
        subject.error(at.at("name"), message);
    } else if !seen.insert(name) {
        subject.error(at.at("name"), format!("a rule '{}' is defined twice", excerpt(name)));
    }
}

/// Checks that a service's fields belong to its protocol.
fn service(subject: &mut Subject<'_>, at: &Node, service: &RuleService) {
    let protocol = service.protocol;
    if !service.ports.is_empty() && !protocol.has_ports() {
        let message = format!("{protocol} has no ports that a rule can tell; TCP and UDP have");
        subject.error(at.at("ports"), message);
    }
    for (field, stated) in [("type", service.kind), ("code", service.code)] {
        if stated.is_some() && !protocol.is_icmp() {
            subject.error(at.at(field), format!("{protocol} has no {field}; ICMP and ICMPv6 have"));
        }
    }
    if service.code.is_some() && service.kind.is_none() {
        subject.error(at.at("code"), "a code is one of a type: state 'type' too");
    }
}

/// Checks the NAT rules of a gateway; `ha` is a Tier-0's.
pub(super) fn nat_rules(
    subject: &mut Subject<'_>,
    at: &Node,
    rules: &[NatRule],
    ha: Option<HaMode>,
) {
    let mut names = BTreeSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let at = at.item(index);
        if let Some(stated) = &rule.name {
            name(subject, at, stated, &mut names);
        }
        if ha == Some(HaMode::ActiveActive) && rule.action != NatAction::Reflexive {
            let message = format!(
                "an active-active Tier-0 has no {}: its service routers share no sessions, REFLEXIVE needs none",
                rule.action
            );
            subject.fault(Fault::at(at.at("action"), message).help(STANDBY));
            continue;
        }
        nat_rule(subject, at, rule);
    }
    identical(subject, at, rules);
}

/// Tells of rules without a name that say the same as another one: they are one rule.
fn identical(subject: &mut Subject<'_>, at: &Node, rules: &[NatRule]) {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate().filter(|(_, rule)| rule.name.is_none()) {
        // Where it stands is no part of what it says.
        let says = format!("{:?}", NatRule { line: 0, ..rule.clone() });
        match seen.get(&says) {
            Some(first) => subject.notice(
                at.item(index),
                format!("natRules[{index}] says the same as natRules[{first}]: it has no effect"),
            ),
            None => {
                seen.insert(says, index);
            }
        }
    }
}

/// Notes at each rule where it stands; `at` is the list's place.
pub(super) fn place_rules(at: &Node, rules: &mut [NatRule]) {
    for (index, rule) in rules.iter_mut().enumerate() {
        rule.line = at.item(index).line;
    }
}

fn nat_rule(subject: &mut Subject<'_>, at: &Node, rule: &NatRule) {
    let action = rule.action;
    if let Some(stated) = &rule.service {
        if action == NatAction::Reflexive {
            subject.error(at.at("service"), "a REFLEXIVE rule is for every service");
        } else {
            service(subject, at.at("service"), stated);
        }
    }
    if rule.translated_port.is_some() && action != NatAction::Dnat {
        let ports = if action == NatAction::Snat {
            "keeps ports or finds free ones"
        } else {
            "keeps ports"
        };
        let message = format!("translatedPort is for DNAT; {action} {ports}");
        subject.error(at.at("translatedPort"), message);
    }
    let families = [rule.source.network(), rule.destination.network()];
    if let [Some(source), Some(destination)] = families
        && is_v4(&source) != is_v4(&destination)
    {
        let message = format!("{destination} is not of the family of the source {source}");
        return subject.error(at.at("destination"), message);
    }
    match action {
        NatAction::NoSnat | NatAction::NoDnat => {
            if rule.translated.ends().is_some() {
                let message =
                    format!("a {action} rule translates nothing, not to {}", rule.translated);
                subject.error(at.at("translated"), message);
            }
        }
        NatAction::Snat => snat(subject, at, rule),
        NatAction::Dnat => dnat(subject, at, rule),
        NatAction::Reflexive => reflexive(subject, at, rule),
    }
}

fn snat(subject: &mut Subject<'_>, at: &Node, rule: &NatRule) {
    let Some((first, last)) = rule.translated.ends() else {
        return subject.error(at, "an SNAT rule needs translated: an address");
    };
    if !is_unicast(first) || !is_unicast(last) {
        let message = format!("{} has addresses that no host can have", rule.translated);
        return subject.error(at.at("translated"), message);
    }
    if number(last).saturating_sub(number(first)) >= MAX_POOL {
        let message = format!("{} has more than {MAX_POOL} addresses", rule.translated);
        return subject.error(at.at("translated"), message);
    }
    let families = [("source", rule.source), ("destination", rule.destination)];
    for (field, side) in families {
        if let Some(net) = side.network()
            && is_v4(&net) != first.is_ipv4()
        {
            let message = format!("{first} is not of the family of the {field} {net}");
            subject.error(at.at("translated"), message);
        }
    }
}

fn dnat(subject: &mut Subject<'_>, at: &Node, rule: &NatRule) {
    let Some(destination) = rule.destination.network() else {
        return subject.error(at, "a DNAT rule needs destination: the address or network outside");
    };
    let Some(to) = rule.translated.network() else {
        return subject.error(
            at,
            "a DNAT rule needs translated: one address, or a network of the destination's size",
        );
    };
    if !is_unicast(destination.network()) || !is_unicast(destination.broadcast()) {
        let message = format!("{destination} has addresses that no host can have");
        return subject.error(at.at("destination"), message);
    }
    if !is_unicast(to.network()) || !is_unicast(to.broadcast()) {
        let message = format!("{to} has addresses that no host can have");
        return subject.error(at.at("translated"), message);
    }
    if is_v4(&to) != is_v4(&destination) {
        let message = format!("{to} is not of the family of the destination {destination}");
        return subject.error(at.at("translated"), message);
    }
    if to.prefix_len() != to.max_prefix_len() && to.prefix_len() != destination.prefix_len() {
        let message = format!("{to} is not of the size of the destination {destination}");
        subject.fault(
            Fault::at(at.at("translated"), message)
                .help("a network is translated one to one; or name a single address"),
        );
    }
    if let Some(port) = rule.translated_port {
        translated_port(subject, at, rule, port);
    }
}

fn translated_port(subject: &mut Subject<'_>, at: &Node, rule: &NatRule, to: PortRange) {
    let at = at.at("translatedPort");
    let original = rule.service.as_ref().filter(|s| s.protocol.has_ports()).map(|s| &s.ports[..]);
    let Some([original]) = original else {
        return subject.fault(
            Fault::at(at, "translatedPort without one port or range of ports to translate").help(
                "state the service with its port, for instance 'service: {protocol: TCP, ports: [80]}'",
            ),
        );
    };
    let count = |range: PortRange| range.last() - range.first();
    if count(to) != 0 && count(to) != count(*original) {
        let message =
            format!("translatedPort {to} is not as long as the service's ports {original}");
        subject.error(at, message);
    }
}

fn reflexive(subject: &mut Subject<'_>, at: &Node, rule: &NatRule) {
    if rule.destination != NatMatch::Any {
        subject.error(at.at("destination"), "a REFLEXIVE rule is for every destination");
    }
    let Some(source) = rule.source.network() else {
        return subject.error(at, "a REFLEXIVE rule needs source: the network inside");
    };
    let Some(to) = rule.translated.network() else {
        return subject
            .error(at, "a REFLEXIVE rule needs translated: a network of the source's size");
    };
    if is_v4(&to) != is_v4(&source) {
        let message = format!("{to} is not of the family of the source {source}");
        subject.error(at.at("translated"), message);
    } else if to.prefix_len() != source.prefix_len() {
        let message = format!("{to} is not of the size of the source {source}");
        subject.fault(
            Fault::at(at.at("translated"), message)
                .help("a REFLEXIVE rule translates one to one: use the same prefix length"),
        );
    } else if to.contains(&source) {
        subject.error(at.at("translated"), format!("{to} is translated to itself"));
    }
    for (field, net) in [("source", source), ("translated", to)] {
        if !is_unicast(net.network()) || !is_unicast(net.broadcast()) {
            subject.error(at.at(field), format!("{net} has addresses that no host can have"));
        }
    }
}

fn is_v4(net: &IpNet) -> bool {
    matches!(net, IpNet::V4(_))
}

/// Whether a host can have the address: no group, class E, loopback or unspecified one.
pub(super) fn is_unicast(address: IpAddr) -> bool {
    let class_e = matches!(address, IpAddr::V4(v4) if v4.octets()[0] >= 224);
    !address.is_unspecified() && !address.is_multicast() && !address.is_loopback() && !class_e
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// Checks the firewall of a gateway; `ha` is a Tier-0's.
pub(super) fn gateway_firewall(
    subject: &mut Subject<'_>,
    at: &Node,
    firewall: &GatewayFirewall,
    ha: Option<HaMode>,
) {
    if !firewall.enabled && (!firewall.rules.is_empty() || firewall.flood_protection.is_some()) {
        let message = "the firewall is switched off: its rules and limits have no effect";
        subject.notice(at.at("enabled"), message);
    }
    let mut names = BTreeSet::new();
    for (index, rule) in firewall.rules.iter().enumerate() {
        let at = at.at("rules").item(index);
        name(subject, at, &rule.name, &mut names);
        gateway_rule(subject, at, rule, ha);
    }
    if let Some(flood) = &firewall.flood_protection {
        let at = at.at("floodProtection");
        security::gateway_flood_protection(flood, subject, at);
        if ha == Some(HaMode::ActiveActive) {
            let message =
                "an active-active Tier-0 remembers no flows: its service routers share no sessions";
            subject.fault(Fault::at(at, message).help(STANDBY));
        }
    }
}

fn gateway_rule(subject: &mut Subject<'_>, at: &Node, rule: &GatewayRule, ha: Option<HaMode>) {
    if rule.name == DEFAULT_RULE {
        subject.error(at.at("name"), "'default' is the name of the rule of defaultAction");
    }
    for (index, stated) in rule.services.iter().enumerate() {
        service(subject, at.at("services").item(index), stated);
    }
    families(subject, at, rule);
    if ha == Some(HaMode::ActiveActive) && rule.stateful == Some(true) {
        let message =
            "an active-active Tier-0 has no stateful rules: its service routers share no sessions";
        subject.fault(Fault::at(at.at("stateful"), message).help(STANDBY));
    }
}

/// Tells of addresses of a family of which the other side has none: no packet has both.
fn families(subject: &mut Subject<'_>, at: &Node, rule: &GatewayRule) {
    let sides = [("sources", &rule.sources), ("destinations", &rule.destinations)];
    let has = |list: &[RuleAddresses], v4: bool| {
        list.is_empty() || list.iter().any(|a| a.ends().0.is_ipv4() == v4)
    };
    for (v4, name) in [(true, "IPv4"), (false, "IPv6")] {
        for [(field, list), (other, opposite)] in [sides, [sides[1], sides[0]]] {
            if !list.is_empty() && has(list, v4) && !has(opposite, v4) {
                subject.notice(
                    at.at(field),
                    format!("the {name} addresses of {field} match nothing: {other} has none"),
                );
            }
        }
    }
}
