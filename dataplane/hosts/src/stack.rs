//! The TCP stack of one connection: a smoltcp interface with one address, one socket, and what runs
//! on it.
//!
//! smoltcp is pure as the host is: packets and time in, packets out.

use std::time::Duration;

use packet::{Addr, ETHERTYPE_IPV4, ETHERTYPE_IPV6, Frame, Time};
use smoltcp::iface::{Config, Interface, SocketHandle, SocketSet};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::socket::tcp::{Socket, SocketBuffer, State};
use smoltcp::time::Instant;
use smoltcp::wire::{HardwareAddress, IpCidr, IpEndpoint};

use crate::operation::{Failure, OperationId, TcpReply};
use crate::services::echo::{Discard, Echo};
use crate::services::exchange::{Exchange, TcpEnd};
use crate::services::http::Endpoint;
use crate::services::talk::Talk;
use crate::services::{Application, dns, http};
use crate::tcp::{BUFFER, ConnectionKey, HALF_OPEN_TIMEOUT, IDLE_TIMEOUT};

/// Octets of an untagged Ethernet header.
const ETHERNET: usize = 14;

/// One packet in, any number out.
struct Wire {
    mtu: u32,
    input: Option<Vec<u8>>,
    output: Vec<Vec<u8>>,
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sent<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sent<'_> {
    /// Leaves room for the Ethernet header in front, so that the packet becomes a frame in place.
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut bytes = vec![0; ETHERNET + len];
        let (_, packet) = bytes.split_at_mut(ETHERNET);
        let result = f(packet);
        self.0.push(bytes);
        result
    }
}

impl Device for Wire {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sent<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sent<'_>)> {
        let packet = self.input.take()?;
        Some((Received(packet), Sent(&mut self.output)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sent<'_>> {
        Some(Sent(&mut self.output))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu as usize;
        capabilities
    }
}

/// What runs on a connection.
pub(crate) enum App {
    Echo(Echo),
    Discard(Discard),
    Http(http::Server),
    Talk(Talk),
    Dns(dns::Server),
    Exchange(Exchange),
}

impl App {
    fn step(&mut self, socket: &mut Socket<'_>) -> bool {
        match self {
            App::Echo(a) => a.step(socket),
            App::Discard(a) => a.step(socket),
            App::Http(a) => a.step(socket),
            App::Talk(a) => a.step(socket),
            App::Dns(a) => a.step(socket),
            App::Exchange(a) => a.step(socket),
        }
    }
}

/// One connection with its stack.
pub(crate) struct Connection {
    wire: Wire,
    interface: Interface,
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    app: App,
    local: Addr,
    seed: u64,
    /// The device it is bound to.
    pub bound: Option<usize>,
    /// Whom to tell how it went.
    pub operation: Option<OperationId>,
    pub established: bool,
    /// Whether it was a reset that ended it.
    pub reset_by_peer: bool,
}

fn instant(now: Time) -> Instant {
    Instant::from_micros(i64::try_from(now.0 / 1000).unwrap_or(i64::MAX))
}

fn seconds(duration: Duration) -> smoltcp::time::Duration {
    smoltcp::time::Duration::from_secs(duration.as_secs())
}

fn endpoint(endpoint: Endpoint) -> IpEndpoint {
    IpEndpoint::new(endpoint.addr.to_ip().into(), endpoint.port)
}

/// A stack with one address, whose link reaches everything.
fn stack(wire: &mut Wire, local: Addr, seed: u64, now: Time) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = seed;
    let mut interface = Interface::new(config, wire, instant(now));
    interface.update_ip_addrs(|addresses| {
        // The list is empty and its capacity at least 1.
        let _ = addresses.push(IpCidr::new(local.to_ip().into(), 0));
    });
    interface
}

impl Connection {
    pub(crate) fn new(
        key: ConnectionKey,
        app: App,
        mtu: u32,
        ttl: u8,
        seed: u64,
        now: Time,
    ) -> Connection {
        let buffer = || SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = Socket::new(buffer(), buffer());
        socket.set_hop_limit(Some(ttl.max(1)));
        // Acknowledge and send at once: a lab's exchange then needs no passing of time.
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(seconds(HALF_OPEN_TIMEOUT)));
        let mut wire = Wire { mtu, input: None, output: Vec::new() };
        let interface = stack(&mut wire, key.local.addr, seed, now);
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        Connection {
            wire,
            interface,
            sockets,
            handle,
            app,
            local: key.local.addr,
            seed,
            bound: None,
            operation: None,
            established: false,
            reset_by_peer: false,
        }
    }

    /// Hands in a packet; [`Connection::run`] works on it.
    pub(crate) fn input(&mut self, packet: &[u8]) {
        self.wire.input = Some(packet.to_vec());
    }

    /// Waits for the peer's SYN, which is to come next. `false` if that cannot be.
    pub(crate) fn listen(&mut self, local: Endpoint) -> bool {
        self.socket().listen(endpoint(local)).is_ok()
    }

    /// Begins to connect. `false` if the address or port is none.
    pub(crate) fn connect(&mut self, key: &ConnectionKey) -> bool {
        let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
        let (remote, local) = (endpoint(key.remote), endpoint(key.local));
        socket.connect(self.interface.context(), remote, local).is_ok()
    }

    pub(crate) fn socket(&mut self) -> &mut Socket<'static> {
        self.sockets.get_mut(self.handle)
    }

    /// Lets the stack and the application work until neither has anything left to do now.
    pub(crate) fn run(&mut self, now: Time) -> Vec<Frame> {
        loop {
            self.interface.poll(instant(now), &mut self.wire, &mut self.sockets);
            let socket = self.sockets.get_mut::<Socket<'_>>(self.handle);
            if !self.established && matches!(socket.state(), State::Established | State::CloseWait)
            {
                self.established = true;
                socket.set_timeout(Some(seconds(IDLE_TIMEOUT)));
            }
            if !self.app.step(socket) {
                break;
            }
        }
        std::mem::take(&mut self.wire.output).into_iter().map(frame_of).collect()
    }

    /// When the stack wants to work again.
    pub(crate) fn next(&mut self, now: Time) -> Option<Time> {
        let at = self.interface.poll_at(instant(now), &self.sockets)?;
        let at = Time(u64::try_from(at.total_micros()).unwrap_or(0).saturating_mul(1000));
        // "Now" just after it has worked means that it waits for something else; look again soon.
        Some(if at > now { at } else { now + Duration::from_millis(1) })
    }

    /// A lower path MTU (RFC 1191, RFC 8201). smoltcp fixes the MTU with the interface, so that is
    /// made anew; the connection lives in the socket and retransmits in smaller segments.
    pub(crate) fn lower_mtu(&mut self, mtu: u32, now: Time) {
        // Below the minimum every path takes (RFC 791 with room for headers; RFC 8200).
        let floor = if self.local.is_v4() { 552 } else { 1280 };
        let mtu = mtu.max(floor);
        if mtu < self.wire.mtu {
            self.wire.mtu = mtu;
            self.interface = stack(&mut self.wire, self.local, self.seed, now);
        }
    }

    /// What the connection's operation is to be told, once there is something to tell.
    pub(crate) fn verdict(&mut self, key: &ConnectionKey) -> Option<Result<TcpReply, Failure>> {
        let closed = self.socket().state() == State::Closed;
        let reset = self.reset_by_peer;
        let App::Exchange(exchange) = &mut self.app else {
            return None;
        };
        let end = match exchange.end {
            Some(end) => end,
            None if !closed => return None,
            None if exchange.connected && reset => TcpEnd::Reset,
            None if exchange.connected => TcpEnd::TimedOut,
            None if reset => {
                return Some(Err(Failure::Refused { from: key.remote.addr }));
            }
            None => return Some(Err(Failure::Timeout)),
        };
        Some(Ok(TcpReply {
            local: key.local,
            remote: key.remote,
            data: std::mem::take(&mut exchange.received),
            end,
        }))
    }
}

fn frame_of(mut bytes: Vec<u8>) -> Frame {
    let version = bytes.get(ETHERNET).map_or(0, |b| b >> 4);
    let ether_type = if version == 4 { ETHERTYPE_IPV4 } else { ETHERTYPE_IPV6 };
    if let Some(field) = bytes.get_mut(12..14) {
        field.copy_from_slice(&ether_type.to_be_bytes());
    }
    Frame::new(bytes)
}
