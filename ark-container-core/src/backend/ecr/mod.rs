//! [`EcrBackend`]: the repositories of a registry in AWS ECR.

mod aws_credentials;
mod backend;
mod builder;
mod clients;
mod create;
mod credentials;
mod errors;
mod iam;
mod images;
mod listing_cache;
mod pages;
mod principal_text;
mod repositories;
#[cfg(test)]
mod scripted;
mod session_policy;
mod tag_index;
mod web_identity;

pub use aws_config::SdkConfig;
pub use backend::{Caller, EcrBackend};
pub use builder::EcrBackendBuilder;
pub use errors::AwsRefusal;
pub use iam::{IamDeployment, IamPolicies, PolicyDocument, RolePolicies};
