//! A view of a YAML node that knows where it is, so that every error names its place.
//!
//! Null and absent are the same thing, as they are to a Kubernetes API server. Fields are listed by whoever reads a mapping and
//! anything else is an error: an oracle that overlooks a field would agree with a program that overlooks it too.

use std::collections::BTreeMap;

use yaml_rust2::{Yaml, YamlLoader};

/// What was wrong with a manifest or a question, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct OracleError {
    /// The path of the node, such as `document 3 (NetworkPolicy x/deny).spec.ingress[0]`.
    pub at: String,
    /// What is wrong with it.
    pub what: String,
}

impl OracleError {
    /// An error at `at`.
    pub(crate) fn new(at: impl Into<String>, what: impl Into<String>) -> Self {
        Self { at: at.into(), what: what.into() }
    }
}

/// The documents of a YAML stream, empty ones left out.
pub(crate) fn documents(text: &str) -> Result<Vec<Yaml>, OracleError> {
    let documents = YamlLoader::load_from_str(text)
        .map_err(|error| OracleError::new("manifest", error.to_string()))?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// A node of a document with its path.
#[derive(Debug, Clone)]
pub(crate) struct Node<'a> {
    value: &'a Yaml,
    path: String,
}

impl<'a> Node<'a> {
    /// The root of a document that is called `path` in messages.
    pub(crate) fn root(value: &'a Yaml, path: impl Into<String>) -> Self {
        Self { value, path: path.into() }
    }

    /// An error about this node.
    pub(crate) fn error(&self, what: impl Into<String>) -> OracleError {
        OracleError::new(self.path.clone(), what)
    }

    /// The same node under a better name.
    pub(crate) fn named(&self, path: String) -> Self {
        Self { value: self.value, path }
    }

    /// The value of `key`, or `None` if it is absent or null (or if this node is no mapping: [`Self::only`] reports that).
    pub(crate) fn get(&self, key: &str) -> Option<Node<'a>> {
        let value = self.value.as_hash()?.get(&Yaml::String(key.to_owned()))?;
        (!value.is_null()).then(|| Node { value, path: format!("{}.{key}", self.path) })
    }

    /// The value of `key`, which must be there.
    pub(crate) fn require(&self, key: &str) -> Result<Node<'a>, OracleError> {
        self.get(key).ok_or_else(|| self.error(format!("`{key}` is missing")))
    }

    /// Checks that this is a mapping with no other keys than these.
    pub(crate) fn only(&self, keys: &[&str]) -> Result<(), OracleError> {
        let map = self.value.as_hash().ok_or_else(|| self.error("is not a mapping"))?;
        for key in map.keys() {
            match key.as_str() {
                Some(key) if keys.contains(&key) => {}
                _ => return Err(self.error(format!("unknown field {key:?}"))),
            }
        }
        Ok(())
    }

    /// The elements of a sequence.
    pub(crate) fn list(&self) -> Result<Vec<Node<'a>>, OracleError> {
        let items = self.value.as_vec().ok_or_else(|| self.error("is not a list"))?;
        let element = |(index, value)| Node { value, path: format!("{}[{index}]", self.path) };
        Ok(items.iter().enumerate().map(element).collect())
    }

    /// The text of a string. A number or a boolean is not a string.
    pub(crate) fn string(&self) -> Result<&'a str, OracleError> {
        self.value.as_str().ok_or_else(|| self.error("is not a string"))
    }

    /// The value of an integer.
    pub(crate) fn integer(&self) -> Result<i64, OracleError> {
        self.value.as_i64().ok_or_else(|| self.error("is not an integer"))
    }

    /// A port number, 1 to 65535.
    pub(crate) fn port(&self) -> Result<u16, OracleError> {
        let number = self.integer()?;
        u16::try_from(number)
            .ok()
            .filter(|&port| port != 0)
            .ok_or_else(|| self.error(format!("{number} is not a port number")))
    }

    /// Whether this is an integer; `port` of a NetworkPolicyPort is an integer or a name.
    pub(crate) fn is_integer(&self) -> bool {
        self.value.as_i64().is_some()
    }

    /// A mapping from strings to strings, such as labels.
    pub(crate) fn strings(&self) -> Result<BTreeMap<String, String>, OracleError> {
        let map = self.value.as_hash().ok_or_else(|| self.error("is not a mapping"))?;
        let pair = |(key, value): (&Yaml, &Yaml)| match (key.as_str(), value.as_str()) {
            (Some(key), Some(value)) => Ok((key.to_owned(), value.to_owned())),
            _ => Err(self.error(format!("{key:?}: {value:?} is not a pair of strings"))),
        };
        map.iter().map(pair).collect()
    }
}
