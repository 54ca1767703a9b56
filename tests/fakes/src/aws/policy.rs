//! [`Policy`]: a policy document as it is written.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::condition::Condition;
use super::iam::Context;
use super::pattern::Pattern;

/// The version whose policies have variables.
const VERSION_WITH_VARIABLES: &str = "2012-10-17";

/// Why a text is no policy that the fake can judge by.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct PolicyError(String);

impl PolicyError {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// A policy document, with the elements that the fake knows; another is an error, so that no test
/// passes because something was overlooked.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_grammar.html>
#[derive(Debug, Clone)]
pub(super) struct Policy {
    pub(super) statements: Vec<Statement>,
}

#[derive(Debug, Clone)]
pub(super) struct Statement {
    pub(super) allows: bool,
    pub(super) principals: Principals,
    actions: Matcher,
    resources: Option<Matcher>,
    conditions: Vec<Condition>,
}

/// Who a statement of a resource-based policy is about.
#[derive(Debug, Clone, Default)]
pub(super) struct Principals {
    pub(super) aws: Vec<String>,
    pub(super) federated: Vec<String>,
}

#[derive(Debug, Clone)]
struct Matcher {
    patterns: Vec<Pattern>,
    negated: bool,
}

impl Policy {
    /// Reads an identity-based policy or a session policy.
    pub(super) fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy = Self::read(text)?;
        for statement in &policy.statements {
            if statement.resources.is_none() {
                return Err(PolicyError("a statement has neither Resource nor NotResource".into()));
            }
            if !statement.principals.is_empty() {
                return Err(PolicyError("an identity-based policy has no Principal".into()));
            }
        }
        Ok(policy)
    }

    /// Reads a role's trust policy, or a repository's policy.
    pub(super) fn parse_resource_based(text: &str) -> Result<Self, PolicyError> {
        let policy = Self::read(text)?;
        for statement in &policy.statements {
            if statement.principals.is_empty() {
                return Err(PolicyError(
                    "a statement of a resource-based policy has no Principal".into(),
                ));
            }
            if statement.resources.is_some() {
                return Err(PolicyError(
                    "a policy of a role or a repository has no Resource".into(),
                ));
            }
        }
        Ok(policy)
    }

    fn read(text: &str) -> Result<Self, PolicyError> {
        let document: Document =
            serde_json::from_str(text).map_err(|error| PolicyError(error.to_string()))?;
        let variables = match document.version.as_deref() {
            Some(VERSION_WITH_VARIABLES) => true,
            None | Some("2008-10-17") => false,
            Some(version) => return Err(PolicyError(format!("no version is {version:?}"))),
        };
        let statements = document.statements.into_vec().into_iter();
        let statements = statements.map(|written| Statement::read(written, variables));
        Ok(Self { statements: statements.collect::<Result<_, _>>()? })
    }
}

impl Statement {
    fn read(written: WrittenStatement, variables: bool) -> Result<Self, PolicyError> {
        let allows = match written.effect.as_str() {
            "Allow" => true,
            "Deny" => false,
            effect => return Err(PolicyError(format!("no effect is {effect:?}"))),
        };
        let actions = Matcher::read(written.action, written.not_action, |text| {
            // Actions have no case, and no variables.
            Pattern::parse(&text.to_ascii_lowercase(), false)
        })?;
        let resources = Matcher::read(written.resource, written.not_resource, |text| {
            Pattern::parse(text, variables)
        })?;
        let mut conditions = Vec::new();
        for (operator, keys) in written.condition {
            for (key, values) in keys {
                let values = values.into_vec();
                conditions.push(Condition::read(&operator, key, &values, variables)?);
            }
        }
        Ok(Self {
            allows,
            principals: Principals::read(written.principal)?,
            actions: actions.ok_or_else(|| {
                PolicyError("a statement has neither Action nor NotAction".into())
            })?,
            resources,
            conditions,
        })
    }

    /// Whether it speaks of this action on this resource, under these circumstances.
    pub(super) fn applies(&self, action: &str, resource: &str, context: &Context) -> bool {
        self.actions.matches(&action.to_ascii_lowercase(), context)
            && self.resources.as_ref().is_none_or(|resources| resources.matches(resource, context))
            && self.conditions.iter().all(|condition| condition.holds(context))
    }
}

impl Principals {
    fn read(written: Option<Value>) -> Result<Self, PolicyError> {
        let mut principals = Self::default();
        match written {
            None => {}
            Some(Value::String(text)) if text == "*" => principals.aws.push(text),
            Some(Value::Object(kinds)) => {
                for (kind, names) in kinds {
                    let names: OneOrMany<String> = serde_json::from_value(names)
                        .map_err(|error| PolicyError(format!("{kind} of a Principal: {error}")))?;
                    match kind.as_str() {
                        "AWS" => principals.aws.extend(names.into_vec()),
                        "Federated" => principals.federated.extend(names.into_vec()),
                        _ => return Err(PolicyError(format!("the fake has no principals {kind}"))),
                    }
                }
            }
            Some(_) => return Err(PolicyError("a Principal is \"*\" or an object".into())),
        }
        Ok(principals)
    }

    fn is_empty(&self) -> bool {
        self.aws.is_empty() && self.federated.is_empty()
    }
}

impl Matcher {
    fn read(
        positive: Option<OneOrMany<String>>,
        negative: Option<OneOrMany<String>>,
        pattern: impl Fn(&str) -> Pattern,
    ) -> Result<Option<Self>, PolicyError> {
        let (texts, negated) = match (positive, negative) {
            (None, None) => return Ok(None),
            (Some(texts), None) => (texts, false),
            (None, Some(texts)) => (texts, true),
            (Some(_), Some(_)) => {
                return Err(PolicyError("a statement has an element and its Not…".into()));
            }
        };
        let patterns = texts.into_vec().iter().map(|text| pattern(text)).collect();
        Ok(Some(Self { patterns, negated }))
    }

    fn matches(&self, text: &str, context: &Context) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(text, context)) != self.negated
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "Version")]
    version: Option<String>,
    #[serde(rename = "Id")]
    _id: Option<String>,
    #[serde(rename = "Statement")]
    statements: OneOrMany<WrittenStatement>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct WrittenStatement {
    #[serde(rename = "Sid")]
    _sid: Option<String>,
    effect: String,
    principal: Option<Value>,
    action: Option<OneOrMany<String>>,
    not_action: Option<OneOrMany<String>>,
    resource: Option<OneOrMany<String>>,
    not_resource: Option<OneOrMany<String>>,
    #[serde(default)]
    condition: BTreeMap<String, BTreeMap<String, OneOrMany<String>>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany<T> {
    One(T),
    Many(Vec<T>),
}

impl<T> OneOrMany<T> {
    fn into_vec(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::Many(many) => many,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Policy::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_the_fake_cannot_judge_is_an_error() {
        let statement = |text: &str| {
            problem(&format!(
                r#"{{"Version":"2012-10-17","Statement":{{"Effect":"Allow",{text}}}}}"#
            ))
        };
        assert!(statement(r#""Action":"*""#).contains("neither Resource"));
        assert!(statement(r#""Resource":"*""#).contains("neither Action"));
        assert!(statement(r#""Action":"*","NotAction":"*","Resource":"*""#).contains("its Not"));
        assert!(statement(r#""Action":"*","Resource":"*","Principal":"*""#).contains("Principal"));
        let unknown =
            r#""Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"1.2.3.4"}}"#;
        assert!(statement(unknown).contains("IpAddress"));
        assert!(problem(r#"{"Version":"2020-01-01","Statement":[]}"#).contains("2020-01-01"));
        assert!(problem("{").contains("EOF"));
        let trust = r#"{"Statement":{"Effect":"Allow","Action":"sts:AssumeRole"}}"#;
        assert!(
            Policy::parse_resource_based(trust).unwrap_err().to_string().contains("no Principal")
        );
    }
}
