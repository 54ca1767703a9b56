//! [`ManifestContent`]: the parser of manifests and indexes, for registries, clients and transfers.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::manifest_keys::check_keys;
use super::parse::{annotations, null_as_default};
use super::{Descriptor, media_type};
use crate::encoding::decode;

/// The media types of configurations that contain a platform.
#[cfg(any(feature = "local", feature = "push"))]
const IMAGE_CONFIGS: [&str; 2] = [media_type::OCI_CONFIG, media_type::DOCKER_CONFIG];

/// The content of a manifest or index of OCI or docker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ManifestContent {
    Image(ImageManifest),
    Index(Index),
}

/// The content of an image manifest: one configuration, and layers from the lowest to the highest.
///
/// The order of the fields must not change: they are written in this order, and the digest of the same
/// image depends on it.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/manifest.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ImageManifest {
    schema_version: u8,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

/// The content of an index: its manifests. A list of referrers has the same form.
///
/// Fields are written in this order.
///
/// Source: <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-index.md>
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    schema_version: u8,
    media_type: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) artifact_type: Option<String>,
    pub(crate) manifests: Vec<Descriptor>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) subject: Option<Descriptor>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl ImageManifest {
    /// Creates an OCI manifest.
    #[cfg(feature = "push")]
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            media_type: media_type::OCI_MANIFEST.to_owned(),
            artifact_type: None,
            config,
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

#[cfg(any(feature = "local", feature = "push"))]
impl ImageManifest {
    /// Returns whether the configuration contains a platform, according to its media type.
    pub(crate) fn has_image_config(&self) -> bool {
        IMAGE_CONFIGS.contains(&self.config.media_type.as_str())
    }
}

impl Index {
    /// Creates an OCI index.
    #[cfg(feature = "push")]
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: SCHEMA_VERSION,
            media_type: media_type::OCI_INDEX.to_owned(),
            artifact_type: None,
            manifests,
            subject: None,
            annotations: BTreeMap::new(),
        }
    }
}

const SCHEMA_VERSION: u8 = 2;

/// The fields of a manifest or index, before the parser knows which of the two it is.
///
/// Go programs write `null` for an empty list or map, so `null` means that a value is absent.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Fields {
    schema_version: Option<u64>,
    #[serde(default, deserialize_with = "null_as_default")]
    media_type: String,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    #[serde(default, deserialize_with = "present")]
    manifests: Option<Option<Vec<Descriptor>>>,
    subject: Option<Descriptor>,
    #[serde(default, deserialize_with = "annotations")]
    annotations: BTreeMap<String, String>,
}

/// Distinguishes `null` from a missing value: an index without manifests has at least their key.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<Vec<Descriptor>>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

impl ManifestContent {
    /// Parses a manifest or index with the media type from its descriptor or `Content-Type`.
    ///
    /// # Errors
    /// The reason why the content is invalid. The declared media type, the media type in the content and
    /// the fields must agree, and the keys must be unambiguous.
    pub(crate) fn parse(declared: &str, bytes: &[u8]) -> Result<Self, String> {
        Self::parse_limited(declared, bytes, usize::MAX)
    }

    /// Parses a manifest or index with at most `max_free_keys` annotations and unknown fields. The limit
    /// keeps the memory for the result proportional to the size of `bytes`.
    ///
    /// # Errors
    /// See [`parse`](Self::parse).
    pub(crate) fn parse_limited(
        declared: &str,
        bytes: &[u8],
        max_free_keys: usize,
    ) -> Result<Self, String> {
        let is_index = media_type::is_index(declared);
        if !is_index && !media_type::is_manifest(declared) {
            return Err(format!("{declared:?} is not the media type of a manifest"));
        }
        // JSON is UTF-8, also in the fields that this parser ignores.
        let text = decode(bytes).map_err(|problem| format!("it is not JSON: {problem}"))?;
        let fields = check_keys(text, max_free_keys).and_then(|()| serde_json::from_str(text));
        let Fields {
            schema_version,
            media_type,
            artifact_type,
            config,
            layers,
            manifests,
            subject,
            annotations,
        } = fields.map_err(|error| error.to_string())?;
        if let Some(version) =
            schema_version.filter(|version| *version != u64::from(SCHEMA_VERSION))
        {
            return Err(format!("its schema version is {version}, not {SCHEMA_VERSION}"));
        }
        if !media_type.is_empty() && media_type != declared {
            return Err(format!("it says that it is {media_type:?}, and came as {declared:?}"));
        }
        let (schema_version, media_type) = (SCHEMA_VERSION, declared.to_owned());
        let artifact_type = artifact_type.filter(|own| !own.is_empty());
        // Content that is valid as a manifest and as an index would be two images.
        // Source: https://github.com/opencontainers/image-spec/security/advisories/GHSA-77vh-xpmg-72qh
        match (config, manifests) {
            (None, Some(manifests)) if is_index && layers.is_none() => Ok(Self::Index(Index {
                schema_version,
                media_type,
                artifact_type,
                manifests: manifests.unwrap_or_default(),
                subject,
                annotations,
            })),
            (None, None) if is_index && layers.is_none() => {
                Err("an index needs manifests".to_owned())
            }
            _ if is_index => Err("an index has neither config nor layers".to_owned()),
            (_, Some(Some(_))) => Err("only an index has manifests".to_owned()),
            (None, _) => Err("a manifest needs a config".to_owned()),
            (Some(config), _) => Ok(Self::Image(ImageManifest {
                schema_version,
                media_type,
                artifact_type,
                config,
                layers: layers.unwrap_or_default(),
                subject,
                annotations,
            })),
        }
    }

    /// Returns the blobs that must be stored before the manifest: configuration and layers, or the blobs
    /// that an index lists. The index of a build cache lists blobs.
    #[cfg(any(feature = "local", feature = "push"))]
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, layers) = match self {
            Self::Image(image) => (Some(&image.config), image.layers.as_slice()),
            Self::Index(_) => (None, [].as_slice()),
        };
        let listed = self.listed().iter().filter(|child| !child.is_manifest());
        config.into_iter().chain(layers).chain(listed)
    }

    /// Returns the manifests and indexes that an index lists.
    #[cfg(any(feature = "local", feature = "push"))]
    pub(crate) fn manifests(&self) -> impl Iterator<Item = &Descriptor> {
        self.listed().iter().filter(|child| child.is_manifest())
    }

    /// Returns all descriptors of an index: manifests, indexes and blobs.
    pub(crate) fn listed(&self) -> &[Descriptor] {
        match self {
            Self::Image(_) => &[],
            Self::Index(index) => &index.manifests,
        }
    }

    /// Returns all descriptors of an index.
    #[cfg(feature = "push")]
    pub(crate) fn into_listed(self) -> Vec<Descriptor> {
        match self {
            Self::Image(_) => Vec::new(),
            Self::Index(index) => index.manifests,
        }
    }

    /// Returns the configuration if its media type implies a platform.
    #[cfg(any(feature = "local", feature = "push"))]
    pub(crate) fn image_config(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(image) => image.has_image_config().then_some(&image.config),
            Self::Index(_) => None,
        }
    }

    /// Returns the manifest that is the subject of this one.
    pub(crate) fn subject(&self) -> Option<&Descriptor> {
        match self {
            Self::Image(ImageManifest { subject, .. }) | Self::Index(Index { subject, .. }) => {
                subject.as_ref()
            }
        }
    }

    /// Returns the artifact type for listings of referrers. The default is the media type of the configuration.
    ///
    /// Source: <https://github.com/opencontainers/distribution-spec/blob/v1.1.0/spec.md#listing-referrers>
    pub(crate) fn artifact_type(&self) -> Option<&str> {
        match self {
            Self::Image(ImageManifest { artifact_type, config, .. }) => {
                Some(artifact_type.as_deref().unwrap_or(&config.media_type))
            }
            Self::Index(index) => index.artifact_type.as_deref(),
        }
    }

    #[cfg(any(feature = "local", feature = "push"))]
    pub(crate) fn annotations(&self) -> &BTreeMap<String, String> {
        match self {
            Self::Image(ImageManifest { annotations, .. })
            | Self::Index(Index { annotations, .. }) => annotations,
        }
    }
}

#[cfg(feature = "_fuzzing")]
pub(crate) mod fuzzing {
    //! Private parsers of manifests and configurations, for the fuzz targets.

    use super::ManifestContent;
    use crate::model::{Descriptor, Digest, Platform};

    /// Returns the digests of the configuration and layers of a manifest, and the digests that an index
    /// lists. Fails if the content is not a manifest or index.
    pub fn manifest(media_type: &str, bytes: &[u8]) -> Result<(Vec<Digest>, Vec<Digest>), String> {
        let digests =
            |found: Vec<&Descriptor>| found.into_iter().map(|found| found.digest.clone()).collect();
        Ok(match ManifestContent::parse(media_type, bytes)? {
            content @ ManifestContent::Image(_) => (digests(content.blobs().collect()), Vec::new()),
            ManifestContent::Index(index) => {
                (Vec::new(), digests(index.manifests.iter().collect()))
            }
        })
    }

    /// Returns the platform in a configuration.
    pub fn platform(config: &[u8]) -> Option<Platform> {
        Platform::of_config(config)
    }
}

#[cfg(test)]
#[cfg(any(feature = "local", feature = "push"))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::Digest;
    use crate::model::media_type::{
        DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_CONFIG, OCI_INDEX, OCI_LAYER_GZIP, OCI_MANIFEST,
    };

    fn descriptor(media_type: &str) -> String {
        let hex = "ab".repeat(32);
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{hex}","size":1}}"#)
    }

    /// Returns the descriptor with additional fields.
    fn with(fields: &str, descriptor: &str) -> String {
        descriptor.replacen('{', &format!("{{{fields},"), 1)
    }

    fn manifest_of(media_type: &str) -> String {
        let (config, layer) = (descriptor(OCI_CONFIG), descriptor(OCI_LAYER_GZIP));
        format!(
            r#"{{"schemaVersion":2,"mediaType":"{media_type}","config":{config},"layers":[{layer}]}}"#
        )
    }

    fn index_of(media_type: &str, child: &str) -> String {
        format!(r#"{{"schemaVersion":2,"mediaType":"{media_type}","manifests":[{child}]}}"#)
    }

    fn parse(media_type: &str, text: &str) -> Result<ManifestContent, String> {
        ManifestContent::parse(media_type, text.as_bytes())
    }

    fn counts(media_type: &str, text: &str) -> (usize, usize) {
        let content = parse(media_type, text).unwrap_or_else(|problem| panic!("{problem}: {text}"));
        (content.blobs().count(), content.manifests().count())
    }

    #[test]
    fn manifest_media_types_are_parsed() {
        for kind in [OCI_MANIFEST, DOCKER_MANIFEST] {
            assert_eq!(counts(kind, &manifest_of(kind)), (2, 0));
        }
        for kind in [OCI_INDEX, DOCKER_MANIFEST_LIST] {
            assert_eq!(counts(kind, &index_of(kind, &descriptor(OCI_MANIFEST))), (0, 1));
        }
    }

    #[test]
    fn null_and_missing_optional_fields_are_absent() {
        let config = descriptor(OCI_CONFIG);
        let layer = descriptor(OCI_LAYER_GZIP);
        for (text, blobs) in [
            (format!(r#"{{"config":{config}}}"#), 1),
            (format!(r#"{{"schemaVersion":null,"config":{config},"layers":null}}"#), 1),
            (format!(r#"{{"config":{config},"manifests":null,"subject":null}}"#), 1),
            (format!(r#"{{"config":{config},"mediaType":null,"artifactType":null}}"#), 1),
            (format!(r#"{{"config":{config},"mediaType":"","annotations":null}}"#), 1),
            (format!(r#"{{"config":{config},"annotations":{{"a":null,"b":"c"}}}}"#), 1),
            (format!(r#"{{"config":{config},"layers":[{}]}}"#, with(r#""urls":null"#, &layer)), 2),
            (
                format!(
                    r#"{{"config":{},"layers":[{}]}}"#,
                    with(r#""annotations":{"a":null},"platform":null"#, &config),
                    with(r#""annotations":null,"artifactType":null,"data":null"#, &layer)
                ),
                2,
            ),
        ] {
            assert_eq!(counts(OCI_MANIFEST, &text), (blobs, 0), "{text}");
        }
        for text in [
            r#"{"schemaVersion":2,"manifests":null}"#,
            r#"{"schemaVersion":2,"manifests":[]}"#,
            r#"{"manifests":[],"config":null,"layers":null}"#,
        ] {
            assert_eq!(counts(OCI_INDEX, text), (0, 0), "{text}");
        }
        let text = format!(r#"{{"config":{config},"annotations":{{"a":null,"b":"c"}}}}"#);
        let content = parse(OCI_MANIFEST, &text).unwrap();
        assert_eq!(content.annotations(), &BTreeMap::from([("b".to_owned(), "c".to_owned())]));
    }

    #[test]
    fn partial_platform_is_absent() {
        for (platform, expected) in [
            ("null", None),
            ("{}", None),
            (r#"{"os":"linux"}"#, None),
            (r#"{"architecture":"amd64"}"#, None),
            (r#"{"os":"","architecture":""}"#, None),
            (r#"{"os":null,"architecture":"amd64"}"#, None),
            (r#"{"os":"linux","architecture":"amd64","variant":""}"#, Some("linux/amd64")),
            (r#"{"os":"linux","architecture":"arm","variant":"v7"}"#, Some("linux/arm/v7")),
            (
                r#"{"os":"windows","architecture":"amd64","os.version":"10","os.features":["x"]}"#,
                Some("windows/amd64"),
            ),
        ] {
            let child = with(&format!(r#""platform":{platform}"#), &descriptor(OCI_MANIFEST));
            let content = parse(OCI_INDEX, &index_of(OCI_INDEX, &child)).unwrap();
            let found = content.listed()[0].platform.as_ref().map(ToString::to_string);
            assert_eq!(found.as_deref(), expected, "{platform}");
        }
    }

    #[test]
    fn invalid_manifest_is_rejected_with_reason() {
        let (manifest, index) = (manifest_of(OCI_MANIFEST), index_of(OCI_INDEX, ""));
        let replaced = |from: &str, to: &str| manifest.replacen(from, to, 1);
        for (declared, text, expected) in [
            ("text/plain", manifest.clone(), "\"text/plain\" is not the media type"),
            (OCI_MANIFEST, "{".to_owned(), "EOF"),
            (OCI_MANIFEST, format!("{manifest}x"), "trailing characters"),
            (DOCKER_MANIFEST, manifest.clone(), "and came as"),
            (OCI_INDEX, manifest.clone(), "and came as"),
            (OCI_INDEX, r#"{"schemaVersion":2}"#.to_owned(), "an index needs manifests"),
            (OCI_MANIFEST, r#"{"schemaVersion":2}"#.to_owned(), "a manifest needs a config"),
            (OCI_MANIFEST, r#"{"schemaVersion":2,"layers":[]}"#.to_owned(), "needs a config"),
            (OCI_MANIFEST, r#"{"config":null}"#.to_owned(), "needs a config"),
            (OCI_MANIFEST, r#"{"schemaVersion":1}"#.to_owned(), "is 1, not 2"),
            (OCI_MANIFEST, r#"{"manifests":[]}"#.to_owned(), "only an index has manifests"),
            (OCI_MANIFEST, replaced(r#""layers""#, r#""manifests":[],"layers""#), "only an index"),
            (OCI_INDEX, index.replace(r#"ts":"#, r#"ts":[],"layers":"#), "config nor layers"),
            (OCI_MANIFEST, replaced("sha256:", "md5:"), "neither sha256 nor sha512"),
            (OCI_MANIFEST, replaced(r#""size":1"#, r#""size":-1"#), "invalid value"),
            (OCI_MANIFEST, replaced(r#","size":1"#, ""), "missing field `size`"),
            // A derived deserializer also accepts an array in place of an object.
            (OCI_MANIFEST, "[2]".to_owned(), "invalid type: sequence, expected an object"),
            (OCI_MANIFEST, r#"{"config":["x"]}"#.to_owned(), "expected an object"),
        ] {
            let problem = parse(declared, &text).unwrap_err();
            assert!(problem.contains(expected), "{problem}: {text}");
        }
    }

    #[test]
    fn duplicate_key_is_rejected() {
        let descriptor = descriptor(OCI_MANIFEST);
        let twice = |fields: &str| with(fields, &descriptor);
        for (text, key) in [
            (r#"{"manifests":[],"manifests":[]}"#.to_owned(), "manifests"),
            (r#"{"manifests":[],"manifests":null}"#.to_owned(), "manifests"),
            (r#"{"manifests":[],"manifest\u0073":[]}"#.to_owned(), "manifests"),
            (r#"{"manifests":[],"x":1,"x":2}"#.to_owned(), "x"),
            (r#"{"manifests":[],"annotations":{"a":"1","a":"2"}}"#.to_owned(), "a"),
            (index_of(OCI_INDEX, &twice(r#""digest":"x""#)), "digest"),
            (index_of(OCI_INDEX, &twice(r#""data":"","data":"""#)), "data"),
            (index_of(OCI_INDEX, &twice(r#""annotations":{"a":"1","a":"2"}"#)), "a"),
            (index_of(OCI_INDEX, &twice(r#""platform":{"os":"a","os":"b"}"#)), "os"),
            (format!(r#"{{"manifests":[],"subject":{}}}"#, twice(r#""size":1"#)), "size"),
        ] {
            let problem = parse(OCI_INDEX, &text).unwrap_err();
            assert!(problem.starts_with(&format!("the key {key:?} occurs twice")), "{problem}");
        }
        // Other programs ignore the keys of an unknown object.
        assert!(parse(OCI_INDEX, r#"{"manifests":[],"x":{"a":1,"a":2}}"#).is_ok());
    }

    #[test]
    fn key_in_another_case_is_rejected() {
        let manifest = manifest_of(OCI_MANIFEST);
        for (known, key) in [
            ("layers", "Layers"),
            ("layers", "layer\u{17f}"),
            ("layers", r"layer\u017f"),
            ("config", "Config"),
            ("mediaType", "mediatype"),
            ("schemaVersion", "\u{17f}chemaVer\u{17f}ion"),
            ("digest", "DIGEST"),
            ("size", "\u{17f}ize"),
        ] {
            let text = manifest.replacen(&format!("{known:?}"), &format!("\"{key}\""), 1);
            let problem = parse(OCI_MANIFEST, &text).unwrap_err();
            let expected = format!("differs from {known:?} only by case");
            assert!(problem.contains(&expected), "{problem}: {text}");
        }
        for (known, text) in [
            ("manifests", format!(r#"{{"MANIFESTS":[],{}"#, &manifest[1..])),
            ("subject", format!(r#"{{"Subject":{{}},{}"#, &manifest[1..])),
            ("urls", manifest.replacen(r#""size""#, r#""URLs":[],"size""#, 1)),
        ] {
            let problem = parse(OCI_MANIFEST, &text).unwrap_err();
            assert!(problem.contains(&format!("from {known:?} only by case")), "{problem}");
        }
        // Authors choose the keys of annotations and unknown fields.
        let text =
            manifest.replacen('{', r#"{"annotations":{"Size":"1","size":"2"},"X":1,"x":2,"#, 1);
        assert!(parse(OCI_MANIFEST, &text).is_ok());
    }

    #[test]
    fn key_in_error_is_short_and_escaped() {
        let long = "\u{202e}".repeat(1000);
        let text = format!(r#"{{"{long}":1,"{long}":2,"manifests":[]}}"#);
        let problem = parse(OCI_INDEX, &text).unwrap_err();
        assert!(problem.starts_with(r#"the key "\u{202e}"#), "{problem}");
        assert!(problem.len() < 1000, "{problem}");
    }

    #[test]
    fn build_cache_lists_blobs() {
        let children = [OCI_LAYER_GZIP, "application/vnd.buildkit.cacheconfig.v0", OCI_MANIFEST];
        let text = index_of(OCI_INDEX, &children.map(descriptor).join(","));
        assert_eq!(counts(OCI_INDEX, &text), (2, 1));
        assert_eq!(parse(OCI_INDEX, &text).unwrap().listed().len(), 3);
    }

    #[test]
    fn subject_and_artifact_type_are_found() {
        let digest: Digest = format!("sha256:{}", "ab".repeat(32)).parse().unwrap();
        let subject = format!(r#""subject":{}"#, descriptor(OCI_MANIFEST));
        let manifest = manifest_of(OCI_MANIFEST);
        let index = index_of(OCI_INDEX, "");
        for (declared, text, expected, artifact_type) in [
            (OCI_MANIFEST, manifest.clone(), None, Some(OCI_CONFIG)),
            (OCI_MANIFEST, with(&subject, &manifest), Some(&digest), Some(OCI_CONFIG)),
            (OCI_MANIFEST, with(r#""artifactType":"sig""#, &manifest), None, Some("sig")),
            (OCI_MANIFEST, with(r#""artifactType":"""#, &manifest), None, Some(OCI_CONFIG)),
            (OCI_INDEX, index.clone(), None, None),
            (OCI_INDEX, with(&subject, &index), Some(&digest), None),
        ] {
            let content = parse(declared, &text).unwrap();
            assert_eq!(content.subject().map(|subject| &subject.digest), expected, "{text}");
            assert_eq!(content.artifact_type(), artifact_type, "{text}");
        }
    }

    #[test]
    fn non_utf8_text_in_unknown_field_is_rejected() {
        let ignored = manifest_of(OCI_MANIFEST).replace(r#""layers""#, r#""x":"?","layers""#);
        assert!(parse(OCI_MANIFEST, &ignored).is_ok());
        let bytes = ignored.bytes().map(|byte| if byte == b'?' { 0xff } else { byte });
        let problem = ManifestContent::parse(OCI_MANIFEST, &bytes.collect::<Vec<_>>()).unwrap_err();
        assert!(problem.contains("it is not UTF-8"), "{problem}");
    }

    proptest! {
        #[test]
        fn content_is_never_both_image_and_index(
            keys in proptest::collection::vec(0usize..7, 0..5),
        ) {
            let (config, layer) = (descriptor(OCI_CONFIG), descriptor(OCI_LAYER_GZIP));
            let fields = [
                format!(r#""config":{config}"#),
                r#""config":null"#.to_owned(),
                format!(r#""layers":[{layer}]"#),
                r#""layers":null"#.to_owned(),
                r#""manifests":[]"#.to_owned(),
                r#""manifests":null"#.to_owned(),
                r#""Manifests":[]"#.to_owned(),
            ];
            let chosen: Vec<_> = keys.iter().map(|key| fields[*key].as_str()).collect();
            let text = format!("{{{}}}", chosen.join(","));
            let both = parse(OCI_MANIFEST, &text).is_ok() && parse(OCI_INDEX, &text).is_ok();
            prop_assert!(!both, "{}", text);
        }
    }
}
