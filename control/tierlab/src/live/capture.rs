//! Capture files that are replayed while the lab runs.
//!
//! The lab's start is the earliest time stamp of all files, as for `tierlab replay`; from there on a
//! frame enters when as much time has passed on the wall as in the capture. Files are read as they
//! are needed: they may be larger than memory.

use crate::exit::Error;
use packet::Time;
use ports::PcapReader;
use std::path::Path;

/// One file and the port that its frames enter by.
struct Replay {
    /// The caller's number of the port.
    port: usize,
    reader: PcapReader,
    /// The next frame: nanoseconds of the capture's clock, octets.
    next: Option<(u64, Vec<u8>)>,
}

/// All files that are replayed.
#[derive(Default)]
pub struct Replays {
    files: Vec<Replay>,
    /// Earliest time stamp, nanoseconds of the captures' clock.
    start: u64,
}

impl Replays {
    /// Opens the files; each with the number that [`Replays::take_due`] gives back.
    pub fn open<'a>(files: impl IntoIterator<Item = (usize, &'a Path)>) -> Result<Replays, Error> {
        let mut replays = Replays::default();
        for (port, path) in files {
            let wrong = |e: ports::PcapFileError| Error::input(e.to_string());
            let mut reader = PcapReader::open(path).map_err(wrong)?;
            let next = reader.next().transpose().map_err(wrong)?;
            replays.files.push(Replay { port, reader, next });
        }
        let earliest = replays.files.iter().filter_map(|f| f.next.as_ref()).map(|(at, _)| *at);
        replays.start = earliest.min().unwrap_or(0);
        Ok(replays)
    }

    /// When the next frame is due.
    pub fn next_due(&self) -> Option<Time> {
        self.files.iter().filter_map(|f| f.next.as_ref()).map(|(at, _)| self.time(*at)).min()
    }

    /// A frame without its place in time order is due at once.
    fn time(&self, at: u64) -> Time {
        Time(at.saturating_sub(self.start))
    }

    /// The earliest frame that is due at `now`, with the number of its port. A file whose next
    /// packet cannot be read ends there, and standard error says so.
    pub fn take_due(&mut self, now: Time) -> Option<(usize, Vec<u8>)> {
        let start = self.start;
        let due = |file: &Replay| {
            file.next.as_ref().map(|(at, _)| *at).filter(|at| at.saturating_sub(start) <= now.0)
        };
        // Of equal times the file named first: `min_by_key` gives the first of equals.
        let file = self.files.iter_mut().filter(|f| due(f).is_some()).min_by_key(|f| due(f))?;
        let (_, bytes) = file.next.take()?;
        file.next = file.reader.next().transpose().unwrap_or_else(|error| {
            eprintln!("the replay ends early: {error}");
            None
        });
        Some((file.port, bytes))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use ports::PcapWriter;

    fn file(directory: &Path, name: &str, frames: &[(u64, u8)]) -> std::path::PathBuf {
        let path = directory.join(name);
        let mut writer = PcapWriter::create(&path).unwrap();
        for (at, octet) in frames {
            writer.write(Time::from_millis(*at), &[*octet; 14]).unwrap();
        }
        writer.finish().unwrap();
        path
    }

    #[test]
    fn frames_are_due_as_they_were_captured_from_the_earliest_on() {
        let directory = tempfile::tempdir().unwrap();
        let a = file(directory.path(), "a.pcap", &[(5_000, 1), (5_020, 2)]);
        let b = file(directory.path(), "b.pcap", &[(5_010, 3), (5_020, 4), (5_015, 5)]);
        let mut replays = Replays::open([(7, a.as_path()), (9, b.as_path())]).unwrap();
        let mut taken = Vec::new();
        for now in [0, 9, 10, 19, 20] {
            while let Some((port, bytes)) = replays.take_due(Time::from_millis(now)) {
                taken.push((now, port, bytes[0]));
            }
        }
        // The one that goes back in time is due when its turn comes.
        assert_eq!(taken, [(0, 7, 1), (10, 9, 3), (20, 7, 2), (20, 9, 4), (20, 9, 5)]);
        assert_eq!(replays.next_due(), None);
    }

    #[test]
    fn what_is_no_capture_is_refused_and_no_file_is_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.pcap");
        std::fs::write(&path, "not a capture").unwrap();
        let error = Replays::open([(0, path.as_path())]).err().unwrap();
        assert!(error.message.contains("not a capture file"), "{error}");
        let empty = file(directory.path(), "empty.pcap", &[]);
        assert_eq!(Replays::open([(0, empty.as_path())]).unwrap().next_due(), None);
        assert_eq!(Replays::default().next_due(), None);
    }
}
