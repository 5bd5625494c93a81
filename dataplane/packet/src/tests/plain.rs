//! Plain packets are read as `parse` reads them, and rewritten as `Rewrite` rewrites them.

use super::checksum::make_partial;
use super::{Kind, Packet, edit, packet, packet_of, pair, parse};
use crate::{
    ChecksumState, Flow, Frame, Headers, LinkRewrite, Plain, PlainRewrite, Rewrite, flow4, flow6,
    plain4, plain6, protocol,
};
use proptest::prelude::*;

/// Where all packets come in.
const PLACE: u32 = 0x8000_0001;

/// What `parse` says of a plain packet, in the form of [`Plain`].
fn agrees<const W: usize>(plain: &Plain<W>, headers: &Headers) {
    let ip = headers.ip().unwrap();
    assert_eq!(headers.vlan, None);
    assert_eq!(Some(plain.flow), Flow::of(PLACE, headers));
    assert_eq!(plain.flow.place(), PLACE);
    assert_eq!(plain.src_mac, headers.src_mac.to_u64());
    assert!(ip.fragment.is_none() && !ip.options);
    assert_eq!((plain.ttl, plain.total_len), (ip.ttl, ip.total_len));
    assert_eq!(W == 1, ip.is_v4());
    assert_eq!(plain.flow.is_tcp(), ip.tcp().is_some());
    assert_eq!(plain.flow.endpoints(), (ip.src, ip.dst));
    assert_eq!(plain.flow.port_numbers(), ip.ports());
    assert_eq!((plain.flow.dst_mac(), plain.flow.protocol()), (headers.dst_mac, ip.protocol));
    match ip.tcp() {
        Some(tcp) => {
            assert_eq!((plain.upper.flags, plain.upper.header_len), (tcp.flags, tcp.header_len));
            assert_eq!(
                (plain.upper.end, plain.upper.ack),
                (tcp.seq.wrapping_add(tcp.payload_len), tcp.ack)
            );
        }
        None => assert_eq!((ip.protocol, plain.upper.header_len), (protocol::UDP, 8)),
    }
    assert_eq!(
        plain.headers_len(),
        u32::from(ip.l4 - headers.l3) + u32::from(plain.upper.header_len)
    );
}

fn four(bytes: &[u8]) -> Option<Plain<1>> {
    let flow = flow4(PLACE, bytes)?;
    let plain = plain4(PLACE, bytes);
    assert_eq!(plain.flow, flow);
    Some(plain)
}

fn six(bytes: &[u8]) -> Option<Plain<4>> {
    let flow = flow6(PLACE, bytes)?;
    let plain = plain6(PLACE, bytes);
    assert_eq!(plain.flow, flow);
    Some(plain)
}

fn read(bytes: &[u8]) -> bool {
    // Of anything at all, without a panic.
    let _ = (plain4(PLACE, bytes), plain6(PLACE, bytes));
    let (four, six) = (four(bytes), six(bytes));
    assert!(four.is_none() || six.is_none());
    if let Some(plain) = &four {
        agrees(plain, &crate::parse(bytes).unwrap());
    }
    if let Some(plain) = &six {
        agrees(plain, &crate::parse(bytes).unwrap());
    }
    four.is_some() || six.is_some()
}

fn is_plain(packet: &Packet) -> bool {
    let ports = matches!(packet.kind, Kind::Tcp | Kind::Udp | Kind::UdpWithoutChecksum);
    ports && packet.vlan.is_none() && packet.options.is_empty()
}

proptest! {
    #[test]
    fn what_is_plain_is_read(packet in packet()) {
        let frame = packet.frame();
        prop_assert_eq!(read(&frame.bytes), is_plain(&packet));
    }

    /// Damaged frames: never a panic, and never read differently from `parse`.
    #[test]
    fn damage(
        packet in packet(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = packet.frame().bytes;
        for (at, value) in edits {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        read(&bytes);
    }

    /// Octets behind the packet are padding, for both.
    #[test]
    fn padding_is_not_data(packet in packet_of(true), padding in 0..20usize) {
        let mut bytes = packet.frame().bytes;
        bytes.resize(bytes.len() + padding, 0xa5);
        prop_assert_eq!(read(&bytes), is_plain(&packet));
    }

    #[test]
    fn rewrites_alike((from, to) in pair(), decrement in 0..2u8, partial in any::<bool>()) {
        let mut frame = from.frame();
        if partial && is_plain(&from) && from.kind != Kind::UdpWithoutChecksum {
            make_partial(&mut frame);
        }
        let before = parse(&frame);
        let rewrite = Rewrite::between(&before, &edit(&before, &to, decrement));
        let mut expected = frame.clone();
        rewrite.apply(&mut expected, &before);
        let state = frame.checksum;
        let link = LinkRewrite::new(&rewrite);
        if let Some(plain) = four(&frame.bytes) {
            PlainRewrite::new(&rewrite).apply(&link, &plain.flow, &mut frame.bytes, state);
            prop_assert_eq!(&frame, &expected);
        } else if let Some(plain) = six(&frame.bytes) {
            PlainRewrite::new(&rewrite).apply(&link, &plain.flow, &mut frame.bytes, state);
            prop_assert_eq!(&frame, &expected);
        }
    }
}

#[test]
fn tcp_options_are_part_of_the_header() {
    for (src, dst) in [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")] {
        let frame = crate::FrameBuilder::new(super::addr(src), super::addr(dst))
            .tcp(1, 2, crate::tcp_flags::ACK)
            .seq(u32::MAX)
            .tcp_options(&[1; 8])
            .payload(&[0; 5])
            .build();
        assert!(read(&frame.bytes));
        let end = four(&frame.bytes)
            .map(|p| (p.upper.header_len, p.upper.end))
            .or_else(|| six(&frame.bytes).map(|p| (p.upper.header_len, p.upper.end)));
        assert_eq!(end, Some((28, 4)));
    }
}

#[test]
fn a_frame_too_short_is_left_alone() {
    let rewrite = Rewrite::between(&parse(&Frame::new(frame())), &parse(&Frame::new(frame())));
    let link = LinkRewrite::new(&rewrite);
    let mut short = vec![1; 20];
    let (four, six) = (Flow::at([0; 1], 0, 0, 6), Flow::at([0; 4], 0, 0, 17));
    PlainRewrite::new(&rewrite).apply(&link, &four, &mut short, ChecksumState::Unknown);
    PlainRewrite::new(&rewrite).apply(&link, &six, &mut short, ChecksumState::Unknown);
    assert_eq!(short, vec![1; 20]);
}

fn frame() -> Vec<u8> {
    crate::FrameBuilder::new(super::addr("10.0.0.1"), super::addr("10.0.0.2"))
        .udp(1, 2)
        .build()
        .bytes
}
