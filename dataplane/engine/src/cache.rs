//! The flow cache: what the walk found out, ready to be repeated (promise 2).
//!
//! Private to one worker. An entry holds guards, a rewrite and an output port; the only state it
//! owns are observations not yet reported to its session (promise 4). The cache is generic over the
//! key's width: a short one for IPv4, a long one for IPv6.

use crate::hash::{SeededState, seeded};
use crate::network::{PortId, SegmentId};
use crate::session::{Direction, Segment, SessionId, Traffic};
use crate::tuple::Tuple;
use hashbrown::HashMap;
use packet::{
    Addr, Frame, Headers, Icmp, IcmpMessage, Ip, Mac, Rewrite, Time, Transport, tcp_flags,
};
use smallvec::SmallVec;
use std::collections::VecDeque;
use std::hash::Hash;

/// Cache key of an IPv4 flow at a port, packed so that hashing and comparing are two words each:
/// addresses, ports and ingress port; destination MAC and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key4(u128, u64);

/// Cache key of an IPv6 flow at a port: source; destination; the rest as in [`Key4`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key6(u128, u128, u64, u64);

/// Cache key of either family. Ports carry no VLAN tags: a tagged frame never gets here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FlowKey {
    /// IPv4.
    V4(Key4),
    /// IPv6.
    V6(Key6),
}

impl FlowKey {
    /// The port that the flow comes in by.
    #[must_use]
    pub fn port(&self) -> PortId {
        match self {
            FlowKey::V4(Key4(flow, _)) => PortId((*flow >> 96) as u32),
            FlowKey::V6(Key6(_, _, ports, _)) => PortId((*ports >> 32) as u32),
        }
    }

    /// The port and the station that the flow comes in by, and the rest of the key as a tuple. For ICMP it
    /// is none of a packet.
    #[must_use]
    pub fn split(self) -> (PortId, Mac, Tuple) {
        let (src, dst, ports, link) = match self {
            FlowKey::V4(Key4(flow, link)) => {
                let (src, dst) = (Addr::v4((flow >> 32) as u32), Addr::v4(flow as u32));
                (src, dst, (flow >> 64) as u64, link)
            }
            FlowKey::V6(Key6(src, dst, ports, link)) => (Addr(src), Addr(dst), ports, link),
        };
        let (src_port, dst_port) = ((ports >> 16) as u16, ports as u16);
        let tuple = Tuple { src, dst, protocol: link as u8, src_port, dst_port };
        (self.port(), Mac::from_u64(link >> 8), tuple)
    }

    /// A key of what [`FlowKey::split`] makes of it.
    #[must_use]
    pub fn join(port: PortId, mac: Mac, tuple: Tuple) -> FlowKey {
        let Tuple { src, dst, protocol, src_port, dst_port } = tuple;
        let ports = u64::from(port.0) << 32 | u64::from(src_port) << 16 | u64::from(dst_port);
        let link = mac.to_u64() << 8 | u64::from(protocol);
        if src.is_v4() {
            let addresses = u64::from(src.low32()) << 32 | u64::from(dst.low32());
            FlowKey::V4(Key4(u128::from(ports) << 64 | u128::from(addresses), link))
        } else {
            FlowKey::V6(Key6(src.0, dst.0, ports, link))
        }
    }

    /// The key of a packet, or `None` where packets of its kind are never cached: fragments, options,
    /// ICMP other than queries and their replies, anything tagged.
    #[must_use]
    pub fn of(port: PortId, headers: &Headers) -> Option<FlowKey> {
        let ip = headers.ip()?;
        if ip.options || ip.fragment.is_some() || headers.vlan.is_some() {
            return None;
        }
        let (src_port, dst_port) = match ip.transport {
            Transport::Icmp(Icmp { kind, message, .. }) => match message {
                // Request and reply of one identifier are different flows.
                IcmpMessage::Query { id, .. } | IcmpMessage::Reply { id, .. } => {
                    (id, u16::from(kind))
                }
                _ => return None,
            },
            Transport::LaterFragment => return None,
            _ => ip.ports(),
        };
        let ports = u64::from(port.0) << 32 | u64::from(src_port) << 16 | u64::from(dst_port);
        let link = headers.dst_mac.to_u64() << 8 | u64::from(ip.protocol);
        Some(if ip.is_v4() {
            let addresses = u64::from(ip.src.low32()) << 32 | u64::from(ip.dst.low32());
            FlowKey::V4(Key4(u128::from(ports) << 64 | u128::from(addresses), link))
        } else {
            FlowKey::V6(Key6(ip.src.0, ip.dst.0, ports, link))
        })
    }
}

/// What to do with the packets of a flow, and what has been seen of them.
#[derive(Clone, Debug)]
pub struct CacheEntry {
    /// Snapshot that the action was made under.
    pub epoch: u64,
    /// State of the learned tables that the action was made under.
    pub generation: u64,
    /// Guard: the only source MAC.
    pub src_mac: Mac,
    /// Guard: largest IP packet that may leave, octets.
    pub mtu: u32,
    /// Set for a TCP connection. Guard: its session must see control segments itself. Not yet
    /// reported: how far the sender is.
    pub tcp: Option<Segment>,
    /// Header changes.
    pub rewrite: Rewrite,
    /// Where packets leave.
    pub out: PortId,
    /// Number of the entry, given by the cache.
    pub serial: u64,
    /// Whose packets these are.
    pub session: Option<(SessionId, Direction)>,
    /// The segment whose learned station the sender is.
    pub learned: Option<SegmentId>,
    /// Ethernet rules that count these packets.
    pub ethernet: SmallVec<[u32; 2]>,
    /// Not yet reported: packets and octets.
    pub unreported: Traffic,
    /// Not yet reported: frames.
    pub frames: u64,
    /// Not yet reported: when the last packet was seen.
    pub last_seen: Time,
}

/// Flags that a segment of an established connection may have without telling its session.
const PLAIN: u8 =
    tcp_flags::ACK | tcp_flags::PSH | tcp_flags::URG | tcp_flags::ECE | tcp_flags::CWR;

impl CacheEntry {
    /// Whether the stored action holds for this packet: everything that a stage reads and that is
    /// not in the key.
    #[must_use]
    pub fn admits(&self, frame: &Frame, headers: &Headers, ip: &Ip) -> bool {
        headers.src_mac == self.src_mac
            && ip.ttl > self.rewrite.ttl_decrement()
            && wire_len(frame, headers, ip) <= self.mtu
            && (self.tcp.is_none()
                || ip.tcp().is_some_and(|t| t.flags & !PLAIN == 0 && t.flags & tcp_flags::ACK != 0))
    }
}

impl CacheEntry {
    /// A copy that has the observations, which this entry no longer has.
    pub fn take_observations(&mut self) -> CacheEntry {
        let copy = self.clone();
        self.unreported = Traffic::default();
        self.frames = 0;
        copy
    }
}

/// Octets of the largest IP packet that the frame becomes on a wire.
#[must_use]
pub fn wire_len(frame: &Frame, headers: &Headers, ip: &Ip) -> u32 {
    match &frame.segmentation {
        None => ip.total_len,
        Some(s) => {
            let transport = match ip.transport {
                Transport::Tcp(t) => u32::from(t.header_len),
                _ => 8,
            };
            let network = u32::from(ip.l4).saturating_sub(u32::from(headers.l3));
            ip.total_len.min(network + transport + u32::from(s.size))
        }
    }
}

/// Packets on a wire that the frame stands for.
#[must_use]
pub fn wire_packets(frame: &Frame, headers: &Headers) -> u64 {
    let (Some(s), Some(ip)) = (&frame.segmentation, headers.ip()) else {
        return 1;
    };
    let transport = match ip.transport {
        Transport::Tcp(t) => u32::from(t.header_len),
        _ => 8,
    };
    let network = u32::from(ip.l4).saturating_sub(u32::from(headers.l3));
    let data = ip.total_len.saturating_sub(network + transport);
    u64::from(data.div_ceil(u32::from(s.size).max(1))).max(1)
}

/// A bounded table of cached actions, oldest out.
#[derive(Debug)]
pub struct FlowCache<K> {
    entries: HashMap<K, CacheEntry, SeededState>,
    /// Keys with the number of their entry, oldest first. A key that was forgotten, or stored again,
    /// leaves its place behind until it is met.
    order: VecDeque<(K, u64)>,
    serial: u64,
    limit: usize,
    /// Keys of entries that have something to report; some may have gone or reported since.
    touched: Vec<K>,
    /// There were more than fit.
    touched_more: bool,
}

/// Most entries that are known one by one to have something to report; beyond, all are looked at.
const MAX_TOUCHED: usize = 4_096;

impl<K: Copy + Eq + Hash + Ord> FlowCache<K> {
    /// An empty cache of at most `limit` entries.
    #[must_use]
    pub fn new(seed: u64, limit: usize) -> FlowCache<K> {
        FlowCache {
            entries: HashMap::with_hasher(seeded(seed, 2)),
            order: VecDeque::new(),
            serial: 0,
            limit: limit.max(1),
            touched: Vec::with_capacity(MAX_TOUCHED),
            touched_more: false,
        }
    }

    /// The entry under `key`.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut CacheEntry> {
        self.entries.get_mut(key)
    }

    /// Stores an action. Returns what it displaced; its observations must be reported.
    pub fn insert(&mut self, key: K, entry: CacheEntry) -> Vec<(K, CacheEntry)> {
        self.serial += 1;
        let serial = self.serial;
        let mut displaced: Vec<(K, CacheEntry)> = Vec::new();
        displaced
            .extend(self.entries.insert(key, CacheEntry { serial, ..entry }).map(|e| (key, e)));
        self.order.push_back((key, serial));
        while self.entries.len() > self.limit {
            let Some((oldest, serial)) = self.order.pop_front() else { break };
            if self.entries.get(&oldest).is_some_and(|e| e.serial == serial) {
                displaced.extend(self.entries.remove(&oldest).map(|e| (oldest, e)));
            }
        }
        if self.order.len() > self.entries.len().saturating_mul(2).saturating_add(64) {
            let entries = &self.entries;
            self.order.retain(|(k, serial)| entries.get(k).is_some_and(|e| e.serial == *serial));
        }
        displaced
    }

    /// Forgets the action under `key`; its observations must be reported.
    pub fn remove(&mut self, key: &K) -> Option<CacheEntry> {
        self.entries.remove(key)
    }

    /// Number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Notes that an entry has something to report. Allocates nothing.
    pub fn touch(&mut self, key: K) {
        if self.touched.len() < MAX_TOUCHED {
            self.touched.push(key);
        } else {
            self.touched_more = true;
        }
    }

    /// Everything that has not been reported, in the order of the keys. No more is looked at than
    /// has been touched, unless that was much.
    pub fn take_observations(&mut self) -> Vec<(K, CacheEntry)> {
        let mut seen: Vec<(K, CacheEntry)> = Vec::new();
        if std::mem::take(&mut self.touched_more) {
            let entries = self.entries.iter_mut().filter(|(_, e)| e.frames > 0);
            seen.extend(entries.map(|(k, e)| (*k, e.take_observations())));
        } else {
            for key in &self.touched {
                if let Some(entry) = self.entries.get_mut(key).filter(|e| e.frames > 0) {
                    seen.push((*key, entry.take_observations()));
                }
            }
        }
        self.touched.clear();
        seen.sort_unstable_by_key(|(k, _)| *k);
        seen
    }

    /// Forgets everything; what was seen must have been reported.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.order.clear();
    }
}
