//! What places remember of a packet's conversation, and how it follows that.

use super::balancer::server;
use super::{Stop, Walk, gone};
use crate::memory::{Deed, Memory, Place, Way};
use crate::packet::{Flow, flag};

impl Walk<'_> {
    /// What a place remembers of the packet's conversation, unless this packet begins another one.
    pub(super) fn recall(&mut self, place: Place) -> Stop<Option<(Memory, Way)>> {
        self.recall_as(place, self.done.packet.flow())
    }

    /// The same, where it is looked for by another flow.
    pub(super) fn recall_as(&mut self, place: Place, flow: Flow) -> Stop<Option<(Memory, Way)>> {
        let packet = self.done.packet;
        if packet.is_stray() {
            return Ok(None);
        }
        let found = self.model.memories.find(place, flow);
        let Some((memory, way)) = found else { return Ok(None) };
        let memories = &self.model.memories;
        let id = memory.conversation;
        if self.done.superseded.contains(&id) {
            return Ok(None);
        }
        if packet.flags() & flag::RST != 0 && !memories.believes(id, way, &packet) {
            return gone("a reset outside of the window");
        }
        let known = self.done.known.map(|(known, _)| known);
        // A SYN on a finished connection begins another one.
        let again = memories.is_over(id) && self.may_begin();
        // Translated anew just now, it is another conversation, whatever this place remembers.
        let anew = known.is_none()
            && !packet.is_error()
            && self.done.fresh.iter().any(|m| m.came != m.went);
        if again || anew {
            self.done.superseded.push(id);
            return Ok(None);
        }
        if known.is_some_and(|known| known != id) {
            return gone("two places remember two conversations");
        }
        // Whichever place notices first.
        if memories.of(id).any(|m| self.has_left(m)) {
            self.done.superseded.push(id);
            return Ok(None);
        }
        self.done.known = Some((id, way));
        Ok(Some((memory, way)))
    }

    /// Datagrams move on when their member has left the service; a connection stays until it ends.
    fn has_left(&self, memory: &Memory) -> bool {
        let Deed::Balanced { service: (address, port), .. } = memory.deed else { return false };
        if self.done.packet.is_error() || self.model.memories.is_tcp(memory.conversation) {
            return false;
        }
        let servers = match memory.place {
            Place::Tier1 => &self.network.outer_servers,
            _ => &self.network.cluster_servers,
        };
        let wanted = Flow { dst: address, dst_port: port, ..memory.came };
        let member = (memory.went.dst, memory.went.dst_port);
        let stays = server(servers, wanted)
            .is_some_and(|s| s.members.iter().any(|m| (m.address, m.port) == member));
        !stays
    }

    pub(super) fn follow(&mut self, memory: &Memory, way: Way) {
        match way {
            Way::Along => self.rewrite(memory.came, memory.went),
            Way::Back => self.rewrite(memory.went.reversed(), memory.came.reversed()),
        }
    }
}
