//! Where definitions come from: files, directories, standard input, texts. Bounded in number, depth and size.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::diagnostic::{Diagnostic, Report, Severity};
use crate::yaml;

/// Where definitions come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A file, or a directory of which every `*.yaml`, `*.yml` and `*.json` is read, in subdirectories too.
    Path(PathBuf),
    /// Standard input, which the user writes `-`.
    Stdin,
    /// A text in memory, with the name that messages give it.
    Text {
        /// Its name.
        name: String,
        /// Its content.
        text: String,
    },
}

impl Input {
    /// The input that a command-line argument means: `-` or a path.
    #[must_use]
    pub fn argument(argument: &Path) -> Input {
        if argument.as_os_str() == "-" { Input::Stdin } else { Input::Path(argument.to_owned()) }
    }

    /// A text in memory.
    #[must_use]
    pub fn text(name: impl Into<String>, text: impl Into<String>) -> Input {
        Input::Text { name: name.into(), text: text.into() }
    }
}

/// The most files of one load.
const MAX_FILES: usize = 10_000;
/// The most octets of one load.
const MAX_TOTAL: usize = 64 * 1024 * 1024;
/// The deepest directories.
const MAX_DIRECTORIES: usize = 32;

/// An error about a file as a whole.
pub(crate) fn of_file(name: &str, message: String) -> Diagnostic {
    Diagnostic {
        file: name.into(),
        line: 0,
        column: 0,
        severity: Severity::Error,
        object: None,
        message,
        help: None,
    }
}

/// The content of every input by its name, sorted.
pub(crate) fn gather(inputs: &[Input], report: &mut Report) -> BTreeMap<Arc<str>, Vec<u8>> {
    let mut texts: BTreeMap<Arc<str>, Vec<u8>> = BTreeMap::new();
    let mut files: Vec<PathBuf> = Vec::new();
    let mut fault = |name: &str, message: String| report.push(of_file(name, message));
    let mut total = 0usize;
    // False once the inputs together are too large.
    let mut add = |fault: &mut dyn FnMut(&str, String), name: &str, bytes: Vec<u8>| -> bool {
        total += bytes.len();
        if total > MAX_TOTAL {
            fault(name, "the inputs together are larger than 64 MiB".to_owned());
        } else if texts.insert(name.into(), bytes).is_some() {
            fault(name, "two inputs have this name".to_owned());
        }
        total <= MAX_TOTAL
    };
    let mut stdin = false;
    for input in inputs {
        match input {
            Input::Path(path) => {
                let before = files.len();
                if let Err(message) = collect(path, 0, &mut files) {
                    fault(&path.display().to_string(), message);
                } else if files.len() == before {
                    fault(
                        &path.display().to_string(),
                        "no *.yaml, *.yml or *.json file in this directory".to_owned(),
                    );
                }
            }
            // Given twice, there is nothing to read the second time.
            Input::Stdin if std::mem::replace(&mut stdin, true) => {}
            Input::Stdin => match read_bounded(std::io::stdin().lock()) {
                Ok(bytes) => {
                    add(&mut fault, "<stdin>", bytes);
                }
                Err(error) => fault("<stdin>", format!("cannot be read: {error}")),
            },
            Input::Text { name, text } => {
                add(&mut fault, name, text.clone().into_bytes());
            }
        }
    }
    let mut canonical = std::collections::BTreeSet::new();
    for path in files {
        let name = path.display().to_string();
        // Given twice, by itself and by its directory, it is read once.
        if !canonical.insert(path.canonicalize().unwrap_or_else(|_| path.clone())) {
            continue;
        }
        match std::fs::File::open(&path).and_then(read_bounded) {
            Ok(bytes) => {
                if !add(&mut fault, &name, bytes) {
                    break;
                }
            }
            Err(error) => fault(&name, format!("cannot be read: {error}")),
        }
    }
    texts
}

/// What the inputs hold, as texts by their names: for handing them to another process.
///
/// # Errors
/// Every input that cannot be read or is not UTF-8, sorted by place.
pub fn read(inputs: &[Input]) -> Result<Vec<Input>, Vec<Diagnostic>> {
    let mut report = Report::default();
    let mut texts = Vec::new();
    for (name, bytes) in gather(inputs, &mut report) {
        match String::from_utf8(bytes) {
            Ok(text) => texts.push(Input::Text { name: name.to_string(), text }),
            Err(_) => report.push(of_file(&name, "is not UTF-8".to_owned())),
        }
    }
    report.finish().map(|_| texts)
}

/// One octet more than may be at most, so that [`yaml::parse`] refuses it.
fn read_bounded(reader: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(yaml::MAX_FILE as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The files that `path` means. In a directory only regular files count: a pipe there would wait for ever.
fn collect(path: &Path, depth: usize, files: &mut Vec<PathBuf>) -> Result<(), String> {
    let metadata = path.metadata().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => "cannot be read: no such file or directory".to_owned(),
        _ => format!("cannot be read: {error}"),
    })?;
    if !metadata.is_dir() {
        files.push(path.to_owned());
        return Ok(());
    }
    if depth > MAX_DIRECTORIES {
        return Err(format!("more than {MAX_DIRECTORIES} directories deep"));
    }
    let mut entries: Vec<PathBuf> = std::fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|e| e.path())).collect())
        .map_err(|error| format!("cannot be read: {error}"))?;
    entries.sort();
    for entry in entries {
        let Ok(metadata) = entry.metadata() else {
            return Err(format!("{} cannot be read", entry.display()));
        };
        let is_link = entry.symlink_metadata().is_ok_and(|m| m.is_symlink());
        if metadata.is_dir() {
            // A link to a directory may lead back here.
            if !is_link {
                collect(&entry, depth + 1, files)?;
            }
        } else if metadata.is_file()
            && entry.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json")
        {
            if files.len() >= MAX_FILES {
                return Err(format!("more than {MAX_FILES} files"));
            }
            files.push(entry);
        }
    }
    Ok(())
}
