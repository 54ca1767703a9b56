//! The ECR backend with a web identity token, on the fake of AWS: users and programs without AWS credentials.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::ecr::{EcrBackend, EcrBackendBuilder};
use ark_container_core::credentials::Narrowing;
use ark_container_core::identity::TokenFile;
use ark_container_core::model::{
    Access, OrganizationId, Organizations, RepositoryPath, Scope, Stage,
};
use ark_container_core::testing::{SampleImage, TestToken};
use ark_container_core::transfer::{ImageSource, Push};
use ark_container_core::{Error, RegistryBackend};
use ark_container_fakes::aws::ListedRepository;
use futures_util::TryStreamExt;
use reqwest::StatusCode;
use tempfile::TempDir;

use crate::access::deployment::{ACCESS, Deployment};
use crate::registry::server::{OURS, RegistryClient, THEIRS, path};

/// A deployment, and the token file of the current user.
struct SignedIn {
    deployment: Deployment,
    home: TempDir,
}

impl SignedIn {
    /// Starts a deployment and writes the token file of a user or program.
    async fn start(token: &TestToken) -> Self {
        let deployment = Deployment::start().await;
        let signed_in = Self { deployment, home: tempfile::tempdir().unwrap() };
        signed_in.sign_in(token);
        signed_in
    }

    fn token_file(&self) -> PathBuf {
        self.home.path().join("jwt.json")
    }

    /// Replaces the token in the file.
    fn sign_in(&self, token: &TestToken) {
        fs::copy(self.deployment.sign(token), self.token_file()).unwrap();
    }

    fn backend(&self, more: impl FnOnce(EcrBackendBuilder) -> EcrBackendBuilder) -> EcrBackend {
        self.deployment.bearer_with(&self.token_file(), more)
    }

    fn count(&self, action: &str) -> usize {
        self.deployment.cloud.aws.count(action)
    }

    async fn push(&self, backend: &EcrBackend, path: &RepositoryPath) -> Result<(), Error> {
        let layout = self.home.path().join("layout");
        if !layout.exists() {
            SampleImage::builder().build().write_oci_layout(&layout, None).unwrap();
        }
        let source = ImageSource::oci_layout(layout);
        let push = Push::new(Arc::new(backend.clone()), path, source);
        push.with_tag("v1".parse().unwrap()).await.map(drop)
    }
}

fn token(name: &str, organization: OrganizationId) -> TestToken {
    TestToken::new(&name.parse().unwrap()).with_organizations([organization]).with_session_tags()
}

async fn create(backend: &EcrBackend, path: &RepositoryPath) -> Result<(), Error> {
    backend.create_repository(path, &CreateOptions::default()).await.map(drop)
}

async fn list(backend: &EcrBackend) -> Result<Vec<String>, Error> {
    let organizations = Organizations::from_iter([OURS]);
    let rows: Vec<_> = backend.list_repositories(&organizations).try_collect().await?;
    Ok(rows.into_iter().map(|row| row.url.path().to_string()).collect())
}

fn denied<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::PermissionDenied { .. })), "{result:?}");
}

fn unauthenticated<T: std::fmt::Debug>(result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Unauthenticated { .. })), "{result:?}");
}

#[tokio::test]
async fn user_without_aws_account_does_everything() {
    let aws = SignedIn::start(&token("user:alice", OURS)).await;
    let backend = aws.backend(|builder| builder.with_principal("user:alice"));
    let app = path(OURS, "app");
    create(&backend, &app).await.unwrap();
    assert_eq!(list(&backend).await.unwrap(), [app.to_string()]);
    aws.push(&backend, &app).await.unwrap();
    let images: Vec<_> = backend.list_images(&app).try_collect().await.unwrap();
    assert_eq!(images.len(), 1);
    let scope = Scope::repository(app.clone(), Access::Pull);
    let login = backend.credentials(&scope, &Default::default()).await.unwrap();
    assert_eq!(login.narrowing, Narrowing::Scoped);
    let client = RegistryClient::new(login.host.as_str().parse().unwrap(), login.password.expose());
    client.get(&format!("/v2/{app}/manifests/v1")).await.expect(StatusCode::OK);
    client.post(&format!("/v2/{app}/blobs/uploads/")).await.expect(StatusCode::FORBIDDEN);

    let expected = "arn:aws:sts::095412845506:assumed-role/ark-access/user.alice";
    let calls = aws.deployment.cloud.aws.calls();
    let signed = calls.iter().filter_map(|call| call.principal.as_deref());
    assert!(signed.clone().count() > 10 && signed.into_iter().all(|arn| arn == expected));
}

#[tokio::test]
async fn renewed_token_continues_a_run() {
    let soon = SystemTime::now() + Duration::from_secs(600);
    let aws = SignedIn::start(&token("robot:nightly", OURS).expiring_at(soon)).await;
    let backend = aws.backend(|builder| builder);
    list(&backend).await.unwrap();
    let sessions = || aws.count("sts:AssumeRoleWithWebIdentity");
    assert_eq!(sessions(), 1);
    let ago = SystemTime::now() - Duration::from_secs(120);
    aws.sign_in(&token("robot:nightly", OURS).expiring_at(ago));
    unauthenticated(list(&backend).await);
    aws.sign_in(&token("robot:nightly", OURS));
    list(&backend).await.unwrap();
    list(&backend).await.unwrap();
    assert_eq!(sessions(), 2);
}

#[tokio::test]
async fn replaced_token_gets_its_own_session_and_login() {
    let aws = SignedIn::start(&token("user:alice", OURS)).await;
    let cache = aws.home.path().join("cache");
    let backend = aws.backend(|builder| builder.with_cache_directory(cache));
    let app = path(OURS, "app");
    create(&backend, &app).await.unwrap();
    aws.push(&backend, &app).await.unwrap();
    let scope = Scope::repository(app.clone(), Access::Push);
    let logins = || aws.count("ecr:GetAuthorizationToken");
    let before = logins();
    backend.credentials(&scope, &Default::default()).await.unwrap();
    assert_eq!(logins(), before, "alice's login is cached");

    // A user of another organization gets another login, which grants no access here.
    aws.sign_in(&token("user:bob", THEIRS));
    denied(backend.describe_repository(&app).await);
    denied(aws.push(&backend, &app).await);
    // A denied HEAD has no body with a reason, so the client retries once with a new login.
    assert_eq!(logins(), before + 2);
}

#[tokio::test]
async fn account_listing_is_denied_to_sessions_of_a_role_once() {
    let aws = SignedIn::start(&token("user:alice", OURS)).await;
    let cache = aws.home.path().join("cache");
    let process = || aws.backend(|builder| builder.with_cache_directory(&cache));
    create(&process(), &path(OURS, "app")).await.unwrap();
    for _ in 0..2 {
        let backend = process();
        assert_eq!(list(&backend).await.unwrap(), [path(OURS, "app").to_string()]);
        assert!(backend.has_listed_incompletely());
    }
    let calls = aws.deployment.cloud.aws.calls();
    let denied = calls.iter().filter(|call| call.error.as_deref() == Some("AccessDeniedException"));
    assert_eq!(denied.count(), 1, "{calls:?}");
}

#[tokio::test]
async fn member_adds_the_tag_of_the_organization() {
    let terraform = ListedRepository::new(path(OURS, "terraform").to_string());
    let deployment = Deployment::start_with(|aws| aws.with_list([terraform])).await;
    let backend = deployment.bearer(&token("user:alice", OURS));
    assert_eq!(list(&backend).await.unwrap(), Vec::<String>::new());
    create(&backend, &path(OURS, "terraform")).await.unwrap();
    let others = deployment.bearer(&token("robot:nightly", OURS));
    assert_eq!(list(&others).await.unwrap(), [path(OURS, "terraform").to_string()]);
}

/// The AWS endpoint for the child process of the test below.
const CHILD_ENDPOINT: &str = "ARK_TEST_AWS";
const CHILD_TOKEN: &str = "ARK_TEST_TOKEN_FILE";

#[tokio::test]
#[ignore = "another test runs it in a process of its own"]
async fn child_that_lists() {
    let host = "095412845506.dkr.ecr.us-east-1.amazonaws.com".parse().unwrap();
    let backend = EcrBackend::builder(host, Stage::default())
        .with_endpoint_url(std::env::var(CHILD_ENDPOINT).unwrap())
        .with_web_identity(TokenFile::new(std::env::var_os(CHILD_TOKEN).unwrap()))
        .with_role_arn(ACCESS)
        .build();
    list(&backend).await.unwrap();
    let scope = Scope::repository(path(OURS, "app"), Access::Pull);
    backend.credentials(&scope, &Default::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn token_excludes_other_aws_credentials() {
    let aws = SignedIn::start(&token("user:alice", OURS)).await;
    let touched = aws.home.path().join("touched");
    let config = aws.home.path().join("config");
    let process = format!("[default]\ncredential_process = touch {}\n", touched.display());
    fs::write(&config, process).unwrap();
    let child = || {
        let mut child = Command::new(std::env::current_exe().unwrap());
        let test = "aws::web_identity::child_that_lists";
        child.args(["--exact", test, "--ignored", "--nocapture"]);
        child.env(CHILD_ENDPOINT, aws.deployment.cloud.aws.endpoint_url());
        child.env(CHILD_TOKEN, aws.token_file());
        child.env("AWS_CONFIG_FILE", &config);
        child.env("AWS_SHARED_CREDENTIALS_FILE", &config);
        child
    };
    let mut with_keys = child();
    with_keys.env("AWS_ACCESS_KEY_ID", "AKIASTRANGER").env("AWS_SECRET_ACCESS_KEY", "x");
    let mut with_profile = child();
    with_profile.env("AWS_PROFILE", "default").env_remove("AWS_ACCESS_KEY_ID");
    with_profile.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:1/");
    for mut child in [with_keys, with_profile] {
        let before = aws.deployment.cloud.aws.calls().len();
        let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
        assert!(output.status.success(), "{output:?}");
        assert!(aws.deployment.cloud.aws.calls().len() > before, "{output:?}");
    }
    // The session may not list the account, and lists the organization with the tag index.
    let calls = aws.deployment.cloud.aws.calls();
    let failed = calls.iter().filter(|call| call.error.is_some());
    assert!(failed.map(|call| &*call.action).all(|action| action == "ecr:DescribeRepositories"));
    assert!(!touched.exists(), "the profile's credential_process was run");
}
