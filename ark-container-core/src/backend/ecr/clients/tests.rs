use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ecr::config::{Credentials, ProvideCredentials};
use futures_util::TryStreamExt;

use super::super::scripted;
use super::*;
use crate::backend::RegistryBackend;
use crate::backend::ecr::{EcrBackend, EcrBackendBuilder};
use crate::error::Error;
use crate::identity::TokenFile;
use crate::model::{Organizations, Stage};

fn builder(host: &str) -> EcrBackendBuilder {
    EcrBackend::builder(host.parse().unwrap(), Stage::default())
}

/// A configuration without an HTTP client, so that the backend's own one is used.
fn keys() -> SdkConfig {
    scripted::sdk_config()
}

#[tokio::test]
async fn a_request_goes_over_the_network() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = Vec::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            match line.trim_end().to_ascii_lowercase() {
                line if line.is_empty() => break,
                line => head.push(line),
            }
        }
        let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = Vec::new();
        reader.take(length.unwrap().parse().unwrap()).read_to_end(&mut body).unwrap();
        let row = scripted::described("prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a");
        let answer = serde_json::json!({"repositories": [row]}).to_string();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}",
            answer.len()
        )
        .unwrap();
        head
    });
    let backend = builder(scripted::HOST).sdk_config(keys()).endpoint_url(url).build();
    let rows: Vec<_> = backend.list_repositories(&Organizations::All).try_collect().await.unwrap();
    assert_eq!(rows.len(), 1);
    let head = server.join().unwrap();
    assert!(head.iter().any(|line| line.contains("/us-east-1/ecr/aws4_request")), "{head:?}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_temporary_with_its_cause() {
    // A port that was free a moment ago.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, text) in [
        (format!("http://127.0.0.1:{port}"), "cannot be reached"),
        ("http://ecr.invalid".to_owned(), "is not known here"),
    ] {
        let backend = builder(scripted::HOST).sdk_config(keys()).endpoint_url(url).build();
        let rows: Result<Vec<_>, _> =
            backend.list_repositories(&Organizations::All).try_collect().await;
        let error = rows.unwrap_err();
        assert!(matches!(error, Error::Temporary { source: Some(_), .. }), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_not_trusted() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
    });
    let config = keys().into_builder().retry_config(RetryConfig::disabled()).build();
    let backend = builder(scripted::HOST).sdk_config(config).endpoint_url(url).build();
    let rows: Result<Vec<_>, _> =
        backend.list_repositories(&Organizations::All).try_collect().await;
    let error = rows.unwrap_err();
    server.join().unwrap();
    assert!(matches!(error, Error::Failed { source: Some(_), .. }), "{error:?}");
    assert!(error.to_string().contains("TLS"), "{error}");
}

#[tokio::test]
async fn the_host_says_region_and_endpoint() {
    for (host, region, fips, dual_stack) in [
        ("095412845506.dkr.ecr.eu-west-1.amazonaws.com", "eu-west-1", false, false),
        ("095412845506.dkr.ecr-fips.us-east-1.amazonaws.com", "us-east-1", true, false),
        ("095412845506.dkr-ecr-fips.us-east-1.on.aws", "us-east-1", true, true),
    ] {
        let other = keys().into_builder().region(Region::from_static("ap-south-1")).build();
        let backend = builder(host).sdk_config(other.clone()).build();
        let config = backend.sdk_config().await;
        assert_eq!(config.region().unwrap().as_ref(), region);
        assert_eq!((config.use_fips(), config.use_dual_stack()), (Some(fips), Some(dual_stack)));
        // The SDK refuses these flags beside a URL.
        let backend = builder(host).sdk_config(other).endpoint_url("http://127.0.0.1:1").build();
        let config = backend.sdk_config().await;
        assert_eq!((config.use_fips(), config.use_dual_stack()), (Some(false), Some(false)));
    }
}

#[tokio::test]
async fn with_a_token_there_is_no_other_source_of_credentials() {
    let file = TokenFile::new("/nowhere/jwt.json");
    let given = builder(scripted::HOST).sdk_config(keys()).web_identity(file.clone()).build();
    let loaded = builder(scripted::HOST).profile("builds").web_identity(file).build();
    for backend in [given, loaded] {
        let config = backend.sdk_config().await;
        assert!(config.credentials_provider().is_none(), "{config:?}");
    }
}

#[tokio::test]
async fn clones_share_their_clients() {
    let backend = builder(scripted::HOST).sdk_config(keys()).build();
    let clone = backend.clone();
    assert!(std::ptr::eq(backend.sdk_config().await, clone.sdk_config().await));
}

#[test]
fn retries_are_adaptive_and_as_many_as_told() {
    let retries = |loaded: Option<RetryConfig>| {
        let retry = retry(loaded.as_ref());
        assert_eq!(retry.mode(), RetryMode::Adaptive);
        retry.max_attempts()
    };
    assert_eq!(retries(None), ATTEMPTS);
    assert_eq!(retries(Some(RetryConfig::standard())), ATTEMPTS);
    assert_eq!(retries(Some(RetryConfig::standard().with_max_attempts(1))), 1);
}

/// Credentials that cannot be had.
#[derive(Debug)]
struct Without(fn() -> CredentialsError);

impl ProvideCredentials for Without {
    fn provide_credentials<'a>(
        &'a self,
    ) -> aws_credential_types::provider::future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        aws_credential_types::provider::future::ProvideCredentials::ready(Err::<Credentials, _>(
            (self.0)(),
        ))
    }
}

#[tokio::test]
async fn without_credentials_the_error_says_how_to_get_some() {
    type Case = (Option<&'static str>, fn() -> CredentialsError, &'static str);
    let builds = Some("builds");
    let cases: [Case; 6] = [
        (None, || CredentialsError::not_loaded("nothing"), "there are no AWS credentials in"),
        (
            builds,
            || CredentialsError::not_loaded("nothing"),
            "does not exist or gives no credentials",
        ),
        (
            builds,
            || {
                CredentialsError::provider_error(
                    "the SSO token has expired and cannot be refreshed",
                )
            },
            "has expired: run `aws sso login --profile builds`",
        ),
        (
            builds,
            || CredentialsError::provider_error("failed to load the cached SSO token"),
            "has no SSO session: run `aws sso login --profile builds`",
        ),
        (
            None,
            || CredentialsError::provider_error("failed to load IMDS session token"),
            "there are no AWS credentials in",
        ),
        (builds, || CredentialsError::invalid_configuration("a loop"), "gives no credentials"),
    ];
    for (profile, without, text) in cases {
        let provider = SharedCredentialsProvider::new(Without(without));
        let config = keys().into_builder().credentials_provider(provider).build();
        let mut backend = builder(scripted::HOST).sdk_config(config);
        if let Some(profile) = profile {
            backend = backend.profile(profile);
        }
        let backend = backend.build();
        let started = Instant::now();
        let path = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap();
        let error = backend.delete_repository(&path, &Default::default()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { source: Some(_), .. }), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
        assert!(started.elapsed() < Duration::from_secs(10));
    }
}
