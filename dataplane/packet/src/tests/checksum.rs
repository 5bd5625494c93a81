//! Checksums against the examples of the RFCs, a packet known to the world, and etherparse.

use super::{GATEWAY, POD, addr, hex, packet, parse};
use crate::{
    ChecksumState, Delta, Frame, FrameBuilder, complete, pseudo_header_sum, sum, tcp_flags,
    verify_transport,
};
use proptest::prelude::*;

#[test]
fn sum_of_rfc_1071_example() {
    assert_eq!(sum(&hex("0001 f203 f4f5 f6f7")), 0xddf2);
}

#[test]
fn odd_octet_is_the_high_half() {
    assert_eq!(sum(&[0x12]), 0x1200);
    assert_eq!(sum(&[0, 1, 0x12]), 0x1201);
    assert_eq!(sum(&[]), 0);
}

#[test]
fn known_ipv4_header() {
    let header = hex("4500 0073 0000 4000 4011 0000 c0a8 0001 c0a8 00c7");
    assert_eq!(crate::checksum(&header), 0xb861);
}

/// RFC 1624, 4: the equation of RFC 1141 gives 0xffff here, the right answer is 0.
#[test]
fn delta_of_rfc_1624_example() {
    assert_eq!(Delta::of(0x5555, 0x3285).update(0xdd2f), 0x0000);
}

#[test]
fn deltas_compose_and_cancel() {
    let there = Delta::of(0x1234, 0xfffe);
    let back = Delta::of(0xfffe, 0x1234);
    assert_eq!(there + back, Delta::ZERO);
    assert_eq!(Delta::of(7, 7), Delta::ZERO);
    assert_eq!(Delta::of(1, 2) + Delta::of(2, 3), Delta::of(1, 3));
}

#[test]
fn udp_zero_stays_and_no_result_is_zero() {
    let delta = Delta::of(0x5555, 0x3285);
    assert_eq!(delta.update_udp(0), 0);
    assert_eq!(delta.update_udp(0xdd2f), 0xffff);
}

/// 10.0.0.1 + 10.0.0.2 + protocol 17 + length 8, added by hand.
#[test]
fn pseudo_header_by_hand() {
    let sum = pseudo_header_sum(addr("10.0.0.1"), addr("10.0.0.2"), 17, 8);
    assert_eq!(sum, 0x0a00 + 0x0001 + 0x0a00 + 0x0002 + 17 + 8);
    let sum = pseudo_header_sum(addr("fd00::1"), addr("fd00::2"), 6, 0x1_0000);
    // fd00 + fd00 = 1fa00 -> fa01; + 1 + 2 + 6 + (1 + 0).
    assert_eq!(sum, 0xfa01 + 1 + 2 + 6 + 1);
}

fn udp(checksum: bool, source: &str, destination: &str) -> Frame {
    let builder = FrameBuilder::new(addr(source), addr(destination))
        .macs(POD, GATEWAY)
        .udp(1, 2)
        .payload(b"abc");
    if checksum { builder.build() } else { builder.no_udp_checksum().build() }
}

#[test]
fn udp_without_checksum_is_right_over_ipv4_only() {
    let four = udp(false, "10.0.0.1", "10.0.0.2");
    assert!(verify_transport(&four.bytes, &parse(&four)));
    let six = udp(false, "fd00::1", "fd00::2");
    assert!(!verify_transport(&six.bytes, &parse(&six)));
    let six = udp(true, "fd00::1", "fd00::2");
    assert!(verify_transport(&six.bytes, &parse(&six)));
}

#[test]
fn padding_is_not_verified() {
    let mut frame = udp(true, "10.0.0.1", "10.0.0.2");
    frame.bytes.extend_from_slice(&[0xaa; 15]);
    assert!(verify_transport(&frame.bytes, &parse(&frame)));
}

#[test]
fn surplus_octets_behind_a_datagram_are_not_verified() {
    let mut frame = udp(true, "10.0.0.1", "10.0.0.2");
    frame.bytes.extend_from_slice(&[0xaa; 2]);
    // Total length 31 -> 33.
    frame.bytes[17] += 2;
    crate::checksum::write_ipv4_header(&mut frame.bytes, 14, 20);
    assert!(verify_transport(&frame.bytes, &parse(&frame)));
}

#[test]
fn partial_outside_the_frame_is_left_alone() {
    for (start, offset) in [(1000, 6), (34, 1000), (44, 0), (u16::MAX, u16::MAX)] {
        let mut frame = udp(true, "10.0.0.1", "10.0.0.2");
        let before = frame.bytes.clone();
        frame.checksum = ChecksumState::Partial { start, offset };
        complete(&mut frame);
        assert_eq!((frame.bytes, frame.checksum), (before, ChecksumState::Unknown));
    }
}

/// The UDP ports are chosen so that the sum of everything is 0xffff.
#[test]
fn completed_udp_is_never_zero() {
    let mut frame = FrameBuilder::new(addr("10.0.0.1"), addr("10.0.0.2")).udp(0, 0).build();
    // Pseudo header 0x141c, length 8 again; the source port supplies the rest.
    let rest = 0xffff - 0x141c - 8;
    frame.bytes[34..36].copy_from_slice(&u16::to_be_bytes(rest));
    frame.bytes[40..42].copy_from_slice(&0x141cu16.to_be_bytes());
    frame.checksum = ChecksumState::Partial { start: 34, offset: 6 };
    complete(&mut frame);
    assert_eq!(frame.bytes[40..42], [0xff, 0xff]);
    assert_eq!(frame.checksum, ChecksumState::Verified);
}

/// As a Linux sender hands it over: the sum of the pseudo header stands in the field.
pub fn make_partial(frame: &mut Frame) {
    let headers = parse(frame);
    let ip = headers.ip().unwrap();
    let Some(offset) = crate::checksum::field_offset(&ip.transport) else {
        return;
    };
    let length = u32::try_from(headers.l3_end()).unwrap() - u32::from(ip.l4);
    let sum = match ip.protocol {
        crate::protocol::ICMP => 0,
        protocol => pseudo_header_sum(ip.src, ip.dst, protocol, length),
    };
    let at = usize::from(ip.l4) + offset;
    frame.bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame.checksum = ChecksumState::Partial { start: ip.l4, offset: offset as u16 };
}

proptest! {
    #[test]
    fn sum_equals_the_plain_loop(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        }
        while total > 0xffff {
            total = (total & 0xffff) + (total >> 16);
        }
        prop_assert_eq!(u32::from(sum(&bytes)), total);
    }

    #[test]
    fn built_frames_are_right_and_a_flipped_bit_is_found(
        packet in packet(), at in any::<prop::sample::Index>(), bit in 0..8u8,
    ) {
        let frame = packet.frame();
        super::assert_checksums(&frame.bytes);
        let headers = parse(&frame);
        prop_assert!(verify_transport(&frame.bytes, &headers));
        let ip = headers.ip().unwrap();
        let covered = match ip.transport {
            crate::Transport::Udp(udp) => udp.has_checksum,
            crate::Transport::Other => false,
            _ => true,
        };
        let mut bytes = frame.bytes;
        let l4 = usize::from(ip.l4);
        let at = l4 + at.index(bytes.len().saturating_sub(l4).max(1));
        if covered {
            bytes[at] ^= 1 << bit;
            // Parsed anew: the flip may have made the length or the checksum field mean something else.
            if let Ok(changed) = crate::parse(&bytes)
                && changed.ip().unwrap().transport != crate::Transport::Other
                && !matches!(changed.ip().unwrap().transport,
                    crate::Transport::Udp(crate::Udp { has_checksum: false, .. }))
            {
                prop_assert!(!verify_transport(&bytes, &changed));
            }
        }
    }

    #[test]
    fn completing_a_partial_checksum_gives_the_full_one(packet in packet()) {
        prop_assume!(packet.kind != super::Kind::Other);
        prop_assume!(packet.kind != super::Kind::UdpWithoutChecksum);
        let whole = packet.frame();
        let mut frame = whole.clone();
        make_partial(&mut frame);
        complete(&mut frame);
        prop_assert_eq!(&frame.bytes, &whole.bytes);
        prop_assert_eq!(frame.checksum, ChecksumState::Verified);
    }
}

#[test]
fn wrong_checksums_are_wrong() {
    let tcp = |b: FrameBuilder| b.tcp(1, 2, tcp_flags::SYN).bad_transport_checksum().build();
    let frame = tcp(FrameBuilder::new(addr("10.0.0.1"), addr("10.0.0.2")));
    assert!(!verify_transport(&frame.bytes, &parse(&frame)));
    let frame = tcp(FrameBuilder::new(addr("fd00::1"), addr("fd00::2")));
    assert!(!verify_transport(&frame.bytes, &parse(&frame)));
}
