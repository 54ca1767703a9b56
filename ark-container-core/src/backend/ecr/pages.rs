//! [`listing`]: the rows of a listing that AWS gives in pages.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::future::ready;
use std::hash::{BuildHasher, Hash};

use futures_util::future::Either;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::error::{Error, Result};

/// How often a listing starts again after its page token has expired.
const MAX_RESTARTS: u32 = 3;

/// The rows of a page, and the token of the next page.
pub(super) type Page<T> = (Vec<T>, Option<String>);

/// Lists the rows of all pages, each `key` once: those of the `first` page where it is known, then those that
/// `fetch` returns for a page token.
///
/// Page tokens of AWS expire, some after 15 minutes. The only parameter that a page has and the first page
/// lacks is the token. So where AWS finds a parameter invalid there, the listing starts again.
///
/// Holds one page at a time, and a hash of each row. `what` names the listing in errors.
pub(super) fn listing<T, K, P, F>(
    what: String,
    mut first: Option<Page<T>>,
    key: fn(&T) -> &K,
    fetch: P,
) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    K: Hash + 'static,
    P: Fn(Option<String>) -> F + Send + 'static,
    F: Future<Output = Result<Page<T>>> + Send + 'static,
{
    let start = Position { what, ..Position::default() };
    let pages = stream::try_unfold(Some(start), move |position: Option<Position>| {
        let fetched = position.map(|position| {
            let page = match first.take() {
                Some(page) => Either::Left(ready(Ok(page))),
                None => Either::Right(fetch(position.token.clone())),
            };
            (page, position)
        });
        async move {
            let Some((page, mut position)) = fetched else { return Ok(None) };
            let rows = position.advance(page.await, key)?;
            let next = (!position.is_last).then_some(position);
            Ok::<_, Error>(Some((stream::iter(rows.into_iter().map(Ok)), next)))
        }
    });
    pages.try_flatten().boxed()
}

/// The position of a listing.
#[derive(Default)]
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
    /// Moves behind a page, and returns its new rows.
    ///
    /// # Errors
    /// [`Error::Failed`] if AWS gave the token of the next page before: the listing would never end.
    fn advance<T, K: Hash>(&mut self, page: Result<Page<T>>, key: fn(&T) -> &K) -> Result<Vec<T>> {
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
        rows.retain(|row| self.rows.insert(self.hasher.hash_one(key(row))));
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
    use crate::model::RepositoryPath;

    fn path(number: u32) -> RepositoryPath {
        format!("prod/2ea25035-6aa4-42fb-9955-92288ea1b972/n{number}").parse().unwrap()
    }

    /// Lists pages of two rows, of which the tokens at these requests have expired.
    async fn list(expired: &'static [usize]) -> (Result<Vec<RepositoryPath>>, usize) {
        let requests = std::sync::Arc::new(Mutex::new(0));
        let counted = requests.clone();
        let rows = listing(
            "the list".to_owned(),
            None,
            |path| path,
            move |token: Option<String>| {
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
            },
        );
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
