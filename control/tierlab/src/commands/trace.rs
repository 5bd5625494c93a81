//! `tierlab trace`: every decision on a packet's way.
//!
//! The packet is really sent, by its host's own stack, in a lab that caches nothing; what is printed
//! are the walks that the engine made of it and of what came back, in order. In a running lab it is only followed
//! ([`crate::live::api::tracing`]).

use super::ping::{ip_reached, is_nd};
use crate::args::{self, Brief, Proto};
use crate::exit::{Error, Exit};
use crate::live::api::client;
use crate::live::api::protocol::Request;
use crate::open::{Origin, address_seen_by, lab_with_cache, open, origin};
use crate::output::{aligned, bold, pretty_json, print, wants_bold};
use crate::tables::{DropRow, drops};
use engine::network::PortId;
use engine::{Recorded, Stage};
use hosts::{Lab, PingOptions, ReadUntil, TcpOptions, UdpOptions};
use packet::{Addr, IcmpMessage, Transport, tcp_flags};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// Longer than address resolution takes to give up.
const PATIENCE: Duration = Duration::from_secs(4);

/// One walk, for people and programs.
#[derive(Clone, Debug, Serialize)]
pub struct WalkView {
    /// `request` or `reply`.
    pub direction: &'static str,
    /// Port that the packet came in by.
    pub ingress: String,
    /// The packet as it came in.
    pub packet: String,
    /// Decisions, in order.
    pub steps: Vec<StepView>,
    /// Port that it left by; `null` if it did not.
    pub egress: Option<String>,
}

/// One decision.
#[derive(Clone, Debug, Serialize)]
pub struct StepView {
    /// Stage.
    pub stage: &'static str,
    /// Object.
    pub object: String,
    /// Decision, with rule or route.
    pub decision: String,
    /// The packet as it left the stage.
    pub packet: String,
}

/// What became of a traced packet.
#[derive(Clone, Debug, Serialize)]
pub struct TraceView {
    /// Walks of the request and, if asked for, of the reply.
    pub walks: Vec<WalkView>,
    /// Port at which the request arrived; `null` if it did not.
    pub delivered: Option<String>,
    /// Port at which the reply arrived; `null` if it did not, or was not asked for.
    pub reply_delivered: Option<String>,
    /// Why the request, or the reply that was asked for, did not arrive.
    pub drops: Vec<DropRow>,
    /// What the sender got back, in a line a packet.
    pub answers: Vec<String>,
}

pub fn run(args: &args::Trace) -> Result<Exit, Error> {
    let Some(lab) = args.lab.built() else { return run_live(args) };
    let opened = open(&lab)?;
    let mut lab = lab_with_cache(&opened.realized, false);
    let from = origin(&opened.realized, &lab, &args.from)?;
    let (to, port) = split_port(&args.to)?;
    let proto = args.proto.unwrap_or(if port.is_some() { Proto::Tcp } else { Proto::Icmp });
    if proto != Proto::Icmp && port.is_none() {
        return Err(Error::input(format!("'{}' has no port: write {}:PORT", args.to, args.to)));
    }
    let to = address_seen_by(&opened.realized, &from, to)?;
    let view = trace(&mut lab, &from, to, proto, port.unwrap_or(0), args.reply);
    match args.output {
        Brief::Json => print(&pretty_json(&json!(view))?)?,
        Brief::Text => print(&text(&view, wants_bold()))?,
    }
    Ok(Exit::Ok)
}

/// In a running lab a packet is followed and not sent.
fn run_live(args: &args::Trace) -> Result<Exit, Error> {
    if args.reply {
        return Err(Error::input(
            "--reply needs a packet that is really sent, which changes a running lab: leave it out, or trace with --file",
        ));
    }
    let request = Request::Trace {
        from: args.from.clone(),
        to: args.to.clone(),
        protocol: args.proto,
        json: args.output == Brief::Json,
        bold: wants_bold(),
    };
    client::call(&client::find(args.lab.running.as_deref())?, request)
}

/// Sends a packet and watches every walk until its sender has an answer or patience ends.
pub fn trace(
    lab: &mut Lab,
    from: &Origin,
    to: Addr,
    proto: Proto,
    port: u16,
    reply: bool,
) -> TraceView {
    lab.worker().record(true);
    lab.watch(true);
    lab.with_host(from.host, |h, now, out| match proto {
        Proto::Icmp => {
            let options = PingOptions { interface: from.interface, ..PingOptions::default() };
            h.start_ping(to, options, now, out)
        }
        Proto::Udp => {
            let options = UdpOptions {
                interface: from.interface,
                timeout: PATIENCE,
                ..UdpOptions::default()
            };
            h.start_udp(to, port, b"tierlab trace".to_vec(), options, now, out)
        }
        Proto::Tcp => {
            let options = TcpOptions {
                interface: from.interface,
                timeout: PATIENCE,
                until: ReadUntil::Connected,
                ..TcpOptions::default()
            };
            h.start_tcp(to, port, options, now, out)
        }
    });
    let until = lab.now() + PATIENCE;
    let mut seen = Vec::new();
    lab.run_while(until, |lab| {
        seen.extend(lab.take_watched());
        !ip_reached(&seen, from.port)
    });
    let recorded = lab.worker().take_recorded();
    let mut walks = Vec::new();
    let mut delivered = None;
    let mut reply_delivered = None;
    let mut direction = "request";
    for (i, walk) in recorded.iter().enumerate() {
        let Some(mut view) = view(lab, walk, direction) else { continue };
        // A packet that waited for its next hop is walked again from the start.
        if view.waits()
            && recorded.get(i + 1..).is_some_and(|later| {
                later.iter().any(|w| w.frame == walk.frame && w.port == walk.port)
            })
        {
            continue;
        }
        if direction == "request" && view.is_answer(walk, from.port, lab) {
            // The way ended before, outside; this says why.
            if reply {
                direction = "reply";
                view.direction = direction;
            } else {
                break;
            }
        }
        let egress = view.egress.clone();
        let ends = egress.as_deref().is_none_or(|name| !is_forwarder(lab, name));
        walks.push(view);
        if !ends {
            continue;
        }
        if direction == "reply" {
            reply_delivered = egress;
            break;
        }
        delivered = egress;
        direction = "reply";
        if delivered.is_none() || !reply {
            break;
        }
    }
    let answers = seen
        .iter()
        .filter(|d| d.port == from.port)
        .filter_map(|d| packet::parse(&d.frame.bytes).ok())
        .filter(|h| h.ip().is_some_and(|ip| !is_nd(ip)))
        .take(1)
        .map(|h| packet::describe(&h))
        .collect();
    let arrived = delivered.is_some() && (!reply || reply_delivered.is_some());
    let drops = if arrived { Vec::new() } else { drops(lab) };
    TraceView { walks, delivered, reply_delivered, drops, answers }
}

impl WalkView {
    /// Whether the packet is one that came back though no request has arrived: an ICMP error or a
    /// reset that a router on the way made, or what reaches the sender from elsewhere.
    fn is_answer(&self, walk: &Recorded, sender: PortId, lab: &Lab) -> bool {
        let made_on_the_way = packet::parse(&walk.frame.bytes).is_ok_and(|headers| {
            headers.ip().is_some_and(|ip| match &ip.transport {
                Transport::Icmp(icmp) => matches!(icmp.message, IcmpMessage::Error(_)),
                Transport::Tcp(tcp) => tcp.flags & tcp_flags::RST != 0,
                _ => false,
            })
        });
        let home = lab.network().port(sender).map(|p| p.name.as_str());
        made_on_the_way || walk.port != sender && self.egress.as_deref() == home
    }

    fn waits(&self) -> bool {
        self.egress.is_none()
            && self.steps.last().is_some_and(|s| s.stage == Stage::Neighbor.name())
    }
}

fn view(lab: &Lab, walk: &Recorded, direction: &'static str) -> Option<WalkView> {
    let headers = packet::parse(&walk.frame.bytes).ok()?;
    headers.ip().filter(|ip| !is_nd(ip))?;
    let network = lab.network();
    let last = walk.steps.last();
    Some(WalkView {
        direction,
        ingress: network.port(walk.port).map_or_else(String::new, |p| p.name.clone()),
        packet: packet::describe(&headers),
        egress: last.filter(|s| s.leaves()).map(|s| s.object.clone()),
        steps: walk
            .steps
            .iter()
            .map(|s| StepView {
                stage: s.stage.name(),
                object: s.object.clone(),
                decision: s.text.clone(),
                packet: s.packet.clone(),
            })
            .collect(),
    })
}

/// Whether the host at a port routes packets onwards: then the packet's way is not at its end.
fn is_forwarder(lab: &Lab, port: &str) -> bool {
    lab.network()
        .port_named(port)
        .and_then(|id| lab.host_at(id))
        .and_then(|(host, _)| lab.specs().get(host))
        .is_some_and(|spec| spec.config.forwarding)
}

/// The trace as text, in places in bold if that is wanted.
pub fn text(view: &TraceView, wants_bold: bool) -> String {
    let bold = |text: &str| bold(text, wants_bold);
    let mut out = String::new();
    for walk in &view.walks {
        out.push_str(&format!("{} {} from {}\n", bold(walk.direction), walk.packet, walk.ingress));
        let mut packet = walk.packet.clone();
        let rows = walk
            .steps
            .iter()
            .map(|s| {
                let changed = if s.packet == packet { String::new() } else { s.packet.clone() };
                packet.clone_from(&s.packet);
                vec![format!("  {}", s.stage), s.object.clone(), s.decision.clone(), changed]
            })
            .collect();
        let header = ["  STAGE", "OBJECT", "DECISION", "PACKET"].map(str::to_owned).to_vec();
        out.push_str(&aligned(header, rows));
    }
    match &view.delivered {
        Some(port) => out.push_str(&format!("{} to {port}\n", bold("delivered"))),
        None if view.drops.is_empty() => out.push_str(&format!("{}\n", bold("not delivered"))),
        None => {}
    }
    // Drops are told of the packet that did not arrive, and that is the reply where the request did.
    let dropped = if view.delivered.is_some() { "reply dropped" } else { "dropped" };
    if let Some(port) = view.reply_delivered.as_ref().filter(|_| view.delivered.is_some()) {
        out.push_str(&format!("{} to {port}\n", bold("reply delivered")));
    }
    for d in &view.drops {
        let rule = d.rule.as_ref().map_or_else(String::new, |r| format!(", rule {r}"));
        out.push_str(&format!(
            "{} at {} of {}: {}{rule}\n",
            bold(dropped),
            d.stage,
            d.object,
            d.reason
        ));
    }
    for answer in &view.answers {
        out.push_str(&format!("the sender got {answer}\n"));
    }
    out
}

/// `TO:PORT`; an IPv6 address with a port is in brackets.
pub fn split_port(text: &str) -> Result<(&str, Option<u16>), Error> {
    if text.parse::<Addr>().is_ok() {
        return Ok((text, None));
    }
    let Some((to, port)) = text.rsplit_once(':') else { return Ok((text, None)) };
    if !port.bytes().all(|b| b.is_ascii_digit()) || port.is_empty() {
        return Ok((text, None));
    }
    let number: u16 = port
        .parse()
        .ok()
        .filter(|p| *p > 0)
        .ok_or_else(|| Error::input(format!("'{text}': the port must be from 1 to 65535")))?;
    Ok((to.trim_start_matches('[').trim_end_matches(']'), Some(number)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// A host whose way back to the egress addresses is not the way there.
    const ASYMMETRIC: &str = "
kind: SupervisorCluster
metadata: {name: s}
---
kind: ExternalNetwork
metadata: {name: n1}
---
kind: ExternalNetwork
metadata: {name: n2}
---
kind: Tier0Gateway
metadata: {name: t0}
spec:
  uplinks:
  - {name: u1, network: n1, addresses: [192.168.100.2/24], urpfMode: strict}
  - {name: u2, network: n2, addresses: [192.168.101.2/24], urpfMode: strict}
---
kind: ExternalHost
metadata: {name: h}
spec:
  interfaces:
  - {name: eth0, network: n1, addresses: [192.168.100.1/24]}
  - {name: eth1, network: n2, addresses: [192.168.101.1/24]}
  routes: [{to: 172.16.0.0/16, via: 192.168.101.2}]
---
apiVersion: v1
kind: Namespace
metadata: {name: x}
---
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: x}
spec: {containers: [{name: c, image: i}]}
";

    #[test]
    fn a_dropped_reply_is_told() {
        let inputs = [definitions::Input::text("lab.yaml", ASYMMETRIC)];
        let kept = realization::Allocations::default();
        let opened = crate::open::realize(&inputs, &kept).unwrap();
        let traced = |reply| {
            let mut lab = lab_with_cache(&opened.realized, false);
            let from = origin(&opened.realized, &lab, "pod/x/a").unwrap();
            let to = address_seen_by(&opened.realized, &from, "host/h").unwrap();
            trace(&mut lab, &from, to, Proto::Icmp, 0, reply)
        };
        let view = traced(true);
        assert_eq!(view.delivered.as_deref(), Some("host/h:eth0"));
        assert_eq!(view.reply_delivered, None);
        let drop = &view.drops[0];
        let seen = (drop.stage, drop.object.as_str(), drop.reason);
        assert_eq!((view.drops.len(), seen), (1, ("t0-urpf", "tier0/t0", "urpf")));
        assert!(text(&view, false).ends_with("reply dropped at t0-urpf of tier0/t0: urpf\n"));
        // Nobody asked for the reply.
        assert!(traced(false).drops.is_empty());
    }

    #[test]
    fn ports_are_split_off() {
        assert_eq!(split_port("pod/x/a:80").unwrap(), ("pod/x/a", Some(80)));
        assert_eq!(split_port("pod/x/a").unwrap(), ("pod/x/a", None));
        assert_eq!(split_port("vm/cp-1:eth1").unwrap(), ("vm/cp-1:eth1", None));
        assert_eq!(split_port("vm/cp-1:eth1:443").unwrap(), ("vm/cp-1:eth1", Some(443)));
        assert_eq!(split_port("2001:db8::1").unwrap(), ("2001:db8::1", None));
        assert_eq!(split_port("[2001:db8::1]:53").unwrap(), ("2001:db8::1", Some(53)));
        assert!(split_port("10.0.0.1:0").is_err());
        assert!(split_port("10.0.0.1:70000").is_err());
    }
}
