//! [`AwsCaller`]: whoever the AWS credentials belong to.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use tokio::sync::Mutex;

use super::kept::Kept;
use super::memberships::MembershipsFile;
use super::{IdentitySource, Principal, PrincipalKind, PrincipalName};
use crate::error::Result;
use crate::model::Organizations;

/// How long the credentials are taken to be the same caller's.
const KEPT_FOR: Duration = Duration::from_secs(300);

/// Whoever the AWS credentials of this process belong to, as the [memberships
/// file](super::memberships#callers-of-aws) maps them.
///
/// A caller whom the file does not map is a user called by their ARN, and a member of nothing: neither
/// by kind nor by that name, in which a session of a role has chosen the last part.
///
/// AWS is asked at first, and again after five minutes; a change of the file is noticed at once.
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
/// println!("{} asks", caller.principal().await?);
/// # Ok(())
/// # }
/// ```
pub struct AwsCaller {
    ask: Ask,
    memberships: MembershipsFile,
    last: Mutex<Option<Answer>>,
}

type Ask = Box<dyn Fn() -> Pin<Box<dyn Future<Output = Result<String>> + Send>> + Send + Sync>;

/// What AWS has said.
struct Answer {
    arn: String,
    at: Instant,
    principal: Kept,
}

impl AwsCaller {
    /// The caller whose ARN `ask` gets by STS GetCallerIdentity, mapped by `memberships`.
    ///
    /// What `ask` fails with, [`principal`](IdentitySource::principal) fails with, and the next call
    /// asks again.
    pub fn new<F, A>(ask: F, memberships: MembershipsFile) -> Self
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String>> + Send + 'static,
    {
        Self { ask: Box::new(move || Box::pin(ask())), memberships, last: Mutex::new(None) }
    }
}

impl fmt::Debug for AwsCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AwsCaller").field("memberships", &self.memberships.path()).finish()
    }
}

#[async_trait]
impl IdentitySource for AwsCaller {
    async fn principal(&self) -> Result<Arc<Principal>> {
        let mut last = self.last.lock().await;
        let answer = match &mut *last {
            Some(answer) if answer.at.elapsed() < KEPT_FOR => answer,
            stale => {
                let arn = (self.ask)().await?;
                stale.insert(Answer { arn, at: Instant::now(), principal: Kept::default() })
            }
        };
        let Answer { arn, principal, .. } = answer;
        principal.principal(self.memberships.current(), |memberships| {
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
    use crate::error::Error;
    use crate::model::OrganizationId;

    const FILE: &str = r#"
        [[organization]]
        id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
        kinds = ["user"]
        administrators = ["user:arn:aws:sts::095412845506:assumed-role/shared/carol"]

        [[aws]]
        arn = "arn:aws:iam::095412845506:user/alice"
        principal = "user:alice"
    "#;

    fn caller<F, A>(ask: F) -> (tempfile::NamedTempFile, AwsCaller)
    where
        F: Fn() -> A + Send + Sync + 'static,
        A: Future<Output = Result<String>> + Send + 'static,
    {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), FILE).unwrap();
        let caller = AwsCaller::new(ask, MembershipsFile::open(file.path()).unwrap());
        (file, caller)
    }

    #[tokio::test]
    async fn aws_is_asked_once_for_many_calls() {
        let asked = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&asked);
        let (_file, caller) = caller(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            async { Ok("arn:aws:iam::095412845506:user/alice".to_owned()) }
        });
        let alice = caller.principal().await.unwrap();
        assert_eq!(alice.to_string(), "user:alice");
        assert!(alice.is_member_of(OrganizationId::TBD));
        assert!(Arc::ptr_eq(&alice, &caller.principal().await.unwrap()));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn other_credentials_are_noticed_after_a_while() {
        let asked = Arc::new(AtomicUsize::new(0));
        let (_file, caller) = caller(move || {
            let name = ["alice", "bob"][asked.fetch_add(1, Ordering::Relaxed)];
            async move { Ok(format!("arn:aws:iam::095412845506:user/{name}")) }
        });
        assert_eq!(caller.principal().await.unwrap().to_string(), "user:alice");
        let long_ago = Instant::now().checked_sub(KEPT_FOR).unwrap();
        caller.last.lock().await.as_mut().unwrap().at = long_ago;
        let bob = caller.principal().await.unwrap();
        assert_eq!(bob.to_string(), "user:arn:aws:iam::095412845506:user/bob");
    }

    #[tokio::test]
    async fn whoever_is_not_mapped_is_a_member_of_nothing() {
        let arn = "arn:aws:sts::095412845506:assumed-role/shared/carol";
        let (_file, caller) = caller(move || async move { Ok(arn.to_owned()) });
        let stranger = caller.principal().await.unwrap();
        assert_eq!(stranger.to_string(), format!("user:{arn}"));
        assert_eq!(stranger.organizations(), Organizations::none());
    }

    #[tokio::test]
    async fn a_failure_is_not_kept() {
        let fails = Arc::new(AtomicUsize::new(1));
        let (_file, caller) = caller(move || {
            let fails = fails.swap(0, Ordering::Relaxed) == 1;
            async move {
                match fails {
                    true => Err(Error::temporary("STS is away")),
                    false => Ok("arn:aws:iam::095412845506:user/alice".to_owned()),
                }
            }
        });
        assert!(caller.principal().await.unwrap_err().is_temporary());
        assert_eq!(caller.principal().await.unwrap().to_string(), "user:alice");
    }

    #[tokio::test]
    async fn what_is_no_arn_is_nobody() {
        let (_file, caller) = caller(|| async { Ok("alice".to_owned()) });
        assert!(matches!(caller.principal().await, Err(Error::Parse(_))));
    }
}
