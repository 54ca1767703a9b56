//! Registry credentials from AWS: narrowed by a session of a role, or with all permissions of the caller.
//!
//! An authorization token of AWS grants the permissions of its IAM principal. With a role, the principal is a session
//! whose policy allows only the scope. According to AWS's documentation, the registry applies the session policy to
//! the token. Only a test against AWS can verify this.
//!
//! Source: <https://docs.aws.amazon.com/AmazonECR/latest/APIReference/API_GetAuthorizationToken.html>

use std::time::{Duration, SystemTime};

use aws_sdk_ecr::config::{Credentials, ProvideCredentials};
use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_ecr::operation::get_authorization_token::GetAuthorizationTokenError;
use aws_sdk_ecr::types::AuthorizationData;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::zeroize::Zeroizing;

use super::backend::EcrBackend;
use super::clients::Clients;
use super::session_policy::{session_policy, too_long};
use crate::aws_environment::AwsSettings;
use crate::credentials::cache::CacheKey;
use crate::credentials::{CredentialsOptions, Narrowing, Password, RegistryCredentials, USERNAME};
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::model::{Algorithm, EcrHost, RegistryHost, Scope, split_port};

/// The maximum duration of a role session, which is also the lifetime of authorization tokens.
///
/// Source: <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>
const MAX_SESSION_SECONDS: i32 = 12 * 60 * 60;

/// The session duration that every role allows, even with role chaining.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/id_roles_manage-assume.html>
const GUARANTEED_SESSION_SECONDS: i32 = 60 * 60;

/// The maximum age of a cached login that is returned for a requested lifetime, so that consecutive requests share a
/// login. The minimum session duration of STS, 15 minutes, is three times as long.
const MAX_CACHED_LOGIN_AGE: Duration = Duration::from_secs(5 * 60);

/// The validity that a login must have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Validity {
    /// The requested lifetime. STS returns a session of exactly this lifetime, or an error.
    pub(super) lifetime: Option<Duration>,
    /// The minimum time until the login expires.
    pub(super) min_remaining: Duration,
}

impl Validity {
    fn new(lifetime: Option<Duration>, min_remaining: Option<Duration>) -> Result<Self> {
        let Some(lifetime) = lifetime else {
            return Ok(Self { lifetime, min_remaining: min_remaining.unwrap_or_default() });
        };
        let almost_all = lifetime.saturating_sub(MAX_CACHED_LOGIN_AGE);
        let min_remaining = min_remaining.unwrap_or(almost_all);
        if min_remaining >= lifetime {
            return Err(Error::invalid(format!(
                "registry credentials with a lifetime of {lifetime:?} cannot have {min_remaining:?} left"
            )));
        }
        Ok(Self { lifetime: Some(lifetime), min_remaining })
    }

    fn check(self, credentials: &RegistryCredentials) -> Result<()> {
        let remaining =
            credentials.expires_at.duration_since(SystemTime::now()).unwrap_or_default();
        if remaining >= self.min_remaining {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "the registry credentials for {} expire in {} s, but at least {} s were requested: \
             request less, or raise the maximum session duration of the role",
            credentials.scope,
            remaining.as_secs(),
            self.min_remaining.as_secs(),
        )))
    }
}

/// The operation that the errors of a login name.
const LOGIN_OPERATION: &str = "get a login for";

/// Returns whether `host` has the same name as the host of `url`, or the same explicit port.
fn is_host_of(host: &str, url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let endpoint = split_port(rest.split('/').next().unwrap_or_default());
    let (name, port) = split_port(host);
    name == endpoint.0 || port.is_some() && port == endpoint.1
}

impl EcrBackend {
    /// Returns credentials for a scope of this backend's stage, from the cache or from AWS.
    ///
    /// The lifetime in the options takes precedence over the backend's. A lifetime needs a role, because AWS chooses
    /// the lifetime of a login without a role. Cached credentials are returned only for the same requested lifetime,
    /// and if they do not expire too early.
    pub(super) async fn registry_credentials(
        &self,
        scope: &Scope,
        options: &CredentialsOptions,
    ) -> Result<RegistryCredentials> {
        let config = self.config();
        let lifetime = options.lifetime.or(config.credentials_lifetime);
        let validity = Validity::new(lifetime, options.min_remaining)?;
        let has_role = config.role_arn.is_some();
        if (config.require_scoped || options.require_scoped) && !has_role {
            return Err(Error::invalid(format!(
                "credentials limited to {scope} need an IAM role; set role_arn for {self}, or allow \
                 wider credentials with require_scoped = false"
            )));
        }
        if lifetime.is_some() && !has_role && config.web_identity.is_none() {
            return Err(Error::invalid(format!(
                "AWS chooses the lifetime of registry credentials for {self}, 12 hours, unless they \
                 come from a role: set role_arn, or request no lifetime"
            )));
        }
        let credentials = match &config.web_identity {
            Some(file) => self.credentials_by_token(file, scope, validity).await?,
            None => self.credentials_of_caller(scope, validity).await?,
        };
        validity.check(&credentials)?;
        Ok(credentials)
    }

    async fn credentials_of_caller(
        &self,
        scope: &Scope,
        validity: Validity,
    ) -> Result<RegistryCredentials> {
        let fetch = || self.fetch_credentials(scope, validity);
        let registry = self.ecr_host().registry_host().clone();
        let caller = caller_key(&self.aws_credentials().await?);
        let identity = format!("{caller}; {}", self.context_key(validity).await?);
        let key = CacheKey::new(registry, identity, self.config().role_arn.clone(), scope.clone());
        self.cache().get_or_fetch_lasting(&key, validity.min_remaining, fetch).await
    }

    /// Returns the part of a cache key that does not depend on the AWS caller: endpoints, principal, requested
    /// lifetime, source identity and additional actions.
    pub(super) async fn context_key(&self, validity: Validity) -> Result<String> {
        let endpoints = self.aws_config().await?.endpoint_key();
        let seconds = validity.lifetime.map(|lifetime| lifetime.as_secs());
        let principal = self.principal();
        let config = self.config();
        let (source, actions) = (&config.source_identity, &config.additional_actions);
        Ok(format!(
            "endpoints {endpoints}; principal {principal:?}; lifetime {seconds:?}; source identity \
             {source:?}; actions {actions:?}"
        ))
    }

    /// Returns whether this host belongs to the registry: another form of its own host, or a host with the name or port
    /// of a configured endpoint. An emulator chooses the host of its registry.
    pub(crate) fn answers_at(&self, host: &str) -> bool {
        let (config, own) = (self.config(), self.ecr_host());
        if let Ok(host) = host.parse::<EcrHost>() {
            return (host.account(), host.region()) == (own.account(), own.region());
        }
        let given = config.sdk_config.as_ref().and_then(|given| given.endpoint_url());
        if let Some(url) = config.endpoint_url.as_deref().or(given) {
            return is_host_of(host, url);
        }
        let settings = AwsSettings::of_this_process(&config.aws_choices());
        settings.is_ok_and(|settings| {
            settings.ecr_endpoint_url().is_some_and(|url| is_host_of(host, url))
        })
    }

    /// Returns the AWS credentials of the caller, which the process caches until they expire.
    async fn aws_credentials(&self) -> Result<Credentials> {
        let Some(provider) = self.aws_config().await?.credentials_provider() else {
            let message = format!("there is no source of AWS credentials for {self}");
            return Err(Error::unauthenticated(message));
        };
        provider.provide_credentials().await.map_err(|error| {
            let error = SdkError::<GetAuthorizationTokenError, _>::construction_failure(error);
            self.call(LOGIN_OPERATION).error(error)
        })
    }

    async fn fetch_credentials(
        &self,
        scope: &Scope,
        validity: Validity,
    ) -> Result<RegistryCredentials> {
        match &self.config().role_arn {
            Some(role) => self.login(self.assume_role(role, scope, validity).await?, scope).await,
            None => self.login_as(self.aws_credentials().await?, scope, Narrowing::Caller).await,
        }
    }

    /// Fetches a login with a session that is narrowed to `scope`.
    pub(super) async fn login(
        &self,
        session: Credentials,
        scope: &Scope,
    ) -> Result<RegistryCredentials> {
        self.login_as(session, scope, Narrowing::Scoped).await
    }

    async fn login_as(
        &self,
        aws: Credentials,
        scope: &Scope,
        narrowing: Narrowing,
    ) -> Result<RegistryCredentials> {
        let aws_expiry = aws.expiry();
        let clients = Clients::new(self.aws_config().await?.with_credentials(aws));
        let response = clients.ecr(self.config()).await?.get_authorization_token().send().await;
        let response = response.map_err(|error| self.call(LOGIN_OPERATION).error(error))?;
        let data = response.authorization_data.and_then(|data| data.into_iter().next());
        let login = Login::read(&data.ok_or_else(|| invalid_login("it has no token"))?)?;
        let host = match login.endpoint.as_str().parse::<EcrHost>() {
            // The password is valid for every registry that the principal may use. Only the configured host is certain
            // to have the right account and the requested FIPS or IPv6 endpoint.
            Ok(_) => self.config().host.registry_host().clone(),
            // An emulator returns its own address.
            Err(_) => login.endpoint,
        };
        let expires_at = aws_expiry.map_or(login.expires_at, |end| end.min(login.expires_at));
        let credentials = RegistryCredentials::new(host, login.password, expires_at, scope.clone());
        Ok(credentials.with_narrowing(narrowing))
    }

    /// Assumes `role` in a session that is narrowed to `scope`.
    async fn assume_role(
        &self,
        role: &str,
        scope: &Scope,
        validity: Validity,
    ) -> Result<Credentials> {
        let config = self.config();
        let policy = session_policy(self.ecr_host(), scope, &config.additional_actions)?;
        let session = self.session_name();
        let client = self.sts().await?;
        let response = assume_with_duration(validity, role, |seconds| {
            let request = client.assume_role().role_arn(role).role_session_name(&session);
            let request = request.set_external_id(config.external_id.clone());
            let request = request.set_source_identity(config.source_identity.clone());
            request.policy(&policy).duration_seconds(seconds).send()
        });
        match response.await {
            Ok(response) => session_credentials(response.credentials),
            Err(error) => Err(self.role_refused(error, role, scope)),
        }
    }

    /// Returns the error of a role that cannot be assumed for `scope`.
    pub(super) fn role_refused<E>(
        &self,
        error: SdkError<E, HttpResponse>,
        role: &str,
        scope: &Scope,
    ) -> Error
    where
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    {
        if error.code() == Some("PackedPolicyTooLarge") {
            let message = error.message().unwrap_or_default();
            let length = format!("exceeds AWS's limit of the packed size ({message})");
            let remedy = "get a token with fewer organizations, or set fewer additional_actions";
            return too_long(&length, scope, remedy);
        }
        let operation = format!("assume the role {role} for a login to");
        self.call(&operation).error(error)
    }
}

/// Assumes a role by `assume`, a function of the session duration in seconds.
///
/// The duration is the requested lifetime. Without one, the duration is the lifetime of authorization tokens, or 1 hour
/// if the role does not allow that.
pub(super) async fn assume_with_duration<T, E, F>(
    validity: Validity,
    role: &str,
    assume: impl Fn(i32) -> F,
) -> Result<T, SdkError<E, HttpResponse>>
where
    E: ProvideErrorMetadata,
    F: Future<Output = Result<T, SdkError<E, HttpResponse>>>,
{
    if let Some(lifetime) = validity.lifetime {
        // STS rejects a duration out of range with an error that names the range.
        return assume(i32::try_from(lifetime.as_secs()).unwrap_or(i32::MAX)).await;
    }
    match assume(MAX_SESSION_SECONDS).await {
        Err(error) if is_about_duration(&error) => {
            tracing::debug!(
                role,
                "the role does not allow a session of 12 hours; requesting 1 hour"
            );
            assume(GUARANTEED_SESSION_SECONDS).await
        }
        response => response,
    }
}

/// Returns the part of a cache key that distinguishes AWS callers without a request: a hash of the access key.
fn caller_key(credentials: &Credentials) -> String {
    let id = credentials.access_key_id();
    format!("access key {}", Digester::digest(Algorithm::Sha256, id.as_bytes()))
}

/// Returns whether STS would allow a shorter session: the requested duration exceeds the limit of the role or of role
/// chaining.
fn is_about_duration(error: &impl ProvideErrorMetadata) -> bool {
    let message = error.message().unwrap_or_default();
    error.code() == Some("ValidationError") && message.contains("DurationSeconds")
}

/// Returns the credentials in a response of STS.
pub(super) fn session_credentials(
    session: Option<aws_sdk_sts::types::Credentials>,
) -> Result<Credentials> {
    let session = session.ok_or_else(|| invalid_login("it has no credentials"))?;
    let expires_at = SystemTime::try_from(session.expiration).map_err(|error| {
        Error::failed("the expiry of the AWS session is out of range").with_source(error)
    })?;
    Ok(Credentials::new(
        session.access_key_id,
        session.secret_access_key,
        Some(session.session_token),
        Some(expires_at),
        "ark-container",
    ))
}

/// A login in a response of AWS.
struct Login {
    endpoint: RegistryHost,
    password: Password,
    expires_at: SystemTime,
}

impl Login {
    fn read(data: &AuthorizationData) -> Result<Self> {
        let endpoint =
            data.proxy_endpoint().ok_or_else(|| invalid_login("it names no registry"))?;
        let host = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
        let endpoint = host.trim_end_matches('/').parse()?;
        let token = data.authorization_token().unwrap_or_default();
        let decoded = STANDARD.decode(token).map(Zeroizing::new);
        let decoded = decoded.map_err(|error| {
            // The error contains at most one character of the token.
            Error::failed("AWS returned a login that is not in base64").with_source(error)
        })?;
        let text = std::str::from_utf8(&decoded).ok();
        let password = text
            .and_then(|text| text.strip_prefix(USERNAME)?.strip_prefix(':'))
            .filter(|password| !password.is_empty())
            .ok_or_else(|| invalid_login("its token is not of the form AWS:<password>"))?;
        let expires_at = data.expires_at().ok_or_else(|| invalid_login("it has no expiry"))?;
        let expires_at = SystemTime::try_from(*expires_at).map_err(|error| {
            Error::failed("the expiry of the login is out of range").with_source(error)
        })?;
        Ok(Self { endpoint, password: Password::new(password.to_owned()), expires_at })
    }
}

fn invalid_login(problem: &str) -> Error {
    Error::failed(format!("AWS returned an invalid login: {problem}"))
}

#[cfg(test)]
mod tests;
