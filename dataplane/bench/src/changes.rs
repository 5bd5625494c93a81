//! Snapshots that come while packets flow: the control side of a measurement under change.

use crate::enlarge::idle_rule;
use engine::Shared;
use engine::network::{Network, PortId};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The newest snapshot, for workers that look once a batch.
#[derive(Debug)]
pub struct Snapshots {
    epoch: AtomicU64,
    newest: Mutex<Arc<Network>>,
}

impl Snapshots {
    /// Begins with `net`.
    #[must_use]
    pub fn new(net: Arc<Network>) -> Snapshots {
        Snapshots { epoch: AtomicU64::new(net.epoch), newest: Mutex::new(net) }
    }

    /// Epoch of the newest.
    #[inline]
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// The newest.
    #[must_use]
    pub fn newest(&self) -> Arc<Network> {
        Arc::clone(&self.newest.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Publishes a snapshot to the workers, then hands it to them.
    fn publish(&self, shared: &Shared, net: Arc<Network>) {
        shared.publish(&net);
        let epoch = net.epoch;
        *self.newest.lock().unwrap_or_else(PoisonError::into_inner) = net;
        self.epoch.store(epoch, Ordering::Release);
    }
}

/// The snapshot after `net`: a rule that concerns none of the flows comes, or goes again. It is applied
/// to a workload without flows, if there is one.
fn next(net: &Network, busy: &BTreeSet<PortId>) -> Network {
    let mut next = net.clone();
    next.epoch += 1;
    let idle = net
        .ports
        .iter()
        .zip(0u32..)
        .position(|(port, i)| port.vnic.is_some() && !busy.contains(&PortId(i)));
    let rule = idle_rule(1 << 28);
    let vnic = idle.and_then(|i| next.ports.get_mut(i)).and_then(|port| port.vnic.as_mut());
    if next.firewall.rules.last().is_some_and(|last| last.id == rule.id) {
        next.firewall.rules.pop();
        if let Some(vnic) = vnic
            && let Some((_, rest)) = vnic.rules_in.split_last()
        {
            vnic.rules_in = rest.into();
        }
    } else {
        if let (Some(vnic), Ok(index)) = (vnic, u32::try_from(next.firewall.rules.len())) {
            vnic.rules_in = vnic.rules_in.iter().copied().chain([index]).collect();
        }
        next.firewall.rules.push(rule);
    }
    next.follow(net);
    next
}

/// Ends the changes when it goes, also by a panic.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// Runs `work` while another thread changes the network `per_second` times a second, in what is
/// nothing to ports in `busy`. Returns what `work` did and how many changes there were.
pub fn change_during<R>(
    snapshots: &Snapshots,
    shared: &Shared,
    busy: &BTreeSet<PortId>,
    per_second: u32,
    work: impl FnOnce() -> R,
) -> (R, u64) {
    if per_second == 0 {
        return (work(), 0);
    }
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let changer = scope.spawn(|| {
            let (started, every) = (Instant::now(), Duration::from_secs(1) / per_second);
            let mut changes = 0;
            while !done.load(Ordering::Acquire) {
                let due = every.saturating_mul(u32::try_from(changes).unwrap_or(u32::MAX));
                match due.checked_sub(started.elapsed()) {
                    Some(early) if !early.is_zero() => {
                        std::thread::sleep(early.min(Duration::from_millis(10)));
                    }
                    _ => {
                        let net = next(&snapshots.newest(), busy);
                        snapshots.publish(shared, Arc::new(net));
                        changes += 1;
                    }
                }
            }
            changes
        });
        let ends = Ends(&done);
        let result = work();
        drop(ends);
        (result, changer.join().unwrap_or(0))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{Worker, WorkerConfig};

    #[test]
    fn every_other_change_takes_back_the_one_before() {
        let net = Network { epoch: 1, ..Network::default() };
        let (one, busy) = (next(&net, &BTreeSet::new()), BTreeSet::new());
        assert_eq!((one.epoch, one.firewall.rules.len()), (2, 1));
        let two = next(&one, &busy);
        assert_eq!((two.epoch, two.firewall.rules.len()), (3, 0));
    }

    #[test]
    fn changes_come_at_the_rate_that_was_asked_for() {
        let snapshots = Snapshots::new(Arc::new(Network { epoch: 1, ..Network::default() }));
        let worker = Worker::new(WorkerConfig::default());
        let started = Instant::now();
        let wait = || std::thread::sleep(Duration::from_millis(300));
        let ((), changes) = change_during(&snapshots, worker.shared(), &BTreeSet::new(), 100, wait);
        // A busy machine makes fewer.
        let most = started.elapsed().as_millis() / 10 + 1;
        assert!(changes >= 1 && u128::from(changes) <= most, "{changes} of {most}");
        assert_eq!(snapshots.epoch(), 1 + changes);
        assert_eq!(snapshots.newest().epoch, 1 + changes);
    }
}
