//! [`Refusal`]: why a token does not say who asks.

use std::fmt::Display;

use crate::error::Error;

/// Why a token does not say who asks.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The token is at fault: what follows `the token`, such as `has expired`.
    Token(String),
    /// The token could not be judged.
    Unjudged(Error),
}

impl Refusal {
    pub(super) fn token(problem: impl Into<String>) -> Self {
        Self::Token(problem.into())
    }

    /// The error about `token`, such as `the token in jwt.json`.
    pub(super) fn into_error(self, token: impl Display) -> Error {
        match self {
            Self::Token(problem) => Error::unauthenticated(format!("{token} {problem}")),
            Self::Unjudged(error) => error,
        }
    }
}
