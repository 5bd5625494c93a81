//! The Internet checksum: RFC 1071 (sums), RFC 1624 (incremental update), and the pseudo headers of
//! RFC 9293, 3.1 (TCP over IPv4) and RFC 8200, 8.1 (IPv6).
//!
//! Two notions that must not be mixed: a *sum* is the one's-complement sum of 16-bit words; a
//! *checksum* is the complement of a sum, as it stands in a header.

use crate::octets::{array_at, array_at_mut, put, u16_at};
use crate::{Addr, ChecksumState, Frame, Headers, Transport, protocol};
use std::ops::Add;

/// The one's-complement sum of the octets as 16-bit words in network byte order; an odd last octet
/// is the high half of a word (RFC 1071). 0 only if every octet is zero.
#[must_use]
#[inline]
pub fn sum(bytes: &[u8]) -> u16 {
    // RFC 1071, 2 (B): the sum does not depend on byte order, so add in the machine's own and swap
    // once. 64 bits hold the carries of 2^32 words; wrapping lets the compiler vectorize.
    let mut words = bytes.chunks_exact(4);
    let mut total = 0u64;
    for word in words.by_ref() {
        let word = word.first_chunk().map_or(0, |w| u32::from_ne_bytes(*w));
        total = total.wrapping_add(u64::from(word));
    }
    let mut last = [0u8; 4];
    for (to, from) in last.iter_mut().zip(words.remainder()) {
        *to = *from;
    }
    total = total.wrapping_add(u64::from(u32::from_ne_bytes(last)));
    let total = (total & 0xffff_ffff) + (total >> 32);
    let total = (total & 0xffff_ffff) + (total >> 32);
    let folded = fold(total as u32);
    u16::from_be(folded)
}

/// The checksum to write over octets whose checksum field is zero (RFC 1071).
#[must_use]
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    !sum(bytes)
}

/// Adds the carries back in.
#[inline]
const fn fold(total: u32) -> u16 {
    let total = (total & 0xffff) + (total >> 16);
    let total = (total & 0xffff) + (total >> 16);
    total as u16
}

/// One's-complement addition.
#[inline]
pub(crate) const fn add(a: u16, b: u16) -> u16 {
    let total = a as u32 + b as u32;
    // At most one carry, and adding it makes no other.
    (total + (total >> 16)) as u16
}

/// The sum of the pseudo header: addresses, protocol and length (octets of transport header and
/// data). The same for both families, because the 32-bit fields of IPv6 have the same sum.
#[must_use]
#[inline]
pub fn pseudo_header_sum(src: Addr, dst: Addr, protocol: u8, length: u32) -> u16 {
    let addresses = if src.is_v4() {
        let (s, d) = (src.low32(), dst.low32());
        add(fold(s), fold(d))
    } else {
        add(sum(&src.0.to_be_bytes()), sum(&dst.0.to_be_bytes()))
    };
    add(addresses, add(u16::from(protocol), fold(length)))
}

/// The change that an edit makes to a sum (RFC 1624, equation 3: `~m + m'`). Deltas of several edits
/// add up to the delta of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delta(u16);

impl Delta {
    /// No change.
    pub const ZERO: Delta = Delta(0);

    /// A 16-bit word, aligned as the checksum counts words, that changes from `before` to `after`.
    #[must_use]
    #[inline]
    pub const fn of(before: u16, after: u16) -> Delta {
        Delta::normal(add(!before, after))
    }

    /// An address that changes. Both must be of one family.
    #[must_use]
    pub fn of_addr(before: Addr, after: Addr) -> Delta {
        // The mapped prefix of IPv4 is in both and cancels out.
        Delta::of(sum(&before.0.to_be_bytes()), sum(&after.0.to_be_bytes()))
    }

    /// The checksum after the edit. A zero result is left zero: UDP must send 0xffff instead
    /// ([`Delta::update_udp`]).
    #[must_use]
    #[inline]
    pub const fn update(self, checksum: u16) -> u16 {
        !add(!checksum, self.0)
    }

    /// The UDP checksum after the edit. Zero means "none" and stays zero, and no result is zero
    /// (RFC 768).
    #[must_use]
    #[inline]
    pub const fn update_udp(self, checksum: u16) -> u16 {
        if checksum == 0 {
            return 0;
        }
        nonzero(self.update(checksum))
    }

    /// The sum (not complemented) after the edit.
    #[must_use]
    #[inline]
    pub const fn update_sum(self, sum: u16) -> u16 {
        add(sum, self.0)
    }

    /// One's complement has two zeros; keeping one makes equal deltas compare equal.
    const fn normal(value: u16) -> Delta {
        Delta(if value == 0xffff { 0 } else { value })
    }
}

impl Add for Delta {
    type Output = Delta;
    #[inline]
    fn add(self, other: Delta) -> Delta {
        Delta::normal(add(self.0, other.0))
    }
}

/// A computed UDP checksum as it is sent: zero would mean "none" (RFC 768).
#[inline]
pub(crate) const fn nonzero(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// Where the checksum field is, octets from the start of the transport header; `None` where this
/// core knows no checksum.
#[must_use]
#[inline]
pub(crate) const fn field_offset(transport: &Transport) -> Option<usize> {
    match transport {
        Transport::Tcp(_) => Some(16),
        Transport::Udp(_) => Some(6),
        Transport::Icmp(_) => Some(2),
        Transport::Other | Transport::LaterFragment => None,
    }
}

/// Writes the checksum of a whole IPv4 header at `l3`, `length` octets long.
pub(crate) fn write_ipv4_header(bytes: &mut [u8], l3: usize, length: usize) {
    put(bytes, l3 + 10, [0, 0]);
    let Some(header) = bytes.get(l3..l3 + length) else {
        return;
    };
    let value = checksum(header);
    put(bytes, l3 + 10, value.to_be_bytes());
}

/// The checksum that a transport header should have. `segment` is header and data, its checksum
/// field counted as zero, or left as it is to verify: then the result is 0 if it is right.
pub(crate) fn transport_checksum(src: Addr, dst: Addr, protocol: u8, segment: &[u8]) -> u16 {
    if protocol == protocol::ICMP {
        return checksum(segment);
    }
    let length = u32::try_from(segment.len()).unwrap_or(u32::MAX);
    !add(pseudo_header_sum(src, dst, protocol, length), sum(segment))
}

/// Whether the transport checksum is right. `bytes` are the whole frame, `headers` its own.
///
/// A UDP checksum of zero is right over IPv4 and wrong over IPv6 (RFC 8200, 8.1). True where one
/// frame is not enough to tell (fragments) and where this core knows no checksum. Not meant for
/// frames with [`ChecksumState::Partial`], whose checksum does not exist yet. A packet under way behind
/// an IPv6 routing header counts as wrong: its checksum is that of its final destination.
#[must_use]
pub fn verify_transport(bytes: &[u8], headers: &Headers) -> bool {
    let Some(ip) = headers.ip() else {
        return true;
    };
    if ip.fragment.is_some() || field_offset(&ip.transport).is_none() {
        return true;
    }
    let (start, end) = (usize::from(ip.l4), headers.l3_end());
    let end = match ip.transport {
        Transport::Udp(udp) => {
            if !udp.has_checksum {
                return ip.is_v4();
            }
            // The datagram may be shorter than the packet (RFC 9868).
            match u16_at(bytes, start + 4) {
                Some(length) => end.min(start + usize::from(length)),
                None => return false,
            }
        }
        _ => end,
    };
    bytes
        .get(start..end)
        .is_some_and(|segment| transport_checksum(ip.src, ip.dst, ip.protocol, segment) == 0)
}

/// Finishes a [`ChecksumState::Partial`] checksum, whose field holds the sum of the pseudo header, and
/// marks it [`ChecksumState::Verified`]. Any other frame is left alone.
///
/// As virtio has it (VIRTIO 1.2, 5.1.6.2), the sum runs from `start` to the end of the frame. A field
/// outside the frame cannot be finished: the octets stay and the state becomes
/// [`ChecksumState::Unknown`].
pub fn complete(frame: &mut Frame) {
    let ChecksumState::Partial { start, offset } = frame.checksum else {
        return;
    };
    frame.checksum = ChecksumState::Unknown;
    let (start, at) = (usize::from(start), usize::from(start) + usize::from(offset));
    if array_at::<2>(&frame.bytes, at).is_none() {
        return;
    }
    let Some(covered) = frame.bytes.get(start..) else {
        return;
    };
    let value = !sum(covered);
    // Only UDP has its checksum there, and only UDP must not send zero.
    let value = if offset == 6 { nonzero(value) } else { value };
    if let Some(field) = array_at_mut(&mut frame.bytes, at) {
        *field = value.to_be_bytes();
        frame.checksum = ChecksumState::Verified;
    }
}
