//! Authentication: who the caller is.

pub mod memberships;
mod principal;
mod source;
#[cfg(feature = "token")]
pub mod token;
mod trusted_file;

pub use memberships::{Memberships, MembershipsFile};
pub use principal::{Principal, PrincipalKind, PrincipalName};
pub use source::{AwsCaller, IdentitySource, LocalUser, local_user, single_user};
#[cfg(feature = "token")]
pub use token::{ClaimNames, KeySet, Token, TokenFile, TokenIdentity, TokenVerifier};
