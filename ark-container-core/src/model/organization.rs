//! [`OrganizationId`], the owner of a repository, and [`Organizations`], a set of them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use super::parse::{ParseError, serde_as_text};

const WHAT: &str = "organization GUID";
const FORM: &str = "32 hexadecimal digits as 8-4-4-4-12";

/// The GUID of an organization: any 128 bits, printed in lower case with hyphens.
///
/// Version and variant bits are not checked, because the [global organization](Self::GLOBAL) has none that
/// RFC 4122 defines. The parser accepts upper case, braces and surrounding spaces.
///
/// ```
/// use ark_container_core::model::OrganizationId;
///
/// let organization: OrganizationId = " {2EA25035-6AA4-42FB-9955-92288EA1B972} ".parse()?;
/// assert_eq!(organization, OrganizationId::TBD);
/// assert_eq!(organization.to_string(), "2ea25035-6aa4-42fb-9955-92288ea1b972");
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrganizationId(u128);

impl OrganizationId {
    /// The standard TBD organization.
    pub const TBD: Self = Self(0x2ea2_5035_6aa4_42fb_9955_9228_8ea1_b972);

    /// The global organization: every principal may read its repositories, its administrators may change them.
    pub const GLOBAL: Self = Self(0x7777_7777_7777_4777_7777_7777_7777_7777);

    /// The length of the printed form in characters.
    pub const PRINTED_LEN: usize = 36;

    /// Creates the organization with these bits.
    pub const fn from_u128(bits: u128) -> Self {
        Self(bits)
    }

    /// Returns the bits of the GUID.
    pub const fn as_u128(self) -> u128 {
        self.0
    }
}

impl FromStr for OrganizationId {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let trimmed = input.trim();
        let lead = input.len() - input.trim_start().len();
        let (guid, start) = match trimmed.strip_prefix('{') {
            Some(rest) => match rest.strip_suffix('}') {
                Some(inner) => (inner, lead + 1),
                None => return Err(ParseError::new(WHAT, input, "the brace is not closed")),
            },
            None => (trimmed, lead),
        };
        if guid.is_empty() {
            return Err(ParseError::new(WHAT, input, format!("it is empty; expected {FORM}")));
        }
        let mut bits = 0u128;
        for (index, (offset, character)) in guid.char_indices().enumerate() {
            let hyphen = matches!(index, 8 | 13 | 18 | 23);
            match (hyphen, character.to_digit(16)) {
                _ if index >= Self::PRINTED_LEN => {
                    let problem = format!("it is too long; expected {FORM}, but found more");
                    return Err(ParseError::at(WHAT, input, start + offset, problem));
                }
                (true, _) if character == '-' => {}
                (false, Some(digit)) => bits = bits << 4 | u128::from(digit),
                (true, _) => {
                    let problem = format!("expected a hyphen ({FORM}) but found {character:?}");
                    return Err(ParseError::at(WHAT, input, start + offset, problem));
                }
                (false, None) => {
                    let problem =
                        format!("expected a hexadecimal digit ({FORM}) but found {character:?}");
                    return Err(ParseError::at(WHAT, input, start + offset, problem));
                }
            }
        }
        match guid.len() {
            Self::PRINTED_LEN => Ok(Self(bits)),
            short => {
                let problem = format!(
                    "it is too short: {short} of {} characters ({FORM})",
                    Self::PRINTED_LEN
                );
                Err(ParseError::new(WHAT, input, problem))
            }
        }
    }
}

impl fmt::Display for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bits = self.0;
        let (a, b, c) = ((bits >> 96) as u32, (bits >> 80) as u16, (bits >> 64) as u16);
        let (d, e) = ((bits >> 48) as u16, bits & 0xffff_ffff_ffff);
        write!(f, "{a:08x}-{b:04x}-{c:04x}-{d:04x}-{e:012x}")
    }
}

impl fmt::Debug for OrganizationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OrganizationId({self})")
    }
}

serde_as_text!(OrganizationId);

/// A set of organizations: every organization, or a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Organizations {
    /// Every organization, whether or not it is known.
    All,
    /// Only these organizations.
    Only(BTreeSet<OrganizationId>),
}

impl Organizations {
    /// Returns the empty set.
    pub fn none() -> Self {
        Self::Only(BTreeSet::new())
    }

    /// Returns whether the set contains `organization`.
    pub fn contains(&self, organization: OrganizationId) -> bool {
        match self {
            Self::All => true,
            Self::Only(some) => some.contains(&organization),
        }
    }
}

impl FromIterator<OrganizationId> for Organizations {
    fn from_iter<I: IntoIterator<Item = OrganizationId>>(organizations: I) -> Self {
        Self::Only(organizations.into_iter().collect())
    }
}

impl From<OrganizationId> for Organizations {
    fn from(organization: OrganizationId) -> Self {
        Self::from_iter([organization])
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn error(input: &str) -> String {
        input.parse::<OrganizationId>().unwrap_err().to_string()
    }

    #[test]
    fn well_known_organizations_print_as_documented() {
        assert_eq!(OrganizationId::TBD.to_string(), "2ea25035-6aa4-42fb-9955-92288ea1b972");
        assert_eq!(OrganizationId::GLOBAL.to_string(), "77777777-7777-4777-7777-777777777777");
    }

    #[test]
    fn organization_id_errors_have_a_position() {
        assert!(error("").ends_with("it is empty; expected 32 hexadecimal digits as 8-4-4-4-12"));
        assert!(error("2ea25035").contains("too short: 8 of 36"));
        assert!(
            error("{2ea25035-6aa4-42fb-9955-92288ea1b972").ends_with("the brace is not closed")
        );
        assert!(error("2ea25035-6aa4-42fb-9955-92288ea1b972x").ends_with("at character 37"));
        let error = error(" 2ea25035-6aa4-42gb-9955-92288ea1b972");
        assert!(error.ends_with("but found 'g' at character 18"), "{error}");
    }

    #[test]
    fn non_ascii_digits_are_rejected() {
        assert!("٢ea25035-6aa4-42fb-9955-92288ea1b972".parse::<OrganizationId>().is_err());
        assert!("2ea25035‐6aa4-42fb-9955-92288ea1b972".parse::<OrganizationId>().is_err());
    }

    proptest! {
        #[test]
        fn parsing_and_printing_are_inverse(bits: u128) {
            let organization = OrganizationId::from_u128(bits);
            let printed = organization.to_string();
            prop_assert_eq!(printed.parse::<OrganizationId>().unwrap(), organization);
            let braced = format!("  {{{}}} ", printed.to_uppercase());
            prop_assert_eq!(braced.parse::<OrganizationId>().unwrap(), organization);
        }

        #[test]
        fn organization_id_parser_never_panics(text in "\\PC{0,60}") {
            if let Ok(organization) = text.parse::<OrganizationId>() {
                let bare = text.trim().trim_matches(['{', '}']).to_lowercase();
                prop_assert_eq!(organization.to_string(), bare);
            }
        }
    }
}
