//! Tests registries that attack their clients.

use super::*;
use crate::distribution::Upload;
use crate::model::ImageReference;

const ENCODED: &str = "QVdTOmh1bnRlcjI=";

fn assert_clean(error: &Error) {
    for text in [chain(error), format!("{error:?}")] {
        assert!(!text.contains("hunter2") && !text.contains(ENCODED), "{text}");
    }
}

#[tokio::test]
async fn echoed_password_is_redacted_in_errors() {
    let echoes = [format!("hunter2 {ENCODED}"), "x ".repeat(250) + "hunter2"];
    for echo in &echoes {
        for status in ["400 Bad Request", "403 Forbidden", "409 Conflict", "429 T", "500 E"] {
            let json = refusal(status, echo, echo);
            let headers = [format!("WWW-Authenticate: Basic realm=\"{echo}\"")];
            for answer in [json, answer(status, &[&headers[0]], &format!("<b>{echo}</b>"))] {
                assert_clean(&fetch_error(answer.clone()).await);
                assert_clean(&put_error(answer).await);
            }
        }
    }
    let realms = ["ftp://hunter2.example/", "hunter2", "http://127.0.0.1:1/hunter2"];
    for realm in realms {
        let challenge = format!("WWW-Authenticate: Bearer realm=\"{realm}\"");
        assert_clean(&fetch_error(answer("401 Unauthorized", &[&challenge], "")).await);
    }
    let redirect = answer("307 T", &["Location: http://{host}/hunter2"], "");
    assert_clean(&tags_error([redirect, answer("200 OK", &[], "{")]).await);
}

/// Returns the error of listing tags with these responses.
async fn tags_error<const N: usize>(answers: [String; N]) -> Error {
    registry_error(Scripted::new(answers)).await
}

async fn registry_error(registry: Scripted) -> Error {
    registry.client().tags().try_collect::<Vec<_>>().await.unwrap_err()
}

#[tokio::test]
async fn echoed_password_is_redacted_in_locations() {
    let registry = Scripted::new([
        answer("202 Accepted", &[&format!("Location: /u/hunter2/{ENCODED}")], ""),
        answer("500 E", &["Range: hunter2"], ""),
        answer("204 No Content", &["Range: hunter2"], ""),
    ]);
    let client = registry.client();
    let upload = client.start_upload().await.unwrap();
    assert_clean(
        &client.upload_blob(&upload, &digest(), 7, pieces(&[b"content"])).await.unwrap_err(),
    );
    assert_clean(&client.upload_status(&upload).await.unwrap_err());
}

#[tokio::test]
async fn weak_password_leaves_headers_intact() {
    let digest = digest().to_string();
    let location = format!("Location: /u/{}", &digest[7..11]);
    let docker = format!("Content-Type: {}", media_type::DOCKER_MANIFEST);
    for secret in [&digest[7..11], "docker", "sha256"] {
        let registry = Scripted::new([
            answer("202 Accepted", &[&location], ""),
            found(&super::digest()).replacen("\r\n", &format!("\r\n{docker}\r\n"), 1),
        ]);
        let mut credentials = credentials_for(registry.host().as_str());
        credentials.password = Password::new(secret.to_owned());
        let client = Client::new(registry.url(), credentials).unwrap();
        let upload = client.start_upload().await.unwrap();
        assert!(upload.location().path().ends_with(&digest[7..11]));
        let manifest = client.manifest(&"v1".parse().unwrap()).await.unwrap().unwrap();
        assert_eq!(manifest.digest.to_string(), digest);
        assert_eq!(manifest.media_type, media_type::DOCKER_MANIFEST);
        registry.requests();
    }
}

#[tokio::test]
async fn unknown_media_type_is_redacted() {
    let headers = ["Content-Type: text/hunter2\u{a0}; x"];
    let registry = Scripted::new([answer("200 OK", &headers, "{}")]);
    let manifest = registry.client().fetch_manifest(&"v1".parse().unwrap()).await.unwrap();
    assert!(manifest.media_type.starts_with("text/***"), "{}", manifest.media_type);
}

#[tokio::test]
async fn invalid_json_is_not_shown() {
    for body in [r#"{"tags":"hunter2"}"#, r#"["hunter2"]"#, "hunter2"] {
        let error = tags_error([answer("200 OK", &[], body)]).await;
        assert!(chain(&error).contains("at line 1, column"), "{error}");
        assert_clean(&error);
    }
}

#[tokio::test]
async fn echoed_token_is_redacted() {
    let service = Scripted::new([answer("200 OK", &[], r#"{"token":"t-secret"}"#)]);
    let realm = format!("WWW-Authenticate: Bearer realm=\"http://{}/token\"", service.host());
    let echo = refusal("400 Bad Request", "X", "t-secret hunter2");
    let registry = Scripted::new([answer("401 Unauthorized", &[&realm], ""), echo]);
    let error = registry.client().start_upload().await.unwrap_err();
    assert!(chain(&error).ends_with("X: *** ***"), "{}", chain(&error));
    assert!(!format!("{error:?}").contains("t-secret"));
}

#[tokio::test]
async fn https_registry_cannot_request_plain_http() {
    let image: ImageReference = "registry.example/a".parse().unwrap();
    let client = Client::foreign(&image, None, false).unwrap().with_retry(Retry::never());
    // The locations are those of a `Location` header. The client connects to none of them.
    for location in
        ["http://registry.example/u", "http://127.0.0.1:1/u", "ftp://registry.example/u"]
    {
        let upload = Upload::at(location).unwrap();
        let content = pieces(&[b"content"]);
        let error = client.upload_blob(&upload, &digest(), 7, content).await.unwrap_err();
        let expected = format!("registry.example asks for a request without TLS to {location}");
        assert_eq!(chain(&error), expected);
    }
}

#[tokio::test]
async fn loopback_registry_cannot_redirect_to_plain_http() {
    let location = "Location: http://registry.example/u";
    let opened = answer("202 Accepted", &[location], "");
    let redirect = answer("307 Temporary Redirect", &[location], "");
    let registry = Scripted::new([opened, redirect]);
    let client = registry.client();
    let upload = client.start_upload().await.unwrap();
    let error = client.upload_status(&upload).await.unwrap_err();
    assert!(error.to_string().ends_with("without TLS to http://registry.example/u"), "{error}");
    let error = client.fetch_manifest(&"v1".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, Error::Failed { .. }), "{error:?}");
    assert!(chain(&error).contains("the redirect leads to plain HTTP"), "{}", chain(&error));
}

#[tokio::test]
async fn registry_message_is_escaped() {
    let forged = "no\nhint: run this\u{202e}\u{200b}\u{2028}\x1b[2J";
    for answer in
        [refusal("400 Bad Request", forged, forged), answer("400 Bad Request", &[], forged)]
    {
        let text = chain(&fetch_error(answer).await);
        assert!(text.contains(r"no hint: run this\u{202e}\u{200b} [2J"), "{text}");
        assert!(!text.contains(['\n', '\u{202e}', '\u{200b}', '\x1b']), "{text}");
    }
}

#[tokio::test]
async fn endless_listing_is_rejected() {
    let page = |n: usize| {
        let next = format!("Link: </v2/x?n={n}>; rel=\"next\"");
        answer("200 OK", &[&next], &format!("{{\"tags\":[\"{}\"]}}", "x".repeat(15 << 20)))
    };
    let error = registry_error(Scripted::new((0..5).map(page))).await;
    assert!(error.to_string().ends_with("lists more than 67108864 bytes"), "{error}");
    let long = format!("{{\"manifests\":[], \"x\":\"{}\"}}", "x".repeat(9 << 20));
    let registry = Scripted::new([answer("200 OK", &[], &long)]);
    let error = registry.client().referrers(&digest(), None).await.unwrap_err();
    assert!(error.to_string().ends_with("lists more than 8388608 bytes"), "{error}");
}

#[tokio::test]
async fn next_page_on_another_host_is_rejected() {
    let next = "Link: <https://other.example/v2/x>; rel=\"next\"";
    let page = answer("200 OK", &[next], r#"{"manifests":[]}"#);
    let error = Scripted::new([page]).client().referrers(&digest(), None).await.unwrap_err();
    assert!(error.to_string().ends_with("is on another host"), "{error}");
}

/// Tests responses that are slow and never end.
#[cfg(feature = "local")]
mod drip {
    use tokio::time::{Instant, sleep};

    use super::super::super::response::BoundedResponse;
    use super::*;
    use crate::secrets::Secrets;

    fn reply(delay: Duration, piece: &'static [u8]) -> BoundedResponse {
        let pieces = stream::repeat(()).then(move |()| async move {
            sleep(delay).await;
            Ok::<_, io::Error>(Bytes::from_static(piece))
        });
        let response = hyper::Response::new(reqwest::Body::wrap_stream(pieces));
        BoundedResponse::new(response.into(), &Secrets::default())
    }

    #[tokio::test(start_paused = true)]
    async fn slow_response_fails_in_bounded_time() {
        let started = Instant::now();
        let error = reply(Duration::from_secs(1), b"x").read_whole(1 << 20).await.unwrap_err();
        assert!(matches!(error, Error::Failed { .. }), "{error:?}");
        assert!(error.to_string().contains("the response is too slow: 1"), "{error}");
        assert!(started.elapsed().as_secs() <= 120);
    }

    #[tokio::test(start_paused = true)]
    async fn response_timeout_is_temporary() {
        let error = reply(Duration::from_secs(61), b"x").read_whole(1 << 20).await.unwrap_err();
        assert!(error.is_temporary(), "{error:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn slow_link_can_fetch_a_blob() {
        let mut blob = reply(Duration::from_secs(1), &[0; 1100]);
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(3600) {
            blob.next_piece().await.unwrap().unwrap();
        }
        let mut drip = reply(Duration::from_secs(1), &[0; 100]);
        while drip.next_piece().await.is_ok() {}
        assert!(started.elapsed() < Duration::from_secs(3600 + 140));
    }
}
