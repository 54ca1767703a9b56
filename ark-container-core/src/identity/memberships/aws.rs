//! [`AwsMapping`]: maps AWS callers to principals, by patterns of ARNs.

use serde::Deserialize;
use toml::Spanned;

use super::Text;
use crate::error::Result;
use crate::identity::PrincipalName;
use crate::model::{ParseError, matches_wildcards};

const CALLER_ARN: &str = "ARN of an AWS caller";
const ARN_FORM: &str = "expected arn:<partition>:<service>::<account>:<resource>";
const ACCOUNT_DIGITS: usize = 12;
const ANY_SESSION: &str = "*";

/// The placeholder for the name of the caller's session in a principal.
const SESSION: &str = "{session}";

/// A table `[[aws]]` of the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AwsTable {
    arn: Spanned<String>,
    principal: Spanned<String>,
    #[serde(default)]
    trust_session_name: bool,
}

/// Maps a pattern of AWS callers to a principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct AwsMapping {
    pattern: CallerPattern,
    /// If the id contains [`SESSION`], each session is a separate principal.
    principal: PrincipalName,
}

impl AwsTable {
    pub(super) fn mapping(&self, text: &Text<'_>) -> Result<AwsMapping> {
        let refused = |value: &Spanned<String>, problem: &str| {
            let problem = format!("{:?} {problem}", value.get_ref());
            text.error(value.span().start, problem)
        };
        let pattern = CallerPattern::new(self.arn.get_ref()).map_err(|problem| {
            refused(&self.arn, &format!("does not describe AWS callers: {problem}"))
        })?;
        let principal: PrincipalName = text.parse(&self.principal)?;
        let is_of_session = principal.id().contains(SESSION);
        if principal.id().replace(SESSION, "").contains(['{', '}']) {
            return Err(refused(
                &self.principal,
                "may contain no placeholder other than {session}",
            ));
        }
        if is_of_session && !pattern.is_of_sessions() {
            return Err(refused(
                &self.principal,
                "cannot contain {session}: an IAM user has no session",
            ));
        }
        let trusts = match (is_of_session, pattern.depends_on_session_name()) {
            (true, _) => &self.principal,
            (false, true) => &self.arn,
            (false, false) => return Ok(AwsMapping { pattern, principal }),
        };
        if !self.trust_session_name {
            return Err(refused(
                trusts,
                "trusts the session name, which the caller that assumes the role chooses; to allow \
                 that, add trust_session_name = true",
            ));
        }
        Ok(AwsMapping { pattern, principal })
    }
}

impl AwsMapping {
    /// Returns the principal of the caller with this ARN, by the first mapping that matches.
    pub(super) fn principal(
        mappings: &[Self],
        arn: &str,
    ) -> Result<Option<PrincipalName>, ParseError> {
        let Some(caller) = Caller::new(arn)? else { return Ok(None) };
        let Some(mapping) = mappings.iter().find(|mapping| mapping.pattern.matches(&caller)) else {
            return Ok(None);
        };
        let principal = &mapping.principal;
        let id = principal.id().replace(SESSION, caller.session_name().unwrap_or_default());
        PrincipalName::new(principal.kind(), &id).map(Some)
    }
}

/// A pattern of AWS callers of one account. The names in `who` may contain `*` and `?`.
///
/// The account is never a pattern: anyone can create an account with a role of any name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct CallerPattern {
    partition: Box<str>,
    account: Box<str>,
    who: Who,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// An IAM user, by path and name.
    User(Box<str>),
    /// A session of a role. Its ARN does not contain the role's path.
    Session { role: Box<str>, name: Box<str> },
}

impl CallerPattern {
    /// Parses an ARN of the file. The error is the problem in words.
    fn new(arn: &str) -> Result<Self, &'static str> {
        if !arn.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has a character that no ARN has");
        }
        let ArnParts { partition, service, account, resource } =
            ArnParts::of(arn).ok_or(ARN_FORM)?;
        if !partition.starts_with("aws") || partition.contains(is_wildcard) {
            return Err("expected a partition such as aws, aws-cn or aws-us-gov");
        }
        if account.len() != ACCOUNT_DIGITS || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("an account has 12 digits and cannot be a pattern");
        }
        let (kind, names) = resource.split_once('/').unwrap_or((resource, ""));
        if names.split('/').any(str::is_empty) {
            return Err("a name in it is empty");
        }
        let who = match (service, kind) {
            ("iam", "user") => Who::User(names.into()),
            ("iam", "role") => Who::of_role(names)?,
            ("sts", "assumed-role") => {
                Who::session(names).ok_or("expected assumed-role/<role>/<session>")?
            }
            _ => return Err("expected a user or a role of iam, or an assumed-role of sts"),
        };
        Ok(Self { partition: partition.into(), account: account.into(), who })
    }

    /// Returns whether the callers are sessions of roles.
    fn is_of_sessions(&self) -> bool {
        matches!(self.who, Who::Session { .. })
    }

    /// Returns whether the pattern can match one session of a role and not another.
    fn depends_on_session_name(&self) -> bool {
        matches!(&self.who, Who::Session { name, .. } if **name != *ANY_SESSION)
    }

    fn matches(&self, caller: &Caller) -> bool {
        let Caller(Self { partition, account, who }) = caller;
        (&self.partition, &self.account) == (partition, account)
            && match (&self.who, who) {
                (Who::User(pattern), Who::User(user)) => name_matches(pattern, user),
                (Who::Session { role, name }, Who::Session { role: of, name: session }) => {
                    name_matches(role, of) && name_matches(name, session)
                }
                _ => false,
            }
    }
}

impl Who {
    /// Returns the sessions of the roles with these names.
    fn of_role(names: &str) -> Result<Self, &'static str> {
        // An exact role name without its path is unambiguous: role names are unique in an account.
        let role = match names.rsplit_once('/') {
            Some(_) if names.contains(is_wildcard) => {
                let problem = "the ARN of a session does not contain the path of its role: omit \
                               the path, or * and ?";
                return Err(problem);
            }
            Some((_, role)) => role,
            None => names,
        };
        Ok(Self::Session { role: role.into(), name: ANY_SESSION.into() })
    }

    fn session(names: &str) -> Option<Self> {
        let (role, name) = names.split_once('/')?;
        let is_session = !name.contains('/');
        is_session.then(|| Self::Session { role: role.into(), name: name.into() })
    }
}

/// A caller, from the ARN that STS `GetCallerIdentity` returns.
#[derive(Debug)]
struct Caller(CallerPattern);

impl Caller {
    /// Parses the ARN of a caller. Returns `None` for a caller that no pattern can match, such as the root user.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
    fn new(arn: &str) -> Result<Option<Self>, ParseError> {
        let Some(ArnParts { partition, service, account, resource }) = ArnParts::of(arn) else {
            return Err(ParseError::new(CALLER_ARN, arn, ARN_FORM));
        };
        let who = match (service, resource.split_once('/')) {
            ("iam", Some(("user", user))) => Some(Who::User(user.into())),
            ("sts", Some(("assumed-role", names))) => Who::session(names),
            _ => None,
        };
        Ok(who.map(|who| {
            Self(CallerPattern { partition: partition.into(), account: account.into(), who })
        }))
    }

    /// Returns the session name. The caller that assumed the role chose it.
    fn session_name(&self) -> Option<&str> {
        match &self.0.who {
            Who::User(_) => None,
            Who::Session { name, .. } => Some(name),
        }
    }
}

/// An ARN without a region, such as those of IAM and STS.
struct ArnParts<'a> {
    partition: &'a str,
    service: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> ArnParts<'a> {
    fn of(arn: &'a str) -> Option<Self> {
        let parts: Vec<&str> = arn.splitn(6, ':').collect();
        match parts[..] {
            ["arn", partition, service, "", account, resource] => {
                Some(Self { partition, service, account, resource })
            }
            _ => None,
        }
    }
}

/// Returns whether a pattern of names matches `text`. A wildcard matches neither `/` nor `:`.
fn name_matches(pattern: &str, text: &str) -> bool {
    matches_wildcards(pattern, text, |byte| !matches!(byte, b'/' | b':'))
}

fn is_wildcard(character: char) -> bool {
    matches!(character, '*' | '?')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ROLES: &str = "arn:aws:sts::095412845506:assumed-role";

    fn matches(pattern: &str, caller: &str) -> bool {
        let caller = Caller::new(caller).unwrap();
        let pattern = CallerPattern::new(pattern).unwrap();
        caller.is_some_and(|caller| pattern.matches(&caller))
    }

    #[test]
    fn user_arn_includes_its_path() {
        let alice = "arn:aws:iam::095412845506:user/teams/alice";
        assert!(matches(alice, alice));
        assert!(matches("arn:aws:iam::095412845506:user/*/al?ce", alice));
        assert!(!matches("arn:aws:iam::095412845506:user/alice", alice));
        assert!(!matches("arn:aws:iam::095412845506:user/*", alice));
        assert!(!matches("arn:aws:iam::095412845507:user/teams/alice", alice));
        assert!(!matches("arn:aws-cn:iam::095412845506:user/teams/alice", alice));
        assert!(!matches("arn:aws:iam::095412845506:user/teams/Alice", alice));
    }

    #[test]
    fn role_arn_matches_any_session() {
        let session = format!("{ROLES}/ark-build/i-0123");
        assert!(matches("arn:aws:iam::095412845506:role/ark-build", &session));
        assert!(matches("arn:aws:iam::095412845506:role/teams/ark-build", &session));
        assert!(matches("arn:aws:iam::095412845506:role/ark-*", &session));
        assert!(matches(&format!("{ROLES}/ark-build/*"), &session));
        assert!(!matches(&format!("{ROLES}/ark-build/i-01"), &session));
        assert!(!matches("arn:aws:iam::095412845506:role/build", &session));
        assert!(!matches("arn:aws:iam::095412845506:user/ark-build", &session));
    }

    #[test]
    fn other_arns_match_no_pattern() {
        for other in [
            "arn:aws:iam::095412845506:root",
            "arn:aws:sts::095412845506:federated-user/alice",
            "arn:aws:sts::095412845506:assumed-role/ark-build",
            "arn:aws:sts::095412845506:assumed-role/ark-build/a/b",
            "arn:aws:iam::095412845506:role/ark-build",
        ] {
            assert!(Caller::new(other).unwrap().is_none(), "{other}");
        }
        let error = Caller::new("alice").unwrap_err().to_string();
        assert!(error.starts_with("\"alice\" is not a valid ARN of an AWS caller"), "{error}");
    }

    #[test]
    fn pattern_over_accounts_is_rejected() {
        let problem = |arn: &str| CallerPattern::new(arn).unwrap_err();
        assert!(problem("arn:aws:iam::*:role/ark-build").contains("12 digits"));
        assert!(problem("arn:aws:iam::09541284550?:role/ark-build").contains("12 digits"));
        assert!(problem("arn:*:iam::095412845506:role/ark-build").contains("partition"));
        assert!(problem("arn:aws*:iam::095412845506:role/ark-build").contains("partition"));
        assert!(problem("arn:aws:*::095412845506:role/ark-build").contains("expected a user"));
        assert!(problem("arn:aws:iam::095412845506:*").contains("empty"));
        assert!(problem("arn:aws:iam::095412845506:*/x").contains("expected a user"));
        assert!(problem("arn:aws:iam::095412845506:role/teams/*").contains("path"));
        assert!(problem("arn:aws:iam::095412845506:role/").contains("empty"));
        assert!(problem("arn:aws:iam::095412845506:user/teams//alice").contains("empty"));
        assert!(problem("arn:aws:sts::095412845506:assumed-role/ark-build").contains("<session>"));
        assert!(problem("arn:aws:sts::095412845506:assumed-role/a/b/*").contains("<session>"));
        assert!(problem("arn:aws:sts::095412845506:federated-user/x").contains("expected a user"));
        assert!(problem("arn:aws:iam::095412845506:user/álice").contains("character"));
        assert!(problem("*").contains("expected arn:"));
    }

    #[test]
    fn star_matches_all_but_separators() {
        for (pattern, text, expected) in [
            ("*", "", true),
            ("**", "a", true),
            ("a*b*c", "aXbXbXc", true),
            ("a*b", "a/b", false),
            ("a?b", "a:b", false),
            ("a*", "ab/c", false),
            ("*/*", "a/b", true),
            ("?", "", false),
            ("a*a", "a", false),
            ("", "a", false),
        ] {
            assert_eq!(name_matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!name_matches(&"*a".repeat(100), &"a".repeat(99)));
    }

    proptest! {
        #[test]
        fn name_match_agrees_with_definition(pattern in "[ab/*?]{0,8}", text in "[ab/:]{0,8}") {
            fn defined(pattern: &[u8], text: &[u8]) -> bool {
                match (pattern, text) {
                    ([], []) => true,
                    ([b'*', rest @ ..], _) => {
                        defined(rest, text)
                            || matches!(text, [b'a' | b'b', more @ ..] if defined(pattern, more))
                    }
                    ([b'?', rest @ ..], [b'a' | b'b', more @ ..]) => defined(rest, more),
                    ([p, rest @ ..], [t, more @ ..]) => p == t && *p != b'?' && defined(rest, more),
                    _ => false,
                }
            }
            let expected = defined(pattern.as_bytes(), text.as_bytes());
            prop_assert_eq!(name_matches(&pattern, &text), expected);
        }

        #[test]
        fn arn_parser_never_panics(text in "(arn:aws:|iam::|sts::|095412845506:|user/|[*?/:]|\\PC){0,8}") {
            let _ = (CallerPattern::new(&text), Caller::new(&text));
        }
    }
}
