//! Session timers: features.md 4, columns "NSX DFW", "NSX gateway FW" and "NSX LB"; where the balancer's column is empty it has
//! the gateway's (docs/choices.md). The profile `rfc` has one column.

use std::time::Duration;

use definitions::own::TimerProfile;

/// What a conversation is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    TcpFirst,
    TcpOpening,
    TcpEstablished,
    TcpClosing,
    TcpFinWait,
    TcpClosed,
    UdpFirst,
    UdpSingle,
    UdpMultiple,
    IcmpFirst,
}

/// Whose column a memory follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Firewall,
    Gateway,
    Balancer,
}

/// How long something is remembered after the last packet.
pub(crate) fn lifetime(profile: TimerProfile, column: Column, state: State) -> Duration {
    match profile {
        TimerProfile::Nsx => nsx(column, state),
        TimerProfile::Rfc => rfc(state),
    }
}

/// RFC 5382, REQ-5: established 2 hours 4 minutes, transitory 4 minutes; RFC 4787, REQ-5: 5 minutes are recommended; RFC 5508,
/// REQ-2: 60 seconds.
fn rfc(state: State) -> Duration {
    Duration::from_secs(match state {
        State::TcpEstablished => 2 * 3600 + 4 * 60,
        State::TcpFirst
        | State::TcpOpening
        | State::TcpClosing
        | State::TcpFinWait
        | State::TcpClosed => 4 * 60,
        State::UdpFirst | State::UdpSingle | State::UdpMultiple => 5 * 60,
        State::IcmpFirst => 60,
    })
}

fn nsx(column: Column, state: State) -> Duration {
    let (firewall, gateway, balancer) = match state {
        State::TcpFirst => (120, 120, None),
        State::TcpOpening => (30, 30, None),
        State::TcpEstablished => (43_200, 7_200, Some(1_800)),
        State::TcpClosing => (120, 900, None),
        State::TcpFinWait => (45, 4, Some(8)),
        State::TcpClosed => (20, 2, Some(8)),
        State::UdpFirst => (60, 30, Some(300)),
        State::UdpSingle => (30, 30, Some(300)),
        State::UdpMultiple => (60, 30, Some(300)),
        State::IcmpFirst => (20, 6, None),
    };
    Duration::from_secs(match column {
        Column::Firewall => firewall,
        Column::Gateway => gateway,
        Column::Balancer => balancer.unwrap_or(gateway),
    })
}
