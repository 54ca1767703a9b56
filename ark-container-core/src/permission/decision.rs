//! [`Decision`]: what a policy answers.

use std::sync::Arc;

/// What a [`Policy`](super::Policy) answers: whether it is allowed, by which rule, why that is the
/// rule, and where it is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    allowed: bool,
    rule: &'static str,
    reason: Option<&'static str>,
    origin: Option<Arc<str>>,
}

impl Decision {
    /// Allowed by `rule`.
    pub const fn allow(rule: &'static str) -> Self {
        Self { allowed: true, rule, reason: None, origin: None }
    }

    /// Denied by `rule`.
    pub const fn deny(rule: &'static str) -> Self {
        Self { allowed: false, rule, reason: None, origin: None }
    }

    /// The same decision, by a rule that says `reason`: a sentence for people, without its full stop.
    pub const fn because(mut self, reason: &'static str) -> Self {
        self.reason = Some(reason);
        self
    }

    /// The same decision, by a rule that is written at `origin`, such as `memberships.toml:12`.
    pub fn written_at(mut self, origin: Arc<str>) -> Self {
        self.origin = Some(origin);
        self
    }

    /// Whether it is allowed.
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The rule that decided, in a word or two with hyphens, for the audit.
    pub const fn rule(&self) -> &'static str {
        self.rule
    }

    /// What the rule says, in a sentence; `None` where the policy says no more than its name.
    pub const fn reason(&self) -> Option<&'static str> {
        self.reason
    }

    /// Where the rule is written; `None` for one that the policy has by itself.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}
