//! Private parsers of the registry, for the fuzz targets.

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HeaderValue};

use super::range::Wanted;
use super::route::Target;
use super::{auth, range};
use crate::model::RepositoryPath;

/// What the path of a URL names.
#[derive(Debug, PartialEq, Eq)]
pub enum Route {
    /// The registry itself.
    Base,
    /// Nothing.
    Unknown,
    /// Something in what cannot be a repository.
    Nowhere,
    /// Something in a repository, as `Debug` has it.
    In(RepositoryPath, String),
}

/// What the path of a URL names.
pub fn route(path: &str) -> Route {
    match Target::parse(path) {
        Target::Base => Route::Base,
        Target::Unknown => Route::Unknown,
        Target::InRepository { path: Err(_), .. } => Route::Nowhere,
        Target::InRepository { path: Ok(path), resource } => {
            Route::In(path, format!("{resource:?}"))
        }
    }
}

/// First and last byte that a `Range` header asks for, of content of `size` bytes.
pub fn range(header: &str, size: u64) -> Option<(u64, u64)> {
    match range::parse(header, size) {
        Wanted::Part { first, last } => Some((first, last)),
        Wanted::Whole | Wanted::Nothing => None,
    }
}

/// Start and length of the chunk that a `Content-Range` header announces.
pub fn chunk(header: &str) -> Option<(u64, u64)> {
    range::parse_chunk(header)
}

/// The password in an `Authorization` header.
pub fn password(header: &[u8]) -> Option<String> {
    let value = HeaderValue::from_bytes(header).ok()?;
    let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
    auth::password(&headers).map(|password| password.expose().to_owned())
}
