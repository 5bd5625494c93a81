//! Issue 2 (d): Linux network namespaces as pods and as an external host of a running lab.
//!
//! Real programs (`ping`, `curl`, `dig`, `iperf3`) talk across the lab, and `tcpdump` in the namespaces
//! shows the addresses that the source articles say. The lab is `tap_lab/lab.yaml`; its expected
//! addresses are worked out by hand from the rules of allocation: lowest free, in sorted order, after
//! the system's own.
//!
//! Needs root, /dev/net/tun and the programs that `support.rs` lists. Without them each test says
//! loudly that it was skipped, and passes; with `CI=true` or `TIERLAB_REQUIRE_PRIVILEGED=1` it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "tap_lab/support.rs"]
mod support;

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use support::{PAGE, PATIENCE, Place, is_root, privileged};
use tierlab_tests::{Finished, run, tierlab};

const LAB: &str = include_str!("tap_lab/lab.yaml");

// The pod CIDR is 10.244.0.0/20 in blocks of 16: the first is the control plane's, then the
// namespaces' in sorted order; .1 of a block is the gateway, pods follow in sorted order.
const WEB: &str = "10.244.0.18";
const CLIENT: &str = "10.244.0.34";
const HELLO: [&str; 2] = ["10.244.0.35", "10.244.0.36"];
const SERVER: &str = "192.168.100.1";
// 172.16.2.1 is the system namespaces'.
const BLUE_OUTSIDE: &str = "172.16.2.2";
const RED_OUTSIDE: &str = "172.16.2.3";
/// The only Service with an address outside.
const VIP: &str = "172.16.1.1";

#[test]
fn pods_talk_where_policy_lets_them() {
    if !privileged("pods_talk_where_policy_lets_them") {
        return;
    }
    let place = Place::new('a', LAB);
    let up = place.up();
    assert_eq!(up.address("pod/blue/web").to_string(), WEB);
    assert_eq!(up.address("pod/red/client").to_string(), CLIENT);
    // An attached machine is what the emulated pod would have been.
    let link = up.ok("client", &["ip", "-o", "link", "show", "eth0"]);
    assert!(link.contains(&up.table()["pod/red/client"][4]) && link.contains("mtu 1500"), "{link}");
    let route = up.ok("client", &["ip", "route", "show", "default"]);
    assert_eq!(route.trim(), "default via 10.244.0.33 dev eth0");

    // blue may ping red, not the other way round.
    assert!(up.pings("web", CLIENT));
    assert!(!up.pings("client", WEB));
    // To its own gateway and to an emulated neighbour everybody may.
    assert!(up.pings("client", "10.244.0.33"));
    assert!(up.pings("client", HELLO[0]));

    let _open = up.http_server("web", 8080);
    let _closed = up.http_server("web", 8081);
    let mut at_web = up.watch("web", "tcp or icmp");
    assert!(up.curl("client", &format!("http://{WEB}:8080/")).contains(PAGE));
    at_web.sees(&format!("{CLIENT}."), &format!("{WEB}.8080:"));
    let refused = up.run("client", &["curl", "-sS", "-m", "2", &format!("http://{WEB}:8081/")]);
    // 7 is "refused", 28 is "no answer".
    assert!(matches!(refused.status.code(), Some(7 | 28)), "{}", refused.stderr);
    assert!(!up.pings("client", WEB));
    let seen = at_web.stop();
    assert!(!seen.contains(".8081") && !seen.contains("ICMP"), "denied packets arrived:\n{seen}");

    let ended = up.interrupt();
    assert!(ended.status.success(), "{}", ended.stderr);
    let denied = ended.stdout.lines().find(|l| l.contains("dfw-in") && l.contains("firewall"));
    assert!(denied.is_some_and(|l| l.contains("pod/blue/web")), "{}", ended.stdout);
}

#[test]
fn services_have_real_and_emulated_backends() {
    if !privileged("services_have_real_and_emulated_backends") {
        return;
    }
    let place = Place::new('b', LAB);
    let up = place.up();
    let _server = up.http_server("web", 8080);
    let cluster_ip = up.ok("client", &["dig", "+short", "web.blue.svc.cluster.local"]);
    let cluster_ip = cluster_ip.trim();
    assert!(cluster_ip.starts_with("10.96."), "{cluster_ip}");

    // A ClusterIP is translated at the client's host: the backend sees the client itself, the client
    // only the ClusterIP.
    let mut at_web = up.watch("web", "tcp");
    let mut at_client = up.watch("client", "tcp");
    assert!(up.curl("client", &format!("http://{cluster_ip}/")).contains(PAGE));
    at_web.sees(&format!("{CLIENT}."), &format!("{WEB}.8080:"));
    at_client.sees(&format!("{cluster_ip}.80"), &format!("{CLIENT}."));
    let (seen_at_web, seen_at_client) = (at_web.stop(), at_client.stop());
    assert!(!seen_at_web.contains(cluster_ip), "{seen_at_web}");
    assert!(!seen_at_client.contains(WEB), "{seen_at_client}");

    // A pod is a client of its own Service.
    assert!(up.curl("web", &format!("http://{cluster_ip}/")).contains(PAGE));

    // A VIP is translated at the Tier-1 with its pool's automap: the backend sees the load balancer.
    for client in ["client", "server"] {
        let mut at_web = up.watch("web", "tcp");
        assert!(up.curl(client, &format!("http://{VIP}/")).contains(PAGE), "{client}");
        at_web.sees("100.64.", &format!("{WEB}.8080:"));
        let seen = at_web.stop();
        for address in [CLIENT, SERVER, VIP] {
            assert!(!seen.contains(&format!(" {address}.")), "{address} in\n{seen}");
        }
    }
    // The address has no other port, and nobody answers for the next address.
    for url in [format!("http://{VIP}:81/"), "http://172.16.1.9/".to_owned()] {
        let closed = up.run("server", &["curl", "-sS", "-m", "2", &url]);
        assert!(matches!(closed.status.code(), Some(7 | 28)), "{url}: {}", closed.stdout);
    }

    // Emulated backends say who they are and whom they see.
    let mut answered: BTreeSet<&str> = BTreeSet::new();
    for _ in 0..8 {
        let page = up.curl("client", "http://hello/");
        assert!(page.contains(&format!("sees client {CLIENT}:")), "{page}");
        answered.extend(HELLO.into_iter().filter(|address| page.contains(address)));
    }
    assert_eq!(answered.len(), HELLO.len(), "{answered:?}");
    assert!(up.interrupt().status.success());
}

#[test]
fn names_are_resolved_by_the_clusters_dns() {
    if !privileged("names_are_resolved_by_the_clusters_dns") {
        return;
    }
    let place = Place::new('c', LAB);
    let up = place.up();
    let name = "kube-dns.kube-system.svc.cluster.local";
    for how in ["+notcp", "+tcp"] {
        // The server is the one of the namespace's resolv.conf.
        let answer = up.ok("client", &["dig", how, "+short", name]);
        assert_eq!(answer.trim(), "10.96.0.10", "{how}");
    }
    // A server named explicitly, from the other namespace.
    let answer = up.ok("web", &["dig", "@10.96.0.10", "+short", name]);
    assert_eq!(answer.trim(), "10.96.0.10");
    let unknown = up.ok("client", &["dig", "no-such.blue.svc.cluster.local"]);
    assert!(unknown.contains("NXDOMAIN"), "{unknown}");
    // As the C library asks: the search list makes `web.blue` complete.
    let _server = up.http_server("web", 8080);
    assert!(up.curl("client", "http://web.blue/").contains(PAGE));
    assert!(up.interrupt().status.success());
}

#[test]
fn the_way_out_is_by_the_namespaces_own_address() {
    if !privileged("the_way_out_is_by_the_namespaces_own_address") {
        return;
    }
    let place = Place::new('d', LAB);
    let up = place.up();
    let _server = up.http_server("server", 8000);
    let mut outside = up.watch("server", "tcp port 8000 or icmp");
    for (pod, address) in [("client", RED_OUTSIDE), ("web", BLUE_OUTSIDE)] {
        assert!(up.curl(pod, &format!("http://{SERVER}:8000/")).contains(PAGE));
        outside.sees(&format!("{address}."), &format!("{SERVER}.8000:"));
        assert!(up.pings(pod, SERVER));
        outside.sees(&format!("{address} "), &format!("{SERVER}: ICMP echo request"));
    }
    let seen = outside.stop();
    assert!(!seen.contains("10.244."), "a pod's address outside:\n{seen}");
    // An emulated host outside says the same.
    let page = up.curl("client", "http://192.168.100.3/");
    assert!(page.contains(&format!("sees client {RED_OUTSIDE}:")), "{page}");

    // Nothing outside can begin with a pod: neither by its address nor by the namespace's.
    let mut at_web = up.watch("web", "tcp or icmp");
    let _web = up.http_server("web", 8080);
    for url in [format!("http://{WEB}:8080/"), format!("http://{BLUE_OUTSIDE}:8080/")] {
        let refused = up.run("server", &["curl", "-sS", "-m", "2", &url]);
        assert!(matches!(refused.status.code(), Some(7 | 28)), "{url}: {}", refused.stdout);
    }
    // The watch itself works.
    assert!(up.curl("client", &format!("http://{WEB}:8080/")).contains(PAGE));
    at_web.sees(&format!("{CLIENT}."), &format!("{WEB}.8080:"));
    let seen = at_web.stop();
    assert!(!seen.contains(SERVER), "{seen}");
    assert!(up.interrupt().status.success());
}

/// Large segments and partial checksums go from kernel to kernel.
#[test]
fn iperf3_runs_in_both_directions() {
    if !privileged("iperf3_runs_in_both_directions") {
        return;
    }
    let place = Place::new('e', LAB);
    let up = place.up();
    let cluster_ip = up.ok("client", &["dig", "+short", "web.blue.svc.cluster.local"]);
    let to_service = ["-c", cluster_ip.trim()];
    for (to, how) in [
        (["-c", WEB], vec![]),
        (["-c", WEB], vec!["-R"]),
        (to_service, vec![]),
        (to_service, vec!["-R"]),
        // Datagrams of 1,400 octets; iperf3's own protocol is TCP to the same port.
        (["-c", WEB], vec!["-u", "-b", "50M", "-l", "1400"]),
    ] {
        let _server = up.iperf_server("web");
        let arguments = [&["iperf3", "-t", "1", "-f", "m"][..], &to, &how].concat();
        let report = up.ok("client", &arguments);
        let received = report.lines().find(|l| l.trim_end().ends_with("receiver"));
        let received = received.unwrap_or_else(|| panic!("{report}"));
        let words: Vec<&str> = received.split_whitespace().collect();
        let unit = words.iter().position(|w| *w == "Mbits/sec").unwrap();
        let rate: f64 = words[unit - 1].parse().unwrap();
        // Far below what any machine does, and far above what one gets through retransmissions.
        assert!(rate > 20.0, "{arguments:?}:\n{report}");
    }
    // Out through SNAT to the attached host.
    let _server = up.iperf_server("server");
    let report = up.ok("client", &["iperf3", "-t", "1", "-c", SERVER]);
    assert!(report.contains("receiver"), "{report}");
    assert!(up.interrupt().status.success());
}

/// What a kernel leaves undone stays so on its way through every translation, and the other kernel finishes it: large
/// segments arrive as such, checksums that nobody has computed are taken for right.
#[test]
fn large_frames_and_partial_checksums_pass_every_translation() {
    if !privileged("large_frames_and_partial_checksums_pass_every_translation") {
        return;
    }
    let place = Place::new('n', LAB);
    let up = place.up();
    let cluster_ip = up.ok("client", &["dig", "+short", "web.blue.svc.cluster.local"]);
    for (from, to, receiver, seen) in [
        ("client", WEB, "web", CLIENT),
        ("client", cluster_ip.trim(), "web", CLIENT),
        ("server", VIP, "web", "100.64."),
        ("client", SERVER, "server", RED_OUTSIDE),
    ] {
        let mut watch = up.watch_with(receiver, &["-vv", "port 5201 and len > 100"]);
        let mut receiving = up.start(receiver, &["python3", "-c", RECEIVER]);
        receiving.says("ready");
        up.ok(from, &["python3", "-c", SENDER, to]);
        // A megabyte by TCP; ten datagrams of 1,200 octets that were sent as one frame, in order.
        receiving.says("1048576 right by TCP");
        receiving.says("10 right by UDP");
        watch.sees_line("the datagrams in one frame", |l| l.contains("UDP, length 12000"));
        let seen_there = watch.stop();
        assert!(seen_there.contains(&format!("    {seen}")), "{to}: not from {seen}\n{seen_there}");
        // tcpdump names the length of the payload at the end of a line.
        let lengths = seen_there.lines().filter(|l| l.contains("Flags ["));
        let lengths = lengths.filter_map(|l| l.rsplit(' ').next()?.parse::<u32>().ok());
        assert!(lengths.max() > Some(1_460), "{to}: TCP was cut\n{seen_there}");
        assert!(
            seen_there.contains("incorrect"),
            "{to}: a TCP checksum was computed\n{seen_there}"
        );
    }
    assert!(up.interrupt().status.success());
}

/// Takes a connection and ten datagrams, and says whether what came is right.
const RECEIVER: &str = r#"
import socket
tcp = socket.create_server(("0.0.0.0", 5201))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("0.0.0.0", 5201))
udp.settimeout(20)
print("ready", flush=True)
connection, _ = tcp.accept()
octets = b"".join(iter(lambda: connection.recv(65536), b""))
print(sum(a == i % 251 for i, a in enumerate(octets)), "right by TCP", flush=True)
got = [udp.recv(65536) for _ in range(10)]
print(sum(d == bytes([i]) * 1200 for i, d in enumerate(got)), "right by UDP", flush=True)
"#;

/// Sends both. 103 is `UDP_SEGMENT` (udp(7)): the kernel is to cut the datagrams from what it is given, as late as it can.
const SENDER: &str = r#"
import socket, sys
connection = socket.create_connection((sys.argv[1], 5201))
connection.sendall(bytes(i % 251 for i in range(1 << 20)))
connection.close()
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_UDP, 103, 1200)
udp.sendto(b"".join(bytes([i]) * 1200 for i in range(10)), (sys.argv[1], 5201))
"#;

/// A lab without traffic sleeps, and is there for the first frame afterwards.
#[test]
fn an_idle_lab_sleeps_and_wakes() {
    if !privileged("an_idle_lab_sleeps_and_wakes") {
        return;
    }
    let place = Place::new('o', LAB);
    let up = place.up();
    assert!(up.pings("client", SERVER));
    let before = up.processor_time();
    std::thread::sleep(Duration::from_secs(2));
    let used = up.processor_time() - before;
    // The measurement is of benches/tap/run: a busy machine must not fail this. A loop that never sleeps would use
    // two hundred.
    eprintln!("an idle lab used {used} hundredths of a second in 2 s");
    assert!(used < 50, "{used}");
    assert!(up.pings("client", SERVER), "the first frame after a rest was lost");
    assert!(up.interrupt().status.success());
}

fn netns_exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

#[test]
fn everything_is_taken_down_also_after_kill_nine() {
    if !privileged("everything_is_taken_down_also_after_kill_nine") {
        return;
    }
    let place = Place::new('f', LAB);
    let names = ["client", "web", "server"].map(|role| place.netns(role));
    let resolver = Path::new("/etc/netns").join(&names[0]).join("resolv.conf");
    let all_there = || names.iter().all(|name| netns_exists(name)) && resolver.exists();
    let none_there = || !names.iter().any(|name| netns_exists(name)) && !resolver.exists();

    let up = place.up();
    assert!(all_there());
    let before = up.table();
    assert_eq!(before.len(), 3);
    up.kill_nine();
    assert!(all_there(), "what a killed process cannot take down is still there");

    let up = place.up();
    assert!(all_there());
    assert_eq!(up.table(), before, "the same devices, addresses and MACs");
    assert!(up.pings("web", CLIENT), "and it works");
    let ended = up.interrupt();
    assert!(ended.status.success(), "{}", ended.stderr);
    // Whichever lab starts next sweeps what the killed one left: another test's may have been first.
    assert!(none_there());
    // A lab that ended by itself leaves nothing to be swept.
    let up = place.up();
    assert_eq!(up.table(), before);
    assert_eq!(up.interrupt().stderr.trim(), "");
    assert!(none_there());
}

/// Keeps a namespace for as long as it lives.
struct Namespace(String);

impl Namespace {
    fn add(name: String) -> Namespace {
        run(Command::new("ip").args(["netns", "add", &name]), PATIENCE).unwrap().success().unwrap();
        Namespace(name)
    }

    fn ip(&self, arguments: &[&str]) -> String {
        let mut command = Command::new("ip");
        command.args(["-n", &self.0]).args(arguments);
        run(&mut command, PATIENCE).unwrap().success().unwrap()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = run(Command::new("ip").args(["netns", "delete", &self.0]), PATIENCE);
    }
}

/// The lab with another Attachment in the place of the one of the external host.
fn with_server_attachment(plug: &str) -> String {
    let wanted = r#"{port: host/server, tap: {netns: "@server", createNamespace: true}}"#;
    assert!(LAB.contains(wanted));
    LAB.replace(wanted, &format!("{{port: host/server, {plug}}}"))
}

#[test]
fn a_namespace_that_was_there_is_used_and_stays() {
    if !privileged("a_namespace_that_was_there_is_used_and_stays") {
        return;
    }
    let place = Place::new('g', &with_server_attachment(r#"tap: {netns: "@mine", name: lan0}"#));
    // Not there: nothing is made that was not asked for.
    let done = run(&mut place.tierlab(&["up"]), PATIENCE).unwrap();
    assert_eq!(done.status.code(), Some(3), "{}", done.stderr);
    assert!(done.stderr.contains("createNamespace") && done.stderr.contains("ip netns add"));
    for role in ["mine", "client", "web"] {
        assert!(!netns_exists(&place.netns(role)), "{role}");
    }

    let mine = Namespace::add(place.netns("mine"));
    let up = place.up();
    assert_eq!(up.table()["host/server:eth0"][1], "lan0");
    assert!(up.pings("client", SERVER));
    assert!(up.interrupt().status.success());
    assert!(netns_exists(&mine.0));
    let links = mine.ip(&["-o", "link", "show"]);
    assert!(!links.contains("lan0"), "{links}");
}

#[test]
fn an_interface_that_exists() {
    if !privileged("an_interface_that_exists") {
        return;
    }
    let name = format!("tl{}v", std::process::id());
    let plug = format!("interface: {{name: {name}}}");
    let place = Place::new('h', &with_server_attachment(&plug));
    let done = run(&mut place.tierlab(&["up"]), PATIENCE).unwrap();
    assert_eq!(done.status.code(), Some(3), "{}", done.stderr);
    assert!(done.stderr.contains(&format!("there is no interface '{name}'")), "{}", done.stderr);

    let peer = Namespace::add(place.netns("peer"));
    let ip = |arguments: &str| {
        let mut command = Command::new("ip");
        command.args(arguments.split_whitespace());
        run(&mut command, PATIENCE).unwrap().success().unwrap()
    };
    ip(&format!("link add {name} type veth peer name eth0 netns {}", peer.0));
    ip(&format!("link set {name} up"));
    peer.ip(&["address", "add", "192.168.100.1/24", "dev", "eth0"]);
    peer.ip(&["link", "set", "eth0", "up"]);
    peer.ip(&["route", "add", "172.16.0.0/16", "via", "192.168.100.2"]);
    let mut up = place.up();
    assert_eq!(up.table()["host/server:eth0"][1], name);
    let mut outside = up.watch("peer", "icmp");
    assert!(up.pings("client", SERVER));
    outside.sees(&format!("{RED_OUTSIDE} "), &format!("{SERVER}: ICMP echo request"));
    // Down and up again, as somebody plugs a cable.
    ip(&format!("link set {name} down"));
    up.complains("host/server:eth0: its interface went down");
    assert!(!up.pings("client", SERVER));
    ip(&format!("link set {name} up"));
    // The veth pair takes a moment to have its carrier.
    assert!((0..10).any(|_| up.pings("client", SERVER)));
    assert!(up.interrupt().status.success());
    // It is still there, and as it was.
    let link = ip(&format!("-o link show {name}"));
    assert!(!link.contains("PROMISC"), "{link}");
}

/// The control-plane VM of the articles as a Linux machine, with the routing that they print.
#[test]
fn a_control_plane_vm_answers_as_the_article_prints() {
    if !privileged("a_control_plane_vm_answers_as_the_article_prints") {
        return;
    }
    let place = Place::new('l', CONTROL_PLANE_VM);
    let topology = tierlab_tests::root().join("topologies/supervisor");
    let up = place.up_with(&["-f", topology.to_str().unwrap()]);
    let rules = up.ok("cp", &["ip", "rule", "show"]);
    let rules: Vec<String> =
        rules.lines().map(|l| l.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    // `ip rule` prints a rule without "from all" only where another source is named.
    for wanted in [
        "0: from all to 192.168.10.10 lookup 200",
        "0: from all to 172.16.1.0/24 lookup 200",
        "0: from all to 10.244.0.0/20 lookup 200",
        "0: from 10.244.0.2 lookup 200",
        "0: from all to 100.64.0.0/16 lookup 200",
        "0: from all to 10.96.0.0/23 lookup 200",
        "32766: from all lookup main",
    ] {
        assert!(rules.iter().any(|rule| rule == wanted), "{wanted} in {rules:#?}");
    }
    let table = up.ok("cp", &["ip", "route", "show", "table", "200"]);
    let table: Vec<&str> = table.lines().map(str::trim).collect();
    assert_eq!(
        table,
        ["default via 10.244.0.1 dev eth1", "10.244.0.0/28 dev eth1 scope link"],
        "table 200"
    );
    let link = up.ok("cp", &["ip", "-o", "link", "show"]);
    assert!(link.contains("00:50:56:b3:29:f3") && link.contains("04:50:56:00:d0:00"), "{link}");

    let by_eth1 = up.run("cp", &["ping", "-n", "192.168.10.10", "-I", "eth1", "-c", "1"]);
    let unreachable = "From 10.244.0.1 icmp_seq=1 Destination Host Unreachable";
    assert!(by_eth1.stdout.contains(unreachable), "{}", by_eth1.stdout);
    assert!(!by_eth1.status.success());
    let by_eth0 = up.ok("cp", &["ping", "-n", "192.168.10.10", "-I", "eth0", "-c", "1"]);
    assert!(by_eth0.contains("ttl=128"), "{by_eth0}");
    assert!(up.interrupt().status.success());
}

const CONTROL_PLANE_VM: &str = r#"
kind: Attachment
metadata: {name: cp-management}
spec: {port: "vm/cp-1:eth0", tap: {netns: "@cp", createNamespace: true}}
---
kind: Attachment
metadata: {name: cp-workload}
spec: {port: "vm/cp-1:eth1", tap: {netns: "@cp", createNamespace: true}}
"#;

#[test]
fn an_interface_that_goes_away_harms_no_other() {
    if !privileged("an_interface_that_goes_away_harms_no_other") {
        return;
    }
    let place = Place::new('m', LAB);
    let mut up = place.up();
    assert!(up.pings("client", SERVER));
    up.ok("web", &["ip", "link", "delete", "eth0"]);
    up.complains("pod/blue/web: its interface is gone");
    assert!(up.pings("client", SERVER));
    assert!(up.interrupt().status.success());
    assert!(!netns_exists(&place.netns("web")));
}

/// Frames of a capture enter, what leaves is captured; this needs no rights.
#[test]
fn captures_at_a_port() {
    let place = Place::new('i', &format!("{LAB}{CAPTURES}"));
    // Only the capture, so that nothing is privileged.
    let definitions = std::fs::read_to_string(place.path("lab.yaml")).unwrap();
    let documents = definitions.split("---\n").filter(|d| !d.contains("tap: {"));
    std::fs::write(place.path("lab.yaml"), documents.collect::<Vec<_>>().join("---\n")).unwrap();
    let ports = run(&mut place.tierlab(&["get", "ports", "-o", "csv"]), PATIENCE).unwrap();
    let ports = ports.success().unwrap();
    let row = ports.lines().find(|line| line.starts_with("pod/red/client,")).unwrap();
    let mac = row.split(',').find(|field| field.matches(':').count() == 5).unwrap();
    let mac: Vec<u8> = mac.split(':').map(|o| u8::from_str_radix(o, 16).unwrap()).collect();

    // RFC 826: who has 10.244.0.33, tell 10.244.0.34?
    let mut request = [[0xff; 6].as_slice(), &mac, &[0x08, 0x06]].concat();
    request.extend([0, 1, 0x08, 0, 6, 4, 0, 1]);
    request.extend([mac.as_slice(), &[10, 244, 0, 34], &[0; 6], &[10, 244, 0, 33]].concat());
    std::fs::write(place.path("in.pcap"), pcap(&request)).unwrap();
    let done = run(&mut place.tierlab(&["up", "--duration", "1"]), PATIENCE).unwrap();
    assert!(done.status.success(), "{}{}", done.stdout, done.stderr);
    let out = std::fs::read(place.path("out.pcap")).unwrap();
    // A reply (operation 2) for 10.244.0.33 to the asker, padded to the least that Ethernet carries,
    // and nothing else: the file's header is 24 octets, a record's 16.
    let frame = &out[40..];
    assert_eq!(frame.len(), 60, "{out:02x?}");
    assert_eq!(frame[..6], mac);
    assert_eq!(frame[12..14], [0x08, 0x06]);
    assert_eq!(frame[20..22], [0, 2]);
    assert_eq!(frame[28..32], [10, 244, 0, 33]);
    let row = done.stdout.lines().rfind(|line| line.starts_with("pod/red/client ")).unwrap();
    let counts: Vec<&str> = row.split_whitespace().skip(1).collect();
    assert_eq!(counts, ["1", "1", "0", "0"]);
}

const CAPTURES: &str = "---
apiVersion: lab.tierlab.dev/v1alpha1
kind: Attachment
metadata: {name: captures}
spec: {port: pod/red/client, pcap: {read: in.pcap, write: out.pcap}}
";

/// A classic pcap of one frame, microseconds, little endian.
fn pcap(frame: &[u8]) -> Vec<u8> {
    let length = u32::try_from(frame.len()).unwrap().to_le_bytes();
    let header: [u32; 6] = [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1];
    let mut file: Vec<u8> = header.into_iter().flat_map(u32::to_le_bytes).collect();
    file.extend([[0, 0, 0, 1].as_slice(), &[0; 4], &length, &length, frame].concat());
    file
}

#[test]
fn without_attachments_it_runs_and_says_so() {
    let place = Place::new('j', "kind: SupervisorCluster\nmetadata: {name: alone}\n");
    let begun = Instant::now();
    let done = run(&mut place.tierlab(&["up", "--duration", "1"]), PATIENCE).unwrap();
    assert!(begun.elapsed() >= Duration::from_secs(1));
    let stdout = done.success().unwrap();
    assert!(stdout.contains("nothing is attached"), "{stdout}");
    assert!(stdout.contains("lab is up; ^C ends it"), "{stdout}");
    assert!(place.path(".tierlab/allocations.yaml").is_file());
}

#[test]
fn without_rights_it_says_so_at_once() {
    let place = Place::new('k', LAB);
    let mut command = place.tierlab(&["up"]);
    let program = place.path("tierlab");
    if is_root() {
        // A copy where nobody may start it.
        std::fs::copy(tierlab().unwrap(), &program).unwrap();
        let open = |path: &Path| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o755)).unwrap();
        };
        open(&place.path(""));
        open(&program);
        command = Command::new(&program);
        command.args(["up", "-f", "lab.yaml"]).current_dir(place.path("")).uid(65_534).gid(65_534);
    }
    let begun = Instant::now();
    let done: Finished = run(&mut command, PATIENCE).unwrap();
    assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
    assert_eq!(done.status.code(), Some(3), "{}{}", done.stdout, done.stderr);
    assert_eq!(done.stderr.lines().count(), 1, "{}", done.stderr);
    let says = |word| done.stderr.contains(word);
    assert!(says("sudo") || says("/dev/net/tun") || says("iproute2"), "{}", done.stderr);
    assert!(!place.path(".tierlab").exists(), "and nothing was changed");
}
