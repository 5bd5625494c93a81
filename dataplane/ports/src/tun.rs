//! The `ioctl`s of Linux's TUN/TAP driver (linux/if_tun.h, Documentation/networking/tuntap.rst).
//!
//! All unsafe code of the workspace but for one call in `descriptors.rs` is here. Each wrapper is safe to call with any value: a wrong
//! one is refused by the kernel with an error number.

#![allow(
    unsafe_code,
    reason = "these ioctls have no safe wrapper; each block states why it is sound"
)]

use std::ffi::c_int;
use std::os::fd::BorrowedFd;

use rustix::io::Errno;
use rustix::ioctl::{IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};

const TUNSETIFF: Opcode = opcode::write::<c_int>(b'T', 202);
const TUNSETOFFLOAD: Opcode = opcode::write::<c_int>(b'T', 208);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<c_int>(b'T', 216);

/// Whole frames, Ethernet header first.
const IFF_TAP: u16 = 0x0002;
/// Several descriptors share the interface's queues.
const IFF_MULTI_QUEUE: u16 = 0x0100;
/// No packet information in front of the frame.
const IFF_NO_PI: u16 = 0x1000;
/// A virtio network header in front of the frame.
const IFF_VNET_HDR: u16 = 0x4000;
/// Fail with `EBUSY` if an interface of the name exists, rather than attach to it.
const IFF_TUN_EXCL: u16 = 0x8000;

/// The longest interface name: `IFNAMSIZ` without the final zero.
pub(crate) const MAX_NAME: usize = 15;

/// `struct ifreq` as `TUNSETIFF` uses it: 40 octets on 64-bit systems, 32 on 32-bit ones, where the
/// kernel does not look at the last eight.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; MAX_NAME + 1],
    flags: u16,
    unused: [u8; 22],
}

/// What [`attach`] asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attach {
    pub vnet_hdr: bool,
    pub multi_queue: bool,
    /// Create the interface; `false` adds a queue to the one that exists.
    pub exclusive: bool,
}

/// Attaches an open `/dev/net/tun` to the interface `name` (at most [`MAX_NAME`] octets; `%d` in it
/// becomes the first free number) and returns the name it has.
pub(crate) fn attach(tun: BorrowedFd<'_>, name: &str, attach: Attach) -> Result<String, Errno> {
    let flag = |on, flag| if on { flag } else { 0 };
    let mut request = InterfaceRequest {
        name: [0; MAX_NAME + 1],
        flags: IFF_TAP
            | IFF_NO_PI
            | flag(attach.vnet_hdr, IFF_VNET_HDR)
            | flag(attach.multi_queue, IFF_MULTI_QUEUE)
            | flag(attach.exclusive, IFF_TUN_EXCL),
        unused: [0; 22],
    };
    request
        .name
        .get_mut(..name.len())
        .filter(|_| name.len() <= MAX_NAME)
        .ok_or(Errno::NAMETOOLONG)?
        .copy_from_slice(name.as_bytes());
    // SAFETY: TUNSETIFF takes a pointer to `struct ifreq` and reads and writes at most its size;
    // `InterfaceRequest` has that layout and at least that size, holds only integers, so that any
    // octets written are valid, and lives until the call returns. On a descriptor that is not a TUN
    // the request number is unknown and the kernel answers ENOTTY.
    unsafe { ioctl(tun, Updater::<TUNSETIFF, _>::new(&mut request))? };
    let end = request.name.iter().position(|b| *b == 0).unwrap_or(MAX_NAME);
    Ok(String::from_utf8_lossy(request.name.get(..end).unwrap_or_default()).into_owned())
}

/// Sets the length of the virtio network header, octets.
pub(crate) fn set_vnet_header_len(tun: BorrowedFd<'_>, octets: u8) -> Result<(), Errno> {
    // SAFETY: TUNSETVNETHDRSZ takes a pointer to an `int` and only reads it; the `Setter` owns one
    // until the call returns.
    unsafe { ioctl(tun, Setter::<TUNSETVNETHDRSZ, c_int>::new(octets.into())) }
}

/// What the kernel may leave to the reader of a TAP, and may be left to it by the writer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Frames with a partial checksum.
    pub checksum: bool,
    /// Large TCP segments, over IPv4 and IPv6.
    pub tcp_segmentation: bool,
    /// Large UDP datagrams to be cut into datagrams (Linux 6.2 and later).
    pub udp_segmentation: bool,
}

impl Offloads {
    /// From the best to none: what is offered to the kernel, in this order, until it agrees.
    const LADDER: [Offloads; 4] =
        [Offloads::up_to(3), Offloads::up_to(2), Offloads::up_to(1), Offloads::up_to(0)];

    const fn up_to(level: u8) -> Offloads {
        Offloads {
            checksum: level >= 1,
            tcp_segmentation: level >= 2,
            udp_segmentation: level >= 3,
        }
    }

    /// The `TUN_F_*` bits.
    fn bits(self) -> usize {
        const CSUM: usize = 0x01;
        const TSO4_TSO6_ECN: usize = 0x02 | 0x04 | 0x08;
        const USO4_USO6: usize = 0x20 | 0x40;
        let bits = |on, bits| if on { bits } else { 0 };
        bits(self.checksum, CSUM)
            | bits(self.tcp_segmentation, TSO4_TSO6_ECN)
            | bits(self.udp_segmentation, USO4_USO6)
    }
}

/// Offers the kernel as much as it takes, and returns what it took.
pub(crate) fn negotiate_offloads(tun: BorrowedFd<'_>) -> Result<Offloads, Errno> {
    let mut refusal = Errno::INVAL;
    for offer in Offloads::LADDER {
        // SAFETY: TUNSETOFFLOAD takes an integer, not a pointer, and accesses no memory of ours;
        // bits that it does not know make it answer EINVAL.
        let answer = unsafe { ioctl(tun, IntegerSetter::<TUNSETOFFLOAD>::new_usize(offer.bits())) };
        match answer {
            Ok(()) => return Ok(offer),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}
