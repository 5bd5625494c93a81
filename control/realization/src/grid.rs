//! The pod CIDR cut into blocks of one size, and the IPv6 network that goes with each.
//!
//! Block *n* of the pod CIDR has the *n*-th /64 of the IPv6 pod CIDR as its *twin*, and a workload at the *n*-th address of
//! its block the *n*-th address of the twin, unless either is pinned otherwise: one allocation decides both families.

use std::net::{Ipv4Addr, Ipv6Addr};

use definitions::model::SupervisorCluster;
use ipnet::{Ipv4Net, Ipv6Net};

use crate::fault::{Messages, Subject};

/// Number of the gateway's address in a block and in its IPv6 network.
pub(crate) const GATEWAY: u32 = 1;

/// The pod CIDR cut into blocks, numbered from 0.
pub(crate) struct Grid {
    pub(crate) root: Ipv4Net,
    pub(crate) root_v6: Option<Ipv6Net>,
    /// Prefix length of a block.
    pub(crate) prefix: u8,
    /// How many blocks there are.
    pub(crate) count: u32,
}

impl Grid {
    /// The grid of a cluster; none, with a fault, where the CIDRs do not fit each other or the control plane no block.
    pub(crate) fn new(object: &SupervisorCluster, messages: &mut Messages) -> Option<Grid> {
        let spec = &object.spec;
        let subject = Subject::new("SupervisorCluster", &object.meta);
        let (root, prefix) = (*spec.pod_cidr, spec.namespace_prefix);
        if !(16..=30).contains(&prefix) || prefix < root.prefix_len() {
            let message = format!(
                "podCIDR {root} holds no block of prefix length {prefix} (namespacePrefix)"
            );
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
            let help = format!("use a prefix length of {} at most", 64 - bits);
            messages.fault(&subject, message, help);
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

    /// Addresses of one block.
    fn size(&self) -> u32 {
        1_u32 << (32 - u32::from(self.prefix))
    }

    /// Addresses that workloads can have in one block: all but the network's, the gateway's and the broadcast address.
    pub(crate) fn usable(&self) -> u32 {
        self.size().saturating_sub(3)
    }

    /// Block `number`.
    pub(crate) fn net(&self, number: u32) -> Ipv4Net {
        let first = u32::from(self.root.network()).wrapping_add(number.wrapping_mul(self.size()));
        Ipv4Net::new(first.into(), self.prefix).unwrap_or(self.root)
    }

    /// The IPv6 network that goes with block `number`.
    pub(crate) fn twin(&self, number: u32) -> Option<Ipv6Net> {
        let first = u128::from(self.root_v6?.network()) + (u128::from(number) << 64);
        Ipv6Net::new(first.into(), 64).ok()
    }

    /// The block whose twin holds `address`.
    pub(crate) fn number_of_twin(&self, address: Ipv6Addr) -> Option<u32> {
        let root = self.root_v6.filter(|root| root.contains(&address))?;
        let number = (u128::from(address) - u128::from(root.network())) >> 64;
        u32::try_from(number).ok().filter(|n| *n < self.count)
    }

    /// Whether `net` can be a segment's IPv6 network.
    pub(crate) fn is_segment_v6(&self, net: Ipv6Net) -> bool {
        net.prefix_len() == 64 && self.root_v6.is_some_and(|root| root.contains(&net))
    }

    /// The number of the block that holds `address`.
    pub(crate) fn number_of(&self, address: Ipv4Addr) -> Option<u32> {
        self.root
            .contains(&address)
            .then(|| (u32::from(address) - u32::from(self.root.network())) / self.size())
    }

    /// The number of `net`, where it is a block.
    pub(crate) fn block(&self, net: Ipv4Net) -> Option<u32> {
        self.number_of(net.network()).filter(|n| self.net(*n) == net)
    }

    /// The number of `address` within block `number`, if a workload may have it.
    pub(crate) fn offset(&self, number: u32, address: Ipv4Addr) -> Option<u32> {
        let first = u32::from(self.net(number).network());
        let offset = u32::from(address).wrapping_sub(first);
        (GATEWAY + 1..self.size() - 1).contains(&offset).then_some(offset)
    }

    /// The block of `address`, if a workload may have it.
    pub(crate) fn seat(&self, address: Ipv4Addr) -> Option<u32> {
        self.number_of(address).filter(|n| self.offset(*n, address).is_some())
    }

    /// The addresses of block `number` that workloads may have.
    pub(crate) fn usable_addresses(&self, number: u32) -> impl Iterator<Item = Ipv4Addr> + use<> {
        let first = u32::from(self.net(number).network());
        (GATEWAY + 1..self.size() - 1).map(move |offset| Ipv4Addr::from(first + offset))
    }

    /// The address of block `number` that goes with `address`, which lies in `net`, the block's IPv6 network.
    pub(crate) fn beside(&self, number: u32, net: Ipv6Net, address: Ipv6Addr) -> Option<Ipv4Addr> {
        let offset = u128::from(address).checked_sub(u128::from(net.network()))?;
        let offset = u32::try_from(offset).ok().filter(|o| *o < self.size())?;
        let v4 = Ipv4Addr::from(u32::from(self.net(number).network()) + offset);
        self.offset(number, v4).map(|_| v4)
    }

    /// The address of `net`, the IPv6 network of block `number`, that goes with `address`.
    pub(crate) fn above(&self, number: u32, net: Ipv6Net, address: Ipv4Addr) -> Ipv6Addr {
        let offset = u32::from(address).wrapping_sub(u32::from(self.net(number).network()));
        (u128::from(net.network()) + u128::from(offset)).into()
    }
}
