//! Tests of the cache with a counting fetcher, damaged files, and other processes.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use tempfile::TempDir;

use super::*;
use crate::credentials::{Narrowing, Password};
use crate::model::{Access, OrganizationId, Scope, Stage};

const HOUR_DURATION: Duration = Duration::from_secs(3600);
const HOST: &str = "095412845506.dkr.ecr.us-east-1.amazonaws.com";

fn key_of(identity: &str) -> CacheKey {
    let scope = Scope::organizations(Stage::default(), [OrganizationId::TBD], Access::Push);
    CacheKey::new(HOST.parse().unwrap(), identity, Some("role".to_owned()), scope)
}

/// A source of credentials that counts its calls, and returns another password each time.
struct Source {
    fetches: AtomicUsize,
    lifetime: Duration,
}

impl Source {
    fn new(lifetime: Duration) -> Self {
        Self { fetches: AtomicUsize::new(0), lifetime }
    }

    fn fetches(&self) -> usize {
        self.fetches.load(Ordering::SeqCst)
    }

    async fn fetch(&self) -> Result<RegistryCredentials> {
        let number = self.fetches.fetch_add(1, Ordering::SeqCst) + 1;
        tokio::task::yield_now().await;
        Ok(login(&format!("\"password\\ {number}"), SystemTime::now() + self.lifetime))
    }
}

fn login(password: &str, expires_at: SystemTime) -> RegistryCredentials {
    let password = Password::new(password.to_owned());
    let scope = key_of("a").scope().clone();
    RegistryCredentials::new(HOST.parse().unwrap(), password, expires_at, scope)
        .with_narrowing(Narrowing::Caller)
}

/// The folder of a cache, which does not exist at first. Each cache of it acts as another process.
struct Disk(TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn folder(&self) -> PathBuf {
        self.0.path().join("cache/credentials")
    }

    /// Opens a cache without logins in memory.
    fn cache(&self) -> CredentialsCache {
        CredentialsCache::open(self.folder())
    }

    fn file(&self, key: &CacheKey) -> PathBuf {
        self.folder().join(format!("{}.json", key.file_stem()))
    }

    fn names(&self, part: &str) -> Vec<String> {
        let names = fs::read_dir(self.folder()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains(part)).collect()
    }
}

async fn password(cache: &CredentialsCache, key: &CacheKey, source: &Source) -> String {
    let credentials = cache.get_or_fetch(key, || source.fetch()).await.unwrap();
    credentials.password.expose().to_owned()
}

#[tokio::test]
async fn login_is_cached_in_memory_and_on_disk() {
    let (disk, source, key) = (Disk::new(), Source::new(HOUR_DURATION), key_of("a"));
    let cache = disk.cache();
    let first = cache.get_or_fetch(&key, || source.fetch()).await.unwrap();
    assert_eq!(password(&cache, &key, &source).await, first.password.expose());
    let again = disk.cache().get_or_fetch(&key, || source.fetch()).await.unwrap();
    assert_eq!(source.fetches(), 1);
    assert_eq!(again.password.expose(), first.password.expose());
    assert_eq!((&again.host, &again.username), (&first.host, &first.username));
    assert_eq!((&again.scope, again.narrowing), (&first.scope, first.narrowing));
    let rounding = first.expires_at.duration_since(again.expires_at).unwrap();
    assert!(rounding < Duration::from_secs(1), "{rounding:?}");
}

#[tokio::test]
async fn files_are_readable_by_owner_only() {
    let (disk, source, key) = (Disk::new(), Source::new(HOUR_DURATION), key_of("a"));
    password(&disk.cache(), &key, &source).await;
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o777;
    assert_eq!(mode(disk.folder()), 0o700);
    for name in disk.names("") {
        assert_eq!(mode(disk.folder().join(&name)), 0o600, "{name}");
    }
    assert_eq!(disk.names(".new-"), Vec::<String>::new());
}

#[tokio::test]
async fn identities_do_not_share_a_login() {
    let (disk, source) = (Disk::new(), Source::new(HOUR_DURATION));
    let one = password(&disk.cache(), &key_of("a"), &source).await;
    let other = password(&disk.cache(), &key_of("b"), &source).await;
    assert_ne!(one, other);
    assert_eq!(password(&disk.cache(), &key_of("a"), &source).await, one);
}

#[tokio::test]
async fn copy_of_another_file_is_quarantined() {
    let (disk, source) = (Disk::new(), Source::new(HOUR_DURATION));
    let original = password(&disk.cache(), &key_of("a"), &source).await;
    fs::copy(disk.file(&key_of("a")), disk.file(&key_of("b"))).unwrap();
    assert_ne!(password(&disk.cache(), &key_of("b"), &source).await, original);
    assert_eq!(disk.names(".refused-").len(), 1);
}

#[tokio::test]
async fn invalid_file_is_quarantined_until_cleared() {
    type Damage = fn(&PathBuf);
    let damages: [(&str, Damage); 5] = [
        ("readable", |file| fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap()),
        ("cut off", |file| {
            let content = fs::read(file).unwrap();
            fs::write(file, &content[..content.len() / 2]).unwrap();
        }),
        ("empty", |file| fs::write(file, "").unwrap()),
        ("a link", |file| {
            let target = file.with_extension("target");
            fs::rename(file, &target).unwrap();
            symlink(target, file).unwrap();
        }),
        ("a folder", |file| {
            fs::remove_file(file).unwrap();
            fs::create_dir(file).unwrap();
        }),
    ];
    for (case, damage) in damages {
        let (disk, source, key) = (Disk::new(), Source::new(HOUR_DURATION), key_of("a"));
        password(&disk.cache(), &key, &source).await;
        damage(&disk.file(&key));
        let second = password(&disk.cache(), &key, &source).await;
        assert_eq!(source.fetches(), 2, "{case}");
        assert_eq!(disk.names(".refused-").len(), 1, "{case}");
        assert_eq!(password(&disk.cache(), &key, &source).await, second, "{case}");
        // The invalid file may contain a password.
        let is_folder = case == "a folder";
        assert_eq!(disk.cache().clear(None).await.is_err(), is_folder, "{case}");
        assert_eq!(disk.names(".refused-").len(), usize::from(is_folder), "{case}");
    }
}

#[tokio::test]
async fn folder_writable_by_others_is_ignored() {
    let (disk, source, key) = (Disk::new(), Source::new(HOUR_DURATION), key_of("a"));
    password(&disk.cache(), &key, &source).await;
    let before = fs::read(disk.file(&key)).unwrap();
    fs::set_permissions(disk.folder(), Permissions::from_mode(0o777)).unwrap();
    password(&disk.cache(), &key, &source).await;
    assert_eq!(source.fetches(), 2);
    assert_eq!(fs::read(disk.file(&key)).unwrap(), before);
}

#[tokio::test]
async fn folder_that_is_a_symbolic_link_is_ignored() {
    let (disk, source) = (Disk::new(), Source::new(HOUR_DURATION));
    let project = disk.0.path().join("project");
    fs::create_dir_all(disk.folder().parent().unwrap()).unwrap();
    fs::create_dir(&project).unwrap();
    let hash = "0".repeat(64);
    let names = ["package.json".to_owned(), format!("{hash}.json"), format!("login-1-{hash}.json")];
    for name in &names {
        fs::write(project.join(name), "{}").unwrap();
    }
    std::os::unix::fs::symlink(&project, disk.folder()).unwrap();
    password(&disk.cache(), &key_of("a"), &source).await;
    assert!(disk.cache().clear(None).await.is_err());
    assert_eq!(fs::read_dir(&project).unwrap().count(), 3);
    // Without the link, only the file with the name of a login is deleted.
    fs::remove_file(disk.folder()).unwrap();
    fs::rename(&project, disk.folder()).unwrap();
    fs::set_permissions(disk.folder(), Permissions::from_mode(0o755)).unwrap();
    assert_eq!(disk.cache().clear(None).await.unwrap(), 1);
    assert_eq!(disk.names(".json").len(), 2);
}

#[tokio::test]
async fn unusable_folder_falls_back_to_memory() {
    let (disk, source, key) = (Disk::new(), Source::new(HOUR_DURATION), key_of("a"));
    fs::write(disk.0.path().join("cache"), "in the way").unwrap();
    let cache = disk.cache();
    password(&cache, &key, &source).await;
    password(&cache, &key, &source).await;
    assert_eq!(source.fetches(), 1);
}

#[tokio::test]
async fn expired_fetched_login_is_returned_but_not_cached() {
    let (disk, key) = (Disk::new(), key_of("a"));
    let cache = disk.cache();
    // Source: the expiry in responses of moto.
    let in_2015 = SystemTime::UNIX_EPOCH + Duration::from_secs(1_438_387_200);
    for number in 1..=2 {
        let text = number.to_string();
        let fetch = || async { Ok(login(&text, in_2015)) };
        let credentials = cache.get_or_fetch(&key, fetch).await.unwrap();
        assert_eq!(credentials.password.expose(), text);
    }
    assert!(!disk.file(&key).exists());
}

#[tokio::test]
async fn cached_login_is_used_after_temporary_error() {
    let (disk, key) = (Disk::new(), key_of("a"));
    let old = Login {
        credentials: login("old", SystemTime::now() + HOUR_DURATION / 60),
        obtained_at: SystemTime::now() - HOUR_DURATION,
    };
    disk.cache().write(&key, &old).await;
    let fails = |error: fn() -> Error| {
        let cache = disk.cache();
        let key = key.clone();
        async move { cache.get_or_fetch(&key, || async { Err(error()) }).await }
    };
    let cached = fails(|| Error::temporary("busy").with_source("throttled")).await.unwrap();
    assert_eq!(cached.password.expose(), "old");
    let error = fails(|| Error::invalid("no")).await.unwrap_err();
    assert!(matches!(error, Error::InvalidInput { .. }), "{error:?}");
    let source = Source::new(HOUR_DURATION);
    assert_ne!(password(&disk.cache(), &key, &source).await, "old");
}

#[test]
fn login_is_fresh_until_share_of_lifetime_remains() {
    let obtained_at = SystemTime::now();
    let login = Login { credentials: login("p", obtained_at + HOUR_DURATION), obtained_at };
    let minutes = |minutes: u64| obtained_at + Duration::from_secs(60 * minutes);
    assert!(login.is_fresh(minutes(0), 0.2) && login.is_fresh(minutes(47), 0.2));
    assert!(!login.is_fresh(minutes(49), 0.2) && login.is_fresh(minutes(49), 0.1));
    assert!(login.is_valid(minutes(59)) && !login.is_valid(minutes(60)));
    // A clock that was set back would extend the lifetime.
    assert!(!login.is_valid(obtained_at - HOUR_DURATION));
    for _ in 0..100 {
        assert!((0.1..=0.2).contains(&min_remaining_share()));
    }
}

#[tokio::test]
async fn concurrent_calls_fetch_once() {
    let (disk, source, key) = (Disk::new(), Source::new(HOUR_DURATION), key_of("a"));
    let shared = disk.cache();
    let caches: Vec<_> =
        (0..20).map(|n| if n % 2 == 0 { shared.clone() } else { disk.cache() }).collect();
    let calls = caches.iter().map(|cache| password(cache, &key, &source));
    let passwords = join_all(calls).await;
    assert_eq!(source.fetches(), 1);
    assert!(passwords.iter().all(|password| *password == passwords[0]));
}

#[tokio::test]
async fn cancelled_fetch_does_not_block_others() {
    let (disk, source, key) = (Disk::new(), Source::new(HOUR_DURATION), key_of("a"));
    let cache = disk.cache();
    let never = cache.get_or_fetch(&key, std::future::pending);
    assert!(tokio::time::timeout(Duration::from_millis(100), never).await.is_err());
    password(&cache, &key, &source).await;
    assert_eq!((source.fetches(), disk.names(".new-").len()), (1, 0));
}

#[tokio::test]
async fn clear_deletes_logins_of_one_registry_or_all() {
    let (disk, source) = (Disk::new(), Source::new(HOUR_DURATION));
    let cache = disk.cache();
    let other_host: RegistryHost = "h.example".parse().unwrap();
    let other = CacheKey::new(other_host.clone(), "a", None, key_of("a").scope().clone());
    for key in [&key_of("a"), &other] {
        password(&cache, key, &source).await;
    }
    assert_eq!(cache.clear(Some(&other_host)).await.unwrap(), 1);
    password(&cache, &key_of("a"), &source).await;
    assert_eq!(source.fetches(), 2);
    password(&cache, &other, &source).await;
    assert_eq!(source.fetches(), 3);
    assert_eq!(cache.clear(None).await.unwrap(), 2);
    assert_eq!(disk.names(".json").len(), 0);
    password(&cache, &key_of("a"), &source).await;
    assert_eq!(source.fetches(), 4);
    let missing = CredentialsCache::open(disk.0.path().join("missing"));
    assert_eq!(missing.clear(None).await.unwrap(), 0);
}

#[tokio::test]
async fn old_files_are_deleted() {
    let (disk, source) = (Disk::new(), Source::new(HOUR_DURATION));
    password(&disk.cache(), &key_of("a"), &source).await;
    let left = disk.folder().join(".ark-new-0123456789abcdef");
    fs::write(&left, "").unwrap();
    let long_ago = SystemTime::now() - 25 * HOUR_DURATION;
    for path in [&left, &disk.file(&key_of("a"))] {
        fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
    }
    password(&disk.cache(), &key_of("b"), &source).await;
    assert!(!left.exists() && !disk.file(&key_of("a")).exists());
    assert!(disk.file(&key_of("b")).exists());
}

/// The environment variable with the folder of a child process of the test of concurrent processes.
const CHILD_FOLDER: &str = "ARK_TEST_CACHE_FOLDER";

/// The body of the child processes that the test below starts. Without the variable this test does nothing.
#[tokio::test]
async fn child_process_fetches_a_login() {
    let Some(folder) = std::env::var_os(CHILD_FOLDER).map(PathBuf::from) else { return };
    let cache = CredentialsCache::open(folder.join("cache"));
    let fetch = || async {
        // Each fetch creates a file of its own.
        fs::write(folder.join(format!("call-{}", std::process::id())), "").unwrap();
        sleep(Duration::from_millis(50)).await;
        Ok(login(&format!("of {}", std::process::id()), SystemTime::now() + HOUR_DURATION))
    };
    let credentials = cache.get_or_fetch(&key_of("a"), fetch).await.unwrap();
    let result = folder.join(format!("result-{}", std::process::id()));
    fs::write(result, credentials.password.expose()).unwrap();
}

#[test]
fn concurrent_processes_fetch_once() {
    let folder = tempfile::tempdir().unwrap();
    let start = || {
        let program = std::env::current_exe().unwrap();
        let test = "credentials::cache::tests::child_process_fetches_a_login";
        let mut command = Command::new(program);
        command.args([test, "--exact", "--quiet"]).env(CHILD_FOLDER, folder.path());
        command.stdout(std::process::Stdio::null()).spawn().unwrap()
    };
    let processes: Vec<_> = (0..20).map(|_| start()).collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    let starting_with = |prefix: &str| -> Vec<PathBuf> {
        let paths = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path());
        let named =
            |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().starts_with(prefix);
        paths.filter(named).collect()
    };
    assert_eq!(starting_with("call-").len(), 1);
    let results: Vec<_> =
        starting_with("result-").iter().map(|path| fs::read(path).unwrap()).collect();
    assert_eq!(results.len(), 20);
    assert!(results.iter().all(|password| *password == results[0]));
}

#[tokio::test]
async fn login_marked_as_refused_is_not_returned_again() {
    let (disk, source) = (Disk::new(), Source::new(HOUR_DURATION));
    let folder = disk.0.path().join("credentials");
    let (cache, other) = (CredentialsCache::open(&folder), CredentialsCache::open(&folder));
    let key = key_of("a");
    let first = cache.get_or_fetch(&key, || source.fetch()).await.unwrap();
    first.clone().mark_refused();
    let second = cache.get_or_fetch(&key, || source.fetch()).await.unwrap();
    assert_ne!(first.password.expose(), second.password.expose());
    assert!(first.is_refused() && !second.is_refused());
    // The second login has replaced the first one on disk.
    let third = other.get_or_fetch(&key, || source.fetch()).await.unwrap();
    assert_eq!(third.password.expose(), second.password.expose());
    assert_eq!(source.fetches(), 2);

    // A temporary error does not make the refused login usable.
    second.mark_refused();
    let unreachable = || async { Err(Error::temporary("no network").with_source("unplugged")) };
    cache.get_or_fetch(&key, unreachable).await.unwrap_err();
}
