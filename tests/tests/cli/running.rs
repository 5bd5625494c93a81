//! A running lab and the commands that reach it: `labs`, `get`, `trace`, `apply`, `delete`, `down`; and clients that mean no good.
//!
//! The lab needs no rights: what is plugged into a port of it is a capture file. Its sockets are in a directory of the test's own.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tierlab_tests::{Finished, run, tierlab};

use crate::support::{Desk, pcap, udp};

/// Far more than anything here takes.
const LIMIT: Duration = Duration::from_secs(60);

/// A namespace with three pods; what `front` sends is in a capture file.
const LAB: &str = "
{kind: SupervisorCluster, metadata: {name: first}}
---
{kind: Attachment, metadata: {name: front}, spec: {port: pod/shop/front, pcap: {read: front.pcap}}}
---
{apiVersion: v1, kind: Namespace, metadata: {name: shop}}
---
{apiVersion: v1, kind: Pod, metadata: {name: back, namespace: shop, labels: {app: back}}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: front, namespace: shop}, spec: {containers: [{name: c, image: i}]}}
---
{apiVersion: v1, kind: Pod, metadata: {name: other, namespace: shop}, spec: {containers: [{name: c, image: i}]}}
";

/// Nothing may reach `back`.
const DENY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: deny, namespace: shop}
spec: {podSelector: {matchLabels: {app: back}}, policyTypes: [Ingress]}
";

// The second block of 16 in 10.244.0.0/20, pods in sorted order behind the gateway; MACs behind those of three control-plane VMs.
const BACK: &str = "10.244.0.18";
const FRONT: &str = "10.244.0.19";
const BACK_MAC: &str = "04:50:56:00:d0:03";
const FRONT_MAC: &str = "04:50:56:00:d0:04";

/// A directory with a lab that runs in it.
struct Running {
    desk: Desk,
    child: Child,
}

impl Running {
    /// Starts the lab with `arguments`, and ten datagrams from `front` to `back` in its first tenth of a second.
    fn start(arguments: &[&str]) -> Running {
        let desk = Desk::with(LAB);
        let datagram = udp((FRONT_MAC, FRONT, 4000), (BACK_MAC, BACK, 9), b"x");
        let frames: Vec<_> = (0..10).map(|i| (i * 10_000_000, datagram.clone())).collect();
        desk.write("front.pcap", pcap(&frames));
        std::fs::create_dir(desk.path().join("runtime")).unwrap();
        let child = Running::spawn(&desk, arguments);
        Running { desk, child }
    }

    fn spawn(desk: &Desk, arguments: &[&str]) -> Child {
        let mut command = Command::new(tierlab().unwrap());
        command.current_dir(desk.path()).env("XDG_RUNTIME_DIR", desk.path().join("runtime"));
        command.args(["up", "-f", "lab.yaml"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(lines.any(|line| line.unwrap().starts_with("lab is up")), "{:?}", child.wait());
        // It may go on printing.
        std::thread::spawn(move || lines.for_each(drop));
        child
    }

    /// Another command, for this lab.
    fn run(&self, arguments: &[&str]) -> Finished {
        let mut command = Command::new(tierlab().unwrap());
        command
            .current_dir(self.desk.path())
            .env("XDG_RUNTIME_DIR", self.desk.path().join("runtime"));
        run(command.args(arguments), LIMIT).unwrap()
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).success().unwrap_or_else(|e| panic!("{}: {e}", arguments.join(" ")))
    }

    #[track_caller]
    fn fails(&self, code: i32, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.status.code(), Some(code), "{}{}", done.stdout, done.stderr);
        assert!(!done.stderr.contains("panicked"), "{}", done.stderr);
        done.stderr
    }

    fn table(&self, kind: &str) -> Vec<Value> {
        let text = self.ok(&["get", kind, "--lab", "first", "-o", "json"]);
        serde_json::from_str::<Value>(&text).unwrap().as_array().unwrap().clone()
    }

    /// Waits until a table is as wanted.
    #[track_caller]
    fn wait_for(&self, kind: &str, wanted: impl Fn(&[Value]) -> bool) -> Vec<Value> {
        let deadline = Instant::now() + LIMIT;
        loop {
            let rows = self.table(kind);
            if wanted(&rows) {
                return rows;
            }
            assert!(Instant::now() < deadline, "{rows:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn changes(&self) -> u64 {
        let text = self.ok(&["labs", "-o", "json"]);
        let labs: Value = serde_json::from_str(&text).unwrap();
        let own =
            labs.as_array().unwrap().iter().find(|lab| lab["pid"] == self.child.id()).unwrap();
        own["changes"].as_u64().unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.desk.path().join("runtime/tierlab/first.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.set_write_timeout(Some(LIMIT)).unwrap();
        stream
    }

    fn ended(mut self) -> ExitStatus {
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the lab does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Resident memory of the lab, octets.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A message behind its length.
fn framed(text: &str) -> Vec<u8> {
    let length = u32::try_from(text.len()).unwrap();
    [length.to_be_bytes().as_slice(), text.as_bytes()].concat()
}

/// What the lab answers, if anything.
fn answer(stream: &mut UnixStream) -> Option<Value> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).ok()?;
    serde_json::from_slice(bytes.get(4..)?).ok()
}

#[test]
fn a_running_lab_shows_what_it_has_done() {
    let lab = Running::start(&[]);
    let listed = lab.ok(&["labs"]);
    assert!(listed.starts_with("NAME"), "{listed}");
    assert!(listed.lines().any(|line| line.starts_with("first ")), "{listed}");
    let sessions =
        lab.wait_for("sessions", |rows| rows.iter().any(|r| r["packets"] == json!([10, 10])));
    assert_eq!(sessions.len(), 1, "{sessions:?}");
    assert_eq!(sessions[0]["initiating"], format!("UDP {FRONT}:4000 > {BACK}:9"));
    // Ten times 14 + 20 + 8 + 1 octets, and port unreachable that quotes 20 + 8 + 1 of them behind 14 + 20 + 8: by the one rule
    // that lets a namespace's pods in.
    let rules = lab.table("dfw");
    let counted: Vec<&Value> = rules.iter().filter(|rule| rule["packets"] != 0).collect();
    assert_eq!(counted.len(), 1, "{counted:?}");
    assert_eq!(counted[0]["name"], "ns.shop.ingress-namespace");
    assert_eq!(
        [&counted[0]["packets"], &counted[0]["bytes"], &counted[0]["sessions"]],
        [&json!(20), &json!(1140), &json!(1)]
    );
    assert!(counted[0]["lastHit"].as_f64().unwrap() >= 0.09);
    let ports = lab.table("ports");
    let count = |name: &str, field: &str| {
        ports.iter().find(|p| p["name"] == name).unwrap()[field].as_u64().unwrap()
    };
    let front =
        ["rxPackets", "rxBytes", "txPackets", "txBytes"].map(|f| count("pod/shop/front", f));
    assert_eq!(front, [10, 430, 10, 710]);
    assert!(lab.table("drops").is_empty());
    // Without -f and --lab the only one is meant, and a wrong name says which there are.
    assert!(lab.fails(2, &["get", "pods", "--lab", "second"]).contains("first"));
    assert!(lab.fails(2, &["get", "pods", "-n", "no", "--lab", "first"]).contains("'no'"));
    assert!(lab.fails(2, &["get", "pods", "-f", "lab.yaml", "--lab", "first"]).contains("--lab"));
    assert_eq!(lab.ok(&["down", "--lab", "first"]), "lab 'first' is down\n");
    assert!(!lab.socket().exists());
    assert!(lab.ended().success());
}

#[test]
fn apply_and_delete_change_it_and_say_what_they_did() {
    let lab = Running::start(&[]);
    let all_sent = |rows: &[Value]| rows.iter().any(|row| row["packets"] == json!([10, 10]));
    lab.wait_for("sessions", all_sent);
    let in_lab = ["--lab", "first"];
    let apply = |file: &str| [&["apply", "-f", file][..], &in_lab].concat().join(" ");
    let run = |line: &str| lab.run(&line.split(' ').collect::<Vec<_>>());
    let ok = |line: &str| run(line).success().unwrap_or_else(|e| panic!("{line}: {e}"));
    let trace = || ok(&format!("trace pod/shop/other {BACK}:9 --lab first"));
    assert!(trace().contains("delivered to pod/shop/back"), "{}", trace());
    lab.desk.write("deny.yaml", DENY);
    assert_eq!(ok(&apply("deny.yaml")), "networkpolicy.networking.k8s.io/deny created\n");
    assert!(trace().contains("np.shop.deny.isolate-ingress"), "{}", trace());
    // A trace is no packet.
    assert!(lab.table("drops").is_empty());
    assert_eq!(ok(&apply("deny.yaml")), "networkpolicy.networking.k8s.io/deny unchanged\n");
    assert_eq!(lab.changes(), 1);
    lab.desk.write("deny.yaml", DENY.replace("app: back", "app: other"));
    assert_eq!(ok(&apply("deny.yaml")), "networkpolicy.networking.k8s.io/deny configured\n");
    assert!(trace().contains("delivered to pod/shop/back"), "{}", trace());
    assert_eq!(
        ok("delete netpol deny -n shop --lab first"),
        "networkpolicy.networking.k8s.io/deny deleted\n"
    );
    assert_eq!(lab.changes(), 3);

    // A pod of a workload, which keeps all addresses; then it goes, by its file.
    let addresses = |lab: &Running| {
        let pods = lab.table("pods");
        pods.iter().map(|p| (p["name"].clone(), p["addresses"].clone())).collect::<Vec<_>>()
    };
    let before = addresses(&lab);
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: aaa, namespace: shop}, spec: {replicas: 1, selector: {matchLabels: {app: aaa}}, template: {metadata: {labels: {app: aaa}}, spec: {containers: [{name: c, image: i}]}}}}";
    lab.desk.write("more.yaml", deployment);
    assert_eq!(ok(&apply("more.yaml")), "deployment.apps/aaa created\n");
    let after = addresses(&lab);
    assert_eq!(after.len(), before.len() + 1);
    assert!(before.iter().all(|pod| after.contains(pod)), "{before:?} {after:?}");
    assert_eq!(ok("delete -f more.yaml --lab first"), "deployment.apps/aaa deleted\n");
    assert_eq!(addresses(&lab), before);

    // From standard input, as everywhere.
    let done = {
        let mut command = Command::new("sh");
        command
            .current_dir(lab.desk.path())
            .env("XDG_RUNTIME_DIR", lab.desk.path().join("runtime"));
        command.args(["-c", "\"$0\" apply -f - --lab first < deny.yaml"]).arg(tierlab().unwrap());
        tierlab_tests::run(&mut command, LIMIT).unwrap()
    };
    assert_eq!(done.success().unwrap(), "networkpolicy.networking.k8s.io/deny created\n");
}

#[test]
fn what_is_wrong_changes_nothing_and_names_file_and_line() {
    let lab = Running::start(&[]);
    let allocations = || lab.desk.read(".tierlab/allocations.yaml");
    let (pods, before) = (lab.table("pods"), allocations());
    let pod = |namespace: &str, name: &str| {
        format!(
            "{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{containers: [{{name: c, image: i}}]}}}}\n"
        )
    };
    for (text, part) in [
        (format!("{}---\n{}", pod("shop", "fine"), pod("nowhere", "lost")), "wrong.yaml:3: Pod nowhere/lost: "),
        ("{apiVersion: v1, kind: Pod, metadata: {nmae: x}}\n".to_owned(), "wrong.yaml:1: "),
        ("a: [\n".to_owned(), "wrong.yaml:"),
        ("{kind: Attachment, metadata: {name: more}, spec: {port: pod/shop/back, pcap: {write: b.pcap}}}\n".to_owned(), "wrong.yaml:1: Attachment 'more': what is plugged in cannot change"),
        ("{kind: Attachment, metadata: {name: front}, spec: {port: pod/shop/back, pcap: {read: front.pcap}}}\n".to_owned(), "cannot change while the lab runs"),
        // The attached pod would get another address.
        ("{kind: SupervisorCluster, metadata: {name: first}, spec: {podCIDR: 10.250.0.0/20}}\n".to_owned(), "pod/shop/front: its address would change"),
    ] {
        lab.desk.write("wrong.yaml", &text);
        let said = lab.fails(2, &["apply", "-f", "wrong.yaml", "--lab", "first"]);
        assert!(said.contains(part), "{text}\n{said}");
    }
    for (arguments, part) in [
        (&["apply", "-f", "missing.yaml"][..], "missing.yaml: cannot be read"),
        (&["delete", "pod", "nobody", "-n", "shop"], "nothing of this name"),
        (&["delete", "pdo", "back", "-n", "shop"], "did you mean"),
        // What is plugged in there would hang in the air.
        (&["delete", "pod", "front", "-n", "shop"], "front"),
        (&["delete", "pod"], "<NAME>"),
        (&["delete"], "<KIND>"),
        (&["apply"], "--file"),
        (&["trace", "pod/shop/nobody", "pod/shop/back"], "'pod/shop/nobody'"),
        (&["trace", "pod/shop/other", "pod/shop/back", "--reply"], "--reply"),
    ] {
        let said = lab.fails(2, &[arguments, &["--lab", "first"]].concat());
        assert!(said.contains(part), "{arguments:?}\n{said}");
    }
    assert_eq!((lab.table("pods"), lab.changes()), (pods, 0));
    assert_eq!(allocations(), before);
}

#[test]
fn names_are_the_clusters_or_stated_and_belong_to_the_living() {
    let mut lab = Running::start(&[]);
    let second = Running::spawn(&lab.desk, &["--state", "second"]);
    let names = |lab: &Running| {
        let text = lab.ok(&["labs", "-o", "csv"]);
        let own = |line: &&str| line.contains(lab.desk.path().to_str().unwrap());
        text.lines()
            .filter(own)
            .map(|line| line.split(',').next().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&lab), ["first", "first-2"]);
    let mut second = Running { desk: Desk::new(), child: second };
    assert!(lab.fails(2, &["get", "pods"]).contains("first, first-2"));
    let up = ["up", "-f", "lab.yaml", "--state", "third", "--duration", "1", "--name"];
    assert!(lab.fails(2, &[&up[..], &["first"]].concat()).contains("'first' is running already"));
    assert!(lab.fails(2, &[&up[..], &["../first"]].concat()).contains("lower-case letters"));
    // Killed, they leave their sockets, and are not running.
    for child in [&mut lab.child, &mut second.child] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(lab.socket().exists());
    assert!(names(&lab).is_empty());
    assert!(lab.fails(2, &["down", "--lab", "first"]).contains("no lab 'first' is running"));
    lab.child = Running::spawn(&lab.desk, &["--name", "first"]);
    assert_eq!(names(&lab), ["first"]);
    let mode = std::fs::metadata(lab.socket().parent().unwrap()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_hostile_client_neither_stops_nor_grows_it() {
    let lab = Running::start(&[]);
    lab.wait_for("sessions", |rows| !rows.is_empty());
    let before = lab.memory();
    // What is no call is told so.
    for (bytes, part) in [
        (vec![0xff; 4], "too long"),
        (framed("null"), "this is no call"),
        (framed("{\"version\":1,\"request\":{\"info\":{\"x\":1}}}"), "this is no call"),
        (framed("{\"version\":2,\"request\":{\"dance\":{}}}"), "another version"),
        (framed(&"[".repeat(100_000)), "this is no call"),
    ] {
        let mut stream = lab.connect();
        stream.write_all(&bytes).unwrap();
        let said = answer(&mut stream).unwrap();
        assert!(said["failed"]["message"].as_str().unwrap().contains(part), "{said}");
        assert_ne!(said["failed"]["exit"], 0, "{said}");
    }
    // Who hangs up in the middle is forgotten; nothing is set aside for what was only announced.
    for sent in 0..8 {
        let call = [&[0, 0xff, 0xff, 0xff][..], &[b'x'; 8]].concat();
        let _ = lab.connect().write_all(call.get(..sent).unwrap());
    }
    // A definition that would be large if it were believed.
    let bomb = "a: &a [x, x, x, x, x, x, x, x]\nb: &b [*a, *a, *a, *a, *a, *a, *a, *a]\nc: &c [*b, *b, *b, *b, *b, *b, *b, *b]\nd: &d [*c, *c, *c, *c, *c, *c, *c, *c]\ne: &e [*d, *d, *d, *d, *d, *d, *d, *d]\nf: &f [*e, *e, *e, *e, *e, *e, *e, *e]\ng: &g [*f, *f, *f, *f, *f, *f, *f, *f]\nh: [*g, *g, *g, *g, *g, *g, *g, *g]\n";
    let call =
        json!({"version": 1, "request": {"apply": {"texts": [{"name": "b", "text": bomb}]}}});
    let mut stream = lab.connect();
    stream.write_all(&framed(&call.to_string())).unwrap();
    assert!(answer(&mut stream).unwrap()["failed"]["message"].as_str().unwrap().contains("b:"));
    // More than may talk at a time, and none of them does: the next is served as soon as they have had their time.
    let idle: Vec<UnixStream> = (0..64).map(|_| lab.connect()).collect();
    assert_eq!(lab.table("pods").len(), 3);
    drop(idle);
    assert_eq!(lab.changes(), 0);
    // One who goes away leaves nothing half done.
    let call =
        json!({"version": 1, "request": {"apply": {"texts": [{"name": "deny", "text": DENY}]}}});
    lab.connect().write_all(&framed(&call.to_string())).unwrap();
    lab.wait_for("dfw", |rules| {
        rules.iter().any(|rule| rule["name"] == "np.shop.deny.isolate-ingress")
    });
    assert_eq!(lab.changes(), 1);
    let grown = lab.memory().saturating_sub(before);
    assert!(grown < 64 << 20, "grown by {grown} octets");
    assert!(lab.run(&["down", "--lab", "first"]).status.success());
    assert!(lab.ended().success());
}
