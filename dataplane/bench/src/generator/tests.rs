//! A generator finds what is wrong with what comes out.
#![allow(clippy::unwrap_used, reason = "tests")]
use super::*;
use crate::flows::{Pool, Protocol, Source};
use crate::neighbors::Station;
use crate::{Work, find};
use engine::network::{Port, Segment, SegmentId};

/// Two hosts on a network that learns.
fn lab() -> (Snapshots, Stations) {
    let port =
        |name: &str| Port { name: name.to_owned(), segment: SegmentId(0), mtu: 1_500, vnic: None };
    let ports = vec![PortId(0), PortId(1)];
    let net = Network {
        epoch: 1,
        ports: vec![port("host/a:eth0"), port("host/b:eth0")],
        segments: vec![Segment { ports, learning: true, ..Segment::default() }],
        ..Network::default()
    };
    let station = |i: u8| Station {
        port: PortId(u32::from(i)),
        mac: Mac([2, 0, 0, 0, 0, i]),
        addresses: vec![format!("192.0.2.{}", i + 1).parse().unwrap()],
    };
    (Snapshots::new(Arc::new(net)), [station(0), station(1)].into_iter().collect())
}

fn flows(snapshots: &Snapshots, stations: &Stations) -> Flows {
    find(&snapshots.newest(), stations, Work::L2).unwrap()
}

fn opened<'a>(setup: &'a Setup<'a>, count: u32) -> Generator<'a> {
    let mut generator = generators(setup, count, 1).unwrap().remove(0);
    generator.open().unwrap();
    generator
}

#[test]
fn all_sizes_come_out_as_they_went_in() {
    let (snapshots, stations) = lab();
    for protocol in [Protocol::Udp, Protocol::Tcp] {
        let flows = Flows { protocol, ..flows(&snapshots, &stations) };
        for size in Size::ALL {
            let setup = Setup { flows: &flows, stations: &stations, size, snapshots: &snapshots };
            let mut generator = opened(&setup, 100);
            assert_eq!(generator.verify(), Ok(200));
            assert_eq!(generator.round(), Ok(200));
            let octets: usize = generator.received().map(|r| r.frame.bytes.len()).sum();
            assert_eq!(octets, (0..200).map(|i| size.octets(i)).sum());
        }
    }
}

#[test]
fn a_frame_that_is_not_the_flows_own_is_found() {
    let (snapshots, stations) = lab();
    let flows = flows(&snapshots, &stations);
    let setup =
        Setup { flows: &flows, stations: &stations, size: Size::B64, snapshots: &snapshots };
    for (name, tamper) in [
        // One octet behind the tag, with the checksum that goes with it.
        (
            "payload",
            (|bytes: &mut Vec<u8>| {
                bytes[59] = 1;
                let sum = u16::from_be_bytes([bytes[40], bytes[41]]);
                let sum = packet::Delta::of(0, 1).update_udp(sum);
                bytes[40..42].copy_from_slice(&sum.to_be_bytes());
            }) as fn(&mut Vec<u8>),
        ),
        ("UDP checksum", |bytes| bytes[59] = 1),
        ("TTL", |bytes| {
            bytes[22] = 63;
            let sum = u16::from_be_bytes([bytes[24], bytes[25]]);
            let sum = packet::Delta::of(64 << 8, 63 << 8).update(sum);
            bytes[24..26].copy_from_slice(&sum.to_be_bytes());
        }),
        ("source MAC", |bytes| bytes[10] = 7),
        // The source port, and what makes up for it in the sum: another flow's frame.
        ("tuple", |bytes| {
            let port = u16::from_be_bytes([bytes[34], bytes[35]]) + 5_000;
            let sum = u16::from_be_bytes([bytes[40], bytes[41]]);
            let sum = packet::Delta::of(port - 5_000, port).update_udp(sum);
            bytes[34..36].copy_from_slice(&port.to_be_bytes());
            bytes[40..42].copy_from_slice(&sum.to_be_bytes());
        }),
    ] {
        let mut generator = opened(&setup, 10);
        let at = generator.templates.iter().position(|t| t.way == ASK).unwrap();
        let template = &mut generator.templates[at];
        let mut bytes = template.bytes();
        tamper(&mut bytes);
        *template = Template::of(template.port, template.flow, template.way, &bytes);
        let number = template.flow;
        let Err(BenchError::Wrong { number: found, direction, fault }) = generator.verify() else {
            unreachable!("{name} is not found")
        };
        assert_eq!((found, direction), (number, "first packets"), "{name}");
        assert!(fault.to_string().contains(name), "{name}: {fault}");
    }
}

#[test]
fn a_ttl_that_no_gateway_has_lowered_is_found() {
    let (snapshots, stations) = lab();
    let flows = Flows { switched: false, inside: true, ..flows(&snapshots, &stations) };
    let setup =
        Setup { flows: &flows, stations: &stations, size: Size::B64, snapshots: &snapshots };
    let error = generators(&setup, 1, 1).unwrap().remove(0).open().unwrap_err();
    assert_eq!(error.to_string(), "flow 0, first packets: TTL is 64 where 62 is right");
}

#[test]
fn an_address_that_the_definitions_do_not_give_is_found() {
    let (snapshots, stations) = lab();
    let members = Some(vec![("192.0.2.77".parse().unwrap(), 9)]);
    let flows = Flows { translated_destinations: members, ..flows(&snapshots, &stations) };
    let setup =
        Setup { flows: &flows, stations: &stations, size: Size::B64, snapshots: &snapshots };
    let error = generators(&setup, 1, 1).unwrap().remove(0).open().unwrap_err();
    assert!(error.to_string().contains("one of [(192.0.2.77, 9)]"), "{error}");
}

#[test]
fn flows_that_do_not_get_through_are_told() {
    let (snapshots, stations) = lab();
    let nobody = Source { hop: Mac([2, 0, 0, 0, 0, 9]), ..flows(&snapshots, &stations).sources[0] };
    let flows = Flows { sources: vec![nobody], ..flows(&snapshots, &stations) };
    let setup =
        Setup { flows: &flows, stations: &stations, size: Size::B64, snapshots: &snapshots };
    let error = generators(&setup, 1, 1).unwrap().remove(0).open().unwrap_err();
    assert!(matches!(error, BenchError::Blocked { number: 0, .. }), "{error}");
    let pool = Pool::one("192.0.2.2".parse().unwrap());
    let few = Flows { destinations: pool, ports: 1, ..flows.clone() };
    let setup = Setup { flows: &few, stations: &stations, size: Size::B64, snapshots: &snapshots };
    assert!(matches!(generators(&setup, 60_001, 1), Err(BenchError::TooManyFlows { .. })));
}

#[test]
fn a_team_shares_the_flows() {
    let (snapshots, stations) = lab();
    let flows = flows(&snapshots, &stations);
    let setup =
        Setup { flows: &flows, stations: &stations, size: Size::B64, snapshots: &snapshots };
    let mut team = generators(&setup, 101, 2).unwrap();
    for generator in &mut team {
        generator.open().unwrap();
        generator.park();
    }
    assert_eq!(team.iter().map(Generator::frames).sum::<u64>(), 202);
    let duration = Duration::from_millis(20);
    let rate = crate::rate(&mut team, duration).unwrap();
    assert_eq!(rate.per_worker.len(), 2);
    assert!(rate.frames > 0 && rate.per_second() > 0.0);
    let latency = crate::latency(&mut team, duration).unwrap();
    assert!(0 < latency.p50 && latency.p50 <= latency.p99 && latency.p99 <= latency.p999);
    let found = crate::zero_loss(&mut team, 1e12, 4_096, duration).unwrap();
    assert!(found.per_second < 1e12);
    let found = crate::zero_loss(&mut team, 10.0, 4_096, duration).unwrap();
    assert!(found.per_second > 9.9, "{found:?}");
    for generator in &mut team {
        generator.verify().unwrap();
    }
}
