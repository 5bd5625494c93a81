//! Values of expressions while a test runs: the lab's names and the test's own variables.

use super::Resolver;
use super::field::Value;
use definitions::own::{AddressExpr, MacExpr, NumberExpr, PortRef};
use engine::network::PortId;
use packet::{Addr, Mac};
use std::collections::BTreeMap;

/// Names of the lab and variables of the test.
pub(super) struct Scope<'a> {
    resolver: &'a dyn Resolver,
    variables: BTreeMap<String, Value>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(resolver: &'a dyn Resolver) -> Scope<'a> {
        Scope { resolver, variables: BTreeMap::new() }
    }

    /// The names of the lab are others now; variables stay.
    pub(super) fn changed(&mut self, resolver: &'a dyn Resolver) {
        self.resolver = resolver;
    }

    /// Stores a variable; a later `save` of the same name replaces it.
    pub(super) fn save(&mut self, name: &str, value: Value) {
        self.variables.insert(name.to_owned(), value);
    }

    fn variable(&self, name: &str) -> Result<&Value, String> {
        self.variables
            .get(name)
            .ok_or_else(|| format!("variable '{name}' is not saved by an earlier step"))
    }

    pub(super) fn port(&self, port: &PortRef) -> Result<PortId, String> {
        self.resolver.port(port)
    }

    pub(super) fn address(&self, expression: &AddressExpr) -> Result<Addr, String> {
        let AddressExpr::Variable(name) = expression else {
            return self.resolver.address(expression);
        };
        match self.variable(name)? {
            Value::Addr(addr) => Ok(*addr),
            other => Err(format!("variable '{name}' is {other}, which is no IP address")),
        }
    }

    pub(super) fn mac(&self, expression: &MacExpr) -> Result<Mac, String> {
        let MacExpr::Variable(name) = expression else {
            return self.resolver.mac(expression);
        };
        match self.variable(name)? {
            Value::Mac(mac) => Ok(*mac),
            other => Err(format!("variable '{name}' is {other}, which is no MAC address")),
        }
    }

    /// A number of 16 bits; a variable's sum wraps, as in the field.
    pub(super) fn number16(&self, expression: &NumberExpr) -> Result<u16, String> {
        let number = self.number(expression)?;
        match expression {
            // Sequence arithmetic: the low bits count.
            NumberExpr::Variable { .. } => Ok(number as u16),
            NumberExpr::Literal(_) => {
                u16::try_from(number).map_err(|_| format!("{number} does not fit in 16 bits"))
            }
        }
    }

    /// A number of 32 bits; a variable's sum wraps, as in the field.
    pub(super) fn number(&self, expression: &NumberExpr) -> Result<u32, String> {
        match expression {
            NumberExpr::Literal(number) => Ok(*number),
            NumberExpr::Variable { name, offset } => match self.variable(name)? {
                Value::Number(number) => {
                    let sum = i64::from(*number).wrapping_add(*offset);
                    Ok(sum.rem_euclid(1 << 32) as u32)
                }
                other => Err(format!("variable '{name}' is {other}, which is no number")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Names;
    use super::*;

    #[test]
    fn sums_wrap_as_in_the_field() {
        let names = Names::new();
        let mut scope = Scope::new(&names);
        scope.save("zero", Value::Number(0));
        scope.save("port", Value::Number(65_535));
        scope.save("seq", Value::Number(u32::MAX));
        let sum = |name: &str, offset| NumberExpr::Variable { name: name.to_owned(), offset };
        assert_eq!(scope.number16(&sum("port", 2)), Ok(1));
        assert_eq!(scope.number16(&sum("zero", -1)), Ok(65_535));
        assert_eq!(scope.number(&sum("seq", 1)), Ok(0));
        assert_eq!(scope.number(&sum("zero", -1)), Ok(u32::MAX));
        assert!(scope.number16(&NumberExpr::Literal(65_536)).is_err());
        assert!(scope.number(&sum("nobody", 0)).is_err());
    }
}
