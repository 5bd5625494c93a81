//! Conversations over a network: the same scenario speaks with Linux and with tierlab.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use crate::nat::{POOL, TRANSLATED_PORTS};
use crate::packet::{self, Ip, SENT_ID};
use crate::scenarios::MEMBER_PORTS;

/// Where a scenario sends and captures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    Client,
    Other,
    Web,
    Server,
    Pooled,
    Target,
    Twin,
}

impl End {
    pub const ALL: [End; 7] =
        [End::Client, End::Other, End::Web, End::Server, End::Pooled, End::Target, End::Twin];

    pub fn name(self) -> &'static str {
        match self {
            End::Client => "client",
            End::Other => "other",
            End::Web => "web",
            End::Server => "server",
            End::Pooled => "pooled",
            End::Target => "target",
            End::Twin => "twin",
        }
    }

    pub fn address(self) -> Ipv4Addr {
        match self {
            End::Client => Ipv4Addr::new(10, 244, 0, 34),
            End::Other => Ipv4Addr::new(10, 244, 0, 35),
            End::Web => Ipv4Addr::new(10, 244, 0, 18),
            End::Server => Ipv4Addr::new(192, 168, 100, 1),
            End::Pooled => Ipv4Addr::new(10, 244, 0, 50),
            End::Target => Ipv4Addr::new(10, 244, 0, 51),
            End::Twin => Ipv4Addr::new(10, 244, 0, 52),
        }
    }

    /// Its next hop.
    pub fn gateway(self) -> Ipv4Addr {
        match self {
            End::Client | End::Other => Ipv4Addr::new(10, 244, 0, 33),
            End::Web => Ipv4Addr::new(10, 244, 0, 17),
            End::Server => Ipv4Addr::new(192, 168, 100, 2),
            End::Pooled | End::Target | End::Twin => Ipv4Addr::new(10, 244, 0, 49),
        }
    }
}

pub type Mac = [u8; 6];

/// A network with these ends.
pub trait Wire {
    /// Forgets what was said before.
    fn begin(&mut self);

    /// Sends IPv4 frames in order from one end, and returns the IPv4 frames that arrive anywhere before
    /// the network is quiet again, those of one end in order.
    fn exchange(&mut self, from: End, frames: &[Vec<u8>]) -> Vec<(End, Vec<u8>)>;

    /// The MACs of an end and of its gateway.
    fn macs(&self, end: End) -> (Mac, Mac);

    /// Whether it is this one that says what has to happen in a scenario.
    fn is_reference(&self) -> bool;
}

/// Gives names to what a NAT or a router chooses by itself: it may not be compared by its value.
#[derive(Debug)]
pub struct Names {
    known: BTreeSet<Label>,
    chosen: Vec<Label>,
    pooled: Vec<Ipv4Addr>,
}

/// What a NAT may change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// A port of TCP or UDP.
    Port(u16),
    /// The identifier of an ICMP query.
    EchoId(u16),
}

impl Names {
    fn learn(&mut self, sent: &Ip) {
        let new = sent.labels().into_iter().filter(|label| !self.chosen.contains(label));
        self.known.extend(new);
    }

    /// Itself if some packet was sent with it, else `another` (`another-2`).
    pub fn label(&mut self, label: Label) -> String {
        if self.known.contains(&label) {
            let (Label::Port(number) | Label::EchoId(number)) = label;
            return number.to_string();
        }
        let at = self.chosen.iter().position(|l| *l == label).unwrap_or_else(|| {
            self.chosen.push(label);
            self.chosen.len() - 1
        });
        if at == 0 { "another".to_owned() } else { format!("another-{}", at + 1) }
    }

    /// Itself, but one of the SNAT pool is `of the pool` (`of the pool-2`): which one is the network's choice.
    pub fn address(&mut self, address: Ipv4Addr) -> String {
        if !POOL.contains(&address) {
            return address.to_string();
        }
        let at = self.pooled.iter().position(|known| *known == address).unwrap_or_else(|| {
            self.pooled.push(address);
            self.pooled.len() - 1
        });
        if at == 0 { "of the pool".to_owned() } else { format!("of the pool-{}", at + 1) }
    }

    /// An identification: `kept`, `0`, or `chosen` by a router.
    pub fn id(&self, id: u16) -> String {
        match id {
            SENT_ID => "kept",
            0 => "0",
            _ => "chosen",
        }
        .to_owned()
    }
}

/// One captured frame, for people and for comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Captured {
    pub summary: String,
    pub fields: Vec<(String, String)>,
}

/// What arrived at each end after one sending.
pub type Step = BTreeMap<End, Vec<Captured>>;

/// A scenario in progress over one network.
pub struct Talk<'w> {
    wire: &'w mut dyn Wire,
    scenario: &'static str,
    names: Names,
    pub steps: Vec<Step>,
    /// Linux did not do what the scenario says, and so ended it.
    pub surprise: Option<String>,
}

impl<'w> Talk<'w> {
    pub fn new(wire: &'w mut dyn Wire, scenario: &'static str) -> Talk<'w> {
        wire.begin();
        // The ports of the members: a translation puts them into packets that were sent with others.
        let known = MEMBER_PORTS.into_iter().chain(TRANSLATED_PORTS).map(Label::Port).collect();
        let names = Names { known, chosen: Vec::new(), pooled: Vec::new() };
        Talk { wire, scenario, names, steps: Vec::new(), surprise: None }
    }

    /// Sends packets in order; `arrive` says at which ends how many packets arrive in Linux. Returns
    /// them sorted by their end, or `None` if packets arrived elsewhere, which ends the scenario: in tierlab
    /// it is a recorded difference, in Linux a surprise.
    pub fn exchange(&mut self, from: End, packets: &[Ip], arrive: &[End]) -> Option<Vec<Ip>> {
        let (own, gateway) = self.wire.macs(from);
        for packet in packets {
            self.names.learn(packet);
        }
        let frame = |p: &Ip| [gateway.as_slice(), &own, &[8, 0], &p.bytes()].concat();
        let frames: Vec<Vec<u8>> = packets.iter().map(frame).collect();
        let mut arrived = self.wire.exchange(from, &frames);
        arrived.sort_by_key(|(end, _)| *end);
        let ends: Vec<End> = arrived.iter().map(|(end, _)| *end).collect();
        let mut step = Step::new();
        let mut received = Vec::new();
        for (end, frame) in arrived {
            let captured = self.capture(end, &frame);
            step.entry(end).or_default().push(captured);
            received.push(Ip::read(&frame[14..]));
        }
        if ends != arrive && self.wire.is_reference() {
            let came =
                received.iter().zip(&ends).map(|(ip, end)| format!("{end:?}: {}", ip.summary()));
            let came = came.collect::<Vec<_>>().join(", ");
            let (scenario, step) = (self.scenario, self.steps.len());
            self.surprise = Some(format!(
                "{scenario}, step {step}: in Linux {arrive:?} should see packets; there came [{came}]"
            ));
        }
        self.steps.push(step);
        (ends == arrive).then_some(received)
    }

    /// One packet, of which one arrives there.
    pub fn one(&mut self, from: End, packet: Ip, to: End) -> Option<Ip> {
        self.exchange(from, &[packet], &[to]).map(|mut arrived| arrived.remove(0))
    }

    /// One packet, of which nothing arrives anywhere.
    pub fn none(&mut self, from: End, packet: Ip) -> Option<()> {
        self.exchange(from, &[packet], &[]).map(|_| ())
    }

    /// What a scenario means to show has to be so in Linux; tierlab is then compared with it.
    pub fn meant(&mut self, so: bool, what: &str) {
        if !so && self.wire.is_reference() {
            let (scenario, step) = (self.scenario, self.steps.len());
            self.surprise = Some(format!("{scenario}, before step {step}: in Linux {what}"));
        }
    }

    fn capture(&mut self, end: End, frame: &[u8]) -> Captured {
        let (own, gateway) = self.wire.macs(end);
        let mac = |mac: &[u8]| match mac {
            mac if mac == own => "own".to_owned(),
            mac if mac == gateway => "gateway".to_owned(),
            other => format!("{other:02x?}"),
        };
        let mut fields = vec![
            ("eth.dst".to_owned(), mac(&frame[..6])),
            ("eth.src".to_owned(), mac(&frame[6..12])),
        ];
        let length = usize::from(u16::from_be_bytes([frame[16], frame[17]]));
        // What is behind it pads the frame to Ethernet's least.
        let packet = &frame[14..14 + length];
        fields.extend(packet::fields(packet, &mut self.names));
        Captured { summary: Ip::read(packet).summary(), fields }
    }
}
