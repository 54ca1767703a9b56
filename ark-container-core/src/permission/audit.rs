//! What was decided, as `tracing` events: one per decision.

use super::{Action, Decision};
use crate::identity::Principal;
use crate::model::RepositoryPath;

/// The target of every audit event.
///
/// Its level is `INFO`, and its fields are `principal` (such as `user:alice`), `kind`, `organization`
/// (a GUID, or `*` for a listing of all that exist), `repository` (its path, where there is one),
/// `action` (such as `create-repository`), `decision` (`allow` or `deny`) and `rule`. It carries no
/// secret. Rows that are left out of a listing are no events.
pub const AUDIT_TARGET: &str = "ark::audit";

/// Reports a decision about `organization`, or about one repository of it.
pub(super) fn record(
    principal: &Principal,
    action: Action,
    organization: &str,
    repository: Option<&RepositoryPath>,
    decision: &Decision,
) {
    tracing::info!(
        target: AUDIT_TARGET,
        principal = %principal,
        kind = principal.kind().as_str(),
        organization,
        repository = repository.map(tracing::field::display),
        action = action.as_str(),
        decision = if decision.is_allowed() { "allow" } else { "deny" },
        rule = decision.rule(),
    );
}
