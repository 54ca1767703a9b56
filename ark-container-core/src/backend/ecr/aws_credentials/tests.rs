//! Tests of cached, invalid and missing credentials.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use super::super::scripted::{self, HOST};
use super::*;
use crate::backend::RegistryBackend;
use crate::backend::ecr::{EcrBackend, EcrBackendBuilder};
use crate::error::{Error, ErrorKind};
use crate::model::Stage;

/// A provider whose result is a function of the number of the request.
#[derive(Clone)]
struct Provider {
    result: Arc<dyn Fn(usize) -> provider::Result + Send + Sync>,
    requests: Arc<AtomicUsize>,
}

impl Provider {
    fn new(result: impl Fn(usize) -> provider::Result + Send + Sync + 'static) -> Self {
        Self { result: Arc::new(result), requests: Arc::default() }
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Provider")
    }
}

impl ProvideCredentials for Provider {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        let request = self.requests.fetch_add(1, Ordering::Relaxed);
        future::ProvideCredentials::ready((self.result)(request))
    }
}

fn builder() -> EcrBackendBuilder {
    EcrBackend::builder(HOST.parse().unwrap(), Stage::default())
}

fn with_provider(builder: EcrBackendBuilder, provider: Provider) -> EcrBackend {
    let provider = SharedCredentialsProvider::new(provider);
    let config = scripted::sdk_config().into_builder().credentials_provider(provider).build();
    builder.with_sdk_config(config).build()
}

async fn deletion_error(backend: &EcrBackend) -> Error {
    let path = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap();
    backend.delete_repository(&path, &Default::default()).await.unwrap_err()
}

#[tokio::test]
async fn credentials_are_cached_until_they_expire() {
    for (lifetime, expected) in [(None, 1), (Some(3600), 1), (Some(30), 3)] {
        let provider = Provider::new(move |_| {
            let expiry = lifetime.map(|seconds| SystemTime::now() + Duration::from_secs(seconds));
            Ok(Credentials::new("AKIA", "secret", None, expiry, "test"))
        });
        let shared = SharedCredentialsProvider::new(provider.clone());
        let backend = builder().build();
        let caller = CallerCredentials::of_program(shared, backend.config());
        for _ in 0..3 {
            caller.provide_credentials().await.unwrap();
        }
        assert_eq!(provider.requests.load(Ordering::Relaxed), expected, "{lifetime:?}");
    }
}

#[tokio::test]
async fn key_with_line_break_is_invalid_input() {
    for (id, token) in [("AKIA\n", None), ("AKIA", Some("token\r".to_owned()))] {
        let provider = Provider::new(move |_| {
            Ok(Credentials::new(id, "hunter2", token.clone(), None, "test"))
        });
        let error = deletion_error(&with_provider(builder(), provider)).await;
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(!format!("{error:?}").contains("AKIA"), "{error:?}");
    }
}

#[tokio::test]
async fn missing_credentials_suggest_a_command() {
    type Case = (Option<&'static str>, fn() -> CredentialsError, &'static str);
    let builds = Some("it's");
    let cases: [Case; 5] = [
        (None, || CredentialsError::not_loaded("nothing"), "no AWS credentials were found: run"),
        (
            builds,
            || CredentialsError::not_loaded("nothing"),
            "does not exist in the AWS configuration, or has no credentials: run",
        ),
        (
            builds,
            || {
                CredentialsError::provider_error(
                    "the SSO token has expired and cannot be refreshed",
                )
            },
            r"has expired: run `aws sso login --profile 'it'\''s'`",
        ),
        (
            builds,
            || CredentialsError::provider_error("failed to load the cached SSO token"),
            r"has no SSO session: run `aws sso login --profile 'it'\''s'`",
        ),
        (
            builds,
            || CredentialsError::invalid_configuration("a loop"),
            "the profile \"it's\" returned no AWS credentials",
        ),
    ];
    for (profile, error, text) in cases {
        let builder = profile.into_iter().fold(builder(), EcrBackendBuilder::with_profile);
        let started = Instant::now();
        let error =
            deletion_error(&with_provider(builder, Provider::new(move |_| Err(error())))).await;
        assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(error.to_string().len() < 400, "{error}");
        assert!(started.elapsed() < Duration::from_secs(5));
    }
}

#[tokio::test]
async fn error_does_not_contain_the_request() {
    let provider = Provider::new(|_| {
        let request = "failed to apply endpoint `x` to request `Request { body: eyJhbGciOi }`";
        Err(CredentialsError::provider_error(request))
    });
    let error = deletion_error(&with_provider(builder(), provider)).await;
    let mut text = format!("{error:?}");
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text.push_str(&error.to_string());
        cause = error.source();
    }
    assert!(!text.contains("eyJ"), "{text}");
}
