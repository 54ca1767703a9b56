//! The terms of access control: [`Action`], [`Decision`], [`Access`] and [`Scope`].

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::{OrganizationId, ParseError, RepositoryPath, Stage};

/// An operation on the repositories of an organization for which a principal needs permission. Each method of
/// [`RegistryBackend`](crate::RegistryBackend) that accesses a repository has an action. [`Pull`](Self::Pull) and
/// [`Push`](Self::Push) are the actions of [credentials](crate::RegistryBackend::credentials).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Action {
    /// List an organization's repositories.
    ListRepositories,
    /// Create a repository.
    CreateRepository,
    /// Read the settings and resource tags of a repository.
    DescribeRepository,
    /// Delete a repository.
    DeleteRepository,
    /// List a repository's images.
    ListImages,
    /// Delete an image or a tag, or create a repository with a lifecycle policy, which deletes images.
    DeleteImage,
    /// Read images.
    Pull,
    /// Upload images.
    Push,
}

impl Action {
    /// Every action.
    pub const ALL: &'static [Self] = &[
        Self::ListRepositories,
        Self::CreateRepository,
        Self::DescribeRepository,
        Self::DeleteRepository,
        Self::ListImages,
        Self::DeleteImage,
        Self::Pull,
        Self::Push,
    ];

    /// Returns the word for the action in audit events, rules and settings, such as `create-repository`.
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

    /// Returns the words between `may not` and the name of the repository or organization in an error.
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

    /// Returns the effect of the action on an organization.
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

/// The effect of an action on an organization.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Reads,
    Adds,
    Removes,
}

impl FromStr for Action {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.iter().copied().find(|action| action.as_str() == input);
        known.ok_or_else(|| {
            let words: Vec<_> = Self::ALL.iter().map(|action| action.as_str()).collect();
            ParseError::new("action", input, format!("expected one of {}", words.join(", ")))
        })
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The result of a [`Policy`](crate::permission::Policy): allowed or denied, with the rule, its reason and
/// its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    allowed: bool,
    rule: Cow<'static, str>,
    reason: Option<Cow<'static, str>>,
    origin: Option<Arc<str>>,
}

impl Decision {
    /// Creates a decision that allows the action, by `rule`.
    pub fn allow(rule: impl Into<Cow<'static, str>>) -> Self {
        Self { allowed: true, rule: rule.into(), reason: None, origin: None }
    }

    /// Creates a decision that denies the action, by `rule`.
    pub fn deny(rule: impl Into<Cow<'static, str>>) -> Self {
        Self { allowed: false, rule: rule.into(), reason: None, origin: None }
    }

    /// Creates a decision by a rule of this library.
    pub(crate) const fn fixed(allowed: bool, rule: &'static str, reason: &'static str) -> Self {
        let (rule, reason) = (Cow::Borrowed(rule), Some(Cow::Borrowed(reason)));
        Self { allowed, rule, reason, origin: None }
    }

    /// Sets the reason: a sentence for people, without a full stop.
    pub fn because(self, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { reason: Some(reason.into()), ..self }
    }

    /// Sets the origin of the rule: its file and line, such as `memberships.toml:12`.
    pub fn written_at(self, origin: impl Into<Arc<str>>) -> Self {
        Self { origin: Some(origin.into()), ..self }
    }

    /// Returns whether the action is allowed.
    pub const fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// Returns the name of the rule that decided, for the audit: one or more words with hyphens.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Returns the reason. Returns `None` if the policy sets only the name of the rule.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// Returns the origin of the rule. Returns `None` for a built-in rule.
    pub fn origin(&self) -> Option<&str> {
        self.origin.as_deref()
    }
}

/// The access level of credentials. Each level includes the levels before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Access {
    /// Read images.
    Pull,
    /// Read and upload images.
    Push,
    /// Read, upload and delete images: for administrators.
    Delete,
}

impl Access {
    /// Returns the actions in a token scope of the distribution project: `pull`, `pull,push` or `pull,push,delete`.
    ///
    /// Source: <https://distribution.github.io/distribution/spec/auth/scope/>
    pub const fn actions(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "pull,push",
            Self::Delete => "pull,push,delete",
        }
    }
}

impl fmt::Display for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.actions())
    }
}

/// The repositories that a [`Scope`] covers.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ScopeTarget {
    /// One repository, whether or not it exists yet.
    Repository(RepositoryPath),
    /// Every repository, present and future, of these organizations in one stage.
    Organizations(Stage, BTreeSet<OrganizationId>),
}

/// The scope of credentials: one repository or the repositories of organizations, and an access level.
///
/// ```
/// use ark_container_core::model::{Access, RepositoryPath, Scope};
///
/// let path: RepositoryPath = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo".parse()?;
/// let scope = Scope::repository(path.clone(), Access::Push);
/// assert!(scope.covers(&path, Access::Pull));
/// assert!(!scope.covers(&path, Access::Delete));
/// assert_eq!(scope.to_string(), format!("repository:{path}:pull,push"));
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Scope {
    target: ScopeTarget,
    access: Access,
}

impl Scope {
    /// Creates a scope of one repository.
    pub fn repository(path: RepositoryPath, access: Access) -> Self {
        Self { target: ScopeTarget::Repository(path), access }
    }

    /// Creates a scope of all repositories of organizations in a stage.
    pub fn organizations(
        stage: Stage,
        organizations: impl IntoIterator<Item = OrganizationId>,
        access: Access,
    ) -> Self {
        let organizations = organizations.into_iter().collect();
        Self { target: ScopeTarget::Organizations(stage, organizations), access }
    }

    /// Returns the repositories that the scope covers.
    pub fn target(&self) -> &ScopeTarget {
        &self.target
    }

    /// Returns the access level.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Returns the organizations of the repositories that the scope covers.
    pub fn organization_ids(&self) -> BTreeSet<OrganizationId> {
        match &self.target {
            ScopeTarget::Repository(path) => BTreeSet::from([path.organization()]),
            ScopeTarget::Organizations(_, organizations) => organizations.clone(),
        }
    }

    /// Returns whether the scope includes `access` to `path`.
    pub fn covers(&self, path: &RepositoryPath, access: Access) -> bool {
        let within = match &self.target {
            ScopeTarget::Repository(own) => own == path,
            ScopeTarget::Organizations(stage, organizations) => {
                stage == path.stage() && organizations.contains(&path.organization())
            }
        };
        within && access <= self.access
    }
}

/// Writes one `repository:<path>:<actions>` per target, separated by spaces, as in the token scopes of the
/// distribution project. The path of an organization ends with `*` for the name.
impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            ScopeTarget::Repository(path) => write!(f, "repository:{path}:{}", self.access),
            ScopeTarget::Organizations(stage, organizations) => {
                for (index, organization) in organizations.iter().enumerate() {
                    let space = if index > 0 { " " } else { "" };
                    write!(f, "{space}repository:{stage}/{organization}/*:{}", self.access)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn action_parses_its_word() {
        for &action in Action::ALL {
            assert_eq!(action.to_string().parse(), Ok(action));
        }
        let error = "Push".parse::<Action>().unwrap_err().to_string();
        assert!(
            error.starts_with("\"Push\" is not a valid action: expected one of list-"),
            "{error}"
        );
    }

    #[test]
    fn organization_scope_covers_its_own_stage_only() {
        let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
        let path = |text: &str| text.parse::<RepositoryPath>().unwrap();
        let own = path("prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a");
        assert!(scope.covers(&own, Access::Pull));
        assert!(!scope.covers(&own, Access::Push));
        assert!(!scope.covers(&path("dev/2ea25035-6aa4-42fb-9955-92288ea1b972/a"), Access::Pull));
        assert!(!scope.covers(&path("prod/77777777-7777-4777-7777-777777777777/a"), Access::Pull));
        assert_eq!(
            scope.to_string(),
            "repository:prod/2ea25035-6aa4-42fb-9955-92288ea1b972/*:pull"
        );
    }
}
