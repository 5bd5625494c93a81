//! Random firewalls of the gateways.

use super::nat::SERVICES;
use crate::random::Random;

const ADDRESSES: [&str; 9] = [
    "10.244.0.0/20",
    "10.244.0.18",
    "10.244.0.32/27",
    "192.0.2.10",
    "203.0.113.0/24",
    "172.16.1.0/24",
    "172.16.2.1-172.16.2.90",
    "172.16.9.16/28",
    "0.0.0.0/0",
];

/// A firewall.
#[derive(Clone)]
pub struct Firewall {
    enabled: bool,
    default: &'static str,
    /// Whether rules say if they are stateful: an active-active Tier-0 has none that are.
    says: bool,
    rules: Vec<String>,
}

fn rule(random: &mut Random, says: bool) -> String {
    // No two rules ever have one name: what is called the same is counted as the same.
    let mut fields = vec![format!("name: gateway-{:x}", random.bits())];
    fields.push(format!("action: {}", random.pick(&["ALLOW", "ALLOW", "ALLOW", "DROP", "REJECT"])));
    fields.push(format!("direction: {}", random.pick(&["IN", "OUT", "IN_OUT"])));
    for side in ["sources", "destinations"] {
        if random.chance(40) {
            let sets: Vec<&str> = (0..=random.below(2)).map(|_| random.pick(&ADDRESSES)).collect();
            fields.push(format!("{side}: [{}]", sets.join(", ")));
        }
    }
    if random.chance(30) {
        fields.push(format!("services: [{}]", random.pick(&SERVICES)));
    }
    if says && random.chance(30) {
        fields.push(format!("stateful: {}", random.chance(30)));
    }
    if random.chance(30) {
        let category = random.pick(&["Emergency", "SharedPreRules", "AutoServiceRules", "Default"]);
        fields.push(format!("category: {category}"));
    }
    if random.chance(30) {
        fields.push(format!("sequence: {}", random.pick(&[5, 10, 15, 20])));
    }
    if random.chance(5) {
        fields.push("disabled: true".to_owned());
    }
    format!("{{{}}}", fields.join(", "))
}

impl Firewall {
    /// A random one.
    pub fn new(random: &mut Random) -> Firewall {
        let rules = if random.chance(40) { 1 + random.below(4) } else { 0 };
        Firewall {
            enabled: random.chance(95),
            default: random.pick(&["ALLOW", "ALLOW", "ALLOW", "ALLOW", "ALLOW", "DROP", "REJECT"]),
            says: true,
            rules: (0..rules).map(|_| rule(random, true)).collect(),
        }
    }

    /// A random one of a Tier-0.
    pub fn of_tier0(random: &mut Random, active_standby: bool) -> Firewall {
        let rules = if random.chance(60) { 1 + random.below(4) } else { 0 };
        Firewall {
            enabled: random.chance(95),
            default: random.pick(&["ALLOW", "ALLOW", "ALLOW", "ALLOW", "ALLOW", "DROP", "REJECT"]),
            says: active_standby,
            rules: (0..rules).map(|_| rule(random, active_standby)).collect(),
        }
    }

    /// Changes something and says what.
    pub fn change(&mut self, random: &mut Random) -> String {
        match random.below(8) {
            0 => {
                self.enabled = !self.enabled;
                format!("a firewall at the gateway: {}", self.enabled)
            }
            1 => {
                self.default = random.pick(&["ALLOW", "ALLOW", "DROP", "REJECT"]);
                format!("at the gateway by default {}", self.default)
            }
            2..=4 if !self.rules.is_empty() => {
                let which = random.below(self.rules.len());
                self.rules.remove(which);
                "one rule less at the gateway".to_owned()
            }
            _ => {
                self.rules.push(rule(random, self.says));
                "one rule more at the gateway".to_owned()
            }
        }
    }

    /// `gatewayFirewall`.
    pub fn yaml(&self) -> String {
        let rules = self.rules.join(", ");
        format!("{{enabled: {}, defaultAction: {}, rules: [{rules}]}}", self.enabled, self.default)
    }
}
