//! Virtual reassembly: later fragments follow their first one.
//!
//! Only the first fragment of a datagram has ports. It is walked like any packet; the others are
//! walked with its transport header, so that they get the same verdict and the same translation
//! (RFC 4787, REQ-14: also out of order). Nothing is put together: every fragment stays a frame.
//!
//! Invariants: what waits is bounded in frames and in time; fragments that overlap (RFC 5722; RFC
//! 1858 for IPv4) condemn their whole datagram, those that came before and those that follow; a
//! datagram whose first fragment was refused is refused.

use crate::network::PortId;
use packet::{Addr, Fragment, Frame, Time, Transport};
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a datagram's fragments may trickle in (RFC 791 suggests at least 15 s; Linux 30 s).
pub const AGE: Duration = Duration::from_secs(30);
/// Most datagrams under way.
pub const MAX_DATAGRAMS: usize = 4_096;
/// Most datagrams under way from one port: a sender of endless first halves fills its own share.
pub const MAX_DATAGRAMS_EACH: usize = 512;
/// Most fragments that wait for one first fragment: 64 KiB in pieces of a 1,500-octet link.
pub const MAX_HELD_EACH: usize = 45;
/// Most fragments that wait in all; at 1,500 octets each 12 MiB.
pub const MAX_HELD: usize = 8_192;
/// Most pieces of one datagram: 64 KiB in pieces of 8 octets.
const MAX_PIECES: usize = 8_192;

/// Which datagram a fragment belongs to, and the port it came in by: fragments of different senders
/// never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Datagram {
    /// Ingress port.
    pub port: PortId,
    /// Source.
    pub src: Addr,
    /// Destination.
    pub dst: Addr,
    /// IP protocol.
    pub protocol: u8,
    /// Identification.
    pub id: u32,
}

#[derive(Clone, Debug)]
enum State {
    /// The first fragment has not come; these wait for it.
    Waiting(Vec<Frame>),
    /// It has come and went through.
    Open(Transport),
    /// It was refused, or fragments overlapped.
    Condemned,
}

#[derive(Clone, Debug)]
struct Entry {
    state: State,
    /// Octet ranges seen, by start: start and end.
    pieces: BTreeMap<u32, u32>,
    /// Octets of the whole datagram, once its last fragment has come.
    total: Option<u32>,
    until: Time,
}

impl Entry {
    /// Whether every octet has come.
    fn is_complete(&self) -> bool {
        self.total.is_some_and(|total| {
            self.pieces.iter().try_fold(0, |at, (start, end)| (*start == at).then_some(*end))
                == Some(total)
        })
    }
}

/// What to do with a fragment.
#[derive(Debug)]
pub enum Arrival {
    /// Walk it; it is the first.
    First,
    /// Walk it with this transport header.
    Later(Transport),
    /// It waits for the first.
    Held,
    /// Drop it: it overlaps, as these that waited do.
    Overlap(Vec<Frame>),
    /// Drop it: it came twice.
    Duplicate,
    /// Drop it: its datagram is refused.
    Condemned,
    /// Drop it: no room.
    Limit,
}

/// All datagrams of which fragments are under way.
#[derive(Debug, Default)]
pub struct Fragments {
    datagrams: BTreeMap<Datagram, Entry>,
    by_port: BTreeMap<PortId, usize>,
    held: usize,
}

impl Fragments {
    /// Takes note of a fragment of `len` octets of payload. `frame` is kept only if it has to wait.
    pub fn arrive(
        &mut self,
        key: Datagram,
        fragment: Fragment,
        len: u32,
        frame: &Frame,
        now: Time,
    ) -> Arrival {
        if !self.datagrams.contains_key(&key) {
            let of_port = self.by_port.entry(key.port).or_default();
            if self.datagrams.len() >= MAX_DATAGRAMS || *of_port >= MAX_DATAGRAMS_EACH {
                return Arrival::Limit;
            }
            *of_port += 1;
            let state = State::Waiting(Vec::new());
            let entry = Entry { state, pieces: BTreeMap::new(), total: None, until: now + AGE };
            self.datagrams.insert(key, entry);
        }
        let Some(entry) = self.datagrams.get_mut(&key) else { return Arrival::Limit };
        if matches!(entry.state, State::Condemned) {
            return Arrival::Condemned;
        }
        let (start, end) = (u32::from(fragment.offset), u32::from(fragment.offset) + len);
        if entry.pieces.get(&start) == Some(&end) {
            return Arrival::Duplicate;
        }
        let before = entry.pieces.range(..end).next_back();
        if before.is_some_and(|(_, other_end)| *other_end > start) {
            let waiting = std::mem::replace(&mut entry.state, State::Condemned);
            let State::Waiting(frames) = waiting else { return Arrival::Overlap(Vec::new()) };
            self.held -= frames.len();
            return Arrival::Overlap(frames);
        }
        if entry.pieces.len() >= MAX_PIECES {
            return Arrival::Limit;
        }
        let arrival = match &mut entry.state {
            _ if fragment.offset == 0 => Arrival::First,
            State::Open(transport) => Arrival::Later(*transport),
            State::Condemned => Arrival::Condemned,
            State::Waiting(frames) => {
                if frames.len() >= MAX_HELD_EACH || self.held >= MAX_HELD {
                    return Arrival::Limit;
                }
                frames.push(frame.clone());
                self.held += 1;
                Arrival::Held
            }
        };
        entry.pieces.insert(start, end);
        if !fragment.more {
            entry.total = Some(end);
        }
        if matches!(arrival, Arrival::Later(_)) && entry.is_complete() {
            self.forget(key);
        }
        arrival
    }

    /// The first fragment went through, with this transport header: returns those that waited.
    pub fn open(&mut self, key: Datagram, transport: Transport) -> Vec<Frame> {
        let waited = self.settle(key, State::Open(transport));
        if self.datagrams.get(&key).is_some_and(Entry::is_complete) {
            self.forget(key);
        }
        waited
    }

    fn forget(&mut self, key: Datagram) {
        if self.datagrams.remove(&key).is_some()
            && let Some(count) = self.by_port.get_mut(&key.port)
        {
            *count -= 1;
        }
    }

    /// The first fragment was refused: returns those that waited, which are to be dropped.
    pub fn condemn(&mut self, key: Datagram) -> Vec<Frame> {
        self.settle(key, State::Condemned)
    }

    fn settle(&mut self, key: Datagram, state: State) -> Vec<Frame> {
        let Some(entry) = self.datagrams.get_mut(&key) else { return Vec::new() };
        match std::mem::replace(&mut entry.state, state) {
            State::Waiting(frames) => {
                self.held -= frames.len();
                frames
            }
            State::Open(_) | State::Condemned => Vec::new(),
        }
    }

    /// The transport header that a later fragment of this datagram would be walked with now.
    #[must_use]
    pub fn transport(&self, key: Datagram) -> Option<Transport> {
        match self.datagrams.get(&key)?.state {
            State::Open(transport) => Some(transport),
            State::Waiting(_) | State::Condemned => None,
        }
    }

    /// When the first datagram times out.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Time> {
        self.datagrams.values().map(|e| e.until).min()
    }

    /// Forgets datagrams whose time is over by `now`; returns the fragments that still waited, with
    /// the ports they came in by.
    pub fn expire(&mut self, now: Time) -> Vec<(PortId, Frame)> {
        let mut over = Vec::new();
        let (held, by_port) = (&mut self.held, &mut self.by_port);
        self.datagrams.retain(|key, entry| {
            if entry.until > now {
                return true;
            }
            if let Some(count) = by_port.get_mut(&key.port) {
                *count -= 1;
            }
            if let State::Waiting(frames) = &mut entry.state {
                *held -= frames.len();
                over.extend(frames.drain(..).map(|f| (key.port, f)));
            }
            false
        });
        over
    }

    /// Fragments that wait.
    #[must_use]
    pub fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Datagram {
        Datagram { port: PortId(0), src: Addr::v4(1), dst: Addr::v4(2), protocol: 17, id: 7 }
    }

    fn piece(offset: u16, more: bool) -> Fragment {
        Fragment { id: 7, offset, more }
    }

    fn arrive(f: &mut Fragments, offset: u16, len: u32) -> Arrival {
        f.arrive(key(), piece(offset, true), len, &Frame::default(), Time::ZERO)
    }

    #[test]
    fn later_fragments_wait_for_the_first_and_then_follow_it() {
        let mut f = Fragments::default();
        assert!(matches!(arrive(&mut f, 800, 800), Arrival::Held));
        assert_eq!(f.held(), 1);
        assert!(matches!(arrive(&mut f, 0, 800), Arrival::First));
        assert_eq!(f.open(key(), Transport::Other).len(), 1);
        assert_eq!(f.held(), 0);
        assert!(matches!(arrive(&mut f, 1600, 8), Arrival::Later(Transport::Other)));
    }

    #[test]
    fn an_overlap_by_one_octet_in_either_order_condemns_the_datagram() {
        for (first, second) in
            [((800, 800), (1592, 800)), ((1592, 800), (800, 800)), ((0, 1600), (8, 8))]
        {
            let mut f = Fragments::default();
            arrive(&mut f, first.0, first.1);
            assert!(matches!(arrive(&mut f, second.0, second.1), Arrival::Overlap(_)));
            assert!(matches!(arrive(&mut f, 4000, 8), Arrival::Condemned));
            assert_eq!(f.held(), 0);
        }
    }

    #[test]
    fn the_same_fragment_twice_is_dropped_once() {
        let mut f = Fragments::default();
        arrive(&mut f, 0, 800);
        f.open(key(), Transport::Other);
        assert!(matches!(arrive(&mut f, 0, 800), Arrival::Duplicate));
        assert!(matches!(arrive(&mut f, 800, 8), Arrival::Later(_)));
    }

    #[test]
    fn a_refused_first_fragment_takes_the_others_with_it() {
        let mut f = Fragments::default();
        arrive(&mut f, 800, 800);
        arrive(&mut f, 0, 800);
        assert_eq!(f.condemn(key()).len(), 1);
        assert!(matches!(arrive(&mut f, 1600, 8), Arrival::Condemned));
    }

    #[test]
    fn what_waits_is_bounded_in_number_and_time() {
        let mut f = Fragments::default();
        for i in 0..MAX_HELD_EACH {
            let offset = u16::try_from(800 + i * 8).unwrap_or(0);
            assert!(matches!(arrive(&mut f, offset, 8), Arrival::Held));
        }
        assert!(matches!(arrive(&mut f, 8000, 8), Arrival::Limit));
        assert_eq!(f.next_timeout(), Some(Time::from_secs(30)));
        assert!(f.expire(Time(29_999_999_999)).is_empty());
        assert_eq!(f.expire(Time::from_secs(30)).len(), MAX_HELD_EACH);
        assert_eq!((f.held(), f.next_timeout()), (0, None));
        let mut f = Fragments::default();
        let other = |id, port| Datagram { id, port: PortId(port), ..key() };
        let halves =
            |f: &mut Fragments, k| f.arrive(k, piece(8, true), 8, &Frame::default(), Time::ZERO);
        for id in 0..u32::try_from(MAX_DATAGRAMS_EACH).unwrap_or(0) {
            assert!(matches!(halves(&mut f, other(id, 0)), Arrival::Held));
        }
        assert!(matches!(arrive(&mut f, 16, 8), Arrival::Held), "this datagram is known");
        assert!(matches!(halves(&mut f, other(u32::MAX, 0)), Arrival::Limit));
        assert!(
            matches!(halves(&mut f, other(u32::MAX, 1)), Arrival::Held),
            "another port's share"
        );
    }

    #[test]
    fn a_complete_datagram_is_forgotten_and_its_number_may_come_again() {
        for order in [
            [(0u16, 8u32, true), (8, 8, true), (16, 8, false)],
            [(16, 8, false), (8, 8, true), (0, 8, true)],
        ] {
            let mut f = Fragments::default();
            for (offset, len, more) in order {
                let arrival =
                    f.arrive(key(), piece(offset, more), len, &Frame::default(), Time::ZERO);
                if matches!(arrival, Arrival::First) {
                    f.open(key(), Transport::Other);
                }
            }
            assert_eq!(f.next_timeout(), None);
            assert!(matches!(arrive(&mut f, 0, 8), Arrival::First));
        }
    }
}
