//! Messages for denials and failures of AWS.

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ark_container_fakes::aws::{AccessKey, Fault, User};
use insta::assert_snapshot;

use super::{Cloud, alice};
use crate::identity;
use crate::sandbox::{Run, TBD};

/// Returns the error of a run by a user.
fn reported_as(cloud: &Cloud, user: &User, line: &str) -> String {
    cloud.reported(&cloud.sandbox.finish(&mut cloud.command_as(user, line)))
}

fn reported(cloud: &Cloud, line: &str) -> String {
    reported_as(cloud, &alice(), line)
}

#[test]
fn denial_of_another_account_names_both_accounts() {
    let bob = User::administrator("bob").with_account("111122223333");
    let cloud = Cloud::with(|account| account.with_user(bob.clone()));
    let reported = |line: &str| reported_as(&cloud, &bob, line);
    assert_snapshot!(reported("--list-repositories"), @"
    exit 4
    error: arn:aws:iam::111122223333:user/bob may not ecr:DescribeRepositories arn:aws:ecr:us-east-1:095412845506:repository/*, because no resource-based policy allows the ecr:DescribeRepositories action (AWS request REQUEST); the registry is in the account 095412845506, and the caller, from the environment (AWS_ACCESS_KEY_ID), in 111122223333: choose another profile or registry, or allow the caller in 095412845506
      help: an administrator of the AWS account can grant it; ark-catalog-container-tool --whoami shows your AWS identity
    ");
    for line in ["--create-repository a", "--list-images a", "--delete-repository a"] {
        let reported = reported(&format!("{line} --organization {TBD}"));
        assert!(reported.starts_with("exit 4\n"), "{reported}");
        assert!(
            reported.contains("in 111122223333: choose another profile or registry"),
            "{reported}"
        );
    }
    assert_eq!(cloud.aws.count("sts:GetCallerIdentity"), 0);
}

#[test]
fn expired_credentials_suggest_new_keys() {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::expired_token());
    assert_snapshot!(reported(&cloud, "--list-repositories"), @r"
    exit 3
    error: not authenticated: cannot list the repositories of ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: the AWS session has expired; get new keys for the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN): ExpiredTokenException: The security token included in the request is expired (AWS request REQUEST)
      help: for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    ");
    assert_snapshot!(reported(&cloud, &format!("--login a --organization {TBD}")), @r"
    exit 3
    error: not authenticated: cannot get a login for ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: the AWS session has expired; get new keys for the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN): ExpiredTokenException: The security token included in the request is expired (AWS request REQUEST)
      help: for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    ");
}

#[test]
fn wrong_access_key_is_rejected() {
    let cloud = Cloud::new();
    let nobody = User::new("nobody");
    assert_snapshot!(reported_as(&cloud, &nobody, "--list-repositories"), @r"
    exit 3
    error: not authenticated: cannot list the repositories of ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: AWS rejected the credentials of the environment (AWS_ACCESS_KEY_ID): UnrecognizedClientException: The security token included in the request is invalid. (AWS request REQUEST)
      help: for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    ");
    let id = alice().access_key().id.clone();
    let guess = alice().with_access_key(AccessKey::new(id, "guess"));
    assert_snapshot!(reported_as(&cloud, &guess, "--list-repositories"), @r"
    exit 3
    error: not authenticated: cannot list the repositories of ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: AWS rejected the credentials of the environment (AWS_ACCESS_KEY_ID): InvalidSignatureException: The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details. (AWS request REQUEST)
      help: for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    ");
}

#[test]
fn denied_action_names_the_policy() {
    let bob = User::new("bob");
    let cloud = Cloud::with(|account| account.with_user(bob.clone()));
    let reported = |line: &str| reported_as(&cloud, &bob, line);
    assert_snapshot!(reported("--list-repositories"), @r"
    exit 4
    error: arn:aws:iam::095412845506:user/bob may not ecr:DescribeRepositories arn:aws:ecr:us-east-1:095412845506:repository/*, because no identity-based policy allows the ecr:DescribeRepositories action (AWS request REQUEST)
      help: an administrator of the AWS account can grant it; ark-catalog-container-tool --whoami shows your AWS identity
    ");
    assert_snapshot!(reported(&format!("--create-repository a --organization {TBD}")), @r"
    exit 4
    error: arn:aws:iam::095412845506:user/bob may not ecr:CreateRepository arn:aws:ecr:us-east-1:095412845506:repository/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a, because no identity-based policy allows the ecr:CreateRepository action (AWS request REQUEST)
      help: an administrator of the AWS account can grant it; ark-catalog-container-tool --whoami shows your AWS identity
    ");
    assert_snapshot!(reported(&format!("--login a --organization {TBD}")), @r"
    exit 4
    error: arn:aws:iam::095412845506:user/bob may not ecr:GetAuthorizationToken *, because no identity-based policy allows the ecr:GetAuthorizationToken action (AWS request REQUEST)
      help: an administrator of the AWS account can grant it; ark-catalog-container-tool --whoami shows your AWS identity
    ");
}

#[test]
fn denied_role_is_reported() {
    let bob = User::new("bob").with_account("111122223333");
    let cloud = Cloud::with(|account| account.with_user(bob.clone()));
    let login = format!("--login a --organization {TBD}");
    let mut command = cloud.command_as(&bob, &login);
    command.env("ARK_ROLE_ARN", "arn:aws:iam::095412845506:role/ark-registry");
    assert_snapshot!(cloud.reported(&cloud.sandbox.finish(&mut command)), @r"
    exit 4
    error: arn:aws:iam::111122223333:user/bob may not sts:AssumeRole arn:aws:iam::095412845506:role/ark-registry (AWS request REQUEST); the registry is in the account 095412845506, and the caller, from the environment (AWS_ACCESS_KEY_ID), in 111122223333: choose another profile or registry, or allow the caller in 095412845506
      help: an administrator of the AWS account can grant it; ark-catalog-container-tool --whoami shows your AWS identity
    ");
}

#[test]
fn missing_repositories_and_images_are_not_found() {
    let cloud = Cloud::new();
    assert_snapshot!(reported(&cloud, &format!("--list-images a --organization {TBD}")), @r"
    exit 5
    error: repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a does not exist
      help: list the repositories: ark-catalog-container-tool --list-repositories --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    cloud.sandbox.write_image("sample", "hello");
    let push = format!("--push a:v1 --from oci:sample --organization {TBD}");
    assert_snapshot!(reported(&cloud, &push).replace(&cloud.host(), "HOST"), @r"
    exit 5
    error: repository HOST/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a does not exist
      help: create it: ark-catalog-container-tool --create-repository a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
    cloud.create(&["a"]);
    assert_snapshot!(reported(&cloud, &format!("--delete-image a:v1 --organization {TBD}")), @r"
    exit 5
    error: image 095412845506.dkr.ecr.us-east-1.amazonaws.com/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v1 does not exist
      help: list the images: ark-catalog-container-tool --list-images a --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
}

#[test]
fn immutable_tag_is_a_conflict() {
    let cloud = Cloud::new();
    cloud.printed(&format!("--create-repository a --immutable-tags --organization {TBD}"));
    for (folder, content) in [("first", "one"), ("second", "two")] {
        cloud.sandbox.write_image(folder, content);
    }
    let push = |folder: &str| format!("--push a:v1 --from oci:{folder} --organization {TBD}");
    cloud.printed(&push("first"));
    cloud.printed(&push("first"));
    assert_snapshot!(reported(&cloud, &push("second")).replace(&cloud.host(), "HOST"), @r"
    exit 6
    error: image HOST/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a:v1 cannot be changed: the tags of this repository are immutable
      help: push it under another tag: ark-catalog-container-tool --push a:TAG --from oci:second --organization 2ea25035-6aa4-42fb-9955-92288ea1b972
    ");
}

/// Runs the program, and returns its duration.
fn timed(cloud: &Cloud, command: &mut Command) -> (Run, Duration) {
    let started = Instant::now();
    (cloud.sandbox.finish(command), started.elapsed())
}

#[test]
fn one_throttled_call_costs_at_most_two_seconds() {
    for (action, line) in [
        ("ecr:DescribeRepositories", "--list-repositories".to_owned()),
        ("ecr:GetAuthorizationToken", format!("--login a --organization {TBD}")),
        ("sts:AssumeRole", format!("--login a --organization {TBD} --access pull")),
    ] {
        let cloud = Cloud::new();
        cloud.aws.inject(Fault::throttle().on(action).times(1));
        let (run, time) = timed(&cloud, &mut cloud.narrowed_command(&line));
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(cloud.aws.count(action), 2, "{action}");
        assert!(time < Duration::from_secs(2), "{action}: {time:?}");
    }
}

#[test]
fn aws_settings_limit_the_attempts() {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::throttle().on("ecr:DescribeRepositories"));
    let attempts = |command: &mut Command| {
        cloud.aws.forget_calls();
        let run = cloud.sandbox.finish(command);
        assert_eq!(run.code, 7, "{run:?}");
        cloud.aws.count("ecr:DescribeRepositories")
    };
    assert_eq!(attempts(cloud.command("--list-repositories").env("AWS_MAX_ATTEMPTS", "2")), 2);
    assert_eq!(attempts(cloud.command("--list-repositories").env("AWS_RETRY_MODE", "standard")), 3);
    cloud.sandbox.write(".aws/config", "[default]\nmax_attempts = 4\n");
    assert_eq!(attempts(&mut cloud.command("--list-repositories")), 4);
}

#[test]
fn unreachable_and_untrusted_endpoints_fail_within_five_seconds() {
    let cloud = Cloud::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let tls = UntrustedServer::start(&cloud);
    for (url, code) in [
        (format!("http://{free}"), 7),
        ("http://ecr.invalid".to_owned(), 7),
        (format!("https://localhost:{}", tls.port), 2),
    ] {
        for line in ["--list-repositories", "--whoami", &format!("--login a --organization {TBD}")]
        {
            let mut command = cloud.command(line);
            let (run, time) = timed(&cloud, command.env("AWS_ENDPOINT_URL", &url));
            assert_eq!(run.code, code, "{url} {line}: {run:?}");
            assert!(time < Duration::from_secs(5), "{url} {line}: {time:?}");
        }
    }
}

/// A server with a self-signed certificate.
struct UntrustedServer {
    process: Child,
    port: u16,
}

impl UntrustedServer {
    fn start(cloud: &Cloud) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let (key, certificate) = (cloud.sandbox.path("key.pem"), cloud.sandbox.path("tls.pem"));
        let made = Command::new("openssl")
            .args("req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost".split(' '))
            .args(["-addext", "subjectAltName=DNS:localhost", "-keyout"])
            .args([key.as_os_str(), "-out".as_ref(), certificate.as_os_str()])
            .output();
        assert!(made.unwrap().status.success());
        let process = Command::new("openssl")
            .args(["s_server", "-quiet", "-accept", &port.to_string(), "-key"])
            .args([key.as_os_str(), "-cert".as_ref(), certificate.as_os_str()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        Self { process, port }
    }
}

impl Drop for UntrustedServer {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn ca_bundle_makes_a_server_trusted() {
    let cloud = Cloud::new();
    let tls = UntrustedServer::start(&cloud);
    let url = format!("https://localhost:{}", tls.port);
    let reported = |command: &mut Command| {
        let run = cloud.sandbox.finish(command.env("AWS_ENDPOINT_URL", &url));
        assert_eq!(run.code, 2, "{run:?}");
        run.stderr
    };
    let untrusted = reported(&mut cloud.command("--list-repositories"));
    assert!(untrusted.contains("there is no trusted TLS connection"), "{untrusted}");
    assert!(untrusted.contains("AWS_CA_BUNDLE"), "{untrusted}");
    let bundle = cloud.sandbox.path("tls.pem");
    let mut trusting = cloud.command("--list-repositories");
    let trusted = reported(trusting.env("AWS_CA_BUNDLE", &bundle));
    // The certificate is one of an authority, which TLS rejects for a server.
    assert!(trusted.contains("CaUsedAsEndEntity"), "{trusted}");
    cloud.sandbox.write(".aws/config", "[default]\nca_bundle = ~/missing.pem\n");
    let missing = reported(&mut cloud.command("--list-repositories"));
    assert!(missing.contains(".aws/config:2: cannot read ~/missing.pem"), "{missing}");
}

#[test]
fn untrusted_key_set_is_a_usage_error() {
    let cloud = Cloud::new();
    let tls = UntrustedServer::start(&cloud);
    identity::aws::write_default_token(&cloud, &identity::provider(), &identity::alice());
    let mut command = cloud.sandbox.command("--whoami --registry local:registry");
    command
        .env("ARK_JWT_FILE", cloud.sandbox.path(".cache/tbd/jwt.json"))
        .env("ARK_KEY_SET", format!("https://localhost:{}/keys", tls.port))
        .env("ARK_JWT_AUDIENCE", "ark");
    let run = cloud.sandbox.finish(&mut command);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(run.stderr.contains("SSL_CERT_FILE"), "{run:?}");
}

#[test]
fn silent_tag_index_costs_at_most_three_seconds() {
    let cloud = Cloud::new();
    cloud.create(&["a"]);
    cloud.aws.inject(Fault::slow(Duration::from_secs(60)).on("tag:GetResources"));
    let line = format!("--list-repositories --organization {TBD}");
    let (run, time) = timed(&cloud, &mut cloud.command(&line));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains(&cloud.image("a")), "{run:?}");
    assert!(time < Duration::from_secs(5), "{time:?}");
}

#[test]
fn login_needs_no_call_of_sts_without_a_role() {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::slow(Duration::from_secs(60)).on("sts:GetCallerIdentity"));
    let login = format!("--login a --organization {TBD}");
    let (run, time) = timed(&cloud, &mut cloud.command(&login));
    assert_eq!(run.code, 0, "{run:?}");
    assert!(time < Duration::from_secs(2), "{time:?}");
    let (run, _) = timed(&cloud, &mut cloud.narrowed_command(&login));
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(cloud.aws.count("sts:GetCallerIdentity"), 0);
}

#[test]
fn throttling_is_temporary() {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::throttle().on("ecr:DescribeRepositories"));
    let run = cloud.run("--list-repositories");
    assert_snapshot!(cloud.reported(&run), @r"
    exit 7
    error: cannot list the repositories of ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: ThrottlingException: Rate exceeded (AWS request REQUEST)
      help: try again in a while
    ");
    assert_eq!(cloud.aws.count("ecr:DescribeRepositories"), 3);
}

#[test]
fn lost_answer_of_a_creation_is_recovered() {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::lost_answer().on("ecr:CreateRepository").times(1));
    let url = cloud.printed(&format!("--create-repository a --organization {TBD}"));
    assert_eq!(url.trim_end(), cloud.image("a"));
}

#[test]
fn failed_lifecycle_policy_is_put_again() {
    let cloud = Cloud::new();
    let policy = r#"{"rules": [{"rulePriority": 1, "selection": {"tagStatus": "untagged",
        "countType": "sinceImagePushed", "countUnit": "days", "countNumber": 14},
        "action": {"type": "expire"}}]}"#;
    cloud.sandbox.write("policy.json", policy);
    let create =
        format!("--create-repository a --lifecycle-policy policy.json --organization {TBD}");
    cloud.aws.inject(Fault::error("ServerException", "try later").on("ecr:PutLifecyclePolicy"));
    assert_snapshot!(reported(&cloud, &create).replace(&cloud.host(), "HOST"), @r"
    exit 7
    error: the repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a exists as requested, but without its lifecycle policy; repeat the same request to set it: cannot put the lifecycle policy on prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a in ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: ServerException: try later (AWS request REQUEST)
      help: try again in a while
    ");
    cloud.aws.clear_faults();
    cloud.printed(&create);
    cloud.aws.forget_calls();
    cloud.printed(&create);
    assert_eq!(cloud.aws.count("ecr:PutLifecyclePolicy"), 0);
}

#[test]
fn wrong_clock_is_corrected() {
    let cloud = Cloud::new();
    cloud.aws.set_clock_ahead(3600);
    cloud.create(&["a"]);
    // The first response has the time of AWS, which the second request uses.
    let errors: Vec<_> = cloud.aws.calls().into_iter().take(2).map(|call| call.error).collect();
    assert_eq!(errors, [Some("InvalidSignatureException".to_owned()), None]);
}

/// Returns the error after AWS denied a creation with this code.
fn refused(code: &str, message: &str, options: &str) -> String {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::error(code, message).on("ecr:CreateRepository"));
    let line = format!("--create-repository a --organization {TBD} {options}");
    let reported = cloud.reported(&cloud.run(&line));
    assert_eq!(cloud.aws.count("ecr:CreateRepository"), 1, "a retry is useless");
    reported
}

#[test]
fn reached_quota_is_reported() {
    let message = "The repository limit of the account is reached";
    assert_snapshot!(refused("LimitExceededException", message, ""), @"
    exit 1
    error: cannot create the repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a in ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: a quota of the account is reached: LimitExceededException: The repository limit of the account is reached (AWS request REQUEST)
      help: delete unused repositories or images, or request a higher quota; to list the quotas: aws service-quotas list-service-quotas --service-code ecr
    ");
}

#[test]
fn unusable_kms_key_is_reported() {
    let message = "The key is disabled";
    let reported = refused("KmsException", message, "--encryption kms:alias/images");
    assert_snapshot!(reported, @"
    exit 1
    error: cannot create the repository prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a in ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: AWS KMS cannot use the key: KmsException: The key is disabled (AWS request REQUEST)
      help: use a key that is enabled, in the registry's region, and permitted to you; to check it: aws kms describe-key --key-id KEY
    ");
}
