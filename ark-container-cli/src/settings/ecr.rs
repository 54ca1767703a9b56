//! What concerns AWS ECR alone: the profile, the role that narrows credentials, and the region.

use ark_container_core::model::{RegistryLocation, RoleArn};
use serde::Deserialize;

use super::{Environment, Origin, parsed, variable};
use crate::args::GlobalOptions;
use crate::failure::Failure;

/// Where the environment says whose credentials to take, the SDK knows in what order they count.
const CREDENTIALS_VARIABLES: [&str; 3] =
    ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];
const ROLE_ARN_VARIABLE: &str = "ARK_ROLE_ARN";
const REQUIRE_SCOPED_VARIABLE: &str = "ARK_REQUIRE_SCOPED";

/// How AWS is to be asked.
#[derive(Debug)]
pub(crate) struct EcrSettings {
    /// The profile of the AWS configuration that was named; `None` for what the AWS SDK takes by itself.
    pub(crate) profile: Option<String>,
    /// The role under which credentials are narrowed.
    pub(crate) role_arn: Option<RoleArn>,
    /// Refuse to hand out credentials that are not narrowed.
    pub(crate) require_scoped: bool,
}

/// The table `[ecr]` of the configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    profile: Option<String>,
    role_arn: Option<RoleArn>,
    require_scoped: Option<bool>,
}

impl EcrSettings {
    /// Gathers them; `table` is of the configuration file.
    pub(super) fn resolve(
        options: &GlobalOptions,
        environment: Environment<'_>,
        table: Table,
    ) -> Result<Self, Failure> {
        let told = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
        let profile = match &options.profile {
            Some(profile) => Some(profile.clone()),
            None if CREDENTIALS_VARIABLES.iter().any(|name| told(name)) => None,
            None => table.profile,
        };
        let role_arn = match variable(ROLE_ARN_VARIABLE, environment)? {
            Some(text) => Some(parsed(&text, &Origin::Environment(ROLE_ARN_VARIABLE))?),
            None => table.role_arn,
        };
        let require_scoped = match variable(REQUIRE_SCOPED_VARIABLE, environment)?.as_deref() {
            None => table.require_scoped.unwrap_or_default(),
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(text) => {
                let problem = format!("{text:?} is neither true nor false");
                return Err(Failure::usage(problem).within(REQUIRE_SCOPED_VARIABLE));
            }
        };
        Ok(Self { profile, role_arn, require_scoped })
    }
}

/// Refuses what was typed for AWS where it cannot hold: it would be ignored in silence.
///
/// The region is in the registry's host, so an option can only agree with it.
pub(super) fn check_options(
    options: &GlobalOptions,
    registry: &RegistryLocation,
) -> Result<(), Failure> {
    let RegistryLocation::Ecr { host, .. } = registry else {
        let typed = [("--profile", &options.profile), ("--region", &options.region)];
        return match typed.into_iter().find(|(_, value)| value.is_some()) {
            None => Ok(()),
            Some((option, _)) => {
                Err(Failure::usage(format!("{option}: {registry} is not in AWS")).with_help(
                    "choose the registry too: --registry ecr://ACCOUNT.dkr.ecr.REGION.amazonaws.com",
                ))
            }
        };
    };
    match &options.region {
        Some(region) if region != host.region() => Err(Failure::usage(format!(
            "--region {region}: the registry {host} is in {}",
            host.region()
        ))
        .with_help("leave --region out, or name that region's registry with --registry")),
        _ => Ok(()),
    }
}
