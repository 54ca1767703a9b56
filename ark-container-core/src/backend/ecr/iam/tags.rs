//! The session tags that a token carries for AWS, and what policies say of them.
//!
//! A session tag has one value, so a principal of several organizations has a tag for each: `organization`,
//! `organization2`, up to [`SLOTS`]. A tag that a session lacks is a variable without a value, and a
//! resource with such a variable is none at all.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-no-value>

use crate::model::EcrHost;
use crate::model::Stage;

/// How many organizations a session can be of, and how many it can administer.
pub(super) const SLOTS: usize = 10;

/// The tag that says what kind of principal it is: `user`, `robot` or `ingest-job`.
pub(super) const KIND: &str = "kind";

/// The kinds there are.
pub(super) const KINDS: [&str; 3] = ["user", "robot", "ingest-job"];

/// The kind that may change something.
pub(super) const USER: &str = "user";

/// A family of tags, one for each organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// The organizations that the principal is a member of.
    Organization,
    /// The organizations that the principal administers.
    Administers,
}

impl Family {
    /// The name of its first tag.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Organization => "organization",
            Self::Administers => "administers",
        }
    }

    /// The variables of its tags, in order.
    pub(super) fn variables(self) -> impl Iterator<Item = String> {
        let name = self.name();
        let first = std::iter::once(String::new());
        let numbers = first.chain((2..=SLOTS).map(|number| number.to_string()));
        numbers.map(move |number| format!("${{aws:PrincipalTag/{name}{number}}}"))
    }

    /// The same with a value that no organization has, where the session has no such tag.
    ///
    /// AWS says that a variable without a value may make a whole statement invalid: one that allows
    /// would then allow nothing, but one that denies would deny nothing.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html#policy-vars-default-values>
    pub(super) fn variables_or_none(self) -> impl Iterator<Item = String> {
        self.variables().map(|variable| variable.replace('}', ", '-'}"))
    }

    /// The ARNs of the repositories of its organizations, a pattern for each.
    pub(super) fn repositories(self, host: &EcrHost, stage: &Stage) -> Vec<String> {
        let of = |variable| host.repository_arn_like(format_args!("{stage}/{variable}/*"));
        self.variables().map(of).collect()
    }
}
