//! Calls by token: sessions of roles that AWS gives to whoever shows one.
//!
//! The token is all that is needed, so no other AWS credentials are looked for. Nothing is done under
//! the role of administrators but what is theirs to do, so that a fault elsewhere deletes nothing.
//!
//! Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRoleWithWebIdentity.html>

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_ecr::config::Credentials;
use tokio::sync::Mutex;

use super::backend::EcrBackend;
use super::clients::Clients;
use super::credentials::{Validity, assume_for, session_credentials};
use super::sts_session::session_policy;
use crate::credentials::RegistryCredentials;
use crate::credentials::cache::CacheKey;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::identity::{Token, TokenFile};
use crate::model::{Access, Algorithm, Digest, OrganizationId, RepositoryPath, Scope, ScopeTarget};

/// How long before its end a session is not used any more.
const SESSION_EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// By which role something is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Rights {
    /// The access role, which is for every principal.
    Access,
    /// The role of administrators.
    Administrator,
}

impl Rights {
    /// Those that creating a repository takes: the global organization is changed by administrators.
    pub(super) fn to_create(path: &RepositoryPath) -> Self {
        match path.organization() {
            OrganizationId::GLOBAL => Self::Administrator,
            _ => Self::Access,
        }
    }

    /// Those that credentials for `scope` take.
    pub(super) fn to_log_in(scope: &Scope) -> Self {
        let global = match scope.target() {
            ScopeTarget::Repository(path) => path.organization() == OrganizationId::GLOBAL,
            ScopeTarget::Organizations(_, some) => some.contains(&OrganizationId::GLOBAL),
        };
        match scope.access() {
            Access::Delete => Self::Administrator,
            Access::Push if global => Self::Administrator,
            Access::Push | Access::Pull => Self::Access,
        }
    }
}

/// STS sessions by role and principal, cached in the memory of the process.
#[derive(Debug, Default)]
pub(super) struct Sessions(std::sync::Mutex<HashMap<SessionKey, SessionSlot>>);

/// The role, and the name of the session, which no two principals share.
type SessionKey = (Rights, String);

/// One session, locked while it is requested.
type SessionSlot = Arc<Mutex<Option<Session>>>;

impl Sessions {
    fn slot(&self, key: SessionKey) -> SessionSlot {
        // The map is whole between any two statements.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&key) {
            return Arc::clone(slot);
        }
        // A program that acts for many principals would keep the sessions of all of them.
        slots.retain(|_, slot| match slot.try_lock() {
            Ok(session) => session.as_ref().is_some_and(Session::is_valid),
            Err(_) => true,
        });
        Arc::clone(slots.entry(key).or_default())
    }
}

/// A session of a role.
struct Session {
    /// The token that it was given for; whoever holds another one is somebody else.
    token: Digest,
    expires_at: SystemTime,
    clients: Arc<Clients>,
}

impl Session {
    fn is_good_for(&self, token: &Digest) -> bool {
        self.token == *token && self.is_valid()
    }

    fn is_valid(&self) -> bool {
        SystemTime::now() + SESSION_EXPIRY_MARGIN < self.expires_at
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

impl EcrBackend {
    /// The clients of a session for the token that is in the file now.
    pub(super) async fn session(&self, file: &TokenFile, rights: Rights) -> Result<Arc<Clients>> {
        let role = self.role(rights)?;
        let token = file.read().await?;
        let digest = digest(&token);
        let slot = self.sessions().slot((rights, self.session_name()));
        let mut held = slot.lock().await;
        if let Some(session) = held.as_ref().filter(|session| session.is_good_for(&digest)) {
            return Ok(Arc::clone(&session.clients));
        }
        let sts = self.without_session().await.sts(self.config()).await;
        let answer = sts
            .assume_role_with_web_identity()
            .role_arn(role)
            .role_session_name(self.session_name())
            .web_identity_token(token.expose())
            .send()
            .await;
        let answer = answer.map_err(|error| self.call(&assuming(role)).error(error))?;
        let credentials = session_credentials(answer.credentials)?;
        let base = self.without_session().await.sdk_config(self.config()).await;
        let session = Session {
            token: digest,
            expires_at: credentials.expiry().unwrap_or_else(SystemTime::now),
            clients: Arc::new(Clients::with_credentials(base, credentials)),
        };
        Ok(Arc::clone(&held.insert(session).clients))
    }

    /// Credentials of the registry for the token that is in the file now.
    ///
    /// They are remembered by the token itself: who holds another one, be it forged, of somebody else
    /// or of the same principal with other rights, asks AWS.
    pub(super) async fn credentials_by_token(
        &self,
        file: &TokenFile,
        scope: &Scope,
        validity: Validity,
    ) -> Result<RegistryCredentials> {
        let role = self.role(Rights::to_log_in(scope))?;
        let token = file.read().await?;
        let identity = format!("token {}; {}", digest(&token), self.context_key(validity).await?);
        let registry = self.ecr_host().registry_host().clone();
        let key = CacheKey::new(registry, identity, Some(role.to_owned()), scope.clone());
        let fetch = || async {
            let session = self.assume_by_token(&token, role, scope, validity).await?;
            self.login(session, scope).await
        };
        self.cache().get_or_fetch_lasting(&key, validity.min_remaining, fetch).await
    }

    /// A session under `role` which may do what `scope` says.
    async fn assume_by_token(
        &self,
        token: &Token,
        role: &str,
        scope: &Scope,
        validity: Validity,
    ) -> Result<Credentials> {
        let policy = session_policy(self.ecr_host(), scope)?;
        let name = self.session_name();
        let sts = self.without_session().await.sts(self.config()).await;
        let answer = assume_for(validity, role, |seconds| {
            let request = sts.assume_role_with_web_identity().role_arn(role);
            let request = request.role_session_name(&name).web_identity_token(token.expose());
            request.policy(&policy).duration_seconds(seconds).send()
        });
        match answer.await {
            Ok(answer) => session_credentials(answer.credentials),
            Err(error) => Err(self.role_refused(error, role, scope)),
        }
    }

    /// The role of these rights.
    fn role(&self, rights: Rights) -> Result<&str> {
        let config = self.config();
        let (role, setting, what) = match rights {
            Rights::Access => (&config.role_arn, "role_arn", "to use it by token"),
            Rights::Administrator => (
                &config.administrator_role_arn,
                "administrator_role_arn",
                "to delete by token, or to change the global organization",
            ),
        };
        role.as_deref()
            .ok_or_else(|| Error::invalid(format!("{self} has no IAM role {what}: set {setting}")))
    }
}

/// What is being done, for errors.
pub(super) fn assuming(role: &str) -> String {
    format!("assume the role {role} for")
}

fn digest(token: &Token) -> Digest {
    Digester::digest(Algorithm::Sha256, token.expose().as_bytes())
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests;
