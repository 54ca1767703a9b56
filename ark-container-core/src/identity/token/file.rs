//! [`TokenFile`]: the file with the token of this process.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::claims::{Claims, TokenProblem};
use super::{MAX_TOKEN_BYTES, Token};
use crate::encoding::decode;
use crate::error::{BoxError, Error, Result};
use crate::files::trusted;

/// A file with a token: the bare token, a JSON string, or a JSON object with the token under `jwt`,
/// `token`, `id_token` or `access_token`.
///
/// The file is read at each use, so that a long-running program uses the token that `ark-auth-tool` or the
/// platform has renewed.
///
/// ```
/// use ark_container_core::identity::TokenFile;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let missing = TokenFile::new("/nowhere/jwt.json");
/// let error = missing.read().await.unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "not authenticated: there is no token: the file /nowhere/jwt.json does not exist"
/// );
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    /// Whether the warning that others can read the file was logged.
    warned: Arc<AtomicBool>,
}

impl TokenFile {
    /// Creates a token file at `path`. Does not read the file.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), warned: Arc::default() }
    }

    /// Returns `~/.cache/tbd/jwt.json`, where `ark-auth-tool` stores the token of a user. Returns `None` if
    /// the user has no home folder.
    pub fn default_path() -> Option<PathBuf> {
        Some(etcetera::home_dir().ok()?.join(".cache/tbd/jwt.json"))
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the token.
    ///
    /// Logs a warning the first time if other users can read the file.
    ///
    /// # Errors
    /// - [`Error::Unauthenticated`] if the file does not exist, is empty or cannot be read, or has no token
    ///   that is valid now
    /// - [`Error::InvalidInput`] if other users can write to the file
    pub async fn read(&self) -> Result<Token> {
        let (token, _) = self.read_claims().await?;
        Ok(token)
    }

    /// Reads the token and its claims.
    pub(super) async fn read_claims(&self) -> Result<(Token, Claims)> {
        let file = self.clone();
        let reading = tokio::task::spawn_blocking(move || file.read_blocking());
        reading.await.map_err(|error| {
            Error::failed("the task that reads the token failed").with_source(error)
        })?
    }

    /// Returns the name of the token in errors.
    pub(super) fn described(&self) -> String {
        format!("the token in {}", self.path.display())
    }

    fn read_blocking(&self) -> Result<(Token, Claims)> {
        let content = self.content()?;
        let unreadable = |problem| TokenProblem::invalid(format!("cannot be decoded: {problem}"));
        let text = decode(&content).map_err(unreadable);
        let parsed = text.and_then(token_in).and_then(Token::parse);
        parsed.map_err(|problem| problem.into_error(self.described()))
    }

    /// Returns the content of the file. Fails if another user can write to the file.
    fn content(&self) -> Result<Zeroizing<Vec<u8>>> {
        let unread = |error: BoxError| {
            Error::unauthenticated(format!("cannot read {}", self.described())).with_source(error)
        };
        let opened = trusted::open_trusted(&self.path, "token file");
        let (file, metadata) = opened.map_err(|error| match error {
            Error::NotFound { .. } => {
                let file = self.path.display();
                Error::unauthenticated(format!("there is no token: the file {file} does not exist"))
            }
            Error::Failed { .. } => unread(error.into()),
            error => error,
        })?;
        if metadata.mode() & 0o044 != 0 && !self.warned.swap(true, Ordering::Relaxed) {
            let file = self.path.display();
            tracing::warn!(
                "other users can read the token in {file}; restrict it: chmod 600 {file}"
            );
        }
        let content = trusted::read_limited(&file, &metadata, MAX_TOKEN_BYTES);
        content.map_err(|error| unread(error.into()))?.ok_or_else(|| {
            let problem = format!("is longer than {MAX_TOKEN_BYTES} bytes");
            TokenProblem::invalid(&problem).into_error(self.described())
        })
    }
}

/// A JSON object with a token.
///
/// The strings are borrowed, so that no copy of a secret stays in memory. A token contains no escapes.
#[derive(Deserialize)]
struct Wrapped<'a> {
    jwt: Option<&'a str>,
    token: Option<&'a str>,
    id_token: Option<&'a str>,
    access_token: Option<&'a str>,
}

/// Returns the token in the text of a file.
fn token_in(text: &str) -> Result<&str, TokenProblem> {
    let token = unwrapped(text)?;
    match token.split_once(char::is_whitespace) {
        Some((scheme, _)) if scheme.eq_ignore_ascii_case("Bearer") => Err(TokenProblem::invalid(
            "starts with \"Bearer\", which is part of an HTTP header and not of the token; remove \
             it",
        )),
        _ => Ok(token),
    }
}

/// Returns the token, not yet parsed, from a text that is the bare token or JSON with the token.
fn unwrapped(text: &str) -> Result<&str, TokenProblem> {
    let text = text.trim();
    let refused = |problem: &str| TokenProblem::invalid(problem);
    if text.is_empty() {
        return Err(refused("is missing: the file is empty"));
    }
    // The cause is dropped because it could quote the token.
    let no_json = |_| refused("is neither a bare token nor a string in JSON");
    if text.starts_with('"') {
        return serde_json::from_str(text).map_err(no_json);
    }
    if !text.starts_with('{') {
        return Ok(text);
    }
    let Wrapped { jwt, token, id_token, access_token } =
        serde_json::from_str(text).map_err(no_json)?;
    jwt.or(token).or(id_token).or(access_token).ok_or_else(|| {
        refused("is missing: the JSON has neither jwt, token, id_token nor access_token")
    })
}

#[cfg(test)]
mod tests;
