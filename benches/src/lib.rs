//! What the benchmarks share: the lab of the source articles, and flows through its whole chain.
#![allow(clippy::expect_used, reason = "a benchmark that cannot run should say why and stop")]

use definitions::Input;
use engine::network::{
    Action, AddressSet, Category, Direction, Network, Rule, Service, ServicePorts,
};
use hosts::generator::Ends;
use realization::{Allocations, Realized};
use std::path::{Path, PathBuf};

/// Where the lab is defined.
#[must_use]
pub fn supervisor_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../topologies/supervisor")
}

/// The lab of the source articles.
///
/// # Panics
/// If its definitions are wrong.
#[must_use]
pub fn supervisor() -> Realized {
    let loaded = definitions::load(&[Input::Path(supervisor_path())]).expect("the lab loads");
    realization::realize(&loaded.definitions, &Allocations::default()).expect("the lab is realized")
}

/// Its network, ready for a worker.
#[must_use]
pub fn network(realized: &Realized) -> Network {
    let mut network = realized.network.clone();
    network.epoch = 1;
    network.seed = 7;
    network
}

/// A pod of it and a client outside: between them are firewall, SNAT, both gateways and ECMP.
///
/// # Panics
/// If the lab has them no more.
#[must_use]
pub fn ends(realized: &Realized) -> Ends {
    let (_, teller) = realized.names.port("pod/banking/teller").expect("the lab's pod");
    let (_, client) = realized.names.port("host/client").expect("the lab's client");
    let address =
        |place: &realization::names::Place| place.addresses.first().copied().expect("an address");
    Ends {
        inside: (teller.port, teller.mac, address(teller)),
        gateway: packet::Mac([0x02, 0x50, 0x56, 0x56, 0x44, 0x52]),
        outside: address(client),
    }
}

/// A network with `count` rules before its own that match nothing of the flow: each has a destination of
/// its own, every second one a port too.
///
/// # Panics
/// Beyond 2^32 rules.
#[must_use]
pub fn with_rules(net: &Network, count: u32) -> Network {
    let mut net = net.clone();
    let own = u32::try_from(net.firewall.rules.len()).expect("a few rules");
    let tcp = |port: u16| Service {
        protocol: packet::protocol::TCP,
        ports: ServicePorts::Destination(vec![(port, port)]),
    };
    for i in 0..count {
        // Of the network for benchmarks (RFC 2544, C.2.2).
        let none = packet::Addr::v4(0xc612_0000 + i % 0x2_0000);
        net.firewall.rules.push(Rule {
            id: 100_000 + i,
            name: format!("bench-{i}"),
            section: "bench".into(),
            origin: "bench".into(),
            category: Category::Application,
            direction: Direction::Out,
            source: AddressSet::any(),
            source_text: "any".into(),
            destination: AddressSet::from_ranges([(none, none)]),
            destination_text: none.to_string(),
            services: if i % 2 == 0 { Vec::new() } else { vec![tcp((i % 60_000) as u16)] },
            strict: true,
            applied_to_text: "all".into(),
            action: Action::Drop,
        });
    }
    for vnic in net.ports.iter_mut().filter_map(|p| p.vnic.as_mut()) {
        vnic.rules_out = (own..own + count).chain(vnic.rules_out.iter().copied()).collect();
    }
    net
}
