//! The realized lab as tables for people: what `tierlab get` prints.
//!
//! Rows are plain data (JSON and YAML come from their serde side, with stable field names); [`Row`] gives the
//! cells of a text table. Every table is sorted: by name, or in the order of evaluation where that is what the
//! table is about (NAT, firewall).

use serde::Serialize;

/// A column of a text table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// Only shown with `-o wide`.
    pub wide: bool,
}

const fn col(name: &'static str) -> Column {
    Column { name, wide: false }
}

const fn wide(name: &'static str) -> Column {
    Column { name, wide: true }
}

/// A row of a table.
pub trait Row: Serialize {
    /// The columns.
    const COLUMNS: &'static [Column];
    /// One cell a column.
    fn cells(&self) -> Vec<String>;
    /// The namespace that `-n` filters by; `None` for what belongs to none.
    fn namespace(&self) -> Option<&str> {
        None
    }
}

/// What a rule or virtual server has counted since the lab began; nothing, as long as it has not run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HitCounts {
    /// Packets let through, translated or dropped.
    pub packets: u64,
    /// Their octets.
    pub bytes: u64,
    /// Sessions begun.
    pub sessions: u64,
    /// Seconds from the start of the lab to the last packet.
    pub last_hit: Option<f64>,
}

impl HitCounts {
    /// The cells of the columns HITS, BYTES, SESSIONS and LAST-HIT.
    fn cells(&self) -> [String; 4] {
        [
            self.packets.to_string(),
            self.bytes.to_string(),
            self.sessions.to_string(),
            self.last_hit.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds}s")),
        ]
    }
}

/// All tables.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Logical {
    /// `get namespaces`.
    pub namespaces: Vec<NamespaceRow>,
    /// `get segments`.
    pub segments: Vec<SegmentRow>,
    /// `get pods`.
    pub pods: Vec<PodRow>,
    /// `get hosts`: hypervisors, control-plane VMs and external hosts, the latter two a row an interface.
    pub hosts: Vec<HostRow>,
    /// `get services`.
    pub services: Vec<ServiceRow>,
    /// `get virtualservers`: the distributed load balancer's, then the server's, by address and port.
    pub virtual_servers: Vec<VirtualServerRow>,
    /// `get nat`, in the order of evaluation.
    pub nat: Vec<NatRow>,
    /// `get dfw`, in the order of evaluation.
    pub dfw: Vec<FirewallRow>,
    /// `get gatewayfirewall`, by gateway and in the order of evaluation.
    pub gateway_firewall: Vec<GatewayFirewallRow>,
    /// `get routes`.
    pub routes: Vec<RouteRow>,
    /// `get ports`.
    pub ports: Vec<PortRow>,
}

/// A namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceRow {
    /// Name.
    pub name: String,
    /// Whether it belongs to the system, and so shares the system's egress address.
    pub system: bool,
    /// Its segments; one of the system has them only while it has pods.
    pub segments: Vec<String>,
    /// Their networks.
    pub networks: Vec<String>,
    /// The address its flows leave with.
    pub snat: Option<String>,
    /// Pods with an address.
    pub pods: usize,
    /// `ncp/snat_ip_status`.
    pub status: Option<String>,
}

impl Row for NamespaceRow {
    const COLUMNS: &'static [Column] = &[
        col("NAME"),
        col("SYSTEM"),
        col("NETWORK"),
        col("SNAT"),
        col("PODS"),
        col("STATUS"),
        wide("SEGMENT"),
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.system.to_string(),
            or_dash(Some(&join(&self.networks))),
            or_dash(self.snat.as_deref()),
            self.pods.to_string(),
            or_dash(self.status.as_deref()),
            or_dash(Some(&join(&self.segments))),
        ]
    }
    fn namespace(&self) -> Option<&str> {
        Some(&self.name)
    }
}

/// A segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentRow {
    /// Name.
    pub name: String,
    /// `overlay` for the cluster's, `external` for networks outside.
    pub kind: &'static str,
    /// The namespace it belongs to.
    pub namespace: Option<String>,
    /// Its networks.
    pub networks: Vec<String>,
    /// The gateways' addresses.
    pub gateways: Vec<String>,
    /// The gateways' MACs, without repetition.
    pub gateway_macs: Vec<String>,
    /// VLAN.
    pub vlan: Option<u16>,
    /// Attached ports.
    pub ports: usize,
    /// The object it was made from.
    pub origin: String,
}

fn join(items: &[String]) -> String {
    items.join(",")
}

fn or_dash(text: Option<&str>) -> String {
    text.filter(|t| !t.is_empty()).unwrap_or("-").to_owned()
}

impl Row for SegmentRow {
    const COLUMNS: &'static [Column] = &[
        col("NAME"),
        col("KIND"),
        col("NETWORK"),
        col("GATEWAY"),
        col("VLAN"),
        col("PORTS"),
        wide("GATEWAY-MAC"),
        wide("ORIGIN"),
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.kind.to_owned(),
            or_dash(Some(&join(&self.networks))),
            or_dash(Some(&join(&self.gateways))),
            self.vlan.map_or_else(|| "-".to_owned(), |v| v.to_string()),
            self.ports.to_string(),
            or_dash(Some(&join(&self.gateway_macs))),
            self.origin.clone(),
        ]
    }
    fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

/// A pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PodRow {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<String>,
    /// Its MAC.
    pub mac: String,
    /// The ESXi host it runs on.
    pub node: String,
    /// Its segment.
    pub segment: String,
    /// Whether Services count it.
    pub ready: bool,
    /// The address its flows leave with.
    pub snat: Option<String>,
    /// Labels.
    pub labels: Vec<String>,
}

impl Row for PodRow {
    const COLUMNS: &'static [Column] = &[
        col("NAMESPACE"),
        col("NAME"),
        col("ADDRESS"),
        col("MAC"),
        col("NODE"),
        col("READY"),
        wide("SEGMENT"),
        wide("SNAT"),
        wide("LABELS"),
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.name.clone(),
            join(&self.addresses),
            self.mac.clone(),
            self.node.clone(),
            self.ready.to_string(),
            self.segment.clone(),
            or_dash(self.snat.as_deref()),
            or_dash(Some(&join(&self.labels))),
        ]
    }
    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }
}

/// A hypervisor, or an interface of a control-plane VM or external host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HostRow {
    /// `vm/NAME` or `host/NAME`; of a hypervisor its name alone.
    pub name: String,
    /// Interface; a hypervisor has none in the lab.
    pub interface: Option<String>,
    /// The segment it is in.
    pub segment: Option<String>,
    /// Its addresses with prefix lengths.
    pub addresses: Vec<String>,
    /// Its MAC.
    pub mac: Option<String>,
    /// Whether the host routes.
    pub forwarding: bool,
    /// Rules of `ip rule show`, with the kernel's own.
    pub rules: Vec<String>,
    /// The VMs and pods that a hypervisor runs: `vm/NAME`, `pod/NS/NAME`.
    pub workloads: Vec<String>,
}

impl Row for HostRow {
    const COLUMNS: &'static [Column] = &[
        col("NAME"),
        col("INTERFACE"),
        col("SEGMENT"),
        col("ADDRESS"),
        col("MAC"),
        col("FORWARDING"),
        col("WORKLOADS"),
        wide("RULES"),
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            or_dash(self.interface.as_deref()),
            or_dash(self.segment.as_deref()),
            or_dash(Some(&join(&self.addresses))),
            or_dash(self.mac.as_deref()),
            self.forwarding.to_string(),
            // Only a hypervisor runs any.
            match self.interface {
                None => self.workloads.len().to_string(),
                Some(_) => "-".to_owned(),
            },
            or_dash(Some(&self.rules.join("; "))),
        ]
    }
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceRow {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// Type as in a manifest.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// ClusterIP; none for headless and ExternalName.
    pub cluster_ip: Option<String>,
    /// Address outside.
    pub external_ip: Option<String>,
    /// `PORT/PROTOCOL`.
    pub ports: Vec<String>,
    /// Backends, `ADDRESS:PORT`.
    pub endpoints: Vec<String>,
    /// The address that its pods leave with, from the pool of `ncp/snat_pool`.
    pub snat: Option<String>,
    /// What became of that: NCP's word. None where there is no such pool.
    pub status: Option<String>,
}

impl Row for ServiceRow {
    const COLUMNS: &'static [Column] = &[
        col("NAMESPACE"),
        col("NAME"),
        col("TYPE"),
        col("CLUSTER-IP"),
        col("EXTERNAL-IP"),
        col("PORTS"),
        wide("ENDPOINTS"),
        wide("SNAT"),
        col("STATUS"),
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.namespace.clone(),
            self.name.clone(),
            self.kind.to_owned(),
            or_dash(self.cluster_ip.as_deref()),
            or_dash(self.external_ip.as_deref()),
            or_dash(Some(&join(&self.ports))),
            or_dash(Some(&join(&self.endpoints))),
            or_dash(self.snat.as_deref()),
            or_dash(self.status.as_deref()),
        ]
    }
    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }
}

/// A virtual server.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VirtualServerRow {
    /// `distributed` or `server`.
    pub balancer: &'static str,
    /// Namespace of the Service.
    pub namespace: String,
    /// The Service's display name; without one its name.
    pub service: String,
    /// The object it was made from: `Service NAMESPACE/NAME`.
    pub origin: String,
    /// Virtual address.
    pub address: String,
    /// Virtual port.
    pub port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: &'static str,
    /// Backends, `ADDRESS:PORT`.
    pub members: Vec<String>,
    /// `transparent`, `automap ADDRESS` or `pool`.
    pub snat: String,
    /// Affinity to the client, seconds.
    pub affinity_seconds: Option<u64>,
    /// What it has counted.
    #[serde(flatten)]
    pub hits: HitCounts,
}

impl Row for VirtualServerRow {
    const COLUMNS: &'static [Column] = &[
        col("BALANCER"),
        col("NAMESPACE"),
        col("SERVICE"),
        col("ADDRESS"),
        col("PORT"),
        col("PROTOCOL"),
        col("MEMBERS"),
        wide("SNAT"),
        wide("AFFINITY"),
        wide("ORIGIN"),
        col("HITS"),
        wide("BYTES"),
        wide("SESSIONS"),
        wide("LAST-HIT"),
    ];
    fn cells(&self) -> Vec<String> {
        [
            self.balancer.to_owned(),
            self.namespace.clone(),
            self.service.clone(),
            self.address.clone(),
            self.port.to_string(),
            format!("L4 {}", self.protocol),
            or_dash(Some(&join(&self.members))),
            self.snat.clone(),
            self.affinity_seconds.map_or_else(|| "-".to_owned(), |s| format!("{s}s")),
            self.origin.clone(),
        ]
        .into_iter()
        .chain(self.hits.cells())
        .collect()
    }
    fn namespace(&self) -> Option<&str> {
        Some(&self.namespace)
    }
}

/// A NAT rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct NatRow {
    /// Gateway.
    pub router: String,
    /// Number.
    pub id: u32,
    /// Priority; lower is asked first.
    pub priority: u32,
    /// `SNAT`, `No SNAT`, `DNAT`, `No DNAT` or `Reflexive`.
    pub action: &'static str,
    /// `Any`, or networks.
    pub source: String,
    /// `Any`, or a network.
    pub destination: String,
    /// `Any`, or a protocol with ports.
    pub service: String,
    /// The new address, of DNAT with its port; `Any` for none, `-` where it could not be had.
    pub translation: String,
    /// Which address the gateway firewall sees: `internal`, `external`, or `bypass` for none.
    pub firewall: &'static str,
    /// Name.
    pub name: String,
    /// The namespace whose flows alone it is for.
    pub namespace: Option<String>,
    /// What it has counted.
    #[serde(flatten)]
    pub hits: HitCounts,
}

impl Row for NatRow {
    const COLUMNS: &'static [Column] = &[
        col("ID"),
        col("PRIORITY"),
        col("ACTION"),
        col("SOURCE"),
        col("DESTINATION"),
        col("TRANSLATION"),
        col("SERVICE"),
        wide("FIREWALL"),
        wide("ROUTER"),
        wide("NAME"),
        col("HITS"),
        wide("BYTES"),
        wide("SESSIONS"),
        wide("LAST-HIT"),
    ];
    fn cells(&self) -> Vec<String> {
        [
            self.id.to_string(),
            self.priority.to_string(),
            self.action.to_owned(),
            self.source.clone(),
            self.destination.clone(),
            self.translation.clone(),
            self.service.clone(),
            self.firewall.to_owned(),
            self.router.clone(),
            self.name.clone(),
        ]
        .into_iter()
        .chain(self.hits.cells())
        .collect()
    }
    fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

/// A firewall rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FirewallRow {
    /// Number.
    pub id: u32,
    /// Category.
    pub category: String,
    /// Section.
    pub section: String,
    /// Namespace of the workloads it is applied to.
    pub namespace: Option<String>,
    /// `IN` or `OUT`.
    pub direction: String,
    /// Sources.
    pub source: String,
    /// Destinations.
    pub destination: String,
    /// Services, of an Ethernet rule what frames carry; `any` for all.
    pub services: String,
    /// Workloads.
    pub applied_to: String,
    /// `ALLOW` or `DROP`.
    pub action: String,
    /// The object it was made from.
    pub origin: String,
    /// Name.
    pub name: String,
    /// What it has counted.
    #[serde(flatten)]
    pub hits: HitCounts,
}

impl Row for FirewallRow {
    const COLUMNS: &'static [Column] = &[
        col("ID"),
        col("CATEGORY"),
        col("DIRECTION"),
        col("SOURCE"),
        col("DESTINATION"),
        col("SERVICES"),
        col("APPLIED-TO"),
        col("ACTION"),
        col("ORIGIN"),
        wide("SECTION"),
        wide("NAME"),
        col("HITS"),
        wide("BYTES"),
        wide("SESSIONS"),
        wide("LAST-HIT"),
    ];
    fn cells(&self) -> Vec<String> {
        [
            &self.id.to_string(),
            &self.category,
            &self.direction,
            &self.source,
            &self.destination,
            &self.services,
            &self.applied_to,
            &self.action,
            &self.origin,
            &self.section,
            &self.name,
        ]
        .into_iter()
        .cloned()
        .chain(self.hits.cells())
        .collect()
    }
    fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

/// A rule of a gateway's own firewall.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayFirewallRow {
    /// Gateway.
    pub router: String,
    /// Number.
    pub id: u32,
    /// Name.
    pub name: String,
    /// Category.
    pub category: String,
    /// Place in its category.
    pub sequence: u32,
    /// `IN`, `OUT` or `IN_OUT`; in is from the uplink.
    pub direction: String,
    /// Sources.
    pub source: String,
    /// Destinations.
    pub destination: String,
    /// Services; `any` for all.
    pub services: String,
    /// `ALLOW`, `DROP` or `REJECT`.
    pub action: String,
    /// Whether it remembers what it allows.
    pub stateful: bool,
    /// Whether it is asked.
    pub enabled: bool,
    /// What it has counted.
    #[serde(flatten)]
    pub hits: HitCounts,
}

impl Row for GatewayFirewallRow {
    const COLUMNS: &'static [Column] = &[
        col("ROUTER"),
        col("ID"),
        col("NAME"),
        col("CATEGORY"),
        col("DIRECTION"),
        col("SOURCE"),
        col("DESTINATION"),
        col("SERVICES"),
        col("ACTION"),
        wide("SEQUENCE"),
        wide("STATEFUL"),
        col("ENABLED"),
        col("HITS"),
        wide("BYTES"),
        wide("SESSIONS"),
        wide("LAST-HIT"),
    ];
    fn cells(&self) -> Vec<String> {
        [
            self.router.clone(),
            self.id.to_string(),
            self.name.clone(),
            self.category.clone(),
            self.direction.clone(),
            self.source.clone(),
            self.destination.clone(),
            self.services.clone(),
            self.action.clone(),
            self.sequence.to_string(),
            self.stateful.to_string(),
            self.enabled.to_string(),
        ]
        .into_iter()
        .chain(self.hits.cells())
        .collect()
    }
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RouteRow {
    /// Gateway.
    pub router: String,
    /// Destinations.
    pub prefix: String,
    /// Where the route came from.
    pub source: String,
    /// Administrative distance.
    pub distance: u8,
    /// `via ADDRESS dev INTERFACE`, `blackhole` or `unreachable`.
    pub next_hops: Vec<String>,
    /// The namespace whose segment, egress address or Service's address outside the destinations are.
    pub namespace: Option<String>,
}

impl Row for RouteRow {
    const COLUMNS: &'static [Column] =
        &[col("ROUTER"), col("PREFIX"), col("SOURCE"), col("DISTANCE"), col("NEXT-HOP")];
    fn cells(&self) -> Vec<String> {
        vec![
            self.router.clone(),
            self.prefix.clone(),
            self.source.clone(),
            self.distance.to_string(),
            self.next_hops.join(", "),
        ]
    }
    fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}

/// A port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PortRow {
    /// Name.
    pub name: String,
    /// Index in the engine.
    pub id: u32,
    /// Namespace, where it is a pod's.
    pub namespace: Option<String>,
    /// Segment.
    pub segment: String,
    /// MAC.
    pub mac: String,
    /// Addresses; of vNICs the link-local one too.
    pub addresses: Vec<String>,
    /// Largest IP packet, octets.
    pub mtu: u32,
    /// The ESXi host, where it is a vNIC.
    pub node: Option<String>,
    /// Firewall rules towards and from it.
    pub rules: (usize, usize),
}

impl Row for PortRow {
    const COLUMNS: &'static [Column] = &[
        col("NAME"),
        col("SEGMENT"),
        col("MAC"),
        col("ADDRESS"),
        col("MTU"),
        wide("NODE"),
        wide("RULES-IN/OUT"),
        wide("ID"),
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.segment.clone(),
            self.mac.clone(),
            or_dash(Some(&join(&self.addresses))),
            self.mtu.to_string(),
            or_dash(self.node.as_deref()),
            format!("{}/{}", self.rules.0, self.rules.1),
            self.id.to_string(),
        ]
    }
    fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }
}
