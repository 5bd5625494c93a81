//! Capture files: whatever they hold, they end in packets or in a message, and what is read can be written and read again.

use std::io::Write;

use packet::Time;
use ports::{PcapReader, PcapWriter, SNAPLEN};

use crate::Outcome;

/// The end of classic pcap's 32-bit seconds, which the writer refuses to pass.
const LAST_SECOND: u64 = u32::MAX as u64;

/// A capture file.
///
/// # Errors
/// A packet longer than the limit, more packets than the file has octets, or one that changes when it is written and read.
pub fn run(bytes: &[u8]) -> Outcome {
    let file = |what: &str, e: &dyn std::fmt::Display| format!("{what}: {e}");
    let mut input = tempfile::NamedTempFile::new().map_err(|e| file("temporary file", &e))?;
    input.write_all(bytes).map_err(|e| file("temporary file", &e))?;
    let Ok(reader) = PcapReader::open(input.path()) else { return Ok(1) };
    let mut packets = Vec::new();
    for packet in reader {
        match packet {
            Ok((_, frame)) if frame.len() > SNAPLEN as usize => {
                return Err(format!("a packet of {} octets", frame.len()));
            }
            Ok(packet) => packets.push(packet),
            Err(error) if error.to_string().is_empty() => {
                return Err("an error without words".into());
            }
            Err(_) => break,
        }
        if packets.len() > bytes.len() {
            return Err("more packets than octets".into());
        }
    }
    packets.retain(|(time, _)| time / 1_000_000_000 <= LAST_SECOND);
    let mut writer = PcapWriter::create(input.path()).map_err(|e| file("writing", &e))?;
    for (time, frame) in &packets {
        writer.write(Time(*time), frame).map_err(|e| file("writing", &e))?;
    }
    writer.finish().map_err(|e| file("writing", &e))?;
    let reader = PcapReader::open(input.path()).map_err(|e| file("reading again", &e))?;
    let again: Result<Vec<_>, _> = reader.collect();
    if again.map_err(|e| file("reading again", &e))? == packets {
        Ok(1)
    } else {
        Err("a packet changed when it was written and read".into())
    }
}
