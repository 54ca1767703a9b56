//! Images go to the registry and come back, by docker's kin and by the program.

use ark_container_core::testing::SampleImage;

use super::{Cloud, printed};
use crate::clients::{COPY_ALL_AS_IT_IS, assert_same, contents};
use crate::sandbox::TBD;
use crate::tools::Tools;

const NAME: &str = "catalog/extract-video";

/// Tools that are logged in to the repository [`NAME`] with a password that is narrowed to it.
fn logged_in(cloud: &Cloud) -> Tools<'_> {
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = cloud.narrowed_command(&format!("--login {NAME} --organization {TBD}"));
    let run = tools.log_in("skopeo", &cloud.host(), login);
    assert_eq!(run.code, 0, "{run:?}");
    tools
}

#[test]
fn the_printed_url_is_where_images_go() {
    let cloud = Cloud::new();
    let url = cloud.printed(&format!("--create-repository {NAME} --organization {TBD}"));
    assert_eq!(url.trim_end(), cloud.image(NAME));
}

#[test]
fn the_printed_password_opens_the_registry_to_every_tool() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    for tool in ["docker", "podman", "skopeo", "buildah"] {
        for narrowed in [false, true] {
            let line = format!("--login {NAME} --organization {TBD}");
            let login = if narrowed { cloud.narrowed_command(&line) } else { cloud.command(&line) };
            let run = tools.log_in(tool, &cloud.host(), login);
            assert!(run.stdout.starts_with("Login Succeeded"), "{tool}: {run:?}");
        }
    }
}

#[test]
fn skopeo_pushes_an_index_and_pulls_it_back_byte_for_byte() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let tools = logged_in(&cloud);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&cloud.sandbox.path("sample"), Some("v1")).unwrap();
    let remote = format!("docker://{}:v1", cloud.image(NAME));
    tools.printed(&format!("{COPY_ALL_AS_IT_IS} oci:sample {remote}"));
    tools.printed(&format!("{COPY_ALL_AS_IT_IS} {remote} oci:pulled"));
    let blobs = |folder: &str| contents(&cloud.sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("sample"));
}

#[test]
fn podman_pushes_an_image_and_pulls_it_back() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let tools = logged_in(&cloud);
    // A layer of several of ECR's parts, which podman sends as one stream.
    let image = SampleImage::builder().with_random_layer(12_000_000).with_own_layer().build();
    image.write_oci_layout(&cloud.sandbox.path("sample"), None).unwrap();
    tools.printed("podman pull -q oci:sample");
    let id = tools.printed("podman images -q");
    let remote = format!("{}:v1", cloud.image(NAME));
    tools.printed(&format!("podman push -q {id} docker://{remote}"));
    tools.printed("podman rmi -a -f");
    tools.printed(&format!("podman pull -q {remote}"));
    assert_eq!(tools.printed("podman images -q"), id);
}

#[test]
fn the_program_pushes_an_image_that_skopeo_pulls() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let image = SampleImage::for_two_platforms();
    image.write_oci_layout(&cloud.sandbox.path("sample"), None).unwrap();
    let push = format!("--push {NAME}:v1 --from oci:sample --all-platforms --organization {TBD}");
    let url = printed(&cloud.sandbox, &mut cloud.narrowed_command(&push));
    assert_eq!(url.trim_end(), format!("{}@{}", cloud.image(NAME), image.digest()));
    let tools = logged_in(&cloud);
    tools.printed(&format!("{COPY_ALL_AS_IT_IS} docker://{} oci:pulled", url.trim_end()));
    let blobs = |folder: &str| contents(&cloud.sandbox.path(folder).join("blobs/sha256"));
    assert_same(&blobs("pulled"), &blobs("sample"));
}

#[test]
fn the_program_sends_a_large_layer_to_ecrs_taste_and_sends_it_once() {
    let cloud = Cloud::new();
    cloud.create(&[NAME]);
    let image = SampleImage::builder().with_random_layer(40_000_000).build();
    image.write_oci_layout(&cloud.sandbox.path("sample"), None).unwrap();
    let push = |tag: &str| {
        let line = format!("--push {NAME}:{tag} --from oci:sample --organization {TBD}");
        let pushed = cloud.printed(&format!("{line} --output json"));
        serde_json::from_str::<serde_json::Value>(&pushed).unwrap()
    };
    assert_eq!(push("v1")["blobs_sent"], 2);
    let again = push("v2");
    assert_eq!((&again["blobs_sent"], &again["blobs_skipped"]), (&0.into(), &2.into()));
}
