//! Cuts a large frame into what the wire allows: TCP segmentation offload and UDP segmentation (USO).
//!
//! RFC 9293 (sequence numbers, FIN, PSH), RFC 3168, 6.1.2 (CWR on the first segment only), RFC 791
//! (identification), RFC 768.
//!
//! Invariants: the payloads of the results, put together, are the payload of the large frame; every
//! result parses, has right checksums, and needs nothing more done to it.

use crate::checksum::{complete, nonzero, transport_checksum, write_ipv4_header};
use crate::octets::{clamp16, put, u16_at, u32_at};
use crate::{ChecksumState, Frame, Headers, Ip, SegmentationKind, Transport, parse, tcp_flags};

/// The frames as they go on a wire. A frame without segmentation comes back alone, its checksum
/// completed.
///
/// Empty if the frame is not what its segmentation says (another protocol, a fragment, unparsable): it
/// cannot be sent in any form, and the caller counts it as dropped.
#[must_use]
pub fn segment(mut frame: Frame) -> Vec<Frame> {
    let Some(how) = frame.segmentation.take() else {
        complete(&mut frame);
        return vec![frame];
    };
    cut(&frame, how.kind, usize::from(how.size.max(1))).unwrap_or_default()
}

fn cut(frame: &Frame, kind: SegmentationKind, size: usize) -> Option<Vec<Frame>> {
    let headers = parse(&frame.bytes).ok()?;
    let ip = headers.ip()?;
    if ip.fragment.is_some() {
        return None;
    }
    let l4 = usize::from(ip.l4);
    let (start, with_checksum) = match (kind, &ip.transport) {
        (SegmentationKind::Tcp, Transport::Tcp(tcp)) => (l4 + usize::from(tcp.header_len), true),
        (SegmentationKind::Udp, Transport::Udp(udp)) => {
            // A partial checksum's field may happen to be zero.
            let partial = matches!(frame.checksum, ChecksumState::Partial { .. });
            (l4 + 8, udp.has_checksum || partial || !ip.is_v4())
        }
        _ => return None,
    };
    let header = frame.bytes.get(..start)?;
    let data = frame.bytes.get(start..headers.l3_end())?;
    // A frame without data is still one frame.
    let count = data.len().div_ceil(size).max(1);
    let mut segments = Vec::with_capacity(count);
    for index in 0..count {
        let from = index * size;
        let to = data.len().min(from + size);
        let chunk = data.get(from..to)?;
        let mut bytes = Vec::with_capacity(start + chunk.len());
        bytes.extend_from_slice(header);
        bytes.extend_from_slice(chunk);
        network_header(&mut bytes, &headers, ip, index)?;
        match kind {
            SegmentationKind::Tcp => {
                tcp_header(&mut bytes, l4, from, index == 0, index + 1 == count)?
            }
            SegmentationKind::Udp => {
                put(&mut bytes, l4 + 4, clamp16(8 + chunk.len()).to_be_bytes());
            }
        }
        finish(&mut bytes, ip, with_checksum)?;
        segments.push(Frame { bytes, checksum: ChecksumState::Verified, segmentation: None });
    }
    Some(segments)
}

/// Length, and for IPv4 identification and checksum, of segment number `index`.
fn network_header(bytes: &mut [u8], headers: &Headers, ip: &Ip, index: usize) -> Option<()> {
    let l3 = usize::from(headers.l3);
    let length = bytes.len() - l3;
    if ip.is_v4() {
        put(bytes, l3 + 2, clamp16(length).to_be_bytes());
        // Consecutive, modulo 2^16.
        let id = u16_at(bytes, l3 + 4)?.wrapping_add(index as u16);
        put(bytes, l3 + 4, id.to_be_bytes());
        write_ipv4_header(bytes, l3, usize::from(ip.l4 - headers.l3));
    } else {
        put(bytes, l3 + 4, clamp16(length - 40).to_be_bytes());
    }
    Some(())
}

/// Sequence number and flags of the segment whose data start `offset` octets into the large one's.
fn tcp_header(bytes: &mut [u8], l4: usize, offset: usize, first: bool, last: bool) -> Option<()> {
    // A sequence number counts modulo 2^32.
    let seq = u32_at(bytes, l4 + 4)?.wrapping_add(offset as u32);
    put(bytes, l4 + 4, seq.to_be_bytes());
    let flags = bytes.get_mut(l4 + 13)?;
    if !first {
        *flags &= !tcp_flags::CWR;
    }
    if !last {
        *flags &= !(tcp_flags::FIN | tcp_flags::PSH);
    }
    Some(())
}

/// Computes the transport checksum.
fn finish(bytes: &mut [u8], ip: &Ip, with_checksum: bool) -> Option<()> {
    let l4 = usize::from(ip.l4);
    let is_udp = matches!(ip.transport, Transport::Udp(_));
    let field = l4 + if is_udp { 6 } else { 16 };
    put(bytes, field, [0, 0]);
    if with_checksum {
        let value = transport_checksum(ip.src, ip.dst, ip.protocol, bytes.get(l4..)?);
        let value = if is_udp { nonzero(value) } else { value };
        put(bytes, field, value.to_be_bytes());
    }
    Some(())
}
