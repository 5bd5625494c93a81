//! The whole engine with state: frames at every port, answers, errors, pieces, forgeries, time, and changes of the configuration,
//! under the oracles of `oracles.rs` and `rig.rs`.
//!
//! After every batch: no inside address leaves by the uplink; nothing reaches a pod whose policy denies it; every checksum that
//! leaves is right unless it came in wrong; ICMP errors only about what their receiver sent; a routed packet has lost TTL; no more
//! frames than the fan-out allows; and the worker that caches sends what the one that walks sends. Every few batches: every frame
//! is accounted for, no more answers than questions, the same sessions, counters and drops. At the end nothing is left behind.

use std::time::Duration;

use engine::network::PortId;
use packet::{Frame, tcp_flags::*};

use crate::Outcome;
use crate::input::Input;
use crate::rig::Rig;
use crate::traffic::{Flow, Kind, Traffic, flags, mend_ipv4};

/// Frames of one conversation.
const TALK: usize = 12;

/// A sequence of events; what is counted are the frames that went in.
///
/// # Errors
/// An oracle that does not hold.
pub fn run(bytes: &[u8]) -> Outcome {
    let mut input = Input::new(bytes);
    let mut rig = Rig::new()?;
    let mut traffic = Traffic::default();
    while !input.is_empty() {
        event(&mut rig, &mut traffic, &mut input)?;
    }
    rig.end()
}

fn event(rig: &mut Rig, traffic: &mut Traffic, input: &mut Input<'_>) -> Result<(), String> {
    let batch = match input.below(34) {
        0..=7 => Flow::choose(rig, input).map(|flow| vec![traffic.odd_packet(&flow, input)]),
        8..=12 => {
            let Some(flow) = Flow::choose(rig, input) else { return Ok(()) };
            return talk(rig, traffic, &flow, input);
        }
        13..=18 => got(rig, input).and_then(|got| {
            let flags = flags(input);
            Some(vec![traffic.reply(rig, &got, flags, usize::from(input.octet()))?])
        }),
        19..=21 => got(rig, input).and_then(|got| Some(vec![traffic.error(rig, &got, input)?])),
        22 => Flow::choose(rig, input).and_then(|flow| traffic.pieces(&flow, input)),
        23 => Flow::choose(rig, input).map(|flow| vec![traffic.piece(&flow, input)]),
        24 => traffic.resolution(rig, input).map(|frame| vec![frame]),
        25 | 26 => repeated(rig, input),
        27 | 28 => forged(rig, input).map(|frame| vec![frame]),
        29 => {
            let port = PortId(u32::from(input.octet() % 12));
            let length = input.below(128);
            Some(vec![(port, Frame::new(input.take(length).to_vec()))])
        }
        30 | 31 => return wait(rig, input),
        32 => {
            let configuration = input.below(rig.lab.networks.len());
            rig.configure(configuration);
            return Ok(());
        }
        _ => {
            rig.mute = input.once_in(4);
            return Ok(());
        }
    };
    rig.send(batch.unwrap_or_default()).map(|_| ())
}

/// Something that came out lately.
fn got(rig: &Rig, input: &mut Input<'_>) -> Option<(PortId, Frame)> {
    let back = input.below(rig.left.len());
    rig.left.iter().rev().nth(back).cloned()
}

/// The packets of a conversation that goes well as long as the network lets it: enough for the cache to take part.
fn talk(
    rig: &mut Rig,
    traffic: &mut Traffic,
    flow: &Flow,
    input: &mut Input<'_>,
) -> Result<(), String> {
    let count = 1 + input.below(TALK);
    let length = usize::from(input.octet());
    for turn in 0..count {
        let first = if flow.kind == Kind::Tcp && turn == 0 { SYN } else { ACK };
        let packet = traffic.packet(flow, first, length);
        let out = rig.send(vec![packet])?;
        let answer = if turn == 0 { SYN | ACK } else { ACK };
        let Some(reply) = out.iter().find_map(|got| traffic.reply(rig, got, answer, length)) else {
            return Ok(());
        };
        rig.send(vec![reply])?;
    }
    Ok(())
}

/// What was sent lately, again, several times in one batch.
fn repeated(rig: &Rig, input: &mut Input<'_>) -> Option<Vec<(PortId, Frame)>> {
    let (from, count) = (input.below(rig.sent.len()), 1 + input.below(8));
    Some(rig.sent.iter().skip(from).take(count).cloned().collect())
}

/// What was sent lately, with octets changed, perhaps by another port.
fn forged(rig: &Rig, input: &mut Input<'_>) -> Option<(PortId, Frame)> {
    let back = input.below(rig.sent.len());
    let (mut port, mut frame) = rig.sent.iter().rev().nth(back).cloned()?;
    if input.once_in(3) {
        port = rig.lab.stations.get(input.below(rig.lab.stations.len()))?.port;
    }
    for _ in 0..1 + input.below(3) {
        let (at, value) = (usize::from(input.octet()) % 120, input.octet());
        if let Some(octet) = frame.bytes.get_mut(at) {
            *octet = value;
        }
    }
    if !input.once_in(3) {
        mend_ipv4(&mut frame);
    }
    Some((port, frame))
}

/// Time passes: moments, the length of a timer, or longer than any.
fn wait(rig: &mut Rig, input: &mut Input<'_>) -> Result<(), String> {
    let seconds = match input.below(8) {
        0 => return rig.pass(Duration::from_nanos(u64::from(input.word()))),
        1..=4 => u64::from(input.octet() % 8),
        5 => u64::from(input.octet()),
        6 => u64::from(input.word() % 4000),
        _ => u64::from(input.word()),
    };
    rig.pass(Duration::from_secs(seconds))?;
    if seconds > 60 && !rig.mute { rig.introduce() } else { Ok(()) }
}
