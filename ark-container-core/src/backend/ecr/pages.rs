//! [`Pages`]: listings that AWS gives in pages.

use std::collections::HashSet;

use futures_util::stream::{self, BoxStream, StreamExt, TryStreamExt};

use crate::error::{Error, Result};

/// Where a listing in pages has come to.
#[derive(Debug, Default)]
pub(super) struct Pages {
    next: Option<String>,
    seen: HashSet<String>,
    pub(super) any: bool,
}

impl Pages {
    /// The token for the page to ask for; none for the first.
    pub(super) fn token(&self) -> Option<String> {
        self.next.clone()
    }

    /// Whether there is another page after the one that gave `token`.
    ///
    /// # Errors
    /// [`Error::Failed`] if the token was given before: the listing would never end.
    pub(super) fn advance(&mut self, token: Option<String>, what: &str) -> Result<bool> {
        self.next = token.filter(|token| !token.is_empty());
        match &self.next {
            Some(token) if !self.seen.insert(token.clone()) => Err(Error::Failed {
                message: format!("{what} goes round in circles: AWS gave one page token twice"),
                source: None,
            }),
            next => Ok(next.is_some()),
        }
    }
}

/// A listing, a page at a time.
///
/// `page` fetches the page that the token is for, and gives it with where the listing has come to; `None`
/// ends the listing there.
pub(super) fn listing<T, P, F>(page: P) -> BoxStream<'static, Result<T>>
where
    T: Send + 'static,
    P: Fn(Pages) -> F + Send + 'static,
    F: Future<Output = Result<Option<(Vec<T>, Pages)>>> + Send + 'static,
{
    let pages = stream::try_unfold(Some(Pages::default()), move |pages| {
        let fetched = pages.map(&page);
        async move {
            let Some(fetched) = fetched else { return Ok(None) };
            let Some((rows, pages)) = fetched.await? else { return Ok(None) };
            let more = pages.next.is_some().then_some(pages);
            Ok::<_, Error>(Some((stream::iter(rows.into_iter().map(Ok)), more)))
        }
    });
    pages.try_flatten().boxed()
}
