//! Random NAT tables.

use super::super::counts::WRITTEN;
use crate::random::Random;

/// Addresses that DNAT rules give the inside, and a network of them.
pub const EXTERNAL: [&str; 4] = ["172.16.2.80", "172.16.2.81", "172.16.9.17", "172.16.9.18"];

const SIDES: [&str; 6] =
    ["Any", "10.244.0.0/20", "10.244.0.16/28", "10.244.0.18", "10.244.0.32/27", "192.0.2.10"];
const ENDS: [&str; 5] = ["Any", "203.0.113.0/24", "203.0.113.5", "192.0.2.10", "198.51.100.0/24"];
/// Services that rules of a gateway are about.
pub const SERVICES: [&str; 5] = [
    "{protocol: TCP}",
    "{protocol: TCP, ports: [80, 8080]}",
    "{protocol: UDP, ports: [50-60]}",
    "{protocol: ICMP}",
    "{protocol: ICMP, type: 8}",
];

fn source_rule(random: &mut Random) -> String {
    let (source, destination) = (random.pick(&SIDES), random.pick(&ENDS));
    let action = random.pick(&[
        "NO_SNAT",
        "SNAT, translated: 172.16.2.77",
        "SNAT, translated: 172.16.2.78",
        "SNAT, translated: 172.16.2.77",
        "SNAT, translated: 172.16.2.84-172.16.2.86",
        "SNAT, translated: 172.16.2.88/30",
    ]);
    let mut rule = format!("action: {action}, source: {source}, destination: {destination}");
    if random.chance(20) {
        rule += &format!(", service: {}", random.pick(&SERVICES));
    }
    rule
}

fn destination_rule(random: &mut Random) -> String {
    let source =
        random.pick(&["Any", "Any", "Any", "203.0.113.0/24", "192.0.2.10", "10.244.0.0/20"]);
    if random.chance(20) {
        let destination = random.pick(&["Any", "172.16.2.80", "172.16.9.16/28"]);
        let service = random.pick(&[
            "",
            ", service: {protocol: UDP}",
            ", service: {protocol: TCP, ports: [81]}",
        ]);
        return format!("action: NO_DNAT, source: {source}, destination: {destination}{service}");
    }
    if random.chance(30) {
        return format!(
            "action: DNAT, source: {source}, destination: 172.16.9.16/28, translated: 10.244.0.16/28"
        );
    }
    let destination = random.pick(&EXTERNAL);
    let target = random.pick(&["10.244.0.18", "10.244.0.19", "10.244.0.34", "10.244.0.2"]);
    let what = random.pick(&[
        "",
        "",
        ", service: {protocol: TCP, ports: [80]}, translatedPort: 8080",
        ", service: {protocol: TCP, ports: [80-81]}, translatedPort: 8080-8081",
        ", service: {protocol: UDP, ports: [53]}",
        ", service: {protocol: UDP, ports: [50-60]}, translatedPort: 53",
        ", service: {protocol: ICMP, type: 8}",
    ]);
    format!(
        "action: DNAT, source: {source}, destination: {destination}, translated: {target}{what}"
    )
}

/// A table of NAT rules.
pub fn nat_rules(random: &mut Random) -> Vec<String> {
    (0..1 + random.below(6)).map(|_| nat_rule(random)).collect()
}

/// Another rule, one less, or another table; what was done.
pub fn change_nat_rules(random: &mut Random, rules: &mut Vec<String>) -> &'static str {
    match random.below(5) {
        0 => {
            *rules = nat_rules(random);
            "another NAT table"
        }
        1 | 2 if !rules.is_empty() => {
            let which = random.below(rules.len());
            rules.remove(which);
            "one NAT rule less"
        }
        _ => {
            rules.push(nat_rule(random));
            "one NAT rule more"
        }
    }
}

fn nat_rule(random: &mut Random) -> String {
    let rule = match random.chance(50) {
        true => source_rule(random),
        false => destination_rule(random),
    };
    named(random, &rule)
}

/// A rule with a name, and perhaps a priority and what the firewall sees of it.
pub fn named(random: &mut Random, rule: &str) -> String {
    // No two rules ever have one name: what is called the same is counted as the same.
    let name = format!("{WRITTEN}{:x}", random.bits());
    let priority = match random.chance(50) {
        true => format!(", priority: {}", random.pick(&[10, 100, 1000, 1500, 3000])),
        false => String::new(),
    };
    let seen = random.pick(&[
        "",
        "",
        ", firewallMatch: MATCH_EXTERNAL_ADDRESS",
        ", firewallMatch: MATCH_INTERNAL_ADDRESS",
        ", firewallMatch: BYPASS",
    ]);
    format!("{{name: {name}, {rule}{priority}{seen}}}")
}
