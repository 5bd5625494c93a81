//! Makes what the plan says: TAPs, namespaces, addresses, routes, resolver files.
//!
//! Order matters where the process may be killed: the inventory writes down a namespace or file
//! before it is made, and what is not in the inventory (TAPs, sockets, what is set on them) goes
//! with the process.

use crate::exit::Error;
use crate::live::packet_socket::PacketSocket;
use crate::live::plan::{Machine, Plan, Planned, What};
use crate::live::port::{Carrier, LivePort};
use packet::Mac;
use ports::{
    InterfaceConfig, InterfaceName, Inventory, InventoryError, Ip, IpError, Netns, NetnsError,
    NetnsName, PcapWriter, Sweep, Tap, TapError, TapOptions, in_netns,
};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

/// Where the inventories of running labs are: one place for all, because the names of namespaces are
/// the machine's, and one that is emptied when the machine starts, as the namespaces are.
const INVENTORIES: &str = "/run/tierlab";

/// What a lab made outside of its process.
#[derive(Debug, Default)]
pub struct Wiring {
    /// From the first namespace on.
    inventory: Option<Inventory>,
    /// The namespaces that this lab made.
    ours: BTreeSet<NetnsName>,
    /// What the user should know, one line each.
    pub notices: Vec<String>,
}

impl Wiring {
    /// Whether this process may make what the plan needs. Makes a TAP and lets it go.
    pub fn check(plan: &Plan) -> Result<(), Error> {
        if plan.needs_taps() {
            Ip::find().map_err(|e| ip_error(&e))?;
            drop(open_tap(None)?);
        }
        Ok(())
    }

    /// Takes away what labs left that did not end by themselves. Returns what was found, a line
    /// each.
    pub fn sweep() -> Result<Vec<String>, Error> {
        let sweep = match Inventory::sweep(Path::new(INVENTORIES)) {
            // What was left is root's; a process that may not even look could not take it away.
            Err(InventoryError::Io { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                return Ok(Vec::new());
            }
            other => other.map_err(|e| inventory_error(&e))?,
        };
        let removed = sweep.removed.iter().map(|what| format!("removed what a lab left: {what}"));
        let mut lines: Vec<String> = removed.collect();
        lines.extend(unfinished(&sweep));
        Ok(lines)
    }

    /// Makes what one Attachment needs.
    pub fn attach(&mut self, planned: &Planned) -> Result<LivePort, Error> {
        let carrier = match &planned.what {
            What::Machine(machine) => Carrier::Tap(self.machine(machine)?),
            What::Tap { device, mtu } => Carrier::Tap(outside(device.as_ref(), planned.mac, *mtu)?),
            What::Interface(name) => Carrier::Socket(PacketSocket::open(name)?),
            What::Capture(files) => Carrier::Capture(match &files.write {
                Some(path) => {
                    Some(PcapWriter::create(path).map_err(|e| Error::environment(e.to_string()))?)
                }
                None => None,
            }),
        };
        Ok(LivePort::new(planned.name.clone(), planned.port, carrier))
    }

    fn machine(&mut self, machine: &Machine) -> Result<Tap, Error> {
        let Machine { netns, interface, .. } = machine;
        self.namespace(netns, machine.create)?;
        let ip = Ip::find().map_err(|e| ip_error(&e))?;
        let tap = open_tap(None)?;
        let run = |arguments: &[&str]| ip.run(arguments).map(drop).map_err(|e| ip_error(&e));
        let (within, inside) = (["-n", netns.as_str()], interface.name.as_str());
        if ip.run(&["-n", netns.as_str(), "link", "show", "dev", inside]).is_ok() {
            return Err(Error::environment(format!(
                "the namespace '{netns}' has an interface '{inside}' already: stop the lab that made \
                 it, or state another tap.name"
            )));
        }
        // Renamed by the same request: the name may be in use out here.
        let there = ["netns", netns.as_str(), "name", inside];
        run(&[["link", "set", "dev", tap.name()].as_slice(), &there].concat())?;
        run(&[within.as_slice(), &["link", "set", "dev", "lo", "up"]].concat())?;
        interface.apply(&ip, Some(netns), &interface.name).map_err(|e| ip_error(&e))?;
        for call in &machine.routes {
            run(&[within.as_slice(), &strs(call)].concat())?;
        }
        self.furnish(machine, &ip)?;
        Ok(tap)
    }

    /// Sees to it that a namespace exists.
    fn namespace(&mut self, name: &NetnsName, create: bool) -> Result<(), Error> {
        match in_netns(name, || ()) {
            Ok(()) => Ok(()),
            Err(NetnsError::Enter { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                if !create {
                    return Err(Error::environment(format!(
                        "there is no network namespace '{name}': make it with 'ip netns add {name}', \
                         or state tap.createNamespace: true"
                    )));
                }
                let _: Netns =
                    self.inventory()?.create_netns(name).map_err(|e| inventory_error(&e))?;
                self.ours.insert(name.clone());
                Ok(())
            }
            Err(error) => Err(Error::environment(error.to_string())),
        }
    }

    /// What belongs to the namespace, not to an interface in it.
    fn furnish(&mut self, machine: &Machine, ip: &Ip) -> Result<(), Error> {
        let netns = &machine.netns;
        if let Some(resolver) = &machine.resolver {
            match self.inventory()?.create_resolver(netns, resolver) {
                Ok(()) => {}
                // Somebody wrote one for this namespace on purpose.
                Err(InventoryError::ResolverTaken(_)) => self.notices.push(format!(
                    "/etc/netns/{netns} exists already: its resolver is used, not the lab's"
                )),
                Err(error) => return Err(inventory_error(&error)),
            }
        }
        if !self.ours.contains(netns) {
            if !machine.rules.is_empty() || !machine.settings.is_empty() {
                self.notices.push(format!(
                    "the namespace '{netns}' was there before: policy rules, refusing routes and \
                     kernel settings of the host are left out, they would stay in it"
                ));
            }
            return Ok(());
        }
        for call in &machine.rules {
            let arguments = [["-n", netns.as_str()].as_slice(), &strs(call)].concat();
            ip.run(&arguments).map_err(|e| ip_error(&e))?;
        }
        for (file, value) in &machine.settings {
            let path = Path::new("/proc/sys").join(file);
            // A file below net/ is that of the namespace of the thread that opens it.
            let written = in_netns(netns, || std::fs::write(&path, value));
            let written = written.map_err(|e| Error::environment(e.to_string()))?;
            match written {
                // A kernel without IPv6 has nothing to set there.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                other => other.map_err(|e| {
                    Error::environment(format!("cannot set {file} in '{netns}': {e}"))
                })?,
            }
        }
        Ok(())
    }

    fn inventory(&mut self) -> Result<&mut Inventory, Error> {
        let inventory = match self.inventory.take() {
            Some(inventory) => inventory,
            None => Inventory::open(Path::new(INVENTORIES)).map_err(|e| inventory_error(&e))?,
        };
        Ok(self.inventory.insert(inventory))
    }

    /// Takes everything down. Close the ports first. Returns what could not be removed, a line each.
    pub fn teardown(self) -> Vec<String> {
        self.inventory.map(|i| unfinished(&i.teardown())).unwrap_or_default()
    }
}

/// What is left, in words.
fn unfinished(sweep: &Sweep) -> Vec<String> {
    let kept = sweep.kept.iter().map(|what| format!("left alone, it is in use by others: {what}"));
    let failed = sweep.failed.iter().map(|what| format!("could not be removed: {what}"));
    kept.chain(failed).collect()
}

/// A TAP outside of any namespace: what is plugged into it brings its own addresses.
fn outside(device: Option<&InterfaceName>, mac: Mac, mtu: u16) -> Result<Tap, Error> {
    let ip = Ip::find().map_err(|e| ip_error(&e))?;
    let tap = open_tap(device)?;
    let name = InterfaceName::new(tap.name()).map_err(|e| Error::internal(e.to_string()))?;
    let config = InterfaceConfig {
        name: name.clone(),
        mac: Some(mac),
        mtu: Some(mtu),
        addresses: Vec::new(),
        routes: Vec::new(),
    };
    config.apply(&ip, None, &name).map_err(|e| ip_error(&e))?;
    Ok(tap)
}

/// A TAP with virtio header; without, where the kernel has none.
fn open_tap(device: Option<&InterfaceName>) -> Result<Tap, Error> {
    let device = device.map(InterfaceName::as_str);
    let tap = match Tap::create(device, TapOptions::default()) {
        Err(first @ TapError::System { .. }) => {
            let plain = TapOptions { vnet_hdr: false, ..TapOptions::default() };
            Tap::create(device, plain).map_err(|_| first)
        }
        other => other,
    };
    // A name in use, or a kernel that refuses, is the machine's matter as well.
    tap.map_err(|e| Error::environment(e.to_string()))
}

fn strs(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn ip_error(error: &IpError) -> Error {
    Error::environment(error.to_string())
}

fn inventory_error(error: &InventoryError) -> Error {
    Error::environment(error.to_string())
}
