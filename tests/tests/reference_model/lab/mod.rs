//! Random labs, and random changes to them. Names stay, so that addresses do.

mod changes;
mod ethernet;
mod gateway;
mod manifest;
mod nat;
mod policies;
mod wider;

use std::net::Ipv4Addr;

use crate::random::Random;
pub use nat::EXTERNAL;
use nat::nat_rules;
use policies::{policy, security_policy};
use wider::Wider;

/// Hosts outside: name, network, addresses.
pub const OUTSIDE: [(&str, &str, [&str; 2]); 3] = [
    ("leaf-a", "left", ["192.0.2.2", "2001:db8:1::2"]),
    ("server", "left", ["192.0.2.10", "2001:db8:1::10"]),
    ("leaf-b", "right", ["198.51.100.2", "2001:db8:2::2"]),
];
/// The uplinks' networks and the Tier-0's addresses there.
pub const UPLINKS: [(&str, [&str; 2]); 2] =
    [("left", ["192.0.2.1", "2001:db8:1::1"]), ("right", ["198.51.100.1", "2001:db8:2::1"])];

/// Routes of the Tier-1 that lead nowhere.
const INNER_ROUTES: [&str; 3] = [
    "",
    "{network: 198.18.0.0/15, blackhole: true}",
    "{network: 198.18.0.0/15, unreachable: true}, {network: 10.244.0.17/32, blackhole: true}, \
     {network: '2001:db8:ff::/48', blackhole: true}",
];

const APPS: [&str; 2] = ["web", "db"];
const TIERS: [&str; 2] = ["front", "back"];

#[derive(Clone)]
struct Pod {
    /// No two pods ever have the same.
    serial: usize,
    app: &'static str,
    tier: &'static str,
    host: usize,
    /// The number of its port called `http`.
    http: u16,
    /// On the firewall's exclude list.
    excluded: bool,
    /// What its status says, and whether it is going away.
    ready: bool,
    terminating: bool,
    /// An address that it was given by hand.
    pin: Option<Ipv4Addr>,
}

#[derive(Clone)]
struct Service {
    present: bool,
    outside: bool,
    app: &'static str,
    named: bool,
    udp: bool,
    affinity: Option<u32>,
    local_inside: bool,
    local_outside: bool,
    ranges: bool,
    /// `ncp/transparent-lb`.
    transparent: bool,
    /// `ncp/snat_pool`.
    pool: Option<&'static str>,
}

#[derive(Clone)]
struct Namespace {
    pods: Vec<Pod>,
    /// How many pods there ever were.
    born: usize,
    services: Vec<Service>,
    policies: Vec<String>,
    /// Category and `spec` of each SecurityPolicy.
    security: Vec<(&'static str, String)>,
}

/// A lab.
#[derive(Clone)]
pub struct Lab {
    isolation: &'static str,
    nat: bool,
    balancer: &'static str,
    urpf: &'static str,
    /// What the right uplink states itself.
    urpf_right: Option<&'static str>,
    ecmp: &'static str,
    two_tuple: bool,
    default_route: bool,
    /// Static routes of the Tier-1.
    inner_routes: &'static str,
    exemption: bool,
    /// Pods and networks outside have IPv6 addresses.
    v6: bool,
    /// Of segments: short ones hold one pod (30), five (29) or thirteen (28).
    prefix: u8,
    inner_mtu: u16,
    outer_mtu: [u16; 2],
    /// `spec.tier1.natRules`, if the table is written by hand.
    nat_rules: Option<Vec<String>>,
    gateway_firewall: gateway::Firewall,
    /// Rules of the category Ethernet.
    ethernet: Vec<String>,
    namespaces: Vec<Namespace>,
    /// What not every lab has.
    wider: Option<Wider>,
}

fn pod(random: &mut Random, serial: usize) -> Pod {
    Pod {
        serial,
        app: random.pick(&APPS),
        tier: random.pick(&TIERS),
        host: 1 + random.below(2),
        http: random.pick(&[8080, 80]),
        excluded: random.chance(5),
        ready: random.chance(92),
        terminating: random.chance(6),
        pin: None,
    }
}

fn service(random: &mut Random) -> Service {
    Service {
        present: true,
        outside: random.chance(50),
        app: random.pick(&APPS),
        named: random.chance(30),
        udp: random.chance(60),
        affinity: random.chance(25).then(|| random.pick(&[10, 100, 10_800])),
        local_inside: random.chance(15),
        local_outside: random.chance(20),
        ranges: random.chance(15),
        transparent: random.chance(10),
        pool: None,
    }
}

impl Lab {
    /// A random lab, perhaps with what not every lab has.
    pub fn new(random: &mut Random, wider: bool) -> Lab {
        let mut lab = Lab::narrow(random);
        if wider {
            lab.wider = Some(Wider::new(random));
            for service in lab.namespaces.iter_mut().flat_map(|ns| &mut ns.services) {
                service.pool = wider::snat_pool(random);
            }
            if let Some(rules) = lab.nat_rules.as_mut().filter(|_| random.chance(40)) {
                rules.push(wider::nat_rule(random));
            }
        }
        lab
    }

    fn narrow(random: &mut Random) -> Lab {
        let mut namespaces = Vec::new();
        for _ in 0..=random.below(4) {
            let pods: Vec<Pod> = (0..=random.below(4)).map(|p| pod(random, p)).collect();
            let services = (0..random.below(3)).map(|_| service(random)).collect();
            let born = pods.len();
            let (policies, security) = (Vec::new(), Vec::new());
            namespaces.push(Namespace { pods, born, services, policies, security });
        }
        let count = namespaces.len();
        for namespace in &mut namespaces {
            let policies = random.weighted(&[4, 3, 2]);
            namespace.policies = (0..policies).map(|_| policy(random, count)).collect();
            let security = random.weighted(&[5, 2, 2]);
            namespace.security = (0..security).map(|_| security_policy(random, count)).collect();
        }
        Lab {
            isolation: random.pick(&["ingress", "full", "none", "none"]),
            nat: random.chance(75),
            balancer: random.pick(&[
                "automap",
                "automap",
                "transparent",
                "pool, pool: 172.16.3.0/30",
            ]),
            urpf: random.pick(&["strict", "loose", "none"]),
            urpf_right: random.pick(&[None, None, Some("strict"), Some("loose"), Some("none")]),
            ecmp: random.pick(&["", "", "", ", enabled: false", ", maxPaths: 1"]),
            two_tuple: random.chance(30),
            default_route: random.chance(80),
            inner_routes: random.pick(&INNER_ROUTES),
            exemption: random.chance(30),
            v6: random.chance(50),
            prefix: random.pick(&[28, 28, 29, 30]),
            inner_mtu: random.pick(&[1500, 1500, 1400, 9000]),
            outer_mtu: [random.pick(&[1500, 1500, 1280]), random.pick(&[1500, 1300, 9000])],
            nat_rules: random.chance(40).then(|| nat_rules(random)),
            gateway_firewall: gateway::Firewall::new(random),
            ethernet: match random.chance(30) {
                true => (0..1 + random.below(2)).map(|_| ethernet::ethernet_rule(random)).collect(),
                false => Vec::new(),
            },
            namespaces,
            wider: None,
        }
    }

    /// Whether it has what not every lab has.
    pub fn is_wide(&self) -> bool {
        self.wider.is_some()
    }

    /// Namespaces and their pods.
    pub fn pods(&self) -> Vec<(String, String)> {
        let all = self.namespaces.iter().enumerate();
        all.flat_map(|(n, ns)| {
            ns.pods.iter().map(move |pod| (format!("ns-{n}"), format!("pod-{}", pod.serial)))
        })
        .collect()
    }

    /// Namespaces and their services; whether they have an address outside.
    pub fn services(&self) -> Vec<(String, String, bool)> {
        let all = self.namespaces.iter().enumerate();
        all.flat_map(|(n, ns)| {
            let services = ns.services.iter().enumerate().filter(|(_, s)| s.present);
            services
                .map(move |(s, service)| (format!("ns-{n}"), format!("svc-{s}"), service.outside))
        })
        .collect()
    }

    /// How many namespaces there are.
    pub fn namespaces(&self) -> usize {
        self.namespaces.len()
    }

    /// Whether the NAT table is written by hand.
    pub fn has_nat_rules(&self) -> bool {
        self.nat_rules.is_some()
    }

    /// Whether there is IPv6.
    pub fn v6(&self) -> bool {
        self.v6
    }
}
