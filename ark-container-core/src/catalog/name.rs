//! [`ParsedName`]: parses names, paths and URLs of repositories and images.

use std::ops::RangeInclusive;

use super::registry::OpenRegistry;
use crate::error::{Error, Result};
use crate::model::{
    ImageName, ImageReference, OrganizationId, Reference, RegistryHost, RepositoryName,
    RepositoryPath, Stage, user_info,
};
#[cfg(feature = "push")]
use crate::{model::Tag, transfer::RegistryImage};

/// A repository, or an image in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ParsedName {
    /// In the scheme `<stage>/<organization>/<name>`.
    Inside(RepositoryPath, Option<Reference>),
    /// In the same registry without an organization, or in another registry.
    Outside(ImageReference),
}

#[cfg(feature = "push")]
impl From<ParsedName> for RegistryImage {
    /// The default tag is `latest`.
    fn from(named: ParsedName) -> Self {
        match named {
            ParsedName::Outside(image) => Self::Registry(image),
            ParsedName::Inside(path, reference) => {
                Self::Repository(path, reference.unwrap_or_else(|| Tag::latest().into()))
            }
        }
    }
}

/// The registry and organization in which names are resolved.
#[derive(Debug)]
pub(super) struct NameScope<'a> {
    pub(super) host: RegistryHost,
    /// The registry, if its kind is known.
    pub(super) registry: Option<&'a OpenRegistry>,
    pub(super) stage: Stage,
    pub(super) organization: Option<OrganizationId>,
}

impl NameScope<'_> {
    /// Parses `[[https://]<host>/][<stage>/<organization>/]<name>[:<tag>|@<digest>]`, or
    /// `docker://<host>/<name>[:<tag>|@<digest>]` in any registry.
    pub(super) fn named(&self, text: &str) -> Result<ParsedName> {
        if user_info(text).is_some() {
            let problem = "a user name and password in the URL of a registry are not supported";
            return Err(Error::invalid(problem).with_help("remove them"));
        }
        if text.starts_with(ImageReference::PREFIX) {
            let image: ImageReference = text.parse()?;
            if !self.is_own(image.host().as_str(), image.repository()) {
                return Ok(ParsedName::Outside(image));
            }
            // The registry's own images are read with the catalog's credentials, in every form of the name.
            return self.named(&image.to_string());
        }
        let ImageName { repository, reference } = ImageName::parse(text)?;
        let (host, path) = split_host(repository);
        if let Some(host) = host.filter(|host| !self.is_own(host, path)) {
            return Err(Error::invalid(format!(
                "{text} names the registry {host}, not {}; the name of an image in another registry \
                 starts with {}",
                self.host,
                ImageReference::PREFIX
            )));
        }
        if is_path(path) {
            return self.inside(text, path.parse()?, reference);
        }
        if let Some(host) = host {
            let image: ImageReference = format!("{host}/{path}").parse()?;
            let reference = reference.unwrap_or_else(|| image.reference().clone());
            return Ok(ParsedName::Outside(image.with_reference(reference)));
        }
        let name = path.parse()?;
        let organization = self.organization.ok_or_else(|| {
            Error::invalid(format!(
                "no organization is given for {text}; choose one with in_organization, or set \
                 ARK_ORGANIZATION"
            ))
        })?;
        Ok(ParsedName::Inside(
            RepositoryPath::new(self.stage.clone(), organization, name)?,
            reference,
        ))
    }

    /// Returns whether `host` with this path is the registry of this catalog.
    fn is_own(&self, host: &str, path: &str) -> bool {
        let answers = |registry: &OpenRegistry| registry.answers_at(host) && is_path(path);
        host == self.host.as_str() || self.registry.is_some_and(answers)
    }

    /// Returns a repository of this stage. Fails for another stage, which needs another catalog.
    fn inside(
        &self,
        text: &str,
        path: RepositoryPath,
        reference: Option<Reference>,
    ) -> Result<ParsedName> {
        if *path.stage() != self.stage {
            return Err(Error::invalid(format!(
                "{text} belongs to the stage {}, but this registry uses the stage {}",
                path.stage(),
                self.stage
            )));
        }
        Ok(ParsedName::Inside(path, reference))
    }
}

/// Returns whether a text has the form `<stage>/<organization>/<name>`. The organization may be misspelt.
fn is_path(text: &str) -> bool {
    let mut parts = text.splitn(3, '/').skip(1);
    parts.next().is_some_and(is_organization) && parts.next().is_some()
}

/// Returns whether a path component is meant as a GUID. A GUID with a few digits too many or too few is not a name.
fn is_organization(part: &str) -> bool {
    const MEANT_LEN: RangeInclusive<usize> = 32..=39;
    let is_digit = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    let is_meant = MEANT_LEN.contains(&part.len()) && part.bytes().all(is_digit);
    is_meant || part.parse::<OrganizationId>().is_ok()
}

/// Returns the organization in the path or URL of a repository or image; `None` for a name. Checks the text
/// as far as possible without a registry.
///
/// # Errors
/// [`Error::Parse`] if the text is not a name, path or URL.
pub fn organization_of(text: &str) -> Result<Option<OrganizationId>> {
    let (_, path) = split_host(ImageName::parse(text)?.repository);
    if is_path(path) {
        return Ok(Some(path.parse::<RepositoryPath>()?.organization()));
    }
    path.parse::<RepositoryName>()?;
    Ok(None)
}

/// Splits the host from the URL of a repository. As in docker, a first component with a dot or colon is a host.
fn split_host(repository: &str) -> (Option<&str>, &str) {
    let url = ["https://", "http://"].iter().find_map(|scheme| repository.strip_prefix(scheme));
    match url.unwrap_or(repository).split_once('/') {
        Some((host, path)) if url.is_some() || is_host(host) => (Some(host), path),
        _ => (None, repository),
    }
}

/// Returns whether the first component of a name is meant as a host.
fn is_host(part: &str) -> bool {
    let is_meant = part == "localhost" || part.contains(['.', ':']) && !part.starts_with('.');
    is_meant && part.parse::<RegistryHost>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "127.0.0.1:5050";
    const TBD: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

    fn named(text: &str, organization: Option<OrganizationId>) -> Result<ParsedName> {
        let (host, stage) = (HOST.parse().unwrap(), Stage::default());
        NameScope { host, registry: None, stage, organization }.named(text)
    }

    #[test]
    fn repository_is_named_by_name_path_or_url() {
        let path: RepositoryPath = format!("prod/{TBD}/test/repo").parse().unwrap();
        let digest = format!("sha256:{}", "0".repeat(64));
        for repository in [
            "test/repo".to_owned(),
            path.to_string(),
            format!("{HOST}/{path}"),
            format!("https://{HOST}/{path}"),
            format!("http://{HOST}/{path}"),
        ] {
            for (suffix, reference) in [
                (String::new(), None),
                (":v1".to_owned(), Some("v1".parse().unwrap())),
                (format!("@{digest}"), Some(digest.parse().unwrap())),
            ] {
                let found = named(&format!("{repository}{suffix}"), Some(OrganizationId::TBD));
                assert_eq!(found.unwrap(), ParsedName::Inside(path.clone(), reference));
            }
        }
    }

    #[test]
    fn organization_is_taken_from_path() {
        for path in [format!("prod/{TBD}/a"), format!("https://docker.io/dev/{TBD}/a/b:v1")] {
            assert_eq!(organization_of(&path).unwrap(), Some(OrganizationId::TBD));
        }
        for name in ["a", "docker.io/library/ubuntu"] {
            assert_eq!(organization_of(name).unwrap(), None);
        }
        assert_eq!(organization_of("a:v1").unwrap(), None);
        for invalid in ["", "A", "a:", ".:x/a", "https://", "https://a"] {
            assert!(organization_of(invalid).is_err(), "{invalid}");
        }
        assert!(named(&format!("prod/{TBD}/a"), None).is_ok());
        let error = named("a", None).unwrap_err().to_string();
        assert!(error.starts_with("no organization is given for a"), "{error}");
    }

    #[test]
    fn first_part_with_dot_or_colon_is_a_host() {
        let outside = |text: &str| match named(text, None) {
            Ok(ParsedName::Outside(image)) => Ok(image.to_string()),
            other => Err(format!("{other:?}")),
        };
        let older = format!("{HOST}/older:latest");
        assert_eq!(outside(&older), Ok(older));
        let other_stage = outside(&format!("{HOST}/dev/{TBD}/a")).unwrap_err();
        assert!(other_stage.contains("belongs to the stage dev"), "{other_stage}");
        for elsewhere in ["docker.io", "localhost", "https://test", "localhost:5050"] {
            let text = format!("{elsewhere}/a");
            let error = named(&text, Some(OrganizationId::TBD)).unwrap_err().to_string();
            let host = elsewhere.trim_start_matches("https://");
            let expected = format!("{text} names the registry {host}, not {HOST}; ");
            assert!(error.starts_with(&expected), "{error}");
        }
    }

    #[test]
    fn path_of_other_stage_is_rejected() {
        let error = named(&format!("dev/{TBD}/a:v1"), Some(OrganizationId::TBD)).unwrap_err();
        assert!(error.to_string().contains("belongs to the stage dev"), "{error}");
    }

    #[test]
    fn url_with_password_is_rejected_without_showing_it() {
        let error = named(&format!("https://bob:hunter2@{HOST}/prod/{TBD}/a"), None).unwrap_err();
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn misspelt_organization_is_not_a_repository_name() {
        for (spelling, problem) in [
            (TBD.to_uppercase(), "must be written 2ea25035-"),
            (TBD[1..].to_owned(), "expected a hexadecimal digit"),
            (TBD[..35].to_owned(), "it is too short: 35 of 36"),
            (format!("{TBD}0"), "it is too long"),
            (TBD.replace('-', ""), "expected a hyphen"),
        ] {
            let error = named(&format!("prod/{spelling}/a"), Some(OrganizationId::TBD));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
        // Digests of commits and files can be part of names.
        for name in ["ci/da39a3ee5e6b4b0d3255bfef95601890afd80709/a".to_owned(), "a/b-c/d".into()] {
            assert!(named(&name, Some(OrganizationId::TBD)).is_ok(), "{name}");
        }
    }

    #[test]
    fn docker_prefix_names_image_in_any_registry() {
        for (text, image) in [
            ("docker://alpine", "docker.io/library/alpine:latest"),
            ("docker://ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
            ("docker://127.0.0.1:5050/older:v1", "127.0.0.1:5050/older:v1"),
        ] {
            assert_eq!(named(text, None).unwrap(), ParsedName::Outside(image.parse().unwrap()));
        }
        let path: RepositoryPath = format!("prod/{TBD}/a").parse().unwrap();
        let own = named(&format!("docker://{HOST}/{path}:v1"), None).unwrap();
        assert_eq!(own, ParsedName::Inside(path, Some("v1".parse().unwrap())));
    }
}
