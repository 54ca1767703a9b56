//! Clients that get logins from the helper: docker, podman, buildah and skopeo, for a local registry and for ECR.

use std::env;
use std::process::Command;
use std::time::{Duration, SystemTime};

use ark_container_core::model::OrganizationId;
use ark_container_core::testing::{SampleImage, TokenIssuer};
use ark_container_fakes::aws::Fault;
use insta::assert_snapshot;

use super::{folder, helper, helper_at, login, reported, sent};
use crate::clients::{COPY_UNCHANGED, assert_same, contents};
use crate::ecr::{Cloud, ROLE, printed_by_all};
use crate::identity::aws::{self, ACCESS, arn};
use crate::identity::{alice, provider};
use crate::sandbox::{Run, Served, TBD};
use crate::tools::{Daemon, Tools};

/// Returns a registry with the repository `a`, a docker configuration for it, and an image to push.
fn configured() -> Served {
    let served = Served::with_repositories(&["a"]);
    let mut configure = served.sandbox.command("--configure-docker");
    let run = served.sandbox.finish(configure.env("DOCKER_CONFIG", served.sandbox.path("docker")));
    assert_eq!(run.code, 0, "{run:?}");
    SampleImage::new("hello").write_oci_layout(&served.sandbox.path("sample"), None).unwrap();
    served
}

/// Returns a tool with the helper on its PATH, and with the helper's settings.
fn with_helper(served: &Served, tools: &Tools<'_>, line: &str) -> Command {
    let mut command = tools.command(line);
    command
        .env_remove("REGISTRY_AUTH_FILE")
        .env("PATH", format!("{}:{}", folder(), env::var("PATH").unwrap()))
        .env(
            "ARK_REGISTRY",
            format!("local:{}", served.sandbox.path("data/ark/registry").display()),
        );
    command
}

fn run(served: &Served, tools: &Tools<'_>, line: &str) -> Run {
    served.sandbox.finish(&mut with_helper(served, tools, line))
}

/// Runs a tool, which must succeed, and returns what it printed.
fn printed(served: &Served, tools: &Tools<'_>, line: &str) -> String {
    let run = run(served, tools, line);
    assert_eq!(run.code, 0, "{line}: {run:?}");
    run.stdout.trim_end().to_owned()
}

#[test]
fn docker_pushes_and_pulls_and_logs_in_and_out() {
    let served = configured();
    let tools = served.tools(&[]);
    let daemon = Daemon::start();
    let tool = format!("docker --host {}", daemon.host());
    let docker = |line: &str| printed(&served, &tools, &format!("{tool} {line}"));
    let image = SampleImage::builder().with_layer([("x", "y")]).build();
    image.write_docker_archive(&served.sandbox.path("image.tar"), &["sample:1"]).unwrap();
    docker("load -q -i image.tar");
    let remote = served.image("a:v1");
    docker(&format!("tag sample:1 {remote}"));
    docker(&format!("push -q {remote}"));
    docker(&format!("rmi -f sample:1 {remote}"));
    docker(&format!("pull -q {remote}"));

    // Log in with a printed password, and without a password.
    let host = served.server.host();
    let password = served.password("a", "push");
    for line in [
        format!("{tool} login --username AWS --password-stdin {host}"),
        format!("{tool} login {host}"),
    ] {
        let mut command = with_helper(&served, &tools, &line);
        command.stdin(sent(&password));
        let run = served.sandbox.finish(&mut command);
        assert_eq!(run.code, 0, "{line}: {run:?}");
        assert!(run.stdout.contains("Login Succeeded"), "{line}: {run:?}");
    }
    docker(&format!("logout {host}"));

    let mut command = with_helper(&served, &tools, &format!("{tool} pull -q {remote}"));
    let run = served.sandbox.finish(command.env("ARK_JWT_FILE", "none"));
    assert_ne!(run.code, 0);
    assert_snapshot!(run.stderr.replace(host, "HOST"), @r#"
    docker-credential-ark: not authenticated: there is no token: the file none does not exist
    help: write a new token to none; or remove the setting of this file (ARK_JWT_FILE), and run `ark-auth-tool -u <user>`
    Error response from daemon: Head "http://HOST/v2/prod/2ea25035-6aa4-42fb-9955-92288ea1b972/a/manifests/v1": no basic auth credentials
    "#);
}

#[test]
fn podman_pushes_and_pulls() {
    image_comes_back("podman");
}

#[test]
fn buildah_pushes_and_pulls() {
    image_comes_back("buildah");
}

fn image_comes_back(tool: &str) {
    let served = configured();
    let tools = served.tools(&[]);
    let tool = |line: &str| printed(&served, &tools, &format!("{tool} {line}"));
    tool("pull -q oci:sample");
    let id = tool("images -q");
    let remote = served.image("a:v1");
    tool(&format!("push -q {id} docker://{remote}"));
    tool("rmi -a -f");
    tool(&format!("pull -q {remote}"));
    assert_eq!(tool("images -q"), id);
}

#[test]
fn skopeo_shows_the_error_of_the_helper() {
    let served = configured();
    let tools = served.tools(&[]);
    let remote = format!("docker://{}", served.image("a:v1"));
    printed(&served, &tools, &format!("skopeo copy -q oci:sample {remote}"));
    printed(&served, &tools, &format!("skopeo copy -q {remote} dir:pulled"));

    let line = format!("skopeo inspect {remote}");
    let mut command = with_helper(&served, &tools, &line);
    let run = served.sandbox.finish(command.env("ARK_JWT_FILE", "none"));
    assert_ne!(run.code, 0);
    let expected =
        "docker-credential-ark: not authenticated: there is no token: the file none does not";
    assert!(run.stderr.contains(expected), "{run:?}");
}

#[test]
fn helper_works_from_the_configuration_of_podman() {
    let served = Served::with_repositories(&["a"]);
    served.sandbox.write_image("sample", "hello");
    let tools = served.tools(&[]);
    let (host, remote) = (served.server.host(), format!("docker://{}", served.image("a:v1")));
    let copy = format!("skopeo copy -q oci:sample {remote}");
    let refused = run(&served, &tools, &copy);
    assert!(refused.stderr.contains("unauthorized"), "{refused:?}");
    // The file in which podman login stores passwords.
    let entry = format!(r#"{{"credHelpers": {{"{host}": "ark"}}}}"#);
    let auth = served.sandbox.write("run/containers/auth.json", entry);
    printed(&served, &tools, &copy);
    std::fs::remove_file(auth).unwrap();
    let registries = served.sandbox.path(".config/containers/registries.conf");
    let text = std::fs::read_to_string(&registries).unwrap();
    std::fs::write(&registries, format!("credential-helpers = [\"ark\"]\n{text}")).unwrap();
    printed(&served, &tools, &copy);
    let list = format!("skopeo inspect docker://{host}/prod/{TBD}/a:v1");
    printed(&served, &tools, &list);
}

const TOKEN: &str = "ecr:GetAuthorizationToken";
const HOST: &str = "095412845506.dkr.ecr.us-east-1.amazonaws.com";

/// Returns a `get` by alice for [`HOST`], narrowed to [`TBD`].
fn get(cloud: &Cloud) -> Command {
    let mut command = helper_at(cloud, "get", HOST);
    narrowed(&mut command);
    command
}

fn narrowed(command: &mut Command) -> &mut Command {
    command.env("ARK_ROLE_ARN", arn(ROLE)).env("ARK_ORGANIZATION", TBD)
}

/// Returns a `get` for [`HOST`] with the default token file of `ark-auth-tool`.
fn get_by_token(cloud: &Cloud) -> Command {
    let mut command = helper(&cloud.sandbox, "get", HOST);
    command
        .env("ARK_REGISTRY", format!("ecr://{HOST}/prod"))
        .env("ARK_ROLE_ARN", arn(ACCESS))
        .env("AWS_ENDPOINT_URL", cloud.aws.endpoint_url())
        .env("AWS_EC2_METADATA_DISABLED", "true");
    command
}

fn reported_at(cloud: &Cloud, command: &mut Command) -> String {
    cloud.settled(&reported(&cloud.sandbox.finish(command)))
}

#[test]
fn concurrent_helpers_share_one_login() {
    let cloud = Cloud::new();
    printed_by_all((0..20).map(|_| get(&cloud)));
    assert_eq!((cloud.aws.count(TOKEN), cloud.aws.count("sts:AssumeRole")), (1, 1));

    let (_, _, password) = login(&cloud.sandbox.finish(&mut get(&cloud)));
    let stored = format!(r#"{{"ServerURL":"{HOST}","Username":"AWS","Secret":"{password}"}}"#);
    let mut store = helper_at(&cloud, "store", stored);
    let run = cloud.sandbox.finish(narrowed(&mut store));
    assert_eq!(run.stderr, "", "the stored password is the cached password");
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(cloud.aws.count(TOKEN), 1);

    let erased = cloud.sandbox.finish(&mut helper_at(&cloud, "erase", format!("https://{HOST}/")));
    assert_eq!((erased.code, erased.stdout.as_str()), (0, ""));
    login(&cloud.sandbox.finish(&mut get(&cloud)));
    assert_eq!(cloud.aws.count(TOKEN), 2);
}

#[test]
fn helper_with_a_role_needs_an_organization() {
    let cloud = Cloud::new();
    login(&cloud.sandbox.finish(&mut helper_at(&cloud, "get", HOST)));
    assert_eq!((cloud.aws.count(TOKEN), cloud.aws.count("sts:AssumeRole")), (1, 0));
    let mut nowhere = get(&cloud);
    assert_snapshot!(reported_at(&cloud, nowhere.env_remove("ARK_ORGANIZATION")), @"
    docker-credential-ark: the login needs an organization, and none is set
    help: set your organization: export ARK_ORGANIZATION=GUID, or organization in the configuration file
    ");
}

#[test]
fn skopeo_works_with_the_helper_only() {
    let cloud = Cloud::new();
    cloud.create(&["a"]);
    cloud.sandbox.write_image("sample", "hello");
    let tools = Tools::new(&cloud.sandbox, HOST);
    let config = format!(r#"{{"credHelpers": {{"{HOST}": "ark"}}}}"#);
    cloud.sandbox.write("docker/config.json", config);
    let remote = format!("docker://{HOST}/prod/{TBD}/a:v1");
    let skopeo = |line: String| {
        let mut command = tools.command(&line);
        let path = format!("{}:{}", folder(), std::env::var("PATH").unwrap());
        command.env("PATH", path).envs(
            get(&cloud)
                .get_envs()
                .filter_map(|(name, value)| (name != "XDG_CONFIG_HOME").then_some((name, value?))),
        );
        // The registry is also the proxy for all other hosts, so that requests to the AWS host reach it.
        let proxy = format!("http://{}", cloud.host());
        command.env("http_proxy", &proxy).env("https_proxy", &proxy).env("no_proxy", "127.0.0.1");
        let run = cloud.sandbox.finish(&mut command);
        assert_eq!(run.code, 0, "{run:?}");
    };
    skopeo(format!("{COPY_UNCHANGED} oci:sample {remote}"));
    skopeo(format!("{COPY_UNCHANGED} {remote} oci:pulled"));
    let blobs = |folder: &str| contents(&cloud.sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("sample"));
    assert_eq!(cloud.aws.count(TOKEN), 1);
}

#[test]
fn expired_token_suggests_a_new_one() {
    let provider: TokenIssuer = provider();
    let cloud = aws::cloud(&provider);
    aws::write_default_token(&cloud, &provider, &alice());
    login(&cloud.sandbox.finish(&mut get_by_token(&cloud)));
    let past = SystemTime::now() - Duration::from_secs(3600);
    aws::write_default_token(&cloud, &provider, &alice().expiring_at(past));
    let reported = reported_at(&cloud, &mut get_by_token(&cloud));
    assert!(
        reported.starts_with("docker-credential-ark: not authenticated: the token in ~"),
        "{reported}"
    );
    assert!(reported.ends_with("\nhelp: run `ark-auth-tool -u <user>`\n"), "{reported}");
}

#[test]
fn too_many_organizations_suggest_single_logins() {
    let provider = provider();
    let cloud = aws::cloud(&provider);
    let many = (1..=19).map(|bits| OrganizationId::from_u128(bits << 64 | bits));
    aws::write_default_token(&cloud, &provider, &alice().with_organizations(many));
    assert_snapshot!(reported_at(&cloud, &mut get_by_token(&cloud)), @"
    docker-credential-ark: credentials for 19 organizations need a session policy that takes 2093 characters of 2048; request fewer organizations at a time, or one repository
    help: log in to one repository at a time: ark-catalog-container-tool --login NAME --organization GUID --docker-config DIR
    ");
}

#[test]
fn helper_reports_the_refusal_of_aws() {
    let cloud = Cloud::new();
    cloud.aws.inject(Fault::expired_token());
    assert_snapshot!(reported_at(&cloud, &mut get(&cloud)), @"
    docker-credential-ark: not authenticated: cannot assume the role arn:aws:iam::095412845506:role/ark-registry for a login to ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: the AWS session has expired; get new keys for the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN): ExpiredToken: The security token included in the request is expired (AWS request REQUEST)
    help: for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    ");
}

#[test]
fn throttled_helper_gives_a_login() {
    let cloud = Cloud::new();
    for action in ["sts:AssumeRole", "ecr:GetAuthorizationToken"] {
        cloud.aws.inject(Fault::throttle().on(action).times(2));
    }
    let run = cloud.sandbox.finish(&mut get(&cloud));
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn helper_reports_missing_credentials_and_endpoint() {
    let cloud = Cloud::new();
    let mut nobody = get(&cloud);
    nobody.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    assert_snapshot!(reported_at(&cloud, &mut nobody), @"
    docker-credential-ark: not authenticated: cannot get a login for ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: no AWS credentials were found: run `aws configure --profile default` or `aws login --profile default`
    help: to use a token instead: run `ark-auth-tool -u <user>`; for the AWS credentials of another profile: --profile NAME, or AWS_PROFILE
    ");
    let mut nowhere = get(&cloud);
    // A port without a listener.
    nowhere.env("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    assert_snapshot!(reported_at(&cloud, &mut nowhere), @"
    docker-credential-ark: cannot assume the role arn:aws:iam::095412845506:role/ark-registry for a login to ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod: its AWS endpoint cannot be reached: io error: client error (Connect): tcp connect error: Connection refused (os error 111)
    help: try again in a while
    ");
}
