//! Which labs are running on this machine, by name.
//!
//! Each has a socket `NAME.sock` and a file `NAME.pid` in a directory that only its user can enter:
//! `$XDG_RUNTIME_DIR/tierlab`, or else `/run/tierlab` for root and `/tmp/tierlab-UID` for others. The file is locked
//! (flock(2)) as long as the lab lives: the kernel releases the lock however the process ends, so that a socket whose
//! file is not locked is a dead lab's, and is replaced. A directory that is a link, or another user's, is not used.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest name of a lab, octets: that of an object.
const MAX_NAME: usize = 63;
/// Labs of one name: `first`, `first-2` and so on.
const MAX_NAMESAKES: u32 = 1_000;
/// How often a file that is locked is tried again: who only looks whether a lab lives holds it for a moment.
const ATTEMPTS: u32 = 5;
/// The pause between two tries.
const PAUSE: Duration = Duration::from_millis(20);

/// Why a lab cannot be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// The directory, socket or file cannot be made.
    #[error("{}: {source}", path.display())]
    Io {
        /// What could not be made.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The directory is not one that only this user can write.
    #[error("{} {why}: remove it, or set XDG_RUNTIME_DIR to a directory of your own", path.display())]
    Unsafe {
        /// The directory.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A lab of this name is running.
    #[error(
        "a lab '{0}' is running already: end it with 'tierlab down --lab {0}', or state another --name"
    )]
    Taken(String),
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> RegistryError {
    let path = path.to_owned();
    move |source| RegistryError::Io { path, source }
}

/// Whether a lab may have this name: it becomes the name of a file.
pub fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=MAX_NAME).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// The directories in which labs of this user may be: where a new one is registered first.
pub fn directories() -> Vec<PathBuf> {
    let user = rustix::process::geteuid();
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    // After `sudo -E` it is another user's.
    let own = |path: &PathBuf| {
        path.is_absolute() && path.metadata().is_ok_and(|m| m.is_dir() && m.uid() == user.as_raw())
    };
    let usual = if user.is_root() {
        PathBuf::from("/run/tierlab")
    } else {
        PathBuf::from(format!("/tmp/tierlab-{}", user.as_raw()))
    };
    runtime.filter(own).map(|path| path.join("tierlab")).into_iter().chain([usual]).collect()
}

/// Whether only this user can enter and write a directory.
fn check(path: &Path) -> Result<(), RegistryError> {
    let metadata = fs::symlink_metadata(path).map_err(io_error(path))?;
    let refused = |why| Err(RegistryError::Unsafe { path: path.to_owned(), why });
    if !metadata.is_dir() {
        return refused("is no directory");
    }
    if metadata.uid() != rustix::process::geteuid().as_raw() {
        return refused("belongs to another user");
    }
    if metadata.mode() & 0o077 != 0 {
        return refused("is open to other users");
    }
    Ok(())
}

/// Makes a directory safe to use: creates it, or closes one of this user's own.
fn prepare(path: &Path) -> Result<(), RegistryError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(io_error(path)(e)),
        _ => {}
    }
    match check(path) {
        // Not through a link: `check` has seen that it is none, and whose it is.
        Err(RegistryError::Unsafe { why: "is open to other users", .. }) => {
            fs::set_permissions(path, Permissions::from_mode(0o700)).map_err(io_error(path))?;
            check(path)
        }
        other => other,
    }
}

/// A lab's place among the running ones. Dropping it gives the name free.
#[derive(Debug)]
pub struct Registration {
    name: String,
    socket: PathBuf,
    file: PathBuf,
    /// Locked as long as this lives.
    _lock: File,
}

impl Registration {
    /// Registers a lab in the first of `directories`. A `name` that the user stated must be free; where there is
    /// none, `usual` gets a number if need be.
    ///
    /// # Errors
    /// The stated name is taken, or the directory cannot be used.
    pub fn new(
        directories: &[PathBuf],
        name: Option<&str>,
        usual: &str,
    ) -> Result<(Registration, UnixListener), RegistryError> {
        let none = || io_error(Path::new("tierlab"))(io::ErrorKind::NotFound.into());
        let directory = directories.first().ok_or_else(none)?;
        prepare(directory)?;
        if let Some(name) = name {
            return Registration::with_name(directory, name)?
                .ok_or_else(|| RegistryError::Taken(name.to_owned()));
        }
        for number in 1..=MAX_NAMESAKES {
            let ending = if number == 1 { String::new() } else { format!("-{number}") };
            let stem: String = usual.chars().take(MAX_NAME - ending.len()).collect();
            let name = format!("{}{ending}", stem.trim_end_matches('-'));
            if let Some(registered) = Registration::with_name(directory, &name)? {
                return Ok(registered);
            }
        }
        Err(RegistryError::Taken(usual.to_owned()))
    }

    /// `None` if a living lab has the name.
    fn with_name(
        directory: &Path,
        name: &str,
    ) -> Result<Option<(Registration, UnixListener)>, RegistryError> {
        let file = directory.join(format!("{name}.pid"));
        let socket = directory.join(format!("{name}.sock"));
        let mut attempts = 0;
        let mut lock = loop {
            let opened = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
                .open(&file)
                .map_err(io_error(&file))?;
            match opened.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if attempts < ATTEMPTS => {
                    attempts += 1;
                    std::thread::sleep(PAUSE);
                    continue;
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(io_error(&file)(error)),
            }
            // Its last owner may have removed it before it was locked here.
            if is_at(&opened, &file) {
                break opened;
            }
        };
        // The lock is ours, so whoever bound this has died.
        match fs::remove_file(&socket) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(io_error(&socket)(e)),
            _ => {}
        }
        let listener = UnixListener::bind(&socket).map_err(io_error(&socket))?;
        fs::set_permissions(&socket, Permissions::from_mode(0o600)).map_err(io_error(&socket))?;
        lock.set_len(0)
            .and_then(|()| writeln!(lock, "{}", std::process::id()))
            .map_err(io_error(&file))?;
        let name = name.to_owned();
        Ok(Some((Registration { name, socket, file, _lock: lock }, listener)))
    }

    /// The lab's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The lock goes last: until then nobody takes the name.
        let _ = fs::remove_file(&self.socket);
        let _ = fs::remove_file(&self.file);
    }
}

/// Whether an open file is still the one at a path.
fn is_at(file: &File, path: &Path) -> bool {
    let same = |a: fs::Metadata, b: fs::Metadata| a.dev() == b.dev() && a.ino() == b.ino();
    file.metadata().ok().zip(fs::symlink_metadata(path).ok()).is_some_and(|(a, b)| same(a, b))
}

/// A living lab.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its socket.
    pub socket: PathBuf,
}

/// The living labs of this user, by name.
pub fn running(directories: &[PathBuf]) -> Vec<Entry> {
    let mut entries = Vec::new();
    for directory in directories.iter().filter(|directory| check(directory).is_ok()) {
        let Ok(files) = fs::read_dir(directory) else { continue };
        for file in files.flatten().map(|entry| entry.path()) {
            let name =
                file.file_name().and_then(|n| n.to_str()).and_then(|n| n.strip_suffix(".pid"));
            if let Some(name) = name.filter(|name| is_name(name))
                && is_locked(&file)
            {
                let socket = directory.join(format!("{name}.sock"));
                entries.push(Entry { name: name.to_owned(), socket });
            }
        }
    }
    entries.sort();
    entries
}

/// Whether a living lab holds a file. Asks by a shared lock, so that several can ask at a time.
fn is_locked(file: &Path) -> bool {
    let open = OpenOptions::new()
        .read(true)
        .custom_flags(rustix::fs::OFlags::NOFOLLOW.bits().cast_signed())
        .open(file);
    open.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use super::*;
    use std::os::unix::fs::symlink;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().mode() & 0o777
    }

    fn names(directory: &Path) -> Vec<String> {
        running(&[directory.to_owned()]).into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn a_lab_is_running_until_it_is_dropped_and_only_its_user_can_reach_it() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("tierlab");
        let places = [place.clone()];
        let (first, _listener) = Registration::new(&places, None, "first").unwrap();
        assert_eq!(mode(&place), 0o700);
        assert_eq!(mode(&place.join("first.sock")), 0o600);
        let pid = fs::read_to_string(place.join("first.pid")).unwrap();
        assert_eq!(pid.trim().parse::<u32>().unwrap(), std::process::id());
        let (second, _listener) = Registration::new(&places, None, "first").unwrap();
        assert_eq!((first.name(), second.name()), ("first", "first-2"));
        assert_eq!(names(&place), ["first", "first-2"]);
        let taken = Registration::new(&places, Some("first"), "x").unwrap_err();
        assert!(taken.to_string().contains("'first' is running already"), "{taken}");
        drop(first);
        assert_eq!(names(&place), ["first-2"]);
        drop(second);
        assert_eq!(fs::read_dir(&place).unwrap().count(), 0);
    }

    #[test]
    fn what_a_dead_lab_left_is_replaced_and_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("tierlab");
        prepare(&place).unwrap();
        drop(UnixListener::bind(place.join("first.sock")).unwrap());
        fs::write(place.join("first.pid"), "4194305\n").unwrap();
        assert!(names(&place).is_empty());
        let (first, _listener) =
            Registration::new(std::slice::from_ref(&place), Some("first"), "x").unwrap();
        assert_eq!(names(&place), ["first"]);
        drop(first);
    }

    #[test]
    fn a_directory_that_others_control_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let target = dir.path().join("target");
        fs::create_dir(&target).unwrap();
        let link = dir.path().join("link");
        symlink(&target, &link).unwrap();
        let refused = |path: &Path| {
            Registration::new(&[path.to_owned()], None, "first").unwrap_err().to_string()
        };
        assert!(refused(&link).contains("is no directory"), "{}", refused(&link));
        assert_eq!(fs::read_dir(&target).unwrap().count(), 0);
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        assert!(refused(&file).contains("is no directory"));
        assert!(refused(&dir.path().join("no/where")).contains("no/where"));
        // One's own is closed.
        fs::set_permissions(&target, Permissions::from_mode(0o777)).unwrap();
        assert!(running(std::slice::from_ref(&target)).is_empty());
        let (_first, _listener) =
            Registration::new(std::slice::from_ref(&target), None, "first").unwrap();
        assert_eq!(mode(&target), 0o700);
    }

    #[test]
    fn a_link_in_the_place_of_the_file_is_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("tierlab");
        prepare(&place).unwrap();
        let victim = dir.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        symlink(&victim, place.join("first.pid")).unwrap();
        assert!(Registration::new(std::slice::from_ref(&place), Some("first"), "x").is_err());
        assert!(names(&place).is_empty());
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
        // A link in the place of the socket is removed, not what it leads to.
        symlink(&victim, place.join("second.sock")).unwrap();
        let (_second, _listener) = Registration::new(&[place], Some("second"), "x").unwrap();
        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }

    #[test]
    fn names_are_those_of_objects() {
        for name in ["a", "first", "first-2", "9"] {
            assert!(is_name(name), "{name}");
        }
        let long = "a".repeat(64);
        for name in ["", "-", "a-", "-a", "A", "a.b", "a/b", "..", "é", long.as_str()] {
            assert!(!is_name(name), "{name}");
        }
        // A number fits into the longest name.
        let dir = tempfile::tempdir().unwrap();
        let place = [dir.path().join("tierlab")];
        let long = "a".repeat(63);
        let (_one, _listener) = Registration::new(&place, None, &long).unwrap();
        let (two, _listener) = Registration::new(&place, None, &long).unwrap();
        assert_eq!(two.name(), format!("{}-2", "a".repeat(61)));
    }
}
