//! Help for failures: the next command, for each operation and each kind of error.

use ark_container_core::backend::ecr::AwsRefusal;
use ark_container_core::backend::{Repository, TagMutability};
use ark_container_core::catalog::{ChosenIdentity, Origin, Settings, organization_of};
use ark_container_core::model::{ImageReference, ParseError, Reference, RepositoryPath};
use ark_container_core::{Catalog, Error, RegistryBackendExt as _, ResourceKind, quote_for_shell};

use crate::arguments::PROGRAM;
use crate::failure::{Failure, Kind};

/// Help for a denial by the policy.
pub(crate) const DENIED_BY_POLICY: &str = "an administrator of the organization can do it or add \
    you; ark-catalog-container-tool --whoami shows your identity and organizations";

/// Help for a denial by AWS.
pub(crate) const DENIED_BY_AWS: &str = "an administrator of the AWS account can grant it; \
    ark-catalog-container-tool --whoami shows your AWS identity";

/// Returns the help for an AWS error that neither the caller nor the request caused.
///
/// Source: the errors of CreateRepository in the service model of ECR and of AssumeRoleWithWebIdentity in that
/// of STS, and <https://docs.aws.amazon.com/AmazonECR/latest/userguide/encryption-at-rest.html>
pub(crate) fn refused_by_aws(refusal: &AwsRefusal) -> Option<&'static str> {
    match refusal.code() {
        "LimitExceededException" => Some(
            "delete unused repositories or images, or request a higher quota; to list the quotas: \
             aws service-quotas list-service-quotas --service-code ecr",
        ),
        "KmsException" => Some(
            "use a key that is enabled, in the registry's region, and permitted to you; to check \
             it: aws kms describe-key --key-id KEY",
        ),
        "UnableToGetUpstreamImageException" | "UnableToGetUpstreamLayerException" => Some(
            "check the credentials of the pull-through cache rule: \
             aws ecr validate-pull-through-cache-rule --ecr-repository-prefix PREFIX",
        ),
        "RegionDisabledException" => Some(
            "ask an administrator of the AWS account to activate STS in the region: IAM console, \
             Account settings, Endpoints",
        ),
        "PackedPolicyTooLarge" => Some(
            "configure the identity provider to write fewer tags into the token, for example with \
             one token for each organization",
        ),
        _ => None,
    }
}

/// Help for credentials of AWS that are not narrowed.
pub(crate) const TO_NARROW: &str = "to narrow it, set a role that can be assumed: role_arn in the \
    table [ecr] of the configuration file, or ARK_ROLE_ARN";

/// Help for a token on AWS without a role.
pub(crate) const TO_USE_A_TOKEN: &str = "set the role for your tokens: role_arn in the table \
    [ecr] of the configuration file, or ARK_ROLE_ARN";

/// Help for a missing or expired token.
const TO_GET_A_TOKEN: &str = "run `ark-auth-tool -u <user>`";

/// Returns an example of a valid text, or `None` if the error is sufficient.
pub(crate) fn example_of(error: &ParseError) -> Option<&'static str> {
    match error.what() {
        "organization GUID" => Some("your organizations: ark-catalog-container-tool --whoami"),
        "repository name" => {
            Some("use lower-case words separated by slashes, such as catalog/extract-video")
        }
        "ECR host" => Some("for example: ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod"),
        "ARN of a role" => Some("for example: arn:aws:iam::123456789012:role/NAME"),
        "tag pattern" => {
            Some("use letters, digits, '_', '.', '-' and up to two '*', such as 'dev-*'")
        }
        "tag" => Some("use letters, digits, '_', '.' and '-', such as v1.2"),
        "principal" | "principal kind" => {
            Some("for example: user:alice, robot:nightly or ingest-job:42")
        }
        "registry location" | "registry host" | "stage" => {
            Some("for example: local:, local:/srv/registry or ecr://HOST/prod")
        }
        _ => None,
    }
}

/// Returns the failure of a name, path or URL that is not a repository of the catalog.
pub(crate) fn for_name(text: &str, catalog: &Catalog, error: Error) -> Failure {
    if !matches!(error, Error::InvalidInput { .. }) {
        return error.into();
    }
    let failure = Failure::from(error);
    if let Ok(Some(_)) = organization_of(text) {
        failure.with_help("choose its registry: --registry LOCATION, or ARK_REGISTRY")
    } else if let (Ok(name), Some(organization)) = (text.parse(), catalog.organization())
        && let Ok(path) = catalog.backend().repository_path(organization, &name)
    {
        // The name starts with a component that looks like a host.
        failure.with_help(format!("if this is a name, use the path: {path}"))
    } else {
        failure
    }
}

/// The values of `--from`.
const SOURCES: &str = "--from takes docker-daemon:REF, podman:REF, docker-archive:FILE[:REF] (an \
    archive of docker save), oci:DIR[:REF] (a folder in the OCI image layout), \
    oci-archive:FILE[:REF] or -";

/// An operation on a repository, with the data for its help.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Attempt<'a> {
    Create { existing: Option<&'a Repository> },
    Login,
    Push { source: &'a str },
    Pull,
    Copy,
    Tag,
    ListImages,
    DeleteRepository,
    DeleteImage,
}

/// The repository of an operation, and the options that choose registry and identity.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) path: RepositoryPath,
    pub(crate) typed_options: String,
}

impl Target {
    /// Returns the name for calls of the catalog: the path, which includes the organization.
    pub(crate) fn name(&self) -> String {
        self.path.to_string()
    }

    /// Returns the command for another operation on this repository, such as `login`.
    pub(crate) fn command(&self, operation: &str) -> String {
        self.command_with(&format!("{operation} {}", self.path.name()))
    }

    /// Returns the name of an image for calls of the catalog. A URL would be rejected if the address of a local
    /// registry changed in the meantime.
    pub(crate) fn image(&self, reference: &Reference) -> String {
        format!("{}{}{reference}", self.path, reference.separator())
    }

    fn command_with(&self, arguments: &str) -> String {
        let (organization, options) = (self.path.organization(), &self.typed_options);
        format!("{PROGRAM} --{arguments} --organization {organization}{options}")
    }

    /// Returns the failure of an operation, with the next command if there is one.
    pub(crate) fn explain(&self, attempt: Attempt<'_>, error: Error) -> Failure {
        let help = match &error {
            Error::NotFound { kind, .. } => self.help_on_missing(attempt, *kind),
            Error::Conflict { .. } => self.help_on_conflict(attempt),
            _ => None,
        };
        let failure = Failure::from(error);
        match help {
            Some(help) => failure.with_help(help),
            None => failure,
        }
    }

    fn help_on_missing(&self, attempt: Attempt<'_>, missing: ResourceKind) -> Option<String> {
        match (missing, attempt) {
            (ResourceKind::Repository, Attempt::Login | Attempt::Push { .. } | Attempt::Copy) => {
                Some(format!("create it: {}", self.command("create-repository")))
            }
            (ResourceKind::Repository, _) => {
                Some(format!("list the repositories: {}", self.command_with("list-repositories")))
            }
            (ResourceKind::Image, Attempt::DeleteImage | Attempt::Pull | Attempt::Tag) => {
                Some(format!("list the images: {}", self.command("list-images")))
            }
            (ResourceKind::File, Attempt::Push { .. }) => Some(SOURCES.to_owned()),
            _ => None,
        }
    }

    fn help_on_conflict(&self, attempt: Attempt<'_>) -> Option<String> {
        let name = self.path.name();
        Some(match attempt {
            Attempt::Create { existing: Some(existing) } => {
                let (create, options) = (self.command("create-repository"), options_of(existing));
                format!("its settings are not changed; to accept them: {create}{options}")
            }
            Attempt::DeleteRepository => {
                format!("delete its images too: {} --force", self.command("delete-repository"))
            }
            Attempt::Push { source } => {
                let push = format!("push {name}:TAG --from {}", quote_for_shell(source));
                format!("push it under another tag: {}", self.command_with(&push))
            }
            Attempt::Copy => format!("copy it under another tag: --to {name}:TAG"),
            Attempt::Tag => {
                format!("choose a tag that is not in use: {}", self.command("list-images"))
            }
            Attempt::DeleteImage => {
                format!("first delete the images that refer to it: {}", self.command("list-images"))
            }
            _ => return None,
        })
    }
}

/// Returns the options that create a repository with the tag mutability of `existing`.
fn options_of(existing: &Repository) -> String {
    let mut options = match existing.tag_mutability {
        TagMutability::Immutable => " --immutable-tags".to_owned(),
        _ => String::new(),
    };
    for filter in &existing.mutability_exclusions {
        options.push_str(" --except-tags ");
        options.push_str(&quote_for_shell(filter.as_str()));
    }
    options
}

/// Adds the help that depends on the identity of the caller.
pub(crate) fn for_identity(
    failure: Failure,
    identity: &ChosenIdentity,
    settings: &Settings,
) -> Failure {
    match (identity, failure.kind()) {
        (ChosenIdentity::Token { is_named: false, .. }, Kind::NotAuthenticated) => {
            failure.with_help(TO_GET_A_TOKEN)
        }
        (ChosenIdentity::Token { file, origin, .. }, Kind::NotAuthenticated) => {
            failure.with_help(format!(
                "write a new token to {}; or remove the setting of this file ({origin}), and \
                 {TO_GET_A_TOKEN}",
                file.display(),
            ))
        }
        (ChosenIdentity::Token { .. }, Kind::NotPermitted) => failure.and_help(&format!(
            "a token has the memberships of the time when it was issued; for a new one, \
             {TO_GET_A_TOKEN}"
        )),
        // The error itself names the command that renews a session.
        (ChosenIdentity::AwsCaller { origin }, Kind::NotAuthenticated) => {
            let profile = "for the AWS credentials of another profile: --profile NAME, or \
                           AWS_PROFILE";
            match (origin, settings.role_arn()) {
                (Origin::Default, Some(_)) => {
                    failure.or_help(&format!("to use a token instead: {TO_GET_A_TOKEN}\n{profile}"))
                }
                (Origin::Default, None) => failure.or_help(&format!(
                    "to use a token instead: {TO_GET_A_TOKEN}, and {TO_USE_A_TOKEN}\n{profile}"
                )),
                _ => failure.or_help(profile),
            }
        }
        _ => failure,
    }
}

/// The origin of an image.
pub(crate) enum ImageOrigin {
    Repository(Target),
    /// Any other registry.
    Registry(ImageReference),
}

impl ImageOrigin {
    /// Returns whether the error is about this image, and not about the target of the copy.
    pub(crate) fn is_about(&self, error: &Error) -> bool {
        match self {
            Self::Repository(target) => {
                let path = target.path.to_string();
                let is_path = |name: &str| {
                    let rest = name.rsplit_once(&path).map(|(_, rest)| rest);
                    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with([':', '@']))
                };
                matches!(error, Error::NotFound { name, .. } if is_path(name))
            }
            Self::Registry(image) => {
                error.to_string().contains(&format!("{}/{}", image.host(), image.repository()))
            }
        }
    }

    /// Returns the failure to read the image.
    pub(crate) fn explain(&self, error: Error) -> Failure {
        let image = match self {
            Self::Repository(target) => return target.explain(Attempt::Pull, error),
            Self::Registry(image) => image,
        };
        let failure = Failure::from(error);
        match failure.kind() {
            Kind::NotAuthenticated | Kind::NotPermitted => {
                failure.with_help(format!("log in to the registry: docker login {}", image.host()))
            }
            _ => failure,
        }
    }
}
