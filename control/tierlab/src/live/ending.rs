//! Being told to end: SIGINT, SIGTERM and SIGHUP become a descriptor that can be waited for.
//!
//! A handler that sets a flag would lose the signal that arrives between looking at the flag and
//! going to sleep (signal-safety(7), the self-pipe trick); an octet in a pipe is not lost.

use crate::exit::Error;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;

/// Readable from the first of the signals on.
#[derive(Debug)]
pub struct Ending {
    pipe: UnixStream,
}

impl Ending {
    /// Takes over SIGINT (^C), SIGTERM (kill) and SIGHUP (the terminal was closed) for the rest of
    /// the process; not SIGHUP where `nohup` has it ignored. To be called before anything is made
    /// that has to be taken down.
    pub fn listen() -> Result<Ending, Error> {
        let failed = |e: io::Error| Error::environment(format!("cannot listen for signals: {e}"));
        let (pipe, written) = UnixStream::pair().map_err(failed)?;
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let mut signals = vec![SIGINT, SIGTERM];
        if !is_ignored(&status, SIGHUP) {
            signals.push(SIGHUP);
        }
        for signal in signals {
            let written = written.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(signal, written).map_err(failed)?;
        }
        Ok(Ending { pipe })
    }
}

/// Whether a process with this /proc/PID/status (proc(5)) ignores a signal: `SigIgn` is a mask in
/// hexadecimal, signal 1 its lowest bit.
fn is_ignored(status: &str, signal: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask.checked_shr(signal.unsigned_abs().saturating_sub(1)).is_some_and(|bits| bits & 1 == 1)
}

impl AsFd for Ending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_of_ignored_signals() {
        // SIGHUP is 1, SIGINT 2, SIGPIPE 13.
        let status = "Name:\ttierlab\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\n";
        assert!(is_ignored(status, SIGHUP) && is_ignored(status, 13));
        assert!(!is_ignored(status, SIGINT) && !is_ignored(status, SIGTERM));
        assert!(!is_ignored("", SIGHUP) && !is_ignored("SigIgn:\tno number\n", SIGHUP));
        assert!(!is_ignored(status, 200));
    }
}
