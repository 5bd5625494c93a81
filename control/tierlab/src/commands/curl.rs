//! `tierlab curl`: a page, got by an endpoint of the lab with its own TCP and its own name server.

use super::ping::finish;
use crate::args::{self, Brief};
use crate::exit::{Error, Exit};
use crate::open::{lab, open, origin};
use crate::output::{pretty_json, print, printable};
use hosts::{DnsOptions, Endpoint, Failure, HttpReply, Lab, OperationResult, TcpOptions};
use packet::Addr;
use serde_json::json;

/// The parts of a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Url {
    host: String,
    port: u16,
    path: String,
}

pub fn run(args: &args::Curl) -> Result<Exit, Error> {
    let url = parse(&args.url)?;
    let opened = open(&args.lab)?;
    let mut lab = lab(&opened.realized);
    let from = origin(&opened.realized, &lab, &args.from)?;
    let result = match resolve(&mut lab, from.host, &url.host)? {
        Ok(addr) => {
            let server = Endpoint { addr, port: url.port };
            let options = TcpOptions { interface: from.interface, ..TcpOptions::default() };
            get(&mut lab, from.host, server, &url.host, &url.path, options)?
        }
        Err(text) => {
            eprintln!("curl: cannot resolve {}: {text}", printable(&url.host));
            return Ok(Exit::Failed);
        }
    };
    match (args.output, &result) {
        (Brief::Json, Ok(reply)) => print(&pretty_json(&json!({
            "url": args.url,
            "local": reply.local.to_string(),
            "remote": reply.remote.to_string(),
            "status": reply.response.status,
            "body": String::from_utf8_lossy(&reply.response.body),
        }))?)?,
        (Brief::Json, Err(failure)) => {
            print(&pretty_json(&json!({"url": args.url, "failure": failure.to_string()}))?)?;
        }
        (Brief::Text, Ok(reply)) => {
            if args.include {
                print(&format!("HTTP/1.1 {}\n", reply.response.status))?;
                for (name, value) in &reply.response.headers {
                    print(&format!("{}: {}\n", printable(name), printable(value)))?;
                }
                print("\n")?;
            }
            print(&String::from_utf8_lossy(&reply.response.body))?;
        }
        (Brief::Text, Err(failure)) => {
            eprintln!("curl: {} port {}: {failure}", printable(&url.host), url.port);
        }
    }
    Ok(if result.is_ok() { Exit::Ok } else { Exit::Failed })
}

/// Gets a page.
pub fn get(
    lab: &mut Lab,
    host: usize,
    server: Endpoint,
    name: &str,
    path: &str,
    options: TcpOptions,
) -> Result<Result<HttpReply, Failure>, Error> {
    let id = lab.with_host(host, |h, now, out| {
        h.start_http_get(server, name, path, options, now, out)
    });
    match finish(lab, host, id)? {
        OperationResult::Http(result) => Ok(result),
        other => Err(Error::internal(format!("an HTTP request gave {other:?}"))),
    }
}

/// The address of a host part: itself, or what the asker's name server says.
fn resolve(lab: &mut Lab, host: usize, name: &str) -> Result<Result<Addr, String>, Error> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(addr) = bare.parse() {
        return Ok(Ok(addr));
    }
    let id = lab.with_host(host, |h, now, out| {
        h.start_dns_query(name, DnsOptions::default(), now, out)
    });
    match finish(lab, host, id)? {
        OperationResult::Dns(Ok(reply)) => Ok(reply
            .answer
            .addresses
            .first()
            .copied()
            .ok_or_else(|| format!("{} says {:?}", reply.server, reply.answer.code))),
        OperationResult::Dns(Err(failure)) => Ok(Err(failure.to_string())),
        other => Err(Error::internal(format!("a DNS query gave {other:?}"))),
    }
}

fn parse(text: &str) -> Result<Url, Error> {
    let fail = |why: &str| {
        Error::input(format!(
            "'{}' {why}; write http://ADDRESS-OR-NAME[:PORT][/PATH]",
            printable(text)
        ))
    };
    let rest = match text.split_once("://") {
        Some(("http", rest)) => rest,
        Some(_) => return Err(fail("is not an http URL: TLS is not emulated yet")),
        None => text,
    };
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    // [2001:db8::1]:80 has colons inside its brackets.
    let after_brackets = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority.get(after_brackets..).and_then(|tail| tail.rfind(':')) {
        Some(at) => {
            let (host, port) = authority.split_at(after_brackets + at);
            let port = port.trim_start_matches(':').parse::<u16>();
            (host, port.ok().filter(|p| *p > 0).ok_or_else(|| fail("has no valid port"))?)
        }
        None => (authority, 80),
    };
    if host.is_empty() {
        return Err(fail("has no host"));
    }
    Ok(Url { host: host.to_owned(), port, path: path.to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn urls() {
        let url = |text: &str| {
            let u = parse(text).unwrap();
            (u.host, u.port, u.path)
        };
        assert_eq!(url("http://172.16.1.2/"), ("172.16.1.2".into(), 80, "/".into()));
        assert_eq!(url("172.16.1.2:6443"), ("172.16.1.2".into(), 6443, "/".into()));
        assert_eq!(url("http://web.shop:8080/a/b?c"), ("web.shop".into(), 8080, "/a/b?c".into()));
        assert_eq!(url("http://[2001:db8::1]:81/x"), ("[2001:db8::1]".into(), 81, "/x".into()));
        for bad in ["https://x/", "http://", "http://x:0/", "http://x:70000/", "http://:80/"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
