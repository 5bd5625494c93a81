//! A change to a lab: `apply` and `delete`, of a packet test and of a running lab alike.
//!
//! [`change`] is pure: what a lab is and a change to it give what it is then, or every fault and nothing has
//! changed. What lives on keeps what it was given (addresses, indices, numbers), so that [`publish`]ing the result
//! to the same engine leaves its sessions alone.

use crate::open::{Opened, network_after};
use definitions::{Change, Diagnostic, Effect, ObjectRef};
use hosts::Lab;
use realization::Realized;

/// What came of a change.
#[derive(Debug)]
pub struct Changed {
    /// The lab as it is then.
    pub opened: Opened,
    /// What became of each object, sorted; unchanged ones are left out.
    pub effects: Vec<(ObjectRef, Effect)>,
    /// What the user should know and was not told before. Sorted by place.
    pub notices: Vec<Diagnostic>,
}

/// The lab that `current` and a change to it give. Packet tests are no part of the result.
///
/// # Errors
/// Every fault, sorted by place: something to delete is not there, objects no longer fit together, a pool is exhausted.
pub fn change(current: &Opened, change: &Change) -> Result<Changed, Vec<Diagnostic>> {
    let loaded = current.manifests.change(change)?;
    let realized = realization::realize(&loaded.definitions, &current.realized.allocations)?;
    let known = &current.realized.notices;
    let mut notices = loaded.notices;
    notices.extend(realized.notices.iter().filter(|notice| !known.contains(notice)).cloned());
    notices.sort();
    let effects = current.manifests.effects(&loaded.manifests);
    let opened = Opened { definitions: loaded.definitions, manifests: loaded.manifests, realized };
    Ok(Changed { opened, effects, notices })
}

/// Publishes what a change gave to the lab that it was made to. When this returns, nothing passes any more that
/// is no longer allowed; what still is has lost nothing.
pub fn publish(lab: &mut Lab, realized: &Realized) {
    let before = lab.network();
    let network = network_after(realized, before);
    lab.publish(network, realized.hosts.clone());
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use crate::open;
    use definitions::Input;
    use hosts::{OperationResult, PingOptions};
    use realization::Allocations;
    use std::time::Duration;

    const LAB: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../topologies/first-lab");

    fn opened() -> Opened {
        open::realize(&[Input::Path(LAB.into())], &Allocations::default()).unwrap()
    }

    fn changed(current: &Opened, manifests: &str) -> Changed {
        let apply = Change::apply(&[Input::text("change.yaml", manifests)]).unwrap();
        change(current, &apply).unwrap()
    }

    /// A namespace and a pod before all others in every order, and a port more that `back` listens on.
    const MORE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: aaa}\n---\n\
        apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: aaa}\nspec: {containers: [{name: c, image: i}]}\n---\n\
        apiVersion: v1\nkind: Pod\nmetadata: {name: back, namespace: shop, labels: {app: back}}\n\
        spec: {containers: [{name: redis, image: redis, ports: [{containerPort: 6379}]}]}\n---\n\
        apiVersion: v1\nkind: Service\nmetadata: {name: back, namespace: shop}\n\
        spec: {selector: {app: back}, ports: [{port: 80, targetPort: 81}]}\n";

    #[test]
    fn a_hosts_work_goes_on_through_a_change() {
        let before = opened();
        let mut lab = open::lab(&before.realized);
        let front = lab.host_named("pod/shop/front").unwrap();
        let back = before.realized.names.address_of("pod/shop/back").unwrap();
        let ping = PingOptions { count: 3, ..PingOptions::default() };
        let id = lab.with_host(front, |h, now, out| h.start_ping(back, ping, now, out)).unwrap();
        lab.advance(Duration::from_millis(1500));
        let after = changed(&before, MORE);
        publish(&mut lab, &after.opened.realized);
        assert_eq!(lab.network().epoch, 2);
        let moved = lab.host_named("pod/shop/front").unwrap();
        assert_ne!(moved, front, "another host stands before it");
        lab.advance(Duration::from_secs(30));
        let Some(OperationResult::Ping(report)) = lab.host(moved).unwrap().take_result(id) else {
            panic!("the ping has not ended")
        };
        assert_eq!((report.transmitted, report.received()), (3, 3));
        // What was there keeps its address and its port.
        assert_eq!(after.opened.realized.names.address_of("pod/shop/back").unwrap(), back);
        assert_eq!(
            after.opened.realized.network.port_named("pod/shop/back"),
            before.realized.network.port_named("pod/shop/back")
        );
        assert!(lab.worker().accounting().balances());
    }

    #[test]
    fn what_a_change_did_is_told() {
        let before = opened();
        let after = changed(&before, MORE);
        let told: Vec<String> =
            after.effects.iter().map(|(object, effect)| format!("{object} {effect}")).collect();
        assert_eq!(
            told,
            [
                "Namespace aaa created",
                "Pod aaa/a created",
                "Pod shop/back configured",
                "Service shop/back created"
            ]
        );
        assert!(after.notices.is_empty());
        // A change to a changed lab.
        let again = changed(&after.opened, MORE);
        assert!(again.effects.is_empty());
    }

    #[test]
    fn a_change_that_does_not_fit_says_so() {
        let many: String = (0..260)
            .map(|n| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: n{n}}}\n---\n"))
            .collect();
        let apply = Change::apply(&[Input::text("change.yaml", many)]).unwrap();
        let faults = change(&opened(), &apply).unwrap_err();
        assert!(open::lines(&faults).contains("change.yaml:"), "{}", open::lines(&faults));
    }
}
