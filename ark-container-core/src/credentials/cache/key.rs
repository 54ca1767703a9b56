//! [`CacheKey`]: what a login was asked for, by whom, and of which registry.

use serde::{Deserialize, Serialize};

use crate::digester::Digester;
use crate::model::{Algorithm, RegistryHost, Scope};

/// Part of every file's name: a program of another format neither finds nor disturbs these files.
const FORMAT: u32 = 1;

/// What one login is remembered by: two requests with the same key may have the same answer.
///
/// It has no secrets, and it is written beside the password in clear, so that a file can be told
/// from a copy of another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CacheKey {
    registry: RegistryHost,
    identity: String,
    role: Option<String>,
    scope: Scope,
}

impl CacheKey {
    /// The key of a login of `identity` to `registry`, within `scope`, with the rights of `role`
    /// where one is assumed.
    ///
    /// `identity` tells apart whatever must not share a login, and stays the same for as long as it
    /// is the same caller.
    pub fn new(
        registry: RegistryHost,
        identity: impl Into<String>,
        role: Option<String>,
        scope: Scope,
    ) -> Self {
        Self { registry, identity: identity.into(), role, scope }
    }

    /// The scope that was asked for.
    pub(super) fn scope(&self) -> &Scope {
        &self.scope
    }

    /// The registry that the login is to.
    pub(super) fn registry(&self) -> &RegistryHost {
        &self.registry
    }

    /// How it is written in a file.
    pub(super) fn record(&self) -> KeyRecord {
        KeyRecord {
            registry: self.registry.clone(),
            identity: self.identity.clone(),
            role: self.role.clone(),
            scope: self.scope.to_string(),
        }
    }

    /// The name of its file, without an ending.
    pub(super) fn file_stem(&self) -> String {
        // A debug form quotes its texts, so that no two keys have the same.
        let parts = (&self.identity, &self.role, self.registry.as_str(), self.scope.to_string());
        hashed("login", &format!("{parts:?}"))
    }
}

/// A [`CacheKey`] in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeyRecord {
    pub(super) registry: RegistryHost,
    identity: String,
    role: Option<String>,
    scope: String,
}

/// A file's name for any text, with a word that says what kind of file it is.
pub(super) fn hashed(kind: &str, text: &str) -> String {
    let digest = Digester::digest(Algorithm::Sha256, text.as_bytes());
    format!("{kind}-{FORMAT}-{}", digest.hex())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::model::{Access, OrganizationId, Stage};

    #[test]
    fn no_two_keys_share_a_file() {
        let scope = |access| Scope::organizations(Stage::default(), [OrganizationId::TBD], access);
        let host = |name: &str| name.parse::<RegistryHost>().unwrap();
        let role = |name: &str| Some(name.to_owned());
        let keys = [
            CacheKey::new(host("a"), "x", None, scope(Access::Pull)),
            CacheKey::new(host("b"), "x", None, scope(Access::Pull)),
            CacheKey::new(host("a"), "y", None, scope(Access::Pull)),
            CacheKey::new(host("a"), "x", role("y"), scope(Access::Pull)),
            CacheKey::new(host("a"), "x", role(""), scope(Access::Pull)),
            CacheKey::new(host("a"), "x", None, scope(Access::Push)),
            CacheKey::new(host("a"), "x\", Some(\"y", None, scope(Access::Pull)),
        ];
        let stems: HashSet<_> = keys.iter().map(CacheKey::file_stem).collect();
        assert_eq!(stems.len(), keys.len());
    }
}
