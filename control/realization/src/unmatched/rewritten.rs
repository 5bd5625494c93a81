//! Rules that name what no packet has any more, or not yet, where the firewall stands.
//!
//! The firewall judges addresses as they are on the wire at the vNIC: what came through the server load balancer
//! has the balancer's address there, and a ClusterIP has become a backend. The packet that shows it is one that
//! the rule's author had in mind; it is followed through the balancer, in a lab in which nothing has been sent
//! yet, to the rule that decides about it.

use definitions::model::Definitions;
use definitions::own::{NatAction, NatRule, SnatMode};
use engine::network::{
    Action, AddressSet, Direction, Member, PoolSnat, Rule, VirtualServer, VirtualServers,
};
use packet::Addr;

use super::cover::{covers, overlap};
use super::{MAX_TRIED, Packet, Vnics, numbered, ports};
use crate::addressing::{Cluster, prefix4};
use crate::balancer::Balancers;
use crate::fault::Messages;
use crate::rules::{Draft, addresses};

/// Notices of rules whose addresses an earlier stage rewrites.
pub(crate) fn notice_rewritten(
    definitions: &Definitions,
    cluster: &Cluster<'_>,
    balancers: &Balancers,
    vnics: Vnics<'_, '_>,
    messages: &mut Messages,
) {
    let rewriting = Rewriting::new(definitions, cluster, balancers, vnics);
    for draft in vnics.drafts {
        let (Some(author), rule) = (&draft.author, &draft.rule) else { continue };
        let Some((why, help)) = rewriting.explain(rule) else { continue };
        let place = if rule.direction == Direction::In {
            &rule.source_text
        } else {
            &rule.destination_text
        };
        let mut message = format!("{place}: this can never match, {why}");
        if let Some(witness) = rewriting.witness(draft) {
            message = format!("{message}: for instance {witness}");
        }
        messages.notice(&author.subject, message, help);
    }
}

/// What earlier stages make of addresses.
struct Rewriting<'s, 'a> {
    /// ClusterIPs: no packet to one leaves a vNIC.
    services: AddressSet,
    /// All sources that a vNIC can see, if not anybody.
    sources: Option<AddressSet>,
    /// The load balancer's addresses among them, for people.
    balancer: String,
    /// Addresses of hosts outside: of those that a rule names, the likeliest senders.
    outside: Vec<Addr>,
    distributed: &'s VirtualServers,
    server: &'s VirtualServers,
    vnics: Vnics<'s, 'a>,
}

impl<'s, 'a> Rewriting<'s, 'a> {
    fn new(
        definitions: &Definitions,
        cluster: &Cluster<'_>,
        balancers: &'s Balancers,
        vnics: Vnics<'s, 'a>,
    ) -> Rewriting<'s, 'a> {
        let services = prefix4(*cluster.spec().service_cidr);
        let Balancers { server, distributed, .. } = balancers;
        let transparent = cluster.spec().load_balancer.snat == SnatMode::Transparent
            || server.servers().iter().any(|s| s.snat == PoolSnat::Transparent);
        let balancer = cluster.balancer_addresses();
        // A rule that gives the outside an address of the inside lets everybody in with his own.
        let forwards =
            |rule: &NatRule| matches!(rule.action, NatAction::Dnat | NatAction::Reflexive);
        let forwarded = cluster.spec().tier1.nat_rules.iter().flatten().any(forwards);
        let sources = (cluster.nat && !transparent && !forwarded).then(|| {
            let pods = cluster.pods.values().map(|(_, workload)| workload);
            let inside = addresses(pods.chain(cluster.vms.iter().map(|vm| &vm.eth1)));
            inside.union(&AddressSet::from_ranges(balancer.iter().map(|a| (*a, *a))))
        });
        let list: Vec<String> = balancer.iter().map(ToString::to_string).collect();
        let interfaces = definitions.external_hosts.values().flat_map(|h| &h.spec.interfaces);
        Rewriting {
            services: AddressSet::from_ranges([(services.first(), services.last())]),
            sources,
            balancer: list.join(" or "),
            outside: interfaces
                .flat_map(|i| &i.addresses)
                .map(|net| Addr::from(net.addr()))
                .collect(),
            distributed,
            server,
            vnics,
        }
    }

    /// Why a rule can never match, and what to do about it.
    fn explain(&self, rule: &Rule) -> Option<(String, &'static str)> {
        if rule.direction == Direction::Out {
            let dead = !rule.destination.is_empty() && covers(&self.services, &rule.destination);
            return dead.then(|| {
                let why = "a ClusterIP has become a backend before the firewall sees it".to_owned();
                (why, "name the backends' pods instead")
            });
        }
        let sources = self.sources.as_ref()?;
        let dead = !rule.source.is_empty() && !overlap(&rule.source, sources);
        dead.then(|| {
            if !rule.source.ranges().iter().any(|(first, _)| first.is_v4()) {
                let why = "the way in from outside is a virtual server, and those have IPv4 addresses only".to_owned();
                return (why, "name IPv4 addresses of clients that come as themselves, or IPv6 addresses inside");
            }
            let why = format!("who comes from outside has the load balancer's address, {}", self.balancer);
            (why, "name that address, or keep the client's with 'ncp/transparent-lb: \"true\"' on the Service")
        })
    }

    /// A packet that the rule was written for, what becomes of it, and what decides about it.
    fn witness(&self, draft: &Draft) -> Option<String> {
        let pods = draft.pods.iter().take(MAX_TRIED);
        let mut ways = pods.filter_map(|place| match draft.rule.direction {
            Direction::Out => self.service_witness(draft, *place),
            Direction::In | Direction::InOut => self.client_witness(draft, *place),
        });
        ways.next().or_else(|| self.stray_witness(draft))
    }

    /// A packet of the pod to a ClusterIP that the rule names.
    fn service_witness(&self, draft: &Draft, place: u32) -> Option<String> {
        let rule = &draft.rule;
        let list = self.vnics.rules(place, rule.direction)?;
        let (_, _, workload) = self.vnics.places.get(place)?;
        let own = workload.v4();
        let servers = self.distributed.servers().iter();
        let named = servers.filter(|s| rule.destination.contains(s.address));
        named.take(MAX_TRIED).find_map(|server| {
            let sent = packet(own, server);
            let member = first_member(server, Some(workload.hypervisor))?;
            // A pod's way to itself is not judged.
            if member.address == own || !sent.is_matched_by(rule) {
                return None;
            }
            let judged = Packet { dst: member.address, port: member.port, ..sent };
            Some(self.told(sent, judged, list))
        })
    }

    /// A packet from outside to a virtual server that leads to the pod.
    fn client_witness(&self, draft: &Draft, place: u32) -> Option<String> {
        let rule = &draft.rule;
        let list = self.vnics.rules(place, rule.direction)?;
        let (_, _, workload) = self.vnics.places.get(place)?;
        let source = self.sender(rule)?;
        self.server.servers().iter().find_map(|server| {
            let admits = |s: &VirtualServer| {
                s.source_ranges.is_empty() || s.source_ranges.iter().any(|p| p.contains(source))
            };
            let member = first_member(server, None).filter(|m| m.address == workload.v4())?;
            let seen_as = match &server.snat {
                PoolSnat::Transparent => return None,
                PoolSnat::Automap(address) => *address,
                PoolSnat::Pool(addresses) => *addresses.first()?,
            };
            let sent = packet(source, server);
            let judged = Packet { src: seen_as, dst: member.address, port: member.port, ..sent };
            let meant = Packet { src: source, ..judged };
            (admits(server) && meant.is_matched_by(rule)).then(|| self.told(sent, judged, list))
        })
    }

    /// A packet that meets no virtual server with members, and so no firewall.
    fn stray_witness(&self, draft: &Draft) -> Option<String> {
        let rule = &draft.rule;
        let (place, _) = self.vnics.first(draft)?;
        let own = self.vnics.places.get(place)?.2.v4();
        let (protocol, ports) = ports(&rule.services);
        let port = *ports.first()?;
        if rule.direction != Direction::Out {
            let sent = Packet { src: self.sender(rule)?, dst: own, protocol, port };
            return Some(format!(
                "{sent} reaches no pod: the way in from outside is a virtual server"
            ));
        }
        let mut named = rule.destination.ranges().iter().flat_map(|(first, last)| [*first, *last]);
        named.find_map(|dst| {
            let sent = Packet { src: own, dst, protocol, port };
            match self.distributed.lookup(dst, protocol, port) {
                Some((_, server)) if server.members.is_empty() => {
                    Some(format!("{sent} ends at the load balancer: no-member"))
                }
                Some(_) => None,
                None => Some(format!("{sent} ends at the load balancer: vip-no-port")),
            }
        })
    }

    /// An IPv4 address that a rule names as source, a host's of the lab before any other.
    fn sender(&self, rule: &Rule) -> Option<Addr> {
        let firsts = rule.source.ranges().iter().map(|(first, _)| *first);
        let usable = |a: &Addr| a.is_v4() && !a.is_unspecified() && rule.source.contains(*a);
        self.outside.iter().copied().chain(firsts).find(usable)
    }

    fn told(&self, sent: Packet, judged: Packet, list: &[u32]) -> String {
        let decided = match self.vnics.taker(list, judged) {
            None => "no rule takes, so that it passes".to_owned(),
            Some(rule) => {
                let verb = match rule.action {
                    Action::Allow => "allows",
                    Action::Drop => "drops",
                    Action::Reject => "rejects",
                };
                format!("{} {verb}", numbered(rule))
            }
        };
        format!("{sent} comes as {judged}, which {decided}")
    }
}

/// The packet that a client sends to a virtual server.
fn packet(src: Addr, server: &VirtualServer) -> Packet {
    Packet { src, dst: server.address, protocol: server.protocol, port: server.port }
}

/// Who gets the first connection.
fn first_member(server: &VirtualServer, hypervisor: Option<u32>) -> Option<&Member> {
    server.members.iter().find(|m| !server.local_only || m.hypervisor == hypervisor)
}
