//! What the registry has to offer, or nothing: a shell that completes is not to be told of failures.

use std::collections::BTreeSet;
use std::time::Duration;

use ark_container_core::model::{OrganizationId, Organizations, RepositoryName};
use ark_container_core::{RegistryBackend as _, RegistryBackendExt as _};
use futures_util::TryStreamExt as _;

use super::line::Line;
use crate::args::GlobalOptions;
use crate::connect::{Connection, Context};
use crate::output::{Format, Output};
use crate::settings::Settings;

/// How long somebody who pressed a key waits at most.
const PATIENCE: Duration = Duration::from_secs(2);

/// The registry that the line and the settings choose; `None` where they are wrong.
pub(super) struct Registry(Option<Context>);

impl Registry {
    /// Nothing is asked yet.
    pub(super) fn of(line: &Line<'_>) -> Self {
        let given = |option| line.value(option).map(str::to_owned);
        let options = GlobalOptions {
            registry: given("registry"),
            memberships: line.value("memberships").map(Into::into),
            profile: given("profile"),
            region: given("region"),
            quiet: true,
            ..GlobalOptions::default()
        };
        let settings = Settings::resolve(&options, &|name| std::env::var_os(name)).ok();
        let output = Output { format: Format::default(), quiet: true };
        Self(settings.map(|settings| Context { settings, output, max_attempts: Some(1) }))
    }

    /// The organizations of whoever asks: those that are known, where they belong to all.
    pub(super) fn organizations(&self) -> BTreeSet<String> {
        self.ask(async |context, connection| {
            let principal = connection.backend.principal().await.ok()?;
            let mut organizations = match principal.organizations() {
                Organizations::Only(organizations) => organizations,
                Organizations::All => {
                    let all = connection.backend.list_repositories(&Organizations::All);
                    let all = all.map_ok(|repository| repository.url.path().organization());
                    all.try_collect().await.ok()?
                }
            };
            organizations.extend(context.settings.organization(None).ok()?);
            Some(organizations.iter().map(ToString::to_string).collect())
        })
    }

    /// The names of the organization's repositories; of every organization's, where none is given.
    pub(super) fn repositories(&self, owner: Option<&str>) -> BTreeSet<String> {
        self.ask(async |context, connection| {
            let owner = context.settings.organization(owner).ok()?;
            let owner = owner.map_or(Organizations::All, Organizations::from);
            let repositories = connection.backend.list_repositories(&owner);
            let names = repositories.map_ok(|repository| repository.url.path().name().to_string());
            names.try_collect().await.ok()
        })
    }

    /// The tags of a repository.
    pub(super) fn tags(&self, owner: Option<&str>, name: &str) -> BTreeSet<String> {
        self.ask(async |context, connection| {
            let owner: OrganizationId = context.settings.organization(owner).ok()??;
            let name: RepositoryName = name.parse().ok()?;
            let path = connection.backend.repository_path(owner, &name).ok()?;
            let images: Vec<_> = connection.backend.list_images(&path).try_collect().await.ok()?;
            Some(images.iter().flat_map(|image| &image.tags).map(ToString::to_string).collect())
        })
    }

    fn ask(
        &self,
        question: impl AsyncFnOnce(&Context, Connection) -> Option<BTreeSet<String>>,
    ) -> BTreeSet<String> {
        let answer = || {
            let context = self.0.as_ref()?;
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            let answer = runtime.block_on(async {
                let answer = async { question(context, context.connect().await.ok()?).await };
                tokio::time::timeout(PATIENCE, answer).await
            });
            // A thread that waits for a disk or a name server is not waited for.
            runtime.shutdown_background();
            answer.ok()?
        };
        answer().unwrap_or_default()
    }
}
