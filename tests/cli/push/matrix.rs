//! Transfers between every source and target: the requested image, or an error with the available platforms.

use std::fs;
use std::path::PathBuf;

use ark_container_core::distribution::Manifest;
use ark_container_core::model::{Descriptor, media_type};
use serde_json::{Value, json};

use super::object;
use crate::sandbox::{OTHER, Run, Sandbox, Served, TBD};

const OPTIONS: [&str; 3] = ["", "--platform linux/arm64", "--all-platforms"];

/// An image in a layout, and the digests after its transfers.
struct Sample {
    name: &'static str,
    whole: String,
    /// Digest of the image for linux/arm64, if there is one.
    arm: Option<String>,
    /// Whether docker and podman accept the whole image.
    is_single: bool,
}

impl Sample {
    /// Returns the transferred digest for these options, or `None` for an error.
    fn expected(&self, options: &str) -> Option<&str> {
        match options.contains("--platform ") {
            true => self.arm.as_deref(),
            false => Some(&self.whole),
        }
    }
}

/// A layout to write.
struct Layout(PathBuf);

impl Layout {
    fn blob(&self, media_type: &str, content: impl Into<Vec<u8>>) -> Descriptor {
        let content = content.into();
        let blob = Manifest::new(media_type, content.clone());
        fs::create_dir_all(self.0.join("blobs/sha256")).unwrap();
        fs::write(self.0.join("blobs/sha256").join(blob.digest.hex()), &content).unwrap();
        Descriptor::new(media_type, blob.digest, content.len() as u64)
    }

    fn manifest(&self, config: &Descriptor, layer: &Descriptor) -> Descriptor {
        let manifest = json!({"schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST,
            "config": config, "layers": [layer]});
        self.blob(media_type::OCI_MANIFEST, manifest.to_string())
    }

    /// Adds an image with one layer for its architecture.
    fn image(&self, architecture: &str) -> Descriptor {
        // The content of a compressed layer is not read.
        let tar = architecture.as_bytes().to_vec();
        let diff_id = Manifest::new("", tar.clone()).digest;
        let config = json!({"os": "linux", "architecture": architecture,
            "rootfs": {"type": "layers", "diff_ids": [diff_id]}});
        let config = self.blob(media_type::OCI_CONFIG, config.to_string());
        let layer = self.blob(media_type::OCI_LAYER_GZIP, tar);
        let mut image = self.manifest(&config, &layer);
        image.platform = Some(format!("linux/{architecture}").parse().unwrap());
        image
    }

    fn index(&self, children: &[&Descriptor]) -> Descriptor {
        let index =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": children});
        self.blob(media_type::OCI_INDEX, index.to_string())
    }

    fn list(&self, root: &Descriptor) {
        let top = json!({"schemaVersion": 2, "manifests": [root]});
        fs::write(self.0.join("index.json"), top.to_string()).unwrap();
        fs::write(self.0.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
    }
}

/// Writes a single image, an index, an index with an attestation, an artifact and a nested index.
fn write_samples(sandbox: &Sandbox) -> Vec<Sample> {
    let text = |descriptor: &Descriptor| descriptor.digest.to_string();
    ["single", "index", "attested", "artifact", "nested"]
        .map(|name| {
            let layout = Layout(sandbox.path(name));
            let arm = layout.image("arm64");
            let root = match name {
                "single" => arm.clone(),
                "index" => layout.index(&[&layout.image("amd64"), &arm]),
                "attested" => {
                    let config = layout.blob(media_type::OCI_CONFIG, "{}");
                    let statement = layout.blob("application/vnd.in-toto+json", "{}");
                    let mut attestation = layout.manifest(&config, &statement);
                    attestation.platform = Some("unknown/unknown".parse().unwrap());
                    layout.index(&[&arm, &attestation])
                }
                "artifact" => {
                    let config = layout.blob("application/vnd.oci.empty.v1+json", "{}");
                    layout.manifest(&config, &layout.blob("text/plain", "text"))
                }
                _ => layout.index(&[&layout.index(&[&layout.image("amd64"), &arm])]),
            };
            layout.list(&root);
            Sample {
                name,
                whole: text(&root),
                arm: (name != "artifact").then(|| text(&arm)),
                is_single: name == "single",
            }
        })
        .into()
}

/// Returns the digest that a transfer printed, or `None` if the transfer was rejected.
fn arrived(run: &Run, case: &str) -> Option<String> {
    if run.code == 0 {
        let url = run.stdout.trim_end();
        return Some(url.split_once('@').unwrap_or_else(|| panic!("{case}: {run:?}")).1.to_owned());
    }
    assert_eq!(run.code, 2, "{case}: {run:?}");
    let reasons = ["has no image for", "for one platform", "takes an image"];
    assert!(reasons.iter().any(|reason| run.stderr.contains(reason)), "{case}: {run:?}");
    None
}

#[test]
fn sources_and_targets_transfer_the_chosen_platforms() {
    let sandbox = Sandbox::new();
    let samples = write_samples(&sandbox);
    for repository in ["a", "b"] {
        sandbox.printed(&format!("--create-repository {repository} --organization {TBD}"));
    }
    for (number, sample) in samples.iter().enumerate() {
        let (name, ours) = (sample.name, format!("--organization {TBD}"));
        sandbox.printed(&format!("--push a:{name} --from oci:{name} {ours}"));
        for options in OPTIONS {
            let case = |what: &str| format!("{what} of {name} with {options:?}");
            let expected = sample.expected(options).map(str::to_owned);
            let run = |line: String| sandbox.run(&format!("{line} {options} {ours}"));
            let pushed = run(format!("--push b:pushed --from oci:{name}"));
            assert_eq!(arrived(&pushed, &case("push")), expected, "{}", case("push"));
            let copied = run(format!("--copy a:{name} --to b:copied"));
            assert_eq!(arrived(&copied, &case("copy")), expected, "{}", case("copy"));
            for form in ["oci", "oci-archive", "docker-archive"] {
                let file = format!("{form}-{number}-{}", options.len());
                let takes_it = form != "docker-archive"
                    || sample.is_single
                    || (options.contains("--platform ") && sample.arm.is_some());
                let what = case(&format!("pull into {form}"));
                let pulled = arrived(&run(format!("--pull a:{name} --to {form}:{file}")), &what);
                assert_eq!(pulled, expected.clone().filter(|_| takes_it), "{what}");
                let Some(digest) = pulled else { continue };
                let back = sandbox.run(&format!("--push b:back --from {form}:{file} {ours}"));
                let what = case(&format!("push from {form}"));
                assert_eq!(arrived(&back, &what), Some(digest), "{what}");
            }
        }
    }
}

#[test]
fn foreign_image_is_copied_and_pulled_with_its_signature() {
    let served = Served::with_repositories(&["a"]);
    let samples = write_samples(&served.sandbox);
    let here = Sandbox::new();
    here.printed(&format!("--create-repository b --organization {OTHER}"));
    let login =
        format!("--quiet --login a --organization {TBD} --access pull --docker-config login");
    served.sandbox.printed(&login);
    let copy = |line: &str| {
        let mut command = here.command(&format!("{line} --organization {OTHER}"));
        here.finish(command.env("DOCKER_CONFIG", served.sandbox.path("login")))
    };
    for sample in &samples {
        let name = sample.name;
        let push = format!("--push a:{name} --from oci:{name} --organization {TBD}");
        served.sandbox.printed(&push);
        // The tag that cosign uses for a signature.
        let signature = format!("{}.sig", sample.whole.replace(':', "-"));
        let sign = format!("--push a:{signature} --from oci:single --organization {TBD}");
        served.sandbox.printed(&sign);
        let image = format!("docker://{}", served.image(&format!("a:{name}")));
        for options in OPTIONS {
            let case = format!("copy of {name} with {options:?}");
            let copied = copy(&format!("--copy {image} --to b {options}"));
            assert_eq!(arrived(&copied, &case).as_deref(), sample.expected(options), "{case}");
            let pulled = copy(&format!("--pull {image} --to oci:pulled:{name} {options}"));
            assert_eq!(arrived(&pulled, &case).as_deref(), sample.expected(options), "{case}");
        }
        let back = format!("--push b:back --from oci:pulled:{name} --organization {OTHER}");
        let last = sample.expected(OPTIONS[2]).map(str::to_owned);
        assert_eq!(arrived(&here.run(&back), "back"), last, "{name}");
        let resolved = object(&here, &format!("--inspect b:{signature} --organization {OTHER}"));
        assert_eq!(digest_of(&resolved), samples[0].whole, "{name}");
    }
    let image = format!("docker://{}", served.image("a:index"));
    let inspected = copy(&format!("--inspect {image} --digest"));
    assert_eq!(inspected.stdout.trim_end(), samples[1].whole, "{inspected:?}");
    let anonymous = here.run(&format!(
        "--copy docker://{} --to b --organization {OTHER}",
        served.image("a:single")
    ));
    assert_eq!(anonymous.code, 3, "{anonymous:?}");
    let help = format!("log in to the registry: docker login {}", served.server.host());
    assert!(anonymous.stderr.contains(&help), "{anonymous:?}");
    let pushed = copy(&format!("--push b:v1 --from {image}"));
    assert_eq!(pushed.code, 2, "{pushed:?}");
    let help = format!("copy it: ark-catalog-container-tool --copy {image} --to b:v1");
    assert!(pushed.stderr.contains(&help), "{pushed:?}");
}

fn digest_of(inspected: &Value) -> String {
    inspected["digest"].as_str().unwrap().to_owned()
}
