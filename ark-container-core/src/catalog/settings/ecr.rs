//! Settings of AWS ECR: the profile, the roles, and options of repositories.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::home::in_folder;
use super::{Environment, Origin, ProgramSettings, parsed, variable};
use crate::error::{Error, Result};
use crate::model::{AdditionalAction, RoleArn};

/// The variables that select credentials. The SDK defines their order of precedence.
const CREDENTIALS_VARIABLES: [&str; 4] =
    ["AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE"];
const ROLE_ARN_VARIABLE: &str = "ARK_ROLE_ARN";
const ADMINISTRATOR_ROLE_ARN_VARIABLE: &str = "ARK_ADMINISTRATOR_ROLE_ARN";
const REQUIRE_SCOPED_VARIABLE: &str = "ARK_REQUIRE_SCOPED";

/// The settings of calls to AWS.
#[cfg_attr(not(feature = "ecr"), expect(dead_code, reason = "only AWS has profiles and roles"))]
#[derive(Debug, Clone)]
pub(in crate::catalog) struct EcrSettings {
    /// The profile of the AWS configuration from the settings; `None` for the default of the AWS SDK.
    pub(in crate::catalog) profile: Option<String>,
    /// The origin of the AWS credentials; [`Origin::Default`] if no setting selects them.
    pub(in crate::catalog) credentials_origin: Origin,
    /// The role for narrowed credentials.
    pub(in crate::catalog) role_arn: Option<RoleArn>,
    /// The role in which a caller with a token deletes, sets policies, and changes the global organization.
    pub(in crate::catalog) administrator_role_arn: Option<RoleArn>,
    /// Whether a request for credentials fails if they cannot be narrowed.
    pub(in crate::catalog) require_scoped: bool,
    /// The file with the policy of each new repository.
    pub(in crate::catalog) repository_policy: Option<PathBuf>,
    /// The external ID that the role requires.
    pub(in crate::catalog) external_id: Option<String>,
    /// The source identity of the role's sessions.
    pub(in crate::catalog) source_identity: Option<String>,
    /// The actions that a push needs in addition to ECR actions.
    pub(in crate::catalog) additional_actions: Vec<AdditionalAction>,
}

/// The table `[ecr]` of the configuration file, or the table of a registry in `registries`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Table {
    profile: Option<String>,
    role_arn: Option<RoleArn>,
    administrator_role_arn: Option<RoleArn>,
    require_scoped: Option<bool>,
    repository_policy: Option<PathBuf>,
    external_id: Option<String>,
    source_identity: Option<String>,
    #[serde(default)]
    additional_actions: Vec<AdditionalAction>,
}

impl Table {
    pub(super) fn relative_to(self, folder: &Path) -> Result<Self> {
        let repository_policy = self.repository_policy.map(|file| in_folder(folder, file));
        Ok(Self { repository_policy: repository_policy.transpose()?, ..self })
    }
}

impl EcrSettings {
    /// Collects the settings. `table` is the table of the configuration file at `path`.
    ///
    /// `own` is the table of the registry and replaces `table`. Its account may differ from that of the
    /// environment, so the profile and the roles of the environment are ignored. `require_scoped` applies
    /// if it is set in any of them.
    pub(super) fn resolve(
        given: &ProgramSettings,
        environment: Environment<'_>,
        table: Table,
        own: Option<Table>,
        path: &Path,
    ) -> Result<Self> {
        if let Some(own) = own {
            let hides_credentials = own.profile.is_some();
            let visible = |name: &str| match name {
                ROLE_ARN_VARIABLE | ADMINISTRATOR_ROLE_ARN_VARIABLE => None,
                _ if hides_credentials && CREDENTIALS_VARIABLES.contains(&name) => None,
                _ => environment(name),
            };
            // A requirement applies if it is set in either table.
            let is_required = [own.require_scoped, table.require_scoped].contains(&Some(true));
            let require_scoped = is_required.then_some(true);
            let table = Table { require_scoped, ..own };
            return Self::resolve(given, &visible, table, None, path);
        }
        let told = |name: &str| environment(name).is_some_and(|value| !value.is_empty());
        let variable_told = CREDENTIALS_VARIABLES.into_iter().find(|name| told(name));
        let (profile, credentials_origin) = match (&given.profile, variable_told, table.profile) {
            (Some((profile, origin)), _, _) => (Some(profile.clone()), origin.clone()),
            _ if given.brings_aws_credentials => (None, Origin::Program),
            (None, Some(name), _) => (None, Origin::Environment(name)),
            (None, None, Some(profile)) => (Some(profile), Origin::File(path.to_owned())),
            (None, None, None) => (None, Origin::Default),
        };
        let role = |name, in_file: Option<RoleArn>| match variable(name, environment)? {
            Some(text) => parsed(&text, &Origin::Environment(name)).map(Some),
            None => Ok(in_file),
        };
        let role_arn = match &given.role_arn {
            Some(role_arn) => Some(role_arn.clone()),
            None => role(ROLE_ARN_VARIABLE, table.role_arn)?,
        };
        let administrator_role_arn = match &given.administrator_role_arn {
            Some(role_arn) => Some(role_arn.clone()),
            None => role(ADMINISTRATOR_ROLE_ARN_VARIABLE, table.administrator_role_arn)?,
        };
        let require_scoped = match variable(REQUIRE_SCOPED_VARIABLE, environment)?.as_deref() {
            _ if given.require_scoped.is_some() => given.require_scoped.unwrap_or_default(),
            None => table.require_scoped.unwrap_or_default(),
            Some("true" | "1") => true,
            Some("false" | "0") => false,
            Some(text) => {
                let problem = format!("{text:?} is neither true nor false");
                return Err(Error::invalid(problem).within(REQUIRE_SCOPED_VARIABLE));
            }
        };
        Ok(Self {
            profile,
            credentials_origin,
            role_arn,
            administrator_role_arn,
            require_scoped,
            repository_policy: table.repository_policy,
            external_id: table.external_id,
            source_identity: table.source_identity,
            additional_actions: table.additional_actions,
        })
    }
}
