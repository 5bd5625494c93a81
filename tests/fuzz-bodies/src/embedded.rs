//! ICMP errors about live sessions: over every kind of translation, from the right host and from others, about the right packet and
//! about changed ones, with right checksums and with wrong ones.
//!
//! The oracles are the pipeline's; the one that counts is that an error arrives only where the packet that it quotes came from.

use std::time::Duration;

use packet::{Frame, parse, tcp_flags::*};

use crate::Outcome;
use crate::input::Input;
use crate::lab::{CLIENT, WEB};
use crate::rig::Rig;
use crate::traffic::{Flow, Kind, Traffic};

/// The first part chooses conversations, the rest the errors; what is counted are the frames that went in.
///
/// # Errors
/// An oracle that does not hold.
pub fn run(bytes: &[u8]) -> Outcome {
    let mut input = Input::new(bytes);
    let mut rig = Rig::new()?;
    let mut traffic = Traffic::default();
    let mut delivered = Vec::new();
    for _ in 0..1 + input.below(6) {
        let Some(flow) = conversation(&rig, &mut input) else { continue };
        let out = rig.send(vec![traffic.packet(&flow, SYN, 40)])?;
        let replies: Vec<_> =
            out.iter().filter_map(|got| traffic.reply(&rig, got, SYN | ACK, 40)).collect();
        delivered.extend(out);
        delivered.extend(rig.send(replies)?);
    }
    while !input.is_empty() {
        match input.below(12) {
            0 => rig.pass(Duration::from_secs(u64::from(input.octet())))?,
            1 => {
                let configuration = input.below(rig.lab.networks.len());
                rig.configure(configuration);
            }
            _ => {
                let at = input.below(delivered.len());
                let Some((port, frame)) = delivered.get(at) else { continue };
                let about = shortened(frame, &mut input);
                if let Some(error) = traffic.error(&rig, &(*port, about), &mut input) {
                    rig.send(vec![error])?;
                }
            }
        }
    }
    rig.end()
}

/// A flow over a translation, more often than chance would have it.
fn conversation(rig: &Rig, input: &mut Input<'_>) -> Option<Flow> {
    let mut flow = Flow::choose(rig, input)?;
    let outside = rig.lab.stations.iter().find(|s| s.outside)?;
    match input.below(6) {
        0 => (flow.from, flow.to) = (rig.lab.stations.get(CLIENT)?, "10.96.0.80".parse().ok()?),
        1 => (flow.from, flow.to) = (outside, "172.16.1.80".parse().ok()?),
        2 => (flow.from, flow.to) = (rig.lab.stations.get(WEB)?, outside.v4),
        3 => (flow.from, flow.to) = (rig.lab.stations.get(CLIENT)?, rig.lab.stations.get(WEB)?.v6),
        _ => {}
    }
    if input.once_in(2) {
        (flow.kind, flow.ports.1) = (Kind::Udp, 53);
    }
    Some(flow)
}

/// A router may quote as little as 8 octets behind the header (RFC 792): the frame cut there, with a length that says so.
fn shortened(frame: &Frame, input: &mut Input<'_>) -> Frame {
    let mut frame = frame.clone();
    let Some(ip) = parse(&frame.bytes).ok().and_then(|h| h.ip().copied()) else { return frame };
    if input.once_in(3) && ip.is_v4() {
        frame.bytes.truncate(usize::from(ip.l4) + 20 + input.below(16));
    }
    frame
}
