//! From what people and packet tests write to addresses, MACs and ports.

use std::collections::BTreeMap;

use definitions::model::{Definitions, ObjectName};
use definitions::own::{AddressExpr, MacExpr, PortRef};
use engine::network::PortId;
use packet::{Addr, Mac};

use crate::addressing::{Addressing, ROUTER_MAC};
use crate::snat_pool;
use crate::topology::Topology;

/// Why a name means nothing in this lab.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing has this name.
    #[error("there is no {what} '{name}'; {known}")]
    Unknown {
        /// `pod`, `service with an address outside`, ...
        what: &'static str,
        /// The name.
        name: String,
        /// What there is.
        known: String,
    },
    /// The text names nothing of the lab.
    #[error(
        "'{0}' is no name; write pod/NS/NAME, svc/NS/NAME, host/NAME[:IF], vm/NAME[:ethN] or an address"
    )]
    Syntax(String),
    /// The expression has a variable, whose value only a running test has.
    #[error("${{{0}}} has no value here")]
    Variable(String),
}

/// An interface of the lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its port.
    pub port: PortId,
    /// Its MAC.
    pub mac: Mac,
    /// Its addresses, IPv4 first.
    pub addresses: Vec<Addr>,
}

/// Where a conversation begins or ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A pod's, VM's or external host's interface; the name is the port's full one (`vm/cp-1:eth1`).
    Port(String, Place),
    /// An address: given as such, or a Service's.
    Address(Addr),
}

impl Target {
    /// The address to send to.
    #[must_use]
    pub fn address(&self) -> Option<Addr> {
        match self {
            Target::Port(_, place) => place.addresses.first().copied(),
            Target::Address(address) => Some(*address),
        }
    }
}

/// All names of a lab.
#[derive(Clone, Debug, Default)]
pub struct Names {
    snat: BTreeMap<String, Addr>,
    service_snat: BTreeMap<ObjectName, Addr>,
    gateways: BTreeMap<String, Addr>,
    vips: BTreeMap<ObjectName, Addr>,
    cluster_ips: BTreeMap<ObjectName, Addr>,
    /// By full name.
    ports: BTreeMap<String, Place>,
    /// The full name of the port that a name without interface means.
    main: BTreeMap<String, String>,
}

impl Names {
    pub(crate) fn build(
        definitions: &Definitions,
        addressing: &Addressing<'_>,
        topology: &Topology,
    ) -> Names {
        let mut names = Names::default();
        for host in definitions.external_hosts.values() {
            for (i, interface) in host.spec.interfaces.iter().enumerate() {
                let (owner, port) = (format!("host/{}", host.meta.name), &interface.name);
                let full = format!("{owner}:{port}");
                if i == 0 {
                    names.main.insert(owner, full.clone());
                }
                let mac = addressing.macs.get(&full).copied().unwrap_or_default();
                names.add(
                    full,
                    mac,
                    interface.addresses.iter().map(|a| a.addr().into()).collect(),
                    topology,
                );
            }
        }
        let Some(cluster) = &addressing.cluster else { return names };
        for vm in &cluster.vms {
            names.add(format!("vm/{}:eth0", vm.name), vm.eth0_mac, vec![vm.eth0.into()], topology);
            let addresses = vm.eth1.addresses.iter().map(|(a, _)| *a).collect();
            names.add(format!("vm/{}:eth1", vm.name), vm.eth1.mac, addresses, topology);
            names.main.insert(format!("vm/{}", vm.name), format!("vm/{}:eth1", vm.name));
        }
        for (key, (_, workload)) in &cluster.pods {
            let addresses = workload.addresses.iter().map(|(a, _)| *a).collect();
            names.add(format!("pod/{key}"), workload.mac, addresses, topology);
        }
        for namespace in definitions.namespaces.keys() {
            if let Some(address) = cluster.egress_address(namespace) {
                names.snat.insert(namespace.clone(), address);
            }
            // A system namespace without a segment of its own is on the control plane's.
            let block = cluster.blocks_of(namespace).next().or_else(|| cluster.blocks.first());
            if let Some((gateway, _)) = block.and_then(|b| b.gateways().first().copied()) {
                names.gateways.insert(namespace.clone(), gateway);
            }
        }
        names.service_snat =
            snat_pool::addresses(cluster).map(|(key, address)| (key.clone(), address)).collect();
        names.vips.clone_from(&cluster.vips);
        names.cluster_ips.clone_from(&cluster.cluster_ips);
        names
    }

    fn add(&mut self, full: String, mac: Mac, addresses: Vec<Addr>, topology: &Topology) {
        if let Some(port) = topology.index.ports.get(&full) {
            self.ports.insert(full, Place { port: *port, mac, addresses });
        }
    }

    /// The address that flows of a namespace leave with.
    ///
    /// # Errors
    /// There is no such namespace, or the cluster does no NAT.
    pub fn snat(&self, namespace: &str) -> Result<Addr, NameError> {
        find(&self.snat, "namespace with an egress address", namespace, namespace)
    }

    /// The address from an SNAT pool that flows of a Service's pods leave with.
    ///
    /// # Errors
    /// There is no such Service, or it has no such address.
    pub fn service_snat(&self, service: &ObjectName) -> Result<Addr, NameError> {
        let what = "Service with an address of an SNAT pool";
        find(&self.service_snat, what, service, service.to_string())
    }

    /// The gateway's address on a namespace's first segment.
    ///
    /// # Errors
    /// There is no such namespace.
    pub fn gateway(&self, namespace: &str) -> Result<Addr, NameError> {
        find(&self.gateways, "namespace", namespace, namespace)
    }

    /// The address outside of a Service.
    ///
    /// # Errors
    /// There is no such Service, or it is not of type LoadBalancer.
    pub fn vip(&self, service: &ObjectName) -> Result<Addr, NameError> {
        find(&self.vips, "Service with an address outside", service, service.to_string())
    }

    /// The ClusterIP of a Service.
    ///
    /// # Errors
    /// There is no such Service, or it has no ClusterIP.
    pub fn cluster_ip(&self, service: &ObjectName) -> Result<Addr, NameError> {
        find(&self.cluster_ips, "Service with a ClusterIP", service, service.to_string())
    }

    /// The address at which a sender finds a Service: from outside the one it has there, if it has one, else the
    /// ClusterIP.
    ///
    /// # Errors
    /// There is no such Service, or it has neither.
    pub fn service_from(
        &self,
        from_outside: bool,
        service: &ObjectName,
    ) -> Result<Addr, NameError> {
        let outside = self.vips.get(service).filter(|_| from_outside).copied();
        outside.map_or_else(|| self.cluster_ip(service), Ok)
    }

    /// The interface at a port, by its full name or that of its host.
    ///
    /// # Errors
    /// There is no such port.
    pub fn port(&self, name: &str) -> Result<(&str, &Place), NameError> {
        let full = self.main.get(name).map_or(name, String::as_str);
        let found = self.ports.get_key_value(full).map(|(k, p)| (k.as_str(), p));
        found.ok_or_else(|| unknown("port", name.to_owned(), self.ports.keys()))
    }

    /// The interface that a definition or a test refers to.
    ///
    /// # Errors
    /// There is no such port.
    pub fn port_ref(&self, port: &PortRef) -> Result<(&str, &Place), NameError> {
        self.port(&port.to_string())
    }

    /// The main address of a host, pod or VM: `pod/NS/NAME`, `host/NAME[:IF]`, `vm/NAME[:ethN]`.
    ///
    /// # Errors
    /// There is no such port, or it has no address.
    pub fn address_of(&self, port: &str) -> Result<Addr, NameError> {
        let (full, place) = self.port(port)?;
        let address = place.addresses.first().copied();
        address.ok_or_else(|| unknown("address of", full.to_owned(), self.ports.keys()))
    }

    /// Reads `pod/NS/NAME`, `svc/NS/NAME`, `host/NAME[:IF]`, `vm/NAME[:ethN]`, or an address. A Service stands for its
    /// ClusterIP.
    ///
    /// # Errors
    /// The text names nothing of this lab.
    pub fn target(&self, text: &str) -> Result<Target, NameError> {
        if let Ok(address) = text.parse() {
            return Ok(Target::Address(address));
        }
        if let Some((namespace, name)) = text.strip_prefix("svc/").and_then(|s| s.split_once('/')) {
            return self.cluster_ip(&ObjectName::new(namespace, name)).map(Target::Address);
        }
        let port: PortRef = text.parse().map_err(|_| NameError::Syntax(text.to_owned()))?;
        let (full, place) = self.port_ref(&port)?;
        Ok(Target::Port(full.to_owned(), place.clone()))
    }

    /// The address an expression of a packet test stands for; `variable` gives saved values.
    ///
    /// # Errors
    /// It names nothing of this lab, or a variable without value.
    pub fn address(
        &self,
        expression: &AddressExpr,
        variable: impl Fn(&str) -> Option<Addr>,
    ) -> Result<Addr, NameError> {
        match expression {
            AddressExpr::Ip(ip) => Ok((*ip).into()),
            AddressExpr::Snat(namespace) => self.snat(namespace),
            AddressExpr::ServiceSnat(service) => self.service_snat(service),
            AddressExpr::Gateway(namespace) => self.gateway(namespace),
            AddressExpr::Vip(service) => self.vip(service),
            AddressExpr::ClusterIp(service) => self.cluster_ip(service),
            AddressExpr::Port(port) => self.address_of(&port.to_string()),
            AddressExpr::Variable(name) => {
                variable(name).ok_or_else(|| NameError::Variable(name.clone()))
            }
        }
    }

    /// The MAC an expression of a packet test stands for; `variable` gives saved values.
    ///
    /// # Errors
    /// It names nothing of this lab, or a variable without value.
    pub fn mac(
        &self,
        expression: &MacExpr,
        variable: impl Fn(&str) -> Option<Mac>,
    ) -> Result<Mac, NameError> {
        match expression {
            MacExpr::Mac(mac) => Ok(*mac),
            MacExpr::Port(port) => self.port_ref(port).map(|(_, place)| place.mac),
            MacExpr::Gateway(namespace) => self.gateway(namespace).map(|_| ROUTER_MAC),
            MacExpr::Variable(name) => {
                variable(name).ok_or_else(|| NameError::Variable(name.clone()))
            }
        }
    }

    /// The full names of all ports, sorted, with what is there.
    pub fn ports(&self) -> impl Iterator<Item = (&str, &Place)> {
        self.ports.iter().map(|(name, place)| (name.as_str(), place))
    }
}

fn find<K, Q>(
    map: &BTreeMap<K, Addr>,
    what: &'static str,
    key: &Q,
    name: impl Into<String>,
) -> Result<Addr, NameError>
where
    K: Ord + ToString + std::borrow::Borrow<Q>,
    Q: Ord + ?Sized,
{
    map.get(key).copied().ok_or_else(|| unknown(what, name.into(), map.keys()))
}

/// Says what there is, or at least its beginning.
fn unknown<'a, K: ToString + 'a>(
    what: &'static str,
    name: String,
    keys: impl Iterator<Item = &'a K>,
) -> NameError {
    const SHOWN: usize = 8;
    let mut all: Vec<String> = keys.map(ToString::to_string).collect();
    let more = all.len().saturating_sub(SHOWN);
    all.truncate(SHOWN);
    let known = match (all.is_empty(), more) {
        (true, _) => "there is none".to_owned(),
        (false, 0) => format!("there are {}", all.join(", ")),
        (false, more) => format!("there are {} and {more} more", all.join(", ")),
    };
    NameError::Unknown { what, name, known }
}
