//! `tierlab demo`: the Supervisor lab of the source articles, with real frames.

use super::curl;
use super::ping::{finish, ping};
use super::trace::{self, trace};
use crate::args::{self, Proto};
use crate::exit::{Error, Exit};
use crate::open::{self, Opened, origin};
use crate::output::{Format, aligned, bold, print, render, wants_bold};
use bench::{BenchError, Setup, Size, Snapshots, Work, find, generators, rate};
use definitions::Input;
use hosts::{
    DnsOptions, Endpoint, Failure, Lab, OperationResult, PingOptions, TcpOptions, ping_output,
};
use packet::Addr;
use realization::Allocations;
use std::time::{Duration, Instant};

/// Files of the lab, compiled in: the demo needs nothing but the program.
macro_rules! lab {
    ($dir:literal: $($file:literal)*) => {
        &[$((
            concat!("topologies/", $dir, "/", $file),
            include_str!(concat!("../../../../topologies/", $dir, "/", $file)),
        )),*]
    };
}

const SUPERVISOR: &[(&str, &str)] = lab!("supervisor": "supervisor.yaml" "physical.yaml" "dns.yaml" "system-services.yaml" "workloads.yaml");
const CURED: &[(&str, &str)] = lab!("supervisor-cured": "supervisor.yaml" "physical.yaml" "dns.yaml" "system-services.yaml" "workloads.yaml");

/// What is shown of a table before it is cut: the whole of the article's 28 virtual servers fits.
const ROWS: usize = 32;

pub fn run(args: &args::Demo) -> Result<Exit, Error> {
    let started = Instant::now();
    let opened = realize(SUPERVISOR)?;
    realized(&opened)?;
    let mut shown = Shown { failed: 0 };
    traffic(&opened, &mut shown)?;
    fault(&opened, &mut shown)?;
    if !args.no_bench {
        speed(&opened)?;
    }
    heading("Next")?;
    print(
        "  tierlab get dfw -f topologies/supervisor\n\
         \x20 tierlab trace pod/shop/cart pod/banking/ledger:5432 -f topologies/supervisor\n\
         \x20 tierlab test topologies/supervisor\n",
    )?;
    print(&format!("\n{:.1} s, no root, no network\n", started.elapsed().as_secs_f64()))?;
    Ok(if shown.failed == 0 { Exit::Ok } else { Exit::Failed })
}

fn realize(files: &[(&str, &str)]) -> Result<Opened, Error> {
    let inputs: Vec<Input> = files.iter().map(|(name, text)| Input::text(*name, *text)).collect();
    open::realize(&inputs, &Allocations::default())
}

fn heading(text: &str) -> Result<(), Error> {
    print(&format!("\n{}\n", bold(text, wants_bold())))
}

/// The first part: what was made of the definitions.
fn realized(opened: &Opened) -> Result<(), Error> {
    let l = &opened.realized.logical;
    table("Segments", &render(&l.segments, Format::Table)?)?;
    table(
        "Virtual servers: distributed (ClusterIP) and server (VIP)",
        &render(&l.virtual_servers, Format::Table)?,
    )?;
    table("NAT", &render(&l.nat, Format::Table)?)?;
    table("Distributed firewall", &render(&l.dfw, Format::Table)?)?;
    table("Routes", &render(&l.routes, Format::Table)?)
}

fn table(title: &str, text: &str) -> Result<(), Error> {
    heading(title)?;
    let lines: Vec<&str> = text.lines().collect();
    for line in lines.iter().take(ROWS + 1) {
        print(&format!("  {line}\n"))?;
    }
    let more = lines.len().saturating_sub(ROWS + 1);
    if more > 0 {
        print(&format!("  … {more} more\n"))?;
    }
    Ok(())
}

/// Counts what did not come out as it should.
struct Shown {
    failed: usize,
}

impl Shown {
    fn line(&mut self, ok: bool, what: &str, result: &str) -> Result<(), Error> {
        if !ok {
            self.failed += 1;
        }
        print(&format!("  {} {what}\n       {result}\n", if ok { "ok  " } else { "FAIL" }))
    }
}

/// The second part: real frames across it.
fn traffic(opened: &Opened, shown: &mut Shown) -> Result<(), Error> {
    heading("Real frames")?;
    let mut lab = open::lab(&opened.realized);
    let host = |lab: &Lab, name: &str| origin(&opened.realized, lab, name).map(|o| o.host);
    let address = |name: &str| open::address(&opened.realized, name);

    let teller = host(&lab, "pod/banking/teller")?;
    let report = ping(&mut lab, teller, address("pod/banking/ledger")?, PingOptions::default())?;
    shown.line(
        report.received() == 1,
        "a pod pings a pod of its namespace: pod/banking/teller > pod/banking/ledger",
        &one_line(&report),
    )?;

    for tcp in [false, true] {
        let options = DnsOptions { tcp, ..DnsOptions::default() };
        let name = "web.banking.svc.cluster.local";
        let id = lab.with_host(teller, |h, now, out| h.start_dns_query(name, options, now, out));
        let result = finish(&mut lab, teller, id)?;
        let (ok, text) = match result {
            OperationResult::Dns(Ok(reply)) => {
                let all: Vec<String> = reply.answer.addresses.iter().map(Addr::to_string).collect();
                (!all.is_empty(), format!("{} says {name} is {}", reply.server, all.join(", ")))
            }
            OperationResult::Dns(Err(failure)) => (false, failure.to_string()),
            other => (false, format!("{other:?}")),
        };
        let over = if tcp { "TCP" } else { "UDP" };
        shown.line(ok, &format!("a pod asks the ClusterIP of kube-dns over {over}"), &text)?;
    }

    let client = host(&lab, "host/client")?;
    let vip = address("172.16.1.2")?;
    for port in [443, 6443] {
        let (ok, text) = page(&mut lab, client, vip, port)?;
        shown.line(
            ok && text.contains("cp-") && text.contains("sees client 100.64."),
            &format!("a client outside gets a page from the API's address: {vip}:{port}"),
            &text,
        )?;
    }

    let (ok, text) = page(&mut lab, teller, address("host/client")?, 80)?;
    shown.line(
        ok && text.contains("sees client 172.16.2.2:"),
        "a pod gets a page from outside, which sees the namespace's SNAT address",
        &text,
    )?;

    let (ok, text) = page(&mut lab, client, address("172.16.1.3")?, 80)?;
    shown.line(ok, "a client outside gets a page from pods behind a LoadBalancer, one port opened by NetworkPolicy", &text)?;

    let cart = origin(&opened.realized, &lab, "pod/shop/cart")?;
    let mut traced = open::lab_with_cache(&opened.realized, false);
    let view = trace(&mut traced, &cart, address("pod/banking/ledger")?, Proto::Tcp, 5432, false);
    let denied = view.drops.iter().any(|d| d.stage == "dfw-in" && d.rule.is_some());
    let text = trace::text(&view, wants_bold());
    shown.line(
        view.delivered.is_none() && denied,
        "another namespace's pod is refused, and the trace names the rule",
        text.trim_end().replace('\n', "\n       ").as_str(),
    )
}

fn one_line(report: &hosts::PingReport) -> String {
    let text = ping_output::render(report);
    text.lines().nth(1).unwrap_or("nothing came back").to_owned()
}

fn page(lab: &mut Lab, host: usize, addr: Addr, port: u16) -> Result<(bool, String), Error> {
    let server = Endpoint { addr, port };
    let name = addr.to_string();
    let result: Result<_, Failure> =
        curl::get(lab, host, server, &name, "/", TcpOptions::default())?;
    Ok(match result {
        Ok(reply) => {
            let body = String::from_utf8_lossy(&reply.response.body).trim_end().to_owned();
            (reply.response.status == 200, body)
        }
        Err(failure) => (false, failure.to_string()),
    })
}

/// The third part: the article's fault and its cure.
fn fault(opened: &Opened, shown: &mut Shown) -> Result<(), Error> {
    heading("The article's fault: one DNS address for management and workloads")?;
    let dns: Addr = open::address(&opened.realized, "192.168.10.10")?;
    let run = |opened: &Opened, from: &str| -> Result<hosts::PingReport, Error> {
        let mut lab = open::lab(&opened.realized);
        let from = origin(&opened.realized, &lab, from)?;
        let options = PingOptions { interface: from.interface, ..PingOptions::default() };
        ping(&mut lab, from.host, dns, options)
    };
    let report = run(opened, "vm/cp-1:eth0")?;
    let line = one_line(&report);
    shown.line(line.contains("ttl=128"), "cp-1# ping 192.168.10.10 -I eth0 -c 1", &line)?;
    let report = run(opened, "vm/cp-1:eth1")?;
    let line = one_line(&report);
    shown.line(
        line == "From 10.244.0.1 icmp_seq=1 Destination Host Unreachable",
        "cp-1# ping 192.168.10.10 -I eth1 -c 1",
        &line,
    )?;
    let cured = realize(CURED)?;
    let report = run(&cured, "vm/cp-1")?;
    let line = one_line(&report);
    shown.line(
        line.contains("ttl=128"),
        "with a workload DNS address of its own, queries leave by eth0 again: cp-1# ping 192.168.10.10 -c 1",
        &line,
    )?;
    let report = run(&cured, "vm/cp-1:eth1")?;
    let line = one_line(&report);
    shown.line(
        report.received() == 1,
        "and with the way there and the DNS server's way back: cp-1# ping 192.168.10.10 -I eth1 -c 1",
        &line,
    )
}

/// The last part: how fast the engine is here.
fn speed(opened: &Opened) -> Result<(), Error> {
    heading(
        "The engine on this machine: 64-byte frames, firewall, SNAT, Tier-1, Tier-0 with ECMP, one core",
    )?;
    let net = open::network(&opened.realized, 1);
    let stations = open::stations(&opened.realized);
    let flows = find(&net, &stations, Work::Chain).map_err(|e| Error::internal(e.to_string()))?;
    let snapshots = Snapshots::new(net);
    let setup =
        Setup { flows: &flows, stations: &stations, size: Size::B64, snapshots: &snapshots };
    let failed = |e: BenchError| Error::internal(e.to_string());
    let mut rows = Vec::new();
    for count in [1, 1_000, 10_000] {
        let mut team = generators(&setup, count, 1).map_err(failed)?;
        for generator in &mut team {
            generator.open().map_err(failed)?;
            generator.verify().map_err(failed)?;
        }
        let pps = rate(&mut team, Duration::from_millis(700)).map_err(failed)?.per_second();
        rows.push(vec![
            format!("  {count}"),
            format!("{:.2} Mpps", pps / 1e6),
            format!("{:.0} ns", 1e9 / pps),
        ]);
    }
    print(&aligned(["  FLOWS", "RATE", "A FRAME"].map(str::to_owned).to_vec(), rows))
}
