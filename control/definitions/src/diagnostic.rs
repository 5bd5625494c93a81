//! Messages to the user: what is wrong, where, and what to do.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use crate::node::{Fault, Node};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing was loaded because of it.
    Error,
    /// Worth knowing; loading went on.
    Notice,
}

/// One message. They sort by place.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Diagnostic {
    /// The path as the user gave it, `<stdin>`, or the name of an in-memory text.
    pub file: Arc<str>,
    /// From 1; 0 where the fault is in no line (a file that cannot be read).
    pub line: u32,
    /// From 1, in characters; 0 where unknown.
    pub column: u32,
    /// How bad it is.
    pub severity: Severity,
    /// `Kind name` or `Kind namespace/name`.
    pub object: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: Option<String>,
}

impl fmt::Display for Diagnostic {
    /// `file:line: Kind ns/name: message; help`, in one line: what is quoted from a file, and a file's name, cannot move the
    /// cursor or colour the terminal.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        printable(&self.file, f)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if let Some(object) = &self.object {
            printable(object, f)?;
            f.write_str(": ")?;
        }
        printable(&self.message, f)?;
        match &self.help {
            Some(help) => {
                f.write_str("; ")?;
                printable(help, f)
            }
            None => Ok(()),
        }
    }
}

/// Writes `text` with U+FFFD for every control character.
fn printable(text: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    text.chars().try_for_each(|c| {
        f.write_char(if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
    })
}

/// The most errors that are told. With more, whatever looks for them may stop: what is looked at is then hostile,
/// or hopeless.
const MAX_MESSAGES: usize = 200;

/// The longest message, octets: a value of megabytes that is no network is quoted by the fault of its type.
const MAX_MESSAGE: usize = 600;

/// Cuts a message that quotes too much.
fn shorten(message: &mut String) {
    if message.len() > MAX_MESSAGE {
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        message.push('…');
    }
}

/// Messages as they come up.
#[derive(Debug, Default)]
pub(crate) struct Report {
    errors: Vec<Diagnostic>,
    notices: Vec<Diagnostic>,
    left_out: bool,
}

impl Report {
    pub fn push(&mut self, mut diagnostic: Diagnostic) {
        shorten(&mut diagnostic.message);
        let list = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Notice => &mut self.notices,
        };
        if diagnostic.severity == Severity::Error && list.len() >= MAX_MESSAGES {
            self.left_out = true;
        } else {
            list.push(diagnostic);
        }
    }

    pub fn errors(&self) -> usize {
        self.errors.len() + usize::from(self.left_out)
    }

    /// Whether nobody would be told of another error.
    pub fn is_full(&self) -> bool {
        self.errors.len() >= MAX_MESSAGES
    }

    /// Notices by place, or all errors by place.
    pub fn finish(mut self) -> Result<Vec<Diagnostic>, Vec<Diagnostic>> {
        if self.errors.is_empty() {
            self.notices.sort();
            // What a packet test's change reads again is told again.
            self.notices.dedup();
            return Ok(self.notices);
        }
        self.errors.sort();
        if let (true, Some(last)) = (self.is_full(), self.errors.last()) {
            let more = Diagnostic {
                line: 0,
                column: 0,
                object: None,
                message: format!("only the first {MAX_MESSAGES} errors are shown"),
                help: None,
                ..last.clone()
            };
            self.errors.push(more);
        }
        Err(self.errors)
    }
}

/// A report on one object: fills in file and object.
pub(crate) struct Subject<'r> {
    pub report: &'r mut Report,
    pub file: Arc<str>,
    /// `Kind name` or `Kind namespace/name`, as far as it is known.
    pub object: Option<String>,
}

impl Subject<'_> {
    pub fn fault(&mut self, fault: Fault) {
        self.push(Severity::Error, fault);
    }

    pub fn error(&mut self, at: &Node, message: impl Into<String>) {
        self.fault(Fault::at(at, message));
    }

    pub fn notice(&mut self, at: &Node, message: impl Into<String>) {
        self.push(Severity::Notice, Fault::at(at, message));
    }

    pub fn push(&mut self, severity: Severity, fault: Fault) {
        self.report.push(Diagnostic {
            file: Arc::clone(&self.file),
            line: fault.line,
            column: fault.column,
            severity,
            object: self.object.clone(),
            message: fault.message,
            help: fault.help,
        });
    }

    /// Reads a `T` from a document; every fault goes into the report.
    pub fn read<'de, T: serde::de::Deserialize<'de>>(&mut self, document: &'de Node) -> Option<T> {
        match document.read() {
            Ok(value) => Some(value),
            Err(faults) => {
                faults.into_iter().for_each(|fault| self.fault(fault));
                None
            }
        }
    }

    /// The value, or its fault in the report.
    pub fn check<T>(&mut self, at: &Node, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.error(at, message)).ok()
    }
}
