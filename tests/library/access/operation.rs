//! Everything that one can do with a repository, and how it ends.

use std::net::SocketAddr;

use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::model::{Access, Organizations, Reference, RepositoryPath, Scope};
use ark_container_core::testing::SampleImage;
use ark_container_core::{Error, RegistryBackend};
use futures_util::TryStreamExt as _;
use reqwest::StatusCode;

use crate::registry::server::{
    Answer, OCI_CONFIG, OCI_MANIFEST, RegistryClient, descriptor, sha256,
};

/// A line of the table. They are done in this order, so that each finds what it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    ListEverything,
    List,
    Create,
    Describe,
    ListImages,
    Pull,
    Push,
    DeleteImage,
    DeleteImageOverHttp,
    Delete,
}

/// How an operation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It was done; a listing shows the repository.
    Done,
    /// It was allowed, and there is nothing.
    Nothing,
    /// It was denied.
    Denied,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "yes",
            Self::Nothing => "nothing",
            Self::Denied => "no",
        }
    }
}

/// How it ended, and what was told.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) told: String,
}

impl Ended {
    fn as_listed(found: bool) -> Self {
        let outcome = if found { Outcome::Done } else { Outcome::Nothing };
        Self { outcome, told: String::new() }
    }

    #[track_caller]
    fn of<T>(result: Result<T, Error>) -> Self {
        let (outcome, told) = match result {
            Ok(_) => (Outcome::Done, String::new()),
            Err(error @ Error::NotFound { .. }) => (Outcome::Nothing, error.to_string()),
            Err(error @ Error::PermissionDenied { .. }) => (Outcome::Denied, error.to_string()),
            Err(error) => panic!("neither done nor denied: {error:?}"),
        };
        Self { outcome, told }
    }

    #[track_caller]
    fn at_registry(answer: Answer) -> Self {
        let outcome = match answer.status {
            StatusCode::NOT_FOUND => Outcome::Nothing,
            StatusCode::FORBIDDEN => Outcome::Denied,
            status if status.is_success() => Outcome::Done,
            _ => panic!("neither done nor denied: {answer:?}"),
        };
        Self { outcome, told: String::from_utf8(answer.body).unwrap() }
    }
}

impl Operation {
    pub(crate) const ALL: [Self; 10] = [
        Self::ListEverything,
        Self::List,
        Self::Create,
        Self::Describe,
        Self::ListImages,
        Self::Pull,
        Self::Push,
        Self::DeleteImage,
        Self::DeleteImageOverHttp,
        Self::Delete,
    ];

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::ListEverything => "see it in a listing of all",
            Self::List => "list the organization",
            Self::Create => "create a repository",
            Self::Describe => "describe it",
            Self::ListImages => "list its images",
            Self::Pull => "log in and pull",
            Self::Push => "log in and push",
            Self::DeleteImage => "delete an image",
            Self::DeleteImageOverHttp => "log in and delete an image",
            Self::Delete => "delete it",
        }
    }

    /// Whether it is about whatever repositories there are.
    pub(crate) fn is_listing(self) -> bool {
        matches!(self, Self::ListEverything | Self::List)
    }

    /// Does it, to a repository that has the images `v1` and `v2` if it exists; `registry` is where
    /// clients find it.
    pub(crate) async fn attempt(
        self,
        backend: &dyn RegistryBackend,
        registry: SocketAddr,
        path: &RepositoryPath,
    ) -> Ended {
        let client = async |access| {
            let scope = Scope::repository(path.clone(), access);
            let credentials = backend.credentials(&scope, &Default::default()).await?;
            Ok(RegistryClient::new(registry, credentials.password.expose()))
        };
        let v2 = SampleImage::new("v2").digest();
        let v1 = Reference::Tag("v1".parse().unwrap());
        match self {
            Self::ListEverything => is_listed(backend, &Organizations::All, path).await,
            Self::List => is_listed(backend, &Organizations::from(path.organization()), path).await,
            Self::Create => {
                let new = format!("{path}/new").parse().unwrap();
                Ended::of(backend.create_repository(&new, &CreateOptions::default()).await)
            }
            Self::Describe => Ended::of(backend.describe_repository(path).await),
            Self::ListImages => Ended::of(backend.list_images(path).try_collect::<Vec<_>>().await),
            Self::Pull => match client(Access::Pull).await {
                Ok(client) => {
                    Ended::at_registry(client.get(&format!("/v2/{path}/manifests/v1")).await)
                }
                Err(error) => Ended::of(Err::<(), _>(error)),
            },
            Self::Push => match client(Access::Push).await {
                Ok(client) => push(&client, path).await,
                Err(error) => Ended::of(Err::<(), _>(error)),
            },
            Self::DeleteImage => Ended::of(backend.delete_image(path, &v1).await),
            Self::DeleteImageOverHttp => match client(Access::Delete).await {
                Ok(client) => {
                    Ended::at_registry(client.delete(&format!("/v2/{path}/manifests/{v2}")).await)
                }
                Err(error) => Ended::of(Err::<(), _>(error)),
            },
            Self::Delete => {
                let options = DeleteOptions::default().with_force(true);
                Ended::of(backend.delete_repository(path, &options).await)
            }
        }
    }
}

async fn is_listed(
    backend: &dyn RegistryBackend,
    asked: &Organizations,
    path: &RepositoryPath,
) -> Ended {
    let rows: Result<Vec<_>, _> = backend.list_repositories(asked).try_collect().await;
    match rows {
        Ok(rows) => Ended::as_listed(rows.iter().any(|row| row.url.path() == path)),
        Err(error) => Ended::of(Err::<(), _>(error)),
    }
}

/// Sends what the manifest of an empty image refers to, and the manifest.
async fn push(client: &RegistryClient, path: &RepositoryPath) -> Ended {
    let config = br#"{"pushed":true}"#;
    let digest = sha256(config);
    let started = client.post(&format!("/v2/{path}/blobs/uploads/")).await;
    if !started.status.is_success() {
        return Ended::at_registry(started);
    }
    let upload = format!("{}?digest={digest}", started.header("location"));
    client.put(&upload, *config).await.expect(StatusCode::CREATED);
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "config": descriptor(OCI_CONFIG, config),
        "layers": [],
    });
    Ended::at_registry(client.put_manifest(path, "v3", OCI_MANIFEST, &manifest).await)
}
