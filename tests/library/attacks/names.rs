//! Crafted repository names and URLs that could lead to the repository of another organization, sent unchanged to both
//! registries.

use std::net::SocketAddr;

use ark_container_core::model::{OrganizationId, RepositoryName};
use ark_container_fakes::aws::User;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use reqwest::StatusCode;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::aws::cloud::{Cloud, allow, arn, policy};
use crate::registry::server::{OURS, RegistryClient, Server, THEIRS, all_of, path, read_to_end};

/// A tag that only the foreign repository has.
const SECRET: &str = "secret-tag";

/// Returns URLs that start in our organization and mean the foreign repository `app`, or could be parsed as it.
fn crafted_urls(end: &str) -> Vec<String> {
    let (ours, theirs) = (OURS.to_string(), THEIRS.to_string());
    let lookalike = theirs.replacen('f', "\u{ff46}", 1);
    let mut urls: Vec<String> = [
        format!("prod/{ours}/../{theirs}/app"),
        format!("prod/{ours}/app/../../{theirs}/app"),
        format!("prod/{ours}/./../{theirs}/app"),
        format!("prod/{ours}/..;/{theirs}/app"),
        format!("prod/{ours}/%2e%2e/{theirs}/app"),
        format!("prod/{ours}/.%2E/{theirs}/app"),
        format!("prod/{ours}/%252e%252e/{theirs}/app"),
        format!("prod/{ours}%2f..%2f{theirs}%2fapp"),
        format!("prod/{ours}/..%2f{theirs}/app"),
        format!("prod/{ours}\\..\\{theirs}\\app"),
        format!("prod/{ours}%5c..%5c{theirs}/app"),
        format!("prod//{theirs}/app"),
        format!("prod/{theirs}//app"),
        format!("/prod/{theirs}/app"),
        format!("./prod/{theirs}/app"),
        format!("PROD/{theirs}/app"),
        format!("prod/{}/app", theirs.to_uppercase()),
        format!("prod/{{{theirs}}}/app"),
        format!("prod/{}/app", theirs.replace('-', "")),
        format!("prod/{theirs}/App"),
        format!("prod/{theirs}/app%00"),
        format!("prod/{ours}%00/../{theirs}/app"),
        format!("prod/{theirs}%20/app"),
        format!("prod/{lookalike}/app"),
        format!("prod/{ours}/app/tags/list/../../../{theirs}/app"),
        format!("prod/{ours}/{}/../../{theirs}/app", "a/".repeat(5_000)),
        format!("prod/{ours}/{}", "a".repeat(10_000)),
    ]
    .map(|name| format!("/v2/{name}/{end}"))
    .into();
    urls.extend([
        format!("/v2/prod/{ours}/app/{end}?name=prod/{theirs}/app"),
        format!("/v2/prod/{ours}/app/{end}#/../../{theirs}/app/{end}"),
        format!("/v2/prod/{ours}/app/../../../../v2/prod/{theirs}/app/{end}"),
        format!("/v1/../v2/prod/{theirs}/app/{end}"),
        format!("//v2/prod/{theirs}/app/{end}"),
        format!("http://localhost/v2/prod/{theirs}/app/{end}"),
    ]);
    urls
}

/// Sends a request without normalizing its path, and reads the whole answer.
async fn raw(address: SocketAddr, password: &str, method: &str, url: &str) -> String {
    let encoded = STANDARD.encode(format!("AWS:{password}"));
    let head = format!(
        "{method} {url} HTTP/1.1\r\nhost: registry\r\nauthorization: Basic {encoded}\r\n\
         content-length: 0\r\nconnection: close\r\n\r\n"
    );
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    read_to_end(&mut stream).await
}

/// Requests every crafted URL with a password for our own organization, and checks that none reaches the other one.
async fn assert_other_organization_is_unreachable(address: SocketAddr, ours: &str, theirs: &str) {
    let owner = RegistryClient::new(address, theirs);
    owner.push_image(&path(THEIRS, "app"), SECRET, b"secret").await;
    let tags = raw(address, theirs, "GET", &format!("/v2/{}/tags/list", path(THEIRS, "app"))).await;
    assert!(tags.contains(SECRET), "{tags}");
    for (method, end) in [
        ("GET", "tags/list".to_owned()),
        ("GET", format!("manifests/{SECRET}")),
        ("DELETE", format!("manifests/{SECRET}")),
        ("POST", "blobs/uploads/".to_owned()),
    ] {
        for url in crafted_urls(&end) {
            let answer = raw(address, ours, method, &url).await;
            let status = answer.split(' ').nth(1).unwrap_or_else(|| panic!("{url}: {answer:?}"));
            let own = url.starts_with(&format!("/v2/{}/{end}", path(OURS, "app")));
            match status {
                // A query or a fragment does not change the repository.
                "200" | "202" if own && !answer.contains(&THEIRS.to_string()) => {}
                "400" | "403" | "404" | "405" | "414" | "431" => {}
                status => panic!("{method} {url}: {status}: {answer}"),
            }
            assert!(!answer.contains(&format!("[\"{SECRET}\"")), "{method} {url}: {answer}");
        }
    }
    owner
        .get(&format!("/v2/{}/manifests/{SECRET}", path(THEIRS, "app")))
        .await
        .expect(StatusCode::OK);
}

#[tokio::test]
async fn crafted_urls_stay_in_the_organization_locally() {
    let server = Server::start().await;
    let (ours, theirs) = (server.our_client().await, server.client(&all_of(THEIRS)).await);
    assert_other_organization_is_unreachable(server.address, &ours.password, &theirs.password)
        .await;
}

#[tokio::test]
async fn crafted_urls_stay_in_the_organization_at_aws() {
    let all_in = |name: &str, organization: OrganizationId| {
        let own = allow(json!("ecr:*"), arn(&format!("prod/{organization}/*")));
        let token = allow(json!("ecr:GetAuthorizationToken"), "*");
        User::new(name).with_policy(policy(json!([token, own])))
    };
    let (alice, bob) = (all_in("alice", OURS), all_in("bob", THEIRS));
    let cloud = Cloud::start_with(|aws| aws.with_user(alice.clone()).with_user(bob.clone())).await;
    cloud.create_repositories().await;
    let (ours, theirs) =
        (cloud.log_in(&cloud.ecr(&alice)).await, cloud.log_in(&cloud.ecr(&bob)).await);
    let address = cloud.aws.registry_host().as_str().parse().unwrap();
    assert_other_organization_is_unreachable(address, &ours.password, &theirs.password).await;
}

#[test]
fn crafted_repository_names_are_rejected() {
    let long = "a".repeat(10_000);
    for name in [
        "..",
        "../app",
        "a/../b",
        "a%2fb",
        "a%2Fb",
        "a//b",
        "/a",
        "a/",
        ".",
        "a/./b",
        "App",
        "a\\b",
        "a\0",
        "a b",
        "a:v1",
        "a@sha256",
        "*",
        "a*",
        "a?",
        "${aws:PrincipalTag/organization}",
        "\u{0430}pp",
        "app\u{200b}",
        "\u{ff41}pp",
        "app\u{202e}",
        "a\u{2215}b",
        "a\n",
        &long,
    ] {
        assert!(name.parse::<RepositoryName>().is_err(), "{name:?}");
    }
}

#[test]
fn guid_spellings_name_one_organization_or_none() {
    let theirs = "11111111-aaaa-bbbb-cccc-555555555555";
    let organization: OrganizationId = theirs.parse().unwrap();
    for same in [
        theirs.to_uppercase(),
        format!("{{{theirs}}}"),
        format!(" {theirs}\n"),
        theirs.replace('a', "A"),
    ] {
        assert_eq!(same.parse::<OrganizationId>().unwrap(), organization, "{same:?}");
    }
    for none in [
        theirs.replace('-', ""),
        format!("urn:uuid:{theirs}"),
        format!("{theirs}x"),
        format!("{theirs}/app"),
        format!("{theirs}\0"),
        format!("0x{theirs}"),
        theirs.replacen('1', "\u{ff11}", 1),
        theirs.replacen('a', "\u{0430}", 1),
        theirs.replacen('-', "\u{2010}", 1),
        theirs[1..].to_owned(),
        format!("({theirs})"),
        "*".to_owned(),
    ] {
        assert!(none.parse::<OrganizationId>().is_err(), "{none:?}");
    }
}
