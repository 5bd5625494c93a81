//! Ends between which a work may be done, the likeliest first.

use crate::Work;
use crate::flows::{Flows, Pool, Protocol, Source};
use crate::neighbors::{Station, Stations};
use engine::network::{
    AddressRange, Attachment, NatAction, Network, PoolSnat, PortId, SegmentId, ServicePorts, Side,
    Tier, VirtualServer,
};
use packet::{Addr, Mac};
use std::collections::{BTreeMap, BTreeSet};

/// Most segments, and networks outside, that ends are looked for in.
const MOST_SEGMENTS: usize = 64;
/// Most stations of one that are tried as destinations.
const MOST_DESTINATIONS: usize = 4;
/// Most virtual servers of a balancer that are tried.
const MOST_SERVERS: usize = 64;
/// Most protocols and ports that rules speak of.
const MOST_SERVICES: usize = 16;
/// The discard service (RFC 863): what nothing is said about is sent there.
const DISCARD: u16 = 9;
/// Destination ports that are used where any may be.
const MANY_PORTS: u16 = 20_000;

/// Flows that may do a work.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// The flows; not all of the sources may get through.
    pub flows: Flows,
    /// How many destination ports there are, if the last one is open too.
    pub more_ports: u16,
}

/// All proposals for a work.
pub fn proposals(net: &Network, stations: &Stations, work: Work) -> Vec<Proposal> {
    let ends = Ends::new(net, stations);
    match work {
        Work::L2 => ends.switched(work, true).chain(ends.switched(work, false)).collect(),
        Work::Route => ends.routed(work).chain(ends.transit(work)).collect(),
        Work::Dfw => ends.switched(work, true).chain(ends.routed(work)).collect(),
        Work::Snat => ends.outwards(work).collect(),
        Work::Dlb => ends.to_cluster_ips(work).collect(),
        Work::Slb => ends.to_virtual_addresses(work).collect(),
        Work::Chain => ends.outwards(work).chain(ends.to_virtual_addresses(work)).collect(),
    }
}

/// Who is where.
struct Ends<'a> {
    net: &'a Network,
    /// Workloads by segment.
    inside: BTreeMap<SegmentId, Vec<&'a Station>>,
    /// Others by segment.
    outside: BTreeMap<SegmentId, Vec<&'a Station>>,
    /// Protocols and ports: one that nothing is said about, and those that rules speak of.
    services: Vec<(Protocol, u16, u16)>,
}

impl<'a> Ends<'a> {
    fn new(net: &'a Network, stations: &'a Stations) -> Ends<'a> {
        let (mut inside, mut outside): (BTreeMap<_, Vec<_>>, BTreeMap<_, Vec<_>>) =
            Default::default();
        for station in stations.iter().filter(|s| !s.addresses.is_empty()) {
            let Some(port) = net.port(station.port) else { continue };
            let side = if port.vnic.is_some() { &mut inside } else { &mut outside };
            side.entry(port.segment).or_default().push(station);
        }
        Ends { net, inside, outside, services: services(net) }
    }

    /// A proposal for every protocol and port.
    fn with_services(&self, flows: &Flows) -> impl Iterator<Item = Proposal> + use<> {
        let flows = flows.clone();
        self.services.clone().into_iter().map(move |(protocol, port, more_ports)| {
            let flows = Flows { protocol, port, ..flows.clone() };
            Proposal { flows, more_ports }
        })
    }

    /// The MAC of a segment's gateway.
    fn gateway(&self, segment: SegmentId) -> Option<Mac> {
        let (router, interface) = *self.net.segment(segment)?.gateways.first()?;
        Some(self.net.router(router)?.interface(interface)?.mac)
    }

    /// The workloads of a segment, towards its gateway.
    fn through_gateway(&self, segment: SegmentId, workloads: &[&Station]) -> Vec<Source> {
        let Some(hop) = self.gateway(segment) else { return Vec::new() };
        workloads.iter().filter_map(|station| source(station, hop)).collect()
    }

    /// Between stations of one segment.
    fn switched(&self, work: Work, inside: bool) -> impl Iterator<Item = Proposal> {
        let side = if inside { &self.inside } else { &self.outside };
        side.values().take(MOST_SEGMENTS).flat_map(move |stations| {
            stations.iter().take(MOST_DESTINATIONS).flat_map(move |to| {
                let from = stations.iter().filter(|from| from.port != to.port);
                let sources = from.filter_map(|from| source(from, to.mac)).collect();
                let flows = Flows { switched: true, inside, ..flows(work, sources, address(to)) };
                self.with_services(&flows)
            })
        })
    }

    /// Between workloads of different segments.
    fn routed(&self, work: Work) -> impl Iterator<Item = Proposal> {
        self.inside.iter().take(MOST_SEGMENTS).flat_map(move |(at, from)| {
            let others = self.inside.iter().filter(move |(segment, _)| *segment != at);
            others.take(MOST_DESTINATIONS).flat_map(move |(_, to)| {
                to.iter().take(2).flat_map(move |to| {
                    let sources = self.through_gateway(*at, from);
                    self.with_services(&flows(work, sources, address(to)))
                })
            })
        })
    }

    /// Between networks outside, through the Tier-0.
    fn transit(&self, work: Work) -> impl Iterator<Item = Proposal> {
        let entries = self.entries();
        let all: Vec<&Station> = self.outside.values().flatten().copied().collect();
        entries.into_iter().flat_map(move |(segment, mac, from)| {
            let here = self.net.segment(segment).map_or(&[][..], |s| &s.ports);
            let elsewhere: Vec<&Station> =
                all.iter().copied().filter(|to| !here.contains(&to.port)).collect();
            elsewhere.into_iter().take(MOST_SERVERS).flat_map(move |to| {
                let sources = source(from, mac).into_iter().collect();
                let flows = Flows { inside: false, ..flows(work, sources, address(to)) };
                self.with_services(&flows)
            })
        })
    }

    /// From workloads to the outside, with another address.
    fn outwards(&self, work: Work) -> impl Iterator<Item = Proposal> {
        let snat = translations(self.net);
        let hosts = self.outside.values().flatten().take(MOST_DESTINATIONS * 2);
        let mut pools = vec![Pool::benchmark()];
        pools.extend(hosts.filter_map(|host| address(host).map(Pool::one)));
        self.inside.iter().take(MOST_SEGMENTS).flat_map(move |(segment, workloads)| {
            let (sources, snat) = (self.through_gateway(*segment, workloads), snat.clone());
            pools.clone().into_iter().flat_map(move |pool| {
                let flows = Flows {
                    destinations: pool,
                    translated_sources: Some(snat.clone()),
                    ..flows(work, sources.clone(), None)
                };
                self.with_services(&flows)
            })
        })
    }

    /// From workloads to ClusterIPs.
    fn to_cluster_ips(&self, work: Work) -> impl Iterator<Item = Proposal> {
        servers(self.net.distributed_balancer.servers()).flat_map(move |(server, protocol)| {
            self.inside.iter().take(MOST_SEGMENTS).map(move |(segment, workloads)| {
                let is_member =
                    |s: &Station| server.members.iter().any(|m| s.addresses.contains(&m.address));
                let clients: Vec<&Station> =
                    workloads.iter().copied().filter(|s| !is_member(s)).collect();
                let sources = self.through_gateway(*segment, &clients);
                to_server(flows(work, sources, Some(server.address)), server, protocol)
            })
        })
    }

    /// From outside to virtual addresses.
    fn to_virtual_addresses(&self, work: Work) -> impl Iterator<Item = Proposal> {
        let entries = self.entries();
        self.net.routers.iter().flat_map(|r| servers(r.balancer.servers())).flat_map(
            move |(server, protocol)| {
                entries.clone().into_iter().flat_map(move |(_, mac, from)| {
                    let own = source(from, mac);
                    let many = own.map(|own| Source { addresses: Pool::benchmark(), ..own });
                    many.into_iter().chain(own).map(move |source| {
                        let flows = flows(work, vec![source], Some(server.address));
                        to_server(Flows { inside: false, ..flows }, server, protocol)
                    })
                })
            },
        )
    }

    /// Where the outside comes in: the network of an uplink of a Tier-0, the uplink's MAC, a host there.
    fn entries(&self) -> Vec<(SegmentId, Mac, &'a Station)> {
        let mut entries = Vec::new();
        for router in self.net.routers.iter().filter(|r| r.tier == Tier::Tier0) {
            for interface in router.interfaces.iter().filter(|i| i.side == Side::Uplink) {
                let Attachment::Segment(segment) = interface.attachment else { continue };
                let hosts = self.outside.get(&segment).into_iter().flatten();
                entries.extend(hosts.take(2).map(|host| (segment, interface.mac, *host)));
            }
        }
        entries
    }
}

/// Flows to one address, or none yet, that nothing translates.
fn flows(work: Work, sources: Vec<Source>, to: Option<Addr>) -> Flows {
    Flows {
        work,
        protocol: Protocol::Udp,
        sources,
        destinations: Pool::one(to.unwrap_or(Addr::UNSPECIFIED_V4)),
        port: DISCARD,
        ports: 1,
        translated_sources: None,
        translated_destinations: None,
        switched: false,
        inside: true,
    }
}

fn to_server(flows: Flows, server: &VirtualServer, protocol: Protocol) -> Proposal {
    let snat = match &server.snat {
        PoolSnat::Transparent => None,
        PoolSnat::Automap(address) => Some(vec![AddressRange::host(*address)]),
        PoolSnat::Pool(addresses) => {
            Some(addresses.iter().copied().map(AddressRange::host).collect())
        }
    };
    let flows = Flows {
        protocol,
        port: server.port,
        translated_sources: snat,
        translated_destinations: Some(server.members.iter().map(|m| (m.address, m.port)).collect()),
        ..flows
    };
    Proposal { flows, more_ports: 1 }
}

/// Servers that have members, those with most first.
fn servers(all: &[VirtualServer]) -> impl Iterator<Item = (&VirtualServer, Protocol)> {
    let mut able: Vec<(&VirtualServer, Protocol)> = all
        .iter()
        .filter(|s| !s.members.is_empty())
        .filter_map(|s| Some((s, Protocol::of(s.protocol)?)))
        .collect();
    able.sort_by_key(|(server, protocol)| (std::cmp::Reverse(server.members.len()), *protocol));
    able.into_iter().take(MOST_SERVERS)
}

fn address(station: &Station) -> Option<Addr> {
    station.addresses.iter().copied().find(|a| !a.is_link_local())
}

fn source(station: &Station, hop: Mac) -> Option<Source> {
    let addresses = Pool::one(address(station)?);
    Some(Source { port: station.port, mac: station.mac, hop, addresses })
}

/// The addresses that workloads may have outside.
fn translations(net: &Network) -> Vec<AddressRange> {
    let rules = net.routers.iter().flat_map(|r| r.nat.rules());
    let mut ranges: Vec<AddressRange> = rules
        .filter_map(|rule| match rule.action {
            NatAction::Snat(range) => Some(range),
            NatAction::Reflexive { external, .. } => Some(external.into()),
            _ => None,
        })
        .collect();
    ranges.sort_by_key(|range| (range.first(), range.last()));
    ranges.dedup();
    ranges
}

fn services(net: &Network) -> Vec<(Protocol, u16, u16)> {
    let mut named: BTreeSet<(Protocol, u16)> = BTreeSet::new();
    for service in net.firewall.rules.iter().flat_map(|r| &r.services) {
        let (Some(protocol), ServicePorts::Destination(ranges)) =
            (Protocol::of(service.protocol), &service.ports)
        else {
            continue;
        };
        named.extend(ranges.iter().map(|(first, _)| (protocol, *first)));
        if named.len() >= MOST_SERVICES {
            break;
        }
    }
    let any = [(Protocol::Udp, DISCARD, MANY_PORTS), (Protocol::Tcp, DISCARD, MANY_PORTS)];
    any.into_iter().chain(named.into_iter().map(|(protocol, port)| (protocol, port, 1))).collect()
}

/// The ports that flows come in by or go to: what an unrelated change must not be about.
impl Flows {
    /// Ports that take part.
    #[must_use]
    pub fn ports_of(&self, stations: &Stations) -> BTreeSet<PortId> {
        let sources = self.sources.iter().map(|s| s.port);
        let ends = |s: &&Station| {
            let members = self.translated_destinations.iter().flatten();
            s.addresses.contains(&self.destinations.first)
                || members.into_iter().any(|(address, _)| s.addresses.contains(address))
        };
        sources.chain(stations.iter().filter(ends).map(|s| s.port)).collect()
    }
}
