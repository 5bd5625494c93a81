//! What one snapshot changes of another, in the terms of what a walk reads.
//!
//! A cached action depends on some objects and on what some addresses mean to routers and balancers. Between two
//! snapshots most objects are the same; an action that read none of the others need not be made again.
//! [`Changes`] may say too much (then an action is made again for nothing), never too little.

use super::{Interface, InterfaceId, Network, Port, PortId, Prefix, RouterId, SegmentId};
use super::{Router, VirtualServers};
use packet::Addr;
use smallvec::SmallVec;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::RangeInclusive;
use std::sync::Arc;

/// Something that a walk reads as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Object {
    /// A port with its vNIC and all firewall rules of it.
    Port(PortId),
    /// A segment.
    Segment(SegmentId),
    /// A gateway without its interfaces, its routes, and the addresses that end there.
    Router(RouterId),
    /// One of its interfaces.
    Interface(RouterId, InterfaceId),
}

/// What a walk has read of a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reads {
    /// Objects, in the order in which they were read; one may be there several times.
    pub objects: SmallVec<[Object; 12]>,
    /// Addresses that it asked about: whether they end at a router, what the way to them is, whether
    /// they are a service's.
    pub addresses: SmallVec<[Addr; 6]>,
}

/// What differs between two snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Something that every walk reads.
    everything: bool,
    objects: BTreeSet<Object>,
    /// Addresses that mean something else to some router or balancer.
    addresses: Vec<RangeInclusive<Addr>>,
}

impl Changes {
    /// What is different in `after`.
    #[must_use]
    pub fn between(before: &Network, after: &Network) -> Changes {
        let mut changes = Changes {
            everything: before.seed != after.seed
                || before.firewall.on_change != after.firewall.on_change
                || before.firewall.flood != after.firewall.flood
                || before.timers.mac_age != after.timers.mac_age,
            ..Changes::default()
        };
        let mut same = SameRules { before, after, lists: HashMap::new() };
        for (i, (a, b)) in both(&before.ports, &after.ports) {
            if !a.zip(b).is_some_and(|(a, b)| same.port(a, b)) {
                changes.objects.insert(Object::Port(PortId(i)));
            }
        }
        for (i, (a, b)) in both(&before.segments, &after.segments) {
            if a != b {
                changes.objects.insert(Object::Segment(SegmentId(i)));
            }
        }
        for (i, (a, b)) in both(&before.routers, &after.routers) {
            changes.compare_routers(RouterId(i), a, b);
        }
        changes.compare_servers(&before.distributed_balancer, &after.distributed_balancer);
        changes
    }

    fn compare_routers(&mut self, id: RouterId, a: Option<&Router>, b: Option<&Router>) {
        let (Some(a), Some(b)) = (a, b) else {
            self.objects.insert(Object::Router(id));
            return;
        };
        let is_same = a.name == b.name
            && a.tier == b.tier
            && a.nat == b.nat
            && a.gateway_firewall == b.gateway_firewall
            && a.balancer == b.balancer
            && a.private == b.private
            && a.ecmp == b.ecmp;
        if !is_same {
            self.objects.insert(Object::Router(id));
        }
        let addresses = |i: Option<&Interface>| -> BTreeSet<Addr> {
            i.into_iter().flat_map(|i| i.addresses.iter().map(|(a, _)| *a)).collect()
        };
        for (i, (a, b)) in both(&a.interfaces, &b.interfaces) {
            if a != b {
                self.objects.insert(Object::Interface(id, InterfaceId(i)));
                self.differ(&addresses(a), &addresses(b));
            }
        }
        self.differ(&a.local, &b.local);
        let routes = |router: &Router| -> BTreeMap<Prefix, super::Route> {
            router.fib.routes().into_iter().map(|r| (r.prefix, r.clone())).collect()
        };
        if a.fib != b.fib {
            let (a, b) = (routes(a), routes(b));
            let changed = a.keys().chain(b.keys()).filter(|prefix| a.get(prefix) != b.get(prefix));
            self.addresses.extend(changed.map(|prefix| prefix.first()..=prefix.last()));
        }
    }

    fn compare_servers(&mut self, a: &VirtualServers, b: &VirtualServers) {
        if a == b {
            return;
        }
        if a.reserved != b.reserved {
            self.everything = true;
        }
        let by_address = |table: &VirtualServers| {
            let mut all: BTreeMap<Addr, Vec<super::VirtualServer>> = BTreeMap::new();
            for server in table.servers() {
                all.entry(server.address).or_default().push(server.clone());
            }
            all
        };
        let (a, b) = (by_address(a), by_address(b));
        let changed = a.keys().chain(b.keys()).filter(|address| a.get(address) != b.get(address));
        self.addresses.extend(changed.map(|address| *address..=*address));
    }

    fn differ(&mut self, a: &BTreeSet<Addr>, b: &BTreeSet<Addr>) {
        self.addresses.extend(a.symmetric_difference(b).map(|address| *address..=*address));
    }

    /// Whether an action may be another now that was made by reading `objects`, and asking about addresses
    /// in `asked`.
    #[must_use]
    pub fn touch(&self, objects: &[Object], asked: &[(Addr, Addr)]) -> bool {
        let meets = |(low, high): &(Addr, Addr)| {
            self.addresses.iter().any(|range| range.start() <= high && low <= range.end())
        };
        self.everything
            || objects.iter().any(|object| self.objects.contains(object))
            || !self.addresses.is_empty() && asked.iter().any(meets)
    }
}

/// The objects of both sides by index, as far as either goes.
fn both<'a, T>(
    a: &'a [T],
    b: &'a [T],
) -> impl Iterator<Item = (u32, (Option<&'a T>, Option<&'a T>))> {
    let count = a.len().max(b.len());
    (0u32..).zip((0..count).map(move |i| (a.get(i), b.get(i))))
}

/// Compares the rules of ports, each pair of lists once: workloads share them.
struct SameRules<'n> {
    before: &'n Network,
    after: &'n Network,
    lists: HashMap<(*const u32, *const u32, bool), bool>,
}

impl SameRules<'_> {
    fn port(&mut self, a: &Port, b: &Port) -> bool {
        let vnics = match (&a.vnic, &b.vnic) {
            (None, None) => true,
            (Some(a), Some(b)) => {
                a.mac == b.mac
                    && a.addresses == b.addresses
                    && a.hypervisor == b.hypervisor
                    && a.tenant == b.tenant
                    && a.spoof_guard == b.spoof_guard
                    && a.security == b.security
                    && self.rules(&a.ethernet_in, &b.ethernet_in, true)
                    && self.rules(&a.ethernet_out, &b.ethernet_out, true)
                    && self.rules(&a.rules_in, &b.rules_in, false)
                    && self.rules(&a.rules_out, &b.rules_out, false)
            }
            _ => false,
        };
        vnics && a.name == b.name && a.segment == b.segment && a.mtu == b.mtu
    }

    fn rules(&mut self, a: &Arc<[u32]>, b: &Arc<[u32]>, ethernet: bool) -> bool {
        let SameRules { before, after, lists } = self;
        *lists.entry((a.as_ptr(), b.as_ptr(), ethernet)).or_insert_with(|| {
            let (before, after) = (&before.firewall, &after.firewall);
            let same = |(a, b): (&u32, &u32)| {
                let (a, b) = (*a as usize, *b as usize);
                if ethernet {
                    before.ethernet.get(a) == after.ethernet.get(b)
                } else {
                    before.rules.get(a) == after.rules.get(b)
                }
            };
            a.len() == b.len() && a.iter().zip(b.iter()).all(same)
        })
    }
}
