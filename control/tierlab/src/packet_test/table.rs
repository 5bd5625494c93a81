//! `expectTable`: rows that tables of the running lab have, or have not.
//!
//! Both sides are rendered to words under the names of the test's own fields, and compared as such: what a
//! failure shows is what was compared.

use super::drops::{self, known, names};
use super::failure::{Failure, port_name};
use super::field::flow_word;
use super::report::span;
use super::runner::Stop;
use super::scope::Scope;
use super::wanted::flow_protocol;
use crate::output::aligned;
use definitions::own::{
    BindingRow, CounterRow, DropRow, Ends, ExpectDrop, ExpectTable, FlowProtocol, PortRow,
    RouteRow, RuleRow, SessionRow,
};
use engine::network::{Network, RouteTarget, RouterId};
use engine::{Hit, Node, RecordKind, RuleKey, TimerState, Tuple};
use hosts::Lab;
use packet::Time;
use std::collections::{BTreeMap, BTreeSet};

/// Rows that a message lists.
const SHOWN_ROWS: usize = 50;

/// A row of the lab: what each field says. A field may say the same in several words.
type Row = Vec<(&'static str, Vec<String>)>;

/// A table of the lab.
struct Table {
    name: &'static str,
    rows: Vec<Row>,
}

/// A row that a test states.
struct Stated {
    fields: Vec<(&'static str, String)>,
    /// How many rows of the lab are to be like it; `None`: at least one.
    count: Option<usize>,
}

impl Stated {
    fn new(count: Option<usize>, absent: bool) -> Stated {
        Stated { fields: Vec::new(), count: if absent { Some(0) } else { count } }
    }

    fn add(&mut self, field: &'static str, value: Option<impl ToString>) {
        self.fields.extend(value.map(|value| (field, value.to_string())));
    }

    fn ends(
        &mut self,
        fields: [&'static str; 4],
        ends: Option<&Ends>,
        scope: &Scope<'_>,
    ) -> Result<(), String> {
        let Some(ends) = ends else { return Ok(()) };
        let [src, sport, dst, dport] = fields;
        self.add(src, ends.src.as_ref().map(|a| scope.address(a)).transpose()?);
        self.add(sport, ends.sport.as_ref().map(|n| scope.number16(n)).transpose()?);
        self.add(dst, ends.dst.as_ref().map(|a| scope.address(a)).transpose()?);
        self.add(dport, ends.dport.as_ref().map(|n| scope.number16(n)).transpose()?);
        Ok(())
    }

    fn protocol(&mut self, protocol: Option<FlowProtocol>) {
        self.add("protocol", protocol.map(flow_protocol));
    }

    fn admits(&self, row: &Row) -> bool {
        self.fields.iter().all(|(field, wanted)| {
            row.iter().any(|(name, words)| name == field && words.contains(wanted))
        })
    }
}

/// For people: what a test states.
impl std::fmt::Display for Stated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fields: Vec<String> =
            self.fields.iter().map(|(field, value)| format!("{field} {value}")).collect();
        let fields = if fields.is_empty() { "any".to_owned() } else { fields.join(", ") };
        match self.count {
            None => write!(f, "a row: {fields}"),
            Some(0) => write!(f, "no row: {fields}"),
            Some(1) => write!(f, "1 row: {fields}"),
            Some(count) => write!(f, "{count} rows: {fields}"),
        }
    }
}

const INITIATING: [&str; 4] =
    ["initiating.src", "initiating.sport", "initiating.dst", "initiating.dport"];
const TERMINATING: [&str; 4] =
    ["terminating.src", "terminating.sport", "terminating.dst", "terminating.dport"];
const BEFORE: [&str; 4] = ["before.src", "before.sport", "before.dst", "before.dport"];
const AFTER: [&str; 4] = ["after.src", "after.sport", "after.dst", "after.dport"];

/// Checks all rows that a step states.
///
/// # Errors
/// A row that is not as stated, or one that names what does not exist.
pub(super) fn check(
    expected: &ExpectTable,
    lab: &mut Lab,
    network: &Network,
    scope: &Scope<'_>,
) -> Result<(), Stop> {
    let stated = stated_sessions(&expected.sessions, scope)?;
    compare(&stated, || sessions(lab, network))?;
    compare(&stated_rules(&expected.rules), || rules(lab, network))?;
    compare(&stated_bindings(&expected.nat, scope)?, || bindings(lab, network))?;
    compare(&stated_drops(&expected.drops)?, || dropped(lab, network))?;
    compare(&stated_ports(&expected.ports, network, scope)?, || ports(lab, network))?;
    compare(&stated_routes(&expected.routes, scope)?, || routes(network))
}

fn compare(stated: &[Stated], table: impl FnOnce() -> Table) -> Result<(), Stop> {
    if stated.is_empty() {
        return Ok(());
    }
    let table = table();
    for wanted in stated {
        let found = table.rows.iter().filter(|row| wanted.admits(row)).count();
        if wanted.count.map_or(found > 0, |count| count == found) {
            continue;
        }
        let headline = match found {
            0 => format!("table {} has no such row", table.name),
            1 => format!("table {} has 1 such row", table.name),
            _ => format!("table {} has {found} such rows", table.name),
        };
        let mut failure = Failure::new(headline).detail(format!("expected {wanted}"));
        for line in shown(&table).lines() {
            failure = failure.detail(line);
        }
        return Err(failure.into());
    }
    Ok(())
}

/// The table as it is.
fn shown(table: &Table) -> String {
    let Some(first) = table.rows.first() else {
        return format!("table {}: empty", table.name);
    };
    let header = first.iter().map(|(name, _)| (*name).to_owned()).collect();
    let rows = table.rows.iter().take(SHOWN_ROWS);
    let rows = rows.map(|row| row.iter().map(|(_, words)| words.join(" | ")).collect()).collect();
    let mut text = format!("table {}:\n{}", table.name, aligned(header, rows));
    if table.rows.len() > SHOWN_ROWS {
        text += &format!("and {} more", table.rows.len() - SHOWN_ROWS);
    }
    text
}

fn one(text: impl ToString) -> Vec<String> {
    vec![text.to_string()]
}

fn ends(fields: [&'static str; 4], tuple: &Tuple) -> Row {
    let [src, sport, dst, dport] = fields;
    vec![
        (src, one(tuple.src)),
        (sport, one(tuple.src_port)),
        (dst, one(tuple.dst)),
        (dport, one(tuple.dst_port)),
    ]
}

fn pair([forward, reply]: [u64; 2]) -> String {
    format!("{forward}/{reply}")
}

fn stated_sessions(rows: &[SessionRow], scope: &Scope<'_>) -> Result<Vec<Stated>, String> {
    rows.iter()
        .map(|row| {
            if let Some(state) = &row.state {
                let all: Vec<String> = TimerState::ALL.iter().map(ToString::to_string).collect();
                let all: Vec<&str> = all.iter().map(String::as_str).collect();
                known("state of a session", state, &all)?;
            }
            let mut stated = Stated::new(row.count, row.absent);
            stated.protocol(row.protocol);
            stated.ends(INITIATING, row.initiating.as_ref(), scope)?;
            stated.ends(TERMINATING, row.terminating.as_ref(), scope)?;
            stated.add("state", row.state.as_ref());
            stated.add("packets", row.packets.map(pair));
            stated.add("bytes", row.bytes.map(pair));
            stated.add("stages", row.stages.as_ref().map(|stages| stages.join(", ")));
            Ok(stated)
        })
        .collect()
}

fn sessions(lab: &mut Lab, network: &Network) -> Table {
    let sessions = lab.worker().sessions();
    let rows = sessions.iter().map(|session| {
        let stages: Vec<String> = session.records.iter().map(|r| place(network, r.node)).collect();
        let mut row: Row = vec![("protocol", one(flow_word(session.initiating.protocol)))];
        row.extend(ends(INITIATING, &session.initiating));
        row.extend(ends(TERMINATING, &session.terminating));
        row.push(("state", one(session.progress.timer_state())));
        row.push(("packets", one(pair(session.traffic.map(|t| t.packets)))));
        row.push(("bytes", one(pair(session.traffic.map(|t| t.bytes)))));
        row.push(("stages", one(stages.join(", "))));
        row
    });
    Table { name: "sessions", rows: rows.collect() }
}

/// A place that remembers flows.
fn place(network: &Network, node: Node) -> String {
    match node {
        Node::Balancer(port) => format!("dlb {}", port_name(network, port)),
        Node::Firewall(port) => format!("dfw {}", port_name(network, port)),
        Node::Gateway(router) => router_name(network, router),
        Node::GatewayFirewall(router) => format!("gfw {}", router_name(network, router)),
    }
}

fn router_name(network: &Network, router: RouterId) -> String {
    network.router(router).map_or_else(|| format!("gateway {}", router.0), |r| r.name.clone())
}

fn stated_rules(rows: &[RuleRow]) -> Vec<Stated> {
    rows.iter()
        .map(|row| {
            let mut stated = Stated::new(row.count, row.absent);
            stated.add("rule", row.rule.as_ref());
            stated.add("packets", row.packets);
            stated.add("bytes", row.bytes);
            stated.add("sessions", row.sessions);
            stated.add("lastHit", row.last_hit.map(|at| span(*at)));
            stated
        })
        .collect()
}

/// Every rule that there is, and those that have counted.
fn rules(lab: &mut Lab, network: &Network) -> Table {
    let hits = lab.worker().hits();
    let ethernet = network.firewall.ethernet.iter().map(|rule| RuleKey::Firewall(rule.id));
    let firewall = network.firewall.rules.iter().map(|rule| RuleKey::Firewall(rule.id));
    let gateway_rules = (0..).zip(&network.routers).flat_map(|(id, router)| {
        let rules = router.gateway_firewall.rules().iter();
        rules.map(move |rule| RuleKey::GatewayFirewall(RouterId(id), rule.id))
    });
    let nat = (0..).zip(&network.routers).flat_map(|(id, router)| {
        router.nat.rules().iter().map(move |rule| RuleKey::Nat(RouterId(id), rule.id))
    });
    let gateways = (0..).zip(&network.routers);
    let gateways = gateways.map(|(id, router)| (Some(RouterId(id)), &router.balancer));
    let servers = std::iter::once((None, &network.distributed_balancer)).chain(gateways);
    let servers = servers.flat_map(|(router, table)| {
        let key = move |s: &engine::network::VirtualServer| {
            RuleKey::Server(router, s.address, s.protocol, s.port)
        };
        table.servers().iter().map(key)
    });
    let all: BTreeSet<RuleKey> = ethernet
        .chain(firewall)
        .chain(gateway_rules)
        .chain(nat)
        .chain(servers)
        .chain(hits.keys().copied())
        .collect();
    let rows = all.into_iter().map(|key| {
        let Hit { traffic, sessions, last } = hits.get(&key).copied().unwrap_or_default();
        let last = last.map_or_else(|| "never".to_owned(), |at| span(at.since(Time::ZERO)));
        vec![
            ("rule", names(network, key)),
            ("packets", one(traffic.packets)),
            ("bytes", one(traffic.bytes)),
            ("sessions", one(sessions)),
            ("lastHit", one(last)),
        ]
    });
    Table { name: "rules", rows: rows.collect() }
}

fn stated_bindings(rows: &[BindingRow], scope: &Scope<'_>) -> Result<Vec<Stated>, String> {
    rows.iter()
        .map(|row| {
            let mut stated = Stated::new(row.count, row.absent);
            stated.add("rule", row.rule.as_ref());
            stated.protocol(row.protocol);
            stated.ends(BEFORE, row.before.as_ref(), scope)?;
            stated.ends(AFTER, row.after.as_ref(), scope)?;
            Ok(stated)
        })
        .collect()
}

fn bindings(lab: &mut Lab, network: &Network) -> Table {
    let sessions = lab.worker().sessions();
    let records = sessions.iter().flat_map(|session| &session.records);
    let translations = records.filter(|record| {
        matches!(record.node, Node::Gateway(_))
            && !matches!(record.kind, RecordKind::Firewall { .. })
    });
    let rows = translations.map(|record| {
        let rule = record.rule_key().map(|key| names(network, key)).unwrap_or_default();
        let mut row: Row =
            vec![("rule", rule), ("protocol", one(flow_word(record.before.protocol)))];
        row.extend(ends(BEFORE, &record.before));
        row.extend(ends(AFTER, &record.after));
        row
    });
    Table { name: "nat", rows: rows.collect() }
}

fn stated_drops(rows: &[DropRow]) -> Result<Vec<Stated>, String> {
    rows.iter()
        .map(|row| {
            drops::check(&ExpectDrop {
                stage: row.stage.clone(),
                reason: row.reason.clone(),
                rule: None,
            })?;
            let mut stated = Stated::new(row.count, row.absent);
            stated.add("stage", row.stage.as_ref());
            stated.add("reason", row.reason.as_ref());
            stated.add("object", row.object.as_ref());
            stated.add("rule", row.rule.as_ref());
            stated.add("packets", row.packets);
            stated.add("bytes", row.bytes);
            Ok(stated)
        })
        .collect()
}

fn dropped(lab: &mut Lab, network: &Network) -> Table {
    let drops = lab.worker().drops();
    let rows = drops.iter().map(|(key, traffic)| {
        vec![
            ("stage", one(key.stage)),
            ("reason", one(key.reason)),
            ("object", one(&key.object)),
            ("rule", key.rule.map(|rule| names(network, rule)).unwrap_or_default()),
            ("packets", one(traffic.packets)),
            ("bytes", one(traffic.bytes)),
        ]
    });
    Table { name: "drops", rows: rows.collect() }
}

fn stated_ports(
    rows: &[PortRow],
    network: &Network,
    scope: &Scope<'_>,
) -> Result<Vec<Stated>, String> {
    rows.iter()
        .map(|row| {
            let mut stated = Stated::new(None, false);
            stated.add("port", Some(port_name(network, scope.port(&row.port)?)));
            for (fields, CounterRow { packets, bytes }) in
                [(["rx.packets", "rx.bytes"], row.rx), (["tx.packets", "tx.bytes"], row.tx)]
            {
                let [of_packets, of_bytes] = fields;
                stated.add(of_packets, packets);
                stated.add(of_bytes, bytes);
            }
            Ok(stated)
        })
        .collect()
}

fn ports(lab: &mut Lab, network: &Network) -> Table {
    let traffic = lab.worker().port_traffic();
    let named = (0..).zip(&network.ports).map(|(id, port)| (engine::network::PortId(id), port));
    let rows = named.map(|(id, port)| {
        let counted = traffic.get(&id).copied().unwrap_or_default();
        vec![
            ("port", one(&port.name)),
            ("rx.packets", one(counted.rx.packets)),
            ("rx.bytes", one(counted.rx.bytes)),
            ("tx.packets", one(counted.tx.packets)),
            ("tx.bytes", one(counted.tx.bytes)),
        ]
    });
    // By name: indices are the lab's own business.
    let by_name: BTreeMap<String, Row> = rows
        .map(|row: Row| (row.first().map(|(_, n)| n.concat()).unwrap_or_default(), row))
        .collect();
    Table { name: "ports", rows: by_name.into_values().collect() }
}

fn stated_routes(rows: &[RouteRow], scope: &Scope<'_>) -> Result<Vec<Stated>, String> {
    rows.iter()
        .map(|row| {
            let mut stated = Stated::new(row.count, row.absent);
            stated.add("router", row.router.as_ref());
            stated.add("prefix", row.prefix.as_ref());
            stated.add("source", row.source.as_ref());
            stated.add("via", row.via.as_ref().map(|a| scope.address(a)).transpose()?);
            Ok(stated)
        })
        .collect()
}

fn routes(network: &Network) -> Table {
    let all = network
        .routers
        .iter()
        .flat_map(|router| router.fib.routes().into_iter().map(move |route| (&router.name, route)));
    let rows = all.map(|(router, route)| {
        let via = match &route.target {
            RouteTarget::Blackhole => one("blackhole"),
            RouteTarget::Unreachable => one("unreachable"),
            RouteTarget::NextHops(hops) => hops
                .iter()
                .map(|hop| hop.gateway.map_or_else(|| "link".to_owned(), |via| via.to_string()))
                .collect(),
        };
        vec![
            ("router", one(router)),
            ("prefix", one(route.prefix)),
            ("source", one(route.source)),
            ("via", via),
        ]
    });
    Table { name: "routes", rows: rows.collect() }
}
