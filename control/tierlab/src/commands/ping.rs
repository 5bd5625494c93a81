//! `tierlab ping`: echo requests between endpoints, printed as iputils prints them.

use crate::args::{self, Brief};
use crate::exit::{Error, Exit};
use crate::open::{address_seen_by, lab, open, origin};
use crate::output::{pretty_json, print};
use engine::network::PortId;
use hosts::{Lab, OperationId, OperationResult, PingEvent, PingOptions, PingReport, ping_output};
use packet::Addr;
use serde_json::json;
use std::time::Duration;

pub fn run(args: &args::Ping) -> Result<Exit, Error> {
    let opened = open(&args.lab)?;
    let mut lab = lab(&opened.realized);
    let from = origin(&opened.realized, &lab, &args.from)?;
    let to = address_seen_by(&opened.realized, &from, &args.to)?;
    let options = PingOptions {
        interface: from.interface,
        count: args.count,
        size: args.size,
        ttl: args.ttl,
        dont_fragment: args.df,
        ..PingOptions::default()
    };
    let report = ping(&mut lab, from.host, to, options)?;
    match args.output {
        Brief::Text => print(&ping_output::render(&report))?,
        Brief::Json => print(&pretty_json(&to_json(&report))?)?,
    }
    Ok(if report.received() > 0 { Exit::Ok } else { Exit::Failed })
}

/// Pings and runs the clock until the outcome is known.
pub fn ping(
    lab: &mut Lab,
    host: usize,
    to: Addr,
    options: PingOptions,
) -> Result<PingReport, Error> {
    let id = lab.with_host(host, |h, now, out| h.start_ping(to, options, now, out));
    match finish(lab, host, id)? {
        OperationResult::Ping(report) => Ok(report),
        other => Err(Error::internal(format!("a ping gave {other:?}"))),
    }
}

/// Runs the clock until an operation has its result.
pub fn finish(
    lab: &mut Lab,
    host: usize,
    id: Option<OperationId>,
) -> Result<OperationResult, Error> {
    let lost = || Error::internal("an operation was lost");
    let id = id.ok_or_else(lost)?;
    let mut result = None;
    // Every operation ends by its own time-out; the day is only a bound.
    let until = lab.now() + Duration::from_secs(86_400);
    lab.run_while(until, |lab| {
        result = lab.host(host).and_then(|h| h.take_result(id));
        result.is_none()
    });
    result.ok_or_else(lost)
}

fn to_json(report: &PingReport) -> serde_json::Value {
    let events: Vec<_> = report
        .events
        .iter()
        .map(|event| match event {
            PingEvent::Reply { from, seq, ttl, bytes, rtt, duplicate } => json!({
                "event": "reply", "from": from.to_string(), "seq": seq, "ttl": ttl, "bytes": bytes,
                "milliseconds": rtt.as_secs_f64() * 1e3, "duplicate": duplicate,
            }),
            PingEvent::Error { seq, report } => json!({
                "event": "error", "from": report.from.to_string(), "seq": seq, "type": report.kind,
                "code": report.code, "text": ping_output::icmp_text(report),
            }),
            PingEvent::Unsent { seq, failure } => {
                json!({"event": "unsent", "seq": seq, "text": failure.to_string()})
            }
        })
        .collect();
    json!({
        "to": report.dst.to_string(),
        "source": report.source.map(|a| a.to_string()),
        "transmitted": report.transmitted,
        "received": report.received(),
        "failure": report.failure.map(|f| f.to_string()),
        "events": events,
    })
}

/// Whether an IP packet is among what reached `port`.
pub fn ip_reached(deliveries: &[hosts::Delivery], port: PortId) -> bool {
    deliveries.iter().any(|d| {
        d.port == port
            && packet::parse(&d.frame.bytes).is_ok_and(|h| h.ip().is_some_and(|ip| !is_nd(ip)))
    })
}

/// Neighbour discovery is the link's business, not the flow's.
pub fn is_nd(ip: &packet::Ip) -> bool {
    use packet::{Icmp, IcmpMessage, Transport};
    matches!(
        ip.transport,
        Transport::Icmp(Icmp {
            message: IcmpMessage::NeighborSolicitation { .. }
                | IcmpMessage::NeighborAdvertisement { .. },
            ..
        })
    )
}
