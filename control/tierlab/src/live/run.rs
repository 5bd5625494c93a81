//! The live loop: one thread, frames in batches, the wall clock.
//!
//! The thread sleeps in the kernel until a frame comes, a timer of the lab is due, the API has a job, or a signal
//! says to end. It then takes up to [`BATCH`] frames from each port that has some, lets the lab handle
//! them at one moment, and hands out what leaves. A port that filled its batch is read again without
//! asking the kernel first: under load there is one wait for many batches, and no port can keep the
//! others waiting for longer than one of its own.

use crate::exit::Error;
use crate::live::capture::Replays;
use crate::live::ending::Ending;
use crate::live::jobs::Jobs;
use crate::live::port::LivePort;
use engine::network::PortId;
use hosts::Lab;
use packet::{Frame, Time};
use ports::Poller;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// Frames taken from a port before the others have their turn.
const BATCH: usize = 64;

/// The shortest sleep while nothing waits, so that a timer that stays due cannot keep a core busy.
/// Timers of the lab are seconds; nobody notices a millisecond.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// Buffers of frames that have left, kept for frames to come: with the longest frames about 8 MB.
const SPARE_BUFFERS: usize = 128;

/// Above those of the ports, which are numbered from 0.
const ENDING: u64 = u64::MAX - 1;

/// The wall clock as the lab sees it: time since its start.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Time {
        Time::ZERO + self.0.elapsed()
    }
}

/// Runs the lab until a signal comes, a job says so, or `duration` has passed. `poller` is woken for jobs.
pub fn run(
    mut poller: Poller,
    jobs: &Jobs,
    lab: &mut Lab,
    ports: &mut [LivePort],
    replays: &mut Replays,
    ending: &Ending,
    duration: Option<Duration>,
) -> Result<(), Error> {
    let failed = |e: io::Error| Error::internal(format!("cannot wait for frames: {e}"));
    poller.register(ending.as_fd(), ENDING).map_err(failed)?;
    let mut by_id: BTreeMap<PortId, usize> = BTreeMap::new();
    for (index, port) in ports.iter().enumerate() {
        lab.attach(port.id);
        by_id.insert(port.id, index);
        if let Some(descriptor) = port.descriptor() {
            poller.register(descriptor, index as u64).map_err(failed)?;
        }
    }
    let clock = Clock(Instant::now());
    let end = duration.map(|d| Time::ZERO + d);
    let mut spare: Vec<Vec<u8>> = Vec::new();
    // Ports that may have more frames than were taken.
    let mut busy: BTreeSet<usize> = BTreeSet::new();
    loop {
        let sleep = if busy.is_empty() && jobs.is_empty() {
            let due = [lab.next_timeout(), replays.next_due(), end];
            let due = due.into_iter().flatten().min();
            due.map(|at| at.since(clock.now()).max(SHORTEST_SLEEP))
        } else {
            Some(Duration::ZERO)
        };
        let ready = poller.wait(sleep).map_err(failed)?;
        if ready.readable.contains(&ENDING) {
            return Ok(());
        }
        for token in ready.failed {
            give_up(&poller, ports, token, &mut busy);
        }
        busy.extend(ready.readable.into_iter().filter_map(|t| usize::try_from(t).ok()));
        busy.retain(|index| ports.get_mut(*index).is_some_and(|port| take(port, lab, &mut spare)));
        let now = clock.now();
        for _ in 0..BATCH {
            let Some((index, bytes)) = replays.take_due(now) else { break };
            if let Some(port) = ports.get_mut(index) {
                port.received += 1;
                lab.inject(port.id, Frame::new(bytes));
            }
        }
        lab.catch_up(now);
        let mut hand_out = |lab: &mut Lab| {
            for delivery in lab.take_outbox() {
                if let Some(port) = by_id.get(&delivery.port).and_then(|i| ports.get_mut(*i)) {
                    port.send(now, &delivery.frame);
                }
                if spare.len() < SPARE_BUFFERS {
                    spare.push(delivery.frame.bytes);
                }
            }
        };
        // Before the jobs: when a change is answered, no frame of the network before is on its way any more.
        hand_out(lab);
        let ends = jobs.run(lab);
        hand_out(lab);
        if ends || end.is_some_and(|end| now >= end) {
            return Ok(());
        }
    }
}

/// Takes a batch from a port. Whether there may be more.
fn take(port: &mut LivePort, lab: &mut Lab, spare: &mut Vec<Vec<u8>>) -> bool {
    for _ in 0..BATCH {
        let mut frame = Frame::new(spare.pop().unwrap_or_default());
        match port.recv(&mut frame) {
            Ok(true) => lab.inject(port.id, frame),
            // An error that lasts is reported by the poller; one that does not was this frame's.
            Ok(false) | Err(_) => {
                spare.push(frame.bytes);
                return false;
            }
        }
    }
    true
}

/// Handles an error state of a port. If its interface has gone, nobody listens to it any more, and
/// what is sent there is counted as not sent.
fn give_up(poller: &Poller, ports: &mut [LivePort], token: u64, busy: &mut BTreeSet<usize>) {
    let Some((index, port)) =
        usize::try_from(token).ok().and_then(|i| Some((i, ports.get_mut(i)?)))
    else {
        return;
    };
    if !port.is_lost() {
        eprintln!("{}: its interface went down; it is listened to when it is up again", port.name);
        return;
    }
    busy.remove(&index);
    if let Some(descriptor) = port.descriptor()
        && poller.deregister(descriptor).is_ok()
    {
        eprintln!(
            "{}: its interface is gone, or its namespace; the lab goes on without it. Start the lab \
             again to get it back",
            port.name
        );
    }
}
