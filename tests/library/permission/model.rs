//! Compares random memberships files and random calls with an independent model of the rules.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::Arc;

use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::backend::{CreateOptions, DeleteOptions};
use ark_container_core::credentials::{RegistryCredentials, USERNAME};
use ark_container_core::model::{
    Access, OrganizationId, Organizations, Reference, RepositoryPath, Scope, Stage,
};
use ark_container_core::permission::{MembershipsPolicy, Permissioned};
use ark_container_core::testing::SampleImage;
use ark_container_core::testing::conformance::{HttpImages, PutImage};
use ark_container_core::{Error, RegistryBackend, ResourceKind, Result};
use futures_util::TryStreamExt;
use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use proptest::test_runner::{Config, TestRunner};
use reqwest::StatusCode;

use super::memberships::file;

/// Two that differ in the last digit, the global one, and one that is mostly zeros.
pub(super) const ORGANIZATIONS: [OrganizationId; 4] = [
    OrganizationId::TBD,
    OrganizationId::from_u128(OrganizationId::TBD.as_u128() + 1),
    OrganizationId::GLOBAL,
    OrganizationId::from_u128(1),
];

pub(super) const NAMES: [&str; 6] =
    ["user:alice", "user:bob", "robot:alice", "robot:nightly", "ingest-job:1", "ingest-job:2"];

const KINDS: [&str; 3] = ["user", "robot", "ingest-job"];
const READS: [&str; 4] = ["list-repositories", "describe-repository", "list-images", "pull"];
const ADDS: [&str; 2] = ["create-repository", "push"];

/// The words of rules.
const RULE_WORDS: [&str; 8] = [
    "read",
    "create",
    "push",
    "pull",
    "list-repositories",
    "list-images",
    "describe-repository",
    "create-repository",
];

/// The table of one organization in the file.
#[derive(Debug, Clone)]
pub(super) struct Table {
    id: OrganizationId,
    kinds: Vec<&'static str>,
    members: Vec<&'static str>,
    administrators: Vec<&'static str>,
    /// The rule of each of `KINDS`, if it has one.
    rules: [Option<Vec<&'static str>>; 3],
}

impl Table {
    /// Returns the table without members by kind.
    pub(super) fn without_kinds(self) -> Self {
        Self { kinds: Vec::new(), ..self }
    }
}

pub(super) fn tables() -> impl Strategy<Value = Vec<Table>> {
    let some = || subsequence(NAMES.to_vec(), 0..=3);
    let rule = || of(subsequence(RULE_WORDS.to_vec(), 0..=3));
    let kinds = subsequence(KINDS.to_vec(), 0..=2);
    let lists = (kinds, some(), some(), [rule(), rule(), rule()]);
    let listed = subsequence(ORGANIZATIONS.to_vec(), 0..=ORGANIZATIONS.len());
    (listed, vec(lists, ORGANIZATIONS.len())).prop_map(|(listed, lists)| {
        let tables = listed.into_iter().zip(lists);
        tables
            .map(|(id, (kinds, members, administrators, rules))| {
                let rules = if id == OrganizationId::GLOBAL { [None, None, None] } else { rules };
                Table { id, kinds, members, administrators, rules }
            })
            .collect()
    })
}

pub(super) fn as_toml(tables: &[Table]) -> String {
    let mut text = String::new();
    for Table { id, kinds, members, administrators, rules } in tables {
        // The debug format of a list is TOML.
        writeln!(text, "[[organization]]\nid = \"{id}\"\nkinds = {kinds:?}").unwrap();
        writeln!(text, "members = {members:?}\nadministrators = {administrators:?}").unwrap();
        writeln!(text, "[organization.rules]").unwrap();
        for (kind, words) in KINDS.iter().zip(rules) {
            if let Some(words) = words {
                writeln!(text, "{kind} = {words:?}").unwrap();
            }
        }
    }
    text
}

/// Returns whether `who` is a member of `organization`.
pub(super) fn belongs(tables: &[Table], who: &str, organization: OrganizationId) -> bool {
    let kind = who.split(':').next().unwrap();
    tables.iter().any(|table| {
        let listed = table.members.contains(&who) || table.administrators.contains(&who);
        table.id == organization && (listed || table.kinds.contains(&kind))
    })
}

/// Returns whether `who` may call `action` in `organization`.
pub(super) fn may(tables: &[Table], who: &str, action: &str, organization: OrganizationId) -> bool {
    let kind = who.split(':').next().unwrap();
    let table = tables.iter().find(|table| table.id == organization);
    if table.is_some_and(|table| table.administrators.contains(&who)) {
        return true;
    }
    let reads = READS.contains(&action);
    if organization == OrganizationId::GLOBAL {
        return reads;
    }
    if !belongs(tables, who, organization) || !reads && !ADDS.contains(&action) {
        return false;
    }
    let position = KINDS.iter().position(|known| *known == kind).unwrap();
    match table.and_then(|table| table.rules[position].as_ref()) {
        None => reads || kind == "user",
        Some(words) => words.iter().any(|word| match *word {
            "read" => reads,
            "create" => action == "create-repository",
            word => action == word,
        }),
    }
}

/// A repository that every organization has, with one image, and one that none has.
const NAME: &str = "catalog/extract-video";
const MISSING: &str = "catalog/missing";

fn path(organization: OrganizationId, name: &str) -> RepositoryPath {
    RepositoryPath::new(Stage::default(), organization, name.parse().unwrap()).unwrap()
}

fn latest() -> Reference {
    Reference::Tag("latest".parse().unwrap())
}

/// A running registry with the same content in every organization.
struct World {
    local: LocalBackend,
    images: HttpImages,
    origin: String,
    http: reqwest::Client,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let local = LocalBackend::open(Some(folder.path())).unwrap();
        let registry = Registry::bind(local.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
        let address = registry.local_addr();
        tokio::spawn(registry.serve(std::future::pending()));
        let images = HttpImages::new(local.clone()).with_endpoint(address);
        let origin = format!("http://{address}");
        let world = Self { local, images, origin, http: reqwest::Client::new(), _folder: folder };
        for organization in ORGANIZATIONS {
            world.restore(organization).await;
        }
        world
    }

    /// Restores the content after a request.
    async fn restore(&self, organization: OrganizationId) {
        let (path, options) = (path(organization, NAME), CreateOptions::default());
        self.local.create_repository(&path, &options).await.unwrap();
        self.images.put(&path, &latest(), &SampleImage::new("all have the same")).await.unwrap();
        let missing = self::path(organization, MISSING);
        let force = DeleteOptions::default().with_force(true);
        match self.local.delete_repository(&missing, &force).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => panic!("{error:?}"),
        }
    }

    /// Returns the whole content: each repository, and its images as text.
    async fn everything(&self) -> Vec<(RepositoryPath, String)> {
        let repositories: Vec<_> =
            self.local.list_repositories(&Organizations::All).try_collect().await.unwrap();
        let mut all = Vec::new();
        for repository in repositories {
            let path = repository.url.path().clone();
            let images: Vec<_> = self.local.list_images(&path).try_collect().await.unwrap();
            all.push((path, format!("{images:?}")));
        }
        all
    }

    /// Returns the repositories whose tags these credentials can list.
    async fn opened_by(&self, credentials: &RegistryCredentials) -> BTreeSet<RepositoryPath> {
        let mut opened = BTreeSet::new();
        for organization in ORGANIZATIONS {
            let path = path(organization, NAME);
            let url = format!("{}/v2/{path}/tags/list", self.origin);
            let password = Some(credentials.password.expose());
            let answer = self.http.get(url).basic_auth(USERNAME, password).send().await.unwrap();
            match answer.status() {
                StatusCode::OK => assert!(opened.insert(path)),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND => {}
                status => panic!("{status}"),
            }
        }
        opened
    }
}

/// One call of the backend.
#[derive(Debug, Clone)]
enum Call {
    ListAll,
    List(Vec<OrganizationId>),
    Create(RepositoryPath),
    Describe(RepositoryPath),
    Delete(RepositoryPath),
    ListImages(RepositoryPath),
    DeleteImage(RepositoryPath),
    Credentials(Scope),
}

fn calls() -> impl Strategy<Value = Call> {
    let some = || subsequence(ORGANIZATIONS.to_vec(), 1..=2);
    let path = || {
        (select(ORGANIZATIONS.to_vec()), select(vec![NAME, MISSING]))
            .prop_map(|(organization, name)| path(organization, name))
    };
    let access = || select(vec![Access::Pull, Access::Push, Access::Delete]);
    let of_organizations = (some(), access()).prop_map(|(organizations, access)| {
        Call::Credentials(Scope::organizations(Stage::default(), organizations, access))
    });
    let of_repository = (path(), access())
        .prop_map(|(path, access)| Call::Credentials(Scope::repository(path, access)));
    prop_oneof![
        Just(Call::ListAll),
        some().prop_map(Call::List),
        path().prop_map(Call::Create),
        path().prop_map(Call::Describe),
        path().prop_map(Call::Delete),
        path().prop_map(Call::ListImages),
        path().prop_map(Call::DeleteImage),
        of_organizations,
        of_repository,
    ]
}

impl Call {
    /// Returns the permissions that the call needs, with their organizations.
    fn needs(&self) -> Vec<(&'static str, OrganizationId)> {
        match self {
            Self::ListAll => Vec::new(),
            Self::List(some) => some.iter().map(|id| ("list-repositories", *id)).collect(),
            Self::Create(path) => vec![("create-repository", path.organization())],
            Self::Describe(path) => vec![("describe-repository", path.organization())],
            Self::Delete(path) => vec![("delete-repository", path.organization())],
            Self::ListImages(path) => vec![("list-images", path.organization())],
            Self::DeleteImage(path) => vec![("delete-image", path.organization())],
            Self::Credentials(scope) => {
                let words: &[_] = match scope.access() {
                    Access::Pull => &["pull"],
                    Access::Push => &["pull", "push"],
                    Access::Delete => &["pull", "push", "delete-image"],
                };
                let organizations = scope.organization_ids();
                let everywhere = |word: &&'static str| {
                    let word = *word;
                    organizations.iter().map(move |id| (word, *id)).collect::<Vec<_>>()
                };
                words.iter().flat_map(everywhere).collect()
            }
        }
    }

    /// Returns whether the call fails because its repository does not exist.
    fn misses(&self) -> bool {
        match self {
            Self::Describe(path)
            | Self::Delete(path)
            | Self::ListImages(path)
            | Self::DeleteImage(path) => path.name().as_str() == MISSING,
            Self::ListAll | Self::List(_) | Self::Create(_) | Self::Credentials(_) => false,
        }
    }

    /// Calls the backend, and returns the repositories in the answer.
    async fn make(
        &self,
        world: &World,
        backend: &dyn RegistryBackend,
    ) -> Result<BTreeSet<RepositoryPath>> {
        let list = async |organizations: &Organizations| {
            let rows = backend.list_repositories(organizations);
            rows.map_ok(|row| row.url.path().clone()).try_collect().await
        };
        let force = DeleteOptions::default().with_force(true);
        let nothing = BTreeSet::new();
        match self {
            Self::ListAll => list(&Organizations::All).await,
            Self::List(some) => list(&some.iter().copied().collect()).await,
            Self::Create(path) => {
                let created = backend.create_repository(path, &CreateOptions::default()).await?;
                Ok(BTreeSet::from([created.url.path().clone()]))
            }
            Self::Describe(path) => {
                let described = backend.describe_repository(path).await?;
                Ok(BTreeSet::from([described.url.path().clone()]))
            }
            Self::Delete(path) => backend.delete_repository(path, &force).await.map(|()| nothing),
            Self::ListImages(path) => {
                let images: Vec<_> = backend.list_images(path).try_collect().await?;
                assert_eq!(images.len(), 1, "{images:?}");
                Ok(BTreeSet::from([path.clone()]))
            }
            Self::DeleteImage(path) => backend.delete_image(path, &latest()).await.map(|_| nothing),
            Self::Credentials(scope) => {
                let credentials = backend.credentials(scope, &Default::default()).await?;
                assert_eq!(credentials.scope, *scope);
                Ok(world.opened_by(&credentials).await)
            }
        }
    }

    /// Returns the repositories that the model permits in the answer.
    fn may_yield(&self, tables: &[Table], who: &str) -> BTreeSet<RepositoryPath> {
        let everywhere = ORGANIZATIONS.map(|organization| path(organization, NAME));
        let kept = |keep: &dyn Fn(&RepositoryPath) -> bool| {
            everywhere.iter().filter(|path| keep(path)).cloned().collect()
        };
        match self {
            Self::ListAll => kept(&|path| {
                let organization = path.organization();
                let own = belongs(tables, who, organization);
                (own || organization == OrganizationId::GLOBAL)
                    && may(tables, who, "list-repositories", organization)
            }),
            Self::List(some) => kept(&|path| some.contains(&path.organization())),
            Self::Create(path) | Self::Describe(path) | Self::ListImages(path) => {
                BTreeSet::from([path.clone()])
            }
            Self::Delete(_) | Self::DeleteImage(_) => BTreeSet::new(),
            Self::Credentials(scope) => kept(&|path| scope.covers(path, Access::Pull)),
        }
    }
}

/// Makes one call for `who`, and compares its answer and its changes with the model.
async fn check(world: &World, tables: &[Table], who: &str, call: &Call) {
    let (_folder, memberships) = file(&as_toml(tables));
    let principal = memberships.current().principal(who.parse().unwrap());
    let policy = Arc::new(MembershipsPolicy::new(memberships));
    let guarded = Permissioned::new(world.local.clone(), policy, principal);

    let before = world.everything().await;
    let answer = call.make(world, &guarded).await;
    let after = world.everything().await;

    let needs = call.needs();
    let allowed =
        needs.iter().all(|(action, organization)| may(tables, who, action, *organization));
    let context = || format!("{who}: {call:?}: {answer:?}\n{}", as_toml(tables));
    match &answer {
        Ok(found) => {
            assert!(allowed && !call.misses(), "{}", context());
            assert_eq!(*found, call.may_yield(tables, who), "{}", context());
        }
        Err(Error::PermissionDenied { .. }) => assert!(!allowed, "{}", context()),
        Err(Error::NotFound { kind: ResourceKind::Repository, .. }) => {
            assert!(allowed && call.misses(), "{}", context());
        }
        Err(_) => panic!("{}", context()),
    }
    if before != after {
        let changes = matches!(call, Call::Create(_) | Call::Delete(_) | Call::DeleteImage(_));
        assert!(changes && answer.is_ok(), "{}", context());
        let (_, organization) = needs[0];
        let others = |all: Vec<(RepositoryPath, String)>| {
            all.into_iter().filter(|(path, _)| path.organization() != organization).collect()
        };
        let (before, after): (Vec<_>, Vec<_>) = (others(before), others(after));
        assert_eq!(before, after, "another organization's: {}", context());
        world.restore(organization).await;
    }
}

#[test]
fn random_calls_agree_with_the_model() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let world = runtime.block_on(World::new());
    let requests = (select(NAMES.to_vec()), calls());
    let cases = (tables(), proptest::collection::vec(requests, 8));
    let config = Config { cases: 48, failure_persistence: None, ..Config::default() };
    let run = TestRunner::new(config).run(&cases, |(tables, requests)| {
        for (who, call) in &requests {
            runtime.block_on(check(&world, &tables, who, call));
        }
        Ok(())
    });
    run.unwrap();
}
