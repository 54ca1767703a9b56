//! Operations on repositories: `--list-repositories`, `--create-repository`, `--delete-repository`.

use std::io::ErrorKind;
use std::path::PathBuf;

use ark_container_core::backend::{
    CreateOptions, DeleteOptions, Encryption, Repository, TagMutability,
};
use ark_container_core::model::{OrganizationId, TagPattern};
use ark_container_core::{Error, RegistryBackendExt as _, ResourceKind, decode};
use futures_util::TryStreamExt as _;

use crate::arguments::{PROGRAM, RepositoryArgs, path};
use crate::context::Context;
use crate::failure::{Failure, Stop};
use crate::hint::Attempt;

/// Width of the first column: a GUID and a space.
const ORGANIZATION_WIDTH: usize = OrganizationId::PRINTED_LEN + 1;

/// List the repositories of your organizations
///
/// Prints a table of organization and URL. Use the URL to tag and push images.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    /// List only this organization's repositories; ARK_ORGANIZATION and the configuration file are ignored
    #[arg(long, value_name = "GUID")]
    organization: Option<String>,

    /// On ecr:, scan the whole account even if it has more than 1,000 repositories
    ///
    /// Without this option, the list of such an account comes from the tag index of AWS, and a note says so.
    /// Repositories without the resource tag ark:organization may be missing, and new repositories of other
    /// users. --create-repository adds the tag.
    #[arg(long)]
    all_pages: bool,
}

pub(crate) async fn list(args: ListArgs, context: &Context) -> Result<(), Stop> {
    let organization = match args.organization.as_deref() {
        Some(organization) => context.organization(Some(organization))?,
        None => None,
    };
    let catalog = context.connect_with(|builder| builder.with_full_scan(args.all_pages)).await?;
    let repositories = match organization {
        Some(organization) => catalog.list_in(organization),
        None => catalog.list(),
    };
    let header = format!("{:<ORGANIZATION_WIDTH$}URL", "Organization");
    let row = |repository: &Repository| {
        format!("{} {}", repository.url.path().organization(), repository.url)
    };
    context.output.table(&header, repositories.map_err(Failure::from), row).await?;
    if catalog.has_listed_incompletely() {
        let options = &context.typed_options;
        context.output.note(&format!(
            "the list may be incomplete: it comes from the tag index of AWS, which lacks \
             repositories without the resource tag ark:organization, and for some minutes new \
             repositories of other users; to add the tag: \
             {PROGRAM} --create-repository NAME{options}; to scan the whole account: \
             {PROGRAM} --list-repositories --all-pages{options}"
        ));
    }
    Ok(())
}

const CREATE_EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --create-repository test/repo --organization GUID
  ark-catalog-container-tool --create-repository test/repo --organization GUID \\
      --immutable-tags --except-tags latest --except-tags 'dev-*'

Encryption, scans and lifecycle policies exist only in AWS ECR; a local registry rejects them.";

/// Create a repository, and print its URL
///
/// If the repository exists with the same settings, the operation succeeds, and completes an interrupted
/// creation. On AWS ECR the operation also adds the resource tag ark:organization, which Terraform and the
/// console do not set.
#[derive(Debug, clap::Args)]
#[command(after_long_help = CREATE_EXAMPLES)]
pub(crate) struct CreateArgs {
    #[command(flatten)]
    repository: RepositoryArgs,

    /// Make tags immutable: a tag cannot move to another image
    #[arg(long)]
    immutable_tags: bool,

    /// Give matching tags, such as 'dev-*', the opposite mutability; may be repeated
    ///
    /// With --immutable-tags, only these tags can move. Without --immutable-tags, only these tags cannot.
    #[arg(long = "except-tags", value_name = "PATTERN")]
    except_tags: Vec<String>,

    /// Add a resource tag to the repository; may be repeated
    #[arg(long = "resource-tag", value_name = "KEY=VALUE")]
    resource_tags: Vec<String>,

    /// Encryption of the images: aes256, kms[:KEY] or kms-dsse[:KEY], where KEY is an ARN, id or alias
    #[arg(long, value_name = "HOW", value_parser = parse_encryption)]
    encryption: Option<Encryption>,

    /// Scan each image for vulnerabilities when it is pushed
    #[arg(long)]
    scan_on_push: bool,

    /// File with an ECR lifecycle policy in JSON; requires the permission to delete images
    #[arg(long, value_name = "FILE", value_parser = path())]
    lifecycle_policy: Option<PathBuf>,
}

/// Parses an encryption, in the spelling of the help or of AWS (AES256, KMS and KMS_DSSE).
fn parse_encryption(text: &str) -> Result<Encryption, &'static str> {
    let (kind, key) = match text.split_once(':') {
        Some((kind, key)) if !key.is_empty() => (kind, Some(key.to_owned())),
        Some(_) => ("", None),
        None => (text, None),
    };
    match (kind.to_ascii_lowercase().replace('_', "-").as_str(), key) {
        ("aes256", None) => Ok(Encryption::Aes256),
        ("kms", key) => Ok(Encryption::Kms { key }),
        ("kms-dsse", key) => Ok(Encryption::KmsDsse { key }),
        _ => Err("expected aes256, kms, kms:KEY, kms-dsse or kms-dsse:KEY"),
    }
}

pub(crate) async fn create(args: CreateArgs, context: &Context) -> Result<(), Stop> {
    let options = create_options(&args)?;
    let (catalog, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let repository = match catalog.create_with(&target.name(), &options).await {
        Ok(repository) => repository,
        Err(error) => {
            // The help repeats the options of the existing repository.
            let existing = match &error {
                Error::Conflict { .. } => catalog.describe(&target.name()).await.ok(),
                _ => None,
            };
            let attempt = Attempt::Create { existing: existing.as_ref() };
            return Err(target.explain(attempt, error).into());
        }
    };
    context.output.result(&repository.url.to_string(), &repository)
}

fn create_options(args: &CreateArgs) -> Result<CreateOptions, Failure> {
    let mut options = CreateOptions::default().with_scan_on_push(args.scan_on_push);
    if args.immutable_tags {
        options = options.with_tag_mutability(TagMutability::Immutable);
    }
    for pattern in &args.except_tags {
        let pattern: TagPattern = pattern
            .parse()
            .map_err(|error| Failure::from(Error::Parse(error)).within("--except-tags"))?;
        options = options.with_mutability_exclusion(pattern);
    }
    for tag in &args.resource_tags {
        let (key, value) = match tag.split_once('=') {
            Some((key, value)) if !key.is_empty() => (key, value),
            _ => {
                let problem = format!("--resource-tag: {tag:?} is not KEY=VALUE");
                return Err(Failure::usage(problem));
            }
        };
        if options.resource_tags.contains_key(key) {
            return Err(Failure::usage(format!("--resource-tag: {key:?} is given twice")));
        }
        options = options.with_resource_tag(key, value);
    }
    if let Some(encryption) = &args.encryption {
        options = options.with_encryption(encryption.clone());
    }
    if let Some(path) = &args.lifecycle_policy {
        let file = path.display();
        let content = std::fs::read(path).map_err(|error| match error.kind() {
            ErrorKind::NotFound => Failure::from(Error::not_found(ResourceKind::File, &file)),
            _ => Failure::io(format!("cannot read {file}"), &error),
        });
        let policy = content.and_then(|content| match decode(&content) {
            Ok(text) => Ok(text.to_owned()),
            Err(problem) => Err(Failure::usage(format!("{file} is not JSON: {problem}"))),
        });
        let policy = policy.map_err(|failure| failure.within("--lifecycle-policy"))?;
        options = options.with_lifecycle_policy(policy);
    }
    Ok(options)
}

const DELETE_EXAMPLE: &str = "\
Example:
  ark-catalog-container-tool --delete-repository test/repo --organization GUID";

/// Delete a repository, and print its URL (administrators)
///
/// A repository with images is deleted only with --force.
#[derive(Debug, clap::Args)]
#[command(after_long_help = DELETE_EXAMPLE)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    repository: RepositoryArgs,

    /// Also delete the images, including those in the archive of AWS ECR
    #[arg(long)]
    force: bool,
}

pub(crate) async fn delete(args: DeleteArgs, context: &Context) -> Result<(), Stop> {
    context.refuse_image(&args.repository)?;
    let (catalog, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let options = DeleteOptions::default().with_force(args.force);
    let deleted = catalog.delete_with(&target.name(), &options).await;
    deleted.map_err(|error| target.explain(Attempt::DeleteRepository, error))?;
    let url = catalog.backend().repository_url(&target.path);
    context.output.result(&url.to_string(), &serde_json::json!({ "url": url }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn encryption_is_accepted_as_aws_spells_it() {
        let key = Some("alias/a_B".to_owned());
        for (text, expected) in [
            ("aes256", Encryption::Aes256),
            ("AES256", Encryption::Aes256),
            ("KMS", Encryption::Kms { key: None }),
            ("KMS:alias/a_B", Encryption::Kms { key: key.clone() }),
            ("KMS_DSSE", Encryption::KmsDsse { key: None }),
            ("kms-dsse:alias/a_B", Encryption::KmsDsse { key }),
        ] {
            assert_eq!(parse_encryption(text), Ok(expected), "{text}");
        }
        for invalid in ["", "aes", "AES256:key", "kms:"] {
            assert!(parse_encryption(invalid).is_err(), "{invalid}");
        }
    }
}
