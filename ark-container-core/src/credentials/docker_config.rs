//! [`DockerConfig`]: the logins and credential helpers in docker's configuration file.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties>

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::BuildHasher as _;
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::RegistryCredentials;
use crate::error::{Error, ResourceKind, Result};

const FILE: &str = "config.json";

/// Maximum number of symbolic links in a row, as in Linux.
const MAX_LINKS: usize = 40;

/// The members of the file in which docker looks up credential helpers and logins.
const CREDENTIAL_HELPERS: &str = "credHelpers";
const CREDENTIALS_STORE: &str = "credsStore";
const LOGINS: &str = "auths";

/// docker's `config.json` in a folder, with changes that are not written yet.
///
/// Unknown members of the file are kept. As when docker writes the file, the indentation becomes one tab
/// per level. [`RegistryCredentials::write_docker_config`] writes one login.
pub struct DockerConfig {
    path: PathBuf,
    members: Map<String, Value>,
    is_changed: bool,
}

/// Without the members of the file, which have passwords.
impl fmt::Debug for DockerConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DockerConfig").field("path", &self.path).finish_non_exhaustive()
    }
}

impl DockerConfig {
    /// Reads the file. A missing or empty file has no members.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file cannot be read; [`Error::InvalidInput`] if it is not a JSON object of
    /// the form that docker accepts.
    pub fn read(folder: &Path) -> Result<Self> {
        Self::read_file(folder.join(FILE))
    }

    /// Reads a file of this form with any name, such as podman's `auth.json`.
    pub(super) fn read_file(path: PathBuf) -> Result<Self> {
        let shown = path.display();
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8(bytes)
                .map_err(|_| Error::failed(format!("{shown} is not UTF-8")))?,
            Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
            Err(error) => {
                return Err(Error::failed(format!("cannot read {shown}")).with_source(error));
            }
        };
        let members = parse(&text).map_err(|reason| {
            Error::invalid(format!("{shown} is not as docker takes it: {reason}"))
        })?;
        Ok(Self { path, members, is_changed: false })
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there are changes to write.
    pub fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Returns the credential helper of a registry.
    pub fn helper(&self, host: &str) -> Option<&str> {
        self.members.get(CREDENTIAL_HELPERS)?.get(host)?.as_str()
    }

    /// Returns the entries of a section of the file.
    #[cfg(feature = "push")]
    fn entries(&self, section: &str) -> impl Iterator<Item = (&str, &Value)> {
        let entries = self.members.get(section).and_then(Value::as_object);
        entries.into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    /// Returns the registries and repositories that have a credential helper of their own.
    #[cfg(feature = "push")]
    pub(super) fn helpers(&self) -> impl Iterator<Item = (&str, &str)> {
        let helpers = self.entries(CREDENTIAL_HELPERS);
        helpers.filter_map(|(key, helper)| Some((key, helper.as_str()?)))
    }

    /// Returns the credential helper of the registries that have none of their own.
    pub(super) fn default_helper(&self) -> Option<&str> {
        let helper = self.members.get(CREDENTIALS_STORE).and_then(Value::as_str);
        helper.filter(|helper| !helper.is_empty())
    }

    /// Returns the registries and repositories that have a login in the file.
    #[cfg(feature = "push")]
    pub(super) fn logins(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries(LOGINS)
    }

    /// Returns the credential helper that docker asks instead of reading the logins in the file: the
    /// registry's own, or the one for all registries.
    fn helper_before_logins(&self, host: &str) -> Option<&str> {
        self.helper(host).or_else(|| self.default_helper())
    }

    /// Returns the registries that have this credential helper.
    pub fn hosts_of(&self, helper: &str) -> Vec<String> {
        let helpers = self.members.get(CREDENTIAL_HELPERS).and_then(Value::as_object);
        let hosts = helpers.into_iter().flatten().filter(|(_, own)| *own == helper);
        hosts.map(|(host, _)| host.clone()).collect()
    }

    /// Sets the credential helper of a registry.
    pub fn set_helper(&mut self, host: &str, helper: &str) {
        self.set(CREDENTIAL_HELPERS, host, helper.into());
    }

    /// Removes the credential helper of a registry, and the section if it is empty then.
    pub fn remove_helper(&mut self, host: &str) {
        let section = self.members.get_mut(CREDENTIAL_HELPERS).and_then(Value::as_object_mut);
        let Some(helpers) = section else { return };
        self.is_changed |= helpers.remove(host).is_some();
        if helpers.is_empty() {
            self.members.remove(CREDENTIAL_HELPERS);
        }
    }

    /// Sets the login of a registry.
    ///
    /// # Errors
    /// [`Error::Conflict`] if docker would ask a credential helper for the registry instead.
    pub fn set_login(&mut self, credentials: &RegistryCredentials) -> Result<()> {
        let RegistryCredentials { host, username, password, .. } = credentials;
        if let Some(helper) = self.helper_before_logins(host.as_str()) {
            let problem = format!("has docker ask docker-credential-{helper} for {host}");
            return Err(Error::conflict(ResourceKind::File, self.path.display(), problem));
        }
        let login = STANDARD.encode(format!("{username}:{}", password.expose()));
        self.set(LOGINS, host.as_str(), json!({ "auth": login }));
        Ok(())
    }

    /// Replaces the file as a whole, readable by its owner only.
    ///
    /// If the file is a symbolic link, its target is replaced, as docker does it. A missing folder is
    /// created, for its owner only.
    ///
    /// # Errors
    /// [`Error::Failed`] if the file cannot be written.
    pub fn write(&self) -> Result<()> {
        let written =
            to_text(&self.members).and_then(|text| replace(&end_of_links(&self.path)?, &text));
        let shown = self.path.display();
        written.map_err(|error| Error::failed(format!("cannot write {shown}")).with_source(error))
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

impl RegistryCredentials {
    /// Writes these credentials to docker's `config.json` in a directory, and returns the path of the file.
    ///
    /// With `DOCKER_CONFIG` set to the directory, docker and its like use them.
    ///
    /// # Behavior
    /// - Only the login of this registry changes in a file that exists.
    /// - The file is readable by its owner only, and replaced as a whole. A missing directory is created,
    ///   for its owner only.
    /// - The call blocks for the time that a small file takes to write.
    ///
    /// # Errors
    /// [`Error::InvalidInput`] if the file is not of the form that docker accepts; [`Error::Conflict`] if
    /// docker would ask a credential helper for this registry; [`Error::Failed`] if the file cannot be
    /// read or written.
    pub fn write_docker_config(&self, directory: &Path) -> Result<PathBuf> {
        let mut config = DockerConfig::read(directory)?;
        config.set_login(self)?;
        config.write()?;
        Ok(config.path)
    }
}

/// Parses the text of the file; the error is the reason why docker would not accept it.
fn parse(text: &str) -> std::result::Result<Map<String, Value>, String> {
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

/// Follows symbolic links to their target, which need not exist.
fn end_of_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(next) => path = path.parent().map_or(next.clone(), |folder| folder.join(next)),
            // It is not a link, or does not exist.
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many links lead from one to the next"))
}

fn replace(path: &Path, text: &str) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    let random = RandomState::new().hash_one(path);
    let temporary = folder.join(format!(".{FILE}-{random:016x}"));
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
        // The file keeps its owner when root replaces it. For other users this fails and changes nothing.
        let _ = fchown(&file, Some(old.uid()), Some(old.gid()));
    }
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::credentials::Password;
    use crate::model::{Access, OrganizationId, Scope, Stage};

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
    fn login_is_written_for_owner_and_keeps_others() {
        let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
        let password = Password::new("secret".to_owned());
        let expires_at = SystemTime::UNIX_EPOCH;
        let credentials =
            RegistryCredentials::new(HOST.parse().unwrap(), password, expires_at, scope);
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("docker");
        let path = credentials.write_docker_config(&folder).unwrap();
        assert_eq!(path, folder.join(FILE));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&folder), mode(&path)), (0o700, 0o600));
        fs::write(&path, r#"{"auths":{"ghcr.io":{}},"x":1}"#).unwrap();
        credentials.write_docker_config(&folder).unwrap();
        let written: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        let logins = json!({"ghcr.io": {}, HOST: {"auth": STANDARD.encode("AWS:secret")}});
        assert_eq!(written, json!({"auths": logins, "x": 1}));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        for helpers in [r#"{"credsStore":"pass"}"#, r#"{"credHelpers":{"127.0.0.1:5050":"pass"}}"#]
        {
            fs::write(&path, helpers).unwrap();
            let error = credentials.write_docker_config(&folder).unwrap_err();
            assert!(matches!(error, Error::Conflict { .. }), "{error}");
        }
        fs::write(&path, "{").unwrap();
        let error = credentials.write_docker_config(&folder).unwrap_err();
        assert!(matches!(error, Error::InvalidInput { .. }), "{error}");
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
