//! Who is at which port, and what they answer when a gateway asks for them.

use engine::network::PortId;
use packet::{
    Addr, Frame, Headers, IcmpMessage, Mac, Payload, Transport, arp_reply, neighbor_advertisement,
};
use std::collections::BTreeMap;

/// What is plugged in at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Station {
    /// The port.
    pub port: PortId,
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses.
    pub addresses: Vec<Addr>,
}

/// All stations, by port.
#[derive(Clone, Debug, Default)]
pub struct Stations(BTreeMap<PortId, Station>);

impl FromIterator<Station> for Stations {
    fn from_iter<I: IntoIterator<Item = Station>>(stations: I) -> Stations {
        Stations(stations.into_iter().map(|s| (s.port, s)).collect())
    }
}

impl Stations {
    /// The station at a port.
    #[must_use]
    pub fn at(&self, port: PortId) -> Option<&Station> {
        self.0.get(&port)
    }

    /// All of them, by port.
    pub fn iter(&self) -> impl Iterator<Item = &Station> {
        self.0.values()
    }

    /// The same stations with only those of their addresses that are wanted.
    #[must_use]
    pub fn only(self, wanted: impl Fn(Addr) -> bool) -> Stations {
        let with = |s: Station| {
            let addresses = s.addresses.into_iter().filter(|a| wanted(*a)).collect();
            Station { addresses, ..s }
        };
        self.0.into_values().map(with).collect()
    }

    /// Whether a frame that leaves by `port` is for whoever is there. Copies of a flooded frame mostly
    /// are not.
    #[must_use]
    pub fn is_for(&self, port: PortId, headers: &Headers) -> bool {
        self.at(port).is_some_and(|s| s.mac == headers.dst_mac)
    }

    /// What the station at `port` answers to a frame that asks for its address.
    #[must_use]
    pub fn answer(&self, port: PortId, headers: &Headers) -> Option<Frame> {
        let station = self.at(port)?;
        let has = |address: Addr| station.addresses.contains(&address);
        match &headers.payload {
            Payload::Arp(arp) if arp.operation == 1 && has(arp.target) => {
                arp_reply(headers, station.mac)
            }
            Payload::Ip(ip) => match &ip.transport {
                Transport::Icmp(icmp) => match icmp.message {
                    IcmpMessage::NeighborSolicitation { target, .. } if has(target) => {
                        neighbor_advertisement(headers, station.mac, true)
                    }
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        }
    }
}
