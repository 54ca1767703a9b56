//! [`Callers`]: the callers of AWS that an ARN of the memberships file names.

use crate::model::{ParseError, matches_wildcards};

const WHAT: &str = "ARN of an AWS caller";
const FORM: &str = "expected arn:<partition>:<service>::<account>:<resource>";
const ACCOUNT_LEN: usize = 12;
const ANY: &str = "*";

/// A caller of AWS, or, with `*` and `?` in the parts of `who`, many of one account.
///
/// An account is never a pattern: anyone can have an account, and in it a role of any name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Callers {
    partition: Box<str>,
    account: Box<str>,
    who: Who,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Who {
    /// A user of IAM, by path and name.
    User(Box<str>),
    /// A session of a role. It does not tell the role's path.
    Session { role: Box<str>, name: Box<str> },
}

impl Callers {
    /// The callers that an ARN of the file names; else what is wrong with it.
    pub(super) fn new(arn: &str) -> Result<Self, &'static str> {
        if !arn.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err("it has a character that no ARN has");
        }
        let Parts { partition, service, account, resource } = Parts::of(arn).ok_or(FORM)?;
        if !partition.starts_with("aws") || partition.contains(is_wildcard) {
            return Err("a partition is aws, aws-cn, aws-us-gov and the like");
        }
        if account.len() != ACCOUNT_LEN || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("an account has 12 digits, and none can be left open");
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

    /// Whether they are sessions of roles.
    pub(super) fn are_sessions(&self) -> bool {
        matches!(self.who, Who::Session { .. })
    }

    /// Whether some sessions of a role are among them and others are not.
    pub(super) fn depend_on_session_name(&self) -> bool {
        matches!(&self.who, Who::Session { name, .. } if **name != *ANY)
    }

    /// Whether `caller` is one of them.
    pub(super) fn contain(&self, caller: &Caller) -> bool {
        let Caller(Self { partition, account, who }) = caller;
        (&self.partition, &self.account) == (partition, account)
            && match (&self.who, who) {
                (Who::User(pattern), Who::User(user)) => matches(pattern, user),
                (Who::Session { role, name }, Who::Session { role: of, name: session }) => {
                    matches(role, of) && matches(name, session)
                }
                _ => false,
            }
    }
}

impl Who {
    /// The sessions of roles that are called so.
    fn of_role(names: &str) -> Result<Self, &'static str> {
        // Without its path an exact name is still one role alone: names are unique in an account.
        let role = match names.rsplit_once('/') {
            Some(_) if names.contains(is_wildcard) => {
                return Err(
                    "a session does not tell the path of its role: leave out the path, or \
                            * and ?",
                );
            }
            Some((_, role)) => role,
            None => names,
        };
        Ok(Self::Session { role: role.into(), name: ANY.into() })
    }

    fn session(names: &str) -> Option<Self> {
        let (role, name) = names.split_once('/')?;
        let is_session = !name.contains('/');
        is_session.then(|| Self::Session { role: role.into(), name: name.into() })
    }
}

/// One caller, as STS GetCallerIdentity names them.
#[derive(Debug)]
pub(super) struct Caller(Callers);

impl Caller {
    /// The caller with this ARN; `None` for those whom no ARN of the file names, such as an
    /// account's root.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
    pub(super) fn new(arn: &str) -> Result<Option<Self>, ParseError> {
        let Some(Parts { partition, service, account, resource }) = Parts::of(arn) else {
            return Err(ParseError::new(WHAT, arn, FORM));
        };
        let who = match (service, resource.split_once('/')) {
            ("iam", Some(("user", user))) => Some(Who::User(user.into())),
            ("sts", Some(("assumed-role", names))) => Who::session(names),
            _ => None,
        };
        Ok(who
            .map(|who| Self(Callers { partition: partition.into(), account: account.into(), who })))
    }

    /// The name of the session, which whoever may assume the role has chosen.
    pub(super) fn session_name(&self) -> Option<&str> {
        match &self.0.who {
            Who::User(_) => None,
            Who::Session { name, .. } => Some(name),
        }
    }
}

/// An ARN without a region, as those of IAM and STS are.
struct Parts<'a> {
    partition: &'a str,
    service: &'a str,
    account: &'a str,
    resource: &'a str,
}

impl<'a> Parts<'a> {
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

/// Whether a pattern of names matches `text`. A wildcard matches neither `/` nor `:`.
fn matches(pattern: &str, text: &str) -> bool {
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

    fn contain(pattern: &str, caller: &str) -> bool {
        let caller = Caller::new(caller).unwrap();
        let callers = Callers::new(pattern).unwrap();
        caller.is_some_and(|caller| callers.contain(&caller))
    }

    #[test]
    fn users_are_named_with_their_path() {
        let alice = "arn:aws:iam::095412845506:user/teams/alice";
        assert!(contain(alice, alice));
        assert!(contain("arn:aws:iam::095412845506:user/*/al?ce", alice));
        assert!(!contain("arn:aws:iam::095412845506:user/alice", alice));
        assert!(!contain("arn:aws:iam::095412845506:user/*", alice));
        assert!(!contain("arn:aws:iam::095412845507:user/teams/alice", alice));
        assert!(!contain("arn:aws-cn:iam::095412845506:user/teams/alice", alice));
        assert!(!contain("arn:aws:iam::095412845506:user/teams/Alice", alice));
    }

    #[test]
    fn a_role_is_any_session_of_it() {
        let session = format!("{ROLES}/ark-build/i-0123");
        assert!(contain("arn:aws:iam::095412845506:role/ark-build", &session));
        assert!(contain("arn:aws:iam::095412845506:role/teams/ark-build", &session));
        assert!(contain("arn:aws:iam::095412845506:role/ark-*", &session));
        assert!(contain(&format!("{ROLES}/ark-build/*"), &session));
        assert!(!contain(&format!("{ROLES}/ark-build/i-01"), &session));
        assert!(!contain("arn:aws:iam::095412845506:role/build", &session));
        assert!(!contain("arn:aws:iam::095412845506:user/ark-build", &session));
    }

    #[test]
    fn others_are_nobodys() {
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
    fn what_would_let_in_strangers_is_refused() {
        let problem = |arn: &str| Callers::new(arn).unwrap_err();
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
    fn a_star_takes_any_characters_but_separators() {
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
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
        assert!(!matches(&"*a".repeat(100), &"a".repeat(99)));
    }

    proptest! {
        #[test]
        fn matching_agrees_with_its_definition(pattern in "[ab/*?]{0,8}", text in "[ab/:]{0,8}") {
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
            prop_assert_eq!(matches(&pattern, &text), expected);
        }

        #[test]
        fn no_text_panics(text in "(arn:aws:|iam::|sts::|095412845506:|user/|[*?/:]|\\PC){0,8}") {
            let _ = (Callers::new(&text), Caller::new(&text));
        }
    }
}
