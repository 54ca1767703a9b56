//! docker's kin, each with a home of its own: podman, skopeo, buildah, and docker's client.

use std::env;
use std::fs;
use std::process::{Command, Stdio};

use crate::component::component;
use crate::sandbox::{Run, Sandbox};

/// The tools, logged in nowhere, with all that they keep below the sandbox.
pub(crate) struct Tools<'a> {
    sandbox: &'a Sandbox,
}

impl<'a> Tools<'a> {
    /// Tools that speak plain HTTP to `host`.
    pub(crate) fn new(sandbox: &'a Sandbox, host: &str) -> Self {
        let registries = format!("[[registry]]\nlocation = \"{host}\"\ninsecure = true\n");
        sandbox.write(".config/containers/registries.conf", registries);
        // Debian brings this file along, others do not.
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        sandbox.write(".config/containers/policy.json", policy);
        for folder in ["run", "tmp", "cni"] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
        }
        Self { sandbox }
    }

    /// A tool with its arguments, split at spaces.
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

    /// Where podman and buildah keep their images, as skopeo takes it.
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

    /// Runs a tool, which must succeed, and returns what it printed, without the last newline.
    pub(crate) fn printed(&self, line: &str) -> String {
        let run = self.run(line);
        assert_eq!(run.code, 0, "{line}: {run:?}");
        run.stdout.trim_end().to_owned()
    }

    /// Logs a tool in as the document does: through a pipe, from what prints the password.
    pub(crate) fn log_in(&self, tool: &str, host: &str, mut printer: Command) -> Run {
        let mut printing = printer.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let password = printing.stdout.take().unwrap();
        let mut login = self.command(&format!("{tool} login --username AWS --password-stdin"));
        let run = self.sandbox.finish(login.arg(host).stdin(password));
        assert!(printing.wait().unwrap().success());
        run
    }
}
