//! Moving an image: what a push, a pull and a copy have in common on the command line.

use std::time::Duration;

use ark_container_core::Error;
use ark_container_core::model::RegistryHost;
use futures_util::future::{Either, select};

use crate::connect::Place;
use crate::failure::Stop;
use crate::output::{Output, human_size, human_time};
use crate::progress::Report;

/// Why a transfer did not come to its end.
#[derive(Debug)]
pub(crate) enum Broken {
    /// By Ctrl-C.
    Interrupted,
    Failed(Error),
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// Does the work, which is given where to dial, until it ends or Ctrl-C comes.
///
/// A folder is reached through a registry that lives as long as the work, on a port of its own: so no
/// server has to run, and the one that does is not disturbed.
pub(crate) async fn transfer<T>(
    place: &Place,
    report: &Report,
    work: impl AsyncFnOnce(Option<RegistryHost>) -> Result<T, Error>,
) -> Result<T, Broken> {
    let ended = match place {
        Place::Ecr(_) => until_interrupted(report.watch(work(None))).await,
        Place::Local(local) => {
            let interruptible = |endpoint| until_interrupted(report.watch(work(Some(endpoint))));
            local.serve_while(interruptible).await
        }
    };
    report.finish();
    ended
}

/// Gives the work up when Ctrl-C comes. It is made to be given up at any moment.
async fn until_interrupted<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Broken> {
    let interrupted = std::pin::pin!(tokio::signal::ctrl_c());
    match select(std::pin::pin!(work), interrupted).await {
        Either::Left((done, _)) => done.map_err(Broken::Failed),
        Either::Right((Ok(()), _)) => Err(Broken::Interrupted),
        // Where signals cannot be waited for, they end the program as they always do.
        Either::Right((Err(_), work)) => work.await.map_err(Broken::Failed),
    }
}

impl Broken {
    /// How the program stops, with what is said of an interruption and of an error.
    pub(crate) fn into_stop(
        self,
        output: Output,
        interruption: &str,
        explain: impl FnOnce(Error) -> Stop,
    ) -> Stop {
        match self {
            Self::Failed(error) => explain(error),
            Self::Interrupted => {
                output.note(&format!("interrupted: {interruption}"));
                Stop::Interrupted
            }
        }
    }
}

/// What became of an image's blobs, as people are told.
#[derive(Debug, Default)]
pub(crate) struct Summary(Vec<String>);

impl Summary {
    /// Blobs that were moved or not, as `sent`, with their bytes.
    pub(crate) fn blobs(mut self, what: &str, count: usize, bytes: u64) -> Self {
        self.0.push(format!("{what}: {count} ({})", human_size(bytes)));
        self
    }

    /// The same, where there are any.
    pub(crate) fn some_blobs(self, what: &str, count: usize, bytes: u64) -> Self {
        if count == 0 { self } else { self.blobs(what, count, bytes) }
    }

    /// Bytes that need not be sent, where there are any.
    pub(crate) fn bytes(mut self, what: &str, bytes: u64) -> Self {
        if bytes > 0 {
            self.0.push(format!("{what}: {}", human_size(bytes)));
        }
        self
    }

    /// All of it on one line, with how long it took.
    pub(crate) fn within(self, duration: Duration) -> String {
        format!("{}; {}", self.0.join("; "), human_time(duration))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_leaves_out_what_there_is_none_of() {
        let summary = Summary::default().blobs("sent", 2, 1500).some_blobs("mounted", 0, 0);
        let summary = summary.bytes("saved", 0).bytes("resumed", 10);
        let line = summary.within(Duration::from_millis(1200));
        assert_eq!(line, "sent: 2 (1.5 kB); resumed: 10 B; 1.2 s");
    }
}
