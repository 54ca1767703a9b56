//! docker, podman, buildah and skopeo, which nobody logged in.

use std::env;
use std::process::Command;

use ark_container_core::testing::SampleImage;
use insta::assert_snapshot;

use super::{folder, sent};
use crate::daemon::Daemon;
use crate::sandbox::{Run, TBD};
use crate::served::Served;
use crate::tools::Tools;

/// A registry with a repository `a` that docker is configured for, and an image to push.
fn configured() -> Served {
    let served = Served::with_repositories(&["a"]);
    let mut configure = served.sandbox.command("--configure-docker");
    let run = served.sandbox.finish(configure.env("DOCKER_CONFIG", served.sandbox.path("docker")));
    assert_eq!(run.code, 0, "{run:?}");
    SampleImage::new("hello").write_oci_layout(&served.sandbox.path("sample"), None).unwrap();
    served
}

/// A tool with the helper on its PATH, and the settings of it.
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

    // With the password of the document's command, and with none.
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
    docker-credential-ark: not authenticated: there is no token, as the file none does not exist
    help: put a new token into none; or, for your own, run `ark-auth-tool -u <user>` and name no other file (ARK_JWT_FILE)
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
fn skopeo_pushes_and_pulls_and_shows_what_the_helper_says() {
    let served = configured();
    let tools = served.tools(&[]);
    let remote = format!("docker://{}", served.image("a:v1"));
    printed(&served, &tools, &format!("skopeo copy -q oci:sample {remote}"));
    printed(&served, &tools, &format!("skopeo copy -q {remote} dir:pulled"));

    let line = format!("skopeo inspect {remote}");
    let mut command = with_helper(&served, &tools, &line);
    let run = served.sandbox.finish(command.env("ARK_JWT_FILE", "none"));
    assert_ne!(run.code, 0);
    let said =
        "docker-credential-ark: not authenticated: there is no token, as the file none does not";
    assert!(run.stderr.contains(said), "{run:?}");
}

#[test]
fn podmans_own_configuration_names_the_helper_too() {
    let served = Served::with_repositories(&["a"]);
    served.sandbox.write_image("sample", "hello");
    let tools = served.tools(&[]);
    let (host, remote) = (served.server.host(), format!("docker://{}", served.image("a:v1")));
    let copy = format!("skopeo copy -q oci:sample {remote}");
    let refused = run(&served, &tools, &copy);
    assert!(refused.stderr.contains("unauthorized"), "{refused:?}");
    // Where podman login keeps what it is told.
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
