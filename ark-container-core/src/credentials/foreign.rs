//! [`ForeignCredentials`]: finds credentials for any registry in the configuration of docker and podman.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/login/> and
//! <https://github.com/containers/image/blob/v5.33.0/docs/containers-auth.json.5.md>

use std::env;
use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use etcetera::BaseStrategy as _;
use etcetera::base_strategy::Xdg;
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;
use tokio::time::timeout;

use super::{DockerConfig, Password};
use crate::error::{Error, Result};
use crate::escape::escape_untrusted;
use crate::model::ImageReference;
use crate::secrets::Secrets;

/// docker's key for Docker Hub, in files and in requests to credential helpers.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";
/// The hosts that name Docker Hub in keys.
const DOCKER_HUB_HOSTS: [&str; 3] = ["docker.io", "index.docker.io", "registry-1.docker.io"];

/// The timeout of a credential helper, which may prompt the user.
const HELPER_TIMEOUT: Duration = Duration::from_secs(60);
/// The maximum length of a helper's output.
const MAX_OUTPUT_BYTES: u64 = 4 * 1024 * 1024;
/// The output of a helper without credentials for a registry.
///
/// Source: <https://github.com/docker/docker-credential-helpers/blob/v0.9.3/credentials/error.go>
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The environment variable that marks the process of a credential helper, which must not run another helper. Without
/// the mark, a helper that uses this library could run itself endlessly.
const HELPER_VARIABLE: &str = "ARK_WITHIN_CREDENTIAL_HELPER";

/// Credentials for any registry.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ForeignCredentials {
    /// A user name and a password or an access token.
    Password {
        /// The user name.
        username: String,
        /// The password.
        password: Password,
    },
    /// A token that the registry's login service exchanges for access tokens. docker stores it as
    /// `identitytoken`.
    IdentityToken(Password),
}

impl ForeignCredentials {
    /// The user name with which a credential helper marks an identity token.
    pub(crate) const IDENTITY_TOKEN_USERNAME: &str = "<token>";

    /// Returns the credentials for an image from the files of docker and podman, or `None` if they have none.
    ///
    /// # Errors
    /// Those of [`CredentialFiles::find`].
    pub async fn find(image: &ImageReference) -> Result<Option<Self>> {
        CredentialFiles::from_env().find(image).await
    }

    fn new(username: String, secret: String) -> Option<Self> {
        if secret.is_empty() {
            return None;
        }
        let password = Password::new(secret);
        match username.as_str() {
            Self::IDENTITY_TOKEN_USERNAME => Some(Self::IdentityToken(password)),
            _ => Some(Self::Password { username, password }),
        }
    }
}

/// Files with credentials for registries, or with the names of credential helpers.
///
/// The first file with credentials for an image takes precedence. Within a file, a credential helper takes
/// precedence over a login, as in docker. A key is a registry, or a registry and a prefix of a repository name.
/// The longest matching key takes precedence.
#[derive(Debug, Clone)]
pub struct CredentialFiles {
    files: Vec<PathBuf>,
    /// The search path of credential helpers; `None` for `PATH`.
    helper_path: Option<OsString>,
}

impl CredentialFiles {
    /// Returns the files of this process: `$REGISTRY_AUTH_FILE`, `config.json` in `$DOCKER_CONFIG` or
    /// `~/.docker`, and `containers/auth.json` in `$XDG_RUNTIME_DIR` and in `$XDG_CONFIG_HOME` or `~/.config`.
    pub fn from_env() -> Self {
        let folder = |variable: &str| {
            env::var_os(variable).filter(|value| !value.is_empty()).map(PathBuf::from)
        };
        let user = Xdg::new().ok();
        let docker = folder("DOCKER_CONFIG")
            .or_else(|| user.as_ref().map(|user| user.home_dir().join(".docker")));
        let containers = [folder("XDG_RUNTIME_DIR"), user.map(|user| user.config_dir())];
        let containers = containers.into_iter().flatten();
        let files = folder("REGISTRY_AUTH_FILE")
            .into_iter()
            .chain(docker.map(|docker| docker.join("config.json")))
            .chain(containers.map(|folder| folder.join("containers/auth.json")));
        Self::new(files)
    }

    /// Creates a list of files in order of precedence. A missing file has no credentials.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> Self {
        Self { files: files.into_iter().collect(), helper_path: None }
    }

    /// Sets the search path of credential helpers, in the format of `PATH`.
    pub fn with_helper_path(self, helper_path: impl Into<OsString>) -> Self {
        Self { helper_path: Some(helper_path.into()), ..self }
    }

    /// Returns the credentials for an image, or `None` if no file has any.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if docker would reject a file; [`Error::Failed`] if a file cannot be read, or a
    /// credential helper fails or does not respond within 60 s.
    pub async fn find(&self, image: &ImageReference) -> Result<Option<ForeignCredentials>> {
        for path in &self.files {
            let config = DockerConfig::read_file(path.clone())?;
            if let Some(found) = self.find_in(&config, image).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    async fn find_in(
        &self,
        config: &DockerConfig,
        image: &ImageReference,
    ) -> Result<Option<ForeignCredentials>> {
        let server = match image.host().as_str() {
            host if DOCKER_HUB_HOSTS.contains(&host) => DOCKER_HUB_KEY,
            host => host,
        };
        if let Some((key, helper)) = most_specific(config.helpers(), image) {
            // An empty name disables the default helper for a registry.
            if !helper.is_empty() {
                let server = if is_whole_registry(key) { server } else { key };
                return self.run_helper(helper, server, config).await;
            }
        } else if let Some(helper) = config.default_helper() {
            return self.run_helper(helper, server, config).await;
        }
        match most_specific(config.logins().filter(|(_, login)| has_login(login)), image) {
            Some((key, login)) => parse_login(login).map(Some).ok_or_else(|| {
                let path = config.path().display();
                Error::invalid(format!("the login for {key} in {path} is not in docker's format"))
            }),
            None => Ok(None),
        }
    }

    /// Runs a credential helper, and returns its login.
    async fn run_helper(
        &self,
        helper: &str,
        server: &str,
        config: &DockerConfig,
    ) -> Result<Option<ForeignCredentials>> {
        let program = format!("docker-credential-{helper}");
        let path = config.path().display();
        let failed = |problem: String| {
            Error::failed(format!("{program} in {path} returned no login for {server}: {problem}"))
        };
        if helper.contains('/') {
            return Err(failed("it is not the name of a program".to_owned()));
        }
        if env::var_os(HELPER_VARIABLE).is_some() {
            return Err(failed("a credential helper must not run a credential helper".to_owned()));
        }
        let mut command = Command::new(&program);
        command.arg("get").env(HELPER_VARIABLE, "1").kill_on_drop(true);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        if let Some(helper_path) = &self.helper_path {
            command.env("PATH", helper_path);
        }
        let outcome = timeout(HELPER_TIMEOUT, run(command, server)).await;
        let (is_success, output) = outcome
            .map_err(|_| failed(format!("no response within {} s", HELPER_TIMEOUT.as_secs())))?
            .map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => failed("it is not installed".to_owned()),
                _ => failed("it cannot be run".to_owned()).with_source(error),
            })?;
        if !is_success {
            let text = String::from_utf8_lossy(&output);
            let line = text.lines().next().unwrap_or_default().trim();
            if line.starts_with(NOT_FOUND) {
                return Ok(None);
            }
            // A line that may be a login is not shown.
            let is_message = !line.is_empty() && !line.starts_with(['{', '[', '"']);
            let shown = if is_message { line } else { "it failed" };
            let shown = Secrets::of_environment().strike_out(shown);
            return Err(failed(escape_untrusted(&shown).into_owned()));
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Output {
            username: String,
            secret: String,
        }
        // The error of the parser may contain the secret.
        let Output { username, secret } = serde_json::from_slice(&output)
            .map_err(|_| failed("its output is not a login in JSON".to_owned()))?;
        Ok(ForeignCredentials::new(username, secret))
    }
}

/// Runs a helper, and returns whether it succeeded, and its output.
async fn run(mut command: Command, server: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A helper may exit without reading its input.
        let _ = stdin.write_all(server.as_bytes()).await;
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MAX_OUTPUT_BYTES).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?.success(), output))
}

/// Returns the entry with the longest key that matches an image.
fn most_specific<'a, T>(
    entries: impl Iterator<Item = (&'a str, T)>,
    image: &ImageReference,
) -> Option<(&'a str, T)> {
    let rated = entries.filter_map(|(key, value)| Some((specificity(key, image)?, key, value)));
    let best = rated.max_by_key(|(specificity, ..)| *specificity)?;
    Some((best.1, best.2))
}

/// Returns the rank of a key for an image: the length of its repository prefix, and whether the key is exactly the
/// registry; `None` if the key does not match the image.
fn specificity(key: &str, image: &ImageReference) -> Option<(usize, bool)> {
    let host = image.host().as_str();
    let (key_host, namespace) = split_key(key);
    let is_hub = |host: &str| DOCKER_HUB_HOSTS.contains(&host);
    if !(key_host.eq_ignore_ascii_case(host) || is_hub(key_host) && is_hub(host)) {
        return None;
    }
    let rest = image.repository().strip_prefix(namespace)?;
    let is_whole = namespace.is_empty() || rest.is_empty() || rest.starts_with('/');
    is_whole.then_some((namespace.len(), key == host || key == DOCKER_HUB_KEY))
}

/// Returns whether a key matches all repositories of a registry.
fn is_whole_registry(key: &str) -> bool {
    split_key(key).1.is_empty()
}

/// Splits a key into its registry and the prefix of a repository name. Ignores the path of a URL, such as
/// `https://registry.example/v1/`.
fn split_key(key: &str) -> (&str, &str) {
    let url = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
    let (host, path) = match url.unwrap_or(key).split_once('/') {
        Some((host, path)) => (host, path.trim_end_matches('/')),
        None => (url.unwrap_or(key), ""),
    };
    match url.is_some() || matches!(path, "v1" | "v2") {
        true => (host, ""),
        false => (host, path),
    }
}

/// Returns whether an entry has a login. docker leaves an empty entry for a login in a credential helper.
fn has_login(login: &Value) -> bool {
    let members = ["auth", "identitytoken", "password"];
    members.iter().any(|member| !text(login, member).is_empty())
}

fn text<'a>(login: &'a Value, member: &str) -> &'a str {
    login.get(member).and_then(Value::as_str).unwrap_or_default()
}

fn parse_login(login: &Value) -> Option<ForeignCredentials> {
    let identity_token = text(login, "identitytoken");
    if !identity_token.is_empty() {
        return Some(ForeignCredentials::IdentityToken(Password::new(identity_token.to_owned())));
    }
    let auth = text(login, "auth");
    if auth.is_empty() {
        let (username, password) = (text(login, "username"), text(login, "password"));
        return ForeignCredentials::new(username.to_owned(), password.to_owned());
    }
    let decoded = String::from_utf8(STANDARD.decode(auth).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    ForeignCredentials::new(username.to_owned(), password.trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use serde_json::json;
    use tempfile::TempDir;

    use super::*;

    fn image(text: &str) -> ImageReference {
        text.parse().unwrap()
    }

    /// Creates a folder with a configuration and a credential helper `fake` that runs `helper` in a shell.
    fn files(config: &Value, helper: &str) -> (TempDir, CredentialFiles) {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("config.json");
        fs::write(&file, config.to_string()).unwrap();
        let script = folder.path().join("script");
        fs::write(&script, format!("#!/bin/sh\n{helper}\n")).unwrap();
        // Another process writes the program: running a file that this process wrote may fail as busy.
        let program = folder.path().join("docker-credential-fake");
        let install = Command::new("install").arg("-m755").args([&script, &program]).status();
        assert!(install.unwrap().success());
        let path = format!("{}:/usr/bin:/bin", folder.path().display());
        (folder, CredentialFiles::new([file]).with_helper_path(path))
    }

    fn shown(found: Option<ForeignCredentials>) -> String {
        match found {
            None => "none".to_owned(),
            Some(ForeignCredentials::IdentityToken(token)) => format!("token {}", token.expose()),
            Some(ForeignCredentials::Password { username, password }) => {
                format!("{username}:{}", password.expose())
            }
        }
    }

    fn login(name: &str) -> Value {
        json!({ "auth": STANDARD.encode(format!("{name}:secret")) })
    }

    #[tokio::test]
    async fn most_specific_login_of_a_file_is_used() {
        let config = json!({"auths": {
            "ghcr.io": login("ghcr"),
            "ghcr.io/team": login("team"),
            "ghcr.io/team/app": login("app"),
            "https://index.docker.io/v1/": login("hub"),
            "docker.io/library": login("library"),
            "https://quay.io/v2/": login("quay"),
            "old.example/v1": login("old"),
            "localhost:5000": {"username": "local", "password": "secret"},
            "azure.example": {"identitytoken": "refresh", "auth": STANDARD.encode("0:")},
            "empty.example": {},
            "REGISTRY.example": login("upper"),
        }});
        let (_folder, files) = files(&config, "exit 1");
        for (name, expected) in [
            ("ghcr.io/team/app:v1", "app:secret"),
            ("ghcr.io/team/app/sub", "app:secret"),
            ("ghcr.io/team/application", "team:secret"),
            ("ghcr.io/teams/app", "ghcr:secret"),
            ("alpine", "library:secret"),
            ("user/x", "hub:secret"),
            ("quay.io/a/b", "quay:secret"),
            ("old.example/a", "old:secret"),
            ("localhost:5000/a", "local:secret"),
            ("localhost:5001/a", "none"),
            ("azure.example/a", "token refresh"),
            ("empty.example/a", "none"),
            ("registry.example/a", "upper:secret"),
            ("other.example/a", "none"),
        ] {
            assert_eq!(shown(files.find(&image(name)).await.unwrap()), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn first_file_with_credentials_is_used() {
        let (_one, one) = files(&json!({"auths": {"a.example": login("one")}}), "exit 1");
        let both = json!({"auths": {"a.example": login("two"), "b.example": login("two")}});
        let (_two, two) = files(&both, "exit 1");
        let missing = PathBuf::from("/nonexistent/auth.json");
        let all = CredentialFiles::new([vec![missing], one.files, two.files].concat());
        for (name, expected) in [("a.example/x", "one:secret"), ("b.example/x", "two:secret")] {
            assert_eq!(shown(all.find(&image(name)).await.unwrap()), expected);
        }
    }

    #[tokio::test]
    async fn helper_takes_precedence_over_logins() {
        let echo = r#"read server; test "$1" = get && echo "{\"ServerURL\": \"$server\", \"Username\": \"$server\", \"Secret\": \"s\"}""#;
        let all = json!({
            "auths": {"ghcr.io": login("file"), "other.example": login("file")},
            "credsStore": "fake",
            "credHelpers": {"other.example": ""},
        });
        let some = json!({
            "auths": {"other.example": login("file")},
            "credHelpers": {"ghcr.io": "fake", "docker.io": "fake", "quay.io/team": "fake"},
        });
        for (config, name, expected) in [
            (&all, "ghcr.io/a", "ghcr.io:s"),
            (&all, "alpine", "https://index.docker.io/v1/:s"),
            (&all, "other.example/a", "file:secret"),
            (&some, "ghcr.io/a", "ghcr.io:s"),
            (&some, "alpine", "https://index.docker.io/v1/:s"),
            (&some, "quay.io/team/a", "quay.io/team:s"),
            (&some, "quay.io/a", "none"),
            (&some, "other.example/a", "file:secret"),
        ] {
            let (_folder, files) = files(config, echo);
            assert_eq!(shown(files.find(&image(name)).await.unwrap()), expected, "{name}");
        }
    }

    #[tokio::test]
    async fn helper_may_return_token_or_no_login() {
        let config = json!({"credsStore": "fake"});
        let token = r#"echo '{"Username": "<token>", "Secret": "refresh"}'"#;
        let not_found = format!("echo {NOT_FOUND}; exit 1");
        for (helper, expected) in [(token, "token refresh"), (&not_found, "none")] {
            let (_folder, files) = files(&config, helper);
            assert_eq!(shown(files.find(&image("alpine")).await.unwrap()), expected);
        }
    }

    #[tokio::test]
    async fn helper_failure_is_shown_without_secrets() {
        for (helper, expected) in [
            (
                r"printf 'locked\033[31m\nhint: x'; exit 1",
                r"returned no login for ghcr.io: locked\u{1b}[31m",
            ),
            (r#"echo '{"Secret": "hunter2"}'; exit 1"#, "it failed"),
            (r#"echo '{"Username": "a", "Secret": 7, "x": "hunter2"}'"#, "is not a login in JSON"),
            (r#"echo '"hunter2"'"#, "is not a login in JSON"),
            ("exit 3", "it failed"),
        ] {
            let (_folder, files) = files(&json!({"credsStore": "fake"}), helper);
            let error = files.find(&image("ghcr.io/a")).await.unwrap_err();
            assert!(error.to_string().ends_with(expected), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[tokio::test]
    async fn invalid_configuration_is_rejected_without_secrets() {
        for (config, expected) in [
            (json!({"auths": {"a.example": {"auth": "hunter2!"}}}), "is not in docker's format"),
            (
                json!({"auths": {"a.example": {"auth": STANDARD.encode("hunter2")}}}),
                "is not in docker's format",
            ),
            (json!({"auths": "hunter2"}), "\"auths\" is not an object"),
            (json!({"credsStore": "../fake"}), "it is not the name of a program"),
            (json!({"credsStore": "missing"}), "it is not installed"),
        ] {
            let (_folder, files) = files(&config, "exit 1");
            let error = files.find(&image("a.example/x")).await.unwrap_err();
            assert!(error.to_string().contains(expected), "{error}");
            assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
        }
    }

    #[test]
    fn debug_output_has_no_secret() {
        for credentials in [
            ForeignCredentials::new("alice".to_owned(), "hunter2".to_owned()),
            ForeignCredentials::new("<token>".to_owned(), "hunter2".to_owned()),
        ] {
            let debug = format!("{:?}", credentials.unwrap());
            assert!(!debug.contains("hunter2"), "{debug}");
        }
    }
}
