//! Which flows: their ends, and how many can be told apart.

use crate::{BenchError, Work};
use engine::Tuple;
use engine::network::{AddressRange, PortId};
use packet::{Addr, Mac, protocol};
use std::fmt;

/// Source ports begin here: those below are privileged.
const FIRST_PORT: u64 = 1_024;
/// Source ports that an end uses.
const PORTS: u64 = 60_000;
/// Of a pool of addresses no more are used: enough for every way of ECMP, few enough that the
/// pool is no cache benchmark of its own.
const MOST_ADDRESSES: u64 = 251;
/// Spreads source ports over flows with different addresses; coprime to [`PORTS`].
const STRIDE: u64 = 7_919;

/// The transport protocol of flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// UDP.
    Udp,
    /// TCP: opened by SYN and SYN-ACK, then data segments.
    Tcp,
}

impl Protocol {
    /// Its IP protocol number.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Protocol::Udp => protocol::UDP,
            Protocol::Tcp => protocol::TCP,
        }
    }

    /// The protocol with an IP protocol number.
    #[must_use]
    pub const fn of(number: u8) -> Option<Protocol> {
        match number {
            protocol::UDP => Some(Protocol::Udp),
            protocol::TCP => Some(Protocol::Tcp),
            _ => None,
        }
    }
}

/// Consecutive addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The first.
    pub first: Addr,
    /// How many, at least 1.
    pub count: u64,
}

impl Pool {
    /// One address.
    #[must_use]
    pub const fn one(address: Addr) -> Pool {
        Pool { first: address, count: 1 }
    }

    /// The addresses of 198.18.0.0/15, which are for benchmarks (RFC 2544, C.2.2), without the
    /// first 256: a lab may have given those to somebody.
    #[must_use]
    pub const fn benchmark() -> Pool {
        Pool { first: Addr::v4(0xc612_0100), count: 130_816 }
    }

    fn used(&self) -> u64 {
        self.count.clamp(1, MOST_ADDRESSES)
    }

    fn at(&self, i: u64) -> Addr {
        Addr(self.first.0.wrapping_add(u128::from(i)))
    }
}

/// Where first packets come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Source {
    /// The port.
    pub port: PortId,
    /// The sender's MAC.
    pub mac: Mac,
    /// The MAC of the first hop: a gateway's, or the destination's own.
    pub hop: Mac,
    /// The sender's addresses.
    pub addresses: Pool,
}

/// Octets of the frames that are sent, with the FCS that only a wire has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Size {
    /// The shortest frame of Ethernet; a little longer where headers need it (TCP over IPv6).
    #[default]
    B64,
    /// 512 octets.
    B512,
    /// 1518 octets, the longest without a tag.
    B1518,
    /// Seven of 64, four of 594 and one of 1518 octets: the simple IMIX (RFC 6985 names such mixes).
    Imix,
}

impl Size {
    /// All sizes.
    pub const ALL: [Size; 4] = [Size::B64, Size::B512, Size::B1518, Size::Imix];

    /// Its name, as users write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Size::B64 => "64",
            Size::B512 => "512",
            Size::B1518 => "1518",
            Size::Imix => "imix",
        }
    }

    /// Octets of the `i`th frame, without FCS.
    #[must_use]
    pub const fn octets(self, i: u32) -> usize {
        match self {
            Size::B64 => 60,
            Size::B512 => 508,
            Size::B1518 => 1_514,
            Size::Imix => match i % 12 {
                0..=6 => 60,
                7..=10 => 590,
                _ => 1_514,
            },
        }
    }
}

/// One flow as its initiator sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where its first packet comes in: an index into [`Flows::sources`].
    pub source: usize,
    /// Addresses, protocol and ports of its first packet.
    pub tuple: Tuple,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.tuple.fmt(f)
    }
}

/// Flows that do a work, and what has to become of them by the definitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flows {
    /// What they do.
    pub work: Work,
    /// Their protocol.
    pub protocol: Protocol,
    /// Where they come in; not empty.
    pub sources: Vec<Source>,
    /// Where they go.
    pub destinations: Pool,
    /// The first destination port.
    pub port: u16,
    /// How many from there on, at least 1.
    pub ports: u16,
    /// The source addresses that the responder may see; `None`: the initiator's, with its port.
    pub translated_sources: Option<Vec<AddressRange>>,
    /// The addresses and ports at which the responder may be; `None`: what was sent to.
    pub translated_destinations: Option<Vec<(Addr, u16)>>,
    /// Whether initiators and responders are of one segment: then no TTL is lowered.
    pub switched: bool,
    /// Whether initiators are workloads.
    pub inside: bool,
}

impl Flows {
    /// How many can be told apart.
    #[must_use]
    pub fn most(&self) -> u64 {
        let addresses = |s: &Source| s.addresses.used();
        let sources = self.sources.len() as u64 * self.sources.first().map_or(1, addresses);
        sources * self.destinations.used() * PORTS * u64::from(self.ports.max(1))
    }

    /// Whether there can be `count` flows.
    ///
    /// # Errors
    /// [`BenchError::TooManyFlows`].
    pub fn admit(&self, count: u64) -> Result<(), BenchError> {
        let most = self.most().min(u64::from(u32::MAX) / 2);
        if count > most {
            return Err(BenchError::TooManyFlows { wanted: count, most });
        }
        Ok(())
    }

    /// The flow with a number; all below [`Flows::most`] differ.
    #[must_use]
    pub fn flow(&self, number: u32) -> Flow {
        let i = u64::from(number);
        let sources = self.sources.len().max(1) as u64;
        let (source, i) = (i % sources, i / sources);
        let from = self.sources.first().map_or(Pool::one(Addr::UNSPECIFIED_V4), |s| s.addresses);
        let (at_source, i) = (i % from.used(), i / from.used());
        let (at_destination, i) = (i % self.destinations.used(), i / self.destinations.used());
        let pair = (source * from.used() + at_source) * self.destinations.used() + at_destination;
        let src_port = FIRST_PORT + (i + pair * STRIDE) % PORTS;
        let dst_port = u64::from(self.port) + i / PORTS;
        let source = usize::try_from(source).unwrap_or(0);
        let addresses = self.sources.get(source).map_or(from, |s| s.addresses);
        let tuple = Tuple {
            src: addresses.at(at_source),
            dst: self.destinations.at(at_destination),
            protocol: self.protocol.number(),
            src_port: u16::try_from(src_port).unwrap_or(u16::MAX),
            dst_port: u16::try_from(dst_port).unwrap_or(u16::MAX),
        };
        Flow { source, tuple }
    }

    /// How often the TTL is lowered on the way to a responder that is a workload, or is not.
    #[must_use]
    pub fn hops(&self, responder_inside: bool) -> u8 {
        match (self.switched, self.inside == responder_inside) {
            (true, _) => 0,
            // The Tier-1 between segments; the Tier-0 between networks outside.
            (false, true) => 1,
            (false, false) => 2,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn flows(sources: u32, clients: u64, servers: u64, ports: u16) -> Flows {
        let source = |i: u32| Source {
            port: PortId(i),
            mac: Mac::ZERO,
            hop: Mac::ZERO,
            addresses: Pool { first: Addr::v4(0x0a00_0000 + (i << 16)), count: clients },
        };
        Flows {
            work: Work::Chain,
            protocol: Protocol::Udp,
            sources: (0..sources).map(source).collect(),
            destinations: Pool { first: Addr::v4(0xc612_0000), count: servers },
            port: 9,
            ports,
            translated_sources: None,
            translated_destinations: None,
            switched: false,
            inside: true,
        }
    }

    #[test]
    fn all_flows_differ_as_far_as_there_are_any() {
        for (sources, clients, servers, ports, most) in [
            (1, 1, 1, 3, 180_000),
            (3, 1, 1, 1, 180_000),
            (1, 3, 1, 1, 180_000),
            (2, 1, 2, 1, 240_000),
        ] {
            let flows = flows(sources, clients, servers, ports);
            assert_eq!(flows.most(), most);
            let most = u32::try_from(flows.most()).unwrap_or(0);
            let all: BTreeSet<Tuple> = (0..most).map(|i| flows.flow(i).tuple).collect();
            assert_eq!(all.len() as u64, flows.most());
            assert!(flows.admit(flows.most()).is_ok());
            let error = BenchError::TooManyFlows { wanted: flows.most() + 1, most: flows.most() };
            assert_eq!(flows.admit(flows.most() + 1), Err(error));
        }
    }

    #[test]
    fn four_million_flows_to_a_pool_of_addresses_are_all_different() {
        let flows = flows(50, 1, 130_000, 1);
        assert!(flows.admit(4_000_000).is_ok());
        let mut all: Vec<Tuple> = (0..1_000_000).map(|i| flows.flow(i * 4).tuple).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 1_000_000);
        assert!(all.iter().all(|t| t.src_port >= 1_024 && t.dst_port == 9));
    }

    #[test]
    fn imix_is_seven_four_and_one_of_twelve() {
        let sizes: Vec<usize> = (0..12).map(|i| Size::Imix.octets(i)).collect();
        let count = |octets| sizes.iter().filter(|s| **s == octets).count();
        assert_eq!((count(60), count(590), count(1_514)), (7, 4, 1));
    }

    #[test]
    fn a_hop_is_a_gateway() {
        let mut f = flows(1, 1, 1, 1);
        assert_eq!((f.hops(true), f.hops(false)), (1, 2));
        f.inside = false;
        assert_eq!((f.hops(true), f.hops(false)), (2, 1));
        f.switched = true;
        assert_eq!((f.hops(true), f.hops(false)), (0, 0));
    }
}
