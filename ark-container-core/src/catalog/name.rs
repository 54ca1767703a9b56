//! [`Named`]: what people call a repository or an image of it.

use crate::error::{Error, Result};
use crate::model::{
    ImageName, ImageReference, OrganizationId, Reference, RegistryHost, RepositoryPath, Stage,
};

/// A repository, and an image of it where one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// In the scheme `<stage>/<organization>/<name>`.
    Inside(RepositoryPath, Option<Reference>),
    /// In the same registry without an organization, or in another registry.
    Outside(ImageReference),
}

/// Where names are resolved.
#[derive(Debug)]
pub(super) struct NameScope {
    pub(super) host: RegistryHost,
    pub(super) stage: Stage,
    pub(super) organization: Option<OrganizationId>,
}

impl NameScope {
    /// What `text` names: `[<host>/][<stage>/<organization>/]<name>[:<tag>|@<digest>]`, or
    /// `docker://<host>/<name>[:<tag>|@<digest>]` in any registry.
    pub(super) fn named(&self, text: &str) -> Result<Named> {
        if text.starts_with(ImageReference::PREFIX) {
            let image: ImageReference = text.parse()?;
            if *image.host() != self.host {
                return Ok(Named::Outside(image));
            }
            // Its own registry is read with its own credentials, however the name is written.
            return self.named(&image.to_string());
        }
        let ImageName { repository, reference } = ImageName::parse(text)?;
        // As for docker, a first part with a dot or a colon is a host.
        let first = repository.split_once('/');
        if let Some((host, path)) = first.filter(|(first, _)| is_host(first)) {
            if host != self.host.as_str() {
                return Err(Error::invalid(format!(
                    "{text} is not in the registry {}; the name of an image in another registry \
                     starts with docker://",
                    self.host
                )));
            }
            return match path.parse::<RepositoryPath>() {
                Ok(path) if *path.stage() == self.stage => Ok(Named::Inside(path, reference)),
                // It is of an organization, whose policy is another catalog's to ask.
                Ok(path) => Err(Error::invalid(format!(
                    "{text} is of the stage {}, and this registry is of the stage {}",
                    path.stage(),
                    self.stage
                ))),
                Err(_) => Ok(Named::Outside(text.parse()?)),
            };
        }
        if let Ok(path) = repository.parse::<RepositoryPath>()
            && *path.stage() == self.stage
        {
            return Ok(Named::Inside(path, reference));
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
}

fn is_host(part: &str) -> bool {
    part == "localhost" || part.contains(['.', ':'])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "127.0.0.1:5050";
    const TBD: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";

    fn named(text: &str, organization: Option<OrganizationId>) -> Result<Named> {
        let (host, stage) = (HOST.parse().unwrap(), Stage::default());
        NameScope { host, stage, organization }.named(text)
    }

    #[test]
    fn a_repository_is_named_by_name_path_or_url() {
        let path: RepositoryPath = format!("prod/{TBD}/test/repo").parse().unwrap();
        for repository in ["test/repo".to_owned(), path.to_string(), format!("{HOST}/{path}")] {
            for (suffix, reference) in [("", None), (":v1", Some("v1".parse().unwrap()))] {
                let found = named(&format!("{repository}{suffix}"), Some(OrganizationId::TBD));
                assert_eq!(found.unwrap(), Named::Inside(path.clone(), reference));
            }
        }
    }

    #[test]
    fn what_has_its_organization_needs_no_other() {
        assert!(named(&format!("prod/{TBD}/a"), None).is_ok());
        let error = named("a", None).unwrap_err().to_string();
        assert!(error.starts_with("no organization is given for a"), "{error}");
    }

    #[test]
    fn a_first_part_like_a_host_is_one() {
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

    #[test]
    fn another_stage_is_part_of_a_name() {
        let text = format!("dev/{TBD}/a");
        let own = RepositoryPath::new(Stage::default(), OrganizationId::TBD, text.parse().unwrap());
        let found = named(&text, Some(OrganizationId::TBD)).unwrap();
        assert_eq!(found, Named::Inside(own.unwrap(), None));
    }
}
