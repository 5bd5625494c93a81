//! Pools of numbers (addresses, MACs, indices), and the one rule by which all of them are given out.
//!
//! A pin outranks everything. What an object already holds it keeps. The rest is lowest-free in the order of
//! the requests, which callers sort, so that neither the order of files nor of documents matters. A pin on
//! what a living object holds without a pin is a fault, not a theft: an unchanged object keeps its addresses
//! (promise 5 of the design).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use crate::fault::{Messages, Subject};

/// What numbers are given out from.
pub(crate) struct Pool {
    /// For messages: `egress address`.
    pub(crate) what: &'static str,
    /// For messages: `egressCIDR 172.16.2.0/24`.
    pub(crate) name: String,
    /// Where free numbers are looked for, band by band.
    pub(crate) bands: Vec<RangeInclusive<u64>>,
    /// Numbers inside that nobody gets, with the reason.
    pub(crate) reserved: BTreeMap<u64, String>,
    /// A pin may lie outside of the bands.
    pub(crate) open: bool,
    /// How a number reads.
    pub(crate) show: fn(u64) -> String,
}

impl Pool {
    fn holds(&self, number: u64) -> bool {
        self.bands.iter().any(|band| band.contains(&number))
    }
}

/// One wish.
pub(crate) struct Request {
    /// Who wants it: the key under which it is kept.
    pub(crate) owner: String,
    /// The number asked for by name.
    pub(crate) pin: Option<u64>,
    /// The object to blame.
    pub(crate) subject: Subject,
}

/// Why a request got no number. Others are numbers into the requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Failure {
    /// The pin is none of the pool's.
    Outside,
    /// The pin is reserved, for this reason.
    Reserved(String),
    /// Another request pins the same.
    Twice(usize),
    /// It holds what another request pins.
    Pinned(usize),
    /// Nothing is left.
    Exhausted,
}

/// What requests got.
#[derive(Debug, Default)]
pub(crate) struct Assigned {
    /// Numbers by owner.
    pub(crate) given: BTreeMap<String, u64>,
    /// Requests that got none, with the reason.
    pub(crate) failed: Vec<(usize, Failure)>,
}

/// Gives every request a number. Each failure is a fault; that the pool is exhausted is told once, with the first object
/// that got nothing.
pub(crate) fn assign(
    pool: &Pool,
    requests: &[Request],
    kept: impl Fn(&str) -> Option<u64>,
    messages: &mut Messages,
) -> BTreeMap<String, u64> {
    let assigned = try_assign(pool, requests, kept);
    tell(pool, requests, &assigned.failed, |_| None, messages);
    assigned.given
}

/// Makes faults of failures. `status` is NCP's name for one, where it has any.
pub(crate) fn tell(
    pool: &Pool,
    requests: &[Request],
    failed: &[(usize, Failure)],
    status: impl Fn(&Failure) -> Option<String>,
    messages: &mut Messages,
) {
    let exhausted = failed.iter().filter(|(_, f)| *f == Failure::Exhausted).count();
    let mut told = false;
    for (at, failure) in failed {
        let Some(request) = requests.get(*at) else { continue };
        if *failure == Failure::Exhausted && std::mem::replace(&mut told, true) {
            continue;
        }
        let (message, help) = pool.explain(request, failure, requests, exhausted);
        let status = status(failure).map(|s| format!(" ({s})")).unwrap_or_default();
        messages.fault(&request.subject, format!("{message}{status}"), help);
    }
}

impl Pool {
    /// What is wrong and what to do.
    fn explain(
        &self,
        request: &Request,
        failure: &Failure,
        requests: &[Request],
        exhausted: usize,
    ) -> (String, &'static str) {
        let shown = request.pin.map(self.show).unwrap_or_default();
        // Owners such as `host/server:eth0` say which part of the object, others only what the object is called.
        let other = |at: usize| match requests.get(at) {
            Some(r) if !r.owner.starts_with('@') && !r.subject.object.ends_with(&r.owner) => {
                r.owner.as_str()
            }
            r => r.map_or("", |r| r.subject.object.as_str()),
        };
        match failure {
            Failure::Outside => {
                let message = format!("{shown} is no {} of {}", self.what, self.name);
                (message, "pin one that is, or none")
            }
            Failure::Reserved(why) => (format!("{shown} is taken: {why}"), "pin another"),
            Failure::Twice(at) => {
                (format!("{shown} is asked for twice: {} has it", other(*at)), "give each its own")
            }
            Failure::Pinned(at) => {
                let pin = requests.get(*at).and_then(|r| r.pin).map(self.show).unwrap_or_default();
                let message = format!("{pin} is held by it and pinned by {}", other(*at));
                (message, "pin another, or remove one of the two first")
            }
            Failure::Exhausted => {
                let more = match exhausted {
                    0 | 1 => String::new(),
                    n => format!(" (and {} more objects)", n - 1),
                };
                let message = format!(
                    "{} has no {} left for it{more}: all {} are in use",
                    self.name,
                    self.what,
                    self.usable()
                );
                (message, "use a larger pool, or remove objects")
            }
        }
    }

    /// How many numbers there are to give out.
    fn usable(&self) -> u64 {
        let size: u64 = self.bands.iter().map(|b| (b.end() + 1).saturating_sub(*b.start())).sum();
        size - self.reserved.keys().filter(|n| self.holds(**n)).count() as u64
    }
}

/// Gives requests numbers, as far as there are any. Of requests that fail, none has a number, and none takes one away.
pub(crate) fn try_assign(
    pool: &Pool,
    requests: &[Request],
    kept: impl Fn(&str) -> Option<u64>,
) -> Assigned {
    let mut taken: BTreeMap<u64, usize> = BTreeMap::new();
    let mut result = Assigned::default();
    for (at, request) in requests.iter().enumerate() {
        let Some(pin) = request.pin else { continue };
        let failure = if !pool.open && !pool.holds(pin) {
            Failure::Outside
        } else if let Some(why) = pool.reserved.get(&pin) {
            Failure::Reserved(why.clone())
        } else if let Some(other) = taken.get(&pin) {
            Failure::Twice(*other)
        } else {
            taken.insert(pin, at);
            result.given.insert(request.owner.clone(), pin);
            continue;
        };
        result.failed.push((at, failure));
    }
    for (at, request) in requests.iter().enumerate().filter(|(_, r)| r.pin.is_none()) {
        let Some(number) = kept(&request.owner) else { continue };
        if !pool.holds(number) || pool.reserved.contains_key(&number) {
            continue;
        }
        match taken.get(&number) {
            None => {
                taken.insert(number, at);
                result.given.insert(request.owner.clone(), number);
            }
            // Of two kept ones the file was tampered with: the later moves.
            Some(other) if requests.get(*other).is_some_and(|r| r.pin.is_some()) => {
                result.failed.push((at, Failure::Pinned(*other)));
            }
            Some(_) => {}
        }
    }
    let lost: BTreeSet<usize> = result.failed.iter().map(|(at, _)| *at).collect();
    let mut free = pool.bands.iter().cloned().flatten();
    for (at, request) in requests.iter().enumerate() {
        if lost.contains(&at) || result.given.contains_key(&request.owner) {
            continue;
        }
        match free.find(|n| !taken.contains_key(n) && !pool.reserved.contains_key(n)) {
            Some(number) => {
                taken.insert(number, at);
                result.given.insert(request.owner.clone(), number);
            }
            None => result.failed.push((at, Failure::Exhausted)),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;
    use definitions::model::Source;

    fn pool(bands: Vec<RangeInclusive<u64>>) -> Pool {
        Pool {
            what: "number",
            name: "pool P".into(),
            bands,
            reserved: BTreeMap::new(),
            open: false,
            show: |n| format!("#{n}"),
        }
    }

    fn requests(owners: &[(&str, Option<u64>)]) -> Vec<Request> {
        owners
            .iter()
            .map(|(owner, pin)| Request {
                owner: (*owner).into(),
                pin: *pin,
                subject: Subject {
                    object: format!("Thing {owner}"),
                    source: Source { file: "t.yaml".into(), line: 1 },
                },
            })
            .collect()
    }

    fn run(
        pool: &Pool,
        owners: &[(&str, Option<u64>)],
        kept: &[(&str, u64)],
    ) -> Result<Vec<(String, u64)>, Vec<String>> {
        let mut messages = Messages::default();
        let kept: BTreeMap<&str, u64> = kept.iter().copied().collect();
        let given = assign(pool, &requests(owners), |o| kept.get(o).copied(), &mut messages);
        messages
            .finish()
            .map(|()| given.into_iter().collect())
            .map_err(|faults| faults.iter().map(ToString::to_string).collect())
    }

    fn pairs(list: &[(&str, u64)]) -> Vec<(String, u64)> {
        list.iter().map(|(o, n)| ((*o).into(), *n)).collect()
    }

    #[test]
    fn lowest_free_then_kept_then_pinned() {
        let p = pool(vec![1..=9]);
        assert_eq!(
            run(&p, &[("a", None), ("b", None)], &[]).unwrap(),
            pairs(&[("a", 1), ("b", 2)])
        );
        // c lives on at 2; what b held is free again and a newcomer gets it.
        assert_eq!(
            run(&p, &[("a", None), ("c", None), ("d", None)], &[("a", 3), ("b", 1), ("c", 2)])
                .unwrap(),
            pairs(&[("a", 3), ("c", 2), ("d", 1)])
        );
        assert_eq!(
            run(&p, &[("a", None), ("b", Some(1))], &[]).unwrap(),
            pairs(&[("a", 2), ("b", 1)])
        );
        // A pin moves its own object.
        assert_eq!(run(&p, &[("a", Some(7))], &[("a", 3)]).unwrap(), pairs(&[("a", 7)]));
    }

    #[test]
    fn bands_are_searched_in_order() {
        let p = pool(vec![5..=6, 1..=2]);
        assert_eq!(
            run(&p, &[("a", None), ("b", None), ("c", None)], &[]).unwrap(),
            pairs(&[("a", 5), ("b", 6), ("c", 1)])
        );
    }

    #[test]
    fn exhaustion_is_told_once() {
        let faults =
            run(&pool(vec![1..=1]), &[("a", None), ("b", None), ("c", None)], &[]).unwrap_err();
        assert_eq!(
            faults,
            [
                "t.yaml:1: Thing b: pool P has no number left for it (and 1 more objects): all 1 are in use; \
              use a larger pool, or remove objects"
            ]
        );
    }

    #[test]
    fn pins_conflict() {
        let p = pool(vec![1..=9]);
        assert!(
            run(&p, &[("a", Some(10))], &[]).unwrap_err()[0].contains("#10 is no number of pool P")
        );
        assert!(
            run(&p, &[("a", Some(3)), ("b", Some(3))], &[]).unwrap_err()[0]
                .contains("asked for twice")
        );
        assert!(
            run(&p, &[("a", None), ("b", Some(3))], &[("a", 3)]).unwrap_err()[0]
                .contains("held by it")
        );
        let mut r = pool(vec![1..=9]);
        r.reserved.insert(4, "the gateway".into());
        assert!(run(&r, &[("a", Some(4))], &[]).unwrap_err()[0].contains("the gateway"));
    }

    #[test]
    fn what_was_kept_outside_of_the_pool_or_twice_moves() {
        let p = pool(vec![1..=9]);
        assert_eq!(
            run(&p, &[("a", None), ("b", None), ("c", None)], &[("a", 4), ("b", 4), ("c", 77)])
                .unwrap(),
            pairs(&[("a", 4), ("b", 1), ("c", 2)])
        );
    }
}
