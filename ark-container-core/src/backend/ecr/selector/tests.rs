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
fn a_profile_that_is_asked_for_by_name_comes_before_keys_in_the_environment() {
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
    let keys = |id: &str| format!("[default]\naws_access_key_id={id}\naws_secret_access_key=s\n");
    let (one, two) = (Home::new("", &keys("AKIAONE")), Home::new("", &keys("AKIATWO")));
    assert_ne!(one.fixed(None), two.fixed(None));
    assert_eq!(one.fixed(None), Home::new("", &keys("AKIAONE")).fixed(Some("default")));
}

#[test]
fn a_role_by_a_profile_stays_while_the_keys_behind_it_change() {
    let config = "[profile a]\nrole_arn = r\nsource_profile = b\n";
    let keys = |id: &str| format!("[b]\naws_access_key_id = {id}\naws_session_token = t\n");
    let (before, after) = (Home::new(config, &keys("ASIA1")), Home::new(config, &keys("ASIA2")));
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
    let told = ["ecr =", "endpoint_url = http://127.0.0.1:2", "endpoint_url = http://127.0.0.1:1"];
    assert_eq!(endpoints(&home, Some("a")), told);
    let home = home.with("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:3");
    assert_eq!(endpoints(&home, None), ["AWS_ENDPOINT_URL_STS=http://127.0.0.1:3"]);
}
