//! What must hold of every frame that leaves, whatever came in (reliability.md, R22). Written from the lab's manifest and the
//! standards, not from the engine: addresses and policies are those of `lab.rs`.

use std::collections::{HashMap, HashSet};

use engine::Tuple;
use engine::network::{PortId, Prefix};
use packet::{
    Addr, Frame, Headers, IcmpMessage, Ip, Mac, Payload, Transport, parse, protocol, tcp_flags,
};

use crate::checksums;
use crate::lab::{CLIENT, HIDDEN, Lab, PARTNER, SEALED, Station, VAULT, VAULT_PORT, WEB};

/// Most frames that one frame can cause: what waited for its neighbour (8) or its first fragment (45), each in two pieces, a flood,
/// and requests.
pub const FAN_OUT: usize = 128;
const SERVICES: [&str; 1] = ["10.96.0.0/23"];
/// Begins the last 8 octets of packets that are to be recognized.
pub const MARKER: u32 = 0xfeed_f00d;

/// What is remembered of an execution to judge what comes out of it.
#[derive(Debug, Default)]
pub struct Memory {
    /// Tuples of packets as a place sends them: those that it sent, and the answers to those that it got.
    conversations: HashSet<(Place, Tuple)>,
    /// TTL and sending MAC of marked packets in this batch.
    marked: HashMap<u64, (u8, Mac)>,
    /// Ports that sent something to a service in this batch: a pod may be its own backend, and can never block itself.
    to_service: HashSet<PortId>,
    /// Somebody outside sends with the Tier-0's MAC: what leaves on his network may be his own.
    impostor: bool,
    /// A frame of this batch was broken, or waits: what leaves may be broken too.
    pub tainted: bool,
}

/// Where somebody speaks: a pod's port, or outside, where hosts share a network that nobody guards and can take each other's
/// addresses (`None`).
type Place = Option<PortId>;

fn place(lab: &Lab, port: PortId) -> Place {
    let outside = lab.stations.iter().any(|s| s.port == port && s.outside);
    (!outside).then_some(port)
}

impl Memory {
    /// Takes note of a batch that is about to go in.
    pub fn sent(&mut self, lab: &Lab, batch: &[(PortId, Frame)]) {
        self.marked.clear();
        self.to_service.clear();
        self.impostor = false;
        for (port, frame) in batch {
            let Ok(headers) = parse(&frame.bytes) else { continue };
            self.impostor |= headers.src_mac == lab.uplink || headers.src_mac == lab.gateway;
            self.tainted |= !packet::verify_transport(&frame.bytes, &headers);
            let Some(ip) = headers.ip() else { continue };
            if within(&SERVICES, ip.dst) {
                self.to_service.insert(*port);
            }
            if ip.embedded().is_none() {
                self.conversations.insert((place(lab, *port), Tuple::of(ip)));
            }
            if let Some(marker) = marker(frame, ip) {
                // A packet and a forged copy of it: only the larger TTL bounds what comes out.
                let largest = self.marked.entry(marker).or_insert((ip.ttl, headers.src_mac));
                *largest = (*largest).max((ip.ttl, headers.src_mac));
            }
        }
    }

    /// Judges what came out.
    ///
    /// # Errors
    /// What is wrong, with the frame.
    pub fn judge(
        &mut self,
        lab: &Lab,
        configuration: usize,
        out: &[(PortId, Frame)],
    ) -> Result<(), String> {
        for (port, frame) in out {
            self.judge_frame(lab, configuration, *port, frame).map_err(|why| {
                let what =
                    parse(&frame.bytes).map_or_else(|e| e.to_string(), |h| packet::describe(&h));
                format!(
                    "{why}\n  at port {}, configuration {configuration}: {what}\n  {:02x?}",
                    port.0, frame.bytes
                )
            })?;
        }
        Ok(())
    }

    fn judge_frame(
        &mut self,
        lab: &Lab,
        configuration: usize,
        port: PortId,
        frame: &Frame,
    ) -> Result<(), String> {
        let headers = parse(&frame.bytes).map_err(|e| format!("what left does not parse: {e}"))?;
        if headers.ip().is_some_and(|ip| !ip.options) {
            checksums::right(&frame.bytes, !self.tainted)?;
        }
        let station = lab.stations.iter().position(|s| s.port == port);
        let routed = [lab.gateway, lab.uplink].contains(&headers.src_mac);
        let outside = station.and_then(|i| lab.stations.get(i)).is_some_and(|s| s.outside);
        match station {
            Some(VAULT) => to_vault(lab, &headers)?,
            Some(WEB) if configuration == SEALED => {
                to_sealed(lab, &headers, self.to_service.contains(&port))?;
            }
            _ => {}
        }
        let Some(ip) = headers.ip() else { return Ok(()) };
        if outside && routed && !self.impostor {
            no_leak(lab, ip)?;
        }
        if let Some(quote) = ip.embedded() {
            let quoted = Tuple {
                src: quote.src,
                dst: quote.dst,
                protocol: quote.protocol,
                src_port: quote.src_port,
                dst_port: quote.dst_port,
            };
            let at = place(lab, port);
            // What goes from one host outside to another is routed like any packet: nobody has state there.
            let ours = !outside || is_inside(ip.src);
            let known = self.conversations.contains(&(at, quoted));
            if ours && routed && !self.impostor && !known {
                return Err(format!("an ICMP error about {quoted}, which its receiver never sent"));
            }
        } else {
            self.conversations.insert((place(lab, port), Tuple::of(ip).reversed()));
        }
        if let Some((ttl, from)) = marker(frame, ip).and_then(|m| self.marked.get(&m))
            && routed
            && *from != headers.src_mac
            && ip.ttl >= *ttl
        {
            return Err(format!("routed, and its TTL went from {ttl} to {}", ip.ttl));
        }
        Ok(())
    }
}

/// The number by which a packet is recognized, if it has one: its last octets, unless a header is there.
fn marker(frame: &Frame, ip: &Ip) -> Option<u64> {
    let header = match ip.transport {
        Transport::Tcp(t) => usize::from(t.header_len),
        Transport::Udp(_) => 8,
        _ => return None,
    };
    if ip.fragment.is_some() || usize::from(ip.l4) + header + 8 > frame.bytes.len() {
        return None;
    }
    let number = u64::from_be_bytes(*frame.bytes.last_chunk()?);
    (number >> 32 == u64::from(MARKER)).then_some(number)
}

/// R22 (a): no pod, service or transit address outside, but a gateway's own ICMP errors, and pods under NO_SNAT.
fn no_leak(lab: &Lab, ip: &Ip) -> Result<(), String> {
    let hidden = within(&HIDDEN, ip.src);
    let own_error = ip.embedded().is_some() && lab.gateways.contains(&ip.src);
    let exempt = lab.stations.get(PARTNER).is_some_and(|p| ip.dst == p.v4);
    if hidden && !own_error && !exempt {
        return Err("an inside address left".into());
    }
    Ok(())
}

fn within(prefixes: &[&str], address: Addr) -> bool {
    prefixes.iter().filter_map(|p| p.parse::<Prefix>().ok()).any(|p| p.contains(address))
}

/// Whether an address is the cluster's: hidden, or one that it has outside.
fn is_inside(address: Addr) -> bool {
    within(&HIDDEN, address) || within(&["172.16.0.0/16"], address)
}

/// R22 (b), at the vault: from the client to its one port, errors about what it sent, and nothing else. It may begin nothing, so no
/// other reply can come either.
fn to_vault(lab: &Lab, headers: &Headers) -> Result<(), String> {
    let (Some(client), Some(vault)) = (lab.stations.get(CLIENT), lab.stations.get(VAULT)) else {
        return Err("the lab has no vault".into());
    };
    let Some(ip) = judged(headers)? else { return Ok(()) };
    let from_client = [client.v4, client.v6].contains(&ip.src);
    let allowed = match ip.transport {
        Transport::Tcp(t) => from_client && t.dst_port == VAULT_PORT,
        Transport::Udp(u) => from_client && u.dst_port == VAULT_PORT,
        // Of a datagram whose first fragment was allowed; its port is there.
        Transport::LaterFragment => {
            from_client && [protocol::TCP, protocol::UDP].contains(&ip.protocol)
        }
        _ => false,
    };
    if allowed || is_answer(ip, vault) {
        Ok(())
    } else {
        Err("it reached a pod whose policy denies it".into())
    }
}

/// R22 (b), at a pod that is sealed: errors and resets about what it sent, made before the firewall; what it sends to itself by a
/// service of its own (`to_service`), whose address is then the source; and nothing else.
fn to_sealed(lab: &Lab, headers: &Headers, to_service: bool) -> Result<(), String> {
    let Some(web) = lab.stations.get(WEB) else { return Err("the lab has no web".into()) };
    let Some(ip) = judged(headers)? else { return Ok(()) };
    let hairpin = to_service && within(&SERVICES, ip.src);
    if hairpin || is_answer(ip, web) {
        return Ok(());
    }
    Err("it reached a pod that is sealed".into())
}

/// The packet, if a firewall judges it: not address resolution.
fn judged(headers: &Headers) -> Result<Option<&Ip>, String> {
    match &headers.payload {
        Payload::Arp(_) => Ok(None),
        Payload::Other => Err("a protocol that no firewall judges reached a pod".into()),
        Payload::Ip(ip) => Ok(match ip.transport {
            Transport::Icmp(icmp)
                if matches!(
                    icmp.message,
                    IcmpMessage::NeighborSolicitation { .. }
                        | IcmpMessage::NeighborAdvertisement { .. }
                ) =>
            {
                None
            }
            _ => Some(ip),
        }),
    }
}

/// Made of a packet that the pod itself sent: an ICMP error that quotes it, or the reset of a service without members.
fn is_answer(ip: &Ip, pod: &Station) -> bool {
    let own: [Addr; 2] = [pod.v4, pod.v6];
    let quotes_it = ip.embedded().is_some_and(|quote| own.contains(&quote.src));
    let resets_it =
        ip.tcp().is_some_and(|t| t.flags & tcp_flags::RST != 0) && within(&SERVICES, ip.src);
    quotes_it || resets_it
}
