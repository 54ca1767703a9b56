//! The CMake module in `ark-container-cli/cmake` with real builders, and `--cmake-dir`.

mod building;
mod messages;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use insta::assert_snapshot;

use crate::errors::reported;
use crate::python_component::python_component;
use crate::sandbox::{BINARY, Run, Sandbox, TBD};
use crate::tools::{Tools, component};

/// A CMake project in a work tree of git, in a folder whose name has a space, and its environment.
pub(crate) struct Project<'a> {
    sandbox: &'a Sandbox,
    environment: Vec<(String, String)>,
    cmake: fn() -> Command,
}

impl<'a> Project<'a> {
    /// Returns a project without a compiler, with these lines at the end of CMakeLists.txt, built by buildah.
    fn new(sandbox: &'a Sandbox, lists: &str) -> Self {
        Self::with_languages(sandbox, "NONE", lists)
    }

    fn with_languages(sandbox: &'a Sandbox, languages: &str, lists: &str) -> Self {
        let policy = r#"{"default": [{"type": "insecureAcceptAnything"}]}"#;
        sandbox.write(".config/containers/policy.json", policy);
        for folder in ["run", "tmp"] {
            fs::create_dir_all(sandbox.path(folder)).unwrap();
        }
        let storage = format!(
            "[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n",
            sandbox.path("containers").display(),
            sandbox.path("run").display(),
        );
        let storage = sandbox.write("storage.conf", storage);
        let variable = |name: &str, value: PathBuf| (name.to_owned(), value.display().to_string());
        let project = Self {
            sandbox,
            environment: vec![
                variable("PATH", env::var_os("PATH").unwrap().into()),
                variable("CONTAINERS_STORAGE_CONF", storage),
                variable("XDG_RUNTIME_DIR", sandbox.path("run")),
                variable("TMPDIR", sandbox.path("tmp")),
                variable("ARK_DOCKER_BUILDER", "buildah".into()),
                variable("BUILDAH_ISOLATION", "chroot".into()),
            ],
            cmake: || component("cmake"),
        };
        let lists = format!(
            "cmake_minimum_required(VERSION 3.22)\n\
             project(sample LANGUAGES {languages})\n\
             find_package(ArkDocker REQUIRED)\n{lists}"
        );
        project.write("CMakeLists.txt", &lists);
        project.write("Dockerfile", "FROM scratch\nCOPY . /\n");
        project.write("hello", "hello");
        project.write(".gitignore", "/build*\n");
        project.git("init -q");
        project.commit("v1");
        project
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.retain(|(other, _)| other != name);
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Sets the oldest CMake that the module supports.
    fn with_oldest_cmake(self) -> Self {
        Self { cmake: || python_component("cmake"), ..self }
    }

    fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.sandbox.path("pro ject").join(below)
    }

    fn write(&self, below: &str, content: &str) {
        self.sandbox.write(&format!("pro ject/{below}"), content);
    }

    fn read(&self, below: &str) -> String {
        fs::read_to_string(self.path(below)).unwrap()
    }

    /// Returns a command in the folder and environment of the project.
    fn command(&self, mut command: Command) -> Command {
        command
            .current_dir(self.path(""))
            .env_clear()
            .env("HOME", self.sandbox.path(""))
            .env("XDG_CONFIG_HOME", self.sandbox.path("config"))
            .env("XDG_DATA_HOME", self.sandbox.path("data"))
            .envs(self.environment.iter().cloned());
        command
    }

    fn git(&self, line: &str) {
        let mut git = self.command(component("git"));
        git.args(["-c", "user.name=a", "-c", "user.email=a@b"]).args(line.split(' '));
        let run = self.sandbox.finish(&mut git);
        assert_eq!(run.code, 0, "{line}: {run:?}");
    }

    /// Commits all files, and adds a tag.
    fn commit(&self, tag: &str) {
        self.git("add .");
        self.git("commit -q -m change");
        self.git(&format!("tag {tag}"));
    }

    /// Configures the folder `build`.
    fn configure(&self, generator: &str, options: &[&str]) -> Run {
        let mut cmake = self.command((self.cmake)());
        let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("cmake");
        cmake
            .args(["-G", generator, "-S", ".", "-B", "build", "-Wdev", "-Werror=dev"])
            .arg(format!("-DArkDocker_DIR={}", module.display()))
            .arg(format!("-DARK_CONTAINER_TOOL={BINARY}"))
            .args(options);
        self.sandbox.finish(&mut cmake)
    }

    fn configured(self, generator: &str, options: &[&str]) -> Self {
        let run = self.configure(generator, options);
        assert_eq!(run.code, 0, "{run:?}");
        assert_eq!(run.stderr, "", "{run:?}");
        self
    }

    /// Builds a target in the folder `build`.
    fn build(&self, target: &str, options: &[&str]) -> Run {
        let mut cmake = self.command((self.cmake)());
        cmake.args(["--build", "build", "--target", target]).args(options);
        let Run { code, stdout, stderr } = self.sandbox.finish(&mut cmake);
        // Ninja prints the output and errors of commands on its standard output.
        Run { code, stdout: format!("{stdout}{stderr}"), stderr: String::new() }
    }

    /// Builds a target, which must succeed, and returns the names of the built and of the pushed images.
    fn built(&self, target: &str) -> (Vec<String>, Vec<String>) {
        let run = self.build(target, &[]);
        assert_eq!(run.code, 0, "{}", run.stdout);
        (named(&run, "Building the image "), named(&run, "Pushing the image "))
    }

    /// Pulls an image with skopeo, and returns the folder with its files.
    fn pulled(&self, tools: &Tools<'_>, image: &str) -> PathBuf {
        for folder in ["pulled", "files"] {
            let _ = fs::remove_dir_all(self.sandbox.path(folder));
        }
        tools.printed(&format!("skopeo copy -q docker://{image} dir:pulled"));
        let files = self.sandbox.path("files");
        fs::create_dir(&files).unwrap();
        let manifest = fs::read(self.sandbox.path("pulled/manifest.json")).unwrap();
        let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
        for layer in manifest["layers"].as_array().unwrap() {
            let digest = layer["digest"].as_str().unwrap();
            let layer = self.sandbox.path("pulled").join(&digest["sha256:".len()..]);
            let mut tar = component("tar");
            let run = self.sandbox.finish(tar.arg("-xzf").arg(layer).arg("-C").arg(&files));
            assert_eq!(run.code, 0, "{run:?}");
        }
        files
    }

    /// Returns the images of a repository, as listed by the tool.
    fn listed(&self, repository: &str) -> Vec<serde_json::Value> {
        let line = format!("--list-images {repository} --organization {TBD} --output json");
        let mut tool = self.command(Command::new(BINARY));
        let run = self.sandbox.finish(tool.args(line.split(' ')));
        assert_eq!(run.code, 0, "{run:?}");
        run.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// Returns the ends of the lines of a build after these words.
fn named(run: &Run, words: &str) -> Vec<String> {
    let after = |line: &str| line.split_once(words).map(|(_, name)| name.to_owned());
    let mut names: Vec<String> = run.stdout.lines().filter_map(after).collect();
    names.sort();
    names
}

/// Returns a call of `ark_add_docker` for an image of the file `hello`, with more arguments.
fn image(name: &str, more: &str) -> String {
    format!(
        "ark_add_docker({name} ORGANIZATION {TBD} REPOSITORY catalog/{name} CREATE FILES hello {more})\n"
    )
}

fn source_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("cmake")
}

#[test]
fn cmake_dir_writes_a_usable_module() {
    let sandbox = Sandbox::new();
    let folder = PathBuf::from(
        sandbox
            .printed("--cmake-dir")
            .trim_end()
            .replace('~', sandbox.path("").to_str().unwrap().trim_end_matches('/')),
    );
    assert!(folder.starts_with(sandbox.path("data/ark/cmake")), "{}", folder.display());
    let mut count = 0;
    for file in fs::read_dir(source_folder()).unwrap() {
        let file = file.unwrap().path();
        let copy = fs::read(folder.join(file.file_name().unwrap())).unwrap();
        assert!(copy == fs::read(&file).unwrap(), "{}", file.display());
        count += 1;
    }
    assert_eq!(fs::read_dir(&folder).unwrap().count(), count + 1, "and the path of the program");

    // CMake finds the module, which builds with this program.
    let project = Project::new(&sandbox, &image("a", "TAGS 1"));
    let options = [&format!("-DArkDocker_DIR={}", folder.display()), "-UARK_CONTAINER_TOOL"]
        .map(String::from);
    let project = project.configured("Ninja", &[&options[0], &options[1]]);
    assert!(project.read("build/CMakeCache.txt").contains(&format!("={BINARY}\n")));
    assert_eq!(project.built("ark-docker").1, ["a"]);

    // A damaged file is written again, and a correct file is not.
    let config = folder.join("ArkDockerConfig.cmake");
    let before = config.metadata().unwrap().modified().unwrap();
    fs::write(folder.join("ArkDocker.cmake"), "damaged").unwrap();
    sandbox.printed("--cmake-dir");
    let right = fs::read(source_folder().join("ArkDocker.cmake")).unwrap();
    assert!(fs::read(folder.join("ArkDocker.cmake")).unwrap() == right);
    assert_eq!(config.metadata().unwrap().modified().unwrap(), before);

    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = reported(&sandbox.run("--cmake-dir"));
    let name = folder.file_name().unwrap().to_str().unwrap();
    assert_snapshot!(refused.replace(name, "VERSION"), @"
    exit 2
    error: the folder ~/data/ark/cmake/VERSION is writable by other users
      help: restrict its permissions: chmod go-w ~/data/ark/cmake/VERSION
    ");
}

#[test]
fn installed_module_is_used() {
    let sandbox = Sandbox::new();
    let program = sandbox.path("usr/bin/ark-catalog-container-tool");
    let module = sandbox.path("usr/share/cmake/ArkDocker");
    fs::create_dir_all(program.parent().unwrap()).unwrap();
    fs::create_dir_all(&module).unwrap();
    fs::hard_link(BINARY, &program).or_else(|_| fs::copy(BINARY, &program).map(drop)).unwrap();
    for file in fs::read_dir(source_folder()).unwrap() {
        let file = file.unwrap().path();
        fs::copy(&file, module.join(file.file_name().unwrap())).unwrap();
    }
    let run = sandbox.finish(Command::new(&program).args(["--cmake-dir", "--output", "json"]));
    assert_eq!(run.stdout, "{\"directory\":\"~/usr/share/cmake/ArkDocker\"}\n");

    let project = Project::new(&sandbox, &image("a", "TAGS 1"));
    let directory = format!("-DArkDocker_DIR={}", module.display());
    let project = project.configured("Ninja", &[&directory, "-UARK_CONTAINER_TOOL"]);
    let cache = project.read("build/CMakeCache.txt");
    assert!(cache.contains(&format!("={}\n", program.display())), "{cache}");
}

#[test]
fn module_has_the_version_of_the_program() {
    let file = fs::read_to_string(source_folder().join("ArkDockerConfigVersion.cmake")).unwrap();
    assert!(file.contains(concat!("set(PACKAGE_VERSION ", env!("CARGO_PKG_VERSION"), ")\n")));
    let sandbox = Sandbox::new();
    for (asked, found) in [("0.1", true), ("0.1.0", true), ("0.2", false), ("0.0.9", false)] {
        let project = Project::new(&sandbox, "");
        let lists =
            project.read("CMakeLists.txt").replace("ArkDocker ", &format!("ArkDocker {asked} "));
        project.write("CMakeLists.txt", &lists);
        let _ = fs::remove_dir_all(project.path(".git"));
        assert_eq!(project.configure("Ninja", &[]).code == 0, found, "{asked}");
    }
}
