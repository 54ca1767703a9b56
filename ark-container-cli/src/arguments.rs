//! Definition of the command line for clap: the global options and the operations.

use std::ffi::OsString;
use std::path::PathBuf;

use ark_container_core::Error;
use ark_container_core::catalog::expand_home;
use ark_container_core::transfer::LoginScope;
use clap::builder::{
    PathBufValueParser, PossibleValue, PossibleValuesParser, StringValueParser, TypedValueParser,
};
use clap::{Args, Command, Parser, Subcommand};

use crate::commands::{
    access, cmake_dir, deployment, docker, images, inspect, login, manual, repositories, transfers,
};
use crate::completion;
use crate::failure::Failure;
use crate::output::Format;

/// Name of the program.
pub(crate) const PROGRAM: &str = "ark-catalog-container-tool";

/// Separator after which every word is an operand.
pub(crate) const END_OF_OPTIONS: &str = "--";

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --list-repositories
  ark-catalog-container-tool --create-repository test/repo --organization GUID
  ark-catalog-container-tool --login test/repo --organization GUID \\
      | docker login --username AWS --password-stdin HOST
  ark-catalog-container-tool --push test/repo:v1 --from oci:DIR --organization GUID

HOST is the part of the repository's URL before the first slash.

An option overrides an environment variable, and a variable overrides the configuration file
$XDG_CONFIG_HOME/ark/container.toml. The file has the keys registry, registries, organization,
output, memberships and audit_file; the table [identity] for tokens, with the keys token_file,
key_set, audience, issuer and claims; and the table [ecr] for AWS, with the keys profile, role_arn,
administrator_role_arn, require_scoped, external_id, source_identity, additional_actions and
repository_policy
[env: ARK_AUDIT_FILE, ARK_JWT_FILE, ARK_KEY_SET, ARK_JWT_AUDIENCE, AWS_PROFILE, ARK_ROLE_ARN,
ARK_ADMINISTRATOR_ROLE_ARN, ARK_REQUIRE_SCOPED].

Exit codes: 0 success, 1 other failure, 2 usage, 3 not authenticated, 4 not permitted,
5 not found, 6 conflict, 7 temporary (try again).";

/// Manages your organizations' container repositories, in AWS ECR or in a local registry.
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

/// An operation on a registry or on the program itself.
#[derive(Debug, Subcommand)]
pub(crate) enum AnyOperation {
    #[command(flatten)]
    Registry(Operation),
    #[command(flatten)]
    Program(ProgramOperation),
}

/// Options of every operation.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct GlobalOptions {
    /// Registry: ecr://HOST/STAGE or local:[DIR] [env: ARK_REGISTRY]
    ///
    /// The default is local:, a folder on this machine below $XDG_DATA_HOME.
    #[arg(long, global = true, value_name = "LOCATION")]
    pub(crate) registry: Option<String>,

    /// Format of results and errors [env: ARK_OUTPUT] [default: table]
    #[arg(long, global = true, value_name = "FORMAT")]
    pub(crate) output: Option<Format>,

    /// Print only results, errors, and the warning that a password reaches a whole account
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,

    /// Print a log on standard error
    #[arg(long, short, global = true)]
    pub(crate) verbose: bool,

    /// File with the members of each organization [env: ARK_MEMBERSHIPS]
    ///
    /// The default on local: is the file memberships.toml in the registry's folder, if it exists.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) memberships: Option<PathBuf>,

    /// Profile of the AWS configuration, on ecr: only [env: AWS_PROFILE]
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,

    /// Region, on ecr: only; must be the region of the registry's host
    #[arg(long, global = true, value_name = "REGION")]
    pub(crate) region: Option<String>,
}

/// Operations on a registry.
#[derive(Debug, Subcommand)]
pub(crate) enum Operation {
    #[command(long_flag = "list-repositories")]
    ListRepositories(repositories::ListArgs),
    #[command(long_flag = "create-repository")]
    CreateRepository(repositories::CreateArgs),
    #[command(long_flag = "login")]
    Login(login::LoginArgs),
    #[command(long_flag = "logout")]
    Logout(login::LogoutArgs),
    #[command(long_flag = "push")]
    Push(transfers::PushArgs),
    #[command(long_flag = "pull")]
    Pull(transfers::PullArgs),
    #[command(long_flag = "copy")]
    Copy(transfers::CopyArgs),
    #[command(long_flag = "list-images")]
    ListImages(images::ListArgs),
    #[command(long_flag = "inspect")]
    Inspect(inspect::Args),
    #[command(long_flag = "tag")]
    Tag(images::TagArgs),
    #[command(long_flag = "delete-repository")]
    DeleteRepository(repositories::DeleteArgs),
    #[command(long_flag = "delete-image")]
    DeleteImage(images::DeleteArgs),
    #[command(long_flag = "prune-images")]
    PruneImages(images::PruneArgs),
    #[command(long_flag = "serve")]
    Serve(deployment::ServeArgs),
    #[command(long_flag = "whoami")]
    Whoami(access::WhoamiArgs),
    #[command(long_flag = "check-access")]
    CheckAccess(access::CheckAccessArgs),
    #[command(long_flag = "iam-policy")]
    IamPolicy(deployment::IamPolicyArgs),
    #[command(long_flag = "cmake-dir")]
    CmakeDir(cmake_dir::Args),
    #[command(long_flag = "configure-docker")]
    ConfigureDocker(docker::Args),
}

/// Operations on the program itself, which need neither settings nor a registry.
#[derive(Debug, Subcommand)]
pub(crate) enum ProgramOperation {
    #[command(long_flag = "completions")]
    Completions(completion::ScriptArgs),
    #[command(long_flag = "complete", hide = true)]
    Complete(completion::CompleteArgs),
    #[command(long_flag = "man")]
    Man(manual::Args),
}

/// The organization that a repository belongs to.
#[derive(Debug, Args)]
pub(crate) struct OrganizationArgs {
    /// GUID of the organization [env: ARK_ORGANIZATION]
    #[arg(long, value_name = "GUID")]
    pub(crate) organization: Option<String>,
}

/// A repository of an organization.
#[derive(Debug, Args)]
pub(crate) struct RepositoryArgs {
    /// Name (such as catalog/extract-video), path or URL of the repository
    #[arg(value_name = "NAME")]
    pub(crate) name: String,

    #[command(flatten)]
    pub(crate) owner: OrganizationArgs,
}

/// The login of a transfer.
#[derive(Debug, Args)]
pub(crate) struct LoginScopeArgs {
    /// Scope of the login; other transfers can reuse a login for the organization
    #[arg(long, value_name = "SCOPE", default_value = "repository", value_parser = login_scope())]
    pub(crate) login_scope: LoginScope,
}

fn login_scope() -> impl TypedValueParser<Value = LoginScope> {
    one_of([
        (LoginScope::Repository, "repository", "This repository only"),
        (LoginScope::Organization, "organization", "Every repository of the organization"),
    ])
}

/// Returns a parser of values, each given with its name and help.
pub(crate) fn one_of<T: Copy + Send + Sync + 'static, const N: usize>(
    values: [(T, &'static str, &'static str); N],
) -> impl TypedValueParser<Value = T> {
    let names = values.map(|(_, name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(names).try_map(move |typed| {
        let value = values.iter().find(|(_, name, _)| *name == typed);
        value.map(|(value, ..)| *value).ok_or("unknown value")
    })
}

/// Returns a parser of paths that expands `~` to the home folder.
pub(crate) fn path() -> impl TypedValueParser<Value = PathBuf> {
    PathBufValueParser::new().try_map(expand_home)
}

/// Returns a parser of image sources and targets with a path, such as `oci:~/image`.
pub(crate) fn image_location() -> impl TypedValueParser<Value = String> {
    StringValueParser::new().try_map(|text| match text.split_once(':') {
        Some((prefix @ ("oci" | "oci-archive" | "docker-archive"), path)) => {
            let path = expand_home(path.into())?;
            Ok::<_, Error>(format!("{prefix}:{}", path.display()))
        }
        _ => Ok(text),
    })
}

/// Returns the command line with the operation first, and the operand of `--operation=OPERAND` last.
///
/// clap accepts the options of an operation only after it, but the documentation writes the operation as a
/// flag among them. Words before the flag move behind the other options.
///
/// # Errors
/// A usage error if two operations are given as flags.
pub(crate) fn operation_first(
    command: &Command,
    mut argv: Vec<OsString>,
) -> Result<Vec<OsString>, Failure> {
    let end = argv.iter().position(|word| word == END_OF_OPTIONS).unwrap_or(argv.len());
    let flags = argv.iter().enumerate().take(end).skip(1).filter_map(|(index, word)| {
        let long = word.to_str()?.strip_prefix("--")?;
        let (name, operand) = match long.split_once('=') {
            Some((name, operand)) => (name, Some(OsString::from(operand))),
            None => (long, None),
        };
        let operation = command.get_subcommands().find(|operation| operation.get_name() == name)?;
        Some((index, operation.get_name(), operand))
    });
    let mut flags = flags.collect::<Vec<_>>().into_iter();
    let Some((index, operation, operand)) = flags.next() else { return Ok(argv) };
    if let Some((_, second, _)) = flags.next() {
        return Err(match second == operation {
            true => Failure::usage(format!("--{operation} is given twice")),
            false => {
                Failure::usage(format!("two operations are given: --{operation} and --{second}"))
                    .with_help("run each operation in a command of its own")
            }
        });
    }
    argv[index] = operation.into();
    argv[1..end].rotate_left(index - 1);
    if let Some(operand) = operand {
        argv.splice(end..argv.len().min(end + 1), [END_OF_OPTIONS.into(), operand]);
    }
    Ok(argv)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn reordered(line: &str) -> String {
        let argv = std::iter::once("tool").chain(line.split_whitespace()).map(OsString::from);
        let words = operation_first(&Cli::command(), argv.collect()).unwrap();
        let words: Vec<&str> = words[1..].iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn definition_is_accepted_by_clap() {
        let command = Cli::command();
        command.clone().debug_assert();
        for operation in command.get_subcommands() {
            assert_eq!(operation.get_long_flag(), Some(operation.get_name()));
        }
    }

    #[test]
    fn operation_flag_moves_to_the_front() {
        for (line, expected) in [
            ("--login a/b --organization G", "login a/b --organization G"),
            ("--organization G --login a/b", "login a/b --organization G"),
            ("--organization --login a", "login a --organization"),
            ("--login=a/b --access pull", "login --access pull -- a/b"),
            ("--quiet --login=a/b", "login --quiet -- a/b"),
            ("--login=a/b -- c", "login -- a/b c"),
            ("--login=--quiet", "login -- --quiet"),
            ("--login -- --push", "login -- --push"),
            ("--quiet -- --login a", "--quiet -- --login a"),
            ("", ""),
            ("--help", "--help"),
            ("--lgoin a --quiet", "--lgoin a --quiet"),
        ] {
            assert_eq!(reordered(line), expected, "{line}");
        }
    }
}
