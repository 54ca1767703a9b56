//! [`Organizations`]: every organization, or some.

use std::collections::BTreeSet;

use super::OrganizationId;

/// A set of organizations: all that exist, or the ones that are named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Organizations {
    /// Every organization, known or not.
    All,
    /// Just these.
    Only(BTreeSet<OrganizationId>),
}

impl Organizations {
    /// The empty set.
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// Whether `organization` is one of them.
    pub fn contains(&self, organization: OrganizationId) -> bool {
        match self {
            Self::All => true,
            Self::Only(some) => some.contains(&organization),
        }
    }
}

impl FromIterator<OrganizationId> for Organizations {
    fn from_iter<I: IntoIterator<Item = OrganizationId>>(organizations: I) -> Self {
        Self::Only(organizations.into_iter().collect())
    }
}

impl From<OrganizationId> for Organizations {
    fn from(organization: OrganizationId) -> Self {
        Self::from_iter([organization])
    }
}
