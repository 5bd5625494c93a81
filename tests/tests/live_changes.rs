//! Changes of a running lab under real traffic between Linux network namespaces: what is no longer allowed stops, what still is
//! loses nothing, a new pod inherits nothing, and a lab that is killed in the middle leaves nothing.
//!
//! The lab is that of `tap_lab.rs`, and so is what it needs: root, /dev/net/tun, programs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "tap_lab/support.rs"]
#[allow(dead_code, reason = "shared with the other tests of attached labs, which use all of it")]
mod support;

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use serde_json::Value;
use support::{PATIENCE, Place, Up, privileged};
use tierlab_tests::{Finished, run, tierlab};

const LAB: &str = include_str!("tap_lab/lab.yaml");
/// As worked out in `tap_lab.rs`.
const CLIENT: &str = "10.244.0.34";
const HELLO: [&str; 2] = ["10.244.0.35", "10.244.0.36"];

/// Nothing may reach pods of red, whatever NetworkPolicies allow.
const CLOSED: &str = "
apiVersion: nsx.vmware.com/v1alpha1
kind: SecurityPolicy
metadata: {name: closed, namespace: red}
spec: {appliedTo: [{podSelector: {}}], rules: [{direction: in, action: drop}]}
";

/// A running lab with a name of its own.
struct Named {
    place: Place,
    name: String,
}

impl Named {
    fn new(letter: char) -> Named {
        let place = Place::new(letter, LAB);
        let name = place.netns("lab");
        Named { place, name }
    }

    fn up(&self) -> Up {
        self.place.up_with(&["--name", &self.name])
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tierlab().unwrap());
        command.current_dir(self.place.path("."));
        command.args(arguments).args(["--lab", &self.name]);
        command
    }

    fn run(&self, arguments: &[&str]) -> Finished {
        run(&mut self.command(arguments), PATIENCE).unwrap()
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments).success().unwrap_or_else(|e| panic!("{}: {e}", arguments.join(" ")))
    }

    fn table(&self, kind: &str) -> Vec<Value> {
        let table: Value = serde_json::from_str(&self.ok(&["get", kind, "-o", "json"])).unwrap();
        table.as_array().unwrap().clone()
    }

    fn write(&self, file: &str, text: &str) {
        std::fs::write(self.place.path(file), text).unwrap();
    }
}

/// Packets that an interface has received.
fn received(up: &Up, role: &str) -> u64 {
    let counter = "/sys/class/net/eth0/statistics/rx_packets";
    up.ok(role, &["cat", counter]).trim().parse().unwrap()
}

#[test]
fn what_a_change_forbids_stops_before_it_is_answered() {
    if !privileged("what_a_change_forbids_stops_before_it_is_answered") {
        return;
    }
    let lab = Named::new('p');
    let up = lab.up();
    // An established flow, 200 packets a second in both directions.
    let _pinging = up.start("web", &["ping", "-n", "-q", "-i", "0.005", CLIENT]);
    let mut at_web = up.watch("web", "icmp[icmptype] == icmp-echoreply");
    at_web.sees(CLIENT, "10.244.0.18");
    lab.write("closed.yaml", CLOSED);
    for _ in 0..3 {
        assert!(lab.ok(&["apply", "-f", "closed.yaml"]).contains("/closed created"));
        let then = received(&up, "client");
        sleep(Duration::from_millis(500));
        assert_eq!(received(&up, "client"), then, "packets came after the change was answered");
        // Counted by the rule that forbids it.
        let drops = lab.table("drops");
        let rule = |row: &Value| row["rule"].as_str().is_some_and(|r| r.contains("sp.red.closed"));
        assert!(drops.iter().any(rule), "{drops:?}");
        assert!(lab.ok(&["delete", "-f", "closed.yaml"]).contains("/closed deleted"));
        let then = received(&up, "client");
        sleep(Duration::from_millis(500));
        assert!(received(&up, "client") > then, "the flow goes on where it is allowed again");
    }
    assert!(up.interrupt().status.success());
}

#[test]
fn what_a_change_does_not_concern_loses_nothing() {
    if !privileged("what_a_change_does_not_concern_loses_nothing") {
        return;
    }
    let lab = Named::new('q');
    let up = lab.up();
    lab.write("other.yaml", &CLOSED.replace("red", "green").replace("closed", "other"));
    lab.write("green.yaml", "{apiVersion: v1, kind: Namespace, metadata: {name: green}}\n");
    let pods = |n: u32| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: d, namespace: green}}, spec: {{replicas: {n}, selector: {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}\n"
        )
    };
    let mut ping = up.command("web", &["ping", "-n", "-q", "-i", "0.005", "-c", "600", CLIENT]);
    let pinging = ping.stdout(Stdio::piped()).spawn().unwrap();
    lab.ok(&["apply", "-f", "green.yaml"]);
    for n in 1..8 {
        lab.write("pods.yaml", &pods(n));
        lab.ok(&["apply", "-f", "pods.yaml"]);
        lab.ok(&["apply", "-f", "other.yaml"]);
        lab.ok(&["delete", "securitypolicy", "other", "-n", "green"]);
    }
    lab.ok(&["delete", "namespace", "green"]);
    let said = pinging.wait_with_output().unwrap().stdout;
    let said = String::from_utf8(said).unwrap();
    assert!(said.contains("600 packets transmitted, 600 received"), "{said}");
    // One flow, one session, as if nothing had happened.
    let sessions = lab.table("sessions");
    let of_ping = |row: &&Value| row["initiating"].as_str().unwrap().contains(CLIENT);
    let packets: Vec<&Value> = sessions.iter().filter(of_ping).map(|row| &row["packets"]).collect();
    assert_eq!(packets, [&serde_json::json!([600, 600])], "{sessions:?}");
    assert!(up.interrupt().status.success());
}

#[test]
fn a_pod_with_the_address_of_another_inherits_no_session() {
    if !privileged("a_pod_with_the_address_of_another_inherits_no_session") {
        return;
    }
    let lab = Named::new('r');
    let up = lab.up();
    let of_hello = |lab: &Named| {
        let sessions = lab.table("sessions");
        sessions.iter().filter(|row| row.to_string().contains(HELLO[1])).count()
    };
    assert!(up.pings("client", HELLO[1]));
    assert!(of_hello(&lab) > 0);
    let pods = |lab: &Named| {
        let of_red = lab.table("pods").into_iter().filter(|pod| pod["namespace"] == "red");
        of_red
            .map(|pod| {
                (
                    pod["addresses"][0].as_str().unwrap().to_owned(),
                    pod["name"].as_str().unwrap().to_owned(),
                )
            })
            .collect::<Vec<_>>()
    };
    let (_, gone) = pods(&lab).into_iter().find(|(address, _)| address == HELLO[1]).unwrap();
    assert_eq!(gone, "hello-2");
    let late = "{apiVersion: v1, kind: Pod, metadata: {name: late, namespace: red}, spec: {containers: [{name: c, image: i}]}}";
    lab.write("late.yaml", late);
    assert_eq!(lab.ok(&["delete", "pod", "hello-2", "-n", "red"]), "pod/hello-2 deleted\n");
    assert_eq!(lab.ok(&["apply", "-f", "late.yaml"]), "pod/late created\n");
    let now = pods(&lab);
    assert!(now.contains(&(HELLO[1].to_owned(), "late".to_owned())), "{now:?}");
    assert!(!now.iter().any(|(_, name)| *name == gone), "{now:?}");
    assert_eq!(of_hello(&lab), 0, "sessions of the pod that has gone");
    assert!(up.pings("client", HELLO[1]));
    assert!(up.interrupt().status.success());
}

#[test]
fn a_lab_killed_while_it_changes_leaves_nothing() {
    if !privileged("a_lab_killed_while_it_changes_leaves_nothing") {
        return;
    }
    let lab = Named::new('s');
    let deployment = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: many, namespace: red}, spec: {replicas: 400, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}}\n";
    lab.write("many.yaml", deployment);
    for delay in [0, 5, 20, 60, 150] {
        let up = lab.up();
        assert_eq!(up.address("pod/red/client").to_string(), CLIENT, "kept over all that");
        let mut applying = lab.command(&["apply", "-f", "many.yaml"]);
        applying.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut applying = applying.spawn().unwrap();
        sleep(Duration::from_millis(delay));
        up.kill_nine();
        // Told that nothing came of it, or that it was done: never left waiting.
        let status = applying.wait().unwrap();
        assert!(matches!(status.code(), Some(0 | 2 | 3)), "{status}");
        assert_eq!(lab.run(&["get", "pods"]).status.code(), Some(2), "a dead lab is listed");
    }
    let up = lab.up();
    assert!(up.pings("client", HELLO[0]));
    lab.ok(&["apply", "-f", "many.yaml"]);
    assert!(up.pings("client", HELLO[0]));
    let down = lab.ok(&["down"]);
    assert!(down.ends_with("is down\n"), "{down}");
    for role in ["client", "web", "server"] {
        let left = Path::new("/run/netns").join(lab.place.netns(role));
        assert!(!left.exists(), "{} is left", left.display());
    }
}
