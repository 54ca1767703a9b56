//! [`Engine`]: docker and podman, whose commands save and load images.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::spool;
use crate::error::{Error, ResourceKind, Result};
use crate::secrets::Secrets;
use crate::transfer::PlatformChoice;
use crate::transfer::local_file::OpenFile;

/// What is shown of the words of a command; the end says what it failed of.
const SHOWN_LEN: usize = 2000;

/// A program that keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::transfer) enum Engine {
    Docker,
    Podman,
}

/// Why an engine gives no image.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is no such command.
    NotInstalled,
    /// It has no such image.
    NoSuchImage,
    /// Anything else, in its own words.
    Other(String),
}

impl Engine {
    pub(in crate::transfer) const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// The command.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// The prefix of its sources and targets.
    pub(in crate::transfer) fn prefix(self) -> &'static str {
        match self {
            Self::Docker => "docker-daemon",
            Self::Podman => "podman",
        }
    }

    /// The Debian package with the command.
    fn package(self) -> &'static str {
        match self {
            Self::Docker => "docker.io",
            Self::Podman => "podman",
        }
    }

    fn source(self, reference: &str) -> String {
        format!("{}:{reference}", self.prefix())
    }

    /// Refuses a reference that the command would take for an option, or that no image has.
    ///
    /// `role` is "image source" or "image target".
    pub(in crate::transfer) fn check(self, role: &str, reference: &str) -> Result<()> {
        let problem = if reference.is_empty() {
            "names no image"
        } else if reference.starts_with('-') {
            "names an option, not an image"
        } else if reference.contains(|c: char| c.is_control() || c.is_whitespace()) {
            "has a name that no image has"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("{role} {:?} {problem}", self.source(reference))))
    }

    /// The ID of the image of this name: a name without a tag is that of the tag `latest`.
    pub(super) async fn id(self, reference: &str) -> Result<String, Refusal> {
        let mut inspect = Command::new(self.program());
        inspect.args(["image", "inspect", "--format", "{{.Id}}", reference]);
        let output = run(inspect.stdout(Stdio::piped())).await?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let hex = id.strip_prefix("sha256:").unwrap_or(&id);
        match hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(id),
            false => Err(Refusal::Other(format!("{id:?} is no ID of an image"))),
        }
    }

    /// Saves an image into a file without a name: as a docker archive, or a manifest list of podman as an OCI
    /// archive.
    ///
    /// The archive may have other platforms than the chosen ones: more of a manifest list; others of a docker
    /// that cannot select them.
    ///
    /// The command writes to the file itself, and is killed when nobody waits for it any more.
    pub(super) async fn save(
        self,
        reference: &str,
        platforms: &PlatformChoice,
    ) -> Result<OpenFile> {
        self.check("image source", reference)?;
        if self == Self::Podman && is_manifest_list(reference).await {
            return self.save_manifest_list(reference).await;
        }
        // By its ID: by a name without a tag, all of its tags would be saved.
        let id = self.id(reference).await.map_err(|refusal| self.error(reference, refusal))?;
        let mut save = vec!["save".to_owned()];
        if self == Self::Podman {
            save.extend(["--quiet", "--format", "docker-archive"].map(str::to_owned));
        }
        if let (Self::Docker, PlatformChoice::One(platform)) = (self, platforms) {
            let selected = ["--platform".to_owned(), platform.to_string(), id.clone()];
            match self.write(reference, save.iter().chain(&selected)).await? {
                Err(Refusal::Other(words)) if is_option_unsupported(&words) => {}
                saved => return saved.map_err(|refusal| self.error(reference, refusal)),
            }
        }
        save.push(id);
        let saved = self.write(reference, &save).await?;
        saved.map_err(|refusal| self.error(reference, refusal))
    }

    /// Keeps what a command writes to its standard output.
    async fn write(
        self,
        reference: &str,
        arguments: impl IntoIterator<Item = &String>,
    ) -> Result<Result<OpenFile, Refusal>> {
        let name = self.source(reference);
        let file = spool::file()?;
        let stdout = file.try_clone().map_err(spool::no_file)?;
        let mut command = Command::new(self.program());
        match run(command.args(arguments).stdout(stdout)).await {
            Ok(_) => Ok(Ok(spool::opened(file, name)?)),
            Err(_) if spool::is_full(&file) => Err(spool::no_room(&name, None)),
            Err(refusal) => Ok(Err(refusal)),
        }
    }

    /// Saves a manifest list with all its images, which podman writes to a file with a name only.
    async fn save_manifest_list(self, reference: &str) -> Result<OpenFile> {
        let name = self.source(reference);
        let folder = tempfile::tempdir().map_err(spool::no_file)?;
        let path = folder.path().join("image.tar");
        let mut target = OsString::from("oci-archive:");
        target.push(&path);
        let mut push = Command::new(self.program());
        push.args(["manifest", "push", "--all", "--quiet", reference]).arg(target);
        let pushed = run(push.stdout(Stdio::null())).await;
        pushed.map_err(|refusal| self.error(reference, refusal))?;
        spool::opened(File::open(&path).map_err(spool::no_file)?, name)
    }

    /// Loads the images of an archive: a docker archive, or an OCI archive where the engine reads them.
    ///
    /// `archive` is the standard input of the command: a file from its position on, or a pipe. Returns what
    /// the command prints, such as `Loaded image: team/tool:v1`.
    ///
    /// # Errors
    /// [`Error::Failed`] with the words of the command.
    pub(in crate::transfer) async fn load(self, archive: impl Into<Stdio>) -> Result<String> {
        let mut load = Command::new(self.program());
        load.arg("load").stdout(Stdio::piped());
        let words = match run_with(&mut load, archive.into()).await {
            Ok(output) => return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            Err(Refusal::NotInstalled) => return Err(self.not_installed()),
            Err(Refusal::NoSuchImage) => "no such image".to_owned(),
            Err(Refusal::Other(words)) => words,
        };
        Err(Error::failed(format!("{} does not load the image", self.program())).with_source(words))
    }

    fn not_installed(self) -> Error {
        Error::failed(format!(
            "{program} is not installed, or not on the PATH; on Debian: apt-get install {}",
            self.package(),
            program = self.program(),
        ))
    }

    fn error(self, reference: &str, refusal: Refusal) -> Error {
        match refusal {
            Refusal::NotInstalled => self.not_installed(),
            Refusal::NoSuchImage => Error::not_found(ResourceKind::Image, self.source(reference)),
            Refusal::Other(words) => {
                let program = self.program();
                Error::failed(format!("{program} does not give its image {reference}"))
                    .with_source(words)
            }
        }
    }
}

/// Returns whether podman has a manifest list of this name, which its other commands reduce to the image for
/// this machine.
async fn is_manifest_list(reference: &str) -> bool {
    let mut exists = Command::new(Engine::Podman.program());
    run(exists.args(["manifest", "exists", reference]).stdout(Stdio::null())).await.is_ok()
}

/// Returns whether these words of docker say that the command or the daemon is too old for an option.
///
/// `docker save --platform` needs docker 28 and API 1.48.
/// Source: <https://docs.docker.com/reference/cli/docker/image/save/>
fn is_option_unsupported(words: &str) -> bool {
    words.contains("unknown flag: --platform")
        || (words.contains("--platform") && words.contains("requires API version"))
}

/// Runs a command to its end, unless nobody waits for it.
async fn run(command: &mut Command) -> Result<Output, Refusal> {
    run_with(command, Stdio::null()).await
}

async fn run_with(command: &mut Command, stdin: Stdio) -> Result<Output, Refusal> {
    let child = match command.stdin(stdin).stderr(Stdio::piped()).kill_on_drop(true).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Refusal::NotInstalled);
        }
        Err(error) => return Err(Refusal::Other(error.to_string())),
    };
    let output = child.wait_with_output().await;
    let output = output.map_err(|error| Refusal::Other(error.to_string()))?;
    if output.status.success() {
        return Ok(output);
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = Secrets::of_environment().strike_out(words.trim()).into_owned();
    let lower = words.to_lowercase();
    if ["no such image", "no such object", "image not known"].iter().any(|no| lower.contains(no)) {
        return Err(Refusal::NoSuchImage);
    }
    Err(Refusal::Other(match words.as_str() {
        "" => output.status.to_string(),
        words => words[words.ceil_char_boundary(words.len().saturating_sub(SHOWN_LEN))..].into(),
    }))
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::fs;
    use std::io::Read as _;
    use std::time::{Duration, Instant};

    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).stdout(Stdio::piped());
        command
    }

    #[tokio::test]
    async fn a_command_ends_when_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        // As long as it lives, it says so.
        let script = "while :; do echo x >> \"$0\"; sleep 0.02; done";
        let mut command = shell(script);
        command.arg(&file);
        let length = || fs::metadata(&file).map_or(0, |metadata| metadata.len());
        let deadline = Instant::now() + Duration::from_secs(20);
        {
            let mut running = Box::pin(run(&mut command));
            while length() == 0 {
                assert!(Instant::now() < deadline, "it does not start");
                let tick = tokio::time::timeout(Duration::from_millis(20), &mut running);
                assert!(tick.await.is_err(), "it ends by itself");
            }
        }
        let mut last = 0;
        while length() != last {
            assert!(Instant::now() < deadline, "it goes on");
            last = length();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    #[tokio::test]
    async fn command_reads_standard_input_from_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("archive");
        fs::write(&path, "content of the archive").unwrap();
        let mut file = File::open(&path).unwrap();
        let output = run_with(&mut shell("cat"), file.try_clone().unwrap().into()).await.unwrap();
        assert_eq!(output.stdout, b"content of the archive");
        let mut rest = String::new();
        file.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
    }

    #[test]
    fn docker_without_platform_option_is_detected() {
        for words in [
            "unknown flag: --platform\nSee 'docker save --help'.",
            "\"--platform\" requires API version 1.48, but the Docker daemon API version is 1.47",
            "\"--platform\" flag requires API version 1.48, but the daemon has 1.41",
        ] {
            assert!(is_option_unsupported(words), "{words}");
        }
        for words in [
            "no suitable export target found: image with reference x was found but does not provide \
             the specified platform (linux/arm64)",
            "Cannot connect to the Docker daemon",
            "this requires API version 1.48",
        ] {
            assert!(!is_option_unsupported(words), "{words}");
        }
    }

    #[tokio::test]
    async fn what_a_command_says_is_why_it_failed() {
        let refusal = |script: &str| {
            let mut command = shell(script);
            async move { run(&mut command).await.unwrap_err() }
        };
        for words in ["Error: No such image: a:1", "Error: a: image not known"] {
            let refusal = refusal(&format!("echo '{words}' >&2; exit 1")).await;
            assert!(matches!(refusal, Refusal::NoSuchImage), "{words}: {refusal:?}");
        }
        let other = refusal("echo ' permission denied ' >&2; exit 1").await;
        assert!(
            matches!(&other, Refusal::Other(words) if words == "permission denied"),
            "{other:?}"
        );
        let silent = refusal("exit 7").await;
        assert!(
            matches!(&silent, Refusal::Other(words) if words == "exit status: 7"),
            "{silent:?}"
        );
        // The end of it, cut between characters.
        let long =
            refusal("for i in $(seq 2000); do printf 'ü'; done >&2; echo x >&2; exit 1").await;
        let Refusal::Other(words) = long else { panic!("{long:?}") };
        assert!(words.len() <= SHOWN_LEN && words.ends_with("üx"), "{}", words.len());
        let missing = run(&mut Command::new("no-such-command-anywhere")).await.unwrap_err();
        assert!(matches!(missing, Refusal::NotInstalled), "{missing:?}");
    }
}
