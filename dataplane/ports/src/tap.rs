//! TAP interfaces: an Ethernet port whose other side is the kernel's network stack.
//!
//! Documentation/networking/tuntap.rst. A [`Tap`] is one queue of an interface. The interface is not
//! persistent: it lives exactly as long as a queue of it is open, also after it was moved to another
//! network namespace, so nothing is left behind by a process that is killed.
//!
//! With `vnet_hdr` a virtio header goes in front of each frame. The kernel then hands over what it has
//! not finished (partial checksums, large TCP and UDP frames), and the frame says so; and what a
//! frame leaves unfinished is left to the kernel. Without it both sides only see finished frames:
//! the kernel finishes its own, [`Tap::send`] finishes ours.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;

use packet::{Frame, SegmentationKind};
use rustix::io::Errno;

use crate::offload::{VNET_HEADER_LEN, VnetHeader, VnetRefusal, wire_frames};
use crate::tun::{self, Attach, Offloads};

/// The longest frame, octets: an IPv4 packet of full length behind an Ethernet header and one VLAN
/// tag. Kernels make nothing longer unless told to (BIG TCP).
pub const MAX_FRAME_LEN: usize = 14 + 4 + 65_535;

/// Frames with an impossible header or length that one call of [`Tap::recv`] passes over before it
/// says that there is none, so that a flood of them cannot hold up the caller.
const REFUSALS_A_CALL: usize = 64;

/// Frames up to this length are written in one piece behind their header: to copy so little costs less than to
/// hand the kernel two pieces.
const ONE_PIECE: usize = 256;

/// The kernel's limit (`MAX_TAP_QUEUES`).
const MAX_QUEUES: u16 = 256;

const DEVICE: &str = "/dev/net/tun";

/// The name of an interface for which none was asked.
const NAME_PATTERN: &str = "tl%d";

/// How to open a TAP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TapOptions {
    /// A virtio header in front of each frame: partial checksums and large frames.
    pub vnet_hdr: bool,
    /// Queues, 1 to 256; the kernel spreads flows over them.
    pub queues: u16,
}

impl Default for TapOptions {
    /// With virtio header, one queue.
    fn default() -> TapOptions {
        TapOptions { vnet_hdr: true, queues: 1 }
    }
}

/// Why a TAP could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum TapError {
    /// The driver is absent.
    #[error(
        "{DEVICE} is missing: load the driver with 'modprobe tun' (in a container, start it with \
         '--device {DEVICE}')"
    )]
    NoDevice,
    /// The process may not open TAPs.
    #[error(
        "no permission to open a TAP: this needs CAP_NET_ADMIN; run with sudo (in a container, start \
         it with '--cap-add NET_ADMIN --device {DEVICE}')"
    )]
    Permission,
    /// An interface of this name exists already.
    #[error(
        "the interface name '{0}' is taken: 'ip link show {0}' tells by what; stop that lab or choose \
         another name"
    )]
    NameTaken(String),
    /// Not the name of an interface.
    #[error(
        "'{0}' cannot name an interface: use 1 to 15 letters, digits, '-', '_' or '.', beginning with a letter or digit"
    )]
    BadName(String),
    /// A number of queues outside the range, or more than one where one [`Tap`] is wanted.
    #[error("{0} queues: the number must be 1 to {max} (1 for a single port)", max = MAX_QUEUES)]
    BadQueues(u16),
    /// The kernel refused for another reason.
    #[error("{step} failed for TAP '{name}': {source}")]
    System {
        /// What was tried.
        step: &'static str,
        /// The interface asked for.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

impl TapError {
    /// Whether the machine, not the input, is at fault (exit code 3): no driver, or no right to use it.
    #[must_use]
    pub fn is_environment(&self) -> bool {
        matches!(self, TapError::NoDevice | TapError::Permission)
    }
}

/// What one queue has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapCounters {
    /// Frames handed to the caller.
    pub received: u64,
    /// Frames from the kernel dropped because their virtio header cannot be true.
    pub refused: u64,
    /// Frames from the kernel dropped because they are longer than [`MAX_FRAME_LEN`].
    pub oversize: u64,
    /// Frames taken by the kernel, as handed to [`Tap::send`]: a large one is one.
    pub sent: u64,
    /// Frames that [`Tap::send`] could not deliver: it returned an error for each.
    pub unsent: u64,
}

/// One queue of a TAP interface. Reads and writes never wait.
#[derive(Debug)]
pub struct Tap {
    tun: File,
    name: String,
    /// Virtio header in front, and what the kernel agreed to; `None` without the header.
    offloads: Option<Offloads>,
    /// Header and frame land here; the frame is copied out, so that frames in flight need only the
    /// memory of their length. The copy is from one hot place to another: a loop that makes it moves a
    /// gigabyte of TCP in 354 ms of processor time, one that does not in 345.
    scratch: Vec<u8>,
    /// Header and frame that are written in one piece.
    piece: Box<[u8; VNET_HEADER_LEN + ONE_PIECE]>,
    counters: TapCounters,
}

impl Tap {
    /// Creates an interface with one queue. Without `name` the kernel chooses the first free of
    /// `tl0`, `tl1`, ... The interface is down; [`crate::Netns::attach`] or `ip link set up` starts it.
    ///
    /// # Errors
    /// See [`TapError`]; `options.queues` other than 1 is [`TapError::BadQueues`].
    pub fn create(name: Option<&str>, options: TapOptions) -> Result<Tap, TapError> {
        if options.queues != 1 {
            return Err(TapError::BadQueues(options.queues));
        }
        open(name.unwrap_or(NAME_PATTERN), name, options, true)
    }

    /// Creates an interface with `options.queues` queues, one [`Tap`] for each. All must be open
    /// before the interface is moved to another namespace.
    ///
    /// # Errors
    /// See [`TapError`].
    pub fn create_queues(name: Option<&str>, options: TapOptions) -> Result<Vec<Tap>, TapError> {
        if !(1..=MAX_QUEUES).contains(&options.queues) {
            return Err(TapError::BadQueues(options.queues));
        }
        let first = open(name.unwrap_or(NAME_PATTERN), name, options, true)?;
        let name = first.name.clone();
        let mut queues = vec![first];
        for _ in 1..options.queues {
            queues.push(open(&name, Some(&name), options, false)?);
        }
        Ok(queues)
    }

    /// The interface's name when it was created; moving it to a namespace may have renamed it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the kernel leaves to the reader and takes from the writer: nothing without virtio header.
    #[must_use]
    pub fn offloads(&self) -> Offloads {
        self.offloads.unwrap_or_default()
    }

    /// What this queue has done so far.
    #[must_use]
    pub fn counters(&self) -> TapCounters {
        self.counters
    }

    /// Takes the next frame from the kernel into `frame`, whose capacity is used again; `false` if
    /// none waits. Impossible frames are counted and passed over.
    ///
    /// # Errors
    /// If the interface is gone ([`Tap::is_gone`]): every later call fails too.
    pub fn recv(&mut self, frame: &mut Frame) -> io::Result<bool> {
        for _ in 0..REFUSALS_A_CALL {
            let length = match rustix::io::read(&self.tun, self.scratch.as_mut_slice()) {
                Ok(length) => length,
                Err(Errno::AGAIN) => return Ok(false),
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error.into()),
            };
            if length >= self.scratch.len() {
                // The scratch is one octet longer than the longest frame: this one was cut.
                self.counters.oversize += 1;
                continue;
            }
            let read = self.scratch.get(..length).unwrap_or_default();
            match split(read, self.offloads.is_some()) {
                Ok((header, bytes)) => {
                    frame.bytes.clear();
                    frame.bytes.extend_from_slice(bytes);
                    (frame.checksum, frame.segmentation) = header;
                    self.counters.received += 1;
                    return Ok(true);
                }
                Err(_) => self.counters.refused += 1,
            }
        }
        Ok(false)
    }

    /// Hands `frame` to the kernel, leaving to it what the frame leaves undone where it agreed to
    /// that, and finishing it here where not.
    ///
    /// # Errors
    /// `InvalidInput` if the frame's offload fields contradict its octets; `WouldBlock` if the
    /// kernel's queue is full; EIO if the interface is down; EBADFD if it is gone. The frame is then
    /// counted as unsent.
    pub fn send(&mut self, frame: &Frame) -> io::Result<()> {
        let result = self.try_send(frame);
        match result {
            Ok(()) => self.counters.sent += 1,
            Err(_) => self.counters.unsent += 1,
        }
        result
    }

    fn try_send(&mut self, frame: &Frame) -> io::Result<()> {
        let refused = |r: VnetRefusal| io::Error::new(io::ErrorKind::InvalidInput, r);
        if self.kernel_finishes(frame) {
            let header = VnetHeader::encode(frame).map_err(refused)?;
            return self.write(header, &frame.bytes);
        }
        for whole in wire_frames(frame).map_err(refused)? {
            self.write(VnetHeader::default(), &whole.bytes)?;
        }
        Ok(())
    }

    /// Whether the kernel does what this frame leaves undone; true of a finished frame.
    fn kernel_finishes(&self, frame: &Frame) -> bool {
        let can = self.offloads();
        let partial = matches!(frame.checksum, packet::ChecksumState::Partial { .. });
        let checksum = !partial || can.checksum;
        let segmentation = match frame.segmentation.map(|s| s.kind) {
            None => true,
            Some(SegmentationKind::Tcp) => can.tcp_segmentation,
            Some(SegmentationKind::Udp) => can.udp_segmentation,
        };
        checksum && segmentation
    }

    fn write(&mut self, header: VnetHeader, bytes: &[u8]) -> io::Result<()> {
        let header = header.to_bytes();
        let whole = self.piece.get_mut(..VNET_HEADER_LEN + bytes.len());
        let piece = match whole.and_then(|whole| whole.split_first_chunk_mut()) {
            Some((front, rest)) if self.offloads.is_some() => {
                *front = header;
                rest.copy_from_slice(bytes);
                self.piece.get(..VNET_HEADER_LEN + bytes.len())
            }
            _ if self.offloads.is_none() => Some(bytes),
            _ => None,
        };
        loop {
            let written = match piece {
                Some(piece) => rustix::io::write(&self.tun, piece),
                None => {
                    let parts = [IoSlice::new(&header), IoSlice::new(bytes)];
                    rustix::io::writev(&self.tun, &parts)
                }
            };
            match written {
                // The driver takes a frame whole or not at all.
                Ok(_) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Whether this error of [`Tap::recv`] or [`Tap::send`] says that the interface was deleted, by
    /// hand or with its namespace. Only a new TAP helps.
    #[must_use]
    pub fn is_gone(error: &io::Error) -> bool {
        error.raw_os_error() == Some(Errno::BADFD.raw_os_error())
    }
}

impl AsFd for Tap {
    /// Readable when a frame waits.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.tun.as_fd()
    }
}

type Split<'a> = ((packet::ChecksumState, Option<packet::Segmentation>), &'a [u8]);

/// Header and octets of what was read.
fn split(read: &[u8], vnet_hdr: bool) -> Result<Split<'_>, VnetRefusal> {
    if !vnet_hdr {
        // The kernel has finished it; that it is right is not vouched for.
        let state = VnetHeader::default().decode(read)?;
        return Ok((state, read));
    }
    let (header, bytes) = read.split_first_chunk::<VNET_HEADER_LEN>().ok_or(VnetRefusal::Runt)?;
    Ok((VnetHeader::from_bytes(*header).decode(bytes)?, bytes))
}

/// `wanted`: the name as the user gave it, for checks and messages.
fn open(
    name: &str,
    wanted: Option<&str>,
    options: TapOptions,
    exclusive: bool,
) -> Result<Tap, TapError> {
    if let Some(wanted) = wanted
        && crate::InterfaceName::new(wanted).is_err()
    {
        return Err(TapError::BadName(wanted.to_owned()));
    }
    let system = |step| {
        let name = name.to_owned();
        move |error: Errno| TapError::System { step, name, source: error.into() }
    };
    let tun = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(rustix::fs::OFlags::NONBLOCK.bits().cast_signed())
        .open(DEVICE)
        .map_err(|error| open_error(name, error))?;
    let attach = Attach { vnet_hdr: options.vnet_hdr, multi_queue: options.queues > 1, exclusive };
    let name = tun::attach(tun.as_fd(), name, attach).map_err(|error| match error {
        Errno::PERM => TapError::Permission,
        Errno::BUSY => TapError::NameTaken(name.to_owned()),
        other => system("TUNSETIFF")(other),
    })?;
    let offloads = if options.vnet_hdr {
        // Ten, so cannot be cut.
        tun::set_vnet_header_len(tun.as_fd(), VNET_HEADER_LEN as u8)
            .map_err(system("TUNSETVNETHDRSZ"))?;
        Some(tun::negotiate_offloads(tun.as_fd()).map_err(system("TUNSETOFFLOAD"))?)
    } else {
        None
    };
    let header = if options.vnet_hdr { VNET_HEADER_LEN } else { 0 };
    Ok(Tap {
        tun,
        name,
        offloads,
        scratch: vec![0; header + MAX_FRAME_LEN + 1],
        piece: Box::new([0; VNET_HEADER_LEN + ONE_PIECE]),
        counters: TapCounters::default(),
    })
}

fn open_error(name: &str, error: io::Error) -> TapError {
    match Errno::from_io_error(&error) {
        // The last two: the node is there, the driver is not.
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => TapError::NoDevice,
        Some(Errno::PERM | Errno::ACCESS) => TapError::Permission,
        _ => {
            TapError::System { step: "opening /dev/net/tun", name: name.to_owned(), source: error }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]
    use super::*;

    #[test]
    fn names_and_queue_numbers_are_checked_before_the_kernel_is_asked() {
        for name in ["", "sixteen-letters-", "a/b", "a b", "tap%d", "-tap", ".."] {
            let error = Tap::create(Some(name), TapOptions::default()).unwrap_err();
            assert!(matches!(error, TapError::BadName(_)), "{name}: {error}");
            assert!(!error.is_environment());
        }
        for queues in [0, 2] {
            let options = TapOptions { vnet_hdr: true, queues };
            let error = Tap::create(None, options).unwrap_err();
            assert!(matches!(error, TapError::BadQueues(_)), "{error}");
        }
        for queues in [0, 257] {
            let options = TapOptions { vnet_hdr: true, queues };
            let error = Tap::create_queues(None, options).unwrap_err();
            assert!(matches!(error, TapError::BadQueues(_)), "{error}");
        }
    }

    #[test]
    fn errors_of_the_device_node_say_what_to_do() {
        let of = |errno: Errno| open_error("tl0", errno.into());
        for errno in [Errno::NOENT, Errno::NODEV, Errno::NXIO] {
            let error = of(errno);
            assert!(error.is_environment() && error.to_string().contains("modprobe tun"));
        }
        for errno in [Errno::PERM, Errno::ACCESS] {
            let error = of(errno);
            assert!(error.is_environment() && error.to_string().contains("CAP_NET_ADMIN"));
        }
        let error = of(Errno::NFILE);
        assert!(!error.is_environment() && error.to_string().contains("'tl0'"));
    }

    #[test]
    fn what_is_read_is_split_or_refused() {
        let frame = [7u8; 60];
        let (state, bytes) = split(&frame, false).unwrap();
        assert_eq!((state, bytes), ((packet::ChecksumState::Unknown, None), &frame[..]));
        let mut read = vec![0; VNET_HEADER_LEN];
        read.extend(frame);
        let (state, bytes) = split(&read, true).unwrap();
        assert_eq!((state, bytes), ((packet::ChecksumState::Unknown, None), &frame[..]));
        for short in [0, 9, 10, 23] {
            assert_eq!(split(&vec![0; short], true), Err(VnetRefusal::Runt), "{short}");
        }
    }
}
