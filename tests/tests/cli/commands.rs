//! Every command with good and bad arguments: exit codes and what is said.

use serde_json::Value;

use crate::support::{Desk, is_release, topology};

/// Splits at blanks; `LAB` stands for topologies/supervisor.
fn words(line: &str) -> Vec<String> {
    line.split_whitespace().map(|w| w.replace("LAB", &topology("supervisor"))).collect()
}

#[test]
fn help_and_version() {
    let desk = Desk::new();
    let help = desk.ok(&["--help"]);
    for command in
        ["demo", "validate", "test", "up", "get", "ping", "curl", "trace", "matrix", "replay"]
    {
        assert!(help.contains(&format!("\n  {command} ")), "{command} is not in\n{help}");
        assert!(desk.ok(&[command, "--help"]).contains("Usage: "), "{command}");
    }
    assert!(desk.ok(&["--version"]).starts_with("tierlab "));
}

#[test]
fn what_works() {
    for line in [
        "validate -f LAB",
        "test LAB --filter dns",
        "test LAB --list",
        "test LAB --filter dns -o tap -j 1",
        "get pods -f LAB -n banking",
        "ping pod/banking/teller pod/banking/ledger -f LAB",
        "ping 10.244.0.19 10.244.0.18 -f LAB",
        "ping vm/cp-1:eth0 192.168.10.10 -f LAB -c 3 -s 1473 -t 1",
        "ping host/client 172.16.1.3 -f LAB",
        "curl pod/banking/teller http://ledger.banking.svc.cluster.local:8080/ -f LAB",
        "curl host/client 172.16.1.3 -f LAB",
        "curl host/client http://172.16.1.3/some/path?x=1 -i -f LAB",
        "trace pod/shop/cart pod/banking/ledger:5432 -f LAB",
        "trace pod/shop/cart svc/kube-system/kube-dns:53 --proto udp --reply -f LAB",
        "trace host/client 172.16.1.3 -o json -f LAB",
    ] {
        let done = Desk::new().run(&words(line));
        // No server listens behind the ledger's ClusterIP at 8080: an answer, if not the one hoped for.
        let expected = if line.contains(":8080/") { 1 } else { 0 };
        assert_eq!(done.status.code(), Some(expected), "{line}\n{}{}", done.stdout, done.stderr);
    }
}

#[test]
fn what_did_not_hold_is_1() {
    for (line, part) in [
        ("ping pod/shop/cart pod/banking/ledger -f LAB", "100% packet loss"),
        (
            "ping pod/banking/teller pod/banking/ledger -s 2000 --df -f LAB",
            "message too long, mtu=1500",
        ),
        ("ping pod/banking/teller svc/banking/ledger -f LAB", "100% packet loss"),
        ("curl pod/shop/cart http://10.244.0.18:5432/ -f LAB", "timed out"),
        ("curl host/client http://172.16.1.3:81/ -f LAB", "port 81"),
        ("curl pod/shop/cart http://nowhere.invalid/ -f LAB", "cannot resolve nowhere.invalid"),
        ("curl pod/banking/teller http://10.244.0.18:81/ -f LAB", "refused"),
        ("curl pod/shop/cart http://10.244.0.18:81/ -o json -f LAB", "\"failure\""),
    ] {
        let done = Desk::new().run(&words(line));
        let said = done.stdout + &done.stderr;
        assert_eq!(done.status.code(), Some(1), "{line}\n{said}");
        assert!(said.contains(part), "{line}\n{said}");
    }
}

#[test]
fn wrong_arguments_are_2_and_named() {
    for (line, part) in [
        ("", "Usage"),
        ("frobnicate", "'frobnicate'"),
        ("demo extra", "'extra'"),
        ("validate", "--file"),
        ("validate -f missing.yaml", "missing.yaml: cannot be read"),
        ("validate -f LAB -o xml", "'xml'"),
        ("validate -f LAB --frob", "'--frob'"),
        ("test", "<PATH>"),
        ("test missing", "missing: cannot be read"),
        ("test LAB --filter zzz", "no packet test's name contains 'zzz'"),
        ("test LAB -o xml", "'xml'"),
        ("test LAB -j many", "'many'"),
        ("test LAB -f missing", "missing: cannot be read"),
        ("up", "--file"),
        ("up -f missing.yaml", "missing.yaml: cannot be read"),
        ("up -f LAB --duration soon", "'soon'"),
        ("up -f LAB --duration -1", "-1"),
        ("get", "<KIND>"),
        ("get pods", "--file"),
        ("get -f LAB", "<KIND>"),
        ("get pod -f LAB", "pods"),
        ("get pods -f LAB -n nowhere", "there is no namespace 'nowhere'"),
        ("get pods -f LAB -o xml", "'xml'"),
        ("ping -f LAB", "<FROM>"),
        ("ping pod/banking/teller -f LAB", "<TO>"),
        ("ping pod/banking/nobody 10.244.0.18 -f LAB", "'pod/banking/nobody'"),
        ("ping pod/banking/teller pod/banking/nobody -f LAB", "'pod/banking/nobody'"),
        ("ping pod/nowhere/teller 10.244.0.18 -f LAB", "'pod/nowhere/teller'"),
        ("ping banking/teller 10.244.0.18 -f LAB", "'banking/teller'"),
        ("ping host/nobody 10.244.0.18 -f LAB", "'host/nobody'"),
        ("ping host/client:eth9 10.244.0.18 -f LAB", "'host/client:eth9'"),
        ("ping vm/cp-9 10.244.0.18 -f LAB", "'vm/cp-9'"),
        ("ping vm/cp-1:eth2 10.244.0.18 -f LAB", "'vm/cp-1:eth2'"),
        ("ping svc/banking/web 10.244.0.18 -f LAB", "nothing can be sent from it"),
        ("ping 192.0.2.1 10.244.0.18 -f LAB", "nothing can be sent from it"),
        ("ping pod/banking/teller svc/banking/nothing -f LAB", "'banking/nothing'"),
        ("ping pod/banking/teller 10.0.0.256 -f LAB", "'10.0.0.256'"),
        ("ping pod/banking/teller 10.244.0.18 -c 0 -f LAB", "'0'"),
        ("ping pod/banking/teller 10.244.0.18 -c 70000 -f LAB", "'70000'"),
        ("ping pod/banking/teller 10.244.0.18 -s 65508 -f LAB", "'65508'"),
        ("ping pod/banking/teller 10.244.0.18 -t 0 -f LAB", "'0'"),
        ("ping pod/banking/teller 10.244.0.18 -t 256 -f LAB", "'256'"),
        ("curl pod/banking/teller -f LAB", "<URL>"),
        ("curl pod/banking/nobody http://172.16.1.3/ -f LAB", "'pod/banking/nobody'"),
        ("curl host/client https://172.16.1.3/ -f LAB", "TLS is not emulated"),
        ("curl host/client ftp://172.16.1.3/ -f LAB", "is not an http URL"),
        ("curl host/client http:// -f LAB", "has no host"),
        ("curl host/client http://:80/ -f LAB", "has no host"),
        ("curl host/client http://172.16.1.3:0/ -f LAB", "has no valid port"),
        ("curl host/client http://172.16.1.3:/ -f LAB", "has no valid port"),
        ("curl host/client http://172.16.1.3:70000/ -f LAB", "has no valid port"),
        ("curl host/client http://172.16.1.3:http/ -f LAB", "has no valid port"),
        ("trace host/client -f LAB", "<TO>"),
        ("trace host/client 172.16.1.3:0 -f LAB", "from 1 to 65535"),
        ("trace host/client 172.16.1.3:70000 -f LAB", "from 1 to 65535"),
        ("trace host/client 172.16.1.3 --proto tcp -f LAB", "has no port"),
        ("trace host/client 172.16.1.3 --proto udp -f LAB", "has no port"),
        ("trace host/client 172.16.1.3:80 --proto sctp -f LAB", "'sctp'"),
        ("trace host/client svc/banking/nothing:80 -f LAB", "'banking/nothing'"),
        ("trace host/nobody 172.16.1.3:80 -f LAB", "'host/nobody'"),
        ("matrix -f LAB", "--ports"),
        ("matrix -f LAB --ports 80", "'80'"),
        ("matrix -f LAB --ports tcp/0", "'tcp/0'"),
        ("matrix -f LAB --ports tcp/80,udp/70000", "'udp/70000'"),
        ("matrix -f LAB --ports sctp/80", "'sctp/80'"),
        ("matrix -f LAB --ports tcp/80 -n nowhere", "there is no namespace 'nowhere'"),
        ("matrix -f LAB --ports tcp/80 --ext nobody", "'nobody'"),
        ("matrix -f LAB --ports tcp/80 --ext 192.0.2.1", "'192.0.2.1'"),
        ("matrix -f LAB --ports tcp/80 --expect missing.csv", "missing.csv"),
        ("replay -f LAB --out out", "--in"),
        ("replay -f LAB --in pod/shop/cart=x.pcap", "--out"),
        ("replay -f LAB --in pod/shop/cart --out out", "is not PORT=FILE.pcap"),
        ("replay -f LAB --in pod/shop/nobody=x.pcap --out out", "'pod/shop/nobody'"),
        ("replay -f LAB --in pod/shop/cart=missing.pcap --out out", "missing.pcap"),
    ] {
        let said = Desk::new().fails(2, &words(line));
        assert!(said.contains(part), "{line}\n{said}");
        assert!(
            line.is_empty() || said.lines().count() <= 8,
            "{line}: not one clear message\n{said}"
        );
    }
}

/// What is no URL is wrong input: nothing is looked up or sent.
#[test]
fn urls_that_are_none() {
    let lab = topology("supervisor");
    let mut wrong = Vec::new();
    for url in [
        "http://user@172.16.1.3/",
        "http://[::1/",
        "http://::1/",
        "http://172.16.1.3/a b",
        "http://172.16.1.3/\r\nX-Injected: yes",
        "http://172.16.1.3/\u{1b}[31m",
        "http://a b/",
        "http://a\r\nb/",
    ] {
        let done = Desk::new().run(&["curl", "host/client", url, "-f", &lab]);
        if done.status.code() != Some(2) || done.stderr.contains(['\u{1b}', '\r']) {
            wrong.push(format!("{url:?}: {}, {:?}", done.status, done.stderr));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// As Linux does it: a datagram in fragments waits for its neighbour as a whole.
#[test]
fn a_first_ping_of_many_fragments_is_answered() {
    let lab = topology("supervisor");
    for size in ["4432", "4433", "8000", "65507"] {
        let line = ["ping", "pod/banking/teller", "pod/banking/ledger", "-s", size, "-f", &lab];
        let said = Desk::new().run(&line).stdout;
        assert!(said.contains(" 1 received, 0% packet loss"), "{said}");
    }
}

#[test]
fn no_jobs_are_refused() {
    Desk::new().fails(2, &words("test LAB --filter dns -j 0"));
}

#[test]
fn the_environment_is_3() {
    let lab = topology("supervisor");
    let desk = Desk::new();
    // A file stands where a directory is needed. Rights would not do: root has them all.
    desk.write("file", "");
    desk.write("in.pcap", crate::support::pcap(&[]));
    for line in [
        format!("test {lab} --filter dns --junit file/results.xml"),
        format!("replay -f {lab} --in pod/shop/cart=in.pcap --out file/out"),
        format!("up -f {lab} --state file/state --duration 1"),
    ] {
        let said = desk.fails(3, &line.split(' ').collect::<Vec<_>>());
        assert!(said.contains("file/"), "{line}\n{said}");
    }
}

/// A packet test that cannot pass.
const FAILING: &str = "kind: PacketTest
metadata: {name: nothing-comes}
spec:
  steps:
  - send: {from: pod/shop/cart, icmp: {to: 10.244.0.18}}
  - expect: {at: pod/banking/ledger}
";

#[test]
fn failing_packet_tests() {
    let desk = Desk::new();
    desk.write("failing.yaml", FAILING);
    let lab = topology("supervisor");
    let run = |more: &[&str]| {
        desk.run(&[&["test", "failing.yaml", "-f", &lab, "--filter", "nothing"], more].concat())
    };
    let human = run(&["--junit", "junit.xml"]);
    assert_eq!(human.status.code(), Some(1), "{}{}", human.stdout, human.stderr);
    assert!(
        human.stdout.contains("failing.yaml:6: PacketTest nothing-comes, step 2 (expect): "),
        "{}",
        human.stdout
    );
    assert!(human.stdout.contains("0 passed, 1 failed"), "{}", human.stdout);
    let junit = String::from_utf8(desk.read("junit.xml")).unwrap();
    assert!(junit.contains("tests=\"1\"") && junit.contains("failures=\"1\""), "{junit}");

    let json = run(&["-o", "json"]);
    assert_eq!(json.status.code(), Some(1));
    let value: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&value["passed"], &value["failed"]), (&0.into(), &1.into()), "{value}");

    let tap = run(&["-o", "tap"]);
    assert_eq!(tap.status.code(), Some(1));
    assert!(tap.stdout.contains("1..1\n") && tap.stdout.contains("not ok 1 "), "{}", tap.stdout);
}

#[test]
fn trace_tells_the_same_in_both_formats() {
    let lab = topology("supervisor");
    let line = ["trace", "pod/shop/cart", "pod/banking/ledger:5432", "-f", &lab];
    let text = Desk::new().ok(&line);
    let json = Desk::new().ok(&[&line[..], &["-o", "json"]].concat());
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["delivered"], Value::Null);
    for step in value["walks"][0]["steps"].as_array().unwrap() {
        let decision = step["decision"].as_str().unwrap();
        assert!(text.contains(decision), "{decision} is not in\n{text}");
    }
    let drop = &value["drops"][0];
    assert_eq!((&drop["stage"], &drop["reason"]), (&"dfw-in".into(), &"firewall".into()), "{drop}");
}

/// A trace commits nothing and begins in a fresh lab, so it is the same each time.
#[test]
fn the_same_twice() {
    for line in [
        "trace host/client 172.16.1.3:80 --reply -f LAB",
        "curl host/client http://172.16.1.3/ -i -f LAB",
        "ping pod/shop/cart 192.168.20.100 -c 3 -f LAB",
        "test LAB -o json",
        "test LAB -j 1 -o json",
        "validate -f LAB",
    ] {
        let first = Desk::new().ok(&words(line));
        assert_eq!(first, Desk::new().ok(&words(line)), "{line}");
    }
    assert_eq!(Desk::new().ok(&words("test LAB -j 1")), Desk::new().ok(&words("test LAB -j 7")));
}

/// A ClusterIP does not exist outside: the packet ends at the last router, whose error comes back. That is no delivery.
#[test]
fn a_trace_that_ends_outside_is_not_delivered_to_its_sender() {
    let lab = topology("supervisor");
    let line = ["trace", "host/client", "10.96.0.34:80", "-f", &lab];
    let text = Desk::new().ok(&line);
    assert!(
        text.contains("the sender got 192.168.20.1 > 192.168.20.100: ICMP net unreachable"),
        "{text}"
    );
    assert!(!text.contains("delivered to host/client"), "{text}");
    let json = Desk::new().ok(&[&line[..], &["-o", "json"]].concat());
    let value: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["delivered"], Value::Null, "{text}");
    let walks = value["walks"].as_array().unwrap();
    assert!(
        walks.iter().all(|w| w["direction"] == "request" || w["ingress"] == "host/internet:eth0")
    );
    let error = walks.iter().find(|w| w["ingress"] == "host/internet:eth0");
    assert!(error.is_none_or(|walk| walk["direction"] == "reply"), "{text}");
}

/// A full disk is not success; a reader that has gone is.
#[test]
#[cfg(target_os = "linux")]
fn where_output_goes() {
    let lab = topology("supervisor");
    let desk = Desk::new();
    let arguments = ["get", "ports", "-f", &lab];
    let full = desk.run_in_shell("", "> /dev/full", &arguments);
    assert_eq!(full.status.code(), Some(3), "{}", full.stderr);
    assert!(full.stderr.contains("standard output"), "{}", full.stderr);
    // `true` is gone before anything is written.
    let gone =
        desk.run_in_shell("{ sleep 0.3; (", "); echo ended with $? >&2; } | true", &arguments);
    assert_eq!(gone.stderr, "ended with 0\n");
}

#[test]
fn the_demo() {
    let begun = std::time::Instant::now();
    let said = Desk::new().ok(&["demo", "--no-bench"]);
    assert!(!is_release() || begun.elapsed() < std::time::Duration::from_secs(10));
    for part in [
        "From 10.244.0.1 icmp_seq=1 Destination Host Unreachable",
        "172.16.2.2",
        "10.96.0.10",
        "172.16.1.2",
    ] {
        assert!(said.contains(part), "{part} is not in\n{said}");
    }
}
