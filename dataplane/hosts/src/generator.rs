//! A packet generator and sink: established flows through the whole chain, frames copied in and out
//! as a port would.

use engine::network::{Network, PortId};
use engine::{Received, Worker, WorkerConfig};
use packet::{Addr, Frame, FrameBuilder, Headers, Mac, Payload, Time};
use std::time::{Duration, Instant};

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// Established flows, each with packets in both directions.
    pub flows: usize,
    /// Frames a second.
    pub pps: f64,
}

/// Frames a batch, as the live lab takes them from a port.
const BATCH: usize = 64;
/// Octets of a frame: 64 on a wire, with its FCS.
const FRAME: usize = 60;
/// Octets that make an Ethernet, IPv4 and UDP header such a frame.
const PAYLOAD: usize = 18;

/// Two ends of the flows: where their frames go in, with the MACs of the first hop.
#[derive(Clone, Copy, Debug)]
pub struct Ends {
    /// The workload's port, MAC and address.
    pub inside: (PortId, Mac, Addr),
    /// The MAC of its gateway.
    pub gateway: Mac,
    /// The address outside that it talks to.
    pub outside: Addr,
}

/// Why a generator cannot run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GeneratorError {
    /// The first packets of a flow did not come out.
    #[error("the chain that is to be measured does not let packets through")]
    Blocked,
    /// A packet of an established flow did not come out.
    #[error("an established flow lost a packet")]
    Lost,
}

/// Established flows and the frames that keep them going.
#[derive(Debug)]
pub struct Generator {
    worker: Worker,
    /// Frames of both directions of every flow, in the order in which strangers' packets come: what a port's
    /// receive ring would hold.
    templates: Vec<(PortId, [u8; FRAME])>,
    batch: Vec<Received>,
    tx: Vec<(PortId, Frame)>,
    /// What a port's transmit ring would hold.
    ring: Vec<[u8; FRAME]>,
}

impl Generator {
    /// Opens `flows` flows from inside to outside, in both directions. More than 50,000 times 65,526
    /// would share ports.
    ///
    /// # Errors
    /// [`GeneratorError::Blocked`] if the network does not let them through.
    pub fn new(net: &Network, ends: &Ends, flows: usize) -> Result<Generator, GeneratorError> {
        let mut worker = Worker::new(WorkerConfig { seed: net.seed, ..WorkerConfig::default() });
        let mut templates = establish(net, &mut worker, ends, flows)?;
        shuffle(&mut templates);
        Ok(Generator {
            worker,
            templates,
            batch: Vec::with_capacity(BATCH),
            tx: Vec::with_capacity(BATCH),
            ring: vec![[0; FRAME]; BATCH],
        })
    }

    /// Sends one packet a direction and flow; returns how many came out.
    ///
    /// # Errors
    /// [`GeneratorError::Lost`] unless all of them did.
    pub fn round(&mut self, net: &Network) -> Result<u64, GeneratorError> {
        for chunk in self.templates.chunks(BATCH) {
            // As a port does it: what came out is copied into the transmit ring, and the buffer takes the next
            // frame of the receive ring.
            let mut sent = self.tx.drain(..);
            for ((port, bytes), to) in chunk.iter().zip(&mut self.ring) {
                let mut frame = match sent.next() {
                    Some((_, frame)) => frame,
                    None => Frame::new(vec![0; FRAME]),
                };
                let buffer: Result<&mut [u8; FRAME], _> = frame.bytes.as_mut_slice().try_into();
                let buffer = buffer.map_err(|_| GeneratorError::Lost)?;
                *to = *buffer;
                *buffer = *bytes;
                self.batch.push(Received { port: *port, frame });
            }
            drop(sent);
            self.worker.process(net, &mut self.batch, Time::from_millis(1), &mut self.tx);
            if self.tx.len() != chunk.len() {
                return Err(GeneratorError::Lost);
            }
        }
        Ok(self.templates.len() as u64)
    }
}

/// Opens `flows` flows and measures for about `duration` of wall time.
///
/// # Errors
/// As [`Generator::new`] and [`Generator::round`].
pub fn measure(
    net: &Network,
    ends: &Ends,
    flows: usize,
    duration: Duration,
) -> Result<Rate, GeneratorError> {
    let mut generator = Generator::new(net, ends, flows)?;
    generator.round(net)?;
    let mut frames = 0;
    let started = Instant::now();
    while started.elapsed() < duration {
        frames += generator.round(net)?;
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(Rate { flows, pps: frames as f64 / seconds })
}

/// Sends every flow's first packet and reply, twice; returns the frames of both directions.
fn establish(
    net: &Network,
    worker: &mut Worker,
    ends: &Ends,
    flows: usize,
) -> Result<Vec<(PortId, [u8; FRAME])>, GeneratorError> {
    let (port, mac, source) = ends.inside;
    let mut templates = Vec::with_capacity(flows * 2);
    for i in 0..flows {
        let src_port = u16::try_from(1024 + i % 50_000).unwrap_or(u16::MAX);
        let dst_port = u16::try_from(9 + i / 50_000).unwrap_or(u16::MAX);
        let ask = FrameBuilder::new(source, ends.outside)
            .macs(mac, ends.gateway)
            .udp(src_port, dst_port)
            .payload(&[0; PAYLOAD])
            .build();
        let (out, sent) = send(net, worker, port, ask.clone()).ok_or(GeneratorError::Blocked)?;
        let headers = packet::parse(&sent.bytes).map_err(|_| GeneratorError::Blocked)?;
        let ip = *headers.ip().ok_or(GeneratorError::Blocked)?;
        let answer = FrameBuilder::new(ip.dst, ip.src)
            .macs(headers.dst_mac, headers.src_mac)
            .udp(ip.ports().1, ip.ports().0)
            .payload(&[0; PAYLOAD])
            .build();
        send(net, worker, out, answer.clone()).ok_or(GeneratorError::Blocked)?;
        for (port, frame) in [(port, ask), (out, answer)] {
            let bytes = frame.bytes.as_slice().try_into().map_err(|_| GeneratorError::Blocked)?;
            templates.push((port, bytes));
        }
    }
    Ok(templates)
}

/// Sends one packet; neighbours that are asked for are answered as their hosts would.
fn send(net: &Network, worker: &mut Worker, port: PortId, frame: Frame) -> Option<(PortId, Frame)> {
    let mut queue = vec![(port, frame)];
    for _ in 0..8 {
        let mut tx = Vec::new();
        let mut batch = queue.drain(..).map(|(port, frame)| Received { port, frame }).collect();
        worker.process(net, &mut batch, Time::from_millis(1), &mut tx);
        for (out, frame) in tx {
            let headers = packet::parse(&frame.bytes).ok()?;
            match arp_target(&headers) {
                Some(_) => {
                    let mac = Mac([0x02, 0, 0, 0, 0, u8::try_from(out.0 % 256).ok()?]);
                    queue.push((out, packet::arp_reply(&headers, mac)?));
                }
                None if headers.ip().is_some() => return Some((out, frame)),
                None => {}
            }
        }
    }
    None
}

fn arp_target(headers: &Headers) -> Option<Addr> {
    match headers.payload {
        Payload::Arp(arp) if arp.operation == 1 => Some(arp.target),
        _ => None,
    }
}

/// Fisher and Yates with a fixed multiplicative generator: the same order in every run.
fn shuffle<T>(items: &mut [T]) {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    for i in (1..items.len()).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let j = usize::try_from((state >> 33) % (i as u64 + 1)).unwrap_or(0);
        items.swap(i, j);
    }
}
