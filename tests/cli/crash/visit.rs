//! [`Visitor`]: a client that looks at everything which the registry shows.

use std::collections::{BTreeMap, BTreeSet};

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::distribution::{Client, Retry};
use ark_container_core::model::{
    Access, Digest, OrganizationId, RegistryHost, RepositoryUrl, Scope, Tag,
};
use ark_container_core::{Error, RegistryBackend as _, RegistryBackendExt as _};
use futures_util::TryStreamExt as _;
use serde_json::Value;

use super::disk::REGISTRY;
use super::model::{Contents, Model};
use crate::sandbox::{Sandbox, Server, TBD};

/// Asks a server, over HTTP, and the command line.
#[derive(Debug)]
pub(super) struct Visitor {
    backend: LocalBackend,
    host: RegistryHost,
}

impl Visitor {
    pub(super) fn new(sandbox: &Sandbox, server: &Server) -> Self {
        Self {
            backend: LocalBackend::open(Some(&sandbox.path(REGISTRY))).unwrap(),
            host: server.line().trim_end().parse().unwrap(),
        }
    }

    /// A client of one repository; it fails once the server is gone.
    pub(super) async fn client(&self, name: &str) -> Result<Client, Error> {
        let name = name.parse().map_err(Error::Parse)?;
        let path = self.backend.repository_path(OrganizationId::TBD, &name)?;
        let scope = Scope::repository(path.clone(), Access::Push);
        let credentials = self.backend.credentials(&scope, &Default::default()).await?;
        // A server that was killed does not come back by itself, so nothing is worth waiting for.
        let client = Client::new(RepositoryUrl::new(self.host.clone(), path), credentials)?;
        Ok(client.with_retry(Retry::never()))
    }

    /// Makes sure that everything acknowledged is there and whole, and that nothing else is visible.
    pub(super) async fn check(&self, sandbox: &Sandbox, model: &mut Model) {
        let listed = lines(sandbox, "--list-repositories");
        let listed: BTreeSet<String> = listed.iter().map(|line| text(&line["name"])).collect();
        for name in &listed {
            assert!(model.repositories.contains_key(name), "what is {name}?");
        }
        for (name, contents) in &mut model.repositories {
            let there = listed.contains(name);
            contents.there.observe(name, &there);
            if there {
                self.check_contents(sandbox, name, contents).await;
            } else {
                *contents = Contents::default();
            }
        }
    }

    async fn check_contents(&self, sandbox: &Sandbox, name: &str, contents: &mut Contents) {
        let client = self.client(name).await.unwrap();
        let listed: Vec<Tag> = client.tags().try_collect().await.unwrap();
        for tag in listed {
            contents.tags.entry(tag).or_default();
        }
        let mut tags = BTreeMap::<Digest, BTreeSet<String>>::new();
        for (tag, targets) in &mut contents.tags {
            let found = client.manifest(&tag.clone().into()).await.unwrap();
            let found = found.map(|descriptor| descriptor.digest);
            targets.observe(&(name, &tag), &found);
            if let Some(digest) = found {
                tags.entry(digest).or_default().insert(tag.to_string());
            }
        }
        let mut visible = BTreeMap::new();
        for line in lines(sandbox, &format!("--list-images {name} --organization {TBD}")) {
            let tags = line["tags"].as_array().unwrap().iter().map(text).collect();
            visible.insert(text(&line["digest"]).parse::<Digest>().unwrap(), tags);
        }
        for digest in visible.keys() {
            contents.images.entry(digest.clone()).or_default();
        }
        for (digest, there) in &mut contents.images {
            there.observe(&(name, &digest), &visible.contains_key(digest));
            let listed: Option<&BTreeSet<String>> = visible.get(digest);
            let expected = tags.remove(digest).unwrap_or_default();
            assert_eq!(listed.cloned().unwrap_or_default(), expected, "{name}@{digest}");
        }
        assert!(tags.is_empty(), "{name}: {tags:?} stand for nothing");
        self.check_blobs(&client, name, contents, visible.keys()).await;
    }

    /// Every blob that there may be is whole or not there; those of visible images are there.
    async fn check_blobs(
        &self,
        client: &Client,
        name: &str,
        contents: &mut Contents,
        images: impl Iterator<Item = &Digest>,
    ) {
        for (digest, there) in &mut contents.blobs {
            let found = match client.fetch_blob(digest).await {
                // The stream fails where the content is not what the digest says.
                Ok(content) => {
                    let content = content.try_for_each(|_| async { Ok(()) }).await;
                    content.unwrap_or_else(|error| panic!("{name}: {digest}: {error:?}"));
                    true
                }
                Err(Error::NotFound { .. }) => false,
                Err(error) => panic!("{name}: {digest}: {error:?}"),
            };
            there.observe(&(name, &digest), &found);
        }
        for digest in images {
            let manifest = client.fetch_manifest(&digest.clone().into()).await.unwrap();
            let manifest: Value = serde_json::from_slice(&manifest.bytes).unwrap();
            let layers = manifest["layers"].as_array().into_iter().flatten();
            for blob in layers.chain(manifest.get("config")) {
                let blob: Digest = text(&blob["digest"]).parse().unwrap();
                assert!(client.blob_exists(&blob).await.unwrap(), "{name}@{digest}: {blob}");
            }
        }
    }
}

/// The objects that an operation prints.
fn lines(sandbox: &Sandbox, line: &str) -> Vec<Value> {
    let printed = sandbox.printed(&format!("--quiet --output json {line}"));
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
