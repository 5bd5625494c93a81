//! A small authoritative name server and its client: one question a message, A, AAAA and CNAME records
//! (RFC 1035, RFC 3596, RFC 2308), over UDP and TCP (RFC 7766). No EDNS: an answer over UDP that does
//! not fit 512 octets is truncated, and the client asks again over TCP. What is not of its zone a
//! server may pass on to others ([`Zone::forward`]); the host does that, over UDP. An alias is answered
//! with what it stands for (RFC 1034, 3.6.2); where that is not of the zone, others are asked for it.

use std::sync::Arc;

use packet::Addr;
use smoltcp::socket::tcp;

use super::dns_message::{
    CLASS_IN, Data, Found, HEADER, Record, TYPE_CNAME, query_of, read_answer, read_name, read_u16,
    write_record,
};
use super::zone::{Zone, canonical};
use super::{Application, peer_finished, read_into, write_from};

pub use super::dns_message::{DnsAnswer, RecordType, ResponseCode};
pub(crate) use super::dns_message::{id_of, is_response, parse_answer, query, with_id};

/// Octets of an answer over UDP (RFC 1035, 4.2.1).
pub const MAX_UDP_MESSAGE: usize = 512;

/// A query that other servers have the answer to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Passed<'z> {
    /// What they are asked, under an identification of its own.
    pub message: Vec<u8>,
    /// Whether it is another question than the client's: for what the client's name stands for.
    pub aliased: bool,
    /// The servers, at least one.
    pub upstreams: &'z [Addr],
}

/// What to ask others, under identification `id`, to answer a query; `None` for what the zone itself
/// answers, and for what is no well-formed query of one question.
pub(crate) fn pass_on<'z>(zone: &'z Zone, query: &[u8], id: u16) -> Option<Passed<'z>> {
    let standard = read_u16(query, 2)? & 0xf800 == 0 && read_u16(query, 4)? == 1;
    let (name, at) = read_name(query, HEADER).filter(|_| standard)?;
    let kind = read_u16(query, at).filter(|_| read_u16(query, at + 2) == Some(CLASS_IN))?;
    let upstreams = Some(zone.upstreams(&name)).filter(|u| !u.is_empty())?;
    let resolved = zone.resolve(&name);
    let aliased = !resolved.aliases.is_empty();
    let message = if !aliased {
        with_id(query, id)?
    } else if [RecordType::A.code(), RecordType::Aaaa.code()].contains(&kind) {
        query_of(id, &resolved.name, kind)?
    } else {
        // The alias itself is the answer.
        return None;
    };
    Some(Passed { message, aliased, upstreams })
}

/// The answer to a query, at most `limit` octets; `None` for what is not to be answered at all (a
/// response, or no header). A name that would have to be asked for elsewhere is refused; of an alias
/// that stands for one, the alias alone is answered.
pub(crate) fn respond(zone: &Zone, query: &[u8], limit: usize) -> Option<Vec<u8>> {
    answer(zone, query, None, limit)
}

/// The answer to a query for an alias, with what another server said of the name it stands for; `None`
/// if that is not well-formed.
pub(crate) fn respond_aliased(
    zone: &Zone,
    query: &[u8],
    said: &[u8],
    limit: usize,
) -> Option<Vec<u8>> {
    answer(zone, query, Some(read_answer(said)?), limit)
}

fn answer(zone: &Zone, query: &[u8], said: Option<Found>, limit: usize) -> Option<Vec<u8>> {
    let flags = read_u16(query, 2)?;
    let questions = read_u16(query, 4)?;
    if query.len() < HEADER || flags & 0x8000 != 0 {
        return None;
    }
    let opcode = flags >> 11 & 15;
    let question = read_name(query, HEADER).and_then(|(name, at)| {
        let (kind, class) = (read_u16(query, at)?, read_u16(query, at + 2)?);
        Some((name, kind, class, query.get(HEADER..at + 4)?))
    });
    let mut quoted: &[u8] = &[];
    let mut asked = String::new();
    let found = match question {
        _ if opcode != 0 => ResponseCode::NotImplemented.into(),
        Some((name, kind, class, octets)) if questions == 1 => {
            quoted = octets;
            asked = canonical(&name);
            if class == CLASS_IN {
                find(zone, &name, kind, said)
            } else {
                ResponseCode::Refused.into()
            }
        }
        _ => ResponseCode::FormatError.into(),
    };
    let mut out = Vec::with_capacity(HEADER + quoted.len() + found.records.len() * 28);
    out.extend_from_slice(query.get(..2)?);
    // Response, opcode as asked, authoritative; recursion desired as asked.
    out.push(0x84 | (opcode as u8) << 3 | (flags >> 8) as u8 & 1);
    out.push(found.code.code());
    out.extend([0, u8::from(!quoted.is_empty()), 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(quoted);
    let mut truncated = found.truncated;
    let mut written: u16 = 0;
    // The names written so far, which later ones point to.
    let mut names = vec![(asked, HEADER)];
    for record in found.records {
        let before = out.len();
        if write_record(&record, &mut names, &mut out).is_none() || out.len() > limit {
            out.truncate(before);
            truncated = true;
            break;
        }
        written += 1;
    }
    if let Some(flags) = out.get_mut(2).filter(|_| truncated) {
        *flags |= 0x02;
    }
    if let Some(count) = out.get_mut(6..8) {
        count.copy_from_slice(&written.to_be_bytes());
    }
    Some(out)
}

/// What the zone, and other servers if they were asked, have for a name and a type.
fn find(zone: &Zone, name: &str, kind: u16, said: Option<Found>) -> Found {
    let resolved = zone.resolve(name);
    let aliased = !resolved.aliases.is_empty();
    let alias = |(owner, target): (String, &str)| Record {
        owner,
        ttl: zone.ttl,
        data: Data::Alias(target.to_owned()),
    };
    let mut records: Vec<Record> = resolved.aliases.into_iter().map(alias).collect();
    if kind == TYPE_CNAME && aliased {
        records.truncate(1);
        return Found { records, ..ResponseCode::NoError.into() };
    }
    if resolved.endless {
        return ResponseCode::ServerFailure.into();
    }
    let address = |addr: &Addr| Record {
        owner: resolved.name.clone(),
        ttl: zone.ttl,
        data: Data::Address(*addr),
    };
    // The code is that of the last name (RFC 6604, 3).
    let mut found = match zone.lookup(&resolved.name) {
        Some(own) => {
            let wanted = own.iter().filter(|a| RecordType::of(**a).code() == kind);
            Found { records: wanted.map(address).collect(), ..ResponseCode::NoError.into() }
        }
        None => match said {
            Some(said) => said,
            // The client may ask on, or has what it wanted.
            None if aliased && zone.is_outside(&resolved.name) => ResponseCode::NoError.into(),
            None if !zone.upstreams(&resolved.name).is_empty() => ResponseCode::Refused.into(),
            None => ResponseCode::NxDomain.into(),
        },
    };
    records.append(&mut found.records);
    Found { records, ..found }
}

/// The server's side of one TCP connection: any number of queries, each with a length prefix.
#[derive(Debug)]
pub(crate) struct Server {
    zone: Arc<Zone>,
    input: Vec<u8>,
    output: Vec<u8>,
    sent: usize,
}

impl Server {
    pub(crate) fn new(zone: Arc<Zone>) -> Server {
        Server { zone, input: Vec::new(), output: Vec::new(), sent: 0 }
    }
}

impl Application for Server {
    fn step(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        let wrote = write_from(socket, &self.output, &mut self.sent);
        if self.sent < self.output.len() {
            return wrote;
        }
        self.output.clear();
        self.sent = 0;
        // One query at a time is held: a prefix and at most 65535 octets.
        let room = 65_537 - self.input.len();
        let read = read_into(socket, &mut self.input, room);
        let length = read_u16(&self.input, 0).map(usize::from);
        if let Some(length) = length
            && self.input.len() >= 2 + length
        {
            let rest = self.input.split_off(2 + length);
            let query = std::mem::replace(&mut self.input, rest);
            match respond(&self.zone, query.get(2..).unwrap_or_default(), usize::from(u16::MAX)) {
                Some(answer) => {
                    self.output.extend((answer.len() as u16).to_be_bytes());
                    self.output.extend(answer);
                }
                None => socket.close(),
            }
            return true;
        }
        if peer_finished(socket) && socket.may_send() {
            socket.close();
            return true;
        }
        wrote || read > 0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

    use super::*;

    fn zone() -> Zone {
        let mut zone = Zone::new(5);
        zone.add("Web.Bank.svc.cluster.local.", "10.96.0.57".parse().unwrap());
        zone.add("web.bank.svc.cluster.local", "fd00::57".parse().unwrap());
        zone
    }

    #[test]
    fn an_answer_is_what_rfc_1035_says() {
        let mut zone = Zone::new(0x0102_0304);
        zone.add("a.bc", "10.0.0.9".parse().unwrap());
        let bytes = respond(&zone, &query(7, "A.bC", RecordType::A).unwrap(), 512).unwrap();
        let expected =
            b"\x00\x07\x85\x00\x00\x01\x00\x01\x00\x00\x00\x00\x01A\x02bC\x00\x00\x01\x00\x01\
            \xc0\x0c\x00\x01\x00\x01\x01\x02\x03\x04\x00\x04\x0a\x00\x00\x09";
        assert_eq!(bytes, expected);
    }

    #[test]
    fn types_and_missing_names() {
        let ask = |name: &str, record| {
            let q = query(1, name, record).unwrap();
            parse_answer(&respond(&zone(), &q, 512).unwrap(), &q).unwrap()
        };
        let v4 = ask("web.bank.svc.cluster.local", RecordType::A);
        assert_eq!(
            (v4.code, v4.addresses),
            (ResponseCode::NoError, vec!["10.96.0.57".parse().unwrap()])
        );
        let v6 = ask("WEB.bank.svc.cluster.local.", RecordType::Aaaa);
        assert_eq!(v6.addresses, vec!["fd00::57".parse().unwrap()]);
        let none = ask("db.bank.svc.cluster.local", RecordType::A);
        assert_eq!((none.code, none.addresses), (ResponseCode::NxDomain, vec![]));
    }

    #[test]
    fn what_is_passed_on() {
        let upstream: Addr = "192.168.10.11".parse().unwrap();
        let mut zone = zone();
        zone.add("host.example", "10.0.0.1".parse().unwrap());
        assert!(zone.upstreams("example.com").is_empty(), "to nobody, without forwarding");
        zone.forward("Cluster.Local.", vec![upstream]);
        let asked = |name: &str, record| {
            let query = query(7, name, record).unwrap();
            let passed = pass_on(&zone, &query, 9).map_or(0, |p| p.upstreams.len());
            (passed, respond(&zone, &query, 512).unwrap()[3] & 15)
        };
        for (name, expected) in [
            ("nsx.lab.local", (1, 5)),
            ("NSX.lab.local.", (1, 5)),
            // Ends with the same letters, and is another zone.
            ("notcluster.local", (1, 5)),
            ("web.bank.svc.CLUSTER.local", (0, 0)),
            ("db.bank.svc.cluster.local", (0, 3)),
            ("cluster.local", (0, 3)),
            ("host.example", (0, 0)),
        ] {
            assert_eq!(asked(name, RecordType::A), expected, "{name}");
        }
        // No standard query of one question is passed on.
        let good = query(7, "a.bc", RecordType::A).unwrap();
        for (at, value) in [(2, 0x81), (2, 0x11), (5, 2), (5, 0), (20, 3)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(pass_on(&zone, &bad, 9), None, "octet {at} = {value}");
        }
        for n in 0..good.len() {
            assert_eq!(pass_on(&zone, &good[..n], 9), None, "cut at {n}");
        }
    }

    #[test]
    fn too_many_addresses_are_truncated_over_udp() {
        let mut zone = Zone::new(5);
        for i in 0..40 {
            zone.add("many", Addr::v4(0x0a00_0000 + i));
        }
        let q = query(1, "many", RecordType::A).unwrap();
        let short = respond(&zone, &q, MAX_UDP_MESSAGE).unwrap();
        let answer = parse_answer(&short, &q).unwrap();
        // (512 - 12 - 10) / 16 octets a record = 30 records.
        assert_eq!((short.len(), answer.truncated, answer.addresses.len()), (502, true, 30));
        let full = parse_answer(&respond(&zone, &q, 65_535).unwrap(), &q).unwrap();
        assert_eq!((full.truncated, full.addresses.len()), (false, 40));
    }

    #[test]
    fn hostile_messages() {
        let q = query(1, "a", RecordType::A).unwrap();
        for n in 0..q.len() {
            let answer = respond(&zone(), &q[..n], 512);
            assert_eq!(answer.map(|a| a[3] & 15), (n >= HEADER).then_some(1), "cut at {n}");
        }
        // A pointer to itself, forward, and a chain of pointers that ends in itself.
        for name in [&b"\xc0\x0c"[..], b"\xc0\x0e\xc0\x0c", b"\x01a\xc0\x0c"] {
            let mut m = b"\0\x01\x01\0\0\x01\0\0\0\0\0\0".to_vec();
            m.extend_from_slice(name);
            m.extend([0, 1, 0, 1]);
            assert_eq!(respond(&zone(), &m, 512).unwrap()[3] & 15, 1, "{name:?}");
        }
        let mut response = q.clone();
        response[2] |= 0x80;
        assert_eq!(respond(&zone(), &response, 512), None);
        let mut status = q.clone();
        status[2] |= 2 << 3;
        assert_eq!(respond(&zone(), &status, 512).unwrap()[3] & 15, 4);
    }

    #[test]
    fn an_alias_is_answered_as_rfc_1034_says() {
        let mut zone = Zone::new(5);
        zone.alias("w.bc", "a.bc");
        zone.add("a.bc", "10.0.0.9".parse().unwrap());
        zone.alias("gone.bc", "no.bc");
        zone.alias("loop.bc", "loop.bc");
        zone.alias("out.bc", "example.com");
        zone.forward("bc", vec!["10.0.0.1".parse().unwrap()]);
        let bytes = respond(&zone, &query(7, "W.bc", RecordType::A).unwrap(), 512).unwrap();
        // The CNAME's data begins at octet 34; the address belongs to that name.
        let expected =
            b"\x00\x07\x85\x00\x00\x01\x00\x02\x00\x00\x00\x00\x01W\x02bc\x00\x00\x01\x00\x01\
            \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x06\x01a\x02bc\x00\
            \xc0\x22\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\x0a\x00\x00\x09";
        assert_eq!(bytes, expected);
        // Code and number of records; 5 asks for the alias itself, 15 for mail exchangers.
        let ask = |name: &str, kind: u16| {
            let answer = respond(&zone, &query_of(7, name, kind).unwrap(), 512).unwrap();
            (answer[3] & 15, answer[7])
        };
        assert_eq!(ask("w.bc", 28), (0, 1), "there is no IPv6 address");
        assert_eq!(ask("w.bc", 5), (0, 1));
        assert_eq!(ask("gone.bc", 1), (3, 1), "RFC 6604: the last name does not exist");
        assert_eq!(ask("loop.bc", 1), (2, 0));
        assert_eq!(ask("out.bc", 1), (0, 1), "the client may ask on");
        // Only for addresses others are asked, and for the name it stands for.
        let pass = |name: &str, kind| pass_on(&zone, &query_of(7, name, kind).unwrap(), 9);
        let passed = pass("out.bc", 28).unwrap();
        assert_eq!(passed.message, query(9, "example.com", RecordType::Aaaa).unwrap());
        assert!(passed.aliased);
        assert_eq!(pass("out.bc", 15), None);
        assert_eq!(pass("w.bc", 1), None);
    }

    #[test]
    fn what_others_say_of_an_alias_is_handed_on() {
        let mut zone = Zone::new(5);
        zone.alias("out.bc", "d.ef");
        zone.forward("bc", vec!["10.0.0.1".parse().unwrap()]);
        let mut upstream = Zone::new(60);
        upstream.alias("d.ef", "g.ef");
        upstream.add("g.ef", "10.0.0.7".parse().unwrap());
        let asked = query(7, "out.bc", RecordType::A).unwrap();
        let passed = pass_on(&zone, &asked, 9).unwrap();
        let said = respond(&upstream, &passed.message, 512).unwrap();
        let bytes = respond_aliased(&zone, &asked, &said, 512).unwrap();
        // The question ends at octet 24, so that d.ef is at 36 and g.ef at 54.
        let expected =
            b"\x00\x07\x85\x00\x00\x01\x00\x03\x00\x00\x00\x00\x03out\x02bc\x00\x00\x01\x00\x01\
            \xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x05\x00\x06\x01d\x02ef\x00\
            \xc0\x24\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x01g\x02ef\x00\
            \xc0\x36\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07";
        assert_eq!(bytes, expected);
        assert_eq!(parse_answer(&bytes, &asked).unwrap().addresses, ["10.0.0.7".parse().unwrap()]);
        // A name that does not exist there does not exist.
        let none = respond(&Zone::new(5), &passed.message, 512).unwrap();
        let bytes = respond_aliased(&zone, &asked, &none, 512).unwrap();
        assert_eq!((bytes[3] & 15, bytes[7]), (3, 1));
        // What does not fit is truncated, and what is cut off is no answer.
        let short = respond_aliased(&zone, &asked, &said, 60).unwrap();
        assert_eq!((short[2] & 2, short[7], short.len()), (2, 2, 60));
        for n in 12..said.len() {
            assert_eq!(respond_aliased(&zone, &asked, &said[..n], 512), None, "cut at {n}");
        }
    }
}
