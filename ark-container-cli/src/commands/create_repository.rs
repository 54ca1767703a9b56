//! `--create-repository`: creates a repository, and prints what to push to.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::str::FromStr;

use ark_container_core::backend::{CreateOptions, Encryption, TagMutability};
use ark_container_core::model::TagPattern;
use ark_container_core::{Error, RegistryBackend as _, ResourceKind};

use super::RepositoryRecord;
use crate::args::RepositoryArgs;
use crate::connect::Context;
use crate::failure::{Failure, Stop};
use crate::hint::Attempt;

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --create-repository test/repo --organization GUID
  ark-catalog-container-tool --create-repository test/repo --organization GUID \\
      --immutable-tags --except-tags latest --except-tags 'dev-*'

Encryption, scans and lifecycle policies are AWS ECR's; a registry in a folder refuses them.";

/// Create a repository, and print its URL
///
/// A repository that exists with the same settings is left as it is: the same command again succeeds,
/// and finishes what was interrupted.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    #[command(flatten)]
    repository: RepositoryArgs,

    /// Keep each tag where it was first pushed
    #[arg(long)]
    immutable_tags: bool,

    /// Tags for which it is the other way round, such as 'dev-*'; may be repeated
    ///
    /// With --immutable-tags these can be moved; without it these alone cannot.
    #[arg(long = "except-tags", value_name = "PATTERN")]
    except_tags: Vec<String>,

    /// Put a resource tag on the repository; may be repeated
    #[arg(long = "resource-tag", value_name = "KEY=VALUE")]
    resource_tags: Vec<String>,

    /// Encrypt its images: aes256, kms or kms:KEY, where KEY is an ARN, id or alias
    #[arg(long, value_name = "HOW")]
    encryption: Option<EncryptionArg>,

    /// Scan each image for vulnerabilities when it is pushed
    #[arg(long)]
    scan_on_push: bool,

    /// Which images expire: a file with an ECR lifecycle policy in JSON
    #[arg(long, value_name = "FILE")]
    lifecycle_policy: Option<PathBuf>,
}

/// [`Encryption`] as it is typed.
#[derive(Debug, Clone)]
struct EncryptionArg(Encryption);

impl FromStr for EncryptionArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let encryption = match text.split_once(':') {
            None if text == "aes256" => Encryption::Aes256,
            None if text == "kms" => Encryption::Kms { key: None },
            Some(("kms", key)) if !key.is_empty() => Encryption::Kms { key: Some(key.to_owned()) },
            _ => return Err("expected aes256, kms or kms:KEY"),
        };
        Ok(Self(encryption))
    }
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let options = options(&args)?;
    let (connection, target) =
        context.connect_to(&args.repository.name, &args.repository.owner).await?;
    let repository = match connection.backend.create_repository(&target.path, &options).await {
        Ok(repository) => repository,
        Err(error @ Error::Conflict { .. }) => {
            // What is in the way tells how to ask for it.
            let existing = connection.backend.describe_repository(&target.path).await.ok();
            let attempt = Attempt::Create { existing: existing.as_ref() };
            return Err(target.explain(attempt, error).into());
        }
        Err(error) => return Err(target.explain(Attempt::Create { existing: None }, error).into()),
    };
    context.output.result(&repository.url.to_string(), &RepositoryRecord::from(&repository))
}

fn options(args: &Args) -> Result<CreateOptions, Failure> {
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
    if let Some(EncryptionArg(encryption)) = &args.encryption {
        options = options.with_encryption(encryption.clone());
    }
    if let Some(path) = &args.lifecycle_policy {
        let policy = std::fs::read_to_string(path).map_err(|error| {
            let file = path.display();
            match error.kind() {
                ErrorKind::NotFound => Failure::from(Error::not_found(ResourceKind::File, file)),
                _ => Failure::io(format!("cannot read {file}"), &error),
            }
            .within("--lifecycle-policy")
        })?;
        options = options.with_lifecycle_policy(policy);
    }
    Ok(options)
}
