//! A small authoritative name server and its client: one question a message, A and AAAA records
//! (RFC 1035, RFC 3596, RFC 2308), over UDP and TCP (RFC 7766). No EDNS: an answer over UDP that does
//! not fit 512 octets is truncated, and the client asks again over TCP. What is not of its zone a
//! server may pass on to others ([`Zone::forward`]); the host does that, over UDP.
//!
//! Names are compared without case (RFC 4343). Compression pointers are followed backwards only, so
//! decoding always ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use packet::Addr;
use smoltcp::socket::tcp;

use super::{Application, peer_finished, read_into, write_from};

/// Octets of an answer over UDP (RFC 1035, 4.2.1).
pub const MAX_UDP_MESSAGE: usize = 512;

const HEADER: usize = 12;
const CLASS_IN: u16 = 1;

/// Record type asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl RecordType {
    const fn code(self) -> u16 {
        match self {
            RecordType::A => 1,
            RecordType::Aaaa => 28,
        }
    }

    fn of(addr: Addr) -> RecordType {
        if addr.is_v4() { RecordType::A } else { RecordType::Aaaa }
    }
}

/// Names and their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    records: BTreeMap<String, Vec<Addr>>,
    /// Time to live of every record, seconds.
    pub ttl: u32,
    forwarding: Option<Forwarding>,
}

/// Who answers for names outside a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Forwarding {
    /// The zone's own name; every name that ends in it is the zone's to answer or to deny.
    origin: String,
    /// Servers, asked in turn.
    upstreams: Vec<Addr>,
}

impl Zone {
    /// An empty zone whose records live for `ttl` seconds.
    #[must_use]
    pub fn new(ttl: u32) -> Zone {
        Zone { records: BTreeMap::new(), ttl, forwarding: None }
    }

    /// Adds an address to a name. Case and a final dot do not matter.
    pub fn add(&mut self, name: &str, addr: Addr) {
        self.records.entry(canonical(name)).or_default().push(addr);
    }

    /// Passes questions for names that do not end in `origin` and have no record on to these servers,
    /// at port 53. Without any, the zone denies every name that it does not have.
    pub fn forward(&mut self, origin: &str, upstreams: Vec<Addr>) {
        self.forwarding =
            (!upstreams.is_empty()).then(|| Forwarding { origin: canonical(origin), upstreams });
    }

    /// The servers to ask for a name that is not this zone's; empty if it is, or if there are none.
    #[must_use]
    pub fn upstreams(&self, name: &str) -> &[Addr] {
        let name = canonical(name);
        match &self.forwarding {
            Some(forwarding)
                if !self.records.contains_key(&name) && !is_within(&name, &forwarding.origin) =>
            {
                &forwarding.upstreams
            }
            _ => &[],
        }
    }

    /// Addresses of a name; `None` if there is no such name (NXDOMAIN).
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<&[Addr]> {
        self.records.get(&canonical(name)).map(Vec::as_slice)
    }
}

fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether `name` is `origin` or below it, both canonical.
fn is_within(name: &str, origin: &str) -> bool {
    let rest = name.strip_suffix(origin);
    origin.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Response code (RFC 1035, 4.1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResponseCode {
    /// The name exists.
    NoError,
    /// The server could not read the query.
    FormatError,
    /// The server failed.
    ServerFailure,
    /// There is no such name.
    NxDomain,
    /// The server does not know this kind of query.
    NotImplemented,
    /// The server will not answer.
    Refused,
    /// Another code, 6 to 15.
    Other(u8),
}

impl ResponseCode {
    const fn code(self) -> u8 {
        match self {
            ResponseCode::NoError => 0,
            ResponseCode::FormatError => 1,
            ResponseCode::ServerFailure => 2,
            ResponseCode::NxDomain => 3,
            ResponseCode::NotImplemented => 4,
            ResponseCode::Refused => 5,
            ResponseCode::Other(code) => code & 15,
        }
    }

    const fn from_code(code: u8) -> ResponseCode {
        match code & 15 {
            0 => ResponseCode::NoError,
            1 => ResponseCode::FormatError,
            2 => ResponseCode::ServerFailure,
            3 => ResponseCode::NxDomain,
            4 => ResponseCode::NotImplemented,
            5 => ResponseCode::Refused,
            other => ResponseCode::Other(other),
        }
    }
}

/// What a name server answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsAnswer {
    /// Response code.
    pub code: ResponseCode,
    /// Addresses of the type asked for, in the order sent.
    pub addresses: Vec<Addr>,
    /// The answer did not fit; ask again over TCP.
    pub truncated: bool,
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}

/// Reads a name at `at`; the name without final dot, and where reading goes on.
fn read_name(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let mut name = String::new();
    let mut at = at;
    let mut after = None;
    // A pointer must point before everything read so far, which also bounds the loop.
    let mut limit = at;
    loop {
        let length = *bytes.get(at)?;
        match length {
            0 => return Some((name, after.unwrap_or(at + 1))),
            1..=63 => {
                let label = bytes.get(at + 1..at + 1 + usize::from(length))?;
                if !name.is_empty() {
                    name.push('.');
                }
                // A dot or an octet beyond ASCII inside a label cannot be part of a name we know.
                let plain = label.iter().all(|b| b.is_ascii_graphic() && *b != b'.');
                name.push_str(std::str::from_utf8(label).ok().filter(|_| plain)?);
                if name.len() > 253 {
                    return None;
                }
                at += 1 + usize::from(length);
            }
            192..=255 => {
                let target = usize::from(read_u16(bytes, at)? & 0x3fff);
                after.get_or_insert(at + 2);
                if target >= limit {
                    return None;
                }
                limit = target;
                at = target;
            }
            _ => return None,
        }
    }
}

/// Writes a name; `None` if a label is empty or longer than 63 octets, or the name than 253.
fn write_name(name: &str, out: &mut Vec<u8>) -> Option<()> {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 {
        return None;
    }
    for label in name.split('.').filter(|_| !name.is_empty()) {
        let length = u8::try_from(label.len()).ok().filter(|n| (1..=63).contains(n))?;
        out.push(length);
        out.extend_from_slice(label.as_bytes());
    }
    out.push(0);
    Some(())
}

/// A query for the addresses of a name; `None` if it is not a name.
pub(crate) fn query(id: u16, name: &str, record: RecordType) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER + name.len() + 6);
    out.extend(id.to_be_bytes());
    // Recursion desired, one question.
    out.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    write_name(name, &mut out)?;
    out.extend(record.code().to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    Some(out)
}

/// The servers to pass a query on to; empty for what the zone itself answers, and for what is no
/// well-formed query of one question.
pub(crate) fn upstreams<'z>(zone: &'z Zone, query: &[u8]) -> &'z [Addr] {
    let is_query = read_u16(query, 2).is_some_and(|flags| flags & 0xf800 == 0)
        && read_u16(query, 4) == Some(1);
    match read_name(query, HEADER) {
        Some((name, at)) if is_query && read_u16(query, at + 2) == Some(CLASS_IN) => {
            zone.upstreams(&name)
        }
        _ => &[],
    }
}

/// A message with another identification; `None` for what has no header.
pub(crate) fn with_id(message: &[u8], id: u16) -> Option<Vec<u8>> {
    let rest = message.get(2..).filter(|_| message.len() >= HEADER)?;
    Some([&id.to_be_bytes(), rest].concat())
}

/// The identification of a message.
pub(crate) fn id_of(message: &[u8]) -> Option<u16> {
    read_u16(message, 0)
}

/// Whether `message` is a response to the query `asked`: of its identification, to its question
/// (RFC 5452, 3).
pub(crate) fn is_response(message: &[u8], asked: &[u8]) -> bool {
    let question = |bytes: &[u8]| {
        let (name, at) = read_name(bytes, HEADER)?;
        Some((canonical(&name), read_u16(bytes, at)?, read_u16(bytes, at + 2)?))
    };
    id_of(message) == id_of(asked)
        && read_u16(message, 2).is_some_and(|flags| flags & 0x8000 != 0)
        && read_u16(message, 4) == Some(1)
        && question(message).is_some_and(|q| Some(q) == question(asked))
}

/// The answer to a query, at most `limit` octets; `None` for what is not to be answered at all (a
/// response, or no header). A name that would have to be asked for elsewhere is refused.
pub(crate) fn respond(zone: &Zone, query: &[u8], limit: usize) -> Option<Vec<u8>> {
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
    let mut answers: Vec<Addr> = Vec::new();
    let mut quoted: &[u8] = &[];
    let code = match question {
        _ if opcode != 0 => ResponseCode::NotImplemented,
        Some((name, kind, class, octets)) if questions == 1 => {
            quoted = octets;
            match zone.lookup(&name) {
                _ if class != CLASS_IN || !zone.upstreams(&name).is_empty() => {
                    ResponseCode::Refused
                }
                None => ResponseCode::NxDomain,
                Some(addresses) => {
                    answers.extend(addresses.iter().filter(|a| RecordType::of(**a).code() == kind));
                    ResponseCode::NoError
                }
            }
        }
        _ => ResponseCode::FormatError,
    };
    let mut out = Vec::with_capacity(HEADER + quoted.len() + answers.len() * 28);
    out.extend_from_slice(query.get(..2)?);
    // Response, opcode as asked, authoritative; recursion desired as asked.
    out.push(0x84 | (opcode as u8) << 3 | (flags >> 8) as u8 & 1);
    out.push(code.code());
    out.extend([0, u8::from(!quoted.is_empty()), 0, 0, 0, 0, 0, 0]);
    out.extend_from_slice(quoted);
    let mut written: u16 = 0;
    for addr in answers {
        let octets = address_octets(addr);
        // Name (a pointer to the question), type, class, TTL, length, address.
        if out.len() + 12 + octets.len() > limit {
            if let Some(flags) = out.get_mut(2) {
                *flags |= 0x02;
            }
            break;
        }
        out.extend((0xc000 | HEADER as u16).to_be_bytes());
        out.extend(RecordType::of(addr).code().to_be_bytes());
        out.extend(CLASS_IN.to_be_bytes());
        out.extend(zone.ttl.to_be_bytes());
        out.extend((octets.len() as u16).to_be_bytes());
        out.extend(octets);
        written += 1;
    }
    if let Some(count) = out.get_mut(6..8) {
        count.copy_from_slice(&written.to_be_bytes());
    }
    Some(out)
}

fn address_octets(addr: Addr) -> Vec<u8> {
    if addr.is_v4() { addr.low32().to_be_bytes().to_vec() } else { addr.0.to_be_bytes().to_vec() }
}

/// Reads the answer to the query `asked`; `None` if it is not one.
pub(crate) fn parse_answer(bytes: &[u8], asked: &[u8]) -> Option<DnsAnswer> {
    let flags = read_u16(bytes, 2)?;
    if bytes.get(..2) != asked.get(..2) || flags & 0x8000 == 0 || bytes.len() < HEADER {
        return None;
    }
    let (_, asked_end) = read_name(asked, HEADER)?;
    let wanted = read_u16(asked, asked_end)?;
    let mut at = HEADER;
    for _ in 0..read_u16(bytes, 4)? {
        at = read_name(bytes, at)?.1 + 4;
    }
    let mut addresses = Vec::new();
    for _ in 0..read_u16(bytes, 6)? {
        let (_, fixed) = read_name(bytes, at)?;
        let kind = read_u16(bytes, fixed)?;
        let length = usize::from(read_u16(bytes, fixed + 8)?);
        let data = bytes.get(fixed + 10..fixed + 10 + length)?;
        at = fixed + 10 + length;
        if kind == wanted {
            addresses.push(match (data.first_chunk::<4>(), data.first_chunk::<16>()) {
                (_, Some(v6)) if length == 16 && kind == 28 => Addr(u128::from_be_bytes(*v6)),
                (Some(v4), _) if length == 4 && kind == 1 => Addr::v4(u32::from_be_bytes(*v4)),
                _ => return None,
            });
        }
    }
    Some(DnsAnswer {
        code: ResponseCode::from_code(flags as u8),
        addresses,
        truncated: flags & 0x0200 != 0,
    })
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
    fn a_query_is_what_rfc_1035_says() {
        let bytes = query(0x1234, "a.bc", RecordType::A).unwrap();
        let expected =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01";
        assert_eq!(bytes, expected);
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
            (upstreams(&zone, &query).len(), respond(&zone, &query, 512).unwrap()[3] & 15)
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
            assert!(upstreams(&zone, &bad).is_empty(), "octet {at} = {value}");
        }
        for n in 0..good.len() {
            assert!(upstreams(&zone, &good[..n]).is_empty(), "cut at {n}");
        }
    }

    #[test]
    fn responses_are_told_from_other_messages() {
        let asked = query(0x1234, "a.bc", RecordType::A).unwrap();
        let mut answer = asked.clone();
        assert!(!is_response(&answer, &asked), "a query is no response");
        answer[2] |= 0x80;
        assert!(is_response(&answer, &asked));
        answer[13] = b'A';
        assert!(is_response(&answer, &asked), "case does not matter");
        for (at, value) in [(0, 0), (1, 0), (5, 0), (13, b'b'), (18, 28), (20, 3)] {
            let mut other = answer.clone();
            other[at] = value;
            assert!(!is_response(&other, &asked), "octet {at} = {value}");
        }
        for n in 0..answer.len() {
            assert!(!is_response(&answer[..n], &asked), "cut at {n}");
        }
        let renamed = with_id(&asked, 0xabcd).unwrap();
        assert_eq!((id_of(&renamed), &renamed[2..]), (Some(0xabcd), &asked[2..]));
        assert_eq!(with_id(&asked[..11], 1), None);
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
    fn not_a_name() {
        let long = "a".repeat(64);
        for name in ["a..b", ".a", long.as_str(), &"abc.".repeat(70)] {
            assert_eq!(query(1, name, RecordType::A), None, "{name}");
        }
    }
}
