//! What the local registry and the permission layer cost: `cargo bench --bench registry [FILTER]`.

#![expect(clippy::unwrap_used, reason = "a bench that cannot be set up has nothing to measure")]

mod instant;

use std::sync::Arc;
use std::time::{Duration, Instant};

use ark_container_core::RegistryBackend;
use ark_container_core::backend::CreateOptions;
use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::credentials::USERNAME;
use ark_container_core::identity::{Memberships, single_user};
use ark_container_core::model::{
    Access, OrganizationId, Organizations, RepositoryPath, Scope, Stage,
};
use ark_container_core::permission::{Permissioned, StandardPolicy};
use ark_container_core::testing::SampleImage;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{StreamExt, TryStreamExt, stream};
use reqwest::{Client, Method, RequestBuilder, StatusCode};
use tempfile::TempDir;
use tokio::runtime::Runtime;

const BLOB_SIZE: usize = 64 << 20;
const ORGANIZATIONS: u128 = 100;
const REPOSITORIES_EACH: u128 = 100;

/// A registry that is served on a port of its own, with one repository and a password for it.
struct Served {
    _folder: TempDir,
    client: Client,
    url: String,
    path: RepositoryPath,
    password: String,
}

impl Served {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = LocalBackend::open(Some(folder.path())).unwrap();
        let path = repository(OrganizationId::TBD, 0);
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
        let scope = Scope::repository(path.clone(), Access::Delete);
        let password = backend.credentials(&scope).await.unwrap().password.expose().to_owned();
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

/// One blob over loopback, client and registry in one process: uploads end on the disk.
fn blobs(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let served = runtime.block_on(Served::start());
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
                let start = Instant::now();
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

/// The difference between the two is what checking a password costs.
fn token(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let served = runtime.block_on(Served::start());
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

async fn create_many(backend: &LocalBackend) {
    let all = (1..=ORGANIZATIONS).flat_map(|organization| {
        (0..REPOSITORIES_EACH)
            .map(move |number| repository(OrganizationId::from_u128(organization), number))
    });
    let creating = stream::iter(all).map(|path| async move {
        backend.create_repository(&path, &CreateOptions::default()).await.unwrap();
    });
    creating.buffer_unordered(32).collect::<()>().await;
}

/// All repositories, and those of one organization, which must not cost what the others have.
fn listing(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(folder.path())).unwrap();
    runtime.block_on(create_many(&backend));

    let mut group = criterion.benchmark_group("list");
    group.sample_size(20);
    let cases = [
        (Organizations::All, ORGANIZATIONS * REPOSITORIES_EACH),
        (OrganizationId::from_u128(1).into(), REPOSITORIES_EACH),
    ];
    for (organizations, expected) in cases {
        let id = BenchmarkId::from_parameter(expected);
        group.throughput(Throughput::Elements(expected as u64));
        group.bench_with_input(id, &organizations, |bencher, organizations| {
            bencher.to_async(&runtime).iter(async || {
                let listed = backend.list_repositories(organizations);
                let count = listed.try_fold(0, async |count, _| Ok(count + 1)).await.unwrap();
                assert_eq!(count, expected);
            });
        });
    }
    group.finish();
}

/// The difference to `bare` is what a decision costs, in a small team and in a large memberships file.
fn permission(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let path = repository(OrganizationId::from_u128(1), 0);
    let guarded =
        |principal| Permissioned::new(instant::Instant, Arc::new(StandardPolicy), principal);
    let name = || "user:alice".parse().unwrap();
    let entry = |organization: u128| {
        let id = OrganizationId::from_u128(organization);
        format!("[[organization]]\nid = '{id}'\nmembers = ['user:alice']\n")
    };
    let file: String = (1..=1000).map(entry).collect();
    let member = Memberships::parse(&file, "memberships.toml").unwrap().principal(name());
    let backends: [(&str, Box<dyn RegistryBackend>); 3] = [
        ("bare", Box::new(instant::Instant)),
        ("single-user", Box::new(guarded(single_user(name())))),
        ("member-of-1000", Box::new(guarded(member))),
    ];

    let mut group = criterion.benchmark_group("permission");
    for (name, backend) in backends {
        group.bench_function(name, |bencher| {
            bencher.to_async(&runtime).iter(|| backend.describe_repository(&path));
        });
    }
    group.finish();
}

criterion_group!(benches, blobs, token, listing, permission);
criterion_main!(benches);
