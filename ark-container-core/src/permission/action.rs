//! [`Action`]: what a principal asks to do.

use std::fmt;

/// What a principal asks to do with the repositories of an organization: one per method of
/// [`RegistryBackend`](crate::RegistryBackend) that touches one, and two for what
/// [credentials](crate::RegistryBackend::credentials) open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// List an organization's repositories.
    ListRepositories,
    /// Create a repository.
    CreateRepository,
    /// See one repository's settings and resource tags.
    DescribeRepository,
    /// Delete a repository.
    DeleteRepository,
    /// List a repository's images.
    ListImages,
    /// Delete an image or a tag.
    DeleteImage,
    /// Read images.
    Pull,
    /// Upload images.
    Push,
}

impl Action {
    /// Every action.
    pub const ALL: [Self; 8] = [
        Self::ListRepositories,
        Self::CreateRepository,
        Self::DescribeRepository,
        Self::DeleteRepository,
        Self::ListImages,
        Self::DeleteImage,
        Self::Pull,
        Self::Push,
    ];

    /// The word for it in audit events, such as `create-repository`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ListRepositories => "list-repositories",
            Self::CreateRepository => "create-repository",
            Self::DescribeRepository => "describe-repository",
            Self::DeleteRepository => "delete-repository",
            Self::ListImages => "list-images",
            Self::DeleteImage => "delete-image",
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }

    /// What stands between `may not` and the name of the repository or organization in an error.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::ListRepositories => "list the repositories of",
            Self::CreateRepository => "create",
            Self::DescribeRepository => "see",
            Self::DeleteRepository => "delete",
            Self::ListImages => "list the images of",
            Self::DeleteImage => "delete images of",
            Self::Pull => "pull from",
            Self::Push => "push to",
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
