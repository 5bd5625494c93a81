//! Service, Endpoints and EndpointSlice.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    EndpointAddress, Endpoints as KubernetesEndpoints, Service as KubernetesService,
    ServicePort as KubernetesServicePort, ServiceSpec,
};
use k8s_openapi::api::discovery::v1::EndpointSlice as KubernetesSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::meta::{Scope, digest_meta, labels, pinned};
use super::{pins, port, protocol};
use crate::diagnostic::Subject;
use crate::model::{
    ClusterIp, Endpoint, EndpointPort, EndpointSlice, EndpointSubset, Endpoints, Labels,
    ObjectName, Service, ServicePins, ServicePort, ServiceType, TargetPort, TrafficPolicy,
    annotation,
};
use crate::node::{Fault, Node, excerpt, suggestion};
use crate::text::{Cidr, is_dns_label, is_dns_subdomain, is_port_name, named};

/// Checks and digests a Service.
pub(crate) fn service(
    subject: &mut Subject<'_>,
    document: &Node,
    object: KubernetesService,
) -> Option<Service> {
    let before = subject.report.errors();
    let meta = digest_meta(
        subject,
        document,
        object.metadata,
        Scope::NamespacedLabel,
        &annotation::SERVICE,
    )?;
    let at = document.at("spec");
    let Some(spec) = object.spec else {
        subject.error(document, "spec is missing");
        return None;
    };
    let kind = choice(
        subject,
        at.at("type"),
        spec.type_.as_deref(),
        &[
            ("ClusterIP", ServiceType::ClusterIp),
            ("NodePort", ServiceType::NodePort),
            ("LoadBalancer", ServiceType::LoadBalancer),
            ("ExternalName", ServiceType::ExternalName),
        ],
    );
    let policies = [("Cluster", TrafficPolicy::Cluster), ("Local", TrafficPolicy::Local)];
    let internal_traffic_policy = choice(
        subject,
        at.at("internalTrafficPolicy"),
        spec.internal_traffic_policy.as_deref(),
        &policies,
    );
    let external_traffic_policy = choice(
        subject,
        at.at("externalTrafficPolicy"),
        spec.external_traffic_policy.as_deref(),
        &policies,
    );
    let pins = ServicePins {
        cluster_ip: pinned(
            subject,
            document,
            &meta.annotations,
            annotation::CLUSTER_IP,
            "an IP address",
        ),
        vip: pinned(subject, document, &meta.annotations, annotation::VIP, "an IP address"),
        snat_ip: pins::read(
            subject,
            document,
            &meta.annotations,
            annotation::SNAT_IP,
            pins::address_v4,
        ),
    };
    let snat_pools = snat_pools(subject, document, &meta.annotations, &pins);
    let display_name =
        pins::read(subject, document, &meta.annotations, annotation::DISPLAY_NAME, display_name);
    let transparent = meta
        .annotations
        .get(annotation::NCP_TRANSPARENT_LB)
        .is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let affinity_seconds = affinity(subject, at, &spec);
    let cluster_ip = cluster_ip(subject, at, &spec, &pins);
    let vip = vip(subject, at, &spec, &pins);
    if cluster_ip == ClusterIp::Headless
        && matches!(kind, ServiceType::LoadBalancer | ServiceType::NodePort)
    {
        subject.error(at.at("clusterIP"), "clusterIP: None needs type ClusterIP");
    }
    let mut source_ranges = Vec::new();
    for (index, range) in spec.load_balancer_source_ranges.iter().flatten().enumerate() {
        let place = at.at("loadBalancerSourceRanges").item(index);
        let range = named("loadBalancerSourceRanges", range.trim().parse::<Cidr>());
        source_ranges.extend(subject.check(place, range).map(|c| *c));
    }
    if kind == ServiceType::ExternalName
        && !spec.external_name.as_deref().is_some_and(is_dns_subdomain)
    {
        subject.error(
            at.at("externalName"),
            "an ExternalName Service needs spec.externalName, a DNS name",
        );
    }
    if spec.external_ips.as_ref().is_some_and(|ips| !ips.is_empty()) {
        subject.notice(
            at.at("externalIPs"),
            "spec.externalIPs is not emulated; the other addresses are",
        );
    }
    without_effect(subject, at, &spec);
    let ports = ports(subject, at.at("ports"), spec.ports.unwrap_or_default());
    if ports.is_empty()
        && subject.report.errors() == before
        && kind != ServiceType::ExternalName
        && cluster_ip != ClusterIp::Headless
    {
        subject.error(at, "spec.ports is missing: a Service needs at least one port");
    }
    let selector = spec
        .selector
        .filter(|selector| !selector.is_empty())
        .map(|selector| labels(subject, at.at("selector"), selector));
    (subject.report.errors() == before).then_some(Service {
        meta,
        kind,
        selector,
        ports,
        cluster_ip,
        vip,
        source_ranges,
        affinity_seconds,
        internal_traffic_policy,
        external_traffic_policy,
        publish_not_ready_addresses: spec.publish_not_ready_addresses.unwrap_or(false),
        external_name: spec.external_name,
        transparent,
        snat_pools,
        snat_ip: pins.snat_ip,
        display_name,
    })
}

/// The pools that `ncp/snat_pool` names. NCP means one; that there are several, or none of the name, is told by the
/// Service's status.
fn snat_pools(
    subject: &mut Subject<'_>,
    document: &Node,
    annotations: &Labels,
    pins: &ServicePins,
) -> Vec<String> {
    let pools: Vec<String> = annotations
        .get(annotation::NCP_SNAT_POOL)
        .into_iter()
        .flat_map(|text| text.split(','))
        .map(|name| name.trim().to_owned())
        .collect();
    let place = document.at("metadata").at("annotations");
    if pools.iter().any(String::is_empty) {
        subject.fault(
            Fault::at(
                place.at(annotation::NCP_SNAT_POOL),
                format!("annotation {} names no pool", annotation::NCP_SNAT_POOL),
            )
            .help("write the name of one of the cluster's spec.snatPools"),
        );
    }
    if pools.is_empty() && pins.snat_ip.is_some() {
        subject.fault(
            Fault::at(
                place.at(annotation::SNAT_IP),
                format!("annotation {} fixes an address of no pool", annotation::SNAT_IP),
            )
            .help(format!("name the pool with {}", annotation::NCP_SNAT_POOL)),
        );
    }
    pools
}

/// A name as NSX takes it: 1 to 255 characters that can be seen.
fn display_name(text: &str) -> Result<String, String> {
    if !(1..=255).contains(&text.chars().count()) {
        return Err("a display name has 1 to 255 characters".to_owned());
    }
    if text.trim() != text || text.chars().any(char::is_control) {
        let shown = excerpt(text);
        return Err(format!("'{shown}' has control characters, or blanks at an end"));
    }
    Ok(text.to_owned())
}

/// Tells of settings that change nothing here.
fn without_effect(subject: &mut Subject<'_>, at: &Node, spec: &ServiceSpec) {
    let families = spec.ip_families.as_deref().unwrap_or_default();
    if spec.ip_family_policy.as_deref() == Some("RequireDualStack") {
        subject.notice(
            at.at("ipFamilyPolicy"),
            "ipFamilyPolicy RequireDualStack is not emulated: Services are IPv4 here",
        );
    } else if !families.is_empty() && !families.iter().any(|family| family == "IPv4") {
        subject.notice(
            at.at("ipFamilies"),
            "ipFamilies without IPv4 is not emulated: Services are IPv4 here",
        );
    }
    if let Some(class) = spec.load_balancer_class.as_deref().filter(|class| !class.is_empty()) {
        subject.notice(
            at.at("loadBalancerClass"),
            format!(
                "loadBalancerClass '{}' is another controller's; here the Service is balanced as any other",
                excerpt(class)
            ),
        );
    }
}

/// The value that `text` names; the default where there is none. A wrong one is a fault.
fn choice<T: Copy + Default>(
    subject: &mut Subject<'_>,
    at: &Node,
    text: Option<&str>,
    known: &[(&'static str, T)],
) -> T {
    let Some(text) = text.filter(|text| !text.is_empty()) else {
        return T::default();
    };
    if let Some((_, value)) = known.iter().find(|(name, _)| *name == text) {
        return *value;
    }
    let mut fault = Fault::at(at, format!("unknown value '{}'", excerpt(text)));
    fault.help = suggestion(text, known.iter().map(|(name, _)| *name));
    subject.fault(fault);
    T::default()
}

fn affinity(subject: &mut Subject<'_>, at: &Node, spec: &ServiceSpec) -> Option<u32> {
    match spec.session_affinity.as_deref() {
        None | Some("" | "None") => None,
        Some("ClientIP") => {
            let seconds = spec
                .session_affinity_config
                .as_ref()
                .and_then(|config| config.client_ip.as_ref())
                .and_then(|client| client.timeout_seconds)
                .unwrap_or(10_800);
            match u32::try_from(seconds) {
                Ok(seconds @ 1..=86_400) => Some(seconds),
                _ => {
                    subject.error(
                        at.at("sessionAffinityConfig").at("clientIP").at("timeoutSeconds"),
                        format!("affinity of {seconds} s is not in 1..86400"),
                    );
                    None
                }
            }
        }
        Some(other) => {
            subject.error(
                at.at("sessionAffinity"),
                format!("unknown session affinity '{}'; it is None or ClientIP", excerpt(other)),
            );
            None
        }
    }
}

fn cluster_ip(
    subject: &mut Subject<'_>,
    at: &Node,
    spec: &ServiceSpec,
    pins: &ServicePins,
) -> ClusterIp {
    let place = at.at("clusterIP");
    let first = spec.cluster_ips.iter().flatten().next();
    let text = spec.cluster_ip.as_deref().filter(|text| !text.is_empty());
    let written = match text.or(first.map(String::as_str)) {
        None => ClusterIp::Allocate,
        Some("None") => ClusterIp::Headless,
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) => ClusterIp::Fixed(address),
            Err(_) => {
                subject.error(
                    place,
                    format!("clusterIP '{}' is not an IP address or None", excerpt(text)),
                );
                ClusterIp::Allocate
            }
        },
    };
    match (written, pins.cluster_ip) {
        (written, None) => written,
        (ClusterIp::Allocate, Some(pin)) => ClusterIp::Fixed(pin),
        (ClusterIp::Fixed(address), Some(pin)) if address == pin => ClusterIp::Fixed(pin),
        (written, Some(pin)) => {
            subject.error(
                place,
                format!(
                    "annotation {} says {pin}, spec.clusterIP says otherwise",
                    annotation::CLUSTER_IP
                ),
            );
            written
        }
    }
}

fn vip(
    subject: &mut Subject<'_>,
    at: &Node,
    spec: &ServiceSpec,
    pins: &ServicePins,
) -> Option<IpAddr> {
    let place = at.at("loadBalancerIP");
    let text = spec.load_balancer_ip.as_deref().filter(|text| !text.is_empty());
    let written = text.and_then(|text| {
        let address = text.parse::<IpAddr>();
        if address.is_err() {
            subject
                .error(place, format!("loadBalancerIP '{}' is not an IP address", excerpt(text)));
        }
        address.ok()
    });
    if let (Some(address), Some(pin)) = (written, pins.vip)
        && address != pin
    {
        subject.error(
            place,
            format!("annotation {} says {pin}, spec.loadBalancerIP {address}", annotation::VIP),
        );
    }
    pins.vip.or(written)
}

fn ports(
    subject: &mut Subject<'_>,
    at: &Node,
    declared: Vec<KubernetesServicePort>,
) -> Vec<ServicePort> {
    let several = declared.len() > 1;
    let mut unnamed = false;
    let mut names = BTreeSet::new();
    let mut numbers = BTreeSet::new();
    let mut ports = Vec::new();
    for (index, declared) in declared.into_iter().enumerate() {
        let at = at.item(index);
        let number = port(subject, at.at("port"), declared.port);
        let protocol = protocol(subject, at.at("protocol"), declared.protocol.as_deref());
        let (Some(number), Some(protocol)) = (number, protocol) else {
            continue;
        };
        let name = declared.name.filter(|name| !name.is_empty());
        match &name {
            // One line is for all of them.
            None if several && !unnamed => {
                unnamed = true;
                subject.error(at, "a port without name; a Service with several ports names each");
            }
            None => {}
            Some(name) if !is_dns_label(name) => {
                subject.error(
                    at.at("name"),
                    format!("port name '{}' is not a DNS label", excerpt(name)),
                );
            }
            Some(name) if !names.insert(name.clone()) => {
                subject.error(at.at("name"), format!("port name '{name}' is used twice"));
            }
            Some(_) => {}
        }
        if !numbers.insert((protocol, number)) {
            subject.error(at.at("port"), format!("port {number}/{protocol} is defined twice"));
        }
        let target = match declared.target_port {
            // A zero is how generated manifests leave it out.
            None | Some(IntOrString::Int(0)) => Some(TargetPort::Number(number)),
            Some(IntOrString::Int(target)) => {
                port(subject, at.at("targetPort"), target).map(TargetPort::Number)
            }
            Some(IntOrString::String(name)) => {
                named_port(subject, at.at("targetPort"), name).map(TargetPort::Name)
            }
        };
        let node_port = match declared.node_port {
            None | Some(0) => None,
            Some(number) => port(subject, at.at("nodePort"), number),
        };
        ports.extend(target.map(|target| ServicePort {
            name,
            protocol,
            port: number,
            target,
            node_port,
        }));
    }
    ports
}

/// A port's name in place of its number. A number in quotes is no name, as the API server judges.
pub(super) fn named_port(subject: &mut Subject<'_>, at: &Node, name: String) -> Option<String> {
    if is_port_name(&name) {
        return Some(name);
    }
    let fault = Fault::at(at, format!("port name '{}' is not valid", excerpt(&name)));
    subject.fault(if name.parse::<i64>().is_ok() {
        fault.help("a number is written without quotes")
    } else {
        fault.help("use at most 15 lower-case letters, digits and '-', with at least one letter")
    });
    None
}

fn address(subject: &mut Subject<'_>, at: &Node, text: &str) -> Option<IpAddr> {
    match text.parse::<IpAddr>() {
        Ok(address)
            if !address.is_unspecified() && !address.is_multicast() && !address.is_loopback() =>
        {
            Some(address)
        }
        _ => {
            subject.error(at, format!("'{}' is not an endpoint's address", excerpt(text)));
            None
        }
    }
}

/// Checks and digests an Endpoints object.
pub(crate) fn endpoints(
    subject: &mut Subject<'_>,
    document: &Node,
    object: KubernetesEndpoints,
) -> Option<Endpoints> {
    let before = subject.report.errors();
    let meta = digest_meta(subject, document, object.metadata, Scope::NamespacedSubdomain, &[])?;
    let mut subsets = Vec::new();
    for (index, subset) in object.subsets.unwrap_or_default().into_iter().enumerate() {
        let at = document.at("subsets").item(index);
        let mut digested = EndpointSubset::default();
        for (ready, field, list) in [
            (true, "addresses", subset.addresses),
            (false, "notReadyAddresses", subset.not_ready_addresses),
        ] {
            for (index, entry) in list.unwrap_or_default().into_iter().enumerate() {
                let at = at.at(field).item(index);
                let EndpointAddress { ip, node_name, target_ref, .. } = entry;
                let Some(address) = address(subject, at.at("ip"), &ip) else {
                    continue;
                };
                digested.endpoints.push(Endpoint {
                    addresses: vec![address],
                    ready,
                    serving: ready,
                    terminating: false,
                    host: node_name,
                    pod: target_ref
                        .filter(|target| target.kind.as_deref() == Some("Pod"))
                        .and_then(|target| target.name)
                        .map(|name| ObjectName::new(&*meta.namespace, name)),
                });
            }
        }
        for (index, declared) in subset.ports.unwrap_or_default().into_iter().enumerate() {
            let at = at.at("ports").item(index);
            let number = port(subject, at.at("port"), declared.port);
            let protocol = protocol(subject, at.at("protocol"), declared.protocol.as_deref());
            if let (Some(number), Some(protocol)) = (number, protocol) {
                digested.ports.push(EndpointPort {
                    name: declared.name.filter(|name| !name.is_empty()),
                    protocol,
                    port: Some(number),
                });
            }
        }
        subsets.push(digested);
    }
    (subject.report.errors() == before).then_some(Endpoints { meta, subsets })
}

/// Checks and digests an EndpointSlice; `None` without a fault where its addresses are DNS names.
pub(crate) fn endpoint_slice(
    subject: &mut Subject<'_>,
    document: &Node,
    object: KubernetesSlice,
) -> Option<EndpointSlice> {
    let before = subject.report.errors();
    let meta = digest_meta(subject, document, object.metadata, Scope::NamespacedSubdomain, &[])?;
    let v6 = match object.address_type.as_str() {
        "IPv4" => false,
        "IPv6" => true,
        "FQDN" => {
            subject.notice(document, "skipped: endpoints that are DNS names are not emulated");
            return None;
        }
        other => {
            subject.error(
                document.at("addressType"),
                format!("unknown address type '{}'; it is IPv4, IPv6 or FQDN", excerpt(other)),
            );
            return None;
        }
    };
    let mut subset = EndpointSubset::default();
    for (index, endpoint) in object.endpoints.unwrap_or_default().into_iter().enumerate() {
        let at = document.at("endpoints").item(index);
        let mut addresses = Vec::new();
        for (index, text) in endpoint.addresses.iter().enumerate() {
            let place = at.at("addresses").item(index);
            let Some(address) = address(subject, place, text) else {
                continue;
            };
            if address.is_ipv6() != v6 {
                subject.error(
                    place,
                    format!("{address} is not {}, the slice's addressType", object.address_type),
                );
            }
            addresses.push(address);
        }
        if endpoint.addresses.is_empty() {
            subject.error(at, "an endpoint needs at least one address");
        }
        let conditions = endpoint.conditions.unwrap_or_default();
        let terminating = conditions.terminating.unwrap_or(false);
        let ready = conditions.ready.unwrap_or(!terminating);
        subset.endpoints.push(Endpoint {
            addresses,
            ready,
            serving: conditions.serving.unwrap_or(ready),
            terminating,
            host: endpoint.node_name,
            pod: endpoint
                .target_ref
                .filter(|target| target.kind.as_deref() == Some("Pod"))
                .and_then(|target| target.name)
                .map(|name| ObjectName::new(&*meta.namespace, name)),
        });
    }
    for (index, declared) in object.ports.unwrap_or_default().into_iter().enumerate() {
        let at = document.at("ports").item(index);
        let number = declared.port.map(|number| port(subject, at.at("port"), number));
        let protocol = protocol(subject, at.at("protocol"), declared.protocol.as_deref());
        if let (Some(protocol), Some(Some(_)) | None) = (protocol, number) {
            subset.ports.push(EndpointPort {
                name: declared.name.filter(|name| !name.is_empty()),
                protocol,
                port: number.flatten(),
            });
        }
    }
    let service = meta.labels.get("kubernetes.io/service-name").cloned();
    if service.is_none() {
        subject
            .notice(document, "belongs to no Service: it has no label kubernetes.io/service-name");
    }
    (subject.report.errors() == before).then_some(EndpointSlice { meta, service, subset })
}
