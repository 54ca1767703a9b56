//! Repositories in AWS ECR.

mod backend;
mod builder;
mod clients;
mod create;
mod credentials;
mod describe;
mod errors;
mod iam;
mod images;
mod index;
mod list;
#[cfg(feature = "push")]
mod outside;
mod pages;
#[cfg(test)]
mod scripted;
mod selector;
mod session_name;
mod session_policy;
mod web_identity;

pub use backend::{Caller, EcrBackend};
pub use builder::EcrBackendBuilder;
pub use errors::AwsRefusal;
pub use iam::{IamDeployment, IamPolicies, PolicyDocument, RolePolicies};
