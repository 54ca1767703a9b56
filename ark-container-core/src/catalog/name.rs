//! [`Named`]: what people call a repository or an image of it.

use crate::error::{Error, Result};
use crate::model::{
    OrganizationId, ParseError, Reference, RegistryHost, RepositoryName, RepositoryPath, Stage,
};

/// A repository, and an image of it where one is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Named {
    /// In the scheme `<stage>/<organization>/<name>`.
    Inside(RepositoryPath, Option<Reference>),
    /// Elsewhere in the same registry.
    Outside(RepositoryName, Option<Reference>),
}

/// Whose names they are.
#[derive(Debug)]
pub(super) struct Surroundings {
    pub(super) host: RegistryHost,
    pub(super) stage: Stage,
    pub(super) organization: Option<OrganizationId>,
}

impl Surroundings {
    /// What `text` names: `[<host>/][<stage>/<organization>/]<name>[:<tag>|@<digest>]`.
    pub(super) fn named(&self, text: &str) -> Result<Named> {
        let (repository, reference) = split(text)?;
        // As for docker, a first part with a dot or a colon is a host.
        let first = repository.split_once('/');
        if let Some((host, path)) = first.filter(|(first, _)| is_host(first)) {
            if host != self.host.as_str() {
                return Err(Error::invalid(format!("{text} is not in the registry {}", self.host)));
            }
            return match path.parse::<RepositoryPath>() {
                Ok(path) if *path.stage() == self.stage => Ok(Named::Inside(path, reference)),
                _ => Ok(Named::Outside(path.parse()?, reference)),
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

/// A repository as it was written, and the tag or digest behind it.
fn split(text: &str) -> Result<(&str, Option<Reference>), ParseError> {
    // A colon before the last slash is the host's port; a digest has a colon of its own.
    let last_slash = text.rfind('/').unwrap_or(0);
    let separator =
        text.find('@').or_else(|| text[last_slash..].find(':').map(|at| last_slash + at));
    let Some(separator) = separator else { return Ok((text, None)) };
    let (repository, rest) = (&text[..separator], &text[separator + 1..]);
    let reference = match text[separator..].starts_with('@') {
        true => Reference::Digest(rest.parse()?),
        false => Reference::Tag(rest.parse()?),
    };
    Ok((repository, Some(reference)))
}
