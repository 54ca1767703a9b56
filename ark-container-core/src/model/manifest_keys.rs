//! [`check_keys`]: rejects JSON that other programs may interpret as a different manifest.
//!
//! The decoder of Go uses the last of two equal keys, and accepts a known key in another case. A manifest
//! with such keys would be two images with one digest.

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, de::Unexpected};

/// The maximum number of characters of a key in an error.
const MAX_SHOWN_CHARS: usize = 80;

/// Checks the keys of a manifest or index, of its descriptors, and of their platforms and annotations.
///
/// # Errors
/// - A key occurs twice.
/// - A key differs from a known one only by case.
/// - A value is not an object where an object is expected.
/// - There are more than `max_free_keys` annotations and unknown fields.
pub(super) fn check_keys(manifest: &str, max_free_keys: usize) -> serde_json::Result<()> {
    let mut deserializer = serde_json::Deserializer::from_str(manifest);
    let limit = Limit { max: max_free_keys, count: Cell::new(0) };
    Checked { value: Value::Manifest, limit: &limit }.deserialize(&mut deserializer)?;
    deserializer.end()
}

/// The number of annotations and unknown fields so far, and the maximum.
struct Limit {
    max: usize,
    count: Cell<usize>,
}

/// A value whose keys are checked.
#[derive(Clone, Copy)]
struct Checked<'a> {
    value: Value,
    limit: &'a Limit,
}

/// The kind of a value in a manifest, which determines its known keys.
#[derive(Debug, Clone, Copy)]
enum Value {
    Manifest,
    Descriptors,
    Descriptor,
    Platform,
    Annotations,
    Other,
}

impl Value {
    /// Returns the keys that this library or another program uses.
    fn known_keys(self) -> &'static [&'static str] {
        match self {
            Self::Manifest => &[
                "schemaVersion",
                "mediaType",
                "artifactType",
                "config",
                "layers",
                "manifests",
                "subject",
                "annotations",
            ],
            Self::Descriptor => &[
                "mediaType",
                "digest",
                "size",
                "urls",
                "annotations",
                "data",
                "artifactType",
                "platform",
            ],
            Self::Platform => &["architecture", "os", "os.version", "os.features", "variant"],
            Self::Descriptors | Self::Annotations | Self::Other => &[],
        }
    }

    /// Returns the kind of the value at a key.
    fn at(self, key: &str) -> Self {
        match (self, key) {
            (Self::Manifest, "layers" | "manifests") => Self::Descriptors,
            (Self::Manifest, "config" | "subject") => Self::Descriptor,
            (Self::Manifest | Self::Descriptor, "annotations") => Self::Annotations,
            (Self::Descriptor, "platform") => Self::Platform,
            _ => Self::Other,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Checked<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.value {
            Value::Other => IgnoredAny::deserialize(deserializer).map(drop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

#[derive(PartialEq, Eq, Hash, Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Checked<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.value {
            Value::Descriptors => "an array",
            _ => "an object",
        })
    }

    /// Accepts `null`, which means that a value is absent.
    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        match self.value {
            Value::Descriptors => {
                let descriptor = Self { value: Value::Descriptor, ..self };
                while elements.next_element_seed(descriptor)?.is_some() {}
                Ok(())
            }
            // A derived deserializer would also accept an array in place of an object.
            _ => Err(A::Error::invalid_type(Unexpected::Seq, &self)),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<Key<'de>>()? {
            let known_keys = self.value.known_keys();
            if let Some(known) = known_keys.iter().find(|known| is_confused(&key.0, known)) {
                let problem =
                    format!("the key {} differs from {known:?} only by case", shown(&key));
                return Err(A::Error::custom(problem));
            }
            if !known_keys.contains(&&*key.0) {
                self.limit.count_free_key().map_err(A::Error::custom)?;
            }
            entries.next_value_seed(Self { value: self.value.at(&key.0), ..self })?;
            if let Some(key) = keys.replace(key) {
                return Err(A::Error::custom(format!("the key {} occurs twice", shown(&key))));
            }
        }
        Ok(())
    }
}

impl Limit {
    fn count_free_key(&self) -> Result<(), String> {
        self.count.set(self.count.get() + 1);
        match self.count.get() > self.max {
            true => Err(format!("it has more than {} annotations and unknown fields", self.max)),
            false => Ok(()),
        }
    }
}

/// Returns whether a key differs from the known one, but is equal after Unicode case folding.
fn is_confused(key: &str, known: &str) -> bool {
    key != known && key.chars().map(folded).eq(known.chars().map(folded))
}

/// Folds the characters that fold to ASCII. The known keys contain only ASCII characters.
///
/// Source: <https://www.unicode.org/Public/UCD/latest/ucd/CaseFolding.txt>
fn folded(character: char) -> char {
    match character {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        other => other.to_ascii_lowercase(),
    }
}

fn shown(key: &Key<'_>) -> String {
    format!("{:?}", key.0.chars().take(MAX_SHOWN_CHARS).collect::<String>())
}
