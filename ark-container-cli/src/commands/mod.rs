//! The operations, grouped by topic: the arguments and the implementation of each.

pub(crate) mod access;
pub(crate) mod cmake_dir;
pub(crate) mod deployment;
pub(crate) mod docker;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod login;
pub(crate) mod manual;
pub(crate) mod repositories;
pub(crate) mod transfers;

use crate::arguments::{Operation, ProgramOperation};
use crate::completion;
use crate::context::Context;
use crate::failure::Stop;

/// Runs an operation on a registry.
pub(crate) async fn run(operation: Operation, context: &Context) -> Result<(), Stop> {
    match operation {
        Operation::ListRepositories(args) => repositories::list(args, context).await,
        Operation::CreateRepository(args) => repositories::create(args, context).await,
        Operation::Login(args) => login::login(args, context).await,
        Operation::Logout(args) => login::logout(args, context).await,
        Operation::Push(args) => transfers::push(args, context).await,
        Operation::Pull(args) => transfers::pull(args, context).await,
        Operation::Copy(args) => transfers::copy(args, context).await,
        Operation::ListImages(args) => images::list(args, context).await,
        Operation::Inspect(args) => inspect::run(args, context).await,
        Operation::Tag(args) => images::tag(args, context).await,
        Operation::DeleteRepository(args) => repositories::delete(args, context).await,
        Operation::DeleteImage(args) => images::delete(args, context).await,
        Operation::PruneImages(args) => images::prune(args, context).await,
        Operation::Serve(args) => deployment::serve(args, context).await,
        Operation::Whoami(args) => access::whoami(args, context).await,
        Operation::CheckAccess(args) => access::check_access(args, context).await,
        Operation::IamPolicy(args) => deployment::iam_policy(args, context),
        Operation::CmakeDir(args) => cmake_dir::run(args, context),
        Operation::ConfigureDocker(args) => docker::run(&args, context),
    }
}

/// Runs an operation on the program itself.
pub(crate) fn run_without_registry(operation: &ProgramOperation) -> Result<(), Stop> {
    match operation {
        ProgramOperation::Completions(args) => completion::print_script(args),
        ProgramOperation::Complete(args) => completion::complete(args),
        ProgramOperation::Man(args) => manual::run(args),
    }
}
