//! Random policies: NetworkPolicy and SecurityPolicy.

use std::fmt::Write as _;

use super::{APPS, TIERS};
use crate::random::Random;

fn selector(random: &mut Random) -> String {
    match random.below(5) {
        0 | 1 => "{}".to_owned(),
        2 => format!("{{matchLabels: {{app: {}}}}}", random.pick(&APPS)),
        3 => format!("{{matchLabels: {{tier: {}}}}}", random.pick(&TIERS)),
        _ => format!(
            "{{matchExpressions: [{{key: app, operator: {}, values: [{}]}}]}}",
            random.pick(&["In", "NotIn"]),
            random.pick(&APPS)
        ),
    }
}

fn peer(random: &mut Random, namespaces: usize) -> String {
    let namespace = format!("{{matchLabels: {{ns: ns-{}}}}}", random.below(namespaces));
    let namespace = if random.chance(30) { "{}".to_owned() } else { namespace };
    match random.below(7) {
        0 => format!("{{podSelector: {}}}", selector(random)),
        1 => format!("{{namespaceSelector: {namespace}}}"),
        2 => format!("{{namespaceSelector: {namespace}, podSelector: {}}}", selector(random)),
        3 => "{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.0/24]}}".to_owned(),
        4 => "{ipBlock: {cidr: 100.64.0.0/16}}".to_owned(),
        5 => "{ipBlock: {cidr: '::/0', except: ['fd00:244:0:2::/64']}}".to_owned(),
        _ => format!(
            "{{ipBlock: {{cidr: {}}}}}",
            random.pick(&["10.244.0.0/20", "0.0.0.0/0", "192.0.2.10/32", "172.16.1.0/24"])
        ),
    }
}

const PORTS: [&str; 6] = [
    "{port: 80}",
    "{port: 8080}",
    "{port: http}",
    "{port: dns, protocol: UDP}",
    "{protocol: UDP}",
    "{port: 50, endPort: 90, protocol: UDP}",
];

fn rules(random: &mut Random, section: &str, side: &str, namespaces: usize) -> String {
    let count = random.weighted(&[1, 4, 2]);
    if count == 0 {
        return format!("  {section}: []\n");
    }
    let mut yaml = format!("  {section}:\n");
    for _ in 0..count {
        let mut fields = Vec::new();
        if random.chance(75) {
            let peers: Vec<String> =
                (0..=random.below(2)).map(|_| peer(random, namespaces)).collect();
            fields.push(format!("{side}: [{}]", peers.join(", ")));
        }
        if random.chance(40) {
            let ports: Vec<&str> = (0..=random.below(2)).map(|_| random.pick(&PORTS)).collect();
            fields.push(format!("ports: [{}]", ports.join(", ")));
        }
        writeln!(yaml, "  - {{{}}}", fields.join(", ")).unwrap();
    }
    yaml
}

/// `spec` of a NetworkPolicy.
pub fn policy(random: &mut Random, namespaces: usize) -> String {
    let (types, into, out) = match random.below(4) {
        0 | 1 => ("[Ingress]", true, false),
        2 => ("[Egress]", false, true),
        _ => ("[Ingress, Egress]", true, true),
    };
    let mut yaml = format!("  podSelector: {}\n  policyTypes: {types}\n", selector(random));
    if into {
        yaml += &rules(random, "ingress", "from", namespaces);
    }
    if out {
        yaml += &rules(random, "egress", "to", namespaces);
    }
    yaml
}

/// What follows the name of a SecurityPolicy: its category, and `spec`.
pub fn security_policy(random: &mut Random, namespaces: usize) -> (&'static str, String) {
    let category = random.pick(&[
        "Application",
        "Application",
        "Application",
        "Emergency",
        "Infrastructure",
        "Environment",
    ]);
    let priority = random.pick(&[0, 5, 5, 10]);
    let mut yaml = format!("  priority: {priority}\n");
    let whole = random.chance(60);
    if whole {
        writeln!(yaml, "  appliedTo: [{{podSelector: {}}}]", selector(random)).unwrap();
    }
    yaml += "  rules:\n";
    for at in 0..1 + random.below(3) {
        let action = random.pick(&["Allow", "Allow", "Allow", "Drop", "Reject"]);
        let (direction, side) =
            random.pick(&[("In", "sources"), ("Ingress", "sources"), ("Out", "destinations")]);
        let mut fields = vec![
            format!("name: rule-{at}"),
            format!("action: {action}"),
            format!("direction: {direction}"),
        ];
        if !whole {
            fields.push(format!("appliedTo: [{{podSelector: {}}}]", selector(random)));
        }
        if random.chance(60) {
            let peers: Vec<String> =
                (0..=random.below(2)).map(|_| security_peer(random, namespaces)).collect();
            fields.push(format!("{side}: [{}]", peers.join(", ")));
        }
        if random.chance(50) {
            let ports: Vec<&str> = (0..=random.below(2)).map(|_| random.pick(&PORTS)).collect();
            fields.push(format!("ports: [{}]", ports.join(", ")));
        }
        writeln!(yaml, "  - {{{}}}", fields.join(", ")).unwrap();
    }
    (category, yaml)
}

fn security_peer(random: &mut Random, namespaces: usize) -> String {
    let namespace = format!("{{matchLabels: {{ns: ns-{}}}}}", random.below(namespaces));
    let block = random.pick(&[
        "10.244.0.0/20",
        "0.0.0.0/0",
        "192.0.2.10/32",
        "203.0.113.0/24",
        "'fd00:244::/48'",
    ]);
    match random.below(4) {
        0 => format!("{{podSelector: {}}}", selector(random)),
        1 => format!("{{namespaceSelector: {namespace}}}"),
        2 => format!("{{namespaceSelector: {namespace}, podSelector: {}}}", selector(random)),
        _ => format!("{{ipBlocks: [{{cidr: {block}}}]}}"),
    }
}
