//! A frame and what its sender left for others to finish.

/// How far the sender got with the transport checksum. Ports that share memory with a kernel hand
/// over frames whose checksum the kernel never computed (virtio `VIRTIO_NET_HDR_F_NEEDS_CSUM`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ChecksumState {
    /// Nobody vouched for it: the bytes say what they say.
    #[default]
    Unknown,
    /// The port has verified it.
    Verified,
    /// Only the pseudo header is summed in the checksum field.
    Partial {
        /// Where summing starts, octets from the start of the frame.
        start: u16,
        /// Where the checksum field is, octets from `start`.
        offset: u16,
    },
}

/// Which protocol a large frame must be cut up as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentationKind {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// UDP over IPv4 or IPv6 (USO): every segment is a datagram of its own.
    Udp,
}

/// A frame larger than the wire allows, to be cut before it leaves by a port that cannot take it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segmentation {
    /// How to cut.
    pub kind: SegmentationKind,
    /// Payload octets a segment, at least 1.
    pub size: u16,
}

/// One Ethernet frame, without preamble and FCS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// The octets, destination address first.
    pub bytes: Vec<u8>,
    /// State of the transport checksum.
    pub checksum: ChecksumState,
    /// Set where the frame stands for several on the wire.
    pub segmentation: Option<Segmentation>,
}

impl Frame {
    /// A frame as it came from a wire: nothing left to finish.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Frame {
        Frame { bytes, ..Frame::default() }
    }
}
