//! [`Memberships`]: the file that says who belongs to which organization.
//!
//! It is TOML, with one table per organization. Every list may be left out; an organization that is
//! not in the file has no members. Administrators are members too.
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

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::str::FromStr;

use serde::Deserialize;
use toml::Spanned;

use crate::error::{Error, ResourceKind, Result};
use crate::identity::{Principal, PrincipalKind, PrincipalName};
use crate::model::{OrganizationId, ParseError};

/// Who belongs to which organization, and who administers it. See the [format](self).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Memberships(BTreeMap<OrganizationId, Roster>);

/// The file as a whole.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    organization: Vec<Entry>,
}

/// One `[[organization]]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Spanned<OrganizationId>,
    #[serde(default)]
    kinds: Texts,
    #[serde(default)]
    members: Texts,
    #[serde(default)]
    administrators: Texts,
}

/// A list of the file, with the place of each text: serde would know only where the list starts.
type Texts = Vec<Spanned<String>>;

/// Who belongs to one organization.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Roster {
    kinds: BTreeSet<PrincipalKind>,
    members: BTreeSet<PrincipalName>,
    administrators: BTreeSet<PrincipalName>,
}

impl Memberships {
    /// Reads memberships from `text`; `file` is what errors call it.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] with file, line and column if the text is not TOML, has an unknown
    /// key, lacks an `id`, names what is no organization or principal, or names an organization twice.
    pub fn parse(text: &str, file: &str) -> Result<Self> {
        let invalid = |offset: usize, problem: &str| {
            let (line, column) = line_and_column(text, offset);
            Error::invalid(format!("{file}:{line}:{column}: {problem}"))
        };
        let parsed: File = toml::from_str(text)
            .map_err(|error| invalid(error.span().map_or(0, |span| span.start), error.message()))?;
        let mut rosters = BTreeMap::new();
        for Entry { id, kinds, members, administrators } in parsed.organization {
            let start = id.span().start;
            let organization = id.into_inner();
            let roster = Roster {
                kinds: parse_each(&kinds, invalid)?,
                members: parse_each(&members, invalid)?,
                administrators: parse_each(&administrators, invalid)?,
            };
            if rosters.insert(organization, roster).is_some() {
                let problem = format!("organization {organization} is listed twice");
                return Err(invalid(start, &problem));
            }
        }
        Ok(Self(rosters))
    }

    /// Reads memberships from a file. Blocks while it reads.
    ///
    /// # Errors
    /// [`Error::NotFound`] if there is no such file, [`Error::Failed`] if it cannot be read, and those
    /// of [`parse`](Self::parse).
    pub fn load(path: &Path) -> Result<Self> {
        let file = path.display();
        let text = std::fs::read_to_string(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => Error::not_found(ResourceKind::File, &file),
            _ => Error::failed(format!("cannot read the memberships in {file}"), error),
        })?;
        Self::parse(&text, &file.to_string())
    }

    /// The principal called `name`, with its organizations.
    pub fn principal(&self, name: PrincipalName) -> Principal {
        let organizations = |belongs: fn(&Roster, &PrincipalName) -> bool| {
            let rosters = self.0.iter().filter(|(_, roster)| belongs(roster, &name));
            rosters.map(|(organization, _)| *organization).collect()
        };
        let member_of = organizations(Roster::has_member);
        let administers = organizations(Roster::has_administrator);
        Principal::new(name, member_of, administers)
    }
}

impl Roster {
    fn has_member(&self, name: &PrincipalName) -> bool {
        self.kinds.contains(&name.kind()) || self.members.contains(name)
    }

    fn has_administrator(&self, name: &PrincipalName) -> bool {
        self.administrators.contains(name)
    }
}

fn parse_each<T: FromStr<Err = ParseError> + Ord>(
    texts: &Texts,
    invalid: impl Fn(usize, &str) -> Error,
) -> Result<BTreeSet<T>> {
    let parse = |text: &Spanned<String>| {
        let parsed = text.get_ref().parse();
        parsed.map_err(|error: ParseError| invalid(text.span().start, &error.to_string()))
    };
    texts.iter().map(parse).collect()
}

/// Where byte `offset` of `text` is, both counted from 1, the column in characters.
fn line_and_column(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..text.floor_char_boundary(offset)];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Organizations;

    const TBD: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

    fn error(text: &str) -> String {
        let error = Memberships::parse(text, "m.toml").unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
        error.to_string()
    }

    #[test]
    fn an_empty_file_makes_nobody_a_member() {
        let nobody = Memberships::parse("", "m.toml").unwrap();
        let alice = nobody.principal("user:alice".parse().unwrap());
        assert_eq!(alice.organizations(), Organizations::none());
    }

    #[test]
    fn a_missing_file_is_not_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memberships.toml");
        let error = Memberships::load(&path).unwrap_err();
        assert!(matches!(error, Error::NotFound { kind: ResourceKind::File, .. }));
        assert_eq!(error.to_string(), format!("file {} does not exist", path.display()));
        assert!(matches!(Memberships::load(folder.path()), Err(Error::Failed { .. })));
    }

    #[test]
    fn a_file_is_named_in_its_errors() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memberships.toml");
        std::fs::write(&path, "x = 1").unwrap();
        let error = Memberships::load(&path).unwrap_err().to_string();
        assert!(error.starts_with(&format!("{}:1:1: unknown field", path.display())), "{error}");
        std::fs::write(&path, b"\xff").unwrap();
        assert!(matches!(Memberships::load(&path), Err(Error::Failed { .. })));
    }

    #[test]
    fn errors_say_line_and_column() {
        assert_eq!(
            error(&format!("[[organization]]\nid = \"{TBD}\"\nmember = []\n")),
            "m.toml:3:1: unknown field `member`, expected one of `id`, `kinds`, `members`, \
             `administrators`",
        );
        assert_eq!(
            error("# é\n[[organization]]\nmembers = []\n"),
            "m.toml:2:1: missing field `id`"
        );
        assert_eq!(
            error("[[organization]]\nid = \"x\""),
            "m.toml:2:6: \"x\" is not a valid organization GUID: expected a hexadecimal digit \
             (32 hexadecimal digits as 8-4-4-4-12) but found 'x' at character 1",
        );
        assert_eq!(
            error(&format!("[[organization]]\nid = \"{TBD}\"\nkinds = [\"user\", \"admin\"]")),
            "m.toml:3:18: \"admin\" is not a valid principal kind: expected user, robot or \
             ingest-job",
        );
        assert_eq!(
            error(&format!("[[organization]]\nid = \"{TBD}\"\nmembers = [\"alice\"]")),
            "m.toml:3:12: \"alice\" is not a valid principal: expected <kind>:<id>",
        );
        assert!(error("[[organization]\n").starts_with("m.toml:1:"));
    }

    #[test]
    fn an_organization_comes_once() {
        let braces = format!("{{{}}}", TBD.to_uppercase());
        let text = format!("[[organization]]\nid = \"{TBD}\"\n[[organization]]\nid = '{braces}'\n");
        assert_eq!(error(&text), format!("m.toml:4:6: organization {TBD} is listed twice"));
    }
}
