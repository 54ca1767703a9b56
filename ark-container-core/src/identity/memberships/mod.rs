//! [`Memberships`]: the file that says who belongs to which organization.
//!
//! It is TOML. Whatever may be left out is empty, and an organization that is not in the file has no
//! members. For editors there is a JSON schema, `schemas/memberships.schema.json` of this package.
//!
//! # Organizations
//!
//! One table for each. Administrators are members too. A principal is `<kind>:<id>`, and the kinds are
//! `user`, `robot` and `ingest-job`.
//!
//! ```
//! use ark_container_core::identity::Memberships;
//! use ark_container_core::model::OrganizationId;
//!
//! let memberships = Memberships::parse(
//!     r#"
//!     [[organization]]
//!     id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
//!     kinds = ["user"]                            # every principal of these kinds is a member
//!     members = ["robot:nightly", "ingest-job:42"]
//!     administrators = ["user:carol"]
//!     "#,
//!     "memberships.toml",
//! )?;
//! let alice = memberships.principal("user:alice".parse()?);
//! assert!(alice.is_member_of(OrganizationId::TBD) && !alice.administers(OrganizationId::TBD));
//! assert!(memberships.principal("user:carol".parse()?).administers(OrganizationId::TBD));
//! assert!(!memberships.principal("robot:other".parse()?).is_member_of(OrganizationId::TBD));
//! # Ok::<(), ark_container_core::Error>(())
//! ```
//!
//! # Rules
//!
//! An organization may say what its members of a kind may do, instead of what the [standard
//! rules](crate::permission::StandardPolicy) say. A rule is a list of words, empty for nothing: `read`
//! is to list, to describe and to pull; `create` is to create repositories; and each
//! [action](crate::model::Action) has its own, such as `push` or `list-images`. Since what can be
//! pushed to can be read, a push needs `pull` beside `push`.
//!
//! Rules reach no further than the members of their organization, administrators keep every right, and
//! deletion stays theirs: no rule may name it. The [global
//! organization](crate::model::OrganizationId::GLOBAL) takes no rules.
//!
//! ```
//! use ark_container_core::identity::{Memberships, PrincipalKind};
//! use ark_container_core::model::{Action, OrganizationId};
//!
//! let memberships = Memberships::parse(
//!     r#"
//!     [[organization]]
//!     id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
//!     kinds = ["user", "robot"]
//!     [organization.rules]
//!     robot = ["read", "push"]                    # builds upload
//!     ingest-job = []                             # jobs do nothing here
//!     "#,
//!     "memberships.toml",
//! )?;
//! let rule = memberships.rule(OrganizationId::TBD, PrincipalKind::Robot).unwrap();
//! assert!(rule.allows(Action::Push) && !rule.allows(Action::CreateRepository));
//! assert_eq!(&**rule.origin(), "memberships.toml:6");
//! # Ok::<(), ark_container_core::Error>(())
//! ```
//!
//! # Callers of AWS
//!
//! Tables of the kind `aws` say which principal a caller of AWS is; the first that is about the caller
//! counts. The ARN is that of an IAM user, of a role, which stands for any session of it, or of an
//! assumed role, as is that of an SSO permission set. `*` stands for any characters of a name and `?`
//! for one; neither stands for `/` or `:`, nor for anything of the account. A session does not tell the
//! path of its role: a role's exact name may be given with its path, a pattern may not.
//!
//! `{session}` in a principal is the name of the caller's session. Whoever may assume a role chooses
//! that name, so both it and an ARN that asks for a certain session need `trust_session_name = true`:
//! right for SSO, which sets the name itself, and wrong for a role that several share.
//!
//! ```
//! use ark_container_core::identity::Memberships;
//!
//! let memberships = Memberships::parse(
//!     r#"
//!     [[aws]]
//!     arn = "arn:aws:iam::095412845506:role/ark-build"
//!     principal = "robot:build"
//!     [[aws]]
//!     arn = "arn:aws:sts::095412845506:assumed-role/AWSReservedSSO_Developer_*/*"
//!     principal = "user:{session}"
//!     trust_session_name = true
//!     "#,
//!     "memberships.toml",
//! )?;
//! let caller = |session| format!("arn:aws:sts::095412845506:assumed-role/{session}");
//! let principal = |session| memberships.aws_principal(&caller(session));
//! assert_eq!(principal("ark-build/i-0123")?, Some("robot:build".parse()?));
//! assert_eq!(principal("AWSReservedSSO_Developer_1f2e/alice")?, Some("user:alice".parse()?));
//! assert_eq!(principal("other/alice")?, None);
//! # Ok::<(), ark_container_core::Error>(())
//! ```
//!
//! # Safety
//!
//! Whoever can change the file can give themselves any right, so a file is not taken that belongs to
//! somebody other than this process's user or root, or that their group or others can write. The same
//! holds of its folder, and of the folder of what it is a link to, unless that is sticky, as `/tmp` is.

mod arn;
mod aws;
mod file;
mod rules;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use self::aws::{AwsMapping, AwsTable};
pub use self::file::MembershipsFile;
pub use self::rules::Rule;
use self::rules::RulesTable;
use self::text::Text;
use crate::error::Result;
use crate::identity::{Principal, PrincipalKind, PrincipalName, trusted_file};
use crate::model::OrganizationId;

/// Who belongs to which organization, who administers it, and what its rules are. See the
/// [format](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memberships {
    rosters: BTreeMap<OrganizationId, Roster>,
    aws: Vec<AwsMapping>,
}

/// The file as a whole.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    organization: Vec<OrganizationTable>,
    #[serde(default)]
    aws: Vec<AwsTable>,
}

/// One `[[organization]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OrganizationTable {
    id: Spanned<OrganizationId>,
    #[serde(default)]
    kinds: Texts,
    #[serde(default)]
    members: Texts,
    #[serde(default)]
    administrators: Texts,
    #[serde(default)]
    rules: RulesTable,
}

/// A list of the file, with the place of each text: serde would know only where the list starts.
type Texts = Vec<Spanned<String>>;

/// Who belongs to one organization, and its own rules.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Roster {
    kinds: BTreeSet<PrincipalKind>,
    members: BTreeSet<PrincipalName>,
    administrators: BTreeSet<PrincipalName>,
    rules: BTreeMap<PrincipalKind, Rule>,
    origin: Arc<str>,
}

impl Memberships {
    /// Reads memberships from `text`; `file` is what errors call it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) with file, line and column if the text is
    /// not TOML or not in the [format](self).
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let text = Text::new(text, file);
        let parsed: File = toml::from_str(text.as_str()).map_err(|error| {
            text.error(error.span().map_or(0, |span| span.start), error.message())
        })?;
        let mut rosters = BTreeMap::new();
        for table in parsed.organization {
            let start = table.id.span().start;
            let organization = *table.id.get_ref();
            if rosters.insert(organization, Roster::new(&table, &text)?).is_some() {
                let problem = format!("organization {organization} is listed twice");
                return Err(text.error(start, problem));
            }
        }
        let aws = parsed.aws.iter().map(|table| table.mapping(&text)).collect::<Result<_>>()?;
        Ok(Self { rosters, aws })
    }

    /// Reads memberships from a file, which nobody else may be able to change. Blocks while it reads.
    ///
    /// # Errors
    /// [`Error::NotFound`](crate::Error::NotFound) if there is no such file,
    /// [`Error::Failed`](crate::Error::Failed) if it cannot be read,
    /// [`Error::InvalidInput`](crate::Error::InvalidInput) if others can [change it](self#safety), and
    /// those of [`parse`](Self::parse).
    pub fn load(path: &Path) -> Result<Self> {
        Self::parse(&trusted_file::read(path, "memberships file")?, &path.display().to_string())
    }

    /// The principal called `name`, with its organizations.
    pub fn principal(&self, name: PrincipalName) -> Principal {
        let organizations = |belongs: fn(&Roster, &PrincipalName) -> bool| {
            let rosters = self.rosters.iter().filter(|(_, roster)| belongs(roster, &name));
            rosters.map(|(organization, _)| *organization).collect()
        };
        let member_of = organizations(Roster::has_member);
        let administers = organizations(Roster::has_administrator);
        Principal::new(name, member_of, administers)
    }

    /// The principal that the caller of AWS with this ARN is, as GetCallerIdentity names them; `None`
    /// if the file is silent about them.
    ///
    /// # Errors
    /// [`Error::Parse`](crate::Error::Parse) if `arn` is no ARN.
    pub fn aws_principal(&self, arn: &str) -> Result<Option<PrincipalName>> {
        Ok(AwsMapping::principal(&self.aws, arn)?)
    }

    /// What members of this kind may do in `organization`, where its own rules say so.
    pub fn rule(&self, organization: OrganizationId, kind: PrincipalKind) -> Option<&Rule> {
        self.rosters.get(&organization)?.rules.get(&kind)
    }

    /// Where the members of `organization` are listed, such as `memberships.toml:2`.
    pub fn origin(&self, organization: OrganizationId) -> Option<&Arc<str>> {
        self.rosters.get(&organization).map(|roster| &roster.origin)
    }

    /// Whether the file says of the principal what it says itself: that it belongs to `organization`,
    /// or administers it, or neither.
    pub(crate) fn confirms(&self, principal: &Principal, organization: OrganizationId) -> bool {
        let name = principal.name();
        self.rosters.get(&organization).is_some_and(|roster| {
            let administers = roster.has_administrator(name);
            principal.administers(organization) == administers
                && principal.is_member_of(organization) == (administers || roster.has_member(name))
        })
    }
}

impl Roster {
    fn new(table: &OrganizationTable, text: &Text<'_>) -> Result<Self> {
        Ok(Self {
            kinds: text.parse_each(&table.kinds)?,
            members: text.parse_each(&table.members)?,
            administrators: text.parse_each(&table.administrators)?,
            rules: table.rules.rules(*table.id.get_ref(), text)?,
            origin: text.origin(table.id.span().start),
        })
    }

    fn has_member(&self, name: &PrincipalName) -> bool {
        self.kinds.contains(&name.kind()) || self.members.contains(name)
    }

    fn has_administrator(&self, name: &PrincipalName) -> bool {
        self.administrators.contains(name)
    }
}

#[cfg(test)]
mod tests;
