//! The resolver configuration of a namespace: `/etc/netns/NAME/resolv.conf`, which `ip netns exec`
//! mounts over `/etc/resolv.conf` (ip-netns(8), resolv.conf(5)).
//!
//! The file begins with a line that names the lab it was made for; only a file with that line is ever
//! removed.

use std::fmt::Write as _;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::netns::NetnsName;

/// Where `ip netns exec` looks.
pub(crate) const ETC_DIR: &str = "/etc/netns";

const FILE: &str = "resolv.conf";

/// What a machine's resolver is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolver {
    /// Servers, asked in this order; the C library takes the first three.
    pub nameservers: Vec<IpAddr>,
    /// Domains tried behind a name that is not absolute.
    pub search: Vec<String>,
    /// Options, for instance `ndots:5`.
    pub options: Vec<String>,
}

/// A word that cannot stand in the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot be a search domain or resolver option: one printable word without spaces, please"
)]
pub struct ResolverError(String);

impl Resolver {
    /// The file, beginning with the owner's line.
    fn render(&self, owner: &str) -> Result<String, ResolverError> {
        let words = self.search.iter().chain(&self.options);
        for word in words {
            if word.is_empty() || !word.bytes().all(|b| b.is_ascii_graphic()) {
                return Err(ResolverError(word.clone()));
            }
        }
        let mut text = marker(owner);
        if !self.search.is_empty() {
            let _ = writeln!(text, "search {}", self.search.join(" "));
        }
        for server in &self.nameservers {
            let _ = writeln!(text, "nameserver {server}");
        }
        if !self.options.is_empty() {
            let _ = writeln!(text, "options {}", self.options.join(" "));
        }
        Ok(text)
    }

    /// Writes the file into a new directory of `etc` for the namespace.
    ///
    /// # Errors
    /// `InvalidInput` for words that cannot be written; `AlreadyExists` if the directory is there.
    pub(crate) fn write(&self, etc: &Path, name: &NetnsName, owner: &str) -> io::Result<()> {
        let text =
            self.render(owner).map_err(|e| io::Error::new(io::ErrorKind::InvalidInput, e))?;
        fs::create_dir_all(etc)?;
        let directory = directory(etc, name);
        fs::create_dir(&directory)?;
        // Renamed into place, so that a file without its first line never exists.
        let draft = directory.join(draft_name(owner));
        fs::write(&draft, text)?;
        fs::rename(&draft, directory.join(FILE))
    }
}

fn marker(owner: &str) -> String {
    format!("# made by tierlab for lab {owner}, removed when it ends\n")
}

fn draft_name(owner: &str) -> String {
    format!(".{FILE}.{owner}")
}

/// The namespace's directory.
pub(crate) fn directory(etc: &Path, name: &NetnsName) -> PathBuf {
    etc.join(name.as_str())
}

/// What [`remove`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Ours; removed, or nothing was there.
    Removed,
    /// Somebody else's file or further files: left alone.
    Foreign,
}

/// Removes what [`Resolver::write`] made for `owner`, complete or not, and nothing else.
pub(crate) fn remove(etc: &Path, name: &NetnsName, owner: &str) -> io::Result<Found> {
    let directory = directory(etc, name);
    let absent = |error: io::Error| match error.kind() {
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    };
    fs::remove_file(directory.join(draft_name(owner))).or_else(absent)?;
    let file = directory.join(FILE);
    match fs::read(&file) {
        Ok(text) if text.starts_with(marker(owner).as_bytes()) => fs::remove_file(&file)?,
        Ok(_) => return Ok(Found::Foreign),
        Err(error) => absent(error)?,
    }
    match fs::remove_dir(&directory) {
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(Found::Foreign),
        other => other.or_else(absent).map(|()| Found::Removed),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn name() -> NetnsName {
        NetnsName::new("web").unwrap()
    }

    fn kubernetes() -> Resolver {
        Resolver {
            nameservers: vec!["10.96.0.254".parse().unwrap()],
            search: vec!["a.svc.cluster.local".into(), "svc.cluster.local".into()],
            options: vec!["ndots:5".into()],
        }
    }

    #[test]
    fn the_file_is_what_resolv_conf_says() {
        let etc = tempfile::tempdir().unwrap();
        kubernetes().write(etc.path(), &name(), "1-2-3").unwrap();
        let text = fs::read_to_string(etc.path().join("web/resolv.conf")).unwrap();
        assert_eq!(
            text,
            "# made by tierlab for lab 1-2-3, removed when it ends\n\
             search a.svc.cluster.local svc.cluster.local\n\
             nameserver 10.96.0.254\n\
             options ndots:5\n"
        );
        assert_eq!(remove(etc.path(), &name(), "1-2-3").unwrap(), Found::Removed);
        assert!(!etc.path().join("web").exists());
        assert_eq!(remove(etc.path(), &name(), "1-2-3").unwrap(), Found::Removed);
    }

    #[test]
    fn words_cannot_bring_lines_of_their_own() {
        let etc = tempfile::tempdir().unwrap();
        for word in ["a\nnameserver 6.6.6.6", "", "a b", "ü"] {
            let mut resolver = kubernetes();
            resolver.search.push(word.into());
            let error = resolver.write(etc.path(), &name(), "1").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        }
        assert!(!etc.path().join("web").exists());
    }

    #[test]
    fn what_is_not_ours_stays() {
        let etc = tempfile::tempdir().unwrap();
        let directory = etc.path().join("web");
        fs::create_dir(&directory).unwrap();
        let error = kubernetes().write(etc.path(), &name(), "1").unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);

        let file = directory.join(FILE);
        for foreign in ["nameserver 1.1.1.1\n".to_owned(), marker("2"), marker("11")] {
            fs::write(&file, &foreign).unwrap();
            assert_eq!(remove(etc.path(), &name(), "1").unwrap(), Found::Foreign);
            assert_eq!(fs::read_to_string(&file).unwrap(), foreign);
        }
        // Our file goes, a user's file beside it and with it the directory stay.
        fs::write(&file, marker("1")).unwrap();
        fs::write(directory.join("hosts"), "").unwrap();
        assert_eq!(remove(etc.path(), &name(), "1").unwrap(), Found::Foreign);
        assert!(!file.exists() && directory.join("hosts").exists());
    }

    #[test]
    fn a_write_that_was_killed_halfway_is_cleaned_up() {
        let etc = tempfile::tempdir().unwrap();
        let directory = etc.path().join("web");
        fs::create_dir(&directory).unwrap();
        assert_eq!(remove(etc.path(), &name(), "1").unwrap(), Found::Removed);
        fs::create_dir(&directory).unwrap();
        fs::write(directory.join(draft_name("1")), "# made").unwrap();
        assert_eq!(remove(etc.path(), &name(), "1").unwrap(), Found::Removed);
        assert!(!directory.exists());
    }
}
