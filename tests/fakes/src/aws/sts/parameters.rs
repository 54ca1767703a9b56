//! [`Parameters`]: the members of a request in the query protocol.

use std::collections::BTreeMap;

use super::{invalid, unsatisfied};
use crate::aws::error::ApiError;

/// Source: `tagListType` in the service model.
const MOST_TAGS: usize = 50;

/// Source: `tagKeyType` and `tagValueType` in the service model.
const LONGEST_KEY: usize = 128;
const LONGEST_VALUE: usize = 256;

/// What a request says, by name; what was read is taken out.
#[derive(Debug)]
pub(super) struct Parameters(BTreeMap<String, String>);

impl Parameters {
    pub(super) fn parse(body: &[u8]) -> Self {
        let mut parameters: BTreeMap<String, String> =
            form_urlencoded::parse(body).into_owned().collect();
        parameters.remove("Action");
        parameters.remove("Version");
        Self(parameters)
    }

    pub(super) fn optional(&mut self, name: &str) -> Option<String> {
        self.0.remove(name)
    }

    pub(super) fn required(&mut self, name: &str) -> Result<String, ApiError> {
        let missing = || {
            let parameter = format!("{}{}", name[..1].to_lowercase(), &name[1..]);
            invalid(format!(
                "1 validation error detected: Value null at '{parameter}' failed to satisfy \
                 constraint: Member must not be null"
            ))
        };
        self.optional(name).ok_or_else(missing)
    }

    /// `Tags.member.N.Key` and `.Value`.
    ///
    /// Source: <https://smithy.io/2.0/aws/protocols/aws-query-protocol.html>
    pub(super) fn tags(&mut self) -> Result<BTreeMap<String, String>, ApiError> {
        let mut tags = BTreeMap::new();
        // An empty list is there with no value.
        self.0.remove("Tags");
        for number in 1.. {
            let Some(key) = self.optional(&format!("Tags.member.{number}.Key")) else { break };
            let value = self.required(&format!("Tags.member.{number}.Value"))?;
            let known =
                tags.keys().any(|known: &String| known.to_lowercase() == key.to_lowercase());
            if known {
                let message =
                    "Duplicate tag keys found. Please note that Tag keys are case insensitive.";
                return Err(ApiError::new("InvalidParameterValue", message));
            }
            tags.insert(key, value);
        }
        check_tags(&tags)?;
        Ok(tags)
    }

    /// Refuses what was not read, so that no test passes because it was overlooked.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(name) => Err(invalid(format!("the fake of AWS has no parameter {name} here"))),
        }
    }
}

/// Makes sure that a session can have these tags, wherever they come from.
pub(super) fn check_tags(tags: &BTreeMap<String, String>) -> Result<(), ApiError> {
    for (index, (key, value)) in tags.iter().enumerate() {
        check_tag(index + 1, key, value)?;
    }
    if tags.len() > MOST_TAGS {
        let most = "Member must have length less than or equal to 50";
        return Err(unsatisfied(&format!("[{} tags]", tags.len()), "tags", most));
    }
    Ok(())
}

fn check_tag(number: usize, key: &str, value: &str) -> Result<(), ApiError> {
    let allowed = |text: &str| {
        text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c))
    };
    let place = |member: &str| format!("tags.{number}.member.{member}");
    if key.is_empty() || key.chars().count() > LONGEST_KEY || !allowed(key) {
        let constraint = "Member must have length from 1 to 128 and satisfy regular expression \
                          pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]+";
        return Err(unsatisfied(key, &place("key"), constraint));
    }
    if value.chars().count() > LONGEST_VALUE || !allowed(value) {
        let constraint = "Member must have length less than or equal to 256 and satisfy regular \
                          expression pattern: [\\p{L}\\p{Z}\\p{N}_.:/=+\\-@]*";
        return Err(unsatisfied(value, &place("value"), constraint));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_read_and_what_is_left_is_refused() {
        let body = b"Action=A&Version=V&Tags.member.1.Key=k&Tags.member.1.Value=v%20w&Other=1";
        let mut parameters = Parameters::parse(body);
        assert_eq!(parameters.tags().unwrap(), [("k".to_owned(), "v w".to_owned())].into());
        assert!(parameters.finish().unwrap_err().message.contains("Other"));
    }

    #[test]
    fn there_are_at_most_50_tags_and_none_twice() {
        let body = |keys: &[String]| {
            let tags = keys.iter().enumerate().map(|(index, key)| {
                format!("Tags.member.{0}.Key={key}&Tags.member.{0}.Value=&", index + 1)
            });
            Parameters::parse(tags.collect::<String>().as_bytes()).tags()
        };
        let keys: Vec<String> = (0..51).map(|number| number.to_string()).collect();
        assert_eq!(body(&keys[..50]).unwrap().len(), 50);
        assert_eq!(body(&keys).unwrap_err().code, "ValidationError");
        assert!(body(&["a".into(), "A".into()]).unwrap_err().message.starts_with("Duplicate"));
        assert_eq!(body(&["*".into()]).unwrap_err().code, "ValidationError");
    }
}
