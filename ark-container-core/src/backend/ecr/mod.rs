//! Repositories in AWS ECR.

mod account;
mod backend;
mod builder;
mod clients;
mod connector;
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
mod quota;
mod refusal;
#[cfg(test)]
mod scripted;
mod selector;
mod session_name;
mod session_policy;
mod unreached;
mod web_identity;

pub use account::Caller;
pub use backend::EcrBackend;
pub use builder::EcrBackendBuilder;
pub use iam::{IamDeployment, IamPolicies, PolicyDocument, RolePolicies};
pub use refusal::AwsRefusal;
