//! Who has seen how much: virtual servers, NAT rules and firewall policies count what they let through, and policies what they drop
//! (features.md 3.M; reliability.md R40). A packet counts for everything that its conversation is remembered by.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::memory::Tier;
use crate::network::NatKind;

/// What counts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Counter {
    /// A virtual server.
    Server {
        /// Of the Tier-1; else distributed.
        gateway: bool,
        /// Its address.
        address: IpAddr,
        /// IP protocol number.
        protocol: u8,
        /// Its port.
        port: u16,
    },
    /// A NAT rule of the Tier-1 that the user gave this name.
    NatByName(String),
    /// Another NAT rule of the Tier-1, by what it says.
    Nat {
        /// Its rank.
        priority: u32,
        /// The source that the user wrote; of a namespace's own rule none.
        from: Option<IpNet>,
        /// Its destination.
        to: Option<IpNet>,
        /// What it does.
        kind: NatKind,
    },
    /// A rule of a gateway's firewall.
    Gateway(Tier, String),
    /// A rule of the category Ethernet. The model does not count for it.
    Ethernet(String),
    /// All rules that follow from an object: `NetworkPolicy ns/name`, `SecurityPolicy ns/name`, `Namespace ns`.
    Policy(String),
}

/// How much.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets, fragments one by one.
    pub packets: u64,
    /// Octets of their frames.
    pub octets: u64,
    /// Conversations begun.
    pub sessions: u64,
    /// When the last packet was seen.
    pub last: Option<Duration>,
}

/// All counters that have counted anything.
#[derive(Clone, Debug, Default)]
pub(crate) struct Counters(Vec<(Counter, Count)>);

impl Counters {
    fn of(&mut self, counter: &Counter) -> Option<&mut Count> {
        if !self.0.iter().any(|(c, _)| c == counter) {
            self.0.push((counter.clone(), Count::default()));
        }
        self.0.iter_mut().find(|(c, _)| c == counter).map(|(_, count)| count)
    }

    pub(crate) fn packet(&mut self, counter: &Counter, octets: u32, now: Duration) {
        if let Some(count) = self.of(counter) {
            count.packets += 1;
            count.octets += u64::from(octets);
            count.last = Some(now);
        }
    }

    pub(crate) fn session(&mut self, counter: &Counter) {
        if let Some(count) = self.of(counter) {
            count.sessions += 1;
        }
    }

    pub(crate) fn list(&self) -> Vec<(Counter, Count)> {
        let mut all = self.0.clone();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }
}
