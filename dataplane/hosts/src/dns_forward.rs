//! Questions that a name server passes on: CoreDNS' `forward` with its concurrency limit, in the small.
//!
//! Each question becomes a datagram of the host's own, with a source port and an identification of its
//! own, so that routes, rules and everything on the way treat it as what it is, and answers to two
//! clients cannot be mixed up (RFC 5452). The servers are asked one after the other; when the last has
//! not answered, nobody is told: the client's own time-out does (RFC 1035, 4.2.1 leaves retransmission
//! to it). An ICMP error ends nothing, because anybody on the way could send one (RFC 1122, 4.1.3.3).
//! For an alias the servers are asked for what it stands for, and the client is told both.
//!
//! Bounds: [`MAX_FORWARDED`] questions at a time; a further one is refused, or answered with its alias alone.

use std::sync::Arc;
use std::time::Duration;

use packet::{Addr, Time};

use crate::config::ServiceProtocol;
use crate::host::{Arrival, Host, HostDrop, Output};
use crate::operation::{Operation, OperationId};
use crate::services::dns;
use crate::services::http::Endpoint;
use crate::services::zone::Zone;
use crate::wire;

/// Questions under way to other servers; what is asked beyond them is refused, an alias answered alone.
pub const MAX_FORWARDED: usize = 256;
/// How long a server has to answer (CoreDNS' read time-out) before the next one is asked.
pub const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// Port of the servers.
const DNS_PORT: u16 = 53;

/// A question on its way to another server.
#[derive(Clone, Debug)]
pub(crate) struct Forwarded {
    /// Where the client asked.
    service: Endpoint,
    client: Endpoint,
    /// The interface that the answer is bound to.
    bound: Option<usize>,
    /// The client's identification.
    client_id: u16,
    /// The question as it goes to the servers.
    message: Vec<u8>,
    /// Where it is another one than the client's: the client's, and the zone that has the alias.
    alias: Option<(Vec<u8>, Arc<Zone>)>,
    /// Own and remote end of the datagram under way.
    asked: Option<(Endpoint, Endpoint)>,
    /// Servers not asked yet, the next one last.
    upstreams: Vec<Addr>,
}

impl Host {
    /// Passes a client's question on to the servers that have the answer; `false` if the zone has it, or if
    /// there is no room for another question.
    pub(crate) fn forward_query(
        &mut self,
        arrival: &Arrival<'_>,
        (service, client): (Endpoint, Endpoint),
        query: &[u8],
        zone: &Arc<Zone>,
        now: Time,
        out: &mut Output,
    ) -> bool {
        // Most questions are for the zone, and take no number.
        if dns::pass_on(zone, query, 0).is_none() {
            return false;
        }
        let under_way =
            self.operations.values().filter(|o| matches!(o, Operation::Forwarded(_))).count();
        if under_way >= MAX_FORWARDED || self.admit_operation().is_err() {
            return false;
        }
        let id = self.new_operation();
        // Not a secret here: an answer must also match both ends.
        let (Some(client_id), Some(passed)) =
            (dns::id_of(query), dns::pass_on(zone, query, id.0 as u16))
        else {
            return false;
        };
        let forwarded = Forwarded {
            service,
            client,
            bound: arrival.link_scope(),
            client_id,
            message: passed.message,
            alias: passed.aliased.then(|| (query.to_vec(), Arc::clone(zone))),
            asked: None,
            upstreams: passed.upstreams.iter().rev().copied().collect(),
        };
        self.operations.insert(id, Operation::Forwarded(Box::new(forwarded)));
        self.ask_next_upstream(id, now, out);
        true
    }

    /// Asks the next server that can be reached, or forgets the question if there is none left.
    pub(crate) fn ask_next_upstream(&mut self, id: OperationId, now: Time, out: &mut Output) {
        loop {
            let Some(Operation::Forwarded(forwarded)) = self.operations.get_mut(&id) else {
                return;
            };
            let asked = forwarded.asked.take();
            let next = forwarded.upstreams.pop();
            let message = forwarded.message.clone();
            if let Some(ends) = asked {
                self.datagrams.remove(&ends);
            }
            let Some(addr) = next else {
                self.operations.remove(&id);
                self.operation_timers.cancel(id);
                return;
            };
            if self.ask_upstream(id, Endpoint { addr, port: DNS_PORT }, &message, now, out) {
                return;
            }
        }
    }

    /// Sends a question to a server; `false` if it cannot be reached from here.
    fn ask_upstream(
        &mut self,
        id: OperationId,
        remote: Endpoint,
        message: &[u8],
        now: Time,
        out: &mut Output,
    ) -> bool {
        let Ok(source) = self.source_for(remote.addr, None, None) else {
            return false;
        };
        let Ok(port) = self.ephemeral_port(ServiceProtocol::Udp, source, remote) else {
            return false;
        };
        let local = Endpoint { addr: source, port };
        let ip_id = self.next_ip_id();
        let frame = wire::udp(local, remote, self.config.ttl, ip_id, message);
        if frame.is_none_or(|frame| self.transmit(frame, None, now, out).is_err()) {
            return false;
        }
        if let Some(Operation::Forwarded(forwarded)) = self.operations.get_mut(&id) {
            forwarded.asked = Some((local, remote));
        }
        self.datagrams.insert((local, remote), id);
        self.operation_timers.arm(id, now + UPSTREAM_TIMEOUT);
        true
    }

    /// A datagram from the server that was asked: the client's answer, if it is one.
    pub(crate) fn upstream_answered(
        &mut self,
        id: OperationId,
        data: &[u8],
        now: Time,
        out: &mut Output,
    ) {
        let answer = match self.operations.get(&id) {
            Some(Operation::Forwarded(f)) if dns::is_response(data, &f.message) => match &f.alias {
                Some((query, zone)) => {
                    dns::respond_aliased(zone, query, data, dns::MAX_UDP_MESSAGE)
                }
                None => dns::with_id(data, f.client_id),
            },
            _ => None,
        };
        let (Some(answer), Some(Operation::Forwarded(forwarded))) =
            (answer, self.operations.get(&id).cloned())
        else {
            // Not an answer to this question: the right one may still come.
            self.count(HostDrop::Malformed);
            return;
        };
        self.operations.remove(&id);
        self.operation_timers.cancel(id);
        if let Some(ends) = forwarded.asked {
            self.datagrams.remove(&ends);
        }
        let ip_id = self.next_ip_id();
        let ttl = self.config.ttl;
        match wire::udp(forwarded.service, forwarded.client, ttl, ip_id, &answer) {
            Some(frame) => {
                if let Err(failure) = self.transmit(frame, forwarded.bound, now, out) {
                    self.count(HostDrop::from(failure));
                }
            }
            None => self.count(HostDrop::Malformed),
        }
    }
}
