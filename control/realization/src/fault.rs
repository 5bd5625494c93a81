//! What is wrong with definitions as a whole: collected, so that the user sees every fault at once.

use definitions::model::{Meta, Source};
use definitions::{Diagnostic, Severity};

/// The object that a message is about.
#[derive(Clone, Debug)]
pub(crate) struct Subject {
    /// `Kind ns/name`.
    pub(crate) object: String,
    /// Where it is defined.
    pub(crate) source: Source,
}

impl Subject {
    /// The object `meta` of kind `kind`.
    pub(crate) fn new(kind: &str, meta: &Meta) -> Subject {
        let object = if meta.namespace.is_empty() {
            format!("{kind} {}", meta.name)
        } else {
            format!("{kind} {}/{}", meta.namespace, meta.name)
        };
        Subject { object, source: meta.source.clone() }
    }

    /// The same, pointing at a line of the object; 0 is no line.
    pub(crate) fn at_line(&self, line: u32) -> Subject {
        let mut at = self.clone();
        if line > 0 {
            at.source.line = line;
        }
        at
    }

    fn diagnostic(&self, severity: Severity, message: String, help: Option<String>) -> Diagnostic {
        Diagnostic {
            file: self.source.file.clone(),
            line: self.source.line,
            column: 0,
            severity,
            object: Some(self.object.clone()),
            message,
            help,
        }
    }
}

/// Messages of one realization.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    faults: Vec<Diagnostic>,
    notices: Vec<Diagnostic>,
}

impl Messages {
    /// Something that makes the definitions impossible to realize.
    pub(crate) fn fault(
        &mut self,
        subject: &Subject,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let help = Some(help.into()).filter(|h| !h.is_empty());
        self.faults.push(subject.diagnostic(Severity::Error, message.into(), help));
    }

    /// Something worth knowing.
    pub(crate) fn notice(
        &mut self,
        subject: &Subject,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let help = Some(help.into()).filter(|h| !h.is_empty());
        self.notices.push(subject.diagnostic(Severity::Notice, message.into(), help));
    }

    /// The faults, sorted by place, if there is one.
    pub(crate) fn finish(&mut self) -> Result<(), Vec<Diagnostic>> {
        if self.faults.is_empty() {
            return Ok(());
        }
        let mut faults = std::mem::take(&mut self.faults);
        faults.sort();
        faults.dedup();
        Err(faults)
    }

    /// The notices so far, sorted by place.
    pub(crate) fn into_notices(self) -> Vec<Diagnostic> {
        let mut notices = self.notices;
        notices.sort();
        notices.dedup();
        notices
    }
}
