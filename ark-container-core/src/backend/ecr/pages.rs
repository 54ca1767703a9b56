//! [`listing`]: reads the pages of an AWS listing as one stream of rows.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::future::ready;
use std::hash::{BuildHasher, Hash};

use futures_util::future::Either;
use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::error::{Error, Result};

/// The maximum number of restarts of a listing after an expired page token.
const MAX_RESTARTS: u32 = 3;

/// The rows of a page, and the token of the next page.
pub(super) type Page<T> = (Vec<T>, Option<String>);

/// Lists the rows of all pages, deduplicated by `key`: the rows of the `first` page if it is known, then the rows
/// that `fetch` returns for a page token. `name` names the listing in errors.
///
/// Page tokens of AWS expire, some after 15 minutes. A later page differs from the first page only by its token. If
/// AWS finds a parameter of a later page invalid, the token has expired, and the listing restarts.
///
/// Memory use is one page and a hash of each row.
pub(super) fn listing<T, K, P, F>(
    name: String,
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
    let start = Position { name, ..Position::default() };
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
    name: String,
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
    /// Moves to the next page, and returns the new rows of this page.
    ///
    /// # Errors
    /// [`Error::Failed`] if AWS returned the token of the next page before, so that the listing would never end.
    fn advance<T, K: Hash>(&mut self, page: Result<Page<T>>, key: fn(&T) -> &K) -> Result<Vec<T>> {
        let (mut rows, token) = match page {
            Err(Error::InvalidInput { message, .. })
                if self.token.is_some() && self.restarts < MAX_RESTARTS =>
            {
                tracing::debug!(message, "{} restarts", self.name);
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
                "{} does not end: AWS returned one page token twice",
                self.name
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

    /// Lists pages of two rows. The tokens of the requests with these numbers have expired.
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
                let response = match expired.contains(&*requests) {
                    true => Err(Error::invalid("Invalid parameter at 'nextToken'")),
                    false => {
                        let next = (page < 2).then(|| (page + 1).to_string());
                        Ok((vec![path(2 * page), path(2 * page + 1)], next))
                    }
                };
                ready(response)
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
