//! Segment security: what a workload may send and get at all, before any firewall.
//!
//! The switches of NSX's segment security profile and their rate limits. Two defaults differ from NSX's:
//! router advertisements and protocols other than ARP and IP are blocked, because no rule could judge
//! what they do (docs/choices.md).

/// Segment security of a vNIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentSecurity {
    /// Drop bridge protocols, IEEE 802.1D reserved addresses 01:80:c2:00:00:00 to :0f, from the workload.
    pub bpdu_filter: bool,
    /// Drop what a DHCP server sends (RFC 2131: from UDP 67; RFC 8415: from UDP 547) from the workload.
    pub dhcp_server_block: bool,
    /// Drop what a DHCP client sends (to UDP 67; to UDP 547) from the workload.
    pub dhcp_client_block: bool,
    /// Drop router advertisements (RFC 4861, 4.2; RFC 6105) from the workload.
    pub ra_guard: bool,
    /// Drop all but ARP, IPv4, IPv6 and bridge protocols from the workload.
    pub non_ip_block: bool,
    /// Most group-addressed frames.
    pub rates: GroupRates,
}

impl Default for SegmentSecurity {
    fn default() -> SegmentSecurity {
        SegmentSecurity {
            bpdu_filter: true,
            dhcp_server_block: true,
            dhcp_client_block: false,
            ra_guard: true,
            non_ip_block: true,
            rates: GroupRates::default(),
        }
    }
}

/// Group-addressed frames of a vNIC, as the rate limits count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupTraffic {
    /// Broadcasts to the workload.
    RxBroadcast,
    /// Broadcasts from the workload.
    TxBroadcast,
    /// Other groups' frames to the workload.
    RxMulticast,
    /// Other groups' frames from the workload.
    TxMulticast,
}

/// Most group-addressed frames a vNIC and second; `None` is no limit, which is NSX's default. A second
/// is one of the lab's clock, so that the same frames at the same times have the same fate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GroupRates {
    /// Broadcasts to the workload.
    pub rx_broadcast: Option<u32>,
    /// Broadcasts from the workload.
    pub tx_broadcast: Option<u32>,
    /// Other groups' frames to the workload.
    pub rx_multicast: Option<u32>,
    /// Other groups' frames from the workload.
    pub tx_multicast: Option<u32>,
}

impl GroupRates {
    /// The limit of one kind of traffic.
    #[must_use]
    pub fn limit(&self, traffic: GroupTraffic) -> Option<u32> {
        match traffic {
            GroupTraffic::RxBroadcast => self.rx_broadcast,
            GroupTraffic::TxBroadcast => self.tx_broadcast,
            GroupTraffic::RxMulticast => self.rx_multicast,
            GroupTraffic::TxMulticast => self.tx_multicast,
        }
    }
}
