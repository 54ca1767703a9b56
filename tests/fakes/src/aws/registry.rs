//! What an authorization token opens of the registry: what its principal's policies allow.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::accounts::Caller;
use super::clock::Clock;
use super::decision::{self, Circumstances};
use super::record::{Call, Record};
use super::registries::Registries;
use ark_container_core::backend::local::ecr_emulation::{EcrAuthorizer, RejectedPassword};
use ark_container_core::credentials::Password;
use ark_container_core::model::{EcrHost, RepositoryPath};

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// Every authorization token that was given, and how long the next is good for.
#[derive(Default)]
pub(super) struct Logins(Mutex<State>);

#[derive(Default)]
struct State {
    logins: HashMap<String, Login>,
    lifetime: Option<Duration>,
    dated: Option<SystemTime>,
}

#[derive(Clone)]
struct Login {
    caller: Arc<Caller>,
    expires_at: SystemTime,
}

impl Logins {
    /// Takes a new token of a principal, and answers what is to be said of its expiry.
    ///
    /// It ends with the principal's session: AWS leaves open whether it lives on, so the fake does not
    /// let anyone rely on that.
    pub(super) fn add(&self, token: String, caller: Arc<Caller>, now: SystemTime) -> SystemTime {
        let mut state = self.state();
        let whole = now + state.lifetime.unwrap_or(TOKEN_LIFETIME);
        let expires_at = caller.expires_at.map_or(whole, |session| session.min(whole));
        state.logins.insert(token, Login { caller, expires_at });
        state.dated.unwrap_or(expires_at)
    }

    pub(super) fn set_lifetime(&self, lifetime: Duration) {
        self.state().lifetime = Some(lifetime);
    }

    pub(super) fn date(&self, expires_at: SystemTime) {
        self.state().dated = Some(expires_at);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Logins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

/// Checks the passwords of the registry, and what the policies of their principals allow.
#[derive(Debug)]
pub(super) struct RegistryAuthorizer {
    pub(super) host: EcrHost,
    pub(super) logins: Arc<Logins>,
    pub(super) registries: Arc<Registries>,
    pub(super) clock: Arc<Clock>,
    pub(super) record: Arc<Record>,
}

impl EcrAuthorizer for RegistryAuthorizer {
    type Login = Arc<Caller>;

    fn log_in(&self, password: &Password) -> Result<Arc<Caller>, RejectedPassword> {
        let login = self.logins.state().logins.get(password.expose()).cloned();
        let login = login.ok_or(RejectedPassword::Unknown)?;
        if login.expires_at <= self.clock.now() {
            return Err(RejectedPassword::Expired);
        }
        Ok(login.caller)
    }

    fn allows(&self, caller: &Arc<Caller>, path: &RepositoryPath, action: &'static str) -> bool {
        // Repository policies for other accounts are not supported.
        if caller.account != self.host.account() {
            return false;
        }
        let resource = self.host.repository_arn(path);
        // A missing repository has no tags, so policies with conditions on tags do not allow it.
        let repository = self
            .registries
            .with(self.host.account(), |repositories| repositories.get(&path.to_string()).cloned());
        let circumstances = Circumstances { request_tags: None, repository: repository.as_ref() };
        let allowed = decision::check(caller, action, &resource, &circumstances).is_ok();
        self.record.add(Call {
            action: action.to_owned(),
            resources: vec![resource],
            principal: Some(caller.arn.clone()),
            error: (!allowed).then(|| "DENIED".to_owned()),
            request_id: String::new(),
        });
        allowed
    }
}
