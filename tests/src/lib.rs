//! What the tests of the whole program share: finding the built program, and running it with a time limit.
//!
//! These tests see `tierlab` from outside, as a user does: files in, output and exit code out.

use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

/// What a command left behind.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output; bytes that are not UTF-8 replaced.
    pub stdout: String,
    /// Its standard error; bytes that are not UTF-8 replaced.
    pub stderr: String,
}

impl Finished {
    /// Standard output, if the command ended with exit code 0.
    ///
    /// # Errors
    /// Another end: the exit status and all that the command printed, as text for a test's message.
    pub fn success(self) -> Result<String, String> {
        if self.status.success() {
            return Ok(self.stdout);
        }
        Err(format!("{}\n{}{}", self.status, self.stdout, self.stderr))
    }
}

/// The program under test: `$TIERLAB_BIN`, or else the `tierlab` beside this test in Cargo's target directory, brought up to date
/// first: Cargo builds no program of another package for a test, and testing yesterday's is worse than testing none.
///
/// # Errors
/// The build failed or there is no such file; the text says what to do.
pub fn tierlab() -> Result<PathBuf, String> {
    static PROGRAM: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    PROGRAM.get_or_init(find_tierlab).clone()
}

fn find_tierlab() -> Result<PathBuf, String> {
    if let Some(path) = std::env::var_os("TIERLAB_BIN") {
        let path = PathBuf::from(path);
        return path
            .canonicalize()
            .map_err(|error| format!("TIERLAB_BIN={}: {error}", path.display()));
    }
    // A test runs as target/PROFILE/deps/NAME-HASH.
    let test = std::env::current_exe().map_err(|error| error.to_string())?;
    let directory = test
        .parent()
        .and_then(Path::parent)
        .ok_or("this test is not in a target directory; set TIERLAB_BIN")?;
    if let Some(cargo) = std::env::var_os("CARGO") {
        let mut build = Command::new(cargo);
        build.args(["build", "--quiet", "--package", "tierlab"]).current_dir(root());
        if directory.file_name().is_some_and(|profile| profile == "release") {
            build.arg("--release");
        }
        if let Some(target) = directory.parent() {
            build.arg("--target-dir").arg(target);
        }
        run(&mut build, Duration::from_secs(1800))?.success()?;
    }
    let path = directory.join(format!("tierlab{}", std::env::consts::EXE_SUFFIX));
    if path.is_file() {
        return Ok(path);
    }
    Err(format!("{} is missing: run `cargo build -p tierlab`, or set TIERLAB_BIN", path.display()))
}

/// The top of the checkout.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Runs a command without standard input and collects what it prints. One that is not done after `limit` is killed.
///
/// # Errors
/// The command cannot be started or took too long.
pub fn run(command: &mut Command, limit: Duration) -> Result<Finished, String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let describe = |error: io::Error| format!("{name}: {error}");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(describe)?;
    // Both pipes are read at the same time as we wait, or a chatty command would block on a full one and never end.
    let stdout = child.stdout.take().map(read_all);
    let stderr = child.stderr.take().map(read_all);
    let status = wait(&mut child, limit).map_err(describe)?;
    let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader.and_then(|reader| reader.join().ok()).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (text(stdout), text(stderr));
    match status {
        Some(status) => Ok(Finished { status, stdout, stderr }),
        None => Err(format!("{name} was not done after {limit:?}\n{stdout}{stderr}")),
    }
}

fn read_all(mut pipe: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before an error is what there is to show.
        let _ = pipe.read_to_end(&mut bytes);
        bytes
    })
}

/// The child's exit status, or `None` if it had to be killed.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn output_and_status() {
        let done =
            run(&mut shell("echo out; echo err >&2; exit 3"), Duration::from_secs(60)).unwrap();
        assert_eq!(
            (done.status.code(), done.stdout.as_str(), done.stderr.as_str()),
            (Some(3), "out\n", "err\n")
        );
        assert!(done.success().unwrap_err().contains("err"));
    }

    #[test]
    fn more_output_than_a_pipe_holds() {
        let done = run(&mut shell("head -c 300000 /dev/zero"), Duration::from_secs(60)).unwrap();
        assert_eq!(done.success().unwrap().len(), 300_000);
    }

    #[test]
    fn too_slow_is_killed() {
        let begun = Instant::now();
        let error =
            run(&mut shell("echo begun; exec sleep 600"), Duration::from_millis(200)).unwrap_err();
        assert!(error.contains("not done") && error.contains("begun"), "{error}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }

    #[test]
    fn no_such_program() {
        assert!(
            run(&mut Command::new("/nonexistent"), Duration::from_secs(1))
                .unwrap_err()
                .contains("/nonexistent")
        );
    }
}
