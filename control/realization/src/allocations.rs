//! What was given to whom, kept over restarts of a running lab (`.tierlab/allocations.yaml`).
//!
//! The file is a convenience, never an authority: whatever in it no longer fits the definitions (another pool,
//! an object that is gone, the same address twice) is passed over, so that a damaged or hostile file can
//! cost kept addresses and nothing else.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};

use ipnet::{Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

/// Version of the file's format.
const VERSION: u32 = 1;

/// The largest file that is read, octets: ten thousand pods take about two million.
const MAX_FILE: u64 = 64 << 20;

/// What every object holds, by the object's key. Keys that begin with `@` are not objects of the user's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocations {
    /// Version of the format.
    version: u32,
    /// Blocks of the pod CIDR by `NAMESPACE/INDEX`; `@control-plane/0` is the control plane's.
    #[serde(default)]
    pub(crate) blocks: BTreeMap<String, Ipv4Net>,
    /// The IPv6 networks of these blocks.
    #[serde(default)]
    pub(crate) blocks_v6: BTreeMap<String, Ipv6Net>,
    /// Addresses of pods by `NAMESPACE/NAME`, of control-plane VMs by `@control-plane/NAME`.
    #[serde(default)]
    pub(crate) pods: BTreeMap<String, Ipv4Addr>,
    /// Their IPv6 addresses.
    #[serde(default)]
    pub(crate) pods_v6: BTreeMap<String, Ipv6Addr>,
    /// Hosts that pods were placed on, by `NAMESPACE/NAME`.
    #[serde(default)]
    pub(crate) placements: BTreeMap<String, String>,
    /// MAC addresses by port name or `TIER0:UPLINK`.
    #[serde(default)]
    pub(crate) macs: BTreeMap<String, String>,
    /// Egress addresses by namespace; `@system` is what system namespaces share.
    #[serde(default)]
    pub(crate) snat: BTreeMap<String, Ipv4Addr>,
    /// Addresses from SNAT pools by `NAMESPACE/NAME` of the Service.
    #[serde(default)]
    pub(crate) service_snat: BTreeMap<String, Ipv4Addr>,
    /// ClusterIPs by `NAMESPACE/NAME` of the Service.
    #[serde(default)]
    pub(crate) cluster_ips: BTreeMap<String, Ipv4Addr>,
    /// Addresses outside by `NAMESPACE/NAME` of the Service.
    #[serde(default)]
    pub(crate) vips: BTreeMap<String, Ipv4Addr>,
    /// Links between tiers by router name: the even address of the /31.
    #[serde(default)]
    pub(crate) transit: BTreeMap<String, Ipv4Addr>,
    /// Numbers of firewall rules by the rule's name.
    #[serde(default)]
    pub(crate) firewall_rules: BTreeMap<String, u32>,
    /// The highest number that a firewall rule ever had; 0: none had one.
    #[serde(default)]
    pub(crate) last_firewall_rule: u32,
    /// Numbers of gateway firewall rules by `ROUTER NAME`.
    #[serde(default)]
    pub(crate) gateway_rules: BTreeMap<String, u32>,
    /// Numbers of NAT rules by the rule's name; of a Tier-0's by `ROUTER NAME`.
    #[serde(default)]
    pub(crate) nat_rules: BTreeMap<String, u32>,
    /// Indices of ports by name.
    #[serde(default)]
    pub(crate) ports: BTreeMap<String, u32>,
    /// Indices of segments by name.
    #[serde(default)]
    pub(crate) segments: BTreeMap<String, u32>,
    /// Indices of routers by name.
    #[serde(default)]
    pub(crate) routers: BTreeMap<String, u32>,
    /// Indices of router interfaces by `ROUTER INTERFACE`.
    #[serde(default)]
    pub(crate) interfaces: BTreeMap<String, u32>,
}

impl Default for Allocations {
    /// Nothing is kept.
    fn default() -> Allocations {
        Allocations {
            version: VERSION,
            blocks: BTreeMap::new(),
            blocks_v6: BTreeMap::new(),
            pods: BTreeMap::new(),
            pods_v6: BTreeMap::new(),
            placements: BTreeMap::new(),
            macs: BTreeMap::new(),
            snat: BTreeMap::new(),
            service_snat: BTreeMap::new(),
            cluster_ips: BTreeMap::new(),
            vips: BTreeMap::new(),
            transit: BTreeMap::new(),
            firewall_rules: BTreeMap::new(),
            last_firewall_rule: 0,
            gateway_rules: BTreeMap::new(),
            nat_rules: BTreeMap::new(),
            ports: BTreeMap::new(),
            segments: BTreeMap::new(),
            routers: BTreeMap::new(),
            interfaces: BTreeMap::new(),
        }
    }
}

/// Why allocations could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum AllocationsError {
    /// The file system refused.
    #[error("{path}: {source}; the allocations of a running lab are kept there", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: std::io::Error,
    },
    /// The file is not what [`Allocations::save`] writes.
    #[error("{path}: not a file of allocations: {message}; remove it to allocate afresh", path = path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl Allocations {
    /// Reads a file; one that does not exist keeps nothing.
    ///
    /// # Errors
    /// The file cannot be read, is larger than 64 MiB, is not a file of allocations, or is of another version.
    pub fn load(path: &Path) -> Result<Allocations, AllocationsError> {
        let io = |source| AllocationsError::Io { path: path.to_owned(), source };
        let format = |message: String| AllocationsError::Format { path: path.to_owned(), message };
        match std::fs::metadata(path) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Allocations::default()),
            Err(e) => return Err(io(e)),
            Ok(meta) if meta.len() > MAX_FILE => {
                return Err(format(format!("{} octets, at most {MAX_FILE} are read", meta.len())));
            }
            Ok(_) => {}
        }
        let text = std::fs::read_to_string(path).map_err(io)?;
        let read: Allocations = serde_saphyr::from_str(&text).map_err(|e| format(e.to_string()))?;
        if read.version != VERSION {
            return Err(format(format!("version {}, this program writes {VERSION}", read.version)));
        }
        Ok(read)
    }

    /// Writes a file so that at every moment the old one or the new one is there, whole.
    ///
    /// # Errors
    /// The directory cannot be made or the file not written.
    pub fn save(&self, path: &Path) -> Result<(), AllocationsError> {
        let io = |source| AllocationsError::Io { path: path.to_owned(), source };
        let text = serde_saphyr::to_string(self).map_err(|e| AllocationsError::Format {
            path: path.to_owned(),
            message: e.to_string(),
        })?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        std::fs::create_dir_all(directory).map_err(io)?;
        let mut file = tempfile::NamedTempFile::new_in(directory).map_err(io)?;
        file.write_all(text.as_bytes()).map_err(io)?;
        file.as_file().sync_all().map_err(io)?;
        file.persist(path).map_err(|e| io(e.error))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]
    use super::*;

    fn sample() -> Allocations {
        let mut a = Allocations::default();
        a.blocks.insert("banking/0".into(), "10.244.0.16/28".parse().unwrap());
        a.pods.insert("banking/web".into(), "10.244.0.18".parse().unwrap());
        a.macs.insert("pod/banking/web".into(), "04:50:56:00:d0:03".into());
        a.ports.insert("pod/banking/web".into(), 3);
        a.interfaces.insert("tier1/sup seg-banking-0".into(), 2);
        a
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/allocations.yaml");
        assert_eq!(Allocations::load(&path).unwrap(), Allocations::default());
        sample().save(&path).unwrap();
        assert_eq!(Allocations::load(&path).unwrap(), sample());
        sample().save(&path).unwrap();
        // Nothing but the file itself is left behind.
        assert_eq!(std::fs::read_dir(dir.path().join("deep")).unwrap().count(), 1);
    }

    #[test]
    fn what_is_no_file_of_allocations_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        for text in [
            "version: 2\n",
            "version: 1\npodz: {}\n",
            "[",
            "version: 1\npods: {a/b: not-an-address}\n",
            "",
        ] {
            std::fs::write(&path, text).unwrap();
            let error = Allocations::load(&path).unwrap_err().to_string();
            assert!(error.contains("remove it to allocate afresh"), "{text:?}: {error}");
        }
        assert!(Allocations::load(dir.path()).is_err());
    }
}
