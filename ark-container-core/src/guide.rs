//! The guide: how a program works with container repositories, a page for each question.
//!
//! | page | answers |
//! |---|---|
//! | [`concepts`] | what is what: organizations, repositories, principals, scopes |
//! | [`quick_start`] | from `cargo add` to an image in a repository |
//! | [`backends`] | which registry to choose, and how |
//! | [`permissions`] | who may do what, and where that is decided |
//! | [`testing_your_code`] | a mock, a real registry inside the test |
//! | [`errors_and_retries`] | what to do about each error, and what is tried again without you |
//! | [`observability`] | what the library tells while it works |
//! | [`security`] | what keeps organizations apart, and what is yours to do |

#[doc = include_str!("../docs/concepts.md")]
pub mod concepts {}

#[doc = include_str!("../docs/quick-start.md")]
pub mod quick_start {}

#[doc = include_str!("../docs/backends.md")]
pub mod backends {}

#[doc = include_str!("../docs/permissions.md")]
pub mod permissions {}

#[doc = include_str!("../docs/testing-your-code.md")]
pub mod testing_your_code {}

#[doc = include_str!("../docs/errors-and-retries.md")]
pub mod errors_and_retries {}

#[doc = include_str!("../docs/observability.md")]
pub mod observability {}

#[doc = include_str!("../docs/security.md")]
pub mod security {}
