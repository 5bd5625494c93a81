//! What the names in a test stand for.

use definitions::own::{AddressExpr, MacExpr, PortRef};
use engine::network::PortId;
use packet::{Addr, Mac};
use realization::Names;

/// Gives addresses, MACs and ports to the expressions of a test. Variables never reach it: only the
/// running test knows them.
pub trait Resolver: Sync {
    /// The port.
    ///
    /// # Errors
    /// What does not exist, and what does.
    fn port(&self, port: &PortRef) -> Result<PortId, String>;

    /// The address.
    ///
    /// # Errors
    /// What does not exist, and what does.
    fn address(&self, expression: &AddressExpr) -> Result<Addr, String>;

    /// The Ethernet address.
    ///
    /// # Errors
    /// What does not exist, and what does.
    fn mac(&self, expression: &MacExpr) -> Result<Mac, String>;
}

impl Resolver for Names {
    fn port(&self, port: &PortRef) -> Result<PortId, String> {
        self.port_ref(port).map(|(_, place)| place.port).map_err(|error| error.to_string())
    }

    fn address(&self, expression: &AddressExpr) -> Result<Addr, String> {
        Names::address(self, expression, |_| None).map_err(|error| error.to_string())
    }

    fn mac(&self, expression: &MacExpr) -> Result<Mac, String> {
        Names::mac(self, expression, |_| None).map_err(|error| error.to_string())
    }
}
