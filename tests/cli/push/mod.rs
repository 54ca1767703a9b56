//! Pushing, copying and pulling images with the program.

mod copy;
mod matrix;
mod progress;
mod sources;

use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{fs, thread};

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::testing::SampleImage;
use ark_container_fakes::FaultyRegistry;
use ark_container_fakes::aws::{FakeAws, User};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::load::{MIB, write_layout};
use crate::sandbox::{Random, Run, Sandbox, TBD, is_full_scale};

/// Runs the program, which must succeed, and returns the printed JSON object.
fn object(sandbox: &Sandbox, line: &str) -> Value {
    let printed = sandbox.printed(&format!("{line} --output json"));
    serde_json::from_str(&printed).unwrap()
}

/// Interrupts a run with SIGINT while it transfers bytes of a blob.
fn interrupt(sandbox: &Sandbox, line: &str) {
    let mut command = sandbox.command(&format!("{line} --output json"));
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"moved\"") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "the run ended before the signal");
    }
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(130), "{rest}");
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert!(last["note"].as_str().unwrap().starts_with("interrupted: "), "{last}");
}

/// Returns the progress events on standard error.
fn events(run: &Run) -> Vec<Value> {
    let lines = run.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|mut line| line.get_mut("progress").map(Value::take)).collect()
}

/// Returns the entry at a position of `index.json`, and its manifest.
fn listed_manifest(layout: &Path, position: usize) -> (Value, Value) {
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entry = index["manifests"][position].clone();
    let hex = entry["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let manifest = fs::read(layout.join("blobs/sha256").join(hex)).unwrap();
    (entry, serde_json::from_slice(&manifest).unwrap())
}

#[test]
fn push_to_missing_repository_suggests_create() {
    let sandbox = Sandbox::new();
    sandbox.write_image("image", "hello");
    let push = format!("--push a/b:v1 --from oci:image --organization {TBD}");
    let run = sandbox.run(&push);
    assert_eq!(run.code, 5, "{run:?}");
    let help = format!(
        "help: create it: ark-catalog-container-tool --create-repository a/b --organization {TBD}"
    );
    assert!(run.stderr.contains(&help), "{}", run.stderr);
    let run = sandbox.run(&format!("{push} --create"));
    assert_eq!(run.code, 0, "{run:?}");
    let note = format!("note: created 127.0.0.1:5050/prod/{TBD}/a/b\n");
    assert!(run.stderr.contains(&note), "{}", run.stderr);
    let again = sandbox.run(&format!("{push} --create"));
    assert_eq!((again.code, again.stdout), (0, run.stdout));
    assert!(!again.stderr.contains("created"), "{}", again.stderr);
}

#[test]
fn denied_create_option_creates_nothing() {
    let sandbox = Sandbox::with_memberships();
    sandbox.write_image("image", "hello");
    let push = format!("--push a:v1 --from oci:image --organization {TBD} --create");
    let denied = sandbox.run_as("robot:nightly", &push);
    assert_eq!(denied.code, 4, "{denied:?}");
    assert!(denied.stderr.contains("may not create"), "{}", denied.stderr);
    assert_eq!(
        sandbox.run_as("user:alice", "--list-repositories --quiet").stdout.lines().count(),
        1
    );
    assert_eq!(sandbox.run_as("user:alice", &push).code, 0);
}

#[test]
fn layers_are_compressed_as_chosen() {
    let sandbox = Sandbox::new();
    let image = SampleImage::builder().with_layer([("zeros", vec![0; 1_000_000])]).build();
    image.write_docker_archive(&sandbox.path("image.tar"), &["a:v1"]).unwrap();
    for (option, ending) in
        [("", "gzip"), ("--compression gzip", "gzip"), ("--compression zstd", "zstd")]
    {
        let push = format!("--push {ending}:v1 --from docker-archive:image.tar --create {option}");
        let pushed = object(&sandbox, &format!("{push} --organization {TBD}"));
        if option != "--compression gzip" {
            assert!(pushed["bytes_saved"].as_u64().unwrap() > 900_000, "{pushed}");
        }
        let pull = format!("--pull {ending}:v1 --to oci:{ending} --organization {TBD}");
        sandbox.printed(&pull);
        let (_, manifest) = listed_manifest(&sandbox.path(ending), 0);
        let media_type = manifest["layers"][0]["mediaType"].as_str().unwrap();
        assert!(media_type.ends_with(&format!("+{ending}")), "{media_type}");
    }
    let run = sandbox.run(&format!(
        "--push gzip:v2 --from docker-archive:image.tar --organization {TBD} --compression lzma"
    ));
    assert_eq!(run.code, 2, "{run:?}");
}

#[test]
fn push_takes_one_platform_or_the_image_as_it_is() {
    let sandbox = Sandbox::new();
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    let push = format!("--push a:v1 --from oci:image --organization {TBD} --create");
    let all = sandbox.printed(&format!("{push} --all-platforms"));
    assert!(all.ends_with(&format!("@{}\n", image.digest())), "{all}");
    for (platform, child) in ["linux/amd64", "linux/arm64"].iter().zip(image.children()) {
        let one = sandbox.printed(&format!("{push} --platform {platform}"));
        assert!(one.ends_with(&format!("@{}\n", child.digest())), "{platform}: {one}");
    }
    assert_eq!(sandbox.printed(&push), all);
    let both = sandbox.run(&format!("{push} --platform linux/amd64 --all-platforms"));
    assert_eq!(both.code, 2, "{both:?}");
}

#[test]
fn concurrency_is_at_least_one() {
    let sandbox = Sandbox::new();
    sandbox.write_image("image", "hello");
    let push = format!("--push a:v1 --from oci:image --organization {TBD} --create --concurrency");
    assert_eq!(object(&sandbox, &format!("{push} 1"))["blobs_sent"], 2);
    assert_eq!(sandbox.run(&format!("{push} 0")).code, 2);
}

#[test]
fn interrupted_push_leaves_no_tag() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    let image = SampleImage::builder().with_random_layer(100_000_000).build();
    image.write_oci_layout(&sandbox.path("image"), None).unwrap();
    let push = format!("--push a:v1 --from oci:image --organization {TBD}");
    interrupt(&sandbox, &push);
    let listed = sandbox.printed(&format!("--list-images a --organization {TBD} --output json"));
    assert_eq!(listed, "");
    let pushed = object(&sandbox, &push);
    assert!(pushed["url"].as_str().unwrap().ends_with(&image.digest().to_string()));
}

/// Maximum number of bytes that are sent again after a kill.
const MAX_RESENT_BYTES: u64 = 16 * MIB;
const TIMEOUT: Duration = Duration::from_secs(60);

/// AWS, with a proxy before its registry that counts the received bytes.
struct Counted {
    aws: FakeAws,
    front: FaultyRegistry,
    user: User,
    _runtime: Runtime,
    sandbox: Sandbox,
}

impl Counted {
    fn start() -> Self {
        let (runtime, sandbox) = (Runtime::new().unwrap(), Sandbox::new());
        let user = User::administrator("alice");
        let (aws, front) = runtime.block_on(async {
            let store = LocalBackend::open(Some(&sandbox.path("aws"))).unwrap();
            let aws = FakeAws::builder(store).with_user(user.clone()).start().await.unwrap();
            let front = FaultyRegistry::start(aws.registry_host()).await.unwrap();
            aws.put_behind(front.host().clone());
            (aws, front)
        });
        Self { aws, front, user, _runtime: runtime, sandbox }
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.sandbox.command(&format!("--quiet {line} --organization {TBD}"));
        command
            .env("ARK_REGISTRY", format!("ecr://{}/prod", self.aws.host()))
            .envs(self.aws.environment(self.user.access_key()));
        command
    }

    fn push(&self) -> Child {
        let mut push = self.command("--push a/b:v1 --from oci:layout");
        push.stdout(Stdio::null()).spawn().unwrap()
    }

    /// Waits until the proxy has received `bytes`.
    fn wait_for(&self, bytes: u64, push: &mut Child) {
        let started = Instant::now();
        while self.front.received() < bytes {
            assert!(push.try_wait().unwrap().is_none(), "the push has ended");
            assert!(started.elapsed() < TIMEOUT, "timeout");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn killed_pushes_resend_little() {
    let (size, kills) = if is_full_scale() { (2048 * MIB, 50) } else { (256 * MIB, 8) };
    let counted = Counted::start();
    let sandbox = &counted.sandbox;
    sandbox.finish(&mut counted.command("--create-repository a/b"));
    write_layout(sandbox, size);
    let mut random = Random::seeded();
    for _ in 0..kills {
        let before = counted.front.received();
        let mut push = counted.push();
        // All kills are early enough to come before the end of the transfer.
        let within = (size / (kills + 1)) as usize;
        counted.wait_for(before + random.below(within) as u64, &mut push);
        push.kill().unwrap();
        push.wait().unwrap();
    }
    assert!(counted.push().wait().unwrap().success());
    let sent = counted.front.received();
    let limit = size + size / 10 + kills * MAX_RESENT_BYTES;
    report(sent, size, kills);
    assert!(size <= sent && sent <= limit, "{sent} bytes were sent, of at most {limit}");

    let again = counted.front.received();
    assert!(counted.push().wait().unwrap().success());
    assert!(counted.front.received() - again < MIB, "the image exists");
}

#[expect(clippy::print_stdout, reason = "tests/heavy/run shows the measured value")]
fn report(sent: u64, size: u64, kills: u64) {
    println!("{} MiB were sent of {} MiB, with {kills} kills", sent / MIB, size / MIB);
}

#[test]
fn metadata_file_is_checked_before_the_push() {
    let sandbox = Sandbox::new();
    sandbox.printed(&format!("--create-repository a --organization {TBD}"));
    sandbox.write_image("image", "hello");
    sandbox.write("file", "");
    let push = |file: &str| {
        let from = format!("--quiet --push a:1 --from oci:image --organization {TBD}");
        sandbox.run(&format!("{from} --metadata-file {file}"))
    };
    for file in ["missing/pushed.json", "image", "file/pushed.json"] {
        let run = push(file);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{file}: {run:?}");
        assert!(run.stderr.contains(file.trim_end_matches("/pushed.json")), "{run:?}");
    }
    let images = format!("--list-images a --organization {TBD}");
    assert!(!sandbox.printed(&images).contains("sha256:"));
    let run = push("file");
    assert_eq!(run.code, 0, "{run:?}");
    let pushed: Value = serde_json::from_slice(&fs::read(sandbox.path("file")).unwrap()).unwrap();
    assert_eq!(pushed["url"].as_str().unwrap(), run.stdout.trim_end());
}
