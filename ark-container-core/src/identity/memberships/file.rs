//! [`MembershipsFile`]: memberships that follow their file.

use std::fs;
use std::iter;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::Memberships;
use crate::error::{Error, Result};

/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How old a change must be to be told from the next by its time: some file systems count in
/// seconds.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// A memberships file that is read again when it changes. Clones share what was read.
///
/// Once it has been read, there are always memberships: while a changed file is wrong, missing, or one
/// that [others can change](super#safety), the last good ones stand, and a warning says so once through
/// [`tracing`]. A file that is replaced by a rename is never seen half written.
///
/// ```
/// use ark_container_core::identity::MembershipsFile;
///
/// # let temporary = tempfile::NamedTempFile::new().unwrap();
/// # let path = temporary.path();
/// let file = MembershipsFile::open(path)?;
/// let alice = file.current().principal("user:alice".parse()?);
/// # Ok::<(), ark_container_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct MembershipsFile(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    memberships: Arc<Memberships>,
    looked: Instant,
    read: Option<Stamp>,
    /// What was last said about a file that was not taken; `None` once one was.
    refused: Option<String>,
}

impl MembershipsFile {
    /// Reads the file. Blocks while it reads.
    ///
    /// # Errors
    /// Those of [`Memberships::load`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let read = Stamp::of(&path);
        let memberships = Arc::new(Memberships::load(&path)?);
        let state = State { memberships, looked: Instant::now(), read, refused: None };
        Ok(Self(Arc::new(Shared { path, state: Mutex::new(state) })))
    }

    /// Where the file is.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What the file says. A change is seen within a second; as long as there is none, every call
    /// returns the same [`Arc`].
    ///
    /// Blocks for as long as it takes to look at the file, at most once a second, and to read it when
    /// it has changed.
    pub fn current(&self) -> Arc<Memberships> {
        self.look(LOOK_EVERY)
    }

    /// What the file says, looked at if that was not done within the time `every`.
    fn look(&self, every: Duration) -> Arc<Memberships> {
        // What a thread leaves that panics is whole: each field is set by itself.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.elapsed() >= every {
            state.follow(&self.0.path);
            state.looked = Instant::now();
        }
        Arc::clone(&state.memberships)
    }
}

impl State {
    fn follow(&mut self, path: &Path) {
        let now = Stamp::of(path);
        let is_known = now == self.read && now.as_ref().is_some_and(|stamp| stamp.is_settled);
        // What was wrong may have been the folder, which has no part in the stamp.
        if is_known && self.refused.is_none() {
            return;
        }
        // The stamp is from before the reading: what changes from here on has another.
        self.read = now;
        match Memberships::load(path) {
            Ok(memberships) => self.take(path, memberships),
            Err(error) => self.refuse(path, &error),
        }
    }

    fn take(&mut self, path: &Path, memberships: Memberships) {
        let is_changed = memberships != *self.memberships;
        if self.refused.take().is_some() || is_changed {
            tracing::info!(file = %path.display(), "the changed memberships are taken");
        }
        if is_changed {
            self.memberships = Arc::new(memberships);
        }
    }

    fn refuse(&mut self, path: &Path, error: &Error) {
        let causes =
            iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        let problem = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        if self.refused.as_ref() != Some(&problem) {
            tracing::warn!(
                file = %path.display(),
                error = problem,
                "the changed memberships are not taken; those from before stand"
            );
            self.refused = Some(problem);
        }
    }
}

/// What tells that a file is the same and has the same content, owner and permissions.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    /// Unlike the time of modification, nobody can set it.
    changed: (i64, i64),
    is_settled: bool,
}

impl Stamp {
    /// Of the file at `path`; `None` while there is none.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok()?;
        let changed = Duration::from_secs(u64::try_from(metadata.ctime()).unwrap_or_default());
        let age = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH + changed);
        Some(Self {
            file: (metadata.dev(), metadata.ino()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            is_settled: age.is_ok_and(|age| age > SETTLED_AFTER),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::OrganizationId;

    const NOW: Duration = Duration::ZERO;

    fn with_member(member: &str) -> String {
        format!("[[organization]]\nid = \"{}\"\nmembers = [\"{member}\"]\n", OrganizationId::TBD)
    }

    fn is_member(memberships: &Memberships, name: &str) -> bool {
        memberships.principal(name.parse().unwrap()).is_member_of(OrganizationId::TBD)
    }

    fn opened(text: &str) -> (tempfile::TempDir, MembershipsFile) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memberships.toml");
        create(&path, text);
        let file = MembershipsFile::open(path).unwrap();
        (folder, file)
    }

    /// Whatever the umask is.
    fn create(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        chmod(path, 0o644);
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_change_is_seen_by_every_clone() {
        let (_folder, file) = opened(&with_member("user:alice"));
        let clone = file.clone();
        assert!(is_member(&file.look(NOW), "user:alice"));
        fs::write(file.path(), with_member("user:bobby")).unwrap();
        assert!(is_member(&file.look(NOW), "user:bobby"));
        assert!(!is_member(&clone.current(), "user:alice"));
    }

    #[test]
    fn nothing_is_looked_at_twice_in_a_second() {
        let (_folder, file) = opened(&with_member("user:alice"));
        fs::write(file.path(), with_member("user:bobby")).unwrap();
        assert!(is_member(&file.look(Duration::from_secs(3600)), "user:alice"));
    }

    #[test]
    fn the_same_content_is_the_same_memberships() {
        let (folder, file) = opened(&with_member("user:alice"));
        let before = file.look(NOW);
        let other = folder.path().join("other");
        create(&other, &with_member("user:alice"));
        fs::rename(other, file.path()).unwrap();
        assert!(Arc::ptr_eq(&before, &file.look(NOW)));
    }

    #[test]
    fn a_bad_file_leaves_the_last_good_one_in_place() {
        let (_folder, file) = opened(&with_member("user:alice"));
        let before = file.look(NOW);
        let refusal = || file.0.state.lock().unwrap().refused.clone();
        fs::write(file.path(), "[[organization]]\nid = 1").unwrap();
        assert!(Arc::ptr_eq(&before, &file.look(NOW)));
        let said = refusal().unwrap();
        assert!(said.starts_with(&format!("{}:2:6: ", file.path().display())), "{said}");
        fs::remove_file(file.path()).unwrap();
        assert!(Arc::ptr_eq(&before, &file.look(NOW)));
        assert!(refusal().unwrap().ends_with("does not exist"));
        create(file.path(), &with_member("user:bobby"));
        assert!(is_member(&file.look(NOW), "user:bobby"));
        assert_eq!(refusal(), None);
    }

    #[test]
    fn a_file_that_others_can_write_is_not_taken_until_it_is_closed() {
        let (folder, file) = opened(&with_member("user:alice"));
        fs::write(file.path(), with_member("user:bobby")).unwrap();
        chmod(file.path(), 0o666);
        assert!(is_member(&file.look(NOW), "user:alice"));
        chmod(file.path(), 0o644);
        chmod(folder.path(), 0o777);
        assert!(is_member(&file.look(NOW), "user:alice"));
        chmod(folder.path(), 0o700);
        assert!(is_member(&file.look(NOW), "user:bobby"));
    }
}
