//! [`TokenFile`]: the file of a token.

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

/// The file of a token: the bare token, a JSON string, or a JSON object that has it under `jwt`,
/// `token`, `id_token` or `access_token`.
///
/// It is read again each time, so that a long run uses the token by which `ark-auth-tool` or the
/// platform has replaced an old one.
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
///     "not authenticated: there is no token, as the file /nowhere/jwt.json does not exist"
/// );
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct TokenFile {
    path: PathBuf,
    /// Whether a warning was logged that others can read the file.
    warned: Arc<AtomicBool>,
}

impl TokenFile {
    /// Creates a token file at `path`. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), warned: Arc::default() }
    }

    /// Returns the path where `ark-auth-tool` keeps a user's token, `~/.cache/tbd/jwt.json`; `None` if the
    /// user has no home.
    pub fn default_path() -> Option<PathBuf> {
        Some(etcetera::home_dir().ok()?.join(".cache/tbd/jwt.json"))
    }

    /// Returns the path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the token.
    ///
    /// If others can read the file, a warning is logged the first time.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if there is no such file, it is empty or cannot be read, or it has
    /// no token or one that is not valid now; [`Error::InvalidInput`] if other users can write it.
    pub async fn read(&self) -> Result<Token> {
        let (token, _) = self.read_claims().await?;
        Ok(token)
    }

    /// Reads the token and its claims.
    pub(super) async fn read_claims(&self) -> Result<(Token, Claims)> {
        let file = self.clone();
        let reading = tokio::task::spawn_blocking(move || file.read_blocking());
        reading
            .await
            .map_err(|error| Error::failed("the reading of the token ended").with_source(error))?
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

    /// Returns the content of the file, if no other user can have written it.
    fn content(&self) -> Result<Zeroizing<Vec<u8>>> {
        let unread = |error: BoxError| {
            Error::unauthenticated(format!("cannot read {}", self.described())).with_source(error)
        };
        let opened = trusted::open_trusted(&self.path, "token file");
        let (file, metadata) = opened.map_err(|error| match error {
            Error::NotFound { .. } => {
                let file = self.path.display();
                Error::unauthenticated(format!(
                    "there is no token, as the file {file} does not exist"
                ))
            }
            Error::Failed { .. } => unread(error.into()),
            error => error,
        })?;
        if metadata.mode() & 0o044 != 0 && !self.warned.swap(true, Ordering::Relaxed) {
            let file = self.path.display();
            tracing::warn!("other users can read the token in {file}; close it: chmod 600 {file}");
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
/// Its strings are borrowed, so that no copy of a secret stays in memory. A token needs no escapes.
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
            "starts with \"Bearer\", which is part of an HTTP header and not of the token; take it out",
        )),
        _ => Ok(token),
    }
}

/// Returns the text that stands for the token, bare or in JSON.
fn unwrapped(text: &str) -> Result<&str, TokenProblem> {
    let text = text.trim();
    let refused = |problem: &str| TokenProblem::invalid(problem);
    if text.is_empty() {
        return Err(refused("is missing: the file is empty"));
    }
    // The cause is left out: it could quote from a token.
    let no_json = |_| refused("is neither bare nor a text in JSON");
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
