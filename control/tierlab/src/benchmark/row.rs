//! Measures one row.

use super::machine::{Machine, resident};
use super::report::{Percentiles, Row, ZeroLoss};
use crate::args;
use crate::exit::{Error, Exit};
use bench::{
    BATCH, BenchError, Extras, Flows, Generator, Latency, Opening, Setup, Size, Snapshots,
    Stations, change_during, enlarge, generators, latency, rate, zero_loss,
};
use engine::network::Network;
use std::sync::Arc;
use std::time::Duration;

/// Flows of a row of established ones, unless said otherwise.
const FLOWS: u32 = 10_000;
/// Flows that are opened, unless said otherwise.
const NEW_FLOWS: u32 = 1_000_000;
/// Below, what a flow takes cannot be told from what the rest of the process takes.
const FLOWS_TO_WEIGH: u32 = 100_000;
/// Octets of an FCS.
const FCS: f64 = 4.0;

/// A lab and what is asked of it.
#[derive(Debug)]
pub struct Bench<'a> {
    /// The network as it is defined.
    pub net: &'a Network,
    /// Who is in it.
    pub stations: &'a Stations,
    /// What was asked for.
    pub args: &'a args::Bench,
    /// Where.
    pub machine: &'a Machine,
}

impl Bench<'_> {
    /// How many flows a row has.
    pub fn flows(&self) -> u32 {
        self.args.flows.unwrap_or(if self.args.new_sessions { NEW_FLOWS } else { FLOWS })
    }

    /// Opens flows, checks them, measures, and checks them again. `progress` is told what begins.
    pub fn measure(&self, flows: &Flows, progress: &dyn Fn(&str)) -> Result<Row, Error> {
        let args = self.args;
        let extras = Extras { rules: args.rules, services: args.services, routes: args.routes };
        let net = Arc::new(enlarge(self.net.clone(), extras));
        let (size, snapshots) = (Size::from(args.size), Snapshots::new(net));
        let setup = Setup { flows, stations: self.stations, size, snapshots: &snapshots };
        let count = self.flows();
        let mut team = generators(&setup, count, args.workers).map_err(failed)?;
        progress(&format!("opening {count} flows"));
        let empty = resident();
        let mut opened = Vec::new();
        for generator in &mut team {
            opened.push(generator.open().map_err(failed)?);
            generator.park();
        }
        let full = resident();
        let memory = full.zip(empty).filter(|_| count >= FLOWS_TO_WEIGH);
        let mut row = Row {
            work: flows.work.name().to_owned(),
            flows: count,
            rules: args.rules,
            services: args.services,
            routes: args.routes,
            size: size.name().to_owned(),
            ipv6: args.ipv6,
            workers: team.len(),
            new_sessions: args.new_sessions,
            changes_per_second: args.changes_per_second,
            memory_per_flow_bytes: memory
                .map(|(full, empty)| full.saturating_sub(empty) as f64 / f64::from(count)),
            sessions_per_second: median(&opened),
            verified_frames: verify(&mut team, progress)?,
            ..Row::default()
        };
        if args.new_sessions {
            self.opened(&mut row);
        } else {
            self.established(&mut row, &mut team, &setup, progress)?;
        }
        row.gbps = row.mpps * (mean_octets(size) + FCS) * 8.0 / 1_000.0;
        row.ns_per_packet = 1_000.0 * row.mpps_per_worker.len() as f64 / row.mpps;
        row.clocks_per_packet = self.machine.mhz.map(|mhz| row.ns_per_packet * mhz / 1_000.0);
        Ok(row)
    }

    /// The rate is that of the opening: two frames for each flow, one worker after the other.
    fn opened(&self, row: &mut Row) {
        row.mpps = row.sessions_per_second.unwrap_or_default() * 2.0 / 1e6;
        row.mpps_per_worker = vec![row.mpps];
    }

    fn established(
        &self,
        row: &mut Row,
        team: &mut [Generator<'_>],
        setup: &Setup<'_>,
        progress: &dyn Fn(&str),
    ) -> Result<(), Error> {
        let args = self.args;
        let part = |share: f64| Duration::from_secs_f64(args.duration * share);
        progress("as fast as it goes");
        // Caches are warm after a round.
        rate(team, part(0.05)).map_err(failed)?;
        if args.changes_per_second > 0 {
            let undisturbed = rate(team, part(0.25)).map_err(failed)?;
            row.undisturbed_mpps = Some(undisturbed.per_second() / 1e6);
        }
        let shared = team.first_mut().map(|generator| Arc::clone(generator.worker().shared()));
        let shared = shared.ok_or_else(|| Error::internal("a lab has no worker"))?;
        let busy = setup.flows.ports_of(self.stations);
        let (measured, changes) =
            change_during(setup.snapshots, &shared, &busy, args.changes_per_second, || {
                rate(team, part(0.45))
            });
        let measured = measured.map_err(failed)?;
        row.changes = changes;
        row.mpps = measured.per_second() / 1e6;
        row.mpps_per_worker = measured.per_worker.iter().map(|rate| rate / 1e6).collect();
        if args.changes_per_second == 0 {
            progress("latency");
            let times = latency(team, part(0.1)).map_err(failed)?;
            row.latency_ns = Some(percentiles(times, BATCH.min(row.flows as usize * 2) as f64));
            row.batch_latency_ns = Some(percentiles(times, 1.0));
            progress("search without loss");
            let most = measured.per_second() * 1.1;
            let found = zero_loss(team, most, args.queue, part(0.4)).map_err(failed)?;
            let bench::ZeroLoss { per_second, queue, trial } = found;
            row.zero_loss = Some(ZeroLoss { mpps: per_second / 1e6, queue, trial_seconds: trial });
        }
        row.verified_frames += verify(team, progress)?;
        Ok(())
    }
}

/// Reads a frame a direction and flow.
fn verify(team: &mut [Generator<'_>], progress: &dyn Fn(&str)) -> Result<u64, Error> {
    progress("checking every flow");
    let mut frames = 0;
    for generator in team {
        frames += generator.verify().map_err(failed)?;
        generator.park();
    }
    Ok(frames)
}

/// The median over all that was opened.
fn median(opened: &[Opening]) -> Option<f64> {
    let per_second = opened.iter().flat_map(|o| o.per_second.iter().copied()).collect();
    Opening { per_second, ..Opening::default() }.median()
}

fn percentiles(times: Latency, frames: f64) -> Percentiles {
    let of = |ns: u64| ns as f64 / frames;
    Percentiles { p50: of(times.p50), p99: of(times.p99), p99_9: of(times.p999) }
}

/// Octets of a frame on average.
fn mean_octets(size: Size) -> f64 {
    (0..12).map(|i| size.octets(i)).sum::<usize>() as f64 / 12.0
}

/// What went wrong, and whether the input or the engine is at fault.
fn failed(error: BenchError) -> Error {
    let exit = match error {
        BenchError::TooManyFlows { .. } | BenchError::Blocked { .. } => Exit::BadInput,
        BenchError::Lost { .. } | BenchError::Wrong { .. } => Exit::Failed,
    };
    Error { exit, message: error.to_string() }
}
