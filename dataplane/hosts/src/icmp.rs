//! ICMP and ICMPv6: echo answered and asked (RFC 792, RFC 1122 3.2.2.6, RFC 4443), and errors.
//!
//! An error finds what it is about by the packet it quotes. Errors that the host makes itself, when
//! no neighbour answers, take the same way with the unsent packet in place of the quote.

use std::collections::BTreeSet;
use std::time::Duration;

use packet::{Addr, Embedded, Icmp, IcmpErrorKind, IcmpMessage, Time, protocol};

use crate::host::{Arrival, Host, HostDrop, Output};
use crate::operation::{
    Failure, IcmpReport, Operation, OperationId, OperationResult, Ping, PingEvent, PingOptions,
    PingReport,
};
use crate::services::http::Endpoint;
use crate::tcp::ConnectionKey;
use crate::wire;

/// The packet that an error is about, as far as is needed to find who sent it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Quoted {
    pub src: Addr,
    pub dst: Addr,
    pub protocol: u8,
    pub src_port: u16,
    pub dst_port: u16,
    /// Sequence number of an echo request.
    pub seq: u16,
}

impl Host {
    /// An ICMP message to one of the host's addresses.
    pub(crate) fn receive_icmp(
        &mut self,
        arrival: &Arrival<'_>,
        icmp: &Icmp,
        now: Time,
        out: &mut Output,
    ) {
        let is_echo = matches!((arrival.ip.is_v4(), icmp.kind), (true, 0 | 8) | (false, 128 | 129));
        match icmp.message {
            IcmpMessage::Query { .. } if is_echo => {
                match packet::echo_reply(arrival.frame, arrival.headers) {
                    Some(reply) => self.reply(reply, arrival, now, out),
                    None => self.count(HostDrop::Malformed),
                }
            }
            IcmpMessage::Reply { id, seq } if is_echo => {
                self.echo_replied(arrival, id, seq, now);
            }
            IcmpMessage::Error(embedded) => self.receive_error(arrival, icmp, &embedded, now),
            _ => self.count(HostDrop::Unsupported),
        }
    }

    fn receive_error(&mut self, arrival: &Arrival<'_>, icmp: &Icmp, quote: &Embedded, now: Time) {
        // An error about a packet that this host never sent is forged or lost.
        if !self.is_local(quote.src) {
            self.count(HostDrop::NotForUs);
            return;
        }
        let carries_mtu = match arrival.ip.is_v4() {
            true => (icmp.kind, icmp.code) == (3, 4),
            false => icmp.kind == 2,
        };
        let report = IcmpReport {
            from: arrival.ip.src,
            kind: icmp.kind,
            code: icmp.code,
            mtu: carries_mtu.then(|| wire::error_mtu(arrival)).flatten(),
            local: false,
        };
        let quoted = Quoted {
            src: quote.src,
            dst: quote.dst,
            protocol: quote.protocol,
            src_port: quote.src_port,
            dst_port: quote.dst_port,
            seq: wire::quoted_echo_sequence(arrival, quote),
        };
        self.report_error(&quoted, report, now);
    }

    /// Tells whoever sent the quoted packet of an error.
    pub(crate) fn report_error(&mut self, quoted: &Quoted, report: IcmpReport, now: Time) {
        let failure = match (report.from.is_v4(), report.kind, report.code) {
            (true, 3, 3) | (false, 1, 4) => Failure::Refused { from: report.from },
            _ => Failure::Unreachable(report),
        };
        let local = Endpoint { addr: quoted.src, port: quoted.src_port };
        let remote = Endpoint { addr: quoted.dst, port: quoted.dst_port };
        match quoted.protocol {
            protocol::ICMP | protocol::ICMPV6 => {
                if let Some(id) = self.pings.get(&quoted.src_port).copied() {
                    let event = PingEvent::Error { seq: quoted.seq, report };
                    self.ping_event(id, quoted.dst, quoted.seq, event);
                }
            }
            protocol::UDP => {
                if let Some(id) = self.datagrams.get(&(local, remote)).copied() {
                    self.finish_datagram(id, Err(failure));
                }
            }
            protocol::TCP => {
                self.connection_error(&ConnectionKey { local, remote }, failure, report.mtu, now);
            }
            _ => {}
        }
    }

    /// Answers a packet with an ICMP error, where the rules allow one.
    pub(crate) fn icmp_error(
        &mut self,
        arrival: &Arrival<'_>,
        kind: IcmpErrorKind,
        source: Addr,
        now: Time,
        out: &mut Output,
    ) {
        match packet::icmp_error(arrival.frame, arrival.headers, kind, source) {
            Some(error) => self.reply(error, arrival, now, out),
            None => self.count(HostDrop::ErrorSuppressed),
        }
    }

    /// Pings; see [`PingOptions`]. The result is [`OperationResult::Ping`].
    pub fn start_ping(
        &mut self,
        dst: Addr,
        options: PingOptions,
        now: Time,
        out: &mut Output,
    ) -> OperationId {
        let id = self.new_operation();
        let mut report = PingReport {
            dst,
            source: None,
            interface: options
                .interface
                .and_then(|i| self.config.interfaces.get(i))
                .map(|i| i.name.clone()),
            source_given: options.interface.is_some() || options.source.is_some(),
            size: options.size,
            events: Vec::new(),
            transmitted: 0,
            elapsed: Duration::ZERO,
            failure: None,
        };
        let begun = self.begin_ping(dst, &options);
        match begun {
            Ok((source, icmp_id)) => {
                report.source = Some(source);
                let ping = Ping {
                    options,
                    source,
                    id: icmp_id,
                    sent: Vec::new(),
                    answered: BTreeSet::new(),
                    settled: 0,
                    report,
                };
                self.pings.insert(icmp_id, id);
                self.operations.insert(id, Operation::Ping(Box::new(ping)));
                self.continue_ping(id, now, out);
            }
            Err(failure) => {
                report.failure = Some(failure);
                self.finish(id, OperationResult::Ping(report));
            }
        }
        self.deliver_loopback(now, out);
        id
    }

    fn begin_ping(&mut self, dst: Addr, options: &PingOptions) -> Result<(Addr, u16), Failure> {
        self.admit_operation()?;
        let source = self.source_for(dst, options.source, options.interface)?;
        // Fewer operations than identifiers: one is free.
        while self.pings.contains_key(&self.next_icmp_id) {
            self.next_icmp_id = self.next_icmp_id.wrapping_add(1);
        }
        let id = self.next_icmp_id;
        self.next_icmp_id = id.wrapping_add(1);
        Ok((source, id))
    }

    /// Sends the next request of a ping, or ends it when its last time to wait is over.
    pub(crate) fn continue_ping(&mut self, id: OperationId, now: Time, out: &mut Output) {
        let ip_id = self.next_ip_id();
        let ttl = self.config.ttl;
        let Some(Operation::Ping(ping)) = self.operations.get_mut(&id) else {
            return;
        };
        let count = ping.options.count.clamp(1, u32::from(u16::MAX));
        if ping.report.transmitted >= count {
            self.finish_ping(id);
            return;
        }
        ping.report.transmitted += 1;
        ping.sent.push(now);
        ping.report.elapsed = ping.sent.first().map_or(Duration::ZERO, |first| now.since(*first));
        let wait = match ping.report.transmitted < count {
            true => ping.options.interval,
            false => ping.options.timeout,
        };
        self.operation_timers.arm(id, now + wait);
        let seq = ping.report.transmitted as u16;
        let dst = ping.report.dst;
        let bound = ping.options.interface;
        let request = wire::echo_request(
            (ping.source, dst),
            (ping.id, seq),
            ping.options.ttl.unwrap_or(ttl).max(1),
            (!ping.options.dont_fragment).then_some(ip_id),
            ping.options.size,
        );
        let sent = match request {
            Some(frame) => self.transmit(frame, bound, now, out),
            None => Err(Failure::Invalid("the packet is too long")),
        };
        if let Err(failure) = sent {
            self.ping_event(id, dst, seq, PingEvent::Unsent { seq, failure });
        }
    }

    fn echo_replied(&mut self, arrival: &Arrival<'_>, icmp_id: u16, seq: u16, now: Time) {
        let ip = arrival.ip;
        let known = self.pings.get(&icmp_id).copied();
        let Some((id, Operation::Ping(ping))) =
            known.and_then(|id| Some((id, self.operations.get(&id)?)))
        else {
            self.count(HostDrop::NotForUs);
            return;
        };
        let sent = seq.checked_sub(1).and_then(|i| ping.sent.get(usize::from(i)));
        let (Some(sent), true) = (sent, ping.source == ip.dst) else {
            self.count(HostDrop::NotForUs);
            return;
        };
        let event = PingEvent::Reply {
            from: ip.src,
            seq,
            ttl: ip.ttl,
            bytes: ip.total_len.saturating_sub(u32::from(ip.l4 - arrival.headers.l3)),
            rtt: now.since(*sent),
            duplicate: ping.answered.contains(&seq),
        };
        let dst = ping.report.dst;
        self.ping_event(id, dst, seq, event);
    }

    /// Notes an event of a ping, and ends the ping when every request is settled.
    fn ping_event(&mut self, id: OperationId, dst: Addr, seq: u16, event: PingEvent) {
        let Some(Operation::Ping(ping)) = self.operations.get_mut(&id) else {
            return;
        };
        // Events are bounded by twice the requests: nobody can grow the report at will.
        let bound = 2 * ping.sent.len();
        let known = (1..=ping.sent.len()).contains(&usize::from(seq));
        if ping.report.dst != dst || !known || ping.report.events.len() >= bound {
            self.count(HostDrop::NotForUs);
            return;
        }
        let first = ping.answered.insert(seq);
        ping.settled += u32::from(first);
        ping.report.events.push(event);
        let count = ping.options.count.clamp(1, u32::from(u16::MAX));
        if ping.settled >= count {
            self.finish_ping(id);
        }
    }

    fn finish_ping(&mut self, id: OperationId) {
        if let Some(Operation::Ping(ping)) = self.operations.remove(&id) {
            self.operation_timers.cancel(id);
            self.pings.remove(&ping.id);
            self.finish(id, OperationResult::Ping(ping.report));
        }
    }
}
