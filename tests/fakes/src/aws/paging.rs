//! [`Paging`]: listings page by page.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::exchange::Exchange;
use super::faults::Kind;

/// Which page of a listing is asked for.
#[derive(Debug, Clone)]
pub(super) struct Paging {
    size: usize,
    token: Option<String>,
    /// How many pages there were.
    number: u64,
    /// The last key of the page before.
    after: Option<String>,
}

impl Paging {
    /// A page of `size` entries at most; `None` if the token is not one that a page gave.
    pub(super) fn new(size: usize, token: Option<String>) -> Option<Self> {
        let Some(token) = token else {
            return Some(Self { size, token: None, number: 0, after: None });
        };
        let bytes = URL_SAFE_NO_PAD.decode(&token).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (number, after) = text.strip_prefix("page ")?.split_once(' ')?;
        let number = number.parse().ok()?;
        let after = (!after.is_empty()).then(|| after.to_owned());
        Some(Self { size, token: Some(token), number, after })
    }

    /// The last key of the page before.
    pub(super) fn after(&self) -> Option<&str> {
        self.after.as_deref()
    }

    /// The entries of this page, of those behind the page before, and the token of the next.
    ///
    /// The token tells of the last key and not of its place, so that what is created or deleted
    /// meanwhile moves nothing.
    pub(super) fn page<'k, V, T>(
        &self,
        exchange: &Exchange<'_>,
        entries: impl IntoIterator<Item = (&'k String, V)>,
        describe: impl Fn(&str, V) -> T,
    ) -> (Vec<T>, Option<String>) {
        let size = exchange.page_size(self.size);
        let mut entries = entries.into_iter();
        let (mut page, mut last) = (Vec::new(), self.after.as_deref().unwrap_or_default());
        for (key, entry) in entries.by_ref().take(size) {
            last = key;
            page.push(describe(key, entry));
        }
        let next = entries.next().is_some().then(|| match &self.token {
            Some(token) if exchange.has_fault(&Kind::RepeatedToken) => token.clone(),
            _ => URL_SAFE_NO_PAD.encode(format!("page {} {last}", self.number + 1)),
        });
        (page, next)
    }
}
