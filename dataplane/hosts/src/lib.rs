//! Emulated endpoints: pods, VMs, external hosts and leaf switches that exist only as frames.
//!
//! [`Host`] answers ARP, neighbour solicitations, ping and closed ports by itself; a TCP stack
//! (smoltcp) exists only while it has a connection, so ten thousand hosts are cheap. A host can be
//! asked to ping, connect, send datagrams, get pages and resolve names; see [`operation`]. Frames and
//! time are handed in, frames are handed out, nothing else happens.

mod addresses;
pub mod config;
pub mod dns_forward;
mod forward;
mod host;
mod icmp;
mod lab;
mod link;
pub mod neighbor;
pub mod operation;
pub mod ping_output;
pub mod reassembly;
pub mod routing;
pub mod services;
mod stack;
pub mod tcp;
mod timers;
pub mod udp;
mod wire;

pub use config::{HostConfig, InterfaceConfig, ServiceConfig, ServiceKind, ServiceProtocol};
pub use host::{
    Host, HostCounters, HostDrop, HostMode, MAX_LOOPBACK, MAX_OPERATIONS, MAX_RESULTS, Output,
};
pub use lab::{Delivery, HostSpec, Lab, MAX_FRAMES_PER_MOMENT};
pub use operation::{
    DnsOptions, DnsReply, Failure, HttpReply, IcmpReport, OperationId, OperationResult, PingEvent,
    PingOptions, PingReport, TcpOptions, TcpReply, UdpOptions, UdpReply,
};
pub use routing::{
    PolicyRouting, Prefix, Route, RouteDecision, RouteError, RouteKind, RouteOutcome, Rule,
    RuleResult,
};
pub use services::dns::{DnsAnswer, RecordType, ResponseCode};
pub use services::exchange::{ReadUntil, TcpEnd};
pub use services::http::{Endpoint, HttpResponse};
pub use services::zone::Zone;
