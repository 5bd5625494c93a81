//! What an `expect` wants of a frame, and the differences in words.

use super::field::{Field, Value};
use super::scope::Scope;
use definitions::own::{
    ArpFields, ArpOperation, EmbeddedFields, EthFields, Expect, FlowProtocol, IcmpExpect, IcmpType,
    IpFields, NumberExpr, TcpExpect, UdpExpect,
};
use engine::network::PortId;
use packet::{Frame, Headers, IcmpMessage, ParseError, Payload, Time, Transport};

/// A frame that reached a port.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    /// When.
    pub(super) time: Time,
    /// Where.
    pub(super) port: PortId,
    /// Large frames cut up and partial checksums finished: as on a wire.
    pub(super) frame: Frame,
    /// What it is.
    pub(super) headers: Result<Headers, ParseError>,
    /// Whether nobody need expect it: the host there passes packets on, or the frame resolves
    /// addresses and the test does not care.
    pub(super) incidental: bool,
}

/// Which frames that resolve addresses a step is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resolution {
    /// None of them.
    No,
    /// ARP (RFC 826).
    Arp,
    /// Neighbour discovery (RFC 4861).
    NeighborDiscovery,
}

impl Resolution {
    /// What a frame is.
    pub(super) fn of(headers: &Headers) -> Resolution {
        match &headers.payload {
            Payload::Arp(_) => Resolution::Arp,
            Payload::Ip(ip) => match ip.transport {
                Transport::Icmp(icmp) => match icmp.message {
                    IcmpMessage::NeighborSolicitation { .. }
                    | IcmpMessage::NeighborAdvertisement { .. } => Resolution::NeighborDiscovery,
                    _ => Resolution::No,
                },
                _ => Resolution::No,
            },
            Payload::Other => Resolution::No,
        }
    }

    /// What a step asks for: resolution is skipped unless the step says that it means it.
    pub(super) fn asked(expect: &Expect) -> Resolution {
        let kind = expect.icmp.as_ref().and_then(|icmp| icmp.kind);
        if expect.arp.is_some() {
            Resolution::Arp
        } else if matches!(kind, Some(IcmpType::Number(135 | 136))) {
            Resolution::NeighborDiscovery
        } else {
            Resolution::No
        }
    }
}

impl Arrival {
    /// What it is, in one line.
    pub(super) fn describe(&self) -> String {
        match &self.headers {
            Ok(headers) => packet::describe(headers),
            Err(error) => format!("{} octets that do not parse: {error}", self.frame.bytes.len()),
        }
    }

    /// Whether a step that asks for `asked` looks at it at all.
    pub(super) fn is_for(&self, asked: Resolution) -> bool {
        self.headers.as_ref().map_or(asked == Resolution::No, |h| Resolution::of(h) == asked)
    }
}

/// All that is wanted of one frame.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    fields: Vec<(Field, Value)>,
}

impl Wanted {
    /// Wants one more field to have this value.
    pub(super) fn and(mut self, field: Field, value: Value) -> Wanted {
        self.fields.push((field, value));
        self
    }

    /// What an `expect` wants.
    ///
    /// # Errors
    /// An expression that stands for nothing.
    pub(super) fn of(expect: &Expect, scope: &Scope<'_>) -> Result<Wanted, String> {
        let mut wanted = Wanted::default();
        wanted.eth(expect.eth.as_ref(), scope)?;
        if let Some(arp) = &expect.arp {
            wanted.arp(arp, scope)?;
        }
        // The protocol goes first: all other differences follow from it.
        let layers = [
            ("tcp", expect.tcp.is_some()),
            ("udp", expect.udp.is_some()),
            ("icmp", expect.icmp.is_some()),
        ];
        for (word, _) in layers.iter().filter(|(_, wanted)| *wanted) {
            wanted = wanted.and(Field::Protocol, Value::Word(word));
        }
        if let Some(ip) = &expect.ip {
            wanted.ip(ip, scope)?;
        }
        if let Some(tcp) = &expect.tcp {
            wanted.tcp(tcp, scope)?;
        }
        if let Some(udp) = &expect.udp {
            wanted.udp(udp, scope)?;
        }
        if let Some(icmp) = &expect.icmp {
            wanted.icmp(icmp, scope)?;
        }
        wanted.payload(expect.payload.as_ref());
        Ok(wanted)
    }

    fn add(&mut self, field: Field, value: Option<Value>) {
        self.fields.extend(value.map(|value| (field, value)));
    }

    fn add_number(
        &mut self,
        field: Field,
        number: Option<&NumberExpr>,
        scope: &Scope<'_>,
    ) -> Result<(), String> {
        let at_fault = |message| format!("{}: {message}", field.name());
        let value = match field {
            Field::TcpSeq | Field::TcpAck => number.map(|n| scope.number(n)).transpose(),
            _ => number.map(|n| scope.number16(n).map(u32::from)).transpose(),
        };
        self.add(field, value.map_err(at_fault)?.map(Value::Number));
        Ok(())
    }

    fn eth(&mut self, eth: Option<&EthFields>, scope: &Scope<'_>) -> Result<(), String> {
        let Some(eth) = eth else { return Ok(()) };
        for (field, mac) in [(Field::EthSrc, &eth.src), (Field::EthDst, &eth.dst)] {
            self.add(field, mac.as_ref().map(|m| scope.mac(m)).transpose()?.map(Value::Mac));
        }
        Ok(())
    }

    fn arp(&mut self, arp: &ArpFields, scope: &Scope<'_>) -> Result<(), String> {
        let operation = arp.op.map(|op| match op {
            ArpOperation::Request => Value::Word("request"),
            ArpOperation::Reply => Value::Word("reply"),
        });
        self.add(Field::ArpOp, operation);
        for (field, mac) in [(Field::ArpSha, &arp.sha), (Field::ArpTha, &arp.tha)] {
            self.add(field, mac.as_ref().map(|m| scope.mac(m)).transpose()?.map(Value::Mac));
        }
        for (field, addr) in [(Field::ArpSpa, &arp.spa), (Field::ArpTpa, &arp.tpa)] {
            self.add(field, addr.as_ref().map(|a| scope.address(a)).transpose()?.map(Value::Addr));
        }
        Ok(())
    }

    fn ip(&mut self, ip: &IpFields, scope: &Scope<'_>) -> Result<(), String> {
        for (field, addr) in [(Field::IpSrc, &ip.src), (Field::IpDst, &ip.dst)] {
            self.add(field, addr.as_ref().map(|a| scope.address(a)).transpose()?.map(Value::Addr));
        }
        self.add(Field::IpTtl, ip.ttl.map(|ttl| Value::Number(ttl.into())));
        self.add(Field::IpTos, ip.tos.map(|tos| Value::Number(tos.into())));
        self.add(Field::IpDf, ip.df.map(Value::Flag));
        self.add_number(Field::IpId, ip.id.as_ref(), scope)?;
        if let Some(fragment) = ip.fragment {
            let offset = fragment.offset.map(|offset| Value::Number(offset.into()));
            self.add(Field::FragmentOffset, offset);
            self.add(Field::FragmentMore, fragment.more.map(Value::Flag));
        }
        Ok(())
    }

    fn tcp(&mut self, tcp: &TcpExpect, scope: &Scope<'_>) -> Result<(), String> {
        self.add_number(Field::TcpSport, tcp.sport.as_ref(), scope)?;
        self.add_number(Field::TcpDport, tcp.dport.as_ref(), scope)?;
        self.add(Field::TcpFlags, tcp.flags.map(Value::from));
        self.add_number(Field::TcpSeq, tcp.seq.as_ref(), scope)?;
        self.add_number(Field::TcpAck, tcp.ack.as_ref(), scope)?;
        self.add(Field::TcpWindow, tcp.window.map(|w| Value::Number(w.into())));
        self.payload(tcp.payload.as_ref());
        Ok(())
    }

    fn udp(&mut self, udp: &UdpExpect, scope: &Scope<'_>) -> Result<(), String> {
        self.add_number(Field::UdpSport, udp.sport.as_ref(), scope)?;
        self.add_number(Field::UdpDport, udp.dport.as_ref(), scope)?;
        self.add(Field::UdpChecksum, udp.checksum.map(|sum| Value::Number(sum.into())));
        self.payload(udp.payload.as_ref());
        Ok(())
    }

    fn icmp(&mut self, icmp: &IcmpExpect, scope: &Scope<'_>) -> Result<(), String> {
        self.add(Field::IcmpType, icmp.kind.map(Value::IcmpType));
        self.add(Field::IcmpCode, icmp.code.map(|code| Value::Number(code.into())));
        self.add_number(Field::IcmpId, icmp.id.as_ref(), scope)?;
        self.add_number(Field::IcmpSeq, icmp.seq.as_ref(), scope)?;
        self.add(Field::IcmpMtu, icmp.mtu.map(Value::Number));
        if let Some(embedded) = &icmp.embedded {
            self.embedded(embedded, scope)?;
        }
        self.payload(icmp.payload.as_ref());
        Ok(())
    }

    fn embedded(&mut self, embedded: &EmbeddedFields, scope: &Scope<'_>) -> Result<(), String> {
        let protocol = embedded.protocol.map(|protocol| Value::Word(flow_protocol(protocol)));
        self.add(Field::EmbeddedProtocol, protocol);
        for (field, addr) in
            [(Field::EmbeddedSrc, &embedded.src), (Field::EmbeddedDst, &embedded.dst)]
        {
            self.add(field, addr.as_ref().map(|a| scope.address(a)).transpose()?.map(Value::Addr));
        }
        self.add_number(Field::EmbeddedSport, embedded.sport.as_ref(), scope)?;
        self.add_number(Field::EmbeddedDport, embedded.dport.as_ref(), scope)
    }

    fn payload(&mut self, payload: Option<&String>) {
        self.add(Field::Payload, payload.map(|text| Value::Octets(text.clone().into_bytes())));
    }

    /// Where the frame differs, a line a field, in the order of the layers; empty if it is the one
    /// wanted. Wrong checksums always differ.
    pub(super) fn differences(&self, arrival: &Arrival) -> Vec<String> {
        let headers = match &arrival.headers {
            Ok(headers) => headers,
            Err(error) => return vec![format!("frame: does not parse: {error}")],
        };
        let bytes = &arrival.frame.bytes;
        let mut differences: Vec<String> = self
            .fields
            .iter()
            .filter_map(|(field, wanted)| {
                let seen = field.read(bytes, headers);
                if seen.as_ref().is_some_and(|seen| wanted.admits(seen)) {
                    return None;
                }
                let expected = wanted.beside(seen.as_ref());
                let saw = seen.map_or_else(|| "no such field".to_owned(), |seen| seen.to_string());
                Some(format!("{}: expected {expected}, saw {saw}", field.name()))
            })
            .collect();
        // That of the IPv4 header is verified by the parser.
        if !packet::verify_transport(bytes, headers) {
            differences.push("checksum: that of the transport header is wrong".to_owned());
        }
        differences
    }
}

/// The word for a protocol that a test names.
pub(super) fn flow_protocol(protocol: FlowProtocol) -> &'static str {
    match protocol {
        FlowProtocol::Tcp => "tcp",
        FlowProtocol::Udp => "udp",
        FlowProtocol::Icmp => "icmp",
    }
}

/// The fields wanted, for people.
impl std::fmt::Display for Wanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.fields.is_empty() {
            return f.write_str("any frame");
        }
        for (i, (field, value)) in self.fields.iter().enumerate() {
            let comma = if i == 0 { "" } else { ", " };
            write!(f, "{comma}{} {value}", field.name())?;
        }
        Ok(())
    }
}
