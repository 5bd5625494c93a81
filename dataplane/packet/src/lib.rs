//! Bytes on the wire.
//!
//! This crate is the only one that knows IPv4 from IPv6 on the wire. It parses a frame into
//! [`Headers`], turns the difference of two `Headers` into a [`Rewrite`], and builds the frames that
//! a network device originates (ARP and neighbour discovery, ICMP errors, echo replies, TCP resets).
//! It keeps no state, reads no clock and never panics on any input.

mod addr;
mod arp;
mod build;
mod checksum;
mod describe;
mod fragment;
mod frame;
mod headers;
mod icmp;
mod mac;
mod nd;
mod octets;
mod parse;
mod parse_icmp;
mod plain;
mod rewrite;
mod segment;
#[cfg(test)]
mod tests;
mod time;

pub use addr::Addr;
pub use arp::{arp_reply, arp_request, gratuitous_arp};
pub use build::FrameBuilder;
pub use checksum::{Delta, checksum, complete, pseudo_header_sum, sum, verify_transport};
pub use describe::describe;
pub use fragment::fragment_ipv4;
pub use frame::{ChecksumState, Frame, Segmentation, SegmentationKind};
pub use headers::*;
pub use icmp::{IcmpErrorKind, echo_reply, icmp_error, tcp_reset};
pub use mac::Mac;
pub use nd::{multicast_mac, neighbor_advertisement, neighbor_solicitation, solicited_node_addr};
pub use parse::{ParseError, parse};
pub use plain::{Flow, LinkRewrite, Plain, PlainRewrite, Upper, flow4, flow6, plain4, plain6};
pub use rewrite::{EmbeddedRewrite, Rewrite, rewrite};
pub use segment::segment;
pub use time::Time;
