//! Decides whether the policies of a caller and of a resource allow an action.

use std::collections::BTreeMap;
use std::fmt;

use crate::aws::accounts::Caller;
use crate::aws::policy::{Policy, Principals, Statement, TAG_KEYS};
use crate::aws::registries::Repository;

/// The condition keys of a request. Their names are case-insensitive.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>
#[derive(Debug, Clone, Default)]
pub(super) struct Context(BTreeMap<String, Vec<String>>);

impl Context {
    pub(super) fn with(self, key: &str, value: impl Into<String>) -> Self {
        self.with_values(key, vec![value.into()])
    }

    pub(super) fn with_values(mut self, key: &str, values: Vec<String>) -> Self {
        self.0.insert(key.to_ascii_lowercase(), values);
        self
    }

    /// Adds each tag as `<prefix>/<key>`.
    pub(super) fn with_tags(mut self, prefix: &str, tags: &BTreeMap<String, String>) -> Self {
        for (key, value) in tags {
            self = self.with(&format!("{prefix}/{key}"), value);
        }
        self
    }

    /// Adds the tags of a request, and their keys.
    pub(super) fn with_request_tags(self, tags: &BTreeMap<String, String>) -> Self {
        let keys = tags.keys().cloned().collect();
        self.with_tags("aws:RequestTag", tags).with_values(TAG_KEYS, keys)
    }

    /// Returns the values of a key; empty if the key is missing.
    pub(super) fn values(&self, key: &str) -> &[String] {
        self.0.get(&key.to_ascii_lowercase()).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns the value of a key that has exactly one.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        match self.values(key) {
            [value] => Some(value),
            _ => None,
        }
    }
}

/// The kind of policies that denied a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PolicyKind {
    Identity,
    Session,
    /// A repository's policy, or a role's trust policy with an explicit deny.
    Resource,
    /// A role's trust policy.
    Trust,
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity-based policy",
            Self::Session => "session policy",
            Self::Resource | Self::Trust => "resource-based policy",
        })
    }
}

/// The reason why a request is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// A statement denies the request.
    Explicit(PolicyKind),
    /// No statement allows the request.
    Implicit(PolicyKind),
}

/// The policies of a principal.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>
#[derive(Debug, Clone, Default)]
pub(super) struct Grants {
    pub(super) identity: Vec<Policy>,
    /// The session policy; `None` for a principal without one.
    pub(super) session: Option<Policy>,
}

impl Grants {
    /// Checks that identity-based and session policies allow an action. An explicit deny overrides all allows.
    pub(super) fn check(
        &self,
        action: &str,
        resource: &str,
        context: &Context,
    ) -> Result<(), Refusal> {
        let applies = |statement: &&Statement| statement.applies(action, resource, context);
        let kinds = [
            (PolicyKind::Session, self.session.as_ref().map(std::slice::from_ref)),
            (PolicyKind::Identity, Some(self.identity.as_slice())),
        ];
        let kinds = kinds.into_iter().filter_map(|(kind, policies)| Some((kind, policies?)));
        let applying: Vec<(PolicyKind, Vec<&Statement>)> = kinds
            .map(|(kind, policies)| {
                let statements = policies.iter().flat_map(|policy| &policy.statements);
                (kind, statements.filter(applies).collect())
            })
            .collect();
        if let Some((kind, _)) = applying.iter().find(|(_, found)| found.iter().any(|s| !s.allows))
        {
            return Err(Refusal::Explicit(*kind));
        }
        match applying.iter().find(|(_, found)| found.is_empty()) {
            Some((kind, _)) => Err(Refusal::Implicit(*kind)),
            None => Ok(()),
        }
    }
}

/// Returns AWS's message for a denied request.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_access-denied.html>
pub(super) fn denied_message(
    principal: &str,
    action: &str,
    resource: &str,
    refusal: Refusal,
) -> String {
    let request =
        format!("User: {principal} is not authorized to perform: {action} on resource: {resource}");
    match refusal {
        Refusal::Explicit(kind) => {
            let article = if kind == PolicyKind::Identity { "an" } else { "a" };
            format!("{request} with an explicit deny in {article} {kind}")
        }
        // STS names no reason.
        Refusal::Implicit(PolicyKind::Trust) => request,
        Refusal::Implicit(kind) => {
            format!("{request} because no {kind} allows the {action} action")
        }
    }
}

/// The condition keys of a request that do not come from the caller.
#[derive(Debug, Default)]
pub(super) struct Circumstances<'c> {
    /// The tags of the request: `aws:RequestTag/<key>`, and their keys: `aws:TagKeys`.
    pub(super) request_tags: Option<&'c BTreeMap<String, String>>,
    /// The repository, with the tags `aws:ResourceTag/<key>` and `ecr:ResourceTag/<key>`.
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

/// Checks that a caller may perform an action on a resource.
///
/// Within an account, the caller's policies or the policy of the repository must allow the action. Across accounts,
/// both must. An explicit deny overrides all allows.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic-cross-account.html>
pub(super) fn check_access(
    caller: &Caller,
    action: &str,
    resource: &str,
    circumstances: &Circumstances<'_>,
) -> Result<(), Refusal> {
    let context = circumstances.add_to(caller.context());
    let policy = circumstances.repository.and_then(|repository| repository.policy.as_ref());
    let policies = policy.map(|policy| std::slice::from_ref(&policy.parsed)).unwrap_or_default();
    let named = named_by(policies, action, resource, &context, |names| name_of(caller, names))?;
    let is_foreign = resource.split(':').nth(4).is_some_and(|owner| owner != caller.account);
    if is_foreign && named.is_none() {
        return Err(Refusal::Implicit(PolicyKind::Resource));
    }
    let allowed_already = named == Some(Named::Itself) && !is_foreign;
    caller_allows(caller, action, resource, &context, allowed_already)
}

/// Checks that the caller's own policies allow an action. If the policy of the resource has allowed the action already,
/// the identity-based policies need not.
///
/// A session policy must allow the action in any case.
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

/// The way in which a resource-based policy names a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Named {
    /// By its own ARN, which is enough within an account.
    Itself,
    /// By its account, whose own policies must allow the action too.
    Account,
}

/// Returns how `principals` name a caller.
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

/// Returns how the resource-based policies that allow an action name the principal; `None` if none allows the action.
pub(super) fn named_by(
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

#[cfg(test)]
mod tests {
    use super::*;

    const PULL: &str = "ecr:BatchGetImage";
    const OURS: &str = "arn:aws:ecr:us-east-1:095412845506:repository/prod/ours/a";
    const THEIRS: &str = "arn:aws:ecr:us-east-1:095412845506:repository/prod/theirs/a";

    fn policy(statements: &str) -> Policy {
        Policy::parse(&format!(r#"{{"Version":"2012-10-17","Statement":[{statements}]}}"#)).unwrap()
    }

    fn grants(identity: &str, session: Option<&str>) -> Grants {
        Grants { identity: vec![policy(identity)], session: session.map(policy) }
    }

    const ALL: &str = r#"{"Effect":"Allow","Action":"*","Resource":"*"}"#;

    #[test]
    fn access_is_denied_by_default() {
        let none = grants("", None).check(PULL, OURS, &Context::default());
        assert_eq!(none, Err(Refusal::Implicit(PolicyKind::Identity)));
        assert_eq!(grants(ALL, None).check(PULL, OURS, &Context::default()), Ok(()));
    }

    #[test]
    fn actions_have_wildcards_and_ignore_case() {
        for (action, resource, allowed) in [
            ("ecr:Batch*", "*", true),
            ("ECR:batchgetimage", OURS, true),
            ("ecr:BatchGetImag", "*", false),
            ("ecr:*", "arn:aws:ecr:*:*:repository/prod/ours/*", true),
            ("ecr:*", "arn:aws:ecr:*:*:repository/PROD/ours/*", false),
            ("ecr:*", THEIRS, false),
        ] {
            let grants = grants(
                &format!(r#"{{"Effect":"Allow","Action":["{action}"],"Resource":["{resource}"]}}"#),
                None,
            );
            let checked = grants.check(PULL, OURS, &Context::default());
            assert_eq!(checked.is_ok(), allowed, "{action} {resource}");
        }
    }

    #[test]
    fn not_action_and_not_resource_allow_the_rest() {
        let not = |element: &str| {
            let grants = grants(&format!(r#"{{"Effect":"Allow",{element}}}"#), None);
            let check =
                |action, resource| grants.check(action, resource, &Context::default()).is_ok();
            (check(PULL, OURS), check("ecr:PutImage", OURS), check(PULL, THEIRS))
        };
        let action = format!(r#""NotAction":"{PULL}","Resource":"*""#);
        assert_eq!(not(&action), (false, true, false));
        let resource = format!(r#""Action":"*","NotResource":"{OURS}""#);
        assert_eq!(not(&resource), (false, false, true));
    }

    #[test]
    fn session_policy_only_restricts() {
        let ours = format!(r#"{{"Effect":"Allow","Action":"ecr:*","Resource":"{OURS}"}}"#);
        let narrowed = grants(ALL, Some(&ours));
        assert_eq!(narrowed.check(PULL, OURS, &Context::default()), Ok(()));
        let refused = Err(Refusal::Implicit(PolicyKind::Session));
        assert_eq!(narrowed.check(PULL, THEIRS, &Context::default()), refused);
        let wider = grants(&ours, Some(ALL)).check(PULL, THEIRS, &Context::default());
        assert_eq!(wider, Err(Refusal::Implicit(PolicyKind::Identity)));
    }

    #[test]
    fn explicit_deny_overrides_allow() {
        let deny = format!(r#"{{"Effect":"Deny","Action":"ecr:*","Resource":"{OURS}"}}"#);
        let both = format!("{ALL},{deny}");
        let identity = grants(&both, Some(ALL)).check(PULL, OURS, &Context::default());
        assert_eq!(identity, Err(Refusal::Explicit(PolicyKind::Identity)));
        let session = grants(ALL, Some(&both)).check(PULL, OURS, &Context::default());
        assert_eq!(session, Err(Refusal::Explicit(PolicyKind::Session)));
    }

    #[test]
    fn conditions_and_variables_use_tags() {
        let of = |organization: &str| {
            let tags = [("organization".to_owned(), organization.to_owned())].into();
            Context::default().with_tags("aws:PrincipalTag", &tags)
        };
        let variable = r#"{"Effect":"Allow","Action":"*",
            "Resource":"arn:aws:ecr:*:*:repository/prod/${aws:PrincipalTag/organization}/*"}"#;
        let equals = r#"{"Effect":"Allow","Action":"*","Resource":"*",
            "Condition":{"StringEquals":{"aws:PrincipalTag/organization":["x","ours"]}}}"#;
        let like = r#"{"Effect":"Allow","Action":"*","Resource":"*",
            "Condition":{"StringLike":{"AWS:principaltag/organization":"ou*"}}}"#;
        for statement in [variable, equals, like] {
            let grants = grants(statement, None);
            assert!(grants.check(PULL, OURS, &of("ours")).is_ok(), "{statement}");
            assert!(grants.check(PULL, OURS, &of("theirs")).is_err(), "{statement}");
            assert!(grants.check(PULL, OURS, &Context::default()).is_err(), "{statement}");
        }
    }

    #[test]
    fn denials_have_messages_of_aws() {
        let refused = |refusal| denied_message("arn:u", PULL, "arn:r", refusal);
        assert_eq!(
            refused(Refusal::Implicit(PolicyKind::Session)),
            "User: arn:u is not authorized to perform: ecr:BatchGetImage on resource: arn:r \
             because no session policy allows the ecr:BatchGetImage action"
        );
        assert!(
            refused(Refusal::Explicit(PolicyKind::Identity))
                .ends_with("arn:r with an explicit deny in an identity-based policy")
        );
        assert!(refused(Refusal::Implicit(PolicyKind::Trust)).ends_with("on resource: arn:r"));
    }
}
