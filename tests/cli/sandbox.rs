//! A separate home for each test, the program in it, and a served registry.

use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use ark_container_core::testing::SampleImage;
use tempfile::TempDir;

use crate::tools::{Curl, Tools};

/// The organization of the documentation.
pub(crate) const TBD: &str = "2ea25035-6aa4-42fb-9955-92288ea1b972";
/// An organization without the members of [`TBD`].
pub(crate) const OTHER: &str = "11111111-2222-3333-4444-555555555555";

/// Path of the program.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_ark-catalog-container-tool");

/// Memberships with a user, an administrator and a robot in [`TBD`], and another user in [`OTHER`].
pub(crate) const MEMBERSHIPS: &str = r#"
[[organization]]
id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
members = ["user:alice", "robot:nightly"]
administrators = ["user:carol"]

[[organization]]
id = "11111111-2222-3333-4444-555555555555"
members = ["user:bob"]
"#;

/// A home folder without settings, in which the program runs.
pub(crate) struct Sandbox {
    folder: TempDir,
}

/// The exit code and the output of a run.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Sandbox {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    /// Returns a home whose registry has [`MEMBERSHIPS`].
    pub(crate) fn with_memberships() -> Self {
        let sandbox = Self::new();
        sandbox.write("data/ark/registry/memberships.toml", MEMBERSHIPS);
        sandbox
    }

    pub(crate) fn path(&self, below: impl AsRef<Path>) -> PathBuf {
        self.folder.path().join(below)
    }

    /// Writes a file, and creates its parent folders.
    pub(crate) fn write(&self, below: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    /// Returns the program with its own environment, in the home folder.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = self.at_home(BINARY);
        command.args(line.split_whitespace());
        command
    }

    /// Returns a line for bash with the same environment, which fails if a command of a pipe fails.
    pub(crate) fn shell(&self, line: &str) -> Command {
        let mut command = self.at_home("bash");
        command.args(["-o", "pipefail", "-c", line]);
        command
    }

    /// Returns any program with its own environment, in the home folder.
    pub(crate) fn at_home(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder.path())
            .env_clear()
            .env("HOME", self.folder.path())
            .env("XDG_CONFIG_HOME", self.path("config"))
            .env("XDG_DATA_HOME", self.path("data"))
            .stdin(Stdio::null());
        command
    }

    /// Runs the program; `line` is split at spaces.
    pub(crate) fn run(&self, line: &str) -> Run {
        self.finish(&mut self.command(line))
    }

    /// Runs the program as a principal.
    pub(crate) fn run_as(&self, principal: &str, line: &str) -> Run {
        self.finish(self.command(line).env("ARK_PRINCIPAL", principal))
    }

    /// Runs the program, which must succeed, and returns its output.
    pub(crate) fn printed(&self, line: &str) -> String {
        let run = self.run(line);
        assert_eq!(run.code, 0, "{line}: {run:?}");
        run.stdout
    }

    /// Runs a command to its end.
    pub(crate) fn finish(&self, command: &mut Command) -> Run {
        self.finish_into(command, Stdio::piped())
    }

    /// Runs a command to its end, with its standard output in `stdout`.
    pub(crate) fn finish_into(&self, command: &mut Command, stdout: impl Into<Stdio>) -> Run {
        let process = command.stdout(stdout).stderr(Stdio::piped()).spawn().unwrap();
        let output = process.wait_with_output().unwrap();
        Run {
            code: output.status.code().expect("the process was not ended by a signal"),
            stdout: self.redacted(&output.stdout),
            stderr: self.redacted(&output.stderr),
        }
    }

    /// Writes an OCI layout with one image, whose only layer holds `content`.
    pub(crate) fn write_image(&self, below: &str, content: &str) {
        let image = SampleImage::new(content);
        image.write_oci_layout(&self.path(below), None).unwrap();
    }

    /// Creates a repository of [`TBD`] and pushes a small image to it, `NAME:TAG`.
    pub(crate) fn push(&self, image: &str) -> String {
        let (name, _) = image.split_once(':').unwrap();
        self.printed(&format!("--create-repository {name} --organization {TBD}"));
        self.write_image("pushed", "hello");
        self.printed(&format!("--push {image} --from oci:pushed --organization {TBD}"))
    }

    /// Runs the program at a terminal, with its results in a file, and returns the output on the terminal.
    ///
    /// `script` of util-linux provides the terminal.
    pub(crate) fn terminal_output(&self, line: &str) -> String {
        self.terminal_output_of(24, line)
    }

    /// Runs the program at a terminal with `rows` rows and 80 columns.
    pub(crate) fn terminal_output_of(&self, rows: usize, line: &str) -> String {
        let mut script = self.at_home("script");
        let command = format!("stty rows {rows} cols 80; {BINARY} {line} > results");
        script.args(["-qec", &command, "/dev/null"]);
        let run = self.finish(script.env("TERM", "xterm"));
        assert_eq!(run.code, 0, "{run:?}");
        run.stdout.replace("\r\n", "\n")
    }

    /// Starts `--serve` on a free port and waits until it is ready.
    pub(crate) fn serve(&self) -> Server {
        self.serve_with("")
    }

    /// Starts `--serve` with further options.
    pub(crate) fn serve_with(&self, options: &str) -> Server {
        self.serve_by(self.command(&format!("--serve --listen 127.0.0.1:0 {options}")))
    }

    /// Starts a command that serves, and waits until it is ready.
    pub(crate) fn serve_by(&self, mut command: Command) -> Server {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        Server { process, stdout, line }
    }

    fn redacted(&self, bytes: &[u8]) -> String {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        text.replace(self.folder.path().to_str().unwrap(), "~")
    }
}

/// A process that serves the registry. Dropping it kills the process.
pub(crate) struct Server {
    process: Child,
    stdout: BufReader<ChildStdout>,
    line: String,
}

impl Server {
    /// Returns the line that the server printed when it was ready.
    pub(crate) fn line(&self) -> &str {
        &self.line
    }

    /// Returns the address of the server, which is that line.
    pub(crate) fn host(&self) -> &str {
        self.line.trim_end()
    }

    pub(crate) fn process_id(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal, waits for the end, and returns the exit code and the remaining output.
    pub(crate) fn end_by(mut self, signal: &str) -> (Option<i32>, String) {
        let id = self.process.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        (self.process.wait().unwrap().code(), rest)
    }

    /// Kills the process immediately, as the system does without free memory.
    pub(crate) fn kill(&mut self) {
        // Fails only if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A served registry, and its home.
pub(crate) struct Served {
    // Dropped first: the server must not write to a removed folder.
    pub(crate) server: Server,
    pub(crate) sandbox: Sandbox,
}

impl Served {
    /// Serves a new registry with these repositories of [`TBD`].
    pub(crate) fn with_repositories(names: &[&str]) -> Self {
        let sandbox = Sandbox::new();
        for name in names {
            sandbox.printed(&format!("--create-repository {name} --organization {TBD}"));
        }
        Self { server: sandbox.serve(), sandbox }
    }

    /// Returns the URL of an image such as `a/b:v1` of [`TBD`].
    pub(crate) fn image(&self, name: &str) -> String {
        format!("{}/prod/{TBD}/{name}", self.server.host())
    }

    /// Returns a password for a repository.
    pub(crate) fn password(&self, name: &str, access: &str) -> String {
        let login = format!("--login {name} --organization {TBD} --access {access}");
        self.sandbox.printed(&login).trim_end().to_owned()
    }

    /// Returns the command that prints a password for a repository.
    pub(crate) fn login_command(&self, name: &str) -> Command {
        self.sandbox.command(&format!("--login {name} --organization {TBD}"))
    }

    /// Returns tools that are logged in to the repositories, to push.
    pub(crate) fn tools(&self, names: &[&str]) -> Tools<'_> {
        let tools = Tools::new(&self.sandbox, self.server.host());
        for name in names {
            let login = tools.log_in("skopeo", &self.image(name), self.login_command(name));
            assert_eq!(login.code, 0, "{login:?}");
        }
        tools
    }

    /// Returns curl with a password for one repository.
    pub(crate) fn curl(&self, name: &str, access: &str) -> Curl {
        Curl::new(self.server.host(), Some(&self.password(name, access)))
    }
}

const SEED_VARIABLE: &str = "ARK_TEST_SEED";

/// The random number generator SplitMix64.
///
/// Source: <https://prng.di.unimi.it/splitmix64.c>
pub(crate) struct Random(u64);

impl Random {
    /// Returns a generator with the seed `ARK_TEST_SEED`, or with a random seed. Prints the seed for failures.
    #[expect(clippy::print_stderr, reason = "a failed test shows its output")]
    pub(crate) fn seeded() -> Self {
        let seed = match std::env::var(SEED_VARIABLE) {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => RandomState::new().hash_one(0),
        };
        eprintln!("{SEED_VARIABLE}={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// Returns a number below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }

    /// Returns true with a probability of `share` percent.
    pub(crate) fn percent(&mut self, share: usize) -> bool {
        self.below(100) < share
    }

    /// Returns a random element, or `None` if `from` is empty.
    pub(crate) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }

    /// Returns a random duration up to `within`.
    pub(crate) fn moment(&mut self, within: Duration) -> Duration {
        within.mul_f64(self.next() as f64 / u64::MAX as f64)
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend(self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}

/// Returns whether `ARK_TEST_SCALE=full` is set, for tests with the documented maximum sizes, which take minutes.
pub(crate) fn is_full_scale() -> bool {
    env::var_os("ARK_TEST_SCALE").is_some_and(|scale| scale == "full")
}
