//! `--iam-policy`: the policies that a registry's account needs in AWS.

use ark_container_core::backend::ecr::{IamDeployment, IamPolicies};
use ark_container_core::model::RegistryLocation;

use crate::args::PROGRAM;
use crate::connect::Context;
use crate::failure::{Failure, Stop};

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --iam-policy --identity-provider auth.example.com --audience ark \\
      --registry ecr://095412845506.dkr.ecr.us-east-1.amazonaws.com/prod

The JSON object has trust and permissions of access_role (for [ecr] role_arn) and of
administrator_role (for [ecr] administrator_role_arn), and repository_policy, which is null unless it
is asked for.";

/// Print the IAM policies for a registry whose users have tokens and no AWS accounts
///
/// They allow what this program calls and no more. Nothing is asked of AWS, and nothing changed there.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Who gives the tokens: their claim iss [default: issuer of the table identity]
    #[arg(long, value_name = "HOST")]
    identity_provider: Option<String>,

    /// Whom the tokens are for: their claim aud [default: audience of the table identity]
    #[arg(long, value_name = "AUDIENCE")]
    audience: Option<String>,

    /// With a policy for repositories too [default: if repository_policy of the table ecr is set]
    #[arg(long)]
    repository_policy: bool,
}

pub(crate) fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let policies = policies(args, context)?;
    let text = serde_json::to_string_pretty(&policies)
        .map_err(|error| Failure::io("cannot write the policies as JSON", &error.into()))?;
    context.output.result(&text, &policies)
}

fn policies(args: Args, context: &Context) -> Result<IamPolicies, Failure> {
    let settings = &context.settings;
    let RegistryLocation::Ecr { host, stage } = &settings.registry else {
        return Err(Failure::usage(format!("{} is not in AWS", settings.registry)).with_help(
            "choose the registry too: --registry ecr://ACCOUNT.dkr.ecr.REGION.amazonaws.com",
        ));
    };
    let verification = settings.identity.verification.as_ref();
    let issuer = verification.and_then(|verification| verification.issuer.clone());
    let provider = args.identity_provider.or(issuer);
    let provider = provider.ok_or_else(|| missing("--identity-provider", "HOST"))?;
    let audience = verification.map(|verification| verification.audience.clone());
    let audience = args.audience.or(audience);
    let audience = audience.ok_or_else(|| missing("--audience", "AUDIENCE"))?;
    let deployment = IamDeployment::new(host.clone(), stage.clone(), &provider, audience)?;
    Ok(match args.repository_policy || settings.ecr.repository_policy.is_some() {
        true => deployment.with_repository_policy().policies(),
        false => deployment.policies(),
    })
}

fn missing(option: &str, value: &str) -> Failure {
    Failure::usage(format!("{option} is not given"))
        .with_help(format!("whose tokens AWS is to trust: {PROGRAM} --iam-policy {option} {value}"))
}
