//! What went wrong, in words: the step, what it expected, what was seen, where the last frame went.

use super::drops;
use super::wanted::Arrival;
use engine::network::{Network, PortId};
use engine::{DropKey, Trace, TraceEnd};
use packet::{Frame, Time};

/// Frames that a message lists; a flood may deliver thousands.
const SHOWN_FRAMES: usize = 8;

/// A step that did not hold.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    /// What is wrong, in one line.
    pub(super) headline: String,
    /// Expected and seen.
    pub(super) details: Vec<String>,
}

impl Failure {
    pub(super) fn new(headline: impl Into<String>) -> Failure {
        Failure { headline: headline.into(), details: Vec::new() }
    }

    pub(super) fn detail(mut self, line: impl Into<String>) -> Failure {
        self.details.push(line.into());
        self
    }

    /// Lists frames, at most [`SHOWN_FRAMES`] of them.
    pub(super) fn frames<'f>(
        mut self,
        label: &str,
        frames: impl Iterator<Item = &'f Arrival>,
        network: &Network,
    ) -> Failure {
        let frames: Vec<&Arrival> = frames.collect();
        for arrival in frames.iter().take(SHOWN_FRAMES) {
            let port = port_name(network, arrival.port);
            self.details.push(format!(
                "{label} at {port}, {}: {}",
                arrival.time,
                arrival.describe()
            ));
        }
        if frames.len() > SHOWN_FRAMES {
            self.details.push(format!("and {} more", frames.len() - SHOWN_FRAMES));
        }
        self
    }
}

/// The last frame that the test sent.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    /// Number of its step, from 1.
    pub(super) step: usize,
    /// When.
    pub(super) time: Time,
    /// Where it entered.
    pub(super) port: PortId,
    /// The frame.
    pub(super) frame: Frame,
    /// Its walk, recorded on the state that it then met.
    pub(super) trace: Trace,
}

/// The lines that follow every failure: the last frame, its trace, the drops since.
pub(super) fn context(
    sent: Option<&Sent>,
    dropped: &[(DropKey, u64)],
    network: &Network,
) -> Vec<String> {
    let mut lines = Vec::new();
    if let Some(sent) = sent {
        let port = port_name(network, sent.port);
        let frame = describe(&sent.frame);
        lines.push(format!("sent in step {} at {port}, {}: {frame}", sent.step, sent.time));
        lines.push("its trace:".to_owned());
        for step in &sent.trace.steps {
            lines
                .push(format!("  {} {}: {} | {}", step.stage, step.object, step.text, step.packet));
        }
        lines.push(format!("  end: {}", end(&sent.trace.end, network)));
        if let Some(answer) = &sent.trace.answer {
            lines.push(format!("  answered: {}", describe(answer)));
        }
    }
    if dropped.is_empty() {
        lines.push("dropped since: nothing".to_owned());
    }
    for (key, packets) in dropped {
        lines.push(format!("dropped since: {}", drops::describe(key, *packets, network)));
    }
    lines
}

fn end(end: &TraceEnd, network: &Network) -> String {
    match end {
        TraceEnd::Delivered(port, frame) => {
            format!("delivered at {} as {}", port_name(network, *port), describe(frame))
        }
        TraceEnd::Flooded(ports) => {
            let names: Vec<String> =
                ports.iter().take(SHOWN_FRAMES).map(|port| port_name(network, *port)).collect();
            format!("flooded to {} ports: {}", ports.len(), names.join(", "))
        }
        TraceEnd::Dropped(drop) => {
            let cause = drop.parse.map(|error| format!(" ({error})")).unwrap_or_default();
            format!("dropped by {} at {}: {}{cause}", drop.stage, drop.object, drop.reason)
        }
        TraceEnd::Consumed(stage) => format!("consumed by {stage}"),
        TraceEnd::Held => "held until the next hop's address is resolved".to_owned(),
    }
}

fn describe(frame: &Frame) -> String {
    match packet::parse(&frame.bytes) {
        Ok(headers) => packet::describe(&headers),
        Err(error) => format!("{} octets that do not parse: {error}", frame.bytes.len()),
    }
}

/// The port's name, or its number where it has none.
pub(super) fn port_name(network: &Network, port: PortId) -> String {
    network.port(port).map_or_else(|| format!("port {}", port.0), |port| port.name.clone())
}
