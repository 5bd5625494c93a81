//! Nothing panics, whatever comes in (reliability.md, R21).

use super::{GATEWAY, addr, packet};
use crate::checksum::write_ipv4_header;
use crate::{
    ChecksumState, Frame, Headers, IcmpErrorKind, Segmentation, SegmentationKind, arp_reply,
    complete, describe, echo_reply, fragment_ipv4, icmp_error, neighbor_advertisement,
    neighbor_solicitation, parse, rewrite, segment, tcp_reset, verify_transport,
};
use proptest::prelude::*;
use std::hint::black_box;

/// Octets that get past the first checks more often than random ones: one of the EtherTypes that are
/// looked into, and plausible first octets of a network header.
fn raw() -> impl Strategy<Value = Vec<u8>> {
    let start = prop_oneof![
        Just(vec![0x08, 0x00, 0x45]),
        Just(vec![0x08, 0x00, 0x4f]),
        Just(vec![0x08, 0x06, 0, 1, 8, 0, 6, 4]),
        Just(vec![0x86, 0xdd, 0x60]),
        Just(vec![0x81, 0x00, 0, 1, 0x08, 0x00, 0x45]),
        Just(vec![0x81, 0x00, 0, 1, 0x86, 0xdd, 0x60]),
        Just(vec![]),
    ];
    let octets = prop::collection::vec(any::<u8>(), 0..160);
    (start, octets, any::<bool>()).prop_map(|(start, rest, mend)| {
        let mut bytes = vec![2; 12];
        bytes.extend(start);
        bytes.extend(rest);
        if mend {
            mend_ipv4(&mut bytes);
        }
        bytes
    })
}

/// Makes length and checksum of an IPv4 header right, so that what is behind is reached.
fn mend_ipv4(bytes: &mut [u8]) {
    if bytes.len() < 34 || bytes[12..14] != [8, 0] {
        return;
    }
    let length = (bytes.len() - 14) as u16;
    bytes[16..18].copy_from_slice(&length.to_be_bytes());
    let header_len = usize::from(bytes[14] & 0xf) * 4;
    write_ipv4_header(bytes, 14, header_len);
}

/// An ICMP error about the packet, if there can be one: its quote is the deepest thing parsed.
fn about(frame: &Frame) -> Option<Frame> {
    let headers = parse(&frame.bytes).ok()?;
    let source = if headers.ip()?.is_v4() { addr("10.0.0.1") } else { addr("fd00::1") };
    icmp_error(frame, &headers, IcmpErrorKind::TimeExceeded, source)
}

/// Every function that takes a frame or headers.
fn use_everything(frame: &Frame, other: &Headers) {
    black_box(segment(frame.clone()));
    complete(&mut frame.clone());
    let Ok(headers) = parse(&frame.bytes) else {
        return;
    };
    black_box(describe(&headers));
    black_box(arp_reply(&headers, GATEWAY));
    black_box(neighbor_advertisement(&headers, GATEWAY, true));
    rewrite(&mut frame.clone(), &headers, other);
    rewrite(&mut frame.clone(), other, &headers);
    // Also with headers that are not the frame's.
    for headers in [&headers, other] {
        black_box(verify_transport(&frame.bytes, headers));
        black_box(echo_reply(frame, headers));
        black_box(tcp_reset(frame, headers));
        for source in [addr("10.0.0.1"), addr("fd00::1")] {
            black_box(icmp_error(frame, headers, IcmpErrorKind::TimeExceeded, source));
        }
        for mtu in [0, 68, 100, u32::MAX] {
            black_box(fragment_ipv4(frame, headers, mtu));
        }
    }
}

fn state() -> impl Strategy<Value = (ChecksumState, Option<Segmentation>)> {
    let checksum = prop_oneof![
        Just(ChecksumState::Unknown),
        Just(ChecksumState::Verified),
        (0..200u16, 0..30u16).prop_map(|(start, offset)| ChecksumState::Partial { start, offset }),
    ];
    let kind = prop_oneof![Just(SegmentationKind::Tcp), Just(SegmentationKind::Udp)];
    let cut = (kind, 0..100u16).prop_map(|(kind, size)| Segmentation { kind, size });
    (checksum, prop::option::of(cut))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn arbitrary_octets(bytes in raw(), other in packet(), (checksum, segmentation) in state()) {
        let other = super::parse(&other.frame());
        use_everything(&Frame { bytes, checksum, segmentation }, &other);
    }

    #[test]
    fn mutated_frames(
        packet in packet(), other in packet(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
        (checksum, segmentation) in state(),
        what in 0..3u8, mend in any::<bool>(),
    ) {
        let frame = packet.frame();
        let mut frame = match what {
            0 => frame,
            1 => about(&frame).unwrap_or(frame),
            _ => neighbor_solicitation(GATEWAY, addr("fd00::1"), addr("fd00::2")),
        };
        for (at, value) in edits {
            let at = at.index(frame.bytes.len());
            frame.bytes[at] = value;
        }
        if let Some(cut) = cut {
            frame.bytes.truncate(cut.index(frame.bytes.len()));
        }
        if mend {
            mend_ipv4(&mut frame.bytes);
        }
        let other = super::parse(&other.frame());
        use_everything(&Frame { checksum, segmentation, ..frame }, &other);
    }

    /// Offsets and lengths in the result lie within the frame.
    #[test]
    fn offsets_are_inside(bytes in raw()) {
        if let Ok(headers) = parse(&bytes) {
            prop_assert!(headers.l3_end() <= bytes.len());
            if let Some(ip) = headers.ip() {
                prop_assert!(usize::from(ip.l4) <= headers.l3_end());
                prop_assert_eq!(ip.src.is_v4(), ip.dst.is_v4());
                if let Some(about) = ip.embedded() {
                    prop_assert!(usize::from(about.l4) + 8 <= headers.l3_end());
                }
            }
        }
    }
}
