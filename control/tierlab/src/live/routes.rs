//! An emulated host's routing in the words of `ip`, for the machine that takes its place.
//!
//! `ip route append`, not `add`: a host may have two routes to one network, of which the first
//! counts, and the kernel may have made the one of the link already.

use hosts::routing::{TABLE_LOCAL, TABLE_MAIN};
use hosts::{HostConfig, PolicyRouting, Prefix, Route, RouteKind, Rule};
use packet::Addr;
use std::collections::BTreeMap;

/// The next hops of the default routes by an interface, in any table, each once.
pub fn gateways(host: &HostConfig, index: usize) -> Vec<Addr> {
    let mut gateways = Vec::new();
    for (_, routes) in host.routing.tables() {
        for route in routes.iter().filter(|r| is_by(r, index) && r.prefix_len == 0) {
            if let Some(via) = route.via.filter(|via| !gateways.contains(via)) {
                gateways.push(via);
            }
        }
    }
    gateways
}

fn is_by(route: &Route, index: usize) -> bool {
    route.kind == RouteKind::Unicast && route.dev == index
}

/// The routes by the interface `index`, which is named `device` there: arguments of `ip`.
pub fn by_interface(host: &HostConfig, index: usize, device: &str) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for (table, routes) in host.routing.tables().filter(|(table, _)| *table != TABLE_LOCAL) {
        // What is on the link must be known before what is behind a gateway there.
        let (on_link, behind): (Vec<&Route>, Vec<&Route>) =
            routes.iter().filter(|r| is_by(r, index)).partition(|r| r.via.is_none());
        for route in on_link.into_iter().chain(behind) {
            let mut call = words(&["route", "append", &route.prefix().to_string()]);
            if let Some(via) = route.via {
                call.extend(words(&["via", &via.to_string()]));
            }
            call.extend(words(&["dev", device]));
            call.extend(metric_and_table(route, table));
            calls.push(call);
        }
    }
    calls
}

/// Policy rules beside the three of every Linux host, and routes that refuse: arguments of `ip`.
/// `devices` has the names of the interfaces that are called otherwise than in the definition.
pub fn rules(host: &HostConfig, devices: &BTreeMap<usize, String>) -> Vec<Vec<String>> {
    let mut calls = Vec::new();
    for (table, routes) in host.routing.tables().filter(|(table, _)| *table != TABLE_LOCAL) {
        for route in routes {
            let kind = match route.kind {
                RouteKind::Unicast => continue,
                RouteKind::Unreachable => "unreachable",
                RouteKind::Blackhole => "blackhole",
                RouteKind::Prohibit => "prohibit",
            };
            let mut call = words(&["route", "append", kind, &route.prefix().to_string()]);
            call.extend(metric_and_table(route, table));
            calls.push(call);
        }
    }
    let usual = PolicyRouting::default();
    let has_v6 = host.interfaces.iter().any(|i| i.addresses.iter().any(|(a, _)| !a.is_v4()));
    for rule in host.routing.rules().iter().filter(|rule| !usual.rules().contains(rule)) {
        let named = rule.from.or(rule.to);
        for (family, is_v4) in [("-4", true), ("-6", false)] {
            let wanted = named.map_or(is_v4 || has_v6, |prefix| prefix.addr.is_v4() == is_v4);
            if wanted {
                calls.push(rule_call(host, rule, family, devices));
            }
        }
    }
    calls
}

fn rule_call(
    host: &HostConfig,
    rule: &Rule,
    family: &str,
    devices: &BTreeMap<usize, String>,
) -> Vec<String> {
    let mut call = words(&[family, "rule", "add", "priority", &rule.priority.to_string()]);
    let prefix = |word: &str, prefix: Option<Prefix>| {
        prefix.map_or_else(Vec::new, |p| words(&[word, &p.to_string()]))
    };
    // `ip` wants a source, be it all of them.
    call.extend(rule.from.map_or_else(|| words(&["from", "all"]), |p| prefix("from", Some(p))));
    call.extend(prefix("to", rule.to));
    for (word, index) in [("iif", rule.iif), ("oif", rule.oif)] {
        let Some(index) = index else { continue };
        let defined = host.interfaces.get(index).map(|i| &i.name);
        if let Some(name) = devices.get(&index).or(defined) {
            call.extend(words(&[word, name]));
        }
    }
    call.extend(words(&["lookup", &rule.table.to_string()]));
    call
}

fn metric_and_table(route: &Route, table: u32) -> Vec<String> {
    let mut arguments = Vec::new();
    if route.metric != 0 {
        arguments.extend(words(&["metric", &route.metric.to_string()]));
    }
    if table != TABLE_MAIN {
        arguments.extend(words(&["table", &table.to_string()]));
    }
    arguments
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;
    use hosts::InterfaceConfig;
    use packet::Mac;

    fn addr(text: &str) -> Addr {
        text.parse().unwrap()
    }

    /// Two interfaces, the tables of the article's control-plane VM (F16) in short.
    fn host() -> HostConfig {
        let mut host = HostConfig::new("vm/cp-1");
        for (name, address, len) in [("eth0", "192.168.10.45", 24), ("eth1", "10.244.0.2", 28)] {
            host.interfaces.push(InterfaceConfig::new(name, Mac::default(), addr(address), len));
        }
        let any = Addr::UNSPECIFIED_V4;
        host.routing.add_route(200, Route::via(any, 0, addr("10.244.0.1"), 1));
        host.routing.add_route(200, Route::on_link(addr("10.244.0.0"), 28, 1));
        host.routing.add_route(TABLE_MAIN, Route::via(any, 0, addr("192.168.10.254"), 0));
        host
    }

    fn joined(calls: Vec<Vec<String>>) -> Vec<String> {
        calls.into_iter().map(|call| call.join(" ")).collect()
    }

    #[test]
    fn routes_go_by_their_own_interface_and_into_their_own_table() {
        let host = host();
        assert_eq!(
            joined(by_interface(&host, 1, "in1")),
            [
                "route append 10.244.0.0/28 dev in1 table 200",
                "route append 0.0.0.0/0 via 10.244.0.1 dev in1 table 200",
            ]
        );
        assert_eq!(
            joined(by_interface(&host, 0, "eth0")),
            ["route append 0.0.0.0/0 via 192.168.10.254 dev eth0"]
        );
        assert_eq!(gateways(&host, 0), [addr("192.168.10.254")]);
        assert_eq!(gateways(&host, 1), [addr("10.244.0.1")]);
        assert!(by_interface(&host, 2, "eth2").is_empty() && gateways(&host, 2).is_empty());
    }

    #[test]
    fn rules_beside_the_usual_three_with_their_family() {
        let mut host = host();
        let as_defined = BTreeMap::new();
        assert!(rules(&host, &as_defined).is_empty(), "local, main and default are everywhere");
        host.routing.add_rule(Rule::to(0, Prefix::new(addr("10.96.0.0"), 23), 200));
        host.routing.add_rule(Rule::from(5, Prefix::new(addr("fd00::"), 64), 201));
        let any = Rule { priority: 7, iif: Some(0), oif: Some(1), table: 9, ..Rule::default() };
        host.routing.add_rule(any);
        host.routing.add_route(200, Route::refuse(addr("10.0.0.0"), 8, RouteKind::Unreachable));
        let v4 = [
            "route append unreachable 10.0.0.0/8 table 200",
            "-4 rule add priority 0 from all to 10.96.0.0/23 lookup 200",
            "-6 rule add priority 5 from fd00::/64 lookup 201",
            "-4 rule add priority 7 from all iif eth0 oif eth1 lookup 9",
        ];
        assert_eq!(joined(rules(&host, &as_defined)), v4);
        // A rule without addresses is for every family that the host has.
        host.interfaces[0].addresses.push((addr("fd00::2"), 64));
        let last = joined(rules(&host, &as_defined)).pop();
        assert_eq!(
            last.as_deref(),
            Some("-6 rule add priority 7 from all iif eth0 oif eth1 lookup 9")
        );
        let renamed = BTreeMap::from([(1, "lan0".to_owned())]);
        let last = joined(rules(&host, &renamed)).pop();
        assert_eq!(
            last.as_deref(),
            Some("-6 rule add priority 7 from all iif eth0 oif lan0 lookup 9")
        );
    }

    #[test]
    fn a_refusing_route_is_not_an_interfaces() {
        let mut host = host();
        // Its device number means nothing.
        host.routing
            .add_route(TABLE_MAIN, Route::refuse(addr("10.0.0.0"), 8, RouteKind::Blackhole));
        assert_eq!(by_interface(&host, 0, "eth0").len(), 1);
    }
}
