//! What the benchmarks share: the lab that is measured, and a supervisor as large as they come.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say why and stop")]

use bench::{Extras, Flows, Setup, Size, Snapshots, Station, Stations, Work, enlarge, find};
use definitions::Input;
use engine::network::Network;
use realization::{Allocations, Realized};
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;

/// A lab that is realized.
#[derive(Debug)]
pub struct Lab {
    net: Network,
    stations: Stations,
}

impl Lab {
    /// The lab of `tierlab bench`.
    ///
    /// # Panics
    /// If its definitions are wrong.
    #[must_use]
    pub fn new() -> Lab {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies/bench/lab.yaml");
        let loaded = definitions::load(&[Input::Path(path)]).expect("the lab loads");
        let realized = realization::realize(&loaded.definitions, &Allocations::default());
        Lab::of(&realized.expect("the lab is realized"))
    }

    /// A lab of one's own.
    #[must_use]
    pub fn of(realized: &Realized) -> Lab {
        let station = |place: &realization::names::Place| Station {
            port: place.port,
            mac: place.mac,
            addresses: place.addresses.clone(),
        };
        let stations = realized.names.ports().map(|(_, place)| station(place)).collect();
        let net = Network { epoch: 1, seed: 7, ..realized.network.clone() };
        Lab { net, stations }
    }

    /// What it takes to do a work in it.
    ///
    /// # Panics
    /// If the lab cannot.
    #[must_use]
    pub fn rig(&self, work: Work, extras: Extras) -> Rig<'_> {
        let flows = find(&self.net, &self.stations, work).expect("the lab can do every work");
        let net = Arc::new(enlarge(self.net.clone(), extras));
        Rig { lab: self, flows, snapshots: Snapshots::new(net) }
    }
}

impl Default for Lab {
    fn default() -> Lab {
        Lab::new()
    }
}

/// Flows that do a work, and the network that they cross.
#[derive(Debug)]
pub struct Rig<'a> {
    lab: &'a Lab,
    /// The flows.
    pub flows: Flows,
    /// The network.
    pub snapshots: Snapshots,
}

impl Rig<'_> {
    /// What generators are made of.
    #[must_use]
    pub fn setup(&self, size: Size) -> Setup<'_> {
        Setup { flows: &self.flows, stations: &self.lab.stations, size, snapshots: &self.snapshots }
    }
}

/// Namespaces of [`big_supervisor`].
pub const NAMESPACES: usize = 256;
/// Its pods.
pub const PODS: usize = 10_000;
/// Its services, every other one with a virtual address.
pub const SERVICES: usize = 1_000;
/// Its NetworkPolicies.
pub const POLICIES: usize = 2_000;

/// The definitions of a large supervisor: pods get their addresses from a /18, virtual addresses and egress
/// addresses are of a /22 each.
#[must_use]
pub fn big_supervisor() -> String {
    let mut text = String::from(
        "kind: SupervisorCluster\nmetadata: {name: big}\nspec:\n  hosts: 64\n  podCIDR: 10.0.0.0/18\n\
         \x20 serviceCIDR: 10.96.0.0/20\n  ingressCIDR: 172.16.0.0/22\n  egressCIDR: 172.16.4.0/22\n---\n\
         kind: ExternalNetwork\nmetadata: {name: outside}\n---\n\
         kind: Tier0Gateway\nmetadata: {name: tier0}\n\
         spec: {uplinks: [{name: uplink, network: outside, addresses: [192.168.100.2/24]}]}\n---\n\
         kind: ExternalHost\nmetadata: {name: server}\n\
         spec: {interfaces: [{name: eth0, network: outside, addresses: [192.168.100.1/24]}]}\n",
    );
    let mut object = |body: std::fmt::Arguments<'_>| {
        text.push_str("---\n");
        // Writing to a string never fails.
        let _ = text.write_fmt(body);
    };
    for n in 0..NAMESPACES {
        object(format_args!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: ns-{n}, labels: {{tier: t{}}}}}\n",
            n % 4
        ));
    }
    for p in 0..PODS {
        object(format_args!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: pod-{p}, namespace: ns-{}, labels: {{app: a{}}}}}\n\
             spec: {{containers: [{{name: c, image: i, ports: [{{containerPort: 8080}}]}}]}}\n",
            p % NAMESPACES,
            p / NAMESPACES % 8
        ));
    }
    for s in 0..SERVICES {
        object(format_args!(
            "apiVersion: v1\nkind: Service\nmetadata: {{name: svc-{s}, namespace: ns-{}}}\n\
             spec: {{type: {}, selector: {{app: a{}}}, ports: [{{port: 80, targetPort: 8080}}]}}\n",
            s % NAMESPACES,
            if s.is_multiple_of(2) { "LoadBalancer" } else { "ClusterIP" },
            s / NAMESPACES % 8
        ));
    }
    for p in 0..POLICIES {
        object(format_args!("{}", policy(p, 8080)));
    }
    text
}

/// One policy of [`big_supervisor`], which opens a port.
#[must_use]
pub fn policy(number: usize, port: u16) -> String {
    format!(
        "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: np-{number}, namespace: ns-{}}}\n\
         spec: {{podSelector: {{matchLabels: {{app: a{}}}}}, policyTypes: [Ingress], \
         ingress: [{{from: [{{namespaceSelector: {{matchLabels: {{tier: t{}}}}}}}], ports: [{{port: {port}}}]}}]}}\n",
        number % NAMESPACES,
        number / NAMESPACES % 8,
        number % 4
    )
}
