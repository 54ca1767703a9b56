//! [`Condition`]: the circumstances under which a statement applies.
//!
//! Source: <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_elements_condition_operators.html>
//! and <https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_policies_condition-single-vs-multi-valued-context-keys.html>

use super::iam::Context;
use super::pattern::Pattern;
use super::policy::PolicyError;

/// The one key of the fake that may have several values: the keys of the tags in a request.
pub(super) const TAG_KEYS: &str = "aws:TagKeys";

/// One key of a statement's `Condition`, under one operator.
#[derive(Debug, Clone)]
pub(super) struct Condition {
    key: String,
    test: Test,
}

#[derive(Debug, Clone)]
enum Test {
    /// Whether the key is there.
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
    /// Whether a key that is not there is as good as one that passes.
    if_exists: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quantifier {
    /// The key has one value at most.
    One,
    /// `ForAllValues`: also true where there is no value.
    All,
    /// `ForAnyValue`: false where there is no value.
    Any,
}

impl Condition {
    /// Reads what an operator says of a key; `variables` are those of policies of version 2012-10-17.
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
        let unknown = || PolicyError::new(format!("the fake has no condition {operator:?}"));
        let operator = Operator::read(operator).ok_or_else(unknown)?;
        // Without a quantifier, AWS does not say what becomes of several values; with one, a key that
        // is not there passes for all of them.
        if (operator.of == Quantifier::One) == key.eq_ignore_ascii_case(TAG_KEYS) {
            let problem =
                "ForAllValues and ForAnyValue go with keys of several values, and with no other";
            return Err(PolicyError::new(format!("{problem}: {key}")));
        }
        let values = values.iter().map(|value| Pattern::parse(value, variables)).collect();
        Ok(Self { key, test: Test::Text { operator, values } })
    }

    /// Whether it is so.
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
            // A value with a variable that has no value matches nothing.
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

#[cfg(test)]
mod tests {
    use super::*;

    const TEAM: &str = "aws:PrincipalTag/team";

    fn condition(operator: &str, key: &str, values: &[&str]) -> Result<Condition, PolicyError> {
        let values: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        Condition::read(operator, key.to_owned(), &values, true)
    }

    /// Whether it holds where the key has these values.
    fn holds(operator: &str, key: &str, values: &[&str], actual: &[&str]) -> bool {
        let actual = actual.iter().map(|&value| value.to_owned()).collect();
        let context = Context::default().with("aws:username", "alice").with_values(key, actual);
        condition(operator, key, values).unwrap().holds(&context)
    }

    #[test]
    fn a_key_that_is_not_there_fails_unless_the_operator_is_negated_or_says_if_exists() {
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
    fn null_asks_whether_a_key_is_there() {
        assert!(holds("Null", TEAM, &["true"], &[]) && !holds("Null", TEAM, &["true"], &["a"]));
        assert!(holds("Null", TEAM, &["false"], &["a"]) && !holds("Null", TEAM, &["false"], &[]));
        assert!(holds("Null", TAG_KEYS, &["false"], &["a", "b"]));
    }

    #[test]
    fn quantifiers_look_at_each_value() {
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
    fn a_variable_without_a_value_matches_nothing_and_is_no_obstacle_to_others() {
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
    fn what_the_fake_cannot_judge_is_an_error() {
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
}
