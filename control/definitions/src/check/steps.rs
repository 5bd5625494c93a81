//! Attachment and PacketTest.

use std::collections::BTreeSet;

use super::{Spec, port_exists};
use crate::diagnostic::Subject;
use crate::model::Definitions;
use crate::node::{Fault, Node, excerpt};
use crate::own::{
    AddressExpr, ArpFields, AttachmentSpec, Delete, EmbeddedFields, EthFields, Expect, ExpectTable,
    Handshake, IpFields, MacExpr, NumberExpr, PacketTestSpec, Plug, PortRef, Send, Step, Target,
    is_interface_name, is_variable_name,
};

impl Spec for AttachmentSpec {
    fn check(&mut self, subject: &mut Subject<'_>, at: &Node) {
        match self.plug() {
            None => subject.error(at, "an attachment has exactly one of tap, pcap and interface"),
            Some(Plug::Tap(tap)) => {
                let at = at.at("tap");
                if let Some(name) = tap.name.as_deref().filter(|name| !is_interface_name(name)) {
                    subject.error(
                        at.at("name"),
                        format!("'{}' is not an interface's name", excerpt(name)),
                    );
                }
                // `ip netns` names are file names.
                if let Some(netns) = &tap.netns
                    && (netns.is_empty()
                        || netns.len() > 255
                        || netns.contains(['/', '\0'])
                        || netns == "."
                        || netns == "..")
                {
                    subject.error(
                        at.at("netns"),
                        format!("'{}' is not a network namespace's name", excerpt(netns)),
                    );
                }
                if tap.create_namespace && tap.netns.is_none() {
                    subject
                        .error(at.at("createNamespace"), "createNamespace needs netns, the name");
                }
            }
            Some(Plug::Pcap(pcap)) => {
                if pcap.read.is_none() && pcap.write.is_none() {
                    subject.error(at.at("pcap"), "pcap needs read, write or both");
                }
            }
            Some(Plug::Interface(interface)) => {
                if !is_interface_name(&interface.name) {
                    subject.error(
                        at.at("interface").at("name"),
                        format!("'{}' is not an interface's name", excerpt(&interface.name)),
                    );
                }
            }
        }
    }
}

/// Checks an attachment against the other objects.
pub(super) fn attachment(
    subject: &mut Subject<'_>,
    at: &Node,
    definitions: &Definitions,
    name: &str,
) {
    let Some(attachment) = definitions.attachments.get(name) else {
        return;
    };
    let port = &attachment.spec.port;
    let at = at.at("port");
    if !port_exists(subject, at, definitions, port) {
        return;
    }
    // The one with the smaller name stands; the other is told.
    let resolved = resolve(definitions, port);
    let first = definitions
        .attachments
        .iter()
        .take_while(|(other, _)| other.as_str() < name)
        .find(|(_, other)| resolve(definitions, &other.spec.port) == resolved);
    if let Some((other, _)) = first {
        subject.error(at, format!("port {port} is already attached by Attachment '{other}'"));
    }
}

/// The port with the interface that it means where it names none.
fn resolve(definitions: &Definitions, port: &PortRef) -> PortRef {
    match port {
        PortRef::Host { name, interface: None } => PortRef::Host {
            name: name.clone(),
            interface: definitions
                .external_hosts
                .get(name)
                .and_then(|host| host.spec.interfaces.first())
                .map(|interface| interface.name.clone()),
        },
        PortRef::Vm { name, interface: None } => {
            PortRef::Vm { name: name.clone(), interface: Some("eth1".to_owned()) }
        }
        other => other.clone(),
    }
}

impl Spec for PacketTestSpec {
    fn check(&mut self, subject: &mut Subject<'_>, at: &Node) {
        let at = at.at("steps");
        self.lines = (0..self.steps.len()).map(|index| at.item(index).line).collect();
        if self.steps.is_empty() {
            subject.error(at, "a test needs at least one step");
        }
        let mut saved = BTreeSet::new();
        let mut sent = false;
        let mut syn = false;
        for (index, step) in self.steps.iter().enumerate() {
            let at = at.item(index);
            for name in variables(step) {
                if !saved.contains(name) {
                    subject.fault(
                        Fault::at(at, format!("variable '{name}' is not saved by an earlier step"))
                            .help("an expect saves it: save: {NAME: tcp.src}"),
                    );
                }
            }
            match step {
                Step::Send(send) => {
                    check_send(subject, at.at("send"), send);
                    sent = true;
                    syn = send.tcp.as_ref().is_some_and(|tcp| {
                        tcp.flags.is_none_or(|flags| flags.bits() & 0x12 == 0x02)
                    });
                }
                Step::Expect(expect) => {
                    check_expect(subject, at.at("expect"), expect);
                    saved.extend(expect.save.keys().map(String::as_str));
                }
                Step::ExpectDrop(_) if !sent => {
                    subject.error(at, "expectDrop is about the last send, and there is none");
                }
                Step::Handshake(handshake) => {
                    if handshake.from.is_some() != handshake.to.is_some() {
                        subject.error(at, "a handshake has both from and to, or neither");
                    } else if handshake.from.is_none() && !syn {
                        subject.error(at, "a handshake without from and to completes the SYN of the last send, and there is none");
                    }
                    syn = false;
                }
                Step::Apply(apply) => {
                    if apply.file.is_none() && apply.files.is_empty() && apply.manifests.is_empty()
                    {
                        subject.error(at, "nothing to apply: state file, files or manifests");
                    }
                }
                Step::Delete(delete) => check_delete(subject, at.at("delete"), delete),
                Step::ExpectTable(tables) => check_tables(subject, at.at("expectTable"), tables),
                Step::ExpectDrop(_) | Step::ExpectNothing(_) | Step::Advance(_) => {}
            }
        }
    }
}

fn check_delete(subject: &mut Subject<'_>, at: &Node, delete: &Delete) {
    let files = delete.file.is_some() || !delete.files.is_empty();
    let object = delete.kind.is_some() || delete.name.is_some() || delete.namespace.is_some();
    match (object, files) {
        (true, true) => subject.error(at, "either an object or files are deleted in one step"),
        (true, false) if delete.kind.is_none() || delete.name.is_none() => {
            subject.error(at, "an object is named by kind and name");
        }
        (false, false) => {
            subject.error(at, "nothing to delete: state kind and name, file or files");
        }
        _ => {}
    }
}

fn check_tables(subject: &mut Subject<'_>, at: &Node, tables: &ExpectTable) {
    // Of each row, whether it says how many times over.
    let counts: [(&str, Vec<bool>); 6] = [
        ("sessions", tables.sessions.iter().map(|r| r.absent && r.count.is_some()).collect()),
        ("rules", tables.rules.iter().map(|r| r.absent && r.count.is_some()).collect()),
        ("nat", tables.nat.iter().map(|r| r.absent && r.count.is_some()).collect()),
        ("drops", tables.drops.iter().map(|r| r.absent && r.count.is_some()).collect()),
        ("ports", tables.ports.iter().map(|_| false).collect()),
        ("routes", tables.routes.iter().map(|r| r.absent && r.count.is_some()).collect()),
    ];
    if counts.iter().all(|(_, rows)| rows.is_empty()) {
        subject
            .error(at, "no row is stated; state one of sessions, rules, nat, drops, ports, routes");
    }
    for (table, rows) in counts {
        for (index, _) in rows.iter().enumerate().filter(|(_, twice)| **twice) {
            let row = at.at(table).item(index);
            subject.error(row, "a row is either absent or has a count");
        }
    }
}

fn check_send(subject: &mut Subject<'_>, at: &Node, send: &Send) {
    let layers = [
        ("arp", send.arp.is_some()),
        ("tcp", send.tcp.is_some()),
        ("udp", send.udp.is_some()),
        ("icmp", send.icmp.is_some()),
        ("hex", send.hex.is_some()),
    ];
    let named: Vec<&str> =
        layers.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
    match named.as_slice() {
        [] if send.ip.is_none() => {
            subject.error(at, "nothing to send: state arp, tcp, udp, icmp, ip or hex");
        }
        [] | [_] => {}
        several => subject.error(at, format!("{} cannot be one frame", several.join(" and "))),
    }
    if send.hex.is_some() && (send.eth.is_some() || send.ip.is_some() || send.payload.is_some()) {
        subject.error(at.at("hex"), "hex is the whole frame; leave out the other layers");
    }
    if send.arp.is_some() && send.ip.is_some() {
        subject.error(at.at("ip"), "an ARP frame has no IP header");
    }
    if send.ip.as_ref().is_some_and(|ip| ip.fragment.is_some()) {
        subject.error(at.at("ip"), "a fragment is sent by piece: {offset: 0, length: 16}");
    }
    if let Some(piece) = send.piece {
        if send.hex.is_some() || send.arp.is_some() {
            subject.error(at.at("piece"), "only an IP packet is sent in pieces");
        }
        if !piece.offset.is_multiple_of(8) || piece.length == Some(0) {
            subject.error(
                at.at("piece"),
                "a piece begins at a multiple of 8 octets and is not empty (RFC 791, 3.2)",
            );
        }
    }
    let layer_payload = [
        send.tcp.as_ref().and_then(|l| l.payload.as_ref()),
        send.udp.as_ref().and_then(|l| l.payload.as_ref()),
        send.icmp.as_ref().and_then(|l| l.payload.as_ref()),
    ];
    if send.payload.is_some() && layer_payload.iter().any(Option::is_some) {
        subject.error(at.at("payload"), "payload is stated twice");
    }
    let dst = send.ip.as_ref().is_some_and(|ip| ip.dst.is_some());
    let (layer, to, dport, sport) = match (&send.tcp, &send.udp) {
        (Some(tcp), _) => ("tcp", tcp.to.is_some(), tcp.dport.as_ref(), tcp.sport.as_ref()),
        (_, Some(udp)) => ("udp", udp.to.is_some(), udp.dport.as_ref(), udp.sport.as_ref()),
        _ => {
            if let Some(icmp) = &send.icmp
                && icmp.to.is_some() == dst
            {
                subject.error(at.at("icmp"), "the destination is stated once: icmp.to or ip.dst");
            }
            return;
        }
    };
    let at = at.at(layer);
    if !matches!((to, dst, dport.is_some()), (true, false, false) | (false, true, true)) {
        subject.error(
            at,
            format!("the destination is stated once: {layer}.to, or ip.dst with {layer}.dport"),
        );
    }
    for (field, number) in [("dport", dport), ("sport", sport)] {
        if let Some(NumberExpr::Literal(number)) = number
            && !(1..=65535).contains(number)
        {
            subject.error(at.at(field), format!("port {number} is not in 1..65535"));
        }
    }
}

fn check_expect(subject: &mut Subject<'_>, at: &Node, expect: &Expect) {
    let layers =
        [expect.arp.is_some(), expect.tcp.is_some(), expect.udp.is_some(), expect.icmp.is_some()];
    if layers.iter().filter(|there| **there).count() > 1 {
        subject.error(at, "one frame is only one of arp, tcp, udp and icmp");
    }
    for name in expect.save.keys().filter(|name| !is_variable_name(name)) {
        subject.error(
            at.at("save").at(name),
            format!(
                "'{}' cannot name a variable: letters, digits and '_', not beginning with a digit",
                excerpt(name)
            ),
        );
    }
}

/// Every expression of a step.
#[derive(Default)]
pub(super) struct Expressions<'a> {
    pub addresses: Vec<&'a AddressExpr>,
    pub macs: Vec<&'a MacExpr>,
    pub numbers: Vec<&'a NumberExpr>,
    pub ports: Vec<&'a PortRef>,
}

impl<'a> Expressions<'a> {
    pub fn of(step: &'a Step) -> Expressions<'a> {
        let mut all = Expressions::default();
        match step {
            Step::Send(send) => all.send(send),
            Step::Expect(expect) => all.expect(expect),
            Step::Handshake(Handshake { from, to, sport }) => {
                all.ports.extend(from);
                all.target(to.as_ref());
                all.numbers.extend(sport);
            }
            Step::ExpectNothing(nothing) => all.ports.extend(&nothing.at),
            Step::ExpectTable(tables) => all.tables(tables),
            Step::ExpectDrop(_) | Step::Advance(_) | Step::Apply(_) | Step::Delete(_) => {}
        }
        all
    }

    fn send(&mut self, send: &'a Send) {
        self.ports.push(&send.from);
        self.headers(send.eth.as_ref(), send.arp.as_ref(), send.ip.as_ref());
        if let Some(tcp) = &send.tcp {
            self.target(tcp.to.as_ref());
            self.numbers.extend([&tcp.sport, &tcp.dport, &tcp.seq, &tcp.ack].into_iter().flatten());
        }
        if let Some(udp) = &send.udp {
            self.target(udp.to.as_ref());
            self.numbers.extend([&udp.sport, &udp.dport].into_iter().flatten());
        }
        if let Some(icmp) = &send.icmp {
            self.addresses.extend(&icmp.to);
            self.numbers.extend([&icmp.id, &icmp.seq].into_iter().flatten());
            self.embedded(icmp.embedded.as_ref());
        }
    }

    fn embedded(&mut self, embedded: Option<&'a EmbeddedFields>) {
        if let Some(embedded) = embedded {
            self.addresses.extend([&embedded.src, &embedded.dst].into_iter().flatten());
            self.numbers.extend([&embedded.sport, &embedded.dport].into_iter().flatten());
        }
    }

    fn tables(&mut self, tables: &'a ExpectTable) {
        let sessions = tables.sessions.iter().flat_map(|r| [&r.initiating, &r.terminating]);
        let bindings = tables.nat.iter().flat_map(|r| [&r.before, &r.after]);
        for ends in sessions.chain(bindings).flatten() {
            self.addresses.extend([&ends.src, &ends.dst].into_iter().flatten());
            self.numbers.extend([&ends.sport, &ends.dport].into_iter().flatten());
        }
        self.ports.extend(tables.ports.iter().map(|row| &row.port));
        self.addresses.extend(tables.routes.iter().filter_map(|row| row.via.as_ref()));
    }

    fn expect(&mut self, expect: &'a Expect) {
        self.ports.push(&expect.at);
        self.headers(expect.eth.as_ref(), expect.arp.as_ref(), expect.ip.as_ref());
        if let Some(tcp) = &expect.tcp {
            self.numbers.extend([&tcp.sport, &tcp.dport, &tcp.seq, &tcp.ack].into_iter().flatten());
        }
        if let Some(udp) = &expect.udp {
            self.numbers.extend([&udp.sport, &udp.dport].into_iter().flatten());
        }
        if let Some(icmp) = &expect.icmp {
            self.numbers.extend([&icmp.id, &icmp.seq].into_iter().flatten());
            self.embedded(icmp.embedded.as_ref());
        }
    }

    fn headers(
        &mut self,
        eth: Option<&'a EthFields>,
        arp: Option<&'a ArpFields>,
        ip: Option<&'a IpFields>,
    ) {
        if let Some(eth) = eth {
            self.macs.extend([&eth.src, &eth.dst].into_iter().flatten());
        }
        if let Some(arp) = arp {
            self.macs.extend([&arp.sha, &arp.tha].into_iter().flatten());
            self.addresses.extend([&arp.spa, &arp.tpa].into_iter().flatten());
        }
        if let Some(ip) = ip {
            self.addresses.extend([&ip.src, &ip.dst].into_iter().flatten());
            self.numbers.extend(&ip.id);
        }
    }

    fn target(&mut self, target: Option<&'a Target>) {
        if let Some(target) = target {
            self.addresses.push(&target.address);
            self.numbers.push(&target.port);
        }
    }
}

/// Names of the variables that a step uses, each once, sorted.
fn variables(step: &Step) -> BTreeSet<&str> {
    let all = Expressions::of(step);
    let addresses = all.addresses.into_iter().filter_map(|a| match a {
        AddressExpr::Variable(name) => Some(name.as_str()),
        _ => None,
    });
    let macs = all.macs.into_iter().filter_map(|m| match m {
        MacExpr::Variable(name) => Some(name.as_str()),
        _ => None,
    });
    let numbers = all.numbers.into_iter().filter_map(|n| match n {
        NumberExpr::Variable { name, .. } => Some(name.as_str()),
        NumberExpr::Literal(_) => None,
    });
    addresses.chain(macs).chain(numbers).collect()
}
