//! What a name server knows: names, their addresses, aliases, and who is asked for everything else.

use std::collections::BTreeMap;

use packet::Addr;

/// Aliases that a question is led through; more are taken for a loop (RFC 1034, 3.6.2).
pub const MAX_ALIASES: usize = 8;

/// Names and their addresses. Case and a final dot never matter (RFC 4343).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    records: BTreeMap<String, Vec<Addr>>,
    /// Names that stand for another name (CNAME, RFC 1035, 3.3.1).
    aliases: BTreeMap<String, String>,
    /// Time to live of every record, seconds.
    pub ttl: u32,
    forwarding: Option<Forwarding>,
}

/// Who answers for names outside a zone.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Forwarding {
    /// The zone's own name; every name that ends in it is the zone's to answer or to deny.
    origin: String,
    /// Servers, asked in turn; none: nobody is asked.
    upstreams: Vec<Addr>,
}

/// Where the aliases of a name lead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resolved<'z> {
    /// Name and what it stands for, in the order they are followed.
    pub aliases: Vec<(String, &'z str)>,
    /// The name at the end.
    pub name: String,
    /// The aliases do not end: there are more than [`MAX_ALIASES`], or they form a loop.
    pub endless: bool,
}

impl Zone {
    /// An empty zone whose records live for `ttl` seconds.
    #[must_use]
    pub fn new(ttl: u32) -> Zone {
        Zone { ttl, ..Zone::default() }
    }

    /// Adds an address to a name.
    pub fn add(&mut self, name: &str, addr: Addr) {
        self.records.entry(canonical(name)).or_default().push(addr);
    }

    /// Makes a name stand for another one, which need not be of this zone. An alias has no addresses of
    /// its own (RFC 1034, 3.6.2): what [`Zone::add`] gave it is not answered.
    pub fn alias(&mut self, name: &str, target: &str) {
        self.aliases.insert(canonical(name), canonical(target));
    }

    /// Says that the zone is `origin`, and passes questions for names that do not end in it and have no
    /// record on to these servers, at port 53. Without any, the zone denies every name that it does not
    /// have.
    pub fn forward(&mut self, origin: &str, upstreams: Vec<Addr>) {
        self.forwarding = Some(Forwarding { origin: canonical(origin), upstreams });
    }

    /// The servers to ask for a name that is not this zone's, or for what it is an alias of; empty if the
    /// zone has the answer, or if there are none.
    #[must_use]
    pub fn upstreams(&self, name: &str) -> &[Addr] {
        let resolved = self.resolve(name);
        match &self.forwarding {
            Some(forwarding) if !resolved.endless && self.is_outside(&resolved.name) => {
                &forwarding.upstreams
            }
            _ => &[],
        }
    }

    /// Addresses of a name; `None` if it has none of its own: it does not exist, or is an alias.
    #[must_use]
    pub fn lookup(&self, name: &str) -> Option<&[Addr]> {
        self.records.get(&canonical(name)).map(Vec::as_slice)
    }

    /// Follows the aliases of a name.
    pub(crate) fn resolve(&self, name: &str) -> Resolved<'_> {
        let mut resolved = Resolved { aliases: Vec::new(), name: canonical(name), endless: false };
        while let Some(target) = self.aliases.get(&resolved.name) {
            if resolved.aliases.len() == MAX_ALIASES {
                resolved.endless = true;
                break;
            }
            let owner = std::mem::replace(&mut resolved.name, target.clone());
            resolved.aliases.push((owner, target));
        }
        resolved
    }

    /// Whether a name is for others to answer: it does not end in the zone's own name and has no record.
    pub(crate) fn is_outside(&self, name: &str) -> bool {
        let name = canonical(name);
        let origin = self.forwarding.as_ref().map(|f| f.origin.as_str());
        origin.is_some_and(|o| !self.records.contains_key(&name) && !is_within(&name, o))
    }
}

/// A name without final dot, in lower case.
pub(crate) fn canonical(name: &str) -> String {
    name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase()
}

/// Whether `name` is `origin` or below it, both canonical.
fn is_within(name: &str, origin: &str) -> bool {
    let rest = name.strip_suffix(origin);
    origin.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // tests

    use super::*;

    #[test]
    fn aliases_are_followed_to_their_end() {
        let mut zone = Zone::new(5);
        zone.alias("A.bc.", "B.bc");
        zone.alias("b.bc", "c.bc");
        let resolved = zone.resolve("a.BC");
        let expected = [("a.bc".to_owned(), "b.bc"), ("b.bc".to_owned(), "c.bc")];
        assert_eq!(resolved.aliases, expected);
        assert_eq!((resolved.name.as_str(), resolved.endless), ("c.bc", false));
        assert_eq!(zone.resolve("c.bc").aliases, []);
    }

    #[test]
    fn a_loop_ends() {
        let mut zone = Zone::new(5);
        zone.forward("cluster.local", vec!["10.0.0.9".parse().unwrap()]);
        zone.alias("a.example", "b.example");
        zone.alias("b.example", "a.example");
        zone.alias("self", "self");
        for name in ["a.example", "self"] {
            let resolved = zone.resolve(name);
            assert_eq!((resolved.aliases.len(), resolved.endless), (MAX_ALIASES, true), "{name}");
            assert!(zone.upstreams(name).is_empty(), "{name} is nobody's to answer");
        }
    }

    #[test]
    fn the_end_of_an_alias_says_who_is_asked() {
        let upstream: Addr = "10.0.0.9".parse().unwrap();
        let mut zone = Zone::new(5);
        zone.alias("out.a.svc.cluster.local", "example.com");
        zone.alias("in.a.svc.cluster.local", "web.a.svc.cluster.local");
        zone.forward("cluster.local", Vec::new());
        assert!(zone.upstreams("out.a.svc.cluster.local").is_empty(), "there is none");
        zone.forward("cluster.local", vec![upstream]);
        assert_eq!(zone.upstreams("out.a.svc.cluster.local"), [upstream]);
        assert!(zone.upstreams("in.a.svc.cluster.local").is_empty());
    }
}
