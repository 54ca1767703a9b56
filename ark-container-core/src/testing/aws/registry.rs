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
use crate::backend::local::{Authorize, Operation, Permit, TokenError};
use crate::credentials::Password;
use crate::model::{EcrHost, RepositoryPath};

/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 60 * 60);

/// The actions that an operation of the registry's needs.
///
/// AWS documents them for pushes and pulls as a whole. Which request needs which follows from the
/// operations of the API whose names they have; where there is none, a request needs what a pull does.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/image-push-iam.html>, and for pulls
/// <https://docs.aws.amazon.com/AmazonECR/latest/userguide/security_iam_id-based-policy-examples.html>
fn actions(operation: Operation) -> &'static [&'static str] {
    match operation {
        Operation::ReadManifest => &["ecr:BatchGetImage"],
        Operation::CheckBlob => &["ecr:BatchCheckLayerAvailability"],
        // Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/blob-mounting.html>
        Operation::ReadBlob | Operation::MountBlob => &["ecr:GetDownloadUrlForLayer"],
        Operation::ListTags | Operation::ListReferrers | Operation::AskForUpload => {
            &["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
        }
        // The whole blob may come with it.
        Operation::StartUpload => {
            &["ecr:InitiateLayerUpload", "ecr:UploadLayerPart", "ecr:CompleteLayerUpload"]
        }
        Operation::SendPart => &["ecr:UploadLayerPart"],
        // The last part may come with it.
        Operation::FinishUpload => &["ecr:UploadLayerPart", "ecr:CompleteLayerUpload"],
        Operation::PutManifest => &["ecr:PutImage"],
        Operation::DeleteManifest => &["ecr:BatchDeleteImage"],
        // The registry has no such requests.
        Operation::DeleteBlob | Operation::GiveUpUpload => &[],
    }
}

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

/// Judges the passwords of the registry.
#[derive(Debug)]
pub(super) struct Opened(Arc<Judge>);

#[derive(Debug)]
struct Judge {
    host: EcrHost,
    logins: Arc<Logins>,
    registries: Arc<Registries>,
    clock: Arc<Clock>,
    record: Arc<Record>,
}

impl Opened {
    pub(super) fn new(
        host: &EcrHost,
        logins: Arc<Logins>,
        registries: Arc<Registries>,
        clock: Arc<Clock>,
        record: Arc<Record>,
    ) -> Self {
        Self(Arc::new(Judge { host: host.clone(), logins, registries, clock, record }))
    }
}

impl Authorize for Opened {
    fn permit(&self, password: &Password) -> Result<Box<dyn Permit>, TokenError> {
        let login = self.0.logins.state().logins.get(password.expose()).cloned();
        let login = login.ok_or(TokenError::Invalid)?;
        if login.expires_at <= self.0.clock.now() {
            return Err(TokenError::Expired);
        }
        Ok(Box::new(Granted { judge: self.0.clone(), caller: login.caller }))
    }
}

/// What one password opens.
struct Granted {
    judge: Arc<Judge>,
    caller: Arc<Caller>,
}

impl Permit for Granted {
    fn allows(&self, path: &RepositoryPath, operation: Operation) -> bool {
        // What repository policies say of other accounts is not looked at.
        if self.caller.account != self.judge.host.account() {
            return false;
        }
        let resource = self.judge.host.repository_arn(path);
        // One that is missing has no tags, so that policies which ask for some do not allow it.
        let repository = self.judge.registries.with(self.judge.host.account(), |repositories| {
            repositories.get(&path.to_string()).cloned()
        });
        let circumstances = Circumstances { request_tags: None, repository: repository.as_ref() };
        let actions = actions(operation);
        let may = |action: &&str| {
            let may = decision::check(&self.caller, action, &resource, &circumstances).is_ok();
            self.judge.record.add(Call {
                action: (*action).to_owned(),
                resources: vec![resource.clone()],
                principal: Some(self.caller.arn.clone()),
                error: (!may).then(|| "DENIED".to_owned()),
                request_id: String::new(),
            });
            may
        };
        !actions.is_empty() && actions.iter().all(may)
    }
}
