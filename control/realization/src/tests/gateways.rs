//! NAT rules and firewalls of the gateways: what becomes of the definitions, and whose addresses they may use.

use super::*;
use engine::network::{NatAction, Prefix, RouteTarget};

/// A lab with these fields in `spec.tier1` and in the Tier-0's `spec`.
fn lab(tier1: &str, tier0: &str) -> String {
    documents(&[
        &format!(
            "{{kind: SupervisorCluster, metadata: {{name: sup}}, spec: {{tier1: {{{tier1}}}}}}}"
        ),
        "{kind: ExternalNetwork, metadata: {name: outside}, spec: {cidr: 192.168.100.0/24}}",
        &format!(
            "{{kind: Tier0Gateway, metadata: {{name: t0}}, spec: {{uplinks: [{{name: up, network: outside, addresses: [192.168.100.2/24]}}]{tier0}}}}}"
        ),
        "{kind: ExternalHost, metadata: {name: server}, spec: {interfaces: [{name: eth0, network: outside, addresses: [192.168.100.1/24]}]}}",
        &namespace("shop"),
        &pod("shop", "web"),
        "{apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}, spec: {type: LoadBalancer, selector: {app: web}, ports: [{port: 80}]}}",
    ])
}

#[test]
fn every_kind_has_its_row() {
    let lab = realized(&lab(
        "natRules: [{action: SNAT, source: 10.244.0.0/20, translated: 172.16.2.8/30},
          {action: DNAT, destination: 172.16.1.9, service: {protocol: TCP, ports: [80-81]}, translated: 10.244.0.18, translatedPort: 8080-8081},
          {action: NO_DNAT, source: 192.0.2.0/24},
          {name: mirror, action: REFLEXIVE, source: 10.244.0.32/28, translated: 172.16.3.32/28, firewallMatch: BYPASS}]",
        "",
    ));
    let columns =
        ["PRIORITY", "ACTION", "SOURCE", "DESTINATION", "TRANSLATION", "SERVICE", "FIREWALL"];
    assert_eq!(
        cells(&lab.logical.nat, &columns),
        [
            "100 No DNAT 192.0.2.0/24 Any Any Any internal",
            "1000 Reflexive 10.244.0.32/28 Any 172.16.3.32/28 Any bypass",
            "1000 SNAT 10.244.0.0/20 Any 172.16.2.8-172.16.2.11 Any internal",
            "1000 DNAT Any 172.16.1.9/32 10.244.0.18 ports 8080-8081 TCP/80-81 internal",
        ]
    );
    let reflexive = |r: &engine::network::NatRule| matches!(r.action, NatAction::Reflexive { .. });
    let tier1 = lab.network.routers.iter().find(|r| r.name == "tier1/sup").unwrap();
    let mirror = tier1.nat.rules().iter().find(|r| reflexive(r)).unwrap();
    assert_eq!(mirror.name, "mirror");
}

#[test]
fn the_tier0_has_routes_to_what_the_outside_uses() {
    let lab = realized(&lab(
        "natRules: [{action: SNAT, source: Any, translated: 172.16.2.9},
          {action: SNAT, source: 10.244.0.16/28, translated: 172.16.2.1-172.16.2.3},
          {action: DNAT, destination: 172.16.1.128/25, translated: 10.244.0.0/25},
          {action: REFLEXIVE, source: 10.244.0.32/28, translated: 203.0.113.32/28},
          {action: REFLEXIVE, source: 'fd00:9::/64', translated: '2001:db8:9::/64'}]",
        "",
    ));
    let of = |name: &str| lab.network.routers.iter().find(|r| r.name == name).unwrap();
    let prefixes: Vec<String> = of("tier0/t0")
        .fib
        .routes()
        .into_iter()
        .filter(|r| r.source.to_string() == "tier1-nat")
        .map(|r| r.prefix.to_string())
        .collect();
    let mut sorted = prefixes.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "172.16.1.128/25",
            "172.16.2.1/32",
            "172.16.2.2/31",
            "172.16.2.9/32",
            "2001:db8:9::/64",
            "203.0.113.32/28",
        ]
    );
    // The pools' blackholes swallow none of them.
    for address in ["172.16.1.200", "172.16.2.3", "203.0.113.33", "2001:db8:9::1"] {
        let address: packet::Addr = address.parse().unwrap();
        let route = of("tier0/t0").fib.lookup(address).unwrap();
        assert!(matches!(route.target, RouteTarget::NextHops(_)), "{address}");
        assert!(of("tier1/sup").owns(address), "{address}");
    }
    // IPv6 leaves the Tier-1 only where a rule translates it.
    let default: Prefix = "::/0".parse().unwrap();
    assert!(of("tier1/sup").fib.routes().iter().any(|r| r.prefix == default));
    let plain = realized(&self::lab("mtu: 1500", ""));
    let tier1 = plain.network.routers.iter().find(|r| r.name == "tier1/sup").unwrap();
    assert!(tier1.fib.routes().iter().all(|r| r.prefix != default));
}

#[test]
fn an_address_has_one_meaning() {
    // The Service's virtual address is the first of its pool, 172.16.1.1.
    let standby = ", haMode: active-standby";
    for (tier1, tier0, parts) in [
        (
            "natRules: [{action: DNAT, destination: 172.16.1.1, translated: 10.244.0.18}]",
            String::new(),
            ["SupervisorCluster sup", "natRules[0]", "virtual address of Service shop/web"],
        ),
        (
            "natRules: [{action: NO_SNAT}, {action: REFLEXIVE, source: 10.244.0.16/28, translated: 172.16.1.0/28}]",
            String::new(),
            ["SupervisorCluster sup", "natRules[1]", "virtual address of Service shop/web"],
        ),
        (
            "natRules: [{action: SNAT, translated: 100.64.0.1}]",
            String::new(),
            ["natRules[0]", "100.64.0.1", "the address of tier1/sup, interface uplink"],
        ),
        (
            "natRules: [{action: DNAT, destination: 10.244.9.9, translated: 10.244.0.18}]",
            String::new(),
            ["natRules[0]", "10.244.9.9", "podCIDR 10.244.0.0/20"],
        ),
        (
            "natRules: [{action: DNAT, destination: 192.168.100.1, translated: 10.244.0.18}]",
            String::new(),
            ["natRules[0]", "192.168.100.1", "ExternalHost server"],
        ),
        (
            "mtu: 1500",
            format!("{standby}, natRules: [{{action: SNAT, translated: 192.168.100.2}}]"),
            ["Tier0Gateway t0", "natRules[0]", "tier0/t0, interface up"],
        ),
        (
            "mtu: 1500",
            format!(
                "{standby}, natRules: [{{action: DNAT, destination: 172.16.2.1, translated: 172.16.1.1}}]"
            ),
            ["Tier0Gateway t0", "natRules[0]", "egress address"],
        ),
    ] {
        let found = faults(&lab(tier1, &tier0));
        assert!(
            found.iter().any(|f| parts.iter().all(|part| f.contains(part))),
            "{tier1}{tier0}: {found:?}"
        );
    }
    // It is told at the rule's own line, of either gateway.
    let clash = "{action: DNAT, destination: 192.168.100.1, translated: 10.244.0.18}";
    let upper = format!("{standby}, natRules: [{{action: NO_DNAT}},\n\n {clash}]");
    for (tier1, tier0, line) in [
        (format!("natRules: [{{action: NO_SNAT}},\n {clash}]"), String::new(), 2),
        ("mtu: 1500".to_owned(), upper, 7),
    ] {
        let text = lab(&tier1, &tier0);
        let at = text.lines().position(|l| l.contains(clash)).unwrap() + 1;
        assert_eq!(at, line, "{text}");
        let found = faults(&text);
        assert!(found.iter().any(|f| f.contains(&format!(":{line}: "))), "{found:?}");
    }
    // DNAT and SNAT of one gateway may share an address: that is what a hairpin shows.
    realized(&lab(
        "natRules: [{action: SNAT, translated: 172.16.2.9}, {action: DNAT, destination: 172.16.2.9, translated: 10.244.0.18}]",
        "",
    ));
}

#[test]
fn firewall_rules_are_ordered_and_numbered() {
    let rules = "{name: b, action: DROP, sources: [192.0.2.0/24, 198.51.100.1]}, {name: a, action: ALLOW, direction: IN, \
         services: [{protocol: TCP, ports: [80, 443-445]}]}, {name: first, category: Emergency, sequence: 99, action: REJECT, disabled: true}";
    let columns = [
        "ROUTER",
        "ID",
        "NAME",
        "DIRECTION",
        "SOURCE",
        "SERVICES",
        "ACTION",
        "STATEFUL",
        "ENABLED",
    ];
    let one = lab(&format!("gatewayFirewall: {{defaultAction: DROP, rules: [{rules}]}}"), "");
    let realized = realized(&one);
    assert_eq!(
        cells(&realized.logical.gateway_firewall, &columns),
        [
            "tier1/sup 1 first IN_OUT any any REJECT true false",
            "tier1/sup 2 b IN_OUT 192.0.2.0/24,198.51.100.1/32 any DROP true true",
            "tier1/sup 3 a IN any TCP/80,443-445 ALLOW true true",
            "tier1/sup 4 default IN_OUT any any DROP true true",
        ]
    );
    // A rule that goes takes its number with it; the others keep theirs.
    let fewer =
        lab("gatewayFirewall: {rules: [{name: a, action: ALLOW}, {name: new, action: DROP}]}", "");
    let next = realize(&definitions(&fewer), &realized.allocations).unwrap();
    assert_eq!(
        cells(&next.logical.gateway_firewall, &["ID", "NAME"]),
        ["3 a", "1 new", "4 default"]
    );
}

#[test]
fn an_active_active_tier0_has_stateless_rules() {
    let rules = ", gatewayFirewall: {rules: [{name: a, action: DROP}]}";
    for (mode, stateful) in [("active-active", "false"), ("active-standby", "true")] {
        let lab = realized(&lab("mtu: 1500", &format!(", haMode: {mode}{rules}")));
        let shown = cells(&lab.logical.gateway_firewall, &["ROUTER", "NAME", "STATEFUL"]);
        let expected = ["a", "default"].map(|name| format!("tier0/t0 {name} {stateful}"));
        assert_eq!(shown, expected);
    }
    // Without rules there is none at all.
    assert!(realized(&lab("mtu: 1500", "")).logical.gateway_firewall.is_empty());
}

#[test]
fn what_a_gateway_limits_it_remembers() {
    use engine::FloodLimits;
    let firewall = |text: &str, of: &str| {
        let network = realized(&lab(text, "")).network;
        network.routers.iter().find(|r| r.name == of).unwrap().gateway_firewall.clone()
    };
    // NSX's limits of an edge hold for what is remembered anyway; nothing more is.
    let nsx = FloodLimits {
        tcp_half_open: Some(1_000_000),
        udp: Some(1_000_000),
        icmp: Some(10_000),
        other: Some(10_000),
        nat: None,
    };
    for of in ["tier1/sup", "tier0/t0"] {
        let default = firewall("mtu: 1500", of);
        assert_eq!((default.flood(), default.judges()), (Some(&nsx), false));
    }
    // A limit that is stated makes the gateway remember what crosses it.
    let text = "gatewayFirewall: {floodProtection: {udp: 5, nat: 6}}";
    let stated = firewall(text, "tier1/sup");
    let expected = FloodLimits { udp: Some(5), nat: Some(6), ..nsx };
    assert_eq!(
        (stated.flood(), stated.judges(), stated.remembers()),
        (Some(&expected), true, true)
    );
    let shown = realized(&lab(text, "")).logical.gateway_firewall;
    assert_eq!(cells(&shown, &["ROUTER", "NAME", "ACTION"]), ["tier1/sup default ALLOW"]);
    let off = firewall("gatewayFirewall: {enabled: false, floodProtection: {udp: 5}}", "tier1/sup");
    assert_eq!((off.flood(), off.judges()), (None, false));
}

/// The notices of a lab whose Tier-1 has these firewall rules.
fn gateway_notices(rules: &str) -> Vec<String> {
    let lab = realized(&lab(&format!("gatewayFirewall: {{rules: [{rules}]}}"), ""));
    lab.notices.iter().map(ToString::to_string).collect()
}

#[test]
fn a_gateway_rule_that_earlier_ones_shadow_is_told_with_a_flow() {
    for (rules, who, shown) in [
        (
            "{name: all, action: REJECT, services: [{protocol: TCP, ports: [20-90]}]}, \
             {name: late, action: ALLOW, direction: OUT, sources: [172.16.2.4], services: [{protocol: TCP, ports: [79]}]}",
            "rule 2 'late' can never match: rule 1 'all' (REJECT) takes all of its packets",
            "172.16.2.4 > 198.51.100.1 TCP/79 outwards, which rule 1 'all' (REJECT) takes",
        ),
        // The category decides, not the place in the list.
        (
            "{name: late, action: ALLOW, destinations: [10.244.0.0/20], services: [{protocol: ICMP, type: 13}]}, \
             {name: all, category: Emergency, action: DROP, services: [{protocol: ICMP}]}",
            "rule 2 'late' can never match: rule 1 'all' (DROP) takes all of its packets",
            "192.0.2.1 > 10.244.0.1 ICMP/13:0 inwards, which rule 1 'all' (DROP) takes",
        ),
        // Each direction has its own, and ports come in pieces.
        (
            "{name: in, action: DROP, direction: IN, services: [{protocol: UDP}]}, \
             {name: low, action: DROP, direction: OUT, services: [{protocol: UDP, ports: [1-99]}]}, \
             {name: high, action: ALLOW, direction: OUT, services: [{protocol: UDP, ports: [100-200]}]}, \
             {name: both, action: ALLOW, services: [{protocol: UDP, ports: [53-123]}]}",
            "rule 4 'both' can never match: rule 1 'in' (DROP), rule 2 'low' (DROP) and rule 3 'high' (ALLOW) together take all of its packets",
            "192.0.2.1 > 198.51.100.1 UDP/53 inwards, which rule 1 'in' (DROP) takes",
        ),
        (
            "{name: six, action: DROP, sources: ['2001:db8:1::/64']}, \
             {name: one, action: ALLOW, direction: IN, sources: ['2001:db8:1::7'], services: [{protocol: ICMPv6}]}",
            "rule 2 'one' can never match: rule 1 'six' (DROP) takes all of its packets",
            "2001:db8:1::7 > 2001:db8::2 ICMPv6/128:0 inwards, which rule 1 'six' (DROP) takes",
        ),
        // Nothing comes behind the default rule.
        (
            "{name: z, category: Default, sequence: 4294967295, action: DROP}",
            "rule 2 'z' can never match: rule 1 'default' (ALLOW) takes all of its packets",
            "192.0.2.1 > 198.51.100.1 TCP/80 inwards, which rule 1 'default' (ALLOW) takes",
        ),
    ] {
        let notices = gateway_notices(rules);
        let [notice] = &notices[..] else { panic!("{rules}: {notices:?}") };
        assert!(
            notice.contains(&format!("SupervisorCluster sup: gateway firewall: {who}")),
            "{notice}"
        );
        assert!(notice.contains(&format!("for instance {shown}; narrow")), "{notice}");
    }
}

#[test]
fn a_gateway_rule_with_something_left_is_not_told() {
    for rules in [
        // A port, a direction, an address, a protocol too few.
        "{name: a, action: DROP, services: [{protocol: TCP, ports: [1-79, 81-90]}]}, {name: b, action: DROP, services: [{protocol: TCP, ports: [70-90]}]}",
        "{name: a, action: DROP, direction: IN}, {name: b, action: DROP}",
        "{name: a, action: DROP, sources: [10.0.0.0-10.0.0.8]}, {name: b, action: DROP, sources: [10.0.0.0-10.0.0.9]}",
        "{name: a, action: DROP, services: [{protocol: TCP}]}, {name: b, action: DROP}",
        // Passed over, or behind it.
        "{name: a, action: DROP, disabled: true}, {name: b, action: DROP}",
        "{name: a, action: DROP}, {name: b, action: DROP, disabled: true}",
        "{name: a, action: DROP, sequence: 9}, {name: b, action: DROP, services: [{protocol: TCP}], sequence: 8}",
        // A stateless rule judges packets that a stateful one never sees.
        "{name: a, action: DROP}, {name: b, action: DROP, stateful: false}",
        "{name: a, action: DROP, stateful: false, direction: OUT}, {name: b, action: DROP, direction: IN}",
    ] {
        assert_eq!(gateway_notices(rules), Vec::<String>::new(), "{rules}");
    }
    // Switched off it judges nothing.
    let off = "gatewayFirewall: {enabled: false, rules: [{name: a, action: DROP}, {name: b, action: DROP}]}";
    assert!(realized(&lab(off, "")).notices.is_empty());
}
