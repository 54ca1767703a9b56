//! Whether they may: the wrapper that guards any backend, and the policy that it asks.

pub mod audit;
mod decision;
mod explain;
mod memberships;
mod permissioned;
mod policy;
mod request;
mod standard;

pub use crate::model::Action;
pub use audit::{AUDIT_TARGET, AuditFile};
pub use decision::Decision;
pub use explain::{Explanation, Wall, explain};
pub use memberships::MembershipsPolicy;
pub use permissioned::Permissioned;
pub use policy::{Policy, PolicyFn, policy_fn};
pub use standard::StandardPolicy;
