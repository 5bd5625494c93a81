//! The inventory of a running lab: what it made outside its own process.
//!
//! Invariants:
//! * Everything is written down, and on disk, before it is made. A process killed at any moment
//!   leaves a complete inventory, and [`Inventory::sweep`] of the next start takes everything away.
//! * A living lab is never swept: it holds a lock (flock(2)) on its inventory, which the kernel
//!   releases when the process ends, however it ends. A process id would not do: they are used again.
//!   An `ip netns add` that the process had started holds the lock too, as its standard input: it goes
//!   on for milliseconds when the process is killed, and a sweep waits for it.
//! * Only what this program made is removed. See `removal.rs` for how that is told.
//!
//! In the state directory, each lab has `ID.lock` and `ID.json`; the identity is made of process id,
//! start time, and a number for several labs in one process. The lock file is created first and
//! removed last.

use std::fs::{self, DirBuilder, File, TryLockError};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::ip::{Ip, IpError};
use crate::netns::{Netns, NetnsName};
use crate::removal::{self, Item, Places, Removal};
use crate::resolver::Resolver;

/// A larger inventory is not one of ours.
const MAX_FILE: u64 = 16 << 20;

/// How long a sweep waits for the programs that a killed lab had started.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Why something could not be made, or written down.
#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    /// A network namespace of this name exists.
    #[error(
        "a network namespace '{0}' exists already and was not made by this lab: stop the lab that uses \
         it, remove it with 'ip netns delete {0}', or choose another name"
    )]
    NetnsTaken(NetnsName),
    /// `/etc/netns/NAME` exists.
    #[error(
        "/etc/netns/{0} exists already and was not made by this lab: remove it or choose another name"
    )]
    ResolverTaken(NetnsName),
    /// `ip` refused.
    #[error(transparent)]
    Ip(#[from] IpError),
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl InventoryError {
    /// Whether the machine, not the input, is at fault (exit code 3).
    #[must_use]
    pub fn is_environment(&self) -> bool {
        match self {
            InventoryError::Ip(error) => error.is_environment(),
            InventoryError::Io { source, .. } => source.kind() != io::ErrorKind::InvalidInput,
            InventoryError::NetnsTaken(_) | InventoryError::ResolverTaken(_) => false,
        }
    }
}

fn io_error(path: &Path) -> impl FnOnce(io::Error) -> InventoryError {
    let path = path.to_owned();
    move |source| InventoryError::Io { path, source }
}

/// The file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Record {
    /// The kernel's identity of this boot.
    boot: String,
    /// For messages; nothing is decided by it.
    pid: u32,
    /// In order of creation.
    items: Vec<Item>,
}

/// What a sweep or teardown did, in words for people, sorted by lab and then newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sweep {
    /// Things taken away.
    pub removed: Vec<String>,
    /// Things written down that are somebody else's by now, and were left alone.
    pub kept: Vec<String>,
    /// Things that could not be removed, with the reason; the next sweep tries again.
    pub failed: Vec<String>,
    /// Identities of labs that are running and were left alone.
    pub running: Vec<String>,
}

/// The inventory of this process's lab. Dropping it takes down what it made; [`Inventory::teardown`]
/// does so too and tells.
#[derive(Debug)]
pub struct Inventory {
    state_dir: PathBuf,
    id: String,
    /// Open as long as the lab lives, and locked.
    lock: File,
    record: Record,
    places: Places,
    ip: Ip,
    torn_down: bool,
}

impl Inventory {
    /// Starts the inventory of a new lab in `state_dir`, which is created if need be and should not
    /// outlive the machine's run (for instance `/run/tierlab`). Call [`Inventory::sweep`] before.
    ///
    /// # Errors
    /// If `ip` is not installed or the directory cannot be written.
    pub fn open(state_dir: &Path) -> Result<Inventory, InventoryError> {
        Inventory::open_at(state_dir, Ip::find()?, Places::default())
    }

    fn open_at(state_dir: &Path, ip: Ip, places: Places) -> Result<Inventory, InventoryError> {
        static LABS: AtomicU32 = AtomicU32::new(0);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(state_dir)
            .map_err(io_error(state_dir))?;
        let boot = boot_id()?;
        let pid = std::process::id();
        let start = start_time()?;
        loop {
            let number = LABS.fetch_add(1, Ordering::Relaxed);
            let id = format!("{pid}-{start}-{number}");
            let path = state_dir.join(format!("{id}.lock"));
            let lock = File::create(&path).map_err(io_error(&path))?;
            // A sweep may have seen the file before it was locked, and be about to remove it.
            if lock.try_lock().is_err() || !is_at(&lock, &path) {
                continue;
            }
            let inventory = Inventory {
                state_dir: state_dir.to_owned(),
                id,
                lock,
                record: Record { boot, pid, items: Vec::new() },
                places,
                ip,
                torn_down: false,
            };
            inventory.save()?;
            return Ok(inventory);
        }
    }

    /// The program that this inventory uses.
    #[must_use]
    pub fn ip(&self) -> &Ip {
        &self.ip
    }

    /// Creates a network namespace, as `ip netns add` does.
    ///
    /// # Errors
    /// [`InventoryError::NetnsTaken`] if the name is in use; otherwise what the system refuses. Then
    /// nothing was made.
    pub fn create_netns(&mut self, name: &NetnsName) -> Result<Netns, InventoryError> {
        let mount = self.places.netns.join(name.as_str());
        let there = |places: &Places| removal::identity(places, name).map_err(io_error(&mount));
        if there(&self.places)?.is_some() {
            return Err(InventoryError::NetnsTaken(name.clone()));
        }
        self.announce(Item::Netns { name: name.clone(), identity: None })?;
        let arguments = ["netns", "add", name.as_str()];
        let lock = self.lock.try_clone().map_err(io_error(&mount));
        let added = lock.and_then(|lock| Ok(self.ip.run_with(&arguments, lock.into())?));
        if let Err(error) = added {
            // It may have failed because somebody else was faster: not ours to remove then.
            self.withdraw()?;
            return Err(error);
        }
        let identity = there(&self.places)?;
        self.withdraw_unsaved();
        self.announce(Item::Netns { name: name.clone(), identity })?;
        Ok(Netns { name: name.clone() })
    }

    /// Writes `/etc/netns/NAME/resolv.conf`, for programs started by `ip netns exec NAME`.
    ///
    /// # Errors
    /// [`InventoryError::ResolverTaken`] if that directory exists; otherwise what the system refuses,
    /// or a word that cannot be written. Then nothing was made.
    pub fn create_resolver(
        &mut self,
        name: &NetnsName,
        resolver: &Resolver,
    ) -> Result<(), InventoryError> {
        let directory = crate::resolver::directory(&self.places.etc, name);
        if fs::symlink_metadata(&directory).is_ok() {
            return Err(InventoryError::ResolverTaken(name.clone()));
        }
        self.announce(Item::Resolver { name: name.clone() })?;
        let Err(source) = resolver.write(&self.places.etc, name, &self.id) else {
            return Ok(());
        };
        if source.kind() == io::ErrorKind::AlreadyExists {
            self.withdraw()?;
            return Err(InventoryError::ResolverTaken(name.clone()));
        }
        // What was begun carries our mark. If even this fails, it stays written down.
        if crate::resolver::remove(&self.places.etc, name, &self.id).is_ok() {
            self.withdraw()?;
        }
        Err(io_error(&directory)(source))
    }

    fn announce(&mut self, item: Item) -> Result<(), InventoryError> {
        self.record.items.push(item);
        self.save().inspect_err(|_| self.withdraw_unsaved())
    }

    fn withdraw(&mut self) -> Result<(), InventoryError> {
        self.withdraw_unsaved();
        self.save()
    }

    /// Takes back the newest announcement in memory only.
    fn withdraw_unsaved(&mut self) {
        self.record.items.pop();
    }

    fn save(&self) -> Result<(), InventoryError> {
        save(&self.state_dir, &self.id, &self.record)
    }

    /// Takes down everything that this inventory made, newest first, and removes the inventory. What
    /// fails is in the result, stays written down, and is swept at the next start.
    #[must_use]
    pub fn teardown(mut self) -> Sweep {
        self.take_down()
    }

    fn take_down(&mut self) -> Sweep {
        let mut sweep = Sweep::default();
        if !self.torn_down {
            self.torn_down = true;
            let ip = Some(&self.ip);
            let dir = &self.state_dir;
            clear(dir, &self.id, &mut self.record, &self.places, ip, true, &mut sweep);
        }
        sweep
    }

    /// Takes away what dead labs left in `state_dir`. Living labs, of this or another process, and
    /// things that no inventory names are left alone. A missing directory is an empty one.
    ///
    /// # Errors
    /// If the directory cannot be read. Single things that cannot be removed are in the result.
    pub fn sweep(state_dir: &Path) -> Result<Sweep, InventoryError> {
        Inventory::sweep_at(state_dir, Ip::find().ok().as_ref(), &Places::default())
    }

    fn sweep_at(
        state_dir: &Path,
        ip: Option<&Ip>,
        places: &Places,
    ) -> Result<Sweep, InventoryError> {
        let mut sweep = Sweep::default();
        let entries = match fs::read_dir(state_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(sweep),
            Err(error) => return Err(io_error(state_dir)(error)),
        };
        let mut ids = Vec::new();
        for entry in entries {
            let name = entry.map_err(io_error(state_dir))?.file_name();
            if let Some(id) = name.to_str().and_then(|name| name.strip_suffix(".lock")) {
                ids.push(id.to_owned());
            }
        }
        ids.sort();
        let boot = boot_id()?;
        for id in ids {
            sweep_one(state_dir, &id, &boot, ip, places, &mut sweep);
        }
        Ok(sweep)
    }
}

impl Drop for Inventory {
    fn drop(&mut self) {
        // What could not be removed stays written down for the next start.
        let _ = self.take_down();
    }
}

fn sweep_one(
    state_dir: &Path,
    id: &str,
    boot: &str,
    ip: Option<&Ip>,
    places: &Places,
    sweep: &mut Sweep,
) {
    let path = state_dir.join(format!("{id}.lock"));
    // Kept until the end of this function, so that only one sweep is at work on a lab.
    let lock = match File::open(&path) {
        Ok(lock) => lock,
        // Another sweep, or the lab itself, has finished with it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return sweep.failed.push(format!("{}: {error}", path.display())),
    };
    match lock_of_the_dead(&lock, id) {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return sweep.running.push(id.to_owned()),
        Err(TryLockError::Error(error)) => {
            return sweep.failed.push(format!("{}: {error}", path.display()));
        }
    }
    if !is_at(&lock, &path) {
        return;
    }
    match load(state_dir, id) {
        Ok(Some(mut record)) => {
            let same_boot = record.boot == boot;
            clear(state_dir, id, &mut record, places, ip, same_boot, sweep);
        }
        // Died before it had made anything.
        Ok(None) => forget(state_dir, id, sweep),
        Err(error) => sweep.failed.push(error.to_string()),
    }
}

/// Locks a lab's file unless the lab lives. If its process is dead and the lock is still held, a program
/// that it had started is at work: it is given time to end.
fn lock_of_the_dead(lock: &File, id: &str) -> Result<(), TryLockError> {
    let deadline = Instant::now() + LAST_WORDS;
    loop {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) if !is_alive(id) && Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(1));
            }
            other => return other,
        }
    }
}

/// Whether the process that this identity begins with exists and is no zombie. Only a reason to wait.
fn is_alive(id: &str) -> bool {
    let pid: Option<u32> = id.split('-').next().and_then(|pid| pid.parse().ok());
    let Some(pid) = pid else { return false };
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").map(|(_, rest)| rest);
    state.is_some_and(|state| !state.starts_with(['Z', 'X']))
}

/// Removes a lab's items, newest first, and then its inventory; items that could not be removed stay.
fn clear(
    state_dir: &Path,
    id: &str,
    record: &mut Record,
    places: &Places,
    ip: Option<&Ip>,
    same_boot: bool,
    sweep: &mut Sweep,
) {
    let mut left = Vec::new();
    for item in record.items.drain(..).rev() {
        match removal::remove(places, ip, &item, id, same_boot) {
            Ok(Removal::Removed) => sweep.removed.push(item.describe()),
            Ok(Removal::Absent) => {}
            Ok(Removal::Foreign) => sweep.kept.push(item.describe()),
            Err(error) => {
                sweep.failed.push(format!("{}: {error}", item.describe()));
                left.push(item);
            }
        }
    }
    if left.is_empty() {
        return forget(state_dir, id, sweep);
    }
    left.reverse();
    record.items = left;
    if let Err(error) = save(state_dir, id, record) {
        sweep.failed.push(error.to_string());
    }
}

/// Removes an inventory of which nothing is left. The lock goes last: without it the rest would
/// never be looked at.
fn forget(state_dir: &Path, id: &str, sweep: &mut Sweep) {
    for suffix in ["json.new", "json", "lock"] {
        let path = state_dir.join(format!("{id}.{suffix}"));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return sweep.failed.push(format!("{}: {error}", path.display()));
            }
            _ => {}
        }
    }
}

/// Replaces the file as a whole and waits for the disk: after a crash there is the old or the new one.
fn save(state_dir: &Path, id: &str, record: &Record) -> Result<(), InventoryError> {
    let path = state_dir.join(format!("{id}.json"));
    let draft = state_dir.join(format!("{id}.json.new"));
    let write = || -> io::Result<()> {
        let mut file = File::create(&draft)?;
        file.write_all(&serde_json::to_vec_pretty(record)?)?;
        file.sync_all()?;
        fs::rename(&draft, &path)?;
        File::open(state_dir)?.sync_all()
    };
    write().map_err(io_error(&path))
}

fn load(state_dir: &Path, id: &str) -> Result<Option<Record>, InventoryError> {
    let path = state_dir.join(format!("{id}.json"));
    let read = || -> io::Result<Record> {
        if fs::metadata(&path)?.len() > MAX_FILE {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "too large for an inventory; remove it by hand",
            ));
        }
        Ok(serde_json::from_slice(&fs::read(&path)?)?)
    };
    match read() {
        Ok(record) => Ok(Some(record)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(&path)(error)),
    }
}

/// Whether the open file is the one of this name (and not one that was removed or replaced).
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => (a.dev(), a.ino()) == (b.dev(), b.ino()),
        _ => false,
    }
}

fn boot_id() -> Result<String, InventoryError> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    Ok(text.trim().to_owned())
}

/// When this process started, in clock ticks since boot: field 22 of proc_pid_stat(5).
fn start_time() -> Result<u64, InventoryError> {
    let path = Path::new("/proc/self/stat");
    let text = fs::read_to_string(path).map_err(io_error(path))?;
    // The second field, the program's name in brackets, may itself have spaces and brackets.
    let after_name = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field = after_name.split_ascii_whitespace().nth(19);
    field.and_then(|f| f.parse().ok()).ok_or_else(|| {
        let unreadable = io::Error::new(io::ErrorKind::InvalidData, "no start time in it");
        io_error(path)(unreadable)
    })
}

#[cfg(test)]
#[path = "inventory_tests.rs"]
mod tests;
