//! Backend with repositories in a folder, and the registry that serves them.

mod address;
mod backend;
mod registry;
mod store;
mod token;

pub use backend::LocalBackend;
#[cfg(feature = "testing")]
pub(crate) use registry::Faults;
#[cfg(feature = "_ecr_emulation")]
#[doc(hidden)]
pub use registry::ecr_emulation;
pub use registry::{HintCommands, Registry};

#[cfg(feature = "_fuzzing")]
pub mod fuzzing {
    //! Private parsers of the local registry, for the fuzz targets.

    use super::token::{self, AccessClaim};
    use crate::model::Scope;

    pub use crate::model::fuzzing::{manifest, platform};

    pub use super::registry::fuzzing::{Route, chunk, password, range, route};

    /// Parses the claim `access` of a token. Returns its scope, and the claim in a new token with that scope.
    pub fn scope(access: &str) -> Option<(Scope, String)> {
        let claims: Vec<AccessClaim> = serde_json::from_str(access).ok()?;
        let scope = token::claimed_scope(&claims)?;
        let written = serde_json::to_string(&token::access_claims(&scope)).ok()?;
        Some((scope, written))
    }

    /// Returns the claim `access` of a token with this scope.
    pub fn access(scope: &Scope) -> Option<String> {
        serde_json::to_string(&token::access_claims(scope)).ok()
    }
}
