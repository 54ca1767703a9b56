//! [`TokenFile`]: the file that holds a token.

use std::fs::{Metadata, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::str;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use secrecy::zeroize::Zeroizing;
use serde::Deserialize;

use super::claims::{Claims, TokenProblem};
use super::{MAX_TOKEN_BYTES, Token};
use crate::error::{Error, Result};

/// The file that holds a token: the bare token, a JSON string, or a JSON object that has it under `jwt`,
/// `token`, `id_token` or `access_token`.
///
/// It is read anew each time, so that a long run goes on with the token that `ark-auth-tool` or the
/// platform has put in the place of an old one.
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
    /// Whether it was told that others can read the file.
    warned: Arc<AtomicBool>,
}

impl TokenFile {
    /// The file at `path`. Nothing is read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), warned: Arc::default() }
    }

    /// Where `ark-auth-tool` keeps a user's token, `~/.cache/tbd/jwt.json`; `None` if the user has no
    /// home.
    pub fn default_path() -> Option<PathBuf> {
        Some(etcetera::home_dir().ok()?.join(".cache/tbd/jwt.json"))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The token that it holds now.
    ///
    /// That others can read the file is a warning in the log, the first time.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`] if there is no such file, it is empty or cannot be read, or it holds
    /// no token or one that is not good now; [`Error::InvalidInput`] if other users can write it.
    pub async fn read(&self) -> Result<Token> {
        let (token, _) = self.read_claims().await?;
        Ok(token)
    }

    /// The token, and what it says.
    pub(super) async fn read_claims(&self) -> Result<(Token, Claims)> {
        let file = self.clone();
        let reading = tokio::task::spawn_blocking(move || file.read_blocking());
        reading
            .await
            .map_err(|error| Error::failed("the reading of the token ended").with_source(error))?
    }

    /// What the file's token is called in errors.
    pub(super) fn described(&self) -> String {
        format!("the token in {}", self.path.display())
    }

    fn read_blocking(&self) -> Result<(Token, Claims)> {
        let content = self.content()?;
        let text = str::from_utf8(&content).unwrap_or("not text");
        let parsed = token_in(text).and_then(Token::parse);
        parsed.map_err(|problem| problem.into_error(self.described()))
    }

    /// What is in the file, if nobody else can have written it.
    fn content(&self) -> Result<Zeroizing<Vec<u8>>> {
        let unread = |error: io::Error| self.unread(error);
        // Opening a pipe would wait for its other end.
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NONBLOCK)
            .open(&self.path)
            .map_err(unread)?;
        let metadata = file.metadata().map_err(unread)?;
        self.check(&metadata)?;
        // Room for all of it, as a vector that grows leaves copies of a secret behind.
        let mut content = Zeroizing::new(Vec::with_capacity(MAX_TOKEN_BYTES + 1));
        file.take(MAX_TOKEN_BYTES as u64 + 1).read_to_end(&mut content).map_err(unread)?;
        if content.len() > MAX_TOKEN_BYTES {
            return Err(self.refused(&format!("is longer than {MAX_TOKEN_BYTES} bytes")));
        }
        Ok(content)
    }

    /// What was opened is what is checked: it cannot be exchanged in between.
    fn check(&self, metadata: &Metadata) -> Result<()> {
        let file = self.path.display();
        if !metadata.is_file() {
            return Err(self.refused("is in no regular file"));
        }
        if metadata.mode() & 0o022 != 0 {
            return Err(Error::invalid(format!(
                "other users can write to the file {file}, and could put a token of their own in it; \
                 close it to them: chmod go-w {file}"
            )));
        }
        if metadata.mode() & 0o044 != 0 && !self.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!("other users can read the token in {file}; close it: chmod 600 {file}");
        }
        Ok(())
    }

    fn refused(&self, problem: &str) -> Error {
        TokenProblem::invalid(problem).into_error(self.described())
    }

    fn unread(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::NotFound => {
                let file = self.path.display();
                Error::unauthenticated(format!(
                    "there is no token, as the file {file} does not exist"
                ))
            }
            _ => Error::unauthenticated(format!("cannot read {}", self.described()))
                .with_source(error),
        }
    }
}

/// A JSON object that holds a token.
///
/// Its texts are borrowed, so that no copy of a secret stays behind; a token has nothing to escape.
#[derive(Deserialize)]
struct Wrapped<'a> {
    jwt: Option<&'a str>,
    token: Option<&'a str>,
    id_token: Option<&'a str>,
    access_token: Option<&'a str>,
}

/// The token in a file's text.
fn token_in(text: &str) -> Result<&str, TokenProblem> {
    let text = text.trim();
    let refused = |problem: &str| TokenProblem::invalid(problem);
    if text.is_empty() {
        return Err(refused("is missing: the file is empty"));
    }
    // Why it is no JSON is not told: the cause could quote from a token.
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
