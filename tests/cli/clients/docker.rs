//! docker, with a daemon that the test starts. One test: the daemon takes its time to start.

use ark_container_core::testing::SampleImage;
use serde_json::{Value, json};

use super::{config_and_layers, contents};
use crate::daemon::Daemon;
use crate::sandbox::TBD;
use crate::served::Served;
use crate::tools::Tools;

#[test]
fn docker_pushes_and_pulls_and_what_it_saved_is_pushed() {
    let served = Served::with_repositories(&["a/b"]);
    let tools = served.tools(&["a/b"]);
    let daemon = Daemon::start();
    let tool = format!("docker --host {}", daemon.host());
    let docker = |line: &str| tools.printed(&format!("{tool} {line}"));
    let login = tools.log_in(&tool, served.server.host(), served.login_command("a/b"));
    assert_eq!(login.code, 0, "{login:?}");

    let image = SampleImage::builder().with_layer([("x", "y")]).with_random_layer(300_000);
    let image = image.build();
    image.write_docker_archive(&served.sandbox.path("image.tar"), &["sample:1"]).unwrap();
    docker("load -q -i image.tar");
    let id = docker("images -q --no-trunc sample:1");
    let ((config, _), layers) = config_and_layers(&image);
    assert_eq!(id, config.to_string());

    let remote = served.image("a/b:pushed");
    docker(&format!("tag sample:1 {remote}"));
    docker(&format!("push -q {remote}"));
    is_pulled_by_skopeo(&served, &tools, "a/b:pushed", &image);

    docker("save -o saved.tar sample:1");
    served
        .sandbox
        .printed(&format!("--push a/b:saved --from docker-archive:saved.tar --organization {TBD}"));
    is_pulled_by_skopeo(&served, &tools, "a/b:saved", &image);

    docker(&format!("rmi -f sample:1 {remote}"));
    for tag in ["pushed", "saved"] {
        let remote = served.image(&format!("a/b:{tag}"));
        docker(&format!("pull -q {remote}"));
        assert_eq!(docker(&format!("images -q --no-trunc {remote}")), id);
        let inspected: Value = serde_json::from_str(&docker(&format!("inspect {remote}"))).unwrap();
        let digests: Vec<_> = layers.iter().map(|(digest, _)| digest).collect();
        assert_eq!(inspected[0]["RootFS"]["Layers"], json!(digests));
        docker(&format!("rmi -f {remote}"));
    }
    // docker is told what the registry says.
    docker("load -q -i image.tar");
    docker(&format!("tag sample:1 {}", served.image("none:v1")));
    let refused = tools.run(&format!("{tool} push {}", served.image("none:v1")));
    assert_ne!(refused.code, 0);
    assert!(refused.stderr.contains("denied"), "{refused:?}");
}

/// skopeo pulls the sample's configuration, which names its layers by what they unpack to.
fn is_pulled_by_skopeo(served: &Served, tools: &Tools<'_>, name: &str, image: &SampleImage) {
    let folder = name.rsplit_once(':').unwrap().1;
    tools.printed(&format!("skopeo copy -q docker://{} dir:{folder}", served.image(name)));
    let pulled = contents(&served.sandbox.path(folder));
    let ((config, content), _) = config_and_layers(image);
    assert_eq!(pulled[config.hex()], content, "{name}");
}
