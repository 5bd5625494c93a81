//! `replay`: capture files in, capture files out, in virtual time.

use std::path::PathBuf;

use crate::support::{Captured, Desk, GATEWAY, described, pcap, read_pcap, topology, udp};

const TELLER: &str = "04:50:56:00:d0:04";
const CART: &str = "04:50:56:00:d0:07";
const CLIENT: &str = "00:50:56:00:00:02";
const ROUTER_ON_CUSTOMER: &str = "00:50:56:00:00:0c";

const MILLISECOND: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;
/// The time of day of the captures: virtual zero is where they begin, not 1970.
const BASE: u64 = 1_600_000_000 * SECOND;

/// A datagram of banking's teller to an outside host's UDP echo.
fn out(port: u16, payload: &str) -> Vec<u8> {
    udp((TELLER, "10.244.0.19", port), (GATEWAY, "192.168.20.100", 7), payload.as_bytes())
}

/// `replay` of the supervisor's lab; the line it prints.
#[track_caller]
fn replay(desk: &Desk, arguments: &[&str]) -> String {
    let lab = topology("supervisor");
    desk.ok(&[&["replay", "-f", &lab, "--out", "out"], arguments].concat())
}

/// The frames of a capture: time, description; ARP left out.
fn captured(desk: &Desk, name: &str) -> Vec<(u64, String)> {
    read_pcap(&desk.read(name))
        .iter()
        .map(|(time, frame)| (*time, described(frame)))
        .filter(|(_, line)| line != "arp")
        .collect()
}

fn lines(desk: &Desk, name: &str) -> Vec<String> {
    captured(desk, name).into_iter().map(|(_, line)| line).collect()
}

/// Files below `out`.
fn outputs(desk: &Desk) -> Vec<PathBuf> {
    desk.files()
        .into_keys()
        .filter(|path| path.is_file())
        .filter_map(|path| path.strip_prefix(desk.path().join("out")).ok().map(PathBuf::from))
        .collect()
}

#[test]
fn a_pod_asks_and_is_answered_at_its_times() {
    let desk = Desk::new();
    let frames: Vec<Captured> = (0..3_u64)
        .map(|i| {
            (BASE + i * 250 * MILLISECOND, out(4000 + u16::try_from(i).unwrap(), &format!("q{i}")))
        })
        .collect();
    desk.write("in.pcap", pcap(&frames));
    let said = replay(&desk, &["--in", "pod/banking/teller=in.pcap", "--tap", "host/client"]);
    assert!(said.starts_with("3 frames in, "), "{said}");
    // A wire takes no time: each answer is there at the moment of its question.
    let expected: Vec<(u64, String)> = (0..3_u64)
        .map(|i| {
            (i * 250 * MILLISECOND, format!("192.168.20.100:7 > 10.244.0.19:{} udp q{i}", 4000 + i))
        })
        .collect();
    assert_eq!(captured(&desk, "out/pod/banking/teller.pcap"), expected);
    let expected: Vec<(u64, String)> = (0..3_u64)
        .map(|i| {
            (i * 250 * MILLISECOND, format!("172.16.2.2:{} > 192.168.20.100:7 udp q{i}", 4000 + i))
        })
        .collect();
    assert_eq!(captured(&desk, "out/host/client.pcap"), expected);
    assert_eq!(
        outputs(&desk),
        [PathBuf::from("host/client.pcap"), PathBuf::from("pod/banking/teller.pcap")]
    );
}

/// The unplugged host answers no ARP. Nobody asks it, either: its entry is static, so the first frame to it arrives at once and
/// alone.
#[test]
fn an_unplugged_host_needs_no_arp() {
    let desk = Desk::new();
    desk.write("teller.pcap", pcap(&[(BASE, out(4000, "q"))]));
    desk.write(
        "client.pcap",
        pcap(&[(
            BASE + 5 * SECOND,
            udp((CLIENT, "192.168.20.100", 7), (ROUTER_ON_CUSTOMER, "172.16.2.2", 4000), b"a"),
        )]),
    );
    replay(&desk, &["--in", "pod/banking/teller=teller.pcap", "--in", "host/client=client.pcap"]);
    // The client's own echo is unplugged with it: the one answer is the capture's.
    let teller = read_pcap(&desk.read("out/pod/banking/teller.pcap"));
    let teller: Vec<_> = teller.iter().map(|(time, frame)| (*time, described(frame))).collect();
    assert_eq!(teller, [(5 * SECOND, "192.168.20.100:7 > 10.244.0.19:4000 udp a".to_owned())]);
    assert_eq!(
        captured(&desk, "out/host/client.pcap"),
        [(0, "172.16.2.2:4000 > 192.168.20.100:7 udp q".to_owned())]
    );
}

#[test]
fn files_are_named_after_ports_as_given() {
    let desk = Desk::new();
    desk.write("in.pcap", pcap(&[]));
    replay(
        &desk,
        &[
            "--in",
            "vm/cp-2:eth1=in.pcap",
            "--tap",
            "vm/cp-1",
            "--tap",
            "host/router:fabric",
            "--tap",
            "pod/shop/cart",
        ],
    );
    let names =
        ["host/router:fabric.pcap", "pod/shop/cart.pcap", "vm/cp-1.pcap", "vm/cp-2:eth1.pcap"];
    assert_eq!(outputs(&desk), names.map(PathBuf::from));
    for name in names {
        // Nothing was sent; a capture of nothing is a capture.
        assert_eq!(read_pcap(&desk.read(&format!("out/{name}"))), [], "{name}");
    }
}

/// `vm/NAME` is its interface in the cluster's network.
#[test]
fn a_vm_without_interface_is_eth1() {
    let frame =
        udp(("04:50:56:00:d0:00", "10.244.0.2", 5000), (GATEWAY, "192.168.20.100", 7), b"q");
    for name in ["vm/cp-1", "vm/cp-1:eth1"] {
        let desk = Desk::new();
        desk.write("in.pcap", pcap(&[(BASE, frame.clone())]));
        replay(&desk, &["--in", &format!("{name}=in.pcap")]);
        assert_eq!(
            lines(&desk, &format!("out/{name}.pcap")),
            ["192.168.20.100:7 > 10.244.0.2:5000 udp q"]
        );
    }
}

/// Two ports at the same moment: by port name, then by position in the file.
#[test]
fn equal_times_go_by_port_then_position() {
    let desk = Desk::new();
    let cart = |payload: &str| {
        udp((CART, "10.244.0.34", 4000), (GATEWAY, "192.168.20.100", 7), payload.as_bytes())
    };
    desk.write(
        "cart.pcap",
        pcap(&[(BASE, cart("c1")), (BASE, cart("c2")), (BASE + SECOND, cart("c3"))]),
    );
    desk.write(
        "teller.pcap",
        pcap(&[
            (BASE, out(4000, "t1")),
            (BASE, out(4000, "t2")),
            (BASE + MILLISECOND, out(4000, "t3")),
        ]),
    );
    for order in [
        ["pod/shop/cart=cart.pcap", "pod/banking/teller=teller.pcap"],
        ["pod/banking/teller=teller.pcap", "pod/shop/cart=cart.pcap"],
    ] {
        replay(&desk, &["--in", order[0], "--in", order[1], "--tap", "host/client"]);
        let payloads: Vec<_> = lines(&desk, "out/host/client.pcap")
            .iter()
            .map(|line| line.rsplit_once(' ').unwrap().1.to_owned())
            .collect();
        assert_eq!(payloads, ["t1", "t2", "c1", "c2", "t3", "c3"]);
    }
}

/// A capture that is not in order of time is played in order of time.
#[test]
fn times_within_a_file_may_go_back() {
    let desk = Desk::new();
    desk.write(
        "in.pcap",
        pcap(&[(BASE + SECOND, out(4000, "later")), (BASE, out(4000, "earlier"))]),
    );
    replay(&desk, &["--in", "pod/banking/teller=in.pcap", "--tap", "host/client"]);
    let times: Vec<_> = captured(&desk, "out/host/client.pcap");
    assert_eq!(
        times,
        [
            (0, "172.16.2.2:4000 > 192.168.20.100:7 udp earlier".to_owned()),
            (SECOND, "172.16.2.2:4000 > 192.168.20.100:7 udp later".to_owned()),
        ]
    );
}

#[test]
fn the_same_bytes_always() {
    let files = |desk: &Desk| -> Vec<(PathBuf, Vec<u8>)> {
        outputs(desk)
            .into_iter()
            .map(|p| (p.clone(), desk.read(&format!("out/{}", p.display()))))
            .collect()
    };
    let frames: Vec<Captured> = (0..200_u64)
        .map(|i| {
            (
                BASE + i * 7 * MILLISECOND,
                out(4000 + u16::try_from(i % 50).unwrap(), &format!("q{i}")),
            )
        })
        .collect();
    let arguments = [
        "--in",
        "pod/banking/teller=in.pcap",
        "--tap",
        "host/leaf-1:uplink",
        "--tap",
        "host/leaf-2:uplink",
        "--tap",
        "host/client",
    ];
    let desk = Desk::new();
    desk.write("in.pcap", pcap(&frames));
    replay(&desk, &arguments);
    let first = files(&desk);
    assert_eq!(first.len(), 4);
    // Over old files, which are longer if anything, and elsewhere.
    replay(&desk, &arguments);
    assert!(files(&desk) == first, "the second run differs");

    // From definitions in another order, in one file: the same lab, the same bytes.
    let mut documents = Vec::new();
    for name in ["workloads", "dns", "system-services", "physical", "supervisor"] {
        let text = std::fs::read_to_string(topology("supervisor") + "/" + name + ".yaml").unwrap();
        documents.extend(crate::support::documents(&text));
    }
    documents.reverse();
    let shuffled = Desk::with(documents.join("---\n"));
    shuffled.write("in.pcap", pcap(&frames));
    shuffled.ok(&[&["replay", "-f", "lab.yaml", "--out", "out"], &arguments[..]].concat());
    assert!(files(&shuffled) == first, "the order of files shows");

    // The formats of captures differ, not what is in them: microseconds, and the other byte order.
    for (name, file) in [
        ("microseconds", microseconds(&frames, false)),
        ("big-endian", microseconds(&frames, true)),
    ] {
        let other = Desk::new();
        other.write("in.pcap", file);
        replay(&other, &arguments);
        assert!(files(&other) == first, "{name}");
    }
}

/// A capture with microseconds, in either byte order.
fn microseconds(frames: &[Captured], big_endian: bool) -> Vec<u8> {
    let bytes = |words: &[u32]| -> Vec<u8> {
        words
            .iter()
            .flat_map(|w| if big_endian { w.to_be_bytes() } else { w.to_le_bytes() })
            .collect()
    };
    let version = if big_endian { 0x0002_0004 } else { 0x0004_0002 };
    let mut file = bytes(&[0xa1b2_c3d4, version, 0, 0, 65_535, 1]);
    for (time, frame) in frames {
        let length = u32::try_from(frame.len()).unwrap();
        let (seconds, rest) = (time / SECOND, time % SECOND);
        file.extend(bytes(&[
            u32::try_from(seconds).unwrap(),
            u32::try_from(rest / 1000).unwrap(),
            length,
            length,
        ]));
        file.extend(frame);
    }
    file
}

/// After the last input the clock runs 1 s more: what is due in it comes, what is due later does not.
#[test]
fn drain() {
    // Nobody has 192.168.10.49: ARP at 0, 1 and 2 s, host unreachable at 3 s.
    let frame = udp(
        ("00:50:56:b3:29:f3", "192.168.10.45", 5000),
        ("00:50:56:00:00:0b", "192.168.20.77", 7),
        b"q",
    );
    let run = |drain: &[&str]| {
        let desk = Desk::new();
        desk.write("in.pcap", pcap(&[(BASE, frame.clone())]));
        let said = replay(&desk, &[&["--in", "vm/cp-1:eth0=in.pcap"], drain].concat());
        (lines(&desk, "out/vm/cp-1:eth0.pcap"), said)
    };
    let (frames, said) = run(&[]);
    assert_eq!(frames, Vec::<String>::new(), "{said}");
    assert!(said.contains("1s of virtual time") || said.contains("1.0s"), "{said}");
    assert_eq!(run(&["--drain", "2999ms"]).0, Vec::<String>::new());
    // The router between management and customers gives up.
    assert_eq!(run(&["--drain", "3s"]).0, ["192.168.10.254 > 192.168.10.45 icmp 3/1"]);
    let (frames, said) = run(&["--drain", "0s"]);
    assert_eq!(frames, Vec::<String>::new(), "{said}");
}

#[test]
fn a_denied_frame_leaves_nowhere() {
    let desk = Desk::new();
    let frame = udp((CART, "10.244.0.34", 4000), (GATEWAY, "10.244.0.18", 5432), b"q");
    // And one that lies about who it is, and one that is no packet.
    let spoofed = udp((CART, "10.244.0.35", 4000), (GATEWAY, "192.168.20.100", 7), b"q");
    desk.write(
        "in.pcap",
        pcap(&[(BASE, frame), (BASE, spoofed), (BASE, vec![0xff; 14]), (BASE, vec![0; 3])]),
    );
    let said = replay(
        &desk,
        &["--in", "pod/shop/cart=in.pcap", "--tap", "pod/banking/ledger", "--tap", "host/client"],
    );
    assert!(said.starts_with("4 frames in, 0 out, "), "{said}");
    assert_eq!(lines(&desk, "out/pod/banking/ledger.pcap"), Vec::<String>::new());
    assert_eq!(lines(&desk, "out/host/client.pcap"), Vec::<String>::new());
}

#[test]
fn bad_captures() {
    let good = pcap(&[(BASE, out(4000, "q"))]);
    let with_length = |at: usize, length: u32| {
        let mut file = good.clone();
        file[at..at + 4].copy_from_slice(&length.to_le_bytes());
        file
    };
    let mut wifi = good.clone();
    wifi[20] = 105;
    for (what, file) in [
        ("empty", Vec::new()),
        ("text", b"this is no capture\n".to_vec()),
        ("half a header", good[..20].to_vec()),
        ("half a record", good[..30].to_vec()),
        ("half a frame", good[..good.len() - 1].to_vec()),
        ("a frame of 4 GiB", with_length(32, u32::MAX)),
        ("another link type", wifi),
    ] {
        let desk = Desk::new();
        desk.write("in.pcap", file);
        let before = desk.files();
        let said = desk.fails(
            2,
            &[
                "replay",
                "-f",
                &topology("supervisor"),
                "--in",
                "pod/banking/teller=in.pcap",
                "--out",
                "out",
            ],
        );
        assert!(said.contains("in.pcap"), "{what}: {said}");
        assert!(desk.files() == before, "{what}: something was written");
    }
}

#[test]
fn wrong_arguments_write_nothing() {
    let desk = Desk::new();
    desk.write("in.pcap", pcap(&[(BASE, out(4000, "q"))]));
    desk.write("out/host/client.pcap", "kept");
    desk.write("out/pod/banking/teller.pcap", "kept");
    let before = desk.files();
    let lab = topology("supervisor");
    for (arguments, part) in [
        ("--in pod/banking/teller=in.pcap --in pod/banking/teller=in.pcap", "twice"),
        ("--in pod/banking/teller=in.pcap --drain 5", "length of time"),
        ("--in pod/banking/teller=in.pcap --drain soon", "length of time"),
        ("--in pod/banking/teller=in.pcap --tap host/nobody", "'host/nobody'"),
        ("--in pod/banking/teller=in.pcap --tap 10.244.0.19", "'10.244.0.19'"),
        ("--in svc/banking/web=in.pcap", "'svc/banking/web'"),
        ("--in =in.pcap", "''"),
        ("--in pod/banking/teller=", "no such file"),
        ("--in pod/banking/teller=out", "out"),
        ("--in pod/banking/teller=in.pcap --in vm/cp-1=missing.pcap", "missing.pcap"),
        (
            "--in pod/banking/teller=in.pcap --tap host/client --tap host/client:eth0",
            "the same port",
        ),
        ("--in vm/cp-1=in.pcap --tap vm/cp-1:eth1", "the same port"),
    ] {
        let line = format!("replay -f {lab} --out out {arguments}");
        let said = desk.fails(2, &line.split(' ').collect::<Vec<_>>());
        assert!(said.to_lowercase().contains(part) || said.contains(part), "{arguments}: {said}");
        assert!(desk.files() == before, "{arguments}: something was written");
    }
}

/// The output of a port where its input lies would destroy it.
#[test]
fn an_input_is_not_overwritten() {
    let desk = Desk::new();
    let file = pcap(&[(BASE, out(4000, "q"))]);
    desk.write("out/pod/banking/teller.pcap", &file);
    let lab = topology("supervisor");
    let port = "pod/banking/teller=out/pod/banking/teller.pcap";
    desk.fails(2, &["replay", "-f", &lab, "--in", port, "--out", "out"]);
    assert!(desk.read("out/pod/banking/teller.pcap") == file, "the input is gone");
}
