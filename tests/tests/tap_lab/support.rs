//! A running `tierlab up`, programs in its network namespaces, and `tcpdump` beside them.
//!
//! Everything started here is ended by its process id when it is dropped, also by a panic.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use tierlab_tests::{Finished, run, tierlab};

/// Long enough for a busy machine; a test that works never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// What the page of [`Up::http_server`] lists.
pub const PAGE: &str = "lab.yaml";

/// What the tests need beside root and /dev/net/tun.
const TOOLS: [&str; 8] = ["ip", "ping", "curl", "dig", "iperf3", "tcpdump", "python3", "sh"];

/// Whether `test` can run here. If not it says so, loudly, or fails where skipping is not wanted.
pub fn privileged(test: &str) -> bool {
    let Some(reason) = missing() else { return true };
    let set = |name, value| std::env::var(name).is_ok_and(|v| v == value);
    if set("CI", "true") || set("TIERLAB_REQUIRE_PRIVILEGED", "1") {
        panic!("{test} must not be skipped here, but cannot run: {reason}");
    }
    // Not `eprintln!`: the test harness swallows what passing tests print with it.
    let _ = writeln!(io::stderr(), "SKIPPED: {test} because {reason}");
    false
}

fn missing() -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let places: Vec<&Path> = path.split(':').map(Path::new).collect();
    let absent = |tool: &&&str| !places.iter().any(|place| place.join(tool).is_file());
    let absent: Vec<&str> = TOOLS.iter().filter(absent).copied().collect();
    if !absent.is_empty() {
        return Some(format!(
            "not installed: {} (apt install iproute2 iputils-ping curl dnsutils iperf3 tcpdump python3)",
            absent.join(", ")
        ));
    }
    if !is_root() {
        return Some("not root".to_owned());
    }
    let device = "/dev/net/tun";
    std::fs::File::open(device).err().map(|error| format!("{device}: {error}"))
}

pub fn is_root() -> bool {
    let id = run(Command::new("id").arg("-u"), PATIENCE);
    id.and_then(Finished::success).is_ok_and(|uid| uid.trim() == "0")
}

/// Sends a signal to one process.
fn signal(child: &Child, name: &str) {
    let kill = format!("kill -{name} {}", child.id());
    let sent = run(Command::new("sh").args(["-c", &kill]), PATIENCE);
    sent.and_then(Finished::success).unwrap();
}

/// Lines as they come from a pipe of a running program.
struct Lines {
    arriving: Receiver<String>,
    seen: Vec<String>,
}

impl Lines {
    fn of(pipe: impl io::Read + Send + 'static) -> Lines {
        let (sender, arriving) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Lines { arriving, seen: Vec::new() }
    }

    /// Waits for a line; one that came before counts.
    fn wait_for(&mut self, what: &str, wanted: impl Fn(&str) -> bool) -> String {
        if let Some(line) = self.seen.iter().find(|line| wanted(line)) {
            return line.clone();
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.arriving.recv_timeout(left) {
                Ok(line) => {
                    self.seen.push(line.clone());
                    if wanted(&line) {
                        return line;
                    }
                }
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                    panic!("{what} did not come; there came\n{}", self.seen.join("\n"))
                }
            }
        }
    }

    /// Everything until the pipe is closed.
    fn rest(mut self) -> String {
        self.seen.extend(self.arriving.iter());
        self.seen.join("\n") + "\n"
    }
}

/// How a lab ended.
pub struct Ended {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

/// A running lab.
pub struct Up {
    child: Child,
    stdout: Option<Lines>,
    stderr: Option<Lines>,
    prefix: String,
    directory: PathBuf,
}

/// A directory with a lab's definitions and state, and names that no other test uses.
pub struct Place {
    directory: tempfile::TempDir,
    prefix: String,
}

impl Place {
    /// `@` in the definitions becomes a prefix that no other test, nor another run of them, uses.
    pub fn new(letter: char, definitions: &str) -> Place {
        let directory = tempfile::tempdir().unwrap();
        let prefix = format!("tl{}{letter}-", std::process::id());
        let definitions = definitions.replace('@', &prefix);
        std::fs::write(directory.path().join("lab.yaml"), definitions).unwrap();
        Place { directory, prefix }
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    /// The full name of the network namespace that the definitions call `@ROLE`.
    pub fn netns(&self, role: &str) -> String {
        format!("{}{role}", self.prefix)
    }

    /// `tierlab COMMAND... -f lab.yaml`, in the directory.
    pub fn tierlab(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(tierlab().unwrap_or_else(|error| panic!("{error}")));
        command.current_dir(self.directory.path()).args(arguments).args(["-f", "lab.yaml"]);
        command
    }

    /// Starts the lab and waits until it is up.
    pub fn up(&self) -> Up {
        self.up_with(&[])
    }

    /// As [`Place::up`], with further arguments.
    pub fn up_with(&self, arguments: &[&str]) -> Up {
        let mut command = self.tierlab(&[&["up"], arguments].concat());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdout = Lines::of(child.stdout.take().unwrap());
        let stderr = Lines::of(child.stderr.take().unwrap());
        let deadline = Instant::now() + PATIENCE;
        while !stdout.seen.iter().any(|line| line == "lab is up; ^C ends it") {
            let left = deadline.saturating_duration_since(Instant::now());
            match stdout.arriving.recv_timeout(left) {
                Ok(line) => stdout.seen.push(line),
                Err(_) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("the lab does not come up:\n{}{}", stdout.rest(), stderr.rest());
                }
            }
        }
        Up {
            child,
            stdout: Some(stdout),
            stderr: Some(stderr),
            prefix: self.prefix.clone(),
            directory: self.directory.path().to_owned(),
        }
    }
}

impl Up {
    /// The printed table of attachments, by the name of the port.
    pub fn table(&self) -> BTreeMap<String, Vec<String>> {
        let seen = self.stdout.iter().flat_map(|lines| &lines.seen);
        let rows = seen.map(|line| line.split_whitespace().map(str::to_owned).collect());
        let rows: Vec<Vec<String>> = rows.collect();
        rows.into_iter()
            .filter(|row| row.first().is_some_and(|name| name.contains('/')))
            .map(|row| (row[0].clone(), row))
            .collect()
    }

    /// The address in the table of attachments.
    pub fn address(&self, port: &str) -> Ipv4Addr {
        let table = self.table();
        let row = table.get(port).unwrap_or_else(|| panic!("no {port} in {table:?}"));
        row[3].split('/').next().unwrap().parse().unwrap()
    }

    /// A command in the namespace that the definitions call `@ROLE`.
    pub fn command(&self, role: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &format!("{}{role}", self.prefix)]).args(arguments);
        command
    }

    /// Runs a program there.
    pub fn run(&self, role: &str, arguments: &[&str]) -> Finished {
        run(&mut self.command(role, arguments), PATIENCE).unwrap()
    }

    /// Runs a program there that must succeed, and returns what it printed.
    pub fn ok(&self, role: &str, arguments: &[&str]) -> String {
        let done = self.run(role, arguments).success();
        done.unwrap_or_else(|error| panic!("{role}: {}: {error}", arguments.join(" ")))
    }

    /// Gets a page there, within five seconds, and returns it.
    pub fn curl(&self, role: &str, url: &str) -> String {
        self.ok(role, &["curl", "-sS", "-m", "5", url])
    }

    /// Pings once and says whether an answer came within a second.
    pub fn pings(&self, role: &str, to: impl ToString) -> bool {
        self.run(role, &["ping", "-n", "-c", "1", "-W", "1", &to.to_string()]).status.success()
    }

    /// Starts a program there that goes on until it is dropped.
    pub fn start(&self, role: &str, arguments: &[&str]) -> Running {
        Running::spawn(&mut self.command(role, arguments))
    }

    /// Starts Python's HTTP server there, which lists the lab's directory, and waits until it listens.
    pub fn http_server(&self, role: &str, port: u16) -> Running {
        let port = port.to_string();
        let mut command = self.command(role, &["python3", "-u", "-m", "http.server", &port]);
        let mut server = Running::spawn(command.current_dir(&self.directory));
        server.stdout.as_mut().unwrap().wait_for("an HTTP server", |l| l.starts_with("Serving"));
        server
    }

    /// Starts an iperf3 server for one client and waits until it listens.
    pub fn iperf_server(&self, role: &str) -> Running {
        let mut server = self.start(role, &["iperf3", "-s", "-1", "--forceflush"]);
        let listening = |line: &str| line.contains("listening");
        server.stdout.as_mut().unwrap().wait_for("an iperf3 server", listening);
        server
    }

    /// Watches the interface there.
    pub fn watch(&self, role: &str, filter: &str) -> Watch {
        self.watch_with(role, &["-q", filter])
    }

    /// As [`Up::watch`], with further arguments of tcpdump.
    pub fn watch_with(&self, role: &str, arguments: &[&str]) -> Watch {
        let tcpdump = ["tcpdump", "-i", "eth0", "-nl", "--immediate-mode"];
        let mut tcpdump = self.start(role, &[&tcpdump, arguments].concat());
        tcpdump.stderr.as_mut().unwrap().wait_for("tcpdump", |line| line.contains("listening on"));
        Watch(tcpdump)
    }

    /// Waits until the lab says so on standard error.
    pub fn complains(&mut self, words: &str) {
        self.stderr.as_mut().unwrap().wait_for(words, |line| line.contains(words));
    }

    /// Processor time that the lab's process has used (proc(5), /proc/PID/stat, fields 14 and 15), in
    /// hundredths of a second.
    pub fn processor_time(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The second field, the program's name, is in parentheses and may hold blanks.
        let (_, rest) = stat.rsplit_once(')').unwrap();
        let fields: Vec<&str> = rest.split_whitespace().collect();
        [11, 12].map(|at: usize| fields[at].parse::<u64>().unwrap()).iter().sum()
    }

    /// Ends the lab as ^C does.
    pub fn interrupt(mut self) -> Ended {
        signal(&self.child, "INT");
        self.ended()
    }

    /// Ends the lab without giving it a chance.
    pub fn kill_nine(mut self) -> Ended {
        self.child.kill().unwrap();
        self.ended()
    }

    fn ended(&mut self) -> Ended {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "the lab does not end");
            thread::sleep(Duration::from_millis(5));
        };
        let text = |lines: Option<Lines>| lines.map_or_else(String::new, Lines::rest);
        Ended { status, stdout: text(self.stdout.take()), stderr: text(self.stderr.take()) }
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            // So that it takes its namespaces down.
            signal(&self.child, "TERM");
            let _ = self.child.wait();
        }
    }
}

/// A program that goes on until it is dropped.
pub struct Running {
    child: Child,
    stdout: Option<Lines>,
    stderr: Option<Lines>,
}

impl Running {
    fn spawn(command: &mut Command) -> Running {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // `ip netns exec` becomes the program: the child's id is the program's.
        let mut child = command.spawn().unwrap();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        Running { child, stdout: Some(Lines::of(stdout)), stderr: Some(Lines::of(stderr)) }
    }
}

impl Running {
    /// Waits until it has printed this line.
    pub fn says(&mut self, line: &str) {
        self.stdout.as_mut().unwrap().wait_for(line, |said| said.trim() == line);
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A running tcpdump.
pub struct Watch(Running);

impl Watch {
    /// Waits for a packet from one place to another, both as tcpdump writes them: `10.0.0.1` of ICMP,
    /// `10.0.0.1.80` with a port; either may be a beginning.
    pub fn sees(&mut self, from: &str, to: &str) {
        let lines = self.0.stdout.as_mut().unwrap();
        let what = format!("a packet from {from} to {to}");
        lines.wait_for(&what, |line| {
            line.contains(&format!(" IP {from}")) && line.contains(&format!(" > {to}"))
        });
    }

    /// Waits for a line of tcpdump's.
    pub fn sees_line(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        self.0.stdout.as_mut().unwrap().wait_for(what, wanted);
    }

    /// Everything seen so far, a packet a line.
    pub fn stop(mut self) -> String {
        // What was captured is printed before it ends.
        signal(&self.0.child, "INT");
        let _ = self.0.child.wait();
        self.0.stdout.take().map_or_else(String::new, Lines::rest)
    }
}
