//! Authentication: determines the principal that a program works for.

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

/// The memberships file in the folder of a local registry.
#[cfg(feature = "local")]
pub(crate) const MEMBERSHIPS_FILE: &str = "memberships.toml";
/// The file in the folder of a local registry that records that the registry has had memberships.
pub(crate) const HAD_MEMBERSHIPS_FILE: &str = "had-memberships";

/// The maximum size of a memberships file or key set.
const MAX_FILE_BYTES: usize = 16 * 1024 * 1024;
