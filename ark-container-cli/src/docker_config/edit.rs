//! Changes one entry of a JSON text, and leaves every other byte as it is.
//!
//! A configuration is somebody's own: its order, its indentation and what we know nothing of stay.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// How a line begins within the document, and within an object of it, where nothing there tells: as
/// docker writes it.
const LINE: &str = "\n\t";
const INNER_LINE: &str = "\n\t\t";

/// Why a text cannot be changed.
#[derive(Debug)]
pub(super) enum EditError {
    Json(serde_json::Error),
    Document,
    Section(String),
}

impl fmt::Display for EditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "it is no JSON: {error}"),
            Self::Document => f.write_str("it is no object"),
            Self::Section(name) => write!(f, "{name:?} in it is no object"),
        }
    }
}

impl From<serde_json::Error> for EditError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error)
    }
}

/// The text of a member's value; `None` if there is no such member.
pub(super) fn member<'a>(text: &'a str, key: &str) -> Result<Option<&'a str>, EditError> {
    let document = Object::document(text)?;
    Ok(document.position(key).map(|at| document.members[at].value))
}

/// The text of an entry's value; `None` if there is no such entry.
pub(super) fn get<'a>(
    text: &'a str,
    section: &str,
    key: &str,
) -> Result<Option<&'a str>, EditError> {
    Ok(entries(text, section)?.into_iter().rfind(|(own, _)| own == key).map(|(_, value)| value))
}

/// The keys and the texts of the values of a section; none if there is no such section.
pub(super) fn entries<'a>(
    text: &'a str,
    section: &str,
) -> Result<Vec<(String, &'a str)>, EditError> {
    let document = Object::document(text)?;
    let Some(at) = document.position(section) else { return Ok(Vec::new()) };
    let section = document.object_at(at)?;
    let keys = section.members.iter().map(|member| (name(member.key), member.value));
    Ok(keys.collect())
}

/// The text with this value for `key` in `section`, both of which may be new.
pub(super) fn set(text: &str, section: &str, key: &str, value: &str) -> Result<String, EditError> {
    let document = Object::document(text)?;
    let entry = format!("{}: {value}", quoted(key));
    let Some(at) = document.position(section) else {
        let line = document.line().unwrap_or(LINE);
        let (inner_line, line) = match line.strip_prefix('\n') {
            Some(indentation) => (format!("{line}{indentation}"), line),
            // A document on one line stays on one.
            None => (String::new(), ""),
        };
        let new = format!("{}: {{{inner_line}{entry}{line}}}", quoted(section));
        return Ok(document.with_member(&new, LINE));
    };
    let object = document.object_at(at)?;
    let object = match object.position(key) {
        Some(at) => object.with(object.members[at].value, value),
        None => object.with_member(&entry, INNER_LINE),
    };
    Ok(document.with(document.members[at].value, &object))
}

/// The text without `key` in `section`, and without the section where that was all it had.
pub(super) fn remove(text: &str, section: &str, key: &str) -> Result<String, EditError> {
    let document = Object::document(text)?;
    let Some(at) = document.position(section) else { return Ok(text.to_owned()) };
    let object = document.object_at(at)?;
    let Some(key_at) = object.position(key) else { return Ok(text.to_owned()) };
    if object.members.len() == 1 {
        return Ok(document.without_member(at));
    }
    Ok(document.with(document.members[at].value, &object.without_member(key_at)))
}

/// An object, with what stands around it.
struct Object<'a> {
    text: &'a str,
    /// Where in the text it is, without the braces.
    start: usize,
    end: usize,
    members: Vec<Member<'a>>,
}

#[derive(Clone, Copy)]
struct Member<'a> {
    key: &'a str,
    value: &'a str,
}

impl<'a> Object<'a> {
    fn document(text: &'a str) -> Result<Self, EditError> {
        let raw: &RawValue = serde_json::from_str(text)?;
        if !raw.get().starts_with('{') {
            return Err(EditError::Document);
        }
        let members = serde_json::from_str::<Members<'_>>(raw.get())?.0;
        let start = offset(text, raw.get()) + 1;
        Ok(Self { text, start, end: start + raw.get().len() - 2, members })
    }

    /// Go, in which docker is written, takes the last of several members with one name.
    fn position(&self, key: &str) -> Option<usize> {
        self.members.iter().rposition(|member| name(member.key) == key)
    }

    fn object_at(&self, at: usize) -> Result<Self, EditError> {
        let Member { key, value } = self.members[at];
        Self::document(value).map_err(|error| match error {
            EditError::Document => EditError::Section(name(key)),
            other => other,
        })
    }

    /// What stands between the last member and what precedes it.
    fn line(&self) -> Option<&'a str> {
        let key_start = offset(self.text, self.members.last()?.key);
        let before = &self.text[..key_start];
        Some(&before[before.trim_end().len()..])
    }

    /// The text with another in the place of `part`, a part of it.
    fn with(&self, part: &str, new: &str) -> String {
        let start = offset(self.text, part);
        self.spliced(start, start + part.len(), new)
    }

    /// The text with one more member, at the end; `line` is how it begins if it is the first.
    fn with_member(&self, new: &str, line: &str) -> String {
        match (self.members.last(), self.line()) {
            (Some(last), Some(line)) => {
                let end = self.end_of(*last);
                self.spliced(end, end, &format!(",{line}{new}"))
            }
            _ => {
                let closing = line.strip_suffix('\t').unwrap_or(line);
                self.spliced(self.start, self.end, &format!("{line}{new}{closing}"))
            }
        }
    }

    fn without_member(&self, at: usize) -> String {
        let member = self.members[at];
        match (at.checked_sub(1), self.members.get(at + 1)) {
            (Some(before), _) => {
                self.spliced(self.end_of(self.members[before]), self.end_of(member), "")
            }
            (None, Some(next)) => {
                self.spliced(offset(self.text, member.key), offset(self.text, next.key), "")
            }
            (None, None) => self.spliced(self.start, self.end, ""),
        }
    }

    fn end_of(&self, member: Member<'_>) -> usize {
        offset(self.text, member.value) + member.value.len()
    }

    fn spliced(&self, start: usize, end: usize, new: &str) -> String {
        [&self.text[..start], new, &self.text[end..]].concat()
    }
}

/// The members of an object as they stand in its text.
struct Members<'a>(Vec<Member<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MembersVisitor)
    }
}

struct MembersVisitor;

impl<'de> Visitor<'de> for MembersVisitor {
    type Value = Members<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, value)) = map.next_entry::<&RawValue, &RawValue>()? {
            members.push(Member { key: key.get(), value: value.get() });
        }
        Ok(Members(members))
    }
}

/// Where in a text a part of it begins.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr() as usize - text.as_ptr() as usize
}

/// What a key is, as its text may have escapes.
fn name(key: &str) -> String {
    serde_json::from_str(key).unwrap_or_default()
}

/// A text in JSON.
pub(super) fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HELPERS: &str = "credHelpers";

    fn with_host(text: &str) -> String {
        set(text, HELPERS, "127.0.0.1:5050", "\"ark\"").unwrap()
    }

    #[test]
    fn a_new_entry_stands_where_docker_would_put_it_and_goes_without_a_trace() {
        for (text, expected) in [
            ("{}", "{\n\t\"credHelpers\": {\n\t\t\"127.0.0.1:5050\": \"ark\"\n\t}\n}"),
            (
                "{\n\t\"auths\": {},\n\t\"x\": [1,  2]\n}\n",
                "{\n\t\"auths\": {},\n\t\"x\": [1,  2],\n\t\"credHelpers\": {\n\t\t\
                 \"127.0.0.1:5050\": \"ark\"\n\t}\n}\n",
            ),
            (
                "{\n  \"z\": 1\n}",
                "{\n  \"z\": 1,\n  \"credHelpers\": {\n    \"127.0.0.1:5050\": \"ark\"\n  }\n}",
            ),
            ("{\"z\":1}", "{\"z\":1,\"credHelpers\": {\"127.0.0.1:5050\": \"ark\"}}"),
            (
                " { \"credHelpers\" : { \"a\":\"ecr-login\" } , \"z\":1 } ",
                " { \"credHelpers\" : { \"a\":\"ecr-login\", \"127.0.0.1:5050\": \"ark\" } , \
                 \"z\":1 } ",
            ),
            (
                "{\"\\u0063redHelpers\":{\"\\\"\":\"}\"}}",
                "{\"\\u0063redHelpers\":{\"\\\"\":\"}\",\"127.0.0.1:5050\": \"ark\"}}",
            ),
        ] {
            assert_eq!(with_host(text), expected);
            assert_eq!(with_host(expected), expected, "again");
            assert_eq!(remove(expected, HELPERS, "127.0.0.1:5050").unwrap(), text);
        }
    }

    #[test]
    fn an_entry_goes_from_wherever_it_stands() {
        let without = |text| remove(text, HELPERS, "a").unwrap();
        let others = "{\"credHelpers\": {\"b\": \"x\", \"c\": \"y\"}}";
        for text in [
            "{\"credHelpers\": {\"a\": \"ark\", \"b\": \"x\", \"c\": \"y\"}}",
            "{\"credHelpers\": {\"b\": \"x\", \"a\": \"ark\", \"c\": \"y\"}}",
            "{\"credHelpers\": {\"b\": \"x\", \"c\": \"y\", \"a\": \"ark\"}}",
            others,
        ] {
            assert_eq!(without(text), others);
        }
        assert_eq!(without("{\"credHelpers\":{\"a\":\"ark\"},\"z\":1}"), "{\"z\":1}");
        assert_eq!(
            without("{\"y\":1,\"credHelpers\":{\"a\":\"ark\"},\"z\":1}"),
            "{\"y\":1,\"z\":1}"
        );
        assert_eq!(without("{\"z\": 1}"), "{\"z\": 1}");
    }

    #[test]
    fn what_cannot_be_changed_is_told() {
        let told = |text| set(text, HELPERS, "a", "1").unwrap_err().to_string();
        assert_eq!(told("[]"), "it is no object");
        assert_eq!(told("{\"credHelpers\": 1}"), "\"credHelpers\" in it is no object");
        assert!(told("{").starts_with("it is no JSON: EOF while parsing"), "{}", told("{"));
        assert!(told("{} {}").starts_with("it is no JSON: trailing characters"));
    }
}
