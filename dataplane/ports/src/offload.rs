//! The virtio network header: how a kernel says what it left undone in a frame.
//!
//! Virtual I/O Device (VIRTIO) 1.2, 5.1.6: `struct virtio_net_hdr` without the buffer count, ten
//! octets in front of each frame. A TAP uses the "legacy" form, in the host's byte order.
//!
//! A header comes with every frame and is foreign input: the kernel checks what a raw socket of the
//! attached namespace asks for (`PACKET_VNET_HDR`), but nothing here rests on that. Decoding checks
//! every offset against the frame: a [`Frame`] that comes out of here never has a checksum field
//! outside its octets nor a segment size of zero.

use packet::{ChecksumState, Frame, Segmentation, SegmentationKind};

/// Octets of the header.
pub const VNET_HEADER_LEN: usize = 10;

const NEEDS_CSUM: u8 = 1;
const DATA_VALID: u8 = 2;

const GSO_NONE: u8 = 0;
const GSO_TCPV4: u8 = 1;
const GSO_TCPV6: u8 = 4;
const GSO_UDP_L4: u8 = 5;
const GSO_ECN: u8 = 0x80;

const ETHERNET_HEADER: usize = 14;
const UDP_HEADER: usize = 8;
/// Congestion window reduced (RFC 3168, 6.1.2), in the TCP flags octet.
const TCP_CWR: u8 = 0x80;

/// The header's fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VnetHeader {
    /// `VIRTIO_NET_HDR_F_*`.
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`.
    pub gso_type: u8,
    /// Octets of all headers in front of the payload; a hint.
    pub hdr_len: u16,
    /// Payload octets a segment.
    pub gso_size: u16,
    /// Where summing starts, octets from the start of the frame.
    pub csum_start: u16,
    /// Where the checksum field is, octets from `csum_start`.
    pub csum_offset: u16,
}

/// Why a header does not fit its frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VnetRefusal {
    /// Shorter than the header and an Ethernet header.
    #[error("shorter than its headers")]
    Runt,
    /// The checksum is summed from, or stored, outside the frame or inside its Ethernet header.
    #[error("the checksum field lies outside the frame")]
    ChecksumOutside,
    /// A segmentation type that was never offered.
    #[error("unknown segmentation type")]
    UnknownSegmentation,
    /// A large frame with segments of no octets.
    #[error("a segment size of zero")]
    ZeroSegment,
    /// A large frame that does not say where its transport header is, or is neither IPv4 nor IPv6.
    #[error("a large frame without what is needed to cut it")]
    Uncuttable,
}

impl VnetHeader {
    /// The fields of the ten octets.
    #[must_use]
    pub fn from_bytes(bytes: [u8; VNET_HEADER_LEN]) -> VnetHeader {
        let [flags, gso_type, h0, h1, g0, g1, s0, s1, o0, o1] = bytes;
        VnetHeader {
            flags,
            gso_type,
            hdr_len: u16::from_ne_bytes([h0, h1]),
            gso_size: u16::from_ne_bytes([g0, g1]),
            csum_start: u16::from_ne_bytes([s0, s1]),
            csum_offset: u16::from_ne_bytes([o0, o1]),
        }
    }

    /// The ten octets.
    #[must_use]
    pub fn to_bytes(self) -> [u8; VNET_HEADER_LEN] {
        let [h0, h1] = self.hdr_len.to_ne_bytes();
        let [g0, g1] = self.gso_size.to_ne_bytes();
        let [s0, s1] = self.csum_start.to_ne_bytes();
        let [o0, o1] = self.csum_offset.to_ne_bytes();
        [self.flags, self.gso_type, h0, h1, g0, g1, s0, s1, o0, o1]
    }

    /// What the header says of a frame with these octets.
    ///
    /// # Errors
    /// If it cannot be true of this frame.
    pub fn decode(
        self,
        bytes: &[u8],
    ) -> Result<(ChecksumState, Option<Segmentation>), VnetRefusal> {
        if bytes.len() < ETHERNET_HEADER {
            return Err(VnetRefusal::Runt);
        }
        let checksum = if self.flags & NEEDS_CSUM != 0 {
            check_checksum(bytes, self.csum_start, self.csum_offset)?;
            ChecksumState::Partial { start: self.csum_start, offset: self.csum_offset }
        } else if self.flags & DATA_VALID != 0 {
            ChecksumState::Verified
        } else {
            ChecksumState::Unknown
        };
        let kind = match self.gso_type & !GSO_ECN {
            GSO_NONE => return Ok((checksum, None)),
            GSO_TCPV4 | GSO_TCPV6 => SegmentationKind::Tcp,
            GSO_UDP_L4 => SegmentationKind::Udp,
            _ => return Err(VnetRefusal::UnknownSegmentation),
        };
        if self.gso_size == 0 {
            return Err(VnetRefusal::ZeroSegment);
        }
        // 5.1.6.2: a large frame always has a partial checksum, from the transport header on.
        if self.flags & NEEDS_CSUM == 0 {
            return Err(VnetRefusal::Uncuttable);
        }
        let size = self.gso_size;
        Ok((checksum, Some(Segmentation { kind, size })))
    }

    /// The header that says of a frame what its offload fields say.
    ///
    /// # Errors
    /// If the frame's fields contradict its octets.
    pub fn encode(frame: &Frame) -> Result<VnetHeader, VnetRefusal> {
        let bytes = frame.bytes.as_slice();
        if bytes.len() < ETHERNET_HEADER {
            return Err(VnetRefusal::Runt);
        }
        let mut header = VnetHeader::default();
        if let ChecksumState::Partial { start, offset } = frame.checksum {
            check_checksum(bytes, start, offset)?;
            header.flags = NEEDS_CSUM;
            header.csum_start = start;
            header.csum_offset = offset;
        }
        // `Verified` is not passed on: DATA_VALID is the device's word, not the driver's
        // (5.1.6.2.1), and a kernel ignores it from here.
        let Some(segmentation) = frame.segmentation else {
            return Ok(header);
        };
        if segmentation.size == 0 {
            return Err(VnetRefusal::ZeroSegment);
        }
        if header.flags & NEEDS_CSUM == 0 {
            return Err(VnetRefusal::Uncuttable);
        }
        let transport =
            bytes.get(usize::from(header.csum_start)..).ok_or(VnetRefusal::Uncuttable)?;
        let (gso_type, length) = match (segmentation.kind, network_protocol(bytes)) {
            (SegmentationKind::Tcp, Some(family)) => {
                let (Some(data_offset), Some(flags)) = (transport.get(12), transport.get(13))
                else {
                    return Err(VnetRefusal::Uncuttable);
                };
                let kind = match family {
                    Family::V4 => GSO_TCPV4,
                    Family::V6 => GSO_TCPV6,
                };
                // Tells the kernel to leave CWR on the first segment only (RFC 3168).
                let ecn = if flags & TCP_CWR == 0 { 0 } else { GSO_ECN };
                (kind | ecn, usize::from(data_offset >> 4) * 4)
            }
            (SegmentationKind::Udp, Some(_)) => (GSO_UDP_L4, UDP_HEADER),
            (_, None) => return Err(VnetRefusal::Uncuttable),
        };
        if length > transport.len() {
            return Err(VnetRefusal::Uncuttable);
        }
        let headers = usize::from(header.csum_start) + length;
        header.hdr_len = u16::try_from(headers).map_err(|_| VnetRefusal::Uncuttable)?;
        header.gso_type = gso_type;
        header.gso_size = segmentation.size;
        Ok(header)
    }
}

fn check_checksum(bytes: &[u8], start: u16, offset: u16) -> Result<(), VnetRefusal> {
    let (start, offset) = (usize::from(start), usize::from(offset));
    if start < ETHERNET_HEADER || start + offset + 2 > bytes.len() {
        return Err(VnetRefusal::ChecksumOutside);
    }
    Ok(())
}

enum Family {
    V4,
    V6,
}

/// The network protocol behind up to two VLAN tags (IEEE 802.1Q, 802.1ad).
fn network_protocol(bytes: &[u8]) -> Option<Family> {
    for at in [12, 16, 20] {
        match bytes.get(at..at + 2)? {
            [0x08, 0x00] => return Some(Family::V4),
            [0x86, 0xdd] => return Some(Family::V6),
            [0x81, 0x00] | [0x88, 0xa8] => {}
            _ => return None,
        }
    }
    None
}

/// The frames as a wire would carry them: checksums completed, large frames cut. For sinks that take
/// nothing else (a TAP without virtio header, a capture file).
///
/// # Errors
/// If the frame's offload fields contradict its octets.
pub fn wire_frames(frame: &Frame) -> Result<Vec<Frame>, VnetRefusal> {
    VnetHeader::encode(frame)?;
    let frames = packet::segment(frame.clone());
    // None at all: the octets are not what the frame says of itself, an IP fragment for instance.
    if frames.is_empty() {
        return Err(VnetRefusal::Uncuttable);
    }
    Ok(frames)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
    use super::*;
    use etherparse::PacketBuilder;

    /// A TCP segment of 3,000 octets of payload, SYN-less, 20-octet header.
    fn tcp_v4() -> Vec<u8> {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64)
            .tcp(1000, 2000, 7, 1024)
            .ack(9);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[0x55; 3000]).unwrap();
        bytes
    }

    fn udp_v6() -> Vec<u8> {
        let builder =
            PacketBuilder::ethernet2([2; 6], [4; 6]).ipv6([1; 16], [2; 16], 64).udp(1000, 2000);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[0x55; 3000]).unwrap();
        bytes
    }

    fn frame(bytes: Vec<u8>, start: u16, offset: u16, kind: SegmentationKind) -> Frame {
        Frame {
            bytes,
            checksum: ChecksumState::Partial { start, offset },
            segmentation: Some(Segmentation { kind, size: 1400 }),
        }
    }

    #[test]
    fn octets_are_the_struct_of_the_specification() {
        let header = VnetHeader {
            flags: 1,
            gso_type: 4,
            hdr_len: 0x0102,
            gso_size: 0x0304,
            csum_start: 0x0506,
            csum_offset: 0x0708,
        };
        let mut expected = vec![1, 4];
        for field in [0x0102u16, 0x0304, 0x0506, 0x0708] {
            expected.extend(field.to_ne_bytes());
        }
        assert_eq!(header.to_bytes().as_slice(), expected);
        assert_eq!(VnetHeader::from_bytes(header.to_bytes()), header);
    }

    #[test]
    fn a_large_tcp_frame_encodes_with_all_its_lengths() {
        // Ethernet 14 + IPv4 20 = 34; + TCP 20 = 54; the checksum is 16 octets into TCP.
        let mut frame = frame(tcp_v4(), 34, 16, SegmentationKind::Tcp);
        let expected = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 54,
            gso_size: 1400,
            csum_start: 34,
            csum_offset: 16,
        };
        assert_eq!(VnetHeader::encode(&frame), Ok(expected));
        let decoded = expected.decode(&frame.bytes).unwrap();
        assert_eq!(decoded, (frame.checksum, frame.segmentation));
        // With CWR set the kernel must hear of it.
        frame.bytes[34 + 13] |= TCP_CWR;
        assert_eq!(VnetHeader::encode(&frame).unwrap().gso_type, GSO_TCPV4 | GSO_ECN);
        let ecn = VnetHeader { gso_type: GSO_TCPV4 | GSO_ECN, ..expected };
        assert_eq!(ecn.decode(&frame.bytes).unwrap().1, frame.segmentation);
    }

    #[test]
    fn a_large_udp_frame_over_ipv6_behind_a_vlan_tag() {
        let mut bytes = udp_v6();
        // 802.1Q tag, VLAN 7, between addresses and type.
        bytes.splice(12..12, [0x81, 0x00, 0x00, 0x07]);
        // Ethernet 18 + IPv6 40 = 58; + UDP 8 = 66.
        let frame = frame(bytes, 58, 6, SegmentationKind::Udp);
        let header = VnetHeader::encode(&frame).unwrap();
        assert_eq!((header.gso_type, header.hdr_len), (GSO_UDP_L4, 66));
        assert_eq!(header.decode(&frame.bytes).unwrap(), (frame.checksum, frame.segmentation));
    }

    #[test]
    fn plain_frames_have_an_empty_header_and_verified_is_the_kernels_word_only() {
        let mut frame = Frame::new(tcp_v4());
        assert_eq!(VnetHeader::encode(&frame), Ok(VnetHeader::default()));
        frame.checksum = ChecksumState::Verified;
        assert_eq!(VnetHeader::encode(&frame), Ok(VnetHeader::default()));
        let valid = VnetHeader { flags: DATA_VALID, ..VnetHeader::default() };
        assert_eq!(valid.decode(&frame.bytes), Ok((ChecksumState::Verified, None)));
        let none = VnetHeader::default().decode(&frame.bytes);
        assert_eq!(none, Ok((ChecksumState::Unknown, None)));
    }

    #[test]
    fn hostile_headers_are_refused() {
        let bytes = tcp_v4();
        let length = u16::try_from(bytes.len()).unwrap();
        let good = VnetHeader {
            flags: NEEDS_CSUM,
            gso_type: GSO_TCPV4,
            hdr_len: 54,
            gso_size: 1400,
            csum_start: 34,
            csum_offset: 16,
        };
        assert!(good.decode(&bytes).is_ok());
        let cases = [
            (VnetHeader { csum_start: length, ..good }, VnetRefusal::ChecksumOutside),
            (VnetHeader { csum_start: length - 17, ..good }, VnetRefusal::ChecksumOutside),
            (VnetHeader { csum_start: 0, ..good }, VnetRefusal::ChecksumOutside),
            (VnetHeader { csum_offset: u16::MAX, ..good }, VnetRefusal::ChecksumOutside),
            (
                VnetHeader { csum_start: u16::MAX, csum_offset: u16::MAX, ..good },
                VnetRefusal::ChecksumOutside,
            ),
            (VnetHeader { gso_size: 0, ..good }, VnetRefusal::ZeroSegment),
            // UFO, never offered.
            (VnetHeader { gso_type: 3, ..good }, VnetRefusal::UnknownSegmentation),
            (VnetHeader { gso_type: 0x7f, ..good }, VnetRefusal::UnknownSegmentation),
            (VnetHeader { flags: 0, ..good }, VnetRefusal::Uncuttable),
        ];
        for (header, expected) in cases {
            assert_eq!(header.decode(&bytes), Err(expected), "{header:?}");
        }
        // The last two octets of the frame are still inside.
        let last = VnetHeader { csum_start: length - 18, ..good };
        assert!(last.decode(&bytes).is_ok());
        assert_eq!(VnetHeader::default().decode(&bytes[..13]), Err(VnetRefusal::Runt));
    }

    #[test]
    fn frames_that_contradict_themselves_are_not_encoded() {
        let good = frame(tcp_v4(), 34, 16, SegmentationKind::Tcp);
        let mut unknown = good.clone();
        unknown.checksum = ChecksumState::Unknown;
        assert_eq!(VnetHeader::encode(&unknown), Err(VnetRefusal::Uncuttable));
        let mut zero = good.clone();
        zero.segmentation = Some(Segmentation { kind: SegmentationKind::Tcp, size: 0 });
        assert_eq!(VnetHeader::encode(&zero), Err(VnetRefusal::ZeroSegment));
        let mut arp = good.clone();
        arp.bytes[13] = 0x06;
        assert_eq!(VnetHeader::encode(&arp), Err(VnetRefusal::Uncuttable));
        let mut cut = good.clone();
        // Data offset 15 words in a segment of 52 octets.
        cut.bytes.truncate(34 + 52);
        cut.bytes[34 + 12] = 0xf0;
        assert_eq!(VnetHeader::encode(&cut), Err(VnetRefusal::Uncuttable));
        let mut short = good.clone();
        short.bytes.truncate(40);
        assert_eq!(VnetHeader::encode(&short), Err(VnetRefusal::ChecksumOutside));
        assert_eq!(wire_frames(&short), Err(VnetRefusal::ChecksumOutside));
    }
}
