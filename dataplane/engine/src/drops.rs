//! Why a frame was dropped, and where.

use crate::session::RuleKey;
use packet::ParseError;
use std::fmt;

macro_rules! named {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

        impl $name {
            /// All of them, in the order of the published table.
            pub const ALL: &'static [$name] = &[$($name::$variant,)*];

            /// The stable name that counters, packet tests and JSON use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($name::$variant => $text,)* }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }
    };
}

named! {
    /// Why a frame was dropped. Exactly one a frame (promise 6).
    DropReason {
        /// The frame does not parse; [`Drop::parse`] has the cause.
        Malformed = "malformed",
        /// A source MAC that is a group address, all zero, or the gateway's own.
        BadSourceMac = "bad-source-mac",
        /// The vNIC's MAC or address is not the sender's (SpoofGuard).
        SpoofGuard = "spoofguard",
        /// A bridge protocol frame, 01:80:c2:00:00:0x (segment security).
        Bpdu = "bpdu",
        /// A DHCP server's message from a workload (segment security).
        DhcpServer = "dhcp-server",
        /// A DHCP client's message from a workload (segment security).
        DhcpClient = "dhcp-client",
        /// A router advertisement from a workload (segment security).
        RouterAdvertisement = "router-advertisement",
        /// A protocol other than ARP, IPv4 and IPv6 from a workload, where nobody could judge it.
        NonIp = "non-ip",
        /// More broadcasts or multicasts in a second than the vNIC may send or get (segment security).
        RateLimit = "rate-limit",
        /// A VLAN tag where the port is untagged.
        VlanTagged = "vlan-tagged",
        /// The port does not exist, or has gone.
        UnknownPort = "unknown-port",
        /// No station of the segment has the destination MAC.
        UnknownUnicast = "unknown-unicast",
        /// Nobody but the sender is on the segment.
        NoRecipient = "no-recipient",
        /// The frame's destination is the port it came from.
        SamePort = "same-port",
        /// A source or destination that never appears on a wire (RFC 1812, 5.3.7), or both equal.
        Martian = "martian",
        /// IPv4 options or IPv6 extension headers, towards a router.
        Options = "options",
        /// A fragment whose first fragment did not come in time, or was refused.
        Fragment = "fragment",
        /// A fragment that overlaps another, or came twice.
        FragmentOverlap = "fragment-overlap",
        /// Too many fragments wait.
        FragmentLimit = "fragment-limit",
        /// TTL or hop limit used up.
        TtlExpired = "ttl-expired",
        /// More than 16 routed hops inside the lab.
        HopLimit = "hop-limit",
        /// No route to the destination.
        NoRoute = "no-route",
        /// The best route discards.
        Blackhole = "blackhole",
        /// The best route says unreachable.
        UnreachableRoute = "unreachable-route",
        /// Too large for the next link, and must not be fragmented.
        FragmentationNeeded = "fragmentation-needed",
        /// Reverse path check failed.
        Urpf = "urpf",
        /// A private source without a NAT rule that lets it cross the uplink.
        NoNatRule = "no-nat-rule",
        /// From outside to a private address, outside any session.
        PrivateDestination = "private-destination",
        /// A packet that belongs to no session and may not begin one.
        NoSession = "no-session",
        /// A TCP segment that does not begin a connection, where the rule is strict.
        NotSyn = "tcp-not-syn",
        /// TCP flags that no TCP sends (RFC 9293, 3.10): SYN with FIN or RST, FIN with RST, neither SYN,
        /// RST nor ACK.
        TcpFlags = "tcp-flags",
        /// A TCP reset whose sequence number its receiver would not take (RFC 5961, 3).
        TcpWindow = "tcp-window",
        /// An ICMP error about a packet of no session.
        IcmpUnmatched = "icmp-error-unmatched",
        /// An ICMP error whose checksum is wrong (RFC 5508, REQ-3).
        IcmpChecksum = "icmp-checksum",
        /// A rule of the distributed firewall's category Ethernet dropped it.
        EthernetRule = "ethernet-rule",
        /// A firewall rule dropped or rejected it.
        Firewall = "firewall",
        /// The vNIC or gateway has as many half-open connections, flows of the protocol or, a gateway,
        /// translated flows as flood protection lets it.
        FloodProtection = "flood-protection",
        /// A flow that a stateful NAT rule translates, where the gateway's firewall is switched off and
        /// the rule does not bypass it.
        GatewayFirewallDisabled = "gfw-disabled-nat",
        /// The service address has no such port.
        VipNoPort = "vip-no-port",
        /// The virtual server has no member for this client.
        NoMember = "no-member",
        /// The client is outside the virtual server's source ranges.
        SourceRange = "source-range",
        /// Every port of the SNAT address towards this destination is in use.
        NatPortExhausted = "nat-port-exhausted",
        /// The tenant has its share of the session table, all of it in use.
        SessionShare = "session-share",
        /// The session table is full, all of it in use.
        SessionTableFull = "session-table-full",
        /// More stages would remember the flow than a session has room for (8).
        SessionRecords = "session-records",
        /// Two packets of one flow raced, and walking again did not settle it.
        SessionConflict = "session-conflict",
        /// Nothing listens at the router's address.
        RouterClosed = "router-closed-port",
        /// Nobody answered for the next hop.
        NeighborUnresolved = "neighbor-unresolved",
        /// Too many packets wait for the next hop's address.
        NeighborQueueFull = "neighbor-queue-full",
    }
}

named! {
    /// Where in the path a decision was taken.
    Stage {
        /// At the port, before anything else.
        Port = "port",
        /// SpoofGuard and segment security of a vNIC.
        Vnic = "vnic",
        /// Distributed load balancer.
        Dlb = "dlb",
        /// Distributed firewall, from the workload.
        DfwOut = "dfw-out",
        /// Distributed firewall, to the workload.
        DfwIn = "dfw-in",
        /// Switching.
        Segment = "segment",
        /// Server load balancer of a Tier-1.
        T1Lb = "t1-lb",
        /// NAT of a Tier-1.
        T1Nat = "t1-nat",
        /// Firewall of a Tier-1.
        T1Firewall = "t1-firewall",
        /// Forwarding of a Tier-1.
        T1Route = "t1-route",
        /// Reverse path check of a Tier-0.
        T0Urpf = "t0-urpf",
        /// NAT of a Tier-0.
        T0Nat = "t0-nat",
        /// Firewall of a Tier-0.
        T0Firewall = "t0-firewall",
        /// Server load balancer of a Tier-0.
        T0Lb = "t0-lb",
        /// Forwarding of a Tier-0.
        T0Route = "t0-route",
        /// Address resolution of a router.
        Neighbor = "neighbor",
        /// Session table.
        Session = "session",
    }
}

/// A dropped frame's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drop {
    /// Where.
    pub stage: Stage,
    /// Why.
    pub reason: DropReason,
    /// The object that stands there: a port, a segment, a router.
    pub object: String,
    /// The rule responsible, where one is.
    pub rule: Option<RuleKey>,
    /// What was wrong with the bytes, for [`DropReason::Malformed`].
    pub parse: Option<ParseError>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_are_unique() {
        let reasons: BTreeSet<&str> = DropReason::ALL.iter().map(|r| r.name()).collect();
        assert_eq!(reasons.len(), DropReason::ALL.len());
        let stages: BTreeSet<&str> = Stage::ALL.iter().map(|s| s.name()).collect();
        assert_eq!(stages.len(), Stage::ALL.len());
    }
}
