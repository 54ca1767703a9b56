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
//! - Whatever else gives credentials (containers, machines, the program that uses this library) tells
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
    /// Whoever this temporary access key was given to.
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
    // A role that is assumed stands for itself, whoever assumes it.
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
mod tests;
