//! [`Target`]: the endpoint that the path of a request names.

use std::borrow::Cow;

use hyper::Method;
use percent_encoding::percent_decode_str;

use super::auth::Operation;
use crate::model::{ParseError, RepositoryPath};

/// The endpoint of a request.
#[derive(Debug)]
pub(crate) enum Target {
    /// `/v2/`: the check of the API version and of credentials.
    Base,
    /// An endpoint of a repository.
    InRepository {
        /// The repository, or the error of an invalid name.
        path: Result<RepositoryPath, ParseError>,
        /// The endpoint in the repository.
        resource: Resource,
    },
    /// An unknown path.
    Unknown,
}

/// An endpoint of a repository. Digests, references and upload ids are not parsed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resource {
    Blob(String),
    Uploads,
    Upload(String),
    Manifest(String),
    Tags,
    Referrers(String),
}

impl Target {
    /// Parses the path of a URL.
    ///
    /// The path is parsed from its end, since a repository name may contain `blobs` or `tags`. A percent-encoded
    /// slash is not a separator and makes a name invalid.
    pub(super) fn parse(path: &str) -> Self {
        let Some(rest) = path.strip_prefix("/v2") else { return Self::Unknown };
        if rest.is_empty() || rest == "/" {
            return Self::Base;
        }
        let Some(rest) = rest.strip_prefix('/') else { return Self::Unknown };
        let parts: Option<Vec<Cow<'_, str>>> =
            rest.split('/').map(|part| percent_decode_str(part).decode_utf8().ok()).collect();
        let Some(parts) = parts else { return Self::Unknown };
        let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
        let (name, resource) = match parts.as_slice() {
            [name @ .., "blobs", "uploads"] | [name @ .., "blobs", "uploads", ""] => {
                (name, Resource::Uploads)
            }
            [name @ .., "blobs", "uploads", id] => (name, Resource::Upload((*id).to_owned())),
            [name @ .., "blobs", digest] => (name, Resource::Blob((*digest).to_owned())),
            [name @ .., "manifests", reference] => {
                (name, Resource::Manifest((*reference).to_owned()))
            }
            [name @ .., "tags", "list"] => (name, Resource::Tags),
            [name @ .., "referrers", digest] => (name, Resource::Referrers((*digest).to_owned())),
            _ => return Self::Unknown,
        };
        Self::InRepository { path: repository_path(name), resource }
    }

    /// Returns the kind of endpoint for logs and metrics.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Unknown => "unknown",
            Self::InRepository { resource, .. } => match resource {
                Resource::Blob(_) => "blob",
                Resource::Uploads => "uploads",
                Resource::Upload(_) => "upload",
                Resource::Manifest(_) => "manifest",
                Resource::Tags => "tags",
                Resource::Referrers(_) => "referrers",
            },
        }
    }
}

/// Parses the components of a path. The error shows an encoded slash as it was sent.
fn repository_path(parts: &[&str]) -> Result<RepositoryPath, ParseError> {
    let parts: Vec<Cow<'_, str>> = parts
        .iter()
        .map(|part| match part.contains('/') {
            true => Cow::Owned(part.replace('/', "%2F")),
            false => Cow::Borrowed(*part),
        })
        .collect();
    parts.join("/").parse()
}

impl Resource {
    /// Returns the operation of a method; `None` if it is not supported.
    pub(super) fn operation(&self, method: &Method) -> Option<Operation> {
        Some(match (self, method) {
            (Self::Manifest(_), &Method::GET | &Method::HEAD) => Operation::ReadManifest,
            (Self::Manifest(_), &Method::PUT) => Operation::PutManifest,
            (Self::Manifest(_), &Method::DELETE) => Operation::DeleteManifest,
            (Self::Blob(_), &Method::HEAD) => Operation::CheckBlob,
            (Self::Blob(_), &Method::GET) => Operation::ReadBlob,
            (Self::Blob(_), &Method::DELETE) => Operation::DeleteBlob,
            (Self::Uploads, &Method::POST) => Operation::StartUpload,
            (Self::Upload(_), &Method::GET) => Operation::UploadStatus,
            (Self::Upload(_), &Method::PATCH) => Operation::SendPart,
            (Self::Upload(_), &Method::PUT) => Operation::FinishUpload,
            (Self::Upload(_), &Method::DELETE) => Operation::CancelUpload,
            (Self::Tags, &Method::GET | &Method::HEAD) => Operation::ListTags,
            (Self::Referrers(_), &Method::GET | &Method::HEAD) => Operation::ListReferrers,
            _ => return None,
        })
    }

    /// Returns the supported methods, for the `Allow` header.
    pub(super) fn methods(&self) -> &'static str {
        match self {
            Self::Blob(_) => "GET, HEAD, DELETE",
            Self::Uploads => "POST",
            Self::Upload(_) => "GET, PATCH, PUT, DELETE",
            Self::Manifest(_) => "GET, HEAD, PUT, DELETE",
            Self::Tags | Self::Referrers(_) => "GET, HEAD",
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Access;

    const ORGANIZATION: &str = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972";

    fn found(path: &str) -> Option<(Option<String>, Resource)> {
        match Target::parse(path) {
            Target::InRepository { path, resource } => {
                Some((path.ok().map(|path| path.name().to_string()), resource))
            }
            Target::Base | Target::Unknown => None,
        }
    }

    #[test]
    fn endpoints_of_specification_are_parsed() {
        for (end, resource) in [
            ("blobs/sha256:0", Resource::Blob("sha256:0".to_owned())),
            ("blobs/sha256%3A0", Resource::Blob("sha256:0".to_owned())),
            ("blobs/uploads/", Resource::Uploads),
            ("blobs/uploads", Resource::Uploads),
            ("blobs/uploads/0a", Resource::Upload("0a".to_owned())),
            ("manifests/v1", Resource::Manifest("v1".to_owned())),
            ("manifests/sha256:0", Resource::Manifest("sha256:0".to_owned())),
            ("tags/list", Resource::Tags),
            ("referrers/sha256:0", Resource::Referrers("sha256:0".to_owned())),
        ] {
            let path = format!("/v2/{ORGANIZATION}/a/b/{end}");
            assert_eq!(found(&path), Some((Some("a/b".to_owned()), resource)), "{path}");
        }
        for base in ["/v2", "/v2/"] {
            assert!(matches!(Target::parse(base), Target::Base));
        }
    }

    #[test]
    fn names_may_contain_words_of_protocol() {
        for name in ["blobs", "blobs/uploads", "manifests/latest", "tags/list", "a/referrers/b"] {
            for end in ["blobs/x", "blobs/uploads/", "blobs/uploads/x", "manifests/x", "tags/list"]
            {
                let (parsed, _) = found(&format!("/v2/{ORGANIZATION}/{name}/{end}")).unwrap();
                assert_eq!(parsed.as_deref(), Some(name), "{end}");
            }
        }
    }

    #[test]
    fn invalid_repository_name_is_reported() {
        for name in [
            "a",
            "prod/a",
            ORGANIZATION,
            &format!("{ORGANIZATION}/A"),
            &format!("{ORGANIZATION}/a/../b"),
            &format!("{ORGANIZATION}/%2e%2e/b"),
            &format!("{ORGANIZATION}/a%2Fb"),
            &format!("{ORGANIZATION}%2Fa"),
            &format!("{ORGANIZATION}/a%00b"),
            &format!("{ORGANIZATION}//a"),
            &format!("{ORGANIZATION}/a%20"),
            "prod/2EA25035-6aa4-42fb-9955-92288ea1b972/a",
            &format!("{ORGANIZATION}/{}", "a".repeat(300)),
        ] {
            assert_eq!(
                found(&format!("/v2/{name}/tags/list")),
                Some((None, Resource::Tags)),
                "{name}"
            );
        }
    }

    #[test]
    fn other_paths_are_unknown() {
        for path in
            ["", "/", "/v1/", "/v22/", "/v2/_catalog", "/v2/a", "/v2/a/tags", "/v2/%ff/tags/list"]
        {
            assert!(matches!(Target::parse(path), Target::Unknown), "{path}");
        }
    }

    #[test]
    fn methods_need_access_level_of_operation() {
        let access = |resource: &Resource| {
            [Method::GET, Method::HEAD, Method::POST, Method::PATCH, Method::PUT, Method::DELETE]
                .map(|method| resource.operation(&method).map(Operation::access))
        };
        let (pull, push, delete) = (Some(Access::Pull), Some(Access::Push), Some(Access::Delete));
        let id = String::new;
        assert_eq!(access(&Resource::Blob(id())), [pull, pull, None, None, None, delete]);
        assert_eq!(access(&Resource::Manifest(id())), [pull, pull, None, None, push, delete]);
        assert_eq!(access(&Resource::Uploads), [None, None, push, None, None, None]);
        assert_eq!(access(&Resource::Upload(id())), [pull, None, None, push, push, push]);
        assert_eq!(access(&Resource::Tags), [pull, pull, None, None, None, None]);
        assert_eq!(access(&Resource::Referrers(id())), [pull, pull, None, None, None, None]);
    }

    proptest! {
        #[test]
        fn arbitrary_path_neither_panics_nor_escapes(path in "/v2/([a-z%./0-9-]{0,12}/){0,6}(tags/list|blobs/x)") {
            if let Target::InRepository { path: Ok(path), .. } = Target::parse(&path) {
                prop_assert!(!path.to_string().split('/').any(|part| part.starts_with('.')));
            }
        }
    }
}
