//! What the roles may do.

use super::IamDeployment;
use super::document::{PolicyDocument, Statement};
use super::tags::{Family, KIND, USER};
use crate::backend::ecr::index::ORGANIZATION_TAG;
use crate::backend::ecr::session_policy::{LOGIN, registry_actions};
use crate::model::{Access, OrganizationId};

/// It lists the tagged resources of an account, and knows no narrower resource.
///
/// Source: <https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonresourcegrouptaggingapi.html>
const INDEX: &str = "tag:GetResources";

/// What one may look at beside images themselves.
///
/// Repositories are described by their names, which the index gives. Without names the account would be
/// listed whole, and nobody's role allows that.
const LOOK: [&str; 3] =
    ["ecr:DescribeImages", "ecr:DescribeRepositories", "ecr:ListTagsForResource"];

/// Tags that are given with a creation need the second one.
///
/// Source: <https://docs.aws.amazon.com/AmazonECR/latest/userguide/ecr-supported-iam-actions-tagging.html>
const CREATE: [&str; 2] = ["ecr:CreateRepository", "ecr:TagResource"];

/// What follows a creation.
const LIFECYCLE: [&str; 2] = ["ecr:GetLifecyclePolicy", "ecr:PutLifecyclePolicy"];
const REPOSITORY_POLICY: [&str; 2] = ["ecr:GetRepositoryPolicy", "ecr:SetRepositoryPolicy"];

const DELETE_REPOSITORY: &str = "ecr:DeleteRepository";

/// Of the access role: whoever is a member reads, and users also create and push.
pub(super) fn of_access_role(deployment: &IamDeployment) -> PolicyDocument {
    let IamDeployment { host, stage, .. } = deployment;
    let own = Family::Organization.repositories(host, stage);
    let global = host.repository_arn_like(format_args!("{stage}/{}/*", OrganizationId::GLOBAL));
    let is_user = |statement: Statement| {
        statement.when("StringEquals", format!("aws:PrincipalTag/{KIND}"), [USER])
    };
    let read: Vec<&str> = registry_actions(Access::Pull).chain(LOOK).collect();
    let change: Vec<&str> = push(deployment).collect();

    let mut readable = own.clone();
    readable.push(global.clone());
    let mut statements = vec![
        Statement::allow([LOGIN, INDEX]).called("LogInAndAskTheIndex").on(everything()),
        Statement::allow(read).called("Read").on(readable),
        is_user(Statement::allow(change.clone()).called("Push").on(own)),
    ];
    statements.extend(creations(deployment, Family::Organization).map(is_user));
    // Whatever the token says its organizations are.
    let denied: Vec<&str> = CREATE.into_iter().chain(change).collect();
    statements.push(Statement::deny(denied).called("LeaveGlobalToAdministrators").on([global]));
    PolicyDocument::new(statements)
}

/// Of the administrator's role: everything with the repositories of what one administers, apart from
/// looking at them, which is done under the access role.
pub(super) fn of_administrator_role(deployment: &IamDeployment) -> PolicyDocument {
    let IamDeployment { host, stage, .. } = deployment;
    let administered = Family::Administers.repositories(host, stage);
    let actions: Vec<&str> = registry_actions(Access::Delete)
        .chain(after_creation(deployment))
        .chain([DELETE_REPOSITORY])
        .collect();
    let mut statements = vec![
        Statement::allow([LOGIN]).called("LogIn").on(everything()),
        Statement::allow(actions).called("Administer").on(administered),
    ];
    statements.extend(creations(deployment, Family::Administers));
    PolicyDocument::new(statements)
}

/// What changes a repository that exists.
pub(super) fn changes() -> Vec<&'static str> {
    let change = registry_actions(Access::Delete).filter(|action| !is_pull(action));
    change.chain(LIFECYCLE).chain(REPOSITORY_POLICY).chain([CREATE[1], DELETE_REPOSITORY]).collect()
}

/// What a push adds to a pull, and what finishes a creation.
fn push(deployment: &IamDeployment) -> impl Iterator<Item = &'static str> {
    let push = registry_actions(Access::Push).filter(|action| !is_pull(action));
    push.chain(after_creation(deployment))
}

fn is_pull(action: &str) -> bool {
    registry_actions(Access::Pull).any(|pull| pull == action)
}

fn after_creation(deployment: &IamDeployment) -> impl Iterator<Item = &'static str> {
    let policy = deployment.repository_policy.then_some(REPOSITORY_POLICY);
    policy.into_iter().flatten().chain(LIFECYCLE)
}

/// Creation, a statement for each organization: what is created there is tagged with that one.
///
/// The keys of tags have no case in `aws:RequestTag`, so that `aws:TagKeys` asks for the very key.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/access_tags.html#access_tags_control-tag-keys>
fn creations(deployment: &IamDeployment, family: Family) -> impl Iterator<Item = Statement> {
    let resources = family.repositories(&deployment.host, &deployment.stage);
    let slots = family.variables().zip(resources).enumerate();
    slots.map(|(index, (variable, resource))| {
        Statement::allow(CREATE)
            .called(format!("Create{}", index + 1))
            .on([resource])
            .when("StringEquals", format!("aws:RequestTag/{ORGANIZATION_TAG}"), [variable])
            .when("ForAnyValue:StringEquals", "aws:TagKeys", [ORGANIZATION_TAG])
    })
}

fn everything() -> [String; 1] {
    ["*".to_owned()]
}
