//! What `tierlab bench` prints. The JSON form is stable: fields are added, never renamed or removed; one that could not
//! be measured is null.

use super::machine::Machine;
use crate::exit::Error;
use crate::output::{aligned, pretty_json};
use serde::{Deserialize, Serialize};

/// Names the form of the JSON. Another number would mean that a program that reads it has to be changed.
pub const SCHEMA: &str = "tierlab-bench/1";

/// Everything that one call measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: String,
    /// Where.
    pub machine: Machine,
    /// One for each work.
    pub rows: Vec<Row>,
    /// Works that this lab cannot do.
    pub skipped: Vec<Skipped>,
}

/// A work that was not measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Which.
    pub work: String,
    /// What the lab lacks.
    pub reason: String,
}

/// Percentiles, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Percentiles {
    /// Half took no longer.
    pub p50: f64,
    /// 99 of 100.
    pub p99: f64,
    /// 999 of 1000.
    pub p99_9: f64,
}

/// The throughput of RFC 2544, 26.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ZeroLoss {
    /// Millions of frames a second, all workers together.
    pub mpps: f64,
    /// Frames that wait for a worker at most.
    pub queue: u64,
    /// How long a rate was tried, seconds.
    pub trial_seconds: f64,
}

/// One measurement.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// `l2`, `route`, `dfw`, `snat`, `dlb`, `slb` or `chain`.
    pub work: String,
    /// Flows, each in both directions.
    pub flows: u32,
    /// Rules of the distributed firewall that were added.
    pub rules: u32,
    /// Virtual servers that were added to each load balancer.
    pub services: u32,
    /// Routes that were added to each gateway.
    pub routes: u32,
    /// `64`, `512`, `1518` or `imix`: octets of a frame with its FCS.
    pub size: String,
    /// Whether the flows are of IPv6.
    pub ipv6: bool,
    /// Workers.
    pub workers: usize,
    /// Whether opening flows was measured, not established ones.
    pub new_sessions: bool,
    /// Unrelated changes of the network a second, asked for.
    pub changes_per_second: u32,
    /// Millions of frames a second, all workers together.
    pub mpps: f64,
    /// The same of each worker.
    pub mpps_per_worker: Vec<f64>,
    /// Nanoseconds of a worker for a frame.
    pub ns_per_packet: f64,
    /// The same in clocks of the machine's nominal frequency.
    pub clocks_per_packet: Option<f64>,
    /// Billions of bits a second of frames, with FCS, without preamble and gap.
    pub gbps: f64,
    /// A batch's time, shared by its frames.
    pub latency_ns: Option<Percentiles>,
    /// From when a batch's first frame was copied in until its last one was copied out: the longest that one of its frames takes.
    pub batch_latency_ns: Option<Percentiles>,
    /// Throughput without loss.
    pub zero_loss: Option<ZeroLoss>,
    /// Memory of a flow, octets: session and both cached directions.
    pub memory_per_flow_bytes: Option<f64>,
    /// Flows opened a second: first packet and first answer forwarded, median over the fill.
    pub sessions_per_second: Option<f64>,
    /// Changes that were made while it was measured.
    pub changes: u64,
    /// `mpps` before the changes began.
    pub undisturbed_mpps: Option<f64>,
    /// Frames that were read and found right, before and after.
    pub verified_frames: u64,
    /// `mpps` against that of the former report; more is faster.
    pub ratio: Option<f64>,
}

impl Row {
    /// Whether another row is of the same measurement.
    pub fn is_like(&self, other: &Row) -> bool {
        let key = |row: &Row| Row {
            mpps: 0.0,
            mpps_per_worker: Vec::new(),
            ns_per_packet: 0.0,
            clocks_per_packet: None,
            gbps: 0.0,
            latency_ns: None,
            batch_latency_ns: None,
            zero_loss: None,
            memory_per_flow_bytes: None,
            sessions_per_second: None,
            changes: 0,
            undisturbed_mpps: None,
            verified_frames: 0,
            ratio: None,
            ..row.clone()
        };
        key(self) == key(other)
    }
}

impl Report {
    /// The JSON form.
    pub fn json(&self) -> Result<String, Error> {
        let value = serde_json::to_value(self)
            .map_err(|e| Error::internal(format!("cannot render the report: {e}")))?;
        pretty_json(&value)
    }

    /// The table. Columns that no row has anything for are left out.
    pub fn table(&self) -> String {
        let columns: Vec<(&str, Vec<String>)> = COLUMNS
            .iter()
            .map(|(name, cell)| (*name, self.rows.iter().map(cell).collect()))
            .collect();
        let has = |cells: &Vec<String>| cells.iter().any(|cell| !cell.is_empty());
        let kept: Vec<_> = columns.into_iter().filter(|(_, cells)| has(cells)).collect();
        let header = kept.iter().map(|(name, _)| (*name).to_owned()).collect();
        let row = |i: usize| {
            let cell = |(_, cells): &(&str, Vec<String>)| match cells.get(i).map(String::as_str) {
                None | Some("") => "-".to_owned(),
                Some(text) => text.to_owned(),
            };
            kept.iter().map(cell).collect()
        };
        aligned(header, (0..self.rows.len()).map(row).collect())
    }
}

/// A column and the text of a row's cell in it; nothing where the row has nothing.
type Column = (&'static str, fn(&Row) -> String);

const COLUMNS: &[Column] = &[
    ("WORK", |r| if r.new_sessions { format!("{}, new", r.work) } else { r.work.clone() }),
    ("FLOWS", |r| r.flows.to_string()),
    ("RULES", |r| more(r.rules)),
    ("SERVICES", |r| more(r.services)),
    ("ROUTES", |r| more(r.routes)),
    ("SIZE", |r| r.size.clone()),
    ("IP", |r| if r.ipv6 { "IPv6".to_owned() } else { String::new() }),
    ("WORKERS", |r| r.workers.to_string()),
    ("MPPS", |r| format!("{:.2}", r.mpps)),
    ("PER-WORKER", |r| match r.mpps_per_worker.as_slice() {
        [] | [_] => String::new(),
        several => several.iter().map(|mpps| format!("{mpps:.2}")).collect::<Vec<_>>().join(" "),
    }),
    ("NS", |r| format!("{:.1}", r.ns_per_packet)),
    ("CLOCKS", |r| some(r.clocks_per_packet, |c| format!("{c:.0}"))),
    ("GBPS", |r| format!("{:.1}", r.gbps)),
    ("P50/P99/P99.9-NS", |r| {
        some(r.latency_ns, |l| format!("{:.1}/{:.1}/{:.1}", l.p50, l.p99, l.p99_9))
    }),
    ("ZERO-LOSS-MPPS", |r| some(r.zero_loss, |z| format!("{:.2}", z.mpps))),
    ("BYTES/FLOW", |r| some(r.memory_per_flow_bytes, |b| format!("{b:.0}"))),
    ("NEW/S", |r| some(r.sessions_per_second, |s| format!("{s:.0}"))),
    ("CHANGES", |r| if r.changes == 0 { String::new() } else { r.changes.to_string() }),
    ("UNDISTURBED", |r| some(r.undisturbed_mpps, |m| format!("{m:.2}"))),
    ("RATIO", |r| some(r.ratio, |ratio| format!("{ratio:.2}"))),
];

fn more(count: u32) -> String {
    if count == 0 { String::new() } else { count.to_string() }
}

fn some<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use serde_json::Value;

    #[test]
    fn the_json_form_has_the_fields_that_programs_know() {
        let report = Report {
            schema: SCHEMA.to_owned(),
            rows: vec![Row::default()],
            skipped: vec![Skipped { work: "slb".into(), reason: "no VIP".into() }],
            ..Report::default()
        };
        let value: Value = serde_json::from_str(&report.json().unwrap()).unwrap();
        let keys = |value: &Value| {
            let mut keys: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            keys.sort();
            keys.join(" ")
        };
        assert_eq!(keys(&value), "machine rows schema skipped");
        assert_eq!(value["schema"], "tierlab-bench/1");
        assert_eq!(
            keys(&value["machine"]),
            "cores cpu huge_pages kernel memory_bytes mhz optimized version"
        );
        assert_eq!(
            keys(&value["rows"][0]),
            "batch_latency_ns changes changes_per_second clocks_per_packet flows gbps ipv6 latency_ns \
             memory_per_flow_bytes mpps mpps_per_worker new_sessions ns_per_packet ratio routes rules \
             services sessions_per_second size undisturbed_mpps verified_frames work workers zero_loss"
        );
        assert_eq!(keys(&value["skipped"][0]), "reason work");
        assert_eq!(serde_json::from_value::<Report>(value).unwrap(), report);
    }

    #[test]
    fn the_table_has_the_columns_that_some_row_fills() {
        let plain = Row {
            work: "l2".into(),
            flows: 10,
            size: "64".into(),
            workers: 1,
            mpps: 12.5,
            ..Row::default()
        };
        let new =
            Row { new_sessions: true, sessions_per_second: Some(1e6), rules: 100, ..plain.clone() };
        let report = Report { rows: vec![plain, new], ..Report::default() };
        assert_eq!(
            report.table(),
            "WORK     FLOWS  RULES  SIZE  WORKERS  MPPS   NS   GBPS  NEW/S\n\
             l2       10     -      64    1        12.50  0.0  0.0   -\n\
             l2, new  10     100    64    1        12.50  0.0  0.0   1000000\n"
        );
    }
}
