//! Issue 4: what `benches/peers/run` believes and writes, without running a peer: its check of frames refuses what is wrong
//! with them, its table, JSON and plot say what was observed, its scripts parse.
//!
//! Expected figures are worked out by hand from `peers/observations.jsonl`. Needs bash and python3; without them each test says
//! loudly that it was skipped, and passes; with `CI=true` it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;
use tierlab_tests::{Finished, root, run};

const LIMIT: Duration = Duration::from_secs(60);
const FRAMES: &str = "frames.py";
/// Of a capture, and of the record before each frame.
const HEADER: usize = 24;
const RECORD: usize = 16;
const FRAME: usize = 60;
/// Where things are in a frame: the Ethernet header has 14 octets, IPv4's 20.
const TTL: usize = 22;
const IP_SUM: usize = 24;
const DESTINATION: usize = 30;
const UDP_SUM: usize = 40;

fn peers() -> PathBuf {
    root().join("benches/peers")
}

fn has(program: &str, test: &str) -> bool {
    if run(Command::new(program).arg("--version"), LIMIT).is_ok() {
        return true;
    }
    assert!(std::env::var("CI").as_deref() != Ok("true"), "{test}: {program} is missing");
    eprintln!("\nSKIPPED {test}: {program} is missing\n");
    false
}

fn python(arguments: &[&str]) -> Finished {
    let (script, rest) = arguments.split_first().unwrap();
    run(Command::new("python3").arg(peers().join(script)).args(rest), LIMIT).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A hundred requests, and the same as a switch would let them out that changes nothing but the TTL.
fn requests(directory: &Path) -> (PathBuf, Vec<u8>) {
    let sent = directory.join("sent.pcap");
    let macs = ["--to-mac", "02:00:00:00:00:01", "--from-mac", "02:00:00:00:00:02"];
    let addresses = ["--src", "10.1.0.2", "--dst", "10.2.0.2"];
    let mut arguments = vec![FRAMES, "requests", text(&sent), "--flows", "100"];
    arguments.extend(macs.iter().chain(&addresses));
    python(&arguments).success().unwrap();
    let mut routed = std::fs::read(&sent).unwrap();
    for frame in frames(&mut routed) {
        frame[TTL] -= 1;
        // The TTL is the upper octet of its word: a ones' complement sum that is 256 less (RFC 1624).
        let sum = u16::from_be_bytes([frame[IP_SUM], frame[IP_SUM + 1]]);
        let (more, carry) = sum.overflowing_add(256);
        frame[IP_SUM..IP_SUM + 2].copy_from_slice(&(more + u16::from(carry)).to_be_bytes());
    }
    (sent, routed)
}

fn frames(capture: &mut [u8]) -> impl Iterator<Item = &mut [u8]> {
    capture[HEADER..].chunks_exact_mut(RECORD + FRAME).map(|record| &mut record[RECORD..])
}

fn check(sent: &Path, captured: &[u8], more: &[&str]) -> Finished {
    let path = sent.with_file_name("captured.pcap");
    std::fs::write(&path, captured).unwrap();
    let mut arguments = vec![FRAMES, "check", "--flows", "100", "--sent", text(sent)];
    arguments.extend(["--captured", text(&path)]);
    arguments.extend(more);
    python(&arguments)
}

#[test]
fn frames_that_came_out_right_are_counted() {
    if !has("python3", "frames_that_came_out_right_are_counted") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (sent, routed) = requests(directory.path());
    assert_eq!(check(&sent, &routed, &["--hops", "1"]).success().unwrap(), "100\n");
    // They are answered to whom they came from.
    let captured = directory.path().join("captured.pcap");
    let replies = directory.path().join("replies.pcap");
    let arguments = ["replies", text(&replies), text(&captured), "--fillers", "7"];
    python(&[&[FRAMES], &arguments[..]].concat()).success().unwrap();
    let all = std::fs::read(&replies).unwrap();
    assert_eq!(all.len(), HEADER + 107 * (RECORD + FRAME));
    let client = ["--client", text(&sent)];
    assert_eq!(check(&replies, &all, &client).success().unwrap(), "100\n");
    let error = check(&replies, &all, &["--client", text(&sent), "--hops", "1"]).stderr;
    assert!(error.contains("TTL 64 instead of 63"), "{error}");
}

#[test]
fn frames_that_came_out_wrong_are_refused() {
    if !has("python3", "frames_that_came_out_wrong_are_refused") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let (sent, routed) = requests(directory.path());
    let one = RECORD + FRAME;
    let changed = |at: usize, by: u8| {
        let mut capture = routed.clone();
        frames(&mut capture).nth(41).unwrap()[at] ^= by;
        capture
    };
    let mut doubled = routed.clone();
    doubled.extend_from_slice(&routed[HEADER..HEADER + one]);
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("99 of 100 frames came out", routed[..routed.len() - one].to_vec()),
        ("0 of 100 frames came out", routed[..HEADER].to_vec()),
        ("came out twice", doubled),
        ("cut off", routed[..routed.len() - 1].to_vec()),
        ("is no capture", b"nothing of the kind, but long enough".to_vec()),
        ("IPv4 checksum", changed(IP_SUM, 1)),
        ("UDP checksum", changed(UDP_SUM, 1)),
        ("payload", changed(FRAME - 1, 1)),
        ("destination 10.2.0.3 instead of 10.2.0.2", changed(DESTINATION + 3, 1)),
        ("destination MAC 03:00:00:00:00:01", changed(0, 1)),
        ("source MAC 02:00:00:00:00:03", changed(11, 1)),
        ("TTL 62 instead of 63", changed(TTL, 1)),
    ];
    for (message, capture) in cases {
        let result = check(&sent, &capture, &["--hops", "1"]);
        assert_eq!(result.status.code(), Some(1), "{message}: {}", result.stdout);
        assert!(result.stderr.contains(message), "{message}: {}", result.stderr);
    }
    // Right in themselves, and not what was asked for.
    for (more, message) in [
        (vec!["--src", "10.2.0.100"], "source 10.1.0.2 instead of 10.2.0.100"),
        (vec!["--members", "10.2.0.11,10.2.0.12"], "destination None instead of 10.2.0.2"),
        (vec!["--members", "10.2.0.2,10.2.0.12"], "not spread over all of them"),
        (vec!["--from-mac", "02:00:00:00:00:09"], "source MAC"),
    ] {
        let error = check(&sent, &routed, &[&["--hops", "1"], &more[..]].concat()).stderr;
        assert!(error.contains(message), "{message}: {error}");
    }
    // A translation that gives two flows the same ports.
    let mut merged = routed.clone();
    let first = frames(&mut merged).next().unwrap().to_vec();
    let second = frames(&mut merged).nth(1).unwrap();
    let (was, is) = (second[34..36].to_vec(), first[34..36].to_vec());
    second[34..36].copy_from_slice(&is);
    let word = |octets: &[u8]| u32::from(u16::from_be_bytes([octets[0], octets[1]]));
    let mut sum = u32::from(!u16::from_be_bytes([second[UDP_SUM], second[UDP_SUM + 1]]));
    sum += (0xffff - word(&was)) + word(&is);
    let folded = u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    second[UDP_SUM..UDP_SUM + 2].copy_from_slice(&(!folded).to_be_bytes());
    let error = check(&sent, &merged, &["--hops", "1", "--src", "10.1.0.2"]).stderr;
    assert!(error.contains("100 flows came out as only 99"), "{error}");
}

#[test]
fn results_say_what_was_observed() {
    if !has("python3", "results_say_what_was_observed") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("results");
    let observations = root().join("tests/tests/peers/observations.jsonl");
    let written = python(&["report.py", "write", text(&observations), text(&out)]);
    // Two claims of it do not hold.
    assert_eq!(written.status.code(), Some(1), "{}", written.stderr);
    assert_eq!(written.stderr, "not held: table ceiling, 10k flows\nnot held: ping (pods)\n");

    let json = std::fs::read_to_string(out.join("results.json")).unwrap();
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    let chain = &json["rows"][0];
    // 30 / 2, 11 / 1 and 36 / 4 are 15, 11 and 9: the median is that of pairs, not 30 / 2 of medians.
    assert_eq!(chain["ratio"]["median"], 11.0);
    assert_eq!((&chain["ratio"]["least"], &chain["ratio"]["most"]), (&9.0.into(), &15.0.into()));
    assert_eq!((&chain["peer"]["median"], &chain["ours"]["median"]), (&2.0.into(), &30.0.into()));
    assert_eq!(chain["held"], true);
    assert_eq!(chain["verified"]["peer"], 60_000);
    // One side alone has no ratio.
    assert!(json["rows"][1]["ratio"].is_null() && json["rows"][1]["held"].is_null());
    assert_eq!(json["taps"][1]["held"], true);
    // Latency is held from above.
    assert_eq!(
        (&json["taps"][3]["held"], &json["taps"][3]["claim"]),
        (&false.into(), &"<= 1.3".into())
    );

    let table = std::fs::read_to_string(out.join("results.md")).unwrap();
    for line in [
        "| conntrack + SNAT + route, 10,000 flows | OVS-DPDK 3.1.0 | 2 (1 to 4) Mpps | 30 (11 to 36) Mpps | 11 (9 to 15) | >= 10: held |",
        "| L2, learned, 10,000 flows | OVS-DPDK 3.1.0 | 9.1 Mpps | not measured | not measured |  |",
        "| table ceiling, 10k flows | table ceiling | 100 Mpps | 20 Mpps | 0.2 | >= 0.25: **not held** |",
        "| ping | tierlab, pod to pod | 40 (35 to 50) us | 1.4 (1.1 to 1.6) | <= 1.3: **not held** |",
        "* two workers: there is one core",
    ] {
        assert!(table.lines().any(|l| l == line), "{line}\nis not in\n{table}");
    }

    let plot = out.join("results.svg");
    let parsed = "import sys, xml.dom.minidom as x; d = x.parse(sys.argv[1]).documentElement; \
                  print(d.tagName, len(d.getElementsByTagName('rect')))";
    let parsed = run(Command::new("python3").args(["-c", parsed, text(&plot)]), LIMIT).unwrap();
    // The background, five bars in memory, two of TCP and one of ping.
    assert_eq!(parsed.success().unwrap(), "svg 9\n");
    let plot = std::fs::read_to_string(plot).unwrap();
    assert!(plot.contains("Example CPU &lt;1&gt;") && plot.contains("prefers-color-scheme: dark"));
    assert!(plot.contains(">30 (11×)<"), "{plot}");
}

/// What `tierlab bench -o json` prints, as far as it is read here.
const REPORT: &str = r#"{
    "machine": {"optimized": true},
    "rows": [
        {"work": "l2", "mpps": 30.25, "verified_frames": 40000},
        {"work": "dlb", "mpps": 28.0, "verified_frames": 0}
    ],
    "skipped": [{"work": "chain", "reason": "there is no Tier-0"}]
}"#;

#[test]
fn a_rate_of_ours_is_believed_if_its_frames_were_checked() {
    if !has("python3", "a_rate_of_ours_is_believed_if_its_frames_were_checked") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("report.json");
    std::fs::write(&path, REPORT).unwrap();
    let rate = |work: &str| python(&["report.py", "rate", text(&path), work]);
    assert_eq!(rate("l2").success().unwrap(), "40000 30.2500 optimized\n");
    for work in ["dlb", "chain"] {
        let refused = rate(work);
        assert_eq!(refused.status.code(), Some(1), "{}", refused.stdout);
        assert!(refused.stderr.contains("chain: there is no Tier-0"), "{}", refused.stderr);
    }
    std::fs::write(&path, REPORT.replace("true", "false")).unwrap();
    assert_eq!(rate("l2").success().unwrap(), "40000 30.2500 unoptimized\n");
}

#[test]
fn scripts_parse_and_refuse_what_they_do_not_know() {
    if !has("bash", "scripts_parse_and_refuse_what_they_do_not_know") {
        return;
    }
    for script in ["run", "turn", "common.sh", "ours.sh", "ovs.sh"] {
        let parsed = run(Command::new("bash").arg("-n").arg(peers().join(script)), LIMIT).unwrap();
        assert_eq!(parsed.success().unwrap(), "", "{script}");
    }
    for arguments in [&["--slow"][..], &["--rounds", "0"], &["--rounds"], &["--only", ""]] {
        let refused = run(Command::new(peers().join("run")).args(arguments), LIMIT).unwrap();
        assert_eq!(refused.status.code(), Some(2), "{arguments:?}: {}", refused.stderr);
        assert!(refused.stderr.contains("benches/peers/run [--quick]"), "{}", refused.stderr);
    }
}
