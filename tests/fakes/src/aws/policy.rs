//! Policy documents: statements, their conditions, and the patterns of both.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use crate::aws::iam::Context;

/// The version of policies with variables.
const VERSION_WITH_VARIABLES: &str = "2012-10-17";

/// The reason why the fake cannot evaluate a policy.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct PolicyError(String);

impl PolicyError {
    pub(super) fn new(problem: impl Into<String>) -> Self {
        Self(problem.into())
    }
}

/// A policy document. Elements that the fake does not support are errors, so that no test passes because an element was
/// ignored.
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

/// The principals of a statement of a resource-based policy.
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
    /// Parses an identity-based policy or a session policy.
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

    /// Parses a role's trust policy or a repository's policy.
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
            Some(version) => return Err(PolicyError(format!("unknown version {version:?}"))),
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
            effect => return Err(PolicyError(format!("unknown effect {effect:?}"))),
        };
        let actions = Matcher::read(written.action, written.not_action, |text| {
            // Actions are case-insensitive and have no variables.
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

    /// Returns whether the statement applies to an action on a resource.
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
                        _ => return Err(PolicyError(format!("unsupported principals {kind}"))),
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

/// The only supported key with several values: the keys of the tags in a request.
pub(super) const TAG_KEYS: &str = "aws:TagKeys";

/// One key of a statement's `Condition`, under one operator.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    key: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    /// Whether the key must exist.
    Exists(bool),
    Text {
        operator: Operator,
        values: Vec<Pattern>,
    },
}

#[derive(Debug, Clone, Copy)]
struct Operator {
    of: Quantifier,
    like: bool,
    negated: bool,
    /// Whether a missing key passes.
    if_exists: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    /// No quantifier: the key has at most one value.
    One,
    /// `ForAllValues`: true if the key has no value.
    All,
    /// `ForAnyValue`: false if the key has no value.
    Any,
}

impl Condition {
    /// Parses a condition. `variables` enables variables, as in policies of version 2012-10-17.
    pub(super) fn read(
        operator: &str,
        key: String,
        values: &[String],
        variables: bool,
    ) -> Result<Self, PolicyError> {
        if operator == "Null" {
            let exists = match values {
                [value] if value == "true" => false,
                [value] if value == "false" => true,
                _ => return Err(PolicyError::new("the condition Null is \"true\" or \"false\"")),
            };
            return Ok(Self { key, test: Test::Exists(exists) });
        }
        let unknown = || PolicyError::new(format!("unsupported condition {operator:?}"));
        let operator = Operator::read(operator).ok_or_else(unknown)?;
        // AWS does not document several values without a quantifier. With `ForAllValues`, a missing key passes.
        if (operator.of == Quantifier::One) == key.eq_ignore_ascii_case(TAG_KEYS) {
            let problem =
                "keys with several values, and only these, need ForAllValues or ForAnyValue";
            return Err(PolicyError::new(format!("{problem}: {key}")));
        }
        let values = values.iter().map(|value| Pattern::parse(value, variables)).collect();
        Ok(Self { key, test: Test::Text { operator, values } })
    }

    /// Returns whether the condition is true.
    pub(super) fn holds(&self, context: &Context) -> bool {
        let actual = context.values(&self.key);
        match &self.test {
            Test::Exists(exists) => actual.is_empty() != *exists,
            Test::Text { operator, values } => operator.holds(actual, values, context),
        }
    }
}

impl Operator {
    fn read(text: &str) -> Option<Self> {
        let (of, rest) = match text.split_once(':') {
            None => (Quantifier::One, text),
            Some(("ForAllValues", rest)) => (Quantifier::All, rest),
            Some(("ForAnyValue", rest)) => (Quantifier::Any, rest),
            Some(_) => return None,
        };
        let (name, if_exists) = match rest.strip_suffix("IfExists") {
            Some(name) => (name, true),
            None => (rest, false),
        };
        let (like, negated) = match name {
            "StringEquals" => (false, false),
            "StringNotEquals" => (false, true),
            "StringLike" => (true, false),
            "StringNotLike" => (true, true),
            _ => return None,
        };
        Some(Self { of, like, negated, if_exists })
    }

    fn holds(self, actual: &[String], values: &[Pattern], context: &Context) -> bool {
        let passes = |actual: &String| {
            let matches = |value: &Pattern| match self.like {
                true => value.matches(actual, context),
                false => value.equals(actual, context),
            };
            // A value with a variable without a value matches nothing.
            values.iter().any(matches) != self.negated
        };
        match (self.of, actual) {
            (Quantifier::All, actual) => actual.iter().all(passes),
            (Quantifier::Any, []) => self.if_exists,
            (Quantifier::Any, actual) => actual.iter().any(passes),
            (Quantifier::One, []) => self.negated || self.if_exists,
            (Quantifier::One, actual) => actual.iter().all(passes),
        }
    }
}

/// A pattern such as `arn:aws:ecr:*:*:repository/prod/${aws:PrincipalTag/organization}/*`.
///
/// `*` matches any characters, and `?` matches one. `${*}`, `${?}` and `${$}` match `*`, `?` and `$`.
///
/// Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_variables.html>
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(char),
    Any,
    One,
    /// A condition key, and its default value.
    Variable(String, Option<String>),
}

impl Pattern {
    /// Parses a pattern. `variables` enables variables, as in policies of version 2012-10-17.
    pub(super) fn parse(text: &str, variables: bool) -> Self {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(character) = rest.chars().next() {
            let variable = rest.strip_prefix("${").filter(|_| variables);
            if let Some((name, after)) = variable.and_then(|rest| rest.split_once('}')) {
                pieces.push(match name {
                    "*" => Piece::Literal('*'),
                    "?" => Piece::Literal('?'),
                    "$" => Piece::Literal('$'),
                    name => variable_piece(name),
                });
                rest = after;
                continue;
            }
            pieces.push(match character {
                '*' => Piece::Any,
                '?' => Piece::One,
                character => Piece::Literal(character),
            });
            rest = &rest[character.len_utf8()..];
        }
        Self(pieces)
    }

    /// Returns whether the pattern matches `text`. A pattern with a variable without a value matches nothing.
    pub(super) fn matches(&self, text: &str, context: &Context) -> bool {
        let Some(pieces) = self.with_values(context) else { return false };
        matches_pieces(&pieces, &text.chars().collect::<Vec<_>>())
    }

    /// Returns whether the pattern equals `text` after the replacement of variables. Wildcards are literals.
    pub(super) fn equals(&self, text: &str, context: &Context) -> bool {
        let Some(pieces) = self.with_values(context) else { return false };
        let literal = pieces.iter().map(|piece| match piece {
            Piece::Literal(character) => *character,
            Piece::One => '?',
            Piece::Any | Piece::Variable(..) => '*',
        });
        literal.eq(text.chars())
    }

    fn with_values(&self, context: &Context) -> Option<Vec<Piece>> {
        let mut pieces = Vec::with_capacity(self.0.len());
        for piece in &self.0 {
            match piece {
                Piece::Variable(name, default) => {
                    let value = context.get(name).or(default.as_deref())?;
                    pieces.extend(value.chars().map(Piece::Literal));
                }
                piece => pieces.push(piece.clone()),
            }
        }
        Some(pieces)
    }
}

/// Parses a variable such as `aws:username` or `aws:PrincipalTag/team, 'none'`.
fn variable_piece(text: &str) -> Piece {
    let (name, default) = text.split_once(',').unwrap_or((text, ""));
    let default = default.trim().strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    Piece::Variable(name.trim().to_owned(), default.map(str::to_owned))
}

/// Returns whether a pattern matches a text. A mismatch returns to the last `*`, so the worst-case time grows with the
/// product of the lengths.
fn matches_pieces(pattern: &[Piece], text: &[char]) -> bool {
    let (mut at, mut position) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while position < text.len() {
        match pattern.get(at) {
            Some(Piece::Any) => {
                retry = Some((at, position));
                at += 1;
            }
            Some(Piece::One) => (at, position) = (at + 1, position + 1),
            Some(Piece::Literal(character)) if *character == text[position] => {
                (at, position) = (at + 1, position + 1);
            }
            _ => {
                let Some((star, from)) = retry else { return false };
                retry = Some((star, from + 1));
                (at, position) = (star + 1, from + 1);
            }
        }
    }
    pattern[at..].iter().all(|piece| *piece == Piece::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        Policy::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn unknown_element_is_an_error() {
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

    const TEAM: &str = "aws:PrincipalTag/team";

    fn condition(operator: &str, key: &str, values: &[&str]) -> Result<Condition, PolicyError> {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        Condition::read(operator, key.to_owned(), &values, true)
    }

    /// Returns whether a condition is true if the key has the values `actual`.
    fn holds(operator: &str, key: &str, values: &[&str], actual: &[&str]) -> bool {
        let actual = actual.iter().map(|&value| value.to_owned()).collect();
        let context = Context::default().with("aws:username", "alice").with_values(key, actual);
        condition(operator, key, values).unwrap().holds(&context)
    }

    #[test]
    fn missing_condition_key_fails_plain_operators() {
        for (operator, missing, same, other) in [
            ("StringEquals", false, true, false),
            ("StringLike", false, true, false),
            ("StringNotEquals", true, false, true),
            ("StringNotLike", true, false, true),
            ("StringEqualsIfExists", true, true, false),
            ("StringNotEqualsIfExists", true, false, true),
        ] {
            let values = ["a", "b"];
            assert_eq!(holds(operator, TEAM, &values, &[]), missing, "{operator}");
            assert_eq!(holds(operator, TEAM, &values, &["b"]), same, "{operator}");
            assert_eq!(holds(operator, TEAM, &values, &["c"]), other, "{operator}");
        }
    }

    #[test]
    fn null_checks_whether_key_exists() {
        assert!(holds("Null", TEAM, &["true"], &[]) && !holds("Null", TEAM, &["true"], &["a"]));
        assert!(holds("Null", TEAM, &["false"], &["a"]) && !holds("Null", TEAM, &["false"], &[]));
        assert!(holds("Null", TAG_KEYS, &["false"], &["a", "b"]));
    }

    #[test]
    fn quantifiers_check_all_values() {
        for (operator, none, one_of_two, both, neither) in [
            ("ForAllValues:StringEquals", true, false, true, false),
            ("ForAllValues:StringNotEquals", true, false, false, true),
            ("ForAnyValue:StringEquals", false, true, true, false),
            ("ForAnyValue:StringNotEquals", false, true, false, true),
            ("ForAnyValue:StringLikeIfExists", true, true, true, false),
        ] {
            let check = |actual: &[&str]| holds(operator, TAG_KEYS, &["a", "b"], actual);
            assert_eq!(check(&[]), none, "{operator}");
            assert_eq!(check(&["a", "c"]), one_of_two, "{operator}");
            assert_eq!(check(&["a", "b"]), both, "{operator}");
            assert_eq!(check(&["c", "d"]), neither, "{operator}");
        }
    }

    #[test]
    fn variable_without_value_matches_nothing() {
        let none = "${aws:PrincipalTag/organization2}";
        assert!(!holds("StringEquals", TEAM, &[none], &["a"]));
        assert!(!holds("StringLike", TEAM, &["*${aws:PrincipalTag/x}*"], &["a"]));
        assert!(!holds("StringEquals", TEAM, &[none], &[none]));
        assert!(holds("StringEquals", TEAM, &[none, "${aws:username}"], &["alice"]));
        assert!(!holds("StringNotEquals", TEAM, &[none, "${aws:username}"], &["alice"]));
        assert!(holds("StringNotEquals", TEAM, &[none, "${aws:username}"], &["bob"]));
        assert!(holds("StringEquals", TEAM, &["${aws:PrincipalTag/x, 'a'}"], &["a"]));
    }

    #[test]
    fn unknown_condition_is_an_error() {
        for (operator, key, values) in [
            ("IpAddress", "aws:SourceIp", &["1.2.3.4"][..]),
            ("ForEach:StringEquals", TAG_KEYS, &["a"]),
            ("StringEquals", "aws:tagkeys", &["a"]),
            ("ForAllValues:StringEquals", TEAM, &["a"]),
            ("Null", TEAM, &["yes"]),
            ("Null", TEAM, &["true", "false"]),
        ] {
            assert!(condition(operator, key, values).is_err(), "{operator} {key}");
        }
    }

    fn matches(pattern: &str, text: &str) -> bool {
        let context = Context::default().with("aws:PrincipalTag/organization", "a*b");
        Pattern::parse(pattern, true).matches(text, &context)
    }

    #[test]
    fn wildcards_match_any_and_one() {
        for (pattern, text) in [
            ("*", ""),
            ("a*", "a"),
            ("a*c*e", "abcde"),
            ("a*bc", "abbcbc"),
            ("?b", "ab"),
            ("${*}${$}", "*$"),
            ("x/${aws:PrincipalTag/organization}/*", "x/a*b/c"),
            ("x/${aws:principaltag/Organization}", "x/a*b"),
        ] {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("", "a"),
            ("a", "A"),
            ("a*c", "abcd"),
            ("?", ""),
            ("${*}", "a"),
            ("x/${aws:PrincipalTag/organization}", "x/aab"),
            ("*${aws:PrincipalTag/other}", "x"),
        ] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn pattern_without_variables_is_plain_text() {
        let pattern = Pattern::parse("${a}", false);
        assert!(pattern.matches("${a}", &Context::default()));
    }

    #[test]
    fn equality_treats_wildcards_as_literals() {
        let equals =
            |pattern, text| Pattern::parse(pattern, true).equals(text, &Context::default());
        assert!(equals("a*?", "a*?"));
        assert!(!equals("a*", "ab"));
    }
}
