//! Whether a caller may do something: what the policies of the caller and of the resource say.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>

use std::collections::BTreeMap;

use super::accounts::Caller;
use super::iam::{Context, PolicyKind, Refusal};
use super::policy::{Policy, Principals, Statement};
use super::registries::Repository;

/// What policies can look at beside the caller.
#[derive(Debug, Default)]
pub(super) struct Circumstances<'c> {
    /// The tags of the request, known as `aws:RequestTag/<key>` and by their keys as `aws:TagKeys`.
    pub(super) request_tags: Option<&'c BTreeMap<String, String>>,
    /// What it is about, whose tags are known as `aws:ResourceTag/<key>` and `ecr:ResourceTag/<key>`.
    ///
    /// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonelasticcontainerregistry.html>
    pub(super) repository: Option<&'c Repository>,
}

impl Circumstances<'_> {
    fn add_to(&self, mut context: Context) -> Context {
        if let Some(tags) = self.request_tags {
            context = context.with_request_tags(tags);
        }
        if let Some(Repository { tags, .. }) = self.repository {
            context = context.with_tags("aws:ResourceTag", tags).with_tags("ecr:ResourceTag", tags);
        }
        context
    }
}

/// Whether a caller may do something with what is in their own account.
///
/// The policy of a repository allows as much as the caller's own; one that denies goes before all.
pub(super) fn check(
    caller: &Caller,
    action: &str,
    resource: &str,
    circumstances: &Circumstances<'_>,
) -> Result<(), Refusal> {
    let context = circumstances.add_to(caller.context());
    let policy = circumstances.repository.and_then(|repository| repository.policy.as_ref());
    let policies = policy.map(|policy| std::slice::from_ref(&policy.judged)).unwrap_or_default();
    let named = ask(policies, action, resource, &context, |names| name_of(caller, names))?;
    caller_allows(caller, action, resource, &context, named == Some(Named::Itself))
}

/// Whether the caller's own policies leave something to them that a resource's policy may allow already.
///
/// A session policy is the narrower of the two, whatever allows it.
pub(super) fn caller_allows(
    caller: &Caller,
    action: &str,
    resource: &str,
    context: &Context,
    allowed_already: bool,
) -> Result<(), Refusal> {
    match caller.grants.check(action, resource, context) {
        Err(Refusal::Implicit(PolicyKind::Identity)) if allowed_already => Ok(()),
        checked => checked,
    }
}

/// How a resource-based policy names a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// By its own ARN: that is enough within an account.
    Itself,
    /// By its account: the account's own policies must allow it too.
    Account,
}

/// How a caller is named among principals.
pub(super) fn name_of(caller: &Caller, principals: &Principals) -> Option<Named> {
    let own = [Some(caller.arn.as_str()), caller.role_arn.as_deref(), Some("*")];
    if principals.aws.iter().any(|name| own.contains(&Some(name))) {
        return Some(Named::Itself);
    }
    let is_account = |name: &String| {
        *name == caller.account || name.ends_with(&format!("::{}:root", caller.account))
    };
    principals.aws.iter().any(is_account).then_some(Named::Account)
}

/// How resource-based policies name whom they allow something; `None` if they do not allow it.
pub(super) fn ask(
    policies: &[Policy],
    action: &str,
    resource: &str,
    context: &Context,
    name: impl Fn(&Principals) -> Option<Named>,
) -> Result<Option<Named>, Refusal> {
    let statements = policies.iter().flat_map(|policy| &policy.statements);
    let applying: Vec<(&Statement, Named)> = statements
        .filter(|statement| statement.applies(action, resource, context))
        .filter_map(|statement| Some((statement, name(&statement.principals)?)))
        .collect();
    if applying.iter().any(|(statement, _)| !statement.allows) {
        return Err(Refusal::Explicit(PolicyKind::Resource));
    }
    let named = |wanted| applying.iter().any(|(_, named)| *named == wanted).then_some(wanted);
    Ok(named(Named::Itself).or(named(Named::Account)))
}
