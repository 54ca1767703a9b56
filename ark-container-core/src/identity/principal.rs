//! [`Principal`]: a caller and its organizations.

use std::fmt;
use std::str::FromStr;

use crate::model::{OrganizationId, Organizations, ParseError};

/// The kind of a principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum PrincipalKind {
    /// A person.
    User,
    /// A program with its own credentials, such as a build.
    Robot,
    /// A job that the catalog runs on an organization's artifacts.
    IngestJob,
}

impl PrincipalKind {
    /// Every kind.
    pub const ALL: &'static [Self] = &[Self::User, Self::Robot, Self::IngestJob];

    /// Returns the word for the kind in settings and files: `user`, `robot`, `ingest-job`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Robot => "robot",
            Self::IngestJob => "ingest-job",
        }
    }
}

impl fmt::Display for PrincipalKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for PrincipalKind {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let known = Self::ALL.iter().copied().find(|kind| kind.as_str() == input);
        known.ok_or_else(|| {
            ParseError::new("principal kind", input, "expected user, robot or ingest-job")
        })
    }
}

crate::model::serde_as_text!(PrincipalKind, PrincipalName);

/// The name of a principal: `user:alice`, `robot:nightly`, `ingest-job:42`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrincipalName {
    kind: PrincipalKind,
    id: Box<str>,
}

impl PrincipalName {
    /// Creates the name of the principal with this kind and id.
    ///
    /// # Errors
    /// [`ParseError`] if the id is empty or contains a control character.
    pub fn new(kind: PrincipalKind, id: &str) -> Result<Self, ParseError> {
        const WHAT: &str = "principal id";
        if id.is_empty() {
            return Err(ParseError::new(WHAT, id, "it is empty"));
        }
        if let Some((offset, character)) = id.char_indices().find(|(_, c)| c.is_control()) {
            let problem = format!("{character:?} is not allowed");
            return Err(ParseError::at(WHAT, id, offset, problem));
        }
        Ok(Self { kind, id: id.into() })
    }

    /// Returns the kind.
    pub fn kind(&self) -> PrincipalKind {
        self.kind
    }

    /// Returns the id, which is unique among the principals of its kind.
    pub fn id(&self) -> &str {
        &self.id
    }
}

impl FromStr for PrincipalName {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        match input.split_once(':') {
            Some((kind, id)) => Self::new(kind.parse()?, id),
            None => Err(ParseError::new("principal", input, "expected <kind>:<id>")),
        }
    }
}

impl fmt::Display for PrincipalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.id)
    }
}

/// A caller, the organizations of which it is a member, and those that it administers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    name: PrincipalName,
    member_of: Organizations,
    administers: Organizations,
}

impl Principal {
    /// Creates a principal that is a member of `member_of` and administers `administers`.
    pub fn new(name: PrincipalName, member_of: Organizations, administers: Organizations) -> Self {
        Self { name, member_of, administers }
    }

    /// Returns the name.
    pub fn name(&self) -> &PrincipalName {
        &self.name
    }

    /// Returns the kind.
    pub fn kind(&self) -> PrincipalKind {
        self.name.kind
    }

    /// Returns whether the principal administers `organization`.
    pub fn administers(&self, organization: OrganizationId) -> bool {
        self.administers.contains(organization)
    }

    /// Returns whether the principal is a member or administrator of `organization`.
    pub fn is_member_of(&self, organization: OrganizationId) -> bool {
        self.member_of.contains(organization) || self.administers(organization)
    }

    /// Returns the organizations of which the principal is a member or administrator.
    pub fn organizations(&self) -> Organizations {
        match (&self.member_of, &self.administers) {
            (Organizations::Only(member), Organizations::Only(administers)) => {
                member.union(administers).copied().collect()
            }
            _ => Organizations::All,
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}
