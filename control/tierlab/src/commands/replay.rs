//! `tierlab replay`: captured frames in, everything that leaves out, in virtual time.
//!
//! Virtual zero is the earliest timestamp of all inputs. Frames of one moment go in ordered by port
//! name, then by their place in the file. The same input gives the same output, to the byte.

use crate::args;
use crate::exit::{Error, Exit};
use crate::open::{lab, open};
use crate::output::print;
use definitions::text::Span;
use engine::network::PortId;
use packet::{Frame, Time};
use ports::{PcapReader, PcapWriter};
use realization::Realized;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A frame to send: when (nanoseconds of the capture's clock), where, which.
struct Input {
    at: u64,
    port: String,
    position: usize,
    bytes: Vec<u8>,
}

pub fn run(args: &args::Replay) -> Result<Exit, Error> {
    let drain = duration(&args.drain)?;
    let mut opened = open(&args.lab)?;
    // Named as the user named them: that is what the files are called.
    let mut watched: BTreeMap<String, PortId> = BTreeMap::new();
    let mut inputs: Vec<Input> = Vec::new();
    for argument in &args.inputs {
        let (name, file) = argument
            .split_once('=')
            .ok_or_else(|| Error::input(format!("--in '{argument}' is not PORT=FILE.pcap")))?;
        let id = port(&opened.realized, name)?;
        if watched.insert(name.to_owned(), id).is_some() {
            return Err(Error::input(format!("--in names port '{name}' twice")));
        }
        read(Path::new(file), name, &mut inputs)?;
    }
    for name in &args.tap {
        watched.entry(name.clone()).or_insert(port(&opened.realized, name)?);
    }
    let outputs = outputs(args, &watched)?;
    let unplugged: BTreeSet<PortId> = args
        .inputs
        .iter()
        .filter_map(|argument| watched.get(argument.split_once('=')?.0).copied())
        .collect();
    keep_arp_entries(&mut opened.realized, &unplugged);
    let mut lab = lab(&opened.realized);
    for id in &unplugged {
        lab.attach(*id);
    }
    let mut by_port = create(&outputs)?;
    lab.watch(true);
    inputs.sort_by(|a, b| (a.at, &a.port, a.position).cmp(&(b.at, &b.port, b.position)));
    let start = inputs.first().map_or(0, |i| i.at);
    let mut frames_in = 0u64;
    let mut frames_out = 0u64;
    let mut write = |lab: &mut hosts::Lab| -> Result<(), Error> {
        lab.take_outbox();
        for delivery in lab.take_watched() {
            if let Some((name, writer)) = by_port.get_mut(&delivery.port) {
                frames_out += 1;
                writer.write(delivery.time, &delivery.frame.bytes).map_err(|e| {
                    Error::environment(format!("cannot write the capture of {name}: {e}"))
                })?;
            }
        }
        Ok(())
    };
    for input in inputs {
        let at = Time(input.at - start);
        if at > lab.now() {
            // What is due before the frame happens before it, at its own time.
            lab.run_until(at);
            write(&mut lab)?;
        }
        if let Some(id) = watched.get(&input.port) {
            lab.inject(*id, Frame::new(input.bytes));
            frames_in += 1;
        }
        lab.settle();
        write(&mut lab)?;
    }
    lab.advance(drain);
    write(&mut lab)?;
    for (name, writer) in by_port.into_values() {
        writer
            .finish()
            .map_err(|e| Error::environment(format!("cannot write the capture of {name}: {e}")))?;
    }
    print(&format!("{frames_in} frames in, {frames_out} out, {} of virtual time\n", lab.now()))?;
    Ok(Exit::Ok)
}

/// Where each port's frames go. Nothing is created yet, so that wrong arguments change nothing.
fn outputs(
    args: &args::Replay,
    watched: &BTreeMap<String, PortId>,
) -> Result<BTreeMap<PortId, (String, PathBuf)>, Error> {
    let inputs: Vec<&Path> =
        args.inputs.iter().filter_map(|a| Some(Path::new(a.split_once('=')?.1))).collect();
    let mut outputs: BTreeMap<PortId, (String, PathBuf)> = BTreeMap::new();
    for (name, id) in watched {
        let path = output_path(&args.out, name);
        if let Some(input) = inputs.iter().find(|input| same_file(input, &path)) {
            return Err(Error::input(format!(
                "the output of {name} would overwrite the input {}: name another directory with --out",
                input.display()
            )));
        }
        if let Some((other, _)) = outputs.insert(*id, (name.clone(), path)) {
            return Err(Error::input(format!("'{name}' and '{other}' are the same port")));
        }
    }
    Ok(outputs)
}

/// Whether two paths lead to one file that exists, by links too.
fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    let identity = |path: &Path| {
        use std::os::unix::fs::MetadataExt;
        path.metadata().map(|m| (m.dev(), m.ino())).ok()
    };
    #[cfg(not(unix))]
    let identity = |path: &Path| path.canonicalize().ok();
    identity(a).is_some_and(|file| identity(b) == Some(file))
}

/// Opens the captures to write.
fn create(
    outputs: &BTreeMap<PortId, (String, PathBuf)>,
) -> Result<BTreeMap<PortId, (String, PcapWriter)>, Error> {
    let mut writers = BTreeMap::new();
    for (id, (name, path)) in outputs {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|e| {
                Error::environment(format!("cannot make the directory {}: {e}", parent.display()))
            })?;
        }
        let writer = PcapWriter::create(path)
            .map_err(|e| Error::environment(format!("cannot write {}: {e}", path.display())))?;
        writers.insert(*id, (name.clone(), writer));
    }
    Ok(writers)
}

fn port(realized: &Realized, name: &str) -> Result<PortId, Error> {
    realized.names.port(name).map(|(_, place)| place.port).map_err(|e| Error::input(e.to_string()))
}

fn read(file: &Path, port: &str, inputs: &mut Vec<Input>) -> Result<(), Error> {
    let reader = PcapReader::open(file).map_err(|e| Error::input(e.to_string()))?;
    for (position, packet) in reader.enumerate() {
        let (at, bytes) = packet.map_err(|e| Error::input(e.to_string()))?;
        inputs.push(Input { at, port: port.to_owned(), position, bytes });
    }
    Ok(())
}

/// `DIR/PORT.pcap`: a slash in the port's name is a directory's.
fn output_path(out: &Path, port: &str) -> PathBuf {
    out.join(format!("{port}.pcap"))
}

/// `1s`, `250ms`, `1h30m`.
fn duration(text: &str) -> Result<Duration, Error> {
    text.parse::<Span>().map(|span| *span).map_err(|e| Error::input(format!("--drain: {e}")))
}

/// Makes the stations that frames come in for known: their emulated hosts are unplugged and answer
/// nothing, but the network still knows where they are.
fn keep_arp_entries(realized: &mut Realized, ports: &BTreeSet<PortId>) {
    let places: Vec<_> = realized
        .names
        .ports()
        .filter(|(_, place)| ports.contains(&place.port))
        .map(|(_, place)| place.clone())
        .collect();
    for place in places {
        let segment = realized.network.port(place.port).map(|p| p.segment.0 as usize);
        let Some(segment) = segment.and_then(|s| realized.network.segments.get_mut(s)) else {
            continue;
        };
        segment.stations.insert(place.mac, place.port);
        segment.neighbors.extend(place.addresses.iter().map(|a| (*a, place.mac)));
    }
}
