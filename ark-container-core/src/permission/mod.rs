//! Authorization: the policy, the wrapper that enforces it around any backend, and the audit.

pub mod audit;
mod explain;
mod permissioned;
mod policy;
mod rules;

pub use crate::model::Action;
pub use audit::{AUDIT_TARGET, AuditFile};
pub use explain::{Explanation, IsolationLayer, explain};
pub use permissioned::Permissioned;
pub use policy::{Decision, Policy, PolicyFn, PolicyRequest, policy_fn};
pub use rules::{MembershipsPolicy, StandardPolicy};
