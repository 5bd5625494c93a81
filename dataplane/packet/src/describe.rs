//! One line about a frame, close to what tcpdump prints, for traces and failed tests.

use crate::{
    Addr, Arp, Embedded, Headers, Icmp, IcmpMessage, Ip, Payload, Transport, protocol, tcp_flags,
};
use std::fmt::Write;

/// Describes a frame in one line, for instance
/// `10.244.0.18.40000 > 10.96.0.10.53: UDP, length 32, ttl 64`. Lengths are octets of payload.
#[must_use]
pub fn describe(headers: &Headers) -> String {
    let text = match &headers.payload {
        Payload::Arp(arp) => describe_arp(arp),
        Payload::Ip(ip) => describe_ip(headers, ip),
        Payload::Other => format!(
            "{} > {}, ethertype 0x{:04x}",
            headers.src_mac, headers.dst_mac, headers.ether_type
        ),
    };
    match headers.vlan {
        Some(id) => format!("vlan {id}, {text}"),
        None => text,
    }
}

fn describe_arp(arp: &Arp) -> String {
    match arp.operation {
        1 if arp.sender == arp.target => {
            format!("ARP, announce {} is-at {}", arp.sender, arp.sender_mac)
        }
        1 => format!("ARP, who-has {} tell {}", arp.target, arp.sender),
        2 => format!("ARP, {} is-at {}", arp.sender, arp.sender_mac),
        operation => {
            format!("ARP, operation {operation} from {} for {}", arp.sender, arp.target)
        }
    }
}

fn describe_ip(headers: &Headers, ip: &Ip) -> String {
    let (src, dst, ttl) = (ip.src, ip.dst, ip.ttl);
    let end = u32::try_from(headers.l3_end()).unwrap_or(u32::MAX);
    let length = end.saturating_sub(u32::from(ip.l4));
    let mut text = match &ip.transport {
        Transport::Tcp(t) => {
            let mut text = format!(
                "{src}.{} > {dst}.{}: Flags [{}], seq {}",
                t.src_port,
                t.dst_port,
                flag_letters(t.flags),
                t.seq
            );
            if t.flags & tcp_flags::ACK != 0 {
                // Writing to a string cannot fail.
                let _ = write!(text, ", ack {}", t.ack);
            }
            let _ = write!(text, ", win {}, length {}", t.window, t.payload_len);
            text
        }
        Transport::Udp(u) => format!(
            "{src}.{} > {dst}.{}: UDP, length {}",
            u.src_port,
            u.dst_port,
            length.saturating_sub(8)
        ),
        Transport::Icmp(icmp) => {
            let message = describe_icmp(icmp, ip.is_v4(), length);
            if let IcmpMessage::Error(about) = &icmp.message {
                return format!("{src} > {dst}: {message} ({})", describe_embedded(about));
            }
            format!("{src} > {dst}: {message}")
        }
        Transport::Other | Transport::LaterFragment => {
            format!("{src} > {dst}: {}, length {length}", protocol_name(ip.protocol))
        }
    };
    if let Some(f) = ip.fragment {
        let more = if f.more { "+" } else { "" };
        let _ = write!(text, ", fragment id {} offset {}{more}", f.id, f.offset);
    }
    let _ = write!(text, ", ttl {ttl}");
    text
}

fn describe_icmp(icmp: &Icmp, v4: bool, length: u32) -> String {
    let family = if v4 { "ICMP" } else { "ICMP6" };
    let name = icmp_name(icmp.kind, icmp.code, v4);
    match &icmp.message {
        IcmpMessage::Query { id, seq } | IcmpMessage::Reply { id, seq } => {
            let name = name.unwrap_or("query");
            format!("{family} {name}, id {id}, seq {seq}, length {length}")
        }
        IcmpMessage::NeighborSolicitation { target, .. } => {
            format!("{family} neighbor solicitation, who has {target}")
        }
        IcmpMessage::NeighborAdvertisement { target, target_mac: Some(mac) } => {
            format!("{family} neighbor advertisement, {target} is-at {mac}")
        }
        IcmpMessage::NeighborAdvertisement { target, target_mac: None } => {
            format!("{family} neighbor advertisement, {target}")
        }
        IcmpMessage::Error(_) => match name {
            Some(name) => format!("{family} {name}"),
            None => format!("{family} type {} code {}", icmp.kind, icmp.code),
        },
        IcmpMessage::Other => match name {
            Some(name) => format!("{family} {name}, length {length}"),
            None => format!("{family} type {} code {}, length {length}", icmp.kind, icmp.code),
        },
    }
}

/// What the IANA registry calls type and code, in tcpdump's words.
fn icmp_name(kind: u8, code: u8, v4: bool) -> Option<&'static str> {
    let name = match (v4, kind, code) {
        (true, 0, _) | (false, 129, _) => "echo reply",
        (true, 8, _) | (false, 128, _) => "echo request",
        (true, 13, _) => "timestamp request",
        (true, 14, _) => "timestamp reply",
        (true, 3, 0) => "net unreachable",
        (true, 3, 1) => "host unreachable",
        (true, 3, 2) => "protocol unreachable",
        (true, 3, 3) | (false, 1, 4) => "port unreachable",
        (true, 3, 4) => "fragmentation needed",
        (true, 3, 10) => "host administratively prohibited",
        (true, 3, 13) | (false, 1, 1) => "administratively prohibited",
        (true, 3, _) | (false, 1, _) if !(kind == 1 && matches!(code, 0 | 3)) => "unreachable",
        (false, 1, 0) => "no route",
        (false, 1, 3) => "address unreachable",
        (true, 4, _) => "source quench",
        (true, 5, _) | (false, 137, _) => "redirect",
        (true, 11, 0) | (false, 3, 0) => "time exceeded in transit",
        (true, 11, 1) | (false, 3, 1) => "reassembly time exceeded",
        (true, 12, _) | (false, 4, _) => "parameter problem",
        (false, 2, _) => "packet too big",
        (false, 133, _) => "router solicitation",
        (false, 134, _) => "router advertisement",
        (false, 135, _) => "neighbor solicitation",
        (false, 136, _) => "neighbor advertisement",
        _ => return None,
    };
    Some(name)
}

fn describe_embedded(about: &Embedded) -> String {
    let end = |addr: Addr, port: u16| match about.protocol {
        protocol::TCP | protocol::UDP => format!("{addr}.{port}"),
        _ => addr.to_string(),
    };
    format!(
        "{} > {} {}",
        end(about.src, about.src_port),
        end(about.dst, about.dst_port),
        protocol_name(about.protocol)
    )
}

fn protocol_name(number: u8) -> String {
    match number {
        protocol::ICMP => "ICMP".to_owned(),
        protocol::TCP => "TCP".to_owned(),
        protocol::UDP => "UDP".to_owned(),
        protocol::ICMPV6 => "ICMP6".to_owned(),
        protocol::SCTP => "SCTP".to_owned(),
        other => format!("protocol {other}"),
    }
}

/// Flags in tcpdump's letters and order; `none` where none is set.
fn flag_letters(flags: u8) -> String {
    const LETTERS: [(u8, char); 8] = [
        (tcp_flags::FIN, 'F'),
        (tcp_flags::SYN, 'S'),
        (tcp_flags::RST, 'R'),
        (tcp_flags::PSH, 'P'),
        (tcp_flags::ACK, '.'),
        (tcp_flags::URG, 'U'),
        (tcp_flags::ECE, 'E'),
        (tcp_flags::CWR, 'W'),
    ];
    if flags == 0 {
        return "none".to_owned();
    }
    LETTERS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| *letter).collect()
}
