//! An image that buildah built, pushed to ECR from every form it is saved in, and pulled back.

use std::fs;

use ark_container_core::distribution::Manifest;
use serde_json::Value;

use crate::clients::contents;
use crate::ecr::Cloud;
use crate::sandbox::TBD;
use crate::tools::Tools;

const NAME: &str = "catalog/extract-video";

/// Builds an image of two layers in podman's store, and returns its ID.
fn build(cloud: &Cloud, tools: &Tools<'_>) -> String {
    let data: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    cloud
        .sandbox
        .write("context/Dockerfile", "FROM scratch\nCOPY data /srv/data\nCOPY greeting /\n");
    cloud.sandbox.write("context/data", data);
    cloud.sandbox.write("context/greeting", "hello\n");
    let build = "buildah bud -q --layers --isolation chroot -t localhost/sample:1 context";
    tools.printed(build);
    tools.printed("podman images -q --no-trunc localhost/sample:1")
}

/// What skopeo pulls has the configuration `id`, and the very layers that it names.
fn comes_back(cloud: &Cloud, tools: &Tools<'_>, id: &str) {
    let folder = cloud.sandbox.path("pulled");
    let _ = fs::remove_dir_all(&folder);
    let image = cloud.image(&format!("{NAME}:v1"));
    tools.printed(&format!("skopeo copy -q --dest-decompress docker://{image} dir:pulled"));
    let files = contents(&folder);
    let config = &files[id.trim_start_matches("sha256:")];
    let config: Value = serde_json::from_slice(config).unwrap();
    let layers = config["rootfs"]["diff_ids"].as_array().unwrap();
    assert_eq!(layers.len(), 2);
    for layer in layers.iter().map(|layer| layer.as_str().unwrap()) {
        let content = &files[layer.trim_start_matches("sha256:")];
        assert_eq!(Manifest::new("", content.clone()).digest.to_string(), layer);
    }
    // podman verifies what it unpacks.
    tools.printed("podman rmi -f -a");
    tools.printed(&format!("podman pull -q --tls-verify=false {image}"));
    assert_eq!(tools.printed(&format!("podman images -q --no-trunc {image}")), id);
}

#[test]
fn what_buildah_built_reaches_ecr_from_every_form_and_comes_back_whole() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.command(&format!("--login {NAME} --organization {TBD}"));
    assert_eq!(tools.log_in("skopeo", &cloud.host(), login).code, 0);
    let id = build(&cloud, &tools);
    tools.printed("podman save -q -o saved.tar localhost/sample:1");
    tools.printed("podman save -q --format oci-archive -o oci.tar localhost/sample:1");
    tools.printed("podman save -q --format oci-dir -o layout localhost/sample:1");
    for source in ["docker-archive:saved.tar", "oci-archive:oci.tar", "oci:layout"] {
        for compression in ["gzip", "zstd"] {
            let push = format!(
                "--push {NAME}:v1 --from {source} --organization {TBD} --compression {compression}"
            );
            let url = cloud.printed(&push);
            assert_eq!(cloud.printed(&push), url, "{source}: the digest is the same again");
            comes_back(&cloud, &tools, &id);
        }
    }
}
