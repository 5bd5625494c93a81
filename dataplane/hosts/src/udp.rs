//! UDP: the services that answer datagrams, and datagrams the host sends (RFC 768, RFC 1122, 4.1).

use std::sync::Arc;
use std::time::Duration;

use packet::{Addr, IcmpErrorKind, Time, Udp};

use crate::config::{ServiceKind, ServiceProtocol};
use crate::host::{Arrival, Host, HostDrop, Output};
use crate::operation::{
    Datagram, DnsOptions, DnsReply, Failure, Operation, OperationId, OperationResult, Purpose,
    TcpOptions, TcpReply, UdpOptions, UdpReply,
};
use crate::services::dns;
use crate::services::exchange::{ReadUntil, TcpEnd};
use crate::services::http::Endpoint;
use crate::wire;

/// First ephemeral port (Linux `net.ipv4.ip_local_port_range`).
pub const FIRST_EPHEMERAL_PORT: u16 = 32_768;
/// Last ephemeral port.
pub const LAST_EPHEMERAL_PORT: u16 = 60_999;

impl Host {
    /// A datagram to one of the host's addresses.
    pub(crate) fn receive_udp(
        &mut self,
        arrival: &Arrival<'_>,
        udp: &Udp,
        now: Time,
        out: &mut Output,
    ) {
        let local = Endpoint { addr: arrival.ip.dst, port: udp.dst_port };
        let remote = Endpoint { addr: arrival.ip.src, port: udp.src_port };
        let Some(payload) = wire::udp_payload(arrival) else {
            self.count(HostDrop::Malformed);
            return;
        };
        if let Some(id) = self.datagrams.get(&(local, remote)).copied() {
            self.datagram_answered(id, payload.to_vec(), now, out);
            return;
        }
        let answer = match self.service(ServiceProtocol::Udp, local.port) {
            Some(ServiceKind::Echo | ServiceKind::Talk { .. }) => Some(payload.to_vec()),
            Some(ServiceKind::Discard) => return,
            Some(ServiceKind::Dns(zone)) => {
                let zone = Arc::clone(zone);
                if remote.port != 0
                    && self.forward_query(arrival, (local, remote), payload, &zone, now, out)
                {
                    return;
                }
                match dns::respond(&zone, payload, dns::MAX_UDP_MESSAGE) {
                    Some(answer) => Some(answer),
                    None => {
                        self.count(HostDrop::Malformed);
                        return;
                    }
                }
            }
            Some(ServiceKind::Http { .. }) | None => None,
        };
        match answer {
            // An answer to port 0 could not be addressed to anyone.
            Some(_) if remote.port == 0 => self.count(HostDrop::Malformed),
            Some(answer) => {
                let id = self.next_ip_id();
                match wire::udp(local, remote, self.config.ttl, id, &answer) {
                    Some(frame) => self.reply(frame, arrival, now, out),
                    None => self.count(HostDrop::Malformed),
                }
            }
            None if self.config.answer_closed => {
                self.icmp_error(arrival, IcmpErrorKind::PortUnreachable, arrival.ip.dst, now, out);
            }
            None => self.count(HostDrop::ClosedPort),
        }
    }

    /// Sends a datagram and waits for an answer from where it was sent to. The result is
    /// [`OperationResult::Udp`].
    pub fn start_udp(
        &mut self,
        dst: Addr,
        port: u16,
        payload: Vec<u8>,
        options: UdpOptions,
        now: Time,
        out: &mut Output,
    ) -> OperationId {
        let id = self.new_operation();
        let remote = Endpoint { addr: dst, port };
        if let Err(failure) =
            self.send_datagram(id, remote, (payload, Purpose::Plain), options, now, out)
        {
            self.finish(id, OperationResult::Udp(Err(failure)));
        }
        self.deliver_loopback(now, out);
        id
    }

    /// Asks a name server for the addresses of a name. The result is [`OperationResult::Dns`].
    pub fn start_dns_query(
        &mut self,
        name: &str,
        options: DnsOptions,
        now: Time,
        out: &mut Output,
    ) -> OperationId {
        let id = self.new_operation();
        if let Err(failure) = self.ask(id, name, options, now, out) {
            self.finish(id, OperationResult::Dns(Err(failure)));
        }
        self.deliver_loopback(now, out);
        id
    }

    fn ask(
        &mut self,
        id: OperationId,
        name: &str,
        options: DnsOptions,
        now: Time,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let server = options.server.or_else(|| self.config.resolver.first().copied());
        let server = server.ok_or(Failure::Invalid("the host has no resolver"))?;
        let remote = Endpoint { addr: server, port: options.port };
        // The identification is not a secret here: an answer must also match both endpoints.
        let asked = dns::query(id.0 as u16, name, options.record)
            .ok_or(Failure::Invalid("not a domain name"))?;
        if options.tcp {
            return self.ask_tcp(id, remote, asked, options, now, out);
        }
        let udp = UdpOptions {
            interface: options.interface,
            timeout: options.timeout,
            attempts: options.attempts,
            ..UdpOptions::default()
        };
        let purpose = Purpose::Dns { asked: asked.clone(), options };
        self.send_datagram(id, remote, (asked, purpose), udp, now, out)
    }

    fn ask_tcp(
        &mut self,
        id: OperationId,
        remote: Endpoint,
        asked: Vec<u8>,
        options: DnsOptions,
        now: Time,
        out: &mut Output,
    ) -> Result<(), Failure> {
        let mut send = (asked.len() as u16).to_be_bytes().to_vec();
        send.extend_from_slice(&asked);
        let tcp = TcpOptions {
            interface: options.interface,
            send,
            until: ReadUntil::DnsMessage,
            limit: 2 + usize::from(u16::MAX),
            timeout: options.timeout,
            ..TcpOptions::default()
        };
        self.connect(id, remote, tcp, Purpose::Dns { asked, options }, now, out)
    }

    pub(crate) fn dns_reply_tcp(reply: &TcpReply, asked: &[u8]) -> Result<DnsReply, Failure> {
        match reply.end {
            TcpEnd::Complete => {}
            TcpEnd::TimedOut => return Err(Failure::Timeout),
            TcpEnd::PeerClosed | TcpEnd::Reset | TcpEnd::TooMuch => {
                return Err(Failure::Invalid("the server ended the connection early"));
            }
        }
        let length = reply.data.first_chunk().map_or(0, |l| usize::from(u16::from_be_bytes(*l)));
        let message = reply.data.get(2..2 + length).unwrap_or_default();
        let answer = dns::parse_answer(message, asked)
            .ok_or(Failure::Invalid("the answer is not a DNS message"))?;
        Ok(DnsReply { server: reply.remote, tcp: true, answer })
    }

    /// A port of the ephemeral range that is not used towards `remote`; in turn, so that a replay
    /// uses the same ones.
    pub(crate) fn ephemeral_port(
        &mut self,
        protocol: ServiceProtocol,
        source: Addr,
        remote: Endpoint,
    ) -> Result<u16, Failure> {
        for _ in FIRST_EPHEMERAL_PORT..=LAST_EPHEMERAL_PORT {
            let port = self.next_port;
            self.next_port =
                if port >= LAST_EPHEMERAL_PORT { FIRST_EPHEMERAL_PORT } else { port + 1 };
            let local = Endpoint { addr: source, port };
            let used = match protocol {
                ServiceProtocol::Tcp => {
                    self.connections.contains(&crate::tcp::ConnectionKey { local, remote })
                }
                ServiceProtocol::Udp => self.datagrams.contains_key(&(local, remote)),
            };
            if !used {
                return Ok(port);
            }
        }
        Err(Failure::Invalid("no free source port"))
    }

    /// Begins a datagram exchange for operation `id`. An error means that it has not begun.
    fn send_datagram(
        &mut self,
        id: OperationId,
        remote: Endpoint,
        (payload, purpose): (Vec<u8>, Purpose),
        options: UdpOptions,
        now: Time,
        out: &mut Output,
    ) -> Result<(), Failure> {
        self.admit_operation()?;
        if remote.port == 0 {
            return Err(Failure::Invalid("port 0 cannot be addressed"));
        }
        let source = self.source_for(remote.addr, options.source, options.interface)?;
        let port = match options.source_port {
            Some(port) => port,
            None => self.ephemeral_port(ServiceProtocol::Udp, source, remote)?,
        };
        let local = Endpoint { addr: source, port };
        if self.datagrams.contains_key(&(local, remote)) {
            return Err(Failure::Invalid("address already in use"));
        }
        let datagram = Datagram {
            local,
            remote,
            bound: options.interface,
            payload,
            timeout: options.timeout,
            attempts_left: options.attempts.max(1),
            purpose,
        };
        self.datagrams.insert((local, remote), id);
        self.operations.insert(id, Operation::Datagram(Box::new(datagram)));
        self.send_again(id, now, out);
        Ok(())
    }

    /// Sends the datagram of operation `id` once more, or reports that time ran out.
    pub(crate) fn send_again(&mut self, id: OperationId, now: Time, out: &mut Output) {
        let ip_id = self.next_ip_id();
        let Some(Operation::Datagram(datagram)) = self.operations.get_mut(&id) else {
            return;
        };
        if datagram.attempts_left == 0 {
            self.finish_datagram(id, Err(Failure::Timeout));
            return;
        }
        datagram.attempts_left -= 1;
        let (timeout, bound): (Duration, _) = (datagram.timeout, datagram.bound);
        let ttl = self.config.ttl;
        let frame = wire::udp(datagram.local, datagram.remote, ttl, ip_id, &datagram.payload);
        let sent = match frame {
            Some(frame) => self.transmit(frame, bound, now, out),
            None => Err(Failure::Invalid("the datagram is too long")),
        };
        match sent {
            Ok(()) => self.operation_timers.arm(id, now + timeout),
            Err(failure) => self.finish_datagram(id, Err(failure)),
        }
    }

    fn datagram_answered(&mut self, id: OperationId, data: Vec<u8>, now: Time, out: &mut Output) {
        let datagram = match self.operations.get(&id) {
            Some(Operation::Datagram(datagram)) => datagram,
            Some(Operation::Forwarded(_)) => {
                self.upstream_answered(id, &data, now, out);
                return;
            }
            _ => return,
        };
        let reply = UdpReply { local: datagram.local, remote: datagram.remote, data };
        let Purpose::Dns { asked, options } = datagram.purpose.clone() else {
            self.finish_datagram(id, Ok(reply));
            return;
        };
        match dns::parse_answer(&reply.data, &asked) {
            Some(answer) if answer.truncated => {
                self.datagrams.remove(&(reply.local, reply.remote));
                self.operations.remove(&id);
                self.operation_timers.cancel(id);
                if let Err(failure) = self.ask_tcp(id, reply.remote, asked, options, now, out) {
                    self.finish(id, OperationResult::Dns(Err(failure)));
                }
            }
            Some(_) => self.finish_datagram(id, Ok(reply)),
            // Not an answer to this query: keep waiting, as a resolver does.
            None => self.count(HostDrop::Malformed),
        }
    }

    /// Ends the datagram exchange of operation `id`.
    pub(crate) fn finish_datagram(&mut self, id: OperationId, result: Result<UdpReply, Failure>) {
        // A forwarded question is over when it is answered or its servers are, not by an error.
        if !matches!(self.operations.get(&id), Some(Operation::Datagram(_))) {
            return;
        }
        let Some(Operation::Datagram(datagram)) = self.operations.remove(&id) else {
            return;
        };
        self.operation_timers.cancel(id);
        self.datagrams.remove(&(datagram.local, datagram.remote));
        let result = match datagram.purpose {
            Purpose::Dns { asked, .. } => OperationResult::Dns(result.and_then(|reply| {
                let answer = dns::parse_answer(&reply.data, &asked)
                    .ok_or(Failure::Invalid("the answer is not a DNS message"))?;
                Ok(DnsReply { server: reply.remote, tcp: false, answer })
            })),
            Purpose::Plain | Purpose::Http => OperationResult::Udp(result),
        };
        self.finish(id, result);
    }
}
