//! [`Login`]: what a client shows to its registry, and how it gets something better when that is refused.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use async_trait::async_trait;
use reqwest::{RequestBuilder, Url};

use super::challenge::Challenge;
use super::token::Token;
use crate::credentials::RegistryCredentials;
use crate::error::{Error, Result};

/// Where a client gets new credentials from when its registry refuses those that it has.
///
/// Those that were refused have been [marked](RegistryCredentials::mark_refused) before it is asked, so
/// that no cache gives them out again.
#[async_trait]
pub trait Authenticate: fmt::Debug + Send + Sync {
    /// New credentials for what the refused ones were for.
    ///
    /// # Errors
    /// Whatever keeps it from getting any.
    async fn renew(&self) -> Result<RegistryCredentials>;
}

/// What a client shows, which changes while it runs. All clones of a client share it.
#[derive(Debug)]
pub(super) struct Login {
    shown: RwLock<Shown>,
    /// Held by the one that asks for something better; the others wait and use what it gets.
    turn: tokio::sync::Mutex<()>,
    authenticate: Option<Arc<dyn Authenticate>>,
}

/// What is shown at a moment.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    credentials: Option<RegistryCredentials>,
    token: Option<Token>,
    /// Counts what was shown before.
    generation: u64,
}

/// A registry's refusal of what it was shown.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) generation: u64,
    pub(super) challenge: Option<Challenge>,
    /// Whether the registry said so, and not something that may mean it.
    pub(super) certain: bool,
}

impl Login {
    pub(super) fn new(credentials: Option<RegistryCredentials>) -> Self {
        let shown = Shown { credentials, token: None, generation: 0 };
        Self { shown: RwLock::new(shown), turn: tokio::sync::Mutex::default(), authenticate: None }
    }

    /// A login that starts with what this one shows now.
    pub(super) fn with(&self, authenticate: Arc<dyn Authenticate>) -> Self {
        let shown = RwLock::new(self.shown());
        let turn = tokio::sync::Mutex::default();
        Self { shown, turn, authenticate: Some(authenticate) }
    }

    /// What to show now. A token that is about to run out is replaced first.
    pub(super) async fn current(&self, http: &reqwest::Client, base: &Url) -> Result<Shown> {
        let shown = self.shown();
        match &shown.token {
            Some(token) if token.is_stale() => {
                let challenge = Some(token.challenge().clone());
                let refused = Refused { generation: shown.generation, challenge, certain: true };
                self.replace(http, base, refused).await?;
                Ok(self.shown())
            }
            _ => Ok(shown),
        }
    }

    /// Gets something better than what was refused; whether there is any.
    ///
    /// Of all whose login was refused at once, one asks.
    pub(super) async fn replace(
        &self,
        http: &reqwest::Client,
        base: &Url,
        refused: Refused,
    ) -> Result<bool> {
        let _turn = self.turn.lock().await;
        let shown = self.shown();
        if shown.generation != refused.generation {
            return Ok(true);
        }
        let Some(challenge) = refused.challenge else {
            return match self.renew(&shown).await? {
                Some(credentials) => Ok(self.show(Some(credentials), None)),
                None => Ok(false),
            };
        };
        match Token::fetch(http, base, &challenge, shown.credentials.as_ref()).await {
            Ok(token) => Ok(self.show(shown.credentials, Some(token))),
            // The login service too wants to know who is asking.
            Err(refusal @ Error::Unauthenticated { .. }) => {
                let Some(credentials) = self.renew(&shown).await? else { return Err(refusal) };
                let token = Token::fetch(http, base, &challenge, Some(&credentials)).await?;
                Ok(self.show(Some(credentials), Some(token)))
            }
            Err(error) => Err(error),
        }
    }

    /// New credentials in place of those that were refused, if there is a way to have any.
    async fn renew(&self, shown: &Shown) -> Result<Option<RegistryCredentials>> {
        if let Some(credentials) = &shown.credentials {
            credentials.mark_refused();
        }
        match &self.authenticate {
            Some(authenticate) => authenticate.renew().await.map(Some),
            None => Ok(None),
        }
    }

    /// Shows something else from now on.
    fn show(&self, credentials: Option<RegistryCredentials>, token: Option<Token>) -> bool {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        let generation = shown.generation + 1;
        *shown = Shown { credentials, token, generation };
        true
    }

    fn shown(&self) -> Shown {
        // It is replaced as a whole, so a panic elsewhere does not spoil it.
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Shown {
    pub(super) fn generation(&self) -> u64 {
        self.generation
    }

    /// Whom the registry takes one for; `None` for nobody in particular.
    pub(super) fn username(&self) -> Option<&str> {
        self.credentials.as_ref().map(|credentials| credentials.username.as_str())
    }

    /// Puts it into a request.
    pub(super) fn authorize(&self, request: RequestBuilder) -> RequestBuilder {
        match (&self.token, &self.credentials) {
            (Some(token), _) => request.bearer_auth(token.expose()),
            (None, Some(credentials)) => {
                request.basic_auth(&credentials.username, Some(credentials.password.expose()))
            }
            (None, None) => request,
        }
    }
}
