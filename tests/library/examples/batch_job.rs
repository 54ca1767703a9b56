use std::path::{Path, PathBuf};

use ark_container_core::model::{OrganizationId, Platform};
use ark_container_core::testing::{SampleImage, TestRegistry};

use super::{example, failed, succeeded};

/// Starts a registry with `pipeline/map:v1` for this machine, and `pipeline/other:v1` for another.
async fn registry(layouts: &Path) -> TestRegistry {
    let registry = TestRegistry::start().unwrap();
    let catalog = registry.catalog().in_organization(OrganizationId::TBD);
    let own = SampleImage::builder().with_platforms([Platform::of_this_machine()]).build();
    let other = SampleImage::for_architecture("other", "s390x");
    for (name, image) in [("pipeline/map", own), ("pipeline/other", other)] {
        catalog.create(name).await.unwrap();
        let layout = layouts.join(name.replace('/', "-"));
        image.write_oci_layout(&layout, None).unwrap();
        catalog.push(&format!("{name}:v1"), &format!("oci:{}", layout.display())).await.unwrap();
    }
    registry
}

fn write(folder: &Path, configuration: &str) -> PathBuf {
    let file = folder.join("job.yaml");
    std::fs::write(&file, configuration).unwrap();
    file
}

#[tokio::test(flavor = "multi_thread")]
async fn batch_job_pins_its_images() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path()).await;
    let catalog = registry.catalog().in_organization(OrganizationId::TBD);
    let resolved = catalog.resolve("pipeline/map:v1").await.unwrap();
    let image = format!("{}/prod/{}/pipeline/map:v1", registry.host(), OrganizationId::TBD);
    let configuration = |image: &str| {
        format!(
            "# Nightly.\nsteps:\n  - name: map\n    container_image: \"{image}\"  # the mapper\n  \
             - name: again\n    container_image: {image}\nmemory: 4GiB\n"
        )
    };
    let file = write(folder.path(), &configuration(&image));
    let directory = registry.backend().directory().to_owned();
    let (pinned, stderr) = succeeded(example("batch_job", &directory).arg(file));
    assert_eq!(pinned, configuration(&resolved.url.to_string()));
    let line = format!("{image} is {} ({} bytes, ", resolved.digest(), resolved.size);
    assert!(stderr.contains(&line), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn image_of_another_platform_is_not_pinned() {
    let folder = tempfile::tempdir().unwrap();
    let registry = registry(folder.path()).await;
    let directory = registry.backend().directory().to_owned();
    let tell = |image: &str| {
        let file = write(folder.path(), &format!("container_image: {image}\n"));
        failed(example("batch_job", &directory).arg(file))
    };
    let own = format!("{}/prod/{}", registry.host(), OrganizationId::TBD);
    let stderr = tell(&format!("{own}/pipeline/other:v1"));
    assert!(stderr.contains("s390x"), "{stderr}");
    let stderr = tell(&format!("{own}/pipeline/missing:v1"));
    assert!(stderr.contains("pipeline/missing") && stderr.contains("does not exist"), "{stderr}");
    let stderr = tell("\"\"");
    assert!(!stderr.contains("panicked"), "{stderr}");

    std::fs::write(directory.join("memberships.toml"), MEMBERSHIPS).unwrap();
    let file = write(folder.path(), &format!("container_image: {own}/pipeline/map:v1\n"));
    let stderr =
        failed(example("batch_job", &directory).arg(file).env("ARK_PRINCIPAL", "user:bob"));
    assert!(stderr.contains("user:bob may not pull from"), "{stderr}");
}

const MEMBERSHIPS: &str =
    "[[organization]]\nid = \"11111111-2222-3333-4444-555555555555\"\nmembers = [\"user:bob\"]\n";
