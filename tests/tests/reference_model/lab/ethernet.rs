//! Random rules of the category Ethernet. They name what they are about, IPv4 or IPv6: the model leaves address resolution out.

use super::{APPS, TIERS};
use crate::random::Random;

/// What pods' addresses begin with (F3).
const POD: &str = "04:50:56:00:d0:0";

/// A rule.
pub fn ethernet_rule(random: &mut Random) -> String {
    let mut fields = vec![
        format!("name: ethernet-{:x}", random.bits()),
        format!("action: {}", random.pick(&["ALLOW", "DROP"])),
        format!("direction: {}", random.pick(&["IN", "OUT", "IN_OUT"])),
        format!("priority: {}", random.pick(&[0, 5, 5, 10])),
        format!("protocols: [{}]", random.pick(&["IPv4", "IPv4", "IPv6", "IPv4, IPv6"])),
    ];
    for side in ["sources", "destinations"] {
        if random.chance(50) {
            let macs: Vec<String> =
                (0..=random.below(2)).map(|_| format!("'{POD}{}'", random.below(10))).collect();
            fields.push(format!("{side}: [{}]", macs.join(", ")));
            if random.chance(20) {
                fields.push(format!("{side}Excluded: true"));
            }
        }
    }
    if random.chance(60) {
        let label = match random.chance(50) {
            true => format!("app: {}", random.pick(&APPS)),
            false => format!("tier: {}", random.pick(&TIERS)),
        };
        fields.push(format!("appliedTo: [{{podSelector: {{matchLabels: {{{label}}}}}}}]"));
    }
    format!("{{{}}}", fields.join(", "))
}
