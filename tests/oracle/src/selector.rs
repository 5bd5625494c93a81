//! LabelSelector of `meta/v1`: `matchLabels` and `matchExpressions`, all of which must hold.

use std::collections::BTreeMap;

use crate::yaml::{Node, OracleError};

/// One requirement on the value of one label.
#[derive(Debug, Clone)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    DoesNotExist(String),
}

/// A label selector. One without requirements matches everything.
#[derive(Debug, Clone)]
pub(crate) struct Selector(Vec<Requirement>);

impl Selector {
    /// Reads a LabelSelector.
    pub(crate) fn read(node: &Node<'_>) -> Result<Self, OracleError> {
        node.only(&["matchLabels", "matchExpressions"])?;
        let mut requirements = Vec::new();
        if let Some(labels) = node.get("matchLabels") {
            // The API reference: a pair is equivalent to an expression with operator In and only that value.
            requirements.extend(
                labels.strings()?.into_iter().map(|(key, value)| Requirement::In(key, vec![value])),
            );
        }
        if let Some(expressions) = node.get("matchExpressions") {
            for expression in expressions.list()? {
                requirements.push(Requirement::read(&expression)?);
            }
        }
        Ok(Self(requirements))
    }

    /// Whether an object with these labels is selected.
    pub(crate) fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels))
    }
}

impl Requirement {
    fn read(node: &Node<'_>) -> Result<Self, OracleError> {
        node.only(&["key", "operator", "values"])?;
        let key = node.require("key")?.string()?.to_owned();
        let mut values = Vec::new();
        if let Some(list) = node.get("values") {
            for value in list.list()? {
                values.push(value.string()?.to_owned());
            }
        }
        match (node.require("operator")?.string()?, values.is_empty()) {
            ("In", false) => Ok(Self::In(key, values)),
            ("NotIn", false) => Ok(Self::NotIn(key, values)),
            ("Exists", true) => Ok(Self::Exists(key)),
            ("DoesNotExist", true) => Ok(Self::DoesNotExist(key)),
            (operator, _) => {
                Err(node
                    .error(format!("operator {operator} does not go with {} values", values.len())))
            }
        }
    }

    fn holds(&self, labels: &BTreeMap<String, String>) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            // An object without the label is selected: it has none of the values.
            Self::NotIn(key, values) => {
                !labels.get(key).is_some_and(|value| values.contains(value))
            }
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;
    use crate::yaml::documents;

    fn matches(selector: &str, labels: &[(&str, &str)]) -> bool {
        let document = documents(selector).unwrap().remove(0);
        let labels =
            labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        Selector::read(&Node::root(&document, "selector")).unwrap().matches(&labels)
    }

    #[test]
    fn operators_with_and_without_the_label() {
        assert!(matches("{}", &[]));
        assert!(matches("{matchLabels: {a: '1'}}", &[("a", "1"), ("b", "2")]));
        assert!(!matches("{matchLabels: {a: '1', b: '1'}}", &[("a", "1"), ("b", "2")]));
        let expression = |operator: &str| {
            format!("{{matchExpressions: [{{key: a, operator: {operator}, values: ['1', '2']}}]}}")
        };
        assert!(matches(&expression("In"), &[("a", "2")]));
        assert!(!matches(&expression("In"), &[("a", "3")]));
        assert!(!matches(&expression("In"), &[]));
        assert!(!matches(&expression("NotIn"), &[("a", "2")]));
        assert!(matches(&expression("NotIn"), &[("a", "3")]));
        assert!(matches(&expression("NotIn"), &[]));
        assert!(matches("{matchExpressions: [{key: a, operator: Exists}]}", &[("a", "")]));
        assert!(!matches("{matchExpressions: [{key: a, operator: Exists}]}", &[("b", "")]));
        assert!(!matches("{matchExpressions: [{key: a, operator: DoesNotExist}]}", &[("a", "")]));
        assert!(matches("{matchExpressions: [{key: a, operator: DoesNotExist}]}", &[("b", "")]));
    }

    #[test]
    fn malformed() {
        for selector in [
            "{matchLables: {a: b}}",
            "{matchExpressions: [{key: a, operator: In}]}",
            "{matchExpressions: [{key: a, operator: In, values: []}]}",
            "{matchExpressions: [{key: a, operator: Exists, values: [x]}]}",
            "{matchExpressions: [{key: a, operator: Equals, values: [x]}]}",
            "{matchExpressions: [{operator: Exists}]}",
            "{matchLabels: {a: 1}}",
            "[]",
        ] {
            let document = documents(selector).unwrap().remove(0);
            assert!(Selector::read(&Node::root(&document, "selector")).is_err(), "{selector}");
        }
    }
}
