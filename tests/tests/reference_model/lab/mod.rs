//! Random labs, and random changes to them. Names stay, so that addresses do.

use std::fmt::Write as _;

use crate::random::Random;

/// Hosts outside: name, network, address.
pub const OUTSIDE: [(&str, &str, &str); 3] = [
    ("leaf-a", "left", "192.0.2.2"),
    ("server", "left", "192.0.2.10"),
    ("leaf-b", "right", "198.51.100.2"),
];
/// The uplinks' networks and the Tier-0's address there.
pub const UPLINKS: [(&str, &str); 2] = [("left", "192.0.2.1"), ("right", "198.51.100.1")];

/// Kinds of changes, and how many of them leave all pods alone.
const CHANGES: (usize, usize) = (10, 7);

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
}

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
}

struct Namespace {
    pods: Vec<Pod>,
    /// How many pods there ever were.
    born: usize,
    services: Vec<Service>,
    policies: Vec<String>,
}

/// A lab.
pub struct Lab {
    /// Pods are made and deleted.
    mortal: bool,
    isolation: &'static str,
    nat: bool,
    balancer: &'static str,
    urpf: &'static str,
    two_tuple: bool,
    default_route: bool,
    exemption: bool,
    namespaces: Vec<Namespace>,
}

fn pod(random: &mut Random, serial: usize) -> Pod {
    Pod {
        serial,
        app: random.pick(&APPS),
        tier: random.pick(&TIERS),
        host: 1 + random.below(2),
        http: random.pick(&[8080, 80]),
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
    }
}

impl Lab {
    /// A random lab; changes of a `mortal` one make and delete pods too.
    pub fn new(random: &mut Random, mortal: bool) -> Lab {
        let mut namespaces = Vec::new();
        for _ in 0..=random.below(4) {
            let pods: Vec<Pod> = (0..=random.below(4)).map(|p| pod(random, p)).collect();
            let services = (0..random.below(3)).map(|_| service(random)).collect();
            let born = pods.len();
            namespaces.push(Namespace { pods, born, services, policies: Vec::new() });
        }
        let count = namespaces.len();
        for namespace in &mut namespaces {
            let policies = random.weighted(&[4, 3, 2]);
            namespace.policies = (0..policies).map(|_| policy(random, count)).collect();
        }
        Lab {
            mortal,
            isolation: random.pick(&["ingress", "full", "none", "none"]),
            nat: random.chance(75),
            balancer: random.pick(&["automap", "automap", "transparent"]),
            urpf: random.pick(&["strict", "loose", "none"]),
            two_tuple: random.chance(30),
            default_route: random.chance(80),
            exemption: random.chance(30),
            namespaces,
        }
    }

    /// Changes a policy, a service's selector, or the isolation mode; says what.
    pub fn change(&mut self, random: &mut Random) -> String {
        let count = self.namespaces.len();
        let at = random.below(count);
        let namespace = &mut self.namespaces[at];
        match random.below(if self.mortal { CHANGES.0 } else { CHANGES.1 }) {
            5 | 6 if !namespace.services.is_empty() => {
                let at_service = random.below(namespace.services.len());
                let service = &mut namespace.services[at_service];
                service.present = !service.present;
                let what = if service.present { "made" } else { "deleted" };
                format!("service ns-{at}/svc-{at_service} is {what}")
            }
            7 | 8 if namespace.pods.len() > 1 => {
                let gone = namespace.pods.swap_remove(random.below(namespace.pods.len()));
                format!("pod ns-{at}/pod-{} is deleted", gone.serial)
            }
            7..=9 => {
                namespace.pods.push(pod(random, namespace.born));
                namespace.born += 1;
                format!("pod ns-{at}/pod-{} is made", namespace.born - 1)
            }
            0 => {
                self.isolation = random.pick(&["ingress", "full", "none"]);
                format!("isolation {}", self.isolation)
            }
            1 if !namespace.services.is_empty() => {
                let service = random.below(namespace.services.len());
                let app = random.pick(&["web", "db", "nobody"]);
                namespace.services[service].app = app;
                format!("service ns-{at}/svc-{service} selects {app}")
            }
            2 | 3 if !namespace.policies.is_empty() => {
                namespace.policies.pop();
                format!("one policy less in ns-{at}")
            }
            _ => {
                namespace.policies.push(policy(random, count));
                format!("one policy more in ns-{at}")
            }
        }
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

    /// Whether pods are hidden.
    pub fn nat(&self) -> bool {
        self.nat
    }

    /// The manifest.
    pub fn yaml(&self) -> String {
        let mut yaml = format!(
            r#"
kind: SupervisorCluster
metadata: {{name: sup}}
spec:
  hosts: 2
  controlPlane: {{replicas: 1}}
  isolation: {}
  natMode: {}
  loadBalancer: {{snat: {}}}
  tier1: {{noSnat: [{}]}}
---
{{kind: ExternalNetwork, metadata: {{name: left}}}}
---
{{kind: ExternalNetwork, metadata: {{name: right}}}}
---
kind: Tier0Gateway
metadata: {{name: t0}}
spec:
  uplinks:
  - {{name: left, network: left, addresses: [192.0.2.1/24]}}
  - {{name: right, network: right, addresses: [198.51.100.1/24]}}
  urpfMode: {}
  ecmp: {{hash: {}}}
  staticRoutes:
  - {{network: 203.0.113.0/24, nextHops: [192.0.2.2]}}
  - {{network: 203.0.113.64/26, blackhole: true}}
"#,
            self.isolation,
            if self.nat { "nat" } else { "no-nat" },
            self.balancer,
            if self.exemption { "{source: 10.244.0.0/20, destination: 203.0.113.5}" } else { "" },
            self.urpf,
            if self.two_tuple { "2-tuple" } else { "5-tuple" },
        );
        if self.default_route {
            yaml += "  - {network: 0.0.0.0/0, nextHops: [192.0.2.2, 198.51.100.2]}\n";
        }
        for (name, network, address) in OUTSIDE {
            writeln!(
                yaml,
                "---\n{{kind: ExternalHost, metadata: {{name: {name}}}, spec: {{interfaces: \
                 [{{name: eth0, network: {network}, addresses: [{address}/24]}}]}}}}"
            )
            .unwrap();
        }
        for (n, namespace) in self.namespaces.iter().enumerate() {
            writeln!(
                yaml,
                "---\n{{apiVersion: v1, kind: Namespace, metadata: {{name: ns-{n}, labels: {{ns: ns-{n}}}}}}}"
            )
            .unwrap();
            for pod in &namespace.pods {
                writeln!(
                    yaml,
                    "---\n{{apiVersion: v1, kind: Pod, metadata: {{name: pod-{}, namespace: ns-{n}, \
                     labels: {{app: {}, tier: {}}}, annotations: {{lab.tierlab.dev/host: esx-{}}}}}, \
                     spec: {{containers: [{{name: c, image: i, ports: [{{name: http, containerPort: {}}}, \
                     {{name: dns, containerPort: 53, protocol: UDP}}]}}]}}}}",
                    pod.serial, pod.app, pod.tier, pod.host, pod.http
                )
                .unwrap();
            }
            for (s, service) in namespace.services.iter().enumerate().filter(|(_, s)| s.present) {
                yaml += &service_document(&format!("ns-{n}"), &format!("svc-{s}"), service);
            }
            for (p, policy) in namespace.policies.iter().enumerate() {
                write!(
                    yaml,
                    "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\n\
                     metadata: {{name: policy-{p}, namespace: ns-{n}}}\nspec:\n{policy}"
                )
                .unwrap();
            }
        }
        yaml
    }
}

fn service_document(namespace: &str, name: &str, service: &Service) -> String {
    let mut yaml = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}}}\nspec:\n  \
         type: {}\n  selector: {{app: {}}}\n  ports:\n  - {{name: web, port: 80, targetPort: {}}}\n",
        if service.outside { "LoadBalancer" } else { "ClusterIP" },
        service.app,
        if service.named { "http" } else { "8080" },
    );
    if service.udp {
        yaml += "  - {name: dns, port: 53, protocol: UDP}\n";
    }
    if let Some(seconds) = service.affinity {
        writeln!(
            yaml,
            "  sessionAffinity: ClientIP\n  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}"
        )
        .unwrap();
    }
    if service.local_inside {
        yaml += "  internalTrafficPolicy: Local\n";
    }
    if service.outside && service.local_outside {
        yaml += "  externalTrafficPolicy: Local\n";
    }
    if service.outside && service.ranges {
        yaml += "  loadBalancerSourceRanges: [192.0.2.0/24, 10.244.0.0/20]\n";
    }
    yaml
}

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
    match random.below(6) {
        0 => format!("{{podSelector: {}}}", selector(random)),
        1 => format!("{{namespaceSelector: {namespace}}}"),
        2 => format!("{{namespaceSelector: {namespace}, podSelector: {}}}", selector(random)),
        3 => "{ipBlock: {cidr: 0.0.0.0/0, except: [203.0.113.0/24]}}".to_owned(),
        4 => "{ipBlock: {cidr: 100.64.0.0/16}}".to_owned(),
        _ => format!(
            "{{ipBlock: {{cidr: {}}}}}",
            random.pick(&["10.244.0.0/20", "0.0.0.0/0", "192.0.2.10/32", "172.16.1.0/24"])
        ),
    }
}

fn rules(random: &mut Random, section: &str, side: &str, namespaces: usize) -> String {
    let ports = [
        "{port: 80}",
        "{port: 8080}",
        "{port: http}",
        "{port: dns, protocol: UDP}",
        "{protocol: UDP}",
        "{port: 50, endPort: 90, protocol: UDP}",
    ];
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
            let ports: Vec<&str> = (0..=random.below(2)).map(|_| random.pick(&ports)).collect();
            fields.push(format!("ports: [{}]", ports.join(", ")));
        }
        writeln!(yaml, "  - {{{}}}", fields.join(", ")).unwrap();
    }
    yaml
}

/// `spec` of a NetworkPolicy.
fn policy(random: &mut Random, namespaces: usize) -> String {
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
