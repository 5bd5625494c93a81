//! A change to a lab: `apply` and `delete`, of a packet test and of a running lab alike.
//!
//! [`change`] is pure: what a lab is and a change to it give what it is then, or every fault and nothing has
//! changed. What lives on keeps what it was given (addresses, indices, numbers), so that [`publish`]ing the result
//! to the same engine leaves its sessions alone.

use crate::open::{Opened, network};
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
    let epoch = lab.network().epoch + 1;
    lab.publish(network(realized, epoch), realized.hosts.clone());
}
