//! Every cell of both timer profiles, in virtual time: alive one second before, gone one second after.
//! Seconds are those of features.md 4 (profile `nsx`: columns NSX DFW, NSX gateway FW, NSX LB) and of
//! RFC 5382 REQ-5, RFC 4787 REQ-5 and RFC 5508 REQ-2 (profile `rfc`).
//!
//! The load balancer's column has no handshake and no ICMP timers (`–`): there it follows the gateway.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{RecordKind, TimerClass, TimerOverrides, TimerProfile, TimerState};
use fixture::lab::*;
use fixture::*;
use packet::{FrameBuilder, Time, tcp_flags::*};
use std::time::Duration;

/// State; seconds in the distributed firewall, at the gateway, in the load balancer; by RFC.
#[rustfmt::skip]
const CELLS: [(TimerState, [u64; 3], u64); 10] = [
    (TimerState::TcpFirst,       [   120,   120,   120],   240),
    (TimerState::TcpOpening,     [    30,    30,    30],   240),
    (TimerState::TcpEstablished, [43_200, 7_200, 1_800], 7_440),
    (TimerState::TcpClosing,     [   120,   900,   900],   240),
    (TimerState::TcpFinWait,     [    45,     4,     8],   240),
    (TimerState::TcpClosed,      [    20,     2,     8],   240),
    (TimerState::UdpFirst,       [    60,    30,   300],   300),
    (TimerState::UdpSingle,      [    30,    30,   300],   300),
    (TimerState::UdpMultiple,    [    60,    30,   300],   300),
    (TimerState::IcmpFirst,      [    20,     6,     6],    60),
];

/// Which stages remember the connection beside the distributed firewall: the pairs that one session can have.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Pair {
    /// Out through SNAT: the gateway.
    Gateway,
    /// To a ClusterIP: the distributed load balancer; the firewall at both ends.
    DistributedBalancer,
    /// From outside to a VIP: the server load balancer.
    ServerBalancer,
}
const PAIRS: [Pair; 3] = [Pair::Gateway, Pair::DistributedBalancer, Pair::ServerBalancer];

impl Pair {
    fn client(self) -> &'static str {
        match self {
            Pair::Gateway | Pair::DistributedBalancer => C,
            Pair::ServerBalancer => H1,
        }
    }

    fn target(self) -> &'static str {
        match self {
            Pair::Gateway => H1,
            Pair::DistributedBalancer => CLUSTER,
            Pair::ServerBalancer => VIP,
        }
    }

    /// Which of the columns it has.
    fn other(self) -> TimerClass {
        match self {
            Pair::Gateway => TimerClass::Gateway,
            _ => TimerClass::Balancer,
        }
    }
}

fn class(kind: RecordKind) -> TimerClass {
    match kind {
        RecordKind::Firewall { .. } => TimerClass::Dfw,
        RecordKind::Nat { .. } | RecordKind::Untranslated => TimerClass::Gateway,
        RecordKind::Balancer { .. } | RecordKind::SourcePort => TimerClass::Balancer,
    }
}

struct Flow {
    b: Bench,
    pair: Pair,
}

impl Flow {
    fn new(pair: Pair, profile: TimerProfile, cache: bool) -> Flow {
        let mut net = balanced(PoolSnat::Automap(ip(AUTO)));
        let one = [member(A, 53, Some(0))];
        cluster_ips(
            &mut net,
            [6, 17].map(|p| server(CLUSTER, p, 53, &one, PoolSnat::Transparent)).to_vec(),
        );
        vips(
            &mut net,
            [6, 17].map(|p| server(VIP, p, 53, &one, PoolSnat::Automap(ip(AUTO)))).to_vec(),
        );
        net.timers.profile = profile;
        let mut b = Bench::with_cache(net, cache);
        b.introduce_all();
        // Neighbours and stations must outlive every timer here.
        b.net.timers.mac_age = Duration::from_secs(100_000);
        b.net.timers.neighbor_age = Duration::from_secs(100_000);
        b.introduce_all();
        Flow { b, pair }
    }

    /// The client's packet; then the responder's answer to what came out, turned around.
    fn exchange(
        &mut self,
        request: FrameBuilder,
        answer: Option<&dyn Fn(FrameBuilder, (u16, u16)) -> FrameBuilder>,
    ) {
        let tx = self.b.go(self.pair.client(), request);
        let [(port, frame)] = &tx[..] else {
            panic!("{:?}: {:?}", self.pair, self.b.worker.drops())
        };
        let Some(answer) = answer else { return };
        let h = headers(frame);
        let ip4 = h.ip().unwrap();
        let (s, d) = ip4.ports();
        let reply = FrameBuilder::new(ip4.dst, ip4.src).macs(h.dst_mac, h.src_mac);
        let tx = self.b.send(*port, answer(reply, (d, s)).build());
        assert_eq!(tx.len(), 1, "{:?} {:?}", self.pair, lines(&tx));
    }

    fn tcp(&self, flags: u8, seq: u32) -> FrameBuilder {
        let f = from(self.pair.client(), self.pair.target()).tcp(4000, 53, flags).seq(seq);
        if flags & ACK == 0 { f } else { f.ack(1) }
    }

    fn udp(&self) -> FrameBuilder {
        from(self.pair.client(), self.pair.target()).udp(4000, 53)
    }

    /// Brings the session into a state; its last packet is of this moment.
    fn enter(&mut self, state: TimerState) {
        let first = self.tcp(SYN, 0);
        let handshake = |f: &mut Flow| {
            f.exchange(first, Some(&|r, (s, d)| r.tcp(s, d, SYN | ACK).seq(0).ack(1)));
            f.exchange(f.tcp(ACK, 1), None);
            f.exchange(f.tcp(ACK, 1), None);
        };
        match state {
            TimerState::TcpFirst => self.exchange(self.tcp(SYN, 0), None),
            TimerState::TcpOpening => {
                self.exchange(
                    self.tcp(SYN, 0),
                    Some(&|r, (s, d)| r.tcp(s, d, SYN | ACK).seq(0).ack(1)),
                );
            }
            TimerState::TcpEstablished => handshake(self),
            TimerState::TcpClosing => {
                handshake(self);
                self.exchange(self.tcp(FIN | ACK, 1), None);
            }
            TimerState::TcpFinWait => {
                handshake(self);
                self.exchange(
                    self.tcp(FIN | ACK, 1),
                    Some(&|r, (s, d)| r.tcp(s, d, FIN | ACK).seq(1).ack(2)),
                );
            }
            TimerState::TcpClosed => {
                handshake(self);
                self.exchange(self.tcp(RST | ACK, 1), None);
            }
            TimerState::UdpFirst => self.exchange(self.udp(), None),
            TimerState::UdpSingle => {
                self.exchange(self.udp(), None);
                self.exchange(self.udp(), None);
                self.exchange(self.udp(), None);
            }
            TimerState::UdpMultiple => {
                self.exchange(self.udp(), Some(&|r, (s, d)| r.udp(s, d)));
            }
            TimerState::IcmpFirst => {
                let ping = from(self.pair.client(), self.pair.target()).echo_request(4000, 1);
                self.exchange(ping, None);
            }
        }
        let sessions = self.b.worker.sessions();
        assert_eq!(sessions.len(), 1);
        assert_eq!(sessions[0].progress.timer_state(), state, "{:?}", self.pair);
    }

    /// Columns of which some record lives.
    fn alive(&mut self) -> Vec<TimerClass> {
        let sessions = self.b.worker.sessions();
        let mut classes: Vec<TimerClass> =
            sessions.iter().flat_map(|s| &s.records).map(|r| class(r.kind)).collect();
        classes.sort();
        classes.dedup();
        classes
    }
}

/// Balancers answer pings themselves: no session of theirs has the ICMP timer.
fn possible(pair: Pair, state: TimerState) -> bool {
    state != TimerState::IcmpFirst || pair == Pair::Gateway
}

fn seconds(cell: &[u64; 3], class: TimerClass) -> u64 {
    match class {
        TimerClass::Dfw => cell[0],
        TimerClass::Gateway => cell[1],
        TimerClass::Balancer => cell[2],
    }
}

#[test]
fn the_settings_have_the_published_values() {
    for (state, nsx, rfc) in CELLS {
        for class in [TimerClass::Dfw, TimerClass::Gateway, TimerClass::Balancer] {
            let mut timers = engine::TimerSettings::default();
            assert_eq!(
                timers.timeout(class, state),
                Duration::from_secs(seconds(&nsx, class)),
                "{state}"
            );
            timers.profile = TimerProfile::Rfc;
            assert_eq!(timers.timeout(class, state), Duration::from_secs(rfc), "{state}");
        }
    }
    assert_eq!(CELLS.map(|(state, ..)| state), TimerState::ALL);
}

#[test]
fn each_stage_forgets_by_its_own_timer() {
    for cache in [true, false] {
        for pair in PAIRS {
            for (state, nsx, rfc) in CELLS.into_iter().filter(|(state, ..)| possible(pair, *state))
            {
                for (profile, cell) in [(TimerProfile::Nsx, nsx), (TimerProfile::Rfc, [rfc; 3])] {
                    let mut f = Flow::new(pair, profile, cache);
                    f.enter(state);
                    let begun = f.b.now;
                    let mut classes = [TimerClass::Dfw, pair.other()];
                    classes.sort_by_key(|class| seconds(&cell, *class));
                    for class in classes {
                        let what = format!("{pair:?} {profile:?} {state} {class:?} cache {cache}");
                        let at = begun + Duration::from_secs(seconds(&cell, class));
                        f.b.advance(Time(at.0 - 1_000_000_000));
                        assert!(f.alive().contains(&class), "{what}: gone too early");
                        f.b.advance(at + Duration::from_secs(1));
                        assert!(!f.alive().contains(&class), "{what}: there too long");
                        if seconds(&cell, classes[0]) + 1 >= seconds(&cell, classes[1]) {
                            break;
                        }
                    }
                    f.b.advance(begun + Duration::from_secs(43_201));
                    assert!(f.b.worker.sessions().is_empty());
                }
            }
        }
    }
}

#[test]
fn what_each_profile_means_to_a_connection_after_three_hours() {
    // features.md 4: an idle flow of 3 h survives the firewall and has lost its SNAT binding.
    let reply = |b: &mut Bench| {
        !b.go(H1, from(H1, "172.16.2.2").tcp(53, 4000, ACK).seq(1).ack(1)).is_empty()
    };
    for (profile, after, answered) in [
        (TimerProfile::Nsx, 7_199, true),
        (TimerProfile::Nsx, 7_201, false),
        (TimerProfile::Rfc, 7_439, true),
        (TimerProfile::Rfc, 7_441, false),
    ] {
        let mut f = Flow::new(Pair::Gateway, profile, true);
        f.enter(TimerState::TcpEstablished);
        f.b.advance(f.b.now + Duration::from_secs(after));
        assert_eq!(reply(&mut f.b), answered, "{profile:?} after {after} s");
    }
}

#[test]
fn a_set_timer_takes_the_place_of_the_profiles() {
    let mut overrides = TimerOverrides::default();
    overrides.set(TimerClass::Gateway, TimerState::UdpSingle, 600);
    overrides.set(TimerClass::Balancer, TimerState::UdpSingle, 1);
    for profile in [TimerProfile::Nsx, TimerProfile::Rfc] {
        let timers =
            engine::TimerSettings { profile, overrides, ..engine::TimerSettings::default() };
        let plain = engine::TimerSettings { profile, ..engine::TimerSettings::default() };
        for state in TimerState::ALL {
            for class in [TimerClass::Dfw, TimerClass::Gateway, TimerClass::Balancer] {
                let set = class == TimerClass::Gateway && state == TimerState::UdpSingle;
                let expected =
                    if set { Duration::from_secs(600) } else { plain.timeout(class, state) };
                assert_eq!(timers.timeout(class, state), expected);
            }
        }
    }
}

#[test]
fn timers_that_become_shorter_hold_for_sessions_that_are_there() {
    for cache in [true, false] {
        let mut f = Flow::new(Pair::Gateway, TimerProfile::Nsx, cache);
        f.enter(TimerState::TcpEstablished);
        f.b.net.epoch += 1;
        f.b.net.timers.overrides.set(TimerClass::Dfw, TimerState::TcpEstablished, 120);
        f.b.net.timers.overrides.set(TimerClass::Gateway, TimerState::TcpEstablished, 300);
        f.b.advance(Time::from_secs(119));
        assert_eq!(f.alive(), [TimerClass::Dfw, TimerClass::Gateway]);
        f.b.advance(Time::from_secs(121));
        assert_eq!(f.alive(), [TimerClass::Gateway]);
        f.b.advance(Time::from_secs(301));
        assert!(f.alive().is_empty());
    }
}
