//! A lab for one test: names of its own, and an inventory that is torn down when the test ends,
//! also by a panic.

use std::io::{self, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use packet::Frame;
use ports::{
    InterfaceConfig, InterfaceName, Inventory, Ip, Netns, NetnsName, Poller, Tap, TapOptions,
};

pub const MAC: &str = "02:00:00:00:00:02";
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x01];
pub const ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);
/// Long enough for a busy machine; a test that works never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Why these tests cannot run here, if so.
fn missing() -> Option<String> {
    if let Err(error) = Ip::find() {
        return Some(error.to_string());
    }
    match Tap::create(None, TapOptions::default()) {
        Ok(_) => (!rustix::process::geteuid().is_root()).then(|| "not root".to_owned()),
        Err(error) if error.is_environment() => Some(error.to_string()),
        Err(error) => panic!("the machine seems able, and yet: {error}"),
    }
}

/// Whether `test` can run; if not, says so, or fails where skipping is not wanted.
pub fn privileged(test: &str) -> bool {
    let Some(reason) = missing() else { return true };
    let set = |name, value| std::env::var(name).is_ok_and(|v| v == value);
    if set("CI", "true") || set("TIERLAB_REQUIRE_PRIVILEGED", "1") {
        panic!("{test} must not be skipped here, but cannot run: {reason}");
    }
    // Not `eprintln!`: the test harness swallows what passing tests print with it.
    let _ = writeln!(io::stderr(), "SKIPPED: {test} because {reason}");
    false
}

/// Waits for what a closed descriptor brings about. Another test's thread may be starting a program at
/// this moment: its child has copies of all descriptors until it runs the program.
pub fn eventually(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "it does not come about");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A name that no other test, nor another run of them, uses at the same time.
pub fn unique(letter: char) -> String {
    format!("tl{}{letter}", std::process::id())
}

pub struct Lab {
    pub inventory: Inventory,
    pub ip: Ip,
    pub state: PathBuf,
    _dir: tempfile::TempDir,
}

impl Lab {
    pub fn new() -> Lab {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let inventory = Inventory::open(&state).unwrap();
        let ip = inventory.ip().clone();
        Lab { inventory, ip, state, _dir: dir }
    }

    /// A namespace with an interface `eth0`, whose other end is the TAP.
    pub fn machine(
        &mut self,
        letter: char,
        options: TapOptions,
        config: &InterfaceConfig,
    ) -> (Netns, Tap) {
        let name = unique(letter);
        let netns = NetnsName::new(&name).unwrap();
        let netns = self.inventory.create_netns(&netns).unwrap();
        let tap = Tap::create(Some(&name), options).unwrap();
        netns.attach(&self.ip, tap.name(), config).unwrap();
        (netns, tap)
    }
}

/// `eth0` with this address of a /24 and MAC.
pub fn config(address: Ipv4Addr, mac: &str) -> InterfaceConfig {
    InterfaceConfig {
        name: InterfaceName::new("eth0").unwrap(),
        mac: Some(mac.parse().unwrap()),
        mtu: None,
        addresses: vec![format!("{address}/24").parse().unwrap()],
        routes: vec![],
    }
}

/// The next frame that `wanted` accepts; ARP requests for the gateway are answered on the way.
pub fn receive(tap: &mut Tap, wanted: impl Fn(&Frame) -> bool) -> Frame {
    let mut poller = Poller::new().unwrap();
    poller.register(&*tap, 0).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut frame = Frame::default();
    loop {
        while tap.recv(&mut frame).unwrap() {
            if let Some(answer) = arp_answer(&frame.bytes) {
                tap.send(&Frame::new(answer)).unwrap();
            }
            if wanted(&frame) {
                return frame;
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "the frame did not come");
        poller.wait(Some(left)).unwrap();
    }
}

/// RFC 826: the gateway's answer to a request for its address.
fn arp_answer(request: &[u8]) -> Option<Vec<u8>> {
    let is_request = request.len() >= 42
        && request[12..14] == [0x08, 0x06]
        && request[20..22] == [0, 1]
        && request[38..42] == GATEWAY.octets();
    if !is_request {
        return None;
    }
    let mut answer = request[..42].to_vec();
    answer[0..6].copy_from_slice(&request[6..12]);
    answer[6..12].copy_from_slice(&GATEWAY_MAC);
    answer[21] = 2;
    answer[22..28].copy_from_slice(&GATEWAY_MAC);
    answer[28..32].copy_from_slice(&GATEWAY.octets());
    answer[32..42].copy_from_slice(&request[22..32]);
    Some(answer)
}

/// The IP protocol of an IPv4 frame.
pub fn ip_protocol(frame: &Frame) -> Option<u8> {
    (frame.bytes.get(12..14)? == [0x08, 0x00]).then(|| frame.bytes.get(23).copied()).flatten()
}

/// A UDP socket of the calling thread's namespace with a time limit.
pub fn udp(address: Ipv4Addr, port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, port))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    Ok(socket)
}
