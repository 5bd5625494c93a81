//! Waiting: one thread sleeps until a port has a frame, another thread wakes it, or time is up.
//!
//! Level triggered (epoll(7)): a port not read dry is reported again, so a worker may stop after a
//! full batch. An idle lab sleeps in the kernel.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use rustix::event::{EventfdFlags, Timespec, epoll, eventfd};
use rustix::io::Errno;

/// Events taken from the kernel in one call; more are reported by the next.
const EVENTS_A_WAIT: usize = 64;

/// Tokens up to this are the caller's; the one above is the waker's.
const MAX_TOKEN: u64 = u64::MAX - 1;
const WAKER_TOKEN: u64 = u64::MAX;

/// A longer sleep than this is cut: kernels before 5.11 take at most 2^31 ms. Waking early is harmless.
const LONGEST_WAIT: Duration = Duration::from_secs(86_400);

/// What a wait ended with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// Tokens of descriptors that can be read, in ascending order.
    pub readable: Vec<u64>,
    /// Tokens of descriptors in an error state (a TAP whose interface was deleted), in ascending
    /// order, whether or not they can be read too. They stay so: deregister them, or every wait
    /// returns at once.
    pub failed: Vec<u64>,
    /// Whether a [`Waker`] was used since the last wait.
    pub woken: bool,
}

impl Ready {
    /// Whether the time was up, or a signal came, and nothing else.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.readable.is_empty() && self.failed.is_empty() && !self.woken
    }
}

/// Waits on many descriptors, a waker and a timeout.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    waker: Arc<OwnedFd>,
}

impl Poller {
    /// A poller with nothing registered.
    ///
    /// # Errors
    /// If the process is out of descriptors.
    pub fn new() -> io::Result<Poller> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let waker = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let data = epoll::EventData::new_u64(WAKER_TOKEN);
        epoll::add(&epoll, &waker, data, epoll::EventFlags::IN)?;
        Ok(Poller { epoll, waker: Arc::new(waker) })
    }

    /// Watches `source` for frames to read and reports it as `token`. Closing the descriptor ends
    /// the watch.
    ///
    /// # Errors
    /// `InvalidInput` for the token `u64::MAX`, which is the waker's; otherwise what epoll_ctl(2)
    /// says, for instance that the descriptor is already watched.
    pub fn register(&self, source: impl AsFd, token: u64) -> io::Result<()> {
        if token > MAX_TOKEN {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the token u64::MAX is reserved for the waker",
            ));
        }
        let data = epoll::EventData::new_u64(token);
        epoll::add(&self.epoll, source, data, epoll::EventFlags::IN)?;
        Ok(())
    }

    /// Stops watching `source`.
    ///
    /// # Errors
    /// If it is not watched.
    pub fn deregister(&self, source: impl AsFd) -> io::Result<()> {
        epoll::delete(&self.epoll, source)?;
        Ok(())
    }

    /// A handle that ends this poller's wait from any thread.
    #[must_use]
    pub fn waker(&self) -> Waker {
        Waker { eventfd: Arc::clone(&self.waker) }
    }

    /// Sleeps until something is ready, a waker is used or `timeout` has passed (`None`: no limit;
    /// never shorter than asked, at most rounded up to a millisecond, and cut at a day). A signal
    /// also ends the wait, with nothing ready.
    ///
    /// # Errors
    /// What epoll_wait(2) says; none is expected in a working system.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Ready> {
        let mut ready = Ready::default();
        self.wait_into(timeout, &mut ready)?;
        Ok(ready)
    }

    /// As [`Poller::wait`], into what an earlier wait has ended with: allocates nothing once that has room.
    ///
    /// # Errors
    /// As [`Poller::wait`].
    pub fn wait_into(&mut self, timeout: Option<Duration>, ready: &mut Ready) -> io::Result<()> {
        ready.readable.clear();
        ready.failed.clear();
        ready.woken = false;
        let timeout = timeout.map(|t| {
            let t = t.min(LONGEST_WAIT);
            Timespec {
                // At most 86,400, so the conversion cannot lose anything.
                tv_sec: i64::try_from(t.as_secs()).unwrap_or(0),
                tv_nsec: t.subsec_nanos().into(),
            }
        });
        let mut buffer = [const { MaybeUninit::<epoll::Event>::uninit() }; EVENTS_A_WAIT];
        let events = match epoll::wait(&self.epoll, &mut buffer, timeout.as_ref()) {
            Ok((events, _)) => events,
            Err(Errno::INTR) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for event in events {
            let (flags, token) = (event.flags, event.data.u64());
            if token == WAKER_TOKEN {
                // Resets the counter. It may have been reset already: then there is nothing to do.
                let _ = rustix::io::read(&*self.waker, &mut [0u8; 8]);
                ready.woken = true;
            } else if flags.intersects(epoll::EventFlags::ERR | epoll::EventFlags::HUP) {
                ready.failed.push(token);
            } else {
                ready.readable.push(token);
            }
        }
        ready.readable.sort_unstable();
        ready.failed.sort_unstable();
        Ok(())
    }
}

/// Ends a [`Poller`]'s wait from another thread. Several wakes before the wait count as one.
#[derive(Clone, Debug)]
pub struct Waker {
    eventfd: Arc<OwnedFd>,
}

impl Waker {
    /// Wakes the poller; if it is not waiting, its next wait returns at once.
    pub fn wake(&self) {
        // Fails only when the counter is at its maximum: then a wake is already due.
        let _ = rustix::io::write(&*self.eventfd, &1u64.to_ne_bytes());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    #[test]
    fn nothing_ready_waits_for_the_timeout() {
        let mut poller = Poller::new().unwrap();
        let start = Instant::now();
        let ready = poller.wait(Some(Duration::from_millis(30))).unwrap();
        assert_eq!(ready, Ready::default());
        assert!(start.elapsed() >= Duration::from_millis(30));
    }

    #[test]
    fn a_waker_ends_a_wait_without_limit_from_another_thread() {
        let mut poller = Poller::new().unwrap();
        let waker = poller.waker();
        let other = waker.clone();
        let thread = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            other.wake();
            other.wake();
        });
        assert!(poller.wait(None).unwrap().woken);
        thread.join().unwrap();
        // The second wake may have come after the first was seen; after that nothing is left.
        poller.wait(Some(Duration::ZERO)).unwrap();
        assert!(!poller.wait(Some(Duration::ZERO)).unwrap().woken);
        waker.wake();
        assert!(poller.wait(None).unwrap().woken, "a wake before the wait is not lost");
    }

    #[test]
    fn readable_is_level_triggered_and_sorted_and_a_closed_peer_fails() {
        let mut poller = Poller::new().unwrap();
        let (a, mut a_peer) = UnixStream::pair().unwrap();
        let (b, mut b_peer) = UnixStream::pair().unwrap();
        poller.register(&a, 9).unwrap();
        poller.register(&b, 3).unwrap();
        a_peer.write_all(b"x").unwrap();
        b_peer.write_all(b"x").unwrap();
        for _ in 0..2 {
            let ready = poller.wait(Some(Duration::from_secs(5))).unwrap();
            assert_eq!((ready.readable, ready.failed), (vec![3, 9], vec![]));
        }
        poller.deregister(&b).unwrap();
        drop(a_peer);
        let ready = poller.wait(Some(Duration::from_secs(5))).unwrap();
        assert_eq!((ready.readable, ready.failed), (vec![], vec![9]));
        assert!(poller.deregister(&b).is_err(), "not watched any more");
    }

    #[test]
    fn the_wakers_token_is_refused() {
        let poller = Poller::new().unwrap();
        let (a, _peer) = UnixStream::pair().unwrap();
        let error = poller.register(&a, u64::MAX).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
    }
}
