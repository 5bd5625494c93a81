//! `spec.distributedFirewall`, `spec.segmentSecurity` and `spec.sessions` in the engine's network.

use super::*;
use crate::logical::FirewallRow;
use engine::network::{
    Action, EthernetRule, GroupRates, MacSet, Network, PolicyChange, SegmentSecurity, Vnic,
};
use engine::{FloodLimits, TimerClass, TimerProfile, TimerSettings, TimerState};
use packet::Mac;
use std::time::Duration;

fn cluster(spec: &str) -> String {
    format!("{{kind: SupervisorCluster, metadata: {{name: sup}}, spec: {spec}}}")
}

fn labelled(name: &str, labels: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: Namespace, metadata: {{name: '{name}', labels: {{{labels}}}}}}}"
    )
}

/// Pods a/web, a/db, b/web and a/probe, which is on the exclude list; two namespaces with a label.
fn lab(spec: &str) -> String {
    documents(&[
        &cluster(spec),
        &labelled("a", "team: red"),
        &labelled("b", "team: blue"),
        &pod("a", "web"),
        &pod("a", "db"),
        &pod("b", "web"),
        "{apiVersion: v1, kind: Pod, metadata: {name: probe, namespace: a, \
         annotations: {lab.tierlab.dev/dfw-exclude: 'true'}}, spec: {containers: [{name: c, image: i}]}}",
    ])
}

fn vnic<'n>(network: &'n Network, name: &str) -> &'n Vnic {
    let port = network.ports.iter().find(|p| p.name == name).unwrap();
    port.vnic.as_ref().unwrap()
}

/// The Ethernet rules of a vNIC by name, towards and from it.
fn ethernet(network: &Network, name: &str) -> (Vec<String>, Vec<String>) {
    let names = |list: &[u32]| {
        let rules = list.iter().map(|i| &network.firewall.ethernet[*i as usize]);
        rules.map(|r: &EthernetRule| r.name.clone()).collect::<Vec<_>>()
    };
    let vnic = vnic(network, name);
    (names(&vnic.ethernet_in), names(&vnic.ethernet_out))
}

#[test]
fn ethernet_rules_stand_by_priority_and_name_at_the_pods_that_they_name() {
    let made = realized(&lab(
        "{distributedFirewall: {ethernetRules: [
          {name: z-first, priority: 1, action: ALLOW, direction: IN},
          {name: b, priority: 5, action: DROP, direction: OUT, appliedTo: [{podSelector: {matchLabels: {app: web}}}]},
          {name: a, priority: 5, action: DROP, appliedTo: [{namespaceSelector: {matchLabels: {team: red}}}]},
          {name: c, priority: 9, action: DROP, appliedTo: [
            {namespaceSelector: {matchLabels: {team: blue}}, podSelector: {matchLabels: {app: web}}},
            {podSelector: {matchExpressions: [{key: app, operator: In, values: [db]}]}}]},
          {name: nobody, priority: 9, action: DROP, appliedTo: [{podSelector: {matchLabels: {app: none}}}]}]}}",
    ));
    let network = &made.network;
    let names = |all: &[&str]| all.iter().map(|n| format!("eth.{n}")).collect::<Vec<_>>();
    let order: Vec<&str> = network.firewall.ethernet.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(order, names(&["z-first", "a", "b", "c", "nobody"]));
    assert_eq!(ethernet(network, "pod/a/web"), (names(&["z-first", "a"]), names(&["a", "b"])));
    assert_eq!(ethernet(network, "pod/a/db"), (names(&["z-first", "a", "c"]), names(&["a", "c"])));
    assert_eq!(ethernet(network, "pod/b/web"), (names(&["z-first", "c"]), names(&["b", "c"])));
    // The exclude list, and control-plane VMs: none.
    assert_eq!(ethernet(network, "pod/a/probe"), (Vec::new(), Vec::new()));
    assert_eq!(ethernet(network, "vm/cp-1:eth1"), (Vec::new(), Vec::new()));
    // Numbers of their own, of the same space as the others'.
    let mut numbers: Vec<u32> = network.firewall.ethernet.iter().map(|r| r.id).collect();
    numbers.extend(network.firewall.rules.iter().map(|r| r.id));
    let count = numbers.len();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), count);
}

#[test]
fn ethernet_rules_come_first_in_the_table() {
    let made = realized(&lab(
        "{distributedFirewall: {ethernetRules: [{name: no-arp, action: DROP, direction: OUT,
          sources: ['02:00:00:00:00:01'], sourcesExcluded: true, destinations: ['ff:ff:ff:ff:ff:ff'],
          protocols: [ARP, 0x88cc, 0x1234], appliedTo: [{podSelector: {matchLabels: {app: web}}}]}]}}",
    ));
    let row: &FirewallRow = &made.logical.dfw[0];
    assert_eq!(row.category, "Ethernet");
    assert_eq!(row.source, "not 02:00:00:00:00:01");
    assert_eq!(row.destination, "ff:ff:ff:ff:ff:ff");
    assert_eq!(row.services, "ARP LLDP 0x1234");
    assert_eq!(row.applied_to, "pods app=web in all namespaces");
    assert_eq!((row.direction.as_str(), row.action.as_str()), ("OUT", "DROP"));
    assert_eq!(row.origin, "SupervisorCluster sup");
    assert!(made.logical.dfw[1..].iter().all(|row| row.category != "Ethernet"));
    let rule = &made.network.firewall.ethernet[0];
    assert_eq!(rule.source, MacSet::except([Mac([2, 0, 0, 0, 0, 1])]));
    assert_eq!(rule.destination, MacSet::only([Mac::BROADCAST]));
}

#[test]
fn settings_reach_the_engine() {
    let default = realized(&lab("{}")).network;
    assert_eq!(default.firewall.on_change, PolicyChange::Reevaluate);
    assert_eq!(default.firewall.flood, FloodLimits::default());
    assert_eq!(default.timers, TimerSettings::default());
    assert_eq!(vnic(&default, "pod/a/web").security, SegmentSecurity::default());

    let set = realized(&lab(
        "{distributedFirewall: {onPolicyChange: keep, floodProtection: {tcpHalfOpen: 1, udp: 2, icmp: 3, other: 4}},
          sessions: {timers: rfc, dfw: {tcpEstablished: 600, icmpFirst: 11}, gateway: {udpMultiple: 12}},
          segmentSecurity: {spoofGuard: false, bpduFilter: false, dhcpServerBlock: false, dhcpClientBlock: true,
            raGuard: false, nonIpBlock: false, rateLimits: {rxBroadcast: 1, txBroadcast: 2, rxMulticast: 3, txMulticast: 4}}}",
    ))
    .network;
    assert_eq!(set.firewall.on_change, PolicyChange::Keep);
    assert_eq!(
        set.firewall.flood,
        FloodLimits {
            tcp_half_open: Some(1),
            udp: Some(2),
            icmp: Some(3),
            other: Some(4),
            nat: None
        }
    );
    assert_eq!(set.timers.profile, TimerProfile::Rfc);
    for (class, state, expected) in [
        (TimerClass::Dfw, TimerState::TcpEstablished, 600),
        (TimerClass::Dfw, TimerState::IcmpFirst, 11),
        (TimerClass::Gateway, TimerState::UdpMultiple, 12),
        (TimerClass::Gateway, TimerState::TcpEstablished, 7_440),
        (TimerClass::Dfw, TimerState::UdpMultiple, 300),
    ] {
        assert_eq!(set.timers.timeout(class, state), Duration::from_secs(expected));
    }
    for port in ["pod/a/web", "pod/a/probe", "vm/cp-1:eth1"] {
        let vnic = vnic(&set, port);
        assert!(!vnic.spoof_guard);
        assert_eq!(
            vnic.security,
            SegmentSecurity {
                bpdu_filter: false,
                dhcp_server_block: false,
                dhcp_client_block: true,
                ra_guard: false,
                non_ip_block: false,
                rates: GroupRates {
                    rx_broadcast: Some(1),
                    tx_broadcast: Some(2),
                    rx_multicast: Some(3),
                    tx_multicast: Some(4),
                },
            }
        );
    }
}

#[test]
fn the_number_of_a_rule_that_is_gone_is_nobody_elses() {
    let with = |rules: &str| {
        lab(&format!("{{isolation: none, distributedFirewall: {{ethernetRules: [{rules}]}}}}"))
    };
    let id = |made: &Realized, name: &str| {
        made.network.firewall.ethernet.iter().find(|r| r.name == name).map(|r| r.id)
    };
    let first = realized(&with("{name: a, action: DROP}, {name: b, action: DROP}"));
    assert_eq!((id(&first, "eth.a"), id(&first, "eth.b")), (Some(1001), Some(1002)));
    // b goes, c comes: what b let begin may still count.
    let second = realized_with(
        &with("{name: a, action: DROP}, {name: c, action: DROP}"),
        &first.allocations,
    );
    assert_eq!((id(&second, "eth.a"), id(&second, "eth.c")), (Some(1001), Some(1003)));
    // All go; who comes then is still another.
    let third = realized_with(&with(""), &second.allocations);
    let fourth = realized_with(&with("{name: b, action: DROP}"), &third.allocations);
    assert_eq!(id(&fourth, "eth.b"), Some(1004));
}

#[test]
fn a_damaged_highest_number_costs_nothing() {
    let text = lab("{distributedFirewall: {ethernetRules: [{name: a, action: DROP}]}}");
    let mut kept = Allocations::default();
    for last in [1, 1000, u32::MAX - 1, u32::MAX] {
        kept.last_firewall_rule = last;
        let made = realized_with(&text, &kept);
        let rules = &made.network.firewall.rules;
        assert!(rules.iter().all(|r| r.id > 1000 && r.action != Action::Reject), "{last}");
        let mut ids: Vec<u32> = rules.iter().map(|r| r.id).collect();
        ids.push(made.network.firewall.ethernet[0].id);
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), rules.len() + 1, "{last}");
    }
}

#[test]
fn the_order_of_writing_does_not_matter() {
    let rules = [
        "{name: a, action: DROP}",
        "{name: b, priority: 3, action: ALLOW}",
        "{name: c, action: ALLOW}",
    ];
    let made = |order: [usize; 3]| {
        let list = order.map(|i| rules[i]).join(", ");
        realized(&lab(&format!("{{distributedFirewall: {{ethernetRules: [{list}]}}}}")))
    };
    let first = made([0, 1, 2]);
    for order in [[2, 1, 0], [1, 2, 0]] {
        let other = made(order);
        assert_eq!(first.network.firewall.ethernet, other.network.firewall.ethernet);
        assert_eq!(first.allocations, other.allocations);
    }
}

#[test]
fn an_ethernet_rule_that_is_applied_to_nobody_is_told() {
    let rule = |labels: &str| {
        format!(
            "{{distributedFirewall: {{ethernetRules: [{{name: r, action: DROP, protocols: [LLDP], \
             appliedTo: [{{podSelector: {{matchLabels: {{app: {labels}}}}}}}]}}]}}}}"
        )
    };
    let notices = |labels: &str| -> Vec<String> {
        realized(&lab(&rule(labels))).notices.iter().map(ToString::to_string).collect()
    };
    assert_eq!(notices("web"), Vec::<String>::new());
    let told = notices("nobody");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("Ethernet rule 'r': appliedTo selects no pod"));
}
