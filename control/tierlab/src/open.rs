//! From paths to a lab.

use crate::args;
use crate::exit::Error;
use crate::output::printable;
use definitions::{Definitions, Diagnostic, Input};
use engine::network::PortId;
use hosts::{HostSpec, Lab};
use packet::Addr;
use realization::names::{Place, Target};
use realization::{Allocations, Realized};
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
    Allocations::load(&path).map_err(|e| Error::input(e.to_string()))
}

/// Loads and realizes; notices go to standard error.
pub fn realize(inputs: &[Input], kept: &Allocations) -> Result<Opened, Error> {
    let loaded = definitions::load(inputs).map_err(|faults| Error::input(lines(&faults)))?;
    let realized = realization::realize(&loaded.definitions, kept)
        .map_err(|faults| Error::input(lines(&faults)))?;
    for notice in loaded.notices.iter().chain(&realized.notices) {
        eprintln!("{}", printable(&notice.to_string()));
    }
    Ok(Opened { definitions: loaded.definitions, realized })
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
    let mut network = realized.network.clone();
    network.seed = SEED;
    network.epoch = 1;
    let specs = realized
        .hosts
        .iter()
        .map(|h| HostSpec { config: h.config.clone(), ports: h.ports.clone() })
        .collect();
    Lab::with_cache(Arc::new(network), specs, cache)
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
    let target = realized.names.target(from).map_err(|e| Error::input(e.to_string()))?;
    let (place, bound) = match target {
        Target::Port(_, place) => (place, from.contains(':')),
        Target::Address(address) => {
            let place = place_of(realized, address).ok_or_else(|| {
                Error::input(format!(
                    "'{from}' belongs to no pod, VM or host of this lab, so nothing can be sent from it"
                ))
            })?;
            (place, false)
        }
    };
    let (host, interface) = lab
        .host_at(place.port)
        .ok_or_else(|| Error::input(format!("'{from}' has no emulated host to send from")))?;
    Ok(Origin { host, interface: bound.then_some(interface), port: place.port })
}

fn place_of(realized: &Realized, address: Addr) -> Option<Place> {
    realized
        .names
        .ports()
        .find(|(_, place)| place.addresses.contains(&address))
        .map(|(_, place)| place.clone())
}

/// The address that `to` means: an endpoint's, a Service's ClusterIP, or itself.
pub fn address(realized: &Realized, to: &str) -> Result<Addr, Error> {
    let target = realized.names.target(to).map_err(|e| Error::input(e.to_string()))?;
    target.address().ok_or_else(|| Error::input(format!("'{to}' has no address")))
}
