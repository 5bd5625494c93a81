//! A packet's way through a running lab, without sending it.
//!
//! The packet is built here, as the host at its port would send it, and the engine walks it with the lab's present
//! sessions, neighbours and rules; nothing is committed. Where a router outside takes it, its next way begins there:
//! at most [`MAX_WAYS`] of them. Its source port is one that no host hands out, so that no flow of the lab is met.

use crate::args::Proto;
use crate::commands::trace::{self, StepView, TraceView, WalkView, split_port};
use crate::exit::Error;
use crate::open::{address_seen_from, sender};
use crate::output::pretty_json;
use crate::tables::{DropRow, drops_of};
use engine::network::{Attachment, Network, PortId};
use engine::{DropKey, Trace, TraceEnd, Traffic};
use hosts::{Lab, RouteOutcome};
use packet::{Addr, Frame, FrameBuilder, Headers, Mac, Transport, tcp_flags};
use realization::Realized;
use serde_json::json;
use std::collections::BTreeMap;

/// The most ways of one packet: through the lab, and again from each router outside.
const MAX_WAYS: usize = 8;
/// Above the ports that hosts hand out, which end at 60999 (Linux `ip_local_port_range`).
const SOURCE_PORT: u16 = 61_000;

/// A packet to follow.
#[derive(Clone, Debug)]
pub struct Packet {
    /// Who sends it, for messages.
    from: String,
    /// Where it is sent from.
    port: PortId,
    /// Whether the interface was named: then the host is bound to it.
    bound: bool,
    to: Addr,
    protocol: Proto,
    dport: u16,
    /// MACs of what is plugged in, by address.
    macs: BTreeMap<Addr, Vec<(PortId, Mac)>>,
}

impl Packet {
    /// The packet that `from` sends to `to`, both as on the command line.
    ///
    /// # Errors
    /// One of them does not exist, or a port is missing.
    pub fn new(
        realized: &Realized,
        from: &str,
        to: &str,
        protocol: Option<Proto>,
    ) -> Result<Packet, Error> {
        let (target, dport) = split_port(to)?;
        let protocol = protocol.unwrap_or(if dport.is_some() { Proto::Tcp } else { Proto::Icmp });
        if protocol != Proto::Icmp && dport.is_none() {
            return Err(Error::input(format!("'{to}' has no port: write {to}:PORT")));
        }
        let (port, bound) = sender(realized, from)?;
        let to = address_seen_from(realized, port, target)?;
        let mut macs: BTreeMap<Addr, Vec<(PortId, Mac)>> = BTreeMap::new();
        for (_, place) in realized.names.ports() {
            for address in &place.addresses {
                macs.entry(*address).or_default().push((place.port, place.mac));
            }
        }
        Ok(Packet {
            from: from.to_owned(),
            port,
            bound,
            to,
            protocol,
            dport: dport.unwrap_or(0),
            macs,
        })
    }

    fn builder(&self, src: Addr, dst: Addr, sport: u16, dport: u16) -> FrameBuilder {
        let builder = FrameBuilder::new(src, dst);
        match self.protocol {
            Proto::Tcp => builder.tcp(sport, dport, tcp_flags::SYN),
            Proto::Udp => builder.udp(sport, dport),
            Proto::Icmp => builder.echo_request(sport, 1),
        }
    }

    /// The MAC of an address in the segment of a port.
    fn mac(&self, network: &Network, port: PortId, address: Addr) -> Option<Mac> {
        let segment = network.port(port)?.segment;
        let interfaces = network.routers.iter().flat_map(|router| &router.interfaces);
        let mut gateways =
            interfaces.filter(|interface| interface.attachment == Attachment::Segment(segment));
        let gateway = gateways.find(|i| i.addresses.iter().any(|(a, _)| *a == address));
        let stations = self.macs.get(&address).into_iter().flatten();
        let mut there =
            stations.filter(|(at, _)| network.port(*at).is_some_and(|p| p.segment == segment));
        gateway.map(|interface| interface.mac).or_else(|| there.next().map(|(_, mac)| *mac))
    }
}

/// A frame on its way out of a host, and where it enters the network.
fn outgoing(
    lab: &mut Lab,
    packet: &Packet,
    port: PortId,
    headers: Option<&Headers>,
) -> Result<(PortId, Frame), Error> {
    let network = lab.network().clone();
    let name = network.port(port).map_or_else(String::new, |p| p.name.clone());
    let nobody = || Error::input(format!("'{}' has no endpoint to send from", packet.from));
    let (index, interface) = lab.host_at(port).ok_or_else(nobody)?;
    let ports = lab.specs().get(index).ok_or_else(nobody)?.ports.clone();
    let host = lab.host(index).ok_or_else(nobody)?;
    let ip = headers.and_then(Headers::ip);
    let dst = ip.map_or(packet.to, |ip| ip.dst);
    let bound = (packet.bound && ip.is_none()).then_some(interface);
    let decision = host.explain_route(dst, ip.map(|ip| ip.src), bound);
    let (dev, next_hop) = match decision.outcome {
        RouteOutcome::Unicast { dev, next_hop, .. } => (dev, next_hop),
        RouteOutcome::Local => return Err(Error::input(format!("{dst} is {name}'s own address"))),
        RouteOutcome::Error(error) => {
            return Err(Error::input(format!("{name} cannot send to {dst}: {error}")));
        }
    };
    let own = host.config().interfaces.get(dev).map(|i| i.mac).ok_or_else(nobody)?;
    let ttl = ip.map_or(host.config().ttl, |ip| ip.ttl.saturating_sub(1));
    let src = ip.map(|ip| ip.src).or(decision.source).ok_or_else(nobody)?;
    let out = ports.get(dev).copied().ok_or_else(nobody)?;
    let next = packet.mac(&network, out, next_hop).ok_or_else(|| {
        Error::input(format!(
            "nobody in the segment of {name} has {next_hop}, its next hop to {dst}"
        ))
    })?;
    // What NAT and balancers on the way have made of them.
    let (sport, dport) = match ip.map(|ip| ip.transport) {
        Some(Transport::Tcp(tcp)) => (tcp.src_port, tcp.dst_port),
        Some(Transport::Udp(udp)) => (udp.src_port, udp.dst_port),
        _ => (SOURCE_PORT, packet.dport),
    };
    Ok((out, packet.builder(src, dst, sport, dport).macs(own, next).ttl(ttl).build()))
}

/// Follows a packet.
///
/// # Errors
/// Its sender cannot send it.
pub fn trace(lab: &mut Lab, packet: &Packet) -> Result<TraceView, Error> {
    let mut view = TraceView {
        walks: Vec::new(),
        delivered: None,
        reply_delivered: None,
        drops: Vec::new(),
        answers: Vec::new(),
    };
    let (mut port, mut frame) = outgoing(lab, packet, packet.port, None)?;
    for _ in 0..MAX_WAYS {
        let traced = lab.trace(port, &frame);
        view.walks.push(walk(lab.network(), port, &frame, &traced));
        let answer = traced.answer.and_then(|answer| packet::parse(&answer.bytes).ok());
        view.answers.extend(answer.map(|headers| packet::describe(&headers)));
        let (out, arrived) = match traced.end {
            TraceEnd::Delivered(out, arrived) => (out, arrived),
            TraceEnd::Dropped(drop) => {
                let bytes = frame.bytes.len() as u64;
                view.drops = dropped(lab.network(), drop, bytes);
                return Ok(view);
            }
            TraceEnd::Flooded(_) | TraceEnd::Consumed(_) | TraceEnd::Held => return Ok(view),
        };
        view.delivered = lab.network().port(out).map(|p| p.name.clone());
        let forwards = lab.host_at(out).and_then(|(host, _)| lab.specs().get(host));
        let Ok(headers) = packet::parse(&arrived.bytes) else { return Ok(view) };
        let ends_here = |dst: Addr| {
            forwards.is_none_or(|spec| {
                !spec.config.forwarding
                    || spec
                        .config
                        .interfaces
                        .iter()
                        .any(|i| i.addresses.iter().any(|(a, _)| *a == dst))
            })
        };
        if headers.ip().is_none_or(|ip| ends_here(ip.dst) || ip.ttl <= 1) {
            return Ok(view);
        }
        match outgoing(lab, packet, out, Some(&headers)) {
            Ok(onwards) => (port, frame) = onwards,
            // The router has no way onwards: it has arrived where it gets lost.
            Err(_) => return Ok(view),
        }
        view.delivered = None;
    }
    Ok(view)
}

fn walk(network: &Network, port: PortId, frame: &Frame, traced: &Trace) -> WalkView {
    let name = |id: PortId| network.port(id).map_or_else(String::new, |p| p.name.clone());
    let steps = traced.steps.iter().map(|step| StepView {
        stage: step.stage.name(),
        object: step.object.clone(),
        decision: step.text.clone(),
        packet: step.packet.clone(),
    });
    WalkView {
        direction: "request",
        ingress: name(port),
        packet: packet::parse(&frame.bytes)
            .map_or_else(|e| e.to_string(), |h| packet::describe(&h)),
        steps: steps.collect(),
        egress: match &traced.end {
            TraceEnd::Delivered(out, _) => Some(name(*out)),
            _ => None,
        },
    }
}

fn dropped(network: &Network, drop: engine::Drop, bytes: u64) -> Vec<DropRow> {
    let engine::Drop { stage, reason, object, rule, parse } = drop;
    let detail = parse.map(|fault| fault.to_string());
    let key = DropKey { stage, reason, object, rule, detail };
    let traffic = Traffic { packets: 1, bytes };
    drops_of(network, &BTreeMap::from([(key, traffic)]))
}

/// A trace as text or JSON.
///
/// # Errors
/// None that a trace can cause.
pub fn text(view: &TraceView, json: bool, bold: bool) -> Result<String, Error> {
    if json { pretty_json(&json!(view)) } else { Ok(trace::text(view, bold)) }
}
