//! Whether they may: the wrapper that guards any backend, and the policy that it asks.

mod action;
mod audit;
mod permissioned;
mod policy;

pub use action::Action;
pub use audit::AUDIT_TARGET;
pub use permissioned::Permissioned;
pub use policy::{Decision, Policy, PolicyFn, StandardPolicy, policy_fn};
