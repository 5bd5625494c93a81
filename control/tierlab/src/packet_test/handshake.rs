//! TCP's three-way handshake (RFC 9293, 3.5) with both ends played by the test.
//!
//! The SYN is the test's last frame, or the step's own. Whoever it reached answers; then the client
//! acknowledges. All three frames are real, must arrive translated consistently, and are claimed.

use super::failure::{Failure, port_name};
use super::field::{Field, Value};
use super::runner::{Running, Stop};
use super::wanted::{Arrival, Resolution, Wanted};
use definitions::own::{Handshake, Send, TcpSend};
use engine::network::PortId;
use packet::{Addr, Frame, FrameBuilder, Headers, Ip, Tcp, tcp_flags};

/// Initial sequence number of the server.
const SERVER_SEQUENCE: u32 = 5_000;

/// One end's view of a segment.
struct Segment {
    headers: Headers,
    ip: Ip,
    tcp: Tcp,
}

impl Segment {
    fn of(headers: &Headers) -> Option<Segment> {
        let ip = *headers.ip()?;
        Some(Segment { headers: *headers, ip, tcp: *ip.tcp()? })
    }

    /// A segment from the same sender, in the same direction.
    fn onward(&self) -> FrameBuilder {
        FrameBuilder::new(self.ip.src, self.ip.dst)
            .macs(self.headers.src_mac, self.headers.dst_mac)
            .tcp(self.tcp.src_port, self.tcp.dst_port, 0)
    }

    /// A segment to the sender.
    fn back(&self) -> FrameBuilder {
        FrameBuilder::new(self.ip.dst, self.ip.src)
            .macs(self.headers.dst_mac, self.headers.src_mac)
            .tcp(self.tcp.dst_port, self.tcp.src_port, 0)
    }
}

/// What a segment between these ends must be.
fn wanted(src: (Addr, u16), dst: (Addr, u16), flags: u8, seq: u32, ack: u32) -> Wanted {
    Wanted::default()
        .and(Field::Protocol, Value::Word("tcp"))
        .and(Field::IpSrc, Value::Addr(src.0))
        .and(Field::IpDst, Value::Addr(dst.0))
        .and(Field::TcpSport, Value::Number(src.1.into()))
        .and(Field::TcpDport, Value::Number(dst.1.into()))
        .and(Field::TcpFlags, Value::TcpFlags(flags))
        .and(Field::TcpSeq, Value::Number(seq))
        .and(Field::TcpAck, Value::Number(ack))
}

impl Running<'_> {
    /// The whole handshake, or what is left of it after a SYN.
    pub(super) fn handshake(&mut self, step: &Handshake) -> Result<(), Stop> {
        if let (Some(from), Some(to)) = (&step.from, &step.to) {
            self.begin()?;
            let syn = Send {
                piece: None,
                from: from.clone(),
                eth: None,
                arp: None,
                ip: None,
                tcp: Some(TcpSend {
                    to: Some(to.clone()),
                    sport: step.sport.clone(),
                    ..TcpSend::default()
                }),
                udp: None,
                icmp: None,
                payload: None,
                hex: None,
            };
            let (port, frame) = self.frame(&syn)?;
            self.transmit(port, frame)?;
        }
        let (client_port, syn) = self.last_syn()?;
        let arrival = self.reached(client_port, &syn)?;
        self.inbox.claim_this(&arrival);
        let seen = arrival
            .headers
            .as_ref()
            .ok()
            .and_then(Segment::of)
            .ok_or_else(|| "the frame that arrived is no TCP segment".to_owned())?;

        let client = (syn.ip.src, syn.tcp.src_port);
        let called = (syn.ip.dst, syn.tcp.dst_port);
        let (next, server_next) = (syn.tcp.seq.wrapping_add(1), SERVER_SEQUENCE + 1);
        let answer = tcp_flags::SYN | tcp_flags::ACK;
        let syn_ack = seen.back().seq(SERVER_SEQUENCE).ack(next);
        let syn_ack = syn_ack.tcp(seen.tcp.dst_port, seen.tcp.src_port, answer).build();
        let there = wanted(called, client, answer, SERVER_SEQUENCE, next);
        self.exchange(arrival.port, syn_ack, client_port, &there, "the SYN-ACK")?;

        let caller = (seen.ip.src, seen.tcp.src_port);
        let server = (seen.ip.dst, seen.tcp.dst_port);
        let ack = syn.onward().seq(next).ack(server_next).build();
        let there = wanted(caller, server, tcp_flags::ACK, next, server_next);
        self.exchange(client_port, ack, arrival.port, &there, "the client's ACK")
    }

    fn last_syn(&self) -> Result<(PortId, Segment), Stop> {
        self.sent
            .as_ref()
            .and_then(|sent| {
                Some((sent.port, Segment::of(&packet::parse(&sent.frame.bytes).ok()?)?))
            })
            .filter(|(_, syn)| syn.tcp.flags & (tcp_flags::SYN | tcp_flags::ACK) == tcp_flags::SYN)
            .ok_or_else(|| {
                Stop::BadInput(
                    "a handshake completes the SYN of the last send, which was none".to_owned(),
                )
            })
    }

    /// Where the SYN ended: at the host that has its destination address.
    fn reached(&self, client_port: PortId, syn: &Segment) -> Result<Arrival, Stop> {
        let ended = |arrival: &&Arrival| {
            let seen = arrival.headers.as_ref().ok().and_then(Segment::of);
            seen.is_some_and(|seen| {
                seen.tcp.flags == syn.tcp.flags
                    && seen.tcp.seq == syn.tcp.seq
                    && self.interface(arrival.port).is_some_and(|interface| {
                        interface.mac == seen.headers.dst_mac
                            && interface.addresses.iter().any(|(own, _)| *own == seen.ip.dst)
                    })
            })
        };
        self.inbox.all().filter(ended).last().cloned().ok_or_else(|| {
            let name = port_name(&self.network, client_port);
            Failure::new(format!(
                "the SYN sent at {name} reached no host that has its destination address"
            ))
            .frames("seen", self.inbox.unexpected(), &self.network)
            .into()
        })
    }

    /// Sends one end's segment and claims it at the other end.
    fn exchange(
        &mut self,
        from: PortId,
        frame: Frame,
        to: PortId,
        wanted: &Wanted,
        what: &str,
    ) -> Result<(), Stop> {
        self.transmit(from, frame)?;
        if self.inbox.claim(to, Resolution::No, wanted).is_some() {
            return Ok(());
        }
        let mut failure = self.missing(to, Resolution::No, wanted);
        failure.headline = format!("{what} did not arrive: {}", failure.headline);
        Err(failure.into())
    }
}
