//! `tierlab matrix`: the first packet of a new flow for every pair.
//!
//! A cell is `allow` if the packet reached the destination's interface and the destination's first
//! answer came back to the source. A reset or a port unreachable from the destination itself is an
//! answer. Every cell starts from the same state.

use super::ping::is_nd;
use crate::args::{self, Proto};
use crate::exit::{Error, Exit};
use crate::open::{Opened, lab, open};
use crate::output::{Format, print, render};
use definitions::model::ObjectName;
use engine::network::PortId;
use hosts::{Delivery, Lab, ReadUntil, TcpOptions, UdpOptions};
use packet::Addr;
use realization::Realized;
use realization::logical::{Column, Row};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::{Duration, Instant};

/// Longer than address resolution takes to give up (three requests, one second apart).
const PATIENCE: Duration = Duration::from_secs(4);

/// A query for `tierlab.` (A, IN): a name server answers it, an echo service sends it back.
const DNS_QUERY: &[u8] =
    b"\x00\x2a\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07tierlab\x00\x00\x01\x00\x01";

/// One cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cell {
    /// Source.
    pub from: String,
    /// Destination.
    pub to: String,
    /// `TCP` or `UDP`.
    pub proto: &'static str,
    /// Destination port.
    pub port: u16,
    /// `allow` or `deny`.
    pub verdict: &'static str,
}

impl Row for Cell {
    const COLUMNS: &'static [Column] = &[
        Column { name: "FROM", wide: false },
        Column { name: "TO", wide: false },
        Column { name: "PROTO", wide: false },
        Column { name: "PORT", wide: false },
        Column { name: "VERDICT", wide: false },
    ];
    fn cells(&self) -> Vec<String> {
        vec![
            self.from.clone(),
            self.to.clone(),
            self.proto.to_owned(),
            self.port.to_string(),
            self.verdict.to_owned(),
        ]
    }
}

/// A source or destination.
#[derive(Clone, Debug)]
struct End {
    /// As the matrix names it.
    name: String,
    /// The host that sends, for sources.
    host: Option<usize>,
    /// The port that the host sends from.
    port: Option<PortId>,
    /// The address to send to.
    address: Addr,
    /// The interfaces at which a packet to it has arrived.
    arrives: BTreeSet<PortId>,
}

pub fn run(args: &args::Matrix) -> Result<Exit, Error> {
    let probes = probes(&args.ports)?;
    let expected = args.expect.as_deref().map(read_expected).transpose()?;
    let opened = open(&args.lab)?;
    if let Some(ns) = &args.namespace
        && !opened.definitions.namespaces.contains_key(ns)
    {
        return Err(Error::input(format!("there is no namespace '{ns}'")));
    }
    let mut lab = lab(&opened.realized);
    lab.watch(true);
    let pods = pods(&opened.realized, &lab, args.namespace.as_deref());
    let ext = outside(&opened.realized, &lab, &args.ext)?;
    let sources: Vec<&End> = pods.iter().chain(&ext).collect();
    let mut destinations: Vec<End> = pods.iter().chain(&ext).cloned().collect();
    if args.services {
        destinations.extend(services(&opened, args.namespace.as_deref()));
    }
    let mut progress = Progress::new(sources.len() * destinations.len() * probes.len());
    let mut cells = Vec::new();
    for from in &sources {
        for to in &destinations {
            // What an endpoint sends to itself never reaches its interface, and what outside hosts
            // say to each other is not this network's business.
            let both_outside = from.name.starts_with("ext:") && to.name.starts_with("ext:");
            if from.name == to.name || both_outside {
                progress.step(probes.len());
                continue;
            }
            let to = seen_from(&opened, from, to);
            for (proto, port) in &probes {
                let allowed = probe(&mut lab, from, &to, *proto, *port);
                cells.push(Cell {
                    from: from.name.clone(),
                    to: to.name.clone(),
                    proto: if *proto == Proto::Tcp { "TCP" } else { "UDP" },
                    port: *port,
                    verdict: if allowed { "allow" } else { "deny" },
                });
                progress.step(1);
            }
        }
    }
    progress.finish();
    cells.sort();
    match expected {
        None => {
            print(&render(&cells, args.output)?)?;
            Ok(Exit::Ok)
        }
        Some(expected) => compare(&cells, &expected, args.output),
    }
}

/// Sends the first packet of a new flow in an untouched lab, and says whether it was answered.
fn probe(lab: &mut Lab, from: &End, to: &End, proto: Proto, port: u16) -> bool {
    let (Some(host), Some(own)) = (from.host, from.port) else { return false };
    lab.reset();
    let address = to.address;
    lab.with_host(host, |h, now, out| match proto {
        Proto::Udp => {
            let options = UdpOptions { timeout: PATIENCE, ..UdpOptions::default() };
            h.start_udp(address, port, DNS_QUERY.to_vec(), options, now, out)
        }
        _ => {
            let options = TcpOptions {
                timeout: PATIENCE,
                until: ReadUntil::Connected,
                ..TcpOptions::default()
            };
            h.start_tcp(address, port, options, now, out)
        }
    });
    let until = lab.now() + PATIENCE;
    let mut arrived = false;
    lab.run_while(until, |lab| {
        for delivery in lab.take_watched() {
            if !is_of_a_flow(&delivery) {
                continue;
            }
            if arrived && delivery.port == own {
                return false;
            }
            arrived |= to.arrives.contains(&delivery.port);
        }
        true
    })
}

/// Whether a delivery is an IP packet of the flow rather than the link's own business.
fn is_of_a_flow(delivery: &Delivery) -> bool {
    packet::parse(&delivery.frame.bytes).is_ok_and(|h| h.ip().is_some_and(|ip| !is_nd(ip)))
}

fn pods(realized: &Realized, lab: &Lab, namespace: Option<&str>) -> Vec<End> {
    realized
        .names
        .ports()
        .filter_map(|(name, place)| {
            let pod = name.strip_prefix("pod/")?;
            if let Some(ns) = namespace
                && pod.split('/').next() != Some(ns)
            {
                return None;
            }
            Some(End {
                name: pod.to_owned(),
                host: lab.host_at(place.port).map(|(h, _)| h),
                port: Some(place.port),
                address: *place.addresses.first()?,
                arrives: [place.port].into(),
            })
        })
        .collect()
}

/// External hosts by name or by one of their addresses.
fn outside(realized: &Realized, lab: &Lab, names: &[String]) -> Result<Vec<End>, Error> {
    let mut ends = Vec::new();
    for name in names {
        let wanted: Option<Addr> = name.parse().ok();
        let bare = name.trim_start_matches("host/").trim_start_matches("ext:");
        let wanted = wanted.or_else(|| bare.parse().ok());
        let found = realized.names.ports().find(|(port, place)| {
            port.starts_with("host/")
                && match wanted {
                    Some(address) => place.addresses.contains(&address),
                    None => port
                        .trim_start_matches("host/")
                        .split(':')
                        .next()
                        .is_some_and(|host| host == bare),
                }
        });
        let Some((_, place)) = found else {
            return Err(Error::input(format!(
                "--ext: no external host has the name or address '{name}'"
            )));
        };
        let address = wanted
            .or_else(|| place.addresses.first().copied())
            .ok_or_else(|| Error::input(format!("--ext: host '{name}' has no address")))?;
        ends.push(End {
            name: format!("ext:{address}"),
            host: lab.host_at(place.port).map(|(h, _)| h),
            port: Some(place.port),
            address,
            arrives: [place.port].into(),
        });
    }
    ends.sort_by(|a, b| a.name.cmp(&b.name));
    ends.dedup_by(|a, b| a.name == b.name);
    Ok(ends)
}

/// Services with an address, by their ClusterIP.
fn services(opened: &Opened, namespace: Option<&str>) -> Vec<End> {
    let realized = &opened.realized;
    let by_address: BTreeMap<Addr, PortId> = realized
        .names
        .ports()
        .flat_map(|(_, place)| place.addresses.iter().map(move |a| (*a, place.port)))
        .collect();
    let network = &realized.network;
    opened
        .definitions
        .services
        .keys()
        .filter(|name| namespace.is_none_or(|ns| name.namespace == ns))
        .filter_map(|name| {
            let address = realized.names.cluster_ip(name).ok()?;
            let vip = realized.names.vip(name).ok();
            let arrives = network
                .distributed_balancer
                .servers()
                .iter()
                .chain(network.routers.iter().flat_map(|r| r.balancer.servers()))
                .filter(|s| s.address == address || Some(s.address) == vip)
                .flat_map(|s| &s.members)
                .filter_map(|m| by_address.get(&m.address).copied())
                .collect();
            Some(End {
                name: format!("svc:{}/{}", name.namespace, name.name),
                host: None,
                port: None,
                address,
                arrives,
            })
        })
        .collect()
}

/// From outside a service is its VIP; its ClusterIP exists only inside.
fn seen_from(opened: &Opened, from: &End, to: &End) -> End {
    let outside = from.name.starts_with("ext:");
    let address = to
        .name
        .strip_prefix("svc:")
        .and_then(|name| name.split_once('/'))
        .map(|(namespace, name)| ObjectName::new(namespace, name))
        .and_then(|name| opened.realized.names.service_from(outside, &name).ok());
    match address {
        Some(address) => End { address, ..to.clone() },
        None => to.clone(),
    }
}

fn probes(ports: &[String]) -> Result<Vec<(Proto, u16)>, Error> {
    let mut probes = Vec::new();
    for text in ports {
        let fail = || {
            Error::input(format!(
                "--ports: '{text}' is not tcp/PORT or udp/PORT with a port from 1 to 65535"
            ))
        };
        let (proto, port) = text.split_once('/').ok_or_else(fail)?;
        let proto = match proto.to_ascii_lowercase().as_str() {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            _ => return Err(fail()),
        };
        let port: u16 = port.parse().ok().filter(|p| *p > 0).ok_or_else(fail)?;
        if !probes.contains(&(proto, port)) {
            probes.push((proto, port));
        }
    }
    Ok(probes)
}

/// What identifies a cell.
type Key = (String, String, String, u16);

fn read_expected(path: &Path) -> Result<BTreeMap<Key, String>, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| Error::input(format!("cannot read {}: {e}", path.display())))?;
    let mut rows = BTreeMap::new();
    for (i, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty()
            || line.starts_with('#')
            || (rows.is_empty() && line == "from,to,proto,port,verdict")
        {
            continue;
        }
        let fail = |why: &str| {
            Error::input(format!(
                "{}:{}: {why}; a row is from,to,proto,port,verdict, for instance x/a,y/b,TCP,80,allow",
                path.display(),
                i + 1
            ))
        };
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [from, to, proto, port, verdict] = fields[..] else {
            return Err(fail("not five fields"));
        };
        let port: u16 =
            port.parse().map_err(|_| fail("the port is not a number from 1 to 65535"))?;
        let verdict = verdict.to_ascii_lowercase();
        if verdict != "allow" && verdict != "deny" {
            return Err(fail("the verdict is neither allow nor deny"));
        }
        let key = (from.to_owned(), to.to_owned(), proto.to_ascii_uppercase(), port);
        if rows.insert(key, verdict).is_some() {
            return Err(fail("the row stands here twice"));
        }
    }
    Ok(rows)
}

/// A row that is not as expected.
#[derive(Clone, Debug, Serialize)]
struct Difference {
    from: String,
    to: String,
    proto: String,
    port: u16,
    expected: Option<String>,
    seen: Option<String>,
}

impl Row for Difference {
    const COLUMNS: &'static [Column] = &[
        Column { name: "FROM", wide: false },
        Column { name: "TO", wide: false },
        Column { name: "PROTO", wide: false },
        Column { name: "PORT", wide: false },
        Column { name: "EXPECTED", wide: false },
        Column { name: "SEEN", wide: false },
    ];
    fn cells(&self) -> Vec<String> {
        let text = |v: &Option<String>| v.clone().unwrap_or_else(|| "-".to_owned());
        vec![
            self.from.clone(),
            self.to.clone(),
            self.proto.clone(),
            self.port.to_string(),
            text(&self.expected),
            text(&self.seen),
        ]
    }
}

fn compare(
    cells: &[Cell],
    expected: &BTreeMap<Key, String>,
    format: Format,
) -> Result<Exit, Error> {
    let seen: BTreeMap<Key, String> = cells
        .iter()
        .map(|c| ((c.from.clone(), c.to.clone(), c.proto.to_owned(), c.port), c.verdict.to_owned()))
        .collect();
    let keys: BTreeSet<&Key> = seen.keys().chain(expected.keys()).collect();
    let different: Vec<Difference> = keys
        .into_iter()
        .filter(|key| seen.get(*key) != expected.get(*key))
        .map(|key| Difference {
            from: key.0.clone(),
            to: key.1.clone(),
            proto: key.2.clone(),
            port: key.3,
            expected: expected.get(key).cloned(),
            seen: seen.get(key).cloned(),
        })
        .collect();
    if different.is_empty() {
        if matches!(format, Format::Table | Format::Wide) {
            print(&format!("all {} rows are as expected\n", seen.len()))?;
        } else {
            print(&render(&different, format)?)?;
        }
        return Ok(Exit::Ok);
    }
    print(&render(&different, format)?)?;
    eprintln!("{} of {} rows differ", different.len(), seen.len().max(expected.len()));
    Ok(Exit::Failed)
}

/// A line on the terminal for what takes longer than a second.
struct Progress {
    total: usize,
    done: usize,
    started: Instant,
    shown: Option<Instant>,
}

impl Progress {
    fn new(total: usize) -> Progress {
        Progress { total, done: 0, started: Instant::now(), shown: None }
    }

    fn step(&mut self, cells: usize) {
        self.done += cells;
        let last = self.shown.unwrap_or(self.started);
        if last.elapsed() >= Duration::from_secs(1) && std::io::stderr().is_terminal() {
            eprint!("\r{} of {} cells", self.done, self.total);
            // A terminal that cannot be written to needs no progress.
            std::io::stderr().flush().unwrap_or_default();
            self.shown = Some(Instant::now());
        }
    }

    fn finish(&self) {
        if self.shown.is_some() {
            eprint!("\r\u{1b}[K");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn ports_are_checked() {
        let ok = probes(&["tcp/80".into(), "UDP/53".into(), "tcp/80".into()]).unwrap();
        assert_eq!(ok, [(Proto::Tcp, 80), (Proto::Udp, 53)]);
        for bad in ["80", "tcp/0", "tcp/70000", "sctp/80", "tcp/", "/80"] {
            assert!(probes(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }

    #[test]
    fn expectations_are_checked() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("e.csv");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            read_expected(&file)
        };
        let rows =
            read("from,to,proto,port,verdict\nx/a,y/b,TCP,80,allow\n\nx/a,y/b,udp,80,Deny\n")
                .unwrap();
        assert_eq!(rows.len(), 2);
        for bad in [
            "x/a,y/b,TCP,80\n",
            "x/a,y/b,TCP,x,allow\n",
            "x/a,y/b,TCP,80,maybe\n",
            "x/a,y/b,TCP,80,allow\nx/a,y/b,TCP,80,deny\n",
        ] {
            let error = read(bad).unwrap_err();
            assert!(error.message.contains("e.csv:"), "{error}");
        }
    }
}
