//! Files here are put together by hand from the format drafts, octet by octet.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use super::*;

/// A 60-octet frame whose octets say where they are.
fn frame() -> Vec<u8> {
    (0..60).collect()
}

fn read(bytes: &[u8]) -> Result<Vec<(u64, Vec<u8>)>, PcapFileError> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("in.pcap");
    std::fs::write(&path, bytes).unwrap();
    PcapReader::open(&path)?.collect()
}

fn fault_of(bytes: &[u8]) -> (Option<u64>, PcapFault) {
    let error = read(bytes).unwrap_err();
    (error.packet, error.fault)
}

/// A classic file with one packet; `w` writes an integer of four octets, `h` one of two.
fn classic(magic: u32, w: fn(u32) -> [u8; 4], h: fn(u16) -> [u8; 2], frac: u32) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(w(magic));
    file.extend(h(2));
    file.extend(h(4));
    for field in [0, 0, 65_535, 1] {
        file.extend(w(field));
    }
    for field in [1_700_000_000, frac, 60, 60] {
        file.extend(w(field));
    }
    file.extend(frame());
    file
}

fn little(magic: u32) -> Vec<u8> {
    classic(magic, u32::to_le_bytes, u16::to_le_bytes, 5)
}

/// Where the fields of the only packet's header are in [`classic`].
const LINK_TYPE: usize = 20;
const FRACTION: usize = 28;
const INCL_LEN: usize = 32;
const ORIG_LEN: usize = 36;

fn set(file: &mut [u8], at: usize, value: u32) {
    file[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

#[test]
fn classic_in_both_byte_orders_and_resolutions() {
    let micro = 1_700_000_000_000_005_000;
    let nano = 1_700_000_000_000_000_005;
    for (magic, expected) in [(0xa1b2_c3d4, micro), (0xa1b2_3c4d, nano)] {
        let big = classic(magic, u32::to_be_bytes, u16::to_be_bytes, 5);
        assert_eq!(read(&big).unwrap(), [(expected, frame())]);
        assert_eq!(read(&little(magic)).unwrap(), [(expected, frame())]);
    }
}

#[test]
fn a_short_snap_length_in_the_header_does_not_matter_when_packets_are_whole() {
    let mut file = little(0xa1b2_c3d4);
    set(&mut file, 16, 0);
    assert_eq!(read(&file).unwrap().len(), 1);
}

#[test]
fn every_truncation_of_a_classic_file_is_an_error_but_at_a_packet_boundary() {
    let file = little(0xa1b2_c3d4);
    for length in 0..file.len() {
        let result = read(&file[..length]);
        match length {
            0 => assert!(matches!(result.unwrap_err().fault, PcapFault::Empty)),
            24 => assert_eq!(result.unwrap(), []),
            _ => {
                let error = result.unwrap_err();
                assert!(matches!(error.fault, PcapFault::Truncated), "{length}: {error}");
                assert_eq!(error.packet, (length > 24).then_some(1), "{length}");
            }
        }
    }
}

#[test]
fn classic_faults_name_file_packet_and_cause() {
    let good = little(0xa1b2_c3d4);

    let mut file = good.clone();
    set(&mut file, LINK_TYPE, 113);
    let error = read(&file).unwrap_err();
    let text = error.to_string();
    assert!(text.contains("in.pcap: link type LINUX_SLL (113) is not Ethernet"), "{text}");

    let mut file = good.clone();
    set(&mut file, ORIG_LEN, 1514);
    let text = read(&file).unwrap_err().to_string();
    assert!(text.contains("in.pcap: packet 1: only 60 of 1514 octets were captured"), "{text}");

    let mut file = good.clone();
    set(&mut file, FRACTION, 1_000_000);
    assert!(matches!(fault_of(&file), (Some(1), PcapFault::Timestamp)));

    // A length of 4 GiB in a small file must be refused without 4 GiB being set aside.
    let mut file = good.clone();
    set(&mut file, INCL_LEN, u32::MAX);
    set(&mut file, ORIG_LEN, u32::MAX);
    assert!(matches!(fault_of(&file), (Some(1), PcapFault::Truncated)));

    // The packet is there in full and still longer than anything sensible.
    let mut file = good.clone();
    set(&mut file, INCL_LEN, SNAPLEN + 1);
    set(&mut file, ORIG_LEN, SNAPLEN + 1);
    file.resize(24 + 16 + SNAPLEN as usize + 1, 0);
    let fault = fault_of(&file);
    assert!(matches!(fault, (Some(1), PcapFault::TooLong(262_145))), "{fault:?}");

    assert!(matches!(fault_of(b"\x1f\x8b\x08\x00gzip"), (None, PcapFault::NotACapture(_))));
    let missing = PcapReader::open("/nonexistent/x.pcap").err().unwrap();
    assert!(missing.to_string().starts_with("/nonexistent/x.pcap: "));
}

#[test]
fn the_second_packet_is_called_packet_2_and_ends_the_reading() {
    let mut file = little(0xa1b2_c3d4);
    file.extend([0; 7]);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("two.pcap");
    std::fs::write(&path, &file).unwrap();
    let mut reader = PcapReader::open(&path).unwrap();
    assert!(reader.next().unwrap().is_ok());
    assert_eq!(reader.next().unwrap().unwrap_err().packet, Some(2));
    assert!(reader.next().is_none());
}

/// A pcapng block: type, length, body padded to four octets, length.
fn block(kind: u32, body: &[u8], w: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let padded = body.len().next_multiple_of(4);
    let mut block = Vec::new();
    block.extend(w(kind));
    block.extend(w(u32::try_from(padded + 12).unwrap()));
    block.extend(body);
    block.resize(8 + padded, 0);
    block.extend(w(u32::try_from(padded + 12).unwrap()));
    block
}

fn section(w: fn(u32) -> [u8; 4], h: fn(u16) -> [u8; 2]) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(w(0x1a2b_3c4d));
    body.extend(h(1));
    body.extend(h(0));
    body.extend([0xff; 8]);
    block(0x0a0d_0d0a, &body, w)
}

/// An interface description with these options (code, value).
fn interface(
    link: u16,
    options: &[(u16, &[u8])],
    w: fn(u32) -> [u8; 4],
    h: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(h(link));
    body.extend(h(0));
    body.extend(w(0));
    for (code, value) in options {
        body.extend(h(*code));
        body.extend(h(u16::try_from(value.len()).unwrap()));
        body.extend(*value);
        body.resize(body.len().next_multiple_of(4), 0);
    }
    if !options.is_empty() {
        body.extend([0; 4]);
    }
    block(1, &body, w)
}

fn enhanced(id: u32, ticks: u64, captured: u32, original: u32, w: fn(u32) -> [u8; 4]) -> Vec<u8> {
    let mut body = Vec::new();
    let (high, low) = ((ticks >> 32) as u32, ticks as u32);
    for field in [id, high, low, captured, original] {
        body.extend(w(field));
    }
    body.extend(frame());
    block(6, &body, w)
}

const W: fn(u32) -> [u8; 4] = u32::to_le_bytes;
const H: fn(u16) -> [u8; 2] = u16::to_le_bytes;

fn pcapng(options: &[(u16, &[u8])], ticks: u64) -> Vec<u8> {
    let mut file = section(W, H);
    file.extend(interface(1, options, W, H));
    file.extend(enhanced(0, ticks, 60, 60, W));
    file
}

#[test]
fn pcapng_in_both_byte_orders_with_microseconds_unless_said() {
    let ticks = 1_700_000_000_000_005;
    let expected = 1_700_000_000_000_005_000;
    assert_eq!(read(&pcapng(&[], ticks)).unwrap(), [(expected, frame())]);
    let mut file = section(u32::to_be_bytes, u16::to_be_bytes);
    file.extend(interface(1, &[], u32::to_be_bytes, u16::to_be_bytes));
    file.extend(enhanced(0, ticks, 60, 60, u32::to_be_bytes));
    assert_eq!(read(&file).unwrap(), [(expected, frame())]);
}

#[test]
fn pcapng_resolutions_and_offsets() {
    let one = |options: &[(u16, &[u8])], ticks| read(&pcapng(options, ticks)).map(|p| p[0].0);
    assert_eq!(one(&[(9, &[9])], 1_700_000_000_000_000_005).unwrap(), 1_700_000_000_000_000_005);
    assert_eq!(one(&[(9, &[0])], 7).unwrap(), 7_000_000_000);
    // 2^-10 s: 3 * 1024 + 512 ticks are three and a half seconds.
    assert_eq!(one(&[(9, &[0x8a])], 3 * 1024 + 512).unwrap(), 3_500_000_000);
    // Picoseconds are cut to nanoseconds.
    assert_eq!(one(&[(9, &[12])], 1_999).unwrap(), 1);
    assert_eq!(one(&[(14, &100i64.to_le_bytes())], 5).unwrap(), 100_000_005_000);
    assert_eq!(one(&[(14, &(-1i64).to_le_bytes())], 1_000_005).unwrap(), 5_000);
    for options in [
        &[(14u16, (-1i64).to_le_bytes().as_slice())],
        &[(14, i64::MAX.to_le_bytes().as_slice())],
        &[(9, [0x7f].as_slice())],
    ] {
        let error = one(options, 5).unwrap_err();
        assert!(matches!(error.fault, PcapFault::Timestamp), "{error}");
    }
}

#[test]
fn pcapng_skips_other_blocks_and_starts_anew_at_a_section() {
    let mut file = section(W, H);
    file.extend(block(0x0bad, b"vendor", W));
    file.extend(interface(1, &[(2, b"eth0")], W, H));
    file.extend(enhanced(0, 1, 60, 60, W));
    file.extend(section(W, H));
    file.extend(enhanced(0, 2, 60, 60, W));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sections.pcapng");
    std::fs::write(&path, &file).unwrap();
    let mut reader = PcapReader::open(&path).unwrap();
    assert_eq!(reader.next().unwrap().unwrap(), (1_000, frame()));
    // The new section has described no interface yet.
    let error = reader.next().unwrap().unwrap_err();
    assert!(matches!(error.fault, PcapFault::NoInterface(0)), "{error}");
}

#[test]
fn pcapng_obsolete_packet_block() {
    let mut file = section(W, H);
    file.extend(interface(1, &[], W, H));
    let mut body = Vec::new();
    // Interface 0, and 9 drops beside it, which are not part of the interface's number.
    body.extend(H(0));
    body.extend(H(9));
    for field in [0, 42, 60, 60] {
        body.extend(W(field));
    }
    body.extend(frame());
    file.extend(block(2, &body, W));
    assert_eq!(read(&file).unwrap(), [(42_000, frame())]);
}

#[test]
fn pcapng_faults() {
    let with = |tail: Vec<u8>| {
        let mut file = section(W, H);
        file.extend(interface(1, &[], W, H));
        file.extend(tail);
        fault_of(&file)
    };
    assert!(matches!(with(enhanced(1, 0, 60, 60, W)), (Some(1), PcapFault::NoInterface(1))));
    assert!(matches!(with(enhanced(0, 0, 60, 61, W)), (Some(1), PcapFault::CutShort { .. })));
    assert!(matches!(with(enhanced(0, 0, 61, 61, W)), (Some(1), PcapFault::Malformed(_))));
    assert!(matches!(
        with(enhanced(0, 0, u32::MAX, u32::MAX, W)),
        (Some(1), PcapFault::TooLong(_))
    ));
    assert!(matches!(with(block(6, &[0; 16], W)), (Some(1), PcapFault::Malformed(_))));
    assert!(matches!(with(block(3, &[0; 16], W)), (Some(1), PcapFault::NoTimestamp)));
    // A block that claims 4 GiB.
    let huge = [W(6), W(0xffff_fffc), W(0)].concat();
    assert!(matches!(with(huge), (Some(1), PcapFault::Truncated)));

    let mut file = section(W, H);
    file.extend(interface(113, &[], W, H));
    file.extend(enhanced(0, 0, 60, 60, W));
    assert!(matches!(fault_of(&file), (Some(1), PcapFault::LinkType { number: 113, .. })));

    let mut file = section(W, H);
    for _ in 0..=MAX_INTERFACES {
        file.extend(interface(1, &[], W, H));
    }
    assert!(matches!(fault_of(&file), (Some(1), PcapFault::TooManyInterfaces)));
}

/// Every single-octet change of small valid files ends in packets or an error, never in a panic.
#[test]
fn no_changed_octet_panics() {
    let mut resolution = pcapng(&[(9, &[9]), (14, &[0; 8]), (10, &[0])], 1);
    resolution.truncate(400);
    for good in [little(0xa1b2_c3d4), pcapng(&[], 1), resolution] {
        // The frame's own octets are not looked at; only headers are worth changing.
        for at in 0..good.len() {
            for value in [0x00, 0x01, 0x7f, 0x80, 0xff] {
                let mut file = good.clone();
                file[at] = value;
                let _ = read(&file);
            }
        }
    }
}

#[test]
fn written_files_are_these_very_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcap");
    let mut writer = PcapWriter::create(&path).unwrap();
    writer.write(Time(3_000_000_007), &frame()).unwrap();
    writer.finish().unwrap();
    // Magic of nanoseconds, version 2.4, snap length 0x40000, link type 1; 3 s, 7 ns, 60, 60.
    let mut expected = vec![0x4d, 0x3c, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    expected.extend([0, 0, 4, 0, 1, 0, 0, 0]);
    expected.extend([3, 0, 0, 0, 7, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0]);
    expected.extend(frame());
    assert_eq!(std::fs::read(&path).unwrap(), expected);
    assert_eq!(read(&expected).unwrap(), [(3_000_000_007, frame())]);
}

#[test]
fn dropping_the_writer_writes_what_is_buffered() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("out.pcap");
    let mut writer = PcapWriter::create(&path).unwrap();
    writer.write(Time::ZERO, &frame()).unwrap();
    drop(writer);
    assert_eq!(std::fs::read(&path).unwrap().len(), 24 + 16 + 60);
}

#[test]
fn what_the_format_cannot_hold_is_refused_and_disk_full_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = PcapWriter::create(dir.path().join("out.pcap")).unwrap();
    let long = vec![0; SNAPLEN as usize + 1];
    let error = writer.write(Time::ZERO, &long).unwrap_err();
    assert!(matches!(error.fault, PcapFault::TooLong(262_145)));
    let error = writer.write(Time::NEVER, &frame()).unwrap_err();
    assert!(matches!(error.fault, PcapFault::Timestamp));
    assert!(PcapWriter::create(dir.path()).is_err(), "a directory");

    let mut full = PcapWriter::create("/dev/full").unwrap();
    full.write(Time::ZERO, &frame()).unwrap();
    let error = full.finish().unwrap_err();
    assert!(matches!(error.fault, PcapFault::Io(_)), "{error}");
}
