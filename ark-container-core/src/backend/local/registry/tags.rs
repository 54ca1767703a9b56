//! The listing of tags, in pages where the client wants them.
//!
//! Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-tags>

use hyper::header;
use hyper::{Response, StatusCode};
use serde_json::json;

use super::body::{self, Body, WithHeader};
use super::error::{ApiError, Code};
use super::service::{InRepository, Query};
use crate::model::Tag;

pub(super) async fn list(
    repository: InRepository,
    query: &Query<'_>,
) -> Result<Response<Body>, ApiError> {
    let limit = query.get("n").map(|n| page_size(&n)).transpose()?;
    let (path, url) = (repository.path().clone(), repository.url());
    let tags = repository.run(|store, path| store.tags(path)).await?;
    let (page, more) = page(&tags, query.get("last").as_deref(), limit);
    let response = body::json(StatusCode::OK, &json!({ "name": path.to_string(), "tags": page }));
    Ok(match (page.last(), limit) {
        (Some(last), Some(n)) if more => response
            .with(header::LINK, format!("<{url}/tags/list?n={n}&last={last}>; rel=\"next\"")),
        _ => response,
    })
}

fn page_size(text: &str) -> Result<usize, ApiError> {
    text.parse().map_err(|_| {
        let message = format!("n is a number of tags, 0 or more, and not {text:?}");
        ApiError::bad_request(Code::PaginationNumberInvalid, message)
    })
}

/// Of sorted tags, at most `limit` of those behind `last`, and whether there are more.
fn page<'a>(tags: &'a [Tag], last: Option<&str>, limit: Option<usize>) -> (&'a [Tag], bool) {
    let start = last.map_or(0, |last| tags.partition_point(|tag| tag.as_str() <= last));
    let rest = &tags[start..];
    let length = limit.map_or(rest.len(), |limit| limit.min(rest.len()));
    (&rest[..length], length < rest.len())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tags(texts: &[&str]) -> Vec<Tag> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn a_page_starts_behind_the_last_tag_whether_or_not_it_exists() {
        let all = tags(&["1", "A", "a", "b"]);
        assert_eq!(page(&all, None, None), (&all[..], false));
        assert_eq!(page(&all, Some("A"), None), (&all[2..], false));
        assert_eq!(page(&all, Some("B"), Some(1)), (&all[2..3], true));
        assert_eq!(page(&all, Some("a"), Some(1)), (&all[3..], false));
        assert_eq!(page(&all, Some("z"), Some(5)), (&all[4..], false));
        assert_eq!(page(&all, None, Some(0)), (&all[..0], true));
    }

    #[test]
    fn a_page_size_is_a_whole_number() {
        assert_eq!(page_size("0").unwrap(), 0);
        for bad in ["", "-1", "x", "1.5", "99999999999999999999"] {
            assert!(page_size(bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn pages_one_after_another_give_every_tag_once(
            names in proptest::collection::btree_set("[a-zA-Z0-9]{1,4}", 0..30),
            limit in 1usize..8,
        ) {
            let all: Vec<Tag> = names.iter().map(|name| name.parse().unwrap()).collect();
            let (mut seen, mut last) = (Vec::new(), None::<String>);
            loop {
                let (found, more) = page(&all, last.as_deref(), Some(limit));
                seen.extend_from_slice(found);
                if !more {
                    break;
                }
                last = found.last().map(Tag::to_string);
            }
            prop_assert_eq!(seen, all);
        }
    }
}
