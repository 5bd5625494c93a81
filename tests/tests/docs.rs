//! The documentation says what is so: its tables are generated from the code, its examples are run, its links lead somewhere.
//!
//! Run with `UPDATE_DOCS=1` to write the generated parts of `docs/reference.md` anew. What is compared and run:
//!
//! - between `<!-- begin NAME -->` and `<!-- end NAME -->` stands what [`generated`] gives for NAME;
//! - a fenced block ```` ```yaml file=NAME ```` is written to NAME in a directory that the document's examples share and that has a
//!   `topologies` of its own;
//! - a block ```` ```sh run ```` is run there and has to succeed;
//! - in a block ```` ```console ```` every line `$ COMMAND` is run there, and what stands below it is its output, standard error
//!   included. `…` stands for any text in a line, and alone for any number of lines. A command exits with 0 unless it ends
//!   in `# exits N`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use engine::{
    DropReason, Stage, TimerClass, TimerProfile, TimerSettings, TimerState, WorkerConfig,
};
use tierlab_tests::{Finished, root, run, tierlab};

/// Longer than any example takes, also where it is not optimized.
const LIMIT: Duration = Duration::from_secs(120);

/// A fenced block of a document.
#[derive(Debug)]
struct Block {
    /// Line of the opening fence, from 1.
    line: usize,
    /// What stands behind the fence.
    info: String,
    body: String,
}

/// The documents whose examples and links are checked, relative to the top of the checkout.
fn documents() -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(PathBuf::from).into();
    let mut below: Vec<PathBuf> = fs::read_dir(root().join("docs"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
        .map(|path| Path::new("docs").join(path.file_name().unwrap()))
        .collect();
    below.sort();
    all.append(&mut below);
    all
}

fn text_of(file: &Path) -> String {
    let path = root().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn blocks(text: &str) -> Vec<Block> {
    let mut found = Vec::new();
    let mut open: Option<Block> = None;
    for (number, line) in (1..).zip(text.lines()) {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => {
                open = Some(Block { line: number, info: info.to_owned(), body: String::new() });
            }
            (Some(_), Some(_)) => found.extend(open.take()),
            (Some(block), None) => writeln!(block.body, "{line}").unwrap(),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "the block that begins in line {} does not end", open.unwrap().line);
    found
}

/// The value of `key=value` in a block's info string.
fn option<'a>(info: &'a str, key: &str) -> Option<&'a str> {
    info.split_whitespace().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
}

#[test]
fn examples_do_what_they_show() {
    let mut failures = Vec::new();
    for file in documents() {
        let directory = tempfile::tempdir().unwrap();
        let bench = Bench::new(directory.path());
        for block in blocks(&text_of(&file)) {
            if let Err(message) = bench.play(&block) {
                failures.push(format!("{}:{}: {message}", file.display(), block.line));
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n\n"));
}

/// Where the examples of one document are run.
struct Bench<'a> {
    directory: &'a Path,
    path: String,
}

impl Bench<'_> {
    fn new(directory: &Path) -> Bench<'_> {
        let program = tierlab().unwrap_or_else(|error| panic!("{error}"));
        let bin = directory.join("bin");
        fs::create_dir(&bin).unwrap();
        std::os::unix::fs::symlink(program, bin.join("tierlab")).unwrap();
        std::os::unix::fs::symlink(root().join("topologies"), directory.join("topologies"))
            .unwrap();
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        Bench { directory, path }
    }

    fn shell(&self, script: &str) -> Result<Finished, String> {
        let mut command = Command::new("sh");
        command.args(["-ec", script]).current_dir(self.directory).env("PATH", &self.path);
        run(&mut command, LIMIT)
    }

    fn play(&self, block: &Block) -> Result<(), String> {
        let mut words = block.info.split_whitespace();
        match (words.next(), option(&block.info, "file")) {
            (Some("yaml"), Some(name)) => {
                fs::write(self.directory.join(name), &block.body).map_err(|e| e.to_string())
            }
            (Some("yaml"), None) => {
                Err("definitions that nothing runs; write ```yaml file=NAME".to_owned())
            }
            (Some("sh"), _) if words.any(|word| word == "run") => {
                self.shell(&block.body)?.success().map(drop)
            }
            (Some("console"), _) => self.converse(&block.body),
            _ => Ok(()),
        }
    }

    fn converse(&self, body: &str) -> Result<(), String> {
        let first = body.lines().next().unwrap_or_default();
        if !first.starts_with("$ ") {
            return Err(format!("'{first}' is not '$ COMMAND'"));
        }
        for exchange in body.strip_prefix("$ ").unwrap_or(body).split("\n$ ") {
            let (typed, shown) = exchange.split_once('\n').unwrap_or((exchange, ""));
            let (typed, code) = match typed.split_once("# exits ") {
                Some((typed, code)) => (typed.trim_end(), code.trim().parse().ok()),
                None => (typed, Some(0)),
            };
            // What a newcomer types before there is a `tierlab` in the path.
            let command = typed.replace("cargo run --release -- ", "tierlab ");
            let done = self.shell(&format!("exec 2>&1\n{command}"))?;
            if done.status.code() != code {
                return Err(format!(
                    "$ {typed}\n{}, not exit code {code:?}\n{}",
                    done.status, done.stdout
                ));
            }
            let lines = |text: &'_ str| -> Vec<String> {
                let mut lines: Vec<String> =
                    text.lines().map(|l| l.trim_end().to_owned()).collect();
                lines
                    .truncate(lines.iter().rposition(|l| !l.is_empty()).map_or(0, |last| last + 1));
                lines
            };
            if !lines_match(&lines(shown), &lines(&done.stdout)) {
                return Err(format!(
                    "$ {typed}\nprints\n{}but the document shows\n{shown}",
                    done.stdout
                ));
            }
        }
        Ok(())
    }
}

/// Whether output is as shown, where the line `…` stands for any lines.
fn lines_match(shown: &[String], output: &[String]) -> bool {
    match shown.split_first() {
        None => output.is_empty(),
        Some((first, rest)) if first.trim() == "…" => {
            (0..=output.len()).any(|skipped| lines_match(rest, &output[skipped..]))
        }
        Some((first, rest)) => output
            .split_first()
            .is_some_and(|(line, others)| line_matches(first, line) && lines_match(rest, others)),
    }
}

/// Whether a line is as shown, where `…` stands for any text.
fn line_matches(shown: &str, line: &str) -> bool {
    let Some((before, after)) = shown.split_once('…') else {
        return shown == line;
    };
    line.strip_prefix(before).is_some_and(|rest| {
        rest.char_indices()
            .map(|(at, _)| at)
            .chain([rest.len()])
            .any(|at| line_matches(after, &rest[at..]))
    })
}

#[test]
fn dots_stand_for_anything_and_nothing_else_does() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    assert!(lines_match(&lines("a\n…\nd 1… ms"), &lines("a\nb\nc\nd 12.5 ms")));
    assert!(lines_match(&lines("a\n…"), &lines("a")));
    assert!(!lines_match(&lines("a\n…\nc"), &lines("a\nb")));
    assert!(!lines_match(&lines("a"), &lines("a\nb")));
    assert!(!line_matches("a … c", "a b d"));
}

/// The commands that the labs' own documents suggest are understood. Some show a failure, which is exit code 1.
#[test]
fn commands_of_the_labs_are_understood() {
    let directory = tempfile::tempdir().unwrap();
    let bench = Bench::new(directory.path());
    let mut failures = Vec::new();
    for lab in fs::read_dir(root().join("topologies")).unwrap() {
        let file = lab.unwrap().path().join("README.md");
        let Ok(text) = fs::read_to_string(&file) else { continue };
        for command in text.lines().filter(|line| line.starts_with("tierlab ")) {
            match bench.shell(command) {
                Ok(done) if matches!(done.status.code(), Some(0 | 1)) => {}
                other => failures.push(format!("{}: {command}: {other:?}", file.display())),
            }
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The README's first lab is the one that `topologies/first-lab` explains and tests.
#[test]
fn the_first_lab_is_the_same_everywhere() {
    let readme = text_of(Path::new("README.md"));
    for file in ["lab.yaml", "pods.yaml"] {
        let lab = text_of(&Path::new("topologies/first-lab").join(file));
        assert!(readme.contains(&lab), "README.md does not have topologies/first-lab/{file}");
    }
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for file in documents() {
        let text = text_of(&file);
        let place = root().join(&file).parent().unwrap().to_owned();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = target.split('#').next().unwrap_or_default();
            let outside = target.contains("://");
            if !outside && !path.is_empty() && !place.join(path).exists() {
                dead.push(format!("{}: {target}", file.display()));
            }
        }
    }
    assert!(dead.is_empty(), "links that lead nowhere:\n{}", dead.join("\n"));
}

#[test]
fn the_reference_is_current() {
    let path = Path::new("docs/reference.md");
    let before = text_of(path);
    let mut after = String::new();
    let mut rest = before.as_str();
    let mut seen = BTreeSet::new();
    while let Some((text, more)) = rest.split_once("<!-- begin ") {
        let (name, more) = more.split_once(" -->\n").unwrap();
        let end = format!("<!-- end {name} -->");
        let (_, more) = more
            .split_once(&end)
            .unwrap_or_else(|| panic!("docs/reference.md: '{name}' does not end"));
        write!(after, "{text}<!-- begin {name} -->\n{}{end}", generated(name)).unwrap();
        seen.insert(name);
        rest = more;
    }
    after.push_str(rest);
    assert_eq!(
        seen,
        SECTIONS.into(),
        "docs/reference.md does not have every generated section once"
    );
    if before == after {
        return;
    }
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(root().join(path), after).unwrap();
        return;
    }
    let old: BTreeSet<&str> = before.lines().collect();
    let new: BTreeSet<&str> = after.lines().collect();
    panic!(
        "docs/reference.md is behind the code; run UPDATE_DOCS=1 cargo test -p tierlab-tests --test docs\n\
         no longer so: {:#?}\nnow: {:#?}",
        old.difference(&new).collect::<Vec<_>>(),
        new.difference(&old).collect::<Vec<_>>()
    );
}

/// The generated sections of `docs/reference.md`.
const SECTIONS: [&str; 9] = [
    "annotations",
    "commands",
    "drop-reasons",
    "exit-codes",
    "kinds",
    "limits",
    "stages",
    "timers-nsx",
    "timers-rfc",
];

fn generated(section: &str) -> String {
    match section {
        "annotations" => annotations(),
        "commands" => commands(),
        "drop-reasons" => {
            let all = DropReason::ALL.iter().map(|reason| reason.name());
            named("DropReason", "reason", all.collect())
        }
        "exit-codes" => exit_codes(),
        "kinds" => kinds(),
        "limits" => limits(),
        "stages" => named("Stage", "stage", Stage::ALL.iter().map(|stage| stage.name()).collect()),
        "timers-nsx" => timers(TimerProfile::Nsx),
        "timers-rfc" => timers(TimerProfile::Rfc),
        other => panic!("docs/reference.md: there is no section '{other}'"),
    }
}

fn table(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut text = line(&header.iter().map(|&cell| cell.to_owned()).collect::<Vec<_>>());
    text += &line(&vec!["---".to_owned(); header.len()]);
    for row in rows {
        let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
        text += &line(&cells);
    }
    text
}

/// Items of a source file with their doc comments: the comment on one line, and the line below it.
fn documented(file: &str) -> Vec<(String, String)> {
    let (mut items, mut comment) = (Vec::new(), String::new());
    for line in text_of(Path::new(file)).lines().map(str::trim) {
        if let Some(words) = line.strip_prefix("///") {
            comment.push_str(words);
        } else if !line.starts_with("#[") {
            // Links of rustdoc mean nothing in Markdown.
            let words = comment.replace("[`", "`").replace("`]", "`");
            items.push((words.trim().to_owned(), line.to_owned()));
            comment.clear();
        }
    }
    items
}

/// The items of an enum: from its line to the closing brace.
fn variants(file: &str, enumeration: &str) -> Vec<(String, String)> {
    let items = documented(file);
    let begin = items
        .iter()
        .position(|(_, line)| line.trim_start_matches("pub enum ") == format!("{enumeration} {{"))
        .unwrap_or_else(|| panic!("{file} has no {enumeration}"));
    items.into_iter().skip(begin + 1).take_while(|(_, line)| line != "}").collect()
}

/// Names and meanings of an enum of `drops.rs`; the names are the program's own.
fn named(enumeration: &str, header: &str, names: Vec<&str>) -> String {
    let variants = variants("dataplane/engine/src/drops.rs", enumeration);
    let name = |line: &str| line.split('"').nth(1).map(str::to_owned);
    let found: Vec<_> =
        variants.into_iter().map(|(words, line)| (name(&line).unwrap(), words)).collect();
    assert_eq!(found.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), names);
    table(
        &[header, "meaning"],
        found.into_iter().map(|(name, words)| vec![format!("`{name}`"), words]),
    )
}

fn exit_codes() -> String {
    let rows = variants("control/tierlab/src/exit.rs", "Exit").into_iter().map(|(words, line)| {
        let code = line.split_once("= ").unwrap().1.trim_end_matches(',');
        vec![code.to_owned(), words]
    });
    table(&["code", "meaning"], rows)
}

fn kinds() -> String {
    let source = text_of(Path::new("control/definitions/src/own/mod.rs"));
    let list = source.split_once("pub const KINDS").unwrap().1.split_once("];").unwrap().0;
    let rows = list.lines().filter_map(|line| {
        let mut quoted = line.split('"').skip(1).step_by(2);
        let (kind, words) = (quoted.next()?, quoted.next()?);
        Some(vec![format!("[`{kind}`](schema/{kind}.json)"), words.to_owned()])
    });
    table(&["kind", "what it is"], rows)
}

fn annotations() -> String {
    let rows = documented("control/definitions/src/model/annotations.rs").into_iter();
    let rows = rows.filter_map(|(words, line)| {
        let name =
            line.strip_prefix("pub const ")?.split_once(": &str = \"")?.1.strip_suffix("\";")?;
        (!name.ends_with('/')).then(|| vec![format!("`{name}`"), words])
    });
    table(&["annotation", "of which object, and what it fixes"], rows)
}

fn timers(profile: TimerProfile) -> String {
    let settings = TimerSettings { profile, ..TimerSettings::default() };
    let classes = [TimerClass::Dfw, TimerClass::Gateway, TimerClass::Balancer];
    let rows = TimerState::ALL.iter().map(|state| {
        let seconds = classes.map(|class| grouped(settings.timeout(class, *state).as_secs()));
        [vec![format!("`{state}`")], seconds.to_vec()].concat()
    });
    table(&["state", "distributed firewall", "gateway", "load balancers"], rows)
}

/// Whether a constant of this name bounds something.
fn is_limit(name: &str) -> bool {
    const WHOLE: [&str; 5] = ["AGE", "ATTEMPTS", "BATCH", "NAT_PORTS", "TIMEOUT"];
    const ENDS: [&str; 5] = ["_AGE", "_AFTER", "_INTERVAL", "_REQUESTS", "_TIMEOUT"];
    name.starts_with("MAX_") || WHOLE.contains(&name) || ENDS.iter().any(|end| name.ends_with(end))
}

fn limits() -> String {
    let (timers, worker) = (TimerSettings::default(), WorkerConfig::default());
    let seconds = |span: Duration| format!("{} s", grouped(span.as_secs()));
    let settings = [
        (
            "Most sessions at a time; a new one beyond that is dropped.",
            grouped(timers.max_sessions as u64),
        ),
        (
            "Most cached actions of each IP version; the oldest goes first.",
            grouped(worker.cache_entries as u64),
        ),
        (
            "A learned station is forgotten after this long without a frame from it.",
            seconds(timers.mac_age),
        ),
        ("A router asks a neighbour again after this long.", seconds(timers.neighbor_age)),
    ];
    let engine = "[`engine`](../dataplane/engine/src/lib.rs)";
    let settings = settings.map(|(words, value)| vec![words.to_owned(), value, engine.to_owned()]);
    let files = ["dataplane", "control"].iter().flat_map(|part| sources(Path::new(part)));
    let constants = files.flat_map(|file| {
        let module = file.split('/').skip(1).filter(|part| *part != "src").collect::<Vec<_>>();
        let module = module.join("::").trim_end_matches(".rs").trim_end_matches("::mod").to_owned();
        let place = format!("[`{module}`](../{file})");
        documented(&file).into_iter().filter_map(move |(words, line)| {
            let value = limit(&line)?;
            (!words.is_empty()).then(|| vec![words, value, place.clone()])
        })
    });
    table(&["what", "limit", "where"], settings.into_iter().chain(constants))
}

/// The value for people of a constant that bounds something; `None` for every other line.
fn limit(line: &str) -> Option<String> {
    let rest = line.trim_start_matches("pub(crate) ").trim_start_matches("pub ");
    let (name, rest) = rest.strip_prefix("const ")?.split_once(": ")?;
    let (_, value) = rest.split_once(" = ")?;
    is_limit(name).then(|| shown(value.strip_suffix(';')?))?
}

/// The Rust sources at or below a path, sorted.
fn sources(place: &Path) -> Vec<String> {
    let path = root().join(place);
    if path.is_file() {
        return vec![place.display().to_string()];
    }
    let mut all: Vec<String> = fs::read_dir(&path)
        .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        .map(|entry| place.join(entry.unwrap().file_name()))
        .filter(|path| {
            let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
            let tests = name.starts_with("tests") || name.ends_with("_tests.rs");
            let directory = root().join(path).is_dir();
            !tests && (directory || name.ends_with(".rs"))
        })
        .flat_map(|path| sources(&path))
        .collect();
    all.sort();
    all
}

/// A constant's value for people: numbers, sums and products of numbers, ranges, seconds.
fn shown(value: &str) -> Option<String> {
    if let Some((first, last)) = value.split_once("..=") {
        return Some(format!("{} to {}", shown(first)?, shown(last)?));
    }
    if let Some(rest) = value.strip_prefix("Duration::from_secs(") {
        return Some(format!("{} s", shown(rest.strip_suffix(')')?)?));
    }
    let sum = value.split(" + ").map(|product| {
        let factors = product.split(" * ").map(|n| n.replace('_', "").parse::<u64>().ok());
        factors.product::<Option<u64>>()
    });
    sum.sum::<Option<u64>>().map(grouped)
}

/// 65536 as `65,536`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn values_for_people() {
    assert_eq!(shown("16 * 1024 * 1024").as_deref(), Some("16,777,216"));
    assert_eq!(shown("14 + 4 + 65_535").as_deref(), Some("65,553"));
    assert_eq!(shown("1024..=65_535").as_deref(), Some("1,024 to 65,535"));
    assert_eq!(shown("Duration::from_secs(43_200)").as_deref(), Some("43,200 s"));
    assert_eq!(shown("u64::MAX"), None);
}

/// What `--help` says, of the program and of each command.
fn commands() -> String {
    let help = |arguments: &[&str]| {
        let mut command = Command::new(tierlab().unwrap_or_else(|error| panic!("{error}")));
        run(command.args(arguments).arg("--help"), LIMIT).and_then(Finished::success).unwrap()
    };
    let all = help(&[]);
    let names: Vec<&str> = all
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .collect();
    assert!(!names.is_empty(), "no commands in\n{all}");
    let fenced = |text: &str| {
        let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
        format!("```text\n{}\n```\n", lines.join("\n"))
    };
    let mut text = fenced(&all);
    for name in names {
        write!(text, "\n### tierlab {name}\n\n{}", fenced(&help(&[name]))).unwrap();
    }
    text
}
