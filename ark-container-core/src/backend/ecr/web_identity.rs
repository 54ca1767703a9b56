//! [`Sessions`]: role sessions that STS issues for a web identity token.
//!
//! The token replaces all other AWS credentials. Only the operations of administrators use the administrator role, so
//! a defect in another operation cannot delete anything.
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
use super::credentials::{Validity, assume_with_duration, session_credentials};
use super::session_policy::session_policy;
use crate::credentials::RegistryCredentials;
use crate::credentials::cache::CacheKey;
use crate::digester::Digester;
use crate::error::{Error, Result};
use crate::identity::{Token, TokenFile};
use crate::model::{Access, Algorithm, Digest, OrganizationId, RepositoryPath, Scope, ScopeTarget};

/// The time before its expiry at which a session is renewed.
const SESSION_EXPIRY_MARGIN: Duration = Duration::from_secs(60);

/// The IAM role of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum IamRole {
    /// The role of every principal.
    Access,
    /// The role of administrators.
    Administrator,
}

impl IamRole {
    /// Returns the role to create a repository. Only administrators change the global organization.
    pub(super) fn to_create(path: &RepositoryPath) -> Self {
        match path.organization() {
            OrganizationId::GLOBAL => Self::Administrator,
            _ => Self::Access,
        }
    }

    /// Returns the role for credentials for `scope`.
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

/// A cache of STS sessions by role and principal, in the memory of the process.
#[derive(Debug, Default)]
pub(super) struct Sessions(std::sync::Mutex<HashMap<SessionKey, SessionSlot>>);

/// The role, and the name of the session, which is unique for each principal.
type SessionKey = (IamRole, String);

/// One session. The holder of the mutex may request it.
type SessionSlot = Arc<Mutex<Option<Session>>>;

impl Sessions {
    fn slot(&self, key: SessionKey) -> SessionSlot {
        // A panic cannot leave the map in an invalid state.
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = slots.get(&key) {
            return Arc::clone(slot);
        }
        // Without this, a program that acts for many principals would keep all expired sessions.
        slots.retain(|_, slot| match slot.try_lock() {
            Ok(session) => session.as_ref().is_some_and(Session::is_valid),
            Err(_) => true,
        });
        Arc::clone(slots.entry(key).or_default())
    }
}

/// A session of a role.
struct Session {
    /// The digest of the token. Another token may belong to another caller.
    token: Digest,
    expires_at: SystemTime,
    clients: Arc<Clients>,
}

impl Session {
    fn is_valid_for(&self, token: &Digest) -> bool {
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
    /// Returns the clients of a session for the current token in the file.
    pub(super) async fn session(&self, file: &TokenFile, role: IamRole) -> Result<Arc<Clients>> {
        let role_arn = self.role_arn(role)?;
        let token = file.read().await?;
        let digest = digest(&token);
        let slot = self.sessions().slot((role, self.session_name()));
        let mut held = slot.lock().await;
        if let Some(session) = held.as_ref().filter(|session| session.is_valid_for(&digest)) {
            return Ok(Arc::clone(&session.clients));
        }
        let sts = self.without_session().sts(self.config()).await?;
        let response = sts
            .assume_role_with_web_identity()
            .role_arn(role_arn)
            .role_session_name(self.session_name())
            .web_identity_token(token.expose())
            .send()
            .await;
        let operation = format!("assume the role {role_arn} for");
        let response = response.map_err(|error| self.call(&operation).error(error))?;
        let credentials = session_credentials(response.credentials)?;
        let base = self.aws_config().await?;
        let session = Session {
            token: digest,
            expires_at: credentials.expiry().unwrap_or_else(SystemTime::now),
            clients: Arc::new(Clients::new(base.with_credentials(credentials))),
        };
        Ok(Arc::clone(&held.insert(session).clients))
    }

    /// Returns registry credentials for the current token in the file.
    ///
    /// The cache key contains a digest of the token. Another token, which may be forged, belong to another principal or
    /// have other claims, therefore needs a request to AWS.
    pub(super) async fn credentials_by_token(
        &self,
        file: &TokenFile,
        scope: &Scope,
        validity: Validity,
    ) -> Result<RegistryCredentials> {
        let role = self.role_arn(IamRole::to_log_in(scope))?;
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

    /// Requests a session of `role` that is narrowed to `scope`.
    async fn assume_by_token(
        &self,
        token: &Token,
        role: &str,
        scope: &Scope,
        validity: Validity,
    ) -> Result<Credentials> {
        let actions = &self.config().additional_actions;
        let policy = session_policy(self.ecr_host(), scope, actions)?;
        let name = self.session_name();
        let sts = self.without_session().sts(self.config()).await?;
        let response = assume_with_duration(validity, role, |seconds| {
            let request = sts.assume_role_with_web_identity().role_arn(role);
            let request = request.role_session_name(&name).web_identity_token(token.expose());
            request.policy(&policy).duration_seconds(seconds).send()
        });
        match response.await {
            Ok(response) => session_credentials(response.credentials),
            Err(error) => Err(self.role_refused(error, role, scope)),
        }
    }

    fn role_arn(&self, role: IamRole) -> Result<&str> {
        let config = self.config();
        let (arn, setting, purpose) = match role {
            IamRole::Access => (&config.role_arn, "role_arn", "to use it by token"),
            IamRole::Administrator => (
                &config.administrator_role_arn,
                "administrator_role_arn",
                "to delete or set policies by token, or to change the global organization",
            ),
        };
        arn.as_deref().ok_or_else(|| {
            Error::invalid(format!("{self} has no IAM role {purpose}: set {setting}"))
        })
    }
}

fn digest(token: &Token) -> Digest {
    Digester::digest(Algorithm::Sha256, token.expose().as_bytes())
}

#[cfg(test)]
#[cfg(feature = "testing")]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::SystemTime;

    use futures_util::TryStreamExt;
    use serde_json::json;

    use super::super::scripted::{
        ACCOUNT, HOST, Request, Response, Scripted, assumed, authorization, described, field,
        principal, sts_error,
    };
    use super::*;
    use crate::RegistryBackend;
    use crate::backend::{CreateOptions, DeleteOptions, Repository};
    use crate::model::{Organizations, Reference, Stage};
    use crate::testing::{TestToken, TokenIssuer};

    const ACCESS: &str = "arn:aws:iam::095412845506:role/access";
    const ADMINISTRATOR: &str = "arn:aws:iam::095412845506:role/administrator";

    fn session_by_token(key: &str, end: &str) -> Response {
        assumed("AssumeRoleWithWebIdentity", key, end)
    }

    /// A file with a token of `alice`.
    struct Holder {
        issuer: TokenIssuer,
        folder: tempfile::TempDir,
    }

    impl Holder {
        fn new() -> Self {
            let issuer = TokenIssuer::new("https://auth.example.com", "ark").unwrap();
            let holder = Self { issuer, folder: tempfile::tempdir().unwrap() };
            holder.renew("first");
            holder
        }

        /// Writes another token to the file.
        fn renew(&self, id: &str) -> String {
            let token = TestToken::new(&"user:alice".parse().unwrap()).with_claim("jti", id);
            let token = self.issuer.token(&token).unwrap();
            self.put(&token);
            token
        }

        fn put(&self, text: &str) {
            use std::os::unix::fs::PermissionsExt;
            fs::write(self.path(), text).unwrap();
            fs::set_permissions(self.path(), fs::Permissions::from_mode(0o600)).unwrap();
        }

        fn path(&self) -> std::path::PathBuf {
            self.folder.path().join("jwt.json")
        }

        /// Returns a backend with the token in the file.
        fn backend(
            &self,
            administrator: bool,
            respond: impl Fn(&Request) -> Response + Send + Sync + 'static,
        ) -> Scripted {
            let file = TokenFile::new(self.path());
            Scripted::built(
                move |builder| {
                    let builder = builder
                        .with_web_identity(file)
                        .with_role_arn(ACCESS)
                        .with_principal("user:alice");
                    match administrator {
                        true => builder.with_administrator_role_arn(ADMINISTRATOR),
                        false => builder,
                    }
                },
                ACCOUNT,
                respond,
            )
        }
    }

    /// AWS that allows every call. The access key of a session is the name of its role. Sessions expire in 2100.
    fn generous(request: &Request) -> Response {
        let name = |input: &serde_json::Value| input["repositoryName"].as_str().unwrap().to_owned();
        match request.operation.as_str() {
            "AssumeRoleWithWebIdentity" => {
                let role = field(request, "RoleArn");
                session_by_token(role.rsplit('/').next().unwrap(), "2100-01-01T00:00:00Z")
            }
            "GetAuthorizationToken" => {
                authorization(&format!("https://{HOST}"), 4_102_444_800, "AWS:secret")
            }
            "DescribeRepositories" => {
                let row = described(&path(OrganizationId::TBD).to_string());
                Response::ok(json!({ "repositories": [row] }))
            }
            "CreateRepository" | "DeleteRepository" => {
                Response::ok(json!({ "repository": described(&name(&request.input)) }))
            }
            "BatchDeleteImage" => Response::ok(json!({})),
            other => panic!("{other} is not expected"),
        }
    }

    fn path(organization: OrganizationId) -> RepositoryPath {
        format!("prod/{organization}/a").parse().unwrap()
    }

    fn assumed_roles(aws: &Scripted) -> Vec<String> {
        let requests = aws.requests().into_iter();
        let sessions = requests.filter(|request| request.operation == "AssumeRoleWithWebIdentity");
        sessions.map(|request| field(&request, "RoleArn")).collect()
    }

    async fn list(aws: &Scripted) -> Result<Vec<Repository>> {
        aws.backend.list_repositories(&Organizations::All).try_collect().await
    }

    #[tokio::test]
    async fn session_needs_only_the_token_and_is_reused() {
        let holder = Holder::new();
        let token = holder.renew("mine");
        let aws = holder.backend(false, generous);
        list(&aws).await.unwrap();
        list(&aws).await.unwrap();
        let [assume, first, second] = &aws.requests()[..] else { panic!("{:?}", aws.operations()) };
        assert_eq!(assume.key, "", "the request is not signed");
        assert_eq!(field(assume, "WebIdentityToken"), token);
        assert_eq!(field(assume, "RoleArn"), ACCESS);
        assert_eq!(field(assume, "RoleSessionName"), "user.alice");
        assert_eq!((first.key.as_str(), second.key.as_str()), ("access", "access"));
    }

    #[tokio::test]
    async fn new_token_or_expiring_session_starts_a_session() {
        let holder = Holder::new();
        let aws = holder.backend(false, generous);
        list(&aws).await.unwrap();
        holder.renew("second");
        list(&aws).await.unwrap();
        assert_eq!(assumed_roles(&aws).len(), 2);

        let soon = humantime::format_rfc3339_seconds(SystemTime::now() + SESSION_EXPIRY_MARGIN / 2)
            .to_string();
        let aws = holder.backend(false, move |request| match request.operation.as_str() {
            "AssumeRoleWithWebIdentity" => session_by_token("access", &soon),
            _ => generous(request),
        });
        list(&aws).await.unwrap();
        list(&aws).await.unwrap();
        assert_eq!(assumed_roles(&aws).len(), 2);
    }

    #[tokio::test]
    async fn administrator_operations_use_the_administrator_role() {
        let holder = Holder::new();
        let ours = path(OrganizationId::TBD);
        let global = path(OrganizationId::GLOBAL);
        let tag = "v1".parse().unwrap();
        let aws = holder.backend(true, generous);
        aws.backend.delete_repository(&ours, &DeleteOptions::default()).await.unwrap();
        aws.backend.delete_image(&ours, &Reference::Tag(tag)).await.unwrap();
        aws.backend.create_repository(&global, &CreateOptions::default()).await.unwrap();
        let keys = aws.requests().into_iter().map(|request| (request.operation, request.key));
        let changes: Vec<_> = keys
            .filter(|(name, _)| name.starts_with("Create") || name.contains("Delete"))
            .collect();
        assert_eq!(changes.len(), 3);
        assert!(changes.iter().all(|(_, key)| key == "administrator"), "{changes:?}");

        let aws = holder.backend(true, generous);
        aws.backend.create_repository(&ours, &CreateOptions::default()).await.unwrap();
        assert_eq!(assumed_roles(&aws), [ACCESS]);
    }

    #[tokio::test]
    async fn missing_role_names_the_setting() {
        let holder = Holder::new();
        let aws = holder.backend(false, |_| panic!("no call is expected"));
        let (ours, options) = (path(OrganizationId::TBD), DeleteOptions::default());
        let error = aws.backend.delete_repository(&ours, &options).await.unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
        assert!(error.to_string().ends_with("set administrator_role_arn"), "{error}");
        let file = TokenFile::new(holder.path());
        let aws = Scripted::built(|builder| builder.with_web_identity(file), ACCOUNT, generous);
        let error = list(&aws).await.unwrap_err();
        assert!(error.to_string().ends_with("to use it by token: set role_arn"), "{error}");
    }

    #[tokio::test]
    async fn login_is_narrowed_under_the_role_of_its_scope() {
        let holder = Holder::new();
        for (organization, access, role) in [
            (OrganizationId::TBD, Access::Pull, ACCESS),
            (OrganizationId::TBD, Access::Push, ACCESS),
            (OrganizationId::TBD, Access::Delete, ADMINISTRATOR),
            (OrganizationId::GLOBAL, Access::Pull, ACCESS),
            (OrganizationId::GLOBAL, Access::Push, ADMINISTRATOR),
        ] {
            let scopes = [
                Scope::repository(path(organization), access),
                Scope::organizations(Stage::default(), [organization], access),
            ];
            for scope in scopes {
                let aws = holder.backend(true, generous);
                let credentials =
                    aws.backend.credentials(&scope, &Default::default()).await.unwrap();
                assert_eq!(credentials.narrowing, crate::credentials::Narrowing::Scoped);
                let [assume, login] = &aws.requests()[..] else { panic!("{:?}", aws.operations()) };
                assert_eq!(field(assume, "RoleArn"), role, "{scope}");
                let policy = session_policy(&HOST.parse().unwrap(), &scope, &[]).unwrap();
                assert_eq!(field(assume, "Policy"), policy);
                assert_eq!(login.key, role.rsplit('/').next().unwrap());
            }
        }
    }

    #[tokio::test]
    async fn cached_login_is_for_one_token() {
        let holder = Holder::new();
        let folder = tempfile::tempdir().unwrap();
        let backend = |folder: &Path| {
            let (file, folder) = (TokenFile::new(holder.path()), folder.to_owned());
            Scripted::built(
                move |builder| {
                    builder
                        .with_web_identity(file)
                        .with_role_arn(ACCESS)
                        .with_cache_directory(folder)
                },
                ACCOUNT,
                generous,
            )
        };
        let scope = Scope::repository(path(OrganizationId::TBD), Access::Pull);
        backend(folder.path()).backend.credentials(&scope, &Default::default()).await.unwrap();
        let again = backend(folder.path());
        again.backend.credentials(&scope, &Default::default()).await.unwrap();
        assert_eq!(again.operations(), Vec::<String>::new());
        holder.renew("of somebody else");
        let other = backend(folder.path());
        other.backend.credentials(&scope, &Default::default()).await.unwrap();
        assert_eq!(other.operations(), ["AssumeRoleWithWebIdentity", "GetAuthorizationToken"]);
    }

    #[tokio::test]
    async fn sts_errors_map_to_error_kinds() {
        type Is = fn(&Error) -> bool;
        let unauthenticated: Is = |error| matches!(error, Error::Unauthenticated { .. });
        let cases: [(&str, &str, Is, &str); 6] = [
            (
                "InvalidIdentityToken",
                "Incorrect token audience",
                unauthenticated,
                "AWS rejected the token in",
            ),
            ("IDPRejectedClaim", "no", unauthenticated, "AWS rejected the token in"),
            (
                "ExpiredTokenException",
                "Token expired",
                unauthenticated,
                "has expired; put a new token in",
            ),
            (
                "IDPCommunicationError",
                "try again",
                |error| matches!(error, Error::Temporary { .. }),
                "cannot assume the role",
            ),
            (
                "AccessDenied",
                "Not authorized to perform sts:AssumeRoleWithWebIdentity",
                |error| matches!(error, Error::PermissionDenied { .. }),
                "user:alice may not assume the role",
            ),
            (
                "PackedPolicyTooLarge",
                "Packed policy consumes 110%",
                |error| matches!(error, Error::InvalidInput { .. }),
                "get a token with fewer organizations",
            ),
        ];
        let holder = Holder::new();
        for (code, message, is, text) in cases {
            let aws = holder.backend(false, move |_| sts_error(code, message));
            let scope = Scope::repository(path(OrganizationId::TBD), Access::Pull);
            let error = aws.backend.credentials(&scope, &Default::default()).await.unwrap_err();
            assert!(is(&error), "{error:?}");
            assert!(error.to_string().contains(text), "{error}");
        }
    }

    #[tokio::test]
    async fn missing_or_expired_token_makes_no_call() {
        let holder = Holder::new();
        fs::remove_file(holder.path()).unwrap();
        let aws = holder.backend(true, |_| panic!("no call is expected"));
        let error = list(&aws).await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
        let late = TestToken::new(&"user:alice".parse().unwrap());
        let late = late.expiring_at(SystemTime::now() - Duration::from_secs(3600));
        holder.put(&holder.issuer.token(&late).unwrap());
        let scope = Scope::repository(path(OrganizationId::TBD), Access::Pull);
        let error = aws.backend.credentials(&scope, &Default::default()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthenticated { .. }), "{error:?}");
    }

    #[tokio::test]
    async fn principals_do_not_share_sessions() {
        let holder = Holder::new();
        let aws = holder.backend(true, generous);
        let ours = path(OrganizationId::TBD);
        for name in ["user:alice", "user:bob", "user:alice", "user:bob"] {
            let backend = aws.backend.acting_as(&principal(name));
            backend.create_repository(&ours, &CreateOptions::default()).await.unwrap();
            backend.delete_repository(&ours, &DeleteOptions::default()).await.unwrap();
            backend
                .credentials(&Scope::repository(ours.clone(), Access::Pull), &Default::default())
                .await
                .unwrap();
        }
        let requests = aws.requests().into_iter();
        let sessions = requests.filter(|request| request.operation == "AssumeRoleWithWebIdentity");
        let names: Vec<_> = sessions.map(|request| field(&request, "RoleSessionName")).collect();
        // Each principal has a session of the access role, of the administrator role, and for the login.
        assert_eq!(names, [["user.alice"; 3], ["user.bob"; 3]].concat());
    }
}
