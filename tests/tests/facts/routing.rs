//! F11 to F18: routing outside of the cluster, the control-plane VMs' two interfaces, and the article's two pings.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::support::{Desk, GATEWAY, described, fields, pcap, read_pcap, table, topology, udp};

fn routes() -> Vec<Value> {
    table("routes", &[&topology("supervisor")])
}

/// The interfaces of `name` in a lab, as rows.
fn interfaces(lab: &str, name: &str) -> Vec<Value> {
    let mut rows = table("hosts", &[&topology(lab)]);
    rows.retain(|row| row["name"] == name);
    rows
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
}

#[test]
fn f11_one_tier1_and_no_other_profile_yet() {
    let routers: BTreeSet<String> =
        routes().iter().map(|row| fields(row, &["router"]).remove(0)).collect();
    assert_eq!(routers.into_iter().collect::<Vec<_>>(), ["tier0/tier0", "tier1/supervisor"]);
    // The profile with a Tier-1 for each namespace is refused, rather than taken for the other.
    let desk = Desk::with(
        "apiVersion: lab.tierlab.dev/v1alpha1\nkind: SupervisorCluster\nmetadata: {name: s}\nspec:\n  profile: vsphere-7.0u1c\n",
    );
    let said = desk.fails(2, &["validate", "-f", "lab.yaml"]);
    assert!(
        said.starts_with("lab.yaml:5: SupervisorCluster s: profile vsphere-7.0u1c is not emulated yet; use vsphere-7.0ga"),
        "{said}"
    );
}

/// Without BGP, what the Tier-0 would tell its neighbours is seen in its table: what comes from the Tier-1, by kind, and the
/// summaries, which end what none of their parts has.
#[test]
fn f12_and_f13_what_the_tier0_learns_and_summarises() {
    let of = |source: &str| -> Vec<String> {
        routes()
            .iter()
            .filter(|row| row["router"] == "tier0/tier0" && row["source"] == source)
            .map(|row| fields(row, &["prefix", "nextHops"]).join(" "))
            .collect()
    };
    let advertised = |prefixes: &[&str]| -> Vec<String> {
        prefixes
            .iter()
            .map(|prefix| format!("{prefix} via 100.64.0.1 dev tier1/supervisor"))
            .collect()
    };
    assert_eq!(
        of("tier1-connected"),
        advertised(&["10.244.0.0/28", "10.244.0.16/28", "10.244.0.32/28"])
    );
    // Four services with an address, four /32s; three egress addresses, three /32s.
    assert_eq!(
        of("tier1-lb-vip"),
        advertised(&["172.16.1.1/32", "172.16.1.2/32", "172.16.1.3/32", "172.16.1.4/32"])
    );
    assert_eq!(of("tier1-nat"), advertised(&["172.16.2.1/32", "172.16.2.2/32", "172.16.2.3/32"]));
    let summaries = of("summary");
    for summary in ["172.16.1.0/24 blackhole", "172.16.2.0/24 blackhole", "10.244.0.0/20 blackhole"]
    {
        assert!(summaries.iter().any(|s| s == summary), "{summaries:?}");
    }
    // The physical network knows the summary 172.16.0.0/16 and no pod network: nobody outside reaches a pod by its address.
    let said =
        Desk::new().run(&["ping", "host/client", "10.244.0.19", "-f", &topology("supervisor")]);
    assert_eq!(said.status.code(), Some(1), "{}", said.stdout);
    // An address of a summary that nothing has ends at the Tier-0; it does not go round between Tier-0 and leaf.
    let said =
        Desk::new().ok(&["trace", "host/client", "172.16.2.200", "-f", &topology("supervisor")]);
    assert!(said.contains("dropped at t0-route of tier0/tier0: blackhole"), "{said}");
}

const TELLER: &str = "04:50:56:00:d0:04";

/// Flows of a pod to an outside host, in virtual time. They leave by both uplinks, each by one of them, none with a pod's
/// address; and the answers, which all come by leaf-1, are accepted: uRPF is off, as the article advises.
#[test]
fn f12_and_f14_ecmp_without_urpf_and_no_pod_address_outside() {
    let flow = |port| udp((TELLER, "10.244.0.19", port), (GATEWAY, "192.168.20.100", 7), b"q");
    let frames: Vec<_> = (0..64_u64)
        // Every flow twice.
        .map(|i| (i * 10_000_000, flow(4000 + u16::try_from(i % 32).unwrap())))
        .collect();
    let desk = Desk::new();
    desk.write("in.pcap", pcap(&frames));
    let lab = topology("supervisor");
    desk.ok(&[
        "replay",
        "-f",
        &lab,
        "--in",
        "pod/banking/teller=in.pcap",
        "--tap",
        "host/leaf-1:uplink",
        "--tap",
        "host/leaf-2:uplink",
        "--out",
        "out",
    ]);
    let captured = |name: &str| -> Vec<String> {
        read_pcap(&desk.read(name))
            .iter()
            .map(|(_, frame)| described(frame))
            .filter(|line| line != "arp")
            .collect()
    };
    let mut paths: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let mut total = 0;
    for leaf in ["leaf-1", "leaf-2"] {
        let lines = captured(&format!("out/host/{leaf}:uplink.pcap"));
        assert!(!lines.is_empty(), "nothing left by {leaf}");
        total += lines.len();
        for line in lines {
            assert!(
                line.starts_with("172.16.2.2:") && line.ends_with(" > 192.168.20.100:7 udp q"),
                "{line}"
            );
            paths.entry(line).or_default().insert(leaf);
        }
    }
    assert_eq!((total, paths.len()), (64, 32));
    assert!(paths.values().all(|leaves| leaves.len() == 1), "a flow keeps its path: {paths:?}");
    let answers = captured("out/pod/banking/teller.pcap");
    assert_eq!(answers.len(), 64);
    for port in 4000..4032 {
        let answer = format!("192.168.20.100:7 > 10.244.0.19:{port} udp q");
        assert_eq!(answers.iter().filter(|line| **line == answer).count(), 2, "{answer}");
    }
    let t0_default = routes()
        .into_iter()
        .find(|row| row["router"] == "tier0/tier0" && row["prefix"] == "0.0.0.0/0")
        .unwrap();
    assert_eq!(strings(&t0_default["nextHops"]).len(), 2);
    // BFD, which the article recommends for the BGP neighbours, comes with BGP.
}

/// Lines of output that are not blank, `time=` and the times of the last line as the article's: the lab's clock is virtual.
fn lines(output: &str) -> Vec<String> {
    output
        .lines()
        .filter(|line| !line.trim().is_empty())
        .map(|line| match line.split_once("time=") {
            Some((before, _)) => format!("{before}time=0.412 ms"),
            None if line.starts_with("rtt ") => {
                "rtt min/avg/max/mdev = 0.412/0.412/0.412/0.000 ms".to_owned()
            }
            None => line.to_owned(),
        })
        .collect()
}

#[test]
fn f15_the_two_pings_as_printed() {
    let ping = |from: &str| {
        let done = Desk::new().run(&[
            "ping",
            from,
            "192.168.10.10",
            "-c",
            "1",
            "-f",
            &topology("supervisor"),
        ]);
        assert_eq!(done.stderr, "");
        (done.status.code(), lines(&done.stdout))
    };
    let (code, printed) = ping("vm/cp-1:eth0");
    assert_eq!(code, Some(0));
    assert_eq!(
        printed,
        [
            "PING 192.168.10.10 (192.168.10.10) from 192.168.10.45 eth0: 56(84) bytes of data.",
            "64 bytes from 192.168.10.10: icmp_seq=1 ttl=128 time=0.412 ms",
            "--- 192.168.10.10 ping statistics ---",
            "1 packets transmitted, 1 received, 0% packet loss, time 0ms",
            "rtt min/avg/max/mdev = 0.412/0.412/0.412/0.000 ms",
        ]
    );
    let (code, printed) = ping("vm/cp-1:eth1");
    assert_eq!(code, Some(1));
    assert_eq!(
        printed,
        [
            "PING 192.168.10.10 (192.168.10.10) from 10.244.0.2 eth1: 56(84) bytes of data.",
            "From 10.244.0.1 icmp_seq=1 Destination Host Unreachable",
            "--- 192.168.10.10 ping statistics ---",
            "1 packets transmitted, 0 received, +1 errors, 100% packet loss, time 0ms",
        ]
    );
}

#[test]
fn f15_host_unreachable_is_type_3_code_1() {
    let output = Desk::new()
        .run(&[
            "ping",
            "vm/cp-1:eth1",
            "192.168.10.10",
            "-o",
            "json",
            "-f",
            &topology("supervisor"),
        ])
        .stdout;
    let report: Value = serde_json::from_str(&output).unwrap();
    let [event] = report["events"].as_array().unwrap().as_slice() else { panic!("{report}") };
    assert_eq!(
        fields(event, &["event", "from", "type", "code"]),
        ["error", "10.244.0.1", "3", "1"]
    );
}

#[test]
fn f15_the_cure() {
    for address in ["192.168.10.10", "192.168.10.11"] {
        let printed =
            Desk::new().ok(&["ping", "vm/cp-1:eth1", address, "-f", &topology("supervisor-cured")]);
        // A server that begins with 128, four routers on its way back: router, leaf, Tier-0, Tier-1.
        assert!(
            printed.contains(&format!("64 bytes from {address}: icmp_seq=1 ttl=124 ")),
            "{printed}"
        );
    }
}

/// `ip rule show` of the first control-plane VM; the article has a blank before some of the prefix lengths.
const RULES: [&str; 9] = [
    "0: from all lookup local",
    "0: from all to 192.168.10.10 lookup 200",
    "0: from all to 172.16.1.0/24 lookup 200",
    "0: from all to 10.244.0.0/20 lookup 200",
    "0: from 10.244.0.2 lookup 200",
    "0: from all to 100.64.0.0/16 lookup 200",
    "0: from all to 10.96.0.0/23 lookup 200",
    "32766: from all lookup main",
    "32767: from all lookup default",
];

#[test]
fn f16_the_policy_routing_of_a_control_plane_vm() {
    let rows = interfaces("supervisor", "vm/cp-1");
    assert_eq!(rows.len(), 2);
    for row in &rows {
        assert_eq!(strings(&row["rules"]), RULES);
    }
    let wide = Desk::new().ok(&["get", "hosts", "-o", "wide", "-f", &topology("supervisor")]);
    let line = wide.lines().find(|line| line.starts_with("vm/cp-1 ")).unwrap();
    let mut rest = line;
    for rule in RULES {
        rest =
            rest.split_once(rule).unwrap_or_else(|| panic!("{rule} is not in its place: {line}")).1;
    }
    // The others have their own address in the fourth.
    let other = interfaces("supervisor", "vm/cp-3").remove(0);
    assert!(strings(&other["rules"]).contains(&"0: from 10.244.0.4 lookup 200"));
    // With another address for the workload's DNS, only that is steered. At one preference the order means nothing.
    let cured = interfaces("supervisor-cured", "vm/cp-1").remove(0);
    let expected: BTreeSet<String> =
        RULES.iter().map(|rule| rule.replace("192.168.10.10", "192.168.10.11")).collect();
    assert_eq!(
        strings(&cured["rules"]).into_iter().map(str::to_owned).collect::<BTreeSet<_>>(),
        expected
    );
}

/// Table 200 leads out of eth1 by 10.244.0.1, main out of eth0; a socket bound to eth0 finds nothing in table 200 and goes on.
#[test]
fn f16_where_packets_go() {
    let first_gateway = |lab: &str, from: &str, to: &str| -> String {
        let lab = topology(lab);
        let text = Desk::new().ok(&["trace", from, to, "-o", "json", "-f", &lab]);
        let trace: Value = serde_json::from_str(&text).unwrap();
        trace["walks"][0]["ingress"].as_str().unwrap().to_owned()
    };
    for (lab, from, to, interface) in [
        ("supervisor", "vm/cp-1", "192.168.10.10", "eth1"),
        ("supervisor", "vm/cp-1", "192.168.10.28", "eth0"),
        ("supervisor", "vm/cp-1", "192.168.20.100", "eth0"),
        ("supervisor", "vm/cp-1", "172.16.1.3", "eth1"),
        ("supervisor", "vm/cp-1", "10.244.0.19", "eth1"),
        ("supervisor", "vm/cp-1:eth0", "192.168.10.10", "eth0"),
        ("supervisor", "vm/cp-1:eth1", "192.168.20.100", "eth1"),
        ("supervisor-cured", "vm/cp-1", "192.168.10.10", "eth0"),
        ("supervisor-cured", "vm/cp-1", "192.168.10.11", "eth1"),
    ] {
        assert_eq!(
            first_gateway(lab, from, to),
            format!("vm/cp-1:{interface}"),
            "{lab}: {from} to {to}"
        );
    }
}

#[test]
fn f17_backends_see_the_load_balancer_in_the_transit_network() {
    let said = Desk::new().ok(&[
        "curl",
        "host/client",
        "http://172.16.1.3/",
        "-f",
        &topology("supervisor"),
    ]);
    assert!(said.contains(" sees client 100.64.0.1:"), "{said}");
    // And their answers go out of eth1, as the rule says.
    let said = Desk::new().ok(&[
        "trace",
        "--reply",
        "host/client",
        "172.16.1.2:6443",
        "-f",
        &topology("supervisor"),
    ]);
    assert!(
        said.lines()
            .any(|l| l.starts_with("reply ") && l.contains(" from vm/cp-") && l.ends_with(":eth1")),
        "{said}"
    );
}

#[test]
fn f18_the_management_network() {
    let lab = topology("supervisor");
    let addresses = |name: &str| -> Vec<String> {
        interfaces("supervisor", name)
            .iter()
            .filter(|row| row["segment"] == "net-management")
            .flat_map(|row| {
                strings(&row["addresses"]).into_iter().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    };
    // Five addresses: three VMs, the floating one, which the leader holds, and a spare.
    assert_eq!(addresses("vm/cp-1"), ["192.168.10.45/24", "192.168.10.48/24"]);
    assert_eq!(addresses("vm/cp-2"), ["192.168.10.46/24"]);
    assert_eq!(addresses("vm/cp-3"), ["192.168.10.47/24"]);
    assert_eq!(addresses("host/dns"), ["192.168.10.10/24", "192.168.10.11/24"]);
    assert_eq!(addresses("host/router"), ["192.168.10.254/24"]);
    let ping = |to: &str| Desk::new().run(&["ping", "host/vcenter", to, "-f", &lab]).status.code();
    assert_eq!(ping("192.168.10.48"), Some(0));
    assert_eq!(ping("192.168.10.49"), Some(1));
    let said = Desk::new().ok(&["curl", "vm/cp-1", "http://192.168.10.28:443/", "-f", &lab]);
    assert!(said.starts_with("host nsx on 192.168.10.28 sees client 192.168.10.45:"), "{said}");
    // What is not on the link leaves eth0 by 192.168.10.254.
    let said = Desk::new().ok(&["trace", "vm/cp-1:eth0", "192.168.20.100", "-f", &lab]);
    assert!(said.lines().nth(3).unwrap().contains("host/router:mgmt"), "{said}");
}
