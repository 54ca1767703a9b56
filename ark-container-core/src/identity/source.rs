//! [`IdentitySource`]: determines the principal. [`LocalUser`] and [`AwsCaller`] need no token.

use std::fmt::{self, Debug};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use super::{Memberships, MembershipsFile, Principal, PrincipalKind, PrincipalName};
use crate::error::{Error, Result};
use crate::model::Organizations;

/// The time for which the ARN of an AWS caller is cached.
const CALLER_ARN_LIFETIME: Duration = Duration::from_secs(300);

/// A source of the principal that a program works for.
///
/// Each operation asks the source again, so that a long-running program uses a renewed token or a changed
/// memberships file. A source caches its answer, and returns it without delay while nothing has changed.
///
/// A [`Principal`] is a source of itself. A service that acts for many principals needs no source: it
/// passes each caller to [`Permissioned::for_principal`](crate::permission::Permissioned::for_principal).
#[async_trait]
pub trait IdentitySource: Debug + Send + Sync + 'static {
    /// Returns the current principal.
    ///
    /// # Errors
    /// [`Error::Unauthenticated`](crate::Error::Unauthenticated) if there is no principal, or its token has
    /// expired or is invalid. Other errors if the source cannot determine it.
    async fn principal(&self) -> Result<Arc<Principal>>;
}

#[async_trait]
impl IdentitySource for Principal {
    async fn principal(&self) -> Result<Arc<Principal>> {
        Ok(Arc::new(self.clone()))
    }
}

#[async_trait]
impl IdentitySource for Arc<Principal> {
    async fn principal(&self) -> Result<Arc<Principal>> {
        Ok(Arc::clone(self))
    }
}

#[async_trait]
impl IdentitySource for Arc<dyn IdentitySource> {
    async fn principal(&self) -> Result<Arc<Principal>> {
        self.as_ref().principal().await
    }
}

/// The last principal, and the memberships from which it was created.
#[derive(Debug, Default)]
struct PrincipalCache(Mutex<Option<(Arc<Memberships>, Arc<Principal>)>>);

impl PrincipalCache {
    /// Returns the cached principal if `memberships` have not changed, or the result of `find`.
    fn get_or_find(
        &self,
        memberships: Arc<Memberships>,
        find: impl FnOnce(&Memberships) -> Result<Principal>,
    ) -> Result<Arc<Principal>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((from, principal)) = &*cached
            && Arc::ptr_eq(from, &memberships)
        {
            return Ok(Arc::clone(principal));
        }
        let principal = Arc::new(find(&memberships)?);
        *cached = Some((memberships, Arc::clone(&principal)));
        Ok(principal)
    }
}

/// Returns the name of the local user: `chosen`, or by default the user of this process in the operating system.
///
/// The environment variables `USER` and `LOGNAME` are ignored, because anyone can set them. `chosen` is a principal
/// such as `user:alice`, `robot:nightly` or `ingest-job:42`, for a local registry, and is not verified.
///
/// ```
/// use ark_container_core::identity::{PrincipalKind, local_user};
///
/// let robot = local_user(Some("robot:nightly"))?;
/// assert_eq!((robot.kind(), robot.id()), (PrincipalKind::Robot, "nightly"));
/// # Ok::<(), ark_container_core::Error>(())
/// ```
///
/// # Errors
/// - [`Error::Parse`] if `chosen` is not a principal
/// - [`Error::Unauthenticated`] if the operating system has no name for the user ID of this process, as in
///   some containers
pub fn local_user(chosen: Option<&str>) -> Result<PrincipalName> {
    if let Some(chosen) = chosen {
        return Ok(chosen.parse()?);
    }
    let user = whoami::username().map_err(|error| {
        Error::unauthenticated("the operating system has no name for this user").with_source(error)
    })?;
    Ok(PrincipalName::new(PrincipalKind::User, &user)?)
}

/// Returns the principal of a single-user registry, which has no memberships file.
///
/// The principal is a member of every organization. A user also administers every organization. A robot or
/// an ingest job does not, so that its permissions stay the same when memberships are added.
///
/// ```
/// use ark_container_core::identity::single_user;
/// use ark_container_core::model::OrganizationId;
///
/// let alice = single_user("user:alice".parse()?);
/// assert!(alice.administers(OrganizationId::TBD));
/// let nightly = single_user("robot:nightly".parse()?);
/// assert!(nightly.is_member_of(OrganizationId::TBD));
/// assert!(!nightly.administers(OrganizationId::TBD));
/// # Ok::<(), ark_container_core::Error>(())
/// ```
pub fn single_user(name: PrincipalName) -> Principal {
    let administers = match name.kind() {
        PrincipalKind::User => Organizations::All,
        PrincipalKind::Robot | PrincipalKind::IngestJob => Organizations::none(),
    };
    Principal::new(name, Organizations::All, administers)
}

/// The local user as an identity source. A memberships file defines its organizations. Without a file the
/// user is the [single user](single_user) of the registry.
///
/// ```
/// use ark_container_core::identity::{IdentitySource, LocalUser, MembershipsFile, local_user};
///
/// # async fn example() -> ark_container_core::Result<()> {
/// let memberships = MembershipsFile::open("/etc/ark/memberships.toml")?;
/// let source = LocalUser::new(local_user(None)?).with_memberships(memberships);
/// println!("working for {}", source.principal().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalUser {
    single: Arc<Principal>,
    memberships: Option<MembershipsFile>,
    cache: PrincipalCache,
}

impl LocalUser {
    /// Creates the single user with this name.
    pub fn new(name: PrincipalName) -> Self {
        let single = Arc::new(single_user(name));
        Self { single, memberships: None, cache: PrincipalCache::default() }
    }

    /// Takes the user's organizations from a memberships file, which is read again when it changes.
    pub fn with_memberships(self, memberships: MembershipsFile) -> Self {
        Self { memberships: Some(memberships), cache: PrincipalCache::default(), ..self }
    }
}

#[async_trait]
impl IdentitySource for LocalUser {
    async fn principal(&self) -> Result<Arc<Principal>> {
        let Some(file) = &self.memberships else { return Ok(Arc::clone(&self.single)) };
        let find =
            |memberships: &Memberships| Ok(memberships.principal(self.single.name().clone()));
        self.cache.get_or_find(file.current(), find)
    }
}

/// The owner of the AWS credentials of this process. The [memberships
/// file](super::memberships#callers-of-aws) maps the caller to a principal.
///
/// A caller that the file does not map becomes a user whose id is the ARN. This user is a member of no organization,
/// even if the file lists the kind `user` or that name: a caller that assumes a role chooses the last part of its ARN.
///
/// The ARN is requested from AWS at the first use and cached for five minutes. A change of the file takes
/// effect within a second.
///
/// ```no_run
/// use ark_container_core::Result;
/// use ark_container_core::identity::{AwsCaller, IdentitySource, MembershipsFile};
///
/// # async fn example() -> Result<()> {
/// async fn caller_arn() -> Result<String> {
///     // STS GetCallerIdentity, by the program's own client.
/// #   Ok("arn:aws:iam::095412845506:user/alice".to_owned())
/// }
///
/// let memberships = MembershipsFile::open("/etc/ark/memberships.toml")?;
/// let caller = AwsCaller::new(caller_arn, memberships);
/// println!("working for {}", caller.principal().await?);
/// # Ok(())
/// # }
/// ```
pub struct AwsCaller {
    get_arn: GetArn,
    memberships: MembershipsFile,
    last: tokio::sync::Mutex<Option<CallerArn>>,
}

type GetArn = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String>> + Send>> + Send + Sync>;

/// The ARN of the caller, the time of the request to AWS, and the last principal.
struct CallerArn {
    arn: String,
    at: Instant,
    cache: PrincipalCache,
}

impl AwsCaller {
    /// Creates a source that gets the ARN of the caller from `get_arn`, usually by STS `GetCallerIdentity`,
    /// and maps it by `memberships`.
    ///
    /// [`principal`](IdentitySource::principal) returns an error of `get_arn` unchanged. The next call tries again.
    pub fn new<F, A>(get_arn: F, memberships: MembershipsFile) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String>> + Send + 'static,
    {
        let get_arn: GetArn = Box::new(move || Box::pin(get_arn()));
        Self { get_arn, memberships, last: tokio::sync::Mutex::new(None) }
    }
}

impl Debug for AwsCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCaller").field("memberships", &self.memberships.path()).finish()
    }
}

#[async_trait]
impl IdentitySource for AwsCaller {
    async fn principal(&self) -> Result<Arc<Principal>> {
        let mut last = self.last.lock().await;
        let CallerArn { arn, cache, .. } = match &mut *last {
            Some(caller) if caller.at.elapsed() < CALLER_ARN_LIFETIME => caller,
            stale => {
                let arn = (self.get_arn)().await?;
                stale.insert(CallerArn {
                    arn,
                    at: Instant::now(),
                    cache: PrincipalCache::default(),
                })
            }
        };
        cache.get_or_find(self.memberships.current(), |memberships| {
            Ok(match memberships.aws_principal(arn)? {
                Some(name) => memberships.principal(name),
                None => {
                    let name = PrincipalName::new(PrincipalKind::User, arn)?;
                    Principal::new(name, Organizations::none(), Organizations::none())
                }
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::model::OrganizationId;

    const ALICE: &str = "arn:aws:iam::095412845506:user/alice";
    const CAROL: &str = "arn:aws:sts::095412845506:assumed-role/shared/carol";

    /// A file in which users are members; `ALICE` is mapped to `user:alice`, and `CAROL` is not mapped.
    fn memberships() -> (tempfile::NamedTempFile, MembershipsFile) {
        let tbd = OrganizationId::TBD;
        let text = format!(
            "[[organization]]\nid = '{tbd}'\nkinds = ['user']\nadministrators = ['user:{CAROL}']\n\
             [[aws]]\narn = '{ALICE}'\nprincipal = 'user:alice'\n"
        );
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let memberships = MembershipsFile::open(file.path()).unwrap();
        (file, memberships)
    }

    /// Returns a caller for whom AWS returns these answers in order, and the number of requests.
    fn caller<const N: usize>(
        answers: [Result<&'static str, &'static str>; N],
    ) -> (tempfile::NamedTempFile, AwsCaller, Arc<AtomicUsize>) {
        let (file, memberships) = memberships();
        let requests = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&requests);
        let get_arn = move || {
            let answer = answers[counter.fetch_add(1, Ordering::Relaxed)];
            async move { answer.map(str::to_owned).map_err(Error::temporary) }
        };
        (file, AwsCaller::new(get_arn, memberships), requests)
    }

    #[test]
    fn local_user_defaults_to_operating_system_user() {
        let name = local_user(None).unwrap();
        assert_eq!(name.kind(), PrincipalKind::User);
        assert_eq!(name.id(), whoami::username().unwrap());
    }

    #[test]
    fn chosen_local_user_is_parsed() {
        assert_eq!(local_user(Some("ingest-job:42")).unwrap().to_string(), "ingest-job:42");
        for bad in ["", "alice", "user:", "admin:alice", "user:a\nb"] {
            assert!(matches!(local_user(Some(bad)), Err(Error::Parse(_))), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn local_user_has_memberships_of_the_file() {
        let name: PrincipalName = "user:alice".parse().unwrap();
        let source = LocalUser::new(name.clone());
        assert_eq!(*source.principal().await.unwrap(), single_user(name));

        let (_file, memberships) = memberships();
        let source = source.with_memberships(memberships);
        let alice = source.principal().await.unwrap();
        assert_eq!(alice.organizations(), OrganizationId::TBD.into());
        assert!(!alice.administers(OrganizationId::TBD));
        assert!(Arc::ptr_eq(&alice, &source.principal().await.unwrap()));
    }

    #[tokio::test]
    async fn aws_caller_is_cached_until_its_lifetime_ends() {
        let (_file, caller, requests) = caller([Ok(ALICE), Ok(CAROL)]);
        let alice = caller.principal().await.unwrap();
        assert_eq!(alice.to_string(), "user:alice");
        assert!(alice.is_member_of(OrganizationId::TBD));
        assert!(Arc::ptr_eq(&alice, &caller.principal().await.unwrap()));
        assert_eq!(requests.load(Ordering::Relaxed), 1);

        let long_ago = Instant::now().checked_sub(CALLER_ARN_LIFETIME).unwrap();
        caller.last.lock().await.as_mut().unwrap().at = long_ago;
        let unmapped = caller.principal().await.unwrap();
        assert_eq!(unmapped.to_string(), format!("user:{CAROL}"));
        assert_eq!(unmapped.organizations(), Organizations::none());
    }

    #[tokio::test]
    async fn aws_caller_failure_is_not_cached() {
        let (_file, caller, _) = caller([Err("STS is unavailable"), Ok("alice"), Ok(ALICE)]);
        assert!(caller.principal().await.unwrap_err().is_temporary());
        assert!(matches!(caller.principal().await, Err(Error::Parse(_))));
        let long_ago = Instant::now().checked_sub(CALLER_ARN_LIFETIME).unwrap();
        caller.last.lock().await.as_mut().unwrap().at = long_ago;
        assert_eq!(caller.principal().await.unwrap().to_string(), "user:alice");
    }
}
