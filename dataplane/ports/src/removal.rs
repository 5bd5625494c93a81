//! What a lab makes outside its own process, and how each thing is taken away again without ever
//! touching somebody else's of the same name.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::ip::{Ip, IpError};
use crate::netns::{NETNS_DIR, NetnsName};
use crate::resolver;

/// Where things are made; tests use directories of their own.
#[derive(Clone, Debug)]
pub(crate) struct Places {
    pub netns: PathBuf,
    pub etc: PathBuf,
}

impl Default for Places {
    fn default() -> Places {
        Places { netns: NETNS_DIR.into(), etc: resolver::ETC_DIR.into() }
    }
}

/// Which file of the kernel's namespace file system a name stood for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub device: u64,
    pub inode: u64,
}

/// One thing. TAPs are not among them: the kernel removes a TAP with its last descriptor, wherever
/// it was moved, so a TAP that still exists when its lab is dead is somebody else's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub(crate) enum Item {
    /// A network namespace. Without identity: about to be created when this was written.
    Netns { name: NetnsName, identity: Option<Identity> },
    /// The directory of a namespace's resolver configuration.
    Resolver { name: NetnsName },
}

impl Item {
    /// For people.
    pub(crate) fn describe(&self) -> String {
        match self {
            Item::Netns { name, .. } => format!("network namespace '{name}'"),
            Item::Resolver { name } => format!("{}/{name}", resolver::ETC_DIR),
        }
    }
}

/// What became of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    Removed,
    /// It was not there.
    Absent,
    /// What is there was not made by this lab, or is used by others by now.
    Foreign,
}

/// The system, or `ip`, refused a removal.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RemovalError {
    #[error(transparent)]
    Ip(#[from] IpError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// The identity of the namespace of this name, if there is one.
pub(crate) fn identity(places: &Places, name: &NetnsName) -> io::Result<Option<Identity>> {
    match fs::symlink_metadata(places.netns.join(name.as_str())) {
        Ok(meta) => Ok(Some(Identity { device: meta.dev(), inode: meta.ino() })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes `item` of the lab `owner`. `same_boot`: the machine has not been restarted since the item
/// was written down; namespaces do not outlive that, files do.
pub(crate) fn remove(
    places: &Places,
    ip: Option<&Ip>,
    item: &Item,
    owner: &str,
    same_boot: bool,
) -> Result<Removal, RemovalError> {
    match item {
        Item::Netns { .. } if !same_boot => Ok(Removal::Absent),
        Item::Netns { name, identity: was } => {
            let Some(is) = identity(places, name)? else {
                return Ok(Removal::Absent);
            };
            let ip = ip.ok_or(IpError::Missing)?;
            let ours = match was {
                Some(was) => *was == is,
                None => is_untouched(places, ip, name, is)?,
            };
            if !ours {
                return Ok(Removal::Foreign);
            }
            ip.run(&["netns", "delete", name.as_str()])?;
            Ok(Removal::Removed)
        }
        Item::Resolver { name } => {
            let absent = !resolver::directory(&places.etc, name).exists();
            match resolver::remove(&places.etc, name, owner)? {
                resolver::Found::Removed if absent => Ok(Removal::Absent),
                resolver::Found::Removed => Ok(Removal::Removed),
                resolver::Found::Foreign => Ok(Removal::Foreign),
            }
        }
    }
}

/// The lab died between announcing this namespace and seeing it made. The name was free then. It is
/// taken as ours only if nobody can miss it: a mere file that `ip netns add` left before mounting, or
/// a namespace with no process and no interface but the loopback one.
fn is_untouched(
    places: &Places,
    ip: &Ip,
    name: &NetnsName,
    is: Identity,
) -> Result<bool, RemovalError> {
    let directory = fs::metadata(&places.netns)?;
    if is.device == directory.dev() {
        let mark = fs::metadata(Path::new(&places.netns).join(name.as_str()))?;
        return Ok(mark.is_file() && mark.len() == 0);
    }
    let links = ip.run(&["-n", name.as_str(), "-o", "link", "show"])?;
    let processes = ip.run(&["netns", "pids", name.as_str()])?;
    Ok(links.lines().count() <= 1 && processes.trim().is_empty())
}
