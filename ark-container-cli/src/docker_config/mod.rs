//! docker's configuration file: who is logged in where, and which helper is asked.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties>

mod edit;

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use crate::failure::{Failure, Kind};
use crate::hint::quoted;

/// Names the folder.
pub(crate) const FOLDER_VARIABLE: &str = "DOCKER_CONFIG";

const FILE: &str = "config.json";

/// As many links in a row as Linux follows.
const MOST_LINKS: usize = 40;

/// The file of a folder, as it is to be.
#[derive(Debug)]
pub(crate) struct DockerConfig {
    path: PathBuf,
    text: String,
    is_changed: bool,
}

/// The folder that docker uses: `$DOCKER_CONFIG`, or `~/.docker`.
pub(crate) fn user_folder() -> Result<PathBuf, Failure> {
    if let Some(folder) = std::env::var_os(FOLDER_VARIABLE).filter(|folder| !folder.is_empty()) {
        return Ok(folder.into());
    }
    let home = etcetera::home_dir().map_err(|_| {
        Failure::new(Kind::Other, "there is no home folder, so no docker configuration in it")
            .with_help(format!("name the folder: export {FOLDER_VARIABLE}=DIR"))
    })?;
    Ok(home.join(".docker"))
}

impl DockerConfig {
    /// Reads the file; one that is missing or empty has nothing in it.
    pub(crate) fn read(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join(FILE);
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8(bytes).map_err(|_| {
                Failure::new(Kind::Other, format!("{} is not UTF-8", path.display()))
            })?,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(Failure::io(format!("cannot read {}", path.display()), &error));
            }
        };
        let text = if text.trim().is_empty() { "{}\n".to_owned() } else { text };
        Ok(Self { path, text, is_changed: false })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is to be other than it was read.
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// The credential helper of a registry.
    pub(crate) fn helper(&self, host: &str) -> Result<Option<String>, Failure> {
        let helper = edit::get(&self.text, "credHelpers", host).map_err(|e| self.unfit(&e))?;
        Ok(helper.and_then(|helper| serde_json::from_str(helper).ok()))
    }

    /// The credential helper that docker asks instead of looking at the logins in the file, be it a
    /// registry's own or the one for all.
    pub(crate) fn helper_before_logins(&self, host: &str) -> Result<Option<String>, Failure> {
        if let Some(own) = self.helper(host)? {
            return Ok(Some(own));
        }
        let store = edit::member(&self.text, "credsStore").map_err(|e| self.unfit(&e))?;
        let store = store.and_then(|store| serde_json::from_str::<String>(store).ok());
        Ok(store.filter(|store| !store.is_empty()))
    }

    /// The registries that have this credential helper.
    pub(crate) fn hosts_of(&self, helper: &str) -> Result<Vec<String>, Failure> {
        let entries = edit::entries(&self.text, "credHelpers").map_err(|e| self.unfit(&e))?;
        let own = edit::quoted(helper);
        Ok(entries.into_iter().filter(|(_, value)| *value == own).map(|(host, _)| host).collect())
    }

    /// Gives a registry this credential helper.
    pub(crate) fn set_helper(&mut self, host: &str, helper: &str) -> Result<(), Failure> {
        self.change(edit::set(&self.text, "credHelpers", host, &edit::quoted(helper)))
    }

    /// Takes its credential helper from a registry.
    pub(crate) fn remove_helper(&mut self, host: &str) -> Result<(), Failure> {
        self.change(edit::remove(&self.text, "credHelpers", host))
    }

    /// Logs in to a registry.
    pub(crate) fn set_login(&mut self, host: &str, login: &str) -> Result<(), Failure> {
        let login = format!("{{\"auth\": {}}}", edit::quoted(login));
        self.change(edit::set(&self.text, "auths", host, &login))
    }

    /// Puts the file in its place, as a whole, for its owner's eyes only.
    ///
    /// A link stays, and what it leads to is replaced, as docker does it.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let written = end_of_links(&self.path).and_then(|target| replace(&target, &self.text));
        written
            .map_err(|error| Failure::io(format!("cannot write {}", self.path.display()), &error))
    }

    fn change(&mut self, edited: Result<String, edit::EditError>) -> Result<(), Failure> {
        let text = edited.map_err(|error| self.unfit(&error))?;
        self.is_changed |= text != self.text;
        self.text = text;
        Ok(())
    }

    fn unfit(&self, error: &edit::EditError) -> Failure {
        let path = self.path.display().to_string();
        let (from, to) = (quoted(&path), quoted(&format!("{path}.bad")));
        Failure::new(Kind::Other, format!("{path} is not as docker takes it: {error}"))
            .with_help(format!("correct it, or move it away: mv {from} {to}"))
    }
}

/// What a path leads to, whether or not that exists.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MOST_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().map_or(next.clone(), |folder| folder.join(next)),
            // It is no link, or not there.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links lead from one to the next"))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let temporary = folder.join(format!(".{FILE}-{}", std::process::id()));
    // What a process of the same number left that was killed.
    let _ = fs::remove_file(&temporary);
    let written = write_private(&temporary, path, text)
        .and_then(|()| fs::rename(&temporary, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    written
}

fn write_private(temporary: &Path, path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    if let Ok(old) = fs::metadata(path) {
        // It stays its owner's where root changes it; nobody else could give it away.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}
