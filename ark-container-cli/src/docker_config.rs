//! docker's configuration file: who is logged in where, and which helper is asked.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties>

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use crate::failure::{Failure, Kind};
use crate::hint::quoted;

/// Names the folder.
pub(crate) const FOLDER_VARIABLE: &str = "DOCKER_CONFIG";

const FILE: &str = "config.json";

/// As many links in a row as Linux follows.
const MOST_LINKS: usize = 40;

/// The members of the file in which docker looks up credential helpers and logins.
const CREDENTIAL_HELPERS: &str = "credHelpers";
const CREDENTIALS_STORE: &str = "credsStore";
const LOGINS: &str = "auths";

/// docker's `config.json` in a folder, with the changes that are not written yet.
///
/// Members that this program does not know are kept. As when docker writes the file, the indentation
/// becomes one tab a level.
#[derive(Debug)]
pub(crate) struct DockerConfig {
    path: PathBuf,
    members: Map<String, Value>,
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
    /// Reads the file. A missing or empty file has no members.
    ///
    /// # Errors
    /// Those of the file system, and a failure if the file is not a JSON object of the form that
    /// docker accepts.
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
        let members = parse(&text).map_err(|reason| invalid(&path, &reason))?;
        Ok(Self { path, members, is_changed: false })
    }

    /// Path of the file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there are changes to write.
    pub(crate) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Returns the credential helper of a registry.
    pub(crate) fn helper(&self, host: &str) -> Option<&str> {
        self.members.get(CREDENTIAL_HELPERS)?.get(host)?.as_str()
    }

    /// Returns the credential helper that docker asks instead of reading the logins in the file: the
    /// registry's own, or the one for all registries.
    pub(crate) fn helper_before_logins(&self, host: &str) -> Option<&str> {
        let for_all = || self.members.get(CREDENTIALS_STORE).and_then(Value::as_str);
        self.helper(host).or_else(|| for_all().filter(|helper| !helper.is_empty()))
    }

    /// Returns the registries that have this credential helper.
    pub(crate) fn hosts_of(&self, helper: &str) -> Vec<String> {
        let helpers = self.members.get(CREDENTIAL_HELPERS).and_then(Value::as_object);
        let hosts = helpers.into_iter().flatten().filter(|(_, own)| *own == helper);
        hosts.map(|(host, _)| host.clone()).collect()
    }

    /// Sets the credential helper of a registry.
    pub(crate) fn set_helper(&mut self, host: &str, helper: &str) {
        self.set(CREDENTIAL_HELPERS, host, helper.into());
    }

    /// Removes the credential helper of a registry, and the section if it is empty then.
    pub(crate) fn remove_helper(&mut self, host: &str) {
        let section = self.members.get_mut(CREDENTIAL_HELPERS).and_then(Value::as_object_mut);
        let Some(helpers) = section else { return };
        self.is_changed |= helpers.remove(host).is_some();
        if helpers.is_empty() {
            self.members.remove(CREDENTIAL_HELPERS);
        }
    }

    /// Sets the login of a registry: base64 of `USERNAME:PASSWORD`.
    pub(crate) fn set_login(&mut self, host: &str, login: &str) {
        self.set(LOGINS, host, json!({ "auth": login }));
    }

    /// Replaces the file as a whole, readable by its owner only.
    ///
    /// If the file is a symbolic link, its target is replaced, as docker does it.
    pub(crate) fn write(&self) -> Result<(), Failure> {
        let written =
            to_text(&self.members).and_then(|text| replace(&end_of_links(&self.path)?, &text));
        written
            .map_err(|error| Failure::io(format!("cannot write {}", self.path.display()), &error))
    }

    fn set(&mut self, section: &str, key: &str, value: Value) {
        let section = self.members.entry(section).or_insert_with(|| Map::new().into());
        // `parse` refused a file whose section is anything but an object or null.
        if section.is_null() {
            *section = Map::new().into();
        }
        if section.get(key) != Some(&value) {
            section[key] = value;
            self.is_changed = true;
        }
    }
}

/// Parses the text of the file; the error is the reason why docker would not accept it.
fn parse(text: &str) -> Result<Map<String, Value>, String> {
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let document = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    let Value::Object(members) = document else {
        return Err("it is no object".to_owned());
    };
    for section in [CREDENTIAL_HELPERS, LOGINS] {
        if members.get(section).is_some_and(|value| !value.is_object() && !value.is_null()) {
            return Err(format!("{section:?} in it is no object"));
        }
    }
    Ok(members)
}

fn to_text(members: &Map<String, Value>) -> io::Result<String> {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"\t");
    members.serialize(&mut Serializer::with_formatter(&mut bytes, formatter))?;
    bytes.push(b'\n');
    String::from_utf8(bytes).map_err(io::Error::other)
}

fn invalid(path: &Path, reason: &str) -> Failure {
    let path = path.display().to_string();
    let (from, to) = (quoted(&path), quoted(&format!("{path}.bad")));
    Failure::new(Kind::Other, format!("{path} is not as docker takes it: {reason}"))
        .with_help(format!("correct it, or move it away: mv {from} {to}"))
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

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "127.0.0.1:5050";

    fn config(text: &str) -> DockerConfig {
        let members = parse(text).unwrap();
        DockerConfig { path: FILE.into(), members, is_changed: false }
    }

    #[test]
    fn helper_is_added_and_removed_without_other_changes() {
        let others = r#"{"zeta":{"b":1,"a":[]},"credsStore":"pass","auths":{"ghcr.io":{}}}"#;
        for text in ["", "{}", others, r#"{"credHelpers":{"ghcr.io":"pass"}}"#] {
            let mut changed = config(text);
            changed.set_helper(HOST, "ark");
            assert_eq!((changed.helper(HOST), changed.is_changed), (Some("ark"), true), "{text}");
            assert_eq!(changed.hosts_of("ark"), [HOST]);
            let mut again = config(&to_text(&changed.members).unwrap());
            again.set_helper(HOST, "ark");
            assert!(!again.is_changed, "{text}");
            again.remove_helper(HOST);
            assert_eq!((again.members, again.is_changed), (config(text).members, true), "{text}");
        }
    }

    #[test]
    fn file_is_indented_with_tabs() {
        let mut config = config(r#"{"credHelpers":null}"#);
        config.set_helper(HOST, "ark");
        let expected = "{\n\t\"credHelpers\": {\n\t\t\"127.0.0.1:5050\": \"ark\"\n\t}\n}\n";
        assert_eq!(to_text(&config.members).unwrap(), expected);
    }

    #[test]
    fn invalid_files_are_refused_with_the_reason() {
        let reason = |text| parse(text).unwrap_err();
        assert_eq!(reason("[]"), "it is no object");
        assert_eq!(reason("{\"credHelpers\": 1}"), "\"credHelpers\" in it is no object");
        assert_eq!(reason("{\"auths\": []}"), "\"auths\" in it is no object");
        assert!(reason("{").starts_with("it is no JSON: EOF while parsing"));
        assert!(reason("{} {}").starts_with("it is no JSON: trailing characters"));
    }
}
