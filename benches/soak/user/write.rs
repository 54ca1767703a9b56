//! Operations that write: pushes, deletions and interrupted uploads.

use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::model::{Digest, Tag};
use ark_container_core::transfer::{ImageSource, Push};
use ark_container_core::{RegistryBackend, RegistryBackendExt};
use futures_util::TryStreamExt;
use futures_util::stream;
use reqwest::{Method, StatusCode};
use tokio::time::{sleep, timeout};

use super::{REPOSITORIES, TAGS, User, is_temporary, pick, random_below};
use crate::Problem;
use crate::contents::{Contents, check_interrupted};

/// Longer than the server processes a request after its client has disconnected.
const CANCELLED_REQUEST_WAIT: Duration = Duration::from_secs(1);
const TIMEOUT: Duration = Duration::from_secs(30);
/// About the duration of a push, so that some pushes are interrupted and some are not.
const PUSH_MS: usize = 60;

/// The end of a command that did not fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Done,
    /// The result of the command is unknown.
    Killed,
}

impl User {
    /// Pushes all images to all repositories, so that later pushes add no files. The pushes write to the folder,
    /// because the server is killed meanwhile.
    pub(super) async fn push_all_images(&mut self) -> Result<(), Problem> {
        for name in REPOSITORIES {
            self.create(name).await?;
            let path = self.path(name)?;
            let tag: Tag = TAGS[0].parse()?;
            let mut contents = Contents::default();
            for image in &self.images {
                let backend = &self.environment.backend;
                let source = ImageSource::oci_layout(&image.layout);
                let push = Push::new(Arc::new(backend.clone()), &path, source);
                push.with_local(backend).with_tag(tag.clone()).await?;
                contents = contents.with_image(&tag, &image.sample.digest());
            }
            self.repositories.insert(name, Some(contents));
        }
        Ok(())
    }

    pub(super) async fn create(&mut self, name: &'static str) -> Result<(), Problem> {
        let started = Instant::now();
        let path = self.path(name)?;
        if random_below(4) == 0 {
            let line = format!("--quiet --create-repository {name} --organization");
            self.run(&format!("{line} {}", self.organization), None).await?;
            self.record("create by CLI", started);
        } else {
            self.environment.backend.create_repository(&path, &CreateOptions::default()).await?;
            self.record("create", started);
        }
        self.repositories.insert(name, Some(Contents::default()));
        Ok(())
    }

    pub(super) async fn push(
        &mut self,
        name: &'static str,
        before: Contents,
    ) -> Result<(), Problem> {
        let (digest, tag) = self.random_image_and_tag()?;
        let started = Instant::now();
        let done = self.send(name, &digest, &tag).await;
        if done.is_ok() {
            self.record("push", started);
        }
        let after = before.with_image(&tag, &digest);
        self.update_contents(name, Some(before), Some(after), done).await
    }

    /// Pushes, and closes the connections at a random time.
    pub(super) async fn push_and_disconnect(
        &mut self,
        name: &'static str,
        before: Contents,
    ) -> Result<(), Problem> {
        let (digest, tag) = self.random_image_and_tag()?;
        let duration = Duration::from_millis(random_below(PUSH_MS) as u64);
        let after = before.with_image(&tag, &digest);
        match timeout(duration, self.send(name, &digest, &tag)).await {
            Ok(done) => self.update_contents(name, Some(before), Some(after), done).await,
            Err(_) => self.check_after_interruption(name, Some(before), Some(after)).await,
        }
    }

    async fn send(&self, name: &str, digest: &Digest, tag: &Tag) -> Result<(), Problem> {
        let path = self.path(name)?;
        let source = ImageSource::oci_layout(&self.image(digest)?.layout);
        let push = Push::new(Arc::new(self.environment.backend.clone()), &path, source);
        let push = push.with_endpoint(self.environment.host.clone()).with_tag(tag.clone());
        match push.await?.digest() {
            pushed if pushed == digest => Ok(()),
            other => Err(format!("pushed {digest}, the result is {other}").into()),
        }
    }

    /// Pushes with the program, which writes to the folder beside the server. Two of three such programs are killed.
    pub(super) async fn push_by_program(
        &mut self,
        name: &'static str,
        before: Contents,
    ) -> Result<(), Problem> {
        let (digest, tag) = self.random_image_and_tag()?;
        let layout = self.image(&digest)?.layout.display().to_string();
        let line = format!("--quiet --push {name}:{tag} --from oci:{layout} --organization");
        let kill =
            (random_below(3) > 0).then(|| Duration::from_millis(random_below(2 * PUSH_MS) as u64));
        let started = Instant::now();
        let end = self.run(&format!("{line} {}", self.organization), kill).await?;
        let after = before.with_image(&tag, &digest);
        match end {
            End::Done => {
                self.record("push by CLI", started);
                self.repositories.insert(name, Some(after));
                Ok(())
            }
            End::Killed => {
                self.environment.count_client_kill();
                self.check_after_interruption(name, Some(before), Some(after)).await
            }
        }
    }

    /// Disconnects during the body of an upload.
    pub(super) async fn interrupted_upload(&mut self, name: &'static str) -> Result<(), Problem> {
        let started = Instant::now();
        let request = self.request(Method::POST, name, "blobs/uploads/").await?;
        let answer = request.send().await?;
        expect(&answer, StatusCode::ACCEPTED)?;
        let location = answer.headers()["location"].to_str()?;
        let id = location.rsplit('/').next().unwrap_or_default().to_owned();
        let url = format!("blobs/uploads/{id}");
        let some = stream::iter([Ok(vec![7; 10_000]), Err(std::io::Error::other("gone"))]);
        let request = self.request(Method::PATCH, name, &url).await?;
        let broken = request.body(reqwest::Body::wrap_stream(some)).send().await;
        if broken.is_ok() {
            return Err("an interrupted request was answered".into());
        }
        let status = self.request(Method::GET, name, &url).await?.send().await?;
        expect(&status, StatusCode::NO_CONTENT)?;
        self.record("broken upload", started);
        Ok(())
    }

    pub(super) async fn delete_tag(
        &mut self,
        name: &'static str,
        before: Contents,
    ) -> Result<(), Problem> {
        let tag: Tag = pick(&TAGS).parse()?;
        let expected = match before.tags.contains_key(&tag) {
            true => StatusCode::ACCEPTED,
            false => StatusCode::NOT_FOUND,
        };
        let after = before.without_tag(&tag);
        let done = self.delete("delete a tag", name, &format!("manifests/{tag}"), expected).await;
        self.update_contents(name, Some(before), Some(after), done).await
    }

    pub(super) async fn delete_image(
        &mut self,
        name: &'static str,
        before: Contents,
    ) -> Result<(), Problem> {
        let (digest, _) = self.random_image_and_tag()?;
        let expected = match before.images.contains(&digest) {
            true => StatusCode::ACCEPTED,
            false => StatusCode::NOT_FOUND,
        };
        let after = before.without_image(&digest);
        let url = format!("manifests/{digest}");
        let done = self.delete("delete an image", name, &url, expected).await;
        self.update_contents(name, Some(before), Some(after), done).await
    }

    async fn delete(
        &self,
        operation: &'static str,
        name: &str,
        url: &str,
        expected: StatusCode,
    ) -> Result<(), Problem> {
        let started = Instant::now();
        let answer = self.request(Method::DELETE, name, url).await?.send().await?;
        expect(&answer, expected)?;
        self.record(operation, started);
        Ok(())
    }

    pub(super) async fn delete_repository(&mut self, name: &'static str) -> Result<(), Problem> {
        let started = Instant::now();
        let options = DeleteOptions::default().with_force(true);
        self.environment.backend.delete_repository(&self.path(name)?, &options).await?;
        self.repositories.insert(name, None);
        self.record("delete all", started);
        Ok(())
    }

    /// Updates the expected contents: with `after`, or with the actual contents after a temporary error.
    async fn update_contents(
        &mut self,
        name: &'static str,
        before: Option<Contents>,
        after: Option<Contents>,
        done: Result<(), Problem>,
    ) -> Result<(), Problem> {
        let Err(problem) = done else {
            self.repositories.insert(name, after);
            return Ok(());
        };
        if is_temporary(&problem) {
            self.check_after_interruption(name, before, after).await?;
        }
        Err(problem)
    }

    async fn check_after_interruption(
        &mut self,
        name: &'static str,
        before: Option<Contents>,
        after: Option<Contents>,
    ) -> Result<(), Problem> {
        sleep(CANCELLED_REQUEST_WAIT).await;
        let found = self.found(name).await?;
        check_interrupted(&before, &after, &found)?;
        self.repositories.insert(name, found);
        Ok(())
    }

    /// Returns the actual contents in the folder.
    pub(super) async fn found(&self, name: &str) -> Result<Option<Contents>, Problem> {
        let (path, backend) = (self.path(name)?, &self.environment.backend);
        if !backend.repository_exists(&path).await? {
            return Ok(None);
        }
        let mut found = Contents::default();
        let images: Vec<_> = backend.list_images(&path).try_collect().await?;
        for image in images {
            let digest = image.digest;
            found.tags.extend(image.tags.into_iter().map(|tag| (tag, digest.clone())));
            found.images.insert(digest);
        }
        Ok(Some(found))
    }

    /// Waits for the server that replaces a killed one.
    pub(super) async fn wait_for_server(&self) -> Result<(), Problem> {
        let url = format!("http://{}/v2/", self.environment.host);
        let deadline = Instant::now() + TIMEOUT;
        while self.http.get(&url).send().await.is_err() {
            if Instant::now() > deadline {
                return Err("the server does not respond".into());
            }
            sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// Runs the program, which must succeed or be killed after `kill`.
    async fn run(&self, line: &str, kill: Option<Duration>) -> Result<End, Problem> {
        let mut command = self.environment.command(line);
        let line = line.to_owned();
        let running = tokio::task::spawn_blocking(move || {
            let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            if let Some(delay) = kill {
                std::thread::sleep(delay);
                process.kill()?;
            }
            process.wait_with_output()
        });
        let output = running.await??;
        match output.status.code() {
            Some(0) => Ok(End::Done),
            None if kill.is_some() => Ok(End::Killed),
            _ => Err(format!("{line}: {output:?}").into()),
        }
    }
}

pub(super) fn expect(answer: &reqwest::Response, status: StatusCode) -> Result<(), Problem> {
    if answer.status() == status {
        return Ok(());
    }
    Err(format!("{} returned {}, not {status}", answer.url(), answer.status()).into())
}
