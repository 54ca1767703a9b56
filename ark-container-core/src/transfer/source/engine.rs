//! [`Engine`]: docker and podman, which are asked for their images through their commands.

use std::io;
use std::process::{Output, Stdio};

use tokio::process::Command;

use super::spool;
use crate::error::{Error, ResourceKind, Result};
use crate::transfer::local_file::OpenFile;

/// What is shown of the words of a command; the end says what it failed of.
const SHOWN_LEN: usize = 2000;

/// A program that keeps images.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Engine {
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
    pub(super) const ALL: [Self; 2] = [Self::Docker, Self::Podman];

    /// The command.
    pub(super) fn program(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        }
    }

    /// What a source of it starts with.
    pub(super) fn prefix(self) -> &'static str {
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

    /// Refuses what the command would take for an option, or cannot be given.
    pub(super) fn check(self, reference: &str) -> Result<()> {
        let problem = if reference.is_empty() {
            "names no image"
        } else if reference.starts_with('-') {
            "names an option, not an image"
        } else if reference.contains(|c: char| c.is_control() || c.is_whitespace()) {
            "has a name that no image has"
        } else {
            return Ok(());
        };
        Err(Error::invalid(format!("image source {:?} {problem}", self.source(reference))))
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

    /// Saves an image into a file without a name, as a docker archive.
    ///
    /// The command writes to the file itself, and is killed when nobody waits for it any more.
    pub(super) async fn save(self, reference: &str) -> Result<OpenFile> {
        self.check(reference)?;
        // By its ID: by a name without a tag, all of its tags would be saved.
        let id = self.id(reference).await.map_err(|refusal| self.error(reference, refusal))?;
        let name = self.source(reference);
        let file = spool::file()?;
        let stdout = file.try_clone().map_err(spool::no_file)?;
        let mut save = Command::new(self.program());
        save.arg("save");
        if self == Self::Podman {
            save.args(["--quiet", "--format", "docker-archive"]);
        }
        save.arg(id).stdout(stdout);
        let saved = run(&mut save).await;
        if saved.is_err() && spool::is_full(&file) {
            return Err(spool::no_room(&name, None));
        }
        saved.map_err(|refusal| self.error(reference, refusal))?;
        spool::opened(file, name)
    }

    fn error(self, reference: &str, refusal: Refusal) -> Error {
        let program = self.program();
        match refusal {
            Refusal::NotInstalled => Error::failed(format!(
                "{program} is not installed, or not on the PATH; on Debian: apt-get install {}",
                self.package()
            )),
            Refusal::NoSuchImage => Error::not_found(ResourceKind::Image, self.source(reference)),
            Refusal::Other(words) => {
                Error::failed(format!("{program} does not give its image {reference}"))
                    .with_source(words)
            }
        }
    }
}

/// Runs a command to its end, unless nobody waits for it.
async fn run(command: &mut Command) -> Result<Output, Refusal> {
    let child = match command.stdin(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true).spawn()
    {
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
    let words = String::from_utf8_lossy(&output.stderr).trim().to_owned();
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
