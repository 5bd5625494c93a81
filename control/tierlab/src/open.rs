//! From paths to a lab.

use crate::args;
use crate::exit::Error;
use crate::output::printable;
use bench::{Station, Stations};
use definitions::model::ObjectName;
use definitions::{Definitions, Diagnostic, Input, Manifests};
use engine::network::{Network, PortId};
use hosts::Lab;
use packet::Addr;
use realization::names::{Place, Target};
use realization::{Allocations, AllocationsError, Realized};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The seed of every lab: hashes, NAT port search, hosts' random numbers. One number for all, so
/// that a lab is the same lab everywhere.
const SEED: u64 = 0x7469_6572_6c61_6200;

/// Where a running lab keeps its allocations, below its state directory.
pub const ALLOCATIONS: &str = "allocations.yaml";

/// A lab that is defined and realized.
#[derive(Debug)]
pub struct Opened {
    /// What was defined.
    pub definitions: Definitions,
    /// What it was read from.
    pub manifests: Manifests,
    /// What was made of it.
    pub realized: Realized,
}

/// Reads the paths of `-f` and realizes them with the allocations of a lab that has run before.
/// Notices go to standard error.
pub fn open(lab: &args::Lab) -> Result<Opened, Error> {
    let kept = allocations(&lab.state)?;
    let opened = realize(&inputs(&lab.file), &kept)?;
    Ok(opened)
}

/// The inputs that command-line arguments mean.
pub fn inputs(paths: &[PathBuf]) -> Vec<Input> {
    paths.iter().map(|p| Input::argument(p)).collect()
}

/// The allocations kept in a state directory; none if it has none.
pub fn allocations(state: &Path) -> Result<Allocations, Error> {
    let path = state.join(ALLOCATIONS);
    if !path.exists() {
        return Ok(Allocations::default());
    }
    Allocations::load(&path).map_err(|e| Error::input(unreadable(&e)))
}

/// What is told of a file of allocations that cannot be read: its line, not what its parser wanted there.
fn unreadable(error: &AllocationsError) -> String {
    if let AllocationsError::Format { path, message } = error
        && let Some((_, after)) = message.lines().next().and_then(|first| first.split_once("line "))
        && let Some(line) = after.split(' ').next().filter(|line| line.parse::<u32>().is_ok())
    {
        return format!(
            "{}:{line}: not as 'tierlab up' writes its allocations; remove the file to allocate afresh",
            path.display()
        );
    }
    error.to_string()
}

/// Loads and realizes; notices go to standard error.
pub fn realize(inputs: &[Input], kept: &Allocations) -> Result<Opened, Error> {
    let loaded = definitions::load(inputs).map_err(|faults| Error::input(lines(&faults)))?;
    let realized = realization::realize(&loaded.definitions, kept)
        .map_err(|faults| Error::input(lines(&faults)))?;
    for notice in loaded.notices.iter().chain(&realized.notices) {
        eprintln!("{}", printable(&notice.to_string()));
    }
    Ok(Opened { definitions: loaded.definitions, manifests: loaded.manifests, realized })
}

/// One line a diagnostic.
pub fn lines(faults: &[Diagnostic]) -> String {
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// The simulated lab of what was realized, at time zero.
pub fn lab(realized: &Realized) -> Lab {
    lab_with_cache(realized, true)
}

/// As [`lab`], walking every packet if `cache` is false.
pub fn lab_with_cache(realized: &Realized, cache: bool) -> Lab {
    Lab::with_cache(network(realized, 1), realized.hosts.clone(), cache)
}

/// The snapshot that a lab runs. `epoch` is 1 for its first one and rises with each.
pub fn network(realized: &Realized, epoch: u64) -> Arc<Network> {
    Arc::new(snapshot(realized, epoch))
}

fn snapshot(realized: &Realized, epoch: u64) -> Network {
    Network { seed: SEED, epoch, ..realized.network.clone() }
}

/// The snapshot that follows `before`, and what it changes of it.
pub fn network_after(realized: &Realized, before: &Network) -> Arc<Network> {
    let mut network = snapshot(realized, before.epoch + 1);
    network.follow(before);
    Arc::new(network)
}

/// Who is at each port of a lab, for measurements, which send and answer in their place.
pub fn stations(realized: &Realized) -> Stations {
    let station = |place: &Place| Station {
        port: place.port,
        mac: place.mac,
        addresses: place.addresses.clone(),
    };
    realized.names.ports().map(|(_, place)| station(place)).collect()
}

/// An endpoint that a command starts from.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Index of its host in the lab.
    pub host: usize,
    /// The interface to bind to, where the command named one.
    pub interface: Option<usize>,
    /// The port of the interface named, or of the host's main one.
    pub port: PortId,
}

/// Who `from` is: `pod/NS/NAME`, `host/NAME[:IF]` or `vm/NAME[:ethN]`, or an address of one of them.
pub fn origin(realized: &Realized, lab: &Lab, from: &str) -> Result<Origin, Error> {
    let (port, bound) = sender(realized, from)?;
    let (host, interface) = lab
        .host_at(port)
        .ok_or_else(|| Error::input(format!("'{from}' has no emulated host to send from")))?;
    Ok(Origin { host, interface: bound.then_some(interface), port })
}

/// The port of `from`, as in [`origin`], and whether an interface was named.
pub fn sender(realized: &Realized, from: &str) -> Result<(PortId, bool), Error> {
    let target = realized.names.target(from).map_err(|e| Error::input(e.to_string()))?;
    match target {
        Target::Port(_, place) => Ok((place.port, from.contains(':'))),
        Target::Address(address) => {
            let place = place_of(realized, address).ok_or_else(|| {
                Error::input(format!(
                    "'{from}' belongs to no pod, VM or host of this lab, so nothing can be sent from it"
                ))
            })?;
            Ok((place.port, false))
        }
    }
}

fn place_of(realized: &Realized, address: Addr) -> Option<Place> {
    realized
        .names
        .ports()
        .find(|(_, place)| place.addresses.contains(&address))
        .map(|(_, place)| place.clone())
}

/// The address that `to` means inside the cluster: an endpoint's, a Service's ClusterIP, or itself.
pub fn address(realized: &Realized, to: &str) -> Result<Addr, Error> {
    let target = realized.names.target(to).map_err(|e| Error::input(e.to_string()))?;
    target.address().ok_or_else(|| Error::input(format!("'{to}' has no address")))
}

/// As [`address`], but to an external host a Service is its VIP if it has one: its ClusterIP exists only inside.
pub fn address_seen_by(realized: &Realized, from: &Origin, to: &str) -> Result<Addr, Error> {
    address_seen_from(realized, from.port, to)
}

/// As [`address_seen_by`], of what is plugged in at `port`.
pub fn address_seen_from(realized: &Realized, port: PortId, to: &str) -> Result<Addr, Error> {
    let outside =
        realized.names.ports().any(|(name, place)| place.port == port && name.starts_with("host/"));
    match to.strip_prefix("svc/").and_then(|service| service.split_once('/')) {
        Some((namespace, name)) => realized
            .names
            .service_from(outside, &ObjectName::new(namespace, name))
            .map_err(|e| Error::input(e.to_string())),
        None => address(realized, to),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn a_service_is_its_vip_to_an_external_host() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../topologies/supervisor");
        let opened = realize(&[Input::Path(path.into())], &Allocations::default()).unwrap();
        let lab = lab(&opened.realized);
        let names = &opened.realized.names;
        let seen = |from: &str, service: &ObjectName| {
            let from = origin(&opened.realized, &lab, from).unwrap();
            address_seen_by(&opened.realized, &from, &format!("svc/{service}"))
        };
        let (mut with, mut without) = (0, 0);
        for service in opened.definitions.services.keys() {
            let Ok(inside) = names.cluster_ip(service) else { continue };
            let outside = names.vip(service).unwrap_or(inside);
            *(if outside == inside { &mut without } else { &mut with }) += 1;
            assert_eq!(seen("host/client", service).unwrap(), outside, "{service}");
            assert_eq!(seen("pod/banking/teller", service).unwrap(), inside, "{service}");
            assert_eq!(seen("vm/cp-1", service).unwrap(), inside, "{service}");
        }
        assert!(with > 0 && without > 0);
        assert!(seen("host/client", &ObjectName::new("shop", "missing")).is_err());
    }

    #[test]
    fn faults_of_kept_allocations_are_told_in_our_words() {
        let dir = tempfile::tempdir().unwrap();
        for (text, line) in [
            ("version: 1\npods: [a\n", ":2: "),
            ("version: 1\nfoo: 3\n", ":2: "),
            ("version: 1\npods:\n  a/b: 1.2\n", ":3: "),
            ("version: 9\n", ": not a file of allocations: version 9"),
        ] {
            std::fs::write(dir.path().join(ALLOCATIONS), text).unwrap();
            let message = allocations(dir.path()).unwrap_err().message;
            assert!(message.contains(&format!("{ALLOCATIONS}{line}")), "{message}");
            assert!(message.ends_with("to allocate afresh"), "{message}");
            assert_eq!(message.lines().count(), 1, "{message}");
        }
    }
}
