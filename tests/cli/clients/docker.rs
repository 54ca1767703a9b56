//! docker, with a daemon that the test starts. One test: the daemon takes its time to start.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ark_container_core::testing::SampleImage;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{config_and_layers, contents};
use crate::component::component;
use crate::sandbox::TBD;
use crate::served::Served;
use crate::tools::Tools;

#[test]
fn docker_pushes_and_pulls_and_what_it_saved_is_pushed() {
    let served = Served::with_repositories(&["a/b"]);
    let tools = served.tools(&["a/b"]);
    let daemon = Daemon::start();
    let tool = format!("docker --host {}", daemon.host());
    let docker = |line: &str| tools.printed(&format!("{tool} {line}"));
    let login = tools.log_in(&tool, served.server.host(), served.login_command("a/b"));
    assert_eq!(login.code, 0, "{login:?}");

    let image = SampleImage::builder().with_layer([("x", "y")]).with_random_layer(300_000);
    let image = image.build();
    image.write_docker_archive(&served.sandbox.path("image.tar"), &["sample:1"]).unwrap();
    docker("load -q -i image.tar");
    let id = docker("images -q --no-trunc sample:1");
    let ((config, _), layers) = config_and_layers(&image);
    assert_eq!(id, config.to_string());

    let remote = served.image("a/b:pushed");
    docker(&format!("tag sample:1 {remote}"));
    docker(&format!("push -q {remote}"));
    is_pulled_by_skopeo(&served, &tools, "a/b:pushed", &image);

    docker("save -o saved.tar sample:1");
    served
        .sandbox
        .printed(&format!("--push a/b:saved --from docker-archive:saved.tar --organization {TBD}"));
    is_pulled_by_skopeo(&served, &tools, "a/b:saved", &image);

    docker(&format!("rmi -f sample:1 {remote}"));
    for tag in ["pushed", "saved"] {
        let remote = served.image(&format!("a/b:{tag}"));
        docker(&format!("pull -q {remote}"));
        assert_eq!(docker(&format!("images -q --no-trunc {remote}")), id);
        let inspected: Value = serde_json::from_str(&docker(&format!("inspect {remote}"))).unwrap();
        let digests: Vec<_> = layers.iter().map(|(digest, _)| digest).collect();
        assert_eq!(inspected[0]["RootFS"]["Layers"], json!(digests));
        docker(&format!("rmi -f {remote}"));
    }
    // docker is told what the registry says.
    docker("load -q -i image.tar");
    docker(&format!("tag sample:1 {}", served.image("none:v1")));
    let refused = tools.run(&format!("{tool} push {}", served.image("none:v1")));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("denied"), "{refused:?}");
}

/// skopeo pulls the sample's configuration, which names its layers by what they unpack to.
fn is_pulled_by_skopeo(served: &Served, tools: &Tools<'_>, name: &str, image: &SampleImage) {
    let folder = name.rsplit_once(':').unwrap().1;
    tools.printed(&format!("skopeo copy -q docker://{} dir:{folder}", served.image(name)));
    let pulled = contents(&served.sandbox.path(folder));
    let ((config, content), _) = config_and_layers(image);
    assert_eq!(pulled[config.hex()], content, "{name}");
}

/// A docker daemon with a folder of its own; stopped when it is dropped.
pub(crate) struct Daemon {
    process: Child,
    // The path of a socket has at most 107 bytes, fewer than some sandboxes' have.
    folder: TempDir,
}

impl Daemon {
    /// Starts a daemon without networks, and waits until it answers.
    pub(crate) fn start() -> Self {
        let folder = tempfile::Builder::new().prefix("dockerd-").tempdir_in("/tmp").unwrap();
        let path = |below: &str| folder.path().join(below);
        let process = component("dockerd")
            .args(["--iptables=false", "--ip6tables=false", "--bridge=none"])
            .arg("--data-root")
            .arg(path("data"))
            .arg("--exec-root")
            .arg(path("exec"))
            .arg("--pidfile")
            .arg(path("pid"))
            .arg("--host")
            .arg(format!("unix://{}", path("docker.sock").display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let mut daemon = Self { process, folder };
        daemon.wait_until_ready();
        daemon
    }

    pub(crate) fn host(&self) -> String {
        format!("unix://{}", self.folder.path().join("docker.sock").display())
    }

    fn wait_until_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let mut version = component("docker");
            version.args(["--host", &self.host(), "version"]);
            if version.output().unwrap().status.success() {
                return;
            }
            let ended = self.process.try_wait().unwrap();
            if ended.is_some() || Instant::now() > deadline {
                let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap();
                panic!("dockerd does not start (it needs root): {ended:?}\n{log}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Daemon {
    /// Terminates it, so that it ends what it started and releases what it mounted.
    fn drop(&mut self) {
        let id = self.process.id().to_string();
        let _ = Command::new("kill").args(["-TERM", &id]).status();
        let deadline = Instant::now() + Duration::from_secs(10);
        while matches!(self.process.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.process.kill();
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}
