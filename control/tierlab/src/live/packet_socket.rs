//! An interface that exists, by a packet socket (packet(7)).
//!
//! For an interface that is the lab's alone: a network card on a test bench, one end of a veth pair.
//! The socket hears what arrives there and sends there; the interface keeps its configuration. It
//! goes with its descriptor, so that nothing is left behind.
//!
//! Unlike a TAP it says nothing of offloads: a peer on this machine must finish its checksums itself
//! (`ethtool -K PEER tx off`), and a card must not merge segments (`ethtool -K IF gro off lro off`).
//!
//! pnet binds the socket and turns on promiscuous mode; frames are read and written here, because
//! its channels cannot be waited for together with others.

use crate::exit::Error;
use packet::{Frame, Mac};
use pnet_datalink::{Config, NetworkInterface};
use ports::{InterfaceName, MAX_FRAME_LEN, wire_frames};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd, OwnedFd};

/// Frames passed over by one call of [`PacketSocket::recv`], so that a flood of them cannot hold up
/// the caller.
const PASSED_OVER_A_CALL: usize = 64;

/// A packet socket on one interface. Reads and writes never wait.
#[derive(Debug)]
pub struct PacketSocket {
    socket: OwnedFd,
    /// The interface's own address: frames from it were sent by this machine, not received.
    own: Option<Mac>,
    scratch: Vec<u8>,
    oversize: u64,
}

impl PacketSocket {
    /// Listens on an interface.
    pub fn open(name: &InterfaceName) -> Result<PacketSocket, Error> {
        let failed = |e: io::Error| {
            let hint = match e.kind() {
                io::ErrorKind::PermissionDenied => ": this needs CAP_NET_RAW; run with sudo",
                _ => "",
            };
            Error::environment(format!("cannot attach to the interface '{name}': {e}{hint}"))
        };
        let interface = find(name)?;
        // No protocol yet: until it is bound, the socket hears nothing instead of every interface.
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let kind = SocketType::RAW;
        let socket = rustix::net::socket_with(AddressFamily::PACKET, kind, flags, None)
            .map_err(|e| failed(e.into()))?;
        let lent = socket.try_clone().map_err(failed)?.into_raw_fd();
        let config = Config { socket_fd: Some(lent), promiscuous: true, ..Config::default() };
        // Binding and promiscuous mode belong to the socket, of which the channel has a copy of the
        // descriptor: it closes that one.
        drop(pnet_datalink::channel(&interface, config).map_err(failed)?);
        Ok(PacketSocket {
            socket,
            own: interface.mac.map(|mac| Mac(mac.octets())),
            // One octet longer than the longest frame: what fills it was cut.
            scratch: vec![0; MAX_FRAME_LEN + 1],
            oversize: 0,
        })
    }

    /// Frames passed over because they were longer than a frame can be.
    pub fn oversize(&self) -> u64 {
        self.oversize
    }

    /// Takes note of a pending error, which the kernel reports until somebody does.
    pub fn clear_error(&self) {
        // It can only be that the interface went down: sending will fail and be counted until it is
        // up again.
        let _ = rustix::net::sockopt::socket_error(&self.socket);
    }

    /// Takes the next frame; `false` if none waits.
    pub fn recv(&mut self, frame: &mut Frame) -> io::Result<bool> {
        for _ in 0..PASSED_OVER_A_CALL {
            let received =
                rustix::net::recv(&self.socket, self.scratch.as_mut_slice(), RecvFlags::empty());
            let length = match received {
                Ok((_, length)) => length,
                Err(rustix::io::Errno::AGAIN) => return Ok(false),
                Err(rustix::io::Errno::INTR) => continue,
                Err(e) => return Err(e.into()),
            };
            let bytes = self.scratch.get(..length).unwrap_or_default();
            if length > MAX_FRAME_LEN {
                self.oversize += 1;
                continue;
            }
            if bytes.get(6..12).is_some_and(|src| self.own.is_some_and(|own| own.0 == *src)) {
                continue;
            }
            let mut octets = std::mem::take(&mut frame.bytes);
            octets.clear();
            octets.extend_from_slice(bytes);
            *frame = Frame::new(octets);
            return Ok(true);
        }
        Ok(false)
    }

    /// Sends a frame, finished and cut to size first.
    pub fn send(&self, frame: &Frame) -> io::Result<()> {
        let whole =
            wire_frames(frame).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        for frame in whole {
            rustix::net::send(&self.socket, &frame.bytes, SendFlags::empty())?;
        }
        Ok(())
    }
}

impl AsFd for PacketSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn find(name: &InterfaceName) -> Result<NetworkInterface, Error> {
    let all = pnet_datalink::interfaces();
    let Some(found) = all.iter().find(|i| i.name == name.as_str()) else {
        let mut names: Vec<&str> = all.iter().map(|i| i.name.as_str()).collect();
        names.sort_unstable();
        names.dedup();
        return Err(Error::environment(format!(
            "there is no interface '{name}'; there are {}",
            names.join(", ")
        )));
    };
    if found.is_loopback() {
        return Err(Error::input(format!("'{name}' is a loopback interface, not an Ethernet one")));
    }
    if !found.is_up() {
        return Err(Error::environment(format!(
            "the interface '{name}' is down; start it with 'ip link set {name} up'"
        )));
    }
    Ok(found.clone())
}
