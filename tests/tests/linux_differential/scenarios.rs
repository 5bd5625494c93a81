//! What is said over both networks.
//!
//! A scenario is written for Linux: it names every packet sent, and at which ends how many arrive. It begins
//! where nothing is known of any connection.

use std::net::Ipv4Addr;

use crate::packet::{ACK, Endpoint, FIN, Ip, PSH, RST, SYN, UDP};
use crate::wire::End::{Client, Other, Server, Web};
use crate::wire::{End, Talk};

pub const RED_OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 2, 3);
const BLUE_OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 2, 2);
const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 50);
const EMPTY: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 51);
const VIP: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 1);
/// Another router of the outside.
pub const SOMEWHERE: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 77);
/// Where no route leads.
const NOWHERE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);

/// The source port and echo identifier of most packets.
pub const PORT: u16 = 20_000;
/// The ports of the services' member. A NAT gives out none below 1024 to a flow that has one above: they cannot
/// be taken for its choice.
const MEMBER_TCP: u16 = 808;
const MEMBER_UDP: u16 = 535;
/// Ports of the member that a rule rejects, and those of the services in front of them.
const REJECTED_TCP: u16 = 81;
const REJECTED_UDP: u16 = 54;
pub const MEMBER_PORTS: [u16; 4] = [MEMBER_TCP, MEMBER_UDP, REJECTED_TCP, REJECTED_UDP];
const TO_REJECTED_TCP: u16 = 90;
const TO_REJECTED_UDP: u16 = 91;

/// What is said; `None` if Linux does something else than the scenario says.
pub type Conversation = fn(&mut Talk<'_>) -> Option<()>;

/// A named conversation.
pub struct Scenario {
    pub name: &'static str,
    pub play: Conversation,
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let scenarios: [(&'static str, Conversation); 53] = [
        ("udp-out-and-back", udp_out_and_back),
        ("udp-port-taken", udp_port_taken),
        ("udp-one-port-two-servers", udp_one_port_two_servers),
        ("udp-checksum-zero", udp_checksum_zero),
        ("udp-checksum-wrong", udp_checksum_wrong),
        ("tcp-handshake-data-fin", tcp_handshake_data_fin),
        ("tcp-port-taken", tcp_port_taken),
        ("tcp-reset", tcp_reset),
        ("tcp-reset-off-window", tcp_reset_off_window),
        ("tcp-illegal-flags", tcp_illegal_flags),
        ("echo-out-and-back", echo_out_and_back),
        ("echo-identifier-taken", echo_identifier_taken),
        ("traceroute", traceroute),
        ("ttl-1-to-a-cluster-ip", ttl_1_to_a_cluster_ip),
        ("ttl-2-to-a-vip", ttl_2_to_a_vip),
        ("too-large-df", too_large_df),
        ("too-large-cut", too_large_cut),
        ("fragments-in-order", fragments_in_order),
        ("fragments-out-of-order", fragments_out_of_order),
        ("fragments-to-a-cluster-ip", fragments_to_a_cluster_ip),
        ("fragments-that-overlap", fragments_that_overlap),
        ("fragment-without-a-first", fragment_without_a_first),
        ("icmp-error-from-outside", icmp_error_from_outside),
        ("icmp-error-from-a-router", icmp_error_from_a_router),
        ("icmp-error-unmatched", icmp_error_unmatched),
        ("denied-inbound", denied_inbound),
        ("allowed-inbound", allowed_inbound),
        ("from-outside-to-a-pod", from_outside_to_a_pod),
        ("bare-ack", bare_ack),
        ("bare-fin-and-reset", bare_fin_and_reset),
        ("reject-tcp", reject_tcp),
        ("reject-udp", reject_udp),
        ("reject-by-a-rule", reject_by_a_rule),
        ("reject-behind-a-cluster-ip", reject_behind_a_cluster_ip),
        ("reject-behind-a-vip", reject_behind_a_vip),
        ("cluster-ip-tcp", cluster_ip_tcp),
        ("cluster-ip-udp", cluster_ip_udp),
        ("cluster-ip-then-its-member", cluster_ip_then_its_member),
        ("cluster-ip-hairpin", cluster_ip_hairpin),
        ("vip-from-outside", vip_from_outside),
        ("vip-from-a-pod", vip_from_a_pod),
        ("vip-hairpin", vip_hairpin),
        ("closed-port-behind-a-cluster-ip", closed_port_behind_a_cluster_ip),
        ("closed-port-behind-a-vip", closed_port_behind_a_vip),
        ("unsolicited-udp-to-the-snat-address", unsolicited_udp),
        ("unsolicited-tcp-to-the-snat-address", unsolicited_tcp),
        ("unsolicited-ping-to-the-snat-address", unsolicited_ping),
        ("hairpin-to-the-snat-address", hairpin_to_the_snat_address),
        ("another-server-answers", another_server_answers),
        ("no-route", no_route),
        ("gateway", gateway),
        ("gateway-closed-tcp-port", gateway_closed_tcp_port),
        ("ip-options", ip_options),
    ];
    let all = scenarios.into_iter().chain(crate::nat::all());
    all.map(|(name, play)| Scenario { name, play }).collect()
}

pub fn at(end: End, port: u16) -> Endpoint {
    (end.address(), port)
}

/// The first 28 octets: header and 8 octets, the least that is quoted (RFC 792).
pub fn least_quote(packet: &Ip) -> Vec<u8> {
    packet.bytes()[..28].to_vec()
}

/// The answer to `packet`: endpoints swapped.
pub fn udp_reply(packet: &Ip, data: &[u8]) -> Ip {
    Ip::udp(packet.to(), packet.from(), data)
}

/// A TCP connection as seen at its two ends; sequence numbers of client and server begin at 1000 and 5000.
pub struct Connection {
    pub client: (End, Endpoint, Endpoint),
    pub server: (End, Endpoint, Endpoint),
}

impl Connection {
    /// The three-way handshake.
    pub fn open(
        talk: &mut Talk<'_>,
        from: End,
        own: Endpoint,
        to: Endpoint,
        at: End,
    ) -> Option<Self> {
        let syn = talk.one(from, Ip::tcp(own, to, SYN, 1000, 0, b""), at)?;
        let connection = Connection { client: (from, own, to), server: (at, syn.to(), syn.from()) };
        connection.server_says(talk, SYN | ACK, 5000, 1001, b"")?;
        connection.client_says(talk, ACK, 1001, 5001, b"")?;
        Some(connection)
    }

    pub fn client_segment(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Ip {
        Ip::tcp(self.client.1, self.client.2, flags, seq, ack, data)
    }

    pub fn server_segment(&self, flags: u8, seq: u32, ack: u32, data: &[u8]) -> Ip {
        Ip::tcp(self.server.1, self.server.2, flags, seq, ack, data)
    }

    pub fn client_says(
        &self,
        talk: &mut Talk<'_>,
        flags: u8,
        seq: u32,
        ack: u32,
        data: &[u8],
    ) -> Option<Ip> {
        talk.one(self.client.0, self.client_segment(flags, seq, ack, data), self.server.0)
    }

    pub fn server_says(
        &self,
        talk: &mut Talk<'_>,
        flags: u8,
        seq: u32,
        ack: u32,
        data: &[u8],
    ) -> Option<Ip> {
        talk.one(self.server.0, self.server_segment(flags, seq, ack, data), self.client.0)
    }
}

fn udp_out_and_back(talk: &mut Talk<'_>) -> Option<()> {
    // Class of service and ECN of both directions are kept.
    let question = Ip::udp(at(Client, PORT), at(Server, 53), b"question").tos(0xb9);
    let out = talk.one(Client, question.clone(), Server)?;
    talk.one(Server, udp_reply(&out, b"answer").tos(0x02), Client)?;
    talk.one(Client, question, Server)?;
    // As a last hop's neighbour would send it.
    talk.one(Server, udp_reply(&out, b"answer").ttl(3), Client).map(|_| ())
}

fn udp_port_taken(talk: &mut Talk<'_>) -> Option<()> {
    let first = talk.one(Client, Ip::udp(at(Client, PORT), at(Server, 53), b"client"), Server)?;
    let second = talk.one(Other, Ip::udp(at(Other, PORT), at(Server, 53), b"other"), Server)?;
    assert_ne!(first.from(), second.from(), "two flows with one name");
    assert!(second.src_port() >= 1024, "a well-known port was given out");
    talk.one(Server, udp_reply(&second, b"for other"), Other)?;
    talk.one(Server, udp_reply(&first, b"for client"), Client).map(|_| ())
}

fn udp_one_port_two_servers(talk: &mut Talk<'_>) -> Option<()> {
    talk.one(Client, Ip::udp(at(Client, PORT), at(Server, 53), b"client"), Server)?;
    // Another port of the server is another destination: no reason for another source PORT.
    let second = talk.one(Other, Ip::udp(at(Other, PORT), at(Server, 54), b"other"), Server)?;
    talk.one(Server, udp_reply(&second, b"for other"), Other).map(|_| ())
}

fn udp_checksum_zero(talk: &mut Talk<'_>) -> Option<()> {
    let without = |mut packet: Ip| {
        packet.payload[6..8].copy_from_slice(&[0, 0]);
        packet
    };
    let question = Ip::udp(at(Client, PORT), at(Server, 53), b"question");
    let out = talk.one(Client, without(question), Server)?;
    talk.one(Server, without(udp_reply(&out, b"answer")), Client)?;
    // To a ClusterIP.
    let question = Ip::udp(at(Client, PORT), (CLUSTER_IP, 53), b"question");
    talk.one(Client, without(question), Web).map(|_| ())
}

fn udp_checksum_wrong(talk: &mut Talk<'_>) -> Option<()> {
    let mut question = Ip::udp(at(Client, PORT), at(Server, 53), b"question");
    question.payload[8] ^= 1;
    talk.none(Client, question)
}

fn tcp_handshake_data_fin(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Client, at(Client, PORT), at(Server, 80), Server)?;
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, ACK, 5001, 1006, b"")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page")?;
    c.server_says(talk, FIN | ACK, 5005, 1006, b"")?;
    c.client_says(talk, ACK, 1006, 5006, b"")?;
    c.client_says(talk, FIN | ACK, 1006, 5006, b"")?;
    c.server_says(talk, ACK, 5006, 1007, b"").map(|_| ())
}

fn tcp_port_taken(talk: &mut Talk<'_>) -> Option<()> {
    let first = Connection::open(talk, Client, at(Client, PORT), at(Server, 80), Server)?;
    let second = Connection::open(talk, Other, at(Other, PORT), at(Server, 80), Server)?;
    second.server_says(talk, PSH | ACK, 5001, 1001, b"for other")?;
    first.server_says(talk, PSH | ACK, 5001, 1001, b"for client").map(|_| ())
}

fn tcp_reset(talk: &mut Talk<'_>) -> Option<()> {
    // A closed PORT.
    let syn = Ip::tcp(at(Client, PORT), at(Server, 81), SYN, 1000, 0, b"");
    let out = talk.one(Client, syn, Server)?;
    talk.one(Server, Ip::tcp(out.to(), out.from(), RST | ACK, 0, 1001, b""), Client)?;
    // An open connection that one side drops.
    let c = Connection::open(talk, Client, at(Client, PORT + 1), at(Server, 80), Server)?;
    c.client_says(talk, RST | ACK, 1001, 5001, b"")?;
    // What the other side sent before it knew.
    c.server_says(talk, PSH | ACK, 5001, 1001, b"late").map(|_| ())
}

fn tcp_reset_off_window(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Client, at(Client, PORT), at(Server, 80), Server)?;
    talk.none(Server, c.server_segment(RST, 3_000_000_000, 0, b""))?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"still there").map(|_| ())
}

fn tcp_illegal_flags(talk: &mut Talk<'_>) -> Option<()> {
    for (port, flags) in (PORT..).zip([SYN | FIN, SYN | RST, FIN, 0, FIN | PSH | 0x20]) {
        talk.none(Client, Ip::tcp(at(Client, port), at(Server, 80), flags, 1000, 0, b""))?;
    }
    Some(())
}

fn echo_out_and_back(talk: &mut Talk<'_>) -> Option<()> {
    let request = Ip::echo(Client.address(), Server.address(), 8, PORT, b"ping data");
    let out = talk.one(Client, request, Server)?;
    let reply = Ip::echo(out.dst, out.src, 0, out.src_port(), b"ping data");
    talk.one(Server, reply, Client).map(|_| ())
}

fn echo_identifier_taken(talk: &mut Talk<'_>) -> Option<()> {
    let request = |from: End| Ip::echo(from.address(), Server.address(), 8, PORT, b"ping");
    let reply = |out: &Ip| Ip::echo(out.dst, out.src, 0, out.src_port(), b"ping");
    let first = talk.one(Client, request(Client), Server)?;
    let second = talk.one(Other, request(Other), Server)?;
    assert_ne!(first.src_port(), second.src_port(), "two flows with one name");
    talk.one(Server, reply(&second), Other)?;
    talk.one(Server, reply(&first), Client).map(|_| ())
}

fn traceroute(talk: &mut Talk<'_>) -> Option<()> {
    let probe = |ttl| Ip::udp(at(Client, PORT), at(Server, 33_434), b"probe").ttl(ttl);
    talk.one(Client, probe(1), Client)?;
    talk.one(Client, probe(2), Client)?;
    let out = talk.one(Client, probe(3), Server)?;
    let unreachable = Ip::error(out.dst, out.src, (3, 3), 0, &out.bytes());
    talk.one(Server, unreachable, Client).map(|_| ())
}

fn ttl_1_to_a_cluster_ip(talk: &mut Talk<'_>) -> Option<()> {
    talk.one(Client, Ip::udp(at(Client, PORT), (CLUSTER_IP, 53), b"probe").ttl(1), Client)?;
    Some(())
}

fn ttl_2_to_a_vip(talk: &mut Talk<'_>) -> Option<()> {
    talk.one(Server, Ip::udp(at(Server, PORT), (VIP, 53), b"probe").ttl(1), Server)?;
    talk.one(Server, Ip::udp(at(Server, PORT), (VIP, 53), b"probe").ttl(2), Server)?;
    Some(())
}

fn too_large_df(talk: &mut Talk<'_>) -> Option<()> {
    // The Tier-0's link outside takes 1,300 octets.
    let large = Ip::udp(at(Client, PORT), at(Server, 53), &[7; 1373]).dont_fragment();
    talk.one(Client, large, Client)?;
    let fits = Ip::udp(at(Client, PORT), at(Server, 53), &[7; 1272]).dont_fragment();
    talk.one(Client, fits, Server).map(|_| ())
}

fn too_large_cut(talk: &mut Talk<'_>) -> Option<()> {
    let large = Ip::udp(at(Client, PORT), at(Server, 53), &[7; 1373]);
    talk.exchange(Client, &[large], &[Server, Server]).map(|_| ())
}

fn fragments_in_order(talk: &mut Talk<'_>) -> Option<()> {
    let pieces = Ip::udp(at(Client, PORT), at(Server, 53), &[5; 1000]).fragments(&[400, 800]);
    let out = talk.exchange(Client, &pieces, &[Server; 3])?;
    let back = udp_reply(&out[0], &[6; 1000]).fragments(&[400, 800]);
    talk.exchange(Server, &back, &[Client; 3]).map(|_| ())
}

fn fragments_out_of_order(talk: &mut Talk<'_>) -> Option<()> {
    let mut pieces = Ip::udp(at(Client, PORT), at(Server, 53), &[5; 1000]).fragments(&[400, 800]);
    pieces.rotate_left(1);
    let out = talk.exchange(Client, &pieces, &[Server; 3])?;
    let first = out.iter().find(|piece| piece.offset == 0)?;
    let mut back = udp_reply(first, &[6; 1000]).fragments(&[400]);
    back.reverse();
    talk.exchange(Server, &back, &[Client; 2]).map(|_| ())
}

fn fragments_to_a_cluster_ip(talk: &mut Talk<'_>) -> Option<()> {
    let pieces = Ip::udp(at(Client, PORT), (CLUSTER_IP, 53), &[5; 1000]).fragments(&[400]);
    let there = talk.exchange(Client, &pieces, &[Web; 2])?;
    let back = udp_reply(&there[0], &[6; 1000]).fragments(&[800]);
    talk.exchange(Web, &back, &[Client; 2]).map(|_| ())
}

fn fragments_that_overlap(talk: &mut Talk<'_>) -> Option<()> {
    let whole = Ip::udp(at(Client, PORT), at(Server, 53), &[5; 1000]);
    let mut pieces = whole.fragments(&[400]);
    // Eight octets too early.
    let later = Ip { id: pieces[1].id, ..whole.fragments(&[392])[1].clone() };
    pieces[1] = later;
    talk.exchange(Client, &pieces, &[]).map(|_| ())
}

fn fragment_without_a_first(talk: &mut Talk<'_>) -> Option<()> {
    // Another protocol than that of the scenarios before, whose unfinished datagrams Linux still keeps.
    let pieces =
        Ip::tcp(at(Client, PORT), at(Server, 80), SYN, 1000, 0, &[0; 100]).fragments(&[64]);
    talk.none(Client, pieces[1].clone())
}

fn icmp_error_from_outside(talk: &mut Talk<'_>) -> Option<()> {
    let out = talk.one(Client, Ip::udp(at(Client, PORT), at(Server, 54), b"anybody?"), Server)?;
    let whole = Ip::error(out.dst, out.src, (3, 3), 0, &out.bytes());
    talk.one(Server, whole, Client)?;
    // The least that may be quoted.
    let least = Ip::error(out.dst, out.src, (3, 3), 0, &least_quote(&out));
    talk.one(Server, least, Client)?;
    // About a flow whose port was changed.
    let out = talk.one(Other, Ip::udp(at(Other, PORT), at(Server, 54), b"anybody?"), Server)?;
    let changed = Ip::error(out.dst, out.src, (3, 3), 0, &out.bytes());
    talk.one(Server, changed, Other)?;
    // About a ping.
    let request = Ip::echo(Client.address(), Server.address(), 8, PORT, b"ping");
    let out = talk.one(Client, request, Server)?;
    let prohibited = Ip::error(out.dst, out.src, (3, 13), 0, &out.bytes());
    talk.one(Server, prohibited, Client).map(|_| ())
}

fn icmp_error_from_a_router(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Client, at(Client, PORT), at(Server, 80), Server)?;
    let out = c.client_says(talk, PSH | ACK, 1001, 5001, &[1; 900])?;
    let too_large = Ip::error(SOMEWHERE, out.src, (3, 4), 600, &least_quote(&out));
    talk.one(Server, too_large, Client)?;
    // It ends nothing.
    c.server_says(talk, ACK, 5001, 1901, b"").map(|_| ())
}

fn icmp_error_unmatched(talk: &mut Talk<'_>) -> Option<()> {
    let never_sent = Ip::udp((RED_OUTSIDE, PORT), at(Server, 53), b"never sent");
    let error = Ip::error(Server.address(), RED_OUTSIDE, (3, 3), 0, &never_sent.bytes());
    talk.none(Server, error)
}

fn denied_inbound(talk: &mut Talk<'_>) -> Option<()> {
    let web = |port| at(Web, port);
    talk.none(Client, Ip::tcp(at(Client, PORT), web(22), SYN, 1000, 0, b""))?;
    talk.none(Client, Ip::udp(at(Client, PORT), web(53), b"question"))?;
    talk.none(Client, Ip::echo(Client.address(), Web.address(), 8, PORT, b"ping"))?;
    // Into the namespace that nobody may begin with.
    talk.none(Web, Ip::tcp(web(PORT), at(Client, MEMBER_TCP), SYN, 1000, 0, b""))
}

fn allowed_inbound(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Client, at(Client, PORT), at(Web, MEMBER_TCP), Web)?;
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page")?;
    let question = Ip::udp(at(Other, PORT), at(Web, MEMBER_UDP), b"question");
    let there = talk.one(Other, question, Web)?;
    talk.one(Web, udp_reply(&there, b"answer"), Other)?;
    // The way of the answer is no way to begin.
    talk.none(Web, Ip::udp(at(Web, MEMBER_UDP), at(Other, PORT + 1), b"no answer"))
}

fn from_outside_to_a_pod(talk: &mut Talk<'_>) -> Option<()> {
    talk.none(Server, Ip::tcp(at(Server, PORT), at(Web, MEMBER_TCP), SYN, 1000, 0, b""))?;
    talk.none(Server, Ip::udp(at(Server, PORT), at(Web, MEMBER_UDP), b"question"))
}

fn bare_ack(talk: &mut Talk<'_>) -> Option<()> {
    let ack = |to| Ip::tcp(at(Client, PORT), to, ACK, 1000, 5000, b"");
    // To a port that is denied, to one that is allowed, through SNAT, and to services.
    for to in [at(Web, 22), at(Web, MEMBER_TCP), at(Server, 80), (CLUSTER_IP, 80), (EMPTY, 80)] {
        talk.none(Client, ack(to))?;
    }
    talk.one(Server, Ip::tcp(at(Server, PORT), (VIP, 80), ACK, 1000, 5000, b""), Server).map(|_| ())
}

fn bare_fin_and_reset(talk: &mut Talk<'_>) -> Option<()> {
    for flags in [FIN | ACK, RST, RST | ACK, SYN | ACK] {
        for to in [at(Web, MEMBER_TCP), at(Server, 80)] {
            talk.none(Client, Ip::tcp(at(Client, PORT), to, flags, 1000, 5000, b""))?;
        }
    }
    Some(())
}

fn reject_tcp(talk: &mut Talk<'_>) -> Option<()> {
    // The reset acknowledges the SYN and the data it brings.
    talk.one(Client, Ip::tcp(at(Client, PORT), (EMPTY, 80), SYN, 1000, 0, b""), Client)?;
    let data = Ip::tcp(at(Client, PORT + 1), (EMPTY, 80), SYN, u32::MAX, 0, b"fast open");
    talk.one(Client, data, Client).map(|_| ())
}

fn reject_udp(talk: &mut Talk<'_>) -> Option<()> {
    let question = Ip::udp(at(Client, PORT), (EMPTY, 53), b"question").tos(0x20);
    talk.one(Client, question, Client)?;
    // Of a large datagram not everything is quoted.
    let large = Ip::udp(at(Client, PORT + 1), (EMPTY, 53), &[9; 1000]);
    talk.one(Client, large, Client).map(|_| ())
}

fn reject_by_a_rule(talk: &mut Talk<'_>) -> Option<()> {
    let to = at(Web, REJECTED_TCP);
    talk.one(Client, Ip::tcp(at(Client, PORT), to, SYN, 1000, 0, b""), Client)?;
    let question = Ip::udp(at(Client, PORT), at(Web, REJECTED_UDP), b"question");
    talk.one(Client, question, Client).map(|_| ())
}

fn reject_behind_a_cluster_ip(talk: &mut Talk<'_>) -> Option<()> {
    let to = (CLUSTER_IP, TO_REJECTED_TCP);
    talk.one(Client, Ip::tcp(at(Client, PORT), to, SYN, 1000, 0, b""), Client)?;
    let question = Ip::udp(at(Client, PORT), (CLUSTER_IP, TO_REJECTED_UDP), b"question");
    talk.one(Client, question, Client).map(|_| ())
}

fn reject_behind_a_vip(talk: &mut Talk<'_>) -> Option<()> {
    let to = (VIP, TO_REJECTED_TCP);
    talk.one(Server, Ip::tcp(at(Server, PORT), to, SYN, 1000, 0, b""), Server)?;
    let question = Ip::udp(at(Server, PORT), (VIP, TO_REJECTED_UDP), b"question");
    talk.one(Server, question, Server).map(|_| ())
}

fn cluster_ip_tcp(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Client, at(Client, PORT), (CLUSTER_IP, 80), Web)?;
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page")?;
    c.client_says(talk, FIN | ACK, 1006, 5005, b"")?;
    c.server_says(talk, FIN | ACK, 5005, 1007, b"")?;
    c.client_says(talk, ACK, 1007, 5006, b"").map(|_| ())
}

fn cluster_ip_udp(talk: &mut Talk<'_>) -> Option<()> {
    let there = talk.one(Client, Ip::udp(at(Client, PORT), (CLUSTER_IP, 53), b"question"), Web)?;
    talk.one(Web, udp_reply(&there, b"answer"), Client)?;
    // From one port to the member itself, then to the service: two flows, each with its own replies.
    let next = PORT + 1;
    let direct =
        talk.one(Client, Ip::udp(at(Client, next), at(Web, MEMBER_UDP), b"direct"), Web)?;
    let there = talk.one(Client, Ip::udp(at(Client, next), (CLUSTER_IP, 53), b"question"), Web)?;
    assert_ne!(direct.from(), there.from(), "two flows with one name");
    talk.one(Web, udp_reply(&there, b"answer"), Client)?;
    talk.one(Web, udp_reply(&direct, b"directly"), Client).map(|_| ())
}

fn cluster_ip_then_its_member(talk: &mut Talk<'_>) -> Option<()> {
    let there = talk.one(Client, Ip::udp(at(Client, PORT), (CLUSTER_IP, 53), b"question"), Web)?;
    let direct =
        talk.one(Client, Ip::udp(at(Client, PORT), at(Web, MEMBER_UDP), b"direct"), Web)?;
    assert_ne!(direct.from(), there.from(), "two flows with one name");
    talk.one(Web, udp_reply(&direct, b"directly"), Client).map(|_| ())
}

fn cluster_ip_hairpin(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Web, at(Web, PORT), (CLUSTER_IP, 80), Web)?;
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page").map(|_| ())
}

fn vip_from_outside(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Server, at(Server, PORT), (VIP, 80), Web)?;
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page")?;
    let there = talk.one(Server, Ip::udp(at(Server, PORT), (VIP, 53), b"question"), Web)?;
    talk.one(Web, udp_reply(&there, b"answer"), Server)?;
    // Ping is answered by the address itself.
    talk.one(Server, Ip::echo(Server.address(), VIP, 8, PORT, b"ping"), Server)?;
    // A port that the service does not have.
    talk.one(Server, Ip::tcp(at(Server, PORT), (VIP, 81), SYN, 1000, 0, b""), Server).map(|_| ())
}

fn vip_from_a_pod(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Client, at(Client, PORT), (VIP, 80), Web)?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"page")?;
    // Both arrive with the balancer's address: two ports.
    let second = Connection::open(talk, Other, at(Other, PORT), (VIP, 80), Web)?;
    second.server_says(talk, PSH | ACK, 5001, 1001, b"page").map(|_| ())
}

fn vip_hairpin(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Web, at(Web, PORT), (VIP, 80), Web)?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"page").map(|_| ())
}

fn closed_port_behind_a_cluster_ip(talk: &mut Talk<'_>) -> Option<()> {
    let there = talk.one(Client, Ip::udp(at(Client, PORT), (CLUSTER_IP, 53), b"question"), Web)?;
    let error = Ip::error(there.dst, there.src, (3, 3), 0, &there.bytes());
    talk.one(Web, error, Client)?;
    let syn = Ip::tcp(at(Client, PORT), (CLUSTER_IP, 80), SYN, 1000, 0, b"");
    let there = talk.one(Client, syn, Web)?;
    let reset = Ip::tcp(there.to(), there.from(), RST | ACK, 0, 1001, b"");
    talk.one(Web, reset, Client).map(|_| ())
}

fn closed_port_behind_a_vip(talk: &mut Talk<'_>) -> Option<()> {
    let there = talk.one(Server, Ip::udp(at(Server, PORT), (VIP, 53), b"question"), Web)?;
    let error = Ip::error(there.dst, there.src, (3, 3), 0, &there.bytes());
    talk.one(Web, error, Server)?;
    let there = talk.one(Client, Ip::udp(at(Client, PORT), (VIP, 53), b"question"), Web)?;
    let error = Ip::error(there.dst, there.src, (3, 3), 0, &least_quote(&there));
    talk.one(Web, error, Client).map(|_| ())
}

fn unsolicited_udp(talk: &mut Talk<'_>) -> Option<()> {
    talk.one(Server, Ip::udp(at(Server, PORT), (BLUE_OUTSIDE, MEMBER_UDP), b"hello"), Server)
        .map(|_| ())
}

fn unsolicited_tcp(talk: &mut Talk<'_>) -> Option<()> {
    let syn = Ip::tcp(at(Server, PORT), (BLUE_OUTSIDE, MEMBER_TCP), SYN, 1000, 0, b"");
    talk.one(Server, syn, Server).map(|_| ())
}

fn unsolicited_ping(talk: &mut Talk<'_>) -> Option<()> {
    let request = Ip::echo(Server.address(), BLUE_OUTSIDE, 8, PORT, b"ping");
    talk.one(Server, request, Server).map(|_| ())
}

fn hairpin_to_the_snat_address(talk: &mut Talk<'_>) -> Option<()> {
    talk.one(Other, Ip::udp(at(Other, PORT), at(Server, 53), b"a binding"), Server)?;
    talk.one(Client, Ip::udp(at(Client, PORT), (RED_OUTSIDE, PORT), b"hello"), Client).map(|_| ())
}

fn another_server_answers(talk: &mut Talk<'_>) -> Option<()> {
    let out = talk.one(Client, Ip::udp(at(Client, PORT), at(Server, 53), b"question"), Server)?;
    talk.one(Server, udp_reply(&out, b"answer"), Client)?;
    let stranger = Ip::udp(at(Server, 54), out.from(), b"unasked");
    talk.one(Server, stranger, Server).map(|_| ())
}

fn no_route(talk: &mut Talk<'_>) -> Option<()> {
    talk.one(Client, Ip::udp(at(Client, PORT), (NOWHERE, 53), b"question"), Client)?;
    talk.one(Client, Ip::tcp(at(Client, PORT), (NOWHERE, 80), SYN, 1000, 0, b""), Client)
        .map(|_| ())
}

fn gateway(talk: &mut Talk<'_>) -> Option<()> {
    for end in [Client, Web, Server] {
        let request = Ip::echo(end.address(), end.gateway(), 8, PORT, b"ping").ttl(1);
        talk.one(end, request.dont_fragment(), end)?;
        talk.one(end, Ip::udp(at(end, PORT), (end.gateway(), 33_434), b"probe"), end)?;
    }
    Some(())
}

fn gateway_closed_tcp_port(talk: &mut Talk<'_>) -> Option<()> {
    let syn = Ip::tcp(at(Client, PORT), (Client.gateway(), 179), SYN, 1000, 0, b"");
    talk.one(Client, syn, Client).map(|_| ())
}

fn ip_options(talk: &mut Talk<'_>) -> Option<()> {
    let packet = Ip::udp(at(Client, PORT), at(Server, 53), b"question");
    assert_eq!(packet.protocol, UDP);
    // Three times "no operation", and the end.
    talk.one(Client, Ip { options: vec![1, 1, 1, 0], ..packet }, Server).map(|_| ())
}
