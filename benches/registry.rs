//! Benchmarks of the local registry and the permission layer: `cargo bench --bench registry [FILTER]`.

#![expect(clippy::unwrap_used, reason = "a failed setup ends the bench")]

mod instant_backend;

use std::cell::Cell;
use std::hint::black_box;
use std::ops::RangeInclusive;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::credentials::USERNAME;
use ark_container_core::identity::{
    ClaimNames, IdentitySource, LocalUser, MembershipsFile, Principal, PrincipalName, TokenFile,
    TokenIdentity,
};
use ark_container_core::model::{
    Access, OrganizationId, Organizations, RepositoryPath, Scope, Stage,
};
use ark_container_core::permission::{AuditFile, MembershipsPolicy, Permissioned, StandardPolicy};
use ark_container_core::testing::{SampleImage, TestToken, TokenIssuer};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{StreamExt, TryStreamExt, stream};
use instant_backend::InstantBackend;
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const BLOB_SIZE: usize = 64 << 20;
const ORGANIZATIONS: u128 = 100;
const REPOSITORIES_PER_ORGANIZATION: u128 = 100;

/// A registry on its own port, with one repository and a password for the repository.
struct ServedRegistry {
    _folder: TempDir,
    client: Client,
    url: String,
    path: RepositoryPath,
    password: String,
}

impl ServedRegistry {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = LocalBackend::open(Some(folder.path())).unwrap();
        let path = repository(OrganizationId::TBD, 0);
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        let scope = Scope::repository(path.clone(), Access::Delete);
        let password = backend
            .credentials(&scope, &Default::default())
            .await
            .unwrap()
            .password
            .expose()
            .to_owned();
        let registry = Registry::bind(backend, "127.0.0.1:0".parse().unwrap()).unwrap();
        let url = format!("http://{}/v2/", registry.local_addr());
        tokio::spawn(registry.serve(std::future::pending()));
        Self { _folder: folder, client: Client::new(), url, path, password }
    }

    fn blobs(&self) -> String {
        format!("{}{}/blobs/", self.url, self.path)
    }

    fn request(&self, method: Method, url: &str) -> RequestBuilder {
        self.client.request(method, url).basic_auth(USERNAME, Some(&self.password))
    }

    async fn upload(&self, digest: &str, content: &'static [u8]) {
        let url = format!("{}uploads/?digest={digest}", self.blobs());
        let request = self.request(Method::POST, &url).body(content);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::CREATED);
    }

    async fn download(&self, digest: &str, size: usize) {
        let url = format!("{}{digest}", self.blobs());
        let mut response = self.request(Method::GET, &url).send().await.unwrap();
        let mut received = 0;
        while let Some(bytes) = response.chunk().await.unwrap() {
            received += bytes.len();
        }
        assert_eq!(received, size);
    }

    async fn delete(&self, digest: &str) {
        let url = format!("{}{digest}", self.blobs());
        let response = self.request(Method::DELETE, &url).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::ACCEPTED);
    }
}

fn repository(organization: OrganizationId, number: u128) -> RepositoryPath {
    let name = format!("catalog/repository-{number}").parse().unwrap();
    RepositoryPath::new(Stage::default(), organization, name).unwrap()
}

/// Measures transfers of one blob over loopback, with client and registry in one process. Uploads include the disk.
fn blobs(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let served = runtime.block_on(ServedRegistry::start());
    let image = SampleImage::builder().with_random_layer(BLOB_SIZE).build();
    let (digest, content) = image.blobs().max_by_key(|(_, content)| content.len()).unwrap();
    let (digest, content): (_, &'static [u8]) = (digest.to_string(), content.to_vec().leak());

    let mut group = criterion.benchmark_group("blob");
    group.sample_size(10).measurement_time(Duration::from_secs(8));
    group.throughput(Throughput::Bytes(content.len() as u64));
    group.bench_function("upload", |bencher| {
        bencher.to_async(&runtime).iter_custom(async |rounds| {
            let mut took = Duration::ZERO;
            for _ in 0..rounds {
                let start = std::time::Instant::now();
                served.upload(&digest, content).await;
                took += start.elapsed();
                served.delete(&digest).await;
            }
            took
        });
    });
    runtime.block_on(served.upload(&digest, content));
    group.bench_function("download", |bencher| {
        bencher.to_async(&runtime).iter(|| served.download(&digest, content.len()));
    });
    group.finish();
}

/// Measures a request without a password and one with a valid password. The difference is the check of the password.
fn token(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let served = runtime.block_on(ServedRegistry::start());
    let status = async |request: RequestBuilder| request.send().await.unwrap().status();

    let mut group = criterion.benchmark_group("token");
    group.bench_function("none", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let answer = status(served.client.get(&served.url)).await;
            assert_eq!(answer, StatusCode::UNAUTHORIZED);
        });
    });
    group.bench_function("valid", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            let answer = status(served.request(Method::GET, &served.url)).await;
            assert_eq!(answer, StatusCode::OK);
        });
    });
    group.finish();
}

/// Creates `each` repositories for each of the organizations.
async fn create_many(backend: &LocalBackend, organizations: RangeInclusive<u128>, each: u128) {
    let all = organizations.flat_map(|organization| {
        (0..each).map(move |number| repository(OrganizationId::from_u128(organization), number))
    });
    let creating = stream::iter(all).map(|path| async move {
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
    });
    creating.buffer_unordered(32).collect::<()>().await;
}

async fn count(backend: &dyn RegistryBackend, organizations: &Organizations) -> u128 {
    let listed = backend.list_repositories(organizations);
    listed.try_fold(0, async |count, _| Ok(count + 1)).await.unwrap()
}

/// Measures a listing of all repositories.
fn listing(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(folder.path())).unwrap();
    runtime.block_on(create_many(&backend, 1..=ORGANIZATIONS, REPOSITORIES_PER_ORGANIZATION));

    let mut group = criterion.benchmark_group("list");
    let expected = ORGANIZATIONS * REPOSITORIES_PER_ORGANIZATION;
    group.sample_size(20).throughput(Throughput::Elements(expected as u64));
    group.bench_function("all", |bencher| {
        bencher.to_async(&runtime).iter(async || {
            assert_eq!(count(&backend, &Organizations::All).await, expected);
        });
    });
    group.finish();
}

/// Measures a listing by a principal of one organization, beside 0, 100 and 1,000 others. The durations must be equal.
fn listing_beside_others(criterion: &mut Criterion) {
    const REPOSITORIES_PER_OTHER: u128 = 10;
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(folder.path())).unwrap();
    runtime.block_on(create_many(&backend, 0..=0, REPOSITORIES_PER_ORGANIZATION));
    let own = OrganizationId::from_u128(0);
    let alice = Principal::new(alice(), own.into(), Organizations::none());
    let guarded = Permissioned::new(backend.clone(), StandardPolicy, alice);

    let mut group = criterion.benchmark_group("list-beside-others");
    group.throughput(Throughput::Elements(REPOSITORIES_PER_ORGANIZATION as u64));
    let mut existing = 0;
    for others in [0, 100, 1000] {
        runtime.block_on(create_many(&backend, existing + 1..=others, REPOSITORIES_PER_OTHER));
        existing = others;
        group.bench_function(BenchmarkId::from_parameter(others), |bencher| {
            bencher.to_async(&runtime).iter(async || {
                assert_eq!(
                    count(&guarded, &Organizations::All).await,
                    REPOSITORIES_PER_ORGANIZATION
                );
            });
        });
    }
    group.finish();
}

fn alice() -> PrincipalName {
    "user:alice".parse().unwrap()
}

/// Returns a memberships file in which alice is a member of 1,000 organizations with their own rules.
fn thousand_memberships(folder: &Path) -> MembershipsFile {
    let entry = |organization: u128| {
        let id = OrganizationId::from_u128(organization);
        format!(
            "[[organization]]\nid = '{id}'\nmembers = ['user:alice']\n\
             [organization.rules]\nuser = ['read']\n"
        )
    };
    let path = folder.join("memberships.toml");
    std::fs::write(&path, (1..=1000).map(entry).collect::<String>()).unwrap();
    MembershipsFile::open(path).unwrap()
}

/// Returns the identity of alice by a token for the first of those organizations.
fn alice_token(folder: &Path) -> TokenIdentity {
    let issuer = TokenIssuer::new("https://auth.example.com", "ark").unwrap();
    let token = TestToken::new(&alice()).with_organizations([OrganizationId::from_u128(1)]);
    let path = folder.join("jwt.json");
    std::fs::write(&path, issuer.token(&token).unwrap()).unwrap();
    TokenIdentity::unverified(TokenFile::new(path), ClaimNames::default())
}

/// Measures the overhead of the permission layer: the difference between a guarded and a bare backend that responds
/// immediately.
///
/// `audit-file` also opens and locks the audit file for each event.
#[expect(clippy::print_stdout, reason = "the report of criterion cannot have the ratio")]
fn permission(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = thousand_memberships(folder.path());
    let path = repository(OrganizationId::from_u128(1), 0);
    let standard = |identity| Permissioned::new(InstantBackend, StandardPolicy, identity);
    let by_file = |identity| {
        Permissioned::new(InstantBackend, Arc::new(MembershipsPolicy::new(file.clone())), identity)
    };
    let member: Arc<dyn IdentitySource> = Arc::new(file.current().principal(alice()));
    let single: Arc<dyn IdentitySource> = Arc::new(LocalUser::new(alice()));
    let local: Arc<dyn IdentitySource> =
        Arc::new(LocalUser::new(alice()).with_memberships(file.clone()));
    let token: Arc<dyn IdentitySource> = Arc::new(alice_token(folder.path()));
    let audit_file = AuditFile::new(folder.path().join("audit.jsonl"));
    let backends = [
        ("single-user", standard(Arc::clone(&single))),
        ("member-of-1000", standard(member)),
        ("memberships-file", by_file(local)),
        ("token", by_file(token)),
        ("audit-file", standard(single).with_audit(audit_file)),
    ];

    let mut group = criterion.benchmark_group("permission-overhead");
    for (name, guarded) in backends {
        let overhead = Overhead::default();
        group.bench_function(name, |bencher| {
            bencher
                .to_async(&runtime)
                .iter_custom(|rounds| overhead.measure(&guarded, &path, rounds));
        });
        if let Some(ratio) = overhead.ratio() {
            println!(
                "permission-overhead/{name}: a guarded call takes {ratio:.1} times a bare one"
            );
        }
    }
    group.finish();
}

/// The total durations of bare and guarded calls.
#[derive(Default)]
struct Overhead(Cell<(Duration, Duration)>);

impl Overhead {
    async fn measure(
        &self,
        guarded: &Permissioned<InstantBackend>,
        path: &RepositoryPath,
        rounds: u64,
    ) -> Duration {
        let timed = async |backend: &dyn RegistryBackend| {
            let start = std::time::Instant::now();
            for _ in 0..rounds {
                black_box(backend.describe_repository(black_box(path)).await.unwrap());
            }
            start.elapsed()
        };
        let (bare, guarded) = (timed(&InstantBackend).await, timed(guarded).await);
        let (all_bare, all_guarded) = self.0.get();
        self.0.set((all_bare + bare, all_guarded + guarded));
        guarded.saturating_sub(bare)
    }

    /// Returns the ratio of guarded to bare calls, or `None` without a measurement.
    fn ratio(&self) -> Option<f64> {
        let (bare, guarded) = self.0.get();
        (!bare.is_zero()).then(|| guarded.as_secs_f64() / bare.as_secs_f64())
    }
}

criterion_group!(benches, blobs, token, listing, listing_beside_others, permission);
criterion_main!(benches);
