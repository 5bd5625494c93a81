//! `spec.distributedFirewall`, `spec.segmentSecurity` and `spec.sessions` of a SupervisorCluster: what is accepted
//! and what it becomes, and one message for each fault.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
use common::{definitions, errors};
use definitions::own::{
    EthernetAction, EthernetProtocol, FloodProtection, OnPolicyChange, RateLimits, RuleDirection,
    SegmentSecurity, SessionTimers, Sessions, SupervisorClusterSpec, TimerProfile,
};

/// A cluster with these lines in its spec from line 5 on.
fn cluster(spec: &str) -> String {
    format!(
        "apiVersion: lab.tierlab.dev/v1alpha1\nkind: SupervisorCluster\nmetadata: {{name: x}}\nspec:\n{spec}"
    )
}

fn spec(text: &str) -> SupervisorClusterSpec {
    definitions(&cluster(text)).supervisor().unwrap().spec.clone()
}

#[test]
fn what_is_left_out_is_the_published_default() {
    let spec = spec("  hosts: 1\n");
    let firewall = &spec.distributed_firewall;
    assert_eq!(firewall.on_policy_change, OnPolicyChange::Reevaluate);
    assert_eq!(firewall.flood_protection, FloodProtection::default());
    assert_eq!(firewall.flood_protection.tcp_half_open, None, "NSX: off");
    assert!(firewall.ethernet_rules.is_empty());
    assert_eq!(
        spec.segment_security,
        SegmentSecurity {
            spoof_guard: true,
            bpdu_filter: true,
            dhcp_server_block: true,
            dhcp_client_block: false,
            ra_guard: true,
            non_ip_block: true,
            rate_limits: RateLimits::default(),
        }
    );
    let timers = SessionTimers::default();
    let expected = Sessions { timers: TimerProfile::Nsx, dfw: timers, gateway: timers };
    assert_eq!(spec.sessions, expected);
}

#[test]
fn every_setting_is_taken() {
    let spec = spec(
        "  distributedFirewall:
    onPolicyChange: keep
    floodProtection: {tcpHalfOpen: 1, udp: 2, icmp: 3, other: 1000000}
  segmentSecurity:
    spoofGuard: false
    bpduFilter: false
    dhcpServerBlock: false
    dhcpClientBlock: true
    raGuard: false
    nonIpBlock: false
    rateLimits: {rxBroadcast: 1, txBroadcast: 2, rxMulticast: 3, txMulticast: 1000000}
  sessions:
    timers: rfc
    dfw: {tcpFirst: 10, tcpOpening: 11, tcpEstablished: 120, tcpClosing: 12, tcpFinWait: 13}
    gateway: {tcpClosed: 14, udpFirst: 15, udpSingle: 16, udpMultiple: 17, icmpFirst: 4320000}
",
    );
    assert_eq!(spec.distributed_firewall.on_policy_change, OnPolicyChange::Keep);
    assert_eq!(
        spec.distributed_firewall.flood_protection,
        FloodProtection {
            tcp_half_open: Some(1),
            udp: Some(2),
            icmp: Some(3),
            other: Some(1_000_000)
        }
    );
    assert_eq!(
        spec.segment_security,
        SegmentSecurity {
            spoof_guard: false,
            bpdu_filter: false,
            dhcp_server_block: false,
            dhcp_client_block: true,
            ra_guard: false,
            non_ip_block: false,
            rate_limits: RateLimits {
                rx_broadcast: Some(1),
                tx_broadcast: Some(2),
                rx_multicast: Some(3),
                tx_multicast: Some(1_000_000),
            },
        }
    );
    assert_eq!(spec.sessions.timers, TimerProfile::Rfc);
    let set = |timers: SessionTimers| timers.all().map(|(_, seconds)| seconds.unwrap_or(0));
    assert_eq!(set(spec.sessions.dfw), [10, 11, 120, 12, 13, 0, 0, 0, 0, 0]);
    assert_eq!(set(spec.sessions.gateway), [0, 0, 0, 0, 0, 14, 15, 16, 17, 4_320_000]);
}

#[test]
fn ethernet_rules() {
    let spec = spec(
        "  distributedFirewall:
    ethernetRules:
    - {name: all, action: DROP}
    - name: some
      priority: 7
      action: ALLOW
      sources: ['02:00:00:00:00:01', 02-00-00-00-00-02]
      sourcesExcluded: true
      destinations: ['ff:ff:ff:ff:ff:ff']
      protocols: [ARP, ipv4, IPv6, LLDP, 0x88cc, '0x0600', 65535]
      direction: OUT
      appliedTo:
      - {namespaceSelector: {matchLabels: {team: a}}}
      - podSelector: {matchExpressions: [{key: app, operator: NotIn, values: [b, a]}, {key: x, operator: Exists}]}
",
    );
    let [all, some] = &spec.distributed_firewall.ethernet_rules[..] else { panic!() };
    assert_eq!((all.name.as_str(), all.priority, all.action), ("all", 0, EthernetAction::Drop));
    assert_eq!(all.direction, RuleDirection::InOut);
    assert!(all.sources.is_empty() && all.protocols.is_empty() && all.applied_to.is_empty());
    let macs: Vec<String> = some.sources.iter().map(ToString::to_string).collect();
    assert_eq!(macs, ["02:00:00:00:00:01", "02:00:00:00:00:02"]);
    assert!(some.sources_excluded && !some.destinations_excluded);
    let types: Vec<u16> = some.protocols.iter().map(|p| p.ether_type()).collect();
    assert_eq!(types, [0x0806, 0x0800, 0x86dd, 0x88cc, 0x88cc, 0x0600, 0xffff]);
    assert_eq!((some.direction, some.priority), (RuleDirection::Out, 7));
    let [namespaces, pods] = &some.applied_to[..] else { panic!() };
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    };
    let selector = namespaces.namespace_selector.as_ref().unwrap().selector();
    assert!(selector.matches(&labels(&[("team", "a")])));
    assert!(!selector.matches(&labels(&[("team", "b")])));
    let selector = pods.pod_selector.as_ref().unwrap().selector();
    assert!(selector.matches(&labels(&[("app", "c"), ("x", "")])));
    assert!(!selector.matches(&labels(&[("app", "a"), ("x", "")])));
    assert!(!selector.matches(&labels(&[("app", "c")])));
    assert_eq!(EthernetProtocol::text(0x88cc), "LLDP");
    assert_eq!(EthernetProtocol::text(0x0600), "0x0600");
}

#[test]
fn a_gateways_limits_are_nsxs_where_they_are_left_out() {
    let of = |text: &str| spec(text).tier1.gateway_firewall.flood_protection;
    assert_eq!(of("  hosts: 1\n"), None);
    let stated = of("  tier1: {gatewayFirewall: {floodProtection: {udp: 7}}}\n").unwrap();
    // NSX 4.1 administration guide, Flood Protection: the defaults of an edge gateway.
    assert_eq!((stated.tcp_half_open, stated.udp, stated.icmp), (1_000_000, 7, 10_000));
    assert_eq!((stated.other, stated.nat), (10_000, None));
    let nat = of("  tier1: {gatewayFirewall: {floodProtection: {nat: 4294967295}}}\n").unwrap();
    assert_eq!(nat.nat, Some(u32::MAX));
}

#[test]
fn a_word_in_quotes_is_no_boolean() {
    for (word, value) in
        [("yes", true), ("On", true), ("no", false), ("off", false), ("true", true)]
    {
        let guard = spec(&format!("  segmentSecurity: {{spoofGuard: {word}}}\n"));
        assert_eq!(guard.segment_security.spoof_guard, value, "{word}");
        for quoted in [format!("\"{word}\""), format!("'{word}'")] {
            let found = errors(&cluster(&format!("  segmentSecurity: {{spoofGuard: {quoted}}}\n")));
            assert_eq!(found.len(), 1, "{quoted}: {found:?}");
            assert!(found[0].starts_with("t.yaml:5: ") && found[0].contains(word), "{}", found[0]);
        }
    }
}

#[test]
fn a_gateways_limits_have_bounds() {
    for (limits, part) in [
        ("tcpHalfOpen: 0", "tcpHalfOpen 0 is not in 1..1000000"),
        ("udp: 1000001", "udp 1000001 is not in 1..1000000"),
        ("icmp: 0", "icmp 0 is not in 1..1000000"),
        ("other: 1000001", "other 1000001 is not in 1..1000000"),
        ("nat: 0", "nat 0 is not in 1..4294967295"),
        ("nats: 1", "unknown field 'nats'"),
    ] {
        let firewall = format!("{{gatewayFirewall: {{floodProtection: {{{limits}}}}}}}");
        let found = errors(&cluster(&format!("  tier1: {firewall}\n"))).join("\n");
        assert!(found.contains(part), "{limits}: {found}");
    }
}

#[test]
fn faults() {
    let rule = |fields: &str| {
        format!(
            "  distributedFirewall:\n    ethernetRules:\n    - {{name: r, action: DROP, {fields}}}"
        )
    };
    let firewall = |fields: &str| format!("  distributedFirewall:\n    {fields}");
    for (spec, line, part) in [
        (firewall("onPolicyChange: flush"), 6, "unknown value 'flush'"),
        (firewall("floodProtection: {tcpHalfOpen: 0}"), 6, "tcpHalfOpen 0 is not in 1..1000000"),
        (firewall("floodProtection: {udp: 1000001}"), 6, "udp 1000001 is not in 1..1000000"),
        (firewall("floodProtection: {tcp: 1}"), 6, "unknown field 'tcp'"),
        (firewall("ethernetRules: [{action: DROP}]"), 6, "field 'name' is missing"),
        (firewall("ethernetRules: [{name: a}]"), 6, "field 'action' is missing"),
        (firewall("ethernetRules: [{name: a, action: REJECT}]"), 6, "unknown value 'REJECT'"),
        (firewall("ethernetRules: [{name: A b, action: DROP}]"), 6, "'A b' is not a DNS label"),
        (
            firewall(
                "ethernetRules:\n    - {name: a, action: DROP}\n    - {name: a, action: ALLOW}",
            ),
            8,
            "a second Ethernet rule 'a'",
        ),
        (rule("direction: BOTH"), 7, "unknown value 'BOTH'"),
        (rule("sources: [10.0.0.1]"), 7, "'10.0.0.1' is not a MAC address"),
        (rule("sources: ['01:00:5e:00:00:01']"), 7, "is a group's address"),
        (rule("destinations: ['00:00:00:00:00:00']"), 7, "is nobody's MAC address"),
        (rule("sourcesExcluded: true"), 7, "excludes everybody"),
        (
            rule("destinationsExcluded: true, sources: ['02:00:00:00:00:01']"),
            7,
            "excludes everybody",
        ),
        (rule("protocols: [TCP]"), 7, "'TCP' is no protocol: write ARP, IPv4, IPv6, LLDP"),
        (rule("protocols: [0x05ff]"), 7, "0x05ff is no EtherType"),
        (rule("protocols: [65536]"), 7, "0x10000 is no EtherType"),
        (rule("protocols: ['0xfffff']"), 7, "0xfffff is no EtherType"),
        (
            rule("appliedTo: [{podSelector: {matchLabels: {a: 'b c'}}}]"),
            7,
            "'b c' is not a label's value",
        ),
        (
            rule("appliedTo: [{podSelector: {matchExpressions: [{key: a, operator: In}]}}]"),
            7,
            "operator In needs values",
        ),
        (
            rule(
                "appliedTo: [{namespaceSelector: {matchExpressions: [{key: a, operator: Exists, values: [b]}]}}]",
            ),
            7,
            "operator Exists takes no values",
        ),
        (rule("appliedTo: [{selector: {}}]"), 7, "unknown field 'selector'"),
        ("  segmentSecurity: {bpduFilters: true}".to_owned(), 5, "did you mean 'bpduFilter'?"),
        (
            "  segmentSecurity:\n    rateLimits: {rxBroadcast: 0}".to_owned(),
            6,
            "rxBroadcast 0 is not in 1..1000000",
        ),
        ("  sessions: {timers: linux}".to_owned(), 5, "unknown value 'linux'"),
        (
            "  sessions:\n    dfw: {tcpEstablished: 119}".to_owned(),
            6,
            "tcpEstablished 119 is not in 120..4320000",
        ),
        (
            "  sessions:\n    gateway: {udpFirst: 9}".to_owned(),
            6,
            "udpFirst 9 is not in 10..4320000",
        ),
        (
            "  sessions:\n    gateway: {udpFirst: 4320001}".to_owned(),
            6,
            "udpFirst 4320001 is not in 10..4320000",
        ),
    ] {
        let found = errors(&cluster(&spec));
        assert_eq!(found.len(), 1, "{spec}: {found:?}");
        let start = format!("t.yaml:{line}: SupervisorCluster x: ");
        assert!(found[0].starts_with(&start) && found[0].contains(part), "{spec}\n{}", found[0]);
    }
}

#[test]
fn more_ethernet_rules_than_a_section_takes() {
    let rules: String =
        (0..1_001).map(|n| format!("    - {{name: r{n}, action: DROP}}\n")).collect();
    let found = errors(&cluster(&format!("  distributedFirewall:\n    ethernetRules:\n{rules}")));
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("1001 Ethernet rules: at most 1000"), "{}", found[0]);
}
