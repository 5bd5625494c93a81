//! Virtual servers: ClusterIPs of the distributed and VIPs of the server load balancer.

use super::Prefix;
use packet::Addr;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// A backend of a virtual server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Address.
    pub address: Addr,
    /// Port.
    pub port: u16,
    /// The workload, for people: `pod/NS/NAME`, `vm/NAME`, or the address.
    pub name: String,
    /// The hypervisor it runs on, where it is a workload of the lab.
    pub hypervisor: Option<u32>,
}

/// Where the source address towards the member comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PoolSnat {
    /// The client's address stays (NSX: DISABLED).
    Transparent,
    /// The load balancer's own address, and a free port (NSX: AUTOMAP).
    Automap(Addr),
    /// One of these addresses, and a free port (NSX: IPPOOL).
    Pool(Vec<Addr>),
}

/// What happens to a connection when no member is there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NoMembers {
    /// Discard in silence.
    Drop,
    /// TCP RST, otherwise ICMP port unreachable (as kube-proxy).
    #[default]
    Reject,
}

/// One virtual server: an address, a protocol and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualServer {
    /// Name, unique: `NS/SERVICE:PORT/PROTOCOL`.
    pub name: String,
    /// Address that clients use.
    pub address: Addr,
    /// IP protocol number.
    pub protocol: u8,
    /// Port that clients use.
    pub port: u16,
    /// Backends in the order of rotation.
    pub members: Vec<Member>,
    /// Source address towards members.
    pub snat: PoolSnat,
    /// Only members on the client's hypervisor count (`internalTrafficPolicy: Local`).
    pub local_only: bool,
    /// Keep a client at its member for this long after its last connection began
    /// (`sessionAffinity: ClientIP`).
    pub affinity: Option<Duration>,
    /// Clients outside these prefixes are dropped (`loadBalancerSourceRanges`); empty is everyone.
    pub source_ranges: Vec<Prefix>,
    /// What happens without members.
    pub no_members: NoMembers,
}

/// The virtual servers of one load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VirtualServers {
    servers: Vec<VirtualServer>,
    index: BTreeMap<(Addr, u8, u16), usize>,
    addresses: BTreeSet<Addr>,
    /// Addresses that belong to services whether or not a server has them: what is sent there and
    /// meets no server is dropped, never routed on.
    pub reserved: Vec<Prefix>,
}

impl VirtualServers {
    /// Makes the table; of servers with the same address, protocol and port the first counts.
    #[must_use]
    pub fn new(servers: Vec<VirtualServer>, reserved: Vec<Prefix>) -> VirtualServers {
        let mut table = VirtualServers { reserved, ..VirtualServers::default() };
        for (i, s) in servers.iter().enumerate() {
            table.index.entry((s.address, s.protocol, s.port)).or_insert(i);
            table.addresses.insert(s.address);
        }
        table.servers = servers;
        table
    }

    /// The server for a packet's destination.
    #[must_use]
    pub fn lookup(
        &self,
        address: Addr,
        protocol: u8,
        port: u16,
    ) -> Option<(usize, &VirtualServer)> {
        let at = *self.index.get(&(address, protocol, port))?;
        Some((at, self.servers.get(at)?))
    }

    /// Whether `address` is a service's: no packet to it may be routed on untranslated.
    #[must_use]
    pub fn owns(&self, address: Addr) -> bool {
        self.addresses.contains(&address) || self.reserved.iter().any(|p| p.contains(address))
    }

    /// Whether `address` has at least one server.
    #[must_use]
    pub fn has_server(&self, address: Addr) -> bool {
        self.addresses.contains(&address)
    }

    /// All servers, in order.
    #[must_use]
    pub fn servers(&self) -> &[VirtualServer] {
        &self.servers
    }
}
