//! [`AwsMapping`]: which principal a caller of AWS is.

use serde::Deserialize;
use toml::Spanned;

use super::arn::{Caller, Callers};
use super::text::Text;
use crate::error::Result;
use crate::identity::PrincipalName;
use crate::model::ParseError;

/// What stands in a principal for the name of the caller's session.
const SESSION: &str = "{session}";

/// One `[[aws]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AwsTable {
    arn: Spanned<String>,
    principal: Spanned<String>,
    #[serde(default)]
    trust_session_name: bool,
}

/// Some callers of AWS, and the principal that they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AwsMapping {
    callers: Callers,
    /// With [`SESSION`] in its id, each session is a principal of its own.
    principal: PrincipalName,
}

impl AwsTable {
    pub(super) fn mapping(&self, text: &Text<'_>) -> Result<AwsMapping> {
        let refused = |value: &Spanned<String>, problem: &str| {
            let problem = format!("{:?} {problem}", value.get_ref());
            text.error(value.span().start, problem)
        };
        let callers = Callers::new(self.arn.get_ref())
            .map_err(|problem| refused(&self.arn, &format!("names no AWS callers: {problem}")))?;
        let principal: PrincipalName = text.parse(&self.principal)?;
        let is_of_session = principal.id().contains(SESSION);
        if principal.id().replace(SESSION, "").contains(['{', '}']) {
            return Err(refused(&self.principal, "may have nothing in braces but {session}"));
        }
        if is_of_session && !callers.are_sessions() {
            return Err(refused(&self.principal, "has no {session}: a user is not a role"));
        }
        let trusts = match (is_of_session, callers.depend_on_session_name()) {
            (true, _) => &self.principal,
            (false, true) => &self.arn,
            (false, false) => return Ok(AwsMapping { callers, principal }),
        };
        if !self.trust_session_name {
            return Err(refused(
                trusts,
                "trusts the name of a session, which whoever may assume the role chooses; if that \
                 is meant, add trust_session_name = true",
            ));
        }
        Ok(AwsMapping { callers, principal })
    }
}

impl AwsMapping {
    /// The principal that the caller with this ARN is, by the first mapping that is about them.
    pub(super) fn principal(
        mappings: &[Self],
        arn: &str,
    ) -> Result<Option<PrincipalName>, ParseError> {
        let Some(caller) = Caller::new(arn)? else { return Ok(None) };
        let Some(mapping) = mappings.iter().find(|mapping| mapping.callers.contain(&caller)) else {
            return Ok(None);
        };
        let principal = &mapping.principal;
        let id = principal.id().replace(SESSION, caller.session_name().unwrap_or_default());
        PrincipalName::new(principal.kind(), &id).map(Some)
    }
}
