//! A small HTTP/1.1 server that says who it is and whom it sees as client, and its client
//! (RFC 9110, RFC 9112). One request a connection; every answer has `Connection: close`.

use std::fmt;

use packet::Addr;
use smoltcp::socket::tcp;

use super::{Application, peer_finished, read_into, write_from};

/// Octets of a request head that are read at most; more is answered with 431.
pub const MAX_HEAD: usize = 8 * 1024;

/// An address and a port, written `10.0.0.1:80` or `[fd00::1]:80`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Endpoint {
    /// Address.
    pub addr: Addr,
    /// Port.
    pub port: u16,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.addr.is_v4() {
            write!(f, "{}:{}", self.addr, self.port)
        } else {
            write!(f, "[{}]:{}", self.addr, self.port)
        }
    }
}

/// The server's side of one connection.
#[derive(Debug)]
pub(crate) struct Server {
    body: String,
    head: Vec<u8>,
    response: Vec<u8>,
    sent: usize,
}

impl Server {
    pub(crate) fn new(identity: &str, local: Endpoint, client: Endpoint) -> Server {
        let body = format!("{identity} on {} sees client {client}\n", local.addr);
        Server { body, head: Vec::new(), response: Vec::new(), sent: 0 }
    }
}

impl Application for Server {
    fn step(&mut self, socket: &mut tcp::Socket<'_>) -> bool {
        if self.response.is_empty() {
            let room = MAX_HEAD - self.head.len();
            let read = read_into(socket, &mut self.head, room);
            if let Some(response) = respond(&self.head, &self.body) {
                self.response = response;
            } else if peer_finished(socket) && socket.may_send() {
                socket.close();
                return true;
            } else {
                return read > 0;
            }
        }
        // Anything behind the request is read away: unread data would turn the close into a reset.
        let dropped = socket.recv(|data| (data.len(), data.len())).unwrap_or(0);
        let wrote = write_from(socket, &self.response, &mut self.sent);
        let done = self.sent == self.response.len() && socket.may_send();
        if done {
            socket.close();
        }
        dropped > 0 || wrote || done
    }
}

/// The response to a request head; `None` until the head is complete.
fn respond(head: &[u8], body: &str) -> Option<Vec<u8>> {
    let end = head.windows(4).position(|w| w == b"\r\n\r\n");
    let Some(end) = end else {
        return (head.len() >= MAX_HEAD)
            .then(|| message("431 Request Header Fields Too Large", "", true));
    };
    let text = String::from_utf8_lossy(head.get(..end).unwrap_or_default()).into_owned();
    let mut lines = text.split("\r\n");
    let mut words = lines.next().unwrap_or_default().split(' ');
    let (method, target, version) = (words.next(), words.next(), words.next());
    let well_formed = target.is_some_and(|t| t.starts_with('/'))
        && version.is_some_and(|v| v.starts_with("HTTP/1."))
        && words.next().is_none();
    let hosts = lines
        .filter(|l| l.split_once(':').is_some_and(|(name, _)| name.eq_ignore_ascii_case("host")))
        .count();
    // RFC 9112, 3.2: an HTTP/1.1 request without Host, or with two, is answered with 400.
    let host_ok = hosts == 1 || (hosts == 0 && version == Some("HTTP/1.0"));
    Some(match method {
        _ if !well_formed || !host_ok => message("400 Bad Request", "", true),
        Some("GET") => message("200 OK", body, true),
        Some("HEAD") => message("200 OK", body, false),
        _ => message("405 Method Not Allowed", "", true),
    })
}

fn message(status: &str, body: &str, with_body: bool) -> Vec<u8> {
    let allow = if status.starts_with("405") { "Allow: GET, HEAD\r\n" } else { "" };
    let head = format!(
        "HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n{allow}Connection: close\r\n\r\n",
        body.len()
    );
    let mut bytes = head.into_bytes();
    if with_body {
        bytes.extend_from_slice(body.as_bytes());
    }
    bytes
}

/// The octets of a GET request. Control characters and spaces in `host` and `path` are left out, so
/// that neither can begin a header of its own.
pub(crate) fn request(host: &str, path: &str) -> Vec<u8> {
    let clean =
        |text: &str| text.chars().filter(|c| !c.is_control() && *c != ' ').collect::<String>();
    let path = if path.is_empty() { "/".to_owned() } else { clean(path) };
    format!(
        "GET {path} HTTP/1.1\r\nHost: {}\r\nUser-Agent: tierlab\r\nAccept: */*\r\nConnection: close\r\n\r\n",
        clean(host)
    )
    .into_bytes()
}

/// An HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpResponse {
    /// Status code, 100 to 999.
    pub status: u16,
    /// Header fields in order, names as sent.
    pub headers: Vec<(String, String)>,
    /// Body, as far as `Content-Length` and the connection gave it.
    pub body: Vec<u8>,
}

/// Reads a response; `None` if it is not one.
pub(crate) fn parse_response(bytes: &[u8]) -> Option<HttpResponse> {
    let end = bytes.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = std::str::from_utf8(bytes.get(..end)?).ok()?;
    let mut lines = head.split("\r\n");
    let mut words = lines.next()?.splitn(3, ' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    let status: u16 = words.next()?.parse().ok().filter(|s| (100..1000).contains(s))?;
    let headers: Vec<(String, String)> = lines
        .filter_map(|l| l.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    let length = headers
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.parse::<usize>().ok());
    let mut body = bytes.get(end + 4..)?.to_vec();
    body.truncate(length.unwrap_or(usize::MAX));
    Some(HttpResponse { status, headers, body })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

    use super::*;

    fn status(head: &str) -> Option<u16> {
        respond(head.as_bytes(), "hello\n").map(|r| parse_response(&r).unwrap().status)
    }

    #[test]
    fn answers_after_rfc_9112() {
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(200));
        assert_eq!(status("GET / HTTP/1.1\r\nhOST: a\r\n\r\n"), Some(200));
        assert_eq!(status("GET / HTTP/1.0\r\n\r\n"), Some(200));
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), Some(400));
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"), Some(400));
        assert_eq!(status("GET  / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(400));
        assert_eq!(status("GET\r\n\r\n"), Some(400));
        assert_eq!(status("POST / HTTP/1.1\r\nHost: a\r\n\r\n"), Some(405));
        assert_eq!(status("GET / HTTP/1.1\r\nHost: a\r\n"), None);
    }

    #[test]
    fn a_head_without_an_end_is_refused() {
        assert_eq!(status(&"a".repeat(MAX_HEAD - 1)), None);
        assert_eq!(status(&"a".repeat(MAX_HEAD)), Some(431));
    }

    #[test]
    fn head_has_the_length_but_no_body() {
        let bytes = respond(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n", "hello\n").unwrap();
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.contains("Content-Length: 6\r\n"));
        assert!(text.ends_with("\r\n\r\n"));
    }

    #[test]
    fn a_path_cannot_smuggle_a_header() {
        let bytes = request("a\r\nX: y", "/b c\r\n\r\nGET /d");
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.starts_with("GET /bcGET/d HTTP/1.1\r\nHost: aX:y\r\n"));
    }

    #[test]
    fn responses_that_are_none() {
        for bytes in
            ["", "HTTP/1.1 200 OK\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "x\r\n\r\n"]
        {
            assert_eq!(parse_response(bytes.as_bytes()), None, "{bytes:?}");
        }
    }
}
