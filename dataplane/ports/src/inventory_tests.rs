//! The book-keeping, with directories of its own and a stand-in for `ip`; the real thing is in
//! `tests/privileged.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "tests")]

use super::*;
use std::os::unix::fs::PermissionsExt;

/// A state directory, places, and an `ip` whose namespaces are files of length 3.
struct World {
    dir: tempfile::TempDir,
}

const FAKE_IP: &str = r#"#!/bin/sh
echo "$@" >> DIR/calls
case "$1 $2" in
  "netns add") printf xyz > DIR/netns/$3 ;;
  "netns delete") test ! -e DIR/stuck || { echo "Device or resource busy" >&2; exit 1; }
     rm DIR/netns/$3 ;;
esac
"#;

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("netns")).unwrap();
        let script = FAKE_IP.replace("DIR", dir.path().to_str().unwrap());
        let path = dir.path().join("ip");
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        World { dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ip(&self) -> Ip {
        Ip::at(self.path("ip"))
    }

    fn places(&self) -> Places {
        Places { netns: self.path("netns"), etc: self.path("etc") }
    }

    fn open(&self) -> Inventory {
        Inventory::open_at(&self.path("state"), self.ip(), self.places()).unwrap()
    }

    fn sweep(&self) -> Sweep {
        Inventory::sweep_at(&self.path("state"), Some(&self.ip()), &self.places()).unwrap()
    }

    fn state_files(&self) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.path("state")).unwrap();
        entries.map(|e| e.unwrap().path()).collect()
    }
}

/// As if the process were killed: the lock is released, nothing else happens.
fn kill(mut inventory: Inventory) -> String {
    inventory.torn_down = true;
    let (id, state_dir) = (inventory.id.clone(), inventory.state_dir.clone());
    drop(inventory);
    wait_unlocked(&state_dir, &id);
    id
}

/// Another test's thread may be starting a program: its child has a copy of the lock's descriptor until
/// it runs the program.
fn wait_unlocked(state_dir: &Path, id: &str) {
    let lock = File::open(state_dir.join(format!("{id}.lock"))).unwrap();
    lock.lock().unwrap();
}

fn name(text: &str) -> NetnsName {
    NetnsName::new(text).unwrap()
}

#[test]
fn teardown_removes_in_reverse_and_leaves_no_file() {
    let world = World::new();
    let mut inventory = world.open();
    inventory.create_netns(&name("a")).unwrap();
    inventory.create_resolver(&name("a"), &Resolver::default()).unwrap();
    inventory.create_netns(&name("b")).unwrap();
    let sweep = inventory.teardown();
    let expected = ["network namespace 'b'", "/etc/netns/a", "network namespace 'a'"];
    assert_eq!(sweep.removed, expected);
    assert_eq!((sweep.kept.len(), sweep.failed.len()), (0, 0));
    assert_eq!(world.state_files(), Vec::<PathBuf>::new());
    assert!(!world.path("netns/a").exists() && !world.path("etc/a").exists());
}

#[test]
fn dropping_tears_down_too() {
    let world = World::new();
    world.open().create_netns(&name("a")).unwrap();
    assert!(!world.path("netns/a").exists());
}

#[test]
fn a_dead_labs_things_are_swept_and_a_living_labs_are_not() {
    let world = World::new();
    let (mut dead, mut living) = (world.open(), world.open());
    dead.create_netns(&name("dead")).unwrap();
    dead.create_resolver(&name("dead"), &Resolver::default()).unwrap();
    living.create_netns(&name("living")).unwrap();
    kill(dead);
    let sweep = world.sweep();
    assert_eq!(sweep.removed, ["/etc/netns/dead", "network namespace 'dead'"]);
    assert_eq!(sweep.running, [living.id.clone()]);
    assert!(!world.path("netns/dead").exists());
    assert!(world.path("netns/living").exists());
    let again = world.sweep();
    assert_eq!(again.removed, Vec::<String>::new());
    drop(living);
    assert_eq!(world.state_files(), Vec::<PathBuf>::new());
}

#[test]
fn the_announcement_is_on_disk_before_the_thing_is_made() {
    let world = World::new();
    let mut inventory = world.open();
    // This `ip` copies the inventory away at the moment it is asked to create.
    let state = world.path("state").display().to_string();
    let copy = world.path("copy").display().to_string();
    fs::write(world.path("ip"), format!("#!/bin/sh\ncat {state}/*.json > {copy}\n")).unwrap();
    let _ = inventory.create_netns(&name("a"));
    let then: Record = serde_json::from_slice(&fs::read(world.path("copy")).unwrap()).unwrap();
    let announced = Item::Netns { name: name("a"), identity: None };
    assert_eq!(then.items, [announced]);
}

#[test]
fn somebody_elses_namespace_is_neither_taken_nor_removed() {
    let world = World::new();
    fs::write(world.path("netns/theirs"), "theirs").unwrap();
    let mut inventory = world.open();
    let error = inventory.create_netns(&name("theirs")).unwrap_err();
    assert!(matches!(error, InventoryError::NetnsTaken(_)), "{error}");
    inventory.create_netns(&name("mine")).unwrap();
    // Removed and made anew by somebody else while the lab ran. Both exist at once for a moment, so
    // that the new one has another inode.
    fs::write(world.path("netns/new"), "theirs").unwrap();
    fs::rename(world.path("netns/new"), world.path("netns/mine")).unwrap();
    let sweep = inventory.teardown();
    assert_eq!(sweep.kept, ["network namespace 'mine'"]);
    assert_eq!(fs::read_to_string(world.path("netns/mine")).unwrap(), "theirs");
    assert_eq!(fs::read_to_string(world.path("netns/theirs")).unwrap(), "theirs");
}

#[test]
fn killed_between_announcement_and_creation() {
    let world = World::new();
    let mut inventory = world.open();
    for text in ["half", "used", "never"] {
        let item = Item::Netns { name: name(text), identity: None };
        inventory.announce(item).unwrap();
    }
    kill(inventory);
    // `ip netns add` leaves an empty file if it dies before mounting.
    fs::write(world.path("netns/half"), "").unwrap();
    fs::write(world.path("netns/used"), "somebody's").unwrap();
    let sweep = world.sweep();
    assert_eq!(sweep.removed, ["network namespace 'half'"]);
    assert_eq!(sweep.kept, ["network namespace 'used'"]);
    assert_eq!(world.state_files(), Vec::<PathBuf>::new());
}

#[test]
fn what_cannot_be_removed_stays_written_down_until_it_can() {
    let world = World::new();
    let mut inventory = world.open();
    inventory.create_netns(&name("a")).unwrap();
    inventory.create_resolver(&name("a"), &Resolver::default()).unwrap();
    fs::write(world.path("stuck"), "").unwrap();
    let id = inventory.id.clone();
    let sweep = inventory.teardown();
    wait_unlocked(&world.path("state"), &id);
    assert_eq!(sweep.removed, ["/etc/netns/a"]);
    let failed = sweep.failed.first().unwrap();
    assert!(failed.contains("network namespace 'a'") && failed.contains("busy"), "{failed}");
    fs::remove_file(world.path("stuck")).unwrap();
    assert_eq!(world.sweep().removed, ["network namespace 'a'"]);
    assert_eq!(world.state_files(), Vec::<PathBuf>::new());
}

#[test]
fn after_a_reboot_only_files_are_removed() {
    let world = World::new();
    let mut inventory = world.open();
    inventory.create_netns(&name("a")).unwrap();
    inventory.create_resolver(&name("a"), &Resolver::default()).unwrap();
    inventory.record.boot = "an earlier one".into();
    inventory.save().unwrap();
    kill(inventory);
    assert_eq!(world.sweep().removed, ["/etc/netns/a"]);
    assert!(world.path("netns/a").exists(), "of this boot, so not ours");
}

#[test]
fn damaged_inventories_are_told_and_remove_nothing() {
    let world = World::new();
    let hostile = r#"{"boot":"x","pid":1,"items":[{"kind":"resolver","name":"../../etc"}]}"#;
    for text in ["", "{", hostile, r#"{"boot":"x","pid":1,"items":[{"kind":"disk"}]}"#] {
        let id = kill(world.open());
        fs::write(world.path("state").join(format!("{id}.json")), text).unwrap();
        let sweep = world.sweep();
        assert_eq!(sweep.failed.len(), 1, "{text}");
        assert!(sweep.failed.concat().contains(&id), "{:?}", sweep.failed);
        fs::remove_dir_all(world.path("state")).unwrap();
    }
}

#[test]
fn a_lab_killed_before_its_first_record_leaves_nothing() {
    let world = World::new();
    fs::create_dir(world.path("state")).unwrap();
    fs::write(world.path("state/1-2-3.lock"), "").unwrap();
    assert_eq!(world.sweep(), Sweep::default());
    assert_eq!(world.state_files(), Vec::<PathBuf>::new());
}

#[test]
fn no_state_directory_is_an_empty_one_and_an_unwritable_one_an_error() {
    let world = World::new();
    assert_eq!(world.sweep(), Sweep::default());
    let error = Inventory::open_at(Path::new("/proc/tierlab"), world.ip(), world.places());
    let error = error.unwrap_err();
    assert!(error.is_environment() && error.to_string().contains("/proc/tierlab"), "{error}");
}

#[test]
fn a_taken_or_impossible_resolver_leaves_no_trace() {
    let world = World::new();
    fs::create_dir_all(world.path("etc/theirs")).unwrap();
    let mut inventory = world.open();
    let error = inventory.create_resolver(&name("theirs"), &Resolver::default()).unwrap_err();
    assert!(matches!(error, InventoryError::ResolverTaken(_)), "{error}");
    let bad = Resolver { search: vec!["a b".into()], ..Resolver::default() };
    let error = inventory.create_resolver(&name("mine"), &bad).unwrap_err();
    assert!(!error.is_environment() && error.to_string().contains("a b"), "{error}");
    assert_eq!(inventory.record.items, []);
    let _ = inventory.teardown();
    assert!(world.path("etc/theirs").exists());
}

#[test]
fn a_sweep_waits_for_what_a_dead_lab_had_started() {
    let world = World::new();
    fs::create_dir(world.path("state")).unwrap();
    // No process has the number 4194305, one above the kernel's limit.
    let lock = File::create(world.path("state/4194305-1-0.lock")).unwrap();
    lock.try_lock().unwrap();
    let orphan = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        drop(lock);
    });
    assert_eq!(world.sweep(), Sweep::default());
    assert_eq!(world.state_files(), Vec::<PathBuf>::new());
    orphan.join().unwrap();
}
