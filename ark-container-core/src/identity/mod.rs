//! Who is asking.

mod local_user;
pub mod memberships;
mod principal;

pub use local_user::{local_user, single_user};
pub use memberships::Memberships;
pub use principal::{Principal, PrincipalKind, PrincipalName};
