//! Two workers on two threads, the same flows at both, and a third thread that changes the
//! configuration: what the interleaving test shows step by step holds at full speed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod fixture;

use engine::network::*;
use engine::{Received, Session, Shared, Worker, WorkerConfig};
use fixture::lab::*;
use fixture::*;
use packet::{Frame, Time};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

/// Flows: three pods, so many source ports each; all pods use the same.
const PORTS: u16 = 40;
/// Batches of one worker.
const BATCHES: u64 = 4_000;
const BATCH: usize = 16;

/// The newest snapshot; read once a batch.
struct Snapshots(Mutex<Arc<Network>>);

impl Snapshots {
    fn get(&self) -> Arc<Network> {
        Arc::clone(&self.0.lock().unwrap())
    }
}

fn snapshot(epoch: u64) -> Network {
    let mut net = lab();
    net.epoch = epoch;
    // A small table: sessions are evicted all the time, and their ports used again.
    net.timers.max_sessions = 90;
    // Every other snapshot denies what pod/b sends.
    let action = if epoch.is_multiple_of(2) { Action::Drop } else { Action::Allow };
    net.firewall.rules = vec![rule(1001, "any", "any", Vec::new(), action)];
    vnic(&mut net, POD_B).rules_out = vec![0].into();
    net
}

/// A frame of a flow, with the epoch in which it was made and the flow's name.
fn frame(pod: usize, port: u16, epoch: u64) -> (PortId, Frame) {
    let src = [A, B, C][pod];
    let mut payload = epoch.to_be_bytes().to_vec();
    payload.extend_from_slice(&[b'f', pod as u8]);
    payload.extend_from_slice(&port.to_be_bytes());
    (place(src).0, from(src, H1).udp(4000 + port, 53).payload(&payload).build())
}

/// Whose a frame is that left by EXT.
fn owner(frame: &Frame) -> Option<[u8; 4]> {
    let h = packet::parse(&frame.bytes).unwrap();
    let is_udp = h.ip().is_some_and(|ip| ip.protocol == 17);
    is_udp.then(|| *frame.bytes.last_chunk().unwrap())
}

/// Counts what was sent; H1 answers what it got.
fn send(tx: &mut Vec<(PortId, Frame)>, sent: &AtomicU64, answers: &mut Vec<Received>) {
    for (port, frame) in tx.drain(..) {
        sent.fetch_add(1, Ordering::Relaxed);
        let Some(flow) = owner(&frame).filter(|_| port == EXT) else { continue };
        let own = *headers(&frame).ip().unwrap();
        assert_eq!(own.src, ip("172.16.2.2"));
        let answer = from(H1, "172.16.2.2").udp(53, own.ports().0).payload(&flow).build();
        answers.push(Received { port: EXT, frame: answer });
    }
}

fn unique(sessions: &[Session]) {
    let mut replies = BTreeSet::new();
    for record in sessions.iter().flat_map(|s| s.records.iter()) {
        assert!(replies.insert((record.node, record.after.reversed())), "{record:?} given twice");
    }
}

/// What the threads share.
struct Stage {
    snapshots: Snapshots,
    shared: Arc<Shared>,
    /// Frames that both workers have sent.
    sent: AtomicU64,
    /// Frames made by this epoch or before had their snapshot acknowledged.
    acknowledged: AtomicU64,
    over: AtomicBool,
    start: Barrier,
}

fn work(mut worker: Worker, stage: &Stage, number: u64) -> Worker {
    let (mut batch, mut tx, mut answers) = (Vec::new(), Vec::new(), Vec::new());
    stage.start.wait();
    for round in 0..BATCHES {
        let now = Time::from_millis(round / 10);
        // Made after this was acknowledged; so is whatever comes of it.
        let acknowledged = stage.acknowledged.load(Ordering::SeqCst);
        for i in 0..BATCH as u64 {
            let at = round * 7 + i * (3 + 2 * number);
            let (port, frame) =
                frame((at % 3) as usize, (at / 3 % u64::from(PORTS)) as u16, acknowledged);
            batch.push(Received { port, frame });
        }
        batch.append(&mut answers);
        while !worker.process(&stage.snapshots.get(), &mut batch, now, &mut tx) {
            send(&mut tx, &stage.sent, &mut answers);
            thread::yield_now();
        }
        for (_, frame) in tx.iter().filter(|(port, f)| *port == EXT && owner(f).is_some()) {
            // Nothing that was begun after a denial was acknowledged comes through, until the next
            // snapshot, which allows it.
            let flow = owner(frame).unwrap();
            let made = u64::from_be_bytes(frame.bytes[42..50].try_into().unwrap());
            let newest = stage.snapshots.get().epoch;
            assert!(flow[1] != 1 || !made.is_multiple_of(2) || newest > made, "denied: {made}");
        }
        send(&mut tx, &stage.sent, &mut answers);
        if round % 64 == 63 {
            worker.park();
        }
    }
    // Others may still wait for this one, or it for them.
    while !worker.advance(&stage.snapshots.get(), Time::from_secs(1), &mut tx)
        || worker.next_timeout(&stage.snapshots.get()) == Some(Time::ZERO)
    {
        thread::yield_now();
    }
    send(&mut tx, &stage.sent, &mut Vec::new());
    worker.park();
    worker
}

fn control(stage: &Stage) -> u64 {
    stage.start.wait();
    let mut epoch = 1;
    while !stage.over.load(Ordering::SeqCst) {
        epoch += 1;
        let net = Arc::new(snapshot(epoch));
        let era = stage.shared.publish(&net);
        *stage.snapshots.0.lock().unwrap() = net;
        while !stage.shared.has_passed(era) {
            thread::yield_now();
        }
        stage.acknowledged.store(epoch, Ordering::SeqCst);
        unique(&stage.shared.sessions());
        thread::yield_now();
    }
    epoch
}

#[test]
fn two_threads_share_one_lab() {
    let net = Arc::new(snapshot(1));
    let config = WorkerConfig { seed: net.seed, ..WorkerConfig::default() };
    let mut team = Worker::team(config, 2);
    let mut tx = Vec::new();
    let hello = packet::arp_request(M1, ip(H1), ip("192.0.2.1"));
    let mut first = vec![Received { port: EXT, frame: hello }];
    assert!(team[0].process(&net, &mut first, Time::ZERO, &mut tx));
    team[0].park();
    let stage = Stage {
        shared: Arc::clone(team[0].shared()),
        snapshots: Snapshots(Mutex::new(net)),
        // The Tier-0's answer to the host outside.
        sent: AtomicU64::new(tx.len() as u64),
        acknowledged: AtomicU64::new(1),
        over: AtomicBool::new(false),
        start: Barrier::new(3),
    };
    let mut epochs = 0;
    let team: Vec<Worker> = thread::scope(|scope| {
        let stage = &stage;
        let threads: Vec<_> = team
            .into_iter()
            .zip(0..)
            .map(|(worker, number)| scope.spawn(move || work(worker, stage, number)))
            .collect();
        let control = scope.spawn(|| control(stage));
        let team = threads.into_iter().map(|t| t.join().unwrap()).collect();
        stage.over.store(true, Ordering::SeqCst);
        epochs = control.join().unwrap();
        team
    });
    assert!(epochs > 2, "the configuration has changed");
    let counters = stage.shared.counters();
    assert!(counters.accounting.balances(), "{:?}", counters.accounting);
    assert_eq!(counters.accounting.held, 0);
    assert_eq!(counters.accounting.delivered, stage.sent.into_inner());
    assert!(counters.evicted > 0, "ports were used again");
    let sessions = stage.shared.sessions();
    unique(&sessions);
    assert!(sessions.len() <= 90);
    drop(team);
}
