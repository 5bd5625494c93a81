//! Virtual servers: one a port of a Service and an address that it has.

use std::net::IpAddr;

use definitions::model::{ObjectName, Protocol, Service, TargetPort, TrafficPolicy};
use definitions::own::{SnatMode, SupervisorClusterSpec};
use ipnet::IpNet;

use super::{Atlas, Network, find};
use crate::packet::protocol;

/// Where a virtual server sends.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) address: IpAddr,
    pub(crate) port: u16,
    pub(crate) host: String,
    /// It is going away.
    terminating: bool,
}

/// Whose address members see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// The client's own.
    Client,
    /// One of these.
    OneOf(IpNet),
}

/// One port of a Service at one of its addresses.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) service: ObjectName,
    pub(crate) address: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) port: u16,
    pub(crate) members: Vec<Member>,
    pub(crate) local_only: bool,
    pub(crate) sticky_seconds: Option<u32>,
    pub(crate) source: Source,
    /// Who may use it; nobody listed: everybody.
    pub(crate) clients: Vec<IpNet>,
}

pub(crate) fn protocol_number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => protocol::TCP,
        Protocol::Udp => protocol::UDP,
        Protocol::Sctp => 132,
    }
}

pub(super) fn add(
    network: &mut Network,
    spec: &SupervisorClusterSpec,
    atlas: &Atlas,
) -> Result<(), String> {
    let outer_source = match spec.load_balancer.snat {
        SnatMode::Automap => Source::OneOf(IpNet::from(network.transit.1)),
        SnatMode::Transparent => Source::Client,
        SnatMode::Pool => {
            let pool = spec.load_balancer.pool.ok_or("a balancer pool without addresses")?;
            network.tier1_addresses.push(IpNet::V4(pool.trunc()));
            Source::OneOf(IpNet::V4(pool.trunc()))
        }
    };
    let (mut inner, mut outer) = (Vec::new(), Vec::new());
    for (key, service) in &network.definitions.services {
        for (at, port) in service.ports.iter().enumerate() {
            let server = |address: IpAddr, local_only: bool| Server {
                service: key.clone(),
                address,
                protocol: protocol_number(port.protocol),
                port: port.port,
                members: serving(members(network, service, at), local_only),
                local_only,
                sticky_seconds: service.affinity_seconds,
                source: Source::Client,
                clients: Vec::new(),
            };
            if let Some(address) = find(&atlas.cluster_ips, key) {
                let local_only = service.internal_traffic_policy == TrafficPolicy::Local;
                inner.push(server(*address, local_only));
            }
            if let Some(address) = find(&atlas.vips, key) {
                let keeps =
                    service.transparent || service.external_traffic_policy == TrafficPolicy::Local;
                let source = if keeps { Source::Client } else { outer_source.clone() };
                let clients = service.source_ranges.clone();
                outer.push(Server { source, clients, ..server(*address, false) });
            }
        }
    }
    (network.cluster_servers, network.outer_servers) = (inner, outer);
    Ok(())
}

/// Those that are going away serve only where no other does: among all, or where only local ones count, on their host
/// (features.md 3.I).
fn serving(members: Vec<Member>, local_only: bool) -> Vec<Member> {
    let others = members.clone();
    let replaced = |m: &Member| {
        others.iter().any(|other| !other.terminating && (!local_only || other.host == m.host))
    };
    members.into_iter().filter(|m| !m.terminating || !replaced(m)).collect()
}

/// The pods behind a port of a Service that are ready, in the order of their addresses, also those that are going away.
fn members(network: &Network, service: &Service, at: usize) -> Vec<Member> {
    let (Some(selector), Some(port)) = (&service.selector, service.ports.get(at)) else {
        return Vec::new();
    };
    let mut members: Vec<Member> = network
        .workloads
        .iter()
        .filter(|pod| pod.namespace.as_ref() == Some(&service.meta.namespace))
        .filter(|pod| selector.iter().all(|(k, v)| pod.labels.get(k) == Some(v)))
        .filter(|pod| pod.ready)
        .filter_map(|pod| {
            let number = match &port.target {
                TargetPort::Number(number) => Some(*number),
                TargetPort::Name(name) => pod
                    .ports
                    .iter()
                    .find(|p| p.protocol == port.protocol && p.name.as_ref() == Some(name))
                    .map(|p| p.port),
            };
            // Services are IPv4.
            let address = *pod.addresses.iter().find(|a| a.is_ipv4())?;
            let (host, terminating) = (pod.host.clone(), pod.terminating);
            number.map(|port| Member { address, port, host, terminating })
        })
        .collect();
    members.sort_by_key(|m| (m.address, m.port));
    members
}
