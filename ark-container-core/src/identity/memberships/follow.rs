//! [`MembershipsFile`]: the memberships file of a running process, which is read again when it changes.

use std::iter;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::Memberships;
use crate::error::{Error, Result};
use crate::files::FileVersion;

/// The minimum time between two checks of the file.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A memberships file that is read again when it changes. Clones share the content.
///
/// After the first read there are always valid memberships. While a changed file is invalid, missing, or
/// [writable by others](super#safety), the last valid memberships apply, and one warning is logged with
/// [`tracing`]. Replace the file by a rename, so that it is never read half written.
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
    checked_at: Instant,
    read: Option<FileVersion>,
    /// The reason of the last rejection; `None` once a version was accepted.
    rejection: Option<String>,
}

impl MembershipsFile {
    /// Reads the file. Blocks during the read.
    ///
    /// # Errors
    /// See [`Memberships::load`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        let read = FileVersion::of(&path);
        let memberships = Arc::new(Memberships::load(&path)?);
        let state = State { memberships, checked_at: Instant::now(), read, rejection: None };
        Ok(Self(Arc::new(Shared { path, state: Mutex::new(state) })))
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Returns the current memberships. Changes take effect within a second. While the file does not
    /// change, every call returns the same [`Arc`].
    ///
    /// Blocks while it checks the file, at most once a second, and while it reads a changed file.
    pub fn current(&self) -> Arc<Memberships> {
        self.checked_within(CHECK_INTERVAL)
    }

    /// Returns the memberships. Checks the file if the last check is at least `interval` ago.
    fn checked_within(&self, interval: Duration) -> Arc<Memberships> {
        // A panic in another thread leaves a valid state: each field is set separately.
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.checked_at.elapsed() >= interval {
            state.check(&self.0.path);
            state.checked_at = Instant::now();
        }
        Arc::clone(&state.memberships)
    }
}

impl State {
    fn check(&mut self, path: &Path) {
        let now = FileVersion::of(path);
        let is_known = now.as_ref().is_some_and(|now| now.is_unchanged_since(self.read.as_ref()));
        // The cause of a rejection can be the folder, whose changes do not change the file's version.
        if is_known && self.rejection.is_none() {
            return;
        }
        // Read after the version is determined: a later change then results in another version.
        self.read = now;
        match Memberships::load(path) {
            Ok(memberships) => self.accept(path, memberships),
            Err(error) => self.reject(path, &error),
        }
    }

    fn accept(&mut self, path: &Path, memberships: Memberships) {
        let is_changed = memberships != *self.memberships;
        if self.rejection.take().is_some() || is_changed {
            tracing::info!(file = %path.display(), "the changed memberships apply");
        }
        if is_changed {
            self.memberships = Arc::new(memberships);
        }
    }

    fn reject(&mut self, path: &Path, error: &Error) {
        let causes =
            iter::successors(Some(error as &dyn std::error::Error), |error| error.source());
        let problem = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        if self.rejection.as_ref() != Some(&problem) {
            tracing::warn!(
                file = %path.display(),
                error = problem,
                "the changed memberships are rejected; the earlier ones still apply"
            );
            self.rejection = Some(problem);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::model::OrganizationId;

    const NO_INTERVAL: Duration = Duration::ZERO;

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

    /// Creates the file with mode 0644, independently of the umask.
    fn create(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        chmod(path, 0o644);
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn change_is_visible_to_every_clone() {
        let (_folder, file) = opened(&with_member("user:alice"));
        let clone = file.clone();
        assert!(is_member(&file.checked_within(NO_INTERVAL), "user:alice"));
        fs::write(file.path(), with_member("user:bobby")).unwrap();
        assert!(is_member(&file.checked_within(NO_INTERVAL), "user:bobby"));
        assert!(!is_member(&clone.current(), "user:alice"));
    }

    #[test]
    fn file_is_not_checked_twice_in_an_interval() {
        let (_folder, file) = opened(&with_member("user:alice"));
        fs::write(file.path(), with_member("user:bobby")).unwrap();
        assert!(is_member(&file.checked_within(Duration::from_secs(3600)), "user:alice"));
    }

    #[test]
    fn same_content_returns_the_same_memberships() {
        let (folder, file) = opened(&with_member("user:alice"));
        let before = file.checked_within(NO_INTERVAL);
        let other = folder.path().join("other");
        create(&other, &with_member("user:alice"));
        fs::rename(other, file.path()).unwrap();
        assert!(Arc::ptr_eq(&before, &file.checked_within(NO_INTERVAL)));
    }

    #[test]
    fn invalid_file_keeps_the_last_valid_memberships() {
        let (_folder, file) = opened(&with_member("user:alice"));
        let before = file.checked_within(NO_INTERVAL);
        let rejection = || file.0.state.lock().unwrap().rejection.clone();
        fs::write(file.path(), "[[organization]]\nid = 1").unwrap();
        assert!(Arc::ptr_eq(&before, &file.checked_within(NO_INTERVAL)));
        let message = rejection().unwrap();
        assert!(message.starts_with(&format!("{}:2:6: ", file.path().display())), "{message}");
        fs::remove_file(file.path()).unwrap();
        assert!(Arc::ptr_eq(&before, &file.checked_within(NO_INTERVAL)));
        assert!(rejection().unwrap().ends_with("does not exist"));
        create(file.path(), &with_member("user:bobby"));
        assert!(is_member(&file.checked_within(NO_INTERVAL), "user:bobby"));
        assert_eq!(rejection(), None);
    }

    #[test]
    fn file_writable_by_others_is_rejected() {
        let (folder, file) = opened(&with_member("user:alice"));
        fs::write(file.path(), with_member("user:bobby")).unwrap();
        chmod(file.path(), 0o666);
        assert!(is_member(&file.checked_within(NO_INTERVAL), "user:alice"));
        chmod(file.path(), 0o644);
        chmod(folder.path(), 0o777);
        assert!(is_member(&file.checked_within(NO_INTERVAL), "user:alice"));
        chmod(folder.path(), 0o700);
        assert!(is_member(&file.checked_within(NO_INTERVAL), "user:bobby"));
    }
}
