//! The program with AWS ECR, for which the fake AWS runs in the process of the test.

mod clients;
mod failures;
mod listing;
mod logins;
mod settings;

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use ark_container_core::backend::local::LocalBackend;
use ark_container_fakes::aws::{FakeAws, FakeAwsBuilder, Role, User};
use tokio::runtime::Runtime;

use crate::sandbox::{Run, Sandbox, TBD};

/// Role that narrows passwords.
pub(crate) const ROLE: &str = "ark-registry";

/// AWS, and a home for the program.
pub(crate) struct Cloud {
    // Dropped in this order: the fake AWS needs its runtime, and both need the home.
    pub(crate) aws: FakeAws,
    _runtime: Runtime,
    pub(crate) sandbox: Sandbox,
}

impl Cloud {
    /// Returns an account with the role [`ROLE`], and the administrator alice, who runs the program.
    pub(crate) fn new() -> Self {
        Self::with(|builder| builder)
    }

    /// Returns such an account with more content.
    pub(crate) fn with(more: impl FnOnce(FakeAwsBuilder) -> FakeAwsBuilder) -> Self {
        let runtime = Runtime::new().unwrap();
        let sandbox = Sandbox::new();
        let aws = runtime.block_on(async {
            let store = LocalBackend::open(Some(&sandbox.path("aws"))).unwrap();
            let builder = FakeAws::builder(store).with_user(alice()).with_role(role());
            more(builder).start().await.unwrap()
        });
        Self { aws, _runtime: runtime, sandbox }
    }

    /// Returns the host in the URLs of repositories, on which the registry listens.
    pub(crate) fn host(&self) -> String {
        self.aws.registry_host().to_string()
    }

    /// Returns the URL of an image such as `a/b:v1` of an organization.
    fn image_of(&self, organization: &str, name: &str) -> String {
        format!("{}/prod/{organization}/{name}", self.host())
    }

    pub(crate) fn image(&self, name: &str) -> String {
        self.image_of(TBD, name)
    }

    /// Returns the program with the AWS credentials of a user.
    pub(crate) fn command_as(&self, user: &User, line: &str) -> Command {
        let mut command = self.sandbox.command(line);
        command
            .env("ARK_REGISTRY", format!("ecr://{}/prod", self.aws.host()))
            .envs(self.aws.environment(user.access_key()));
        command
    }

    pub(crate) fn command(&self, line: &str) -> Command {
        self.command_as(&alice(), line)
    }

    /// Returns the program of alice with the role that narrows passwords.
    pub(crate) fn narrowed_command(&self, line: &str) -> Command {
        let mut command = self.command(line);
        command
            .env("ARK_ROLE_ARN", format!("arn:aws:iam::{}:role/{ROLE}", self.aws.host().account()));
        command
    }

    fn run(&self, line: &str) -> Run {
        self.sandbox.finish(&mut self.command(line))
    }

    /// Runs the program, which must succeed, and returns what it printed.
    pub(crate) fn printed(&self, line: &str) -> String {
        printed(&self.sandbox, &mut self.command(line))
    }

    /// Creates repositories of [`TBD`].
    pub(crate) fn create(&self, names: &[&str]) {
        for name in names {
            self.printed(&format!("--create-repository {name} --organization {TBD}"));
        }
    }

    /// Returns the exit code and the error of a failed run, without values that differ between runs.
    fn reported(&self, run: &Run) -> String {
        assert_eq!(run.stdout, "", "{run:?}");
        self.settled(&format!("exit {}\n{}", run.code, run.stderr))
    }

    /// Replaces the values in a text that differ between runs.
    pub(crate) fn settled(&self, text: &str) -> String {
        let mut text = text.replace(&self.aws.endpoint_url(), "http://AWS");
        // Calls of the registry have no identifier.
        let ids = self.aws.calls().into_iter().map(|call| call.request_id);
        for id in ids.filter(|id| !id.is_empty()) {
            text = text.replace(&id, "REQUEST");
        }
        text
    }
}

/// Runs commands concurrently, which must succeed and print the same text, and returns the text.
pub(crate) fn printed_by_all(commands: impl Iterator<Item = Command>) -> String {
    let start = |mut command: Command| {
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let processes: Vec<Child> = commands.map(start).collect();
    let finish = |process: Child| {
        let output = process.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut answers: Vec<String> = processes.into_iter().map(finish).collect();
    answers.dedup();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Runs a command, which must succeed, and returns its output.
fn printed(sandbox: &Sandbox, command: &mut Command) -> String {
    let run = sandbox.finish(command);
    assert_eq!(run.code, 0, "{run:?}");
    run.stdout
}

/// Returns the administrator of the account.
pub(crate) fn alice() -> User {
    User::administrator("alice")
}

/// Returns a role with all permissions for ECR, which the users of the account may assume for the lifetime of a
/// password.
pub(crate) fn role() -> Role {
    Role::new(ROLE)
        .with_max_session(Duration::from_secs(12 * 60 * 60))
        .with_trust_policy(
            r#"{
                "Version": "2012-10-17",
                "Statement": {
                    "Effect": "Allow",
                    "Principal": {"AWS": "arn:aws:iam::095412845506:root"},
                    "Action": ["sts:AssumeRole", "sts:TagSession"]
                }
            }"#,
        )
        .with_policy(
            r#"{
                "Version": "2012-10-17",
                "Statement": {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"}
            }"#,
        )
}
