//! [`Named`]: the parser of names, paths and URLs of repositories and images.

use super::registry::OpenRegistry;
use crate::error::{Error, Result};
use crate::model::{
    ImageName, ImageReference, OrganizationId, Reference, RegistryHost, RepositoryName,
    RepositoryPath, Stage,
};
#[cfg(feature = "push")]
use crate::{model::Tag, transfer::RegistryImage};

/// A repository, and an image of it where one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// In the scheme `<stage>/<organization>/<name>`.
    Inside(RepositoryPath, Option<Reference>),
    /// In the same registry without an organization, or in another registry.
    Outside(ImageReference),
}

#[cfg(feature = "push")]
impl From<Named> for RegistryImage {
    /// The default tag is `latest`.
    fn from(named: Named) -> Self {
        match named {
            Named::Outside(image) => Self::Registry(image),
            Named::Inside(path, reference) => {
                Self::Repository(path, reference.unwrap_or_else(|| Tag::latest().into()))
            }
        }
    }
}

/// Where names are resolved.
#[derive(Debug)]
pub(super) struct NameScope<'a> {
    pub(super) host: RegistryHost,
    /// The registry, if its kind is known.
    pub(super) registry: Option<&'a OpenRegistry>,
    pub(super) stage: Stage,
    pub(super) organization: Option<OrganizationId>,
}

impl NameScope<'_> {
    /// Parses `[<host>/][<stage>/<organization>/]<name>[:<tag>|@<digest>]`, or
    /// `docker://<host>/<name>[:<tag>|@<digest>]` in any registry.
    pub(super) fn named(&self, text: &str) -> Result<Named> {
        if text.starts_with(ImageReference::PREFIX) {
            let image: ImageReference = text.parse()?;
            if !self.is_own(image.host().as_str(), image.repository()) {
                return Ok(Named::Outside(image));
            }
            // Its own registry is read with its own credentials, however the name is written.
            return self.named(&image.to_string());
        }
        let ImageName { repository, reference } = ImageName::parse(text)?;
        // As for docker, a first part with a dot or a colon is a host.
        let first = repository.split_once('/');
        if let Some((host, path)) = first.filter(|(first, _)| is_host(first)) {
            if !self.is_own(host, path) {
                return Err(Error::invalid(format!(
                    "{text} is not in the registry {}; the name of an image in another registry \
                     starts with docker://",
                    self.host
                )));
            }
            return match path.parse() {
                Ok(path) => self.inside(text, path, reference),
                Err(_) => Ok(Named::Outside(text.parse()?)),
            };
        }
        if is_path(repository) {
            return self.inside(text, repository.parse()?, reference);
        }
        let name = repository.parse()?;
        let organization = self.organization.ok_or_else(|| {
            Error::invalid(format!(
                "no organization is given for {text}; choose one with in_organization, or set \
                 ARK_ORGANIZATION"
            ))
        })?;
        Ok(Named::Inside(RepositoryPath::new(self.stage.clone(), organization, name)?, reference))
    }

    /// Whether `host` is the registry's own, as far as `path` tells.
    fn is_own(&self, host: &str, path: &str) -> bool {
        let answers = |registry: &OpenRegistry| registry.answers_at(host) && is_path(path);
        host == self.host.as_str() || self.registry.is_some_and(answers)
    }

    /// Returns a repository of this stage. One of another stage is in another catalog.
    fn inside(
        &self,
        text: &str,
        path: RepositoryPath,
        reference: Option<Reference>,
    ) -> Result<Named> {
        if *path.stage() != self.stage {
            return Err(Error::invalid(format!(
                "{text} is of the stage {}, and this registry is of the stage {}",
                path.stage(),
                self.stage
            )));
        }
        Ok(Named::Inside(path, reference))
    }
}

/// Whether a text is meant as `<stage>/<organization>/<name>`, whose organization may be misspelt.
fn is_path(text: &str) -> bool {
    let mut parts = text.splitn(3, '/').skip(1);
    let is_organization = parts.next().is_some_and(|part| part.parse::<OrganizationId>().is_ok());
    is_organization && parts.next().is_some()
}

/// Returns the organization in the path or URL of a repository; `None` for a name. The text is checked as far
/// as that takes no registry.
///
/// # Errors
/// [`Error::Parse`] if it is neither a name nor a path nor a URL.
pub fn organization_of(repository: &str) -> Result<Option<OrganizationId>> {
    let path = match repository.split_once('/') {
        Some((host, path)) if is_host(host) => path,
        _ => repository,
    };
    if is_path(path) {
        return Ok(Some(path.parse::<RepositoryPath>()?.organization()));
    }
    path.parse::<RepositoryName>()?;
    Ok(None)
}

/// Whether the first part of a name is meant as a host, as for docker.
fn is_host(part: &str) -> bool {
    let is_meant = part == "localhost" || part.contains(['.', ':']) && !part.starts_with('.');
    is_meant && part.parse::<RegistryHost>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "127.0.0.1:5050";
    const TBD: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

    fn named(text: &str, organization: Option<OrganizationId>) -> Result<Named> {
        let (host, stage) = (HOST.parse().unwrap(), Stage::default());
        NameScope { host, registry: None, stage, organization }.named(text)
    }

    #[test]
    fn repository_is_named_by_name_path_or_url() {
        let path: RepositoryPath = format!("prod/{TBD}/test/repo").parse().unwrap();
        for repository in ["test/repo".to_owned(), path.to_string(), format!("{HOST}/{path}")] {
            for (suffix, reference) in [("", None), (":v1", Some("v1".parse().unwrap()))] {
                let found = named(&format!("{repository}{suffix}"), Some(OrganizationId::TBD));
                assert_eq!(found.unwrap(), Named::Inside(path.clone(), reference));
            }
        }
    }

    #[test]
    fn path_needs_no_other_organization() {
        for path in [format!("prod/{TBD}/a"), format!("docker.io/dev/{TBD}/a/b")] {
            assert_eq!(organization_of(&path).unwrap(), Some(OrganizationId::TBD));
        }
        for name in ["a", "docker.io/library/ubuntu"] {
            assert_eq!(organization_of(name).unwrap(), None);
        }
        for invalid in ["", "A", "a:v1", ".:x/a"] {
            assert!(organization_of(invalid).is_err(), "{invalid}");
        }
        assert!(named(&format!("prod/{TBD}/a"), None).is_ok());
        let error = named("a", None).unwrap_err().to_string();
        assert!(error.starts_with("no organization is given for a"), "{error}");
    }

    #[test]
    fn first_part_with_dot_or_colon_is_a_host() {
        let outside = |text: &str| match named(text, None) {
            Ok(Named::Outside(image)) => Ok(image.to_string()),
            other => Err(format!("{other:?}")),
        };
        let older = format!("{HOST}/older:latest");
        assert_eq!(outside(&older), Ok(older));
        let other_stage = outside(&format!("{HOST}/dev/{TBD}/a")).unwrap_err();
        assert!(other_stage.contains("is of the stage dev"), "{other_stage}");
        for elsewhere in ["docker.io/library/ubuntu", "localhost/a", "localhost:5050/a"] {
            let error = named(elsewhere, Some(OrganizationId::TBD)).unwrap_err();
            assert!(error.to_string().contains("is not in the registry 127.0.0.1:5050"), "{error}");
        }
    }

    #[test]
    fn path_of_another_stage_is_an_error() {
        let error = named(&format!("dev/{TBD}/a:v1"), Some(OrganizationId::TBD)).unwrap_err();
        assert!(error.to_string().contains("is of the stage dev"), "{error}");
        let upper = TBD.to_uppercase();
        let error = named(&format!("prod/{upper}/a"), Some(OrganizationId::TBD)).unwrap_err();
        assert!(error.to_string().contains("must be written"), "{error}");
    }

    #[test]
    fn prefix_names_an_image_of_any_registry() {
        for (text, image) in [
            ("docker://alpine", "docker.io/library/alpine:latest"),
            ("docker://ghcr.io/a/b:v1", "ghcr.io/a/b:v1"),
            ("docker://127.0.0.1:5050/older:v1", "127.0.0.1:5050/older:v1"),
        ] {
            assert_eq!(named(text, None).unwrap(), Named::Outside(image.parse().unwrap()));
        }
        let path: RepositoryPath = format!("prod/{TBD}/a").parse().unwrap();
        let own = named(&format!("docker://{HOST}/{path}:v1"), None).unwrap();
        assert_eq!(own, Named::Inside(path, Some("v1".parse().unwrap())));
    }
}
