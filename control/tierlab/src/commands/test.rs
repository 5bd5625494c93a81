//! `tierlab test`: packet tests, each in a fresh lab.

use crate::args::{self, TestFormat};
use crate::exit::{Error, Exit};
use crate::open::{self, Opened};
use crate::output::print;
use crate::packet_test::{Status, TestBed, TestOutcome, report, run_all};
use definitions::Input;
use definitions::model::PacketTest;
use realization::Allocations;
use std::path::PathBuf;
use std::sync::Arc;

pub fn run(args: &args::Test) -> Result<Exit, Error> {
    let jobs = args
        .jobs
        .or_else(|| std::thread::available_parallelism().ok().map(std::num::NonZero::get))
        .unwrap_or(1);
    let mut outcomes: Vec<TestOutcome> = Vec::new();
    let mut listed = 0;
    for paths in labs(args)? {
        // Tests are hermetic: what a lab that ran here before was given does not count.
        let opened = open::realize(&open::inputs(&paths), &Allocations::default())?;
        let wanted: Vec<&PacketTest> = opened
            .definitions
            .packet_tests
            .values()
            .filter(|t| args.filter.as_deref().is_none_or(|text| t.meta.name.contains(text)))
            .collect();
        listed += wanted.len();
        if args.list {
            for test in &wanted {
                print(&format!("{}\n", test.meta.name))?;
            }
            continue;
        }
        outcomes.extend(run_lab(&opened, &wanted, jobs));
    }
    if listed == 0 {
        return Err(Error::input(match &args.filter {
            Some(text) => format!("no packet test's name contains '{text}'"),
            None => {
                "there is no packet test in these paths: write one with kind: PacketTest".to_owned()
            }
        }));
    }
    if args.list {
        return Ok(Exit::Ok);
    }
    match args.output {
        TestFormat::Human => print(&report::text(&outcomes))?,
        TestFormat::Json => {
            let text = report::json(&outcomes)
                .map_err(|e| Error::internal(format!("cannot render JSON: {e}")))?;
            print(&text)?;
        }
        TestFormat::Tap => print(&report::tap(&outcomes))?,
    }
    if let Some(file) = &args.junit {
        std::fs::write(file, report::junit(&outcomes))
            .map_err(|e| Error::environment(format!("cannot write {}: {e}", file.display())))?;
    }
    Ok(if outcomes.iter().any(|o| o.status == Status::BadInput) {
        Exit::BadInput
    } else if outcomes.iter().all(TestOutcome::passed) {
        Exit::Ok
    } else {
        Exit::Failed
    })
}

fn run_lab(opened: &Opened, tests: &[&PacketTest], jobs: usize) -> Vec<TestOutcome> {
    let lab = open::lab(&opened.realized);
    let bed = TestBed {
        network: Arc::clone(lab.network()),
        hosts: lab.specs().to_vec(),
        resolver: &opened.realized.names,
        opened: Some(opened),
    };
    run_all(tests.iter().copied(), &bed, jobs)
}

/// The paths of each lab. Paths that each define a cluster of their own are labs of their own; what
/// defines none belongs to all.
fn labs(args: &args::Test) -> Result<Vec<Vec<PathBuf>>, Error> {
    if !args.file.is_empty() {
        return Ok(vec![args.file.iter().chain(&args.paths).cloned().collect()]);
    }
    if args.paths.len() < 2 || args.paths.iter().any(|p| p.as_os_str() == "-") {
        return Ok(vec![args.paths.clone()]);
    }
    let (mut clusters, mut shared) = (Vec::new(), Vec::new());
    for path in &args.paths {
        // A path that does not stand alone is no lab; loading all together says what is wrong.
        let alone = definitions::load(&[Input::argument(path)]);
        match alone {
            Ok(loaded) if !loaded.definitions.supervisor_clusters.is_empty() => {
                clusters.push(path.clone())
            }
            _ => shared.push(path.clone()),
        }
    }
    if clusters.len() < 2 {
        return Ok(vec![args.paths.clone()]);
    }
    Ok(clusters
        .into_iter()
        .map(|lab| std::iter::once(lab).chain(shared.iter().cloned()).collect())
        .collect())
}
