//! Ctrl-C, as ninja passes it on.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{Project, image};
use crate::component::component;
use crate::sandbox::Sandbox;

#[test]
fn an_interrupted_build_leaves_nothing_running() {
    let sandbox = Sandbox::new();
    let builder =
        "#!/bin/sh\n[ \"$1\" = info ] && exit\necho $$ > \"$HOME/builder\"\nexec sleep 600\n";
    let stub = sandbox.write("stubs/buildah", builder);
    fs::set_permissions(&stub, fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", sandbox.path("stubs").display(), std::env::var("PATH").unwrap());
    let project = Project::new(&sandbox, &image("a", "TAGS 1")).with("PATH", &path);
    let project = project.configured("Ninja", &[]);

    let mut ninja = project.command(component("ninja"));
    ninja.args(["-C", "build", "ark-docker"]).stdout(Stdio::null());
    let mut ninja = ninja.spawn().unwrap();
    let file = sandbox.path("builder");
    let id = wait_for(|| fs::read_to_string(&file).ok().filter(|text| text.ends_with('\n')));
    let id = id.trim();
    let signal = |name: &str, id: &str| Command::new("kill").args([name, id]).status().unwrap();
    assert!(signal("-INT", &ninja.id().to_string()).success());
    assert!(!ninja.wait().unwrap().success());
    let process = std::path::PathBuf::from(format!("/proc/{id}"));
    wait_for(|| (!process.exists()).then_some(()));
    assert!(!project.path("build/a-docker/image.done").exists());
}

fn wait_for<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "it takes too long");
        sleep(Duration::from_millis(20));
    }
}
