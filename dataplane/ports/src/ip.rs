//! Running iproute2's `ip`.
//!
//! Namespaces and addresses are set up with the program that a user inspects them with, each call an
//! exact list of arguments without a shell. The alternative, rtnetlink by hand or through a crate that
//! brings an async runtime, would be several thousand lines for what happens once a lab start, and
//! `ip netns add` has its own rules about mount propagation that `ip netns exec` relies on.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Where distributions put it. Not searched in `PATH`: the caller is root, and `PATH` its user's.
const PLACES: [&str; 4] = ["/usr/sbin/ip", "/sbin/ip", "/usr/bin/ip", "/bin/ip"];

/// Why a call of `ip` did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum IpError {
    /// The program is not installed.
    #[error(
        "the program 'ip' is in none of {places}: install iproute2 ('apt install iproute2')",
        places = PLACES.join(", ")
    )]
    Missing,
    /// The program could not be started.
    #[error("'{command}' could not be started: {source}")]
    Start {
        /// The command line.
        command: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The program refused.
    #[error("'{command}' failed: {stderr}")]
    Failed {
        /// The command line.
        command: String,
        /// What it said.
        stderr: String,
    },
}

impl IpError {
    /// Whether the machine, not the input, is at fault (exit code 3): no such program, or no right
    /// to do this.
    #[must_use]
    pub fn is_environment(&self) -> bool {
        match self {
            IpError::Missing | IpError::Start { .. } => true,
            IpError::Failed { stderr, .. } => {
                stderr.contains("Operation not permitted") || stderr.contains("Permission denied")
            }
        }
    }
}

/// The program `ip`.
#[derive(Clone, Debug)]
pub struct Ip {
    program: PathBuf,
}

impl Ip {
    /// Finds the program.
    ///
    /// # Errors
    /// [`IpError::Missing`].
    pub fn find() -> Result<Ip, IpError> {
        PLACES
            .iter()
            .map(PathBuf::from)
            .find(|place| place.is_file())
            .map(|program| Ip { program })
            .ok_or(IpError::Missing)
    }

    /// A stand-in, for tests.
    #[cfg(test)]
    pub(crate) fn at(program: PathBuf) -> Ip {
        Ip { program }
    }

    /// Runs it with these arguments and returns what it printed.
    ///
    /// # Errors
    /// If it cannot be started or exits with another status than 0.
    pub fn run(&self, arguments: &[&str]) -> Result<String, IpError> {
        self.run_with(arguments, Stdio::null())
    }

    /// As [`Ip::run`]; the program holds `input` open until it ends.
    pub(crate) fn run_with(&self, arguments: &[&str], input: Stdio) -> Result<String, IpError> {
        let command = || format!("ip {}", arguments.join(" "));
        let output = Command::new(&self.program)
            .args(arguments)
            .stdin(input)
            .current_dir(Path::new("/"))
            .output()
            .map_err(|source| IpError::Start { command: command(), source })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(IpError::Failed {
            command: command(),
            stderr: if stderr.is_empty() { output.status.to_string() } else { stderr },
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn program(path: &str) -> Ip {
        Ip::at(path.into())
    }

    #[test]
    fn a_failure_carries_the_command_and_its_words() {
        let error = program("/bin/ls").run(&["/nonexistent-tierlab"]).unwrap_err();
        let text = error.to_string();
        assert!(text.starts_with("'ip /nonexistent-tierlab' failed: "), "{text}");
        assert!(text.contains("No such file"), "{text}");
        assert!(!error.is_environment());
    }

    #[test]
    fn silence_is_reported_as_the_status() {
        let error = program("/bin/false").run(&[]).unwrap_err();
        assert!(error.to_string().contains("exit status: 1"), "{error}");
    }

    #[test]
    fn arguments_are_not_seen_by_a_shell() {
        let out = program("/bin/echo").run(&["$HOME", "a  b; id"]).unwrap();
        assert_eq!(out, "$HOME a  b; id\n");
    }

    #[test]
    fn a_missing_program_and_a_missing_right_are_the_environments_fault() {
        assert!(IpError::Missing.is_environment());
        assert!(program("/nonexistent").run(&[]).unwrap_err().is_environment());
        let denied = IpError::Failed {
            command: "ip netns add x".into(),
            stderr: "mkdir /run/netns failed: Permission denied".into(),
        };
        assert!(denied.is_environment());
    }
}
