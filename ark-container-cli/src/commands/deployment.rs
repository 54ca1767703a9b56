//! Operations that deploy a registry: `--serve` serves a folder, and `--iam-policy` prints the policies
//! that an AWS account needs.

use std::net::SocketAddr;

use ark_container_core::Error;
use ark_container_core::backend::ecr::{IamDeployment, IamPolicies};
use ark_container_core::backend::local::{HintCommands, LocalBackend, Registry};
use ark_container_core::model::{RegistryLocation, RepositoryPath};
use tokio::signal::unix::{SignalKind, signal};

use crate::arguments::PROGRAM;
use crate::commands::docker;
use crate::context::Context;
use crate::failure::{Failure, Stop, io_kind};

const SERVE_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --serve
  ark-catalog-container-tool --serve --registry local:DIR --listen 0

The server runs until it is interrupted (Ctrl-C) or terminated. Running uploads then finish, or can
be resumed. Port 0 selects a free port. PORT and localhost:PORT mean 127.0.0.1:PORT.";

/// Serve a local registry until interrupted, and print its address when it is ready
///
/// The server speaks plain HTTP, so it accepts connections from this machine only.
#[derive(Debug, clap::Args)]
#[command(after_long_help = SERVE_EXAMPLES)]
pub(crate) struct ServeArgs {
    /// Port, or address and port, to listen on
    #[arg(
        long,
        value_name = "[ADDRESS:]PORT",
        value_parser = listen_address,
        default_value_t = LocalBackend::DEFAULT_ADDRESS,
    )]
    listen: SocketAddr,
}

/// Parses `PORT`, `localhost:PORT` or `ADDRESS:PORT`.
fn listen_address(text: &str) -> Result<SocketAddr, &'static str> {
    let port = text.strip_prefix("localhost:").unwrap_or(text).parse();
    let local = port.map(|port| SocketAddr::new(LocalBackend::DEFAULT_ADDRESS.ip(), port));
    local.or_else(|_| text.parse()).map_err(|_| "it is not PORT, localhost:PORT or ADDRESS:PORT")
}

pub(crate) async fn serve(args: ServeArgs, context: &Context) -> Result<(), Stop> {
    let ServeArgs { listen } = args;
    if !listen.ip().is_loopback() {
        return Err(Failure::usage(format!(
            "--listen {listen}: passwords would cross the network as plain text"
        ))
        .with_help(format!(
            "listen on 127.0.0.1:{port}, and give others access through a tunnel \
             (ssh -L {port}:127.0.0.1:{port} THIS_HOST) or a proxy that speaks TLS",
            port = listen.port(),
        ))
        .into());
    }
    // Signals are caught before the first upload, so that a signal interrupts no upload.
    let interrupted = shutdown()?;
    let local = context.open_local()?;
    let registry = Registry::bind(local.clone(), listen).and_then(Registry::announced);
    let registry = registry.map_err(explain)?.with_hint_commands(HINT_COMMANDS);
    let address = registry.local_addr().to_string();
    let record = serde_json::json!({ "address": address, "directory": local.directory() });
    context.output.result(&address, &record)?;
    docker::warn_of_missing_entry(context, &address);
    Ok(registry.serve(interrupted).await?)
}

/// Commands in the errors of the registry, which clients such as docker show to their users.
const HINT_COMMANDS: HintCommands = HintCommands {
    login: |path| match path {
        Some(path) => command_on("login", path),
        None => format!("{PROGRAM} --login NAME --organization GUID"),
    },
    create_repository: |path| command_on("create-repository", path),
};

fn command_on(operation: &str, path: &RepositoryPath) -> String {
    format!("{PROGRAM} --{operation} {} --organization {}", path.name(), path.organization())
}

fn explain(error: Error) -> Failure {
    let help = match &error {
        Error::Conflict { .. } => "use the running server: every process on this machine finds it",
        _ if io_kind(&error) == Some(std::io::ErrorKind::AddrInUse) => {
            "stop the process that listens there, or use another port: --listen 0"
        }
        _ => return error.into(),
    };
    Failure::from(error).with_help(help)
}

/// Returns a future that completes on the first SIGINT or SIGTERM.
fn shutdown() -> Result<impl Future<Output = ()> + Send, Failure> {
    let listen =
        |kind| signal(kind).map_err(|error| Failure::io("cannot wait for signals", &error));
    let (mut interrupt, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

const IAM_POLICY_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --iam-policy --identity-provider auth.example.com --audience ark \\
      --registry ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod

The JSON object has the trust and permissions policies of access_role (for [ecr] role_arn) and of
administrator_role (for [ecr] administrator_role_arn), and repository_policy, which is null unless
--repository-policy is given or configured.";

/// Print the IAM policies for a registry whose users have tokens and no AWS accounts
///
/// The policies allow only the calls that this program makes. The operation does not contact AWS.
#[derive(Debug, clap::Args)]
#[command(after_long_help = IAM_POLICY_EXAMPLES)]
pub(crate) struct IamPolicyArgs {
    /// Issuer of the tokens, in their claim iss [default: issuer of the table identity]
    #[arg(long, value_name = "HOST")]
    identity_provider: Option<String>,

    /// Audience of the tokens, in their claim aud [default: audience of the table identity]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,

    /// Print a policy for repositories too [default: if repository_policy of the table ecr is set]
    #[arg(long)]
    repository_policy: bool,
}

pub(crate) fn iam_policy(args: IamPolicyArgs, context: &Context) -> Result<(), Stop> {
    let policies = policies(args, context)?;
    let text = serde_json::to_string_pretty(&policies)
        .map_err(|error| Failure::io("cannot write the policies as JSON", &error.into()))?;
    context.output.result(&text, &policies)
}

fn policies(args: IamPolicyArgs, context: &Context) -> Result<IamPolicies, Failure> {
    let settings = &context.settings;
    let RegistryLocation::Ecr { host, stage } = settings.registry() else {
        return Err(Failure::usage(format!("{} is not in AWS", settings.registry())).with_help(
            "choose the registry too: --registry ecr://ACCOUNT.dkr.ecr.REGION.amazonaws.com",
        ));
    };
    let issuer = || settings.token_issuer().map(str::to_owned);
    let provider = args.identity_provider.or_else(issuer);
    let provider = provider.ok_or_else(|| missing("--identity-provider", "HOST"))?;
    let audience = || settings.token_audience().map(str::to_owned);
    let audience = args.audience.or_else(audience);
    let audience = audience.ok_or_else(|| missing("--audience", "AUDIENCE"))?;
    let deployment = IamDeployment::new(host.clone(), stage.clone(), &provider, audience)?
        .with_additional_actions(settings.additional_actions().iter().cloned());
    Ok(match args.repository_policy || settings.repository_policy().is_some() {
        true => deployment.with_repository_policy().policies(),
        false => deployment.policies(),
    })
}

fn missing(option: &str, value: &str) -> Failure {
    Failure::usage(format!("{option} is not given"))
        .with_help(format!("give it: {PROGRAM} --iam-policy {option} {value}"))
}
