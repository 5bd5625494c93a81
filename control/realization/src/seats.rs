//! Addresses of workloads within the blocks of their namespace, or of the control plane.
//!
//! An IPv4 address brings the IPv6 address of the same number with it (see `grid`). Where an IPv6 address is pinned, its
//! number belongs to nobody else in that network: an IPv4 address whose companion somebody else has pinned is not given
//! out, and a pin on one is a fault.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use definitions::model::annotation;

use crate::allocations::Allocations;
use crate::blocks::{Claim, Member, Place};
use crate::fault::Messages;
use crate::grid::{GATEWAY, Grid};

/// Addresses of one claim's members, which are numbers into its list.
#[derive(Default)]
pub(crate) struct Seats {
    given: BTreeMap<usize, (Ipv4Addr, Option<Ipv6Addr>)>,
    used_v4: BTreeMap<Ipv4Addr, usize>,
    used_v6: BTreeMap<Ipv6Addr, usize>,
    /// Members of which only the IPv6 address is pinned, with the block that it says.
    waiting: BTreeMap<usize, (Place, Ipv6Addr)>,
    /// Members whose pins name another's block, which has been told.
    pub(crate) refused: BTreeSet<usize>,
}

impl Seats {
    /// Members with their addresses, in order.
    pub(crate) fn given<'s, 'a>(
        &'s self,
        members: &'s [Member<'a>],
    ) -> impl Iterator<Item = (&'s Member<'a>, Ipv4Addr, Option<Ipv6Addr>)> {
        self.given.iter().filter_map(|(m, (v4, v6))| Some((members.get(*m)?, *v4, *v6)))
    }

    fn take(&mut self, member: usize, v4: Ipv4Addr, v6: Option<Ipv6Addr>) {
        self.waiting.remove(&member);
        self.used_v4.insert(v4, member);
        if let Some(v6) = v6 {
            self.used_v6.insert(v6, member);
        }
        self.given.insert(member, (v4, v6));
    }

    /// Who else has one of these addresses.
    fn other(&self, member: usize, v4: Ipv4Addr, v6: Option<Ipv6Addr>) -> Option<(IpAddr, usize)> {
        let v4_taken = self.used_v4.get(&v4).map(|m| (IpAddr::V4(v4), *m));
        let v6_taken = || v6.and_then(|v6| Some((IpAddr::V6(v6), *self.used_v6.get(&v6)?)));
        v4_taken.filter(|(_, m)| *m != member).or_else(|| v6_taken().filter(|(_, m)| *m != member))
    }
}

/// The IPv6 address that goes with `v4` in a block.
fn companion(grid: &Grid, place: Place, v4: Ipv4Addr) -> Option<Ipv6Addr> {
    place.v6.map(|net| grid.above(place.number, net, v4))
}

/// Whether a workload may have `v6` in a block: it lies in its network and is neither the subnet-router anycast
/// address (RFC 4291, 2.6.1) nor the gateway's.
fn is_usable_v6(place: Place, v6: Ipv6Addr) -> bool {
    place.v6.is_some_and(|net| {
        net.contains(&v6) && u128::from(v6) - u128::from(net.network()) > u128::from(GATEWAY)
    })
}

/// Where a member's pins put it: its block, with a fault if there is none.
fn pinned_place(
    claim: &Claim<'_>,
    member: &Member<'_>,
    grid: &Grid,
    messages: &mut Messages,
) -> Option<Place> {
    let (pins, subject) = (member.pins(), member.subject());
    let what = match member {
        Member::Pod(..) => "a pod",
        Member::Vm(..) => "a control-plane VM",
    };
    let mut place = None;
    if let Some(v4) = pins.v4 {
        let Some(number) = grid.seat(v4) else {
            let message = format!("{v4} is no address for {what} in podCIDR {}", grid.root);
            let help = "pin one inside, other than the first two and the last of its block";
            messages.fault(&subject, message, help);
            return None;
        };
        place = claim.place(number);
    }
    let Some(v6) = pins.v6 else {
        return place.or_else(|| {
            outside_control_plane(member, IpAddr::V4(pins.v4?), claim, grid, messages);
            None
        });
    };
    if pins.v4.is_none() {
        let has = |p: &&Place| p.v6.is_some_and(|net| net.contains(&v6));
        place = claim.blocks.values().find(has).copied();
    }
    match place {
        Some(place) if is_usable_v6(place, v6) => Some(place),
        _ if grid.root_v6.is_none() => {
            let message = format!("{v6} is IPv6, which the cluster has none of");
            messages.fault(&subject, message, "leave it out, or state podCIDRv6");
            None
        }
        Some(Place { v6: Some(net), .. }) => {
            let message = format!("{v6} is no address for {what} in {net}, its IPv6 network");
            messages.fault(&subject, message, "pin one inside, other than the first two");
            None
        }
        _ => {
            if !outside_control_plane(member, IpAddr::V6(v6), claim, grid, messages) {
                let message = format!("{v6} is in no IPv6 network of its namespace");
                let help = format!("pin the network with {}, or another", annotation::SUBNET);
                messages.fault(&subject, message, help);
            }
            None
        }
    }
}

/// Tells of a VM's address beside the control plane's one block; `false` for a pod.
fn outside_control_plane(
    member: &Member<'_>,
    address: IpAddr,
    claim: &Claim<'_>,
    grid: &Grid,
    messages: &mut Messages,
) -> bool {
    let Member::Vm(name, _) = member else { return false };
    // Without a block that has its own message.
    if let Some(place) = claim.blocks.values().next() {
        let net = grid.net(place.number);
        let message = format!("{address} of {name} is not in the control plane's block, {net}");
        let help = format!("pin one of it, or the block with {}", annotation::CONTROL_PLANE_SUBNET);
        messages.fault(&member.subject(), message, help);
    }
    true
}

/// Enters what is pinned.
pub(crate) fn pin(claim: &mut Claim<'_>, grid: &Grid, messages: &mut Messages) {
    let mut seats = std::mem::take(&mut claim.seats);
    let mut alone: Vec<(usize, Place, Ipv4Addr)> = Vec::new();
    for (m, member) in claim.members.iter().enumerate() {
        let pins = member.pins();
        if pins.iter().next().is_none() || seats.refused.contains(&m) {
            continue;
        }
        let Some(place) = pinned_place(claim, member, grid, messages) else { continue };
        let taken = pins.v4.and_then(|v4| seats.other(m, v4, pins.v6)).or_else(|| {
            let v6 = pins.v6?;
            Some((IpAddr::V6(v6), *seats.used_v6.get(&v6)?))
        });
        if let Some((address, other)) = taken {
            let other = claim.members.get(other).map(Member::name).unwrap_or_default();
            let message = format!("{address} is asked for twice: {other} has it");
            messages.fault(&member.subject(), message, "give each its own");
            continue;
        }
        match (pins.v4, pins.v6) {
            (Some(v4), None) => {
                seats.used_v4.insert(v4, m);
                alone.push((m, place, v4));
            }
            (Some(v4), v6) => seats.take(m, v4, v6),
            (None, Some(v6)) => {
                seats.used_v6.insert(v6, m);
                seats.waiting.insert(m, (place, v6));
            }
            (None, None) => {}
        }
    }
    for (m, place, v4) in alone {
        let v6 = companion(grid, place, v4);
        if let Some((address, other)) = seats.other(m, v4, v6)
            && let (Some(member), Some(other)) = (claim.members.get(m), claim.members.get(other))
        {
            let message = format!("{address}, which goes with {v4}, is pinned by {}", other.name());
            let help = "pin its IPv6 address too, or another IPv4 address";
            messages.fault(&member.subject(), message, help);
        } else {
            seats.take(m, v4, v6);
        }
    }
    claim.seats = seats;
}

/// The address that a member without a pinned one held, with its block number.
fn held(member: &Member<'_>, grid: &Grid, kept: &Allocations) -> Option<(Ipv4Addr, u32)> {
    if member.pins().v4.is_some() {
        return None;
    }
    let v4 = kept.pods.get(&member.key()).copied()?;
    Some((v4, grid.seat(v4)?))
}

/// The blocks that the claim's members held addresses in.
pub(crate) fn held_blocks(claim: &Claim<'_>, grid: &Grid, kept: &Allocations) -> BTreeSet<u32> {
    claim.members.iter().filter_map(|m| held(m, grid, kept)).map(|(_, number)| number).collect()
}

/// What members held and may keep.
pub(crate) fn keep(
    claim: &mut Claim<'_>,
    grid: &Grid,
    kept: &Allocations,
    messages: &mut Messages,
) {
    let mut seats = std::mem::take(&mut claim.seats);
    for (m, member) in claim.members.iter().enumerate() {
        let Some((v4, number)) = held(member, grid, kept) else { continue };
        let Some(place) = claim.place(number) else { continue };
        let v6 = match seats.waiting.get(&m) {
            Some((other, _)) if other.number != number => continue,
            Some((_, v6)) => Some(*v6),
            None => {
                let held = kept.pods_v6.get(&member.key()).copied();
                let held = held.filter(|v6| is_usable_v6(place, *v6));
                held.or_else(|| companion(grid, place, v4))
            }
        };
        match seats.other(m, v4, v6) {
            None => seats.take(m, v4, v6),
            // Of two kept ones the file was tampered with: the later moves.
            Some((address, other)) => {
                let other = claim.members.get(other);
                if let Some(other) = other.filter(|o| o.pins().iter().next().is_some()) {
                    let message = format!("{address} is held by it and pinned by {}", other.name());
                    let help = "pin another, or remove one of the two first";
                    messages.fault(&member.subject(), message, help);
                }
            }
        }
    }
    claim.seats = seats;
}

/// Gives IPv4 addresses to those of which only the IPv6 address is pinned: the one of the same number, else the lowest
/// free of the block. Returns how many members there is no room for in the claim's blocks.
pub(crate) fn fill_pinned(claim: &mut Claim<'_>, grid: &Grid, messages: &mut Messages) -> usize {
    let mut seats = std::mem::take(&mut claim.seats);
    for (m, (place, v6)) in seats.waiting.clone() {
        let beside = place.v6.and_then(|net| grid.beside(place.number, net, v6));
        if let Some(v4) = beside.filter(|v4| !seats.used_v4.contains_key(v4)) {
            seats.take(m, v4, Some(v6));
        }
    }
    for (m, (place, v6)) in seats.waiting.clone() {
        let mut free =
            grid.usable_addresses(place.number).filter(|v4| !seats.used_v4.contains_key(v4));
        match free.next() {
            Some(v4) => seats.take(m, v4, Some(v6)),
            None => {
                let Some(member) = claim.members.get(m) else { continue };
                let message = format!(
                    "block {}, which {v6} belongs to, has no IPv4 address left for it",
                    grid.net(place.number)
                );
                messages.fault(&member.subject(), message, "pin an address of another block");
            }
        }
    }
    let mut blocked: BTreeSet<Ipv4Addr> = seats.used_v4.keys().copied().collect();
    for place in claim.blocks.values() {
        let Some(net) = place.v6 else { continue };
        let inside = seats.used_v6.range(net.network()..=net.broadcast());
        blocked.extend(inside.filter_map(|(v6, _)| grid.beside(place.number, net, *v6)));
    }
    let room = (claim.blocks.len() * grid.usable() as usize).saturating_sub(blocked.len());
    let open = claim.members.len().saturating_sub(seats.given.len());
    claim.seats = seats;
    open.saturating_sub(room)
}

/// Lowest-free addresses for everybody else.
pub(crate) fn fill(claim: &mut Claim<'_>, grid: &Grid) {
    let mut seats = std::mem::take(&mut claim.seats);
    let places: Vec<Place> = claim.blocks.values().copied().collect();
    let mut addresses = places.iter().flat_map(|place| {
        grid.usable_addresses(place.number).map(|v4| (v4, companion(grid, *place, v4)))
    });
    for m in 0..claim.members.len() {
        if seats.given.contains_key(&m) || seats.waiting.contains_key(&m) {
            continue;
        }
        let Some((v4, v6)) = addresses.find(|(v4, v6)| seats.other(m, *v4, *v6).is_none()) else {
            break;
        };
        seats.take(m, v4, v6);
    }
    claim.seats = seats;
}
