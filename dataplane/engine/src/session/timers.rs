//! Session timers.
//!
//! Profile `nsx` has the values of NSX's session timer profiles (features.md 4): the distributed
//! firewall, the gateway and the load balancer differ, and every stage record of a session expires
//! by its own. Profile `rfc` has the minimums of RFC 4787, 5382 and 5508 everywhere.

use std::fmt;
use std::time::Duration;

/// Which column of the timer table a stage record follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerClass {
    /// Distributed firewall.
    Dfw,
    /// Gateway firewall and NAT.
    Gateway,
    /// Load balancer, server and distributed.
    Balancer,
}

/// What a session is doing, as the timers see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimerState {
    /// SYN seen.
    TcpFirst,
    /// SYN answered.
    TcpOpening,
    /// Handshake complete.
    TcpEstablished,
    /// One FIN seen.
    TcpClosing,
    /// Both FINs seen.
    TcpFinWait,
    /// RST seen.
    TcpClosed,
    /// One datagram, one direction. Also protocols without ports.
    UdpFirst,
    /// Several datagrams, one direction.
    UdpSingle,
    /// Both directions.
    UdpMultiple,
    /// Query, answered or not.
    IcmpFirst,
}

impl TimerState {
    /// All states, in the order of the published table.
    pub const ALL: [TimerState; 10] = [
        TimerState::TcpFirst,
        TimerState::TcpOpening,
        TimerState::TcpEstablished,
        TimerState::TcpClosing,
        TimerState::TcpFinWait,
        TimerState::TcpClosed,
        TimerState::UdpFirst,
        TimerState::UdpSingle,
        TimerState::UdpMultiple,
        TimerState::IcmpFirst,
    ];
}

impl TimerState {
    /// Whether a session in this state makes room for a new one when the table is full: nobody has
    /// answered yet, or the connection is ending. An established session never does.
    #[must_use]
    pub fn is_expendable(self) -> bool {
        !matches!(self, TimerState::TcpEstablished | TimerState::UdpMultiple)
    }
}

impl fmt::Display for TimerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            TimerState::TcpFirst => "tcp-first",
            TimerState::TcpOpening => "tcp-opening",
            TimerState::TcpEstablished => "tcp-established",
            TimerState::TcpClosing => "tcp-closing",
            TimerState::TcpFinWait => "tcp-fin-wait",
            TimerState::TcpClosed => "tcp-closed",
            TimerState::UdpFirst => "udp-first",
            TimerState::UdpSingle => "udp-single",
            TimerState::UdpMultiple => "udp-multiple",
            TimerState::IcmpFirst => "icmp-first",
        })
    }
}

/// A named set of timers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TimerProfile {
    /// NSX's defaults.
    #[default]
    Nsx,
    /// The minimums of RFC 4787 (UDP), RFC 5382 (TCP) and RFC 5508 (ICMP).
    Rfc,
}

/// Times that were set in the place of a profile's, as NSX's session timer profiles allow for the
/// distributed firewall and the gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimerOverrides {
    /// Seconds, by [`TimerState::ALL`]'s order.
    dfw: [Option<u32>; TimerState::ALL.len()],
    gateway: [Option<u32>; TimerState::ALL.len()],
}

impl TimerOverrides {
    /// Sets a timer of `class`, in seconds. The load balancer has none to set.
    pub fn set(&mut self, class: TimerClass, state: TimerState, seconds: u32) {
        let times = match class {
            TimerClass::Dfw => &mut self.dfw,
            TimerClass::Gateway => &mut self.gateway,
            TimerClass::Balancer => return,
        };
        if let Some(time) = times.get_mut(state as usize) {
            *time = Some(seconds);
        }
    }

    fn get(&self, class: TimerClass, state: TimerState) -> Option<u32> {
        let times = match class {
            TimerClass::Dfw => &self.dfw,
            TimerClass::Gateway => &self.gateway,
            TimerClass::Balancer => return None,
        };
        times.get(state as usize).copied().flatten()
    }
}

/// Timers and limits of the session table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimerSettings {
    /// Which timers.
    pub profile: TimerProfile,
    /// What is set in the place of the profile's.
    pub overrides: TimerOverrides,
    /// Most sessions at a time. Beyond it a new one takes the place of one that is expendable
    /// ([`TimerState::is_expendable`]), or is dropped.
    pub max_sessions: usize,
    /// Most sessions at a time of one tenant (a namespace).
    pub max_tenant_sessions: usize,
    /// A learned station is forgotten after this long without a frame from it.
    pub mac_age: Duration,
    /// A resolved neighbour is asked again after this long.
    pub neighbor_age: Duration,
}

impl Default for TimerSettings {
    fn default() -> TimerSettings {
        TimerSettings {
            profile: TimerProfile::Nsx,
            overrides: TimerOverrides::default(),
            max_sessions: 16_777_216,
            max_tenant_sessions: 4_194_304,
            mac_age: Duration::from_secs(300),
            neighbor_age: Duration::from_secs(1200),
        }
    }
}

impl TimerSettings {
    /// How long a record of `class` outlives the last packet of a session in `state`.
    #[must_use]
    pub fn timeout(&self, class: TimerClass, state: TimerState) -> Duration {
        let set = self.overrides.get(class, state).map(u64::from);
        Duration::from_secs(set.unwrap_or_else(|| match self.profile {
            TimerProfile::Nsx => nsx(class, state),
            TimerProfile::Rfc => rfc(state),
        }))
    }
}

/// Seconds; features.md 4, columns NSX DFW, NSX gateway FW, NSX LB. The load balancer's profiles
/// name only idle and close times: half-open connections there follow the gateway. NSX's "ICMP error
/// reply" has no counterpart: an error neither refreshes nor ends a session (RFC 5508, REQ-10).
fn nsx(class: TimerClass, state: TimerState) -> u64 {
    let (dfw, gateway, balancer) = match state {
        TimerState::TcpFirst => (120, 120, 120),
        TimerState::TcpOpening => (30, 30, 30),
        TimerState::TcpEstablished => (43_200, 7_200, 1_800),
        TimerState::TcpClosing => (120, 900, 900),
        TimerState::TcpFinWait => (45, 4, 8),
        TimerState::TcpClosed => (20, 2, 8),
        TimerState::UdpFirst => (60, 30, 300),
        TimerState::UdpSingle => (30, 30, 300),
        TimerState::UdpMultiple => (60, 30, 300),
        TimerState::IcmpFirst => (20, 6, 6),
    };
    match class {
        TimerClass::Dfw => dfw,
        TimerClass::Gateway => gateway,
        TimerClass::Balancer => balancer,
    }
}

/// Seconds: RFC 5382 REQ-5 (established 2 h 04 min, transitory 4 min), RFC 4787 REQ-5 (5 min
/// recommended), RFC 5508 REQ-2 (60 s).
fn rfc(state: TimerState) -> u64 {
    match state {
        TimerState::TcpEstablished => 7_440,
        TimerState::TcpFirst
        | TimerState::TcpOpening
        | TimerState::TcpClosing
        | TimerState::TcpFinWait
        | TimerState::TcpClosed => 240,
        TimerState::UdpFirst | TimerState::UdpSingle | TimerState::UdpMultiple => 300,
        TimerState::IcmpFirst => 60,
    }
}
