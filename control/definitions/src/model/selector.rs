//! Label selectors: `matchLabels` and `matchExpressions` of apimachinery's `LabelSelector`.

use std::collections::BTreeSet;

use super::Labels;

/// What a requirement asks of the value of its key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operator {
    /// The key is there and its value is one of these.
    In(BTreeSet<String>),
    /// The key is absent, or its value is none of these.
    NotIn(BTreeSet<String>),
    /// The key is there, whatever its value.
    Exists,
    /// The key is absent.
    DoesNotExist,
}

/// One requirement; all of a selector's must hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// What is asked of it.
    pub operator: Operator,
}

impl Requirement {
    /// Whether `labels` meet this requirement.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        let value = labels.get(&self.key);
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.contains(v)),
            Operator::NotIn(values) => value.is_none_or(|v| !values.contains(v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
        }
    }
}

/// A label selector. Without requirements it selects everything (`podSelector: {}`).
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// All requirements, sorted; `matchLabels` appear as `In` with one value.
    pub requirements: Vec<Requirement>,
}

impl Selector {
    /// The selector of `matchLabels` alone, which is also what a Service has.
    #[must_use]
    pub fn from_labels(labels: &Labels) -> Selector {
        Selector {
            requirements: labels
                .iter()
                .map(|(key, value)| Requirement {
                    key: key.clone(),
                    operator: Operator::In(BTreeSet::from([value.clone()])),
                })
                .collect(),
        }
    }

    /// Whether every requirement holds for `labels`.
    #[must_use]
    pub fn matches(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|r| r.matches(labels))
    }

    /// Whether it selects everything because it asks nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.requirements.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    fn selector(key: &str, operator: Operator) -> Selector {
        Selector { requirements: vec![Requirement { key: key.to_owned(), operator }] }
    }

    fn set(values: &[&str]) -> BTreeSet<String> {
        values.iter().map(|v| (*v).to_owned()).collect()
    }

    #[test]
    fn an_empty_selector_selects_everything() {
        assert!(Selector::default().matches(&labels(&[])));
        assert!(Selector::default().matches(&labels(&[("app", "web")])));
    }

    #[test]
    fn in_needs_the_key_and_one_of_the_values() {
        let s = selector("app", Operator::In(set(&["web", "api"])));
        assert!(s.matches(&labels(&[("app", "web")])));
        assert!(s.matches(&labels(&[("app", "api"), ("tier", "front")])));
        assert!(!s.matches(&labels(&[("app", "db")])));
        assert!(!s.matches(&labels(&[("tier", "web")])));
        assert!(!s.matches(&labels(&[])));
    }

    #[test]
    fn not_in_holds_where_the_key_is_absent() {
        let s = selector("app", Operator::NotIn(set(&["web"])));
        assert!(s.matches(&labels(&[])));
        assert!(s.matches(&labels(&[("app", "db")])));
        assert!(!s.matches(&labels(&[("app", "web")])));
    }

    #[test]
    fn exists_and_does_not_exist_ignore_the_value() {
        let exists = selector("app", Operator::Exists);
        let absent = selector("app", Operator::DoesNotExist);
        for (set, there) in [
            (labels(&[("app", "")]), true),
            (labels(&[("app", "x")]), true),
            (labels(&[("App", "x")]), false),
            (labels(&[]), false),
        ] {
            assert_eq!(exists.matches(&set), there);
            assert_eq!(absent.matches(&set), !there);
        }
    }

    #[test]
    fn all_requirements_must_hold() {
        let mut s = Selector::from_labels(&labels(&[("app", "web"), ("tier", "front")]));
        assert!(s.matches(&labels(&[("app", "web"), ("tier", "front"), ("x", "y")])));
        assert!(!s.matches(&labels(&[("app", "web")])));
        s.requirements.push(Requirement { key: "x".to_owned(), operator: Operator::DoesNotExist });
        assert!(!s.matches(&labels(&[("app", "web"), ("tier", "front"), ("x", "y")])));
    }
}
