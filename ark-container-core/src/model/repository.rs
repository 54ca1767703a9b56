//! Names of repositories and images: [`RepositoryName`], [`RepositoryPath`], [`RepositoryUrl`],
//! [`ImageName`] and [`ImageUrl`].

use std::fmt;
use std::str::FromStr;

use super::parse::{ParseError, serde_as_text};
use super::{OrganizationId, Reference, RegistryHost};

/// The maximum length of a repository path in ECR.
///
/// Source: `RepositoryName` in the ECR service model, 2 to 256 characters.
const MAX_PATH_LEN: usize = 256;

/// Checks one or more components against the pattern of ECR and other registries,
/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/…)*`. The error has the position of the first invalid character.
pub(super) fn check_components(what: &'static str, input: &str) -> Result<(), ParseError> {
    if input.is_empty() {
        return Err(ParseError::new(what, input, "it is empty"));
    }
    let mut offset = 0;
    for component in input.split('/') {
        check_component(what, input, offset, component)?;
        offset += component.len() + 1;
    }
    Ok(())
}

fn check_component(
    what: &'static str,
    input: &str,
    start: usize,
    component: &str,
) -> Result<(), ParseError> {
    if component.is_empty() {
        // The error points to the slash next to the empty component, which may be the last character.
        let offset = start.min(input.len().saturating_sub(1));
        return Err(ParseError::at(what, input, offset, "a component is empty, next to the slash"));
    }
    let mut separator = String::new();
    for (offset, character) in component.char_indices() {
        match character {
            'a'..='z' | '0'..='9' => separator.clear(),
            '.' | '_' | '-' => {
                separator.push(character);
                let first = offset + 1 == separator.len();
                let allowed = matches!(separator.as_str(), "." | "_" | "__")
                    || separator.bytes().all(|byte| byte == b'-');
                if first || !allowed {
                    let problem = if first {
                        format!("a component may not start with {character:?},")
                    } else {
                        format!("{separator:?} may not separate words,")
                    };
                    return Err(ParseError::at(what, input, start + offset, problem));
                }
            }
            'A'..='Z' => {
                let problem = format!("upper case {character:?} is not allowed");
                return Err(ParseError::at(what, input, start + offset, problem));
            }
            _ => {
                let problem = format!("{character:?} is not allowed");
                return Err(ParseError::at(what, input, start + offset, problem));
            }
        }
    }
    match separator.chars().next() {
        Some(character) => {
            let offset = start + component.len() - separator.len();
            let problem = format!("a component may not end with {character:?},");
            Err(ParseError::at(what, input, offset, problem))
        }
        None => Ok(()),
    }
}

/// The first component of a repository path; `prod` by default.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stage(Box<str>);

impl Stage {
    /// Returns the stage as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for Stage {
    fn default() -> Self {
        Self("prod".into())
    }
}

impl FromStr for Stage {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        const WHAT: &str = "stage";
        check_components(WHAT, input)?;
        if let Some(offset) = input.find('/') {
            return Err(ParseError::at(WHAT, input, offset, "a stage may not contain '/',"));
        }
        // Leaves room for the organization and a name of at least one character.
        let longest = MAX_PATH_LEN - OrganizationId::PRINTED_LEN - 3;
        if input.len() > longest {
            let problem = format!("{} characters, the maximum is {longest}", input.len());
            return Err(ParseError::new(WHAT, input, problem));
        }
        Ok(Self(input.into()))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a repository within its organization, such as `catalog/extract-video`. ECR defines the
/// allowed characters.
///
/// ```
/// use ark_container_core::model::RepositoryName;
///
/// let name: RepositoryName = "catalog/extract-video".parse()?;
/// let error = "catalog/Extract".parse::<RepositoryName>().unwrap_err();
/// assert_eq!(error.position(), Some(9));
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryName(Box<str>);

impl RepositoryName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepositoryName {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        const WHAT: &str = "repository name";
        check_components(WHAT, input)?;
        // The maximum with a stage of one character. The path checks the exact limit.
        let max_length = MAX_PATH_LEN - OrganizationId::PRINTED_LEN - 3;
        if input.len() > max_length {
            let problem = format!("{} characters, the maximum is {max_length}", input.len());
            return Err(ParseError::new(WHAT, input, problem));
        }
        Ok(Self(input.into()))
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The path of a repository in its registry: `<stage>/<organization>/<name>`, at most 256 characters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryPath {
    stage: Stage,
    organization: OrganizationId,
    name: RepositoryName,
}

impl RepositoryPath {
    /// Creates the path of a repository of an organization.
    ///
    /// # Errors
    /// [`ParseError`] if the path is longer than the 256 characters that ECR allows.
    pub fn new(
        stage: Stage,
        organization: OrganizationId,
        name: RepositoryName,
    ) -> Result<Self, ParseError> {
        let path = Self { stage, organization, name };
        let length = path.stage.0.len() + OrganizationId::PRINTED_LEN + path.name.0.len() + 2;
        if length > MAX_PATH_LEN {
            let problem = format!("{length} characters, the maximum is {MAX_PATH_LEN}");
            return Err(ParseError::new("repository path", &path.to_string(), problem));
        }
        Ok(path)
    }

    /// Returns the stage.
    pub fn stage(&self) -> &Stage {
        &self.stage
    }

    /// Returns the organization that owns the repository.
    pub fn organization(&self) -> OrganizationId {
        self.organization
    }

    /// Returns the name within the organization.
    pub fn name(&self) -> &RepositoryName {
        &self.name
    }
}

impl FromStr for RepositoryPath {
    type Err = ParseError;

    /// Accepts only the canonical form of the organization, as ECR does.
    fn from_str(input: &str) -> Result<Self, ParseError> {
        const WHAT: &str = "repository path";
        let mut parts = input.splitn(3, '/');
        let (Some(stage), Some(guid), Some(name)) = (parts.next(), parts.next(), parts.next())
        else {
            let problem = "expected <stage>/<organization>/<name>";
            return Err(ParseError::new(WHAT, input, problem));
        };
        let organization: OrganizationId = guid.parse()?;
        if organization.to_string() != guid {
            let problem = format!("the organization must be written {organization}");
            return Err(ParseError::new(WHAT, input, problem));
        }
        Self::new(stage.parse()?, organization, name.parse()?)
    }
}

impl fmt::Display for RepositoryPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.stage, self.organization, self.name)
    }
}

/// The URL of a repository, for tagging and pushing: `<registry host>/<repository path>`.
///
/// ```
/// use ark_container_core::model::{OrganizationId, RepositoryUrl};
///
/// let url: RepositoryUrl = "095412845506.dkr.ecr.us-east-1.amazonaws.com/prod/\
///     2ea25035-6aa4-42fb-9955-92288ea1b972/catalog/extract-video".parse()?;
/// assert_eq!(url.path().organization(), OrganizationId::TBD);
/// assert_eq!(url.path().name().as_str(), "catalog/extract-video");
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RepositoryUrl {
    host: RegistryHost,
    path: RepositoryPath,
}

impl RepositoryUrl {
    /// Creates the URL of a repository in a registry.
    pub fn new(host: RegistryHost, path: RepositoryPath) -> Self {
        Self { host, path }
    }

    /// Returns the host of the registry, with its port if there is one.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// Returns the path of the repository.
    pub fn path(&self) -> &RepositoryPath {
        &self.path
    }

    /// Returns the URL of an image in this repository.
    pub fn image(&self, reference: impl Into<Reference>) -> ImageUrl {
        ImageUrl { repository: self.clone(), reference: reference.into() }
    }
}

impl FromStr for RepositoryUrl {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        match input.split_once('/') {
            Some((host, path)) => Ok(Self { host: host.parse()?, path: path.parse()? }),
            None => {
                let problem = "expected <registry host>/<stage>/<organization>/<name>";
                Err(ParseError::new("repository URL", input, problem))
            }
        }
    }
}

impl fmt::Display for RepositoryUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.host, self.path)
    }
}

/// A repository in any form, with an optional tag or digest: `<repository>[:<tag>|@<digest>]`.
///
/// ```
/// use ark_container_core::model::ImageName;
///
/// let image = ImageName::parse("localhost:5050/test/repo:v1")?;
/// assert_eq!(image.repository, "localhost:5050/test/repo");
/// assert_eq!(image.reference, Some("v1".parse()?));
/// assert_eq!(ImageName::parse("localhost:5050/test/repo")?.reference, None);
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImageName<'a> {
    /// The name, path or URL of the repository. The parser does not check it.
    pub repository: &'a str,
    /// The tag or digest.
    pub reference: Option<Reference>,
}

impl<'a> ImageName<'a> {
    /// Splits the text at the first `:` or `@` after the last slash. A colon before that slash belongs to
    /// the port of a host.
    ///
    /// # Errors
    /// [`ParseError`] if the tag or digest is invalid, or if the text has both.
    pub fn parse(text: &'a str) -> Result<Self, ParseError> {
        let last_slash = text.rfind('/').unwrap_or(0);
        let Some(offset) = text[last_slash..].find([':', '@']) else {
            return Ok(Self { repository: text, reference: None });
        };
        let (repository, rest) = text.split_at(last_slash + offset);
        let reference = match rest.strip_prefix('@') {
            Some(digest) => Reference::Digest(digest.parse()?),
            None if rest.contains('@') => {
                return Err(ParseError::new(
                    "image",
                    text,
                    "it has a tag and a digest; specify one",
                ));
            }
            None => Reference::Tag(rest[1..].parse()?),
        };
        Ok(Self { repository, reference: Some(reference) })
    }
}

/// The URL of an image, for pulling: the URL of a repository with a tag or digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageUrl {
    repository: RepositoryUrl,
    reference: Reference,
}

impl ImageUrl {
    /// Returns the repository.
    pub fn repository(&self) -> &RepositoryUrl {
        &self.repository
    }

    /// Returns the tag or digest.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }
}

impl FromStr for ImageUrl {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let ImageName { repository, reference: Some(reference) } = ImageName::parse(input)? else {
            let problem = "expected <repository URL>:<tag> or <repository URL>@<digest>";
            return Err(ParseError::new("image URL", input, problem));
        };
        Ok(Self { repository: repository.parse()?, reference })
    }
}

impl fmt::Display for ImageUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}{}", self.repository, self.reference.separator(), self.reference)
    }
}

serde_as_text!(Stage, RepositoryName, RepositoryPath, RepositoryUrl, ImageUrl);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn component() -> impl Strategy<Value = String> {
        "[a-z0-9]{1,6}((\\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}"
    }

    fn components() -> impl Strategy<Value = String> {
        proptest::collection::vec(component(), 1..4).prop_map(|parts| parts.join("/"))
    }

    fn name(text: &str) -> Result<RepositoryName, String> {
        text.parse().map_err(|error: ParseError| error.to_string())
    }

    #[test]
    fn repository_names_follow_the_ecr_pattern() {
        for good in ["a", "0", "a/b", "a.b_c__d-e---f", "catalog/extract-video"] {
            assert_eq!(name(good).unwrap().as_str(), good);
        }
    }

    #[test]
    fn repository_name_errors_have_a_position() {
        let error = |text: &str| name(text).unwrap_err();
        assert!(error("").ends_with("it is empty"));
        assert!(error("a/B").ends_with("upper case 'B' is not allowed at character 3"));
        assert!(error("a b").ends_with("' ' is not allowed at character 2"));
        assert!(error("é").ends_with("'é' is not allowed at character 1"));
        assert!(error("/a").ends_with("next to the slash at character 1"));
        assert!(error("a//b").ends_with("next to the slash at character 3"));
        assert!(error("a/").ends_with("next to the slash at character 2"));
        assert!(error("../a").ends_with("may not start with '.', at character 1"));
        assert!(error("a..b").ends_with("\"..\" may not separate words, at character 3"));
        assert!(error("a___b").ends_with("\"___\" may not separate words, at character 4"));
        assert!(error("a-_b").ends_with("\"-_\" may not separate words, at character 3"));
        assert!(error("ab/cd-/e").ends_with("may not end with '-', at character 6"));
        assert!(error("a\0b").ends_with("'\\0' is not allowed at character 2"));
        let long = error(&"x".repeat(10_000));
        assert!(
            long.ends_with("10000 characters, the maximum is 217") && long.len() < 250,
            "{long}"
        );
    }

    #[test]
    fn repository_path_has_at_most_256_characters() {
        let path = |length| {
            let name = "n".repeat(length).parse().unwrap();
            RepositoryPath::new(Stage::default(), OrganizationId::TBD, name)
        };
        assert_eq!(path(214).unwrap().to_string().len(), 256);
        assert!(path(215).unwrap_err().to_string().ends_with("257 characters, the maximum is 256"));
    }

    #[test]
    fn repository_path_needs_canonical_organization() {
        for spelling in [
            "prod/2EA25035-6aa4-42fb-9955-92288ea1b972/a",
            "prod/{2ea25035-6aa4-42fb-9955-92288ea1b972}/a",
            "prod/ 2ea25035-6aa4-42fb-9955-92288ea1b972/a",
            "prod/2ea25035-6aa4-42fb-9955-92288ea1b972x/a",
            "djt-mapping-pipeline-ecr",
        ] {
            assert!(spelling.parse::<RepositoryPath>().is_err(), "{spelling}");
        }
    }

    #[test]
    fn image_names_have_an_optional_tag_or_digest() {
        fn split(text: &str) -> Result<(&str, Option<Reference>), ParseError> {
            ImageName::parse(text).map(|image| (image.repository, image.reference))
        }
        assert_eq!(split("h:1/a/b").unwrap(), ("h:1/a/b", None));
        assert_eq!(split("a/b").unwrap(), ("a/b", None));
        let tag = Reference::Tag("v1".parse().unwrap());
        assert_eq!(split("a/b:v1").unwrap(), ("a/b", Some(tag)));
        let digest = format!("sha256:{}", "0".repeat(64));
        let reference = Reference::Digest(digest.parse().unwrap());
        assert_eq!(split(&format!("a@{digest}")).unwrap(), ("a", Some(reference)));
        let error = |text: &str| split(text).unwrap_err().to_string();
        assert!(error("a:").contains("tag: it is empty"));
        assert!(error("a:b:c").contains("':' is not allowed at character 2"));
        assert!(error("a:v1@sha256:0").contains("it has a tag and a digest; specify one"));
        assert!(error("a@v1").contains("digest: expected"));
    }

    proptest! {
        #[test]
        fn repository_url_parses_its_own_display(
            host in "([a-z0-9]{1,8}\\.){0,3}[a-z]{1,5}(:[1-9][0-9]{0,3})?",
            stage in component(),
            bits: u128,
            name in components(),
            tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,30}",
            hex in "[0-9a-f]{64}",
        ) {
            let organization = OrganizationId::from_u128(bits);
            let text = format!("{host}/{stage}/{organization}/{name}");
            let url: RepositoryUrl = text.parse().unwrap();
            prop_assert_eq!(url.to_string(), text.clone());
            prop_assert_eq!(url.path().name().as_str(), name);
            for text in [format!("{text}:{tag}"), format!("{text}@sha256:{hex}")] {
                let image: ImageUrl = text.parse().unwrap();
                prop_assert_eq!(image.to_string(), text);
                prop_assert_eq!(image.repository(), &url);
            }
        }

        #[test]
        fn image_name_parser_never_panics(text in "(\\PC|[a-z/:@._-]){0,60}") {
            if let Ok(name) = text.parse::<RepositoryName>() {
                prop_assert_eq!(name.to_string(), text.clone());
            }
            if let Ok(url) = text.parse::<ImageUrl>() {
                prop_assert_eq!(url.to_string(), text);
            }
        }
    }
}
