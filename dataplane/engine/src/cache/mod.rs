//! The flow cache: what the walk found out, ready to be repeated (promise 2).
//!
//! Private to one worker. An entry holds guards, a rewrite and an output port; the only state it
//! owns are observations not yet reported to its session (promise 4). Only TCP and UDP are cached: that is
//! what comes in numbers. The cache is generic over the width of addresses.

mod entry;
mod key;
mod path;
mod state;
mod table;

pub use entry::{NewEntry, Owner, Repeat, Seen};
pub use key::FlowKey;
pub use path::{Path, Terms};
pub use state::State;
pub use table::{FlowCache, Looked};

use packet::{Frame, Headers, Ip, Transport};

/// Octets of the largest IP packet that the frame becomes on a wire.
#[must_use]
pub fn wire_len(frame: &Frame, headers: &Headers, ip: &Ip) -> u32 {
    match &frame.segmentation {
        None => ip.total_len,
        Some(s) => {
            let transport = match ip.transport {
                Transport::Tcp(t) => u32::from(t.header_len),
                _ => 8,
            };
            let network = u32::from(ip.l4).saturating_sub(u32::from(headers.l3));
            ip.total_len.min(network + transport + u32::from(s.size))
        }
    }
}

/// Packets on a wire that the frame stands for.
#[must_use]
pub fn wire_packets(frame: &Frame, headers: &Headers) -> u64 {
    let (Some(s), Some(ip)) = (&frame.segmentation, headers.ip()) else {
        return 1;
    };
    let transport = match ip.transport {
        Transport::Tcp(t) => u32::from(t.header_len),
        _ => 8,
    };
    let network = u32::from(ip.l4).saturating_sub(u32::from(headers.l3));
    let data = ip.total_len.saturating_sub(network + transport);
    u64::from(data.div_ceil(u32::from(s.size).max(1))).max(1)
}
