use std::fs;
use std::os::unix::fs::PermissionsExt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tempfile::TempDir;

use super::*;
use crate::error::ErrorKind;

/// Returns a token with these claims and an invalid signature.
fn token(claims: &str) -> String {
    let [header, claims] = [r#"{"alg":"ES256"}"#, claims].map(|part| URL_SAFE_NO_PAD.encode(part));
    format!("{header}.{claims}.c2VjcmV0LXNpZ25hdHVyZQ")
}

fn good() -> String {
    token(r#"{"sub":"alice","exp":4000000000}"#)
}

fn written(content: &str, mode: u32) -> (TempDir, TokenFile) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwt.json");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (folder, TokenFile::new(path))
}

async fn refused(content: &str) -> String {
    let (_folder, file) = written(content, 0o600);
    let error = file.read().await.unwrap_err();
    assert!(matches!(error, Error::Unauthenticated { source: None, .. }), "{error:?}");
    let message = error.to_string();
    let path = file.path().display().to_string();
    assert!(message.contains(&path), "{message}");
    message.replace(&path, "FILE")
}

#[tokio::test]
async fn token_is_bare_or_in_json() {
    let token = good();
    for content in [
        token.clone(),
        format!("\n {token}\r\n"),
        format!("\"{token}\"\n"),
        format!(r#"{{"jwt": "{token}", "token": "no", "more": [1, {{}}]}}"#),
        format!(r#"{{"access_token": "opaque", "token": "{token}", "id_token": "no"}}"#),
        format!(r#"{{"jwt": null, "access_token": "opaque", "id_token": "{token}"}}"#),
        format!(r#"{{"access_token": "{token}", "expires_in": 3600}}"#),
    ] {
        let (_folder, file) = written(&content, 0o600);
        let read = file.read().await.unwrap();
        assert_eq!(read.expose(), token, "{content}");
        assert_eq!(format!("{read:?}"), "Token(…)");
        let expiry = std::time::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000);
        assert_eq!(read.expires_at(), expiry);
    }
}

#[tokio::test]
async fn invalid_token_is_rejected() {
    const BEARER: &str = "the token in FILE starts with \"Bearer\", which is part of an HTTP header and not \
        of the token; remove it";
    let token = good();
    let expired = self::token(r#"{"exp":1000}"#);
    let unborn = self::token(r#"{"exp":4000000000,"nbf":4000000000}"#);
    for (content, problem) in [
        ("", "the token in FILE is missing: the file is empty"),
        (" \n", "the token in FILE is missing: the file is empty"),
        ("hunter2", "the token in FILE is not a signed JSON Web Token"),
        ("\"hunter2", "the token in FILE is neither a bare token nor a string in JSON"),
        (r#"{"jwt": 7}"#, "the token in FILE is neither a bare token nor a string in JSON"),
        (
            "{}",
            "the token in FILE is missing: the JSON has neither jwt, token, id_token nor access_token",
        ),
        (&format!("{token}.{token}"), "the token in FILE is not a signed JSON Web Token"),
        (&token.replace('.', ".\n"), "the token in FILE is not a signed JSON Web Token"),
        (&format!("Bearer {token}"), BEARER),
        (&format!("{{\"token\": \"bearer {token}\"}}"), BEARER),
        (
            &format!("\u{feff}{token}"),
            "the token in FILE cannot be decoded: it starts with a byte order mark; save it as UTF-8 without one",
        ),
        (&self::token("[]"), "the token in FILE is not a signed JSON Web Token"),
        (&self::token("{}"), "the token in FILE has no claim \"exp\""),
        (&expired, "the token in FILE expired at 1970-01-01T00:16:40Z"),
        (&unborn, "the token in FILE is not valid before 2096-10-02T07:06:40Z"),
        (&"a".repeat(MAX_TOKEN_BYTES + 1), "the token in FILE is longer than 65536 bytes"),
    ] {
        let refused = refused(content).await;
        assert_eq!(refused, format!("not authenticated: {problem}"), "{content}");
    }
}

#[tokio::test]
async fn pipe_or_binary_file_is_rejected() {
    let (folder, file) = written("", 0o600);
    fs::write(file.path(), b"\xff\xfe").unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for (file, problem) in [
        (file, "cannot be decoded: it is UTF-16; save it as UTF-8"),
        (TokenFile::new(pipe), "is a named pipe, not a file"),
    ] {
        let error = file.read().await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        let cause =
            std::error::Error::source(&error).map_or(error.to_string(), ToString::to_string);
        assert!(cause.contains(problem), "{cause}");
    }
}

#[tokio::test]
async fn file_writable_by_others_is_rejected() {
    for mode in [0o602, 0o622, 0o666] {
        let (_folder, file) = written(&good(), mode);
        let error = file.read().await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        let path = file.path().display();
        assert_eq!(
            error.to_string(),
            format!(
                "the token file {path} can be changed by other users; \
                 restrict its permissions: chmod go-w {path}"
            )
        );
    }
}

#[tokio::test]
async fn file_readable_by_others_is_warned_about_once() {
    let (_folder, file) = written(&good(), 0o644);
    assert!(!file.warned.load(Ordering::Relaxed));
    file.read().await.unwrap();
    assert!(file.warned.load(Ordering::Relaxed));
    let (_folder, closed) = written(&good(), 0o600);
    closed.read().await.unwrap();
    assert!(!closed.warned.load(Ordering::Relaxed));
}

#[test]
fn default_path_is_that_of_ark_auth_tool() {
    assert!(TokenFile::default_path().unwrap().ends_with(".cache/tbd/jwt.json"));
}
