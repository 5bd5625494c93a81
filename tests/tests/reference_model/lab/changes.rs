//! Random changes under traffic: of policies, services, pods, addresses, gateways.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use model::Block;

use super::ethernet::ethernet_rule;
use super::nat::change_nat_rules;
use super::{APPS, Lab, pod, policy, security_policy, wider};
use crate::random::Random;

impl Lab {
    /// Changes something and says what. `blocks` are the segments that there are.
    pub fn change(&mut self, random: &mut Random, blocks: &[Block]) -> String {
        if let Some(settings) = &mut self.wider
            && random.chance(15)
        {
            return match &mut self.nat_rules {
                Some(rules) if random.chance(30) => {
                    rules.push(wider::nat_rule(random));
                    "one DNAT rule to the outside more".to_owned()
                }
                None if random.chance(30) => {
                    let at = random.below(self.namespaces.len());
                    let Some(service) = self.namespaces[at].services.first_mut() else {
                        return settings.change(random);
                    };
                    service.pool = wider::snat_pool(random);
                    format!("service ns-{at}/svc-0 has SNAT pool {:?}", service.pool)
                }
                _ => settings.change(random),
            };
        }
        let at = random.below(self.namespaces.len());
        let by_hand = if self.nat_rules.is_some() { 5 } else { 0 };
        match random.weighted(&[3, 5, 5, 5, 3, by_hand, 4, 1]) {
            5 => {
                let rules = self.nat_rules.get_or_insert_default();
                change_nat_rules(random, rules).to_owned()
            }
            7 if self.ethernet.is_empty() || random.chance(40) => {
                self.ethernet.push(ethernet_rule(random));
                "one Ethernet rule more".to_owned()
            }
            7 => {
                self.ethernet.pop();
                "one Ethernet rule less".to_owned()
            }
            6 => self.gateway_firewall.change(random),
            0 => self.change_gateways(random),
            1 => self.change_policies(random, at),
            2 => self.change_services(random, at),
            3 => self.change_pods(random, at),
            _ => self.renumber(random, at, blocks),
        }
    }

    fn change_gateways(&mut self, random: &mut Random) -> String {
        match random.below(4) {
            0 => {
                self.urpf = random.pick(&["strict", "loose", "none"]);
                format!("uRPF {}", self.urpf)
            }
            1 => {
                self.inner_mtu = random.pick(&[1500, 1400, 9000]);
                self.outer_mtu = [random.pick(&[1500, 1280]), random.pick(&[1500, 1300])];
                format!("MTUs {} and {:?}", self.inner_mtu, self.outer_mtu)
            }
            2 => {
                self.balancer =
                    random.pick(&["automap", "transparent", "pool, pool: 172.16.3.0/30"]);
                format!("balancer {}", self.balancer)
            }
            _ => {
                self.default_route = !self.default_route;
                format!("a default route: {}", self.default_route)
            }
        }
    }

    fn change_policies(&mut self, random: &mut Random, at: usize) -> String {
        let count = self.namespaces.len();
        let namespace = &mut self.namespaces[at];
        match random.below(7) {
            0 => {
                self.isolation = random.pick(&["ingress", "full", "none"]);
                format!("isolation {}", self.isolation)
            }
            1 | 2 if !namespace.policies.is_empty() => {
                namespace.policies.pop();
                format!("one policy less in ns-{at}")
            }
            3 | 4 if !namespace.security.is_empty() => {
                namespace.security.pop();
                format!("one security policy less in ns-{at}")
            }
            3..=5 => {
                namespace.security.push(security_policy(random, count));
                format!("one security policy more in ns-{at}")
            }
            _ => {
                namespace.policies.push(policy(random, count));
                format!("one policy more in ns-{at}")
            }
        }
    }

    fn change_services(&mut self, random: &mut Random, at: usize) -> String {
        let namespace = &mut self.namespaces[at];
        if namespace.services.is_empty() {
            return self.change_policies(random, at);
        }
        let which = random.below(namespace.services.len());
        let service = &mut namespace.services[which];
        let what = match random.below(5) {
            0 => {
                service.present = !service.present;
                format!("there: {}", service.present)
            }
            1 => {
                service.local_inside = !service.local_inside;
                service.local_outside = !service.local_outside;
                format!("local: {}, {}", service.local_inside, service.local_outside)
            }
            2 => {
                service.affinity = random.pick(&[None, Some(10), Some(100)]);
                format!("affinity: {:?}", service.affinity)
            }
            3 => {
                service.ranges = !service.ranges;
                format!("source ranges: {}", service.ranges)
            }
            _ => {
                service.app = random.pick(&["web", "db", "nobody"]);
                format!("selects {}", service.app)
            }
        };
        format!("service ns-{at}/svc-{which}: {what}")
    }

    fn change_pods(&mut self, random: &mut Random, at: usize) -> String {
        let namespace = &mut self.namespaces[at];
        let which = random.below(namespace.pods.len());
        match random.below(7) {
            5 => {
                let changed = &mut namespace.pods[which];
                changed.ready = !changed.ready;
                format!("pod ns-{at}/pod-{} is ready: {}", changed.serial, changed.ready)
            }
            6 => {
                let changed = &mut namespace.pods[which];
                changed.terminating = !changed.terminating;
                format!("pod ns-{at}/pod-{} terminates: {}", changed.serial, changed.terminating)
            }
            0 | 1 if namespace.pods.len() > 1 => {
                let gone = namespace.pods.swap_remove(which);
                format!("pod ns-{at}/pod-{} is deleted", gone.serial)
            }
            2 => {
                let changed = &mut namespace.pods[which];
                changed.app = random.pick(&APPS);
                format!("pod ns-{at}/pod-{} is {}", changed.serial, changed.app)
            }
            3 => {
                let changed = &mut namespace.pods[which];
                changed.excluded = !changed.excluded;
                format!("pod ns-{at}/pod-{} is excluded: {}", changed.serial, changed.excluded)
            }
            _ => {
                namespace.pods.push(pod(random, namespace.born));
                namespace.born += 1;
                format!("pod ns-{at}/pod-{} is made", namespace.born - 1)
            }
        }
    }

    /// A pod gets an address by hand, perhaps that of another one, or gives it up.
    fn renumber(&mut self, random: &mut Random, at: usize, blocks: &[Block]) -> String {
        let name = format!("ns-{at}");
        let own = blocks.iter().filter(|block| block.namespace.as_ref() == Some(&name));
        let nets = own.filter_map(|block| match block.nets[0] {
            IpNet::V4(net) => Some(net),
            IpNet::V6(_) => None,
        });
        // Without network, gateway and broadcast address.
        let free: Vec<Ipv4Addr> = nets.flat_map(|net| net.hosts().skip(1)).collect();
        let namespace = &mut self.namespaces[at];
        let wanted = Some(random.pick(&free)).filter(|pin| {
            random.chance(75) && namespace.pods.iter().all(|pod| pod.pin != Some(*pin))
        });
        let which = random.below(namespace.pods.len());
        let pod = &mut namespace.pods[which];
        pod.pin = wanted;
        format!("pod ns-{at}/pod-{} is pinned to {wanted:?}", pod.serial)
    }
}
