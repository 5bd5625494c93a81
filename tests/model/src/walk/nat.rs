//! NAT of the Tier-1: destination rules inwards, source rules outwards, both for what an inside host sends to an address that the
//! outside has for another (docs/choices.md, "NAT").

use std::net::IpAddr;

use definitions::own::FirewallMatch;

use super::{Stop, Walk, gone};
use crate::Pair;
use crate::counters::Counter;
use crate::memory::{Deed, Place, Way};
use crate::network::{NatKind, NatRule, Pool};
use crate::packet::{Content, Flow};

impl Walk<'_> {
    /// The ICMP type of a query; of anything else 0 will do.
    fn query(&self) -> Option<u8> {
        Some(match self.done.packet.content {
            Content::Echo { reply: false, .. } => 8,
            _ => 0,
        })
    }

    /// The first rule for a flow of either list.
    pub(super) fn rule(&self, destinations: bool, flow: Flow) -> Option<&NatRule> {
        let query = self.query();
        let mut list = self.network.nat_rules.iter();
        list.find(|rule| rule.is_about_destinations() == destinations && rule.matches(flow, query))
    }

    /// The rule about the packet's destination, which is another one then if it is DNAT. What comes from inside gets its source
    /// where its way shows which: turning around or leaving.
    pub(super) fn destination_nat(&mut self, uplink: bool) -> Stop<Option<NatRule>> {
        let flow = self.done.packet.flow();
        let Some(rule) = self.rule(true, flow).cloned() else { return Ok(None) };
        if !matches!(rule.kind, NatKind::Dnat(..)) {
            return Ok(Some(rule));
        }
        if self.done.packet.is_error() {
            // It is of the flow that it quotes, which no rule has begun, and ends at the address that it came for.
            return Ok(None);
        }
        self.done.blamed = Some(rule.counter());
        if !self.may_begin() {
            return gone("cannot begin a conversation at DNAT");
        }
        let wanted = rule.with_destination(flow);
        let went = if uplink { self.allocate(&[Place::Tier1], flow, wanted) } else { Some(wanted) };
        let Some(went) = went else { return gone("no port is free") };
        self.done.blamed = None;
        self.rewrite(flow, went);
        Ok(Some(rule))
    }

    /// What DNAT sends from outside to the inside.
    pub(super) fn ends_inside(&mut self, rule: &NatRule, came: Flow) {
        let flow = self.done.packet.flow();
        self.remember(Place::Tier1, (came, flow), Deed::Natted, Some(rule.counter()));
    }

    /// What DNAT sends from the inside to the inside. The target sees the source that it would see outside. One that stays is
    /// replaced by the address that was asked for where the answer would not come back.
    pub(super) fn turns_around(&mut self, rule: &NatRule, came: Flow) -> Stop<()> {
        let flow = self.done.packet.flow();
        self.done.blamed = Some(rule.counter());
        let went = match self.rule(false, came).map(|rule| rule.kind) {
            Some(NatKind::Snat(pool)) => self.of_pool(pool, came, flow),
            _ => {
                let block = self.network.block_of(flow.src);
                let near = block.is_some_and(|block| block.holds(flow.dst));
                let src = if near { came.dst } else { flow.src };
                self.allocate(&[Place::Tier1], came, Flow { src, ..flow })
            }
        };
        let Some(went) = went else { return gone("no port is free") };
        self.done.blamed = None;
        self.remember(Place::Tier1, (came, went), Deed::Natted, Some(rule.counter()));
        self.rewrite(flow, went);
        Ok(())
    }

    /// A host has one address of a pool: the one that it had before, else the one that was observed, else a guess.
    fn of_pool(&mut self, pool: Pool, came: Flow, wanted: Flow) -> Option<Flow> {
        let host = wanted.src;
        let paired = self.model.paired.iter().find(|p| (p.pool, p.host) == (pool, host));
        if let Some(pair) = paired {
            return self.allocate(&[Place::Tier1], came, Flow { src: pair.address, ..wanted });
        }
        let seen = self.observed.iter().map(|seen| seen.packet.flow().src);
        let mut candidates: Vec<IpAddr> = seen.filter(|src| pool.contains(*src)).collect();
        if candidates.is_empty() {
            candidates = pool.addresses();
            let count = candidates.len();
            self.done.guesses = count;
            candidates.rotate_left(self.guess.checked_rem(count).unwrap_or_default());
        }
        let free = |src| self.allocate(&[Place::Tier1], came, Flow { src, ..wanted });
        let went = candidates.into_iter().find_map(free)?;
        self.done.pair = Some(Pair { pool, host, address: went.src });
        Some(went)
    }

    /// What comes in as it is, is remembered if a rule says so, would meet its answers, or gives its target to others.
    pub(super) fn lets_in(&mut self) -> Stop<()> {
        let flow = self.done.packet.flow();
        if let Some(counter) = self.rule(true, flow).map(NatRule::counter) {
            self.done.blamed = Some(counter.clone());
            self.untouched(flow, Deed::Natted, Some(counter))?;
            self.done.blamed = None;
            return Ok(());
        }
        self.passes_untranslated(flow, false, flow.dst)
    }

    /// A flow that no rule is about is remembered if one would meet its answers, or translates others to its end inside: its
    /// answers are translated no more than it was.
    fn passes_untranslated(&mut self, flow: Flow, destinations: bool, inside: IpAddr) -> Stop<()> {
        // What answers a query has the ICMP type 0.
        let back = flow.reversed();
        let concerned = self.network.nat_rules.iter().any(|rule| {
            let meets = rule.is_about_destinations() == destinations && rule.matches(back, Some(0));
            meets || matches!(rule.kind, NatKind::Dnat(to, _) if to.contains(&inside))
        });
        if concerned { self.untouched(flow, Deed::LetIn, None) } else { Ok(()) }
    }

    /// A flow that stays as it is, but not where its answers would be another's.
    fn untouched(&mut self, flow: Flow, deed: Deed, counter: Option<Counter>) -> Stop<()> {
        if !self.may_begin() {
            return Ok(());
        }
        if self.stays(flow, flow).is_none() {
            return gone("untranslated, and taken");
        }
        self.remember(Place::Tier1, (flow, flow), deed, counter);
        Ok(())
    }

    /// What leaves: `came` to the gateway, and was perhaps given another destination by `dnat` just now.
    pub(super) fn source_nat(
        &mut self,
        came: Flow,
        dnat: Option<&NatRule>,
        private: bool,
        crosses: bool,
    ) -> Stop<()> {
        let flow = self.done.packet.flow();
        let answers = matches!(self.done.known, Some((_, Way::Back))) && !private;
        let Some(rule) = self.rule(false, flow).cloned().filter(|_| !answers) else {
            if private {
                return gone("a private source without a NAT rule");
            }
            if crosses {
                self.cross(false, came, None, dnat, flow)?;
            }
            if let Some(dnat) = dnat {
                self.remember(Place::Tier1, (came, flow), Deed::Natted, Some(dnat.counter()));
            } else if !answers {
                self.passes_untranslated(flow, true, flow.src)?;
            }
            return Ok(());
        };
        self.done.blamed = Some(rule.counter());
        if rule.kind == NatKind::NoAddress {
            return gone("a Service that has no address of its SNAT pool");
        }
        if !self.may_begin() {
            return gone("cannot begin a conversation at NAT");
        }
        let went = match rule.kind {
            NatKind::Snat(pool) => self.of_pool(pool, came, flow),
            _ => self.stays(flow, came),
        };
        let nowhere = went.is_none() && rule.firewall_match == FirewallMatch::External;
        if crosses && !nowhere {
            self.done.blamed = None;
            self.cross(false, came, None, Some(&rule), went.unwrap_or(flow))?;
            self.done.blamed = Some(rule.counter());
        }
        let Some(went) = went else { return gone("no port is free") };
        self.done.blamed = None;
        self.remember(Place::Tier1, (came, went), Deed::Natted, Some(rule.counter()));
        self.rewrite(flow, went);
        Ok(())
    }
}
