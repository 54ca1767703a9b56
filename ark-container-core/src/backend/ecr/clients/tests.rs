//! Tests of clients over real connections, and of their endpoints.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::thread;

use futures_util::TryStreamExt;
use serde_json::json;

use super::super::scripted::{self, Response, Scripted};
use super::*;
use crate::backend::RegistryBackend;
use crate::backend::ecr::{EcrBackend, EcrBackendBuilder};
use crate::error::{Error, ErrorKind};
use crate::identity::TokenFile;
use crate::model::{Organizations, Stage};

fn builder(host: &str) -> EcrBackendBuilder {
    EcrBackend::builder(host.parse().unwrap(), Stage::default())
}

/// A configuration without an HTTP client, so that the backend uses its own.
fn keys() -> SdkConfig {
    scripted::sdk_config()
}

/// Returns the error of a listing at a URL.
async fn error_at(url: String) -> Error {
    let backend = builder(scripted::HOST).with_sdk_config(keys()).with_endpoint_url(url).build();
    let rows: Result<Vec<_>> = backend.list_repositories(&Organizations::All).try_collect().await;
    rows.unwrap_err()
}

#[tokio::test]
async fn request_is_signed_and_sent_over_the_network() {
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
        let response = serde_json::json!({"repositories": [row]}).to_string();
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{response}",
            response.len()
        )
        .unwrap();
        head
    });
    let backend = builder(scripted::HOST).with_sdk_config(keys()).with_endpoint_url(url).build();
    let rows: Vec<_> = backend.list_repositories(&Organizations::All).try_collect().await.unwrap();
    assert_eq!(rows.len(), 1);
    let head = server.join().unwrap();
    assert!(head.iter().any(|line| line.contains("/us-east-1/ecr/aws4_request")), "{head:?}");
}

#[tokio::test]
async fn unreachable_endpoint_is_a_temporary_error_with_cause() {
    // The listener is dropped, so nothing listens on this port.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    for (url, text) in [
        (format!("http://127.0.0.1:{port}"), "cannot be reached"),
        ("http://ecr.invalid".to_owned(), "cannot be resolved"),
    ] {
        let error = error_at(url).await;
        assert!(matches!(error, Error::Temporary { source: Some(_), .. }), "{error:?}");
        assert!(error.to_string().contains(text), "{error}");
    }
}

#[tokio::test]
async fn server_without_tls_is_not_trusted_and_not_retried() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").unwrap();
        listener
    });
    let error = error_at(url).await;
    let listener = server.join().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    assert!(error.to_string().contains("AWS_CA_BUNDLE"), "{error}");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "the request was retried");
}

#[tokio::test]
async fn token_excludes_other_sources_of_credentials() {
    let file = TokenFile::new("/nowhere/jwt.json");
    let given =
        builder(scripted::HOST).with_sdk_config(keys()).with_web_identity(file.clone()).build();
    let loaded = builder(scripted::HOST).with_profile("builds").with_web_identity(file).build();
    for backend in [given, loaded] {
        let config = backend.aws_config().await.unwrap();
        assert!(config.credentials_provider().is_none(), "{config:?}");
    }
}

#[tokio::test]
async fn clones_share_their_clients() {
    let backend = builder(scripted::HOST).with_sdk_config(keys()).build();
    let clone = backend.clone();
    assert!(std::ptr::eq(backend.aws_config().await.unwrap(), clone.aws_config().await.unwrap()));
}

#[tokio::test]
async fn throttled_caller_does_not_use_up_retries_of_others() {
    let throttled =
        || Scripted::new(|_| Response::error(400, "ThrottlingException", "Rate exceeded"));
    let attempts = |aws: &Scripted| aws.operations().len();
    let path = "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a".parse().unwrap();
    let first = throttled();
    for _ in 0..60 {
        let before = attempts(&first);
        first.backend.delete_repository(&path, &Default::default()).await.unwrap_err();
        if attempts(&first) == before + 1 {
            break;
        }
    }
    let before = attempts(&first);
    first.backend.delete_repository(&path, &Default::default()).await.unwrap_err();
    assert_eq!(attempts(&first), before + 1, "the retries are used up");
    let second = throttled();
    second.backend.delete_repository(&path, &Default::default()).await.unwrap_err();
    assert_eq!(attempts(&second), 3);
}

/// Returns the called hosts of ECR, STS and Resource Groups Tagging.
async fn hosts_called(registry: &str, use_fips: bool, use_dual_stack: bool) -> [String; 3] {
    let aws =
        Scripted::at(registry, |builder| builder, scripted::ACCOUNT, |_| Response::ok(json!({})));
    let config = aws.backend.config();
    let mut calls = aws.backend.aws_config().await.unwrap().clone();
    calls.endpoints = aws_endpoints(aws.backend.ecr_host(), use_fips, use_dual_stack);
    let clients = Clients::new(calls);
    clients.ecr(config).await.unwrap().describe_repositories().send().await.unwrap();
    clients.sts(config).await.unwrap().get_caller_identity().send().await.unwrap();
    clients.tagging(config).await.unwrap().get_resources().send().await.unwrap();
    let hosts: Vec<String> = aws.requests().into_iter().map(|request| request.host).collect();
    hosts.try_into().unwrap()
}

/// Per line: the registry, the flags, and the endpoints of ECR, STS and Resource Groups Tagging.
///
/// Source: `endpoints.json` of botocore 1.43.
const ENDPOINTS: &str = "
    dkr.ecr.us-east-1.amazonaws.com none api.ecr.us-east-1.amazonaws.com sts.us-east-1.amazonaws.com tagging.us-east-1.amazonaws.com
    dkr.ecr.us-east-1.amazonaws.com fips api.ecr-fips.us-east-1.amazonaws.com sts-fips.us-east-1.amazonaws.com tagging.us-east-1.amazonaws.com
    dkr.ecr-fips.us-east-1.amazonaws.com none api.ecr-fips.us-east-1.amazonaws.com sts-fips.us-east-1.amazonaws.com tagging.us-east-1.amazonaws.com
    dkr.ecr.us-east-1.amazonaws.com dual ecr.us-east-1.api.aws sts.us-east-1.api.aws tagging.us-east-1.amazonaws.com
    dkr-ecr.us-east-1.on.aws none ecr.us-east-1.api.aws sts.us-east-1.api.aws tagging.us-east-1.amazonaws.com
    dkr-ecr-fips.us-east-1.on.aws none ecr-fips.us-east-1.api.aws sts-fips.us-east-1.api.aws tagging.us-east-1.amazonaws.com
    dkr.ecr.us-west-2.amazonaws.com both ecr-fips.us-west-2.api.aws sts-fips.us-west-2.api.aws tagging.us-west-2.amazonaws.com
    dkr.ecr.eu-west-1.amazonaws.com fips api.ecr-fips.eu-west-1.amazonaws.com sts.eu-west-1.amazonaws.com tagging.eu-west-1.amazonaws.com
    dkr.ecr.us-gov-west-1.amazonaws.com none api.ecr.us-gov-west-1.amazonaws.com sts.us-gov-west-1.amazonaws.com tagging.us-gov-west-1.amazonaws.com
    dkr.ecr.us-gov-west-1.amazonaws.com fips api.ecr-fips.us-gov-west-1.amazonaws.com sts.us-gov-west-1.amazonaws.com tagging.us-gov-west-1.amazonaws.com
    dkr-ecr-fips.us-gov-east-1.on.aws none ecr-fips.us-gov-east-1.api.aws sts.us-gov-east-1.amazonaws.com tagging.us-gov-east-1.amazonaws.com
    dkr.ecr.cn-north-1.amazonaws.com.cn dual ecr.cn-north-1.api.amazonwebservices.com.cn sts.cn-north-1.api.amazonwebservices.com.cn tagging.cn-north-1.amazonaws.com.cn
    dkr.ecr.cn-north-1.amazonaws.com.cn fips api.ecr-fips.cn-north-1.amazonaws.com.cn sts.cn-north-1.amazonaws.com.cn tagging.cn-north-1.amazonaws.com.cn
    dkr.ecr.us-iso-east-1.c2s.ic.gov dual ecr.us-iso-east-1.api.aws.ic.gov sts.us-iso-east-1.c2s.ic.gov tagging.us-iso-east-1.c2s.ic.gov
    dkr.ecr.us-isob-east-1.sc2s.sgov.gov none api.ecr.us-isob-east-1.sc2s.sgov.gov sts.us-isob-east-1.sc2s.sgov.gov tagging.us-isob-east-1.sc2s.sgov.gov
    dkr.ecr.eusc-de-east-1.amazonaws.eu both ecr-fips.eusc-de-east-1.api.amazonwebservices.eu sts.eusc-de-east-1.api.amazonwebservices.eu tagging.eusc-de-east-1.amazonaws.eu
";

#[tokio::test]
async fn fips_and_dual_stack_endpoints_match_botocore() {
    for line in ENDPOINTS.lines().filter(|line| !line.is_empty()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [registry, flags, expected @ ..] = &words[..] else { panic!("{line}") };
        let has = |flag: &str| *flags == flag || *flags == "both";
        let registry = format!("095412845506.{registry}");
        assert_eq!(hosts_called(&registry, has("fips"), has("dual")).await, expected, "{line}");
    }
}

#[tokio::test]
async fn endpoint_url_replaces_endpoints_of_the_host() {
    let host = "095412845506.dkr-ecr-fips.us-east-1.on.aws";
    let error = {
        let backend = builder(host).with_sdk_config(keys());
        let backend = backend.with_endpoint_url("http://ecr.invalid").build();
        backend.caller().await.unwrap_err()
    };
    assert!(error.to_string().contains("cannot be resolved"), "{error}");
}
