//! The operations on a repository, and their outcomes.

use std::net::SocketAddr;

use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::model::{Access, Organizations, Reference, RepositoryPath, Scope};
use ark_container_core::testing::SampleImage;
use ark_container_core::{Error, RegistryBackend};
use aws_sdk_ecr::error::ProvideErrorMetadata;
use futures_util::TryStreamExt as _;
use reqwest::StatusCode;

use crate::aws::cloud::arn;
use crate::registry::server::{
    Answer, OCI_CONFIG, OCI_MANIFEST, RegistryClient, descriptor, sha256,
};

/// A line of the table. The order matters: each operation needs the results of the ones before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    ListEverything,
    List,
    Create,
    Describe,
    ListImages,
    Pull,
    Push,
    CreateByPushing,
    SetLifecyclePolicy,
    SetRepositoryPolicy,
    RemoveResourceTag,
    DeleteImage,
    DeleteImageOverHttp,
    Delete,
}

/// The outcome of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The operation succeeded; a listing shows the repository.
    Done,
    /// The operation was allowed and found no repository.
    Nothing,
    /// The operation was denied.
    Denied,
    /// Only AWS has the operation, not the library.
    Unavailable,
}

impl Outcome {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Done => "yes",
            Self::Nothing => "nothing",
            Self::Denied => "no",
            Self::Unavailable => "-",
        }
    }
}

/// The outcome of an operation, and its error text.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) outcome: Outcome,
    pub(crate) text: String,
}

impl Ended {
    fn as_listed(found: bool) -> Self {
        let outcome = if found { Outcome::Done } else { Outcome::Nothing };
        Self { outcome, text: String::new() }
    }

    #[track_caller]
    fn of<T>(result: Result<T, Error>) -> Self {
        let (outcome, text) = match result {
            Ok(_) => (Outcome::Done, String::new()),
            Err(error @ Error::NotFound { .. }) => (Outcome::Nothing, error.to_string()),
            Err(error @ Error::PermissionDenied { .. }) => (Outcome::Denied, error.to_string()),
            Err(error) => panic!("neither succeeded nor denied: {error:?}"),
        };
        Self { outcome, text }
    }

    #[track_caller]
    fn at_registry(answer: Answer) -> Self {
        let outcome = match answer.status {
            StatusCode::NOT_FOUND => Outcome::Nothing,
            StatusCode::FORBIDDEN => Outcome::Denied,
            status if status.is_success() => Outcome::Done,
            _ => panic!("neither succeeded nor denied: {answer:?}"),
        };
        Self { outcome, text: String::from_utf8(answer.body).unwrap() }
    }
}

/// The clients of a person.
#[derive(Clone, Copy)]
pub(crate) struct Clients<'a> {
    pub(crate) backend: &'a dyn RegistryBackend,
    /// The registry's address.
    pub(crate) registry: SocketAddr,
    /// ECR clients of the sessions that the person's token gets, used without the library. Empty behind the policy
    /// alone.
    pub(crate) sessions: &'a [aws_sdk_ecr::Client],
}

impl Operation {
    pub(crate) const ALL: [Self; 14] = [
        Self::ListEverything,
        Self::List,
        Self::Create,
        Self::Describe,
        Self::ListImages,
        Self::Pull,
        Self::Push,
        Self::CreateByPushing,
        Self::SetLifecyclePolicy,
        Self::SetRepositoryPolicy,
        Self::RemoveResourceTag,
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
            Self::CreateByPushing => "create one by pushing",
            Self::SetLifecyclePolicy => "set its lifecycle policy",
            Self::SetRepositoryPolicy => "set its repository policy",
            Self::RemoveResourceTag => "remove its resource tag",
            Self::DeleteImage => "delete an image",
            Self::DeleteImageOverHttp => "log in and delete an image",
            Self::Delete => "delete it",
        }
    }

    /// Returns whether the operation lists repositories.
    pub(crate) fn is_listing(self) -> bool {
        matches!(self, Self::ListEverything | Self::List)
    }

    /// Returns whether the operation could circumvent the permissions of another one.
    pub(crate) fn is_indirect(self) -> bool {
        matches!(
            self,
            Self::CreateByPushing
                | Self::SetLifecyclePolicy
                | Self::SetRepositoryPolicy
                | Self::RemoveResourceTag
        )
    }

    /// Performs the operation on a repository that has the images `v1` and `v2` if it exists.
    pub(crate) async fn attempt(self, clients: Clients<'_>, path: &RepositoryPath) -> Ended {
        let Clients { backend, registry, sessions } = clients;
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
            Self::CreateByPushing => {
                let new: RepositoryPath = format!("{path}/pushed").parse().unwrap();
                let scope = Scope::repository(new.clone(), Access::Push);
                match backend.credentials(&scope, &Default::default()).await {
                    Ok(credentials) => {
                        let client = RegistryClient::new(registry, credentials.password.expose());
                        Ended::at_registry(client.post(&format!("/v2/{new}/blobs/uploads/")).await)
                    }
                    Err(error) => Ended::of(Err::<(), _>(error)),
                }
            }
            // The library can set a lifecycle policy only at creation.
            Self::SetLifecyclePolicy if sessions.is_empty() => {
                let options = CreateOptions::default().with_lifecycle_policy(EXPIRE_ALL_BUT_ONE);
                Ended::of(backend.create_repository(path, &options).await)
            }
            Self::SetLifecyclePolicy => {
                by_any(sessions, |ecr| {
                    let request = ecr.put_lifecycle_policy().repository_name(path.to_string());
                    request.lifecycle_policy_text(EXPIRE_ALL_BUT_ONE).send()
                })
                .await
            }
            Self::SetRepositoryPolicy => {
                by_any(sessions, |ecr| {
                    let request = ecr.set_repository_policy().repository_name(path.to_string());
                    request.policy_text(OPEN_TO_THE_ACCOUNT).send()
                })
                .await
            }
            Self::RemoveResourceTag => {
                by_any(sessions, |ecr| {
                    let request = ecr.untag_resource().resource_arn(arn(&path.to_string()));
                    request.tag_keys("ark:organization").send()
                })
                .await
            }
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

/// A lifecycle policy that deletes images.
const EXPIRE_ALL_BUT_ONE: &str = r#"{"rules":[{"rulePriority":1,"selection":{"tagStatus":"any","countType":
    "imageCountMoreThan","countNumber":1},"action":{"type":"expire"}}]}"#;

/// A repository policy that grants read access to the account.
const OPEN_TO_THE_ACCOUNT: &str = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow",
    "Principal":{"AWS":"arn:aws:iam::095412845506:root"},"Action":"ecr:DescribeImages"}]}"#;

/// Calls AWS in each session, and returns the best outcome.
async fn by_any<T, E: ProvideErrorMetadata, F: Future<Output = Result<T, E>>>(
    sessions: &[aws_sdk_ecr::Client],
    call: impl Fn(&aws_sdk_ecr::Client) -> F,
) -> Ended {
    let mut ended = Ended { outcome: Outcome::Unavailable, text: String::new() };
    for ecr in sessions {
        let (outcome, text) = match call(ecr).await {
            Ok(_) => (Outcome::Done, String::new()),
            Err(error) => match error.code() {
                Some("AccessDeniedException") => {
                    (Outcome::Denied, error.message().unwrap_or_default().to_owned())
                }
                Some("RepositoryNotFoundException") => (Outcome::Nothing, String::new()),
                code => panic!("neither succeeded nor denied: {code:?}"),
            },
        };
        ended.text += &text;
        if ended.outcome == Outcome::Unavailable || outcome != Outcome::Denied {
            ended.outcome = outcome;
        }
        if outcome == Outcome::Done {
            break;
        }
    }
    ended
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

/// Pushes an empty image: its blobs, then its manifest.
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
