//! Pushes to Debian's `docker-registry`, and pulls by other clients.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ark_container_core::credentials::{Password, RegistryCredentials};
use ark_container_core::distribution::{Client, Manifest};
use ark_container_core::model::{
    Digest, Reference, RegistryHost, RepositoryPath, RepositoryUrl, Tag, media_type,
};
use ark_container_core::testing::{MockRegistryBackend, SampleImage, ready};
use ark_container_core::transfer::{Compression, ImageSource, PlatformChoice, Push, Pushed};
use tempfile::TempDir;

use super::{Sources, damage};

const DEADLINE: Duration = Duration::from_secs(30);

/// A `docker-registry` process on a free port.
struct DebianRegistry {
    process: Child,
    host: RegistryHost,
    folder: TempDir,
}

impl DebianRegistry {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The port was just free. If another process takes it first, the registry fails to start.
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
             http: {{addr: '{free}'}}\n",
            folder.path().join("storage").display()
        );
        let file = folder.path().join("config.yml");
        fs::write(&file, config).unwrap();
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let started = Instant::now();
        while std::net::TcpStream::connect(free).is_err() {
            assert!(started.elapsed() < DEADLINE, "docker-registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, host: free.into(), folder }
    }

    fn path() -> RepositoryPath {
        "prod/2ea25035-6aa4-42fb-9955-92288ea1b972/test/repo".parse().unwrap()
    }

    fn client(&self) -> Client {
        let url = RepositoryUrl::new(self.host.clone(), Self::path());
        Client::anonymous(url, &self.host).unwrap()
    }

    async fn push(&self, source: &ImageSource) -> ark_container_core::Result<Pushed> {
        self.push_with(Compression::default(), source).await
    }

    async fn push_with(
        &self,
        compression: Compression,
        source: &ImageSource,
    ) -> ark_container_core::Result<Pushed> {
        let host = self.host.clone();
        let mut backend = MockRegistryBackend::new();
        // One login for the push, and one for mounts.
        backend.expect_credentials().times(1..=2).returning(move |scope, _| {
            let password = Password::new("any".to_owned());
            let expiry = SystemTime::now() + Duration::from_secs(60);
            ready(Ok(RegistryCredentials::new(host.clone(), password, expiry, scope.clone())))
        });
        let path = Self::path();
        let push = Push::new(Arc::new(backend), &path, source.clone()).with_tag("v1".parse()?);
        let push = push.with_compression(compression).with_platforms(PlatformChoice::All);
        push.with_cache_directory(self.folder.path().join("cache")).await
    }

    /// Copies the tagged image and its children into a folder, unchanged.
    fn copy_with_skopeo(&self) -> PathBuf {
        self.copy("--all")
    }

    /// Copies the tagged image into a folder, decompressed.
    fn unpack_with_skopeo(&self) -> PathBuf {
        self.copy("--dest-decompress")
    }

    fn copy(&self, how: &str) -> PathBuf {
        let folder = self.folder.path().join("copy");
        let source = format!("docker://{}/{}:v1", self.host, Self::path());
        skopeo(&["--src-tls-verify=false", how, &source, &format!("dir:{}", folder.display())]);
        folder
    }
}

impl Drop for DebianRegistry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn skopeo(arguments: &[&str]) {
    let mut copy = Command::new("skopeo");
    copy.args(["--insecure-policy", "copy", "--quiet"]).args(arguments);
    let output = copy.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Asserts that a folder that skopeo wrote has every blob of an image.
fn assert_has(folder: &Path, image: &SampleImage) {
    let content = |name: &str| fs::read(folder.join(name)).unwrap();
    assert_eq!(content("manifest.json"), image.manifest());
    for child in image.children() {
        assert_eq!(content(&format!("{}.manifest.json", child.digest().hex())), child.manifest());
    }
    assert_has_parts(folder, image);
}

fn assert_has_parts(folder: &Path, image: &SampleImage) {
    let content = |name: &str| fs::read(folder.join(name)).unwrap();
    for (digest, blob) in image.children().iter().chain([image]).flat_map(SampleImage::blobs) {
        assert!(content(digest.hex()) == blob, "{digest}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_copies_back_the_content_of_the_layout() {
    let registry = DebianRegistry::start();
    let sources = Sources::new(SampleImage::for_two_platforms());
    let pushed = registry.push(&sources.layout()).await.unwrap();
    assert_eq!(pushed.blobs_sent, 6);
    let again = registry.push(&sources.layout()).await.unwrap();
    assert_eq!((again.blobs_sent, again.blobs_skipped), (0, 6));
    assert_has(&registry.copy_with_skopeo(), &sources.image);
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_unpacks_image_of_a_skopeo_archive() {
    let registry = DebianRegistry::start();
    let sources = Sources::new(SampleImage::new("archived"));
    let layout = format!("oci:{}:sample", sources.path("layout").display());
    let archive = sources.path("skopeo.tar");
    skopeo(&[&layout, &format!("docker-archive:{}:team/tool:v1", archive.display())]);
    // In the archive, skopeo uses the full name: docker.io/team/tool:v1.
    let source = ImageSource::docker_archive(archive).with_reference("team/tool:v1");
    registry.push(&source).await.unwrap();
    assert_has_parts(&registry.unpack_with_skopeo(), &sources.image);
}

#[tokio::test(flavor = "multi_thread")]
async fn skopeo_unpacks_compressed_layers() {
    let text = "all work and no play\n".repeat(300_000);
    let image = SampleImage::builder().with_layer([("text", text)]).with_layer([("empty", "")]);
    let sources = Sources::new(image.with_random_layer(2 << 20).build());
    for &compression in Compression::ALL {
        let registry = DebianRegistry::start();
        registry.push_with(compression, &sources.archive()).await.unwrap();
        let folder = registry.unpack_with_skopeo();
        assert_has_parts(&folder, &sources.image);
        let (text, _) = sources.image.blobs().next().unwrap();
        let listed = Command::new("tar").arg("-tf").arg(folder.join(text.hex())).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "text\n");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_layer_is_named() {
    let registry = DebianRegistry::start();
    let sources = Sources::new(SampleImage::new("fragile"));
    damage(&sources.layer());
    let error = registry.push(&sources.layout()).await.unwrap_err();
    let layer = sources.layer().canonicalize().unwrap();
    let expected = format!("{} is damaged", layer.display());
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn podman_pulls_pushed_image_and_saves_it_again() {
    let registry = DebianRegistry::start();
    let sources = Sources::new(SampleImage::new("travelled"));
    registry.push(&sources.layout()).await.unwrap();
    let image = format!("{}/{}:v1", registry.host, DebianRegistry::path());
    let archive = registry.folder.path().join("podman.tar");
    podman(registry.folder.path(), &["pull", "--quiet", "--tls-verify=false", &image]);
    let output = format!("--output={}", archive.display());
    podman(registry.folder.path(), &["save", "--quiet", &output, &image]);

    let source = ImageSource::docker_archive(archive);
    let pushed = registry.push(&source.clone().with_reference(image)).await.unwrap();
    assert!(pushed.blobs_skipped > 0, "the layer is the same");
    let again = registry.push(&source).await.unwrap();
    assert_eq!((again.url, again.blobs_sent), (pushed.url, 0));
}

/// Runs podman with its own storage.
fn podman(folder: &Path, arguments: &[&str]) {
    let at = |name: &str| folder.join(name).display().to_string();
    let mut podman = Command::new("podman");
    podman.args(["--storage-driver=vfs", "--root", &at("root"), "--runroot", &at("run")]);
    let output = podman.args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Builds an image with buildah and saves it in a format. Returns its ID.
fn build(folder: &Path, form: &str) -> String {
    let context = folder.join("context");
    fs::create_dir_all(&context).unwrap();
    fs::write(context.join("Dockerfile"), "FROM scratch\nCOPY data /srv/data\n").unwrap();
    fs::write(context.join("data"), "all work and no play\n".repeat(50_000)).unwrap();
    let buildah = |arguments: &[&str]| {
        let mut buildah = Command::new("buildah");
        buildah.args(["--storage-driver", "vfs", "--root"]).arg(folder.join("root"));
        buildah.arg("--runroot").arg(folder.join("run")).args(arguments).current_dir(folder);
        let output = buildah.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    };
    let id = buildah(&["bud", "-q", "--isolation", "chroot", "-t", "sample:1", "context"]);
    let policy = folder.join("policy.json");
    fs::write(&policy, r#"{"default": [{"type": "insecureAcceptAnything"}]}"#).unwrap();
    let policy = policy.display().to_string();
    buildah(&["push", "-q", "--signature-policy", &policy, "sample:1", form]);
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn buildah_image_is_the_same_from_every_format() {
    for form in ["docker-archive", "oci-archive", "oci"] {
        let registry = DebianRegistry::start();
        let folder = tempfile::tempdir().unwrap();
        let saved = folder.path().join("saved");
        let source = format!("{form}:{}", saved.display());
        let id = build(folder.path(), &format!("{source}:sample:1"));
        let source: ImageSource = source.parse().unwrap();
        let pushed = registry.push(&source).await.unwrap();
        assert_eq!(registry.push(&source).await.unwrap().url, pushed.url);
        let pulled = registry.unpack_with_skopeo();
        let config = fs::read(pulled.join(id.trim_start_matches("sha256:"))).unwrap();
        let config: serde_json::Value = serde_json::from_slice(&config).unwrap();
        let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
        assert_eq!(layers.len(), 1);
        let layer = layers[0].as_str().unwrap();
        let content = fs::read(pulled.join(layer.trim_start_matches("sha256:"))).unwrap();
        assert_eq!(Manifest::new("", content).digest.to_string(), layer, "{form}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_layer_is_sent_in_parts() {
    let sources = Sources::new(SampleImage::builder().with_random_layer(84 << 20).build());
    for source in [sources.layout(), sources.archive()] {
        let registry = DebianRegistry::start();
        registry.push(&source).await.unwrap();
        assert_has_parts(&registry.unpack_with_skopeo(), &sources.image);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn referrers_are_listed_under_the_referrers_tag() {
    let registry = DebianRegistry::start();
    let sources = Sources::new(SampleImage::new("signed"));
    let signatures: Vec<Digest> =
        ["one", "other"].iter().map(|kind| sources.attach(kind)).collect();
    registry.push(&sources.layout()).await.unwrap();
    let client = registry.client();
    let image = sources.image.digest();
    let listed = async || {
        let mut listed = client.referrers(&image, None).await.unwrap();
        listed.sort_by(|one, other| one.artifact_type.cmp(&other.artifact_type));
        listed.into_iter().map(|listed| listed.digest).collect::<Vec<_>>()
    };
    assert_eq!(listed().await, signatures);
    let tag: Tag = format!("sha256-{}", image.hex()).parse().unwrap();
    let index = client.fetch_manifest(&tag.clone().into()).await.unwrap();
    assert_eq!(index.media_type, media_type::OCI_INDEX);

    // Another referrer is added later. The existing ones stay.
    let third = sources.attach("third");
    registry.push(&sources.layout()).await.unwrap();
    let mut all = signatures.clone();
    all.push(third);
    assert_eq!(listed().await, all);
    registry.push(&sources.layout()).await.unwrap();
    assert_eq!(listed().await, all);

    // A push that was interrupted between the two requests is repaired by the next push.
    client.put_manifest(&Reference::Tag(tag), &index).await.unwrap();
    assert_eq!(listed().await, signatures);
    registry.push(&sources.layout()).await.unwrap();
    assert_eq!(listed().await, all);
}
