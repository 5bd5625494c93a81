//! Being told to end: SIGINT, SIGTERM and SIGHUP become a descriptor that can be waited for.
//!
//! A handler that sets a flag would lose the signal that arrives between looking at the flag and
//! going to sleep (signal-safety(7), the self-pipe trick); an octet in a pipe is not lost.

use crate::exit::Error;
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
    /// the process. To be called before anything is made that has to be taken down.
    pub fn listen() -> Result<Ending, Error> {
        use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
        let failed = |e: io::Error| Error::environment(format!("cannot listen for signals: {e}"));
        let (pipe, written) = UnixStream::pair().map_err(failed)?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            let written = written.try_clone().map_err(failed)?;
            signal_hook::low_level::pipe::register(signal, written).map_err(failed)?;
        }
        Ok(Ending { pipe })
    }
}

impl AsFd for Ending {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}
