//! A cluster's security settings for the engine, and its Ethernet rules.
//!
//! Ethernet rules are ordered by priority, then by name. They are applied to pods; control-plane VMs have no
//! rules of their own, and pods on the exclude list have none at all.

use definitions::model::Definitions;
use definitions::own::{
    self, EthernetAction as WrittenAction, EthernetTarget, OnPolicyChange, RuleDirection,
    SupervisorClusterSpec,
};
use engine::network::{
    Direction, EthernetAction, EthernetRule, GroupRates, MacSet, PolicyChange, SegmentSecurity,
};
use engine::{FloodLimits, TimerClass, TimerOverrides, TimerProfile, TimerSettings, TimerState};

use crate::addressing::Cluster;
use crate::fault::{Messages, Subject};
use crate::pod_sets::{Places, PodSet};
use crate::rules::selector_text;

/// An Ethernet rule with the pods it is applied to.
#[derive(Debug)]
pub(crate) struct EthernetDraft {
    /// The rule; it has no number yet.
    pub(crate) rule: EthernetRule,
    /// The pods.
    pub(crate) pods: PodSet,
}

/// The cluster's Ethernet rules in the order of evaluation.
pub(crate) fn ethernet_rules(
    definitions: &Definitions,
    cluster: &Cluster<'_>,
    places: &Places<'_>,
    messages: &mut Messages,
) -> Vec<EthernetDraft> {
    let mut written: Vec<&own::EthernetRule> =
        cluster.spec().distributed_firewall.ethernet_rules.iter().collect();
    written.sort_by_key(|rule| (rule.priority, &rule.name));
    let origin = format!("SupervisorCluster {}", cluster.object.meta.name);
    let drafts: Vec<EthernetDraft> = written
        .iter()
        .map(|rule| EthernetDraft {
            rule: EthernetRule {
                id: 0,
                // No name of another rule begins so.
                name: format!("eth.{}", rule.name),
                origin: origin.clone(),
                direction: match rule.direction {
                    RuleDirection::In => Direction::In,
                    RuleDirection::Out => Direction::Out,
                    RuleDirection::InOut => Direction::InOut,
                },
                source: stations(&rule.sources, rule.sources_excluded),
                destination: stations(&rule.destinations, rule.destinations_excluded),
                ether_types: rule.protocols.iter().map(|p| p.ether_type()).collect(),
                applied_to_text: applied_text(&rule.applied_to),
                action: match rule.action {
                    WrittenAction::Allow => EthernetAction::Allow,
                    WrittenAction::Drop => EthernetAction::Drop,
                },
            },
            pods: selected(&rule.applied_to, definitions, places),
        })
        .collect();
    let subject = Subject::new("SupervisorCluster", &cluster.object.meta);
    for (rule, draft) in written.iter().zip(&drafts) {
        if draft.pods.is_empty() && !rule.applied_to.is_empty() {
            let message = format!("Ethernet rule '{}': appliedTo selects no pod", rule.name);
            messages.notice(&subject, message, "until there is one, the rule has no effect");
        }
    }
    drafts
}

fn stations(written: &[definitions::text::MacOrGroup], excluded: bool) -> MacSet {
    let macs = written.iter().map(|mac| **mac);
    match (written.is_empty(), excluded) {
        (true, _) => MacSet::any(),
        (false, true) => MacSet::except(macs),
        (false, false) => MacSet::only(macs),
    }
}

fn selected(targets: &[EthernetTarget], definitions: &Definitions, places: &Places<'_>) -> PodSet {
    let selectors: Vec<_> = targets
        .iter()
        .map(|target| {
            let selector = |labels: &Option<own::LabelSelector>| {
                labels.as_ref().map(own::LabelSelector::selector).unwrap_or_default()
            };
            (selector(&target.namespace_selector), selector(&target.pod_selector))
        })
        .collect();
    let chosen = |namespace: &str, pod: &definitions::model::Pod| {
        let labels = definitions.namespaces.get(namespace).map(|n| &n.meta.labels);
        selectors.iter().any(|(namespaces, pods)| {
            labels.is_some_and(|labels| namespaces.matches(labels))
                && pods.matches(&pod.meta.labels)
        })
    };
    (0..)
        .zip(places.all())
        .filter(|(_, (key, pod, _))| targets.is_empty() || chosen(&key.namespace, pod))
        .map(|(place, _)| place)
        .collect()
}

/// Whom a rule is applied to, for people.
fn applied_text(targets: &[EthernetTarget]) -> String {
    let texts: Vec<String> = targets
        .iter()
        .map(|target| {
            let text = |labels: &Option<own::LabelSelector>| {
                labels.as_ref().map(|l| selector_text(&l.selector())).filter(|t| !t.is_empty())
            };
            let namespaces = text(&target.namespace_selector)
                .map_or_else(|| "all namespaces".to_owned(), |t| format!("namespaces {t}"));
            match text(&target.pod_selector) {
                Some(pods) => format!("pods {pods} in {namespaces}"),
                None => namespaces,
            }
        })
        .collect();
    if texts.is_empty() { "all pods".to_owned() } else { texts.join(", ") }
}

/// What becomes of live sessions when rules change.
pub(crate) fn policy_change(spec: &SupervisorClusterSpec) -> PolicyChange {
    match spec.distributed_firewall.on_policy_change {
        OnPolicyChange::Reevaluate => PolicyChange::Reevaluate,
        OnPolicyChange::Keep => PolicyChange::Keep,
    }
}

/// Most flows of a vNIC.
pub(crate) fn flood_limits(spec: &SupervisorClusterSpec) -> FloodLimits {
    let own::FloodProtection { tcp_half_open, udp, icmp, other } =
        spec.distributed_firewall.flood_protection;
    FloodLimits { tcp_half_open, udp, icmp, other, nat: None }
}

/// Most flows that a gateway remembers.
pub(crate) fn gateway_flood_limits(firewall: &own::GatewayFirewall) -> FloodLimits {
    let own::GatewayFloodProtection { tcp_half_open, udp, icmp, other, nat } =
        firewall.flood_protection.unwrap_or_default();
    FloodLimits {
        tcp_half_open: Some(tcp_half_open),
        udp: Some(udp),
        icmp: Some(icmp),
        other: Some(other),
        nat,
    }
}

/// Timers and limits of the session table.
pub(crate) fn timers(spec: &SupervisorClusterSpec) -> TimerSettings {
    let sessions = &spec.sessions;
    let mut overrides = TimerOverrides::default();
    for (class, timers) in
        [(TimerClass::Dfw, &sessions.dfw), (TimerClass::Gateway, &sessions.gateway)]
    {
        for (state, (_, seconds)) in TimerState::ALL.into_iter().zip(timers.all()) {
            if let Some(seconds) = seconds {
                overrides.set(class, state, seconds);
            }
        }
    }
    let profile = match sessions.timers {
        own::TimerProfile::Nsx => TimerProfile::Nsx,
        own::TimerProfile::Rfc => TimerProfile::Rfc,
    };
    TimerSettings { profile, overrides, ..TimerSettings::default() }
}

/// What segments refuse from workloads, beside SpoofGuard.
pub(crate) fn segment_security(spec: &SupervisorClusterSpec) -> SegmentSecurity {
    let written = &spec.segment_security;
    let own::RateLimits { rx_broadcast, tx_broadcast, rx_multicast, tx_multicast } =
        written.rate_limits;
    SegmentSecurity {
        bpdu_filter: written.bpdu_filter,
        dhcp_server_block: written.dhcp_server_block,
        dhcp_client_block: written.dhcp_client_block,
        ra_guard: written.ra_guard,
        non_ip_block: written.non_ip_block,
        rates: GroupRates { rx_broadcast, tx_broadcast, rx_multicast, tx_multicast },
    }
}
