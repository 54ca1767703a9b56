//! A push that is killed again and again sends no more than the image, and a part for each kill.

use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use ark_container_core::backend::local::LocalBackend;
use ark_container_fakes::FaultyRegistry;
use ark_container_fakes::aws::{FakeAws, User};
use tokio::runtime::Runtime;

use crate::memory::{MIB, write_layout};
use crate::random::Random;
use crate::sandbox::{Sandbox, TBD};
use crate::scale;

/// The most that is sent again after a kill: what was on its way when it came.
const PART: u64 = 16 * MIB;
const DEADLINE: Duration = Duration::from_secs(60);

/// AWS, with something in front of its registry that counts the bytes which reach it.
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
            let aws = FakeAws::builder(store).user(user.clone()).start().await.unwrap();
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

    /// Waits until so many bytes have come, or the push has ended.
    fn wait_for(&self, bytes: u64, push: &mut Child) {
        let started = Instant::now();
        while self.front.received() < bytes {
            assert!(push.try_wait().unwrap().is_none(), "the push has ended");
            assert!(started.elapsed() < DEADLINE, "nothing moves");
            thread::sleep(Duration::from_millis(1));
        }
    }
}

#[test]
fn a_push_that_is_killed_again_and_again_sends_hardly_more_than_the_image() {
    let (size, kills) = if scale::is_full() { (2048 * MIB, 50) } else { (256 * MIB, 8) };
    let counted = Counted::start();
    let sandbox = &counted.sandbox;
    sandbox.finish(&mut counted.command("--create-repository a/b"));
    write_layout(sandbox, size);
    let mut random = Random::seeded();
    for _ in 0..kills {
        let before = counted.front.received();
        let mut push = counted.push();
        // Each comes so early that the image is not done before the last.
        let within = (size / (kills + 1)) as usize;
        counted.wait_for(before + random.below(within) as u64, &mut push);
        push.kill().unwrap();
        push.wait().unwrap();
    }
    assert!(counted.push().wait().unwrap().success());
    let sent = counted.front.received();
    let limit = size + size / 10 + kills * PART;
    report(sent, size, kills);
    assert!(size <= sent && sent <= limit, "{sent} bytes were sent, of at most {limit}");

    let again = counted.front.received();
    assert!(counted.push().wait().unwrap().success());
    assert!(counted.front.received() - again < MIB, "it is there");
}

#[expect(clippy::print_stdout, reason = "tests/heavy/run shows what was measured")]
fn report(sent: u64, size: u64, kills: u64) {
    println!("{} MiB were sent of {} MiB, with {kills} kills", sent / MIB, size / MIB);
}
