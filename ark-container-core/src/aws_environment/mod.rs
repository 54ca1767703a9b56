//! [`AwsSettings`]: reads and checks the environment variables and files of the AWS tools before the SDK does, and
//! the HTTP client of the SDK.
//!
//! The SDK panics on some invalid values, ignores others, and accepts an empty variable as a value. In contrast,
//! [`AwsSettings`] treats an empty variable as unset, and reports an invalid value with its origin.
//!
//! Source: <https://docs.aws.amazon.com/sdkref/latest/guide/settings-reference.html>

pub(crate) mod http_client;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use aws_config::retry::{RetryConfig, RetryMode};

use crate::error::{Error, Result};

/// The proxy variables for HTTPS and for HTTP, in the HTTP client's order of precedence.
const PROXY_VARIABLES: [[&str; 4]; 2] = [
    ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"],
    ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"],
];

/// The keys of an AWS caller: environment variable and name in a profile.
const KEYS: [(&str, &str); 3] = [
    ("AWS_ACCESS_KEY_ID", "aws_access_key_id"),
    ("AWS_SECRET_ACCESS_KEY", "aws_secret_access_key"),
    ("AWS_SESSION_TOKEN", "aws_session_token"),
];

/// The maximum length of a chain of `source_profile` settings.
const MAX_SOURCE_PROFILES: usize = 10;

/// The profile settings that make the SDK call AWS for credentials.
const SIGN_IN_SETTINGS: [&str; 3] = ["role_arn", "sso_session", "sso_start_url"];
/// The environment variables with the endpoints of these calls.
const SIGN_IN_ENDPOINTS: [&str; 4] = [
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ENDPOINT_URL_SSO",
    "AWS_ENDPOINT_URL_SSO_OIDC",
];

/// The choices of the program, which take precedence over the environment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct AwsChoices<'a> {
    pub(crate) profile: Option<&'a str>,
    pub(crate) endpoint_url: Option<&'a str>,
    /// Whether the program uses AWS credentials.
    pub(crate) uses_credentials: bool,
}

/// One value for each service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Services<T> {
    pub(crate) ecr: T,
    pub(crate) sts: T,
    pub(crate) tagging: T,
}

/// The settings of the AWS tools that apply to a backend.
#[derive(Debug)]
pub(crate) struct AwsSettings {
    /// The URL of each service with an endpoint other than AWS's own.
    pub(crate) endpoint_urls: Services<Option<String>>,
    pub(crate) use_fips: bool,
    pub(crate) use_dual_stack: bool,
    pub(crate) retry: RetryConfig,
    /// The root certificates in PEM that replace the system's.
    pub(crate) ca_bundle: Option<Vec<u8>>,
}

impl AwsSettings {
    /// Reads the environment of this process and the AWS files.
    ///
    /// # Errors
    /// [`Error::Setting`] with the variable, or the file and line, of an invalid value.
    pub(crate) fn of_this_process(choices: &AwsChoices<'_>) -> Result<Self> {
        Self::read(choices, &|name| env::var_os(name))
    }

    fn read(
        choices: &AwsChoices<'_>,
        variables: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Self> {
        let source = Source::open(profile_in_use(choices.profile), variables)?;
        if choices.uses_credentials {
            source.check_keys(choices.profile.is_none())?;
            source.check_sign_in_endpoints()?;
        }
        let endpoint_urls = source.endpoint_urls(choices.endpoint_url)?;
        let own_url = endpoint_urls.ecr.as_ref().or(endpoint_urls.sts.as_ref());
        let flag = |variable, key| match source.get(variable, key)? {
            None => Ok(false),
            Some(setting) => match (setting.value.to_ascii_lowercase().as_str(), own_url) {
                ("false", _) => Ok(false),
                ("true", None) => Ok(true),
                ("true", Some(url)) => {
                    let problem = "it cannot be combined with an endpoint URL";
                    Err(setting.error(problem).with_help(format!("unset it or {}", url.origin)))
                }
                _ => Err(setting.error("expected true or false")),
            },
        };
        let use_fips = flag("AWS_USE_FIPS_ENDPOINT", "use_fips_endpoint")?;
        let use_dual_stack = flag("AWS_USE_DUALSTACK_ENDPOINT", "use_dualstack_endpoint")?;
        source.check_proxies()?;
        let encrypted =
            |url: &Option<Setting>| url.as_ref().is_none_or(|url| url.value.starts_with("https:"));
        let urls = [&endpoint_urls.ecr, &endpoint_urls.sts, &endpoint_urls.tagging];
        let ca_bundle = match urls.into_iter().any(encrypted) {
            true => source.ca_bundle()?,
            false => None,
        };
        let text = |url: Option<Setting>| url.map(|url| url.value);
        Ok(Self {
            endpoint_urls: Services {
                ecr: text(endpoint_urls.ecr),
                sts: text(endpoint_urls.sts),
                tagging: text(endpoint_urls.tagging),
            },
            use_fips,
            use_dual_stack,
            retry: source.retry()?,
            ca_bundle,
        })
    }

    /// Returns the endpoint URL of ECR, unless it is AWS's own.
    pub(crate) fn ecr_endpoint_url(&self) -> Option<&str> {
        self.endpoint_urls.ecr.as_deref()
    }
}

/// Returns the value of an environment variable, unless it is empty.
pub(crate) fn variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// Returns the profile that the SDK and the messages use.
pub(crate) fn profile_in_use(chosen: Option<&str>) -> String {
    let named = || ["AWS_PROFILE", "AWS_DEFAULT_PROFILE"].into_iter().find_map(variable);
    chosen.map(str::to_owned).or_else(named).unwrap_or_else(|| "default".to_owned())
}

/// Returns whether a profile has a value for this name.
pub(crate) fn profile_has(profile: &str, name: &str) -> bool {
    let variables = |name: &str| env::var_os(name);
    let source = Source::open(profile.to_owned(), &variables);
    source.is_ok_and(|source| source.in_profile(name).is_some())
}

/// Fails with the line of an AWS file that the SDK cannot parse. The SDK itself would ignore the whole file.
pub(crate) async fn check_files(profile: &str) -> Result<()> {
    let (fs, env, files) = Default::default();
    let loaded = aws_config::profile::load(&fs, &env, &files, Some(profile.to_owned().into()));
    let Err(error) = loaded.await else { return Ok(()) };
    // `error parsing FILE on line N:` and the problem on the next line.
    let problem = match std::error::Error::source(&error) {
        Some(cause) => cause.to_string(),
        None => error.to_string(),
    };
    let words: Vec<_> = problem.split_whitespace().collect();
    Err(Error::invalid(format!("cannot use the AWS configuration: {}", words.join(" "))))
}

/// A value and its origin: an environment variable, or a file and line.
#[derive(Debug)]
struct Setting {
    value: String,
    origin: String,
}

impl Setting {
    fn error(&self, problem: impl Into<String>) -> Error {
        Error::invalid(problem).within(&self.origin)
    }

    /// Returns the value for an error, or "it" if the value may contain a password.
    fn shown(&self) -> String {
        if self.value.contains('@') { "it".to_owned() } else { format!("{:?}", self.value) }
    }

    /// Checks the URL of an endpoint or of a proxy. Only a proxy URL may have a password or lack the scheme.
    fn check_url(&self, is_proxy: bool) -> Result<()> {
        let text = match self.value.contains("://") {
            false if is_proxy => format!("http://{}", self.value),
            _ => self.value.clone(),
        };
        // The URL parser skips white space that the HTTP client rejects.
        let is_plain = text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"');
        let url = reqwest::Url::parse(&text).ok().filter(|url| {
            let is_anonymous = url.username().is_empty() && url.password().is_none();
            let is_http = matches!(url.scheme(), "http" | "https");
            is_plain && url.has_host() && is_http && (is_proxy || is_anonymous)
        });
        match url {
            Some(_) => Ok(()),
            None => Err(self.error(format!(
                "{} is not a URL such as https://HOST or http://HOST:PORT",
                self.shown()
            ))),
        }
    }
}

/// The environment variables and the two files of the AWS tools.
struct Source<'a> {
    variables: &'a dyn Fn(&str) -> Option<OsString>,
    profile: String,
    config: AwsFile,
    credentials: AwsFile,
}

impl<'a> Source<'a> {
    fn open(profile: String, variables: &'a dyn Fn(&str) -> Option<OsString>) -> Result<Self> {
        let file = |variable: &str, in_home: &str| -> Result<AwsFile> {
            let path = match text_of(variable, variables)? {
                Some(path) => expanded(&path, variables),
                None => expanded(&format!("~/{in_home}"), variables),
            };
            // A missing or unreadable file is empty, as for the SDK.
            let text = fs::read_to_string(&path).unwrap_or_default();
            Ok(AwsFile { path, text })
        };
        Ok(Self {
            variables,
            profile,
            config: file("AWS_CONFIG_FILE", ".aws/config")?,
            credentials: file("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials")?,
        })
    }

    fn variable(&self, name: &str) -> Result<Option<Setting>> {
        let value = text_of(name, self.variables)?;
        Ok(value.map(|value| Setting { value, origin: name.to_owned() }))
    }

    /// Returns the value in the profile, unless it is empty.
    fn in_profile(&self, name: &str) -> Option<Setting> {
        self.line_of_profile(name).filter(|setting| !setting.value.is_empty())
    }

    /// Returns the value in the profile. The credentials file takes precedence over the configuration file.
    fn line_of_profile(&self, name: &str) -> Option<Setting> {
        self.line_of(&self.profile, name)
    }

    fn line_of(&self, profile: &str, name: &str) -> Option<Setting> {
        self.credentials
            .find(profile, "", name)
            .or_else(|| self.config.find(&format!("profile {profile}"), "", name))
            .or_else(|| self.config.find("default", "", name).filter(|_| profile == "default"))
    }

    fn get(&self, variable: &str, in_profile: &str) -> Result<Option<Setting>> {
        Ok(self.variable(variable)?.or_else(|| self.in_profile(in_profile)))
    }

    /// Returns the endpoint of each service. The order of precedence: the program, the variable of the service, the
    /// variable for all services, the services section of the profile, the profile.
    ///
    /// Source: <https://docs.aws.amazon.com/sdkref/latest/guide/feature-ss-endpoints.html>
    fn endpoint_urls(&self, of_program: Option<&str>) -> Result<Services<Option<Setting>>> {
        if let Some(url) = of_program {
            let url = || {
                let origin = "the endpoint URL of the program".to_owned();
                Some(Setting { value: url.to_owned(), origin })
            };
            if let Some(url) = url() {
                url.check_url(false)?;
            }
            return Ok(Services { ecr: url(), sts: url(), tagging: url() });
        }
        let ignored =
            self.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "ignore_configured_endpoint_urls")?;
        if ignored.is_some_and(|ignored| ignored.value.eq_ignore_ascii_case("true")) {
            return Ok(Services::default());
        }
        let services = self.in_profile("services").map(|name| format!("services {}", name.value));
        let url = |service: &str| -> Result<Option<Setting>> {
            let own = format!("AWS_ENDPOINT_URL_{}", service.to_ascii_uppercase());
            let of_service = || {
                let section = services.as_deref()?;
                let url = self.config.find(section, service, "endpoint_url");
                url.filter(|url| !url.value.is_empty())
            };
            let url = self
                .variable(&own)?
                .or(self.variable("AWS_ENDPOINT_URL")?)
                .or_else(of_service)
                .or_else(|| self.in_profile("endpoint_url"));
            if let Some(url) = &url {
                url.check_url(false)?;
            }
            Ok(url)
        };
        Ok(Services {
            ecr: url("ecr")?,
            sts: url("sts")?,
            tagging: url("resource_groups_tagging_api")?,
        })
    }

    /// Returns how calls are retried. The default of the SDK is three attempts.
    fn retry(&self) -> Result<RetryConfig> {
        let mut retry = RetryConfig::standard();
        if let Some(mode) = self.get("AWS_RETRY_MODE", "retry_mode")? {
            retry = match mode.value.to_ascii_lowercase().as_str() {
                "standard" => retry,
                "adaptive" => retry.with_retry_mode(RetryMode::Adaptive),
                _ => {
                    let problem = format!("{} is not a retry mode", mode.shown());
                    return Err(mode.error(problem).with_help("set standard or adaptive"));
                }
            };
        }
        if let Some(attempts) = self.get("AWS_MAX_ATTEMPTS", "max_attempts")? {
            retry = match attempts.value.parse() {
                Ok(count @ 1..) => retry.with_max_attempts(count),
                _ => {
                    let problem = format!("{} is not a positive integer", attempts.shown());
                    return Err(attempts.error(problem));
                }
            };
        }
        Ok(retry)
    }

    /// Checks the keys of the caller and of its chain of source profiles. The SDK panics on a key with a line break,
    /// which a paste easily adds.
    fn check_keys(&self, with_variables: bool) -> Result<()> {
        let source = self.in_profile("credential_source");
        if with_variables || source.is_some_and(|source| source.value == "Environment") {
            let [id, secret, token] = KEYS.map(|(variable, _)| self.variable(variable));
            let (id, secret) = (id?, secret?);
            id.iter().chain(&secret).chain(&token?).try_for_each(check_key)?;
            match (&id, &secret) {
                (Some(_), None) => return Err(half_of_a_key(KEYS[1].0, KEYS[0].0)),
                (None, Some(_)) => return Err(half_of_a_key(KEYS[0].0, KEYS[1].0)),
                _ => {}
            }
        }
        let mut profile = self.profile.clone();
        for _ in 0..MAX_SOURCE_PROFILES {
            for (_, name) in KEYS {
                self.line_of(&profile, name).iter().try_for_each(check_key)?;
            }
            match self.line_of(&profile, "source_profile") {
                Some(next) => profile = next.value,
                None => break,
            }
        }
        Ok(())
    }

    /// Checks the endpoints that the SDK calls for credentials. The SDK panics on an empty URL in a variable or in
    /// the profile.
    fn check_sign_in_endpoints(&self) -> Result<()> {
        let mut signs_in = SIGN_IN_SETTINGS.iter().filter_map(|name| self.in_profile(name));
        if signs_in.next().is_none() && self.variable("AWS_WEB_IDENTITY_TOKEN_FILE")?.is_none() {
            return Ok(());
        }
        let is_empty = |name: &&&str| (self.variables)(name).is_some_and(|url| url.is_empty());
        if let Some(name) = SIGN_IN_ENDPOINTS.iter().find(is_empty) {
            return Err(Error::invalid("it is empty: unset it").within(name));
        }
        match self.line_of_profile("endpoint_url") {
            Some(url) if url.value.is_empty() => Err(url.error("it is empty: remove it")),
            _ => Ok(()),
        }
    }

    /// Checks the proxy URLs. The HTTP client would ignore an invalid one and connect directly.
    fn check_proxies(&self) -> Result<()> {
        for names in PROXY_VARIABLES {
            for name in names {
                if let Some(proxy) = self.variable(name)? {
                    proxy.check_url(true)?;
                    break;
                }
            }
        }
        Ok(())
    }

    /// Returns the root certificates that replace the system's, and checks `SSL_CERT_FILE` and `SSL_CERT_DIR`.
    fn ca_bundle(&self) -> Result<Option<Vec<u8>>> {
        if let Some(bundle) = self.get("AWS_CA_BUNDLE", "ca_bundle")? {
            return bundle_of(&bundle, &expanded(&bundle.value, self.variables)).map(Some);
        }
        if let Some(file) = (self.variables)("SSL_CERT_FILE") {
            let path = PathBuf::from(&file);
            let value = file.to_string_lossy().into_owned();
            let setting = Setting { value, origin: "SSL_CERT_FILE".to_owned() };
            // The HTTP client ignores invalid certificates in this file, but needs at least one valid certificate.
            let pem = read_bundle(&setting, &path)?;
            let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
            if !certificates.into_iter().any(|certificate| is_trusted(vec![certificate])) {
                return Err(no_certificates(&setting, &path));
            }
        } else if let Some(folder) = self.variable("SSL_CERT_DIR")? {
            let path = PathBuf::from(&folder.value);
            if !fs::read_dir(&path).is_ok_and(|mut entries| entries.next().is_some()) {
                return Err(no_certificates(&folder, &path));
            }
        }
        Ok(None)
    }
}

fn half_of_a_key(missing: &str, given: &str) -> Error {
    Error::invalid(format!("it is not set, but {given} is: set or unset both")).within(missing)
}

fn check_key(key: &Setting) -> Result<()> {
    match is_key(&key.value) {
        true => Ok(()),
        false => Err(
            key.error("it has a space, a line break or another character that is invalid in a key")
        ),
    }
}

/// Returns whether all characters are valid in an access key, a secret key or a session token.
pub(crate) fn is_key(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Reads root certificates, and checks that all are valid. The HTTP client panics on an invalid one.
fn bundle_of(setting: &Setting, path: &Path) -> Result<Vec<u8>> {
    let pem = read_bundle(setting, path)?;
    let certificates = reqwest::Certificate::from_pem_bundle(&pem).unwrap_or_default();
    match certificates.is_empty() || !is_trusted(certificates) {
        true => Err(no_certificates(setting, path)),
        false => Ok(pem),
    }
}

/// Returns whether an HTTP client accepts all of these root certificates.
fn is_trusted(certificates: Vec<reqwest::Certificate>) -> bool {
    reqwest::Client::builder().tls_certs_only(certificates).build().is_ok()
}

fn read_bundle(setting: &Setting, path: &Path) -> Result<Vec<u8>> {
    let read = fs::read(path);
    read.map_err(|error| {
        setting.error(format!("cannot read {}", path.display())).with_source(error)
    })
}

fn no_certificates(setting: &Setting, path: &Path) -> Error {
    setting.error(format!("{} has no certificates in PEM", path.display()))
}

/// Returns the text of a variable. An empty variable counts as unset.
fn text_of(name: &str, variables: &dyn Fn(&str) -> Option<OsString>) -> Result<Option<String>> {
    match variables(name).filter(|value| !value.is_empty()).map(OsString::into_string) {
        None => Ok(None),
        Some(Ok(text)) => Ok(Some(text)),
        Some(Err(_)) => Err(Error::invalid("it is not UTF-8").within(name)),
    }
}

fn expanded(path: &str, variables: &dyn Fn(&str) -> Option<OsString>) -> PathBuf {
    match (path.strip_prefix("~/"), variables("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => path.into(),
    }
}

/// A file of the AWS tools.
struct AwsFile {
    path: PathBuf,
    text: String,
}

impl AwsFile {
    /// Returns the last value of a name in a section, or among the indented lines below `parent`.
    fn find(&self, section: &str, parent: &str, name: &str) -> Option<Setting> {
        let (mut is_within, mut above) = (false, "");
        let mut found = None;
        for (index, line) in self.text.lines().enumerate() {
            let text = line.trim_matches([' ', '\t']);
            if let Some(header) = text.strip_prefix('[') {
                let header = header.split(']').next().unwrap_or_default();
                is_within = header.split_whitespace().eq(section.split_whitespace());
                continue;
            }
            let Some((own, value)) = text.split_once('=') else { continue };
            let own = own.trim();
            if !is_within || text.starts_with(['#', ';']) {
                continue;
            }
            let is_nested = line.starts_with([' ', '\t']);
            if !is_nested {
                above = own;
            }
            let is_below = if is_nested { above } else { "" };
            if own.eq_ignore_ascii_case(name) && is_below.eq_ignore_ascii_case(parent) {
                // A comment starts after white space.
                let comment = [" #", " ;", "\t#", "\t;"].into_iter();
                let end = comment.filter_map(|mark| value.find(mark)).min();
                let value = value[..end.unwrap_or(value.len())].trim_matches([' ', '\t']);
                let origin = format!("{}:{}", self.path.display(), index + 1);
                found = Some(Setting { value: value.to_owned(), origin });
            }
        }
        found
    }
}

#[cfg(test)]
mod tests;
