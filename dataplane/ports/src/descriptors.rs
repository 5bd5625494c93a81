//! A thread with a descriptor table of its own.
//!
//! Where threads share a table, every call that names a descriptor takes a reference to its file and gives it back: two atomic
//! operations a read and two a write. A thread alone with its table is spared them (`fdget`, fs/file.c). Between two TAPs that
//! is 4 % of all that a 60-byte frame costs: the loop of `benches/tap/copyloop.c` takes 1.53 us a frame, 1.63 us beside a second
//! thread that sleeps, and 1.58 us beside one whose table is another (medians of 6 interleaved runs on a busy machine).

#![allow(
    unsafe_code,
    reason = "a thread's descriptor table cannot be left by a safe call; the block states why it is sound"
)]

use rustix::thread::{UnshareFlags, unshare_unsafe};
use std::io;

/// Runs `work` on a thread of its own with a copy of the descriptor table as it is now, and waits for its end. Every
/// descriptor that is open now means the same on both sides, and what is closed on one side stays open on the other until that
/// one's end. `work` must not hand a descriptor that it opens to another thread, nor take one that another has opened since.
///
/// # Errors
/// If the thread cannot be started.
///
/// # Panics
/// As `work` does.
pub fn with_own_descriptors<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread =
            std::thread::Builder::new().name("packets".to_owned()).spawn_scoped(scope, || {
                // SAFETY: the call concerns this new thread alone, of which nobody has seen a descriptor yet. What it copies
                // means the same in both tables. Descriptors made later are known to one table only; `work`'s contract is that
                // they stay with who made them. To break it is to name another file, or none: no memory depends on a descriptor
                // in this workspace, which maps no files.
                //
                // If the kernel refuses, the table stays shared, which is slower and nothing else.
                let _ = unsafe { unshare_unsafe(UnshareFlags::FILES) };
                work()
            })?;
        match thread.join() {
            Ok(result) => Ok(result),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_is_open_works_on_both_sides_and_closing_is_for_one() {
        let (mut here, there) = UnixStream::pair().unwrap();
        let mut twin = there.try_clone().unwrap();
        with_own_descriptors(move || {
            twin.write_all(b"in").unwrap();
            drop(twin);
        })
        .unwrap();
        let mut got = [0; 2];
        here.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"in");
        here.write_all(b"out").unwrap();
        assert_eq!((&there).read(&mut [0; 8]).unwrap(), 3, "still open here");
    }
}
