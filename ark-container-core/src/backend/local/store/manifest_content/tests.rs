use super::super::sample::{CONFIG, LAYER, descriptor, index_of, manifest_of};
use super::*;
use crate::model::media_type::{DOCKER_MANIFEST, DOCKER_MANIFEST_LIST, OCI_INDEX, OCI_MANIFEST};

fn problem(media_type: &str, text: &str) -> String {
    ManifestContent::parse(media_type, text.as_bytes()).unwrap_err().to_string()
}

#[test]
fn all_four_kinds_are_read() {
    let config = descriptor(CONFIG, b"{}");
    for kind in [OCI_MANIFEST, DOCKER_MANIFEST] {
        let text = manifest_of(kind, &config, &[descriptor(LAYER, b"x")]);
        let content = ManifestContent::parse(kind, text.as_bytes()).unwrap();
        assert_eq!((content.blobs().count(), content.children().count()), (2, 0));
    }
    for kind in [OCI_INDEX, DOCKER_MANIFEST_LIST] {
        let text = index_of(kind, &[descriptor(OCI_MANIFEST, b"x")]);
        let content = ManifestContent::parse(kind, text.as_bytes()).unwrap();
        assert_eq!((content.blobs().count(), content.children().count()), (0, 1));
    }
    // The media type may be left out, and Go writes null for an empty list.
    let text = format!(r#"{{"schemaVersion":2,"config":{config},"layers":null}}"#);
    assert!(ManifestContent::parse(OCI_MANIFEST, text.as_bytes()).is_ok());
}

#[test]
fn what_is_no_manifest_is_refused_with_the_reason() {
    let manifest = manifest_of(OCI_MANIFEST, &descriptor(CONFIG, b"{}"), &[]);
    let index = index_of(OCI_INDEX, &[]);
    assert!(problem("text/plain", &manifest).contains("\"text/plain\" is not the media type"));
    assert!(problem(OCI_MANIFEST, "{").contains("EOF"));
    assert!(problem(DOCKER_MANIFEST, &manifest).contains("and came as"));
    assert!(problem(OCI_INDEX, r#"{"schemaVersion":2}"#).ends_with("an index needs manifests"));
    assert!(problem(OCI_MANIFEST, r#"{"schemaVersion":2}"#).ends_with("needs a config"));
    assert!(problem(OCI_MANIFEST, r#"{"schemaVersion":1}"#).ends_with("is 1, not 2"));
    let both = manifest.replace(r#""layers""#, r#""manifests":[],"layers""#);
    assert!(problem(OCI_MANIFEST, &both).ends_with("only an index has manifests"));
    let both = index.replace(r#""manifests""#, r#""layers":[],"manifests""#);
    assert!(problem(OCI_INDEX, &both).ends_with("neither config nor layers"));
    let twice = manifest.replace(r#""layers":[]"#, r#""layers":[],"layers":[]"#);
    assert!(problem(OCI_MANIFEST, &twice).contains("duplicate field"));
    let digest = manifest.replace("sha256:", "md5:");
    assert!(problem(OCI_MANIFEST, &digest).contains("neither sha256 nor sha512"));
}

#[test]
fn only_foreign_layers_with_an_address_may_be_elsewhere() {
    let content = |media_type: &str, urls: &str| -> Content {
        let text = descriptor(media_type, b"x");
        serde_json::from_str(&text.replacen('{', &format!("{{\"urls\":{urls},"), 1)).unwrap()
    };
    let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    let restricted = "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip";
    let urls = r#"["https://example.com/x"]"#;
    assert!(content(foreign, urls).is_elsewhere());
    assert!(content(restricted, urls).is_elsewhere());
    assert!(!content(foreign, "[]").is_elsewhere());
    assert!(!content(foreign, "null").is_elsewhere());
    assert!(!content(LAYER, urls).is_elsewhere());
}

#[test]
fn what_is_not_utf_8_is_no_manifest_wherever_it_stands() {
    let manifest = manifest_of(OCI_MANIFEST, &descriptor(CONFIG, b"{}"), &[]);
    let ignored = manifest.replace(r#""layers""#, r#""x":"?","layers""#);
    assert!(ManifestContent::parse(OCI_MANIFEST, ignored.as_bytes()).is_ok());
    let bytes = ignored.bytes().map(|byte| if byte == b'?' { 0xff } else { byte });
    let refusal = ManifestContent::parse(OCI_MANIFEST, &bytes.collect::<Vec<_>>()).unwrap_err();
    assert!(refusal.to_string().contains("it is not UTF-8"), "{refusal}");
}

#[test]
fn platforms_that_say_nothing_are_none() {
    let platform = |text: &str| configured_platform(text.as_bytes()).map(|p| p.to_string());
    let full = r#"{"os":"linux","architecture":"arm","variant":"v7","rootfs":{}}"#;
    assert_eq!(platform(full).as_deref(), Some("linux/arm/v7"));
    let empty = r#"{"os":"linux","architecture":"amd64","variant":""}"#;
    assert_eq!(platform(empty).as_deref(), Some("linux/amd64"));
    assert_eq!(platform(r#"{"os":"unknown","architecture":"unknown"}"#), None);
    assert_eq!(platform("{}"), None);
    assert_eq!(platform("not json"), None);
}
