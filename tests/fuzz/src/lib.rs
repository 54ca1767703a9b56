//! Fuzz targets: functions of bytes that panic if an invariant of a parser does not hold for them.

#![expect(clippy::expect_used, reason = "a panic reports a broken invariant")]

mod answers;
mod archive;
mod documents;
mod environment;
mod headers;
mod names;
mod registry;
mod token;
mod tree;

pub use answers::answers;
pub use archive::archive;
pub use documents::{manifest, memberships, scope};
pub use headers::{client_headers, server_headers};
pub use names::{location, organization, platform, reference, repository, tag_filter};
pub use registry::registry;
pub use token::token;

/// The name and the function of a target.
pub type Target = (&'static str, fn(&[u8]));

/// All targets.
pub const TARGETS: [Target; 15] = [
    ("answers", answers),
    ("archive", archive),
    ("client_headers", client_headers),
    ("location", location),
    ("manifest", manifest),
    ("memberships", memberships),
    ("organization", organization),
    ("platform", platform),
    ("reference", reference),
    ("registry", registry),
    ("repository", repository),
    ("scope", scope),
    ("server_headers", server_headers),
    ("tag_filter", tag_filter),
    ("token", token),
];
