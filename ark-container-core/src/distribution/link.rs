//! The `Link` header: where the next page of a listing is.

/// The target of `rel="next"`, as it is written: relative or absolute.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc8288#section-3>
pub(super) fn next_target(header: &str) -> Option<&str> {
    let mut rest = header;
    while let Some(start) = rest.find('<') {
        let (target, after) = rest[start + 1..].split_once('>')?;
        // The parameters of this link end where the next link starts.
        let end = after.find('<').unwrap_or(after.len());
        let next = after[..end].split([';', ',']).any(|parameter| {
            parameter.split_once('=').is_some_and(|(name, value)| {
                let relations = value.trim().trim_matches('"');
                name.trim().eq_ignore_ascii_case("rel")
                    && relations.split(' ').any(|relation| relation.eq_ignore_ascii_case("next"))
            })
        });
        if next {
            return Some(target);
        }
        rest = &after[end..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found_among_other_links() {
        assert_eq!(next_target("</v2/a/tags/list?n=1>; rel=\"next\""), Some("/v2/a/tags/list?n=1"));
        assert_eq!(next_target("<a>; rel=prev, <b>; title=\"x\"; rel=next"), Some("b"));
        assert_eq!(next_target("<a>; rel=\"first next\""), Some("a"));
    }

    #[test]
    fn what_is_no_next_page_gives_none() {
        for header in ["", "<a", "<a>", "<a>; rel=\"prev\"", "a; rel=next", "<a>; title=next"] {
            assert_eq!(next_target(header), None, "{header}");
        }
    }
}
