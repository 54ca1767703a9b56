//! Settings and credentials of the AWS tools: precedence, and errors of invalid ones.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::thread;

use ark_container_fakes::aws::{Fault, User};

use super::{Cloud, ROLE, alice};
use crate::sandbox::{Run, TBD};

const KEYS: [&str; 2] = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];

/// Returns the program without the keys of the environment.
fn without_keys(cloud: &Cloud, line: &str) -> Command {
    let mut command = cloud.command(line);
    for name in KEYS {
        command.env_remove(name);
    }
    command
}

/// Returns the lines of a profile with the keys of a user.
fn keys_of(user: &User) -> String {
    let key = user.access_key();
    format!("aws_access_key_id = {}\naws_secret_access_key = {}\n", key.id, key.secret)
}

/// Returns the exit code and the error of a failed run.
fn failed(run: Run) -> (i32, String) {
    assert_eq!(run.stdout, "", "{run:?}");
    (run.code, run.stderr)
}

#[test]
fn invalid_aws_settings_are_usage_errors() {
    let cloud = Cloud::new();
    let login = format!("--login a --organization {TBD}");
    for (name, value) in [
        ("AWS_ENDPOINT_URL", "localhost:1"),
        ("AWS_RETRY_MODE", "legacy"),
        ("AWS_MAX_ATTEMPTS", "0"),
        ("AWS_ACCESS_KEY_ID", "AKIA\n"),
        ("AWS_USE_FIPS_ENDPOINT", "true"),
        ("HTTP_PROXY", "http://127.0.0.1:9\r"),
    ] {
        for line in ["--whoami", "--list-repositories", &login] {
            let mut command = cloud.command(line);
            let (code, reported) = failed(cloud.sandbox.finish(command.env(name, value)));
            assert_eq!(code, 2, "{name} {line}: {reported}");
            assert!(reported.starts_with(&format!("error: {name}: ")), "{reported}");
        }
    }
}

#[test]
fn empty_variables_change_nothing() {
    let cloud = Cloud::new();
    let expected = cloud.printed("--list-repositories");
    for name in [
        "AWS_ENDPOINT_URL_ECR",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_RETRY_MODE",
        "AWS_MAX_ATTEMPTS",
        "AWS_SESSION_TOKEN",
        "AWS_USE_FIPS_ENDPOINT",
        "AWS_USE_DUALSTACK_ENDPOINT",
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "HTTP_PROXY",
    ] {
        let run = cloud.sandbox.finish(cloud.command("--list-repositories").env(name, ""));
        assert_eq!((run.code, run.stdout.as_str()), (0, expected.as_str()), "{name}: {run:?}");
    }
}

#[test]
fn empty_endpoint_variable_keeps_the_profile_role() {
    let cloud = Cloud::new();
    let config = format!(
        "[profile role]\nrole_arn = arn:aws:iam::{}:role/{ROLE}\nsource_profile = alice\n\
         [profile alice]\n{}",
        cloud.aws.host().account(),
        keys_of(&alice())
    );
    cloud.sandbox.write(".aws/config", config);
    let mut command = without_keys(&cloud, "--list-repositories --profile role");
    command.env("AWS_ENDPOINT_URL_STS", "").env("AWS_CONFIG_FILE", "").env("SSL_CERT_FILE", "");
    let run = cloud.sandbox.finish(&mut command);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(cloud.aws.count("sts:AssumeRole"), 1);
}

#[test]
fn profile_option_overrides_variables() {
    let cloud = Cloud::new();
    let config = format!("[profile builds]\n{}[profile none]\nregion = x\n", keys_of(&alice()));
    cloud.sandbox.write(".aws/config", config);
    let code = |line: &str, variables: &[(&str, &str)]| {
        let mut command = without_keys(&cloud, line);
        cloud.sandbox.finish(command.envs(variables.iter().copied())).code
    };
    let list = "--list-repositories";
    assert_eq!(code(list, &[("AWS_DEFAULT_PROFILE", "builds")]), 0);
    assert_eq!(code(list, &[("AWS_PROFILE", "none"), ("AWS_DEFAULT_PROFILE", "builds")]), 3);
    assert_eq!(code(list, &[("AWS_PROFILE", ""), ("AWS_DEFAULT_PROFILE", "builds")]), 0);
    assert_eq!(code("--list-repositories --profile builds", &[("AWS_PROFILE", "none")]), 0);
}

#[test]
fn profile_in_printed_commands_is_quoted() {
    let cloud = Cloud::new();
    let mut command = without_keys(&cloud, "--list-repositories");
    let (code, reported) =
        failed(cloud.sandbox.finish(command.env("AWS_PROFILE", "a; rm -rf $HOME")));
    assert_eq!(code, 3);
    assert!(reported.contains("--profile 'a; rm -rf $HOME'`"), "{reported}");
}

#[test]
fn broken_configuration_file_is_named_with_its_line() {
    let cloud = Cloud::new();
    cloud.sandbox.write(".aws/config", "[profile builds]\nregion = x\n\nno setting\n");
    for line in ["--list-repositories --profile builds", "--whoami"] {
        let (code, reported) = failed(cloud.run(line));
        assert_eq!(code, 2, "{reported}");
        assert!(reported.contains(".aws/config on line 4"), "{reported}");
    }
}

#[test]
fn aws_login_profile_uses_the_session_of_the_command_line() {
    let cloud = Cloud::new();
    let session = "[profile console]\nlogin_session = arn:aws:iam::095412845506:user/alice\n";
    cloud.sandbox.write(".aws/config", session);
    let key = alice();
    let key = key.access_key();
    let answer = format!(
        r#"{{"Version": 1, "AccessKeyId": "{}", "SecretAccessKey": "{}"}}"#,
        key.id, key.secret
    );
    let script = format!(
        "#!/bin/sh\n[ \"$*\" = \"configure export-credentials --format process --profile console\" ] \
         && echo '{answer}'\n"
    );
    let aws = cloud.sandbox.write("bin/aws", script);
    fs::set_permissions(&aws, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:/usr/bin:/bin", cloud.sandbox.path("bin").display());
    let list = || without_keys(&cloud, "--list-repositories --profile console");
    let run = cloud.sandbox.finish(list().env("PATH", path));
    assert_eq!(run.code, 0, "{run:?}");
    let (code, reported) =
        failed(cloud.sandbox.finish(list().env("PATH", "/nonexistent:/usr/bin:/bin")));
    assert_eq!(code, 3);
    assert!(reported.contains("run `aws login --profile console`"), "{reported}");
}

#[test]
fn failed_source_of_credentials_is_named() {
    let bob = User::new("bob");
    let cloud = Cloud::with(|account| account.with_user(bob.clone()));
    let role = "role_arn = arn:aws:iam::095412845506:role/none\nsource_profile = bob\n";
    let config = format!(
        "[profile bob]\n{}[profile code]\n{role}mfa_serial = arn:aws:iam::095412845506:mfa/bob\n\
         [profile role]\n{role}[profile command]\ncredential_process = /bin/false\n\
         [profile sso]\nsso_session = corp\nsso_account_id = 095412845506\nsso_role_name = builder\n\
         [sso-session corp]\nsso_region = us-east-1\nsso_start_url = https://sso.invalid/start\n\
         [profile web]\nrole_arn = arn:aws:iam::095412845506:role/none\n\
         web_identity_token_file = /nonexistent/token\n",
        keys_of(&bob)
    );
    cloud.sandbox.write(".aws/config", config);
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let container = format!("http://{free}/credentials");
    let web = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/nonexistent/token"),
        ("AWS_ROLE_ARN", "arn:aws:iam::095412845506:role/none"),
    ];
    let container = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str())];
    for (profile, variables, expected) in [
        (Some("code"), &[][..], "requires a code of the MFA device (mfa_serial)"),
        (Some("role"), &[], "the profile \"role\" returned no AWS credentials"),
        (
            Some("command"),
            &[],
            "the credential process of the profile \"command\" returned no AWS credentials",
        ),
        (
            Some("sso"),
            &[],
            "the profile \"sso\" has no SSO session: run `aws sso login --profile sso`",
        ),
        (Some("web"), &[], "the web identity of the profile \"web\" returned no AWS credentials"),
        (
            None,
            &web,
            "the web identity of AWS_WEB_IDENTITY_TOKEN_FILE and AWS_ROLE_ARN returned no",
        ),
        (
            None,
            &container,
            "the endpoint of the container (AWS_CONTAINER_CREDENTIALS_FULL_URI) returned no",
        ),
    ] {
        let option = profile.map(|name| format!(" --profile {name}")).unwrap_or_default();
        let mut command = without_keys(&cloud, &format!("--list-repositories{option}"));
        let run = cloud.sandbox.finish(command.envs(variables.iter().copied()));
        let (code, reported) = failed(run);
        assert!(code == 3 || (code == 7 && profile.is_none()), "{code}: {reported}");
        assert!(reported.contains(expected), "{reported}");
        let blames_others = reported.contains("aws sso login") && profile != Some("sso");
        assert!(!blames_others, "{reported}");
    }
}

#[test]
fn expired_credentials_of_a_container_name_the_container() {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::expired_token());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/credentials", listener.local_addr().unwrap());
    thread::spawn(move || {
        let body = r#"{"AccessKeyId": "ASIA", "SecretAccessKey": "s", "Token": "t",
            "Expiration": "2100-01-01T00:00:00Z"}"#;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len())
                .unwrap();
        }
    });
    let mut command = without_keys(&cloud, "--list-repositories");
    command.env("AWS_CONTAINER_CREDENTIALS_FULL_URI", url);
    let (code, reported) = failed(cloud.sandbox.finish(&mut command));
    assert_eq!(code, 3, "{reported}");
    assert!(reported.contains("renew the credentials of the container"), "{reported}");
    assert!(!reported.contains("sso login"), "{reported}");
}

#[test]
fn missing_credentials_are_reported_in_three_lines() {
    let cloud = Cloud::new();
    for line in ["--list-repositories", "--whoami", &format!("--login a --organization {TBD}")] {
        let (code, reported) = failed(cloud.sandbox.finish(&mut without_keys(&cloud, line)));
        assert_eq!(code, 3, "{reported}");
        assert!(
            reported.contains("no AWS credentials were found: run `aws configure"),
            "{reported}"
        );
        assert!(
            reported.lines().count() <= 3 && reported.len() < 600,
            "{} {reported}",
            reported.len()
        );
    }
}

#[test]
fn proxy_that_requires_a_password_is_a_usage_error() {
    let cloud = Cloud::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            assert!(stream.read(&mut [0; 1024]).unwrap() > 0);
            let answer = "HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).unwrap();
        }
    });
    for url in ["https://ecr.invalid", "http://ecr.invalid"] {
        let mut command = cloud.command("--list-repositories");
        command.env("AWS_ENDPOINT_URL", url).env("HTTPS_PROXY", &proxy).env("HTTP_PROXY", &proxy);
        let (code, reported) = failed(cloud.sandbox.finish(&mut command));
        assert_eq!(code, 2, "{reported}");
        assert!(reported.contains("the proxy requires a user name and a password"), "{reported}");
        assert!(reported.contains("HTTPS_PROXY"), "{reported}");
    }
}

#[test]
fn fips_and_dual_stack_variables_set_the_endpoint() {
    let cloud = Cloud::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = format!("http://{}", listener.local_addr().unwrap());
    for (variables, host) in [
        (&["AWS_USE_FIPS_ENDPOINT"][..], "api.ecr-fips.us-east-1.amazonaws.com"),
        (&["AWS_USE_DUALSTACK_ENDPOINT"], "ecr.us-east-1.api.aws"),
        (&["AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT"], "ecr-fips.us-east-1.api.aws"),
    ] {
        let mut command = cloud.command("--list-repositories");
        command.env_remove("AWS_ENDPOINT_URL").env("HTTPS_PROXY", &proxy);
        command.envs(variables.iter().map(|name| (name, "true")));
        let requested = thread::scope(|scope| {
            let proxy = scope.spawn(|| {
                let (stream, _) = listener.accept().unwrap();
                let mut line = String::new();
                BufReader::new(stream).read_line(&mut line).unwrap();
                line
            });
            assert_eq!(failed(cloud.sandbox.finish(&mut command)).0, 2);
            proxy.join().unwrap()
        });
        assert_eq!(requested, format!("CONNECT {host}:443 HTTP/1.1\r\n"));
    }
}

#[test]
fn missing_file_of_root_certificates_is_a_usage_error() {
    let cloud = Cloud::new();
    let mut command = cloud.command("--list-repositories");
    command.env("AWS_ENDPOINT_URL", "https://127.0.0.1:1").env("SSL_CERT_FILE", "/missing.pem");
    let (code, reported) = failed(cloud.sandbox.finish(&mut command));
    assert_eq!(code, 2, "{reported}");
    assert!(reported.starts_with("error: SSL_CERT_FILE: cannot read /missing.pem"), "{reported}");
}
