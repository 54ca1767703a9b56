//! [`Selector`]: whose AWS credentials a process would get, told without getting them.
//!
//! Cached logins are kept apart by it. It must be known before any call, and two callers must never
//! have the same. So it follows the order in which the SDK looks for credentials:
//!
//! - A profile that was asked for by name.
//! - Keys in the environment. A long-lived key is an IAM user's own for good, so its hash will do. A
//!   temporary one comes and goes while the caller stays, so AWS is asked once whose it is.
//! - The profile of the environment, or the default one: its name and a hash of what the AWS files say of it, which is the role, the SSO account
//!   and role, the command or the keys. Renewed SSO sessions and assumed roles are the same caller; an
//!   edited profile is another.
//! - A web identity (EKS, CI): the role, its session's name and the file of the token.
//! - Other sources of credentials (containers, machines, the program that uses this library) tells
//!   nothing before it gives them, since folders may be shared among machines.
//!
//! Source: <https://docs.aws.amazon.com/sdk-for-rust/latest/dg/credproviders.html>

use std::fs;
use std::path::PathBuf;

use crate::digester::Digester;
use crate::model::Algorithm;

/// What in a profile gives credentials, so that the search ends there.
///
/// Source: <https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html>
const GIVES_CREDENTIALS: [&str; 6] = [
    "aws_access_key_id",
    "credential_process",
    "login_session",
    "role_arn",
    "sso_account_id",
    "sso_start_url",
];

/// Variables that say where AWS is. What one AWS gave is nothing to another, such as an emulator.
const ENDPOINTS: [&str; 4] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_ECR",
    "AWS_ENDPOINT_URL_STS",
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS",
];

/// Whose AWS credentials a process would get.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Selector {
    /// The same caller whenever this text is the same.
    Fixed(String),
    /// The owner of this temporary access key.
    TemporaryKey(String),
    /// Only the credentials tell.
    Unknown,
}

/// The environment variables and AWS files that say who calls AWS, and where.
pub(super) struct AwsEnvironment<V> {
    variable: V,
}

impl AwsEnvironment<fn(&str) -> Option<String>> {
    /// Those of this process.
    pub(super) fn of_this_process() -> Self {
        Self { variable: |name| std::env::var(name).ok() }
    }
}

impl<V: Fn(&str) -> Option<String>> AwsEnvironment<V> {
    /// Who calls, with the profile that was asked for, if one was. It reads files.
    pub(super) fn selector(&self, profile: Option<&str>) -> Selector {
        if let Some(profile) = profile {
            return self.by_profile(profile).unwrap_or(Selector::Unknown);
        }
        let keys = (self.set("AWS_ACCESS_KEY_ID"), self.set("AWS_SECRET_ACCESS_KEY"));
        if let (Some(id), Some(_)) = keys {
            return match self.set("AWS_SESSION_TOKEN") {
                Some(_) => Selector::TemporaryKey(id),
                None => Selector::Fixed(long_lived_key(&id)),
            };
        }
        if let Some(selector) = self.by_profile(&self.profile(None)) {
            return selector;
        }
        let web = (self.set("AWS_WEB_IDENTITY_TOKEN_FILE"), self.set("AWS_ROLE_ARN"));
        if let (Some(token), Some(role)) = web {
            let session = self.set("AWS_ROLE_SESSION_NAME");
            return Selector::Fixed(format!("web identity {token:?} as {role:?} in {session:?}"));
        }
        Selector::Unknown
    }

    /// Who calls by a profile; `None` if it gives no credentials.
    fn by_profile(&self, profile: &str) -> Option<Selector> {
        let files = self.files();
        let lines = files.profile(profile);
        let gives = lines.iter().any(|line| GIVES_CREDENTIALS.contains(&setting(line).0));
        gives.then(|| profile_selector(profile, lines))
    }

    /// Where AWS is, if not where it always is: what variables and the profile say. It reads files.
    ///
    /// Source: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
    pub(super) fn endpoints(&self, profile: Option<&str>) -> Vec<String> {
        let told = |name: &&str| self.set(name).map(|url| format!("{name}={url}"));
        let mut endpoints: Vec<String> = ENDPOINTS.iter().filter_map(told).collect();
        let files = self.files();
        for line in files.profile(&self.profile(profile)) {
            match setting(line) {
                ("endpoint_url", _) => endpoints.push(line.to_owned()),
                ("services", name) => {
                    let lines = section(&files.config, &format!("services {name}"));
                    endpoints.extend(lines.into_iter().map(str::to_owned));
                }
                _ => {}
            }
        }
        endpoints
    }

    /// The profile that counts.
    fn profile(&self, asked_for: Option<&str>) -> String {
        let named = asked_for.map(str::to_owned).or_else(|| self.set("AWS_PROFILE"));
        named.unwrap_or_else(|| "default".to_owned())
    }

    fn files(&self) -> AwsFiles {
        AwsFiles {
            config: self.file("AWS_CONFIG_FILE", ".aws/config"),
            credentials: self.file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        }
    }

    fn set(&self, name: &str) -> Option<String> {
        (self.variable)(name).filter(|value| !value.is_empty())
    }

    /// The content of a file of the AWS tools; nothing if it cannot be read, as for the SDK.
    fn file(&self, variable: &str, in_home: &str) -> String {
        let home = || self.set("HOME").map(PathBuf::from);
        let path = match self.set(variable) {
            Some(path) => match path.strip_prefix("~/") {
                Some(rest) => home().map(|home| home.join(rest)),
                None => Some(path.into()),
            },
            None => home().map(|home| home.join(in_home)),
        };
        path.and_then(|path| fs::read_to_string(path).ok()).unwrap_or_default()
    }
}

/// What the AWS tools are configured with.
struct AwsFiles {
    config: String,
    credentials: String,
}

impl AwsFiles {
    /// What they say of a profile.
    fn profile(&self, name: &str) -> Vec<&str> {
        let mut lines = section(&self.config, &format!("profile {name}"));
        // Only in the credentials file, and for the default, is a profile named without the word.
        if name == "default" {
            lines.extend(section(&self.config, name));
        }
        lines.extend(section(&self.credentials, name));
        lines
    }
}

/// The text for an IAM user's access key.
pub(super) fn long_lived_key(id: &str) -> String {
    format!("access key {}", Digester::digest(Algorithm::Sha256, id.as_bytes()))
}

fn profile_selector(profile: &str, lines: Vec<&str>) -> Selector {
    let value = |name| {
        let mut settings = lines.iter().map(|line| setting(line));
        // The last one counts.
        settings.rfind(|(own, _)| *own == name).map(|(_, value)| value)
    };
    // An assumed role is an identity of its own, independent of its caller.
    if let (Some(id), Some(_), None) =
        (value("aws_access_key_id"), value("aws_session_token"), value("role_arn"))
    {
        return Selector::TemporaryKey(id.to_owned());
    }
    let digest = Digester::digest(Algorithm::Sha256, lines.join("\n").as_bytes());
    Selector::Fixed(format!("profile {profile:?} {digest}"))
}

/// The lines of all sections with this name, without those that say nothing.
fn section<'a>(file: &'a str, name: &str) -> Vec<&'a str> {
    let mut within = false;
    let mut lines = Vec::new();
    for line in file.lines() {
        let text = line.trim();
        if let Some(header) = text.strip_prefix('[') {
            let header = header.split(']').next().unwrap_or_default();
            within = header.split_whitespace().eq(name.split_whitespace());
        } else if within && !text.is_empty() && !text.starts_with(['#', ';']) {
            lines.push(text);
        }
    }
    lines
}

/// A line as a setting's name and value.
fn setting(line: &str) -> (&str, &str) {
    let (name, value) = line.split_once('=').unwrap_or((line, ""));
    (name.trim(), value.trim())
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use tempfile::TempDir;

    use super::*;

    const SSO: &str = "sso_session = corp\nsso_account_id = 1\nsso_role_name = builder\n";

    /// A home with the two files of the AWS tools, and variables besides.
    struct Home {
        folder: TempDir,
        variables: HashMap<&'static str, String>,
    }

    impl Home {
        fn new(config: &str, credentials: &str) -> Self {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join(".aws")).unwrap();
            fs::write(folder.path().join(".aws/config"), config).unwrap();
            fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
            let home = folder.path().to_str().unwrap().to_owned();
            Self { folder, variables: HashMap::from([("HOME", home)]) }
        }

        fn with(mut self, name: &'static str, value: &str) -> Self {
            self.variables.insert(name, value.to_owned());
            self
        }

        fn selector(&self, profile: Option<&str>) -> Selector {
            self.environment().selector(profile)
        }

        fn environment(&self) -> AwsEnvironment<impl Fn(&str) -> Option<String>> {
            AwsEnvironment { variable: |name: &str| self.variables.get(name).cloned() }
        }

        fn fixed(&self, profile: Option<&str>) -> String {
            match self.selector(profile) {
                Selector::Fixed(text) => text,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_long_lived_key_is_its_user_and_never_shown() {
        let home =
            |id| Home::new("", "").with("AWS_ACCESS_KEY_ID", id).with("AWS_SECRET_ACCESS_KEY", "s");
        let text = home("AKIAONE").fixed(None);
        assert!(!text.contains("AKIAONE"), "{text}");
        assert_eq!(text, home("AKIAONE").with("AWS_PROFILE", "x").fixed(None));
        assert_ne!(text, home("AKIATWO").fixed(None));
    }

    #[test]
    fn named_profile_precedes_keys_of_the_environment() {
        let home = Home::new(&format!("[profile a]\n{SSO}\n"), "")
            .with("AWS_ACCESS_KEY_ID", "AKIAONE")
            .with("AWS_SECRET_ACCESS_KEY", "s");
        assert!(home.fixed(Some("a")).starts_with("profile \"a\""));
        assert_eq!(home.selector(Some("missing")), Selector::Unknown);
    }

    #[test]
    fn whose_a_temporary_key_is_must_be_asked() {
        let home = Home::new("", "[a]\naws_access_key_id = ASIAB\naws_session_token=t\n");
        assert_eq!(home.selector(Some("a")), Selector::TemporaryKey("ASIAB".to_owned()));
        let home = home
            .with("AWS_ACCESS_KEY_ID", "ASIAA")
            .with("AWS_SECRET_ACCESS_KEY", "s")
            .with("AWS_SESSION_TOKEN", "t");
        assert_eq!(home.selector(None), Selector::TemporaryKey("ASIAA".to_owned()));
    }

    #[test]
    fn a_profile_is_what_the_files_say_of_it() {
        let config = format!("[profile a]\n{SSO}\n[profile b]\n{SSO}\n[profile c]\nregion = x\n");
        let home = Home::new(&config, "");
        assert_eq!(home.fixed(Some("a")), home.fixed(Some("a")));
        assert_ne!(home.fixed(Some("a")), home.fixed(Some("b")));
        assert_eq!(home.selector(Some("c")), Selector::Unknown);
        assert_eq!(home.selector(None), Selector::Unknown);
        let before = home.fixed(Some("a"));
        let others = config.replace("[profile b]", "# more\n[profile b]\nregion = y");
        fs::write(home.folder.path().join(".aws/config"), others).unwrap();
        assert_eq!(home.fixed(Some("a")), before);
        let edited = config.replacen("builder", "admin", 1);
        fs::write(home.folder.path().join(".aws/config"), edited).unwrap();
        assert_ne!(home.fixed(Some("a")), before);
    }

    #[test]
    fn another_key_under_the_same_name_is_another_caller() {
        let keys =
            |id: &str| format!("[default]\naws_access_key_id={id}\naws_secret_access_key=s\n");
        let (one, two) = (Home::new("", &keys("AKIAONE")), Home::new("", &keys("AKIATWO")));
        assert_ne!(one.fixed(None), two.fixed(None));
        assert_eq!(one.fixed(None), Home::new("", &keys("AKIAONE")).fixed(Some("default")));
    }

    #[test]
    fn a_role_by_a_profile_stays_while_the_keys_behind_it_change() {
        let config = "[profile a]\nrole_arn = r\nsource_profile = b\n";
        let keys = |id: &str| format!("[b]\naws_access_key_id = {id}\naws_session_token = t\n");
        let (before, after) =
            (Home::new(config, &keys("ASIA1")), Home::new(config, &keys("ASIA2")));
        assert_eq!(before.fixed(Some("a")), after.fixed(Some("a")));
    }

    #[test]
    fn files_may_be_elsewhere() {
        let home = Home::new("", "");
        let elsewhere = home.folder.path().join("other");
        fs::write(&elsewhere, format!("[default]\n{SSO}")).unwrap();
        let home = home.with("AWS_CONFIG_FILE", "~/other");
        let text = home.fixed(None);
        let home = home.with("AWS_CONFIG_FILE", elsewhere.to_str().unwrap());
        assert_eq!(home.fixed(None), text);
    }

    #[test]
    fn a_web_identity_counts_where_no_profile_does() {
        let web = |config: &str, role: &str| {
            Home::new(config, "")
                .with("AWS_WEB_IDENTITY_TOKEN_FILE", "/token")
                .with("AWS_ROLE_ARN", role)
                .fixed(None)
        };
        let plain = web("[default]\nregion = x\n", "one");
        assert!(plain.starts_with("web identity"), "{plain}");
        assert_ne!(plain, web("", "two"));
        assert!(web(&format!("[default]\n{SSO}"), "one").starts_with("profile"));
    }

    #[test]
    fn where_aws_is_is_told_by_variables_and_by_the_profile() {
        let endpoints = |home: &Home, profile| home.environment().endpoints(profile);
        let config = "[profile a]\nservices = here\nendpoint_url = http://127.0.0.1:1\n\
                  [services here]\necr =\n  endpoint_url = http://127.0.0.1:2\n";
        let home = Home::new(config, "");
        assert_eq!(endpoints(&home, None), Vec::<String>::new());
        let told =
            ["ecr =", "endpoint_url = http://127.0.0.1:2", "endpoint_url = http://127.0.0.1:1"];
        assert_eq!(endpoints(&home, Some("a")), told);
        let home = home.with("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:3");
        assert_eq!(endpoints(&home, None), ["AWS_ENDPOINT_URL_STS=http://127.0.0.1:3"]);
    }
}
