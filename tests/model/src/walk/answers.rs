//! What the network answers by itself, from the packet as it was sent. Answers go back by the routers that it passed, untouched by
//! any stage.

use std::net::IpAddr;

use super::{Entry, OWN_TTL, Stop, Walk, gone};
use crate::packet::{Complaint, Content, Packet, flag};

impl Walk<'_> {
    fn answer(&mut self, src: IpAddr, content: Content) {
        let ttl = OWN_TTL - self.passed;
        self.done.answer = Some(Packet::whole(src, self.frame.packet.src, ttl, content));
    }

    /// Never about errors and fragments without header (RFC 1812, 4.3.2.7).
    pub(super) fn error(&mut self, complaint: Complaint, from: IpAddr) {
        let original = self.frame.packet;
        if !original.is_error() && !original.is_later_piece() {
            self.answer(from, Content::Error { complaint, quote: original.flow() });
        }
    }

    pub(super) fn complains(&mut self, complaint: Complaint, entry: &Entry) {
        if let Some(from) = entry.address(self.frame.packet.src) {
            self.error(complaint, from);
        }
    }

    /// What a closed port says (RFC 9293, 3.10.7.1; RFC 1122, 3.2.2.1).
    pub(super) fn refuse(&mut self) {
        self.reset_or(Complaint::PortUnreachable);
    }

    /// What a firewall says that rejects (features.md 3.G).
    pub(super) fn prohibit(&mut self) {
        self.reset_or(Complaint::Prohibited);
    }

    fn reset_or(&mut self, complaint: Complaint) {
        let original = self.frame.packet;
        let Content::Tcp { src_port, dst_port, flags, seq, ack, len } = original.content else {
            return self.error(complaint, original.dst);
        };
        if flags & flag::RST != 0 || original.piece.is_some() {
            return;
        }
        let control = (flags & (flag::SYN | flag::FIN)).count_ones();
        let (flags, seq, ack) = if flags & flag::ACK != 0 {
            (flag::RST, ack, 0)
        } else {
            (flag::RST | flag::ACK, 0, seq.wrapping_add(len).wrapping_add(control))
        };
        let (src_port, dst_port) = (dst_port, src_port);
        self.answer(original.dst, Content::Tcp { src_port, dst_port, flags, seq, ack, len: 0 });
    }

    /// A packet for one of a gateway's own addresses.
    pub(super) fn local(&mut self, pingable: bool, has_interface: bool) -> Stop<u32> {
        let original = self.frame.packet;
        match self.done.packet.content {
            // Gateways put no datagrams together.
            Content::Echo { .. } if original.piece.is_some() => gone("a fragment for a gateway"),
            Content::Echo { reply: false, id, len } if pingable => {
                self.answer(original.dst, Content::Echo { reply: true, id, len });
                // Identification and DF are the request's.
                if let Some(answer) = &mut self.done.answer {
                    answer.cut = original.cut;
                }
                self.done.arrived = true;
                gone("pinged a gateway")
            }
            Content::Udp { .. } if has_interface => {
                self.error(Complaint::PortUnreachable, original.dst);
                gone("a gateway's closed port")
            }
            _ => gone("nothing for a gateway"),
        }
    }

    pub(super) fn time_to_live(&mut self, entry: &Entry) -> Stop<()> {
        if self.done.packet.ttl > 1 {
            self.done.packet.ttl -= 1;
            return Ok(());
        }
        self.complains(Complaint::TimeExceeded, entry);
        gone("TTL exceeded")
    }

    /// Whether it fits the next link, or may be cut for it (RFC 791; RFC 1191; RFC 8201).
    pub(super) fn fits(&mut self, mtu: u16, entry: &Entry) -> Stop<()> {
        if self.size <= u32::from(mtu) {
            return Ok(());
        }
        if self.done.packet.cut.is_none() {
            self.complains(Complaint::TooBig(mtu), entry);
            return gone("too big");
        }
        self.done.cut_to = Some(self.done.cut_to.map_or(mtu, |other| other.min(mtu)));
        Ok(())
    }

    pub(super) fn martians(&self, entry: &Entry) -> Stop<()> {
        let packet = self.done.packet;
        let never = |address: IpAddr| match address {
            IpAddr::V4(a) => {
                let first = a.octets()[0];
                a.is_loopback() || a.is_multicast() || first == 0 || first >= 240
            }
            IpAddr::V6(a) => a.is_loopback() || a.is_multicast() || a.is_unspecified(),
        };
        let link_local = |address: IpAddr| match address {
            IpAddr::V4(a) => a.is_link_local(),
            IpAddr::V6(a) => a.is_unicast_link_local(),
        };
        if never(packet.src)
            || never(packet.dst)
            || packet.src == packet.dst
            || entry.addresses.contains(&packet.src)
            || link_local(packet.src)
            || link_local(packet.dst)
        {
            return gone("martian");
        }
        Ok(())
    }
}
