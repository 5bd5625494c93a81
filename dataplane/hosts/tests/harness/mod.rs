//! Hosts on segments in virtual time: every frame is seen by every other interface of its segment,
//! as on a hub, in the order sent and without delay.

#![allow(dead_code)] // each test file uses a part
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

use std::collections::VecDeque;

use hosts::{Host, HostConfig, InterfaceConfig, OperationId, OperationResult, Output};
use packet::{Addr, Frame, Mac, Time};

pub fn addr(text: &str) -> Addr {
    text.parse().unwrap()
}

pub fn mac(last: u8) -> Mac {
    Mac([4, 0x50, 0x56, 0, 0, last])
}

/// A host with one interface and, if `gateway` is not empty, a default route.
pub fn config(name: &str, last: u8, cidr: &str, gateway: &str) -> HostConfig {
    let mut config = HostConfig::new(name);
    let (address, len) = cidr.split_once('/').unwrap();
    config.interfaces.push(InterfaceConfig::new(
        "eth0",
        mac(last),
        addr(address),
        len.parse().unwrap(),
    ));
    if !gateway.is_empty() {
        let gateway = addr(gateway);
        let any = if gateway.is_v4() { Addr::UNSPECIFIED_V4 } else { Addr::UNSPECIFIED_V6 };
        config.routing.add_route(254, hosts::Route::via(any, 0, gateway, 0));
    }
    config
}

#[derive(Default)]
pub struct Net {
    pub hosts: Vec<Host>,
    segments: Vec<Vec<(usize, usize)>>,
    queue: VecDeque<(usize, usize, Frame)>,
    pub now: Time,
    /// Every n-th frame sent is lost; 0 for none.
    pub lose: usize,
    /// Every frame sent: when, by which host and interface.
    pub log: Vec<(Time, usize, usize, Frame)>,
}

impl Net {
    pub fn add(&mut self, config: HostConfig) -> usize {
        self.hosts.push(Host::new(config, 42));
        self.hosts.len() - 1
    }

    pub fn segment(&mut self, ports: &[(usize, usize)]) {
        self.segments.push(ports.to_vec());
    }

    /// Two hosts on one segment, each with its interface 0.
    pub fn pair(a: HostConfig, b: HostConfig) -> Net {
        let mut net = Net::default();
        let (a, b) = (net.add(a), net.add(b));
        net.segment(&[(a, 0), (b, 0)]);
        net
    }

    fn sent(&mut self, host: usize, out: Output) {
        for (interface, frame) in out {
            self.log.push((self.now, host, interface, frame.clone()));
            if self.lose == 0 || !self.log.len().is_multiple_of(self.lose) {
                self.queue.push_back((host, interface, frame));
            }
        }
    }

    fn deliver(&mut self) {
        let mut budget = 200_000;
        while let Some((host, interface, frame)) = self.queue.pop_front() {
            budget -= 1;
            assert!(budget > 0, "frames go round in circles");
            let peers: Vec<(usize, usize)> = self
                .segments
                .iter()
                .filter(|s| s.contains(&(host, interface)))
                .flat_map(|s| s.iter().copied())
                .filter(|p| *p != (host, interface))
                .collect();
            for (peer, port) in peers {
                let mut out = Vec::new();
                self.hosts[peer].receive(port, &frame, self.now, &mut out);
                self.sent(peer, out);
            }
        }
    }

    pub fn run_until(&mut self, end: Time) {
        self.deliver();
        for _ in 0..1_000_000 {
            let due = self.hosts.iter().filter_map(Host::next_timeout).min();
            let Some(due) = due.filter(|t| *t <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(due);
            for i in 0..self.hosts.len() {
                let mut out = Vec::new();
                self.hosts[i].poll(self.now, &mut out);
                self.sent(i, out);
            }
            self.deliver();
        }
        panic!("timers never end");
    }

    pub fn run(&mut self, seconds: u64) {
        self.run_until(Time(self.now.0 + seconds * 1_000_000_000));
    }

    /// Starts an operation on a host.
    pub fn start(
        &mut self,
        host: usize,
        begin: impl FnOnce(&mut Host, Time, &mut Output) -> OperationId,
    ) -> OperationId {
        let mut out = Vec::new();
        let id = begin(&mut self.hosts[host], self.now, &mut out);
        self.sent(host, out);
        id
    }

    /// Starts an operation, lets time pass until it is over, and takes its result.
    pub fn complete(
        &mut self,
        host: usize,
        begin: impl FnOnce(&mut Host, Time, &mut Output) -> OperationId,
    ) -> OperationResult {
        let id = self.start(host, begin);
        self.deliver();
        let end = Time(self.now.0 + 300_000_000_000);
        while self.hosts[host].is_running(id) {
            let due = self.hosts.iter().filter_map(Host::next_timeout).min().expect("stuck");
            assert!(due <= end, "operation does not end");
            self.run_until(due.max(self.now));
        }
        self.hosts[host].take_result(id).expect("a finished operation has a result")
    }

    /// One line a frame since the start, as tcpdump shows it.
    pub fn transcript(&self) -> String {
        self.log
            .iter()
            .map(|(at, host, interface, frame)| {
                let headers = packet::parse(&frame.bytes).unwrap();
                format!(
                    "{at} {}#{interface} {}\n",
                    self.hosts[*host].config().name,
                    packet::describe(&headers)
                )
            })
            .collect()
    }
}
