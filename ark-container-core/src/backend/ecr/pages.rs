//! [`listing`]: the rows of a listing that AWS gives in pages.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::future::ready;
use std::hash::{BuildHasher, Hash};

use futures_util::future::Either;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::backend::{Image, Repository};
use crate::error::{Error, Result};
use crate::model::{Digest, RepositoryPath};

/// How often a listing starts again after its page token has expired.
const MAX_RESTARTS: u32 = 3;

/// The rows of a page, and the token of the next page.
pub(super) type Page<T> = (Vec<T>, Option<String>);

/// What a listing gives once.
pub(super) trait Row: Send + 'static {
    type Key: Hash;

    /// What tells it from the other rows.
    fn key(&self) -> &Self::Key;
}

impl Row for Repository {
    type Key = RepositoryPath;

    fn key(&self) -> &RepositoryPath {
        self.url.path()
    }
}

impl Row for RepositoryPath {
    type Key = Self;

    fn key(&self) -> &Self {
        self
    }
}

impl Row for Image {
    type Key = Digest;

    fn key(&self) -> &Digest {
        &self.digest
    }
}

/// Lists the rows of all pages, each row once: those of the `first` page where it is known, then those that
/// `fetch` returns for a page token.
///
/// Page tokens of AWS expire, some after 15 minutes. The only parameter that a page has and the first page
/// lacks is the token. So where AWS finds a parameter invalid there, the listing starts again.
///
/// Holds one page at a time, and a hash of each row. `what` names the listing in errors.
pub(super) fn listing<T, P, F>(
    what: String,
    mut first: Option<Page<T>>,
    fetch: P,
) -> BoxStream<'static, Result<T>>
where
    T: Row,
    P: Fn(Option<String>) -> F + Send + 'static,
    F: Future<Output = Result<Page<T>>> + Send + 'static,
{
    let pages = stream::try_unfold(Some(Position::new(what)), move |position| {
        let fetched = position.map(|position| {
            let page = match first.take() {
                Some(page) => Either::Left(ready(Ok(page))),
                None => Either::Right(fetch(position.token.clone())),
            };
            (page, position)
        });
        async move {
            let Some((page, mut position)) = fetched else { return Ok(None) };
            let rows = position.advance(page.await)?;
            let next = (!position.is_last).then_some(position);
            Ok::<_, Error>(Some((stream::iter(rows.into_iter().map(Ok)), next)))
        }
    });
    pages.try_flatten().boxed()
}

/// The position of a listing.
struct Position {
    what: String,
    /// The token of the page to fetch; `None` for the first page.
    token: Option<String>,
    is_last: bool,
    /// The tokens since the listing started.
    tokens: HashSet<String>,
    /// The hashes of the keys of all rows so far.
    rows: HashSet<u64>,
    hasher: RandomState,
    restarts: u32,
}

impl Position {
    fn new(what: String) -> Self {
        Self {
            what,
            token: None,
            is_last: false,
            tokens: HashSet::new(),
            rows: HashSet::new(),
            hasher: RandomState::new(),
            restarts: 0,
        }
    }

    /// Moves behind a page, and returns its new rows.
    ///
    /// # Errors
    /// [`Error::Failed`] if AWS gave the token of the next page before: the listing would never end.
    fn advance<T: Row>(&mut self, page: Result<Page<T>>) -> Result<Vec<T>> {
        let (mut rows, token) = match page {
            Err(Error::InvalidInput { message, .. })
                if self.token.is_some() && self.restarts < MAX_RESTARTS =>
            {
                tracing::debug!(message, "{} starts again", self.what);
                self.restarts += 1;
                self.token = None;
                self.tokens.clear();
                return Ok(Vec::new());
            }
            page => page?,
        };
        rows.retain(|row| self.rows.insert(self.hasher.hash_one(row.key())));
        self.token = token.filter(|token| !token.is_empty());
        self.is_last = self.token.is_none();
        match &self.token {
            Some(token) if !self.tokens.insert(token.clone()) => Err(Error::failed(format!(
                "{} goes round in circles: AWS gave one page token twice",
                self.what
            ))),
            _ => Ok(rows),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn path(number: u32) -> RepositoryPath {
        format!("prod/2ea25035-6aa4-42fb-9955-92288ea1b972/n{number}").parse().unwrap()
    }

    /// Lists pages of two rows, of which the tokens at these requests have expired.
    async fn list(expired: &'static [usize]) -> (Result<Vec<RepositoryPath>>, usize) {
        let requests = std::sync::Arc::new(Mutex::new(0));
        let counted = requests.clone();
        let rows = listing("the list".to_owned(), None, move |token: Option<String>| {
            let mut requests = counted.lock().unwrap();
            *requests += 1;
            let page: u32 = token.as_deref().map_or(0, |token| token.parse().unwrap());
            let answer = match expired.contains(&*requests) {
                true => Err(Error::invalid("Invalid parameter at 'nextToken'")),
                false => {
                    let next = (page < 2).then(|| (page + 1).to_string());
                    Ok((vec![path(2 * page), path(2 * page + 1)], next))
                }
            };
            ready(answer)
        });
        let rows = rows.try_collect().await;
        let requests = *requests.lock().unwrap();
        (rows, requests)
    }

    #[tokio::test]
    async fn expired_page_token_restarts_the_listing() {
        let all: Vec<_> = (0..6).map(path).collect();
        for (expired, requests) in [(&[][..], 3), (&[2], 5), (&[3], 6), (&[2, 4, 6], 9)] {
            let (listed, requested) = list(expired).await;
            assert_eq!((listed.unwrap(), requested), (all.clone(), requests), "{expired:?}");
        }
    }

    #[tokio::test]
    async fn listing_gives_up_after_three_restarts() {
        let (listed, requested) = list(&[2, 4, 6, 8]).await;
        assert!(matches!(listed, Err(Error::InvalidInput { .. })), "{listed:?}");
        assert_eq!(requested, 8);
        let (first, requested) = list(&[1]).await;
        assert!(first.is_err());
        assert_eq!(requested, 1, "the first page has no token");
    }
}
