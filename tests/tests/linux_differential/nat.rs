//! What is said through the rules of `natRules` and `gatewayFirewall`.
//!
//! violet's pods are behind DNAT (`target`), SNAT to a pool (`pooled`) and one to one (`twin`).

use std::net::Ipv4Addr;

use crate::packet::{ACK, Endpoint, FIN, Ip, PSH, RST, SYN};
use crate::scenarios::{
    Connection, Conversation, PORT, RED_OUTSIDE, SOMEWHERE, at, least_quote, udp_reply,
};
use crate::wire::End::{Client, Other, Pooled, Server, Target, Twin};
use crate::wire::{End, Talk};

/// All of `target`.
const WHOLE: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 91);
/// All of `pooled`, whom the firewall lets nobody begin with.
const TO_POOLED: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 92);
/// Ports of `target`.
const PORTS: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 80);
/// `target` in a network that is translated by offset.
const NETWORK_TARGET: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 99);
/// Of that network, but exempt.
const EXEMPT: Ipv4Addr = Ipv4Addr::new(172, 16, 1, 98);
/// The twin of `twin`.
const TWIN_OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 3, 52);
/// What the Tier-0 translates to `PORTS`: TCP 8000 to 80, UDP 9000 to 5003.
const FRONT: Ipv4Addr = Ipv4Addr::new(192, 168, 100, 50);
/// Where `target` and what else violet has leaves.
const VIOLET_OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 16, 2, 4);

/// Towards this port of UDP, `pooled` and `other` keep their addresses (NO_SNAT).
const KEPT: u16 = 531;

/// The addresses of the SNAT pool.
pub const POOL: [Ipv4Addr; 4] = [
    Ipv4Addr::new(172, 16, 2, 16),
    Ipv4Addr::new(172, 16, 2, 17),
    Ipv4Addr::new(172, 16, 2, 18),
    Ipv4Addr::new(172, 16, 2, 19),
];

/// The port that replaces 80, and those that replace the first, the fourth and the last of 5000 to 5009. Of well-known ports, as
/// those of the services.
const TARGET_TCP: u16 = 809;
const TARGET_UDP: [u16; 3] = [600, 603, 609];
pub const TRANSLATED_PORTS: [u16; 4] = [TARGET_TCP, TARGET_UDP[0], TARGET_UDP[1], TARGET_UDP[2]];

/// All of them.
pub fn all() -> [(&'static str, Conversation); 44] {
    [
        ("dnat-address", dnat_address),
        ("dnat-port", dnat_port),
        ("dnat-port-range", dnat_port_range),
        ("dnat-network", dnat_network),
        ("dnat-another-port", dnat_another_port),
        ("dnat-two-addresses", dnat_two_addresses),
        ("dnat-checksum-zero", dnat_checksum_zero),
        ("dnat-fragments", dnat_fragments),
        ("dnat-fragments-out-of-order", dnat_fragments_out_of_order),
        ("dnat-simultaneous-open", dnat_simultaneous_open),
        ("dnat-bare-segments", dnat_bare_segments),
        ("dnat-reset", dnat_reset),
        ("dnat-closed-port", dnat_closed_port),
        ("dnat-error-from-outside", dnat_error_from_outside),
        ("dnat-error-about-a-fragment", dnat_error_about_a_fragment),
        ("dnat-ttl", dnat_ttl),
        ("dnat-too-large-df", dnat_too_large_df),
        ("no-dnat", no_dnat),
        ("hairpin-dnat", hairpin_dnat),
        ("hairpin-dnat-one-interface", hairpin_dnat_one_interface),
        ("hairpin-dnat-to-itself", hairpin_dnat_to_itself),
        ("hairpin-dnat-no-snat", hairpin_dnat_no_snat),
        ("hairpin-dnat-no-snat-one-interface", hairpin_dnat_no_snat_one_interface),
        ("hairpin-dnat-no-snat-inside", hairpin_dnat_no_snat_inside),
        ("hairpin-dnat-fragments", hairpin_dnat_fragments),
        ("hairpin-dnat-simultaneous-open", hairpin_dnat_simultaneous_open),
        ("hairpin-dnat-errors", hairpin_dnat_errors),
        ("hairpin-reflexive", hairpin_reflexive),
        ("snat-pool", snat_pool),
        ("snat-simultaneous-open", snat_simultaneous_open),
        ("reflexive", reflexive),
        ("reflexive-in-mid-stream", reflexive_in_mid_stream),
        ("reflexive-bare-segments", reflexive_bare_segments),
        ("reflexive-fragments", reflexive_fragments),
        ("reflexive-error-inwards", reflexive_error_inwards),
        ("reflexive-error-outwards", reflexive_error_outwards),
        ("gateway-firewall-reject", gateway_firewall_reject),
        ("gateway-firewall-reject-outwards", gateway_firewall_reject_outwards),
        ("gateway-firewall-one-way", gateway_firewall_one_way),
        ("gateway-firewall-error", gateway_firewall_error),
        ("dnat-twice", dnat_twice),
        ("dnat-twice-and-once", dnat_twice_and_once),
        ("dnat-twice-fragments", dnat_twice_fragments),
        ("dnat-twice-errors", dnat_twice_errors),
    ]
}

/// A UDP question from the server.
fn question(port: u16, to: Endpoint) -> Ip {
    Ip::udp(at(Server, port), to, b"question")
}

/// There and back.
fn ask(talk: &mut Talk<'_>, from: End, question: Ip, to: End) -> Option<Ip> {
    let there = talk.one(from, question, to)?;
    talk.one(to, udp_reply(&there, b"answer"), from)?;
    Some(there)
}

/// A ping and its answer.
fn ping(talk: &mut Talk<'_>, from: End, to: Ipv4Addr, at: End) -> Option<()> {
    let there = talk.one(from, Ip::echo(from.address(), to, 8, PORT, b"ping"), at)?;
    let reply = Ip::echo(there.dst, there.src, 0, there.src_port(), b"ping");
    talk.one(at, reply, from).map(|_| ())
}

/// An error about `packet` by the end that it came to.
fn closed(packet: &Ip) -> Ip {
    Ip::error(packet.dst, packet.src, (3, 3), 0, &packet.bytes())
}

fn without_checksum(mut packet: Ip) -> Ip {
    packet.payload[6..8].copy_from_slice(&[0, 0]);
    packet
}

fn dnat_address(talk: &mut Talk<'_>) -> Option<()> {
    let there = ask(talk, Server, question(PORT, (WHOLE, 53)), Target)?;
    talk.meant(there.to() == at(Target, 53), "not that address");
    let c = Connection::open(talk, Server, at(Server, PORT), (WHOLE, 80), Target)?;
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page")?;
    c.server_says(talk, FIN | ACK, 5005, 1006, b"")?;
    c.client_says(talk, FIN | ACK, 1006, 5006, b"")?;
    c.server_says(talk, ACK, 5006, 1007, b"")?;
    ping(talk, Server, WHOLE, Target)?;
    // What the target begins leaves as the rest of its namespace does.
    let out = ask(talk, Target, Ip::udp(at(Target, PORT), at(Server, 53), b"question"), Server)?;
    talk.meant(out.src == VIOLET_OUTSIDE, "another address");
    Some(())
}

fn dnat_port(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Server, at(Server, PORT), (PORTS, 80), Target)?;
    talk.meant(c.server.1 == at(Target, TARGET_TCP), "not that port");
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page").map(|_| ())
}

fn dnat_port_range(talk: &mut Talk<'_>) -> Option<()> {
    for (port, translated) in [5000, 5003, 5009].into_iter().zip(TARGET_UDP) {
        let there = ask(talk, Server, question(PORT, (PORTS, port)), Target)?;
        talk.meant(there.to() == at(Target, translated), "not that port");
    }
    Some(())
}

fn dnat_network(talk: &mut Talk<'_>) -> Option<()> {
    ask(talk, Server, question(PORT, (NETWORK_TARGET, 53)), Target)?;
    ping(talk, Server, NETWORK_TARGET, Target)?;
    let c = Connection::open(talk, Server, at(Server, PORT), (NETWORK_TARGET, 80), Target)?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"page").map(|_| ())
}

fn dnat_another_port(talk: &mut Talk<'_>) -> Option<()> {
    for port in [4999, 5010] {
        talk.none(Server, question(PORT, (PORTS, port)))?;
    }
    let to = (PORTS, 5000);
    for from in [Server, Client] {
        talk.none(from, Ip::tcp(at(from, PORT), to, SYN, 1000, 0, b""))?;
        talk.none(from, Ip::echo(from.address(), PORTS, 8, PORT, b"ping"))?;
    }
    Some(())
}

fn dnat_two_addresses(talk: &mut Talk<'_>) -> Option<()> {
    let first = talk.one(Server, question(PORT, (WHOLE, 53)), Target)?;
    let second = talk.one(Server, question(PORT, (NETWORK_TARGET, 53)), Target)?;
    assert_ne!(first.from(), second.from(), "two flows with one name");
    talk.one(Target, udp_reply(&second, b"from the second"), Server)?;
    talk.one(Target, udp_reply(&first, b"from the first"), Server).map(|_| ())
}

fn dnat_checksum_zero(talk: &mut Talk<'_>) -> Option<()> {
    for to in [(WHOLE, 53), (PORTS, 5003), (NETWORK_TARGET, 54)] {
        let there = talk.one(Server, without_checksum(question(PORT, to)), Target)?;
        talk.one(Target, without_checksum(udp_reply(&there, b"answer")), Server)?;
    }
    // Turned around.
    let question = Ip::udp(at(Client, PORT), (PORTS, 5003), b"question");
    let there = talk.one(Client, without_checksum(question), Target)?;
    talk.one(Target, without_checksum(udp_reply(&there, b"answer")), Client)?;
    Some(())
}

fn dnat_fragments(talk: &mut Talk<'_>) -> Option<()> {
    for to in [(WHOLE, 53), (PORTS, 5003)] {
        let pieces = Ip::udp(at(Server, PORT), to, &[5; 1000]).fragments(&[400, 800]);
        let there = talk.exchange(Server, &pieces, &[Target; 3])?;
        let back = udp_reply(&there[0], &[6; 1000]).fragments(&[400, 800]);
        talk.exchange(Target, &back, &[Server; 3])?;
    }
    Some(())
}

fn dnat_fragments_out_of_order(talk: &mut Talk<'_>) -> Option<()> {
    let mut pieces = Ip::udp(at(Server, PORT), (PORTS, 5003), &[5; 1000]).fragments(&[400, 800]);
    pieces.rotate_left(1);
    let there = talk.exchange(Server, &pieces, &[Target; 3])?;
    let first = there.iter().find(|piece| piece.offset == 0)?;
    let mut back = udp_reply(first, &[6; 1000]).fragments(&[400]);
    back.reverse();
    talk.exchange(Target, &back, &[Server; 2]).map(|_| ())
}

/// RFC 9293, figure 7, as the router between them sees it: two SYNs, then two SYNs with ACK.
fn simultaneous_open(
    talk: &mut Talk<'_>,
    from: End,
    own: Endpoint,
    to: Endpoint,
    at: End,
) -> Option<()> {
    let syn = talk.one(from, Ip::tcp(own, to, SYN, 1000, 0, b""), at)?;
    let c = Connection { client: (from, own, to), server: (at, syn.to(), syn.from()) };
    c.server_says(talk, SYN, 5000, 0, b"")?;
    c.client_says(talk, SYN | ACK, 1000, 5001, b"")?;
    c.server_says(talk, SYN | ACK, 5000, 1001, b"")?;
    c.client_says(talk, PSH | ACK, 1001, 5001, b"hello")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"hello yourself").map(|_| ())
}

fn dnat_simultaneous_open(talk: &mut Talk<'_>) -> Option<()> {
    simultaneous_open(talk, Server, at(Server, PORT), (PORTS, 80), Target)
}

fn snat_simultaneous_open(talk: &mut Talk<'_>) -> Option<()> {
    simultaneous_open(talk, Client, at(Client, PORT), at(Server, 80), Server)?;
    simultaneous_open(talk, Pooled, at(Pooled, PORT), at(Server, 80), Server)
}

fn dnat_bare_segments(talk: &mut Talk<'_>) -> Option<()> {
    let bare = |from: End, port: u16, to: Endpoint| {
        let flags = [ACK, PSH | ACK, FIN | ACK, RST, RST | ACK, SYN | ACK];
        flags.map(|flags| Ip::tcp(at(from, port), to, flags, 1000, 5000, b""))
    };
    for to in [(WHOLE, 80), (PORTS, 80)] {
        talk.exchange(Server, &bare(Server, PORT, to), &[])?;
        talk.exchange(Client, &bare(Client, PORT, to), &[])?;
    }
    // Outwards, from a target.
    talk.exchange(Target, &bare(Target, 80, at(Server, PORT)), &[]).map(|_| ())
}

fn dnat_reset(talk: &mut Talk<'_>) -> Option<()> {
    // A closed port.
    let syn = Ip::tcp(at(Server, PORT), (PORTS, 80), SYN, 1000, 0, b"");
    let there = talk.one(Server, syn, Target)?;
    talk.one(Target, Ip::tcp(there.to(), there.from(), RST | ACK, 0, 1001, b""), Server)?;
    // Off the window it ends nothing.
    let c = Connection::open(talk, Server, at(Server, PORT + 1), (PORTS, 80), Target)?;
    talk.none(Server, c.client_segment(RST, 3_000_000_000, 0, b""))?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"still there")?;
    c.client_says(talk, RST | ACK, 1001, 5012, b"").map(|_| ())
}

fn dnat_closed_port(talk: &mut Talk<'_>) -> Option<()> {
    for to in [(WHOLE, 53), (PORTS, 5003), (NETWORK_TARGET, 54)] {
        let there = talk.one(Server, question(PORT, to), Target)?;
        talk.one(Target, closed(&there), Server)?;
        // The least that may be quoted.
        let least = Ip::error(there.dst, there.src, (3, 3), 0, &least_quote(&there));
        talk.one(Target, least, Server)?;
    }
    // About a datagram without checksum, and about a ping.
    let there = talk.one(Server, without_checksum(question(PORT, (PORTS, 5000))), Target)?;
    talk.one(Target, closed(&there), Server)?;
    let request = Ip::echo(Server.address(), WHOLE, 8, PORT, b"ping");
    let there = talk.one(Server, request, Target)?;
    let prohibited = Ip::error(there.dst, there.src, (3, 13), 0, &there.bytes());
    talk.one(Target, prohibited, Server).map(|_| ())
}

fn dnat_error_from_outside(talk: &mut Talk<'_>) -> Option<()> {
    for to in [(WHOLE, 53), (PORTS, 5003)] {
        // The server no longer listens for the answer.
        let there = talk.one(Server, question(PORT, to), Target)?;
        let answer = talk.one(Target, udp_reply(&there, b"answer"), Server)?;
        talk.one(Server, closed(&answer), Target)?;
    }
    // A router on the way, about a segment.
    let c = Connection::open(talk, Server, at(Server, PORT), (PORTS, 80), Target)?;
    let page = c.server_says(talk, PSH | ACK, 5001, 1001, &[1; 900])?;
    let too_large = Ip::error(SOMEWHERE, page.src, (3, 4), 600, &least_quote(&page));
    talk.one(Server, too_large, Target)?;
    c.client_says(talk, ACK, 1001, 5901, b"")?;
    // About what was never sent.
    let never_sent = Ip::udp((WHOLE, 54), at(Server, PORT), b"never sent");
    talk.none(Server, Ip::error(Server.address(), WHOLE, (3, 3), 0, &never_sent.bytes()))
}

fn dnat_error_about_a_fragment(talk: &mut Talk<'_>) -> Option<()> {
    let to = (PORTS, 5003);
    let pieces = Ip::udp(at(Server, PORT), to, &[5; 1000]).fragments(&[400]);
    let there = talk.exchange(Server, &pieces, &[Target; 2])?;
    // Both quote the first one.
    talk.one(Target, closed(&there[0]), Server)?;
    let late = Ip::error(there[0].dst, there[0].src, (11, 1), 0, &least_quote(&there[0]));
    talk.one(Target, late, Server)?;
    let back = udp_reply(&there[0], &[6; 1000]).fragments(&[400]);
    let answer = talk.exchange(Target, &back, &[Server; 2])?;
    talk.one(Server, closed(&answer[0]), Target)?;
    // Of a later one nobody can tell whose it is.
    talk.none(Server, closed(&answer[1]))
}

fn dnat_ttl(talk: &mut Talk<'_>) -> Option<()> {
    talk.one(Server, question(PORT, (WHOLE, 53)).ttl(1), Server)?;
    talk.one(Server, question(PORT, (WHOLE, 53)).ttl(2), Server)?;
    let there = talk.one(Server, question(PORT, (WHOLE, 53)).ttl(3), Target)?;
    // The answer ends at the Tier-0.
    talk.one(Target, udp_reply(&there, b"answer").ttl(2), Target).map(|_| ())
}

fn dnat_too_large_df(talk: &mut Talk<'_>) -> Option<()> {
    let there = talk.one(Server, question(PORT, (PORTS, 5003)), Target)?;
    let large = udp_reply(&there, &[7; 1373]).dont_fragment();
    talk.one(Target, large, Target)?;
    talk.exchange(Target, &[udp_reply(&there, &[7; 1373])], &[Server; 2]).map(|_| ())
}

fn no_dnat(talk: &mut Talk<'_>) -> Option<()> {
    talk.none(Server, question(PORT, (EXEMPT, 53)))?;
    talk.none(Server, Ip::tcp(at(Server, PORT), (EXEMPT, 80), SYN, 1000, 0, b""))?;
    // From inside neither: it does not leave and come back.
    talk.none(Client, Ip::udp(at(Client, PORT), (EXEMPT, 53), b"question"))?;
    // Of one service only.
    talk.none(Server, question(PORT, (WHOLE, 70)))?;
    let c = Connection::open(talk, Server, at(Server, PORT), (WHOLE, 70), Target)?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"page").map(|_| ())
}

fn hairpin_dnat(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Client, at(Client, PORT), (PORTS, 80), Target)?;
    talk.meant(c.server.2.0 == RED_OUTSIDE, "not the address that it has outside");
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page")?;
    ask(talk, Client, Ip::udp(at(Client, PORT), (WHOLE, 53), b"question"), Target)?;
    ping(talk, Client, WHOLE, Target)?;
    // Two of one address from one port.
    let to = (PORTS, 5003);
    let first = talk.one(Client, Ip::udp(at(Client, PORT), to, b"client"), Target)?;
    let second = talk.one(Other, Ip::udp(at(Other, PORT), to, b"other"), Target)?;
    assert_ne!(first.from(), second.from(), "two flows with one name");
    talk.one(Target, udp_reply(&second, b"for other"), Other)?;
    talk.one(Target, udp_reply(&first, b"for client"), Client).map(|_| ())
}

fn hairpin_dnat_one_interface(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Pooled, at(Pooled, PORT), (PORTS, 80), Target)?;
    talk.meant(POOL.contains(&c.server.2.0), "not the address that it has outside");
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page")?;
    ask(talk, Pooled, Ip::udp(at(Pooled, PORT), (NETWORK_TARGET, 53), b"question"), Target)?;
    Some(())
}

fn hairpin_dnat_to_itself(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Target, at(Target, PORT), (PORTS, 80), Target)?;
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page").map(|_| ())
}

fn hairpin_dnat_no_snat(talk: &mut Talk<'_>) -> Option<()> {
    let there = ask(talk, Other, Ip::udp(at(Other, PORT), (WHOLE, KEPT), b"question"), Target)?;
    talk.meant(there.from() == at(Other, PORT), "the source does not stay");
    // About the answer, to whom it shows an address inside.
    let answer = talk.one(Target, udp_reply(&there, b"answer"), Other)?;
    talk.one(Other, closed(&answer), Target).map(|_| ())
}

fn hairpin_dnat_no_snat_one_interface(talk: &mut Talk<'_>) -> Option<()> {
    let question = Ip::udp(at(Pooled, PORT), (WHOLE, KEPT), b"question");
    let there = ask(talk, Pooled, question, Target)?;
    talk.meant(there.from() == at(Pooled, PORT), "the source does not stay");
    Some(())
}

fn hairpin_dnat_no_snat_inside(talk: &mut Talk<'_>) -> Option<()> {
    let there = ask(talk, Other, Ip::udp(at(Other, PORT), (WHOLE, 53), b"question"), Target)?;
    talk.meant(there.from() == at(Other, PORT), "the source does not stay");
    Some(())
}

fn hairpin_dnat_fragments(talk: &mut Talk<'_>) -> Option<()> {
    for from in [Client, Pooled] {
        let mut pieces = Ip::udp(at(from, PORT), (PORTS, 5003), &[5; 1000]).fragments(&[400]);
        pieces.reverse();
        let there = talk.exchange(from, &pieces, &[Target; 2])?;
        let first = there.iter().find(|piece| piece.offset == 0)?;
        let back = udp_reply(first, &[6; 1000]).fragments(&[400, 800]);
        talk.exchange(Target, &back, &[from; 3])?;
    }
    Some(())
}

fn hairpin_dnat_simultaneous_open(talk: &mut Talk<'_>) -> Option<()> {
    for from in [Client, Pooled] {
        simultaneous_open(talk, from, at(from, PORT), (PORTS, 80), Target)?;
    }
    Some(())
}

fn hairpin_dnat_errors(talk: &mut Talk<'_>) -> Option<()> {
    let to = (PORTS, 5003);
    for from in [Client, Pooled] {
        // About the question.
        let there = talk.one(from, Ip::udp(at(from, PORT), to, b"question"), Target)?;
        talk.one(Target, closed(&there), from)?;
        // About the answer.
        let answer = talk.one(Target, udp_reply(&there, b"answer"), from)?;
        talk.one(from, closed(&answer), Target)?;
    }
    // The Tier-1's own.
    talk.one(Client, Ip::udp(at(Client, PORT), to, b"question").ttl(1), Client).map(|_| ())
}

fn hairpin_reflexive(talk: &mut Talk<'_>) -> Option<()> {
    let question = Ip::udp(at(Client, PORT), (TWIN_OUTSIDE, 53), b"question");
    ask(talk, Client, question, Twin).map(|_| ())
}

fn snat_pool(talk: &mut Talk<'_>) -> Option<()> {
    let ask_server = |from: u16, to: u16| Ip::udp(at(Pooled, from), at(Server, to), b"question");
    let first = ask(talk, Pooled, ask_server(PORT, 53), Server)?;
    talk.meant(POOL.contains(&first.src), "not of the pool");
    // Paired (RFC 4787, REQ-2): one host, one address.
    let second = ask(talk, Pooled, ask_server(PORT + 1, 54), Server)?;
    talk.meant(first.src == second.src, "not paired");
    let c = Connection::open(talk, Pooled, at(Pooled, PORT), at(Server, 80), Server)?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"page")?;
    talk.one(Server, closed(&first), Pooled)?;
    let request = Ip::echo(Pooled.address(), Server.address(), 8, PORT, b"ping");
    let out = talk.one(Pooled, request, Server)?;
    talk.one(Server, Ip::echo(out.dst, out.src, 0, out.src_port(), b"ping"), Pooled).map(|_| ())
}

fn reflexive(talk: &mut Talk<'_>) -> Option<()> {
    // From both sides, with what would have sessions of SNAT or DNAT.
    let out = ask(talk, Twin, Ip::udp(at(Twin, PORT), at(Server, 53), b"question"), Server)?;
    talk.meant(out.from() == (TWIN_OUTSIDE, PORT), "not one to one");
    ask(talk, Server, question(PORT, (TWIN_OUTSIDE, 53)), Twin)?;
    talk.one(Server, without_checksum(question(PORT, (TWIN_OUTSIDE, 53))), Twin)?;
    let c = Connection::open(talk, Server, at(Server, PORT), (TWIN_OUTSIDE, 80), Twin)?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"page")?;
    let c = Connection::open(talk, Twin, at(Twin, PORT), at(Server, 80), Server)?;
    c.server_says(talk, PSH | ACK, 5001, 1001, b"page")?;
    ping(talk, Server, TWIN_OUTSIDE, Twin)?;
    ping(talk, Twin, Server.address(), Server)
}

fn reflexive_in_mid_stream(talk: &mut Talk<'_>) -> Option<()> {
    let segment = Ip::tcp(at(Server, PORT), (TWIN_OUTSIDE, 80), PSH | ACK, 1000, 5000, b"more");
    let there = talk.one(Server, segment, Twin)?;
    let answer = Ip::tcp(there.to(), there.from(), ACK, 5000, 1004, b"");
    talk.one(Twin, answer, Server).map(|_| ())
}

fn reflexive_bare_segments(talk: &mut Talk<'_>) -> Option<()> {
    let reset = Ip::tcp(at(Server, PORT), (TWIN_OUTSIDE, 80), RST, 1000, 0, b"");
    talk.one(Server, reset, Twin).map(|_| ())
}

fn reflexive_fragments(talk: &mut Talk<'_>) -> Option<()> {
    let mut pieces = Ip::udp(at(Server, PORT), (TWIN_OUTSIDE, 53), &[5; 1000]).fragments(&[400]);
    let there = talk.exchange(Server, &pieces, &[Twin; 2])?;
    let back = udp_reply(&there[0], &[6; 1000]).fragments(&[400, 800]);
    talk.exchange(Twin, &back, &[Server; 3])?;
    pieces.reverse();
    talk.exchange(Server, &pieces, &[Twin; 2]).map(|_| ())
}

fn reflexive_error_inwards(talk: &mut Talk<'_>) -> Option<()> {
    let out = talk.one(Twin, Ip::udp(at(Twin, PORT), at(Server, 54), b"anybody?"), Server)?;
    talk.one(Server, closed(&out), Twin)?;
    // The Tier-0's own.
    let short = Ip::udp(at(Twin, PORT), at(Server, 54), b"anybody?").ttl(2);
    talk.one(Twin, short, Twin).map(|_| ())
}

fn reflexive_error_outwards(talk: &mut Talk<'_>) -> Option<()> {
    let there = talk.one(Server, question(PORT, (TWIN_OUTSIDE, 53)), Twin)?;
    talk.one(Twin, closed(&there), Server).map(|_| ())
}

fn gateway_firewall_reject(talk: &mut Talk<'_>) -> Option<()> {
    let syn = Ip::tcp(at(Server, PORT), (WHOLE, 23), SYN, 1000, 0, b"");
    talk.one(Server, syn, Server)?;
    talk.one(Server, question(PORT, (WHOLE, 23)), Server).map(|_| ())
}

fn gateway_firewall_reject_outwards(talk: &mut Talk<'_>) -> Option<()> {
    for from in [Target, Pooled] {
        talk.one(from, Ip::tcp(at(from, PORT), at(Server, 23), SYN, 1000, 0, b""), from)?;
        talk.one(from, Ip::udp(at(from, PORT), at(Server, 23), b"question"), from)?;
    }
    // What does not cross the uplink is not asked about.
    talk.one(Client, Ip::udp(at(Client, PORT), (WHOLE, 23), b"question"), Target).map(|_| ())
}

fn gateway_firewall_one_way(talk: &mut Talk<'_>) -> Option<()> {
    // Nobody begins with it.
    talk.none(Server, question(PORT, (TO_POOLED, 53)))?;
    talk.none(Server, Ip::tcp(at(Server, PORT), (TO_POOLED, 80), SYN, 1000, 0, b""))?;
    talk.none(Server, Ip::echo(Server.address(), TO_POOLED, 8, PORT, b"ping"))?;
    talk.none(Server, question(PORT, (WHOLE, 777)))?;
    // What it begins is answered.
    ask(talk, Pooled, Ip::udp(at(Pooled, 777), at(Server, 777), b"question"), Server)?;
    ask(talk, Target, Ip::udp(at(Target, 777), at(Server, 777), b"question"), Server)?;
    Some(())
}

fn gateway_firewall_error(talk: &mut Talk<'_>) -> Option<()> {
    // Related to what is allowed, into what nobody may begin with.
    let out = talk.one(Pooled, Ip::udp(at(Pooled, PORT), at(Server, 54), b"anybody?"), Server)?;
    talk.one(Server, closed(&out), Pooled)?;
    // Of a question that was dropped there is nothing to be told.
    let dropped = question(PORT, (TO_POOLED, 53));
    talk.none(Server, dropped.clone())?;
    let about =
        Ip::error(Server.address(), TO_POOLED, (3, 3), 0, &udp_reply(&dropped, b"").bytes());
    talk.none(Server, about)
}

fn dnat_twice(talk: &mut Talk<'_>) -> Option<()> {
    let c = Connection::open(talk, Server, at(Server, PORT), (FRONT, 8000), Target)?;
    talk.meant(c.server.1 == at(Target, TARGET_TCP), "not that port");
    c.client_says(talk, PSH | ACK, 1001, 5001, b"GET /")?;
    c.server_says(talk, PSH | ACK, 5001, 1006, b"page")?;
    let there = talk.one(Server, without_checksum(question(PORT, (FRONT, 9000))), Target)?;
    talk.one(Target, without_checksum(udp_reply(&there, b"answer")), Server).map(|_| ())
}

fn dnat_twice_and_once(talk: &mut Talk<'_>) -> Option<()> {
    // From one port to both addresses. The Tier-0 translates only the first, and behind it both look the same.
    let there = talk.one(Server, question(PORT, (FRONT, 9000)), Target)?;
    let direct = talk.one(Server, question(PORT, (PORTS, 5003)), Target)?;
    talk.meant(there.from() != direct.from(), "two flows with one name");
    talk.one(Target, udp_reply(&direct, b"directly"), Server)?;
    talk.one(Target, udp_reply(&there, b"by the front"), Server).map(|_| ())
}

fn dnat_twice_fragments(talk: &mut Talk<'_>) -> Option<()> {
    let mut pieces = Ip::udp(at(Server, PORT), (FRONT, 9000), &[5; 1000]).fragments(&[400, 800]);
    pieces.rotate_left(1);
    let there = talk.exchange(Server, &pieces, &[Target; 3])?;
    let first = there.iter().find(|piece| piece.offset == 0)?;
    let back = udp_reply(first, &[6; 1000]).fragments(&[400]);
    talk.exchange(Target, &back, &[Server; 2]).map(|_| ())
}

fn dnat_twice_errors(talk: &mut Talk<'_>) -> Option<()> {
    let there = talk.one(Server, question(PORT, (FRONT, 9000)), Target)?;
    talk.one(Target, closed(&there), Server)?;
    let answer = talk.one(Target, udp_reply(&there, b"answer"), Server)?;
    talk.one(Server, closed(&answer), Target)?;
    // The routers' own, in both directions.
    talk.one(Server, question(PORT, (FRONT, 9000)).ttl(1), Server)?;
    talk.one(Server, question(PORT, (FRONT, 9000)).ttl(2), Server)?;
    talk.one(Target, udp_reply(&there, b"answer").ttl(2), Target)?;
    talk.one(Target, udp_reply(&there, &[7; 1373]).dont_fragment(), Target).map(|_| ())
}
