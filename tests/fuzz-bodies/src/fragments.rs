//! Fragments in any order, twice, overlapping, too many, of datagrams that are allowed and that are not.
//!
//! Beside the oracles of the pipeline: the pieces that a receiver gets never overlap (RFC 5722), so that nobody who reassembles
//! them can be made to see another packet than the firewall saw; and where they are complete, the UDP checksum over the whole is
//! right, so that all of them were translated alike.

use std::collections::BTreeMap;
use std::time::Duration;

use engine::network::PortId;
use packet::{Addr, Fragment, Frame, parse, protocol};

use crate::Outcome;
use crate::input::Input;
use crate::rig::Rig;
use crate::traffic::{Flow, Kind, Traffic};

/// Longer than any host waits for a piece.
const REASSEMBLY: Duration = Duration::from_secs(61);

/// Which datagram, at which port.
type Datagram = (PortId, Addr, Addr, u8, u32);

/// Where receivers put together what they get.
#[derive(Debug, Default)]
struct Receivers {
    datagrams: BTreeMap<Datagram, BTreeMap<usize, (Vec<u8>, bool)>>,
}

/// A sequence of fragments; what is counted are the frames that went in.
///
/// # Errors
/// An oracle that does not hold.
pub fn run(bytes: &[u8]) -> Outcome {
    let mut input = Input::new(bytes);
    let mut rig = Rig::new()?;
    let (mut traffic, mut receivers) = (Traffic::default(), Receivers::default());
    while !input.is_empty() {
        let batch =
            match input.below(12) {
                0..=4 => Flow::choose(&rig, &mut input)
                    .and_then(|flow| traffic.pieces(&flow, &mut input)),
                5..=8 => Flow::choose(&rig, &mut input)
                    .map(|flow| vec![traffic.piece(&flow, &mut input)]),
                9 => reply_in_pieces(&rig, &mut traffic, &mut input),
                10 => {
                    // Shorter waits would make this body repeat the engine's own clock.
                    rig.pass(REASSEMBLY)?;
                    receivers.datagrams.clear();
                    None
                }
                _ => {
                    let configuration = input.below(rig.lab.networks.len());
                    rig.configure(configuration);
                    None
                }
            };
        let out = rig.send(batch.unwrap_or_default())?;
        for (port, frame) in &out {
            receivers.take(*port, frame)?;
        }
    }
    rig.end()
}

/// An answer to something that came out, in pieces.
fn reply_in_pieces(
    rig: &Rig,
    traffic: &mut Traffic,
    input: &mut Input<'_>,
) -> Option<Vec<(PortId, Frame)>> {
    let back = input.below(rig.left.len());
    let (port, frame) = rig.left.iter().rev().nth(back)?;
    let heard = *parse(&frame.bytes).ok()?.ip()?;
    let flow = Flow {
        from: rig.station(*port)?,
        to: heard.src,
        kind: if heard.protocol == protocol::TCP { Kind::Tcp } else { Kind::Udp },
        ports: (heard.ports().1, heard.ports().0),
    };
    traffic.pieces(&flow, input)
}

impl Receivers {
    fn take(&mut self, port: PortId, frame: &Frame) -> Result<(), String> {
        let headers = parse(&frame.bytes).map_err(|e| e.to_string())?;
        let Some(ip) = headers.ip() else { return Ok(()) };
        let Some(Fragment { id, offset, more }) = ip.fragment else { return Ok(()) };
        let piece =
            frame.bytes.get(usize::from(ip.l4)..headers.l3_end()).unwrap_or_default().to_vec();
        let key = (port, ip.src, ip.dst, ip.protocol, id);
        let pieces = self.datagrams.entry(key).or_default();
        let (start, end) = (usize::from(offset), usize::from(offset) + piece.len());
        let overlaps = pieces.iter().any(|(at, (have, _))| *at < end && start < at + have.len());
        if overlaps {
            return Err(format!(
                "a receiver gets overlapping fragments, {start} to {end} of {key:?}"
            ));
        }
        pieces.insert(start, (piece, more));
        if let Some(whole) = whole(pieces) {
            self.datagrams.remove(&key);
            is_right(ip, &whole)?;
        }
        Ok(())
    }
}

/// The datagram, if all of it has come.
fn whole(pieces: &BTreeMap<usize, (Vec<u8>, bool)>) -> Option<Vec<u8>> {
    let mut whole = Vec::new();
    let mut more = true;
    for (at, (piece, more_follow)) in pieces {
        if *at != whole.len() || !more {
            return None;
        }
        whole.extend_from_slice(piece);
        more = *more_follow;
    }
    (!more).then_some(whole)
}

/// Whether the checksum over a datagram that was sent right is right where it arrives.
fn is_right(ip: &packet::Ip, whole: &[u8]) -> Result<(), String> {
    let length = whole.get(4..6).map(|l| usize::from(l[0]) << 8 | usize::from(l[1]));
    // Pieces of several datagrams under one identification fit together by chance; then the length says so.
    if ip.protocol != protocol::UDP || length != Some(whole.len()) {
        return Ok(());
    }
    let Ok(length) = u32::try_from(whole.len()) else { return Ok(()) };
    let pseudo = packet::pseudo_header_sum(ip.src, ip.dst, ip.protocol, length);
    let sum = u32::from(packet::sum(whole)) + u32::from(pseudo);
    if (sum & 0xffff) + (sum >> 16) == 0xffff {
        return Ok(());
    }
    Err(format!("a reassembled datagram has a wrong checksum: {ip:?}"))
}
