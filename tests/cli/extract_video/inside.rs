//! What is in an image that was pulled, run.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::video::video;
use crate::component::component;
use crate::sandbox::Sandbox;
use crate::tools::Tools;

/// The files of an image, unpacked.
pub(super) struct Inside {
    root: PathBuf,
    configuration: Value,
}

impl Inside {
    /// The image as skopeo pulls it.
    pub(super) fn pulled(sandbox: &Sandbox, tools: &Tools<'_>, image: &str) -> Self {
        let pulled = sandbox.path("pulled");
        let _ = fs::remove_dir_all(&pulled);
        tools.printed(&format!("skopeo copy -q docker://{image} dir:pulled"));
        let root = pulled.join("root");
        fs::create_dir(&root).unwrap();
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            pulled.join(digest.strip_prefix("sha256:").unwrap())
        };
        let json =
            |path: PathBuf| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let manifest = json(pulled.join("manifest.json"));
        for layer in manifest["layers"].as_array().unwrap() {
            let mut tar = component("tar");
            let tar = tar.arg("-xzf").arg(blob(layer)).arg("-C").arg(&root);
            assert!(tar.status().unwrap().success());
        }
        Self { root, configuration: json(blob(&manifest["config"]))["config"].clone() }
    }

    /// What the image's program prints, in a root of its own as in a container. It takes root.
    pub(super) fn printed(&self, arguments: &[&str]) -> String {
        let user = self.configuration["User"].as_str().unwrap();
        let entrypoint = self.configuration["Entrypoint"][0].as_str().unwrap();
        let mut chroot = Command::new("chroot");
        chroot.arg(format!("--userspec={user}")).arg(&self.root).arg(entrypoint).args(arguments);
        let output = chroot.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The program knows the clip that it comes with, and a video that it has never seen.
    pub(super) fn gives_the_right_json(&self) {
        let json = |path: &str| -> Value { serde_json::from_str(&self.printed(&[path])).unwrap() };
        let clip = json("/samples/clip.mp4");
        assert_eq!(clip["tracks"][0]["codec"], "avc1");
        assert_eq!(clip["tracks"][0]["frames"], 5);

        let video = video();
        fs::write(self.root.join("video.mp4"), &video).unwrap();
        let track = json!({
            "id": 7, "type": "video", "codec": "hvc1", "duration_seconds": 2.5, "language": "deu",
            "width": 1920, "height": 1080, "frames": 75, "frames_per_second": 30.0
        });
        let expected = json!({
            "kind": "container", "bytes": video.len(), "brand": "mp42",
            "compatible_brands": ["isom"], "duration_seconds": 3.0, "fragmented": false,
            "tracks": [track], "cut_off": null
        });
        assert_eq!(json("/video.mp4"), expected);
    }
}
