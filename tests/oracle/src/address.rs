//! CIDR blocks, for `ipBlock`. RFC 4632; written out here rather than taken from the crate that tierlab uses.

use std::net::IpAddr;

use crate::yaml::{Node, OracleError};

/// A block of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Block {
    network: u128,
    length: u32,
    width: u32,
}

/// The address as a number and how many bits it has.
fn number(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    }
}

impl Block {
    /// Reads `192.0.2.0/24` or `2001:db8::/32`; host bits must be zero.
    pub(crate) fn read(node: &Node<'_>) -> Result<Self, OracleError> {
        let text = node.string()?;
        let malformed = || node.error(format!("{text} is not a CIDR block"));
        let (address, length) = text.split_once('/').ok_or_else(malformed)?;
        let (network, width) = number(address.parse().map_err(|_| malformed())?);
        let length: u32 = length.parse().map_err(|_| malformed())?;
        if length > width {
            return Err(malformed());
        }
        let host_bits = 1u128.checked_shl(width - length).map_or(u128::MAX, |bit| bit - 1);
        if network & host_bits != 0 {
            return Err(node.error(format!("{text} has host bits set")));
        }
        Ok(Self { network, length, width })
    }

    /// `address` without its host bits, as a number.
    fn shifted(&self, address: u128) -> u128 {
        address.checked_shr(self.width - self.length).unwrap_or(0)
    }

    /// Whether `address` is in the block. An address of the other family never is.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let (address, width) = number(address);
        width == self.width && self.shifted(address) == self.shifted(self.network)
    }

    /// Whether `inner` is a proper part of this block, which is what the API demands of `except`.
    pub(crate) fn strictly_contains(&self, inner: &Self) -> bool {
        inner.width == self.width
            && inner.length > self.length
            && self.shifted(inner.network) == self.shifted(self.network)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use yaml_rust2::Yaml;

    use super::*;

    fn block(text: &str) -> Result<Block, OracleError> {
        let value = Yaml::String(text.to_owned());
        Block::read(&Node::root(&value, "cidr"))
    }

    #[test]
    fn containment() {
        let subnet = block("10.244.1.0/28").unwrap();
        assert!(subnet.contains("10.244.1.0".parse().unwrap()));
        assert!(subnet.contains("10.244.1.15".parse().unwrap()));
        assert!(!subnet.contains("10.244.1.16".parse().unwrap()));
        assert!(!subnet.contains("::10.244.1.1".parse().unwrap()));
        assert!(block("0.0.0.0/0").unwrap().contains("255.1.2.3".parse().unwrap()));
        assert!(block("::/0").unwrap().contains("2001:db8::1".parse().unwrap()));
        assert!(!block("::/0").unwrap().contains("10.0.0.1".parse().unwrap()));
        assert!(block("10.0.0.1/32").unwrap().contains("10.0.0.1".parse().unwrap()));
        assert!(subnet.strictly_contains(&block("10.244.1.4/30").unwrap()));
        assert!(!subnet.strictly_contains(&subnet));
        assert!(!subnet.strictly_contains(&block("10.244.1.16/30").unwrap()));
    }

    #[test]
    fn refused() {
        for text in [
            "10.244.1.1/28",
            "10.0.0.1/0",
            "10.0.0.0",
            "10.0.0.0/33",
            "10.0.0/8",
            "x/8",
            "2001:db8::1/64",
            "::/129",
            "/8",
        ] {
            assert!(block(text).is_err(), "{text}");
        }
    }
}
