//! Who is asking.

mod local_user;
pub mod memberships;
mod principal;
mod source;

pub use local_user::{local_user, single_user};
pub use memberships::Memberships;
pub use principal::{Principal, PrincipalKind, PrincipalName};
pub use source::IdentitySource;
