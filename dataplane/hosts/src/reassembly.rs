//! IPv4 reassembly (RFC 791, 3.2; RFC 815) for packets to the host itself.
//!
//! Bounds: [`MAX_DATAGRAMS`] at a time, the oldest goes first; [`TIMEOUT`] each; no datagram longer
//! than IP can say. Overlapping fragments discard the whole datagram, as RFC 5722 asks for IPv6 and
//! Linux does for both. IPv6 fragments are not put together: nothing in a lab sends them.

use std::collections::BTreeMap;
use std::time::Duration;

use packet::{Addr, Fragment, Frame, Time};

use crate::host::Arrival;
use crate::timers::Timers;
use crate::wire;

/// Incomplete datagrams a host keeps.
pub const MAX_DATAGRAMS: usize = 16;
/// How long the first fragment waits for the others (Linux `ipfrag_time`).
pub const TIMEOUT: Duration = Duration::from_secs(30);

/// Largest IPv4 packet.
const MAX_PACKET: usize = 65_535;

type Key = (Addr, Addr, u8, u32);

#[derive(Debug)]
struct Assembly {
    born: Time,
    /// The first fragment: the interface it came in by, its frame, and where its data begins.
    head: Option<(usize, Frame, usize)>,
    /// Octets by offset, none overlapping.
    parts: BTreeMap<usize, Vec<u8>>,
    octets: usize,
    /// Octets of the whole, once the last fragment is there.
    total: Option<usize>,
}

/// What came of a fragment.
#[derive(Debug)]
pub(crate) enum Reassembled {
    /// Others are missing.
    Incomplete,
    /// It does not fit the others, or nothing does.
    Refused,
    /// The whole packet.
    Complete(Frame),
}

/// Incomplete datagrams of one host.
#[derive(Debug, Default)]
pub(crate) struct Reassembly {
    assemblies: BTreeMap<Key, Assembly>,
    timers: Timers<Key>,
}

impl Reassembly {
    /// When the next incomplete datagram is to be given up.
    pub(crate) fn next_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Gives up a datagram that is due, if there is one: its first fragment, where that came, and
    /// the interface it came in by.
    pub(crate) fn expire(&mut self, now: Time) -> Option<Option<(usize, Frame)>> {
        let key = self.timers.pop_due(now)?;
        let head = self.assemblies.remove(&key).and_then(|a| a.head);
        Some(head.map(|(interface, frame, _)| (interface, frame)))
    }

    /// Adds a fragment; its packet is complete, refused, or waits for others.
    pub(crate) fn add(
        &mut self,
        arrival: &Arrival<'_>,
        fragment: Fragment,
        now: Time,
    ) -> Reassembled {
        let ip = arrival.ip;
        if !ip.is_v4() {
            return Reassembled::Refused;
        }
        let key = (ip.src, ip.dst, ip.protocol, fragment.id);
        if !self.assemblies.contains_key(&key) && self.assemblies.len() >= MAX_DATAGRAMS {
            let oldest = self.assemblies.iter().min_by_key(|(key, a)| (a.born, **key));
            if let Some(oldest) = oldest.map(|(key, _)| *key) {
                self.forget(&oldest);
            }
        }
        let assembly = self.assemblies.entry(key).or_insert_with(|| {
            self.timers.arm(key, now + TIMEOUT);
            Assembly { born: now, head: None, parts: BTreeMap::new(), octets: 0, total: None }
        });
        match assembly.add(arrival, fragment) {
            Some(false) => Reassembled::Incomplete,
            Some(true) => {
                let whole = self.forget(&key).and_then(Assembly::join);
                whole.map_or(Reassembled::Refused, Reassembled::Complete)
            }
            None => {
                self.forget(&key);
                Reassembled::Refused
            }
        }
    }

    fn forget(&mut self, key: &Key) -> Option<Assembly> {
        self.timers.cancel(*key);
        self.assemblies.remove(key)
    }
}

impl Assembly {
    /// Whether the packet is complete now; `None` if the fragment contradicts the others.
    fn add(&mut self, arrival: &Arrival<'_>, fragment: Fragment) -> Option<bool> {
        let (start, l4) = (usize::from(fragment.offset), usize::from(arrival.ip.l4));
        let frame_end = usize::from(arrival.headers.l3) + arrival.ip.total_len as usize;
        let octets = arrival.frame.bytes.get(l4..frame_end)?;
        let end = start + octets.len();
        let header = l4 - usize::from(arrival.headers.l3);
        if octets.is_empty()
            || end + header > MAX_PACKET
            || (fragment.more && octets.len() % 8 != 0)
        {
            return None;
        }
        let before = self.parts.range(..=start).next_back().map_or(0, |(at, part)| at + part.len());
        let after = self.parts.range(start..).next().map_or(usize::MAX, |(at, _)| *at);
        let total = if fragment.more { self.total } else { Some(end) };
        let last = self.parts.last_key_value().map_or(0, |(at, part)| at + part.len()).max(end);
        let contradicts =
            self.total.is_some_and(|t| total != Some(t)) || total.is_some_and(|t| last > t);
        if before > start || after < end || contradicts {
            return None;
        }
        if start == 0 {
            self.head = Some((arrival.interface, arrival.frame.clone(), l4));
        }
        self.total = total;
        self.octets += octets.len();
        self.parts.insert(start, octets.to_vec());
        Some(self.total == Some(self.octets))
    }

    fn join(self) -> Option<Frame> {
        let (_, Frame { mut bytes, .. }, l4) = self.head?;
        bytes.truncate(l4);
        bytes.extend(self.parts.into_values().flatten());
        let mut frame = Frame::new(bytes);
        wire::clear_fragment(&mut frame)?;
        Some(frame)
    }
}
