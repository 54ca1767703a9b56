//! The registry itself, which is asked past the command line and its checks.

use super::tokens::Tokens;
use super::{THERE, alike, image_of, two_organizations};
use crate::curl::{Curl, Request};
use crate::sandbox::{OTHER, Sandbox, TBD};

/// Every method on everything that a foreign repository has, by what it is really called.
fn requests(sandbox: &Sandbox, name: &str, upload: &str) -> Vec<Request> {
    let image = image_of(OTHER);
    let digest = image.digest();
    let (layer, content) = image.blobs().next().unwrap();
    let body = |below: &str, bytes: &[u8], media_type: &str| {
        let file = sandbox.write(below, bytes);
        let header = format!("Content-Type: {media_type}");
        vec![("data-binary", format!("@{}", file.display())), ("header", header)]
    };
    let manifest = body("manifest", image.manifest(), image.media_type());
    let blob = body("blob", content, "application/octet-stream");
    let mut requests = Vec::new();
    for method in ["GET", "HEAD"] {
        requests.extend([
            (method, "manifests/v1".to_owned(), vec![]),
            (method, "manifests/v9".to_owned(), vec![]),
            (method, format!("manifests/{digest}"), vec![]),
            (method, format!("blobs/{layer}"), vec![]),
            (method, "tags/list".to_owned(), vec![]),
            (method, format!("referrers/{digest}"), vec![]),
        ]);
    }
    let from = format!("prod/{TBD}/{THERE}");
    requests.extend([
        ("GET", "tags/list?n=1".to_owned(), vec![]),
        ("GET", format!("blobs/{layer}"), vec![("range", "0-9".to_owned())]),
        ("POST", "blobs/uploads/".to_owned(), vec![]),
        ("POST", format!("blobs/uploads/?digest={layer}"), blob.clone()),
        ("POST", format!("blobs/uploads/?mount={layer}&from={from}"), vec![]),
        ("GET", format!("blobs/uploads/{upload}"), vec![]),
        ("PATCH", format!("blobs/uploads/{upload}"), blob),
        ("PUT", format!("blobs/uploads/{upload}?digest={layer}"), vec![]),
        ("DELETE", format!("blobs/uploads/{upload}"), vec![]),
        ("PUT", "manifests/v1".to_owned(), manifest.clone()),
        ("PUT", format!("manifests/{digest}"), manifest),
        ("DELETE", "manifests/v1".to_owned(), vec![]),
        ("DELETE", format!("manifests/{digest}"), vec![]),
        ("DELETE", format!("blobs/{layer}"), vec![]),
    ]);
    let below = |url| format!("/v2/prod/{OTHER}/{name}/{url}");
    let request = |(method, url, options)| Request { method, path: below(url), options };
    requests.into_iter().map(request).collect()
}

/// Starts an upload in the foreign repository, as its owner, and returns its name.
fn running_upload(owner: &Curl) -> String {
    let url = format!("/v2/prod/{OTHER}/{THERE}/blobs/uploads/");
    let started = owner.send("POST", &url, &[]);
    started.header("docker-upload-uuid").unwrap().to_owned()
}

#[test]
fn every_request_answers_alike_whether_or_not_a_foreign_repository_exists() {
    let sandbox = two_organizations();
    let run = sandbox.run_as("user:bob", &format!("--create-repository b --organization {OTHER}"));
    assert_eq!(run.code, 0, "{run:?}");
    let tokens = Tokens::serve(&sandbox);
    let there = format!("prod/{OTHER}/{THERE}");
    let owner = tokens.with(Some(&tokens.password(&there)));
    let upload = running_upload(&owner);

    let own = format!("--login {THERE} --organization {TBD} --access");
    let tampered = format!("{}A", tokens.password(&there));
    for (who, curl, status) in [
        ("nobody", tokens.with(None), 401),
        ("a user of an expired password", tokens.expired(&there), 401),
        ("a user of a tampered password", tokens.with(Some(&tampered)), 401),
        ("a robot elsewhere", tokens.logged_in("robot:nightly", &format!("{own} pull")), 403),
        ("a user elsewhere", tokens.logged_in("user:alice", &format!("{own} push")), 403),
        (
            "an administrator elsewhere",
            tokens.logged_in("user:carol", &format!("{own} delete")),
            403,
        ),
        ("a user of all of another organization", tokens.organization_wide(TBD), 403),
        (
            "a user of another repository of the organization",
            tokens.logged_in("user:bob", &format!("--login b --organization {OTHER}")),
            403,
        ),
    ] {
        alike(who, |name| {
            let requests = requests(&sandbox, name, &upload);
            let answers = curl.send_all(&requests);
            let shown =
                requests.iter().zip(&answers).map(|(Request { method, path, .. }, answer)| {
                    assert_eq!(answer.status, status, "{method} {path} by {who}: {answer:?}");
                    format!("{method} {path}\n{}\n\n{}\n\n", answer.head, answer.text())
                });
            shown.collect()
        });
    }
    // They were refused for no other reason: to its owner everything is there still, in this order.
    let statuses: Vec<u16> = requests(&sandbox, THERE, &upload)
        .iter()
        .map(|Request { method, path, options }| {
            let options: Vec<_> = options.iter().map(|(key, value)| (*key, &**value)).collect();
            owner.send(method, path, &options).status
        })
        .collect();
    let read = [200, 404, 200, 200, 200, 200];
    let rest = [200, 206, 202, 201, 202, 204, 202, 201, 404, 201, 201, 202, 202, 202];
    assert_eq!(statuses, [&read[..], &read[..], &rest[..]].concat());
}

#[test]
fn no_blob_crosses_over() {
    let sandbox = two_organizations();
    let tokens = Tokens::serve(&sandbox);
    let mine = format!("/v2/prod/{TBD}/{THERE}");
    let foreign = image_of(OTHER);
    let (layer, content) = foreign.blobs().next().unwrap();
    let login = format!("--login {THERE} --organization {TBD} --access push");
    let owner = tokens.with(Some(&tokens.password(&format!("prod/{OTHER}/{THERE}"))));
    let upload = running_upload(&owner);
    for curl in [tokens.logged_in("user:alice", &login), tokens.organization_wide(TBD)] {
        // The answer is that of a blob that is nowhere: an upload to send it with.
        alike("a mount", |name| {
            let from = format!("prod/{OTHER}/{name}");
            let url = format!("{mine}/blobs/uploads/?mount={layer}&from={from}");
            let answer = curl.send("POST", &url, &[]);
            assert_eq!(answer.status, 202, "{answer:?}");
            let id = answer.header("docker-upload-uuid").unwrap();
            format!("{}\n\n{}", answer.head.replace(id, "ID"), answer.text())
        });
        assert_eq!(curl.send("GET", &format!("{mine}/blobs/{layer}"), &[]).status, 404);

        // Nor does a manifest bring along what it names, or the name of an upload what it has.
        let manifest = sandbox.write("foreign", foreign.manifest());
        let media_type = format!("Content-Type: {}", foreign.media_type());
        let data = format!("@{}", manifest.display());
        let options = [("header", media_type.as_str()), ("data-binary", &data)];
        let refused = curl.send("PUT", &format!("{mine}/manifests/v2"), &options);
        assert_eq!(refused.status, 400, "{refused:?}");
        assert!(refused.text().contains("MANIFEST_BLOB_UNKNOWN"), "{refused:?}");
        let elsewhere = curl.send("GET", &format!("{mine}/blobs/uploads/{upload}"), &[]);
        assert_eq!(elsewhere.status, 404, "{elsewhere:?}");
    }
    let listed = tokens.organization_wide(TBD).send("GET", "/v2/_catalog", &[]);
    assert_eq!(listed.status, 404, "{listed:?}");

    // Within an organization a mount does work, for one who may read both.
    let line = format!("--create-repository b --organization {OTHER}");
    assert_eq!(sandbox.run_as("user:bob", &line).code, 0);
    let url = format!("/v2/prod/{OTHER}/b/blobs/uploads/?mount={layer}&from=prod/{OTHER}/{THERE}");
    let one = tokens.logged_in("user:bob", &format!("--login b --organization {OTHER}"));
    assert_eq!(one.send("POST", &url, &[]).status, 202, "the password is for b alone");
    let both = tokens.organization_wide(OTHER);
    assert_eq!(both.send("POST", &url, &[]).status, 201);
    let pulled = both.send("GET", &format!("/v2/prod/{OTHER}/b/blobs/{layer}"), &[]);
    assert!(pulled.body == content, "the mounted blob is the blob");
}

#[test]
fn a_password_that_is_no_longer_good_says_what_to_do() {
    let sandbox = two_organizations();
    let tokens = Tokens::serve(&sandbox);
    let path = format!("prod/{TBD}/{THERE}");
    let manifest = format!("/v2/{path}/manifests/v1");
    let told = |curl: &Curl| {
        let answer = curl.send("GET", &manifest, &[]);
        assert_eq!(answer.status, 401, "{answer:?}");
        assert!(answer.header("www-authenticate").unwrap().starts_with("Basic "), "{answer:?}");
        let text = answer.text();
        let command = format!("ark-catalog-container-tool --login {THERE} --organization {TBD}");
        assert!(text.contains(&command) && text.contains("UNAUTHORIZED"), "{text}");
        text
    };
    assert!(told(&tokens.expired(&path)).contains("expired"));

    let good = tokens.password(&path);
    assert_eq!(tokens.with(Some(&good)).send("GET", &manifest, &[]).status, 200);
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, claims) = signed.split_once('.').unwrap();
    let foreign = tokens.password(&format!("prod/{OTHER}/{THERE}"));
    let other_claims = foreign.split('.').nth(1).unwrap();
    for tampered in [
        format!("{header}.{other_claims}.{signature}"),
        format!("{header}.{claims}."),
        signed.to_owned(),
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{claims}."),
        good.to_uppercase(),
    ] {
        assert!(!told(&tokens.with(Some(&tampered))).contains("expired"), "{tampered}");
    }
}
