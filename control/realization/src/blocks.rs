//! Blocks of the pod CIDR and the pods' addresses in them.
//!
//! The first block is the control plane's (F2). A namespace has as many blocks as its pods need; a full one is
//! followed by another (features.md 3.B). A pinned address brings its block to the pod's namespace. The first
//! address of a block is the gateway's; the network's own and the broadcast address are never given out, which
//! leaves 13 of a /28.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};

use definitions::model::{Definitions, Namespace, ObjectName, Pod, SupervisorCluster};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::addressing::{Block, CONTROL_PLANE, is_system};
use crate::allocations::Allocations;
use crate::fault::{Messages, Subject};

/// Blocks, and the pods in them.
#[derive(Debug, Default)]
pub(crate) struct PodAddresses {
    /// The control plane's, then by namespace and index.
    pub(crate) blocks: Vec<Block>,
    /// Address and index into `blocks` of every pod that has an address of its own.
    pub(crate) pods: BTreeMap<ObjectName, (Ipv4Addr, usize)>,
}

/// The pod CIDR cut into blocks, numbered from 0.
struct Grid {
    root: Ipv4Net,
    root_v6: Option<Ipv6Net>,
    prefix: u8,
    count: u32,
}

impl Grid {
    /// Addresses of one block.
    fn size(&self) -> u32 {
        1_u32 << (32 - u32::from(self.prefix))
    }

    /// Addresses that pods can have in one block.
    fn usable(&self) -> u32 {
        self.size().saturating_sub(3)
    }

    fn net(&self, number: u32) -> Ipv4Net {
        let first = u32::from(self.root.network()).wrapping_add(number.wrapping_mul(self.size()));
        Ipv4Net::new(first.into(), self.prefix).unwrap_or(self.root)
    }

    fn v6(&self, number: u32) -> Option<Ipv6Net> {
        let first = u128::from(self.root_v6?.network()) + (u128::from(number) << 64);
        Ipv6Net::new(first.into(), 64).ok()
    }

    /// The number of the block that holds `address`.
    fn number_of(&self, address: Ipv4Addr) -> Option<u32> {
        self.root
            .contains(&address)
            .then(|| (u32::from(address) - u32::from(self.root.network())) / self.size())
    }

    /// The number of `net`, where it is a block.
    fn block(&self, net: Ipv4Net) -> Option<u32> {
        self.number_of(net.network()).filter(|n| self.net(*n) == net)
    }

    /// Whether a pod may have `address`, which lies in block `number`.
    fn is_usable(&self, number: u32, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(u32::from(self.net(number).network()));
        (2..self.size() - 1).contains(&offset)
    }

    fn usable_addresses(&self, number: u32) -> impl Iterator<Item = Ipv4Addr> {
        let first = u32::from(self.net(number).network());
        (2..self.size() - 1).map(move |offset| Ipv4Addr::from(first + offset))
    }
}

fn grid(object: &SupervisorCluster, messages: &mut Messages) -> Option<Grid> {
    let spec = &object.spec;
    let subject = Subject::new("SupervisorCluster", &object.meta);
    let (root, prefix) = (*spec.pod_cidr, spec.namespace_prefix);
    if !(16..=30).contains(&prefix) || prefix < root.prefix_len() {
        let message =
            format!("podCIDR {root} holds no block of prefix length {prefix} (namespacePrefix)");
        messages.fault(
            &subject,
            message,
            "choose a namespacePrefix from the podCIDR's prefix length to 30",
        );
        return None;
    }
    let bits = u32::from(prefix - root.prefix_len());
    let root_v6 = spec.pod_cidr_v6.map(|n| *n);
    if let Some(v6) = root_v6
        && u32::from(v6.prefix_len()) + bits > 64
    {
        let message =
            format!("podCIDRv6 {v6} holds fewer /64 networks than podCIDR {root} has blocks");
        messages.fault(&subject, message, format!("use a prefix length of {} at most", 64 - bits));
        return None;
    }
    let grid = Grid { root, root_v6, prefix, count: 1 << bits };
    if u32::from(spec.control_plane.replicas) > grid.usable() {
        let message = format!(
            "{} control-plane VMs do not fit into a /{prefix} block, which has {} addresses for workloads",
            spec.control_plane.replicas,
            grid.usable()
        );
        messages.fault(&subject, message, "choose a shorter namespacePrefix");
        return None;
    }
    Some(grid)
}

/// A namespace while its blocks are being found.
struct Claim<'a> {
    namespace: &'a Namespace,
    /// Pods with an address of their own, sorted.
    pods: Vec<(&'a ObjectName, &'a Pod)>,
    /// Block numbers by index.
    blocks: BTreeMap<u32, u32>,
    /// Addresses given so far.
    given: BTreeMap<&'a ObjectName, Ipv4Addr>,
}

impl<'a> Claim<'a> {
    fn new(namespace: &'a Namespace, pods: Vec<(&'a ObjectName, &'a Pod)>) -> Claim<'a> {
        Claim { namespace, pods, blocks: BTreeMap::new(), given: BTreeMap::new() }
    }

    fn subject(&self) -> Subject {
        Subject::new("Namespace", &self.namespace.meta)
    }

    fn has(&self, number: u32) -> bool {
        self.blocks.values().any(|n| *n == number)
    }

    /// Adds a block under the lowest index that is neither used nor in `avoid`.
    fn add(&mut self, number: u32, avoid: &BTreeMap<u32, u32>) {
        let free = (0..).find(|i| !self.blocks.contains_key(i) && !avoid.contains_key(i));
        self.blocks.insert(free.unwrap_or(u32::MAX), number);
    }
}

/// Gives namespaces their blocks and pods their addresses.
pub(crate) fn allocate(
    definitions: &Definitions,
    object: &SupervisorCluster,
    kept: &Allocations,
    messages: &mut Messages,
) -> PodAddresses {
    let Some(grid) = grid(object, messages) else {
        return PodAddresses::default();
    };
    let mut claims = claims(definitions, object);
    let mut taken: BTreeMap<u32, String> = BTreeMap::from([(0, "the control plane".to_owned())]);
    let kept_blocks: Vec<BTreeMap<u32, u32>> =
        claims.iter().map(|c| kept_blocks(c, &grid, kept)).collect();
    for (claim, held) in claims.iter_mut().zip(&kept_blocks) {
        pin(claim, held, &grid, &mut taken, messages);
    }
    for (claim, held) in claims.iter_mut().zip(&kept_blocks) {
        keep(claim, held, &grid, kept, &mut taken, messages);
    }
    let mut free = 0;
    let mut exhausted: Option<(Subject, usize)> = None;
    for claim in &mut claims {
        if !fill(claim, &grid, &mut free, &mut taken) {
            exhausted = Some(exhausted.map_or((claim.subject(), 1), |(s, n)| (s, n + 1)));
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

/// The namespaces that get blocks: all but those of the system that have no pods.
fn claims<'a>(definitions: &'a Definitions, object: &SupervisorCluster) -> Vec<Claim<'a>> {
    let mut pods: BTreeMap<&str, Vec<(&ObjectName, &Pod)>> = BTreeMap::new();
    let with_address = |pod: &Pod| !pod.host_network && !pod.terminal;
    for (key, pod) in definitions.pods.iter().filter(|(_, p)| with_address(p)) {
        pods.entry(&key.namespace).or_default().push((key, pod));
    }
    definitions
        .namespaces
        .values()
        .map(|n| Claim::new(n, pods.remove(n.meta.name.as_str()).unwrap_or_default()))
        .filter(|c| !c.pods.is_empty() || !is_system(&object.spec, &c.namespace.meta.name))
        .collect()
}

/// The blocks a namespace held, by index, as far as they are blocks of today's grid.
fn kept_blocks(claim: &Claim<'_>, grid: &Grid, kept: &Allocations) -> BTreeMap<u32, u32> {
    let prefix = format!("{}/", claim.namespace.meta.name);
    kept.blocks
        .range(prefix.clone()..)
        .take_while(|(key, _)| key.starts_with(&prefix))
        .filter_map(|(key, net)| {
            let index: u32 = key.get(prefix.len()..)?.parse().ok()?;
            Some((index, grid.block(*net)?))
        })
        .collect()
}

/// Blocks and addresses that annotations fix.
fn pin<'a>(
    claim: &mut Claim<'a>,
    held: &BTreeMap<u32, u32>,
    grid: &Grid,
    taken: &mut BTreeMap<u32, String>,
    messages: &mut Messages,
) {
    let subject = claim.subject();
    if let Some(net) = claim.namespace.pins.subnet {
        match grid.block(net) {
            Some(number) if claim_block(claim, number, &subject, grid, taken, messages) => {
                claim.blocks.insert(0, number);
            }
            Some(_) => {}
            None => {
                let message =
                    format!("{net} is no /{} block of podCIDR {}", grid.prefix, grid.root);
                messages.fault(&subject, message, format!("pin one such as {}", grid.net(1)));
            }
        }
    }
    let mut owners: BTreeMap<Ipv4Addr, &ObjectName> = BTreeMap::new();
    for (key, pod) in claim.pods.clone() {
        let Some(pin) = pod.pins.ip else { continue };
        let subject = Subject::new("Pod", &pod.meta);
        let usable = match pin {
            IpAddr::V4(address) => grid
                .number_of(address)
                .filter(|n| grid.is_usable(*n, address))
                .map(|n| (address, n)),
            IpAddr::V6(_) => None,
        };
        let Some((address, number)) = usable else {
            let message = format!("{pin} is no address for a pod in podCIDR {}", grid.root);
            let help = "pin one inside, other than the first two and the last of its block";
            messages.fault(&subject, message, help);
            continue;
        };
        if let Some(other) = owners.insert(address, key) {
            let message = format!("{address} is asked for twice: pod {other} has it");
            messages.fault(&subject, message, "give each its own");
            continue;
        }
        if !claim.has(number) {
            if !claim_block(claim, number, &subject, grid, taken, messages) {
                continue;
            }
            match held.iter().find(|(index, n)| **n == number && !claim.blocks.contains_key(index))
            {
                Some((index, _)) => {
                    claim.blocks.insert(*index, number);
                }
                None => claim.add(number, held),
            }
        }
        claim.given.insert(key, address);
    }
}

/// Marks a block as a namespace's; `false`, with a fault, if it is another's.
fn claim_block(
    claim: &Claim<'_>,
    number: u32,
    subject: &Subject,
    grid: &Grid,
    taken: &mut BTreeMap<u32, String>,
    messages: &mut Messages,
) -> bool {
    let name = format!("namespace {}", claim.namespace.meta.name);
    match taken.get(&number) {
        Some(other) if *other != name => {
            messages.fault(
                subject,
                format!("block {} belongs to {other}", grid.net(number)),
                "pin another",
            );
            false
        }
        _ => {
            taken.insert(number, name);
            true
        }
    }
}

/// What a namespace and its pods held and may keep. Blocks after the first go when no pod of theirs lives.
fn keep<'a>(
    claim: &mut Claim<'a>,
    held: &BTreeMap<u32, u32>,
    grid: &Grid,
    kept: &Allocations,
    taken: &mut BTreeMap<u32, String>,
    messages: &mut Messages,
) {
    let pods = claim.pods.clone();
    let mut wanted: Vec<(&ObjectName, &Pod, Ipv4Addr, u32)> = Vec::new();
    for (key, pod) in pods {
        if pod.pins.ip.is_none()
            && let Some(address) = kept.pods.get(&key.to_string()).copied()
            && let Some(number) = grid.number_of(address).filter(|n| grid.is_usable(*n, address))
        {
            wanted.push((key, pod, address, number));
        }
    }
    for (index, number) in held {
        let lives = *index == 0 || wanted.iter().any(|(.., n)| n == number);
        if claim.has(*number) || claim.blocks.contains_key(index) || !lives {
            continue;
        }
        let subject = claim.subject();
        if claim_block(claim, *number, &subject, grid, taken, messages) {
            claim.blocks.insert(*index, *number);
        }
    }
    let mut used: BTreeMap<Ipv4Addr, &ObjectName> =
        claim.given.iter().map(|(k, a)| (*a, *k)).collect();
    for (key, pod, address, number) in wanted {
        if !claim.has(number) {
            continue;
        }
        match used.get(&address) {
            None => {
                used.insert(address, key);
                claim.given.insert(key, address);
            }
            Some(other) => {
                let message = format!("{address} is held by it and pinned by pod {other}");
                let help = "pin another, or remove one of the two first";
                messages.fault(&Subject::new("Pod", &pod.meta), message, help);
            }
        }
    }
}

/// Lowest-free addresses for the other pods, with further blocks as needed. `free` is where the search for a
/// free block goes on. Returns `false` when there is no block left.
fn fill(
    claim: &mut Claim<'_>,
    grid: &Grid,
    free: &mut u32,
    taken: &mut BTreeMap<u32, String>,
) -> bool {
    let open = claim.pods.len() - claim.given.len();
    let name = format!("namespace {}", claim.namespace.meta.name);
    loop {
        let room = claim.blocks.len() * grid.usable() as usize;
        if !claim.blocks.is_empty() && room >= claim.given.len() + open {
            break;
        }
        let Some(number) = (*free..grid.count).find(|n| !taken.contains_key(n)) else {
            return false;
        };
        *free = number + 1;
        taken.insert(number, name.clone());
        claim.add(number, &BTreeMap::new());
    }
    let used: BTreeSet<Ipv4Addr> = claim.given.values().copied().collect();
    let numbers: Vec<u32> = claim.blocks.values().copied().collect();
    let mut addresses =
        numbers.iter().flat_map(|n| grid.usable_addresses(*n)).filter(|a| !used.contains(a));
    for (key, _) in &claim.pods {
        if !claim.given.contains_key(key)
            && let Some(address) = addresses.next()
        {
            claim.given.insert(key, address);
        }
    }
    true
}

fn collect(claims: &[Claim<'_>], grid: &Grid) -> PodAddresses {
    let block = |owner: &str, index: u32, number: u32| Block {
        owner: owner.to_owned(),
        index,
        net: grid.net(number),
        v6: grid.v6(number),
    };
    let mut result =
        PodAddresses { blocks: vec![block(CONTROL_PLANE, 0, 0)], ..PodAddresses::default() };
    for claim in claims {
        let mut at: BTreeMap<u32, usize> = BTreeMap::new();
        for (index, number) in &claim.blocks {
            at.insert(*number, result.blocks.len());
            result.blocks.push(block(&claim.namespace.meta.name, *index, *number));
        }
        for (key, address) in &claim.given {
            if let Some(block) = grid.number_of(*address).and_then(|n| at.get(&n)) {
                result.pods.insert((*key).clone(), (*address, *block));
            }
        }
    }
    result
}
