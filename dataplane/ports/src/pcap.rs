//! Capture files.
//!
//! Reads classic pcap (draft-ietf-opsawg-pcap: both byte orders, microseconds and nanoseconds) and
//! pcapng (draft-ietf-opsawg-pcapng); writes classic pcap with nanoseconds, little endian whatever
//! the host, so that the same frames give the same bytes everywhere.
//!
//! A file is foreign input. The reader takes the container apart with `pcap-file` but only as far as
//! raw packets and blocks: version 2.0 of that crate refuses files captured with a short snap length
//! and takes pcapng ticks for nanoseconds. Lengths are checked before anything is copied, memory is
//! bounded by the crate's 8 MB window and [`SNAPLEN`] a packet, and the first fault ends the reading.
//!
//! A packet that was cut when captured is an error, not a shorter packet: replaying it would test
//! something that never was on the wire.

use std::fs::File;
use std::io::{self, BufWriter, Chain, Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use packet::Time;
use pcap_file::pcap::{PcapHeader, PcapPacket};
use pcap_file::pcapng::RawBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::{DataLink, Endianness, PcapError, TsResolution};

/// The longest packet read or written, octets: the usual limit of capture tools.
pub const SNAPLEN: u32 = 262_144;

/// Interfaces a pcapng section may describe; `mergecap` makes one for each input file.
const MAX_INTERFACES: usize = 4096;

/// pcapng block types (pcapng 11.1).
const PACKET_BLOCK: u32 = 2;
const SIMPLE_PACKET_BLOCK: u32 = 3;
const ENHANCED_PACKET_BLOCK: u32 = 6;

const NANOS_PER_SEC: u64 = 1_000_000_000;

/// What is wrong with a capture file.
#[derive(Debug, thiserror::Error)]
pub enum PcapFault {
    /// The operating system refused.
    #[error("{0}")]
    Io(#[source] io::Error),
    /// Not a single octet.
    #[error("the file is empty; a capture has at least a header")]
    Empty,
    /// The first four octets are no capture format's.
    #[error(
        "not a capture file: it starts with {0:02x?}; pcap and pcapng are understood \
         (unpack a compressed file first)"
    )]
    NotACapture([u8; 4]),
    /// The end of the file comes before the end of a header or packet.
    #[error("the file ends in the middle: it was cut off, or a length field in it is wrong")]
    Truncated,
    /// Frames of something else than Ethernet.
    #[error("link type {name} ({number}) is not Ethernet; capture on one Ethernet interface")]
    LinkType {
        /// The name of the link type.
        name: String,
        /// Its number in the registry of link types.
        number: u32,
    },
    /// Only the start of the packet is in the file.
    #[error(
        "only {captured} of {original} octets were captured; capture again with 'tcpdump -s 0'"
    )]
    CutShort {
        /// Octets in the file.
        captured: u32,
        /// Octets that were on the wire.
        original: u32,
    },
    /// Longer than [`SNAPLEN`].
    #[error("a length of {0} octets; the limit is {SNAPLEN}")]
    TooLong(u64),
    /// A fraction of a whole second or more, or a moment outside 1970 to 2554.
    #[error("an impossible time stamp")]
    Timestamp,
    /// A pcapng simple packet block.
    #[error(
        "the packet has no time stamp (a simple packet block); convert with 'editcap -F nsecpcap'"
    )]
    NoTimestamp,
    /// A pcapng packet of an interface that no block before it described.
    #[error("it names interface {0}, which the file does not describe")]
    NoInterface(u32),
    /// A pcapng section with more interfaces than are accepted.
    #[error("more than {MAX_INTERFACES} interfaces in one section")]
    TooManyInterfaces,
    /// Anything else that the formats forbid.
    #[error("malformed: {0}")]
    Malformed(String),
}

/// A fault with its place.
#[derive(Debug, thiserror::Error)]
#[error("{}{}: {fault}", path.display(), at(*packet))]
pub struct PcapFileError {
    /// The file.
    pub path: PathBuf,
    /// The packet being read or written, counted from 1; `None` where the file as a whole is meant.
    pub packet: Option<u64>,
    /// What is wrong.
    #[source]
    pub fault: PcapFault,
}

fn at(packet: Option<u64>) -> String {
    packet.map_or_else(String::new, |n| format!(": packet {n}"))
}

type Source = Chain<Cursor<[u8; 4]>, File>;

/// `pcap-file`'s readers, by format.
enum Format {
    Classic(pcap_file::pcap::PcapReader<Source>),
    Next(pcap_file::pcapng::PcapNgReader<Source>),
}

/// Reads the packets of a capture file in file order: an iterator of (nanoseconds since 1970, octets
/// from the destination address on). The first error ends it.
pub struct PcapReader {
    path: PathBuf,
    format: Format,
    packets: u64,
    ended: bool,
}

impl PcapReader {
    /// Opens a file (or a pipe) and reads its header.
    ///
    /// # Errors
    /// If it cannot be read, is not pcap or pcapng, or not of Ethernet frames.
    pub fn open(path: impl AsRef<Path>) -> Result<PcapReader, PcapFileError> {
        let path = path.as_ref();
        match open_format(path) {
            Ok(format) => {
                Ok(PcapReader { path: path.to_owned(), format, packets: 0, ended: false })
            }
            Err(fault) => Err(PcapFileError { path: path.to_owned(), packet: None, fault }),
        }
    }
}

impl Iterator for PcapReader {
    type Item = Result<(u64, Vec<u8>), PcapFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let result = match &mut self.format {
            Format::Classic(reader) => next_classic(reader),
            Format::Next(reader) => next_pcapng(reader),
        };
        match result {
            Ok(Some(packet)) => {
                self.packets += 1;
                Some(Ok(packet))
            }
            Ok(None) => {
                self.ended = true;
                None
            }
            Err(fault) => {
                self.ended = true;
                Some(Err(PcapFileError {
                    path: self.path.clone(),
                    packet: Some(self.packets + 1),
                    fault,
                }))
            }
        }
    }
}

fn open_format(path: &Path) -> Result<Format, PcapFault> {
    let mut file = File::open(path).map_err(PcapFault::Io)?;
    // Four octets decide the format; they are put back in front, so that a pipe works too.
    let mut magic = [0u8; 4];
    let mut have = 0;
    while let Some(rest @ [_, ..]) = magic.get_mut(have..) {
        match file.read(rest) {
            Ok(0) if have == 0 => return Err(PcapFault::Empty),
            Ok(0) => return Err(PcapFault::Truncated),
            Ok(n) => have += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(PcapFault::Io(error)),
        }
    }
    let source = Cursor::new(magic).chain(file);
    match magic {
        [0xa1, 0xb2, 0xc3, 0xd4]
        | [0xd4, 0xc3, 0xb2, 0xa1]
        | [0xa1, 0xb2, 0x3c, 0x4d]
        | [0x4d, 0x3c, 0xb2, 0xa1] => {
            let reader = pcap_file::pcap::PcapReader::new(source).map_err(fault)?;
            ethernet(reader.header().datalink)?;
            Ok(Format::Classic(reader))
        }
        [0x0a, 0x0d, 0x0d, 0x0a] => {
            let reader = pcap_file::pcapng::PcapNgReader::new(source).map_err(fault)?;
            Ok(Format::Next(reader))
        }
        _ => Err(PcapFault::NotACapture(magic)),
    }
}

fn fault(error: PcapError) -> PcapFault {
    match error {
        PcapError::IncompleteBuffer => PcapFault::Truncated,
        PcapError::IoError(e) if e.kind() == io::ErrorKind::UnexpectedEof => PcapFault::Truncated,
        PcapError::IoError(e) => PcapFault::Io(e),
        other => PcapFault::Malformed(other.to_string()),
    }
}

fn ethernet(link: DataLink) -> Result<(), PcapFault> {
    if link == DataLink::ETHERNET {
        return Ok(());
    }
    Err(PcapFault::LinkType { name: format!("{link:?}"), number: link.into() })
}

/// Checks the two lengths of a packet: what the file has, and what was on the wire.
fn whole(captured: u32, original: u32) -> Result<(), PcapFault> {
    if captured > SNAPLEN {
        return Err(PcapFault::TooLong(captured.into()));
    }
    if captured < original {
        return Err(PcapFault::CutShort { captured, original });
    }
    Ok(())
}

type Packet = (u64, Vec<u8>);

fn next_classic(
    reader: &mut pcap_file::pcap::PcapReader<Source>,
) -> Result<Option<Packet>, PcapFault> {
    let resolution = reader.header().ts_resolution;
    let Some(raw) = reader.next_raw_packet() else {
        return Ok(None);
    };
    let raw = raw.map_err(fault)?;
    whole(raw.incl_len, raw.orig_len)?;
    let (limit, scale) = match resolution {
        TsResolution::MicroSecond => (1_000_000, 1000),
        TsResolution::NanoSecond => (1_000_000_000, 1),
    };
    if raw.ts_frac >= limit {
        return Err(PcapFault::Timestamp);
    }
    let time = u64::from(raw.ts_sec) * NANOS_PER_SEC + u64::from(raw.ts_frac) * scale;
    Ok(Some((time, raw.data.into_owned())))
}

fn next_pcapng(
    reader: &mut pcap_file::pcapng::PcapNgReader<Source>,
) -> Result<Option<Packet>, PcapFault> {
    loop {
        let Some(block) = reader.next_raw_block() else {
            return Ok(None);
        };
        let block = block.map_err(fault)?;
        match block.type_ {
            ENHANCED_PACKET_BLOCK | PACKET_BLOCK => {
                // Taken out of the reader's window first, as the interfaces are the reader's too.
                let block = RawPacketBlock::copy(&block)?;
                let order = reader.section().endianness;
                return block.decode(order, reader.interfaces()).map(Some);
            }
            SIMPLE_PACKET_BLOCK => return Err(PcapFault::NoTimestamp),
            // Interfaces are collected by the reader; names, statistics and foreign blocks carry
            // no packets.
            _ => {}
        }
        if reader.interfaces().len() > MAX_INTERFACES {
            return Err(PcapFault::TooManyInterfaces);
        }
    }
}

/// Octets before the packet data of an enhanced packet block (pcapng 4.3) and of the obsolete packet
/// block (appendix A): interface, time stamp high and low, captured length, original length.
const PACKET_BLOCK_HEADER: usize = 20;

struct RawPacketBlock {
    obsolete: bool,
    header: [u8; PACKET_BLOCK_HEADER],
    body: Vec<u8>,
}

impl RawPacketBlock {
    fn copy(block: &RawBlock<'_>) -> Result<RawPacketBlock, PcapFault> {
        let too_short = || PcapFault::Malformed("a packet block shorter than its header".into());
        let (header, rest) =
            block.body.split_first_chunk::<PACKET_BLOCK_HEADER>().ok_or_else(too_short)?;
        // Packet data comes first, options after it: nothing beyond the limit can be wanted.
        let keep = rest.len().min(SNAPLEN as usize);
        Ok(RawPacketBlock {
            obsolete: block.type_ == PACKET_BLOCK,
            header: *header,
            body: rest.get(..keep).unwrap_or_default().to_vec(),
        })
    }

    fn decode(
        mut self,
        order: Endianness,
        interfaces: &[InterfaceDescriptionBlock<'static>],
    ) -> Result<Packet, PcapFault> {
        let [i0, i1, i2, i3, h0, h1, h2, h3, l0, l1, l2, l3, c0, c1, c2, c3, o0, o1, o2, o3] =
            self.header;
        let word = |octets: [u8; 4]| match order {
            Endianness::Big => u32::from_be_bytes(octets),
            Endianness::Little => u32::from_le_bytes(octets),
        };
        let id = match (self.obsolete, order) {
            (false, _) => word([i0, i1, i2, i3]),
            // Only 16 bits there; the other 16 count drops.
            (true, Endianness::Big) => u16::from_be_bytes([i0, i1]).into(),
            (true, Endianness::Little) => u16::from_le_bytes([i0, i1]).into(),
        };
        let ticks = u64::from(word([h0, h1, h2, h3])) << 32 | u64::from(word([l0, l1, l2, l3]));
        let (captured, original) = (word([c0, c1, c2, c3]), word([o0, o1, o2, o3]));
        whole(captured, original)?;
        let interface = usize::try_from(id)
            .ok()
            .and_then(|i| interfaces.get(i))
            .ok_or(PcapFault::NoInterface(id))?;
        ethernet(interface.linktype)?;
        if captured as usize > self.body.len() {
            return Err(PcapFault::Malformed(format!(
                "a packet of {captured} octets in a block that holds {}",
                self.body.len()
            )));
        }
        self.body.truncate(captured as usize);
        Ok((nanoseconds(ticks, interface)?, self.body))
    }
}

/// Ticks of an interface's clock to nanoseconds since 1970 (pcapng 4.2: `if_tsresol`, `if_tsoffset`;
/// microseconds and no offset unless said). What is finer than a nanosecond is cut.
fn nanoseconds(
    ticks: u64,
    interface: &InterfaceDescriptionBlock<'static>,
) -> Result<u64, PcapFault> {
    let (mut resolution, mut offset) = (6u8, 0i64);
    for option in &interface.options {
        match option {
            InterfaceDescriptionOption::IfTsResol(r) => resolution = *r,
            // The format says signed seconds; the crate hands over the bare 64 bits.
            InterfaceDescriptionOption::IfTsOffset(seconds) => offset = seconds.cast_signed(),
            _ => {}
        }
    }
    let exponent = u32::from(resolution & 0x7f);
    let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
    let ticks_per_second = base.checked_pow(exponent).ok_or(PcapFault::Timestamp)?;
    let nanos = u128::from(ticks) * u128::from(NANOS_PER_SEC) / ticks_per_second;
    // Both far from the limits of 128 bits: at most 2^94 and 2^93.
    let shifted = nanos.cast_signed() + i128::from(offset) * i128::from(NANOS_PER_SEC);
    u64::try_from(shifted).map_err(|_| PcapFault::Timestamp)
}

/// Writes a classic nanosecond pcap of Ethernet frames. What is buffered is written when it is
/// dropped; call [`PcapWriter::finish`] to learn of a full disk.
#[derive(Debug)]
pub struct PcapWriter {
    path: PathBuf,
    packets: u64,
    writer: pcap_file::pcap::PcapWriter<BufWriter<File>>,
}

impl PcapWriter {
    /// Creates the file, or empties it, and writes the header.
    ///
    /// # Errors
    /// If the file cannot be created.
    pub fn create(path: impl AsRef<Path>) -> Result<PcapWriter, PcapFileError> {
        let path = path.as_ref();
        let wrong = |fault| PcapFileError { path: path.to_owned(), packet: None, fault };
        let file = File::create(path).map_err(|e| wrong(PcapFault::Io(e)))?;
        let header = PcapHeader {
            snaplen: SNAPLEN,
            datalink: DataLink::ETHERNET,
            ts_resolution: TsResolution::NanoSecond,
            endianness: Endianness::Little,
            ..PcapHeader::default()
        };
        let writer = pcap_file::pcap::PcapWriter::with_header(BufWriter::new(file), header)
            .map_err(|e| wrong(fault(e)))?;
        Ok(PcapWriter { path: path.to_owned(), packets: 0, writer })
    }

    /// Appends one frame. The lab's start is 1970-01-01T00:00:00Z in the file.
    ///
    /// # Errors
    /// If the disk refuses, the frame is longer than [`SNAPLEN`], or `time` is past the year 2106,
    /// the end of the format's 32-bit seconds.
    pub fn write(&mut self, time: Time, frame: &[u8]) -> Result<(), PcapFileError> {
        let wrong = |fault| PcapFileError {
            path: self.path.clone(),
            packet: Some(self.packets + 1),
            fault,
        };
        let length = match u32::try_from(frame.len()) {
            Ok(length) if length <= SNAPLEN => length,
            _ => return Err(wrong(PcapFault::TooLong(frame.len() as u64))),
        };
        if time.0 / NANOS_PER_SEC > u32::MAX.into() {
            return Err(wrong(PcapFault::Timestamp));
        }
        let packet = PcapPacket::new(Duration::from_nanos(time.0), length, frame);
        if let Err(error) = self.writer.write_packet(&packet) {
            return Err(wrong(fault(error)));
        }
        self.packets += 1;
        Ok(())
    }

    /// Writes what is buffered and closes the file.
    ///
    /// # Errors
    /// If the disk refuses: then the file is not complete.
    pub fn finish(self) -> Result<(), PcapFileError> {
        let PcapWriter { path, writer, .. } = self;
        writer.into_writer().flush().map_err(|error| PcapFileError {
            path,
            packet: None,
            fault: PcapFault::Io(error),
        })
    }
}

#[cfg(test)]
#[path = "pcap_tests.rs"]
mod tests;
