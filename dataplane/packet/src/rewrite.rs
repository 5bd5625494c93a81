//! The difference of two [`Headers`], made once and applied to every packet of a flow.
//!
//! RFC 3022, 4 (which checksums a translation touches), RFC 1624 (how they are updated), RFC 5508, 4.2
//! (the packet quoted in an ICMP error).
//!
//! Invariants: a packet whose checksums were right has right ones afterwards, and one whose checksums
//! were wrong still has wrong ones, because nothing is recomputed; applying allocates nothing and reads
//! no more of the frame than the checksum fields and the TTL. A [`Rewrite`] holds for frames that
//! agree in MACs, addresses, ports and protocol with the `before` it was made from; their TTL and
//! payload may differ.

use crate::checksum::Delta;
use crate::octets::{array_at_mut, put, u16_at};
use crate::{Addr, ChecksumState, Embedded, Frame, Headers, Ip, Mac, Transport, protocol};

/// Which pairs of fields a [`Rewrite`] writes.
const MACS: u8 = 1;
const ADDRESSES: u8 = 2;
const PORTS: u8 = 4;

/// Header changes of one flow: MACs, TTL, addresses, ports or ICMP identifier, with the checksum
/// deltas they cause. What an ICMP error quotes is in [`EmbeddedRewrite`]; [`rewrite`] does both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rewrite {
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    pub(crate) dst_mac: Mac,
    pub(crate) src_mac: Mac,
    pub(crate) src_port: u16,
    pub(crate) dst_port: u16,
    /// Change of the IPv4 header checksum.
    pub(crate) header: Delta,
    /// Change of a whole transport checksum.
    pub(crate) transport: Delta,
    /// Change of a pseudo header's sum, for [`ChecksumState::Partial`].
    pseudo: Delta,
    pub(crate) ttl_decrement: u8,
    edits: u8,
}

impl Rewrite {
    /// What turns `before` into `after`. Only MACs, TTL, addresses, ports and the identifier of an ICMP
    /// query or reply are compared; a TTL that grows and addresses of different families count as
    /// unchanged.
    #[must_use]
    pub fn between(before: &Headers, after: &Headers) -> Rewrite {
        let mut edits = 0;
        if (before.dst_mac, before.src_mac) != (after.dst_mac, after.src_mac) {
            edits |= MACS;
        }
        let mut rewrite = Rewrite {
            src: Addr::UNSPECIFIED_V4,
            dst: Addr::UNSPECIFIED_V4,
            dst_mac: after.dst_mac,
            src_mac: after.src_mac,
            src_port: 0,
            dst_port: 0,
            header: Delta::ZERO,
            transport: Delta::ZERO,
            pseudo: Delta::ZERO,
            ttl_decrement: 0,
            edits,
        };
        if let (Some(from), Some(to)) = (before.ip(), after.ip()) {
            rewrite.compare_ip(from, to);
        }
        rewrite
    }

    fn compare_ip(&mut self, from: &Ip, to: &Ip) {
        let v4 = from.is_v4();
        if v4 != to.is_v4() || v4 != to.dst.is_v4() {
            return;
        }
        (self.src, self.dst) = (to.src, to.dst);
        (self.src_port, self.dst_port) = to.ports();
        self.ttl_decrement = from.ttl.saturating_sub(to.ttl);
        let mut addresses = Delta::ZERO;
        if (from.src, from.dst) != (to.src, to.dst) {
            self.edits |= ADDRESSES;
            addresses = Delta::of_addr(from.src, to.src) + Delta::of_addr(from.dst, to.dst);
        }
        if v4 {
            // The TTL is the high half of its word; the decrement is the same whatever its value.
            let ttl = Delta::of(u16::from(self.ttl_decrement) << 8, 0);
            self.header = addresses + ttl;
        }
        if has_pseudo_header(from.protocol) {
            self.pseudo = addresses;
        }
        let (from_ports, to_ports) = (from.ports(), to.ports());
        let mut ports = Delta::ZERO;
        if from_ports != to_ports {
            self.edits |= PORTS;
            ports = Delta::of(from_ports.0, to_ports.0);
            // An ICMP identifier is there once.
            if !matches!(from.transport, Transport::Icmp(_)) {
                ports = ports + Delta::of(from_ports.1, to_ports.1);
            }
        }
        self.transport = self.pseudo + ports;
    }

    /// By how much the TTL or hop limit falls. A packet with a TTL of no more than this must not be
    /// rewritten but answered with "time exceeded".
    #[must_use]
    #[inline]
    pub const fn ttl_decrement(&self) -> u8 {
        self.ttl_decrement
    }

    /// Whether applying it changes nothing.
    #[must_use]
    #[inline]
    pub const fn is_identity(&self) -> bool {
        self.edits == 0 && self.ttl_decrement == 0
    }

    /// Rewrites a frame in place. `headers` are the frame's own, before the rewrite.
    ///
    /// The TTL must be above [`Rewrite::ttl_decrement`]; otherwise it becomes zero and the IPv4 header
    /// checksum wrong, so that nobody accepts the packet. A UDP checksum of zero stays zero, and a
    /// computed zero becomes 0xffff. Of a later fragment only MACs and the IP header change.
    #[inline]
    pub fn apply(&self, frame: &mut Frame, headers: &Headers) {
        let state = frame.checksum;
        let bytes = frame.bytes.as_mut_slice();
        if self.edits & MACS != 0
            && let Some(macs) = bytes.first_chunk_mut::<12>()
        {
            macs[..6].copy_from_slice(&self.dst_mac.0);
            macs[6..].copy_from_slice(&self.src_mac.0);
        }
        let Some(ip) = headers.ip() else {
            return;
        };
        let l3 = usize::from(headers.l3);
        if ip.is_v4() {
            self.apply_ipv4(bytes, l3);
        } else {
            self.apply_ipv6(bytes, l3);
        }
        if self.edits & (ADDRESSES | PORTS) != 0 {
            self.apply_transport(bytes, state, ip);
        }
    }

    #[inline]
    fn apply_ipv4(&self, bytes: &mut [u8], l3: usize) {
        let Some(h) = array_at_mut::<20>(bytes, l3) else {
            return;
        };
        if self.edits & ADDRESSES != 0 {
            h[12..16].copy_from_slice(&self.src.low32().to_be_bytes());
            h[16..].copy_from_slice(&self.dst.low32().to_be_bytes());
        }
        h[8] = h[8].saturating_sub(self.ttl_decrement);
        let checksum = self.header.update(u16::from_be_bytes([h[10], h[11]]));
        [h[10], h[11]] = checksum.to_be_bytes();
    }

    #[inline]
    fn apply_ipv6(&self, bytes: &mut [u8], l3: usize) {
        let Some(h) = array_at_mut::<40>(bytes, l3) else {
            return;
        };
        if self.edits & ADDRESSES != 0 {
            h[8..24].copy_from_slice(&self.src.0.to_be_bytes());
            h[24..].copy_from_slice(&self.dst.0.to_be_bytes());
        }
        h[7] = h[7].saturating_sub(self.ttl_decrement);
    }

    #[inline]
    fn apply_transport(&self, bytes: &mut [u8], state: ChecksumState, ip: &Ip) {
        let l4 = usize::from(ip.l4);
        let partial = is_partial(state, l4);
        let ports = self.edits & PORTS != 0;
        match ip.transport {
            Transport::Tcp(_) => {
                if ports {
                    self.write_ports(bytes, l4);
                }
                if let Some(field) = array_at_mut(bytes, l4 + 16) {
                    let old = u16::from_be_bytes(*field);
                    let new = if partial {
                        self.pseudo.update_sum(old)
                    } else {
                        self.transport.update(old)
                    };
                    *field = new.to_be_bytes();
                }
            }
            Transport::Udp(_) => {
                if ports {
                    self.write_ports(bytes, l4);
                }
                if let Some(field) = array_at_mut(bytes, l4 + 6) {
                    let old = u16::from_be_bytes(*field);
                    let new = if partial {
                        self.pseudo.update_sum(old)
                    } else {
                        self.transport.update_udp(old)
                    };
                    *field = new.to_be_bytes();
                }
            }
            Transport::Icmp(_) => {
                if ports {
                    put(bytes, l4 + 4, self.src_port.to_be_bytes());
                }
                if let Some(field) = array_at_mut(bytes, l4 + 2) {
                    let old = u16::from_be_bytes(*field);
                    let new = if partial {
                        self.pseudo.update_sum(old)
                    } else {
                        self.transport.update(old)
                    };
                    *field = new.to_be_bytes();
                }
            }
            Transport::Other | Transport::LaterFragment => {}
        }
    }

    #[inline]
    fn write_ports(&self, bytes: &mut [u8], l4: usize) {
        let [s0, s1] = self.src_port.to_be_bytes();
        let [d0, d1] = self.dst_port.to_be_bytes();
        put(bytes, l4, [s0, s1, d0, d1]);
    }
}

/// Whether the checksum at `l4` still lacks everything but the pseudo header. A partial checksum may
/// also belong to a header inside (a tunnel), which a rewrite of the outer one does not concern.
#[inline]
fn is_partial(state: ChecksumState, l4: usize) -> bool {
    matches!(state, ChecksumState::Partial { start, .. } if usize::from(start) == l4)
}

/// Whether the protocol's checksum covers the addresses.
const fn has_pseudo_header(protocol: u8) -> bool {
    matches!(protocol, protocol::TCP | protocol::UDP | protocol::ICMPV6)
}

/// Changes to the packet quoted in an ICMP error: addresses, ports or identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EmbeddedRewrite {
    before: Embedded,
    after: Embedded,
}

impl EmbeddedRewrite {
    /// What turns the quote in `before` into the one in `after`; `None` if they are equal or one of them
    /// is no ICMP error.
    #[must_use]
    pub fn between(before: &Headers, after: &Headers) -> Option<EmbeddedRewrite> {
        let before = *before.ip()?.embedded()?;
        let after = *after.ip()?.embedded()?;
        let same_family = before.src.is_v4() == after.src.is_v4();
        (before != after && same_family).then_some(EmbeddedRewrite { before, after })
    }

    /// Rewrites the quote in place. `headers` are the frame's own, as parsed.
    ///
    /// The quoted IPv4 header checksum, the quoted transport checksum (if both its octets are quoted; a
    /// UDP zero stays zero) and the checksum of the ICMP error itself are updated.
    pub fn apply(&self, frame: &mut Frame, headers: &Headers) {
        let Some(ip) = headers.ip() else {
            return;
        };
        let Some(quoted) = ip.embedded() else {
            return;
        };
        let icmp = usize::from(ip.l4);
        let partial = is_partial(frame.checksum, icmp);
        let end = headers.l3_end().min(frame.bytes.len());
        // Whatever follows the packet is padding and must not be taken for a quoted checksum.
        let Some(bytes) = frame.bytes.get_mut(..end) else {
            return;
        };
        let change = self.edit(bytes, quoted);
        if partial {
            // The sum over the body is still to be made.
            return;
        }
        if let Some(field) = array_at_mut(bytes, icmp + 2) {
            *field = change.update(u16::from_be_bytes(*field)).to_be_bytes();
        }
    }

    /// Edits the quote and returns the change of the sum over all octets edited. All fields are
    /// aligned as the outer checksum counts words: header lengths are multiples of 4.
    fn edit(&self, bytes: &mut [u8], quoted: &Embedded) -> Delta {
        let (l3, l4) = (usize::from(quoted.l3), usize::from(quoted.l4));
        let (from, to) = (&self.before, &self.after);
        let addresses = Delta::of_addr(from.src, to.src) + Delta::of_addr(from.dst, to.dst);
        let mut change = addresses;
        if to.src.is_v4() {
            put(bytes, l3 + 12, to.src.low32().to_be_bytes());
            put(bytes, l3 + 16, to.dst.low32().to_be_bytes());
            change = change + update_field(bytes, l3 + 10, |old| addresses.update(old));
        } else {
            put(bytes, l3 + 8, to.src.0.to_be_bytes());
            put(bytes, l3 + 24, to.dst.0.to_be_bytes());
        }
        let pseudo = if has_pseudo_header(from.protocol) { addresses } else { Delta::ZERO };
        match from.protocol {
            protocol::TCP | protocol::UDP => {
                let ports =
                    Delta::of(from.src_port, to.src_port) + Delta::of(from.dst_port, to.dst_port);
                put(bytes, l4, to.src_port.to_be_bytes());
                put(bytes, l4 + 2, to.dst_port.to_be_bytes());
                let all = pseudo + ports;
                change = change + ports;
                if from.protocol == protocol::TCP {
                    change = change + update_field(bytes, l4 + 16, |old| all.update(old));
                } else {
                    change = change + update_field(bytes, l4 + 6, |old| all.update_udp(old));
                }
            }
            protocol::ICMP | protocol::ICMPV6 => {
                let id = Delta::of(from.src_port, to.src_port);
                put(bytes, l4 + 4, to.src_port.to_be_bytes());
                let all = pseudo + id;
                change = change + id + update_field(bytes, l4 + 2, |old| all.update(old));
            }
            _ => {}
        }
        change
    }
}

/// Replaces the 16-bit field at `at`, if it is there, and returns the change.
fn update_field(bytes: &mut [u8], at: usize, update: impl FnOnce(u16) -> u16) -> Delta {
    let Some(old) = u16_at(bytes, at) else {
        return Delta::ZERO;
    };
    let new = update(old);
    put(bytes, at, new.to_be_bytes());
    Delta::of(old, new)
}

/// Makes the frame's headers be `after`, in place: [`Rewrite`] and, for an ICMP error,
/// [`EmbeddedRewrite`] in one step. `before` are the frame's headers as parsed.
pub fn rewrite(frame: &mut Frame, before: &Headers, after: &Headers) {
    if let Some(embedded) = EmbeddedRewrite::between(before, after) {
        embedded.apply(frame, before);
    }
    Rewrite::between(before, after).apply(frame, before);
}
