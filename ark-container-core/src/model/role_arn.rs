//! [`RoleArn`]: the name of a role in AWS.

use std::fmt;
use std::str::FromStr;

use super::parse::{ParseError, serde_as_text};

const WHAT: &str = "ARN of a role";
const FORM: &str = "arn:<partition>:iam::<account>:role/<name>";
const ACCOUNT_LEN: usize = 12;
/// The most that an ARN has.
///
/// Source: `arnType` in the service model of STS.
const MAX_LEN: usize = 2048;

/// The ARN of an IAM role, such as `arn:aws:iam::095412845506:role/builds`.
///
/// Whether there is such a role, and who may assume it, only AWS knows.
///
/// ```
/// use ark_container_core::model::RoleArn;
///
/// let role: RoleArn = "arn:aws:iam::095412845506:role/teams/builds".parse()?;
/// assert_eq!(role.as_str(), "arn:aws:iam::095412845506:role/teams/builds");
/// assert!("arn:aws:iam::095412845506:user/alice".parse::<RoleArn>().is_err());
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RoleArn(Box<str>);

impl RoleArn {
    /// The ARN as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The form is that of IAM's reference; a name is 1 to 64 letters, digits and `+=,.@_-`, and a path before
/// it has any visible characters.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_identifiers.html>
impl FromStr for RoleArn {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let expected = |problem: &str| ParseError::new(WHAT, input, format!("{problem} ({FORM})"));
        let parts: Vec<&str> = input.splitn(6, ':').collect();
        let ["arn", partition, "iam", "", account, resource] = parts[..] else {
            return Err(expected("it does not have the form"));
        };
        if !partition.starts_with("aws") {
            return Err(expected("a partition is aws, aws-cn, aws-us-gov and the like"));
        }
        if account.len() != ACCOUNT_LEN || !account.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(expected("an account has 12 digits"));
        }
        let name = resource.strip_prefix("role/").ok_or_else(|| expected("it is no role"))?;
        let foreign = input.char_indices().find(|(_, c)| !c.is_ascii_graphic());
        if let Some((offset, character)) = foreign {
            let problem = format!("{character:?} is not allowed");
            return Err(ParseError::at(WHAT, input, offset, problem));
        }
        if name.is_empty() || name.ends_with('/') {
            return Err(expected("the role has no name"));
        }
        if input.len() > MAX_LEN {
            let problem = format!("it is longer than {MAX_LEN} characters");
            return Err(ParseError::new(WHAT, input, problem));
        }
        Ok(Self(input.into()))
    }
}

impl fmt::Display for RoleArn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

serde_as_text!(RoleArn);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_roles_of_accounts_are_taken() {
        let error = |text: &str| text.parse::<RoleArn>().unwrap_err().to_string();
        assert!(error("builds").contains("does not have the form"));
        assert!(error("arn:aws:sts::095412845506:assumed-role/builds/x").contains("the form"));
        assert!(error("arn:aws:iam::095412845506:user/alice").contains("no role"));
        assert!(error("arn:aws:iam::95412845506:role/builds").contains("12 digits"));
        assert!(error("arn:moon:iam::095412845506:role/builds").contains("partition"));
        assert!(error("arn:aws:iam::095412845506:role/").contains("no name"));
        assert!(error("arn:aws:iam::095412845506:role/teams/").contains("no name"));
        assert!(error("arn:aws:iam::095412845506:role/a b").contains("at character 33"));
        let long = format!("arn:aws:iam::095412845506:role/{}", "a".repeat(MAX_LEN));
        assert!(error(&long).contains("longer than 2048"));
    }

    proptest! {
        #[test]
        fn parsing_and_printing_are_inverse(
            partition in "aws(-cn|-us-gov|-iso-b)?",
            account in "[0-9]{12}",
            name in "([a-z]{1,8}/){0,2}[A-Za-z0-9+=,.@_-]{1,64}",
        ) {
            let text = format!("arn:{partition}:iam::{account}:role/{name}");
            prop_assert_eq!(text.parse::<RoleArn>().unwrap().to_string(), text);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,60}") {
            let _ = text.parse::<RoleArn>();
        }
    }
}
