//! `tierlab bench`: what the network of a lab costs a packet.
//!
//! Several rows are measured by a process each: memory that one has used and given back would hide what the
//! next one takes.

use crate::args;
use crate::benchmark::compare::{compare, former};
use crate::benchmark::machine::Machine;
use crate::benchmark::report::{Report, Row, SCHEMA, Skipped};
use crate::benchmark::row::Bench;
use crate::exit::{Error, Exit};
use crate::open::{self, Opened};
use crate::output::print;
use bench::{Flows, Work, find};
use definitions::Input;
use realization::Allocations;
use std::ffi::OsString;
use std::io::{IsTerminal, Read, Write};
use std::process::{Command, Stdio};

/// The lab that is measured unless another one is given.
const LAB: (&str, &str) =
    ("topologies/bench/lab.yaml", include_str!("../../../../topologies/bench/lab.yaml"));

/// What the paths of `-f` name, read once, so that it can be given to another process.
struct Source {
    inputs: Vec<Input>,
    /// Standard input, if that is one of them.
    standard: Option<String>,
}

pub fn run(args: &args::Bench) -> Result<Exit, Error> {
    let before = args.compare.as_deref().map(former).transpose()?;
    let source = source(args)?;
    let opened = opened(args, &source)?;
    let net = open::network(&opened.realized, 1);
    let mut stations = open::stations(&opened.realized);
    if args.ipv6 {
        stations = stations.only(|address| !address.is_v4());
    }
    let machine = Machine::this();
    let bench = Bench { net: &net, stations: &stations, args, machine: &machine };
    let mut report =
        Report { schema: SCHEMA.to_owned(), machine: machine.clone(), ..Report::default() };
    if !machine.optimized {
        eprintln!(
            "this is a build without optimization: its figures say nothing (cargo build --release)"
        );
    }
    if let Some(work) = args.work {
        let flows = find(&net, &stations, work.into()).map_err(|e| Error::input(e.to_string()))?;
        report.rows.push(bench.measure(&flows, &progress(flows.work))?);
    } else {
        for work in Work::ALL {
            match find(&net, &stations, work) {
                Ok(flows) => report.rows.push(elsewhere(args, &source, &flows)?),
                Err(missing) => report.skipped.push(Skipped {
                    work: work.name().to_owned(),
                    reason: missing.what.to_owned(),
                }),
            }
        }
        if report.rows.is_empty() {
            let reasons: Vec<String> = report
                .skipped
                .iter()
                .map(|s| format!("'{}' cannot be measured here: {}", s.work, s.reason))
                .collect();
            return Err(Error::input(reasons.join("\n")));
        }
    }
    clear_progress();
    let mut exit = Exit::Ok;
    let mut slow = Vec::new();
    if let Some(before) = &before {
        if before.machine.cpu != report.machine.cpu {
            eprintln!("the former report is of another machine: {}", before.machine.cpu);
        }
        slow = compare(&mut report, before, args.tolerance)?.into_iter().cloned().collect();
    }
    match args.output {
        args::Brief::Json => print(&report.json()?)?,
        args::Brief::Text => {
            print(&report.table())?;
            for Skipped { work, reason } in &report.skipped {
                eprintln!("'{work}' cannot be measured here: {reason}");
            }
        }
    }
    for Row { work, ratio, .. } in &slow {
        exit = Exit::Failed;
        eprintln!("'{work}' has {:.2} of the former rate", ratio.unwrap_or_default());
    }
    Ok(exit)
}

fn source(args: &args::Bench) -> Result<Source, Error> {
    if args.file.is_empty() {
        return Ok(Source { inputs: vec![Input::text(LAB.0, LAB.1)], standard: None });
    }
    let mut standard = None;
    let mut inputs = Vec::new();
    for path in &args.file {
        if path.as_os_str() != "-" {
            inputs.push(Input::argument(path));
        } else if standard.is_none() {
            let mut text = String::new();
            std::io::stdin()
                .read_to_string(&mut text)
                .map_err(|e| Error::input(format!("cannot read standard input: {e}")))?;
            inputs.push(Input::text("<stdin>", text.clone()));
            standard = Some(text);
        }
    }
    Ok(Source { inputs, standard })
}

fn opened(args: &args::Bench, source: &Source) -> Result<Opened, Error> {
    let kept =
        if args.file.is_empty() { Allocations::default() } else { open::allocations(&args.state)? };
    open::realize(&source.inputs, &kept)
}

/// Measures a row in a process of its own.
fn elsewhere(args: &args::Bench, source: &Source, flows: &Flows) -> Result<Row, Error> {
    progress(flows.work)("measuring");
    let fail = |e: std::io::Error| {
        Error::environment(format!("cannot measure in a process of its own: {e}"))
    };
    let program = std::env::current_exe().map_err(fail)?;
    let mut child = Command::new(program)
        .args(arguments(args, flows.work))
        .stdin(if source.standard.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(fail)?;
    if let (Some(mut pipe), Some(text)) = (child.stdin.take(), &source.standard) {
        pipe.write_all(text.as_bytes()).map_err(fail)?;
    }
    let output = child.wait_with_output().map_err(fail)?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let exit = match output.status.code() {
            Some(1) => Exit::Failed,
            Some(2) => Exit::BadInput,
            _ => Exit::Internal,
        };
        return Err(Error { exit, message: format!("'{}': {message}", flows.work) });
    }
    let report: Report = serde_json::from_slice(&output.stdout)
        .map_err(|e| Error::internal(format!("a process gave no report: {e}")))?;
    report
        .rows
        .into_iter()
        .next()
        .ok_or_else(|| Error::internal("a process gave a report without a row"))
}

/// The arguments with which another process measures one of the works.
fn arguments(args: &args::Bench, work: Work) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec!["bench".into(), work.name().into()];
    let mut option = |name: &str, value: String| all.extend([name.into(), value.into()]);
    if let Some(flows) = args.flows {
        option("--flows", flows.to_string());
    }
    option("--rules", args.rules.to_string());
    option("--services", args.services.to_string());
    option("--routes", args.routes.to_string());
    option("--size", bench::Size::from(args.size).name().to_owned());
    option("--workers", args.workers.to_string());
    option("--changes-per-second", args.changes_per_second.to_string());
    option("--duration", args.duration.to_string());
    option("--queue", args.queue.to_string());
    option("--output", "json".to_owned());
    if args.ipv6 {
        all.push("--ipv6".into());
    }
    if args.new_sessions {
        all.push("--new-sessions".into());
    }
    all.extend(["--state".into(), args.state.clone().into()]);
    for path in &args.file {
        all.extend(["--file".into(), path.into()]);
    }
    all
}

/// Shows on a terminal what is being done.
fn progress(work: Work) -> impl Fn(&str) {
    let shown = std::io::stderr().is_terminal();
    move |what| {
        if shown {
            eprint!("\r\u{1b}[K{work}: {what}");
        }
    }
}

fn clear_progress() {
    if std::io::stderr().is_terminal() {
        eprint!("\r\u{1b}[K");
    }
}
