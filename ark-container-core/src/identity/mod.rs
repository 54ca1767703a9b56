//! Who is asking.

mod aws_caller;
mod kept;
mod local_user;
pub mod memberships;
mod principal;
mod source;
#[cfg(feature = "token")]
pub mod token;
mod trusted_file;

pub use aws_caller::AwsCaller;
pub use local_user::{LocalUser, local_user, single_user};
pub use memberships::{Memberships, MembershipsFile};
pub use principal::{Principal, PrincipalKind, PrincipalName};
pub use source::IdentitySource;
#[cfg(feature = "token")]
pub use token::{ClaimNames, KeySet, Token, TokenFile, TokenIdentity, TokenVerifier};
