//! Guest clusters (`TanzuKubernetesCluster`): what is understood of them before they are emulated.

use std::fmt;
use std::str::FromStr;

use crate::model::Meta;

/// A guest cluster: counted and its version read, otherwise skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuestCluster {
    /// Name, namespace, place.
    pub meta: Meta,
    /// `spec.distribution`: the version of Kubernetes on its nodes.
    pub version: DistributionVersion,
}

/// The version of a Tanzu Kubernetes release: `v1.17.8+vmware.1-tkg.1.5417466`, or a prefix of its numbers (`v1.17`) that
/// stands for the newest release that begins with it.
///
/// A content library cannot have `+` in a name. It writes `---` in its place, after a name of the image:
/// `ob-16551547-photon-3-k8s-v1.17.8---vmware.1-tkg.1.5417466`. Both spellings are read; the one with `+` is kept and shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DistributionVersion(String);

impl DistributionVersion {
    /// The version with `+`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DistributionVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for DistributionVersion {
    type Err = String;

    fn from_str(text: &str) -> Result<DistributionVersion, String> {
        let fail = || {
            format!(
                "'{}' is not the version of a Tanzu Kubernetes release; write for instance v1.17.8+vmware.1-tkg.1.5417466 or v1.17",
                crate::node::excerpt(text)
            )
        };
        let version = text.get(version_start(text).ok_or_else(fail)?..).unwrap_or_default();
        let (numbers, build) = match version.split_once("---").or_else(|| version.split_once('+')) {
            Some((numbers, build)) => (numbers, Some(build)),
            None => (version, None),
        };
        let parts: Vec<&str> = numbers.trim_start_matches('v').split('.').collect();
        let is_number =
            |part: &&str| (1..=9).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
        // What a build is added to is one release, and so has all three numbers.
        let enough = if build.is_some() { 3..=3 } else { 2..=3 };
        if !enough.contains(&parts.len()) || !parts.iter().all(is_number) {
            return Err(fail());
        }
        match build {
            None => Ok(DistributionVersion(numbers.to_owned())),
            Some(build) if is_build(build) => Ok(DistributionVersion(format!("{numbers}+{build}"))),
            Some(_) => Err(fail()),
        }
    }
}

/// Where the version begins: at the start, or after the `-` behind the image's name.
fn version_start(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes.windows(2).enumerate().find_map(|(at, pair)| {
        let begins = at == 0 || bytes.get(at - 1) == Some(&b'-');
        (begins && matches!(pair, [b'v', digit] if digit.is_ascii_digit())).then_some(at)
    })
}

/// Whether `text` is build metadata of a semantic version: identifiers of letters, digits and `-`, joined by dots.
fn is_build(text: &str) -> bool {
    text.len() <= 128
        && text.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
        })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn normalised(text: &str) -> String {
        text.parse::<DistributionVersion>().unwrap().to_string()
    }

    #[test]
    fn both_spellings_are_the_same_version() {
        let definition = "v1.17.8+vmware.1-tkg.1.5417466";
        for text in [
            definition,
            "ob-16551547-photon-3-k8s-v1.17.8---vmware.1-tkg.1.5417466",
            "v1.17.8---vmware.1-tkg.1.5417466",
        ] {
            assert_eq!(normalised(text), definition, "{text}");
        }
    }

    #[test]
    fn an_image_name_may_have_a_part_that_begins_with_v() {
        assert_eq!(
            normalised("ob-20611023-ubuntu-2004-amd64-vmi-k8s-v1.23.8---vmware.2-tkg.2-zshippable"),
            "v1.23.8+vmware.2-tkg.2-zshippable"
        );
    }

    #[test]
    fn shortcuts() {
        assert_eq!(normalised("v1.17"), "v1.17");
        assert_eq!(normalised("v1.17.8"), "v1.17.8");
    }

    #[test]
    fn what_is_no_version() {
        for text in [
            "",
            "v",
            "1.17.8",
            "v1",
            "latest",
            "v1.17.8.1",
            "v1..8",
            "v1.x",
            "v1.17+vmware.1",
            "v1.17.8+",
            "v1.17.8---",
            "v1.17.8+a..b",
            "v1.17.8+a b",
            "v1.17.8 ",
            "V1.17.8",
            "photon-3-k8s",
            "v1.17.8+\u{1b}[31m",
            "v1.9999999999",
        ] {
            assert!(text.parse::<DistributionVersion>().is_err(), "{text}");
        }
    }
}
