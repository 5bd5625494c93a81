//! One address type for both families.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// An IP address in 128 bits. IPv4 is held as `::ffff:a.b.c.d` (RFC 4291, 2.5.5.2), so that walk,
/// sessions and rules compare one integer whatever the family.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Addr(pub u128);

const V4_PREFIX: u128 = 0xffff_0000_0000;

impl Addr {
    /// `::`.
    pub const UNSPECIFIED_V6: Addr = Addr(0);
    /// `0.0.0.0`.
    pub const UNSPECIFIED_V4: Addr = Addr(V4_PREFIX);
    /// `255.255.255.255`.
    pub const BROADCAST_V4: Addr = Addr(V4_PREFIX | 0xffff_ffff);

    /// The IPv4 address with this value, most significant octet first.
    #[must_use]
    pub const fn v4(value: u32) -> Addr {
        Addr(V4_PREFIX | value as u128)
    }

    /// Whether this is an IPv4 address.
    #[must_use]
    pub const fn is_v4(self) -> bool {
        self.0 >> 32 == 0xffff
    }

    /// The 32 bits of an IPv4 address; the low 32 bits of an IPv6 one.
    #[must_use]
    pub const fn low32(self) -> u32 {
        self.0 as u32
    }

    /// The address in the standard library's type.
    #[must_use]
    pub fn to_ip(self) -> IpAddr {
        if self.is_v4() {
            IpAddr::V4(Ipv4Addr::from(self.low32()))
        } else {
            IpAddr::V6(Ipv6Addr::from(self.0))
        }
    }

    /// IPv4 224.0.0.0/4 or IPv6 ff00::/8.
    #[must_use]
    pub fn is_multicast(self) -> bool {
        if self.is_v4() { self.low32() >> 28 == 0xe } else { self.0 >> 120 == 0xff }
    }

    /// `0.0.0.0` or `::`.
    #[must_use]
    pub fn is_unspecified(self) -> bool {
        self == Addr::UNSPECIFIED_V4 || self == Addr::UNSPECIFIED_V6
    }

    /// 127.0.0.0/8 or `::1`.
    #[must_use]
    pub fn is_loopback(self) -> bool {
        if self.is_v4() { self.low32() >> 24 == 127 } else { self.0 == 1 }
    }

    /// IPv6 fe80::/10 or IPv4 169.254.0.0/16.
    #[must_use]
    pub fn is_link_local(self) -> bool {
        if self.is_v4() { self.low32() >> 16 == 0xa9fe } else { self.0 >> 118 == 0xfe80 >> 6 }
    }
}

impl From<Ipv4Addr> for Addr {
    fn from(a: Ipv4Addr) -> Addr {
        Addr::v4(u32::from(a))
    }
}

impl From<Ipv6Addr> for Addr {
    fn from(a: Ipv6Addr) -> Addr {
        Addr(u128::from(a))
    }
}

impl From<IpAddr> for Addr {
    fn from(a: IpAddr) -> Addr {
        match a {
            IpAddr::V4(a) => a.into(),
            IpAddr::V6(a) => a.into(),
        }
    }
}

impl FromStr for Addr {
    type Err = std::net::AddrParseError;
    fn from_str(text: &str) -> Result<Addr, Self::Err> {
        text.parse::<IpAddr>().map(Addr::from)
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad` so that callers can align tables with a width.
        f.pad(&self.to_ip().to_string())
    }
}

impl fmt::Debug for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The oracle is the standard library.
    #[test]
    fn kinds_of_addresses() {
        let high = (0..=0xffffu128).map(|n| Addr(n << 112 | 1));
        let v4 = (0..=0xffffu32).flat_map(|n| [Addr::v4(n << 16), Addr::v4(n << 16 | 0xffff)]);
        let few = [0, 1, 2, u128::MAX, 1 << 120].map(Addr);
        for addr in high.chain(v4).chain(few) {
            let ip = addr.to_ip();
            assert_eq!(addr.is_multicast(), ip.is_multicast(), "{addr}");
            assert_eq!(addr.is_loopback(), ip.is_loopback(), "{addr}");
            assert_eq!(addr.is_unspecified(), ip.is_unspecified(), "{addr}");
            let is_link_local = match ip {
                IpAddr::V4(a) => a.is_link_local(),
                IpAddr::V6(a) => a.is_unicast_link_local(),
            };
            assert_eq!(addr.is_link_local(), is_link_local, "{addr}");
        }
    }
}
