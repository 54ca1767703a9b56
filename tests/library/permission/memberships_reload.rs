//! A long-running program follows its memberships file.

use std::io;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ark_container_core::Error;
use ark_container_core::identity::LocalUser;
use ark_container_core::model::OrganizationId;
use ark_container_core::permission::{Action, MembershipsPolicy, Permissioned};
use tracing_subscriber::fmt::MakeWriter;

use super::memberships::file;
use super::{attempt, expecting_one};

const DEADLINE: Duration = Duration::from_secs(30);

/// What a program writes to its log.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    /// The lines about memberships.
    fn lines(&self) -> Vec<String> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        text.lines().filter(|line| line.contains("memberships")).map(str::to_owned).collect()
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn members(members: &str) -> String {
    format!("[[organization]]\nid = \"{}\"\nmembers = [{members}]\n", OrganizationId::TBD)
}

#[tokio::test]
async fn whoever_loses_their_membership_is_soon_denied() {
    let (temporary, memberships) = file(&members("'user:alice'"));
    let alice = LocalUser::new("user:alice".parse().unwrap()).with_memberships(memberships.clone());
    let inner = expecting_one(Action::Pull, OrganizationId::TBD);
    let policy = MembershipsPolicy::new(memberships);
    let backend = Permissioned::new(inner, policy, alice);
    attempt(&backend, Action::Pull, OrganizationId::TBD).await.unwrap();

    std::fs::write(temporary.path(), members("'user:bob'")).unwrap();
    let start = Instant::now();
    while backend.principal().await.unwrap().is_member_of(OrganizationId::TBD) {
        assert!(start.elapsed() < DEADLINE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // The backend inside takes one call and panics at another.
    let denied = attempt(&backend, Action::Pull, OrganizationId::TBD).await;
    assert!(matches!(denied, Err(Error::PermissionDenied { .. })), "{denied:?}");
}

#[test]
fn a_bad_file_is_warned_of_once_and_changes_nothing() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_writer(log.clone()).with_ansi(false).finish();
    tracing::subscriber::with_default(subscriber, || {
        let (temporary, memberships) = file(&members("'user:alice'"));
        let good = memberships.current();
        std::fs::write(temporary.path(), members("'alice'")).unwrap();
        let look_until = |done: &dyn Fn() -> bool| {
            let start = Instant::now();
            while !done() {
                assert!(start.elapsed() < DEADLINE, "{:?}", log.lines());
                thread::sleep(Duration::from_millis(20));
                memberships.current();
            }
        };
        look_until(&|| !log.lines().is_empty());
        let warned = log.lines();
        assert!(warned[0].contains("WARN"), "{warned:?}");
        let place = format!("{}:3:12: ", temporary.path().display());
        assert!(warned[0].contains(&place), "{warned:?}");
        assert!(Arc::ptr_eq(&good, &memberships.current()));

        // The file is looked at again more than once in this time.
        let warned_at = Instant::now();
        look_until(&|| warned_at.elapsed() > Duration::from_millis(2500));
        assert_eq!(log.lines(), warned);

        std::fs::write(temporary.path(), members("'user:bob'")).unwrap();
        look_until(&|| log.lines().len() > 1);
        assert!(log.lines()[1].contains("INFO"), "{:?}", log.lines());
        let bob = memberships.current().principal("user:bob".parse().unwrap());
        assert!(bob.is_member_of(OrganizationId::TBD));
    });
}
