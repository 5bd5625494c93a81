//! The lab's side of the socket: accepts, reads a call, has it answered, answers, closes.
//!
//! A thread of its own with tokio's current-thread runtime. Bounds: connections at a time; octets of calls and
//! of answers under way, all connections together; seconds for a call to come and for an answer to go; one call at work at a time,
//! on a further thread, so that a definition that takes long to realize keeps nobody from being refused in time.
//! Who exceeds a bound is told so, where possible, and disconnected.

use super::control::Control;
use super::protocol::{Answer, Call, MAX_ANSWER, MAX_CALL, Request, VERSION, frame};
use crate::exit::Error;
use std::io;
use std::os::unix::net::UnixListener as StdListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{AcquireError, Mutex, Semaphore, SemaphorePermit, oneshot};
use tokio::time::{sleep, timeout};

/// The most connections at a time; further ones wait to be accepted.
const MAX_CONNECTIONS: usize = 32;
/// Octets of a call that need no leave: of most calls. [`MAX_CONNECTIONS`] of them are 2 MiB.
const SHORT_CALL: u32 = 1 << 16;
/// The most octets of longer calls under way, all connections together.
const MAX_CALLS: usize = 2 * MAX_CALL;
/// The most octets of answers under way, all connections together.
const MAX_ANSWERS: usize = MAX_ANSWER + (1 << 20);
/// How long a call may take to come.
const CALL_TIME: Duration = Duration::from_secs(10);
/// How long an answer may take to go.
const ANSWER_TIME: Duration = Duration::from_secs(30);
/// The pause after a connection could not be accepted, for want of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// A running server. Dropping it closes every connection.
#[derive(Debug)]
pub struct Server {
    /// Dropping it ends the thread.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What connections share.
struct Shared {
    control: Arc<Mutex<Control>>,
    connections: Arc<Semaphore>,
    /// Octets of long calls that may still be under way.
    calls: Semaphore,
    /// Octets of answers that may still be under way.
    answers: Semaphore,
}

impl Server {
    /// Serves `control` at `listener`.
    ///
    /// # Errors
    /// The system has no thread or descriptor left.
    pub fn start(listener: StdListener, control: Control) -> Result<Server, Error> {
        let failed = |e: io::Error| Error::environment(format!("cannot serve the lab's API: {e}"));
        listener.set_nonblocking(true).map_err(failed)?;
        let runtime = Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(1)
            .build()
            .map_err(failed)?;
        let (stop, stopped) = oneshot::channel();
        let listener = {
            let _within = runtime.enter();
            UnixListener::from_std(listener).map_err(failed)?
        };
        let thread = std::thread::Builder::new()
            .name("api".to_owned())
            .spawn(move || serve(runtime, listener, control, stopped))
            .map_err(failed)?;
        Ok(Server { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of it has been printed by its own hook.
            let _ = thread.join();
        }
    }
}

fn serve(
    runtime: Runtime,
    listener: UnixListener,
    control: Control,
    stopped: oneshot::Receiver<()>,
) {
    runtime.block_on(async move {
        let shared = Arc::new(Shared {
            control: Arc::new(Mutex::new(control)),
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS)),
            calls: Semaphore::new(MAX_CALLS),
            answers: Semaphore::new(MAX_ANSWERS),
        });
        tokio::spawn(accept(listener, shared));
        // Its other end is dropped.
        let _ = stopped.await;
    });
    // A call at work waits for the packet thread at most, which has ended by now and so lets it go.
    runtime.shutdown_background();
}

async fn accept(listener: UnixListener, shared: Arc<Shared>) {
    loop {
        let Ok(permit) = Arc::clone(&shared.connections).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let shared = Arc::clone(&shared);
                tokio::spawn(async move {
                    converse(stream, &shared).await;
                    drop(permit);
                });
            }
            Err(_) => sleep(PAUSE).await,
        }
    }
}

/// One connection.
async fn converse(mut stream: UnixStream, shared: &Shared) {
    let own = rustix::process::geteuid();
    // The directory keeps others out; this does where somebody has opened it.
    if !stream.peer_cred().is_ok_and(|peer| peer.uid() == own.as_raw() || peer.uid() == 0) {
        return;
    }
    let call = match timeout(CALL_TIME, receive(&mut stream, shared)).await {
        Ok(Ok(call)) => Ok(call),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(Error::environment("the call did not come in time")),
    };
    let (answer, ends) = match call {
        Ok((request, _held)) => {
            let ends = matches!(request, Request::Down {});
            (work(request, shared).await, ends)
        }
        Err(error) => (Answer::from(error), false),
    };
    let too_long = |error: Error| {
        let help = "narrow it with -n, or ask for another format";
        frame(&Answer::from(Error::input(format!("{error}; {help}"))), MAX_ANSWER)
    };
    let Ok(bytes) = frame(&answer, MAX_ANSWER).or_else(too_long) else { return };
    drop(answer);
    // Whoever does not take long answers keeps others from getting any, but takes no more of the lab's memory.
    let octets = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let Ok(_held) = shared.answers.try_acquire_many(octets) else { return };
    let _ = timeout(ANSWER_TIME, stream.write_all(&bytes)).await;
    if ends {
        // The other side sees the end of the connection when the lab has been taken down.
        let _ = stream.read(&mut [0]).await;
    }
}

/// Reads the call of a connection. Nothing is set aside for octets that have not come.
async fn receive<'s>(
    stream: &mut UnixStream,
    shared: &'s Shared,
) -> Result<(Request, Option<SemaphorePermit<'s>>), Error> {
    let gone = |e: io::Error| Error::input(format!("the call ended early: {e}"));
    let length = stream.read_u32().await.map_err(gone)?;
    if usize::try_from(length).map_or(true, |length| length > MAX_CALL) {
        return Err(Error::input(format!(
            "a call of {length} octets is too long, at most {MAX_CALL}: apply less at once"
        )));
    }
    let ended = |_: AcquireError| Error::environment("the lab is ending");
    let held = match length {
        0..=SHORT_CALL => None,
        _ => Some(shared.calls.acquire_many(length).await.map_err(ended)?),
    };
    let mut bytes = Vec::new();
    let read = stream.take(length.into()).read_to_end(&mut bytes).await.map_err(gone)?;
    if read < length as usize {
        return Err(gone(io::ErrorKind::UnexpectedEof.into()));
    }
    let version = |bytes: &[u8]| {
        let value: serde_json::Value = serde_json::from_slice(bytes).ok()?;
        value.get("version")?.as_u64()
    };
    match serde_json::from_slice::<Call>(&bytes) {
        Ok(call) if call.version == VERSION => Ok((call.request, held)),
        Err(error) if version(&bytes).is_none_or(|version| version == u64::from(VERSION)) => {
            Err(Error::input(format!("this is no call: {error}")))
        }
        _ => Err(Error::environment(format!(
            "the lab was started by another version of tierlab (its API is version {VERSION}): use that one, or \
             start the lab again"
        ))),
    }
}

/// Does what is asked for, one call at a time.
async fn work(request: Request, shared: &Shared) -> Answer {
    let mut control = Arc::clone(&shared.control).lock_owned().await;
    // A client that goes away leaves nothing half done: this runs to its end.
    let worked = tokio::task::spawn_blocking(move || control.answer(request)).await;
    worked.unwrap_or_else(|e| Answer::from(Error::internal(format!("a call failed: {e}"))))
}
