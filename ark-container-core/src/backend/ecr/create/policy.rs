//! [`AttachedPolicy`]: what a repository gets in a call of its own, after its creation.

use std::error::Error as StdError;

use aws_sdk_ecr::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use serde_json::Value;

use crate::backend::CreateOptions;
use crate::backend::ecr::backend::EcrBackend;
use crate::backend::ecr::web_identity::Rights;
use crate::error::{Error, ResourceKind, Result};
use crate::model::RepositoryPath;

/// Which policy of a repository it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Which images expire.
    Lifecycle,
    /// Who may use it, beside what their own policies say.
    Repository,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Lifecycle => "lifecycle policy",
            Self::Repository => "repository policy",
        }
    }

    /// What AWS says where there is none.
    fn missing(self) -> &'static str {
        match self {
            Self::Lifecycle => "LifecyclePolicyNotFoundException",
            Self::Repository => "RepositoryPolicyNotFoundException",
        }
    }
}

/// What an operation of the SDK fails with.
trait ServiceError: ProvideErrorMetadata + StdError + Send + Sync + 'static {}

impl<E: ProvideErrorMetadata + StdError + Send + Sync + 'static> ServiceError for E {}

/// A policy that a repository is to have.
#[derive(Debug, Clone, Copy)]
pub(super) struct AttachedPolicy<'p> {
    kind: Kind,
    text: &'p str,
}

/// What a repository is to have, in the order in which it gets it: who may use it comes first.
pub(super) fn policies<'p>(
    backend: &'p EcrBackend,
    options: &'p CreateOptions,
) -> impl Iterator<Item = AttachedPolicy<'p>> {
    let repository = backend.config().repository_policy.as_deref();
    let lifecycle = options.lifecycle_policy.as_deref();
    let both = [(Kind::Repository, repository), (Kind::Lifecycle, lifecycle)];
    both.into_iter().filter_map(|(kind, text)| Some(AttachedPolicy { kind, text: text? }))
}

impl AttachedPolicy<'_> {
    /// Makes sure of what AWS would not say before the repository exists.
    pub(super) fn check(self) -> Result<()> {
        let name = self.kind.name();
        let parsed = serde_json::from_str::<Value>(self.text);
        parsed.map(drop).map_err(|error| Error::invalid(format!("the {name} is no JSON: {error}")))
    }

    /// Puts it on a repository that was there before and lacks it; another one is a conflict.
    pub(super) async fn finish(self, backend: &EcrBackend, path: &RepositoryPath) -> Result<()> {
        match self.present(backend, path).await? {
            None => self.put(backend, path).await,
            Some(present) if same(&present, self.text) => Ok(()),
            Some(_) => {
                let problem = format!("already exists with another {}", self.kind.name());
                Err(Error::conflict(ResourceKind::Repository, path, problem))
            }
        }
    }

    /// The text of the one that a repository has.
    async fn present(self, backend: &EcrBackend, path: &RepositoryPath) -> Result<Option<String>> {
        let ecr = backend.ecr_with(Rights::to_create(path)).await?;
        let name = path.to_string();
        match self.kind {
            Kind::Lifecycle => {
                let answer = ecr.get_lifecycle_policy().repository_name(name).send().await;
                self.read(backend, path, answer.map(|answer| answer.lifecycle_policy_text)).await
            }
            Kind::Repository => {
                let answer = ecr.get_repository_policy().repository_name(name).send().await;
                self.read(backend, path, answer.map(|answer| answer.policy_text)).await
            }
        }
    }

    async fn read<E: ServiceError>(
        self,
        backend: &EcrBackend,
        path: &RepositoryPath,
        answer: Result<Option<String>, SdkError<E, HttpResponse>>,
    ) -> Result<Option<String>> {
        let doing = format!("read the {} of", self.kind.name());
        match answer {
            Ok(text) => Ok(text),
            Err(error) if error.code() == Some(self.kind.missing()) => Ok(None),
            Err(error) => Err(backend.call_on(&doing, path).failed(error).await),
        }
    }

    /// Puts it on a repository; the error says what state that is in.
    pub(super) async fn put(self, backend: &EcrBackend, path: &RepositoryPath) -> Result<()> {
        let ecr = backend.ecr_with(Rights::to_create(path)).await?;
        let (account, name) = (backend.ecr_host().account(), path.to_string());
        match self.kind {
            Kind::Lifecycle => {
                let request = ecr.put_lifecycle_policy().registry_id(account).repository_name(name);
                let put = request.lifecycle_policy_text(self.text).send().await;
                self.done(backend, path, put.map(drop)).await
            }
            Kind::Repository => {
                let request =
                    ecr.set_repository_policy().registry_id(account).repository_name(name);
                let put = request.policy_text(self.text).send().await;
                self.done(backend, path, put.map(drop)).await
            }
        }
    }

    async fn done<E: ServiceError>(
        self,
        backend: &EcrBackend,
        path: &RepositoryPath,
        answer: Result<(), SdkError<E, HttpResponse>>,
    ) -> Result<()> {
        let Err(error) = answer else { return Ok(()) };
        let name = self.kind.name();
        let doing = format!("put the {name} on");
        let error = backend.call_on(&doing, path).failed(error).await;
        let state = format!(
            "the repository {path} exists as asked for, but without its {name}; the same request \
             again puts it there"
        );
        Err(match error {
            Error::PermissionDenied { principal, action, resource } => {
                let resource = format!("{resource}; {state}");
                Error::PermissionDenied { principal, action, resource }
            }
            Error::InvalidInput { message } => Error::invalid(format!("{state}: {message}")),
            Error::Temporary { .. } => Error::temporary(state, error),
            other => Error::failed(state, other),
        })
    }
}

/// Whether two texts are one policy.
///
/// AWS may give a policy back with its lists in another order, and one value without its list.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/troubleshoot_policies.html> (policy
/// restructuring)
fn same(one: &str, other: &str) -> bool {
    let parsed = |text| serde_json::from_str(text).map(canonical).ok();
    parsed(one).is_some_and(|one| parsed(other) == Some(one))
}

fn canonical(value: Value) -> Value {
    match value {
        Value::Array(values) => {
            let mut values: Vec<Value> = values.into_iter().map(canonical).collect();
            values.sort_by_cached_key(Value::to_string);
            match values.len() {
                1 => values.remove(0),
                _ => Value::Array(values),
            }
        }
        Value::Object(members) => {
            members.into_iter().map(|(key, value)| (key, canonical(value))).collect()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_have_no_order_and_one_value_needs_none() {
        let written = r#"{"Statement":[{"Action":["b","a"],"Effect":"Deny"}]}"#;
        assert!(same(written, r#"{ "Statement": {"Effect":"Deny","Action":["a","b"]} }"#));
        assert!(!same(written, r#"{"Statement":[{"Action":["a"],"Effect":"Deny"}]}"#));
        assert!(!same(written, "{"));
        assert!(!same("{", "{"));
    }
}
