//! The live loop: one thread, frames in batches, the wall clock.
//!
//! The thread sleeps in the kernel until a frame comes, a timer of the lab is due, the API has a job, or a signal
//! says to end ([`Patience`] says when it looks again before it sleeps). It then gives each port that has frames its turn
//! ([`intake`]), lets the lab handle what came at one moment, and hands out what leaves. Nothing is allocated for a
//! frame: its buffer was another's before.

use crate::exit::Error;
use crate::live::capture::Replays;
use crate::live::ending::Ending;
use crate::live::intake::{self, MOST_FRAMES};
use crate::live::jobs::Jobs;
use crate::live::patience::Patience;
use crate::live::port::LivePort;
use engine::Received;
use hosts::Lab;
use packet::{Frame, Time};
use ports::{Buffers, Poller, Ready};
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// The shortest sleep while nothing waits, so that a timer that stays due cannot keep a core busy.
/// Timers of the lab are seconds; nobody notices a millisecond.
const SHORTEST_SLEEP: Duration = Duration::from_millis(1);

/// Above those of the ports, which are numbered from 0.
const ENDING: u64 = u64::MAX - 1;

/// The wall clock as the lab sees it: time since its start.
struct Clock(Instant);

impl Clock {
    fn now(&self) -> Time {
        Time::ZERO + self.0.elapsed()
    }
}

/// The live ports and what goes on between them and the lab.
struct Exchange<'a> {
    ports: &'a mut [LivePort],
    /// The place of a port's live port, by the port's number.
    places: Vec<Option<usize>>,
    clock: Clock,
    /// Frames that have come and are not in the lab yet.
    batch: Vec<Received>,
    buffers: Buffers,
}

impl Exchange<'_> {
    /// Lets the lab handle what has come, and everything that is due by now; hands out what leaves.
    fn carry(&mut self, lab: &mut Lab) {
        let now = self.clock.now();
        lab.catch_up(now, &mut self.batch);
        self.hand_out(lab, now);
    }

    fn hand_out(&mut self, lab: &mut Lab, now: Time) {
        for delivery in lab.drain_outbox() {
            let place = self.places.get(delivery.port.0 as usize).copied().flatten();
            if let Some(port) = place.and_then(|place| self.ports.get_mut(place)) {
                port.send(now, &delivery.frame);
            }
            self.buffers.put(delivery.frame.bytes);
        }
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
    let mut places: Vec<Option<usize>> = Vec::new();
    for (index, port) in ports.iter().enumerate() {
        lab.attach(port.id);
        let number = port.id.0 as usize;
        places.resize(places.len().max(number + 1), None);
        if let Some(place) = places.get_mut(number) {
            *place = Some(index);
        }
        if let Some(descriptor) = port.descriptor() {
            poller.register(descriptor, index as u64).map_err(failed)?;
        }
    }
    let clock = Clock(Instant::now());
    let end = duration.map(|d| Time::ZERO + d);
    let (batch, buffers) = (Vec::new(), Buffers::default());
    let mut exchange = Exchange { ports, places, clock, batch, buffers };
    let (mut ready, mut patience) = (Ready::default(), Patience::default());
    for round in 1.. {
        let sleep = if jobs.is_empty() {
            let due = [lab.next_timeout(), replays.next_due(), end];
            let due = due.into_iter().flatten().min();
            due.map(|at| at.since(exchange.clock.now()).max(SHORTEST_SLEEP))
        } else {
            Some(Duration::ZERO)
        };
        patience.wait(&mut poller, sleep, &mut ready).map_err(failed)?;
        if ready.readable.contains(&ENDING) {
            return Ok(());
        }
        for token in &ready.failed {
            give_up(&poller, exchange.ports, *token);
        }
        for token in &ready.readable {
            let port = usize::try_from(*token).ok().and_then(|i| exchange.ports.get_mut(i));
            let Some(port) = port else { continue };
            intake::take(port, round, &mut exchange.batch, &mut exchange.buffers);
            if exchange.batch.len() >= MOST_FRAMES {
                exchange.carry(lab);
            }
        }
        let now = exchange.clock.now();
        for _ in 0..MOST_FRAMES {
            let Some((index, bytes)) = replays.take_due(now) else { break };
            if let Some(port) = exchange.ports.get_mut(index) {
                port.received += 1;
                exchange.batch.push(Received { port: port.id, frame: Frame::new(bytes) });
            }
        }
        // Before the jobs: when a change is answered, no frame of the network before is on its way any more.
        exchange.carry(lab);
        let ends = jobs.run(lab);
        exchange.hand_out(lab, now);
        if ends || end.is_some_and(|end| now >= end) {
            return Ok(());
        }
    }
    Ok(())
}

/// Handles an error state of a port. If its interface has gone, nobody listens to it any more, and
/// what is sent there is counted as not sent.
fn give_up(poller: &Poller, ports: &mut [LivePort], token: u64) {
    let Some(port) = usize::try_from(token).ok().and_then(|i| ports.get_mut(i)) else { return };
    if !port.is_lost() {
        eprintln!("{}: its interface went down; it is listened to when it is up again", port.name);
        return;
    }
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
