//! What concerns AWS ECR alone: the profile, the role that narrows credentials, and the region.

use std::path::{Path, PathBuf};

use ark_container_core::model::{RegistryLocation, RoleArn};
use serde::Deserialize;

use super::{Environment, Origin, parsed, variable};
use crate::args::GlobalOptions;
use crate::failure::Failure;

/// Where the environment says whose credentials to take, the SDK knows in what order they count.
const CREDENTIALS_VARIABLES: [&str; 3] =
    ["AWS_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];
const ROLE_ARN_VARIABLE: &str = "ARK_ROLE_ARN";
const ADMINISTRATOR_ROLE_ARN_VARIABLE: &str = "ARK_ADMINISTRATOR_ROLE_ARN";
const REQUIRE_SCOPED_VARIABLE: &str = "ARK_REQUIRE_SCOPED";

/// How AWS is to be asked.
#[derive(Debug)]
pub(crate) struct EcrSettings {
    /// The profile of the AWS configuration that was named; `None` for what the AWS SDK takes by itself.
    pub(crate) profile: Option<String>,
    /// Who chose AWS credentials; the default if nobody did.
    pub(crate) credentials_origin: Origin,
    /// The role under which credentials are narrowed.
    pub(crate) role_arn: Option<RoleArn>,
    /// The role under which a token deletes, and changes the global organization.
    pub(crate) administrator_role_arn: Option<RoleArn>,
    /// Refuse to hand out credentials that are not narrowed.
    pub(crate) require_scoped: bool,
    /// The file with the policy that each repository gets when it is created.
    pub(crate) repository_policy: Option<PathBuf>,
}

/// The table `[ecr]` of the configuration file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    profile: Option<String>,
    role_arn: Option<RoleArn>,
    administrator_role_arn: Option<RoleArn>,
    require_scoped: Option<bool>,
    repository_policy: Option<PathBuf>,
}

impl Table {
    pub(super) fn relative_to(self, folder: &Path) -> Self {
        let repository_policy = self.repository_policy.map(|file| folder.join(file));
        Self { repository_policy, ..self }
    }
}

impl EcrSettings {
    /// Gathers them; `table` is of the configuration file, which is at `path`.
    pub(super) fn resolve(
        options: &GlobalOptions,
        environment: Environment<'_>,
        table: Table,
        path: &Path,
    ) -> Result<Self, Failure> {
        let told = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
        let variable_told = CREDENTIALS_VARIABLES.into_iter().find(|name| told(name));
        let (profile, credentials_origin) = match (&options.profile, variable_told, table.profile) {
            (Some(profile), _, _) => (Some(profile.clone()), Origin::Flag("--profile")),
            (None, Some(name), _) => (None, Origin::Environment(name)),
            (None, None, Some(profile)) => (Some(profile), Origin::File(path.to_owned())),
            (None, None, None) => (None, Origin::Default),
        };
        let role = |name, in_file: Option<RoleArn>| match variable(name, environment)? {
            Some(text) => parsed(&text, &Origin::Environment(name)).map(Some),
            None => Ok(in_file),
        };
        let role_arn = role(ROLE_ARN_VARIABLE, table.role_arn)?;
        let administrator_role_arn =
            role(ADMINISTRATOR_ROLE_ARN_VARIABLE, table.administrator_role_arn)?;
        let require_scoped = match variable(REQUIRE_SCOPED_VARIABLE, environment)?.as_deref() {
            None => table.require_scoped.unwrap_or_default(),
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(text) => {
                let problem = format!("{text:?} is neither true nor false");
                return Err(Failure::usage(problem).within(REQUIRE_SCOPED_VARIABLE));
            }
        };
        Ok(Self {
            profile,
            credentials_origin,
            role_arn,
            administrator_role_arn,
            require_scoped,
            repository_policy: table.repository_policy,
        })
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
