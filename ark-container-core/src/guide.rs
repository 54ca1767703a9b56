//! The guide: one page for each task of a program that works with container repositories.
//!
//! | page | content |
//! |---|---|
//! | [`concepts`] | organizations, repositories, principals, scopes |
//! | [`quick_start`] | from `cargo add` to an image in a repository |
//! | [`backends`] | choosing a registry |
//! | [`permissions`] | who may do what, and how a program decides it |
//! | [`testing_your_code`] | a mock, and a real registry inside the test |
//! | [`errors_and_retries`] | handling errors, and automatic retries |
//! | [`observability`] | log events, spans and metrics |
//! | [`security`] | the isolation of organizations, and your part in it |

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
