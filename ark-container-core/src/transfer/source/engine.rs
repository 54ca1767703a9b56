//! [`Engine`]: saves and loads images by the commands docker and podman.

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

/// The maximum length of a command's message in an error. The end of the message has the reason of the failure.
const MAX_MESSAGE_BYTES: usize = 2000;

/// A container engine with an image store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(in crate::transfer) enum Engine {
    Docker,
    Podman,
}

/// The reason why a command failed.
#[derive(Debug)]
pub(super) enum EngineError {
    /// The command does not exist.
    NotInstalled,
    /// The engine does not have the image.
    NoSuchImage,
    /// Another reason, with the message of the command.
    Other(String),
}

impl Engine {
    pub(in crate::transfer) const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// Returns the name of the command.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// Returns the prefix of sources and targets in this engine.
    pub(in crate::transfer) fn prefix(self) -> &'static str {
        match self {
            Self::Docker => "docker-daemon",
            Self::Podman => "podman",
        }
    }

    /// Returns the Debian package with the command.
    fn package(self) -> &'static str {
        match self {
            Self::Docker => "docker.io",
            Self::Podman => "podman",
        }
    }

    fn source(self, reference: &str) -> String {
        format!("{}:{reference}", self.prefix())
    }

    /// Rejects a reference that the command would parse as an option, or that is not a valid image name.
    ///
    /// `role` is "image source" or "image target".
    pub(in crate::transfer) fn check(self, role: &str, reference: &str) -> Result<()> {
        let problem = if reference.is_empty() {
            "names no image"
        } else if reference.starts_with('-') {
            "names an option, not an image"
        } else if reference.contains(|c: char| c.is_control() || c.is_whitespace()) {
            "is not a valid image name"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("{role} {:?} {problem}", self.source(reference))))
    }

    /// Returns the ID of the image with this name. The default tag is `latest`.
    pub(super) async fn id(self, reference: &str) -> Result<String, EngineError> {
        let mut inspect = Command::new(self.program());
        inspect.args(["image", "inspect", "--format", "{{.Id}}", reference]);
        let output = run(inspect.stdout(Stdio::piped())).await?;
        let id = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let hex = id.strip_prefix("sha256:").unwrap_or(&id);
        match hex.len() == 64 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            true => Ok(id),
            false => Err(EngineError::Other(format!("{id:?} is not an image ID"))),
        }
    }

    /// Saves an image into an unnamed file: as a docker archive, or a manifest list of podman as an OCI archive.
    ///
    /// The archive may have other platforms than the selected ones: a manifest list has all its platforms, and an old
    /// docker cannot select a platform.
    ///
    /// The command writes to the file directly, and is killed if the future is dropped.
    pub(super) async fn save(
        self,
        reference: &str,
        platforms: &PlatformChoice,
    ) -> Result<OpenFile> {
        self.check("image source", reference)?;
        if self == Self::Podman && is_manifest_list(reference).await {
            return self.save_manifest_list(reference).await;
        }
        // By ID, since a name without a tag would save all tags.
        let id = self.id(reference).await.map_err(|error| self.error(reference, error))?;
        let mut save = vec!["save".to_owned()];
        if self == Self::Podman {
            save.extend(["--quiet", "--format", "docker-archive"].map(str::to_owned));
        }
        if let (Self::Docker, PlatformChoice::One(platform)) = (self, platforms) {
            let selected = ["--platform".to_owned(), platform.to_string(), id.clone()];
            match self.save_output(reference, save.iter().chain(&selected)).await? {
                Err(EngineError::Other(message)) if is_option_unsupported(&message) => {}
                saved => return saved.map_err(|error| self.error(reference, error)),
            }
        }
        save.push(id);
        let saved = self.save_output(reference, &save).await?;
        saved.map_err(|error| self.error(reference, error))
    }

    /// Runs a command, and returns a file with its standard output.
    async fn save_output(
        self,
        reference: &str,
        arguments: impl IntoIterator<Item = &String>,
    ) -> Result<Result<OpenFile, EngineError>> {
        let name = self.source(reference);
        let file = spool::temporary_file()?;
        let stdout = file.try_clone().map_err(spool::no_temporary_file)?;
        let mut command = Command::new(self.program());
        match run(command.args(arguments).stdout(stdout)).await {
            Ok(_) => Ok(Ok(spool::open_written(file, name)?)),
            Err(_) if spool::is_disk_full(&file) => Err(spool::disk_full(&name, None)),
            Err(error) => Ok(Err(error)),
        }
    }

    /// Saves a manifest list with all its images. Podman can write it only to a named file.
    async fn save_manifest_list(self, reference: &str) -> Result<OpenFile> {
        let name = self.source(reference);
        let folder = tempfile::tempdir().map_err(spool::no_temporary_file)?;
        let path = folder.path().join("image.tar");
        let mut target = OsString::from("oci-archive:");
        target.push(&path);
        let mut push = Command::new(self.program());
        push.args(["manifest", "push", "--all", "--quiet", reference]).arg(target);
        let pushed = run(push.stdout(Stdio::null())).await;
        pushed.map_err(|error| self.error(reference, error))?;
        spool::open_written(File::open(&path).map_err(spool::no_temporary_file)?, name)
    }

    /// Loads the images of a docker archive, or of an OCI archive if the engine supports it.
    ///
    /// `archive` is the standard input of the command: a file from its current position, or a pipe. Returns the output
    /// of the command, such as `Loaded image: team/tool:v1`.
    ///
    /// # Errors
    /// [`Error::Failed`] with the message of the command.
    pub(in crate::transfer) async fn load(self, archive: impl Into<Stdio>) -> Result<String> {
        let mut load = Command::new(self.program());
        load.arg("load").stdout(Stdio::piped());
        let message = match run_with(&mut load, archive.into()).await {
            Ok(output) => return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned()),
            Err(EngineError::NotInstalled) => return Err(self.not_installed()),
            Err(EngineError::NoSuchImage) => "no such image".to_owned(),
            Err(EngineError::Other(message)) => message,
        };
        Err(Error::failed(format!("{} cannot load the image", self.program())).with_source(message))
    }

    fn not_installed(self) -> Error {
        Error::failed(format!(
            "{program} is not installed, or not on the PATH; on Debian: apt-get install {}",
            self.package(),
            program = self.program(),
        ))
    }

    fn error(self, reference: &str, error: EngineError) -> Error {
        match error {
            EngineError::NotInstalled => self.not_installed(),
            EngineError::NoSuchImage => {
                Error::not_found(ResourceKind::Image, self.source(reference))
            }
            EngineError::Other(message) => {
                let program = self.program();
                Error::failed(format!("{program} cannot save the image {reference}"))
                    .with_source(message)
            }
        }
    }
}

/// Returns whether podman has a manifest list of this name. `podman save` would save only the image for this machine.
async fn is_manifest_list(reference: &str) -> bool {
    let mut exists = Command::new(Engine::Podman.program());
    run(exists.args(["manifest", "exists", reference]).stdout(Stdio::null())).await.is_ok()
}

/// Returns whether this message of docker means that the command or the daemon is too old for `--platform`.
///
/// `docker save --platform` needs docker 28 and API 1.48.
/// Source: <https://docs.docker.com/reference/cli/docker/image/save/>
fn is_option_unsupported(message: &str) -> bool {
    message.contains("unknown flag: --platform")
        || (message.contains("--platform") && message.contains("requires API version"))
}

/// Runs a command to its end. Kills it if the future is dropped.
async fn run(command: &mut Command) -> Result<Output, EngineError> {
    run_with(command, Stdio::null()).await
}

async fn run_with(command: &mut Command, stdin: Stdio) -> Result<Output, EngineError> {
    let child = match command.stdin(stdin).stderr(Stdio::piped()).kill_on_drop(true).spawn() {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(EngineError::NotInstalled);
        }
        Err(error) => return Err(EngineError::Other(error.to_string())),
    };
    let output = child.wait_with_output().await;
    let output = output.map_err(|error| EngineError::Other(error.to_string()))?;
    if output.status.success() {
        return Ok(output);
    }
    let message = String::from_utf8_lossy(&output.stderr);
    let message = Secrets::of_environment().strike_out(message.trim()).into_owned();
    let lower = message.to_lowercase();
    if ["no such image", "no such object", "image not known"].iter().any(|no| lower.contains(no)) {
        return Err(EngineError::NoSuchImage);
    }
    Err(EngineError::Other(match message.as_str() {
        "" => output.status.to_string(),
        message => message
            [message.ceil_char_boundary(message.len().saturating_sub(MAX_MESSAGE_BYTES))..]
            .into(),
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
    async fn command_is_killed_when_future_is_dropped() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        // The script appends to the file while it runs.
        let script = "while :; do echo x >> \"$0\"; sleep 0.02; done";
        let mut command = shell(script);
        command.arg(&file);
        let length = || fs::metadata(&file).map_or(0, |metadata| metadata.len());
        let deadline = Instant::now() + Duration::from_secs(20);
        {
            let mut running = Box::pin(run(&mut command));
            while length() == 0 {
                assert!(Instant::now() < deadline, "the command does not start");
                let tick = tokio::time::timeout(Duration::from_millis(20), &mut running);
                assert!(tick.await.is_err(), "the command exits by itself");
            }
        }
        let mut last = 0;
        while length() != last {
            assert!(Instant::now() < deadline, "the command still runs");
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
        for message in [
            "unknown flag: --platform\nSee 'docker save --help'.",
            "\"--platform\" requires API version 1.48, but the Docker daemon API version is 1.47",
            "\"--platform\" flag requires API version 1.48, but the daemon has 1.41",
        ] {
            assert!(is_option_unsupported(message), "{message}");
        }
        for message in [
            "no suitable export target found: image with reference x was found but does not provide \
             the specified platform (linux/arm64)",
            "Cannot connect to the Docker daemon",
            "this requires API version 1.48",
        ] {
            assert!(!is_option_unsupported(message), "{message}");
        }
    }

    #[tokio::test]
    async fn error_has_the_message_of_the_command() {
        let error = |script: &str| {
            let mut command = shell(script);
            async move { run(&mut command).await.unwrap_err() }
        };
        for message in ["Error: No such image: a:1", "Error: a: image not known"] {
            let error = error(&format!("echo '{message}' >&2; exit 1")).await;
            assert!(matches!(error, EngineError::NoSuchImage), "{message}: {error:?}");
        }
        let other = error("echo ' permission denied ' >&2; exit 1").await;
        assert!(
            matches!(&other, EngineError::Other(message) if message == "permission denied"),
            "{other:?}"
        );
        let silent = error("exit 7").await;
        assert!(
            matches!(&silent, EngineError::Other(message) if message == "exit status: 7"),
            "{silent:?}"
        );
        // The end of a long message, truncated between characters.
        let long = error("for i in $(seq 2000); do printf 'ü'; done >&2; echo x >&2; exit 1").await;
        let EngineError::Other(message) = long else { panic!("{long:?}") };
        assert!(message.len() <= MAX_MESSAGE_BYTES && message.ends_with("üx"), "{}", message.len());
        let missing = run(&mut Command::new("no-such-command-anywhere")).await.unwrap_err();
        assert!(matches!(missing, EngineError::NotInstalled), "{missing:?}");
    }
}
