//! Frames of a `send`: what the test states, and for the rest what the host at the port would send.
//!
//! Defaults: the interface's MAC and first address of the destination's family, the next hop's MAC,
//! the host's TTL, "don't fragment" (as Linux sends), source port 40000, TCP flags S, sequence number
//! 1000, echo identifier and sequence number 1, ARP request.
//!
//! The next hop is found by the host's own routing, and its MAC as the host would find it: by asking
//! with a real ARP (RFC 826) or neighbour solicitation (RFC 4861). So learning segments know the
//! stations of a conversation, as they would outside of a test. A host asks again after a minute.

use super::runner::{Running, Stop};
use definitions::own::{
    AddressExpr, ArpFields, ArpOperation, EmbeddedFields, FlowProtocol, IcmpType, IpFields,
    NumberExpr, Send, Target,
};
use engine::network::{PortId, Prefix};
use hosts::RouteOutcome;
use packet::{
    Addr, ETHERTYPE_ARP, Fragment, Frame, FrameBuilder, IcmpMessage, Mac, Payload, Transport,
    arp_request, multicast_mac, neighbor_solicitation, tcp_flags,
};
use std::time::Duration;

/// Source port of a `send` that states none.
const SOURCE_PORT: u16 = 40_000;
/// Sequence number of a `send` that states none.
const SEQUENCE: u32 = 1_000;
/// Protocol of a bare IP packet: for experiments (RFC 3692).
const BARE_PROTOCOL: u8 = 253;
/// How long a sender trusts a neighbour's answer.
const NEIGHBOR_AGE: Duration = Duration::from_secs(60);
/// Shortest Ethernet frame without FCS, octets.
const SHORTEST_FRAME: usize = 60;
/// Octets of an Ethernet header without tag.
const ETHERNET_HEADER: usize = 14;
/// Octets of an IPv4 header without options.
const IPV4_HEADER: usize = 20;

/// Who sends: an interface of an emulated host.
#[derive(Clone, Debug)]
struct Sender {
    port: PortId,
    /// The port's, for messages.
    name: String,
    host: usize,
    interface: usize,
    mac: Mac,
    addresses: Vec<(Addr, u8)>,
    ttl: u8,
}

impl Sender {
    /// The first address of the family of `like` that means something there: a link-local one only
    /// towards link-local destinations.
    fn address(&self, like: Addr) -> Option<Addr> {
        let family =
            || self.addresses.iter().map(|(a, _)| *a).filter(|a| a.is_v4() == like.is_v4());
        family().find(|a| a.is_link_local() == like.is_link_local()).or_else(|| family().next())
    }

    fn is_broadcast(&self, addr: Addr) -> bool {
        addr == Addr::BROADCAST_V4
            || self.addresses.iter().any(|(own, len)| Prefix::new(*own, *len).is_broadcast(addr))
    }
}

/// A packet up to its IP header.
struct Envelope {
    builder: FrameBuilder,
    v4: bool,
}

impl Running<'_> {
    /// The frame of a `send` and where it enters.
    ///
    /// # Errors
    /// Something that the step names is not there, or the host cannot send it.
    pub(super) fn frame(&mut self, send: &Send) -> Result<(PortId, Frame), Stop> {
        let port = self.scope.port(&send.from)?;
        if let Some(hex) = &send.hex {
            return Ok((port, Frame::new(hex.octets().to_vec())));
        }
        let frame = match (&send.arp, &send.tcp, &send.udp, &send.icmp) {
            (Some(arp), ..) => self.arp(send, arp)?,
            (None, Some(tcp), ..) => {
                let target = tcp.to.as_ref();
                let envelope = self.envelope(send, target.map(|to| &to.address))?;
                let sport = self.source_port(tcp.sport.as_ref())?;
                let dport = self.destination_port(target, tcp.dport.as_ref())?;
                let flags = tcp.flags.map_or(tcp_flags::SYN, |flags| flags.bits());
                let seq = tcp.seq.as_ref().map(|n| self.scope.number(n)).transpose()?;
                let ack = tcp.ack.as_ref().map(|n| self.scope.number(n)).transpose()?;
                let data = tcp.payload.as_ref().or(send.payload.as_ref());
                envelope
                    .builder
                    // Before the flags, which an acknowledgement number would raise.
                    .ack(ack.unwrap_or(0))
                    .tcp(sport, dport, flags)
                    .seq(seq.unwrap_or(SEQUENCE))
                    .window(tcp.window.unwrap_or(u16::MAX))
                    .payload(octets(data))
                    .build()
            }
            (None, None, Some(udp), _) => {
                let target = udp.to.as_ref();
                let envelope = self.envelope(send, target.map(|to| &to.address))?;
                let sport = self.source_port(udp.sport.as_ref())?;
                let dport = self.destination_port(target, udp.dport.as_ref())?;
                let data = udp.payload.as_ref().or(send.payload.as_ref());
                let mut frame = envelope.builder.udp(sport, dport).payload(octets(data)).build();
                if let Some(checksum) = udp.checksum {
                    set_udp_checksum(&mut frame, checksum);
                }
                frame
            }
            (None, None, None, Some(icmp)) => {
                let envelope = self.envelope(send, icmp.to.as_ref())?;
                let kind = icmp.kind.unwrap_or(IcmpType::EchoRequest);
                let (kind, code) = if envelope.v4 { kind.v4() } else { kind.v6() };
                if let Some(embedded) = &icmp.embedded {
                    let quote = self.quote(embedded, envelope.v4)?;
                    let rest = icmp.mtu.unwrap_or(0).to_be_bytes();
                    let code = icmp.code.or(code).unwrap_or(0);
                    return self.piece(
                        send,
                        port,
                        envelope.builder.icmp(kind, code, rest).payload(&quote).build(),
                    );
                }
                let id = icmp.id.as_ref().map_or(Ok(1), |n| self.scope.number16(n))?;
                let seq = icmp.seq.as_ref().map_or(Ok(1), |n| self.scope.number16(n))?;
                let ([i0, i1], [s0, s1]) = (id.to_be_bytes(), seq.to_be_bytes());
                let data = icmp.payload.as_ref().or(send.payload.as_ref());
                envelope
                    .builder
                    .icmp(kind, icmp.code.or(code).unwrap_or(0), [i0, i1, s0, s1])
                    .payload(octets(data))
                    .build()
            }
            (None, None, None, None) => {
                let envelope = self.envelope(send, None)?;
                envelope
                    .builder
                    .protocol(BARE_PROTOCOL)
                    .payload(octets(send.payload.as_ref()))
                    .build()
            }
        };
        self.piece(send, port, frame)
    }

    /// What goes out of a packet: all of it, or the piece that the step wants.
    fn piece(&self, send: &Send, port: PortId, frame: Frame) -> Result<(PortId, Frame), Stop> {
        let Some(piece) = send.piece else { return Ok((port, frame)) };
        let headers = packet::parse(&frame.bytes).ok();
        let of_ip = headers.as_ref().and_then(|headers| Some((headers, headers.ip()?)));
        let Some((headers, ip)) = of_ip else {
            return Err("only an IP packet is sent in pieces".to_owned().into());
        };
        let data = frame.bytes.get(usize::from(ip.l4)..headers.l3_end()).unwrap_or_default();
        let begin = usize::from(piece.offset);
        let end = piece.length.map_or(data.len(), |length| begin + usize::from(length));
        let Some(octets) = data.get(begin..end).filter(|octets| !octets.is_empty()) else {
            let message = format!(
                "the packet has {} octets behind its IP header, and no piece of {begin} to {end}",
                data.len()
            );
            return Err(message.into());
        };
        let more = end < data.len();
        if more && !end.is_multiple_of(8) {
            let message =
                format!("a piece that ends at octet {end} and not at a multiple of 8 is the last");
            return Err(message.into());
        }
        let id = send.ip.as_ref().and_then(|ip| ip.id.as_ref());
        let id = id.map_or(Ok(1), |n| self.scope.number16(n))?;
        let fragment = Fragment { id: id.into(), offset: piece.offset, more };
        let builder = FrameBuilder::new(ip.src, ip.dst)
            .macs(headers.src_mac, headers.dst_mac)
            .ttl(ip.ttl)
            .traffic_class(ip.traffic_class)
            .protocol(ip.protocol)
            .fragment(fragment)
            .payload(octets);
        Ok((port, builder.build()))
    }

    /// The packet that an ICMP error quotes, as far as routers do: with IPv4 its header and 8 octets (RFC 792).
    fn quote(&self, quoted: &EmbeddedFields, v4: bool) -> Result<Vec<u8>, Stop> {
        let address = |field: &str, address: Option<&AddressExpr>| {
            let address = address
                .ok_or_else(|| format!("an error quotes a packet; state icmp.embedded.{field}"))?;
            self.scope.address(address)
        };
        let (src, dst) =
            (address("src", quoted.src.as_ref())?, address("dst", quoted.dst.as_ref())?);
        if src.is_v4() != v4 || dst.is_v4() != v4 {
            return Err(
                format!("the error cannot quote a packet from {src} to {dst}: one family").into()
            );
        }
        let number = |number: Option<&NumberExpr>| number.map_or(Ok(1), |n| self.scope.number16(n));
        let sport = number(quoted.sport.as_ref())?;
        let dport = number(quoted.dport.as_ref())?;
        let packet = FrameBuilder::new(src, dst);
        let packet = match quoted.protocol.unwrap_or_default() {
            FlowProtocol::Tcp => packet.tcp(sport, dport, tcp_flags::SYN).seq(SEQUENCE),
            FlowProtocol::Udp => packet.udp(sport, dport),
            FlowProtocol::Icmp => packet.echo_request(sport, 1),
        };
        let mut bytes = packet.build().bytes.split_off(ETHERNET_HEADER);
        if v4 {
            bytes.truncate(IPV4_HEADER + 8);
        }
        Ok(bytes)
    }

    /// The interface at a port.
    ///
    /// # Errors
    /// Nothing is plugged in there.
    fn sender(&self, port: PortId) -> Result<Sender, Stop> {
        let name = super::failure::port_name(&self.network, port);
        let missing = || format!("nothing is plugged in at {name}, so nobody can send there");
        let (host, interface) = self.lab.host_at(port).ok_or_else(missing)?;
        let config = &self.lab.specs().get(host).ok_or_else(missing)?.config;
        let own = config.interfaces.get(interface).ok_or_else(missing)?;
        let (mac, addresses, ttl) = (own.mac, own.addresses.clone(), config.ttl);
        Ok(Sender { port, name, host, interface, mac, addresses, ttl })
    }

    /// Everything up to the IP header.
    fn envelope(&mut self, send: &Send, to: Option<&AddressExpr>) -> Result<Envelope, Stop> {
        let port = self.scope.port(&send.from)?;
        let sender = self.sender(port)?;
        let none = IpFields::default();
        let ip = send.ip.as_ref().unwrap_or(&none);
        let dst = to
            .or(ip.dst.as_ref())
            .ok_or_else(|| "the packet has no destination; state ip.dst".to_owned())?;
        let dst = self.scope.address(dst)?;
        let src = match &ip.src {
            Some(src) => self.scope.address(src)?,
            None => sender.address(dst).ok_or_else(|| {
                format!("{} has no address of the family of {dst}; state ip.src", sender.name)
            })?,
        };
        if src.is_v4() != dst.is_v4() {
            return Err(format!("{src} and {dst} are not of one family").into());
        }
        let eth = send.eth.clone().unwrap_or_default();
        let src_mac = eth.src.as_ref().map_or(Ok(sender.mac), |mac| self.scope.mac(mac))?;
        let dst_mac = match &eth.dst {
            Some(mac) => self.scope.mac(mac)?,
            None => self.next_hop_mac(&sender, src, dst)?,
        };
        let mut builder = FrameBuilder::new(src, dst)
            .macs(src_mac, dst_mac)
            .ttl(ip.ttl.unwrap_or(sender.ttl))
            .traffic_class(ip.tos.unwrap_or(0))
            .id(ip.id.as_ref().map_or(Ok(0), |n| self.scope.number16(n))?);
        if let Some(set) = ip.df {
            builder = builder.dont_fragment(set);
        }
        Ok(Envelope { builder, v4: src.is_v4() })
    }

    fn source_port(&self, sport: Option<&NumberExpr>) -> Result<u16, String> {
        sport.map_or(Ok(SOURCE_PORT), |number| self.scope.number16(number))
    }

    fn destination_port(
        &self,
        to: Option<&Target>,
        dport: Option<&NumberExpr>,
    ) -> Result<u16, String> {
        let number = to
            .map(|to| &to.port)
            .or(dport)
            .ok_or_else(|| "the packet has no destination port; state dport".to_owned())?;
        self.scope.number16(number)
    }

    /// The MAC that the sender would put on a packet to `dst`.
    fn next_hop_mac(&mut self, sender: &Sender, src: Addr, dst: Addr) -> Result<Mac, Stop> {
        if sender.is_broadcast(dst) {
            return Ok(Mac::BROADCAST);
        }
        if dst.is_multicast() {
            // RFC 1112, 6.4: the low 23 bits of the group.
            let [_, b, c, d] = dst.low32().to_be_bytes();
            let v4 = Mac([0x01, 0x00, 0x5e, b & 0x7f, c, d]);
            return Ok(if dst.is_v4() { v4 } else { multicast_mac(dst) });
        }
        // A spoofed source does not change where the host sends.
        let own = sender.address(dst).unwrap_or(src);
        let route = self
            .lab
            .host(sender.host)
            .map(|host| host.explain_route(dst, Some(own), Some(sender.interface)).outcome);
        let next_hop = match route {
            Some(RouteOutcome::Unicast { next_hop, .. }) => next_hop,
            Some(RouteOutcome::Local) => {
                return Err(format!(
                    "{dst} is an address of {} itself; state eth.dst",
                    sender.name
                )
                .into());
            }
            Some(RouteOutcome::Error(error)) => {
                return Err(format!(
                    "{} cannot send to {dst}: {error}; add a route, or state eth.dst",
                    sender.name
                )
                .into());
            }
            None => return Err(format!("nothing is plugged in at {}", sender.name).into()),
        };
        self.resolve(sender, own, next_hop)
    }

    /// Asks for the MAC of a neighbour, or remembers it.
    fn resolve(&mut self, sender: &Sender, own: Addr, next_hop: Addr) -> Result<Mac, Stop> {
        let (key, now) = ((sender.port, next_hop), self.lab.now());
        if let Some((mac, at)) = self.neighbors.get(&key)
            && now.since(*at) < NEIGHBOR_AGE
        {
            return Ok(*mac);
        }
        let question = if next_hop.is_v4() {
            arp_request(sender.mac, own, next_hop)
        } else {
            neighbor_solicitation(sender.mac, own, next_hop)
        };
        self.lab.inject(sender.port, question);
        self.lab.settle();
        let answers = self.inbox.take_resolution(self.lab, sender.port);
        self.no_storm()?;
        let mac = answers
            .iter()
            .filter_map(|answer| answer.headers.as_ref().ok())
            .find_map(|headers| match &headers.payload {
                Payload::Arp(arp) if arp.operation == 2 && arp.sender == next_hop => Some(arp.sender_mac),
                Payload::Ip(ip) => match ip.transport {
                    Transport::Icmp(icmp) => match icmp.message {
                        IcmpMessage::NeighborAdvertisement { target, target_mac }
                            if target == next_hop =>
                        {
                            target_mac.or(Some(headers.src_mac))
                        }
                        _ => None,
                    },
                    _ => None,
                },
                _ => None,
            })
            .ok_or_else(|| {
                format!(
                    "nobody answers {} that asks for {next_hop}, its next hop; state eth.dst to send nevertheless",
                    sender.name
                )
            })?;
        self.neighbors.insert(key, (mac, now));
        Ok(mac)
    }

    /// An ARP packet (RFC 826), IPv4 over Ethernet.
    fn arp(&mut self, send: &Send, arp: &ArpFields) -> Result<Frame, Stop> {
        let port = self.scope.port(&send.from)?;
        let sender = self.sender(port)?;
        let target =
            arp.tpa.as_ref().ok_or_else(|| "ARP asks for somebody; state arp.tpa".to_owned())?;
        let target = v4(self.scope.address(target)?)?;
        let own = match &arp.spa {
            Some(spa) => self.scope.address(spa)?,
            None => sender.address(Addr::UNSPECIFIED_V4).unwrap_or(Addr::UNSPECIFIED_V4),
        };
        let own = v4(own)?;
        let sha = arp.sha.as_ref().map_or(Ok(sender.mac), |mac| self.scope.mac(mac))?;
        let tha = arp.tha.as_ref().map_or(Ok(Mac::ZERO), |mac| self.scope.mac(mac))?;
        let (operation, usual_dst) = match arp.op.unwrap_or(ArpOperation::Request) {
            ArpOperation::Request => (1u16, Mac::BROADCAST),
            ArpOperation::Reply => (2, tha),
        };
        let eth = send.eth.clone().unwrap_or_default();
        let src_mac = eth.src.as_ref().map_or(Ok(sender.mac), |mac| self.scope.mac(mac))?;
        let dst_mac = eth.dst.as_ref().map_or(Ok(usual_dst), |mac| self.scope.mac(mac))?;
        let mut bytes = Vec::with_capacity(SHORTEST_FRAME);
        bytes.extend_from_slice(&dst_mac.0);
        bytes.extend_from_slice(&src_mac.0);
        bytes.extend_from_slice(&ETHERTYPE_ARP.to_be_bytes());
        // Ethernet, IPv4, and the octets of their addresses.
        bytes.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
        bytes.extend_from_slice(&operation.to_be_bytes());
        for (mac, addr) in [(sha, own), (tha, target)] {
            bytes.extend_from_slice(&mac.0);
            bytes.extend_from_slice(&addr.to_be_bytes());
        }
        bytes.resize(SHORTEST_FRAME, 0);
        Ok(Frame::new(bytes))
    }
}

/// Writes the checksum of a UDP header as it is to stand there.
fn set_udp_checksum(frame: &mut Frame, checksum: u16) {
    let at = packet::parse(&frame.bytes).ok().and_then(|h| Some(usize::from(h.ip()?.l4) + 6));
    let field = at.and_then(|at| frame.bytes.get_mut(at..)?.first_chunk_mut::<2>());
    if let Some(field) = field {
        *field = checksum.to_be_bytes();
    }
}

fn octets(text: Option<&String>) -> &[u8] {
    text.map(String::as_bytes).unwrap_or_default()
}

fn v4(addr: Addr) -> Result<u32, String> {
    if addr.is_v4() { Ok(addr.low32()) } else { Err(format!("ARP is for IPv4, not for {addr}")) }
}
