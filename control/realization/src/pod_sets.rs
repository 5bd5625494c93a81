//! Which pods a rule is applied to.
//!
//! A namespace may have thousands of pods and of policies that select all of them. Nothing here costs the
//! product of both: the rules of a policy share one set of pods, and pods that are in the same sets share
//! one list of rules.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::rc::Rc;
use std::sync::Arc;

use definitions::model::{ObjectName, Pod};
use engine::network::Direction;

use crate::addressing::{Cluster, Workload};

/// Pods by their place in [`Cluster::pods`], ascending. Rules of one policy share it.
pub(crate) type PodSet = Rc<[u32]>;

/// Indices of the rules towards and from a pod, in the order of evaluation.
pub(crate) type Applied = (Arc<[u32]>, Arc<[u32]>);

/// Rules of one set of pods, and so of every pod in it.
#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Indices towards the pods.
    pub(crate) into: Vec<u32>,
    /// Indices from the pods.
    pub(crate) out: Vec<u32>,
}

impl Section {
    /// Adds the rule at an index, which is higher than those before.
    pub(crate) fn add(&mut self, at: u32, direction: Direction) {
        if direction != Direction::Out {
            self.into.push(at);
        }
        if direction != Direction::In {
            self.out.push(at);
        }
    }
}

/// For every pod the rules of all sets that it is in.
pub(crate) fn apply(
    cluster: &Cluster<'_>,
    sections: &BTreeMap<PodSet, Section>,
) -> BTreeMap<ObjectName, Applied> {
    let sets: Vec<&Section> = sections.values().collect();
    let mut member_of: Vec<Vec<u32>> = vec![Vec::new(); cluster.pods.len()];
    for (number, pods) in (0..).zip(sections.keys()) {
        for pod in pods.iter() {
            if let Some(own) = member_of.get_mut(*pod as usize) {
                own.push(number);
            }
        }
    }
    // Pods that are in the same sets have the same rules; different sets may come to the same.
    let mut lists: BTreeSet<Arc<[u32]>> = BTreeSet::new();
    let mut shared = |of: &dyn Fn(&Section) -> &[u32], member_of: &[u32]| -> Arc<[u32]> {
        let own = member_of.iter().filter_map(|s| sets.get(*s as usize)).flat_map(|s| of(s));
        let mut list: Vec<u32> = own.copied().collect();
        list.sort_unstable();
        if let Some(known) = lists.get(&*list) {
            return Arc::clone(known);
        }
        let list: Arc<[u32]> = list.into();
        lists.insert(Arc::clone(&list));
        list
    };
    let mut classes: BTreeMap<&[u32], Applied> = BTreeMap::new();
    let mut applied = BTreeMap::new();
    for (key, member_of) in cluster.pods.keys().zip(&member_of) {
        if member_of.is_empty() {
            continue;
        }
        let rules = classes
            .entry(member_of)
            .or_insert_with(|| (shared(&|s| &s.into, member_of), shared(&|s| &s.out, member_of)));
        applied.insert(key.clone(), rules.clone());
    }
    applied
}

/// The pods by namespace, with their places in [`Cluster::pods`].
pub(crate) struct Places<'a> {
    pods: Vec<(&'a ObjectName, &'a Pod, &'a Workload)>,
    namespaces: BTreeMap<&'a str, Range<usize>>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(cluster: &'a Cluster<'a>) -> Places<'a> {
        let pods: Vec<_> = cluster.pods.iter().map(|(k, (p, w))| (k, *p, w)).collect();
        let mut namespaces: BTreeMap<&str, Range<usize>> = BTreeMap::new();
        // They are sorted by namespace first.
        for (place, (key, ..)) in pods.iter().enumerate() {
            namespaces.entry(&key.namespace).or_insert(place..place).end = place + 1;
        }
        Places { pods, namespaces }
    }

    /// The pods of a namespace.
    pub(crate) fn of(&self, namespace: &str) -> impl Iterator<Item = (u32, &'a Pod, &'a Workload)> {
        let range = self.namespaces.get(namespace).cloned().unwrap_or_default();
        let first = u32::try_from(range.start).unwrap_or(u32::MAX);
        let pods = self.pods.get(range).unwrap_or_default();
        (first..).zip(pods).map(|(place, (_, pod, workload))| (place, *pod, *workload))
    }

    /// The pods of a namespace that `wanted` takes.
    pub(crate) fn selected(&self, namespace: &str, wanted: impl Fn(&Pod) -> bool) -> PodSet {
        self.of(namespace).filter(|(_, pod, _)| wanted(pod)).map(|(place, ..)| place).collect()
    }

    /// All pods, in the order of their places.
    pub(crate) fn all(&self) -> impl Iterator<Item = (&'a ObjectName, &'a Pod, &'a Workload)> + '_ {
        self.pods.iter().copied()
    }

    /// The pod at a place.
    pub(crate) fn get(&self, place: u32) -> Option<(&'a ObjectName, &'a Pod, &'a Workload)> {
        self.pods.get(place as usize).copied()
    }
}
