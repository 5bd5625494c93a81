//! Running the program as a user does, and reading what it prints.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;
use tierlab_tests::{Finished, root, run, tierlab};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(120);

/// A lab under `topologies/`.
pub fn topology(name: &str) -> String {
    root().join("topologies").join(name).display().to_string()
}

/// A directory that commands are run in: nothing of one test is seen by another, and what a command writes by accident shows.
pub struct Desk(TempDir);

impl Desk {
    pub fn new() -> Desk {
        Desk(tempfile::tempdir().unwrap())
    }

    /// A desk with one file, `lab.yaml`.
    pub fn with(text: impl AsRef<[u8]>) -> Desk {
        let desk = Desk::new();
        desk.write("lab.yaml", text);
        desk
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file, with the directories it needs.
    pub fn write(&self, name: impl AsRef<Path>, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Runs the program here.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: &[S]) -> Finished {
        let mut command = Command::new(program());
        command.current_dir(self.path()).args(arguments);
        run(&mut command, LIMIT).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs the program behind a few words of shell, such as `ulimit` or a redirection.
    pub fn run_in_shell(&self, before: &str, after: &str, arguments: &[&str]) -> Finished {
        let mut command = Command::new("sh");
        command
            .current_dir(self.path())
            .args(["-c", &format!("{before} exec \"$@\" {after}"), "sh"])
            .arg(program())
            .args(arguments);
        run(&mut command, LIMIT).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs the program, which must succeed, and returns what it printed.
    #[track_caller]
    pub fn ok<S: AsRef<OsStr>>(&self, arguments: &[S]) -> String {
        let words: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        let done = self.run(arguments).success();
        done.unwrap_or_else(|error| panic!("tierlab {}: {error}", words.join(" ")))
    }

    /// Runs the program, which must end with `code`; what it said on standard error. Whatever is wrong, it must not be a panic,
    /// and must not be silent.
    #[track_caller]
    pub fn fails<S: AsRef<OsStr>>(&self, code: i32, arguments: &[S]) -> String {
        let words: Vec<_> = arguments.iter().map(|a| a.as_ref().to_string_lossy()).collect();
        let words = words.join(" ");
        let done = self.run(arguments);
        let said = format!("tierlab {words}\n{}\n{}{}", done.status, done.stdout, done.stderr);
        assert_eq!(done.status.code(), Some(code), "{said}");
        assert!(!done.stderr.contains("panicked"), "{said}");
        assert!(!done.stderr.trim().is_empty() || code == 1, "says nothing: {said}");
        done.stderr
    }

    /// Every file here with its content.
    pub fn files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        fn collect(directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    files.insert(path.clone(), Vec::new());
                    collect(&path, files);
                } else {
                    let content = std::fs::read(&path).unwrap();
                    files.insert(path, content);
                }
            }
        }
        let mut files = BTreeMap::new();
        collect(self.path(), &mut files);
        files
    }
}

fn program() -> PathBuf {
    tierlab().unwrap_or_else(|error| panic!("{error}"))
}

/// Whether the program under test is a release build, of which alone the times can be asked.
pub fn is_release() -> bool {
    !cfg!(debug_assertions) || program().components().any(|c| c.as_os_str() == "release")
}

/// `get KIND -o json` of the labs at these paths.
#[track_caller]
pub fn table(kind: &str, paths: &[&str]) -> Vec<Value> {
    let mut arguments = vec!["get", kind, "-o", "json"];
    for path in paths {
        arguments.extend(["-f", path]);
    }
    let text = Desk::new().ok(&arguments);
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{e}:\n{text}"));
    value.as_array().unwrap_or_else(|| panic!("not an array:\n{text}")).clone()
}

/// The fields of a row as text, lists joined by commas.
pub fn fields(row: &Value, names: &[&str]) -> Vec<String> {
    let field = |name: &&str| row.get(*name).unwrap_or_else(|| panic!("no field {name} in {row}"));
    names.iter().map(|name| text(field(name))).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        Value::Array(items) => items.iter().map(text).collect::<Vec<_>>().join(","),
        other => other.to_string(),
    }
}

/// The records of a CSV (RFC 4180) without line breaks in fields.
pub fn csv(table: &str) -> Vec<Vec<String>> {
    table
        .lines()
        .map(|line| {
            let mut fields = vec![String::new()];
            let mut quoted = false;
            let mut characters = line.chars().peekable();
            while let Some(c) = characters.next() {
                match c {
                    '"' if quoted && characters.peek() == Some(&'"') => {
                        characters.next();
                        fields.last_mut().unwrap().push('"');
                    }
                    '"' => quoted = !quoted,
                    ',' if !quoted => fields.push(String::new()),
                    c => fields.last_mut().unwrap().push(c),
                }
            }
            assert!(!quoted, "a quote is not closed: {line}");
            fields
        })
        .collect()
}

/// The documents of a YAML text, without those that are blank.
pub fn documents(text: &str) -> Vec<String> {
    let mut documents = vec![String::new()];
    for line in text.lines() {
        if line == "---" {
            documents.push(String::new());
        } else {
            let last = documents.last_mut().unwrap();
            last.push_str(line);
            last.push('\n');
        }
    }
    let is_blank = |d: &String| d.lines().all(|l| l.trim().is_empty() || l.starts_with('#'));
    documents.retain(|d| !is_blank(d));
    documents
}

/// A captured frame: nanoseconds of the capture's clock, octets.
pub type Captured = (u64, Vec<u8>);

/// A capture file in the classic format, with nanoseconds, written by hand: the writer under test has no part in it.
pub fn pcap(frames: &[Captured]) -> Vec<u8> {
    let mut file = Vec::new();
    file.extend(0xa1b2_3c4d_u32.to_le_bytes());
    file.extend([2_u16, 4].iter().flat_map(|v| v.to_le_bytes()));
    file.extend([0_u32, 0, 65_535, 1].iter().flat_map(|v| v.to_le_bytes()));
    for (time, frame) in frames {
        let length = u32::try_from(frame.len()).unwrap();
        let seconds = u32::try_from(time / 1_000_000_000).unwrap();
        let nanoseconds = u32::try_from(time % 1_000_000_000).unwrap();
        file.extend([seconds, nanoseconds, length, length].iter().flat_map(|v| v.to_le_bytes()));
        file.extend(frame);
    }
    file
}

/// The frames of a classic capture file of Ethernet, in either byte order and resolution.
pub fn read_pcap(file: &[u8]) -> Vec<Captured> {
    let little = match file.get(..4) {
        Some([0x4d, 0x3c, 0xb2, 0xa1] | [0xd4, 0xc3, 0xb2, 0xa1]) => true,
        Some([0xa1, 0xb2, 0x3c, 0x4d] | [0xa1, 0xb2, 0xc3, 0xd4]) => false,
        other => panic!("not a capture file: {other:?}"),
    };
    let nanoseconds = file[..4].contains(&0x3c);
    let word = |at: usize| {
        let bytes: [u8; 4] = file[at..at + 4].try_into().unwrap();
        if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) }
    };
    assert_eq!(word(20) & 0xffff, 1, "link type Ethernet");
    let mut frames = Vec::new();
    let mut at = 24;
    while at < file.len() {
        let fraction = u64::from(word(at + 4)) * if nanoseconds { 1 } else { 1_000 };
        let captured = word(at + 8) as usize;
        assert_eq!(captured, word(at + 12) as usize, "the whole frame is captured");
        let time = u64::from(word(at)) * 1_000_000_000 + fraction;
        frames.push((time, file[at + 16..at + 16 + captured].to_vec()));
        at += 16 + captured;
    }
    frames
}

/// The gateway of every segment (realization's `ROUTER_MAC`).
pub const GATEWAY: &str = "02:50:56:56:44:52";

/// Six octets of `04:50:56:00:d0:00`.
pub fn mac(text: &str) -> [u8; 6] {
    let octets: Vec<u8> = text.split(':').map(|o| u8::from_str_radix(o, 16).unwrap()).collect();
    octets.try_into().unwrap()
}

/// A UDP datagram in its frame, made by etherparse.
pub fn udp(
    (source_mac, source, sport): (&str, &str, u16),
    (target_mac, target, dport): (&str, &str, u16),
    payload: &[u8],
) -> Vec<u8> {
    let address = |text: &str| text.parse::<std::net::Ipv4Addr>().unwrap().octets();
    let builder = etherparse::PacketBuilder::ethernet2(mac(source_mac), mac(target_mac))
        .ipv4(address(source), address(target), 64)
        .udp(sport, dport);
    let mut frame = Vec::new();
    builder.write(&mut frame, payload).unwrap();
    frame
}

/// What a frame is, in a line: `ADDRESS:PORT > ADDRESS:PORT udp PAYLOAD`, `arp`, or another protocol's number; by etherparse.
pub fn described(frame: &[u8]) -> String {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};
    let packet = SlicedPacket::from_ethernet(frame).unwrap();
    let ip = match &packet.net {
        Some(NetSlice::Ipv4(ip)) => ip.header(),
        Some(NetSlice::Arp(_)) => return "arp".to_owned(),
        other => panic!("{other:?}"),
    };
    let (source, target) = (ip.source_addr(), ip.destination_addr());
    match &packet.transport {
        Some(TransportSlice::Udp(udp)) => format!(
            "{source}:{} > {target}:{} udp {}",
            udp.source_port(),
            udp.destination_port(),
            String::from_utf8_lossy(udp.payload())
        ),
        Some(TransportSlice::Icmpv4(icmp)) => {
            format!("{source} > {target} icmp {}/{}", icmp.type_u8(), icmp.code_u8())
        }
        other => panic!("{other:?}"),
    }
}
