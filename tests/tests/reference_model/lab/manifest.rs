//! A lab as YAML.

use std::fmt::Write as _;

use super::wider::Wider;
use super::{Lab, OUTSIDE, Service, UPLINKS};

impl Lab {
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
  namespacePrefix: {}{}{}
  tier1: {{noSnat: [{}], staticRoutes: [{}], mtu: {}{}}}
  distributedFirewall: {{{}ethernetRules: [{}]}}
---
{{kind: ExternalNetwork, metadata: {{name: left}}, spec: {{mtu: {}}}}}
---
{{kind: ExternalNetwork, metadata: {{name: right}}}}
---
kind: Tier0Gateway
metadata: {{name: t0}}
spec:{}
  uplinks:
  - {{name: left, network: left, addresses: [{}]}}
  - {{name: right, network: right, addresses: [{}], mtu: {}{}}}
  urpfMode: {}
  ecmp: {{hash: {}{}}}
  staticRoutes:
  - {{network: 203.0.113.0/24, nextHops: [192.0.2.2]}}
  - {{network: 203.0.113.0/24, nextHops: [198.51.100.2], distance: 5}}
  - {{network: 203.0.113.64/26, blackhole: true}}
"#,
            self.isolation,
            if self.nat { "nat" } else { "no-nat" },
            self.balancer,
            self.prefix,
            if self.v6 { "\n  podCIDRv6: 'fd00:244::/48'" } else { "" },
            self.wider.as_ref().map(Wider::cluster_fields).unwrap_or_default(),
            if self.exemption { "{source: 10.244.0.0/20, destination: 203.0.113.5}" } else { "" },
            self.inner_routes,
            self.inner_mtu,
            self.tables(),
            self.wider.as_ref().map(Wider::firewall_fields).unwrap_or_default(),
            self.ethernet.join(", "),
            self.outer_mtu[0],
            self.wider.as_ref().map(Wider::tier0_fields).unwrap_or_default(),
            self.addresses(UPLINKS[0].1),
            self.addresses(UPLINKS[1].1),
            self.outer_mtu[1],
            self.urpf_right.map(|mode| format!(", urpfMode: {mode}")).unwrap_or_default(),
            self.urpf,
            if self.two_tuple { "2-tuple" } else { "5-tuple" },
            self.ecmp,
        );
        if self.default_route {
            yaml += "  - {network: 0.0.0.0/0, nextHops: [192.0.2.2, 198.51.100.2]}\n";
        }
        if self.v6 {
            yaml +=
                "  - {network: '2001:db8:ff::/48', nextHops: ['2001:db8:1::2', '2001:db8:2::2']}\n";
        }
        for (name, network, addresses) in OUTSIDE {
            writeln!(
                yaml,
                "---\n{{kind: ExternalHost, metadata: {{name: {name}}}, spec: {{interfaces: \
                 [{{name: eth0, network: {network}, addresses: [{}]}}]}}}}",
                self.addresses(addresses)
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
                     labels: {{app: {}, tier: {}}}, annotations: {{lab.tierlab.dev/host: esx-{}{}{}}}{}}}, \
                     spec: {{containers: [{{name: c, image: i, ports: [{{name: http, containerPort: {}}}, \
                     {{name: dns, containerPort: 53, protocol: UDP}}]}}]}}, \
                     status: {{conditions: [{{type: Ready, status: '{}'}}]}}}}",
                    pod.serial,
                    pod.app,
                    pod.tier,
                    pod.host,
                    if pod.excluded { ", lab.tierlab.dev/dfw-exclude: 'true'" } else { "" },
                    pod.pin.map(|ip| format!(", lab.tierlab.dev/ip: {ip}")).unwrap_or_default(),
                    if pod.terminating { ", deletionTimestamp: '2026-01-01T00:00:00Z'" } else { "" },
                    pod.http,
                    if pod.ready { "True" } else { "False" },
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
            for (p, (category, policy)) in namespace.security.iter().enumerate() {
                write!(
                    yaml,
                    "---\napiVersion: nsx.vmware.com/v1alpha1\nkind: SecurityPolicy\n\
                     metadata: {{name: security-{p}, namespace: ns-{n}, \
                     annotations: {{lab.tierlab.dev/category: {category}}}}}\nspec:\n{policy}"
                )
                .unwrap();
            }
        }
        yaml
    }

    /// The Tier-1's NAT table, if it is written by hand, and its firewall.
    fn tables(&self) -> String {
        let nat =
            self.nat_rules.as_ref().map(|rules| format!(", natRules: [{}]", rules.join(", ")));
        format!("{}, gatewayFirewall: {}", nat.unwrap_or_default(), self.gateway_firewall.yaml())
    }

    fn addresses(&self, [v4, v6]: [&str; 2]) -> String {
        if self.v6 { format!("{v4}/24, '{v6}/64'") } else { format!("{v4}/24") }
    }
}

fn service_document(namespace: &str, name: &str, service: &Service) -> String {
    let mut yaml = format!(
        "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: {namespace}{}}}\nspec:\n  \
         type: {}\n  selector: {{app: {}}}\n  ports:\n  - {{name: web, port: 80, targetPort: {}}}\n",
        match (service.transparent, service.pool) {
            (true, None) => ", annotations: {ncp/transparent-lb: 'true'}".to_owned(),
            (false, None) => String::new(),
            (transparent, Some(pool)) => format!(
                ", annotations: {{ncp/transparent-lb: '{transparent}', ncp/snat_pool: {pool}}}"
            ),
        },
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
