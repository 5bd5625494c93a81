//! What `up` is going to attach, decided before anything is made.
//!
//! An Attachment names a port; what is plugged in there gets what the emulated endpoint had: MAC,
//! addresses, MTU, routes, resolver. Nothing here touches the system, so that a wrong Attachment
//! costs nothing.
//!
//! Decisions that the definitions leave open:
//! * A network namespace that does not exist is made if the Attachment says `createNamespace`, and
//!   only then: a misspelt name should not end up as a new namespace. One that exists is used and
//!   stays; what would outlive the lab in it (policy rules, kernel settings) is left out and said.
//! * The interface in the namespace is named as the emulated one was (`eth0` for a pod), unless
//!   `tap.name` says otherwise.
//! * A TAP that stays outside of any namespace gets the endpoint's MAC and MTU and comes up, but no
//!   address and no route: those would be this machine's own, and could take its network away. Who
//!   adds them by hand is the endpoint; who puts the TAP into a bridge gives it another MAC first,
//!   because the endpoint is then behind the bridge.

use crate::exit::Error;
use crate::live::routes;
use crate::open::Opened;
use definitions::model::{Attachment, Definitions};
use definitions::own::{PcapPlug, Plug, TapPlug};
use engine::network::PortId;
use hosts::HostConfig;
use ipnet::IpNet;
use packet::{Addr, Mac};
use ports::{InterfaceConfig, InterfaceName, NetnsName, Resolver};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

/// Everything that is going to be attached, in the order of the Attachments' names.
#[derive(Debug, Default)]
pub struct Plan {
    /// One for each Attachment.
    pub plugs: Vec<Planned>,
    /// What the user should know, one line each.
    pub notices: Vec<String>,
}

/// One Attachment.
#[derive(Debug)]
pub struct Planned {
    /// Full name of the port, e.g. `host/client:eth0`.
    pub name: String,
    /// The port.
    pub port: PortId,
    /// The emulated host, by its place among those realized, and which of its interfaces it is.
    endpoint: (usize, usize),
    /// MAC of the endpoint.
    pub mac: Mac,
    /// Addresses of the endpoint with their prefix lengths.
    pub addresses: Vec<(Addr, u8)>,
    /// Next hop of its default routes.
    pub gateways: Vec<Addr>,
    /// What comes in the endpoint's place.
    pub what: What,
}

/// What comes in the place of an emulated endpoint.
#[derive(Debug)]
pub enum What {
    /// A TAP, moved into a network namespace.
    Machine(Box<Machine>),
    /// A TAP that stays outside.
    Tap {
        /// Its name; the kernel chooses one if absent.
        device: Option<InterfaceName>,
        /// Octets of the longest IP packet.
        mtu: u16,
    },
    /// Capture files.
    Capture(PcapPlug),
    /// An interface that exists.
    Interface(InterfaceName),
}

/// A network namespace that takes the place of an emulated host's interface.
#[derive(Debug, PartialEq, Eq)]
pub struct Machine {
    /// The namespace.
    pub netns: NetnsName,
    /// Whether it is made if it does not exist.
    pub create: bool,
    /// The interface in it.
    pub interface: InterfaceConfig,
    /// Arguments of `ip`, one call each: routes by this interface, gone when it goes.
    pub routes: Vec<Vec<String>>,
    /// Arguments of `ip`, one call each: policy rules and routes that refuse, which stay until they
    /// are removed. Only for a namespace that this lab makes; with the first interface of a host there.
    pub rules: Vec<Vec<String>>,
    /// Kernel settings (file below /proc/sys, value). As the rules.
    pub settings: Vec<(&'static str, String)>,
    /// Name servers, unless the host has none. With the first interface of the namespace that has.
    pub resolver: Option<Resolver>,
}

impl Planned {
    /// What of an attached endpoint is different in another plan, in a word; `None` if nothing is. Files of captures
    /// do not count.
    pub fn difference(&self, other: &Planned) -> Option<&'static str> {
        let machines = match (&self.what, &other.what) {
            (What::Machine(a), What::Machine(b)) => a != b,
            (What::Tap { mtu: a, .. }, What::Tap { mtu: b, .. }) => a != b,
            _ => false,
        };
        [
            (self.name != other.name || self.port != other.port, "port"),
            (self.mac != other.mac, "MAC"),
            (self.addresses != other.addresses, "address"),
            (self.gateways != other.gateways, "gateway"),
            (machines, "namespace's MTU, routes or name servers"),
        ]
        .into_iter()
        .find_map(|(differs, what)| differs.then_some(what))
    }
}

impl Plan {
    /// Plans all Attachments of a lab.
    pub fn of(opened: &Opened) -> Result<Plan, Error> {
        let mut plan = Plan::default();
        for attachment in opened.definitions.attachments.values() {
            let planned = planned(opened, attachment, &mut plan.notices)?;
            plan.plugs.push(planned);
        }
        plan.check(&opened.definitions)?;
        plan.furnish(&opened.realized.hosts);
        plan.notice_remains(opened);
        Ok(plan)
    }

    /// Whether anything needs the right to make TAPs.
    pub fn needs_taps(&self) -> bool {
        self.plugs.iter().any(|p| matches!(p.what, What::Machine(_) | What::Tap { .. }))
    }

    /// Two Attachments must not name the same thing.
    fn check(&self, definitions: &Definitions) -> Result<(), Error> {
        let mut seen: BTreeMap<String, &str> = BTreeMap::new();
        for (planned, attachment) in self.plugs.iter().zip(definitions.attachments.values()) {
            let things = match &planned.what {
                What::Machine(m) => vec![format!("{} in namespace {}", m.interface.name, m.netns)],
                What::Tap { device, .. } => {
                    device.iter().map(|d| format!("the device {d}")).collect()
                }
                What::Interface(name) => vec![format!("the device {name}")],
                What::Capture(files) => {
                    let written = files.write.iter().map(|f| format!("the file {}", f.display()));
                    written.collect()
                }
            };
            for thing in things {
                let name = attachment.meta.name.as_str();
                if let Some(other) = seen.get(&thing) {
                    return Err(wrong(
                        attachment,
                        format!("Attachment '{other}' has {thing} too; choose another name"),
                    ));
                }
                seen.insert(thing, name);
            }
        }
        Ok(())
    }

    /// What belongs to a host or a namespace, not to one interface, is done once.
    fn furnish(&mut self, hosts: &[realization::HostSpec]) {
        let mut devices: BTreeMap<(NetnsName, usize), BTreeMap<usize, String>> = BTreeMap::new();
        for planned in &self.plugs {
            let (host, interface) = planned.endpoint;
            if let What::Machine(machine) = &planned.what {
                let names = devices.entry((machine.netns.clone(), host)).or_default();
                names.insert(interface, machine.interface.name.to_string());
            }
        }
        let mut resolved: BTreeSet<NetnsName> = BTreeSet::new();
        for planned in &mut self.plugs {
            let What::Machine(machine) = &mut planned.what else { continue };
            let (index, _) = planned.endpoint;
            let Some(host) = hosts.get(index).map(|host| &host.config) else { continue };
            if let Some(names) = devices.remove(&(machine.netns.clone(), index)) {
                machine.rules = routes::rules(host, &names);
                machine.settings = settings(host);
            }
            if let Some(resolver) = machine.resolver.take()
                && resolved.insert(machine.netns.clone())
            {
                machine.resolver = Some(resolver);
            }
        }
    }

    /// A host of which only some interfaces are attached lives on at the others.
    fn notice_remains(&mut self, opened: &Opened) {
        for host in &opened.realized.hosts {
            let attached = |port: &&PortId| self.plugs.iter().any(|p| p.port == **port);
            let taken = host.ports.iter().filter(attached).count();
            if taken > 0 && taken < host.ports.len() {
                self.notices.push(format!(
                    "{}: {taken} of its {} interfaces attached; it is emulated at the others",
                    host.config.name,
                    host.ports.len()
                ));
            }
        }
    }
}

/// An error with the place of the Attachment.
fn wrong(attachment: &Attachment, message: String) -> Error {
    let Attachment { meta, .. } = attachment;
    Error::input(format!("{}: Attachment '{}': {message}", meta.source, meta.name))
}

fn planned(
    opened: &Opened,
    attachment: &Attachment,
    notices: &mut Vec<String>,
) -> Result<Planned, Error> {
    let fail = |message: String| wrong(attachment, message);
    let spec = &attachment.spec;
    let realized = &opened.realized;
    let (name, place) = realized.names.port_ref(&spec.port).map_err(|e| fail(e.to_string()))?;
    let found = realized.hosts.iter().enumerate().find_map(|(number, host)| {
        let index = host.ports.iter().position(|p| *p == place.port)?;
        let interface = host.config.interfaces.get(index)?;
        Some(((number, index), &host.config, interface))
    });
    let (endpoint, host, interface) =
        found.ok_or_else(|| fail(format!("{name} has no endpoint to take the place of")))?;
    let (_, index) = endpoint;
    let what = match spec.plug() {
        None => return Err(fail("has not exactly one of tap, pcap and interface".to_owned())),
        Some(Plug::Interface(plug)) => {
            What::Interface(InterfaceName::new(&plug.name).map_err(|e| fail(e.to_string()))?)
        }
        Some(Plug::Pcap(plug)) => What::Capture(relative(attachment, plug)),
        Some(Plug::Tap(plug)) => {
            let device = match &plug.name {
                Some(name) => Some(InterfaceName::new(name).map_err(|e| fail(e.to_string()))?),
                None => None,
            };
            let mtu = u16::try_from(interface.mtu).unwrap_or(u16::MAX);
            match &plug.netns {
                None => {
                    notices.push(format!(
                        "{name}: its TAP stays outside of any namespace and gets no address and no \
                         route there; add them by hand, or state tap.netns"
                    ));
                    What::Tap { device, mtu }
                }
                Some(netns) => {
                    let netns = NetnsName::new(netns).map_err(|e| fail(e.to_string()))?;
                    let machine = machine(host, index, netns, plug, device);
                    What::Machine(Box::new(machine.map_err(fail)?))
                }
            }
        }
    };
    Ok(Planned {
        name: name.to_owned(),
        port: place.port,
        endpoint,
        mac: place.mac,
        addresses: interface.addresses.clone(),
        gateways: routes::gateways(host, index),
        what,
    })
}

fn machine(
    host: &HostConfig,
    index: usize,
    netns: NetnsName,
    plug: &TapPlug,
    device: Option<InterfaceName>,
) -> Result<Machine, String> {
    let interface = host.interfaces.get(index).ok_or("has no interface")?;
    let inside = match device {
        Some(name) => name,
        None => InterfaceName::new(&interface.name).map_err(|e| e.to_string())?,
    };
    let addresses = interface.addresses.iter().map(|(address, len)| {
        IpNet::new(address.to_ip(), *len).map_err(|e| format!("{address}/{len}: {e}"))
    });
    Ok(Machine {
        routes: routes::by_interface(host, index, inside.as_str()),
        // These are the host's: `Plan::furnish`.
        rules: Vec::new(),
        settings: Vec::new(),
        resolver: resolver(host),
        interface: InterfaceConfig {
            name: inside,
            mac: Some(interface.mac),
            mtu: Some(u16::try_from(interface.mtu).unwrap_or(u16::MAX)),
            addresses: addresses.collect::<Result<_, _>>()?,
            // In `routes`: these know no tables.
            routes: Vec::new(),
        },
        netns,
        create: plug.create_namespace,
    })
}

/// What a Linux host has to be told to be like the emulated one.
fn settings(host: &HostConfig) -> Vec<(&'static str, String)> {
    const LINUX_TTL: u8 = 64;
    let mut settings = Vec::new();
    if host.forwarding {
        settings.push(("net/ipv4/ip_forward", "1".to_owned()));
        settings.push(("net/ipv6/conf/all/forwarding", "1".to_owned()));
    }
    if host.ttl != LINUX_TTL {
        settings.push(("net/ipv4/ip_default_ttl", host.ttl.to_string()));
    }
    settings
}

/// The name servers and the search list, as the emulated host has them.
fn resolver(host: &HostConfig) -> Option<Resolver> {
    if host.resolver.is_empty() {
        return None;
    }
    let mut resolver = Resolver {
        nameservers: host.resolver.iter().map(|a| a.to_ip()).collect(),
        ..Resolver::default()
    };
    if !host.search.is_empty() {
        resolver.search.clone_from(&host.search);
        resolver.options = vec![format!("ndots:{}", host.ndots)];
    }
    Some(resolver)
}

/// Files of a definition are beside it, wherever the program was started.
fn relative(attachment: &Attachment, plug: &PcapPlug) -> PcapPlug {
    let beside = |file: &Option<PathBuf>| {
        let file = file.as_ref()?;
        let defined = PathBuf::from(&*attachment.meta.source.file);
        let directory = defined.parent().filter(|_| defined.is_file());
        Some(directory.map_or_else(|| file.clone(), |directory| directory.join(file)))
    };
    PcapPlug { read: beside(&plug.read), write: beside(&plug.write) }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
