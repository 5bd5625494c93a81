//! The engine and the model side by side, and what they have been through.

use std::collections::{BTreeMap, VecDeque};
use std::net::Ipv4Addr;
use std::time::Duration;

use definitions::model::ObjectName;
use definitions::{Definitions, Input, load};
use engine::network::{Network, PortId};
use engine::{Received, Worker, WorkerConfig};
use model::packet::{Framed, Mac, Seen};
use model::{Atlas, Model, Station, wire};
use packet::{Addr, Frame, Time};
use realization::{Allocations, Names, Realized, realize};

use crate::lab::{Lab, OUTSIDE, UPLINKS};
use crate::random::Random;

/// Stations outside are forgotten after 300 s: they speak more often.
const INTRODUCTION: Duration = Duration::from_secs(200);
/// Steps that a failure shows.
const SHOWN: usize = 20;
/// Delivered packets that may still be answered.
const ANSWERABLE: usize = 48;

pub struct Bench {
    pub random: Random,
    pub lab: Lab,
    pub atlas: Atlas,
    pub model: Model,
    network: Network,
    allocations: Allocations,
    worker: Worker,
    pub now: Duration,
    introduced: Option<Duration>,
    /// What was sent lately, with the port it went in by.
    pub sent: VecDeque<(u32, Framed)>,
    /// What came out lately.
    pub delivered: VecDeque<(u32, Framed)>,
    history: VecDeque<String>,
    said: BTreeMap<String, usize>,
}

pub fn v4(address: Addr) -> Ipv4Addr {
    Ipv4Addr::from(address.low32())
}

fn definitions(yaml: &str) -> Definitions {
    match load(&[Input::text("lab.yaml", yaml)]) {
        Ok(loaded) => loaded.definitions,
        Err(faults) => panic!("{faults:#?}\n{yaml}"),
    }
}

fn realized(definitions: &Definitions, kept: &Allocations) -> Realized {
    realize(definitions, kept).unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn station(names: &Names, name: &str) -> Station {
    let (_, place) = names.port(name).unwrap();
    Station { port: place.port.0, mac: place.mac.0, address: v4(place.addresses[0]) }
}

/// Who was given what.
fn atlas(lab: &Lab, names: &Names) -> Atlas {
    let mut atlas = Atlas { vms: vec![station(names, "vm/cp-1")], ..Atlas::default() };
    for (namespace, pod) in lab.pods() {
        let found = station(names, &format!("pod/{namespace}/{pod}"));
        atlas.pods.push((ObjectName::new(namespace, pod), found));
    }
    for (name, network, _) in OUTSIDE {
        atlas.outside.push((network.to_owned(), station(names, &format!("host/{name}"))));
    }
    for (namespace, name, outside) in lab.services() {
        let key = ObjectName::new(namespace, name);
        atlas.cluster_ips.push((key.clone(), v4(names.cluster_ip(&key).unwrap())));
        if outside {
            let vip = v4(names.vip(&key).unwrap());
            atlas.vips.push((key, vip));
        }
    }
    for n in 0..lab.namespaces() {
        let name = format!("ns-{n}");
        atlas.gateways.push((name.clone(), v4(names.gateway(&name).unwrap())));
        if lab.nat() {
            atlas.snat.push((name.clone(), v4(names.snat(&name).unwrap())));
        }
    }
    atlas
}

impl Bench {
    pub fn new(seed: u64, mortal: bool) -> Bench {
        let mut random = Random::new(seed);
        let lab = Lab::new(&mut random, mortal);
        let definitions = definitions(&lab.yaml());
        let Realized { mut network, allocations, names, .. } =
            realized(&definitions, &Allocations::default());
        (network.epoch, network.seed) = (1, seed);
        let mut atlas = atlas(&lab, &names);
        let mut worker = Worker::new(WorkerConfig { seed, ..WorkerConfig::default() });
        // Who is asked for a MAC says it.
        let mut ask = |asker: &Station, target: Ipv4Addr| -> Mac {
            let frame = Frame::new(wire::arp_request(asker.mac, asker.address, target));
            let mut batch = vec![Received { port: PortId(asker.port), frame }];
            let mut tx = Vec::new();
            worker.process(&network, &mut batch, Time::ZERO, &mut tx);
            let reply = tx.iter().find_map(|(_, f)| wire::read_arp(&f.bytes).filter(|a| a.3));
            reply.unwrap_or_else(|| panic!("{target} does not answer {asker:?}")).0
        };
        let (pod, gateway) = (atlas.pods[0].1.clone(), atlas.gateways[0].1);
        atlas.gateway_mac = ask(&pod, gateway);
        for (link, address) in UPLINKS {
            let asker =
                atlas.outside.iter().find(|(network, _)| network == link).unwrap().1.clone();
            let mac = ask(&asker, address.parse().unwrap());
            atlas.uplink_macs.push((link.to_owned(), mac));
        }
        let model = Model::new(&definitions, &atlas).unwrap();
        Bench {
            random,
            lab,
            atlas,
            model,
            network,
            allocations,
            worker,
            now: Duration::ZERO,
            introduced: None,
            sent: VecDeque::new(),
            delivered: VecDeque::new(),
            history: VecDeque::new(),
            said: BTreeMap::new(),
        }
    }

    /// How often the model said what.
    pub fn said(&self) -> &BTreeMap<String, usize> {
        &self.said
    }

    /// The last steps.
    pub fn history(&self) -> String {
        self.history.iter().cloned().collect::<Vec<_>>().join("\n")
    }

    /// The lab as it is now.
    pub fn manifest(&self) -> String {
        self.lab.yaml()
    }

    pub fn note(&mut self, line: String) {
        if self.history.len() == SHOWN {
            self.history.pop_front();
        }
        self.history.push_back(format!("{:>14?}  {line}", self.now));
    }

    fn time(&self) -> Time {
        Time(u64::try_from(self.now.as_nanos()).unwrap())
    }

    /// What left the engine, without address resolution.
    fn read(tx: &[(PortId, Frame)]) -> Result<Vec<(Seen, Framed)>, String> {
        let mut all = Vec::new();
        for (port, frame) in tx {
            if wire::read_arp(&frame.bytes).is_some() {
                continue;
            }
            let framed = wire::read(&frame.bytes).map_err(|e| {
                format!("the engine sent {e} to port {}: {:02x?}", port.0, frame.bytes)
            })?;
            all.push((Seen { port: port.0, packet: framed.packet }, framed));
        }
        Ok(all)
    }

    /// Everybody outside tells the Tier-0 where it is.
    fn introduce(&mut self) {
        if self.introduced.is_some_and(|at| at + INTRODUCTION > self.now) {
            return;
        }
        self.introduced = Some(self.now);
        let mut batch = Vec::new();
        for (network, host) in &self.atlas.outside {
            let (_, tier0) = UPLINKS.iter().find(|(link, _)| link == network).unwrap();
            let frame = wire::arp_request(host.mac, host.address, tier0.parse().unwrap());
            batch.push(Received { port: PortId(host.port), frame: Frame::new(frame) });
        }
        let now = self.time();
        self.worker.process(&self.network, &mut batch, now, &mut Vec::new());
    }

    /// Moves both clocks, the engine's stopping at each of its timers.
    pub fn advance(&mut self, by: Duration) -> Result<(), String> {
        let until = self.now + by;
        let mut tx = Vec::new();
        let mut said = Vec::new();
        while let Some(at) = self.worker.next_timeout(&self.network) {
            let at = Duration::from_nanos(at.0).max(self.now);
            if at > until {
                break;
            }
            self.now = at;
            let now = self.time();
            self.worker.advance(&self.network, now, &mut tx);
            said.extend(self.model.pass(self.now));
        }
        self.now = until;
        let now = self.time();
        self.worker.advance(&self.network, now, &mut tx);
        said.extend(self.model.pass(self.now));
        let sent = Bench::read(&tx)?;
        compare(sent.iter().map(|(seen, _)| *seen).collect(), said, "time passed")?;
        self.introduce();
        Ok(())
    }

    /// Sends a frame through both.
    pub fn send(&mut self, port: u32, framed: Framed) -> Result<(), String> {
        let frame = Frame::new(wire::build(&framed));
        let mut tx = Vec::new();
        let now = self.time();
        self.model.pass(self.now);
        let before = self.worker.drops().clone();
        let mut batch = vec![Received { port: PortId(port), frame }];
        self.worker.process(&self.network, &mut batch, now, &mut tx);
        let read = Bench::read(&tx)?;
        let sent: Vec<Seen> = read.iter().map(|(seen, _)| *seen).collect();
        let verdict = self.model.receive(port, &framed, &sent);
        let drops: Vec<String> = self
            .worker
            .drops()
            .iter()
            .filter(|(key, traffic)| before.get(*key) != Some(*traffic))
            .map(|(key, _)| format!("{} {} at {}", key.stage, key.reason, key.object))
            .collect();
        self.note(format!(
            "port {port}: {:?} -> {:?} ({}; engine {drops:?})",
            framed.packet, verdict.out, verdict.why
        ));
        *self.said.entry(general(&verdict.why)).or_default() += 1;
        let same = compare(sent, verdict.out, &verdict.why);
        same.map_err(|e| {
            format!("{e}\n  for {framed:02x?} at port {port}\n  the engine dropped: {drops:?}")
        })?;
        for (seen, framed) in read {
            self.addressed(seen.port, &framed)?;
            keep(&mut self.delivered, (seen.port, framed));
        }
        keep(&mut self.sent, (port, framed));
        Ok(())
    }

    /// Puts a changed lab in place.
    pub fn change(&mut self) -> Result<(), String> {
        let what = self.lab.change(&mut self.random);
        self.note(what);
        let definitions = definitions(&self.lab.yaml());
        let Realized { mut network, allocations, names, .. } =
            realized(&definitions, &self.allocations);
        (network.epoch, network.seed) = (self.network.epoch + 1, self.network.seed);
        (self.network, self.allocations) = (network, allocations);
        self.atlas = Atlas {
            gateway_mac: self.atlas.gateway_mac,
            uplink_macs: self.atlas.uplink_macs.clone(),
            ..atlas(&self.lab, &names)
        };
        self.model.replace(&definitions, &self.atlas)
    }

    /// Every frame is accounted for, and both remember as many conversations in as many places.
    pub fn audit(&mut self) -> Result<(), String> {
        let accounting = self.worker.accounting();
        if !accounting.balances() {
            return Err(format!("frames are missing: {accounting:?}"));
        }
        let sessions = self.worker.sessions();
        let records = sessions.iter().map(|s| s.records.len()).sum();
        let (engine, model) = ((sessions.len(), records), self.model.remembered());
        if engine == model {
            return Ok(());
        }
        let sessions: Vec<String> =
            sessions.iter().map(|s| format!("{} {:?}", s.initiating, s.progress)).collect();
        Err(format!(
            "the engine remembers {engine:?} conversations and records, the model {model:?}\n  \
             engine: {sessions:#?}\n  model: {:#?}",
            self.model.conversations()
        ))
    }

    /// A frame is for the station at its port.
    fn addressed(&self, port: u32, framed: &Framed) -> Result<(), String> {
        let pods = self.atlas.pods.iter().map(|(_, s)| s);
        let outside = self.atlas.outside.iter().map(|(_, s)| s);
        let station = pods.chain(outside).chain(&self.atlas.vms).find(|s| s.port == port);
        match station {
            Some(station) if station.mac == framed.dst_mac => Ok(()),
            _ => Err(format!("port {port} got a frame for {:02x?}", framed.dst_mac)),
        }
    }
}

fn keep<T>(list: &mut VecDeque<T>, item: T) {
    if list.len() == ANSWERABLE {
        list.pop_front();
    }
    list.push_back(item);
}

/// Without the addresses.
fn general(why: &str) -> String {
    why.split(['1', '2']).next().unwrap().trim().to_owned()
}

fn compare(mut engine: Vec<Seen>, mut model: Vec<Seen>, why: &str) -> Result<(), String> {
    engine.sort();
    model.sort();
    if engine == model {
        return Ok(());
    }
    Err(format!(
        "they differ\n  the model says {model:?}\n    because: {why}\n  the engine says {engine:?}"
    ))
}
