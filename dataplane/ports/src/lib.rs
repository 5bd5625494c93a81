//! Frames from outside: memory, capture files, TAP interfaces in Linux network namespaces.
//!
//! A port hands over [`packet::Frame`]s and takes them; it never looks further into a frame than its
//! offload description needs, and knows nothing of the engine. Every port has the same two calls:
//! `recv(&mut Frame) -> io::Result<bool>` and `send(&Frame) -> io::Result<()>`; neither ever waits.
//! Waiting is the [`Poller`]'s.
//!
//! What a port cannot deliver it counts: a frame that went in and did not come out is in exactly one
//! of its counters.
//!
//! # What live ports need from the system
//!
//! Linux; `/dev/net/tun`; the capabilities `CAP_NET_ADMIN` (TAPs) and `CAP_SYS_ADMIN` (network
//! namespaces), in practice root; and iproute2's `ip`, the same program that a user inspects the lab
//! with. Memory and capture files need none of these.
//!
//! # Unsafe code
//!
//! This crate is the only one of the workspace with unsafe code: in `tun.rs` three `ioctl` calls that have no
//! safe wrapper, in `descriptors.rs` one by which a thread leaves the descriptor table of the others.

mod buffers;
mod descriptors;
mod inventory;
mod ip;
mod memory;
mod netns;
mod offload;
mod pcap;
mod poll;
mod removal;
mod resolver;
mod tap;
mod tun;

pub use buffers::Buffers;
pub use descriptors::with_own_descriptors;
pub use inventory::{Inventory, InventoryError, Sweep};
pub use ip::{Ip, IpError};
pub use memory::{MemoryCounters, MemoryPort, memory_pair};
pub use netns::{
    InterfaceConfig, InterfaceName, NameError, Netns, NetnsError, NetnsName, Route, in_netns,
};
pub use offload::{VNET_HEADER_LEN, VnetHeader, VnetRefusal, wire_frames};
pub use pcap::{PcapFault, PcapFileError, PcapReader, PcapWriter, SNAPLEN};
pub use poll::{Poller, Ready, Waker};
pub use resolver::{Resolver, ResolverError};
pub use tap::{MAX_FRAME_LEN, Tap, TapCounters, TapError, TapOptions};
pub use tun::Offloads;
