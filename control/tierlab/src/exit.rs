//! Exit codes, and errors that know theirs.

use std::fmt;

/// What the program's exit code says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything asked for was done and held.
    Ok = 0,
    /// An assertion or probe failed.
    Failed = 1,
    /// The input is wrong.
    BadInput = 2,
    /// The environment lacks something.
    Environment = 3,
    /// Our fault.
    Internal = 4,
}

/// An error message with the exit code that goes with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Exit code.
    pub exit: Exit,
    /// What is wrong, where, and what to do; may have several lines.
    pub message: String,
}

impl Error {
    /// The input is wrong.
    pub fn input(message: impl Into<String>) -> Error {
        Error { exit: Exit::BadInput, message: message.into() }
    }

    /// The environment lacks something.
    pub fn environment(message: impl Into<String>) -> Error {
        Error { exit: Exit::Environment, message: message.into() }
    }

    /// Our fault.
    pub fn internal(message: impl Into<String>) -> Error {
        Error { exit: Exit::Internal, message: message.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
