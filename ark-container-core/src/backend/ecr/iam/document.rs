//! [`PolicyDocument`]: a policy as AWS reads it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Serialize, Serializer};

/// The version of the policy language, the one that has variables.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_version.html>
const LANGUAGE: &str = "2012-10-17";

/// A policy document. It prints as JSON: on one line, or over several with `{:#}`.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct PolicyDocument {
    version: &'static str,
    statement: Vec<Statement>,
}

impl PolicyDocument {
    pub(in crate::backend::ecr) fn new(statements: impl Into<Vec<Statement>>) -> Self {
        Self { version: LANGUAGE, statement: statements.into() }
    }
}

impl fmt::Display for PolicyDocument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let json = match f.alternate() {
            true => serde_json::to_string_pretty(self),
            false => serde_json::to_string(self),
        };
        f.write_str(&json.map_err(|_| fmt::Error)?)
    }
}

/// Who a statement of a trust policy or a repository policy is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Principal {
    /// Whoever has a token of the identity provider with this ARN.
    Provider(String),
    /// Everybody.
    Anyone,
}

impl Serialize for Principal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Provider(arn) => BTreeMap::from([("Federated", arn)]).serialize(serializer),
            Self::Anyone => serializer.serialize_str("*"),
        }
    }
}

/// What is allowed or denied, to whom, of what, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(in crate::backend::ecr) struct Statement {
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<String>,
    effect: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal: Option<Principal>,
    action: Vec<&'static str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    resource: Vec<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    condition: BTreeMap<&'static str, BTreeMap<String, Vec<String>>>,
}

impl Statement {
    pub(in crate::backend::ecr) fn allow(action: impl Into<Vec<&'static str>>) -> Self {
        Self {
            sid: None,
            effect: "Allow",
            principal: None,
            action: action.into(),
            resource: Vec::new(),
            condition: BTreeMap::new(),
        }
    }

    pub(super) fn deny(action: impl Into<Vec<&'static str>>) -> Self {
        Self { effect: "Deny", ..Self::allow(action) }
    }

    /// Its name, of letters and digits.
    ///
    /// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_sid.html>
    pub(super) fn called(mut self, sid: impl Into<String>) -> Self {
        self.sid = Some(sid.into());
        self
    }

    pub(super) fn of(mut self, principal: Principal) -> Self {
        self.principal = Some(principal);
        self
    }

    pub(in crate::backend::ecr) fn on(mut self, resource: impl Into<Vec<String>>) -> Self {
        self.resource = resource.into();
        self
    }

    /// Only where the condition key `key` compares to any of `values`; every condition must hold.
    pub(super) fn when(
        mut self,
        operator: &'static str,
        key: impl Into<String>,
        values: impl IntoIterator<Item = impl Into<String>>,
    ) -> Self {
        let values = values.into_iter().map(Into::into).collect();
        self.condition.entry(operator).or_default().insert(key.into(), values);
        self
    }
}
