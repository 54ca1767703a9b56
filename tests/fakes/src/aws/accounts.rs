//! [`Accounts`]: whose access key is whose, and the sessions of roles.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::iam::{Context, Grants};
use super::identities::{AccessKey, Role, User, identifier};
use super::identity_provider::KnownProvider;
use super::policy::{Policy, PolicyError};
use ark_container_core::model::EcrHost;
use ark_container_core::{Error, Result};

/// Who signed a request, and what they may do at most.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) account: String,
    pub(super) arn: String,
    pub(super) user_id: String,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) grants: Grants,
    /// The role, where this is a session of one.
    pub(super) role_arn: Option<String>,
    /// When the session ends, where this is one.
    pub(super) expires_at: Option<SystemTime>,
}

impl Caller {
    /// What policies know of the caller.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-keys.html>
    pub(super) fn context(&self) -> Context {
        let context = Context::default()
            .with("aws:PrincipalArn", self.role_arn.as_ref().unwrap_or(&self.arn))
            .with("aws:PrincipalAccount", &self.account)
            .with("aws:userid", &self.user_id)
            .with_tags("aws:PrincipalTag", &self.tags);
        match self.arn.split_once(":user/") {
            Some((_, name)) => context.with("aws:username", name),
            None => context,
        }
    }
}

/// What a signature is checked with.
#[derive(Debug, Clone)]
pub(super) struct Credential {
    pub(super) key: AccessKey,
    pub(super) session_token: Option<String>,
    pub(super) caller: Arc<Caller>,
}

/// A role, ready to be assumed.
#[derive(Debug)]
pub(super) struct KnownRole {
    pub(super) arn: String,
    pub(super) id: String,
    pub(super) trust: Vec<Policy>,
    pub(super) policies: Vec<Policy>,
    pub(super) tags: BTreeMap<String, String>,
    pub(super) max_session: Duration,
}

/// Users, roles, OpenID providers, and every session so far.
#[derive(Debug)]
pub(super) struct Accounts {
    roles: BTreeMap<String, KnownRole>,
    pub(super) providers: Vec<KnownProvider>,
    credentials: Mutex<HashMap<String, Credential>>,
}

impl Accounts {
    /// # Errors
    /// [`Error::InvalidInput`] if a policy is none that the fake can judge by.
    pub(super) fn new(
        host: &EcrHost,
        users: Vec<User>,
        roles: Vec<Role>,
        providers: Vec<KnownProvider>,
    ) -> Result<Self> {
        let mut credentials = HashMap::new();
        for user in users {
            let credential = user_credential(host, user)?;
            credentials.insert(credential.key.id.clone(), credential);
        }
        let roles = roles.into_iter().map(|role| known_role(host, role));
        let roles = roles.map(|role| role.map(|role| (role.arn.clone(), role)));
        let roles = roles.collect::<Result<_>>()?;
        Ok(Self { roles, providers, credentials: Mutex::new(credentials) })
    }

    pub(super) fn role(&self, arn: &str) -> Option<&KnownRole> {
        self.roles.get(arn)
    }

    pub(super) fn credential(&self, access_key_id: &str) -> Option<Credential> {
        self.credentials().get(access_key_id).cloned()
    }

    /// Begins a session.
    pub(super) fn add(&self, credential: Credential) {
        self.credentials().insert(credential.key.id.clone(), credential);
    }

    /// Ends every session of a role at `now`.
    pub(super) fn expire_sessions(&self, now: SystemTime) {
        for credential in self.credentials().values_mut() {
            if credential.caller.expires_at.is_some() {
                let caller = Caller::clone(&credential.caller);
                credential.caller = Arc::new(Caller { expires_at: Some(now), ..caller });
            }
        }
    }

    fn credentials(&self) -> MutexGuard<'_, HashMap<String, Credential>> {
        self.credentials.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn user_credential(host: &EcrHost, user: User) -> Result<Credential> {
    let account = user.account.unwrap_or_else(|| host.account().to_owned());
    let of = |error| unusable(format!("a policy of the user {}", user.name), error);
    let identity = parsed(&user.policies, Policy::parse).map_err(of)?;
    let caller = Caller {
        arn: format!("arn:{}:iam::{account}:user/{}", host.partition(), user.name),
        user_id: identifier("AIDA", &user.name),
        account,
        tags: user.tags,
        grants: Grants { identity, session: None },
        role_arn: None,
        expires_at: None,
    };
    Ok(Credential { key: user.key, session_token: None, caller: Arc::new(caller) })
}

fn known_role(host: &EcrHost, role: Role) -> Result<KnownRole> {
    let of =
        |kind: &str, error| unusable(format!("a {kind} policy of the role {}", role.name), error);
    Ok(KnownRole {
        arn: format!("arn:{}:iam::{}:role/{}", host.partition(), host.account(), role.name),
        id: identifier("AROA", &role.name),
        trust: parsed(&role.trust, Policy::parse_resource_based)
            .map_err(|error| of("trust", error))?,
        policies: parsed(&role.policies, Policy::parse).map_err(|error| of("identity", error))?,
        tags: role.tags,
        max_session: role.max_session,
    })
}

fn parsed(
    texts: &[String],
    parse: fn(&str) -> Result<Policy, PolicyError>,
) -> Result<Vec<Policy>, PolicyError> {
    texts.iter().map(|text| parse(text)).collect()
}

fn unusable(what: String, error: PolicyError) -> Error {
    Error::invalid(format!("{what} cannot be used: {error}"))
}
