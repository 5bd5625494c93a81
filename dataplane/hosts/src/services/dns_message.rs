//! DNS messages (RFC 1035, RFC 3596): names, queries, and answers of A, AAAA and CNAME records.
//!
//! Names are compared without case (RFC 4343). Compression pointers are followed backwards only, so
//! decoding always ends.

use packet::Addr;

use super::zone::canonical;

pub(super) const HEADER: usize = 12;
pub(super) const CLASS_IN: u16 = 1;
pub(super) const TYPE_CNAME: u16 = 5;

/// Record type asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordType {
    /// IPv4 addresses.
    A,
    /// IPv6 addresses.
    Aaaa,
}

impl RecordType {
    pub(super) const fn code(self) -> u16 {
        match self {
            RecordType::A => 1,
            RecordType::Aaaa => 28,
        }
    }

    pub(super) fn of(addr: Addr) -> RecordType {
        if addr.is_v4() { RecordType::A } else { RecordType::Aaaa }
    }
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
    pub(super) const fn code(self) -> u8 {
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

    pub(super) const fn from_code(code: u8) -> ResponseCode {
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

pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk::<2>().map(|b| u16::from_be_bytes(*b))
}

/// Reads a name at `at`; the name without final dot, and where reading goes on.
pub(super) fn read_name(bytes: &[u8], at: usize) -> Option<(String, usize)> {
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
    query_of(id, name, record.code())
}

pub(super) fn query_of(id: u16, name: &str, kind: u16) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(HEADER + name.len() + 6);
    out.extend(id.to_be_bytes());
    // Recursion desired, one question.
    out.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    write_name(name, &mut out)?;
    out.extend(kind.to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    Some(out)
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

/// A record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) owner: String,
    pub(super) ttl: u32,
    pub(super) data: Data,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Data {
    Address(Addr),
    Alias(String),
}

impl Data {
    pub(super) fn code(&self) -> u16 {
        match self {
            Data::Address(addr) => RecordType::of(*addr).code(),
            Data::Alias(_) => TYPE_CNAME,
        }
    }
}

/// What answers a question.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) code: ResponseCode,
    pub(super) records: Vec<Record>,
    /// There is more than is known here.
    pub(super) truncated: bool,
}

impl From<ResponseCode> for Found {
    fn from(code: ResponseCode) -> Found {
        Found { code, records: Vec::new(), truncated: false }
    }
}

/// Writes a record; names that were written before become pointers (RFC 1035, 4.1.4).
pub(super) fn write_record(
    record: &Record,
    names: &mut Vec<(String, usize)>,
    out: &mut Vec<u8>,
) -> Option<()> {
    write_known_name(&record.owner, names, out)?;
    out.extend(record.data.code().to_be_bytes());
    out.extend(CLASS_IN.to_be_bytes());
    out.extend(record.ttl.to_be_bytes());
    let mut data = Vec::new();
    match &record.data {
        Data::Address(addr) if addr.is_v4() => data.extend(addr.low32().to_be_bytes()),
        Data::Address(addr) => data.extend(addr.0.to_be_bytes()),
        Data::Alias(target) => {
            write_name(target, &mut data)?;
            names.push((canonical(target), out.len() + 2));
        }
    }
    out.extend(u16::try_from(data.len()).ok()?.to_be_bytes());
    out.extend(data);
    Some(())
}

fn write_known_name(name: &str, names: &[(String, usize)], out: &mut Vec<u8>) -> Option<()> {
    let name = canonical(name);
    let known = names.iter().find(|(known, _)| *known == name).map(|(_, at)| *at);
    match known.and_then(|at| u16::try_from(at).ok()).filter(|at| *at < 0x4000) {
        Some(at) => out.extend((0xc000 | at).to_be_bytes()),
        None => write_name(&name, out)?,
    }
    Some(())
}

/// The code and the addresses and aliases of a response, in the order sent; `None` if it is malformed.
pub(super) fn read_answer(bytes: &[u8]) -> Option<Found> {
    let flags = read_u16(bytes, 2)?;
    let mut at = HEADER;
    for _ in 0..read_u16(bytes, 4)? {
        at = read_name(bytes, at)?.1 + 4;
    }
    let mut records = Vec::new();
    for _ in 0..read_u16(bytes, 6)? {
        let (owner, fixed) = read_name(bytes, at)?;
        let kind = read_u16(bytes, fixed)?;
        let ttl = bytes.get(fixed + 4..)?.first_chunk().map(|b| u32::from_be_bytes(*b))?;
        let length = usize::from(read_u16(bytes, fixed + 8)?);
        let data = bytes.get(fixed + 10..fixed + 10 + length)?;
        at = fixed + 10 + length;
        let data = match (kind, data.first_chunk::<4>(), data.first_chunk::<16>()) {
            (1, Some(v4), _) if length == 4 => Data::Address(Addr::v4(u32::from_be_bytes(*v4))),
            (28, _, Some(v6)) if length == 16 => Data::Address(Addr(u128::from_be_bytes(*v6))),
            (1 | 28, ..) => return None,
            (TYPE_CNAME, ..) => Data::Alias(read_name(bytes, fixed + 10)?.0),
            _ => continue,
        };
        records.push(Record { owner, ttl, data });
    }
    let code = ResponseCode::from_code(flags as u8);
    Some(Found { code, records, truncated: flags & 0x0200 != 0 })
}

/// Reads the answer to the query `asked`; `None` if it is not one.
pub(crate) fn parse_answer(bytes: &[u8], asked: &[u8]) -> Option<DnsAnswer> {
    let flags = read_u16(bytes, 2)?;
    if bytes.get(..2) != asked.get(..2) || flags & 0x8000 == 0 || bytes.len() < HEADER {
        return None;
    }
    let (_, asked_end) = read_name(asked, HEADER)?;
    let wanted = read_u16(asked, asked_end)?;
    let found = read_answer(bytes)?;
    let address = |record: Record| match record.data {
        Data::Address(addr) if RecordType::of(addr).code() == wanted => Some(addr),
        _ => None,
    };
    Some(DnsAnswer {
        code: found.code,
        addresses: found.records.into_iter().filter_map(address).collect(),
        truncated: found.truncated,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

    use super::*;

    #[test]
    fn a_query_is_what_rfc_1035_says() {
        let bytes = query(0x1234, "a.bc", RecordType::A).unwrap();
        let expected =
            b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x01a\x02bc\x00\x00\x01\x00\x01";
        assert_eq!(bytes, expected);
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
    fn not_a_name() {
        let long = "a".repeat(64);
        for name in ["a..b", ".a", long.as_str(), &"abc.".repeat(70)] {
            assert_eq!(query(1, name, RecordType::A), None, "{name}");
        }
    }
}
