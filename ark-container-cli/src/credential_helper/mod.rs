//! docker's protocol for credential helpers, by which docker, podman, buildah, skopeo and kaniko get a
//! login when they need one: one operation a run, its input on standard input.
//!
//! A client shows its user what a helper printed on standard output when it fails; docker passes over
//! that in silence and shows standard error. So a failure is told on both.
//!
//! Source: <https://docs.docker.com/reference/cli/docker/login/#credential-helper-protocol>

mod answer;
mod log;
mod login;
mod operations;
mod registry;
mod request;

use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use crate::failure::{Failure, Kind};
use answer::{Answer, Refusal};
use request::Request;

pub(crate) use registry::host_of;

/// What the program is called.
pub(crate) const HELPER: &str = "docker-credential-ark";

/// What docker calls it.
pub(crate) const SUFFIX: &str = "ark";

/// The most that a run takes, whatever it waits for: the network, a lock, its input.
const PATIENCE: Duration = Duration::from_secs(15);

/// Does the operation that was asked for, and returns the exit code.
#[must_use]
pub fn run(argv: Vec<OsString>) -> ExitCode {
    let answer = in_time(PATIENCE, move || answer(&argv));
    if let Err(refusal) = &answer {
        tracing::warn!(target: log::TARGET, "refused: {refusal}");
    }
    answer::tell(&answer)
}

/// Works on a thread of its own: where that hangs, its end is not waited for.
fn in_time(
    patience: Duration,
    work: impl FnOnce() -> Result<Answer, Refusal> + Send + 'static,
) -> Result<Answer, Refusal> {
    let (sender, receiver) = mpsc::channel();
    let worker = thread::Builder::new().spawn(move || {
        // Nobody listens any more where it took too long.
        let _ = sender.send(work());
    });
    worker.map_err(|error| Failure::io("cannot start", &error))?;
    receiver.recv_timeout(patience).unwrap_or_else(|error| Err(given_up(error, patience).into()))
}

fn given_up(error: RecvTimeoutError, patience: Duration) -> Failure {
    match error {
        RecvTimeoutError::Timeout => Failure::new(
            Kind::Temporary,
            format!(
                "no answer within {} seconds: the network, another process that is logging in, or \
                 whoever is to send input takes too long",
                patience.as_secs()
            ),
        )
        .with_help(format!("try again; to see what it does: export {}=FILE", log::VARIABLE)),
        // Where it panicked, the panic has been told.
        RecvTimeoutError::Disconnected => Failure::new(Kind::Other, "it ended without an answer"),
    }
}

fn answer(argv: &[OsString]) -> Result<Answer, Refusal> {
    log::start();
    let request = Request::read(argv)?;
    tracing::info!(target: log::TARGET, "{request}");
    operations::perform(request)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hangs_is_given_up_and_what_panics_is_told() {
        let refused = |patience, work: fn()| {
            let refusal = in_time(patience, move || {
                work();
                Ok(Answer::Done)
            });
            refusal.unwrap_err().to_string()
        };
        insta::assert_snapshot!(refused(Duration::from_millis(1), || loop { thread::park() }), @"
        docker-credential-ark: no answer within 0 seconds: the network, another process that is logging in, or whoever is to send input takes too long
        help: try again; to see what it does: export ARK_CREDENTIAL_LOG=FILE
        ");
        let silent = || std::panic::resume_unwind(Box::new(()));
        insta::assert_snapshot!(refused(Duration::from_secs(60), silent), @"
        docker-credential-ark: it ended without an answer
        ");
    }
}
