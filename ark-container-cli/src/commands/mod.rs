//! One module for each operation: what it takes, and what it does.

pub(crate) mod check_access;
pub(crate) mod cmake_dir;
pub(crate) mod completions;
pub(crate) mod configure_docker;
pub(crate) mod copy;
pub(crate) mod create_repository;
pub(crate) mod delete_image;
pub(crate) mod delete_repository;
pub(crate) mod iam_policy;
pub(crate) mod list_images;
pub(crate) mod list_repositories;
pub(crate) mod login;
pub(crate) mod logout;
pub(crate) mod man;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod serve;
pub(crate) mod whoami;

use std::collections::{BTreeMap, BTreeSet};

use ark_container_core::backend::{Repository, TagMutability};
use ark_container_core::model::{OrganizationId, RepositoryName, RepositoryUrl, TagPattern};
use serde::Serialize;

use crate::args::{Operation, ProgramOperation};
use crate::connect::Context;
use crate::failure::Stop;
use crate::output::rfc3339;

/// Does what was asked.
pub(crate) async fn run(operation: Operation, context: &Context) -> Result<(), Stop> {
    match operation {
        Operation::ListRepositories(args) => list_repositories::run(args, context).await,
        Operation::CreateRepository(args) => create_repository::run(args, context).await,
        Operation::Login(args) => login::run(args, context).await,
        Operation::Logout(args) => logout::run(args, context).await,
        Operation::Push(args) => push::run(args, context).await,
        Operation::Pull(args) => pull::run(args, context).await,
        Operation::Copy(args) => copy::run(args, context).await,
        Operation::ListImages(args) => list_images::run(args, context).await,
        Operation::DeleteRepository(args) => delete_repository::run(args, context).await,
        Operation::DeleteImage(args) => delete_image::run(args, context).await,
        Operation::Serve(args) => serve::run(args, context).await,
        Operation::Whoami(args) => whoami::run(args, context).await,
        Operation::CheckAccess(args) => check_access::run(args, context).await,
        Operation::IamPolicy(args) => iam_policy::run(args, context),
        Operation::CmakeDir(args) => cmake_dir::run(args, context),
        Operation::ConfigureDocker(args) => configure_docker::run(&args, context),
    }
}

/// Does what was asked of the program itself.
pub(crate) fn run_without_registry(operation: &ProgramOperation) -> Result<(), Stop> {
    match operation {
        ProgramOperation::Completions(args) => completions::run(args),
        ProgramOperation::Complete(args) => completions::complete(args),
        ProgramOperation::Man(args) => man::run(args),
    }
}

/// A repository as programs read it.
#[derive(Debug, Serialize)]
struct RepositoryRecord<'a> {
    organization: OrganizationId,
    name: &'a RepositoryName,
    url: &'a RepositoryUrl,
    created_at: Option<String>,
    tag_mutability: TagMutability,
    mutability_exclusions: &'a BTreeSet<TagPattern>,
    resource_tags: Option<&'a BTreeMap<String, String>>,
}

impl<'a> From<&'a Repository> for RepositoryRecord<'a> {
    fn from(repository: &'a Repository) -> Self {
        let path = repository.url.path();
        Self {
            organization: path.organization(),
            name: path.name(),
            url: &repository.url,
            created_at: repository.created_at.map(rfc3339),
            tag_mutability: repository.tag_mutability,
            mutability_exclusions: &repository.mutability_exclusions,
            resource_tags: repository.resource_tags.as_ref(),
        }
    }
}
