//! Fragments and segments: put together again they are the original, read by etherparse.

use super::checksum::make_partial;
use super::{GATEWAY, Kind, POD, Packet, addr, assert_checksums, packet, packet_of, parse};
use crate::{
    ChecksumState, Fragment, Frame, FrameBuilder, Segmentation, SegmentationKind, fragment_ipv4,
    segment, tcp_flags,
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use proptest::prelude::*;

fn v4() -> FrameBuilder {
    FrameBuilder::new(addr("10.0.0.1"), addr("10.0.0.2")).macs(POD, GATEWAY).dont_fragment(false)
}

fn fragments(frame: &Frame, mtu: u32) -> Option<Vec<Frame>> {
    fragment_ipv4(frame, &parse(frame), mtu)
}

/// Offset, "more" and octets of data, as etherparse sees them.
fn shape(frame: &Frame) -> (usize, bool, Vec<u8>) {
    let packet = SlicedPacket::from_ethernet(&frame.bytes).unwrap();
    let Some(NetSlice::Ipv4(ip)) = packet.net else {
        panic!("not IPv4");
    };
    let header = ip.header().to_header();
    assert_eq!(header.header_checksum, header.calc_header_checksum());
    let offset = usize::from(header.fragment_offset.value()) * 8;
    (offset, header.more_fragments, ip.payload().payload.to_vec())
}

/// RFC 791: 1400 octets of data over an MTU of 576 (20 of header, 552 of data, a multiple of 8).
#[test]
fn fragments_by_hand() {
    let whole = v4().id(0x4321).protocol(47).payload(&[9; 1400]).build();
    let pieces = fragments(&whole, 576).unwrap();
    let shapes: Vec<_> =
        pieces.iter().map(shape).map(|(offset, more, data)| (offset, more, data.len())).collect();
    assert_eq!(shapes, [(0, true, 552), (552, true, 552), (1104, false, 296)]);
    for piece in &pieces {
        assert_eq!(piece.bytes[..14], whole.bytes[..14]);
        assert_eq!(piece.bytes[18..20], [0x43, 0x21]);
    }
}

#[test]
fn a_packet_that_fits_comes_back_alone() {
    let whole = v4().udp(1, 2).payload(&[9; 100]).build();
    assert_eq!(fragments(&whole, 128), Some(vec![whole.clone()]));
    let with_df = v4().dont_fragment(true).udp(1, 2).payload(&[9; 100]).build();
    assert_eq!(fragments(&with_df, 128), Some(vec![with_df.clone()]));
    assert_eq!(fragments(&whole, 127).unwrap().len(), 2);
}

#[test]
fn what_is_not_fragmented() {
    let with_df = v4().dont_fragment(true).udp(1, 2).payload(&[9; 100]).build();
    assert_eq!(fragments(&with_df, 127), None);
    let whole = v4().udp(1, 2).payload(&[9; 100]).build();
    assert_eq!(fragments(&whole, 67), None);
    assert_eq!(fragments(&whole, 0), None);
    let six = FrameBuilder::new(addr("fd00::1"), addr("fd00::2")).udp(1, 2).payload(&[9; 100]);
    assert_eq!(fragments(&six.build(), 100), None);
    let arp = crate::arp_request(POD, addr("10.0.0.1"), addr("10.0.0.2"));
    assert_eq!(fragments(&arp, 100), None);
}

/// Record route (7) is in the first fragment only, router alert (148, copied bit) in all.
#[test]
fn options_by_the_copied_bit() {
    let options = [1, 7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0];
    let whole = v4().options(&options).udp(1, 2).payload(&[9; 100]).build();
    let pieces = fragments(&whole, 68).unwrap();
    assert_eq!(pieces[0].bytes[14], 0x48);
    assert_eq!(pieces[0].bytes[34..46], options);
    for piece in &pieces[1..] {
        assert_eq!(piece.bytes[14], 0x46);
        assert_eq!(piece.bytes[34..38], [148, 4, 0, 0]);
        shape(piece);
    }
}

/// An option whose length points beyond the header, and one of length zero: nothing more is copied.
#[test]
fn malformed_options_are_not_copied() {
    for options in [[148, 40, 0, 0], [148, 0, 0, 0], [148, 1, 0, 0]] {
        let whole = v4().options(&options).udp(1, 2).payload(&[9; 100]).build();
        assert_eq!(fragments(&whole, 68).unwrap()[1].bytes[14], 0x45);
    }
}

#[test]
fn a_fragment_is_split_further() {
    let middle = Fragment { id: 5, offset: 800, more: true };
    let piece = v4().protocol(17).fragment(middle).payload(&[3; 160]).build();
    let shapes: Vec<_> = fragments(&piece, 100)
        .unwrap()
        .iter()
        .map(shape)
        .map(|(offset, more, data)| (offset, more, data.len()))
        .collect();
    assert_eq!(shapes, [(800, true, 80), (880, true, 80)]);
}

#[test]
fn partial_checksums_are_completed_before_they_are_fragmented() {
    let whole = v4().udp(1, 2).payload(&[9; 100]).build();
    let mut partial = whole.clone();
    make_partial(&mut partial);
    assert_eq!(fragments(&partial, 68), fragments(&whole, 68));
}

#[test]
fn large_frames_are_segmented_before_they_are_fragmented() {
    let mut large = v4().tcp(1, 2, tcp_flags::ACK).payload(&[9; 250]).build();
    large.segmentation = Some(Segmentation { kind: SegmentationKind::Tcp, size: 100 });
    // Segments of 140, 140 and 90 octets; 48 octets of data fit 68.
    assert_eq!(fragments(&large, 68).unwrap().len(), 3 + 3 + 2);
}

#[test]
fn a_frame_without_segmentation_is_only_completed() {
    let whole = v4().tcp(1, 2, tcp_flags::ACK).payload(&[9; 250]).build();
    assert_eq!(segment(whole.clone()), std::slice::from_ref(&whole));
    let mut partial = whole.clone();
    make_partial(&mut partial);
    let verified = Frame { checksum: ChecksumState::Verified, ..whole };
    assert_eq!(segment(partial), [verified]);
    let nothing = Frame::new(vec![1, 2, 3]);
    assert_eq!(segment(nothing.clone()), [nothing]);
}

#[test]
fn segments_by_hand() {
    use tcp_flags::{ACK, CWR, FIN, PSH};
    let data: Vec<u8> = (0..25).collect();
    let mut large =
        v4().id(0xffff).seq(u32::MAX - 4).tcp(1, 2, ACK | FIN | PSH | CWR).payload(&data).build();
    large.segmentation = Some(Segmentation { kind: SegmentationKind::Tcp, size: 10 });
    let piece = |id, seq, flags, data: &[u8]| Frame {
        checksum: ChecksumState::Verified,
        ..v4().id(id).seq(seq).tcp(1, 2, flags).payload(data).build()
    };
    let expected = [
        piece(0xffff, u32::MAX - 4, ACK | CWR, &data[..10]),
        piece(0, 5, ACK, &data[10..20]),
        piece(1, 15, ACK | FIN | PSH, &data[20..]),
    ];
    assert_eq!(segment(large), expected);
}

#[test]
fn datagrams_by_hand() {
    let v6 = || FrameBuilder::new(addr("fd00::1"), addr("fd00::2")).udp(1, 2);
    let mut large = v6().payload(&[5; 21]).build();
    large.segmentation = Some(Segmentation { kind: SegmentationKind::Udp, size: 10 });
    let piece =
        |data: &[u8]| Frame { checksum: ChecksumState::Verified, ..v6().payload(data).build() };
    assert_eq!(segment(large), [piece(&[5; 10]), piece(&[5; 10]), piece(&[5; 1])]);
}

#[test]
fn what_cannot_be_segmented_gives_nothing() {
    let with = |mut frame: Frame, kind| {
        frame.segmentation = Some(Segmentation { kind, size: 10 });
        segment(frame).len()
    };
    let tcp = v4().tcp(1, 2, tcp_flags::ACK).payload(&[0; 25]);
    assert_eq!(with(tcp.clone().build(), SegmentationKind::Tcp), 3);
    assert_eq!(with(tcp.clone().build(), SegmentationKind::Udp), 0);
    assert_eq!(with(v4().udp(1, 2).build(), SegmentationKind::Tcp), 0);
    assert_eq!(with(tcp.clone().bad_ip_checksum().build(), SegmentationKind::Tcp), 0);
    let first = Fragment { id: 1, offset: 0, more: true };
    let fragment = v4().tcp(1, 2, 0).payload(&[0; 20]).fragment(first).build();
    assert_eq!(with(fragment, SegmentationKind::Tcp), 0);
    assert_eq!(with(Frame::new(vec![]), SegmentationKind::Tcp), 0);
    // A size of zero must not loop: it counts as 1.
    let mut zero = tcp.build();
    zero.segmentation = Some(Segmentation { kind: SegmentationKind::Tcp, size: 0 });
    assert_eq!(segment(zero).len(), 25);
}

proptest! {
    #[test]
    fn fragments_reassemble_to_the_original(packet in packet_of(true), mtu in 68..300u32) {
        let whole = packet.builder().dont_fragment(false).build();
        let headers = parse(&whole);
        let l4 = usize::from(headers.ip().unwrap().l4);
        let mut data = vec![0; whole.bytes.len() - l4];
        let pieces = fragments(&whole, mtu).unwrap();
        let mut next = 0;
        for (index, piece) in pieces.iter().enumerate() {
            prop_assert!(piece.bytes.len() - usize::from(headers.l3) <= usize::try_from(mtu).unwrap());
            let (offset, more, octets) = shape(piece);
            prop_assert_eq!(offset, next);
            prop_assert_eq!(more, index + 1 != pieces.len());
            data[offset..offset + octets.len()].copy_from_slice(&octets);
            next = offset + octets.len();
        }
        prop_assert_eq!(&data, &whole.bytes[l4..]);
        // Splitting the fragments again gives what splitting at once gives, where nothing is lost by it.
        if packet.options.is_empty() {
            let mut twice = Vec::new();
            for piece in fragments(&whole, 300).unwrap() {
                twice.append(&mut fragments(&piece, 68).unwrap());
            }
            let end = |frames: &[Frame]| frames.iter().map(|f| shape(f).2).collect::<Vec<_>>().concat();
            prop_assert_eq!(end(&twice), end(&fragments(&whole, 68).unwrap()));
        }
    }

    #[test]
    fn segments_have_right_checksums_and_all_the_data(
        packet in packet(), size in 1..300u16, length in 0..2000usize, partial in any::<bool>(),
    ) {
        let kind = match packet.kind {
            Kind::Tcp => SegmentationKind::Tcp,
            Kind::Udp | Kind::UdpWithoutChecksum => SegmentationKind::Udp,
            _ => return Ok(()),
        };
        let packet = Packet { payload: (0..length).map(|i| i as u8).collect(), ..packet };
        let mut frame = packet.frame();
        if partial {
            make_partial(&mut frame);
        }
        frame.segmentation = Some(Segmentation { kind, size });
        let mut data = Vec::new();
        let pieces = segment(frame);
        prop_assert_eq!(pieces.len(), length.div_ceil(usize::from(size)).max(1));
        for piece in &pieces {
            assert_checksums(&piece.bytes);
            prop_assert_eq!(piece.segmentation, None);
            let sliced = SlicedPacket::from_ethernet(&piece.bytes).unwrap();
            let octets = match &sliced.transport {
                Some(TransportSlice::Tcp(t)) => t.payload(),
                Some(TransportSlice::Udp(u)) => u.payload(),
                other => panic!("{other:?}"),
            };
            prop_assert!(octets.len() <= usize::from(size));
            data.extend_from_slice(octets);
        }
        prop_assert_eq!(data, packet.payload);
    }
}
