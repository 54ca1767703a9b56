//! The command line as clap reads it: the global options, and an operation with its own.

use std::path::PathBuf;

use ark_container_core::push::LoginScope;
use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::commands::{
    check_access, cmake_dir, completions, configure_docker, copy, create_repository, delete_image,
    delete_repository, iam_policy, list_images, list_repositories, login, logout, man, pull, push,
    serve, whoami,
};
use crate::output::Format;

/// What the program is called, and what its hints tell to type.
pub(crate) const PROGRAM: &str = "ark-catalog-container-tool";

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --list-repositories
  ark-catalog-container-tool --create-repository test/repo --organization GUID
  ark-catalog-container-tool --login test/repo --organization GUID \\
      | docker login --username AWS --password-stdin HOST
  ark-catalog-container-tool --push test/repo:v1 --from oci:DIR --organization GUID

HOST is the part of the repository's URL before the first slash.

Settings, strongest first: option, environment variable, $XDG_CONFIG_HOME/ark/container.toml with
the keys registry, registries, organization, output, memberships and audit_file; for tokens the table [identity]
with the keys token_file, key_set, audience, issuer and claims; and for AWS the table [ecr] with the
keys profile, role_arn, administrator_role_arn, require_scoped and repository_policy
[env: ARK_AUDIT_FILE, ARK_JWT_FILE, ARK_KEY_SET, ARK_JWT_AUDIENCE, AWS_PROFILE, ARK_ROLE_ARN,
ARK_ADMINISTRATOR_ROLE_ARN, ARK_REQUIRE_SCOPED].

Exit codes: 0 done, 1 other, 2 usage, 3 not authenticated, 4 not permitted, 5 not found,
6 conflict, 7 temporary (try again).";

/// Lists, creates, logs in to and uploads to your organizations' container repositories.
#[derive(Debug, Parser)]
#[command(
    name = PROGRAM,
    version,
    after_long_help = EXAMPLES,
    override_usage = "ark-catalog-container-tool <OPERATION> [OPTIONS]",
    subcommand_value_name = "OPERATION",
    subcommand_help_heading = "Operations, with or without the two hyphens",
    disable_help_subcommand = true,
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: GlobalOptions,
    #[command(subcommand)]
    pub(crate) operation: Option<AnyOperation>,
}

/// All that can be typed as an operation.
#[derive(Debug, Subcommand)]
pub(crate) enum AnyOperation {
    #[command(flatten)]
    Registry(Operation),
    #[command(flatten)]
    Program(ProgramOperation),
}

/// What every operation takes.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalOptions {
    /// Where the repositories are: ecr://HOST/STAGE or local:[DIR] [env: ARK_REGISTRY]
    ///
    /// The default is local:, a folder of this machine below $XDG_DATA_HOME.
    #[arg(long, global = true, value_name = "LOCATION")]
    pub(crate) registry: Option<String>,

    /// How to print results and errors [env: ARK_OUTPUT] [default: table]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,

    /// Print results and errors only
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Tell on standard error what is being done
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,

    /// Who is a member of which organization [env: ARK_MEMBERSHIPS]
    ///
    /// The default on local: is the file memberships.toml in the registry's folder, if it exists.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) memberships: Option<PathBuf>,

    /// On ecr:, the profile of the AWS configuration [env: AWS_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// On ecr:, the region; it can only agree with the registry's host
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) region: Option<String>,
}

/// What to do with a registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    #[command(long_flag = "list-repositories")]
    ListRepositories(list_repositories::Args),
    #[command(long_flag = "create-repository")]
    CreateRepository(create_repository::Args),
    #[command(long_flag = "login")]
    Login(login::Args),
    #[command(long_flag = "logout")]
    Logout(logout::Args),
    #[command(long_flag = "push")]
    Push(push::Args),
    #[command(long_flag = "pull")]
    Pull(pull::Args),
    #[command(long_flag = "copy")]
    Copy(copy::Args),
    #[command(long_flag = "list-images")]
    ListImages(list_images::Args),
    #[command(long_flag = "delete-repository")]
    DeleteRepository(delete_repository::Args),
    #[command(long_flag = "delete-image")]
    DeleteImage(delete_image::Args),
    #[command(long_flag = "serve")]
    Serve(serve::Args),
    #[command(long_flag = "whoami")]
    Whoami(whoami::Args),
    #[command(long_flag = "check-access")]
    CheckAccess(check_access::Args),
    #[command(long_flag = "iam-policy")]
    IamPolicy(iam_policy::Args),
    #[command(long_flag = "cmake-dir")]
    CmakeDir(cmake_dir::Args),
    #[command(long_flag = "configure-docker")]
    ConfigureDocker(configure_docker::Args),
}

/// What to do with the program itself, for which neither settings nor a registry are needed.
#[derive(Debug, Subcommand)]
pub(crate) enum ProgramOperation {
    #[command(long_flag = "completions")]
    Completions(completions::Args),
    #[command(long_flag = "complete", hide = true)]
    Complete(completions::CompleteArgs),
    #[command(long_flag = "man")]
    Man(man::Args),
}

/// The organization that a repository belongs to.
#[derive(Debug, Args)]
pub(crate) struct OrganizationArgs {
    /// The organization's GUID [env: ARK_ORGANIZATION]
    #[arg(long, value_name = "GUID")]
    pub(crate) organization: Option<String>,
}

/// A repository of an organization.
#[derive(Debug, Args)]
pub(crate) struct RepositoryArgs {
    /// The repository's name, such as catalog/extract-video
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) owner: OrganizationArgs,
}

/// How far the login goes that an upload is done with.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// How far the login goes that is asked for: one for an organization serves all that upload to it
    #[arg(long, value_name = "SCOPE", default_value = "repository")]
    login_scope: LoginScopeArg,
}

/// [`LoginScope`] as it is typed.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum LoginScopeArg {
    /// To this repository alone
    Repository,
    /// To every repository of the organization
    Organization,
}

impl LoginArgs {
    pub(crate) fn scope(&self) -> LoginScope {
        match self.login_scope {
            LoginScopeArg::Repository => LoginScope::Repository,
            LoginScopeArg::Organization => LoginScope::Organization,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_one_that_clap_accepts() {
        Cli::command().debug_assert();
    }
}
