//! Where sessions stand: 64 octets for each, a cache line, and a block of words for its tuples and records.
//!
//! A session's records name few different tuples: those of a firewall name one three times. Each stands
//! once in the block, 12 octets for IPv4, and the records say which. What does not fit a session's fixed
//! part (counters beyond 32 bits, a cached direction with a tuple of its own) stands aside, so that
//! nothing is rounded and nothing refused.

use super::pool::Pool;
use super::tcp::PackedTcp;
use super::{
    Cached, Direction, Observation, Progress, RecordKind, RuleKey, Session, SessionId, StageRecord,
    TcpState, TimerClass, TimerSettings, Traffic, due,
};
use crate::cache::FlowKey;
use crate::network::{PortId, RouterId};
use crate::tuple::{Node, Tuple};
use crate::workers::WorkerSet;
use packet::{Addr, Mac, Time, protocol};
use smallvec::SmallVec;
use std::collections::BTreeMap;

/// Words of a record.
const RECORD: usize = 3;
/// Words of an IPv4 tuple of the session's own protocol, and of any other.
const NARROW: usize = 3;
const WIDE: usize = 10;
/// In a record: what its stage decided.
const FIREWALL: u32 = 0;
const SOURCE_PORT: u32 = 1;
const UNTRANSLATED: u32 = 2;
const NAT: u32 = 3;
const BALANCER: u32 = 4;
/// In a record: no tuple.
const NONE: u32 = 0x3f;
/// No slot.
const END: u32 = u32::MAX;

/// Room for a session's block on the stack: most have two records and at most four tuples.
type Block = SmallVec<[u32; 32]>;

/// The bits of [`Head::flags`].
mod flag {
    /// The lower 10: of TCP what has been seen, of datagrams the two below.
    pub(super) const TCP: u32 = 0x3ff;
    pub(super) const SEVERAL: u32 = 1;
    pub(super) const ANSWERED: u32 = 2;
    /// Tuples have [`super::WIDE`] words.
    pub(super) const WIDE: u32 = 1 << 10;
    /// There is a tenant.
    pub(super) const TENANT: u32 = 1 << 11;
    /// Something stands aside.
    pub(super) const ASIDE: u32 = 1 << 12;
    /// Where the protocol stands, 8 bits.
    pub(super) const PROTOCOL: u32 = 13;
    /// Where the number of records stands, 4 bits.
    pub(super) const RECORDS: u32 = 21;
    /// Where the number of tuples stands, 6 bits.
    pub(super) const TUPLES: u32 = 25;
}

/// The fixed part.
#[derive(Clone, Debug)]
struct Head {
    /// 0 where nobody stands.
    serial: u64,
    created: Time,
    last_seen: Time,
    /// Unless they stand aside.
    packets: [u32; 2],
    bytes: [u32; 2],
    tenant: u32,
    /// As in [`super::due`].
    armed: u32,
    flags: u32,
    /// The block; where nobody stands the slot that is taken next.
    block: u32,
    /// By direction: a number of [`Places`], workers, which tuple. 0 is not cached.
    cached: [u32; 2],
}

/// In [`Head::cached`]: the tuple is reversed.
const REVERSED: u32 = 1 << 30;
/// In [`Head::cached`]: it stands aside.
const CACHED_ASIDE: u32 = 1 << 31;

impl Head {
    fn protocol(&self) -> u8 {
        (self.flags >> flag::PROTOCOL) as u8
    }

    fn records(&self) -> usize {
        (self.flags >> flag::RECORDS & 0xf) as usize
    }

    fn tuples(&self) -> usize {
        (self.flags >> flag::TUPLES & 0x3f) as usize
    }

    fn tuple_words(&self) -> usize {
        if self.flags & flag::WIDE == 0 { NARROW } else { WIDE }
    }

    /// Words of TCP at the beginning of the block.
    fn tcp_words(&self) -> usize {
        if self.protocol() == protocol::TCP { PackedTcp::WORDS } else { 0 }
    }

    fn block_words(&self) -> usize {
        self.tcp_words() + self.tuples() * self.tuple_words() + self.records() * RECORD
    }
}

/// What few sessions have.
#[derive(Clone, Debug, Default)]
struct Aside {
    traffic: Option<[Traffic; 2]>,
    cached: [Option<Cached>; 2],
}

impl Aside {
    fn is_empty(&self) -> bool {
        self.traffic.is_none() && self.cached == [None; 2]
    }
}

/// Where cached flows come in: port and destination station. There are few, and each has a number.
#[derive(Debug, Default)]
struct Places {
    numbers: BTreeMap<(PortId, Mac), u16>,
    places: Vec<(PortId, Mac)>,
}

impl Places {
    /// The number of a place, from 1; `None` once there are too many.
    fn number(&mut self, place: (PortId, Mac)) -> Option<u16> {
        if let Some(number) = self.numbers.get(&place) {
            return Some(*number);
        }
        let number = u16::try_from(self.places.len() + 1).ok()?;
        self.places.push(place);
        self.numbers.insert(place, number);
        Some(number)
    }

    fn get(&self, number: u16) -> Option<(PortId, Mac)> {
        self.places.get(usize::from(number).checked_sub(1)?).copied()
    }
}

/// A stored session's state, as far as it is in its fixed part and needs no decoding of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its identity.
    pub id: SessionId,
    /// Protocol state.
    pub progress: Progress,
    /// When a packet last passed all of its stages.
    pub last_seen: Time,
}

/// What a session begins with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Beginning {
    pub(super) serial: u64,
    pub(super) created: Time,
    pub(super) tenant: Option<u32>,
    pub(super) initiating: Tuple,
    pub(super) terminating: Tuple,
    pub(super) progress: Progress,
    pub(super) traffic: [Traffic; 2],
}

/// All sessions by their slots.
#[derive(Debug)]
pub(super) struct Store {
    heads: Vec<Head>,
    free: u32,
    len: usize,
    pool: Pool,
    aside: BTreeMap<u32, Aside>,
    places: Places,
}

impl Default for Store {
    fn default() -> Store {
        Store {
            heads: Vec::new(),
            free: END,
            len: 0,
            pool: Pool::default(),
            aside: BTreeMap::new(),
            places: Places::default(),
        }
    }
}

/// A session's variable part, as it is written.
struct Draft {
    flags: u32,
    block: Block,
}

/// Writes tuples and records. `None` beyond what the numbers have room for, which [`super::MAX_RECORDS`] excludes.
fn draft(initiating: Tuple, terminating: Tuple, records: &[StageRecord]) -> Option<Draft> {
    let mut tuples: SmallVec<[Tuple; 8]> = SmallVec::new();
    let mut number = |tuple: Tuple| {
        let at = tuples.iter().position(|t| *t == tuple).unwrap_or_else(|| {
            tuples.push(tuple);
            tuples.len() - 1
        });
        u32::try_from(at).unwrap_or(NONE)
    };
    number(initiating);
    let terminating = number(terminating);
    let mut words: SmallVec<[u32; 12]> = SmallVec::new();
    for record in records {
        let (kind, at) = super::index::numbers(record.node);
        let (before, after) = (number(record.before), number(record.after));
        let (what, rule, third, icmp, set) = match record.kind {
            RecordKind::Firewall { rule, ingress, judged, icmp } => {
                let icmp = icmp.map_or(NONE, |(kind, code)| {
                    let (src_port, dst_port) = (u16::from(kind), u16::from(code));
                    number(Tuple { src_port, dst_port, ..initiating })
                });
                (FIREWALL, rule, number(judged), icmp, ingress)
            }
            RecordKind::SourcePort => (SOURCE_PORT, None, NONE, NONE, false),
            RecordKind::Untranslated => (UNTRANSLATED, None, NONE, NONE, false),
            RecordKind::Nat { rule } => (NAT, Some(rule), NONE, NONE, false),
            RecordKind::Balancer { server, port, hairpin } => {
                let server = Tuple { dst: server, dst_port: port, ..record.before };
                (BALANCER, None, number(server), NONE, hairpin)
            }
        };
        let bits = before | after << 6 | third << 12 | icmp << 18;
        let bits = bits | what << 24 | u32::from(set) << 27 | (record.timers as u32) << 28;
        words.push(u32::from(kind) << 30 | at & 0x3fff_ffff);
        words.push(rule.unwrap_or(0));
        words.push(bits | u32::from(rule.is_some()) << 30);
    }
    let narrow = |t: &Tuple| t.src.is_v4() && t.dst.is_v4() && t.protocol == initiating.protocol;
    let is_wide = !tuples.iter().all(narrow);
    if tuples.len() >= NONE as usize || records.len() > 0xf {
        return None;
    }
    let mut flags = if is_wide { flag::WIDE } else { 0 };
    flags |= if terminating == 0 { 0 } else { TERMINATES };
    flags |= u32::from(initiating.protocol) << flag::PROTOCOL;
    flags |= u32::try_from(records.len()).ok()? << flag::RECORDS;
    flags |= u32::try_from(tuples.len()).ok()? << flag::TUPLES;
    let mut block = Block::new();
    if initiating.protocol == protocol::TCP {
        block.extend([0; PackedTcp::WORDS]);
    }
    for tuple in &tuples {
        if is_wide {
            for addr in [tuple.src, tuple.dst] {
                block.extend([96, 64, 32, 0].map(|shift| (addr.0 >> shift) as u32));
            }
        } else {
            block.extend([tuple.src.low32(), tuple.dst.low32()]);
        }
        block.push(u32::from(tuple.src_port) << 16 | u32::from(tuple.dst_port));
        if is_wide {
            block.push(u32::from(tuple.protocol));
        }
    }
    block.extend(words);
    Some(Draft { flags, block })
}

/// A block, to read.
#[derive(Clone, Copy)]
struct Words<'a> {
    head: &'a Head,
    tuples: &'a [u32],
    records: &'a [u32],
}

impl<'a> Words<'a> {
    fn tuple(&self, number: u32) -> Option<Tuple> {
        let size = self.head.tuple_words();
        let at = number as usize * size;
        match *self.tuples.get(at..at + size)? {
            [src, dst, ports] => Some(Tuple {
                src: Addr::v4(src),
                dst: Addr::v4(dst),
                protocol: self.head.protocol(),
                src_port: (ports >> 16) as u16,
                dst_port: ports as u16,
            }),
            [a, b, c, d, e, f, g, h, ports, protocol] => {
                let addr = |words: [u32; 4]| {
                    Addr(words.iter().fold(0, |all, word| all << 32 | u128::from(*word)))
                };
                Some(Tuple {
                    src: addr([a, b, c, d]),
                    dst: addr([e, f, g, h]),
                    protocol: protocol as u8,
                    src_port: (ports >> 16) as u16,
                    dst_port: ports as u16,
                })
            }
            _ => None,
        }
    }

    /// The number of a tuple.
    fn number(&self, tuple: Tuple) -> Option<u32> {
        let count = u32::try_from(self.head.tuples()).ok()?;
        (0..count).find(|number| self.tuple(*number) == Some(tuple))
    }

    fn initiating(&self) -> Option<Tuple> {
        self.tuple(0)
    }

    fn terminating(&self) -> Option<Tuple> {
        self.tuple(1).filter(|_| self.terminates_otherwise()).or_else(|| self.initiating())
    }

    /// Whether the responder gets another tuple than the initiator sent: then it is the second one.
    fn terminates_otherwise(&self) -> bool {
        self.head.flags & TERMINATES != 0
    }

    fn records(&self) -> impl Iterator<Item = StageRecord> + use<'a> {
        let words = *self;
        self.records.chunks_exact(RECORD).filter_map(move |record| words.record(record))
    }

    fn record(&self, record: &[u32]) -> Option<StageRecord> {
        let [node, rule, bits] = *record else { return None };
        let tuple = |shift: u32| self.tuple(bits >> shift & NONE);
        let (before, after) = (tuple(0)?, tuple(6)?);
        let rule = (bits >> 30 & 1 != 0).then_some(rule);
        let set = bits >> 27 & 1 != 0;
        Some(StageRecord {
            node: node_of(node),
            before,
            after,
            kind: match bits >> 24 & 7 {
                FIREWALL => RecordKind::Firewall {
                    rule,
                    ingress: set,
                    judged: tuple(12)?,
                    icmp: tuple(18).map(|t| (t.src_port as u8, t.dst_port as u8)),
                },
                SOURCE_PORT => RecordKind::SourcePort,
                UNTRANSLATED => RecordKind::Untranslated,
                NAT => RecordKind::Nat { rule: rule? },
                _ => {
                    let server = tuple(12)?;
                    let (server, port) = (server.dst, server.dst_port);
                    RecordKind::Balancer { server, port, hairpin: set }
                }
            },
            timers: timer_class(bits),
        })
    }
}

/// In [`Head::flags`]: as [`Words::terminates_otherwise`].
const TERMINATES: u32 = 1 << 31;

fn timer_class(bits: u32) -> TimerClass {
    match bits >> 28 & 3 {
        0 => TimerClass::Dfw,
        1 => TimerClass::Gateway,
        _ => TimerClass::Balancer,
    }
}

fn node_of(word: u32) -> Node {
    let number = word & 0x3fff_ffff;
    match word >> 30 {
        0 => Node::Balancer(PortId(number)),
        1 => Node::Firewall(PortId(number)),
        2 => Node::Gateway(RouterId(number)),
        _ => Node::GatewayFirewall(RouterId(number)),
    }
}

impl Store {
    /// How many sessions there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The slots of all sessions.
    pub(super) fn slots(&self) -> impl Iterator<Item = u32> + use<'_> {
        self.serials().map(|(_, slot)| slot)
    }

    /// The serial numbers of all sessions, with their slots and in the order of these.
    pub(super) fn serials(&self) -> impl Iterator<Item = (u64, u32)> + use<'_> {
        let slots = self.heads.iter().zip(0u32..).map(|(head, slot)| (head.serial, slot));
        slots.filter(|(serial, _)| *serial != 0)
    }

    /// The slot of a session that lives.
    #[inline]
    pub(super) fn slot(&self, id: SessionId) -> Option<u32> {
        self.head(id.index).filter(|head| head.serial == id.serial).map(|_| id.index)
    }

    #[inline]
    fn head(&self, slot: u32) -> Option<&Head> {
        self.heads.get(slot as usize).filter(|head| head.serial != 0)
    }

    fn words<'a>(&'a self, head: &'a Head) -> Words<'a> {
        let block = self.pool.get(head.block_words(), head.block);
        let (_, block) = block.split_at_checked(head.tcp_words()).unwrap_or_default();
        let tuples = head.tuples() * head.tuple_words();
        let (tuples, records) = block.split_at_checked(tuples).unwrap_or_default();
        Words { head, tuples, records }
    }

    fn tcp(&self, head: &Head) -> TcpState {
        let words = self.pool.get(head.block_words(), head.block);
        let words = words.first_chunk::<{ PackedTcp::WORDS }>().copied().unwrap_or_default();
        TcpState::unpack(PackedTcp { bits: head.flags & flag::TCP, words })
    }

    fn progress(&self, head: &Head) -> Progress {
        match head.protocol() {
            protocol::TCP => Progress::Tcp(self.tcp(head)),
            protocol::ICMP | protocol::ICMPV6 => Progress::Icmp,
            _ => Progress::Datagram {
                several: head.flags & flag::SEVERAL != 0,
                answered: head.flags & flag::ANSWERED != 0,
            },
        }
    }

    fn id(slot: u32, head: &Head) -> SessionId {
        SessionId { index: slot, serial: head.serial }
    }

    /// What a session is doing.
    #[inline]
    pub(super) fn known(&self, slot: u32) -> Option<Known> {
        let head = self.head(slot)?;
        let (progress, last_seen) = (self.progress(head), head.last_seen);
        Some(Known { id: Store::id(slot, head), progress, last_seen })
    }

    /// Its protocol number.
    pub(super) fn protocol(&self, slot: u32) -> Option<u8> {
        self.head(slot).map(Head::protocol)
    }

    /// The tuple that its initiator sent.
    pub(super) fn initiating(&self, slot: u32) -> Option<Tuple> {
        self.words(self.head(slot)?).initiating()
    }

    /// Whose share a session takes.
    pub(super) fn tenant(&self, slot: u32) -> Option<u32> {
        let head = self.head(slot)?;
        (head.flags & flag::TENANT != 0).then_some(head.tenant)
    }

    /// Its records, in the order of the path.
    pub(super) fn records(&self, slot: u32) -> impl Iterator<Item = StageRecord> + use<'_> {
        self.head(slot).into_iter().flat_map(|head| self.words(head).records())
    }

    /// Whether a balancer remembers a session.
    pub(super) fn is_balanced(&self, slot: u32) -> bool {
        let records = self.head(slot).map(|head| self.words(head).records).unwrap_or_default();
        records
            .chunks_exact(RECORD)
            .any(|r| r.last().is_some_and(|bits| bits >> 24 & 7 == BALANCER))
    }

    /// The rules that count a session's packets, in the order of its records.
    pub(super) fn rules(&self, slot: u32) -> SmallVec<[RuleKey; 4]> {
        let Some(words) = self.head(slot).map(|head| self.words(head)) else {
            return SmallVec::new();
        };
        let rule = |record: &[u32]| {
            let [node, rule, bits] = *record else { return None };
            if bits >> 24 & 7 == BALANCER {
                return words.record(record)?.rule_key();
            }
            let rule = (bits >> 30 & 1 != 0).then_some(rule)?;
            match (bits >> 24 & 7, node_of(node)) {
                (FIREWALL, Node::GatewayFirewall(router)) => {
                    Some(RuleKey::GatewayFirewall(router, rule))
                }
                (FIREWALL, _) => Some(RuleKey::Firewall(rule)),
                (_, Node::Gateway(router)) => Some(RuleKey::Nat(router, rule)),
                _ => None,
            }
        };
        words.records.chunks_exact(RECORD).filter_map(rule).collect()
    }

    /// How many records it has.
    pub(super) fn record_count(&self, slot: u32) -> usize {
        self.head(slot).map_or(0, Head::records)
    }

    /// By which of its records a session knows `tuple` at `node`, and which way the tuple goes.
    #[inline]
    pub(super) fn recall(
        &self,
        slot: u32,
        node: Node,
        tuple: &Tuple,
    ) -> Option<(usize, Direction)> {
        let words = self.words(self.head(slot)?);
        let (kind, number) = super::index::numbers(node);
        let node = u32::from(kind) << 30 | number & 0x3fff_ffff;
        let records = words.records.chunks_exact(RECORD).enumerate();
        records.filter(|(_, record)| record.first() == Some(&node)).find_map(|(at, record)| {
            let bits = *record.last()?;
            if words.tuple(bits & NONE)? == *tuple {
                Some((at, Direction::Forward))
            } else if words.tuple(bits >> 6 & NONE)? == tuple.reversed() {
                Some((at, Direction::Reply))
            } else {
                None
            }
        })
    }

    /// One of a session's records, by its place in their order.
    pub(super) fn record(&self, slot: u32, at: usize) -> Option<StageRecord> {
        let words = self.words(self.head(slot)?);
        words.record(words.records.get(at * RECORD..(at + 1) * RECORD)?)
    }

    /// Its identity.
    #[inline]
    pub(super) fn identity(&self, slot: u32) -> Option<SessionId> {
        self.head(slot).map(|head| Store::id(slot, head))
    }

    fn traffic(&self, slot: u32, head: &Head) -> [Traffic; 2] {
        let aside = (head.flags & flag::ASIDE != 0).then(|| self.aside.get(&slot)).flatten();
        aside.and_then(|aside| aside.traffic).unwrap_or_else(|| {
            let ([a, b], [c, d]) = (head.packets.map(u64::from), head.bytes.map(u64::from));
            [Traffic { packets: a, bytes: c }, Traffic { packets: b, bytes: d }]
        })
    }

    /// Under which keys its directions may be cached, and by whom.
    pub(super) fn cached(&self, slot: u32) -> [Option<Cached>; 2] {
        let Some(head) = self.head(slot).filter(|head| head.cached != [0; 2]) else {
            return [None; 2];
        };
        let words = self.words(head);
        [Direction::Forward, Direction::Reply].map(|direction| {
            let at = direction.index();
            let word = *head.cached.get(at)?;
            if word & CACHED_ASIDE != 0 {
                return *self.aside.get(&slot)?.cached.get(at)?;
            }
            let (port, mac) = self.places.get(word as u16)?;
            let tuple = words.tuple(word >> 24 & NONE)?;
            let tuple = if word & REVERSED == 0 { tuple } else { tuple.reversed() };
            let workers = WorkerSet::from_bits(u64::from(word >> 16 & 0xff));
            Some(Cached { key: FlowKey::join(port, mac, tuple), workers })
        })
    }

    /// Notes where a direction may be cached.
    pub(super) fn set_cached(&mut self, slot: u32, direction: Direction, cached: Cached) {
        let (port, mac, tuple) = cached.key.split();
        let at = direction.index();
        let place = self.places.number((port, mac));
        let Some(head) = self.head(slot) else { return };
        let words = self.words(head);
        let tuple = words
            .number(tuple)
            .or_else(|| words.number(tuple.reversed()).map(|number| number | REVERSED >> 24));
        let workers = u8::try_from(cached.workers.bits()).ok();
        let word = match (place, workers, tuple) {
            (Some(place), Some(workers), Some(tuple))
                // What is put together again is the key, to the bit.
                if words.number_names(tuple, cached.key, port, mac) =>
            {
                u32::from(place) | u32::from(workers) << 16 | tuple << 24
            }
            _ => CACHED_ASIDE,
        };
        if word == CACHED_ASIDE || head.flags & flag::ASIDE != 0 {
            self.put_aside(slot, |aside| {
                if let Some(entry) = aside.cached.get_mut(at) {
                    *entry = (word == CACHED_ASIDE).then_some(cached);
                }
            });
        }
        if let Some(entry) = self.heads.get_mut(slot as usize).and_then(|h| h.cached.get_mut(at)) {
            *entry = word;
        }
    }

    /// Changes what stands aside of a session.
    fn put_aside(&mut self, slot: u32, change: impl FnOnce(&mut Aside)) {
        let Some(head) = self.heads.get_mut(slot as usize) else { return };
        let mut aside = if head.flags & flag::ASIDE == 0 {
            Aside::default()
        } else {
            self.aside.remove(&slot).unwrap_or_default()
        };
        change(&mut aside);
        if aside.is_empty() {
            head.flags &= !flag::ASIDE;
        } else {
            head.flags |= flag::ASIDE;
            self.aside.insert(slot, aside);
        }
    }

    fn set_traffic(&mut self, slot: u32, traffic: [Traffic; 2]) {
        let Some(head) = self.heads.get_mut(slot as usize) else { return };
        let [a, b] = traffic;
        let narrow = [a.packets, b.packets, a.bytes, b.bytes].map(u32::try_from);
        if let [Ok(a), Ok(b), Ok(c), Ok(d)] = narrow {
            (head.packets, head.bytes) = ([a, b], [c, d]);
        } else {
            self.put_aside(slot, |aside| aside.traffic = Some(traffic));
        }
    }

    /// Enters a session; `None` if there is no slot.
    pub(super) fn insert(&mut self, new: &Beginning, records: &[StageRecord]) -> Option<u32> {
        let Draft { flags, block } = draft(new.initiating, new.terminating, records)?;
        let block = self.pool.insert(&block)?;
        let head = Head {
            serial: new.serial,
            created: new.created,
            last_seen: new.created,
            packets: [0; 2],
            bytes: [0; 2],
            tenant: new.tenant.unwrap_or(0),
            armed: due::UNARMED,
            flags: if new.tenant.is_some() { flags | flag::TENANT } else { flags },
            block,
            cached: [0; 2],
        };
        let slot = if self.free == END {
            let slot = u32::try_from(self.heads.len()).ok().filter(|slot| *slot != END)?;
            self.heads.push(head);
            slot
        } else {
            let slot = self.free;
            let entry = self.heads.get_mut(slot as usize)?;
            self.free = std::mem::replace(entry, head).block;
            slot
        };
        self.len += 1;
        self.set_progress(slot, new.progress);
        self.set_traffic(slot, new.traffic);
        Some(slot)
    }

    fn set_progress(&mut self, slot: u32, progress: Progress) {
        let Some(head) = self.heads.get_mut(slot as usize) else { return };
        let bits = match progress {
            Progress::Tcp(tcp) => {
                let PackedTcp { bits, words } = tcp.pack();
                let block = self.pool.get_mut(head.block_words(), head.block);
                if let Some(first) = block.first_chunk_mut() {
                    *first = words;
                }
                bits
            }
            Progress::Datagram { several, answered } => {
                (if several { flag::SEVERAL } else { 0 })
                    | if answered { flag::ANSWERED } else { 0 }
            }
            Progress::Icmp => 0,
        };
        head.flags = head.flags & !flag::TCP | bits;
    }

    /// Writes the tuples and records of a session anew.
    pub(super) fn set_records(&mut self, slot: u32, records: &[StageRecord]) {
        let cached = self.cached(slot);
        let Some(head) = self.head(slot) else { return };
        let (progress, words) = (self.progress(head), self.words(head));
        let (Some(initiating), Some(terminating)) = (words.initiating(), words.terminating())
        else {
            return;
        };
        let Some(Draft { flags, block }) = draft(initiating, terminating, records) else { return };
        let (size, at) = (head.block_words(), head.block);
        let Some(new) = self.pool.insert(&block) else { return };
        self.pool.remove(size, at);
        if let Some(head) = self.heads.get_mut(slot as usize) {
            head.flags = flags | head.flags & (flag::TENANT | flag::ASIDE);
            head.block = new;
        }
        self.set_progress(slot, progress);
        // Tuples have other numbers now.
        for (direction, cached) in [Direction::Forward, Direction::Reply].into_iter().zip(cached) {
            if let Some(cached) = cached {
                self.set_cached(slot, direction, cached);
            }
        }
    }

    /// Takes a session away.
    pub(super) fn remove(&mut self, slot: u32) {
        let free = self.free;
        let Some(head) = self.heads.get_mut(slot as usize).filter(|head| head.serial != 0) else {
            return;
        };
        self.pool.remove(head.block_words(), head.block);
        if head.flags & flag::ASIDE != 0 {
            self.aside.remove(&slot);
        }
        (head.serial, head.block) = (0, free);
        self.free = slot;
        self.len -= 1;
    }

    /// The session in a slot, decoded.
    pub(super) fn session(&self, slot: u32) -> Option<Session> {
        let head = self.head(slot)?;
        let words = self.words(head);
        Some(Session {
            id: Store::id(slot, head),
            created: head.created,
            last_seen: head.last_seen,
            tenant: (head.flags & flag::TENANT != 0).then_some(head.tenant),
            initiating: words.initiating()?,
            terminating: words.terminating()?,
            progress: self.progress(head),
            records: words.records().collect(),
            traffic: self.traffic(slot, head),
            cached: self.cached(slot),
        })
    }

    /// When the first of a session's records expires, if nothing more comes, and the slice that it is armed
    /// for.
    pub(super) fn due(&mut self, slot: u32, timers: &TimerSettings) -> Option<(Time, &mut u32)> {
        let head = self.head(slot)?;
        let state = self.progress(head).timer_state();
        let records = self.words(head).records;
        let classes = records.chunks_exact(RECORD).filter_map(|r| r.last());
        let first = classes.map(|bits| timers.timeout(timer_class(*bits), state)).min();
        let at = first.map_or(head.last_seen, |timeout| head.last_seen + timeout);
        self.heads.get_mut(slot as usize).map(|head| (at, &mut head.armed))
    }

    /// The slice that a session is armed for.
    pub(super) fn armed(&self, slot: u32) -> Option<u32> {
        self.head(slot).map(|head| head.armed)
    }

    /// Takes a packet into account. Returns the progress of before and of now.
    pub(super) fn observe(&mut self, slot: u32, o: &Observation) -> Option<(Progress, Progress)> {
        let head = self.head(slot)?;
        let (before, mut traffic) = (self.progress(head), self.traffic(slot, head));
        if let Some(t) = traffic.get_mut(o.direction.index()) {
            t.add(o.packets, o.bytes);
        }
        self.set_traffic(slot, traffic);
        if o.icmp_error {
            return Some((before, before));
        }
        let mut progress = before;
        progress.observe(o, traffic);
        if progress != before {
            self.set_progress(slot, progress);
        }
        if let Some(head) = self.heads.get_mut(slot as usize) {
            head.last_seen = head.last_seen.max(o.now);
        }
        Some((before, progress))
    }
}

impl Words<'_> {
    /// Whether the key of a flow is what a number of [`Head::cached`] says.
    fn number_names(&self, number: u32, key: FlowKey, port: PortId, mac: Mac) -> bool {
        let reversed = number & REVERSED >> 24 != 0;
        self.tuple(number & NONE).is_some_and(|tuple| {
            let tuple = if reversed { tuple.reversed() } else { tuple };
            FlowKey::join(port, mac, tuple) == key
        })
    }
}
