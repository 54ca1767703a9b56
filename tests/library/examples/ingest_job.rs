use std::path::Path;

use ark_container_core::model::OrganizationId;
use ark_container_core::testing::{SampleImage, TestRegistry};

use super::{example, failed, succeeded};

/// Starts a registry with the image `ingest/settings:v1`, which is also in `layout`.
async fn registry(layout: &Path) -> (TestRegistry, String) {
    let registry = TestRegistry::start().unwrap();
    let catalog = registry.catalog().in_organization(OrganizationId::TBD);
    SampleImage::new("settings").write_oci_layout(layout, None).unwrap();
    catalog.create("ingest/settings").await.unwrap();
    let source = format!("oci:{}", layout.display());
    let pushed = catalog.push("ingest/settings:v1", &source).await.unwrap();
    (registry, pushed.url.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn ingest_job_prepares_repository_settings_and_worker() {
    let folder = tempfile::tempdir().unwrap();
    let (registry, image) = registry(&folder.path().join("layout")).await;
    let directory = registry.backend().directory().to_owned();
    let settings = folder.path().join("settings");
    let job = |worker: &[&str]| {
        let mut command = example("ingest_job", &directory);
        command.args(["catalog/extract-video", "ingest/settings:v1"]).arg(&settings).args(worker);
        command
    };
    let inspect = ["skopeo", "inspect", "--tls-verify=false"];
    let (inspected, stderr) = succeeded(&mut job(&inspect));
    let digest = image.split_once('@').unwrap().1;
    assert!(inspected.contains(digest), "{inspected}");
    assert!(stderr.contains("/catalog/extract-video exists"), "{stderr}");
    assert!(settings.join("index.json").is_file());
    let (_, stderr) = succeeded(&mut job(&inspect));
    assert!(stderr.contains(" 0 bytes fetched"), "no blob is fetched again: {stderr}");

    let layout = format!("oci:{}", folder.path().join("layout").display());
    let stderr = failed(&mut job(&["skopeo", "copy", "-q", "--dest-tls-verify=false", &layout]));
    assert!(stderr.contains("the worker failed"), "the login only permits pulls: {stderr}");
    let stderr = failed(&mut job(&[]));
    assert!(stderr.contains("the WORKER is missing"), "{stderr}");
}
