//! Frames between the kernel and a TAP: ping, partial checksums, large segments.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use etherparse::{NetSlice, SlicedPacket, TransportSlice};
use packet::{ChecksumState, Frame, SegmentationKind};
use ports::{Poller, Tap, TapOptions, Waker, in_netns, wire_frames};
use rustix::net::{AddressFamily, SocketType, ipproto};

use crate::lab::{
    ADDRESS, GATEWAY, Lab, MAC, PATIENCE, config, ip_protocol, privileged, receive, udp,
};

const PEER: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 3);
const PEER_MAC: &str = "02:00:00:00:00:03";
const ICMP: u8 = 1;
const UDP: u8 = 17;

const VNET: TapOptions = TapOptions { vnet_hdr: true, queues: 1 };
const PLAIN: TapOptions = TapOptions { vnet_hdr: false, queues: 1 };

/// Whether the transport checksum of a finished frame is right, by etherparse's own arithmetic.
fn transport_checksum_is_right(bytes: &[u8]) -> bool {
    let sliced = SlicedPacket::from_ethernet(bytes).unwrap();
    let Some(NetSlice::Ipv4(ip)) = sliced.net else { panic!("not IPv4: {bytes:02x?}") };
    let ip = ip.header().to_header();
    match sliced.transport.unwrap() {
        TransportSlice::Udp(udp) => {
            let header = udp.to_header();
            header.calc_checksum_ipv4(&ip, udp.payload()).unwrap() == header.checksum
        }
        TransportSlice::Tcp(tcp) => {
            let header = tcp.to_header();
            header.calc_checksum_ipv4(&ip, tcp.payload()).unwrap() == header.checksum
        }
        other => panic!("{other:?}"),
    }
}

/// An echo request (RFC 792), identifier 0x1234, sequence 7, payload "tierlab!".
const ECHO: [u8; 16] = {
    // Sum of the words: 0800 + 1234 + 0007 + 7469 + 6572 + 6c61 + 6221 = 1_c298, folded c299.
    let sum: u16 = !0xc299;
    let [high, low] = sum.to_be_bytes();
    [8, 0, high, low, 0x12, 0x34, 0, 7, b't', b'i', b'e', b'r', b'l', b'a', b'b', b'!']
};

fn ping_crosses(options: TapOptions, letter: char) {
    let mut lab = Lab::new();
    let (netns, mut tap) = lab.machine(letter, options, &config(ADDRESS, MAC));
    std::thread::scope(|scope| {
        let kernel = scope.spawn(|| {
            in_netns(netns.name(), || -> io::Result<Vec<u8>> {
                let kind = SocketType::RAW;
                let socket = rustix::net::socket(AddressFamily::INET, kind, Some(ipproto::ICMP))?;
                let time = rustix::net::sockopt::Timeout::Recv;
                rustix::net::sockopt::set_socket_timeout(&socket, time, Some(PATIENCE))?;
                let to = SocketAddr::from((GATEWAY, 0));
                rustix::net::sendto(&socket, &ECHO, rustix::net::SendFlags::empty(), &to)?;
                let mut answer = vec![0; 100];
                let length = rustix::io::read(&socket, &mut answer)?;
                answer.truncate(length);
                Ok(answer)
            })
        });
        let request = receive(&mut tap, |frame| ip_protocol(frame) == Some(ICMP));
        assert_eq!(request.segmentation, None);
        let bytes = &request.bytes;
        assert_eq!(bytes[0..6], [2, 0, 0, 0, 0, 1]);
        assert_eq!(bytes[6..12], [2, 0, 0, 0, 0, 2]);
        assert_eq!(bytes[26..34], [10, 99, 0, 2, 10, 99, 0, 1]);
        assert_eq!(bytes[34..], ECHO);

        let mut reply = bytes.clone();
        reply[0..6].copy_from_slice(&[2, 0, 0, 0, 0, 2]);
        reply[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        // Swapping the addresses leaves the IP checksum as it is.
        reply[26..34].copy_from_slice(&[10, 99, 0, 1, 10, 99, 0, 2]);
        // Type 8 to 0 takes 0x0800 from the sum, so adds it to the checksum: 3d66 to 4566.
        reply[34] = 0;
        reply[36..38].copy_from_slice(&[0x45, 0x66]);
        tap.send(&Frame::new(reply.clone())).unwrap();
        let heard = kernel.join().unwrap().unwrap().unwrap();
        assert_eq!(heard[20..], reply[34..], "behind the IP header");
    });
    assert_eq!(tap.counters().refused + tap.counters().oversize, 0);
}

#[test]
fn the_kernels_ping_arrives_and_is_answered() {
    if !privileged("the_kernels_ping_arrives_and_is_answered") {
        return;
    }
    ping_crosses(VNET, 'g');
}

#[test]
fn the_kernels_ping_arrives_without_virtio_header() {
    if !privileged("the_kernels_ping_arrives_without_virtio_header") {
        return;
    }
    ping_crosses(PLAIN, 'p');
}

/// A UDP datagram of the kernel: unfinished with a virtio header, finished here to the right sum;
/// finished by the kernel without one.
#[test]
fn partial_checksums_are_marked_and_completed() {
    if !privileged("partial_checksums_are_marked_and_completed") {
        return;
    }
    for (options, letter) in [(VNET, 'v'), (PLAIN, 'w')] {
        let mut lab = Lab::new();
        let (netns, mut tap) = lab.machine(letter, options, &config(ADDRESS, MAC));
        in_netns(netns.name(), || udp(ADDRESS, 4000)?.send_to(b"hello, lab", (GATEWAY, 9)))
            .unwrap()
            .unwrap();
        let frame = receive(&mut tap, |frame| ip_protocol(frame) == Some(UDP));
        assert_eq!(frame.bytes[42..], *b"hello, lab");
        if options.vnet_hdr {
            // UDP begins behind 14 + 20 octets, its checksum 6 further on.
            let partial = ChecksumState::Partial { start: 34, offset: 6 };
            assert_eq!(frame.checksum, partial);
            assert!(!transport_checksum_is_right(&frame.bytes), "nothing to complete");
        } else {
            assert_eq!(frame.checksum, ChecksumState::Unknown);
        }
        let whole = wire_frames(&frame).unwrap();
        assert_eq!(whole.len(), 1);
        assert!(!matches!(whole[0].checksum, ChecksumState::Partial { .. }));
        assert!(transport_checksum_is_right(&whole[0].bytes), "{:02x?}", whole[0].bytes);
    }
}

/// A large datagram handed to the kernel arrives as the datagrams it stands for.
#[test]
fn a_large_udp_frame_is_cut_by_the_kernel() {
    if !privileged("a_large_udp_frame_is_cut_by_the_kernel") {
        return;
    }
    let mut lab = Lab::new();
    let (netns, mut tap) = lab.machine('u', VNET, &config(ADDRESS, MAC));
    let socket = in_netns(netns.name(), || udp(ADDRESS, 53)).unwrap().unwrap();
    let payload: Vec<u8> = (0..2500u32).map(|i| i as u8).collect();
    let builder = etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(GATEWAY.octets(), ADDRESS.octets(), 64)
        .udp(9, 53);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, &payload).unwrap();
    // The pseudo header only: 0a63 + 0001 + 0a63 + 0002 + 0011 (UDP) + 09cc (2508 octets) = 1ea6.
    bytes[40..42].copy_from_slice(&[0x1e, 0xa6]);
    let frame = Frame {
        bytes,
        checksum: ChecksumState::Partial { start: 34, offset: 6 },
        segmentation: Some(packet::Segmentation { kind: SegmentationKind::Udp, size: 1000 }),
    };
    tap.send(&frame).unwrap();
    let mut buffer = [0; 3000];
    for expected in payload.chunks(1000) {
        let (length, from) = socket.recv_from(&mut buffer).unwrap();
        assert_eq!(from, (GATEWAY, 9).into());
        assert!(buffer[..length] == *expected, "{length} octets");
    }
}

/// What [`patch`] saw.
#[derive(Debug, Default)]
struct Seen {
    partial: u64,
    large_tcp: u64,
    large_udp: u64,
    longest: usize,
}

/// Carries frames between two TAPs until `stop`, waking up only for them.
fn patch(taps: &mut [Tap; 2], poller: &mut Poller, stop: &AtomicBool) -> Seen {
    let mut seen = Seen::default();
    let mut frame = Frame::default();
    while !stop.load(Ordering::Acquire) {
        poller.wait(Some(PATIENCE)).unwrap();
        for from in 0..2 {
            while taps[from].recv(&mut frame).unwrap() {
                match frame.segmentation.map(|s| s.kind) {
                    Some(SegmentationKind::Tcp) => seen.large_tcp += 1,
                    Some(SegmentationKind::Udp) => seen.large_udp += 1,
                    None => {}
                }
                seen.partial += u64::from(matches!(frame.checksum, ChecksumState::Partial { .. }));
                seen.longest = seen.longest.max(frame.bytes.len());
                taps[1 - from].send(&frame).unwrap();
            }
        }
    }
    seen
}

/// Stops [`patch`] also when an assertion of the other threads fails.
struct Stop<'a>(&'a AtomicBool, Waker);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
        self.1.wake();
    }
}

/// Moves 8 MB by TCP, and a datagram each way, between two machines behind TAPs of these kinds.
fn transfer(left: TapOptions, right: TapOptions, letters: [char; 2]) -> (Seen, [Tap; 2]) {
    const LENGTH: usize = 8 << 20;
    let mut lab = Lab::new();
    let (a, tap_a) = lab.machine(letters[0], left, &config(ADDRESS, MAC));
    let (b, tap_b) = lab.machine(letters[1], right, &config(PEER, PEER_MAC));
    let data: Vec<u8> = (0..LENGTH).map(|i| (i * 31 + i / 251) as u8).collect();
    let mut taps = [tap_a, tap_b];
    let mut poller = Poller::new().unwrap();
    for (token, tap) in (0..).zip(&taps) {
        poller.register(tap, token).unwrap();
    }
    let stop = AtomicBool::new(false);
    let listener = in_netns(b.name(), || TcpListener::bind((PEER, 80))).unwrap().unwrap();
    let sockets = [
        in_netns(a.name(), || udp(ADDRESS, 53)).unwrap().unwrap(),
        in_netns(b.name(), || udp(PEER, 53)).unwrap().unwrap(),
    ];
    let seen = std::thread::scope(|scope| {
        let end = Stop(&stop, poller.waker());
        let switch = scope.spawn(|| patch(&mut taps, &mut poller, &stop));
        let server = scope.spawn(|| -> io::Result<Vec<u8>> {
            let (mut stream, _) = listener.accept()?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let mut received = Vec::new();
            stream.read_to_end(&mut received)?;
            stream.write_all(b"thanks")?;
            Ok(received)
        });
        let mut stream = in_netns(a.name(), || {
            TcpStream::connect_timeout(&(PEER, 80).into(), Duration::from_secs(10))
        })
        .unwrap()
        .unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.write_all(&data).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut thanks = String::new();
        stream.read_to_string(&mut thanks).unwrap();
        assert_eq!(thanks, "thanks");
        assert!(server.join().unwrap().unwrap() == data, "other data arrived");

        let mut buffer = [0; 100];
        sockets[0].send_to(b"question", (PEER, 53)).unwrap();
        let (length, from) = sockets[1].recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"question"[..], (ADDRESS, 53).into()));
        sockets[1].send_to(b"answer", from).unwrap();
        let (length, from) = sockets[0].recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], from), (&b"answer"[..], (PEER, 53).into()));
        drop(end);
        switch.join().unwrap()
    });
    (seen, taps)
}

#[test]
fn large_tcp_segments_cross_whole_between_virtio_taps() {
    if !privileged("large_tcp_segments_cross_whole_between_virtio_taps") {
        return;
    }
    let (seen, taps) = transfer(VNET, VNET, ['a', 'b']);
    let offloads = taps[0].offloads();
    assert!(offloads.checksum && offloads.tcp_segmentation, "{offloads:?}");
    assert!(seen.large_tcp > 0 && seen.partial > 0 && seen.longest > 9_000, "{seen:?}");
    for tap in &taps {
        let counters = tap.counters();
        assert_eq!((counters.refused, counters.oversize, counters.unsent), (0, 0, 0));
    }
    assert_eq!(taps[0].counters().received, taps[1].counters().sent);
}

#[test]
fn without_virtio_header_everything_is_finished() {
    if !privileged("without_virtio_header_everything_is_finished") {
        return;
    }
    let (seen, _) = transfer(PLAIN, PLAIN, ['e', 'f']);
    assert_eq!((seen.partial, seen.large_tcp, seen.large_udp), (0, 0, 0));
    assert_eq!(seen.longest, 1514);
}

#[test]
fn a_plain_tap_gets_finished_frames_from_a_virtio_tap() {
    if !privileged("a_plain_tap_gets_finished_frames_from_a_virtio_tap") {
        return;
    }
    let (seen, taps) = transfer(VNET, PLAIN, ['h', 'i']);
    assert!(seen.large_tcp > 0 && seen.partial > 0, "{seen:?}");
    assert_eq!(taps[1].counters().unsent, 0);
}
