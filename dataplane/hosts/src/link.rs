//! The link: ARP (RFC 826) and neighbour discovery (RFC 4861), and packets that wait for them.
//!
//! An answer is given only for addresses of the interface that was asked. The cache learns from
//! questions and answers addressed to the host; a gratuitous announcement updates what is known and
//! creates nothing.

use std::collections::VecDeque;

use packet::{Addr, Frame, Headers, IcmpErrorKind, IcmpMessage, Ip, Mac, Time, Transport};

use crate::host::{Arrival, Host, HostDrop, HostMode, Output, martian_source};
use crate::icmp::Quoted;
use crate::neighbor::{Pending, Resolution};
use crate::operation::IcmpReport;
use crate::routing::RouteOutcome;
use crate::wire;

impl Host {
    /// The address that the host uses on a link towards `peer`: of the same network if it has one.
    pub(crate) fn address_on(&self, interface: usize, peer: Addr) -> Option<Addr> {
        let on_link = RouteOutcome::Unicast { dev: interface, next_hop: peer, route: None };
        self.implied_source(peer, &on_link)
    }

    pub(crate) fn send_via(
        &mut self,
        dev: usize,
        next_hop: Addr,
        packet: Pending,
        now: Time,
        out: &mut Output,
    ) {
        let mut failed = Vec::new();
        let source = wire::ip_headers(&packet.frame).map(|(_, ip)| ip.src);
        match self.neighbors.resolve((dev, next_hop), packet, now, &mut failed) {
            Resolution::Send { frame, mac, probe } => {
                self.send_to(dev, frame, mac, out);
                if probe {
                    self.solicit(dev, next_hop, source, out);
                }
            }
            Resolution::Wait { probe, overflow } => {
                failed.extend(overflow);
                if probe {
                    self.solicit(dev, next_hop, source, out);
                }
            }
        }
        for _ in failed {
            // Pushed out by newer packets; nobody said that its neighbour is not there.
            self.count(HostDrop::NeighborUnreachable);
        }
    }

    fn send_to(&mut self, dev: usize, mut frame: Frame, mac: Mac, out: &mut Output) {
        if let Some(interface) = self.config.interfaces.get(dev) {
            wire::set_macs(&mut frame, mac, interface.mac);
            self.counters.sent += 1;
            out.push((dev, frame));
        }
    }

    fn send_ready(&mut self, dev: usize, ready: VecDeque<Pending>, mac: Mac, out: &mut Output) {
        for packet in ready {
            self.send_to(dev, packet.frame, mac, out);
        }
    }

    /// Asks who has `addr`, in the name of `source` if that is an address of the interface.
    pub(crate) fn solicit(
        &mut self,
        dev: usize,
        addr: Addr,
        source: Option<Addr>,
        out: &mut Output,
    ) {
        let Some(interface) = self.config.interfaces.get(dev) else {
            return;
        };
        let mac = interface.mac;
        let own = source.filter(|s| interface.addresses.iter().any(|(a, _)| a == s));
        let Some(own) = own.or_else(|| self.address_on(dev, addr)) else {
            return;
        };
        let question = if addr.is_v4() {
            packet::arp_request(mac, own, addr)
        } else {
            packet::neighbor_solicitation(mac, own, addr)
        };
        self.counters.sent += 1;
        out.push((dev, question));
    }

    /// Packets whose neighbour does not answer: an ICMP error to whom they are forwarded for, the
    /// local equivalent to the host's own operations (RFC 1122, 2.3.2.2).
    pub(crate) fn undeliverable(&mut self, packets: Vec<Pending>, now: Time, out: &mut Output) {
        for Pending { frame, ingress } in packets {
            self.count(HostDrop::NeighborUnreachable);
            let Some((headers, ip)) = wire::ip_headers(&frame) else {
                continue;
            };
            if let Some(interface) = ingress {
                let arrival = Arrival { interface, frame: &frame, headers: &headers, ip: &ip };
                self.error_from_ingress(&arrival, IcmpErrorKind::HostUnreachable, now, out);
                continue;
            }
            let (kind, code) = if ip.is_v4() { (3, 1) } else { (1, 3) };
            let report = IcmpReport { from: ip.src, kind, code, mtu: None, local: true };
            let (src_port, dst_port) = ip.ports();
            let seq = match ip.transport {
                Transport::Icmp(icmp) => match icmp.message {
                    IcmpMessage::Query { seq, .. } => seq,
                    _ => continue,
                },
                _ => 0,
            };
            let quoted =
                Quoted { src: ip.src, dst: ip.dst, protocol: ip.protocol, src_port, dst_port, seq };
            self.report_error(&quoted, report, now);
        }
    }

    pub(crate) fn receive_arp(
        &mut self,
        interface: usize,
        headers: &Headers,
        arp: &packet::Arp,
        now: Time,
        out: &mut Output,
    ) {
        let gratuitous = arp.sender == arp.target;
        let for_us = self.is_on(interface, arp.target);
        let probe = arp.sender == Addr::UNSPECIFIED_V4;
        if !probe
            && (martian_source(arp.sender)
                || arp.sender_mac.is_group()
                || self.is_local(arp.sender))
        {
            self.count(HostDrop::Martian);
            return;
        }
        if self.mode == HostMode::Active && !probe && (for_us || gratuitous) {
            // A question creates an entry, because an answer will follow; anything else only
            // updates one (Linux `arp_accept=0`).
            let create = for_us && arp.operation == 1;
            self.learn(interface, arp.sender, arp.sender_mac, create, now, out);
        }
        if !for_us {
            return;
        }
        let mac = self.config.interfaces.get(interface).map(|i| i.mac);
        if arp.operation == 1
            && let Some(reply) = mac.and_then(|mac| packet::arp_reply(headers, mac))
        {
            self.counters.sent += 1;
            out.push((interface, reply));
        }
    }

    pub(crate) fn receive_nd(
        &mut self,
        interface: usize,
        headers: &Headers,
        ip: &Ip,
        message: &IcmpMessage,
        now: Time,
        out: &mut Output,
    ) {
        let active = self.mode == HostMode::Active;
        match *message {
            IcmpMessage::NeighborSolicitation { target, source_mac }
                if self.is_on(interface, target) =>
            {
                if let Some(mac) = source_mac
                    .filter(|_| active && !martian_source(ip.src) && !self.is_local(ip.src))
                {
                    self.learn(interface, ip.src, mac, true, now, out);
                }
                let mac = self.config.interfaces.get(interface).map(|i| i.mac);
                let router = self.config.forwarding;
                let reply =
                    mac.and_then(|mac| packet::neighbor_advertisement(headers, mac, router));
                if let Some(reply) = reply {
                    self.counters.sent += 1;
                    out.push((interface, reply));
                }
            }
            IcmpMessage::NeighborAdvertisement { target, target_mac } if active => {
                if self.is_local(target) {
                    self.count(HostDrop::Martian);
                    return;
                }
                self.learn(
                    interface,
                    target,
                    target_mac.unwrap_or(headers.src_mac),
                    false,
                    now,
                    out,
                );
            }
            _ => {}
        }
    }

    fn learn(
        &mut self,
        interface: usize,
        addr: Addr,
        mac: Mac,
        create: bool,
        now: Time,
        out: &mut Output,
    ) {
        if mac.is_group() || mac == Mac::ZERO {
            self.count(HostDrop::Martian);
            return;
        }
        let mut evicted = Vec::new();
        let ready = self.neighbors.learn((interface, addr), mac, create, now, &mut evicted);
        self.send_ready(interface, ready, mac, out);
        for _ in evicted {
            self.count(HostDrop::NeighborUnreachable);
        }
    }

    /// Whether `addr` is an address of this interface.
    fn is_on(&self, interface: usize, addr: Addr) -> bool {
        self.config
            .interfaces
            .get(interface)
            .is_some_and(|i| i.addresses.iter().any(|(a, _)| *a == addr))
    }
}
