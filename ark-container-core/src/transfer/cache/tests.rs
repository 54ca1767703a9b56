//! Tests cached and invalid entries.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;
use crate::model::media_type;

const GZIP: Compression = Compression::Gzip;

fn digest(of: &str) -> Digest {
    hash(of.as_bytes())
}

fn compressed(of: &str) -> Descriptor {
    Descriptor::new(media_type::OCI_LAYER_GZIP, digest(of), 7)
}

fn repository(name: &str) -> RepositoryPath {
    format!("prod/2ea25035-6aa4-42fb-9955-92288ea1b972/{name}").parse().unwrap()
}

fn host() -> RegistryHost {
    "registry.example".parse().unwrap()
}

fn cache() -> (PushCache, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (PushCache::new(folder.path().join("push")), folder)
}

async fn cached_layers(cache: &PushCache, layers: &[&str]) -> Vec<Option<Descriptor>> {
    cache.compressed_layers(GZIP, layers.iter().map(|layer| digest(layer)).collect()).await
}

/// Returns the only entry in a folder of the cache.
fn only_file(folder: &Path) -> std::path::PathBuf {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files = files.filter(|path| path.extension().is_some_and(|end| end == "json"));
    let file = files.next().unwrap();
    assert_eq!(files.next(), None);
    file
}

#[tokio::test]
async fn compressed_layer_is_cached_for_next_push() {
    let (cache, folder) = cache();
    assert_eq!(cached_layers(&cache, &["a"]).await, [None]);
    assert!(!folder.path().join("push").exists(), "a lookup creates nothing");
    cache.add_compressed_layer(GZIP, &digest("a"), &compressed("x")).await;
    cache.add_compressed_layer(GZIP, &digest("c"), &compressed("y")).await;
    let found = cached_layers(&cache, &["a", "b", "c"]).await;
    assert_eq!(found, [Some(compressed("x")), None, Some(compressed("y"))]);
    assert_eq!(cache.compressed_layers(Compression::Zstd, vec![digest("a")]).await, [None]);
    cache.add_compressed_layer(GZIP, &digest("a"), &compressed("z")).await;
    assert_eq!(cached_layers(&cache, &["a"]).await, [Some(compressed("z"))]);
}

#[tokio::test]
async fn changed_entry_is_ignored_and_replaced() {
    let (cache, folder) = cache();
    cache.add_compressed_layer(GZIP, &digest("a"), &compressed("x")).await;
    let file = only_file(&folder.path().join("push/layers"));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let whole = fs::read(&file).unwrap();
    let size = String::from_utf8(whole.clone()).unwrap().replace("\"size\":7", "\"size\":8");
    for content in [size.into_bytes(), whole[..whole.len() / 2].to_vec(), Vec::new(), vec![255; 9]]
    {
        assert_ne!(content, whole);
        fs::write(&file, content).unwrap();
        assert_eq!(cached_layers(&cache, &["a"]).await, [None]);
    }
    cache.add_compressed_layer(GZIP, &digest("a"), &compressed("x")).await;
    assert_eq!(cached_layers(&cache, &["a"]).await, [Some(compressed("x"))]);
}

#[tokio::test]
async fn entry_of_another_user_or_layer_is_ignored() {
    let (cache, folder) = cache();
    cache.add_compressed_layer(GZIP, &digest("a"), &compressed("x")).await;
    let layers = folder.path().join("push/layers");
    let file = only_file(&layers);
    let copy = cache.layers.file(&stem(&layer_key(GZIP, &digest("b"))));
    fs::copy(&file, copy).unwrap();
    assert_eq!(cached_layers(&cache, &["b"]).await, [None]);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    assert_eq!(cached_layers(&cache, &["a"]).await, [None]);
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    assert_eq!(cached_layers(&cache, &["a"]).await, [Some(compressed("x"))]);
    fs::set_permissions(&layers, Permissions::from_mode(0o777)).unwrap();
    assert_eq!(cached_layers(&cache, &["a"]).await, [None]);
}

#[tokio::test]
async fn unusable_cache_folder_is_ignored() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let cache = PushCache::new(file.path().to_owned());
    cache.add_compressed_layer(GZIP, &digest("a"), &compressed("x")).await;
    cache.add_locations(&host(), &repository("a"), vec![digest("x")]).await;
    assert_eq!(cached_layers(&cache, &["a"]).await, [None]);
    assert_eq!(cache.locations(&host(), &repository("a")).await, BlobLocations::default());
}

#[tokio::test]
async fn blob_locations_name_other_repositories() {
    let (cache, _folder) = cache();
    let blobs = || vec![digest("x"), digest("y")];
    cache.add_locations(&host(), &repository("first"), blobs()).await;
    cache.add_locations(&host(), &repository("second"), blobs()).await;
    cache.add_locations(&host(), &repository("third"), vec![digest("z")]).await;
    let locations = cache.locations(&host(), &repository("new")).await;
    let others = |own: &str, blob: &str| -> Vec<String> {
        let (own, blob) = (repository(own), digest(blob));
        let names = locations.other_repositories(&own, &blob).map(|path| path.name().to_string());
        names.collect()
    };
    assert_eq!(others("new", "x"), ["second", "first"]);
    assert_eq!(others("second", "x"), ["first"]);
    assert!(others("third", "z").is_empty() && others("new", "unknown").is_empty());
    assert!(locations.have_all(&repository("first"), blobs().iter()));
    assert!(!locations.have_all(&repository("third"), blobs().iter()));

    let other_organization = "prod/77777777-7777-4777-7777-777777777777/a".parse().unwrap();
    assert_eq!(cache.locations(&host(), &other_organization).await, BlobLocations::default());
    let elsewhere = "elsewhere.example".parse().unwrap();
    assert_eq!(cache.locations(&elsewhere, &repository("new")).await, BlobLocations::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_pushes_cache_all_locations() {
    let (cache, _folder) = cache();
    let pushes = (0..8).map(|number| {
        let cache = cache.clone();
        async move {
            let blobs = vec![digest("shared"), digest(&format!("own {number}"))];
            cache.add_locations(&host(), &repository(&format!("r{number}")), blobs).await;
        }
    });
    futures_util::future::join_all(pushes).await;
    let locations = cache.locations(&host(), &repository("new")).await;
    for number in 0..8 {
        let own = [digest(&format!("own {number}"))];
        assert!(locations.have_all(&repository(&format!("r{number}")), own.iter()), "{number}");
    }
    let new = repository("new");
    let shared = digest("shared");
    assert_eq!(locations.other_repositories(&new, &shared).count(), MAX_REPOSITORIES_PER_BLOB);
}

#[test]
fn cache_size_is_bounded() {
    let folder = tempfile::tempdir().unwrap();
    let folder = Folder::new(folder.path().join("locations"), LOCATION_LIMITS);
    let blobs = |from: usize| -> Vec<Digest> {
        (from..from + MAX_BLOBS).map(|number| digest(&number.to_string())).collect()
    };
    let path = repository("a");
    add_locations(&folder, "key", &path, blobs(0)).unwrap();
    add_locations(&folder, "key", &path, blobs(10)).unwrap();
    let locations: BlobLocations = read(&folder, "key").unwrap();
    assert_eq!(locations.0.len(), MAX_BLOBS);
    assert!(locations.have_all(&path, blobs(10).iter()));
    for number in 0..LOCATION_LIMITS.max_files + 3 {
        write(&folder, &number.to_string(), ()).unwrap();
    }
    folder.sweep().unwrap();
    assert_eq!(folder.stems().unwrap().len(), LOCATION_LIMITS.max_files);
}
