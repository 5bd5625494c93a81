//! Policies with a name, one idea each, in `cases/*.yaml`. They hold policies only; [`crate::lab::manifest`] puts them into the
//! lab of nine pods. The comment at the top of a file says what it shows.

/// A named set of policies.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// The name of the file under `cases/`, without `.yaml`.
    pub name: &'static str,
    /// Its content: NetworkPolicies, or nothing but a comment.
    pub policies: &'static str,
}

macro_rules! cases {
    ($($name:literal),+ $(,)?) => {
        &[$(Case { name: $name, policies: include_str!(concat!("../cases/", $name, ".yaml")) }),+]
    };
}

/// All cases.
pub const ALL: &[Case] = cases![
    "no-policy",
    "deny-ingress",
    "deny-egress",
    "deny-all",
    "deny-ingress-by-default-types",
    "empty-egress-does-not-isolate",
    "egress-rule-isolates-egress",
    "empty-policy-types",
    "allow-all-ingress",
    "allow-all-egress",
    "ingress-from-pod",
    "ingress-from-namespace",
    "ingress-from-namespace-and-pod",
    "ingress-from-namespace-or-pod",
    "ingress-from-any-namespace",
    "ingress-from-any-pod-of-the-namespace",
    "ingress-from-pod-in-any-namespace",
    "empty-from-is-everybody",
    "namespace-not-in",
    "not-in-without-the-label",
    "namespace-by-name",
    "pod-in",
    "expressions-all-hold",
    "selector-matches-nobody",
    "policy-of-another-namespace",
    "ingress-port",
    "ingress-named-port",
    "ingress-named-port-other-protocol",
    "ingress-udp",
    "ingress-protocol-without-port",
    "ingress-sctp-is-not-tcp",
    "ingress-port-range",
    "ingress-port-range-edge",
    "rule-is-a-product",
    "rules-are-a-union",
    "policies-are-a-union",
    "allow-beats-deny",
    "egress-to-pod",
    "egress-to-namespace-port",
    "egress-named-port",
    "both-ends-must-agree",
    "both-ends-open",
    "egress-open-ingress-denied",
    "ingress-section-ignored",
    "egress-section-ignored",
    "ip-block",
    "ip-block-except",
    "ip-block-except-is-no-deny",
    "ip-block-egress",
    "ip-block-egress-except",
    "ip-block-or-pod",
];

/// The case called `name`.
#[must_use]
pub fn find(name: &str) -> Option<&'static Case> {
    ALL.iter().find(|case| case.name == name)
}
