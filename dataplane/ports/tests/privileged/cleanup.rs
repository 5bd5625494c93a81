//! What is left when a lab ends, or is killed.

use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use ports::{Inventory, Ip, NetnsName, Resolver, Tap, TapOptions};

use crate::lab::{ADDRESS, Lab, MAC, PATIENCE, config, eventually, privileged, unique};

/// Tells the helper which directory to use and which name.
const STATE: &str = "TIERLAB_TEST_STATE";
const NAME: &str = "TIERLAB_TEST_NAME";

fn interface_exists(ip: &Ip, netns: Option<&str>, name: &str) -> bool {
    let prefix: Vec<&str> = netns.map_or(vec![], |netns| vec!["-n", netns]);
    let show = ["link", "show", "dev", name];
    ip.run(&[&prefix[..], &show].concat()).is_ok()
}

fn netns_exists(name: &str) -> bool {
    Path::new("/run/netns").join(name).exists()
}

#[test]
fn a_tap_lives_as_long_as_its_descriptor_also_when_moved() {
    if !privileged("a_tap_lives_as_long_as_its_descriptor_also_when_moved") {
        return;
    }
    let mut lab = Lab::new();
    let (netns, tap) = lab.machine('l', TapOptions::default(), &config(ADDRESS, MAC));
    let name = netns.name().as_str();
    assert!(interface_exists(&lab.ip, Some(name), "eth0"));
    assert!(!interface_exists(&lab.ip, None, tap.name()), "moved away");
    drop(tap);
    eventually(|| !interface_exists(&lab.ip, Some(name), "eth0"));
    assert!(netns_exists(name));
}

#[test]
fn teardown_leaves_nothing() {
    if !privileged("teardown_leaves_nothing") {
        return;
    }
    let mut lab = Lab::new();
    let (netns, _tap) = lab.machine('o', TapOptions::default(), &config(ADDRESS, MAC));
    let name = netns.name().clone();
    lab.inventory.create_resolver(&name, &Resolver::default()).unwrap();
    assert!(netns_exists(name.as_str()));
    let sweep = lab.inventory.teardown();
    assert_eq!((sweep.removed.len(), sweep.failed.len()), (2, 0), "{sweep:?}");
    assert!(!netns_exists(name.as_str()));
    assert!(!Path::new("/etc/netns").join(name.as_str()).exists());
    assert_eq!(std::fs::read_dir(&lab.state).unwrap().count(), 0);
}

/// A lab that does nothing but exist until it is killed.
#[test]
#[ignore = "a helper process of the tests below"]
fn helper_lab() {
    let (state, name) = (std::env::var(STATE).unwrap(), std::env::var(NAME).unwrap());
    let mut inventory = Inventory::open(Path::new(&state)).unwrap();
    let ip = inventory.ip().clone();
    let netns_name = NetnsName::new(&name).unwrap();
    let netns = inventory.create_netns(&netns_name).unwrap();
    inventory.create_resolver(&netns_name, &Resolver::default()).unwrap();
    // One moved, one not.
    let moved = Tap::create(Some(&name), TapOptions::default()).unwrap();
    netns.attach(&ip, moved.name(), &config(ADDRESS, MAC)).unwrap();
    let _here = Tap::create(Some(&name), TapOptions::default()).unwrap();
    std::fs::write(Path::new(&state).join("ready"), "").unwrap();
    // Should nobody kill it.
    std::thread::sleep(3 * PATIENCE);
}

/// Kills the helper even if the test fails.
struct Helper(Child);

impl Helper {
    fn start(state: &Path, name: &str) -> Helper {
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "cleanup::helper_lab", "--ignored"])
            .env(STATE, state)
            .env(NAME, name)
            .spawn()
            .unwrap();
        Helper(child)
    }

    fn wait_ready(&mut self, state: &Path) {
        let deadline = Instant::now() + PATIENCE;
        while !state.join("ready").exists() {
            assert!(Instant::now() < deadline, "the helper does not get ready");
            assert!(self.0.try_wait().unwrap().is_none(), "the helper failed");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Helper {
    /// `SIGKILL`.
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Removes what a killed helper left even if the test fails.
struct SweepAtEnd<'a>(&'a Path);

impl Drop for SweepAtEnd<'_> {
    fn drop(&mut self) {
        let _ = Inventory::sweep(self.0);
    }
}

#[test]
fn after_kill_9_the_next_start_cleans_up() {
    if !privileged("after_kill_9_the_next_start_cleans_up") {
        return;
    }
    let ip = Ip::find().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let name = unique('k');
    let _end = SweepAtEnd(dir.path());
    let mut helper = Helper::start(dir.path(), &name);
    helper.wait_ready(dir.path());

    // A sweep, as of a second lab that starts, does not touch the first.
    let sweep = Inventory::sweep(dir.path()).unwrap();
    assert_eq!((sweep.removed.len(), sweep.running.len()), (0, 1), "{sweep:?}");
    assert!(netns_exists(&name) && interface_exists(&ip, Some(&name), "eth0"));
    assert!(interface_exists(&ip, None, &name));

    drop(helper);
    // The kernel has taken both TAPs with the process.
    assert!(!interface_exists(&ip, None, &name));
    assert!(!interface_exists(&ip, Some(&name), "eth0"));
    assert!(netns_exists(&name), "a namespace outlives its process");
    let sweep = Inventory::sweep(dir.path()).unwrap();
    let expected = [format!("/etc/netns/{name}"), format!("network namespace '{name}'")];
    assert_eq!(sweep.removed, expected);
    assert_eq!((sweep.kept.len(), sweep.failed.len()), (0, 0), "{sweep:?}");
    assert!(!netns_exists(&name) && !Path::new("/etc/netns").join(&name).exists());
}

#[test]
fn killed_at_any_moment_of_its_start_nothing_is_left() {
    if !privileged("killed_at_any_moment_of_its_start_nothing_is_left") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let name = unique('m');
    for round in 0..25u64 {
        let state = dir.path().join(round.to_string());
        std::fs::create_dir(&state).unwrap();
        let _end = SweepAtEnd(&state);
        let helper = Helper::start(&state, &name);
        // From before its first line to after it is ready.
        std::thread::sleep(Duration::from_millis(2 * round));
        drop(helper);
        let sweep = Inventory::sweep(&state).unwrap();
        assert!(sweep.failed.is_empty() && sweep.kept.is_empty(), "round {round}: {sweep:?}");
        assert!(!netns_exists(&name), "round {round}: {sweep:?}");
        assert!(!Path::new("/etc/netns").join(&name).exists(), "round {round}");
        let ready = usize::from(state.join("ready").exists());
        assert_eq!(std::fs::read_dir(&state).unwrap().count(), ready, "round {round}");
    }
}
