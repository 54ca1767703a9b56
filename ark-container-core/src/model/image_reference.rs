//! [`ImageReference`]: an image in any registry.

use std::fmt;
use std::str::FromStr;

use super::parse::{ParseError, serde_as_text};
use super::repository::check_components;
use super::{ImageUrl, Reference, RegistryHost, RepositoryUrl, Tag};

const WHAT: &str = "image";

/// The maximum length of a repository name.
///
/// Source: <https://github.com/distribution/reference/blob/v0.6.0/reference.go>
const MAX_NAME_LEN: usize = 255;

/// The current and the old name of Docker Hub.
const DOCKER_HUB: &str = "docker.io";
const OLD_DOCKER_HUB: &str = "index.docker.io";
/// The host that serves Docker Hub images.
const DOCKER_HUB_ENDPOINT: &str = "registry-1.docker.io";
/// The first component of the names of Docker Hub's official images.
const DOCKER_HUB_LIBRARY: &str = "library";

/// An image in any registry: `[docker://][<host>/]<repository>[:<tag>][@<digest>]`.
///
/// The text is interpreted as by docker. The default host is Docker Hub. The default tag is `latest`. If
/// there are a tag and a digest, the digest applies. The canonical form has a host and no prefix.
///
/// Source: <https://github.com/distribution/reference/blob/v0.6.0/normalize.go>
///
/// ```
/// use ark_container_core::model::ImageReference;
///
/// let image: ImageReference = "docker://alpine".parse()?;
/// assert_eq!(image.to_string(), "docker.io/library/alpine:latest");
/// assert_eq!(image.endpoint().as_str(), "registry-1.docker.io");
/// let image: ImageReference = "ghcr.io/oras-project/oras:v1.2.0".parse()?;
/// assert_eq!((image.host().as_str(), image.repository()), ("ghcr.io", "oras-project/oras"));
/// # Ok::<(), ark_container_core::model::ParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageReference {
    host: RegistryHost,
    repository: Box<str>,
    reference: Reference,
}

impl ImageReference {
    /// The prefix of an image in another registry. A name without it means a repository of the catalog.
    pub const PREFIX: &str = "docker://";

    /// Returns the registry, such as `ghcr.io` or `docker.io`.
    pub fn host(&self) -> &RegistryHost {
        &self.host
    }

    /// Returns the host that serves the registry. Only for Docker Hub it differs from [`host`](Self::host).
    pub fn endpoint(&self) -> RegistryHost {
        match self.host.as_str() {
            DOCKER_HUB => DOCKER_HUB_ENDPOINT.parse().unwrap_or_else(|_| self.host.clone()),
            _ => self.host.clone(),
        }
    }

    /// Returns the name of the repository in its registry, such as `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag or digest.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Returns the image of the same repository with another tag or digest.
    pub fn with_reference(&self, reference: impl Into<Reference>) -> Self {
        Self { reference: reference.into(), ..self.clone() }
    }
}

/// Splits the registry from the repository. The first component is a host if it contains a dot, a colon or
/// an upper-case letter, or is `localhost`.
fn split_host(name: &str) -> (&str, &str) {
    let is_host = |first: &str| {
        first == "localhost" || first.contains(['.', ':']) || first.contains(char::is_uppercase)
    };
    match name.split_once('/') {
        Some((first, rest)) if is_host(first) => (first, rest),
        _ => (DOCKER_HUB, name),
    }
}

impl FromStr for ImageReference {
    type Err = ParseError;

    fn from_str(input: &str) -> Result<Self, ParseError> {
        let text = input.strip_prefix(Self::PREFIX).unwrap_or(input);
        let (text, digest) = match text.split_once('@') {
            Some((text, digest)) => (text, Some(digest.parse()?)),
            None => (text, None),
        };
        // A colon before the last slash belongs to the port of a host.
        let after_slash = text.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match text[after_slash..].find(':') {
            Some(offset) => {
                let (name, tag) = text.split_at(after_slash + offset);
                (name, tag[1..].parse()?)
            }
            None => (text, Tag::latest()),
        };
        let (host, repository) = split_host(name);
        let host: RegistryHost = match host.to_ascii_lowercase().as_str() {
            OLD_DOCKER_HUB => DOCKER_HUB.parse()?,
            host => host.parse()?,
        };
        check_components("repository name", repository)?;
        // docker interprets such a name as an image ID.
        let is_id = |name: &str| name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit());
        if is_id(name) {
            let problem = "64 hexadecimal digits are the ID of an image, and not a name";
            return Err(ParseError::new(WHAT, input, problem));
        }
        let repository: Box<str> = match host.as_str() {
            DOCKER_HUB if !repository.contains('/') => {
                format!("{DOCKER_HUB_LIBRARY}/{repository}").into()
            }
            _ => repository.into(),
        };
        if repository.len() > MAX_NAME_LEN {
            let problem = format!(
                "the name of the repository has {} characters, the maximum is {MAX_NAME_LEN}",
                repository.len()
            );
            return Err(ParseError::new(WHAT, input, problem));
        }
        let reference = digest.map_or(Reference::Tag(tag), Reference::Digest);
        Ok(Self { host, repository, reference })
    }
}

impl RepositoryUrl {
    /// Returns an image of this repository as an [`ImageReference`].
    pub fn image_reference(&self, reference: impl Into<Reference>) -> ImageReference {
        let (host, repository) = (self.host().clone(), self.path().to_string().into());
        ImageReference { host, repository, reference: reference.into() }
    }
}

impl From<&ImageUrl> for ImageReference {
    fn from(image: &ImageUrl) -> Self {
        image.repository().image_reference(image.reference().clone())
    }
}

impl fmt::Display for ImageReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, repository, reference } = self;
        write!(f, "{host}/{repository}{}{reference}", reference.separator())
    }
}

serde_as_text!(ImageReference);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn image_reference_has_a_canonical_form() {
        for (text, canonical) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("alpine:3.20", "docker.io/library/alpine:3.20"),
            ("user/x", "docker.io/user/x:latest"),
            ("user/team/x:v1", "docker.io/user/team/x:v1"),
            ("docker.io/alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/alpine", "docker.io/library/alpine:latest"),
            ("docker.io/library", "docker.io/library/library:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/x:v1", "localhost:5000/x:v1"),
            ("[::1]:5000/a/b", "[::1]:5000/a/b:latest"),
            ("quay.io/a/b_c__d-e.f", "quay.io/a/b_c__d-e.f:latest"),
            ("GHCR.io/a/b", "ghcr.io/a/b:latest"),
            ("Team/x", "team/x:latest"),
        ] {
            for text in [text.to_owned(), format!("docker://{text}")] {
                let image: ImageReference = text.parse().unwrap();
                assert_eq!(image.to_string(), canonical, "{text}");
            }
        }
    }

    #[test]
    fn digest_takes_precedence_over_tag() {
        for text in ["alpine@", "alpine:3.20@", "docker://docker.io/library/alpine:x@"] {
            let image: ImageReference = format!("{text}{DIGEST}").parse().unwrap();
            assert_eq!(image.to_string(), format!("docker.io/library/alpine@{DIGEST}"));
        }
    }

    #[test]
    fn docker_hub_is_served_by_another_host() {
        for (text, endpoint) in [
            ("alpine", "registry-1.docker.io"),
            ("index.docker.io/a/b", "registry-1.docker.io"),
            ("ghcr.io/a/b", "ghcr.io"),
            ("localhost:5000/a", "localhost:5000"),
        ] {
            let image: ImageReference = text.parse().unwrap();
            assert_eq!(image.endpoint().as_str(), endpoint, "{text}");
        }
    }

    #[test]
    fn invalid_image_reference_is_rejected_with_reason() {
        let long = format!("ghcr.io/{}", "a".repeat(256));
        for (text, reason) in [
            ("", "it is empty"),
            ("docker://", "it is empty"),
            ("ghcr.io/", "it is empty"),
            ("Alpine", "upper case 'A' is not allowed"),
            ("user/X", "upper case 'X' is not allowed"),
            ("alpine:", "tag: it is empty"),
            ("alpine:a:b", "':' is not allowed"),
            ("alpine@v1", "expected"),
            ("user:password@ghcr.io/a", "digest"),
            ("https://ghcr.io/a", "port"),
            ("ghcr.io:x/a", "port"),
            ("a//b", "a component is empty"),
            ("a b", "' ' is not allowed"),
            ("-a", "may not start with '-'"),
            (&DIGEST[7..], "the ID of an image"),
            (&long, "256 characters, the maximum is 255"),
        ] {
            let error = text.parse::<ImageReference>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn canonical_form_parses_to_itself(text in "(\\PC|[a-z/:@._-]){0,40}") {
            if let Ok(image) = text.parse::<ImageReference>() {
                prop_assert_eq!(image.to_string().parse::<ImageReference>(), Ok(image));
            }
        }
    }
}
