//! [`DockerConfig`]: reads and changes the logins and credential helpers in docker's configuration file.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/#docker-cli-configuration-file-configjson-properties>

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize as _;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::{Map, Value, json};

use super::RegistryCredentials;
use crate::encoding::decode;
use crate::error::{Error, ResourceKind, Result};
use crate::files::trusted::{PathWalk, Trust, read_limited};
use crate::files::{Directory, cannot};

const FILE_NAME: &str = "config.json";

/// The maximum size of the file.
const MAX_FILE_BYTES: usize = 4 * 1024 * 1024;

/// The members of the file with credential helpers and logins.
const CREDENTIAL_HELPERS: &str = "credHelpers";
const CREDENTIALS_STORE: &str = "credsStore";
const LOGINS: &str = "auths";

/// docker's `config.json` in a folder, with unwritten changes.
///
/// A change keeps unknown members of the file, and indents with one tab per level, as docker does.
/// [`RegistryCredentials::write_docker_config`] writes one login.
pub struct DockerConfig {
    path: PathBuf,
    members: Map<String, Value>,
    is_changed: bool,
}

/// Omits the members of the file, which contain passwords.
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
        Self::read_file(folder.join(FILE_NAME))
    }

    /// Reads a file of this format with any name, such as podman's `auth.json`.
    pub(super) fn read_file(path: PathBuf) -> Result<Self> {
        match walk(&path, false).open_unchecked() {
            Ok((file, _)) => Self::read_open(path, &file),
            Err(Error::NotFound { .. }) => {
                Ok(Self { path, members: Map::new(), is_changed: false })
            }
            Err(error) => Err(error),
        }
    }

    fn read_open(path: PathBuf, file: &File) -> Result<Self> {
        let metadata = file.metadata();
        let read = metadata.and_then(|metadata| read_limited(file, &metadata, MAX_FILE_BYTES));
        let content = read.map_err(|error| cannot("read", &path, error))?.ok_or_else(|| {
            Error::invalid(format!("{} is larger than {MAX_FILE_BYTES} bytes", path.display()))
        })?;
        let members = parse(&content).map_err(|reason| {
            Error::invalid(format!("{} is not a docker configuration: {reason}", path.display()))
        })?;
        Ok(Self { path, members, is_changed: false })
    }

    /// Changes the file in a folder, and returns the changed configuration with the result of `change`.
    ///
    /// A lock excludes other processes that call this function, so that no change is lost. `change` runs first on the
    /// unlocked file. If it changes the configuration, it runs again on the locked file, which is then written.
    /// Otherwise no file or folder is created or written.
    ///
    /// # Behavior
    /// - The file is replaced atomically, and readable by its owner only.
    /// - A missing folder is created, accessible by its owner only.
    /// - If the file is a symbolic link, its target is replaced, as docker does.
    /// - A file that is a mount point cannot be replaced, and is overwritten instead.
    /// - The call blocks while it writes the file, and while another process holds the lock.
    ///
    /// # Errors
    /// Those of [`read`](Self::read); [`Error::Setting`] if the file belongs to another user, or has another
    /// hard link; [`Error::Failed`] if the file cannot be written.
    pub fn change<T>(folder: &Path, change: impl Fn(&mut Self) -> T) -> Result<(Self, T)> {
        let mut config = Self::read(folder)?;
        let result = change(&mut config);
        if !config.is_changed {
            return Ok((config, result));
        }
        let path = config.path;
        let (folder, name, locked) = lock(&path)?;
        let mut config = Self::read_open(path, &locked)?;
        let was_empty = config.members.is_empty();
        let result = change(&mut config);
        if config.is_changed {
            let replaced = replace(&folder, &name, &locked, &config.to_bytes()?);
            if replaced.is_err() && was_empty {
                // `lock` created the file.
                let _ = folder.remove(&name);
            }
            replaced?;
        }
        Ok((config, result))
    }

    fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let formatter = PrettyFormatter::with_indent(b"\t");
        let written =
            self.members.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
        written.map_err(|error| cannot("write", &self.path, error))?;
        bytes.push(b'\n');
        Ok(bytes)
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns whether there are unwritten changes.
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

    /// Returns the registries and repositories with a credential helper of their own.
    #[cfg(feature = "push")]
    pub(super) fn helpers(&self) -> impl Iterator<Item = (&str, &str)> {
        let helpers = self.entries(CREDENTIAL_HELPERS);
        // docker treats `null` as an empty name, which disables the default helper for the registry.
        helpers.map(|(key, helper)| (key, helper.as_str().unwrap_or_default()))
    }

    /// Returns the credential helper of all registries without one of their own.
    pub(super) fn default_helper(&self) -> Option<&str> {
        let helper = self.members.get(CREDENTIALS_STORE).and_then(Value::as_str);
        helper.filter(|helper| !helper.is_empty())
    }

    /// Returns the registries and repositories with a login in the file.
    #[cfg(feature = "push")]
    pub(super) fn logins(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.entries(LOGINS)
    }

    /// Returns the credential helper that docker uses instead of the logins in the file: the registry's own, or the
    /// default helper.
    fn helper_before_logins(&self, host: &str) -> Option<&str> {
        self.helper(host).or_else(|| self.default_helper())
    }

    /// Returns the registries with this credential helper.
    pub fn hosts_of(&self, helper: &str) -> Vec<String> {
        let helpers = self.members.get(CREDENTIAL_HELPERS).and_then(Value::as_object);
        let hosts = helpers.into_iter().flatten().filter(|(_, own)| *own == helper);
        hosts.map(|(host, _)| host.clone()).collect()
    }

    /// Sets the credential helper of a registry.
    pub fn set_helper(&mut self, host: &str, helper: &str) {
        self.set(CREDENTIAL_HELPERS, host, helper.into());
    }

    /// Removes the credential helper of a registry, and the section of credential helpers if that becomes empty.
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
    /// [`Error::Conflict`] if docker uses a credential helper for the registry instead.
    pub fn set_login(&mut self, credentials: &RegistryCredentials) -> Result<()> {
        let RegistryCredentials { host, username, password, .. } = credentials;
        if let Some(helper) = self.helper_before_logins(host.as_str()) {
            let problem = format!("makes docker use docker-credential-{helper} for {host}");
            return Err(Error::conflict(ResourceKind::File, self.path.display(), problem));
        }
        let login = STANDARD.encode(format!("{username}:{}", password.expose()));
        self.set(LOGINS, host.as_str(), json!({ "auth": login }));
        Ok(())
    }

    fn set(&mut self, section: &str, key: &str, value: Value) {
        let section = self.members.entry(section).or_insert_with(|| Map::new().into());
        // `check_types` rejects everything except an object or null.
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
    /// docker and compatible tools use the credentials if `DOCKER_CONFIG` is set to the directory. In an
    /// existing file, only the login of this registry changes.
    ///
    /// # Errors
    /// Those of [`DockerConfig::change`], and [`Error::Conflict`] if docker uses a credential helper for this
    /// registry.
    pub fn write_docker_config(&self, directory: &Path) -> Result<PathBuf> {
        let (config, set) = DockerConfig::change(directory, |config| config.set_login(self))?;
        set?;
        Ok(config.path)
    }
}

/// Parses the content of the file. The error is the reason why docker would reject it.
fn parse(content: &[u8]) -> std::result::Result<Map<String, Value>, String> {
    let text = decode(content)?;
    if text.trim().is_empty() {
        return Ok(Map::new());
    }
    let document =
        serde_json::from_str(text).map_err(|error| format!("it is not JSON: {error}"))?;
    let Value::Object(members) = document else {
        return Err("it is not an object".to_owned());
    };
    check_types(&members)?;
    Ok(members)
}

/// Checks the types of the members that docker reads for logins. `null` counts as a missing member.
///
/// The error does not show the value, which may be a secret.
fn check_types(members: &Map<String, Value>) -> std::result::Result<(), String> {
    check_text(members, CREDENTIALS_STORE)?;
    if let Some(helpers) = object(members, CREDENTIAL_HELPERS)? {
        helpers.keys().try_for_each(|host| check_text(helpers, host))?;
    }
    let Some(logins) = object(members, LOGINS)? else { return Ok(()) };
    for host in logins.keys() {
        let Some(login) = object(logins, host)? else { continue };
        for member in ["auth", "username", "password", "identitytoken"] {
            check_text(login, member)?;
        }
    }
    Ok(())
}

fn object<'a>(
    members: &'a Map<String, Value>,
    name: &str,
) -> std::result::Result<Option<&'a Map<String, Value>>, String> {
    match members.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(_) => Err(format!("{name:?} is not an object")),
    }
}

fn check_text(members: &Map<String, Value>, name: &str) -> std::result::Result<(), String> {
    match members.get(name) {
        None | Some(Value::Null | Value::String(_)) => Ok(()),
        Some(_) => Err(format!("{name:?} is not a string")),
    }
}

/// Returns the walk to the file, which may be a symbolic link and may belong to any user.
fn walk(path: &Path, create: bool) -> PathWalk<'_> {
    let kind = "docker configuration";
    PathWalk { path, kind, trust: Trust::Links, create, follow_last: true }
}

/// Opens the file and waits for its lock. Creates a missing file and folder. Returns the folder and the name of the
/// file; for a symbolic link, those of its target.
fn lock(path: &Path) -> Result<(Directory, OsString, File)> {
    let (folder, name) = walk(path, true).find_in_own_folder()?;
    loop {
        let file = folder.open_lock(&name)?;
        file.lock().map_err(|error| cannot("lock", path, error))?;
        // Retry if the previous holder of the lock has replaced the file.
        if folder.is_at(&name, &file)? {
            return Ok((folder, name, file));
        }
    }
}

/// Replaces the locked file.
fn replace(folder: &Directory, name: &OsStr, locked: &File, content: &[u8]) -> Result<()> {
    let is_busy = |error: &Error| {
        let source = std::error::Error::source(error);
        let error = source.and_then(|error| error.downcast_ref::<io::Error>());
        error.is_some_and(|error| error.kind() == ErrorKind::ResourceBusy)
    };
    match folder.replace(name, content) {
        // A mount point, which is common in containers, cannot be replaced.
        Err(error) if is_busy(&error) => overwrite(locked, content)
            .map_err(|error| cannot("write", &folder.path().join(name), error)),
        replaced => replaced,
    }
}

fn overwrite(file: &File, content: &[u8]) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all_at(content, 0)?;
    file.set_len(content.len() as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::chown;
    use std::thread;
    use std::time::SystemTime;

    use super::*;
    use crate::credentials::Password;
    use crate::model::{Access, OrganizationId, Scope, Stage};

    const HOST: &str = "127.0.0.1:5050";

    fn config(text: &str) -> DockerConfig {
        let members = parse(text.as_bytes()).unwrap();
        DockerConfig { path: FILE_NAME.into(), members, is_changed: false }
    }

    #[test]
    fn helper_is_added_and_removed_without_other_changes() {
        let others = r#"{"zeta":{"b":1,"a":[]},"credsStore":"pass","auths":{"ghcr.io":{}}}"#;
        for text in ["", "{}", others, r#"{"credHelpers":{"ghcr.io":"pass"}}"#] {
            let mut changed = config(text);
            changed.set_helper(HOST, "ark");
            assert_eq!((changed.helper(HOST), changed.is_changed), (Some("ark"), true), "{text}");
            assert_eq!(changed.hosts_of("ark"), [HOST]);
            let again = changed.to_bytes().unwrap();
            let mut again = config(std::str::from_utf8(&again).unwrap());
            again.set_helper(HOST, "ark");
            assert!(!again.is_changed, "{text}");
            again.remove_helper(HOST);
            assert_eq!((again.members, again.is_changed), (config(text).members, true), "{text}");
        }
    }

    #[test]
    fn login_is_written_for_owner_beside_other_logins() {
        let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Pull);
        let password = Password::new("secret".to_owned());
        let expires_at = SystemTime::UNIX_EPOCH;
        let credentials =
            RegistryCredentials::new(HOST.parse().unwrap(), password, expires_at, scope);
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("docker");
        let path = credentials.write_docker_config(&folder).unwrap();
        assert_eq!(path, folder.join(FILE_NAME));
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
        assert_eq!(config.to_bytes().unwrap(), expected.as_bytes());
    }

    #[test]
    fn invalid_file_is_rejected_with_reason() {
        let reason = |text: &str| parse(text.as_bytes()).unwrap_err();
        for (text, expected) in [
            ("[]", "it is not an object"),
            (r#"{"credHelpers": 1}"#, "\"credHelpers\" is not an object"),
            (r#"{"credHelpers": {"a": 1}}"#, "\"a\" is not a string"),
            (r#"{"credsStore": {}}"#, "\"credsStore\" is not a string"),
            (r#"{"auths": []}"#, "\"auths\" is not an object"),
            (r#"{"auths": {"a": "b"}}"#, "\"a\" is not an object"),
            (r#"{"auths": {"a": {"auth": 7}}}"#, "\"auth\" is not a string"),
            ("\u{feff}{}", "it starts with a byte order mark; save it as UTF-8 without one"),
        ] {
            assert_eq!(reason(text), expected);
        }
        assert!(reason("{").starts_with("it is not JSON: EOF while parsing"));
        assert!(reason("{} {}").starts_with("it is not JSON: trailing characters"));
        assert_eq!(parse(b"\xff\xfe{\0}\0").unwrap_err(), "it is UTF-16; save it as UTF-8");
    }

    #[test]
    fn null_counts_as_missing_member() {
        let null = r#"{"auths": null, "credHelpers": null, "credsStore": null}"#;
        let nested = r#"{"auths": {"a": null, "b": {"auth": null}}, "credHelpers": {"a": null}}"#;
        for text in [null, nested] {
            let mut config = config(text);
            assert_eq!((config.default_helper(), config.hosts_of("ark").len()), (None, 0));
            config.set_helper(HOST, "ark");
            assert_eq!(config.helper(HOST), Some("ark"));
        }
    }

    #[test]
    fn concurrent_changes_keep_all_entries() {
        let folder = tempfile::tempdir().unwrap();
        thread::scope(|scope| {
            for n in 0..20 {
                let folder = folder.path();
                scope.spawn(move || {
                    let host = format!("registry-{n}");
                    DockerConfig::change(folder, |config| config.set_helper(&host, "ark")).unwrap();
                });
            }
        });
        let config = DockerConfig::read(folder.path()).unwrap();
        assert_eq!(config.hosts_of("ark").len(), 20);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn empty_change_creates_no_folder() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        DockerConfig::change(&missing, |config| config.remove_helper(HOST)).unwrap();
        assert!(!missing.exists());
    }

    #[test]
    fn file_of_another_user_or_with_hard_link_is_unchanged() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(FILE_NAME);
        fs::write(&path, "{}").unwrap();
        let other = folder.path().join("other");
        fs::hard_link(&path, &other).unwrap();
        let change =
            || DockerConfig::change(folder.path(), |config| config.set_helper(HOST, "ark"));
        assert!(matches!(change(), Err(Error::Setting(_))));
        fs::remove_file(&other).unwrap();
        // Only root can change the owner of a file.
        if rustix::process::geteuid().is_root() {
            chown(&path, Some(4711), None).unwrap();
            assert!(matches!(change(), Err(Error::Setting(_))));
            assert_eq!(fs::read(&path).unwrap(), b"{}");
            chown(&path, Some(0), None).unwrap();
            chown(folder.path(), Some(4711), None).unwrap();
            assert!(matches!(change(), Err(Error::Setting(_))));
        }
    }
}
