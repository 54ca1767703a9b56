//! [`Memberships`]: the file that lists the members of each organization.
//!
//! The format is TOML. A list that is left out is empty. An organization that is not in the file has no
//! members. Editors can use the JSON schema `schemas/memberships.schema.json` of this package.
//!
//! # Organizations
//!
//! Each organization has one table. Administrators are members too. A principal is written `<kind>:<id>`;
//! the kinds are `user`, `robot` and `ingest-job`.
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
//! An organization can define rules for its members, by kind of principal. A rule replaces the [standard
//! rules](crate::permission::StandardPolicy) for that kind. A rule is a list of words, and an empty list
//! allows nothing. `read` allows listing, describing and pulling; `create` allows creating repositories. Each
//! [action](crate::model::Action) has a word too, such as `push` or `list-images`. A push also reads the
//! repository, so it needs `pull` beside `push`.
//!
//! Rules apply to the members of their organization only. Administrators keep all permissions. No rule can
//! allow deletion, which is reserved for administrators. The [global
//! organization](crate::model::OrganizationId::GLOBAL) cannot have rules.
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
//!     robot = ["read", "push"]                    # builds may push
//!     ingest-job = []                             # jobs have no permission
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
//! The `aws` tables map AWS callers to principals. The first table that matches the caller applies. The ARN is that
//! of an IAM user, of a role (for all its sessions), or of an assumed role, such as an SSO permission set. In names,
//! `*` matches any characters and `?` matches one; neither matches `/` or `:`. The account cannot be a pattern. The
//! ARN of a session does not contain the path of its role: an exact role name may have its path, a pattern may not.
//!
//! `{session}` in a principal is replaced by the caller's session name. A caller that assumes a role chooses that
//! name. So `{session}`, and an ARN with a session name or a pattern of one, need `trust_session_name = true`. The
//! setting is right for SSO, which sets the session name itself, and wrong for a role that several people share.
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
//! A user who can change the file can grant any permission. So the file must belong to the user of this
//! process or to root, and no other user or group may be able to write to it. The same applies to each
//! folder on the path of the file and of each symbolic link, from `/` on; sticky folders such as `/tmp` are
//! accepted. A link in a sticky folder must belong to the user or to root, and a file there must have one
//! hard link. A file in a repository of a local registry is rejected, because clients choose its content.

mod aws;
mod follow;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Display;
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use self::aws::{AwsMapping, AwsTable};
pub use self::follow::MembershipsFile;
use crate::error::{Error, Result};
use crate::files;
use crate::identity::{MAX_FILE_BYTES, Principal, PrincipalKind, PrincipalName};
use crate::model::{Action, Effect, OrganizationId, ParseError};

/// The members, administrators and rules of each organization. See the [format](self).
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

/// A table `[[organization]]` of the file.
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

/// A list of the file with the position of each text. Serde reports only the position of the list.
type Texts = Vec<Spanned<String>>;

/// The members, administrators and rules of one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Roster {
    kinds: BTreeSet<PrincipalKind>,
    members: BTreeSet<PrincipalName>,
    administrators: BTreeSet<PrincipalName>,
    rules: BTreeMap<PrincipalKind, Rule>,
    origin: Arc<str>,
}

impl Memberships {
    /// Parses memberships. `file` is the name of the file in errors.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with file, line and column if the text is not TOML or not in the [format](self).
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

    /// Reads memberships from a file that no other user can change. Blocks during the read.
    ///
    /// # Errors
    /// - [`Error::NotFound`] if the file does not exist
    /// - [`Error::Failed`] if the file cannot be read, or is a broken link
    /// - [`Error::InvalidInput`] if other users can [change the file](self#safety), or as for [`parse`](Self::parse)
    pub fn load(path: &Path) -> Result<Self> {
        let text = files::read_trusted_text(path, "memberships file", MAX_FILE_BYTES)?;
        Self::parse(&text, &path.display().to_string())
    }

    /// Returns the principal with this name and its organizations.
    pub fn principal(&self, name: PrincipalName) -> Principal {
        let organizations = |belongs: fn(&Roster, &PrincipalName) -> bool| {
            let rosters = self.rosters.iter().filter(|(_, roster)| belongs(roster, &name));
            rosters.map(|(organization, _)| *organization).collect()
        };
        let member_of = organizations(Roster::has_member);
        let administers = organizations(Roster::has_administrator);
        Principal::new(name, member_of, administers)
    }

    /// Returns the principal of the AWS caller with this ARN, which `GetCallerIdentity` returns. Returns
    /// `None` if no table of the file matches.
    ///
    /// # Errors
    /// [`Error::Parse`] if `arn` is not an ARN.
    pub fn aws_principal(&self, arn: &str) -> Result<Option<PrincipalName>> {
        Ok(AwsMapping::principal(&self.aws, arn)?)
    }

    /// Returns the rule of `organization` for members of this kind, if there is one.
    pub fn rule(&self, organization: OrganizationId, kind: PrincipalKind) -> Option<&Rule> {
        self.rosters.get(&organization)?.rules.get(&kind)
    }

    /// Returns the file and line of the organization's table, such as `memberships.toml:2`.
    pub fn origin(&self, organization: OrganizationId) -> Option<&Arc<str>> {
        self.rosters.get(&organization).map(|roster| &roster.origin)
    }

    /// Returns whether the file grants the principal the same membership and administration of `organization`.
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

/// The words of a rule, for errors.
const RULE_WORDS: &str = "read, create, push, or an action such as pull or list-images";

/// The actions that one kind of members may perform in one organization. A rule replaces the standard rules.
///
/// A rule applies to members only and never allows deletion. Administrators may perform every action, and
/// other principals none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    actions: BTreeSet<Action>,
    origin: Arc<str>,
}

impl Rule {
    /// Returns whether the rule allows `action`.
    pub fn allows(&self, action: Action) -> bool {
        self.actions.contains(&action)
    }

    /// Returns the file and line of the rule, such as `memberships.toml:12`.
    pub fn origin(&self) -> &Arc<str> {
        &self.origin
    }
}

/// A table `[organization.rules]` of the file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RulesTable {
    user: Option<Spanned<Texts>>,
    robot: Option<Spanned<Texts>>,
    ingest_job: Option<Spanned<Texts>>,
}

impl RulesTable {
    /// Parses the rules of `organization`.
    fn rules(
        &self,
        organization: OrganizationId,
        text: &Text<'_>,
    ) -> Result<BTreeMap<PrincipalKind, Rule>> {
        let tables = PrincipalKind::ALL.iter().copied().filter_map(|kind| {
            let words = match kind {
                PrincipalKind::User => &self.user,
                PrincipalKind::Robot => &self.robot,
                PrincipalKind::IngestJob => &self.ingest_job,
            };
            words.as_ref().map(|words| (kind, words))
        });
        tables.map(|(kind, words)| Ok((kind, rule(words, organization, text)?))).collect()
    }
}

fn rule(words: &Spanned<Texts>, organization: OrganizationId, text: &Text<'_>) -> Result<Rule> {
    let start = words.span().start;
    if organization == OrganizationId::GLOBAL {
        let problem =
            "the global organization cannot have rules: they would apply to every principal";
        return Err(text.error(start, problem));
    }
    let mut actions = BTreeSet::new();
    for word in words.get_ref() {
        let start = word.span().start;
        let named = named(word.get_ref()).ok_or_else(|| {
            text.error(start, format!("{:?} is not a rule: expected {RULE_WORDS}", word.get_ref()))
        })?;
        if named.iter().any(|action| action.effect() == Effect::Removes) {
            let problem = format!("{:?} is reserved for administrators", word.get_ref());
            return Err(text.error(start, problem));
        }
        actions.extend(named);
    }
    Ok(Rule { actions, origin: text.origin(start) })
}

/// Returns the actions that a word of a rule allows.
fn named(word: &str) -> Option<Vec<Action>> {
    match word {
        "read" => {
            let reads = |action: &Action| action.effect() == Effect::Reads;
            Some(Action::ALL.iter().copied().filter(reads).collect())
        }
        "create" => Some(vec![Action::CreateRepository]),
        _ => word.parse().ok().map(|action| vec![action]),
    }
}

/// The text and name of a memberships file, and the offsets of its lines.
struct Text<'a> {
    text: &'a str,
    file: &'a str,
    lines: Vec<usize>,
}

impl<'a> Text<'a> {
    fn new(text: &'a str, file: &'a str) -> Self {
        let after_newline = text.match_indices('\n').map(|(offset, _)| offset + 1);
        Self { text, file, lines: std::iter::once(0).chain(after_newline).collect() }
    }

    fn as_str(&self) -> &'a str {
        self.text
    }

    /// Returns an error about the text at byte `offset`.
    fn error(&self, offset: usize, problem: impl Display) -> Error {
        let (line, column) = self.line_and_column(offset);
        Error::invalid(format!("{}:{line}:{column}: {problem}", self.file))
    }

    /// Returns the position of byte `offset`, such as `memberships.toml:12`.
    fn origin(&self, offset: usize) -> Arc<str> {
        format!("{}:{}", self.file, self.line_and_column(offset).0).into()
    }

    /// Parses a value of the file.
    fn parse<T: FromStr<Err = ParseError>>(&self, value: &Spanned<String>) -> Result<T> {
        value.get_ref().parse().map_err(|error| self.error(value.span().start, error))
    }

    /// Parses the values of a list.
    fn parse_each<T, C>(&self, values: &[Spanned<String>]) -> Result<C>
    where
        T: FromStr<Err = ParseError>,
        C: FromIterator<T>,
    {
        values.iter().map(|value| self.parse(value)).collect()
    }

    /// Returns the line and column, counted from 1. Columns are counted in characters.
    fn line_and_column(&self, offset: usize) -> (usize, usize) {
        let offset = self.text.floor_char_boundary(offset);
        let line = self.lines.partition_point(|start| *start <= offset);
        let before = &self.text[self.lines[line - 1]..offset];
        (line, before.chars().count() + 1)
    }
}

#[cfg(test)]
mod tests;
