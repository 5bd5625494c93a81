//! SecurityPolicy (`nsx.vmware.com/v1alpha1`): the ordered user firewall of nsx-operator, with its rules of
//! precedence applied.

use std::fmt;
use std::str::FromStr;

use super::{Meta, PolicyPeer, PolicyPort, Selector};

/// The firewall category that a policy's rules belong to, in the order of evaluation.
///
/// nsx-operator makes everything in `Application`. The others are for NSX administrators, who have no kind of
/// their own here: [`annotation::CATEGORY`](super::annotation::CATEGORY) chooses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PolicyCategory {
    /// Quarantine and the like.
    Emergency,
    /// Shared services.
    Infrastructure,
    /// Between zones.
    Environment,
    /// Between applications.
    #[default]
    Application,
}

impl PolicyCategory {
    /// All of them, in the order of evaluation.
    pub const ALL: [PolicyCategory; 4] = [
        PolicyCategory::Emergency,
        PolicyCategory::Infrastructure,
        PolicyCategory::Environment,
        PolicyCategory::Application,
    ];
}

impl fmt::Display for PolicyCategory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PolicyCategory::Emergency => "Emergency",
            PolicyCategory::Infrastructure => "Infrastructure",
            PolicyCategory::Environment => "Environment",
            PolicyCategory::Application => "Application",
        })
    }
}

impl FromStr for PolicyCategory {
    type Err = ();
    fn from_str(text: &str) -> Result<PolicyCategory, ()> {
        PolicyCategory::ALL.into_iter().find(|c| c.to_string() == text).ok_or(())
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityAction {
    /// Pass.
    Allow,
    /// Discard in silence.
    Drop,
    /// Discard and tell the sender.
    Reject,
}

/// Which way a rule looks, seen from the workloads that it is applied to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SecurityDirection {
    /// Towards them: `In` or `Ingress`.
    In,
    /// From them: `Out` or `Egress`.
    Out,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityRule {
    /// The name that the user gave it, if any: 1 to 255 printable characters.
    pub name: Option<String>,
    /// What it does.
    pub action: SecurityAction,
    /// Which way it looks.
    pub direction: SecurityDirection,
    /// The pods of the policy's namespace that it is applied to: any of these selectors. The policy's `appliedTo`
    /// where it has one, else the rule's own. Empty where only VMs were named: it is applied to nothing then.
    pub applied_to: Vec<Selector>,
    /// The other side; `None`: everybody, empty: nobody.
    pub peers: Option<Vec<PolicyPeer>>,
    /// Ports at the destination; empty: all of every protocol.
    pub ports: Vec<PolicyPort>,
}

/// A security policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecurityPolicy {
    /// Name, labels, place.
    pub meta: Meta,
    /// The category of all of its rules.
    pub category: PolicyCategory,
    /// 0 to 1000; lower comes first in the category.
    pub priority: u16,
    /// Its rules in the order of evaluation.
    pub rules: Vec<SecurityRule>,
}
