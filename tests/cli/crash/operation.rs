//! [`Operation`]: something that a user does, and that a kill may cut at any moment.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::process::Stdio;
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, Instant};

use ark_container_core::distribution::Client;
use ark_container_core::model::{Digest, Tag};
use futures_util::stream;

use super::images::Image;
use super::model::Effect;
use crate::sandbox::{Sandbox, TBD};

/// SIGKILL has this number everywhere.
const KILL: i32 = 9;

#[derive(Debug, Clone)]
pub(super) enum Operation {
    Create {
        name: String,
    },
    /// By the command line, which serves the folder to itself.
    Push {
        name: String,
        tag: Tag,
        image: Arc<Image>,
    },
    /// Over HTTP, to the server.
    Upload {
        name: String,
        tag: Tag,
        image: Arc<Image>,
    },
    /// Of a tag that alone stands for the image.
    DeleteImage {
        name: String,
        tag: Tag,
        digest: Digest,
    },
    DeleteRepository {
        name: String,
    },
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum End {
    Done,
    Killed,
    Failed(String),
}

impl Operation {
    pub(super) fn repository(&self) -> &str {
        match self {
            Self::Create { name }
            | Self::Push { name, .. }
            | Self::Upload { name, .. }
            | Self::DeleteImage { name, .. }
            | Self::DeleteRepository { name } => name,
        }
    }

    /// Everything that is so once it is done, in the order in which it comes true.
    pub(super) fn effects(&self) -> Vec<Effect> {
        let name = self.repository().to_owned();
        match self {
            Self::Create { .. } => vec![Effect::Repository { name, there: true }],
            Self::DeleteRepository { .. } => vec![Effect::Repository { name, there: false }],
            Self::DeleteImage { tag, digest, .. } => vec![
                Effect::Tag { name: name.clone(), tag: tag.clone(), target: None },
                Effect::Image { name, digest: digest.clone(), there: false },
            ],
            Self::Push { tag, image, .. } | Self::Upload { tag, image, .. } => {
                let mut effects = Vec::new();
                for part in image.parts() {
                    let blobs = part.blobs();
                    effects.extend(blobs.map(|(digest, _)| Effect::blob(&name, digest)));
                    effects.push(Effect::image(&name, part.digest()));
                }
                effects.push(Effect::tag(&name, tag, image.sample.digest()));
                effects
            }
        }
    }

    /// What to type for it. An upload is repeated by the command line too.
    fn line(&self) -> String {
        let line = match self {
            Self::Create { name } => format!("--create-repository {name}"),
            Self::Push { name, tag, image } | Self::Upload { name, tag, image } => {
                format!("--push {name}:{tag} --all-platforms --from oci:{}", image.layout)
            }
            Self::DeleteImage { name, tag, .. } => format!("--delete-image {name}:{tag}"),
            Self::DeleteRepository { name } => format!("--delete-repository {name} --force"),
        };
        format!("--quiet {line} --organization {TBD}")
    }

    /// Does it on the command line, which is killed after a while if it has not ended by then.
    pub(super) fn run(&self, sandbox: &Sandbox, kill_after: Option<Duration>) -> End {
        let mut command = sandbox.command(&self.line());
        let started = Instant::now();
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        if let Some(moment) = kill_after {
            while started.elapsed() < moment && process.try_wait().unwrap().is_none() {
                sleep(Duration::from_millis(1));
            }
            process.kill().unwrap();
        }
        let output = process.wait_with_output().unwrap();
        match output.status.code() {
            Some(0) => End::Done,
            None if output.status.signal() == Some(KILL) => End::Killed,
            _ => End::Failed(format!("{output:?}")),
        }
    }
}

/// Uploads an image as docker does, its manifest to the tag alone, and reports each step that the
/// registry acknowledged.
pub(super) async fn upload(
    client: &Client,
    operation: &Operation,
    mut acknowledged: impl FnMut(Effect),
) -> ark_container_core::Result<()> {
    let Operation::Upload { name, tag, image } = operation else { return Ok(()) };
    for part in image.parts() {
        for (digest, content) in part.blobs() {
            if !client.blob_exists(&digest).await? {
                let size = content.len() as u64;
                let content = stream::iter([Ok::<_, io::Error>(content.to_vec().into())]);
                let upload = client.start_upload().await?;
                client.upload_blob(&upload, &digest, size, content).await?;
            }
            acknowledged(Effect::blob(name, digest));
        }
        let digest = part.digest();
        if digest == image.sample.digest() {
            client.put_manifest(&tag.clone().into(), part.root()).await?;
            acknowledged(Effect::tag(name, tag, digest.clone()));
        } else {
            client.put_manifest(&digest.clone().into(), part.root()).await?;
        }
        acknowledged(Effect::image(name, digest));
    }
    Ok(())
}
