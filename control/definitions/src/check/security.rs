//! The security settings of a SupervisorCluster: ranges, names, selectors.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{
    LabelSelector as KubernetesSelector, LabelSelectorRequirement,
};

use super::supervisor::in_range;
use crate::diagnostic::Subject;
use crate::kubernetes::selector;
use crate::node::{Fault, Node, excerpt};
use crate::own::{
    DistributedFirewall, EthernetRule, GatewayFloodProtection, LabelOperator, LabelSelector,
    RateLimits, SessionTimers, Sessions,
};
use crate::text::is_dns_label;

/// The highest limit of NSX's flood protection profile, flows.
const MAX_FLOWS: u32 = 1_000_000;
/// The highest rate limit, frames a second.
const MAX_RATE: u32 = 1_000_000;
/// Bounds of NSX's session timers, seconds.
const TIMER: (u32, u32) = (10, 4_320_000);
/// The least that NSX's timer of established connections takes, seconds.
const LEAST_ESTABLISHED: u32 = 120;
/// The most Ethernet rules; NSX has as many in one section.
const MAX_ETHERNET_RULES: usize = 1_000;

pub(super) fn distributed_firewall(
    firewall: &DistributedFirewall,
    subject: &mut Subject<'_>,
    at: &Node,
) {
    let flood = &firewall.flood_protection;
    for (name, limit) in [
        ("tcpHalfOpen", flood.tcp_half_open),
        ("udp", flood.udp),
        ("icmp", flood.icmp),
        ("other", flood.other),
    ] {
        if let Some(limit) = limit {
            let at = at.at("floodProtection").at(name);
            in_range(subject, at, name, limit, 1, MAX_FLOWS);
        }
    }
    let rules = at.at("ethernetRules");
    if firewall.ethernet_rules.len() > MAX_ETHERNET_RULES {
        subject.error(
            rules,
            format!(
                "{} Ethernet rules: at most {MAX_ETHERNET_RULES}",
                firewall.ethernet_rules.len()
            ),
        );
    }
    let mut names: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, rule) in firewall.ethernet_rules.iter().enumerate() {
        let at = rules.item(index);
        ethernet_rule(rule, subject, at);
        if names.insert(&rule.name, index).is_some() {
            subject.fault(
                Fault::at(
                    at.at("name"),
                    format!("a second Ethernet rule '{}'", excerpt(&rule.name)),
                )
                .help("a rule keeps its number and its hits by its name: give each its own"),
            );
        }
    }
}

fn ethernet_rule(rule: &EthernetRule, subject: &mut Subject<'_>, at: &Node) {
    if !is_dns_label(&rule.name) {
        subject.error(
            at.at("name"),
            format!("'{}' is not a DNS label (RFC 1123)", excerpt(&rule.name)),
        );
    }
    for (field, excluded, macs) in [
        ("sourcesExcluded", rule.sources_excluded, &rule.sources),
        ("destinationsExcluded", rule.destinations_excluded, &rule.destinations),
    ] {
        if excluded && macs.is_empty() {
            subject.error(at.at(field), format!("{field} excludes everybody: nothing is listed"));
        }
    }
    for (index, source) in rule.sources.iter().enumerate().filter(|(_, mac)| mac.is_group()) {
        subject.error(
            at.at("sources").item(index),
            format!("{source} is a group's address: no frame comes from one"),
        );
    }
    for (index, target) in rule.applied_to.iter().enumerate() {
        let at = at.at("appliedTo").item(index);
        for (field, labels) in [
            ("namespaceSelector", &target.namespace_selector),
            ("podSelector", &target.pod_selector),
        ] {
            if let Some(labels) = labels {
                // The one check of selectors; what it makes of it is the same as `selector` does.
                selector(subject, at.at(field), kubernetes(labels));
            }
        }
    }
}

/// The selector as Kubernetes' type has it.
fn kubernetes(selector: &LabelSelector) -> KubernetesSelector {
    let expressions = selector.match_expressions.iter().map(|e| LabelSelectorRequirement {
        key: e.key.clone(),
        operator: match e.operator {
            LabelOperator::In => "In",
            LabelOperator::NotIn => "NotIn",
            LabelOperator::Exists => "Exists",
            LabelOperator::DoesNotExist => "DoesNotExist",
        }
        .to_owned(),
        values: Some(e.values.clone()),
    });
    KubernetesSelector {
        match_labels: Some(selector.match_labels.clone()),
        match_expressions: Some(expressions.collect()),
    }
}

/// Checks the limits of a gateway.
pub(super) fn gateway_flood_protection(
    flood: &GatewayFloodProtection,
    subject: &mut Subject<'_>,
    at: &Node,
) {
    for (name, limit) in [
        ("tcpHalfOpen", flood.tcp_half_open),
        ("udp", flood.udp),
        ("icmp", flood.icmp),
        ("other", flood.other),
    ] {
        in_range(subject, at.at(name), name, limit, 1, MAX_FLOWS);
    }
    if let Some(limit) = flood.nat {
        in_range(subject, at.at("nat"), "nat", limit, 1, u32::MAX);
    }
}

pub(super) fn rate_limits(rates: &RateLimits, subject: &mut Subject<'_>, at: &Node) {
    for (name, limit) in [
        ("rxBroadcast", rates.rx_broadcast),
        ("txBroadcast", rates.tx_broadcast),
        ("rxMulticast", rates.rx_multicast),
        ("txMulticast", rates.tx_multicast),
    ] {
        if let Some(limit) = limit {
            in_range(subject, at.at(name), name, limit, 1, MAX_RATE);
        }
    }
}

pub(super) fn sessions(sessions: &Sessions, subject: &mut Subject<'_>, at: &Node) {
    for (place, timers) in [("dfw", &sessions.dfw), ("gateway", &sessions.gateway)] {
        session_timers(timers, subject, at.at(place));
    }
}

fn session_timers(timers: &SessionTimers, subject: &mut Subject<'_>, at: &Node) {
    for (name, seconds) in timers.all() {
        let low = if name == "tcpEstablished" { LEAST_ESTABLISHED } else { TIMER.0 };
        if let Some(seconds) = seconds {
            in_range(subject, at.at(name), name, seconds, low, TIMER.1);
        }
    }
}
