//! Authentication: who the caller is.

pub mod memberships;
mod principal;
mod source;
#[cfg(feature = "token")]
pub mod token;

pub use memberships::{Memberships, MembershipsFile};
pub use principal::{Principal, PrincipalKind, PrincipalName};
pub use source::{AwsCaller, IdentitySource, LocalUser, local_user, single_user};
#[cfg(feature = "token")]
pub use token::{ClaimNames, KeySet, Token, TokenFile, TokenIdentity, TokenVerifier};

/// The memberships file of a local registry, in its folder.
#[cfg(feature = "local")]
pub(crate) const MEMBERSHIPS_FILE: &str = "memberships.toml";
/// The file that says that a local registry has had memberships, in its folder.
pub(crate) const HAD_MEMBERSHIPS_FILE: &str = "had-memberships";

/// The longest memberships file or key set.
const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;
