//! The axes of the table, the paths that a combination takes, and the combinations that mean nothing.

use crate::lab::{Address, End};

macro_rules! axis {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum $name { $($variant),* }
        impl $name {
            pub const ALL: &[$name] = &[$($name::$variant),*];
            pub fn text(self) -> &'static str {
                match self { $($name::$variant => $text),* }
            }
        }
    };
}

axis! { Family { V4 = "IPv4", V6 = "IPv6" } }
axis! {
    /// How the client addresses the server.
    Way { ClusterIp = "ClusterIP", Vip = "VIP", Hairpin = "hairpin", Direct = "direct", Ingress = "ingress" }
}
axis! { Policy { Allowed = "allowed", Denied = "denied" } }
axis! {
    /// Whether the server sees another source than the client's own.
    Source { Translated = "SNAT", Kept = "no SNAT" }
}
axis! { Size { Whole = "whole", Fragmented = "fragmented" } }
axis! { Protocol { Tcp = "TCP", Udp = "UDP", Error = "ICMP error" } }
axis! {
    /// Which way the packet in question goes.
    Towards { Server = "to server", Client = "to client" }
}

/// One combination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    pub family: Family,
    pub way: Way,
    pub policy: Policy,
    pub source: Source,
    pub size: Size,
    pub protocol: Protocol,
    pub towards: Towards,
}

impl Cell {
    pub fn all() -> Vec<Cell> {
        let mut all = Vec::new();
        for family in Family::ALL.iter().copied() {
            for way in Way::ALL.iter().copied() {
                for policy in Policy::ALL.iter().copied() {
                    for source in Source::ALL.iter().copied() {
                        for size in Size::ALL.iter().copied() {
                            for protocol in Protocol::ALL.iter().copied() {
                                for towards in Towards::ALL.iter().copied() {
                                    all.push(Cell {
                                        family,
                                        way,
                                        policy,
                                        source,
                                        size,
                                        protocol,
                                        towards,
                                    });
                                }
                            }
                        }
                    }
                }
            }
        }
        all
    }

    /// Its value on each axis.
    pub fn texts(self) -> [&'static str; 7] {
        [
            self.family.text(),
            self.way.text(),
            self.policy.text(),
            self.source.text(),
            self.size.text(),
            self.protocol.text(),
            self.towards.text(),
        ]
    }
}

/// Combinations of a way and a source that mean nothing, and why.
pub const MEANINGLESS: [(Way, Source, &str); 3] = [
    (
        Way::Hairpin,
        Source::Kept,
        "the pod would get packets from its own address, which every host discards (RFC 1122, 3.2.1.3); whoever has a \
         hairpin translates its source",
    ),
    (Way::Ingress, Source::Translated, "L7 ingress is not emulated yet"),
    (Way::Ingress, Source::Kept, "L7 ingress is not emulated yet"),
];

/// Where a denied packet is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// At the server's vNIC: to it at `dfw-in`, from it at `dfw-out`.
    Server,
    /// At the client's vNIC: from it at `dfw-out`, to it at `dfw-in`.
    Client,
    /// Nowhere: a pod can never block itself (networking.k8s.io/v1).
    Nobody,
}

/// A way through the lab: who speaks, and the addresses at both ends.
#[derive(Clone, Copy, Debug)]
pub struct Path {
    pub name: &'static str,
    pub way: Way,
    pub source: Source,
    pub client: End,
    pub server: End,
    /// What the client sends to.
    pub to: Address,
    /// The ports that the client sends to, TCP and UDP.
    pub ports: (u16, u16),
    /// The source that the server sees.
    pub from: Address,
    /// Routers on the way.
    pub hops: u8,
    pub guard: Guard,
}

/// The server's own ports, TCP and UDP.
pub const OWN_PORTS: (u16, u16) = (8080, 5353);
const SERVICE_PORTS: (u16, u16) = (80, 53);

/// Every way through the lab.
pub const PATHS: [Path; 11] = [
    Path {
        name: "a pod to another namespace's ClusterIP",
        way: Way::ClusterIp,
        source: Source::Kept,
        client: End::Client,
        server: End::Server,
        to: Address::ClusterIp("blue", "web"),
        ports: SERVICE_PORTS,
        from: Address::Of(End::Client),
        // The Tier-1.
        hops: 1,
        guard: Guard::Server,
    },
    Path {
        name: "a pod to a ClusterIP whose endpoint is outside",
        way: Way::ClusterIp,
        source: Source::Translated,
        client: End::Client,
        server: End::Far,
        to: Address::ClusterIp("red", "far"),
        ports: SERVICE_PORTS,
        from: Address::Snat("red"),
        // Tier-1 and Tier-0.
        hops: 2,
        guard: Guard::Client,
    },
    Path {
        name: "outside to a VIP, automap",
        way: Way::Vip,
        source: Source::Translated,
        client: End::Far,
        server: End::Server,
        to: Address::Vip("blue", "web"),
        ports: SERVICE_PORTS,
        from: Address::Automap,
        hops: 2,
        guard: Guard::Server,
    },
    Path {
        name: "outside to a VIP, transparent",
        way: Way::Vip,
        source: Source::Kept,
        client: End::Far,
        server: End::Server,
        to: Address::Vip("blue", "open"),
        ports: SERVICE_PORTS,
        from: Address::Of(End::Far),
        hops: 2,
        guard: Guard::Server,
    },
    Path {
        name: "a pod to a VIP, automap",
        way: Way::Vip,
        source: Source::Translated,
        client: End::Client,
        server: End::Server,
        to: Address::Vip("blue", "web"),
        ports: SERVICE_PORTS,
        from: Address::Automap,
        hops: 1,
        guard: Guard::Server,
    },
    Path {
        name: "a pod to a VIP, transparent",
        way: Way::Vip,
        source: Source::Kept,
        client: End::Client,
        server: End::Server,
        to: Address::Vip("blue", "open"),
        ports: SERVICE_PORTS,
        from: Address::Of(End::Client),
        hops: 1,
        guard: Guard::Server,
    },
    Path {
        name: "a pod to itself by its ClusterIP",
        way: Way::Hairpin,
        source: Source::Translated,
        client: End::Itself,
        server: End::Itself,
        to: Address::ClusterIp("red", "self"),
        ports: SERVICE_PORTS,
        from: Address::ClusterIp("red", "self"),
        hops: 1,
        guard: Guard::Nobody,
    },
    Path {
        name: "a pod to itself by its VIP, automap",
        way: Way::Hairpin,
        source: Source::Translated,
        client: End::Itself,
        server: End::Itself,
        to: Address::Vip("red", "self"),
        ports: SERVICE_PORTS,
        from: Address::Automap,
        hops: 1,
        guard: Guard::Server,
    },
    Path {
        name: "a pod to outside by its namespace's egress address",
        way: Way::Direct,
        source: Source::Translated,
        client: End::Client,
        server: End::Far,
        to: Address::Of(End::Far),
        ports: OWN_PORTS,
        from: Address::Snat("red"),
        hops: 2,
        guard: Guard::Client,
    },
    Path {
        name: "a pod to a pod",
        way: Way::Direct,
        source: Source::Kept,
        client: End::Client,
        server: End::Server,
        to: Address::Of(End::Server),
        ports: OWN_PORTS,
        from: Address::Of(End::Client),
        hops: 1,
        guard: Guard::Server,
    },
    Path {
        name: "a pod to outside under NO_SNAT",
        way: Way::Direct,
        source: Source::Kept,
        client: End::Client,
        server: End::Partner,
        to: Address::Of(End::Partner),
        ports: OWN_PORTS,
        from: Address::Of(End::Client),
        hops: 2,
        guard: Guard::Client,
    },
];
