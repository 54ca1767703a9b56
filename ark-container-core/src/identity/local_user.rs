//! The local user: who asks where nobody has to log in.

use std::sync::Arc;

use async_trait::async_trait;

use super::kept::Kept;
use super::memberships::MembershipsFile;
use super::{IdentitySource, Principal, PrincipalKind, PrincipalName};
use crate::error::{Error, Result};
use crate::model::Organizations;

/// Who asks on this machine: `chosen` where it is given, else the operating system's user.
///
/// The operating system is asked for the user of this process, not for `USER` or `LOGNAME`, which
/// anyone can set. `chosen` is text such as `user:alice`, `robot:nightly` or `ingest-job:42`, for a
/// registry of this machine: it is taken at its word.
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
/// [`Error::Parse`] if `chosen` is no principal; [`Error::Unauthenticated`] if the operating system
/// has no name for the user, as in a container that runs under a bare number.
pub fn local_user(chosen: Option<&str>) -> Result<PrincipalName> {
    if let Some(chosen) = chosen {
        return Ok(chosen.parse()?);
    }
    let user = whoami::username().map_err(|error| {
        Error::unauthenticated("the operating system has no name for this user").with_source(error)
    })?;
    Ok(PrincipalName::new(PrincipalKind::User, &user)?)
}

/// The principal of a single-user registry, one without a memberships file.
///
/// It is a member of every organization. A user administers them all too; robots and ingest jobs
/// do not, so that what they may do stays the same once there are memberships.
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

/// The local user as the source of who asks: in the organizations that a memberships file gives them,
/// or, without one, as the [single user](single_user).
///
/// ```
/// use ark_container_core::identity::{IdentitySource, LocalUser, MembershipsFile, local_user};
///
/// # async fn example() -> ark_container_core::Result<()> {
/// let memberships = MembershipsFile::open("/etc/ark/memberships.toml")?;
/// let source = LocalUser::new(local_user(None)?).with_memberships(memberships);
/// println!("{} asks", source.principal().await?);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LocalUser(Source);

#[derive(Debug)]
enum Source {
    Single(Arc<Principal>),
    Listed { name: PrincipalName, memberships: MembershipsFile, kept: Kept },
}

impl LocalUser {
    /// The user called `name`, the single one.
    pub fn new(name: PrincipalName) -> Self {
        Self(Source::Single(Arc::new(single_user(name))))
    }

    /// The same user, in the organizations that the file gives them, also when it changes.
    pub fn with_memberships(self, memberships: MembershipsFile) -> Self {
        let name = match self.0 {
            Source::Single(principal) => principal.name().clone(),
            Source::Listed { name, .. } => name,
        };
        Self(Source::Listed { name, memberships, kept: Kept::default() })
    }
}

#[async_trait]
impl IdentitySource for LocalUser {
    async fn principal(&self) -> Result<Arc<Principal>> {
        match &self.0 {
            Source::Single(principal) => Ok(Arc::clone(principal)),
            Source::Listed { name, memberships, kept } => kept
                .principal(memberships.current(), |memberships| {
                    Ok(memberships.principal(name.clone()))
                }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::OrganizationId;

    #[test]
    fn the_operating_system_names_a_user() {
        let name = local_user(None).unwrap();
        assert_eq!(name.kind(), PrincipalKind::User);
        assert_eq!(name.id(), whoami::username().unwrap());
    }

    #[test]
    fn a_chosen_principal_must_be_one() {
        assert_eq!(local_user(Some("ingest-job:42")).unwrap().to_string(), "ingest-job:42");
        for bad in ["", "alice", "user:", "admin:alice", "user:a\nb"] {
            assert!(matches!(local_user(Some(bad)), Err(Error::Parse(_))), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn without_a_file_there_is_a_single_user() {
        let alice: PrincipalName = "user:alice".parse().unwrap();
        let single = LocalUser::new(alice.clone()).principal().await.unwrap();
        assert_eq!(*single, single_user(alice));
    }

    #[tokio::test]
    async fn a_file_says_where_the_user_belongs() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let text =
            format!("[[organization]]\nid = \"{}\"\nkinds = [\"user\"]", OrganizationId::TBD);
        std::fs::write(file.path(), text).unwrap();
        let memberships = MembershipsFile::open(file.path()).unwrap();
        let source = LocalUser::new("user:alice".parse().unwrap()).with_memberships(memberships);
        let alice = source.principal().await.unwrap();
        assert_eq!(alice.organizations(), OrganizationId::TBD.into());
        assert!(!alice.administers(OrganizationId::TBD));
        assert!(Arc::ptr_eq(&alice, &source.principal().await.unwrap()));
    }
}
