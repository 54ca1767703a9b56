//! [`Challenge`]: how a registry says where it wants one to log in.

use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// A registry's wish for a token of a login service.
///
/// Source: <https://distribution.github.io/distribution/spec/auth/token/>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Challenge {
    /// The URL of the login service.
    pub(super) realm: String,
    pub(super) service: Option<String>,
    /// What the token is for; several are separated by spaces.
    pub(super) scope: Option<String>,
}

impl Challenge {
    /// The wish for a token among the challenges of an answer; `None` where a password is wanted.
    pub(super) fn find(headers: &HeaderMap) -> Option<Self> {
        let values = headers.get_all(WWW_AUTHENTICATE).into_iter();
        values.filter_map(|value| value.to_str().ok()).find_map(Self::parse)
    }

    fn parse(value: &str) -> Option<Self> {
        let (scheme, mut rest) = value.trim().split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let (mut realm, mut service, mut scope) = (None, None, None);
        while let Some((name, value, after)) = parameter(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => realm = Some(value),
                "service" => service = Some(value),
                "scope" => scope = Some(value),
                _ => {}
            }
            rest = after;
        }
        Some(Self { realm: realm?, service, scope })
    }
}

/// The first of `name=value, …`, and what comes after it. A value in quotes may have commas.
///
/// Source: <https://www.rfc-editor.org/rfc/rfc9110#section-11.2>
fn parameter(text: &str) -> Option<(&str, String, &str)> {
    let text = text.trim_start_matches([' ', '\t', ',']);
    let (name, rest) = text.split_once('=')?;
    let (name, rest) = (name.trim(), rest.trim_start());
    let Some(quoted) = rest.strip_prefix('"') else {
        let end = rest.find(',').unwrap_or(rest.len());
        return Some((name, rest[..end].trim().to_owned(), &rest[end..]));
    };
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in quoted.char_indices() {
        match c {
            '\\' if !escaped => escaped = true,
            '"' if !escaped => return Some((name, value, &quoted[at + 1..])),
            c => {
                value.push(c);
                escaped = false;
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_for_a_token_is_read() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push""#;
        let expected = Challenge {
            realm: "https://auth.docker.io/token".to_owned(),
            service: Some("registry.docker.io".to_owned()),
            scope: Some("repository:a/b:pull,push".to_owned()),
        };
        assert_eq!(Challenge::parse(hub), Some(expected));
        let odd = r#"bearer  error = "a \"b\", c" , realm=https://h/t,Scope="x""#;
        let found = Challenge::parse(odd).unwrap();
        assert_eq!((found.realm.as_str(), found.scope.as_deref()), ("https://h/t", Some("x")));
    }

    #[test]
    fn what_is_no_wish_for_a_token_is_none() {
        for value in ["", "Bearer", "Basic realm=\"x\"", "Bearer service=\"x\"", "Bearer realm=\"x"]
        {
            assert_eq!(Challenge::parse(value), None, "{value}");
        }
    }
}
