//! tierlab's half: every sending is a replay, in virtual time, of all that the scenario has sent so far.
//!
//! Replays are repeatable to the octet, which each one proves again of those before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use tierlab_tests::{run, tierlab};

use crate::linux::PATIENCE;
use crate::wire::{End, Mac, Wire};

const LAB: &str = include_str!("lab.yaml");

/// Virtual time between two sendings, nanoseconds.
const PACE: u64 = 1_000_000;

/// A captured frame: when, where, what.
type Timed = (u64, End, Vec<u8>);

pub struct Simulated {
    directory: tempfile::TempDir,
    program: PathBuf,
    macs: BTreeMap<End, (Mac, Mac)>,
    sent: Vec<Timed>,
    received: Vec<Timed>,
    steps: u64,
}

fn port(end: End) -> &'static str {
    match end {
        End::Client => "pod/red/client",
        End::Other => "pod/red/other",
        End::Web => "pod/blue/web",
        End::Server => "host/server",
        End::Pooled => "pod/violet/pooled",
        End::Target => "pod/violet/target",
        End::Twin => "pod/violet/twin",
    }
}

impl Simulated {
    pub fn new() -> Simulated {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("lab.yaml"), LAB).unwrap();
        let program = tierlab().unwrap_or_else(|error| panic!("{error}"));
        let (sent, received, macs) = (Vec::new(), Vec::new(), BTreeMap::new());
        let mut lab = Simulated { directory, program, macs, sent, received, steps: 0 };
        lab.find_macs();
        lab
    }

    fn tierlab(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(&self.program);
        command.args(arguments).args(["-f", "lab.yaml"]).current_dir(self.directory.path());
        run(&mut command, PATIENCE).unwrap().success().unwrap()
    }

    /// The ends' own from the table of ports, their gateways' by asking (RFC 826).
    fn find_macs(&mut self) {
        let table = self.tierlab(&["get", "ports", "-o", "csv"]);
        for end in End::ALL {
            let row = table.lines().find(|row| row.starts_with(port(end))).unwrap();
            let mac = row.split(',').nth(2).unwrap();
            let mac: Vec<u8> =
                mac.split(':').map(|octet| u8::from_str_radix(octet, 16).unwrap()).collect();
            let mac: Mac = mac.try_into().unwrap();
            let mut request = [[0xff; 6].as_slice(), &mac, &[0x08, 0x06]].concat();
            request.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
            request.extend([mac.as_slice(), &end.address().octets(), &[0; 6]].concat());
            request.extend(end.gateway().octets());
            self.sent.push((0, end, request));
            self.macs.insert(end, (mac, [0; 6]));
        }
        for (_, end, frame) in self.replay() {
            // A reply for the gateway's address.
            if frame[12..14] == [0x08, 0x06] && frame[28..32] == end.gateway().octets() {
                self.macs.entry(end).and_modify(|macs| macs.1 = frame[22..28].try_into().unwrap());
            }
        }
        assert!(self.macs.values().all(|(_, gateway)| *gateway != [0; 6]), "{:?}", self.macs);
    }

    /// Everything that all of `sent` brings about.
    fn replay(&self) -> Vec<Timed> {
        let place = self.directory.path();
        let inputs: Vec<String> = End::ALL
            .map(|end| {
                let frames = self.sent.iter().filter(|(_, from, _)| *from == end);
                let name = format!("{}.pcap", end.name());
                std::fs::write(place.join(&name), pcap(frames)).unwrap();
                format!("--in={}={name}", port(end))
            })
            .into();
        let mut arguments = vec!["replay", "--out", "out", "--drain", "1ms"];
        arguments.extend(inputs.iter().map(String::as_str));
        self.tierlab(&arguments);
        let read = |end| captures(&place.join("out").join(format!("{}.pcap", port(end))), end);
        End::ALL.into_iter().flat_map(read).collect()
    }
}

impl Wire for Simulated {
    fn begin(&mut self) {
        self.sent.clear();
        self.received.clear();
        self.steps = 0;
    }

    fn exchange(&mut self, from: End, frames: &[Vec<u8>]) -> Vec<(End, Vec<u8>)> {
        let now = self.steps * PACE;
        self.steps += 1;
        self.sent.extend(frames.iter().map(|frame| (now, from, frame.clone())));
        let all: Vec<Timed> =
            self.replay().into_iter().filter(|(_, _, f)| f[12..14] == [0x08, 0x00]).collect();
        let (before, new): (Vec<Timed>, Vec<Timed>) =
            all.iter().cloned().partition(|(at, _, _)| *at < now);
        assert_eq!(before, self.received, "a replay differs from the one before");
        self.received = all;
        new.into_iter().map(|(_, end, frame)| (end, frame)).collect()
    }

    fn macs(&self, end: End) -> (Mac, Mac) {
        self.macs[&end]
    }

    fn is_reference(&self) -> bool {
        false
    }
}

/// A classic pcap, little endian, nanoseconds.
fn pcap<'a>(frames: impl Iterator<Item = &'a Timed>) -> Vec<u8> {
    let header: [u32; 6] = [0xa1b2_3c4d, 0x0004_0002, 0, 0, 65_535, 1];
    let mut file: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    for (at, _, frame) in frames {
        let length = u32::try_from(frame.len()).unwrap();
        let nanoseconds = u32::try_from(*at).unwrap();
        file.extend([0, nanoseconds, length, length].into_iter().flat_map(u32::to_le_bytes));
        file.extend(frame);
    }
    file
}

/// The frames of such a file.
fn captures(file: &Path, end: End) -> Vec<Timed> {
    let bytes = std::fs::read(file).unwrap();
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap());
    assert_eq!(number(0), 0xa1b2_3c4d);
    let mut frames = Vec::new();
    let mut at = 24;
    while at < bytes.len() {
        let length = usize::try_from(number(at + 8)).unwrap();
        let time = u64::from(number(at)) * 1_000_000_000 + u64::from(number(at + 4));
        frames.push((time, end, bytes[at + 16..at + 16 + length].to_vec()));
        at += 16 + length;
    }
    frames
}
