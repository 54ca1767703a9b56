//! Parsers of the model: a parsed value prints as its text, and other texts are rejected.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use ark_container_core::model::{
    Digest, EcrHost, ImageUrl, OrganizationId, ParseError, Platform, Reference, RegistryHost,
    RegistryLocation, RepositoryName, RepositoryPath, RepositoryUrl, RoleArn, Stage, Tag,
    TagPattern,
};

/// The maximum length of a repository path of ECR.
const MAX_PATH_LEN: usize = 256;

/// Checks a GUID: 32 digits with hyphens in any case, optionally in braces, with one printed form.
pub fn organization(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Some(id) = parse::<OrganizationId>(text) else { return };
    let printed = id.to_string();
    let bare = text.trim();
    let bare = bare.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')).unwrap_or(bare);
    assert_eq!(printed, bare.to_ascii_lowercase());
    assert_eq!(printed.len(), OrganizationId::PRINTED_LEN);
    assert_eq!(printed.replace('-', ""), format!("{:032x}", id.as_u128()));
    same(&id, &printed);
}

/// Checks that stages, names, paths and URLs match ECR's pattern, and belong to one organization.
pub fn repository(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(stage) = canonical::<Stage>(text) {
        assert!(is_component(stage.as_str()) && stage.as_str().len() < MAX_PATH_LEN);
    }
    if let Some(name) = canonical::<RepositoryName>(text) {
        assert!(name.as_str().split('/').all(is_component));
        // A name never leaves its organization.
        if let Ok(path) = RepositoryPath::new(Stage::default(), OrganizationId::TBD, name.clone()) {
            let found: RepositoryPath = path.to_string().parse().expect("it prints as a path");
            assert_eq!((found.organization(), found.name()), (OrganizationId::TBD, &name));
        }
    }
    if let Some(path) = canonical::<RepositoryPath>(text) {
        assert!(text.len() <= MAX_PATH_LEN && text.split('/').all(is_component));
        assert_eq!(text.split('/').nth(1), Some(path.organization().to_string().as_str()));
    }
    if let Some(url) = canonical::<RepositoryUrl>(text) {
        assert_eq!(text, format!("{}/{}", url.host(), url.path()));
    }
    if let Some(image) = canonical::<ImageUrl>(text) {
        assert_eq!(&image.repository().image(image.reference().clone()), &image);
    }
}

/// Checks tags, which have no colon, digests, which have the digits of their algorithm, and references, which are
/// either.
pub fn reference(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let tag = canonical::<Tag>(text);
    let digest = canonical::<Digest>(text);
    let reference = canonical::<Reference>(text);
    assert!(tag.is_none() || digest.is_none());
    assert_eq!(reference, digest.clone().map(Into::into).or(tag.clone().map(Into::into)));
    if tag.is_some() {
        let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        assert!(text.len() <= 128 && word(text.as_bytes()[0]));
        assert!(text.bytes().all(|byte| word(byte) || b".-".contains(&byte)));
    }
    if let Some(digest) = digest {
        let bytes: Vec<u8> = (0..digest.hex().len() / 2)
            .map(|at| u8::from_str_radix(&digest.hex()[2 * at..2 * at + 2], 16))
            .collect::<Result<_, _>>()
            .expect("they are hexadecimal digits");
        assert_eq!(Digest::from_bytes(digest.algorithm(), &bytes), Some(digest));
    }
}

/// Checks a tag filter and a tag, separated by a line break: both match their patterns, and the filter matches as an
/// exhaustive matcher does.
pub fn tag_filter(data: &[u8]) {
    let Some((filter, tag)) = text(data).and_then(|text| text.split_once('\n')) else { return };
    let filter = canonical::<TagPattern>(filter);
    let (Some(filter), Some(tag)) = (filter, canonical::<Tag>(tag)) else { return };
    assert!(filter.as_str().len() <= 128 && filter.as_str().matches('*').count() <= 2);
    assert_eq!(filter.matches(&tag), is_like(filter.as_str().as_bytes(), tag.as_str().as_bytes()));
}

/// Checks registry locations, hosts, hosts of ECR, and roles.
pub fn location(data: &[u8]) {
    let Some(text) = text(data) else { return };
    if let Some(location) = parse::<RegistryLocation>(text) {
        let printed = location.to_string();
        same(&location, &printed);
        // The stage may be left out.
        assert!(printed == text || printed == format!("{text}/prod"), "{printed}");
    }
    if canonical::<RegistryHost>(text).is_some() {
        assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".:-[]".contains(&byte)));
    }
    if let Some(host) = canonical::<EcrHost>(text) {
        assert!(host.account().len() == 12 && text.starts_with(host.account()));
        assert!(host.partition().starts_with("aws"));
        assert!(text.split('.').any(|part| part == host.region()));
        assert_eq!(host.registry_host().as_str(), text);
    }
    if canonical::<RoleArn>(text).is_some() {
        assert!(text.len() <= 2048 && text.bytes().all(|byte| byte.is_ascii_graphic()));
    }
}

/// Checks that a platform prints in the form of the specification, and is the same as itself.
pub fn platform(data: &[u8]) {
    let Some(text) = text(data) else { return };
    let Some(platform) = parse::<Platform>(text) else { return };
    same(&platform, &platform.to_string());
    assert!(platform.is_same_as(&platform) && platform.admits(&platform));
}

fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Parses a text. If it is invalid, checks that the error has a position within the text and a limited length.
fn parse<T: FromStr<Err = ParseError>>(text: &str) -> Option<T> {
    match text.parse() {
        Ok(value) => Some(value),
        Err(error) => {
            assert!(error.position().is_none_or(|at| at >= 1 && at <= text.chars().count() + 1));
            assert!(!error.to_string().contains('\n'), "{error}");
            assert!(error.to_string().len() < 2000, "{error}");
            None
        }
    }
}

/// Parses a text of a type with only one form per value.
fn canonical<T: FromStr<Err = ParseError> + Display + Debug + PartialEq>(text: &str) -> Option<T> {
    let value = parse::<T>(text)?;
    assert_eq!(value.to_string(), text);
    same(&value, text);
    Some(value)
}

fn same<T: FromStr<Err = ParseError> + Debug + PartialEq>(value: &T, printed: &str) {
    assert_eq!(printed.parse::<T>().as_ref(), Ok(value));
}

/// Returns whether a text matches ECR's `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, with another implementation than the
/// library's.
fn is_component(text: &str) -> bool {
    let separator =
        |text: &str| matches!(text, "." | "_" | "__") || text.bytes().all(|b| b == b'-');
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let ends = [text.bytes().next(), text.bytes().next_back()];
    ends.into_iter().all(|end| end.is_some_and(word))
        && text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit()).all(separator)
}

/// Returns whether a text matches a pattern with `*`, by exhaustive search.
fn is_like(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|at| is_like(rest, &text[at..])),
        Some((first, rest)) => text.first() == Some(first) && is_like(rest, &text[1..]),
    }
}
