//! Blocks of the pod CIDR, and who has them.
//!
//! The first block is the control plane's (F2), unless its annotation names another. A namespace has as many blocks as
//! its pods need; a full one is followed by another (features.md 3.B). A pinned address brings its block to the pod's
//! namespace. The addresses within are `seats`' business.
//!
//! As everywhere a pin outranks what is kept, what is kept outranks what is free, and a pin on what a living object holds
//! is a fault and no theft. Pins are entered in full before anything else is given out, in the order of names, so that
//! the order of files does not matter.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use definitions::model::{
    Definitions, ObjectName, PinnedAddresses, PinnedNetworks, Pod, SupervisorCluster,
};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::addressing::{Block, CONTROL_PLANE, is_system};
use crate::allocations::Allocations;
use crate::fault::{Messages, Subject};
use crate::grid::Grid;
use crate::seats::{self, Seats};

/// Where a workload is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    /// Its IPv4 address.
    pub(crate) v4: Ipv4Addr,
    /// Its IPv6 address, where the cluster has any.
    pub(crate) v6: Option<Ipv6Addr>,
    /// Index into [`PodAddresses::blocks`].
    pub(crate) block: usize,
}

/// Blocks, and the workloads in them.
#[derive(Debug, Default)]
pub(crate) struct PodAddresses {
    /// The control plane's, then by namespace and index.
    pub(crate) blocks: Vec<Block>,
    /// Every pod that has an address of its own.
    pub(crate) pods: BTreeMap<ObjectName, Seat>,
    /// `eth1` of the control-plane VMs, in order.
    pub(crate) vms: Vec<Seat>,
}

/// Who wants an address.
#[derive(Clone, Copy)]
pub(crate) enum Member<'a> {
    /// A pod.
    Pod(&'a ObjectName, &'a Pod),
    /// A control-plane VM by name.
    Vm(&'a str, &'a SupervisorCluster),
}

impl Member<'_> {
    /// The key under which its address is kept.
    pub(crate) fn key(&self) -> String {
        match self {
            Member::Pod(key, _) => key.to_string(),
            Member::Vm(name, _) => format!("{CONTROL_PLANE}/{name}"),
        }
    }

    pub(crate) fn pins(&self) -> PinnedAddresses {
        match self {
            Member::Pod(_, pod) => pod.pins.ip,
            Member::Vm(name, cluster) => {
                cluster.spec.pins.vms.get(*name).copied().unwrap_or_default()
            }
        }
    }

    pub(crate) fn subject(&self) -> Subject {
        match self {
            Member::Pod(_, pod) => Subject::new("Pod", &pod.meta),
            Member::Vm(_, cluster) => Subject::new("SupervisorCluster", &cluster.meta),
        }
    }

    /// For messages: `pod a/x`.
    pub(crate) fn name(&self) -> String {
        match self {
            Member::Pod(key, _) => format!("pod {key}"),
            Member::Vm(name, _) => format!("control-plane VM {name}"),
        }
    }
}

/// A block that is given out, with its IPv6 network.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) number: u32,
    pub(crate) v6: Option<Ipv6Net>,
}

/// A namespace, or the control plane, while its blocks are being found.
pub(crate) struct Claim<'a> {
    /// The namespace, or [`CONTROL_PLANE`].
    owner: &'a str,
    subject: Subject,
    pins: &'a PinnedNetworks,
    /// The workloads that want an address, sorted.
    pub(crate) members: Vec<Member<'a>>,
    /// Blocks by index.
    pub(crate) blocks: BTreeMap<u32, Place>,
    /// Block numbers it held, by index.
    held: BTreeMap<u32, u32>,
    /// Addresses given so far.
    pub(crate) seats: Seats,
}

impl<'a> Claim<'a> {
    fn new(
        owner: &'a str,
        subject: Subject,
        pins: &'a PinnedNetworks,
        members: Vec<Member<'a>>,
        (grid, kept): (&Grid, &Allocations),
    ) -> Claim<'a> {
        // As far as they are blocks of today's grid.
        let prefix = format!("{owner}/");
        let held = kept
            .blocks
            .range(prefix.clone()..)
            .take_while(|(key, _)| key.starts_with(&prefix))
            .filter_map(|(key, net)| {
                let index: u32 = key.get(prefix.len()..)?.parse().ok()?;
                Some((index, grid.block(*net)?))
            })
            .collect();
        let (blocks, seats) = (BTreeMap::new(), Seats::default());
        Claim { owner, subject, pins, members, blocks, held, seats }
    }

    /// For messages.
    fn name(&self) -> String {
        if self.owner == CONTROL_PLANE {
            format!("the control plane ({})", self.subject.object)
        } else {
            format!("namespace {}", self.owner)
        }
    }

    /// Its block of this number.
    pub(crate) fn place(&self, number: u32) -> Option<Place> {
        self.blocks.values().find(|p| p.number == number).copied()
    }

    /// The lowest index without a block that a kept one has not either, so that this stays free to be kept.
    fn free_index(&self) -> u32 {
        let free = |i: &u32| !self.blocks.contains_key(i) && !self.held.contains_key(i);
        (0..).find(free).unwrap_or(u32::MAX)
    }

    /// The index at which a block is to come: the one it had, if that is free.
    fn index_for(&self, number: u32) -> u32 {
        let held = self.held.iter().find(|(i, n)| **n == number && !self.blocks.contains_key(i));
        held.map_or_else(|| self.free_index(), |(index, _)| *index)
    }
}

/// Why a claim has a block or network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Pin,
    Kept,
    Choice,
}

/// Who has what: claims by their index.
struct Ledger<'g> {
    grid: &'g Grid,
    kept: &'g Allocations,
    blocks: BTreeMap<u32, (usize, By)>,
    /// With the index of the block that the network goes with.
    networks: BTreeMap<Ipv6Net, (usize, u32, By)>,
    /// Below it no block is free.
    free: u32,
}

impl Ledger<'_> {
    /// The IPv6 network of a claim's block: the pinned one, the one it had, or the twin.
    fn network(&self, claim: &Claim<'_>, at: usize, index: u32, number: u32) -> Option<Ipv6Net> {
        let pinned = claim.pins.v6.get(index as usize).copied().filter(|net| {
            self.networks.get(net).is_some_and(|(owner, i, _)| (*owner, *i) == (at, index))
        });
        let held = || {
            let net = self.kept.blocks_v6.get(&format!("{}/{index}", claim.owner)).copied();
            net.filter(|_| claim.held.get(&index) == Some(&number))
        };
        pinned
            .or_else(held)
            .filter(|net| self.grid.is_segment_v6(*net))
            .or_else(|| self.grid.twin(number))
    }

    /// Gives block `number` to claim `at` of `claims` under `index`. `false` if the block or its IPv6 network is another's;
    /// that is a fault of `subject` where a pin is involved. Of two kept ones the file was tampered with, the later moves.
    fn give(
        &mut self,
        claims: &mut [Claim<'_>],
        at: usize,
        (index, number, by): (u32, u32, By),
        subject: &Subject,
        messages: &mut Messages,
    ) -> bool {
        let Some(claim) = claims.get(at) else { return false };
        let v6 = self.network(claim, at, index, number);
        let net = self.grid.net(number);
        let conflict = match self.blocks.get(&number) {
            Some((other, why)) if *other != at => Some((net.to_string(), "block", *other, *why)),
            _ => v6.and_then(|v6| match self.networks.get(&v6) {
                Some((other, i, why)) if (*other, *i) != (at, index) => {
                    Some((v6.to_string(), "IPv6 network", *other, *why))
                }
                _ => None,
            }),
        };
        if let Some((shown, what, other, why)) = conflict {
            let other = claims.get(other).map(Claim::name).unwrap_or_default();
            let of_block = if what == "block" { String::new() } else { format!(" of block {net}") };
            if by == By::Pin {
                let message = format!("{what} {shown}{of_block} belongs to {other}");
                messages.fault(subject, message, "pin another");
            } else if why == By::Pin {
                let message =
                    format!("{what} {shown}{of_block} is held by it and pinned by {other}");
                messages.fault(subject, message, "pin another, or remove one of the two first");
            }
            return false;
        }
        self.blocks.insert(number, (at, by));
        if let Some(v6) = v6 {
            self.networks.entry(v6).or_insert((at, index, by));
        }
        if let Some(claim) = claims.get_mut(at) {
            claim.blocks.insert(index, Place { number, v6 });
        }
        true
    }

    /// The first block that nobody has, nor its IPv6 network, for `index` of claim `at`.
    fn find(&mut self, claim: &Claim<'_>, at: usize, index: u32) -> Option<u32> {
        let free = |n: &u32| !self.blocks.contains_key(n);
        self.free = (self.free..self.grid.count).find(free).unwrap_or(self.grid.count);
        let alone = |n: &u32| {
            let net = self.network(claim, at, index, *n);
            let holder = net.and_then(|net| self.networks.get(&net));
            holder.is_none_or(|(other, i, _)| (*other, *i) == (at, index))
        };
        (self.free..self.grid.count).find(|n| free(n) && alone(n))
    }
}

/// Gives the control plane and namespaces their blocks, and workloads their addresses.
pub(crate) fn allocate(
    definitions: &Definitions,
    object: &SupervisorCluster,
    vms: &[String],
    kept: &Allocations,
    messages: &mut Messages,
) -> PodAddresses {
    let Some(grid) = Grid::new(object, messages) else {
        return PodAddresses::default();
    };
    let mut claims = claims(definitions, object, vms, (&grid, kept));
    let mut ledger =
        Ledger { grid: &grid, kept, blocks: BTreeMap::new(), networks: BTreeMap::new(), free: 0 };
    pin_networks(&mut ledger, &claims, messages);
    control_plane(&mut ledger, &mut claims, messages);
    pin_blocks(&mut ledger, &mut claims, messages);
    for at in 0..claims.len() {
        bring_blocks(&mut ledger, &mut claims, at, messages);
    }
    for claim in &mut claims {
        seats::pin(claim, &grid, messages);
    }
    for at in 0..claims.len() {
        keep_blocks(&mut ledger, &mut claims, at, messages);
    }
    for claim in &mut claims {
        seats::keep(claim, &grid, kept, messages);
    }
    let mut exhausted: Option<(Subject, usize)> = None;
    for at in 0..claims.len() {
        if !fill(&mut ledger, &mut claims, at, messages)
            && let Some(claim) = claims.get(at)
        {
            exhausted =
                Some(exhausted.map_or_else(|| (claim.subject.clone(), 1), |(s, n)| (s, n + 1)));
        }
    }
    if let Some((subject, count)) = exhausted {
        let more =
            if count > 1 { format!(" (and {} more namespaces)", count - 1) } else { String::new() };
        let message = format!(
            "podCIDR {} has no /{} block left for it{more}: all {} are in use",
            grid.root, grid.prefix, grid.count
        );
        messages.fault(&subject, message, "use a larger podCIDR, or remove namespaces or pods");
    }
    collect(&claims, &grid)
}

/// The control plane, then the namespaces that get blocks: all but those of the system that have no pods and no pin.
fn claims<'a>(
    definitions: &'a Definitions,
    object: &'a SupervisorCluster,
    vms: &'a [String],
    before: (&Grid, &Allocations),
) -> Vec<Claim<'a>> {
    let mut pods: BTreeMap<&str, Vec<Member<'a>>> = BTreeMap::new();
    let with_address = |pod: &Pod| !pod.host_network && !pod.terminal;
    for (key, pod) in definitions.pods.iter().filter(|(_, p)| with_address(p)) {
        pods.entry(&key.namespace).or_default().push(Member::Pod(key, pod));
    }
    let subject = Subject::new("SupervisorCluster", &object.meta);
    let members = vms.iter().map(|name| Member::Vm(name, object)).collect();
    let pins = &object.spec.pins.control_plane;
    let mut all = vec![Claim::new(CONTROL_PLANE, subject, pins, members, before)];
    for (name, namespace) in &definitions.namespaces {
        let members = pods.remove(name.as_str()).unwrap_or_default();
        let pins = &namespace.pins.subnets;
        if members.is_empty() && pins.v4.is_empty() && is_system(&object.spec, name) {
            continue;
        }
        let subject = Subject::new("Namespace", &namespace.meta);
        all.push(Claim::new(name, subject, pins, members, before));
    }
    all
}

/// IPv6 networks that annotations fix. One for an index that has no block yet waits for it.
fn pin_networks(ledger: &mut Ledger<'_>, claims: &[Claim<'_>], messages: &mut Messages) {
    for (at, claim) in claims.iter().enumerate() {
        for (index, net) in (0_u32..).zip(&claim.pins.v6) {
            if !ledger.grid.is_segment_v6(*net) {
                let (message, help) = match ledger.grid.root_v6 {
                    Some(root) => (
                        format!("{net} is no /64 network of podCIDRv6 {root}"),
                        format!("pin one such as {}", first_of(root)),
                    ),
                    None => (
                        format!("{net} is IPv6, which the cluster has none of"),
                        "leave it out, or state podCIDRv6".to_owned(),
                    ),
                };
                messages.fault(&claim.subject, message, help);
            } else if let Some((other, ..)) = ledger.networks.get(net) {
                let other = claims.get(*other).map(Claim::name).unwrap_or_default();
                let message = format!("IPv6 network {net} belongs to {other}");
                messages.fault(&claim.subject, message, "pin another");
            } else {
                ledger.networks.insert(*net, (at, index, By::Pin));
            }
        }
    }
}

fn first_of(root: Ipv6Net) -> Ipv6Net {
    Ipv6Net::new(root.network(), 64).unwrap_or(root)
}

/// The number of a pinned block; a fault if it is none.
fn pinned_block(
    grid: &Grid,
    net: Ipv4Net,
    subject: &Subject,
    messages: &mut Messages,
) -> Option<u32> {
    let number = grid.block(net);
    if number.is_none() {
        let message = format!("{net} is no /{} block of podCIDR {}", grid.prefix, grid.root);
        messages.fault(subject, message, format!("pin one such as {}", grid.net(1)));
    }
    number
}

/// The control plane's block: the pinned one, the one it had, or the first.
fn control_plane(ledger: &mut Ledger<'_>, claims: &mut [Claim<'_>], messages: &mut Messages) {
    let Some(claim) = claims.first() else { return };
    let subject = claim.subject.clone();
    let (number, by) = match claim.pins.v4.first() {
        Some(net) => match pinned_block(ledger.grid, *net, &subject, messages) {
            Some(number) => (number, By::Pin),
            None => return,
        },
        None => claim.held.get(&0).map_or((0, By::Choice), |number| (*number, By::Kept)),
    };
    ledger.give(claims, 0, (0, number, by), &subject, messages);
}

/// Blocks that annotations of namespaces fix, in order.
fn pin_blocks(ledger: &mut Ledger<'_>, claims: &mut [Claim<'_>], messages: &mut Messages) {
    for at in 1..claims.len() {
        let Some((subject, pins)) = claims.get(at).map(|c| (c.subject.clone(), c.pins)) else {
            continue;
        };
        for (index, net) in (0_u32..).zip(&pins.v4) {
            if let Some(number) = pinned_block(ledger.grid, *net, &subject, messages) {
                ledger.give(claims, at, (index, number, By::Pin), &subject, messages);
            }
        }
    }
}

/// Blocks that come with the addresses that annotations of pods fix. The control plane has one block.
fn bring_blocks(
    ledger: &mut Ledger<'_>,
    claims: &mut [Claim<'_>],
    at: usize,
    messages: &mut Messages,
) {
    let Some(members) = claims.get(at).map(|c| c.members.clone()).filter(|_| at > 0) else {
        return;
    };
    // Those that name an IPv4 address first: it says which block an IPv6 network goes with.
    for by_v6 in [false, true] {
        for (m, member) in members.iter().enumerate() {
            let Some(claim) = claims.get(at) else { return };
            let number = match (by_v6, member.pins()) {
                (false, PinnedAddresses { v4: Some(v4), .. }) => ledger.grid.seat(v4),
                (true, PinnedAddresses { v4: None, v6: Some(v6) }) => {
                    let has = |p: &Place| p.v6.is_some_and(|net| net.contains(&v6));
                    let elsewhere = !claim.blocks.values().any(has);
                    ledger.grid.number_of_twin(v6).filter(|_| elsewhere)
                }
                _ => None,
            };
            let Some(number) = number.filter(|n| claim.place(*n).is_none()) else { continue };
            let index = claim.index_for(number);
            let given =
                ledger.give(claims, at, (index, number, By::Pin), &member.subject(), messages);
            if !given && let Some(claim) = claims.get_mut(at) {
                claim.seats.refused.insert(m);
            }
        }
    }
}

/// Blocks that a claim held and may keep. Those after the first go when no pod of theirs lives.
fn keep_blocks(
    ledger: &mut Ledger<'_>,
    claims: &mut [Claim<'_>],
    at: usize,
    messages: &mut Messages,
) {
    // The control plane has had its one block.
    let Some(claim) = claims.get(at).filter(|_| at > 0) else { return };
    let (held, subject) = (claim.held.clone(), claim.subject.clone());
    let lived_in = seats::held_blocks(claim, ledger.grid, ledger.kept);
    for (index, number) in held {
        let Some(claim) = claims.get(at) else { return };
        let lives = index == 0 || lived_in.contains(&number);
        if lives && claim.place(number).is_none() && !claim.blocks.contains_key(&index) {
            ledger.give(claims, at, (index, number, By::Kept), &subject, messages);
        }
    }
}

/// Lowest-free addresses for the other workloads, with further blocks as needed. Returns `false` when there is no
/// block left.
fn fill(
    ledger: &mut Ledger<'_>,
    claims: &mut [Claim<'_>],
    at: usize,
    messages: &mut Messages,
) -> bool {
    let Some(claim) = claims.get_mut(at) else { return true };
    let mut missing = seats::fill_pinned(claim, ledger.grid, messages);
    if at == 0 {
        // Its block holds all VMs, unless pinned IPv6 addresses take the places of others. That it has none was told.
        if missing > 0 && !claim.blocks.is_empty() {
            let message = "its block has no address left for a control-plane VM";
            let help = "pin fewer of the VMs' IPv6 addresses, or all of their addresses";
            messages.fault(&claim.subject, message, help);
        }
        seats::fill(claim, ledger.grid);
        return true;
    }
    let subject = claim.subject.clone();
    loop {
        let Some(claim) = claims.get(at) else { return true };
        if missing == 0 && !claim.blocks.is_empty() {
            break;
        }
        let free = (0..).find(|i| !claim.blocks.contains_key(i)).unwrap_or(u32::MAX);
        let Some(number) = ledger.find(claim, at, free) else { return false };
        ledger.give(claims, at, (free, number, By::Choice), &subject, messages);
        missing = missing.saturating_sub(ledger.grid.usable() as usize);
    }
    if let Some(claim) = claims.get_mut(at) {
        seats::fill(claim, ledger.grid);
    }
    true
}

fn collect(claims: &[Claim<'_>], grid: &Grid) -> PodAddresses {
    let mut result = PodAddresses::default();
    for claim in claims {
        let mut at: BTreeMap<u32, usize> = BTreeMap::new();
        for (index, place) in &claim.blocks {
            at.insert(place.number, result.blocks.len());
            result.blocks.push(Block {
                owner: claim.owner.to_owned(),
                index: *index,
                net: grid.net(place.number),
                v6: place.v6,
            });
        }
        for (member, v4, v6) in claim.seats.given(&claim.members) {
            let Some(block) = grid.number_of(v4).and_then(|n| at.get(&n)).copied() else {
                continue;
            };
            match member {
                Member::Pod(key, _) => {
                    result.pods.insert((*key).clone(), Seat { v4, v6, block });
                }
                Member::Vm(..) => result.vms.push(Seat { v4, v6, block }),
            }
        }
    }
    result
}
