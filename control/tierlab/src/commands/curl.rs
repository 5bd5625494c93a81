//! `tierlab curl`: a page, got by an endpoint of the lab with its own TCP and its own name server.

use super::ping::finish;
use super::trace::split_port;
use crate::args::{self, Brief};
use crate::exit::{Error, Exit};
use crate::open::{address_seen_by, lab, open, origin};
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
    let named = named(&args.url)?;
    let url = match &named {
        Some((_, url)) => url.clone(),
        None => parse(&args.url)?,
    };
    let opened = open(&args.lab)?;
    let mut lab = lab(&opened.realized);
    let from = origin(&opened.realized, &lab, &args.from)?;
    let url = match named {
        Some((to, url)) => {
            let address = address_seen_by(&opened.realized, &from, &to)?;
            let host = if address.is_v4() { address.to_string() } else { format!("[{address}]") };
            Url { host, ..url }
        }
        None => url,
    };
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
    let id =
        lab.with_host(host, |h, now, out| h.start_http_get(server, name, path, options, now, out));
    match finish(lab, host, id)? {
        OperationResult::Http(result) => Ok(result),
        other => Err(Error::internal(format!("an HTTP request gave {other:?}"))),
    }
}

/// The address of a host part: itself, or what the asker's name server says of it, in the asker's
/// search list too.
fn resolve(lab: &mut Lab, host: usize, name: &str) -> Result<Result<Addr, String>, Error> {
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    if let Ok(addr) = bare.parse() {
        return Ok(Ok(addr));
    }
    let names = lab.host(host).map_or_else(Vec::new, |h| h.config().search_names(name));
    let mut said = "there is no such host".to_owned();
    for name in names {
        let id = lab.with_host(host, |h, now, out| {
            h.start_dns_query(&name, DnsOptions::default(), now, out)
        });
        match finish(lab, host, id)? {
            OperationResult::Dns(Ok(reply)) => match reply.answer.addresses.first() {
                Some(addr) => return Ok(Ok(*addr)),
                None => said = format!("{} says {:?}", reply.server, reply.answer.code),
            },
            // Who does not answer to this name will not to the next one.
            OperationResult::Dns(Err(failure)) => return Ok(Err(failure.to_string())),
            other => return Err(Error::internal(format!("a DNS query gave {other:?}"))),
        }
    }
    Ok(Err(said))
}

/// `svc/NS/NAME[:PORT][/PATH]` and the like, which is no URL: the name in the lab, and the rest of the URL.
fn named(text: &str) -> Result<Option<(String, Url)>, Error> {
    let parts = match text.split_once('/') {
        Some(("svc" | "pod", _)) => 3,
        Some(("host" | "vm", _)) => 2,
        _ => return Ok(None),
    };
    let end = text.match_indices('/').nth(parts - 1).map_or(text.len(), |(at, _)| at);
    let (to, path) = text.split_at(end);
    let (to, port) = split_port(to)?;
    // The rest is judged as that of any URL.
    let url = parse(&format!("http://name:{}{path}", port.unwrap_or(80)))?;
    Ok(Some((to.to_owned(), url)))
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
    // RFC 3986, 2: a URL is of printable ASCII; the rest would have to be percent-encoded.
    if !text.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(fail("has a blank, a control character or a letter beyond ASCII in it"));
    }
    // A fragment is the asker's own and never sent (RFC 9110, 4.2.5).
    let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
    if authority.contains('@') {
        return Err(fail("has a user in it, which is not sent"));
    }
    // [2001:db8::1]:80 has colons inside its brackets.
    let (host, after) = match authority.strip_prefix('[') {
        Some(inside) => {
            let end = inside.find(']').ok_or_else(|| fail("has a bracket that is not closed"))?;
            let (address, _) = inside.split_at(end);
            if !address.parse::<Addr>().is_ok_and(|a| !a.is_v4()) {
                return Err(fail("has no IPv6 address in its brackets"));
            }
            authority.split_at(end + 2)
        }
        None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
    };
    if !host.starts_with('[') && host.contains(['[', ']']) || after.contains(['[', ']']) {
        return Err(fail("has a bracket out of place"));
    }
    let port = match after.strip_prefix(':') {
        // Its own fault, which "no valid port" would hide.
        Some(port) if port.contains(':') => {
            return Err(fail("has colons in its host: an IPv6 address is in brackets"));
        }
        Some(_) if host.is_empty() => return Err(fail("has no host")),
        Some(port) => {
            let number = port.bytes().all(|b| b.is_ascii_digit()).then(|| port.parse::<u16>().ok());
            number.flatten().filter(|p| *p > 0).ok_or_else(|| fail("has no valid port"))?
        }
        None if after.is_empty() => 80,
        None => return Err(fail("has something between its host and its port")),
    };
    if host.is_empty() {
        return Err(fail("has no host"));
    }
    Ok(Url { host: host.to_owned(), port, path })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    /// The lab under `topologies/`, and what banking's teller makes of a name there.
    fn resolved(lab: &str, name: &str) -> Result<Addr, String> {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../topologies/").to_owned() + lab;
        let inputs = [definitions::Input::Path(path.into())];
        let opened = crate::open::realize(&inputs, &realization::Allocations::default()).unwrap();
        let mut lab = crate::open::lab(&opened.realized);
        let from = origin(&opened.realized, &lab, "pod/banking/teller").unwrap();
        resolve(&mut lab, from.host, name).unwrap()
    }

    #[test]
    fn names_are_looked_up_as_in_a_pod() {
        let services = [
            ("web", "web.banking.svc.cluster.local"),
            ("store.shop", "store.shop.svc.cluster.local"),
            ("store.shop.svc", "store.shop.svc.cluster.local."),
        ];
        for (short, full) in services {
            let addr = resolved("supervisor", short).unwrap();
            assert_eq!(resolved("supervisor", full), Ok(addr), "{short}");
        }
        // Another namespace's are not found by their names alone.
        assert!(resolved("supervisor-cured", "store").unwrap_err().contains("NxDomain"));
        // kube-dns asks the workload's name server for others, by the way that the article is about.
        let nsx = "192.168.10.28".parse().unwrap();
        assert_eq!(resolved("supervisor-cured", "nsx.lab.local"), Ok(nsx));
        assert_eq!(resolved("supervisor", "nsx.lab.local"), Err("timed out".to_owned()));
    }

    #[test]
    fn names_of_the_lab_are_told_from_urls() {
        let of = |text: &str| named(text).unwrap().map(|(to, url)| (to, url.port, url.path));
        assert_eq!(of("svc/shop/web"), Some(("svc/shop/web".into(), 80, "/".into())));
        assert_eq!(of("svc/shop/web:81/a/b"), Some(("svc/shop/web".into(), 81, "/a/b".into())));
        assert_eq!(of("pod/x/a/b?c"), Some(("pod/x/a".into(), 80, "/b?c".into())));
        assert_eq!(of("vm/cp-1:eth1:6443"), Some(("vm/cp-1:eth1".into(), 6443, "/".into())));
        assert_eq!(of("http://svc/shop/web"), None);
        assert_eq!(of("services/shop/web"), None);
        assert!(named("svc/shop/web:0").is_err());
        assert!(named("svc/shop/web/a b").is_err());
    }

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
        assert_eq!(url("http://x?q=[1]#part"), ("x".into(), 80, "/?q=[1]".into()));
        assert_eq!(url("http://x/a:b@c"), ("x".into(), 80, "/a:b@c".into()));
        for bad in [
            "https://x/",
            "http://",
            "http://x:0/",
            "http://x:70000/",
            "http://x:+80/",
            "http://:80/",
            "http://user@x/",
            "http://user:secret@x/",
            "http://[::1/",
            "http://::1/",
            "http://::1]/",
            "http://[::1]]/",
            "http://[::1]80/",
            "http://[10.0.0.1]/",
            "http://[x]/",
            "http://x]/",
            "http://a:80:80/",
            "http://x/a b",
            "http://x/\r\nX-Injected: yes",
            "http://x/\u{1b}[31m",
            "http://x\u{7f}/",
            "http://\u{e4}.example/",
            "http://a b/",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
