//! [`Action`]: what a principal asks to do.

use std::fmt;
use std::str::FromStr;

use super::ParseError;

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

    /// The word for it in audit events, rules and settings, such as `create-repository`.
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

    /// What it does to an organization, as far as rules tell actions apart.
    pub(crate) const fn effect(self) -> Effect {
        match self {
            Self::ListRepositories | Self::DescribeRepository | Self::ListImages | Self::Pull => {
                Effect::Reads
            }
            Self::CreateRepository | Self::Push => Effect::Adds,
            Self::DeleteRepository | Self::DeleteImage => Effect::Removes,
        }
    }
}

/// What an action does to an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Adds,
    Removes,
}

impl FromStr for Action {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.into_iter().find(|action| action.as_str() == input);
        known.ok_or_else(|| {
            let words = Self::ALL.map(Self::as_str).join(", ");
            ParseError::new("action", input, format!("expected one of {words}"))
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_parsed_by_their_words() {
        for action in Action::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        let error = "Push".parse::<Action>().unwrap_err().to_string();
        assert!(
            error.starts_with("\"Push\" is not a valid action: expected one of list-"),
            "{error}"
        );
    }
}
