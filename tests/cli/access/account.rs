//! An AWS account with the deployed policies, and the program as each person of the access matrix.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::time::Duration;

use ark_container_core::backend::ecr::{IamDeployment, RolePolicies};
use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::{EcrHost, OrganizationId, Stage};
use ark_container_core::testing::{TestToken, TokenIssuer};
use ark_container_fakes::aws::{FakeAws, IdentityProvider, Role, User};
use tokio::runtime::Runtime;

use super::matrix::{FURNISHED, Layers, OURS, PEOPLE, Person, SHARED, THEIRS, repositories};
use crate::sandbox::Sandbox;
use crate::tools::Curl;

const HOST: &str = "095412845506.dkr.ecr.us-east-1.amazonaws.com";
pub(crate) const ISSUER: &str = "https://auth.example.com";
pub(crate) const AUDIENCE: &str = "ark";

/// The account, and the home folder of the program.
pub(crate) struct Account {
    // Dropped in this order: the fake AWS needs its runtime, and both need the home.
    pub(crate) aws: FakeAws,
    _runtime: Runtime,
    pub(crate) issuer: TokenIssuer,
    pub(crate) sandbox: Sandbox,
}

impl Account {
    /// Returns an account with the repository `app` of both organizations.
    pub(crate) fn new() -> Self {
        Self::with([OURS, THEIRS].map(|organization| (organization, SHARED.to_owned())))
    }

    /// Returns an account with every repository of the access matrix.
    pub(crate) fn of_the_matrix() -> Self {
        Self::with(repositories())
    }

    fn with(repositories: impl IntoIterator<Item = (OrganizationId, String)>) -> Self {
        let sandbox = Sandbox::new();
        let issuer = TokenIssuer::new(ISSUER, AUDIENCE).unwrap();
        let runtime = Runtime::new().unwrap();
        let aws = runtime.block_on(start(&sandbox, &issuer));
        let account = Self { aws, _runtime: runtime, issuer, sandbox };
        account.sandbox.write_image("image", "hello");
        account.sandbox.write("memberships.toml", memberships());
        for (organization, name) in repositories {
            account.fill(organization, &name);
        }
        account
    }

    fn fill(&self, organization: OrganizationId, name: &str) {
        for line in [
            format!("--create-repository {name} --organization {organization}"),
            format!("--push {name}:v1 --from oci:image --organization {organization}"),
        ] {
            let mut command = self.registry(&line);
            let run = self.sandbox.finish(command.envs(self.aws.environment(root().access_key())));
            assert_eq!(run.code, 0, "{line}: {run:?}");
        }
    }

    /// Returns the program with the account's registry, without an identity.
    pub(crate) fn registry(&self, line: &str) -> Command {
        let mut command = self.sandbox.command(line);
        command.env("ARK_REGISTRY", format!("ecr://{HOST}/prod"));
        command
    }

    /// Returns the program with the identity of a person and these isolation layers.
    pub(crate) fn command(&self, layers: Layers, person: &Person, line: &str) -> Command {
        let mut command = self.registry(line);
        let memberships = self.sandbox.path("memberships.toml");
        match layers {
            // The memberships file maps the AWS credentials, which permit everything, to the person.
            Layers::Policy => {
                let caller = unbound(person);
                command.envs(self.aws.environment(caller.access_key()));
                command.env("ARK_MEMBERSHIPS", memberships);
            }
            // AWS credentials with the tags of tokens, without a memberships file.
            Layers::Aws => {
                command.envs(self.aws.environment(tagged(person).access_key()));
            }
            Layers::Both => return self.bearer(&self.token_file(&person.token()), line),
        }
        command
    }

    /// Returns the program with a token, which is in a file of the home.
    pub(crate) fn bearer(&self, token_file: &str, line: &str) -> Command {
        let mut command = self.registry(line);
        command
            .env("ARK_JWT_FILE", self.sandbox.path(token_file))
            .env("ARK_ROLE_ARN", "arn:aws:iam::095412845506:role/access")
            .env("ARK_ADMINISTRATOR_ROLE_ARN", "arn:aws:iam::095412845506:role/administrator")
            .env("AWS_ENDPOINT_URL", self.aws.endpoint_url());
        command
    }

    /// Signs a token, and returns its file.
    pub(crate) fn token_file(&self, token: &TestToken) -> String {
        self.write_token(&self.issuer.token(token).unwrap())
    }

    /// Writes the text of a token to a file, named after the token.
    pub(crate) fn write_token(&self, token: &str) -> String {
        let name: String =
            token.chars().rev().take(20).filter(char::is_ascii_alphanumeric).collect();
        let name = format!("token-{name}");
        let path = self.sandbox.write(&name, token);
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
        name
    }

    /// Returns a client of the registry with a password.
    pub(crate) fn curl(&self, password: &str) -> Curl {
        Curl::new(&self.aws.registry_host().to_string(), Some(password))
    }
}

async fn start(sandbox: &Sandbox, issuer: &TokenIssuer) -> FakeAws {
    let provider = IdentityProvider::new(ISSUER, issuer.key_set_json()).with_audience(AUDIENCE);
    let host: EcrHost = HOST.parse().unwrap();
    let iam = IamDeployment::new(host, Stage::default(), ISSUER, AUDIENCE).unwrap().policies();
    let store = LocalBackend::open(Some(&sandbox.path("aws"))).unwrap();
    let mut builder = FakeAws::builder(store)
        .with_user(root())
        .with_identity_provider(provider)
        .with_role(role("access", &iam.access_role))
        .with_role(role("administrator", &iam.administrator_role));
    // carol has two rows in the matrix.
    for person in PEOPLE.iter().enumerate().filter(|(row, _)| *row != 3).map(|(_, person)| person) {
        let tagged = tagged(person)
            .with_policy(&iam.access_role.permissions)
            .with_policy(&iam.administrator_role.permissions);
        builder = builder.with_user(unbound(person)).with_user(tagged);
    }
    builder.start().await.unwrap()
}

fn role(name: &str, policies: &RolePolicies) -> Role {
    Role::new(name)
        .with_trust_policy(&policies.trust)
        .with_policy(&policies.permissions)
        .with_max_session(Duration::from_secs(12 * 60 * 60))
}

/// Returns the user that creates the content of the account.
fn root() -> User {
    User::administrator("root")
}

/// Returns the AWS user of a person, with all permissions.
fn unbound(person: &Person) -> User {
    User::administrator(person.id())
}

/// Returns the AWS user of a person, with the tags of the person's token.
fn tagged(person: &Person) -> User {
    let tags = person.session_tags();
    tags.into_iter().fold(User::new(format!("{}-tagged", person.id())), |user, (key, value)| {
        user.with_tag(key, value)
    })
}

/// Returns a memberships file with all people and their AWS users.
fn memberships() -> String {
    let mut text = String::new();
    for organization in FURNISHED {
        let names = |belongs: &dyn Fn(&Person) -> bool| {
            let some = PEOPLE.iter().filter(|person| belongs(person));
            some.map(|person| person.principal().to_string()).collect::<Vec<_>>()
        };
        let members = names(&|person| person.principal().is_member_of(organization));
        let administrators = names(&|person| person.principal().administers(organization));
        text += &format!("[[organization]]\nid = \"{organization}\"\n");
        text += &format!("members = {members:?}\nadministrators = {administrators:?}\n");
    }
    for person in PEOPLE {
        let arn = format!("arn:aws:iam::095412845506:user/{}", person.id());
        text += &format!("[[aws]]\narn = \"{arn}\"\nprincipal = \"{}\"\n", person.principal());
    }
    text
}
