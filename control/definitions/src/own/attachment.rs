//! `Attachment`: something real in the place of an emulated endpoint.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::PortRef;

/// `spec` of an Attachment: a port and exactly one of `tap`, `pcap`, `interface`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttachmentSpec {
    /// The port; the emulated endpoint there is unplugged.
    pub port: PortRef,
    /// A TAP device that is made for it.
    pub tap: Option<TapPlug>,
    /// Capture files.
    pub pcap: Option<PcapPlug>,
    /// An interface that exists.
    pub interface: Option<InterfacePlug>,
}

/// What is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plug<'a> {
    /// A TAP device.
    Tap(&'a TapPlug),
    /// Capture files.
    Pcap(&'a PcapPlug),
    /// An existing interface.
    Interface(&'a InterfacePlug),
}

impl AttachmentSpec {
    /// What is plugged in; `None` where it is not exactly one thing, which loading refuses.
    #[must_use]
    pub fn plug(&self) -> Option<Plug<'_>> {
        match (&self.tap, &self.pcap, &self.interface) {
            (Some(tap), None, None) => Some(Plug::Tap(tap)),
            (None, Some(pcap), None) => Some(Plug::Pcap(pcap)),
            (None, None, Some(interface)) => Some(Plug::Interface(interface)),
            _ => None,
        }
    }
}

/// A TAP device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct TapPlug {
    /// Its name, at most 15 characters; chosen unless stated.
    pub name: Option<String>,
    /// The network namespace it is moved to; left out: it stays.
    pub netns: Option<String>,
    /// Make that network namespace if it does not exist, and remove it in the end.
    pub create_namespace: bool,
}

/// Capture files; at least one of the two.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct PcapPlug {
    /// Frames of this file enter at the port.
    pub read: Option<PathBuf>,
    /// Frames that leave the port go to this file.
    pub write: Option<PathBuf>,
}

/// An interface that exists.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InterfacePlug {
    /// Its name, at most 15 characters.
    pub name: String,
}
