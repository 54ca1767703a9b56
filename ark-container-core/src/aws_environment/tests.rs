//! Tests of the settings of the AWS tools in variables and files.

use std::collections::HashMap;

use tempfile::TempDir;

use super::*;

/// A home directory with the two files of the AWS tools, and environment variables.
struct Home {
    folder: TempDir,
    variables: HashMap<&'static str, OsString>,
}

impl Home {
    fn new(config: &str, credentials: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join(".aws")).unwrap();
        fs::write(folder.path().join(".aws/config"), config).unwrap();
        fs::write(folder.path().join(".aws/credentials"), credentials).unwrap();
        let home = folder.path().into();
        Self { folder, variables: HashMap::from([("HOME", home)]) }
    }

    fn with(mut self, name: &'static str, value: impl Into<OsString>) -> Self {
        self.variables.insert(name, value.into());
        self
    }

    fn read(&self, profile: &str) -> Result<AwsSettings> {
        self.read_with(profile, None)
    }

    fn read_with(&self, profile: &str, endpoint_url: Option<&str>) -> Result<AwsSettings> {
        let choices = AwsChoices { profile: Some(profile), endpoint_url, uses_credentials: true };
        let variables = |name: &str| self.variables.get(name).cloned();
        AwsSettings::read(&choices, &variables)
    }

    /// Returns the error of reading, with `~` for the home directory.
    fn error(&self, profile: &str) -> String {
        let error = self.read(profile).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidInput, "{error}");
        error.to_string().replace(self.folder.path().to_str().unwrap(), "~")
    }
}

fn ecr_url(home: &Home, profile: &str) -> Option<String> {
    home.read(profile).unwrap().endpoint_urls.ecr
}

#[test]
fn invalid_variable_is_named() {
    for (name, value, problem) in [
        ("AWS_ENDPOINT_URL", "localhost:4566", "\"localhost:4566\" is not a URL such as"),
        ("AWS_ENDPOINT_URL_ECR", "http://localhost:4566\r", "4566\\r\" is not a URL"),
        ("AWS_ENDPOINT_URL_STS", "\"http://localhost\"", "is not a URL"),
        ("AWS_ENDPOINT_URL_RESOURCE_GROUPS_TAGGING_API", "ftp://a", "is not a URL"),
        ("AWS_ENDPOINT_URL", "http://a:hunter2@b", "it is not a URL"),
        ("AWS_RETRY_MODE", "legacy", "\"legacy\" is not a retry mode; set standard or adaptive"),
        ("AWS_MAX_ATTEMPTS", "0", "\"0\" is not a positive integer"),
        ("AWS_MAX_ATTEMPTS", "many", "\"many\" is not a positive integer"),
        ("AWS_USE_FIPS_ENDPOINT", "yes", "expected true or false"),
        ("AWS_USE_DUALSTACK_ENDPOINT", "1", "expected true or false"),
        ("HTTPS_PROXY", "http://127.0.0.1:9 ", "127.0.0.1:9 \" is not a URL"),
        ("https_proxy", "http://user:hunter2@proxy\r", "it is not a URL"),
        ("ALL_PROXY", "socks5://127.0.0.1:9", "is not a URL"),
        ("HTTP_PROXY", "ht tp", "is not a URL"),
        ("AWS_CA_BUNDLE", "/nonexistent.pem", "cannot read /nonexistent.pem"),
        ("AWS_CA_BUNDLE", "/dev/null", "/dev/null has no certificates in PEM"),
        ("SSL_CERT_FILE", "/nonexistent.pem", "cannot read /nonexistent.pem"),
        ("SSL_CERT_FILE", "/dev/null", "/dev/null has no certificates in PEM"),
    ] {
        let error = Home::new("", "").with(name, value).error("default");
        assert!(error.starts_with(&format!("{name}: ")), "{error}");
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
    use std::os::unix::ffi::OsStringExt as _;
    let home = Home::new("", "").with("AWS_RETRY_MODE", OsString::from_vec(vec![0xff]));
    assert_eq!(home.error("default"), "AWS_RETRY_MODE: it is not UTF-8");
}

#[test]
fn invalid_line_of_a_file_is_named() {
    let config = "[default]\nregion = x\n\n[profile a]\n";
    for (line, problem) in [
        ("retry_mode = legacy", "is not a retry mode"),
        ("max_attempts = 0 # none", "\"0\" is not a positive integer"),
        ("endpoint_url = nowhere", "is not a URL"),
        ("use_fips_endpoint = y", "expected true or false"),
        ("ca_bundle = ~/missing.pem", "cannot read ~/missing.pem"),
    ] {
        let home = Home::new(&format!("{config}{line}\n"), "");
        let error = home.error("a");
        assert!(error.starts_with("~/.aws/config:5: "), "{error}");
        assert!(error.contains(problem), "{error}");
        home.read("default").unwrap();
    }
    let home = Home::new("", "[a]\naws_access_key_id = AKIA\r");
    assert!(home.error("a").starts_with("~/.aws/credentials:2: it has a space"));
}

#[test]
fn key_variables_are_checked_unless_a_profile_is_chosen() {
    let read = |profile: Option<&str>, name: &str, value: &str| {
        let variables = |asked: &str| (asked == name).then(|| value.into());
        let choices = AwsChoices { profile, endpoint_url: None, uses_credentials: true };
        AwsSettings::read(&choices, &variables).map(drop)
    };
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIA\n"),
        ("AWS_SECRET_ACCESS_KEY", "secret\r"),
        ("AWS_SESSION_TOKEN", "a b"),
    ] {
        let error = read(None, name, value).unwrap_err();
        assert!(error.to_string().starts_with(&format!("{name}: it has a space")), "{error}");
        assert!(!error.to_string().contains("secret"), "{error}");
        read(Some("a"), name, value).unwrap();
    }
}

#[test]
fn empty_variables_count_as_unset() {
    let config = "[default]\nendpoint_url = http://127.0.0.1:1\nmax_attempts = 7\n\
        use_fips_endpoint =\nretry_mode = Adaptive\n";
    let names = [
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT_URL_ECR",
        "AWS_RETRY_MODE",
        "AWS_MAX_ATTEMPTS",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_CA_BUNDLE",
        "HTTPS_PROXY",
        "AWS_ACCESS_KEY_ID",
    ];
    let home = names.into_iter().fold(Home::new(config, ""), |home, name| home.with(name, ""));
    let settings = home.read("default").unwrap();
    assert_eq!(settings.endpoint_urls.sts.as_deref(), Some("http://127.0.0.1:1"));
    assert_eq!(settings.retry.max_attempts(), 7);
    assert_eq!(settings.retry.mode(), RetryMode::Adaptive);
    assert!(!settings.use_fips && settings.ecr_endpoint_url().is_some());
}

#[test]
fn empty_endpoint_is_rejected_if_the_sdk_signs_in() {
    let role = "[profile a]\nrole_arn = r\n[profile b]\nsso_session = s\nendpoint_url =\n";
    let home = Home::new(role, "").with("AWS_ENDPOINT_URL_STS", "");
    assert_eq!(home.error("a"), "AWS_ENDPOINT_URL_STS: it is empty: unset it");
    home.read("default").unwrap();
    assert_eq!(Home::new(role, "").error("b"), "~/.aws/config:5: it is empty: remove it");
}

#[test]
fn endpoint_of_service_overrides_common_endpoint() {
    let config = "[profile a]\nservices = here\nendpoint_url = http://127.0.0.1:1\n\
        [services here]\necr =\n  endpoint_url = http://127.0.0.1:2 # ECR\ns3 =\n  endpoint_url = http://s3\n";
    let home = Home::new(config, "");
    assert_eq!(ecr_url(&home, "default"), None);
    assert_eq!(ecr_url(&home, "a").as_deref(), Some("http://127.0.0.1:2"));
    assert_eq!(home.read("a").unwrap().endpoint_urls.sts.as_deref(), Some("http://127.0.0.1:1"));
    let home = home.with("AWS_ENDPOINT_URL", "http://127.0.0.1:3");
    assert_eq!(ecr_url(&home, "a").as_deref(), Some("http://127.0.0.1:3"));
    let home = home.with("AWS_ENDPOINT_URL_ECR", "http://127.0.0.1:4");
    assert_eq!(ecr_url(&home, "a").as_deref(), Some("http://127.0.0.1:4"));
    let home = home.with("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true");
    assert_eq!(ecr_url(&home, "a"), None);
    let of_program = home.read_with("a", Some("http://127.0.0.1:5")).unwrap();
    assert_eq!(of_program.endpoint_urls.ecr.as_deref(), Some("http://127.0.0.1:5"));
}

#[test]
fn fips_with_an_endpoint_url_is_rejected() {
    let home = Home::new("[default]\nuse_fips_endpoint = true\n", "");
    assert!(home.read("default").unwrap().use_fips);
    let home = home.with("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    assert_eq!(
        home.error("default"),
        "~/.aws/config:2: it cannot be combined with an endpoint URL; unset it or AWS_ENDPOINT_URL"
    );
    let home = home.with("AWS_USE_FIPS_ENDPOINT", "false");
    assert!(!home.read("default").unwrap().use_fips);
}

#[test]
fn config_file_variable_moves_the_file() {
    let home = Home::new("", "");
    fs::write(home.folder.path().join("other"), "[default]\nmax_attempts = 5\n").unwrap();
    let path = home.folder.path().join("other").into_os_string();
    for value in [OsString::from("~/other"), path] {
        let home = Home { folder: tempfile::tempdir().unwrap(), variables: home.variables.clone() };
        let home = home.with("AWS_CONFIG_FILE", value);
        assert_eq!(home.read("default").unwrap().retry.max_attempts(), 5);
    }
}

#[test]
fn certificates_are_ignored_without_tls() {
    let home = Home::new("", "").with("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    home.with("SSL_CERT_FILE", "/nonexistent.pem").read("default").unwrap();
}

#[test]
fn half_of_a_key_pair_is_rejected() {
    let config = "[profile a]\ncredential_source = Environment\nrole_arn = r\n";
    let (id, secret) = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY");
    for (given, missing) in [(id, secret), (secret, id)] {
        let home = Home::new(config, "").with(given, "AKIA").with(missing, "");
        let expected = format!("{missing}: it is not set, but {given} is: set or unset both");
        assert_eq!(home.error("a"), expected);
    }
    Home::new(config, "").with(id, "AKIA").with(secret, "secret").read("a").unwrap();
}

#[test]
fn keys_of_source_profiles_are_checked() {
    let config = "[profile a]\nrole_arn = r\nsource_profile = b\n\
                  [profile b]\naws_access_key_id = A\u{1}K\nsource_profile = a\n";
    let error = Home::new(config, "").error("a");
    assert!(error.starts_with("~/.aws/config:5: it has a space"), "{error}");
    let cycle = config.replace('\u{1}', "");
    Home::new(&cycle, "").read("a").unwrap();
}

#[test]
fn folder_without_certificates_is_named() {
    let home = Home::new("", "").with("SSL_CERT_DIR", "/nonexistent");
    assert_eq!(home.error("default"), "SSL_CERT_DIR: /nonexistent has no certificates in PEM");
}
