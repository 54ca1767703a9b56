//! A clone of the example, and the image that it builds.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use serde_json::Value;

use crate::ecr::{Cloud, ROLE, alice};
use crate::sandbox::{BINARY, Run, Sandbox};
use crate::tools::{Tools, component};

/// The example in a git repository, and an environment with the tool.
pub(super) struct Checkout<'a> {
    sandbox: &'a Sandbox,
}

impl<'a> Checkout<'a> {
    pub(super) fn new(sandbox: &'a Sandbox) -> Self {
        let checkout = Self { sandbox };
        copy(&original(), &checkout.example(""));
        component("git");
        for line in ["init -q", "add .", "commit -qm Example"] {
            let mut git = checkout.command("git");
            git.args(["-c", "user.name=Alice", "-c", "user.email=alice@example.com"]);
            checkout.succeeds(git.args(line.split(' ')));
        }
        fs::create_dir(sandbox.path("bin")).unwrap();
        symlink(BINARY, sandbox.path("bin/ark-catalog-container-tool")).unwrap();
        // Image storage of the test, without new namespaces.
        sandbox.write(
            "storage.conf",
            format!(
                "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
                sandbox.path("images").display(),
                sandbox.path("run").display()
            ),
        );
        checkout
    }

    /// Returns a path below the folder of the example.
    pub(super) fn example(&self, below: &str) -> PathBuf {
        self.sandbox.path("checkout/examples/extract-video").join(below)
    }

    /// Returns a command in the folder of the example, with a separate home and the tool in PATH.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut path = vec![self.sandbox.path("bin")];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap()));
        let mut command = Command::new(program);
        command
            .current_dir(self.example(""))
            .env_clear()
            .env("PATH", env::join_paths(path).unwrap())
            .env("HOME", self.sandbox.path(""))
            .env("XDG_DATA_HOME", self.sandbox.path("data"))
            .env("XDG_CONFIG_HOME", self.sandbox.path("config"))
            .env("XDG_RUNTIME_DIR", self.sandbox.path("run"))
            .env("CARGO_HOME", user_folder("CARGO_HOME", ".cargo"))
            .env("RUSTUP_HOME", user_folder("RUSTUP_HOME", ".rustup"))
            // The build folder is shared between runs, so that dependencies are compiled once.
            .env("CARGO_BUILD_BUILD_DIR", target().join("extract-video"))
            .env("CONTAINERS_STORAGE_CONF", self.sandbox.path("storage.conf"))
            .env("BUILDAH_ISOLATION", "chroot")
            .env("ARK_DOCKER_BUILDER", "buildah")
            .stdin(Stdio::null());
        command
    }

    /// Returns `make.sh` without settings.
    pub(super) fn make(&self, target: &str) -> Command {
        for tool in ["buildah", "cmake"] {
            component(tool);
        }
        let mut command = self.command("./make.sh");
        command.arg(target);
        command
    }

    /// Returns `make.sh` for an ECR registry, with only the registry location and the AWS identity.
    pub(super) fn make_for(&self, cloud: &Cloud, target: &str) -> Command {
        let mut command = self.make(target);
        let role = format!("arn:aws:iam::{}:role/{ROLE}", cloud.aws.host().account());
        command
            .env("ARK_REGISTRY", format!("ecr://{}/prod", cloud.aws.host()))
            .env("ARK_ROLE_ARN", role)
            .envs(cloud.aws.environment(alice().access_key()));
        command
    }

    /// Runs a command, which must succeed.
    pub(super) fn succeeds(&self, command: &mut Command) -> Run {
        let run = self.sandbox.finish(command);
        let program = command.get_program().display();
        assert_eq!(run.code, 0, "{program}\n{}\n{}", run.stdout, run.stderr);
        run
    }
}

/// Returns the folder of the example in this project.
pub(super) fn original() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/extract-video")
}

/// Returns the build folder of this project.
fn target() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap().to_owned()
}

/// Returns the folder of cargo or rustup in the user's home, which the separate home does not have.
fn user_folder(variable: &str, below_home: &str) -> OsString {
    let home = || PathBuf::from(env::var_os("HOME").unwrap()).join(below_home).into();
    env::var_os(variable).unwrap_or_else(home)
}

/// Copies a folder without its build folders.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, copied) = (entry.path(), to.join(entry.file_name()));
        if entry.file_name() == "build" || entry.file_name() == "target" {
            continue;
        }
        match source.is_dir() {
            true => copy(&source, &copied),
            false => drop(fs::copy(source, copied).unwrap()),
        }
    }
}

/// The unpacked files of an image.
pub(super) struct Inside {
    root: PathBuf,
    configuration: Value,
}

impl Inside {
    /// Pulls an image with skopeo, and unpacks it.
    pub(super) fn pulled(sandbox: &Sandbox, tools: &Tools<'_>, image: &str) -> Self {
        let pulled = sandbox.path("pulled");
        let _ = fs::remove_dir_all(&pulled);
        tools.printed(&format!("skopeo copy -q docker://{image} dir:pulled"));
        let root = pulled.join("root");
        fs::create_dir(&root).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            pulled.join(digest.strip_prefix("sha256:").unwrap())
        };
        let json =
            |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let manifest = json(pulled.join("manifest.json"));
        for layer in manifest["layers"].as_array().unwrap() {
            let mut tar = component("tar");
            let tar = tar.arg("-xzf").arg(blob(layer)).arg("-C").arg(&root);
            assert!(tar.status().unwrap().success());
        }
        Self { root, configuration: json(blob(&manifest["config"]))["config"].clone() }
    }

    /// Runs the program of the image with chroot, and returns its output. Requires root.
    pub(super) fn printed(&self, arguments: &[&str]) -> String {
        let user = self.configuration["User"].as_str().unwrap();
        let entrypoint = self.configuration["Entrypoint"][0].as_str().unwrap();
        let mut chroot = Command::new("chroot");
        chroot.arg(format!("--userspec={user}")).arg(&self.root).arg(entrypoint).args(arguments);
        let output = chroot.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Checks the output of the program for the clip in the image.
    pub(super) fn assert_program_output(&self) {
        let json = |path: &str| -> Value { serde_json::from_str(&self.printed(&[path])).unwrap() };
        let clip = json("/samples/clip.mp4");
        assert_eq!(clip["tracks"][0]["codec"], "avc1");
        assert_eq!(clip["tracks"][0]["frames"], 5);
    }
}
