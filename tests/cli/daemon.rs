//! A docker daemon that a test starts.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::component::component;

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

    /// Where it listens, as `DOCKER_HOST` takes it.
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
