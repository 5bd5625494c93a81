//! Pools of numbers (addresses, MACs, indices), and the one rule by which all of them are given out.
//!
//! A pin outranks everything. What an object already holds it keeps. The rest is lowest-free in the order of
//! the requests, which callers sort, so that neither the order of files nor of documents matters. A pin on
//! what a living object holds without a pin is a fault, not a theft: an unchanged object keeps its addresses
//! (promise 5 of the design).

use std::collections::BTreeMap;
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

/// Gives every request a number. Faults: a pin outside of the pool, reserved, or held by another; the pool is
/// exhausted (told once, with the first object that got nothing).
pub(crate) fn assign(
    pool: &Pool,
    requests: &[Request],
    kept: impl Fn(&str) -> Option<u64>,
    messages: &mut Messages,
) -> BTreeMap<String, u64> {
    let mut taken: BTreeMap<u64, &str> = BTreeMap::new();
    let mut given: BTreeMap<String, u64> = BTreeMap::new();
    for request in requests {
        let Some(pin) = request.pin else { continue };
        let shown = (pool.show)(pin);
        if !pool.open && !pool.holds(pin) {
            let message = format!("{shown} is no {} of {}", pool.what, pool.name);
            messages.fault(&request.subject, message, "pin one that is, or none");
        } else if let Some(why) = pool.reserved.get(&pin) {
            messages.fault(&request.subject, format!("{shown} is taken: {why}"), "pin another");
        } else if let Some(other) = taken.insert(pin, &request.owner) {
            taken.insert(pin, other);
            let message = format!("{shown} is asked for twice: {other} has it");
            messages.fault(&request.subject, message, "give each its own");
        } else {
            given.insert(request.owner.clone(), pin);
        }
    }
    for request in requests.iter().filter(|r| r.pin.is_none()) {
        let Some(number) = kept(&request.owner) else { continue };
        if !pool.holds(number) || pool.reserved.contains_key(&number) {
            continue;
        }
        match taken.get(&number) {
            None => {
                taken.insert(number, &request.owner);
                given.insert(request.owner.clone(), number);
            }
            // Only a pin can be there before: of two kept ones the file was tampered with, the later moves.
            Some(other) if requests.iter().any(|r| r.owner == **other && r.pin.is_some()) => {
                let shown = (pool.show)(number);
                let message = format!("{shown} is held by it and pinned by {other}");
                messages.fault(
                    &request.subject,
                    message,
                    "pin another, or remove one of the two first",
                );
            }
            Some(_) => {}
        }
    }
    let mut free = pool.bands.iter().cloned().flatten();
    let mut left: Option<(&Request, usize)> = None;
    for request in requests {
        if request.pin.is_some() || given.contains_key(&request.owner) {
            continue;
        }
        match free.find(|n| !taken.contains_key(n) && !pool.reserved.contains_key(n)) {
            Some(number) => {
                taken.insert(number, &request.owner);
                given.insert(request.owner.clone(), number);
            }
            None => left = Some(left.map_or((request, 1), |(first, n)| (first, n + 1))),
        }
    }
    if let Some((first, count)) = left {
        let size: u64 = pool.bands.iter().map(|b| (b.end() + 1).saturating_sub(*b.start())).sum();
        let usable = size - pool.reserved.keys().filter(|n| pool.holds(**n)).count() as u64;
        let more =
            if count > 1 { format!(" (and {} more objects)", count - 1) } else { String::new() };
        let message = format!(
            "{} has no {} left for it{more}: all {usable} are in use",
            pool.name, pool.what
        );
        messages.fault(&first.subject, message, "use a larger pool, or remove objects");
    }
    given
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
