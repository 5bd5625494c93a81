//! Creating, configuring and losing interfaces.

use std::io;
use std::os::unix::process::CommandExt;
use std::process::Command;

use packet::Frame;
use ports::{
    InterfaceConfig, InterfaceName, IpError, Poller, Resolver, Route, Tap, TapError, TapOptions,
};

use crate::lab::{ADDRESS, GATEWAY, Lab, MAC, PATIENCE, config, eventually, privileged, unique};

#[test]
fn a_name_in_use_is_told_apart() {
    if !privileged("a_name_in_use_is_told_apart") {
        return;
    }
    let name = unique('n');
    let tap = Tap::create(Some(&name), TapOptions::default()).unwrap();
    for taken in [name.as_str(), "lo"] {
        let error = Tap::create(Some(taken), TapOptions::default()).unwrap_err();
        assert!(matches!(error, TapError::NameTaken(_)), "{taken}: {error}");
        assert!(error.to_string().contains(taken) && !error.is_environment());
    }
    drop(tap);
    eventually(|| Tap::create(Some(&name), TapOptions::default()).is_ok());
}

#[test]
fn without_a_name_the_kernel_chooses() {
    if !privileged("without_a_name_the_kernel_chooses") {
        return;
    }
    let (a, b) = (
        Tap::create(None, TapOptions::default()).unwrap(),
        Tap::create(None, TapOptions::default()).unwrap(),
    );
    assert!(a.name().starts_with("tl") && b.name().starts_with("tl"));
    assert_ne!(a.name(), b.name());
}

/// Run by the next test as another user.
#[test]
#[ignore = "a helper process of without_rights_the_error_says_so"]
fn helper_without_rights() {
    match Tap::create(None, TapOptions::default()) {
        Err(error @ TapError::Permission) if error.is_environment() => println!("DENIED: {error}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_rights_the_error_says_so() {
    if !privileged("without_rights_the_error_says_so") {
        return;
    }
    // Copied to where any user may start it.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("helper");
    std::fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let output = Command::new(&program)
        .args(["--exact", "interfaces::helper_without_rights", "--ignored", "--nocapture"])
        .current_dir("/")
        .uid(65_534)
        .gid(65_534)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("DENIED: no permission to open a TAP"), "{output:?}");
}

#[test]
fn the_machine_sees_its_configuration() {
    if !privileged("the_machine_sees_its_configuration") {
        return;
    }
    let mut lab = Lab::new();
    let mut eth0 = config(ADDRESS, MAC);
    eth0.mtu = Some(1400);
    eth0.addresses.push("fd00:99::2/64".parse().unwrap());
    let route =
        |to: &str, via: &str| Route { destination: to.parse().unwrap(), via: via.parse().unwrap() };
    eth0.routes = vec![
        route("0.0.0.0/0", "10.99.0.1"),
        route("192.168.7.0/24", "10.99.0.9"),
        route("::/0", "fd00:99::1"),
    ];
    let (netns, _tap) = lab.machine('c', TapOptions::default(), &eth0);
    let resolver =
        Resolver { nameservers: vec!["10.96.0.254".parse().unwrap()], ..Resolver::default() };
    lab.inventory.create_resolver(netns.name(), &resolver).unwrap();
    let name = netns.name().as_str();
    let show = |arguments: &[&str]| {
        let arguments = [&["-n", name], arguments].concat();
        lab.ip.run(&arguments).unwrap()
    };
    let link = show(&["-o", "link", "show", "dev", "eth0"]);
    for part in [MAC, "mtu 1400", ",UP"] {
        assert!(link.contains(part), "{part} in {link}");
    }
    assert!(show(&["-o", "link", "show", "dev", "lo"]).contains(",UP"));
    let addresses = show(&["-o", "address", "show", "dev", "eth0"]);
    for part in ["inet 10.99.0.2/24 ", "inet6 fd00:99::2/64 "] {
        assert!(addresses.contains(part), "{part} in {addresses}");
    }
    let routes = show(&["route", "show"]);
    for part in ["default via 10.99.0.1 dev eth0", "192.168.7.0/24 via 10.99.0.9 dev eth0"] {
        assert!(routes.contains(part), "{part} in {routes}");
    }
    let routes = show(&["-6", "route", "show"]);
    assert!(routes.contains("default via fd00:99::1 dev eth0"), "{routes}");
    let resolv = lab.ip.run(&["netns", "exec", name, "cat", "/etc/resolv.conf"]).unwrap();
    assert!(resolv.ends_with("nameserver 10.96.0.254\n"), "{resolv}");
}

#[test]
fn a_machine_without_ipv6_address_is_silent() {
    if !privileged("a_machine_without_ipv6_address_is_silent") {
        return;
    }
    let mut lab = Lab::new();
    let (_netns, mut tap) = lab.machine('s', TapOptions::default(), &config(ADDRESS, MAC));
    let mut poller = Poller::new().unwrap();
    poller.register(&tap, 0).unwrap();
    let ready = poller.wait(Some(std::time::Duration::from_millis(1500)));
    let mut frame = Frame::default();
    let heard = tap.recv(&mut frame).unwrap();
    assert!(!heard, "{:?}: {:02x?}", ready, frame.bytes);
}

#[test]
fn a_route_that_cannot_be_is_refused_with_ips_words() {
    if !privileged("a_route_that_cannot_be_is_refused_with_ips_words") {
        return;
    }
    let mut lab = Lab::new();
    let (netns, _tap) = lab.machine('r', TapOptions::default(), &config(ADDRESS, MAC));
    let wrong = InterfaceConfig {
        addresses: vec![],
        routes: vec![Route {
            destination: "0.0.0.0/0".parse().unwrap(),
            via: "172.16.0.1".parse().unwrap(),
        }],
        ..config(ADDRESS, MAC)
    };
    let eth0 = InterfaceName::new("eth0").unwrap();
    let error = wrong.apply(&lab.ip, Some(netns.name()), &eth0).unwrap_err();
    assert!(matches!(error, IpError::Failed { .. }) && !error.is_environment());
    let text = error.to_string();
    assert!(text.contains("route add 0.0.0.0/0 via 172.16.0.1"), "{text}");
    assert!(text.contains("invalid gateway"), "{text}");
}

#[test]
fn an_interface_that_is_down_or_deleted_only_fails_its_own_port() {
    if !privileged("an_interface_that_is_down_or_deleted_only_fails_its_own_port") {
        return;
    }
    let mut lab = Lab::new();
    let (netns, mut tap) = lab.machine('d', TapOptions::default(), &config(ADDRESS, MAC));
    let name = netns.name().as_str().to_owned();
    let frame = Frame::new(vec![0xff; 60]);
    tap.send(&frame).unwrap();

    let set = |state| lab.ip.run(&["-n", &name, "link", "set", "dev", "eth0", state]).unwrap();
    set("down");
    let error = tap.send(&frame).unwrap_err();
    assert!(!Tap::is_gone(&error), "{error}");
    assert!(!tap.recv(&mut Frame::default()).unwrap_or(false));
    set("up");
    tap.send(&frame).unwrap();
    assert_eq!((tap.counters().sent, tap.counters().unsent), (2, 1));

    let mut poller = Poller::new().unwrap();
    poller.register(&tap, 4).unwrap();
    lab.ip.run(&["-n", &name, "link", "delete", "dev", "eth0"]).unwrap();
    let ready = poller.wait(Some(PATIENCE)).unwrap();
    assert_eq!((ready.readable, ready.failed), (vec![], vec![4]));
    let error = tap.recv(&mut Frame::default()).unwrap_err();
    assert!(Tap::is_gone(&error), "{error}");
    let error = tap.send(&frame).unwrap_err();
    assert!(Tap::is_gone(&error), "{error}");
}

#[test]
fn deleting_the_namespace_takes_the_interface_along() {
    if !privileged("deleting_the_namespace_takes_the_interface_along") {
        return;
    }
    let mut lab = Lab::new();
    let (_netns, mut tap) = lab.machine('t', TapOptions::default(), &config(ADDRESS, MAC));
    let mut poller = Poller::new().unwrap();
    poller.register(&tap, 0).unwrap();
    let sweep = lab.inventory.teardown();
    assert_eq!((sweep.removed.len(), sweep.failed.len()), (1, 0), "{sweep:?}");
    // The kernel dismantles a namespace in the background. Frames it sent before may come first.
    let error = loop {
        poller.wait(Some(PATIENCE)).unwrap();
        match tap.recv(&mut Frame::default()) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(Tap::is_gone(&error), "{error}");
}

#[test]
fn queues_share_one_interface() {
    if !privileged("queues_share_one_interface") {
        return;
    }
    let mut lab = Lab::new();
    let name = unique('q');
    let netns = ports::NetnsName::new(&name).unwrap();
    let netns = lab.inventory.create_netns(&netns).unwrap();
    let options = TapOptions { vnet_hdr: true, queues: 3 };
    let mut taps = Tap::create_queues(Some(&name), options).unwrap();
    assert_eq!(taps.len(), 3);
    assert!(taps.iter().all(|tap| tap.name() == name));
    let mut eth0 = config(ADDRESS, MAC);
    eth0.routes = vec![];
    netns.attach(&lab.ip, &name, &eth0).unwrap();
    // A static neighbour, so that all frames are the flows'.
    let neighbour = ["-n", &name, "neighbour", "add", "10.99.0.1", "lladdr"];
    let rest = ["02:00:00:00:00:01", "dev", "eth0", "nud", "permanent"];
    lab.ip.run(&[&neighbour[..], &rest].concat()).unwrap();
    ports::in_netns(netns.name(), || -> io::Result<()> {
        for port in 0..64 {
            let socket = crate::lab::udp(ADDRESS, 4000 + port)?;
            socket.send_to(b"x", (GATEWAY, 9))?;
        }
        Ok(())
    })
    .unwrap()
    .unwrap();
    let mut frame = Frame::default();
    for tap in &mut taps {
        while tap.recv(&mut frame).unwrap() {}
        tap.send(&Frame::new(vec![0xff; 60])).unwrap();
    }
    let received: Vec<u64> = taps.iter().map(|tap| tap.counters().received).collect();
    assert_eq!(received.iter().sum::<u64>(), 64, "{received:?}");
    assert!(received.iter().all(|n| *n > 0), "64 flows on 3 queues: {received:?}");
}
