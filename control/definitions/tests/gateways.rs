//! What is wrong with NAT rules and gateway firewalls: one message each, at its line.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod common;
use common::{errors, loaded};

fn refused(kind: &str, spec: &str, part: &str) {
    let text = format!(
        "apiVersion: lab.tierlab.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\nspec:\n{spec}\n"
    );
    let found = errors(&text);
    assert_eq!(found.len(), 1, "{spec}: {found:?}");
    assert!(found[0].contains(part), "{spec}\n{}", found[0]);
    assert!(
        found[0].starts_with("t.yaml:5: ") || found[0].starts_with("t.yaml:6: "),
        "{}",
        found[0]
    );
}

fn nat(rule: &str, part: &str) {
    refused("SupervisorCluster", &format!("  tier1: {{natRules: [{rule}]}}"), part);
}

fn firewall(rules: &str, part: &str) {
    refused(
        "SupervisorCluster",
        &format!("  tier1: {{gatewayFirewall: {{rules: [{rules}]}}}}"),
        part,
    );
}

#[test]
fn nat_rules_that_say_too_little_or_too_much() {
    for (rule, part) in [
        ("{action: SNAT}", "needs translated"),
        ("{action: DNAT, translated: 10.244.0.18}", "needs destination"),
        ("{action: DNAT, destination: 172.16.1.7}", "needs translated"),
        (
            "{action: DNAT, destination: 172.16.1.7, translated: 10.0.0.1-10.0.0.2}",
            "one address, or a network",
        ),
        ("{action: REFLEXIVE, translated: 172.16.3.0/28}", "needs source"),
        ("{action: REFLEXIVE, source: 10.0.0.0/28}", "needs translated"),
        ("{action: NO_SNAT, translated: 172.16.2.1}", "translates nothing"),
        ("{action: NO_DNAT, translated: 172.16.2.0/24}", "translates nothing"),
        (
            "{action: SNAT, translated: 172.16.2.1, translatedPort: 80}",
            "translatedPort is for DNAT",
        ),
        (
            "{action: REFLEXIVE, source: 10.0.0.1, translated: 172.16.3.1, destination: 1.2.3.4}",
            "every destination",
        ),
        (
            "{action: REFLEXIVE, source: 10.0.0.1, translated: 172.16.3.1, service: {protocol: TCP}}",
            "every service",
        ),
        ("{action: REFLEXIVE, source: 10.0.0.1, translated: 10.0.0.1}", "to itself"),
    ] {
        nat(rule, part);
    }
}

#[test]
fn nat_rules_whose_sides_do_not_fit() {
    for (rule, part) in [
        (
            "{action: DNAT, destination: 172.16.1.0/28, translated: 10.244.0.0/24}",
            "not of the size",
        ),
        (
            "{action: REFLEXIVE, source: 10.244.0.0/28, translated: 172.16.3.0/29}",
            "not of the size",
        ),
        ("{action: DNAT, destination: 172.16.1.7, translated: 'fd00::7'}", "not of the family"),
        ("{action: SNAT, source: 'fd00::/64', translated: 172.16.2.1}", "not of the family"),
        (
            "{action: SNAT, source: 10.0.0.0/8, destination: 'fd00::/64', translated: 172.16.2.1}",
            "not of the family",
        ),
        ("{action: REFLEXIVE, source: 'fd00::1', translated: 172.16.3.1}", "not of the family"),
        ("{action: SNAT, translated: 172.16.2.9-172.16.2.1}", "ends before it begins"),
        ("{action: SNAT, translated: '172.16.2.9-fd00::1'}", "mixes IPv4 and IPv6"),
        ("{action: SNAT, translated: 10.0.0.0/8}", "more than 1024 addresses"),
        ("{action: SNAT, translated: 224.0.0.1}", "no host can have"),
        ("{action: DNAT, destination: 0.0.0.0/0, translated: 10.0.0.1}", "no host can have"),
        (
            "{action: DNAT, destination: 172.16.1.7, translated: 255.255.255.255}",
            "no host can have",
        ),
    ] {
        nat(rule, part);
    }
}

#[test]
fn ports_that_do_not_fit() {
    let rule = |rest: &str| {
        format!("{{action: DNAT, destination: 172.16.1.7, translated: 10.0.0.1, {rest}}}")
    };
    for (rest, part) in [
        ("translatedPort: 80", "without one port"),
        ("translatedPort: 80, service: {protocol: TCP}", "without one port"),
        ("translatedPort: 80, service: {protocol: ICMP}", "without one port"),
        ("translatedPort: 80, service: {protocol: TCP, ports: [1, 2]}", "without one port"),
        ("translatedPort: 80-89, service: {protocol: TCP, ports: [90-98]}", "not as long"),
        ("service: {protocol: TCP, ports: [0]}", "not a port"),
        ("service: {protocol: TCP, ports: [65536]}", "not a port"),
        ("service: {protocol: TCP, ports: [90-80]}", "ends before it begins"),
        ("service: {protocol: ICMP, ports: [80]}", "no ports"),
        ("service: {protocol: SCTP, ports: [80]}", "no ports"),
        ("service: {protocol: TCP, type: 8}", "has no type"),
        ("service: {protocol: ICMP, code: 1}", "state 'type' too"),
        ("service: {protocol: QUIC}", "not a protocol"),
        ("service: {protocol: 256}", "not a protocol"),
    ] {
        nat(&rule(rest), part);
    }
}

#[test]
fn what_a_translated_port_is_not_for_is_told_as_it_is() {
    for (rule, keeps) in [
        ("{action: NO_DNAT, translatedPort: 80}", "NO_DNAT keeps ports"),
        ("{action: NO_SNAT, translatedPort: 80}", "NO_SNAT keeps ports"),
        (
            "{action: SNAT, translated: 172.16.2.1, translatedPort: 80}",
            "SNAT keeps ports or finds free ones",
        ),
    ] {
        let part = format!("translatedPort is for DNAT; {keeps}");
        nat(rule, &part);
        let found = errors(&format!(
            "kind: SupervisorCluster\nmetadata: {{name: x}}\nspec: {{tier1: {{natRules: [{rule}]}}}}\n"
        ));
        assert!(found[0].trim_end().ends_with(&part), "{}", found[0]);
    }
}

/// The notices of a cluster with these fields in `spec`, from line 4 on.
fn told(spec: &str) -> Vec<String> {
    let text = format!("kind: SupervisorCluster\nmetadata: {{name: x}}\nspec:\n{spec}\n");
    loaded(&text).notices.iter().map(ToString::to_string).collect()
}

/// One notice, at this line of the text.
fn one_notice(spec: &str, line: u32, part: &str) {
    let found = told(spec);
    assert_eq!(found.len(), 1, "{spec}: {found:?}");
    assert!(found[0].starts_with(&format!("t.yaml:{line}: ")), "{}", found[0]);
    assert!(found[0].contains(part), "{}", found[0]);
}

#[test]
fn rules_that_do_nothing_are_told() {
    // The same twice, without a name to tell them apart.
    let list = |rules: &str| format!("  tier1:\n    natRules:\n{rules}");
    let snat = "    - {action: SNAT, source: 10.244.0.0/24, translated: 172.16.2.9}\n";
    one_notice(&list(&format!("{snat}{snat}")), 7, "natRules[1] says the same as natRules[0]");
    let other =
        "    - {action: SNAT, source: 10.244.0.0/24, translated: 172.16.2.9, priority: 7}\n";
    assert!(told(&list(&format!("{snat}{other}"))).is_empty());
    // A firewall that is switched off.
    let firewall = |fields: &str| format!("  tier1:\n    gatewayFirewall:\n{fields}");
    for beside in ["rules: [{name: a, action: DROP}]", "floodProtection: {udp: 1}"] {
        let fields = format!("      {beside}\n      enabled: false\n");
        one_notice(&firewall(&fields), 7, "the firewall is switched off");
    }
    assert!(told(&firewall("      enabled: false\n")).is_empty());
    // Addresses of a family that the other side has not.
    let rule = |sides: &str| {
        firewall(&format!("      rules:\n      - {{name: a, action: DROP, {sides}}}\n"))
    };
    for (sides, part) in [
        (
            "sources: [10.0.0.0/8, 'fd00::/8'], destinations: [192.0.2.1]",
            "the IPv6 addresses of sources match nothing: destinations has none",
        ),
        (
            "sources: ['fd00::/8'], destinations: ['fd00::1', 192.0.2.1]",
            "the IPv4 addresses of destinations match nothing: sources has none",
        ),
    ] {
        one_notice(&rule(sides), 7, part);
    }
    assert_eq!(told(&rule("sources: [10.0.0.1], destinations: ['fd00::1']")).len(), 2);
    for fits in [
        "sources: [10.0.0.1, 'fd00::1']",
        "sources: [10.0.0.1, 'fd00::1'], destinations: ['fd00::2', 10.0.0.2]",
    ] {
        assert!(told(&rule(fits)).is_empty(), "{fits}");
    }
    // A pool for a namespace that nobody has defined.
    let pools =
        "  snatPools:\n  - name: p\n    addresses: [172.16.9.1]\n    namespaces: [default, shop]\n";
    one_notice(pools, 7, "SNAT pool 'p' is for namespace 'shop', which is not defined");
    let known =
        told(&format!("{pools}---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n"));
    assert!(known.is_empty(), "{known:?}");
}

#[test]
fn names_are_unique_in_a_gateway() {
    nat("{name: a, action: NO_SNAT}, {name: a, action: NO_DNAT}", "a rule 'a' is defined twice");
    nat("{name: '', action: NO_SNAT}", "not a rule's name");
    firewall("{name: a, action: DROP}, {name: a, action: ALLOW}", "a rule 'a' is defined twice");
    firewall("{name: default, action: DROP}", "rule of defaultAction");
    firewall("{action: DROP}", "field 'name' is missing");
}

#[test]
fn firewall_rules_with_bad_fields() {
    for (rule, part) in [
        ("{name: a, action: DENY}", "unknown value 'DENY'"),
        ("{name: a, action: DROP, direction: INOUT}", "unknown value 'INOUT'"),
        ("{name: a, action: DROP, category: Application}", "unknown value 'Application'"),
        ("{name: a, action: DROP, sources: [10.0.0.1/8]}", "host bits set"),
        ("{name: a, action: DROP, sources: [10.0.0.9-10.0.0.1]}", "ends before it begins"),
        ("{name: a, action: DROP, services: [{protocol: UDP, code: 1, type: 1}]}", "UDP has no"),
        ("{name: a, action: DROP, appliedTo: []}", "unknown field 'appliedTo'"),
    ] {
        let found = errors(&format!(
            "apiVersion: lab.tierlab.dev/v1alpha1\nkind: SupervisorCluster\nmetadata: {{name: x}}\nspec:\n  tier1: {{gatewayFirewall: {{rules: [{rule}]}}}}\n"
        ));
        assert!(!found.is_empty() && found[0].contains(part), "{rule}: {found:?}");
    }
}

#[test]
fn an_active_active_tier0_keeps_no_sessions() {
    for (spec, part) in [
        (
            "  natRules: [{action: SNAT, translated: 203.0.113.1}]",
            "active-active Tier-0 has no SNAT",
        ),
        (
            "  haMode: active-active\n  natRules: [{action: DNAT, destination: 203.0.113.1, translated: 172.16.1.1}]",
            "haMode: active-standby",
        ),
        ("  natRules: [{action: NO_DNAT}]", "active-active Tier-0 has no NO_DNAT"),
        (
            "  gatewayFirewall: {rules: [{name: a, action: DROP, stateful: true}]}",
            "haMode: active-standby",
        ),
        (
            "  gatewayFirewall: {floodProtection: {udp: 1}}",
            "an active-active Tier-0 remembers no flows",
        ),
    ] {
        refused("Tier0Gateway", spec, part);
    }
    for spec in [
        "  natRules: [{action: REFLEXIVE, source: 172.16.1.0/28, translated: 203.0.113.0/28}]\n  gatewayFirewall: {rules: [{name: a, action: DROP}, {name: b, action: DROP, stateful: false}]}",
        "  haMode: active-standby\n  natRules: [{action: SNAT, translated: 203.0.113.1}]\n  gatewayFirewall: {rules: [{name: a, action: DROP, stateful: true}]}",
    ] {
        let text = format!(
            "apiVersion: lab.tierlab.dev/v1alpha1\nkind: Tier0Gateway\nmetadata: {{name: x}}\nspec:\n{spec}\n"
        );
        loaded(&text);
    }
}
