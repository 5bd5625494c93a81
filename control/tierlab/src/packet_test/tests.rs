//! Tests of the runner on the lab of `fixture`. Every negative test looks for the words that a user
//! needs.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use super::fixture::{Names, addr, bed, mac, packet_test};
use super::{Status, TestBed, TestOutcome, run_all};
use packet::FrameBuilder;
use std::time::Duration;

fn outcome(steps: &str) -> TestOutcome {
    run_all([&packet_test("case", steps)], &bed(&Names::new()), 1).remove(0)
}

#[track_caller]
fn passes(steps: &str) -> TestOutcome {
    let outcome = outcome(steps);
    assert_eq!(outcome.status, Status::Passed, "{}", outcome.message.unwrap_or_default());
    assert_eq!(outcome.message, None);
    outcome
}

/// It fails, says where, and says all of this.
#[track_caller]
fn fails(steps: &str, status: Status, words: &[&str]) -> TestOutcome {
    let outcome = outcome(steps);
    assert_eq!(outcome.status, status, "{}", outcome.message.unwrap_or_default());
    let message = outcome.message.clone().unwrap_or_default();
    let place = format!("tests/case.yaml:3: PacketTest case, step {} (", outcome.steps);
    for word in words.iter().chain([&place.as_str()]) {
        assert!(message.contains(word), "'{word}' is not in\n{message}");
    }
    outcome
}

const TO_DNS: &str = "- send: {from: pod/bank/web, tcp: {to: 'host/dns:443'}}\n";
const TO_DB: &str = "- send: {from: pod/bank/web, tcp: {to: 'pod/bank/db:5432'}}\n";

#[test]
fn a_send_has_the_defaults_of_its_host() {
    // Two routers on the way: TTL 64 - 2. SNAT keeps a free port.
    let outcome = passes(&format!(
        "{TO_DNS}- expect:
    at: host/dns
    eth: {{src: '02:00:00:00:00:02', dst: mac(host/dns)}}
    ip: {{src: snat(bank), dst: 192.168.10.10, ttl: 62, df: true, tos: 0}}
    tcp: {{sport: 40000, dport: 443, flags: S, seq: 1000, ack: 0, window: 65535}}
    payload: ''
"
    ));
    assert_eq!((outcome.steps, outcome.virtual_time), (2, Duration::ZERO));
    assert_eq!((outcome.file.as_str(), outcome.line), ("tests/case.yaml", 3));
}

#[test]
fn what_a_step_saves_a_later_one_uses() {
    passes(&format!(
        "{TO_DNS}- expect: {{at: host/dns, save: {{port: tcp.src, client: ip.src, seq: tcp.seq, back: eth.src}}}}
- send:
    from: host/dns
    eth: {{dst: '${{back}}'}}
    tcp: {{to: '${{client}}:${{port}}', sport: 443, flags: SA, seq: 9, ack: '${{seq}}+1'}}
- expect: {{at: pod/bank/web, ip: {{src: host/dns, dst: pod/bank/web}}, tcp: {{ack: 1001, flags: SA, dport: 40000}}}}
"
    ));
}

#[test]
fn every_field_of_a_send_can_be_stated() {
    passes(
        "- send:
    from: pod/bank/web
    eth: {src: mac(pod/bank/web), dst: mac(gateway(bank))}
    ip: {src: 10.244.0.18, dst: 192.168.10.10, ttl: 9, tos: 184, df: false, id: 77}
    udp: {sport: 5353, dport: 53, payload: hello}
- expect: {at: host/dns, ip: {ttl: 7, tos: 184, df: false, id: 77}, udp: {sport: 5353, dport: 53, payload: hello}}
- send: {from: pod/bank/web, icmp: {to: host/dns, id: 7, seq: 8, payload: ping}}
- expect: {at: host/dns, icmp: {type: echo-request, code: 0, seq: 8, payload: ping}}
",
    );
}

#[test]
fn an_identification_is_saved_and_asked_for() {
    let send = "- send: {from: pod/bank/web, ip: {dst: 192.168.10.10, id: 77}, udp: {sport: 5353, dport: 53}}
- expect: {at: host/dns, save: {n: ip.id}}\n";
    let again = |sent: &str| {
        format!("{send}- send: {{from: pod/bank/web, ip: {{dst: 192.168.10.10, id: {sent}}}, udp: {{sport: 5353, dport: 53}}}}
- expect: {{at: host/dns, ip: {{id: '${{n}}+1'}}}}\n")
    };
    passes(&again("78"));
    passes(&again("'${n}+1'"));
    fails(&again("77"), Status::Failed, &["ip.id"]);
}

#[test]
fn ipv6_by_the_same_steps() {
    passes(
        "- send: {from: pod/bank/web, icmp: {to: 'fd00::13'}}
- expect: {at: pod/bank/db, ip: {src: 'fd00::12', dst: 'fd00::13'}, icmp: {type: echo-request, id: 1, seq: 1}}
",
    );
}

#[test]
fn the_binding_outlives_the_handshake_and_not_three_hours() {
    // features.md 7.3: the gateway's 7200 s are over.
    let outcome = passes(&format!(
        "{TO_DNS}- expect: {{at: host/dns, ip: {{src: 172.16.2.2}}, save: {{nat_port: tcp.src}}}}
- handshake: {{}}
- send: {{from: host/dns, tcp: {{to: '172.16.2.2:${{nat_port}}', sport: 443, flags: A, seq: 5001, ack: 1001}}}}
- expect: {{at: pod/bank/web, tcp: {{sport: 443, dport: 40000, flags: A}}}}
- advance: 3h
- send: {{from: host/dns, tcp: {{to: '172.16.2.2:${{nat_port}}', sport: 443, flags: A}}}}
- expectDrop: {{reason: no-session}}
"
    ));
    assert_eq!((outcome.steps, outcome.virtual_time), (8, Duration::from_secs(3 * 3600)));
}

#[test]
fn a_whole_handshake() {
    passes(
        "- handshake: {from: pod/bank/web, to: 'host/dns:80', sport: 1234}
- expectNothing: {}
- send: {from: pod/bank/web, tcp: {to: 'host/dns:80', sport: 1234, flags: PA, seq: 1001, ack: 5001, payload: GET}}
- expect: {at: host/dns, tcp: {sport: 1234, flags: PA, payload: GET}}
",
    );
}

#[test]
fn a_handshake_that_a_firewall_stops() {
    fails(
        "- handshake: {from: pod/bank/web, to: 'pod/bank/db:5432'}",
        Status::Failed,
        &[
            "step 1 (handshake): the SYN sent at pod/bank/web reached no host",
            "dfw-in firewall at pod/bank/db, rule 7",
        ],
    );
}

#[test]
fn a_handshake_needs_a_syn() {
    fails(
        "- send: {from: pod/bank/web, udp: {to: 'host/dns:53'}}
- expect: {at: host/dns}
- handshake: {}
",
        Status::BadInput,
        &["completes the SYN of the last send"],
    );
}

#[test]
fn an_unexpected_frame_fails() {
    let words = [
        "unexpected frame at host/dns:eth0: 172.16.2.2.40000 > 192.168.10.10.443",
        "sent in step 1 at pod/bank/web, 0s: 10.244.0.18.40000 > 192.168.10.10.443",
        "its trace:",
        "dropped since: nothing",
    ];
    fails(TO_DNS, Status::Failed, &words);
    // Also where the next step asks for something else, time passes, or another frame is sent.
    fails(&format!("{TO_DNS}- expectNothing: {{}}"), Status::Failed, &words);
    fails(&format!("{TO_DNS}- advance: 1s"), Status::Failed, &words);
    let twice = fails(&format!("{TO_DNS}{TO_DNS}"), Status::Failed, &words);
    assert_eq!(twice.steps, 2);
}

#[test]
fn a_wrong_field_is_told_in_words() {
    fails(
        &format!(
            "{TO_DNS}- expect: {{at: host/dns, ip: {{src: 172.16.2.1, ttl: 62}}, tcp: {{dport: 80, flags: SA}}}}"
        ),
        Status::Failed,
        &[
            "step 2 (expect): no frame at host/dns:eth0 is as expected",
            "expected at host/dns:eth0: protocol tcp, ip.src 172.16.2.1, ip.ttl 62, tcp.dport 80, tcp.flags SA",
            "ip.src: expected 172.16.2.1, saw 172.16.2.2",
            "tcp.dport: expected 80, saw 443",
            "tcp.flags: expected SA, saw S",
        ],
    );
    fails(
        &format!("{TO_DNS}- expect: {{at: host/dns, udp: {{dport: 443}}}}"),
        Status::Failed,
        &["protocol: expected udp, saw tcp", "udp.dport: expected 443, saw no such field"],
    );
}

#[test]
fn a_missing_frame_fails() {
    fails(
        &format!("{TO_DB}- expect: {{at: pod/bank/db}}"),
        Status::Failed,
        &[
            "no frame at pod/bank/db is as expected",
            "seen at pod/bank/db: nothing",
            "end: dropped by dfw-in at pod/bank/db: firewall",
            "dropped since: 1 x dfw-in firewall at pod/bank/db, rule 7, np-bank-db-isolate, NetworkPolicy bank/db",
        ],
    );
}

#[test]
fn a_frame_elsewhere_is_shown() {
    fails(
        &format!("{TO_DNS}- expect: {{at: pod/bank/db}}"),
        Status::Failed,
        &["seen at pod/bank/db: nothing", "seen at host/dns:eth0, 0s: 172.16.2.2.40000"],
    );
}

#[test]
fn nothing_at_a_port() {
    passes(&format!("{TO_DNS}- expectNothing: {{at: pod/bank/db}}\n- expect: {{at: host/dns}}"));
    fails(
        &format!("{TO_DNS}- expectNothing: {{at: host/dns}}"),
        Status::Failed,
        &["step 2 (expectNothing): unexpected frame at host/dns:eth0"],
    );
}

#[test]
fn a_drop_by_stage_reason_and_every_name_of_its_rule() {
    for drop in [
        "{}",
        "{stage: dfw-in}",
        "{reason: firewall}",
        "{rule: '7'}",
        "{rule: np-bank-db-isolate}",
        "{stage: dfw-in, reason: firewall, rule: NetworkPolicy bank/db}",
    ] {
        passes(&format!("{TO_DB}- expectDrop: {drop}\n- expectNothing: {{}}"));
    }
}

#[test]
fn another_drop_fails() {
    for (drop, expected) in [
        ("{reason: no-session}", "expected: reason no-session"),
        ("{stage: dfw-out, reason: firewall}", "expected: stage dfw-out, reason firewall"),
        ("{rule: '8'}", "expected: rule 8"),
    ] {
        fails(
            &format!("{TO_DB}- expectDrop: {drop}"),
            Status::Failed,
            &[
                "no drop was counted that is as expected",
                expected,
                "1 x dfw-in firewall at pod/bank/db",
            ],
        );
    }
    // No drop at all, and a drop that an earlier step has already named.
    fails(
        &format!("{TO_DNS}- expectDrop: {{}}"),
        Status::Failed,
        &["expected: any drop", "arrived instead at host/dns:eth0", "dropped since: nothing"],
    );
    fails(
        &format!("{TO_DB}- expectDrop: {{}}\n- expectDrop: {{}}"),
        Status::Failed,
        &["step 3 (expectDrop)"],
    );
    fails(
        &format!(
            "{TO_DB}- send: {{from: pod/bank/web, icmp: {{to: pod/bank/db}}}}\n- expectDrop: {{}}"
        ),
        Status::Failed,
        &["step 3 (expectDrop)", "dropped since: nothing"],
    );
}

#[test]
fn what_is_not_there_is_bad_input() {
    for (steps, words) in [
        (
            "- send: {from: pod/bank/nobody, tcp: {to: 'host/dns:1'}}",
            "there is no port 'pod/bank/nobody'",
        ),
        (
            "- send: {from: pod/bank/web, tcp: {to: 'vip(bank/web):1'}}",
            "there is no 'vip(bank/web)'",
        ),
        ("- expect: {at: vm/cp-1}", "there is no port 'vm/cp-1'"),
        ("- expect: {at: host/dns, ip: {src: snat(shop)}}", "there is no 'snat(shop)'"),
        (
            "- expect: {at: host/dns, tcp: {seq: '${x}'}}",
            "tcp.seq: variable 'x' is not saved by an earlier step",
        ),
        (
            "- expect: {at: host/dns, tcp: {dport: 65536}}",
            "tcp.dport: 65536 does not fit in 16 bits",
        ),
        ("- expectNothing: {at: host/nobody}", "there is no port 'host/nobody'"),
        ("- expectDrop: {stage: nowhere}", "'nowhere' is no stage; there are port, vnic, "),
        ("- expectDrop: {reason: bad-luck}", "'bad-luck' is no drop reason; there are malformed, "),
        (
            "- send: {from: host/far, icmp: {to: 'fd00::1'}}",
            "host/far:eth0 has no address of the family of fd00::1",
        ),
        (
            "- send: {from: pod/bank/web, icmp: {to: 10.244.0.18}}",
            "10.244.0.18 is an address of pod/bank/web itself",
        ),
        (
            "- send: {from: pod/bank/web, icmp: {to: 10.244.0.30}}",
            "nobody answers pod/bank/web that asks for 10.244.0.30",
        ),
        (
            "- send: {from: host/gw, icmp: {to: 8.8.8.8}}",
            "nobody answers host/gw:eth0 that asks for 8.8.8.8",
        ),
        (
            "- send: {from: pod/bank/web, ip: {dst: 'fd00::13', src: 10.244.0.18}}",
            "are not of one family",
        ),
        (
            "- send: {from: pod/bank/web, ip: {ttl: 3}}",
            "the packet has no destination; state ip.dst",
        ),
    ] {
        fails(steps, Status::BadInput, &[words]);
    }
    fails(
        &format!(
            "{TO_DNS}- expect: {{at: host/dns, save: {{a: ip.src}}}}\n- send: {{from: host/dns, tcp: {{to: 'pod/bank/web:1', seq: '${{a}}'}}}}"
        ),
        Status::BadInput,
        &["variable 'a' is 172.16.2.2, which is no number"],
    );
    fails(
        &format!("{TO_DNS}- expect: {{at: host/dns, save: {{a: icmp.id}}}}"),
        Status::BadInput,
        &["save: the frame has no icmp.id"],
    );
}

#[test]
fn time_passes_within() {
    // The Tier-0 asks three times, a second apart; then the sender is told.
    let ping = "- send: {from: pod/bank/web, icmp: {to: 192.168.10.99}}\n";
    let error = "at: pod/bank/web, ip: {dst: pod/bank/web}, icmp: {type: host-unreachable, embedded: {src: pod/bank/web, dst: 192.168.10.99}}";
    let outcome = passes(&format!(
        "{ping}- expect: {{{error}, within: 10s}}\n- expectDrop: {{reason: neighbor-unresolved}}"
    ));
    assert_eq!(outcome.virtual_time, Duration::from_secs(3));
    passes(&format!("{ping}- expectNothing: {{}}\n- advance: 3s\n- expect: {{{error}}}"));
    fails(
        &format!("{ping}- expect: {{{error}}}"),
        Status::Failed,
        &["seen at pod/bank/web: nothing"],
    );
    let late = fails(
        &format!("{ping}- expect: {{{error}, within: 2s}}"),
        Status::Failed,
        &["seen at pod/bank/web: nothing"],
    );
    assert_eq!(late.virtual_time, Duration::from_secs(2));
    // The wrong type, in words.
    fails(
        &format!(
            "{ping}- expect: {{at: pod/bank/web, icmp: {{type: port-unreachable}}, within: 10s}}"
        ),
        Status::Failed,
        &["icmp.type: expected type 3 code 3, saw type 3 code 1"],
    );
}

#[test]
fn hosts_that_pass_packets_on_need_no_step() {
    let send = "- send: {from: pod/bank/web, udp: {to: 'host/far:7'}}\n";
    // One hop more than to the uplink's network.
    let far = "- expect: {at: host/far, ip: {src: snat(bank), ttl: 61}, udp: {dport: 7}}\n";
    passes(&format!("{send}{far}"));
    passes(&format!("{send}- expect: {{at: host/gw, ip: {{ttl: 62}}}}\n{far}"));
    fails(
        &format!("{send}- expectNothing: {{at: host/gw}}"),
        Status::Failed,
        &["unexpected frame at host/gw:eth0"],
    );
    // The way back, by the host's own routing.
    passes(&format!(
        "{send}{far}- send: {{from: host/far, udp: {{to: 'snat(bank):40000', sport: 7}}}}\n- expect: {{at: pod/bank/web, ip: {{src: host/far}}}}"
    ));
}

#[test]
fn address_resolution_counts_where_a_step_expects_it() {
    let ask = "- send: {from: pod/bank/web, arp: {tpa: 10.244.0.17}}\n";
    let answer = "- expect: {at: pod/bank/web, arp: {op: reply, spa: 10.244.0.17, sha: mac(gateway(bank)), tpa: pod/bank/web}}\n";
    passes(ask);
    passes(&format!("{ask}{answer}"));
    fails(
        &format!("{ask}{answer}{ask}"),
        Status::Failed,
        &["unexpected frame at pod/bank/web: ARP, 10.244.0.17 is-at"],
    );
    fails(
        &format!("{ask}- expect: {{at: pod/bank/web, arp: {{op: request}}}}"),
        Status::Failed,
        &["arp.op: expected request, saw reply"],
    );
    // Not expected as ARP, it is passed over.
    fails(
        &format!("{ask}- expect: {{at: pod/bank/web}}"),
        Status::Failed,
        &["seen at pod/bank/web: nothing"],
    );
}

fn hex(builder: FrameBuilder) -> String {
    let frame = builder.macs(mac(0), mac(1)).udp(1, 2).payload(b"x").build();
    let octets: String = frame.bytes.iter().map(|b| format!("{b:02x}")).collect();
    format!("- send: {{from: pod/bank/web, hex: '{octets}'}}\n")
}

#[test]
fn raw_frames() {
    let packet = || FrameBuilder::new(addr("10.244.0.18"), addr("10.244.0.19"));
    passes(&format!(
        "{}- expect: {{at: pod/bank/db, udp: {{sport: 1, dport: 2}}, payload: x}}",
        hex(packet())
    ));
    passes(&format!(
        "{}- expectDrop: {{stage: port, reason: malformed}}",
        hex(packet().bad_ip_checksum())
    ));
    fails(
        &format!(
            "{}- expect: {{at: pod/bank/db, udp: {{dport: 2}}}}",
            hex(packet().bad_transport_checksum())
        ),
        Status::Failed,
        &["checksum: that of the transport header is wrong"],
    );
}

#[test]
fn a_spoofed_source_is_sent_and_dropped() {
    passes(
        "- send: {from: pod/bank/web, ip: {src: 10.244.0.19}, icmp: {to: host/dns}}
- expectDrop: {stage: vnic, reason: spoofguard}
",
    );
}

#[test]
fn a_flooded_frame_is_told_as_such() {
    fails(
        "- send: {from: host/gw, eth: {dst: '04:50:56:00:00:77'}, icmp: {to: 192.168.10.77}}",
        Status::Failed,
        &[
            "unexpected frame at host/dns:eth0: 192.168.10.254 > 192.168.10.77",
            "another station's address was flooded",
        ],
    );
}

#[test]
fn group_addresses_go_to_group_stations() {
    // RFC 1112, 6.4 and RFC 2464, 7.
    for (dst, station) in [
        ("224.129.1.2", "01:00:5e:01:01:02"),
        ("255.255.255.255", "ff:ff:ff:ff:ff:ff"),
        ("10.244.0.31", "ff:ff:ff:ff:ff:ff"),
        ("ff02::1:ff00:13", "33:33:ff:00:00:13"),
    ] {
        let send =
            format!("- send: {{from: pod/bank/web, ip: {{dst: '{dst}'}}, udp: {{dport: 9}}}}\n");
        passes(&format!("{send}- expect: {{at: pod/bank/db, eth: {{dst: '{station}'}}}}"));
    }
}

#[test]
fn one_job_or_four_and_every_order_give_the_same() {
    let names = Names::new();
    let bed: TestBed<'_> = bed(&names);
    let mut tests = vec![
        packet_test("d-fails", TO_DNS),
        packet_test("a-passes", &format!("{TO_DNS}- expect: {{at: host/dns}}")),
        packet_test("c-bad", "- expectNothing: {at: host/x}"),
        packet_test("b-waits", "- advance: 1h"),
    ];
    let one = run_all(&tests, &bed, 1);
    tests.reverse();
    assert_eq!(run_all(&tests, &bed, 4), one);
    assert_eq!(run_all(&tests, &bed, 0), one);
    let names: Vec<(&str, Status)> = one.iter().map(|o| (o.name.as_str(), o.status)).collect();
    assert_eq!(
        names,
        [
            ("a-passes", Status::Passed),
            ("b-waits", Status::Passed),
            ("c-bad", Status::BadInput),
            ("d-fails", Status::Failed)
        ]
    );
    assert!(run_all([], &bed, 2).is_empty());
}

#[test]
fn a_piece_of_a_packet_is_a_fragment() {
    // 8 octets of UDP and 16 of data.
    let send = |piece: &str| {
        format!(
            "- send: {{from: pod/bank/web, ip: {{id: 7}}, udp: {{to: 'host/dns:53', payload: 0123456789abcdef}}, piece: {{{piece}}}}}\n"
        )
    };
    passes(&format!(
        "{}- expect: {{at: host/dns, ip: {{id: 7, fragment: {{offset: 0, more: true}}}}, udp: {{dport: 53}}, payload: '01234567'}}
{}- expect: {{at: host/dns, ip: {{id: 7, fragment: {{offset: 16, more: false}}}}, payload: 89abcdef}}
",
        send("length: 16"),
        send("offset: 16")
    ));
    for (piece, words) in [
        ("offset: 24", "the packet has 24 octets behind its IP header, and no piece of 24 to 24"),
        ("length: 32", "no piece of 0 to 32"),
        ("length: 12", "ends at octet 12"),
    ] {
        fails(&send(piece), Status::BadInput, &[words]);
    }
}

#[test]
fn an_error_quotes_a_packet() {
    passes(
        "- send: {from: pod/bank/web, udp: {to: 'host/dns:53', sport: 5000}}
- expect: {at: host/dns}
- send: {from: host/dns, icmp: {to: snat(bank), type: fragmentation-needed, mtu: 1300, embedded: {protocol: udp, src: snat(bank), sport: 5000, dst: host/dns, dport: 53}}}
- expect: {at: pod/bank/web, icmp: {type: fragmentation-needed, mtu: 1300, embedded: {protocol: udp, src: pod/bank/web, sport: 5000}}}
",
    );
    for (embedded, words) in [
        ("src: snat(bank)", "state icmp.embedded.dst"),
        ("src: 'fd00::1', dst: 'fd00::2'", "the error cannot quote a packet from fd00::1"),
    ] {
        let step = format!(
            "- send: {{from: host/dns, icmp: {{to: snat(bank), type: 3, embedded: {{{embedded}}}}}}}\n"
        );
        fails(&step, Status::BadInput, &[words]);
    }
}

#[test]
fn tables_are_compared_by_what_is_stated() {
    let sent = "- send: {from: pod/bank/web, udp: {to: 'host/dns:53', sport: 5000}}\n- expect: {at: host/dns}\n";
    passes(&format!(
        "{sent}- expectTable:
    sessions: [{{protocol: udp, initiating: {{src: pod/bank/web, sport: 5000}}, terminating: {{src: snat(bank)}}, state: udp-first, packets: [1, 0], bytes: [42, 0], count: 1}}]
    rules: [{{rule: snat-bank, packets: 1, bytes: 42, sessions: 1, lastHit: 0s, count: 1}}, {{rule: '7', packets: 0, count: 1}}]
    nat: [{{rule: '11', before: {{src: 10.244.0.18}}, after: {{src: 172.16.2.2, dport: 53}}, count: 1}}]
    drops: [{{absent: true}}]
    routes: [{{router: t0, prefix: 172.16.2.2/32, source: static, via: 100.64.0.1, count: 1}}]
"
    ));
    for (row, words) in [
        ("sessions: [{packets: [2, 0]}]", "expected a row: packets 2/0"),
        ("sessions: [{absent: true}]", "table sessions has 1 such row"),
        ("sessions: [{protocol: udp, count: 2}]", "expected 2 rows: protocol udp"),
        ("drops: [{reason: no-session}]", "table drops: empty"),
        ("ports: [{port: host/dns, rx: {packets: 9}}]", "table ports has no such row"),
        ("routes: [{via: 100.64.0.9}]", "expected a row: via 100.64.0.9"),
    ] {
        fails(&format!("{sent}- expectTable: {{{row}}}\n"), Status::Failed, &[words]);
    }
    fails(
        &format!("{sent}- expectTable: {{drops: [{{stage: nowhere}}]}}\n"),
        Status::BadInput,
        &["'nowhere' is no stage"],
    );
}

#[test]
fn a_lab_that_nothing_says_the_origin_of_cannot_be_changed() {
    fails(
        "- delete: {kind: Pod, name: web, namespace: bank}\n",
        Status::BadInput,
        &["cannot be changed"],
    );
}
