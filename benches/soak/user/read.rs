//! Operations that read, and compare the answer with the expected contents.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;
use std::time::Instant;

use ark_container_core::RegistryBackend;
use ark_container_core::model::{Digest, Organizations, Reference, Tag};
use ark_container_core::transfer::Pull;
use futures_util::TryStreamExt;
use reqwest::{Method, StatusCode};
use serde_json::Value;

use super::write::expect;
use super::{OTHER_ORGANIZATION, TAGS, User, pick};
use crate::Problem;
use crate::contents::Contents;

impl User {
    /// Pulls the image of a random tag, or checks the error if the tag has none.
    pub(super) async fn pull(&self, name: &str, contents: &Contents) -> Result<(), Problem> {
        let tag: Tag = pick(&TAGS).parse()?;
        match contents.tags.get(&tag) {
            Some(digest) => self.pull_image(name, tag.into(), digest).await,
            None => {
                let path = self.path(name)?;
                let folder = tempfile::tempdir()?;
                let backend = Arc::new(self.environment.backend.clone());
                let pull = Pull::new(backend, &path, tag.into(), folder.path());
                match pull.with_endpoint(self.environment.host.clone()).await {
                    Err(ark_container_core::Error::NotFound { .. }) => Ok(()),
                    Err(error) => Err(error.into()),
                    Ok(pulled) => {
                        Err(format!("pulled {} for a tag without an image", pulled.url).into())
                    }
                }
            }
        }
    }

    /// Pulls an image, and compares each byte with the pushed ones.
    pub(super) async fn pull_image(
        &self,
        name: &str,
        reference: Reference,
        digest: &Digest,
    ) -> Result<(), Problem> {
        let path = self.path(name)?;
        let folder = tempfile::tempdir()?;
        let started = Instant::now();
        let backend = Arc::new(self.environment.backend.clone());
        let pull = Pull::new(backend, &path, reference, folder.path());
        pull.with_endpoint(self.environment.host.clone()).await?;
        self.record("pull", started);
        let sample = &self.image(digest)?.sample;
        let manifest = (sample.digest(), sample.manifest());
        for (blob, content) in sample.blobs().chain([manifest]) {
            let pulled = fs::read(folder.path().join("blobs/sha256").join(blob.hex()))?;
            if pulled != content {
                return Err(format!("{blob} of {digest} differs from the pushed bytes").into());
            }
        }
        Ok(())
    }

    pub(super) async fn list_tags(&self, name: &str, contents: &Contents) -> Result<(), Problem> {
        let started = Instant::now();
        let answer = self.request(Method::GET, name, "tags/list").await?.send().await?;
        expect(&answer, StatusCode::OK)?;
        let listed = answer.bytes().await?;
        self.record("list tags", started);
        check_tags(&listed, contents)
    }

    pub(super) async fn list_images(&self, name: &str, contents: &Contents) -> Result<(), Problem> {
        let started = Instant::now();
        let found = self.found(name).await?.unwrap_or_default();
        self.record("list images", started);
        if found == *contents {
            return Ok(());
        }
        Err(format!("listed {found:?}, expected {contents:?}").into())
    }

    pub(super) async fn list_repositories(&self) -> Result<(), Problem> {
        let started = Instant::now();
        let listed =
            self.environment.backend.list_repositories(&Organizations::from(self.organization));
        let listed: Vec<_> = listed.try_collect().await?;
        self.record("list all", started);
        let listed: BTreeSet<_> =
            listed.iter().map(|repository| repository.url.path().name().to_string()).collect();
        let expected = self.repositories.iter().filter(|(_, contents)| contents.is_some());
        let expected: BTreeSet<_> = expected.map(|(name, _)| (*name).to_owned()).collect();
        if listed == expected {
            return Ok(());
        }
        Err(format!("listed {listed:?}, expected {expected:?}").into())
    }

    /// Logs in with the program. Checks that the password is valid for the own organization only.
    pub(super) async fn log_in(&self, name: &str, contents: &Contents) -> Result<(), Problem> {
        let started = Instant::now();
        let line = format!("--quiet --login {name} --organization {}", self.organization);
        let mut command = self.environment.command(&line);
        let output = tokio::task::spawn_blocking(move || command.output()).await??;
        if !output.status.success() {
            return Err(format!("{line}: {output:?}").into());
        }
        self.record("login by CLI", started);
        let password = String::from_utf8(output.stdout)?;
        let get = |path: String| {
            let url = format!("http://{}/v2/{path}/tags/list", self.environment.host);
            self.http.get(url).basic_auth("AWS", Some(password.trim_end())).send()
        };
        let own = get(self.path(name)?.to_string()).await?;
        expect(&own, StatusCode::OK)?;
        check_tags(&own.bytes().await?, contents)?;
        expect(&get(format!("prod/{OTHER_ORGANIZATION}/{name}")).await?, StatusCode::FORBIDDEN)
    }

    pub(super) async fn request_missing_content(&self, name: &str) -> Result<(), Problem> {
        let missing = "0".repeat(64);
        for url in [
            format!("blobs/sha256:{missing}"),
            format!("manifests/sha256:{missing}"),
            "manifests/missing".to_owned(),
            format!("blobs/uploads/{}", &missing[..32]),
        ] {
            let started = Instant::now();
            let answer = self.request(Method::GET, name, &url).await?.send().await?;
            expect(&answer, StatusCode::NOT_FOUND)?;
            self.record("missing content", started);
        }
        Ok(())
    }
}

fn check_tags(listed: &[u8], contents: &Contents) -> Result<(), Problem> {
    let listed: Value = serde_json::from_slice(listed)?;
    let listed: Vec<&str> =
        listed["tags"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let expected: Vec<&str> = contents.tags.keys().map(Tag::as_str).collect();
    if listed == expected {
        return Ok(());
    }
    Err(format!("listed the tags {listed:?}, expected {expected:?}").into())
}
