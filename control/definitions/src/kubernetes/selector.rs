//! `LabelSelector` to [`Selector`].

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use super::meta::labels;
use crate::diagnostic::Subject;
use crate::model::{Operator, Requirement, Selector};
use crate::node::{Fault, Node, excerpt, suggestion};
use crate::text::{is_label_key, is_label_value};

const OPERATORS: [&str; 4] = ["In", "NotIn", "Exists", "DoesNotExist"];

/// Checks and digests a selector.
pub(crate) fn selector(subject: &mut Subject<'_>, at: &Node, selector: LabelSelector) -> Selector {
    let match_labels =
        labels(subject, at.at("matchLabels"), selector.match_labels.unwrap_or_default());
    let mut digested = Selector::from_labels(&match_labels);
    for (index, expression) in
        selector.match_expressions.unwrap_or_default().into_iter().enumerate()
    {
        let at = at.at("matchExpressions").item(index);
        let values = expression.values.unwrap_or_default();
        if !is_label_key(&expression.key) {
            subject.error(
                at.at("key"),
                format!("'{}' is not a label's key", excerpt(&expression.key)),
            );
            continue;
        }
        if let Some((position, value)) =
            values.iter().enumerate().find(|(_, value)| !is_label_value(value))
        {
            subject.error(
                at.at("values").item(position),
                format!("'{}' is not a label's value", excerpt(value)),
            );
            continue;
        }
        let needs_values = matches!(expression.operator.as_str(), "In" | "NotIn");
        if needs_values && values.is_empty() {
            subject.error(at, format!("operator {} needs values", expression.operator));
            continue;
        }
        let values: std::collections::BTreeSet<String> = values.into_iter().collect();
        let operator = match expression.operator.as_str() {
            "In" => Operator::In(values),
            "NotIn" => Operator::NotIn(values),
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                subject.error(
                    at.at("values"),
                    format!("operator {} takes no values", expression.operator),
                );
                continue;
            }
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            other => {
                let mut fault =
                    Fault::at(at.at("operator"), format!("unknown operator '{}'", excerpt(other)));
                fault.help = suggestion(other, OPERATORS.into_iter());
                subject.fault(fault);
                continue;
            }
        };
        digested.requirements.push(Requirement { key: expression.key, operator });
    }
    digested.requirements.sort();
    digested.requirements.dedup();
    digested
}
