//! `AssumeRole`, `AssumeRoleWithWebIdentity`: who may assume a role.

use std::collections::BTreeMap;

use super::parameters::{Parameters, check_tags};
use super::session::Session;
use crate::aws::accounts::{Caller, KnownRole};
use crate::aws::decision::{self, Named, name_of};
use crate::aws::error::ApiError;
use crate::aws::exchange::Exchange;
use crate::aws::iam::{Context, PolicyKind, Refusal, denied_message};
use crate::aws::policy::Principals;
use crate::aws::{identity_provider, xml};

/// Source: `AssumeRoleRequest` in the service model; required: `RoleArn`, `RoleSessionName`. The fake
/// has no managed session policies, external ids, MFA, source identities or transitive tags.
pub(super) fn by_caller(exchange: &mut Exchange<'_>) -> Result<String, ApiError> {
    let caller = exchange.caller()?;
    let mut parameters = Parameters::parse(exchange.body);
    let role_arn = parameters.required("RoleArn")?;
    let tags = parameters.tags()?;
    let session = Session::parse(&mut parameters, tags)?;
    parameters.finish()?;
    exchange.resources.push(role_arn.clone());

    let context = caller.context().with_request_tags(&session.tags);
    let tagging = (!session.tags.is_empty()).then_some("sts:TagSession");
    // What does not exist is refused in the same words as what is not allowed.
    let role = exchange.world.accounts.role(&role_arn);
    for action in std::iter::once("sts:AssumeRole").chain(tagging) {
        let refusal = match role {
            Some(role) => check(&caller, role, action, &context).err(),
            None => Some(Refusal::Implicit(PolicyKind::Resource)),
        };
        if let Some(refusal) = refusal {
            let message = denied_message(&caller.arn, action, &role_arn, refusal);
            return Err(exchange.access_denied(message));
        }
    }
    let role =
        role.ok_or_else(|| ApiError::internal(exchange.service, "a role that is missing"))?;
    let chained = caller.role_arn.is_some();
    let begun = session.begin(exchange, role, chained)?;
    Ok(xml::nested("AssumeRoleResult", &begun.elements()))
}

/// Source: `AssumeRoleWithWebIdentityRequest` in the service model; required: `RoleArn`,
/// `RoleSessionName`, `WebIdentityToken`. Session tags are those of the token.
pub(super) fn by_token(exchange: &mut Exchange<'_>) -> Result<String, ApiError> {
    let mut parameters = Parameters::parse(exchange.body);
    let role_arn = parameters.required("RoleArn")?;
    let text = parameters.required("WebIdentityToken")?;
    let accounts = &exchange.world.accounts;
    let token = identity_provider::verify(&accounts.providers, &text, exchange.now());
    let tags = token.as_ref().map(|token| token.tags.clone()).unwrap_or_default();
    let session = Session::parse(&mut parameters, tags)?;
    parameters.finish()?;
    exchange.resources.push(role_arn.clone());
    let token = token?;
    check_tags(&session.tags)?;

    let host = &exchange.world.host;
    let provider = format!(
        "arn:{}:iam::{}:oidc-provider/{}",
        host.partition(),
        host.account(),
        token.provider
    );
    let context = Context::default()
        .with(&format!("{}:sub", token.provider), &token.subject)
        .with(&format!("{}:aud", token.provider), &token.audience)
        .with_request_tags(&session.tags);
    let names =
        |principals: &Principals| principals.federated.contains(&provider).then_some(Named::Itself);
    let tagging = (!session.tags.is_empty()).then_some("sts:TagSession");
    let actions = std::iter::once("sts:AssumeRoleWithWebIdentity").chain(tagging);
    let role = accounts.role(&role_arn).filter(|role| {
        let mut actions = actions.clone();
        actions.all(|action| trust(role, action, &context, names).is_ok())
    });
    let Some(role) = role else {
        let message = "Not authorized to perform sts:AssumeRoleWithWebIdentity".to_owned();
        return Err(exchange.access_denied(message));
    };
    let begun = session.begin(exchange, role, false)?;
    let mut elements = begun.elements();
    elements.extend([
        xml::text("SubjectFromWebIdentityToken", &token.subject),
        xml::text("Audience", &token.audience),
        xml::text("Provider", &provider),
    ]);
    Ok(xml::nested("AssumeRoleWithWebIdentityResult", &elements))
}

/// Whether a caller may assume a role.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_evaluation-logic.html>
fn check(
    caller: &Caller,
    role: &KnownRole,
    action: &str,
    context: &Context,
) -> Result<(), Refusal> {
    let named = trust(role, action, context, |principals| name_of(caller, principals))?;
    let same_account = role.arn.contains(&format!("::{}:", caller.account));
    let allowed_already = named == Named::Itself && same_account;
    decision::caller_allows(caller, action, &role.arn, context, allowed_already)
}

/// Whether a role's trust policies let somebody do something with it.
fn trust(
    role: &KnownRole,
    action: &str,
    context: &Context,
    name: impl Fn(&Principals) -> Option<Named>,
) -> Result<Named, Refusal> {
    let named = decision::ask(&role.trust, action, &role.arn, context, name)?;
    named.ok_or(Refusal::Implicit(PolicyKind::Resource))
}

/// The tags of a role's session: those of the session go before the role's of the same key.
pub(super) fn principal_tags(
    role: &KnownRole,
    session: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut tags = role.tags.clone();
    tags.retain(|key, _| !session.keys().any(|given| given.eq_ignore_ascii_case(key)));
    tags.extend(session.clone());
    tags
}
