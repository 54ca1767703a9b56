//! The real tools of the suites: container clients, a docker daemon, and curl.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{env, fs, thread};

use tempfile::TempDir;

use crate::sandbox::{Run, Sandbox};

/// Tools and their Debian packages.
const PACKAGES: &[(&str, &str)] = &[
    ("buildah", "buildah"),
    ("cat", "coreutils"),
    ("cmake", "cmake"),
    ("curl", "curl"),
    ("docker", "docker.io"),
    ("dockerd", "docker.io"),
    ("fish", "fish"),
    ("groff", "groff-base"),
    ("git", "git"),
    ("jq", "jq"),
    ("make", "make"),
    ("man", "man-db"),
    ("mandoc", "mandoc"),
    ("ninja", "ninja-build"),
    ("podman", "podman"),
    ("script", "bsdutils"),
    ("sha256sum", "coreutils"),
    ("skopeo", "skopeo"),
    ("tar", "tar"),
    ("zsh", "zsh"),
];

/// Returns the command of a tool. A missing tool fails the test.
pub(crate) fn component(name: &str) -> Command {
    let (_, package) = PACKAGES.iter().find(|(tool, _)| *tool == name).unwrap();
    let path = env::var_os("PATH").unwrap_or_default();
    let is_here = env::split_paths(&path).any(|folder| folder.join(name).is_file());
    assert!(is_here, "{name} is missing; install it: apt-get install -y {package}");
    Command::new(name)
}

/// The tools, without logins, with all their files in the sandbox.
pub(crate) struct Tools<'a> {
    sandbox: &'a Sandbox,
}

impl<'a> Tools<'a> {
    /// Returns tools that use plain HTTP for `host`.
    pub(crate) fn new(sandbox: &'a Sandbox, host: &str) -> Self {
        let registries = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
        sandbox.write(".config/containers/registries.conf", registries);
        // Some distributions do not install this file.
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        sandbox.write(".config/containers/policy.json", policy);
        for folder in ["run", "tmp", "cni"] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
        }
        Self { sandbox }
    }

    /// Returns a tool with its arguments, split at spaces.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let name = words.next().unwrap();
        let mut command = component(name);
        let in_sandbox = |below| self.sandbox.path(below);
        command
            .current_dir(in_sandbox(""))
            .env_clear()
            .env("PATH", env::var_os("PATH").unwrap())
            .env("HOME", in_sandbox(""))
            .env("XDG_RUNTIME_DIR", in_sandbox("run"))
            .env("TMPDIR", in_sandbox("tmp"))
            .env("REGISTRY_AUTH_FILE", in_sandbox("auth.json"))
            .env("DOCKER_CONFIG", in_sandbox("docker"))
            .stdin(Stdio::null());
        if name == "podman" || name == "buildah" {
            command.args(["--storage-driver", "vfs"]);
            command.arg("--root").arg(in_sandbox("containers"));
            command.arg("--runroot").arg(in_sandbox("run"));
        }
        if name == "podman" {
            command.args(["--events-backend", "file", "--cgroup-manager", "cgroupfs"]);
            command.arg("--tmpdir").arg(in_sandbox("tmp"));
            command.arg("--network-config-dir").arg(in_sandbox("cni"));
        }
        command.args(words);
        command
    }

    /// Returns the image storage of podman and buildah, in the syntax of skopeo.
    ///
    /// Source: <https://github.com/containers/image/blob/v5.23.0/docs/containers-transports.5.md>
    pub(crate) fn storage(&self) -> String {
        let path = |below| self.sandbox.path(below).display().to_string();
        format!("[vfs@{}+{}]", path("containers"), path("run"))
    }

    /// Runs a tool to its end.
    pub(crate) fn run(&self, line: &str) -> Run {
        self.sandbox.finish(&mut self.command(line))
    }

    /// Runs a tool, which must succeed, and returns its output without the last newline.
    pub(crate) fn printed(&self, line: &str) -> String {
        let run = self.run(line);
        assert_eq!(run.code, 0, "{line}: {run:?}");
        run.stdout.trim_end().to_owned()
    }

    /// Logs a tool in with a password from a pipe, as documented.
    pub(crate) fn log_in(&self, tool: &str, host: &str, mut printer: Command) -> Run {
        let mut printing = printer.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let password = printing.stdout.take().unwrap();
        let mut login = self.command(&format!("{tool} login --username AWS --password-stdin"));
        let run = self.sandbox.finish(login.arg(host).stdin(password));
        assert!(printing.wait().unwrap().success());
        run
    }
}

/// A docker daemon with its own folder. Dropping it stops the daemon.
pub(crate) struct Daemon {
    process: Child,
    // The path of a socket has at most 107 bytes, which paths in some sandboxes exceed.
    folder: TempDir,
}

impl Daemon {
    /// Starts a daemon without networks, and waits until it responds.
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

    /// Returns the address of the daemon, for `DOCKER_HOST`.
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
    /// Terminates the daemon, so that it stops its processes and unmounts its folders.
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

/// An HTTP client of a registry, with or without a password.
#[derive(Debug, Clone)]
pub(crate) struct Curl {
    host: String,
    password: Option<String>,
}

/// The response of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Curl {
    pub(crate) fn new(host: &str, password: Option<&str>) -> Self {
        Self { host: host.to_owned(), password: password.map(str::to_owned) }
    }

    /// Sends a request, and waits for the response.
    pub(crate) fn send(
        &self,
        method: &'static str,
        path: &str,
        options: &[(&'static str, &str)],
    ) -> Answer {
        Answer::to(self.start(method, path, options))
    }

    /// Starts to send a request. [`Answer::to`] waits for the response.
    ///
    /// The request is passed through a pipe, since other users of the machine can see the command line.
    pub(crate) fn start(
        &self,
        method: &'static str,
        path: &str,
        options: &[(&'static str, &str)],
    ) -> Child {
        let mut config = "silent\nshow-error\ninclude\n".to_owned();
        match method {
            "HEAD" => config.push_str("head\n"),
            _ => config.push_str(&format!("request = {method}\n")),
        }
        config.push_str(&format!("url = \"http://{}{path}\"\n", self.host));
        if let Some(password) = &self.password {
            config.push_str(&format!("user = \"AWS:{password}\"\n"));
        }
        for (name, value) in options {
            config.push_str(&format!("{name} = \"{value}\"\n"));
        }
        let mut process = component("curl")
            .args(["--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        process.stdin.take().unwrap().write_all(config.as_bytes()).unwrap();
        process
    }
}

impl Answer {
    /// Waits for the response to a request.
    pub(crate) fn to(request: Child) -> Self {
        let output = request.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut bytes = &output.stdout[..];
        loop {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            bytes = &bytes[end + 4..];
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            // `100 Continue` comes before the response.
            if status != 100 {
                let head = head.lines().map(|line| format!("{line}\n")).collect();
                return Self { status, head, body: bytes.to_vec() };
            }
        }
    }

    /// Returns the value of a header, by its lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find_map(|(key, value)| (key == name).then_some(value))
    }
}
