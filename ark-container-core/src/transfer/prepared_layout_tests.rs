//! Tests transfers from and to layouts in which an attacker placed links, pipes or folders.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use futures_util::TryStreamExt as _;
use tempfile::TempDir;

use super::engine::Transfer;
use super::target::layout::{Layout, LayoutTarget};
use super::{Image, ImageSource, PlatformChoice};
use crate::digester::Digester;
use crate::error::Result;
use crate::model::{Algorithm, Digest};
use crate::testing::SampleImage;

/// The maximum duration of a transfer of a few kilobytes on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(30);
const SECRET: &str = "ssh-ed25519 AAAA";

/// An unexpected entry of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attack {
    /// A link to the original content, or else to the file or folder of the victim.
    Link,
    DanglingLink,
    Pipe,
    HardLink,
    Folder,
    File,
}

/// A layout folder and the folder of a victim.
struct Prepared {
    root: TempDir,
}

impl Prepared {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("victim/folder")).unwrap();
        fs::write(root.path().join("victim/authorized_keys"), SECRET).unwrap();
        fs::create_dir(root.path().join("layout")).unwrap();
        Self { root }
    }

    fn layout(&self) -> PathBuf {
        self.root.path().join("layout")
    }

    /// Replaces a file or folder of the layout with the entry that `attack` describes.
    fn attack(&self, name: &str, attack: Attack, is_folder: bool) {
        let path = self.layout().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let victim = self.root.path().join(if is_folder {
            "victim/folder"
        } else {
            "victim/authorized_keys"
        });
        let original = self.root.path().join("original");
        let existed = fs::rename(&path, &original).is_ok();
        match attack {
            Attack::Link => symlink(if existed { original } else { victim }, path).unwrap(),
            Attack::DanglingLink => {
                symlink(self.root.path().join("victim/new"), path).unwrap();
            }
            Attack::Pipe => {
                assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
            }
            Attack::HardLink => fs::hard_link(victim, path).unwrap(),
            Attack::Folder => fs::create_dir(path).unwrap(),
            Attack::File => fs::write(path, "").unwrap(),
        }
    }

    fn assert_victim_unchanged(&self, case: &str) {
        let victim = self.root.path().join("victim");
        assert_eq!(fs::read_to_string(victim.join("authorized_keys")).unwrap(), SECRET, "{case}");
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 2, "{case}");
        assert_eq!(fs::read_dir(victim.join("folder")).unwrap().count(), 0, "{case}");
    }
}

/// Runs a transfer on a thread, which is abandoned if it blocks.
fn run<T: Send + 'static>(
    case: &str,
    work: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = channel();
    drop(std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let _ = sender.send(runtime.block_on(work));
    }));
    receiver.recv_timeout(TIMEOUT).unwrap_or_else(|_| panic!("{case} blocks"))
}

async fn open(layout: PathBuf) -> Result<Image> {
    Image::open(&ImageSource::oci_layout(layout), &PlatformChoice::AsIs).await
}

/// Copies an image into a layout, as a pull does.
async fn write(image: Image, folder: PathBuf) -> Result<()> {
    let layout = Arc::new(Layout::open(&folder)?);
    let target = LayoutTarget { layout, name: Some("v1"), progress: &() };
    Transfer { target: &target, concurrency: None, progress: &() }.run(&image).await.map(drop)
}

fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

#[test]
fn prepared_source_layout_is_rejected() {
    let image = SampleImage::new("x");
    let blobs = image.blobs().map(|(digest, _)| blob(&digest));
    let files = ["oci-layout", "index.json"].map(str::to_owned).into_iter();
    let files = files.chain([blob(&image.digest())]).chain(blobs).map(|name| (name, false));
    let folders = ["blobs", "blobs/sha256"].map(|name| (name.to_owned(), true));
    for (name, is_folder) in files.chain(folders) {
        let other = if is_folder { Attack::File } else { Attack::Folder };
        for attack in [Attack::Link, Attack::Pipe, other] {
            let case = format!("{attack:?} at {name}");
            let prepared = Prepared::new();
            image.write_oci_layout(&prepared.layout(), None).unwrap();
            prepared.attack(&name, attack, is_folder);
            let error = run(&case, open(prepared.layout())).unwrap_err().to_string();
            let start = format!("{name} is a ");
            assert!(error.contains(&start) && error.ends_with("replace or remove it"), "{error}");
        }
    }
}

#[test]
fn blob_replaced_after_opening_is_rejected() {
    let image = SampleImage::new("x");
    for attack in [Attack::Link, Attack::Pipe, Attack::Folder] {
        let prepared = Prepared::new();
        image.write_oci_layout(&prepared.layout(), None).unwrap();
        let opened = run("opening", open(prepared.layout())).unwrap();
        let layer = opened.blobs()[0].clone();
        prepared.attack(&blob(layer.digest()), attack, false);
        let reading = async move {
            layer.pieces(0).await?.try_collect::<Vec<_>>().await.map_err(|_| unreachable!())
        };
        let error = run(&format!("{attack:?}"), reading).unwrap_err().to_string();
        assert!(error.contains("not a file"), "{error}");
    }
}

#[test]
fn prepared_target_layout_leaves_victim_unchanged() {
    use Attack::{DanglingLink, File, Folder, HardLink, Link, Pipe};

    let image = SampleImage::new("x");
    let (layer, content) = image.blobs().next().unwrap();
    let partial = format!(".ark-partial/sha256-{}", layer.hex());
    let (layer_file, manifest) = (blob(&layer), blob(&image.digest()));
    let source = Prepared::new();
    image.write_oci_layout(&source.layout(), None).unwrap();
    let opened = run("opening", open(source.layout())).unwrap();
    // Name, whether it is a folder, the attacks that are rejected, and the attacks that are replaced.
    let cases: [(&str, bool, &[Attack], &[Attack]); 8] = [
        ("oci-layout", false, &[Link, DanglingLink, Pipe, HardLink, Folder], &[File]),
        ("index.json", false, &[Link, DanglingLink, Pipe, HardLink, Folder, File], &[]),
        (".ark-partial", true, &[Link, DanglingLink, Pipe, File], &[Folder]),
        (&partial, false, &[Folder], &[Link, DanglingLink, Pipe, HardLink, File]),
        ("blobs", true, &[Link, DanglingLink, Pipe, File], &[Folder]),
        ("blobs/sha256", true, &[Link, DanglingLink, Pipe, File], &[Folder]),
        (&layer_file, false, &[Link, DanglingLink, Pipe, Folder], &[HardLink, File]),
        (&manifest, false, &[Folder], &[Link, DanglingLink, Pipe, HardLink, File]),
    ];
    for (name, is_folder, rejected, replaced) in cases {
        let rejected = rejected.iter().map(|attack| (attack, true));
        for (attack, is_rejected) in rejected.chain(replaced.iter().map(|attack| (attack, false))) {
            let case = format!("{attack:?} at {name}");
            let prepared = Prepared::new();
            let marker = prepared.layout().join("oci-layout");
            fs::write(marker, r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
            prepared.attack(name, *attack, is_folder);
            let written = run(&case, write(opened.clone(), prepared.layout()));
            prepared.assert_victim_unchanged(&case);
            match written {
                Err(error) => {
                    assert!(is_rejected && error.to_string().contains(name), "{case}: {error}");
                }
                Ok(()) => {
                    assert!(!is_rejected, "{case} is not rejected");
                    let path = prepared.layout().join(&layer_file);
                    assert!(fs::symlink_metadata(&path).unwrap().is_file(), "{case}");
                    assert_eq!(fs::read(path).unwrap(), content, "{case}");
                    assert!(run(&case, open(prepared.layout())).is_ok(), "{case}");
                }
            }
        }
    }
}

#[test]
fn hard_link_as_empty_marker_is_not_written() {
    let prepared = Prepared::new();
    let victim = prepared.root.path().join("empty");
    fs::write(&victim, "").unwrap();
    fs::hard_link(&victim, prepared.layout().join("oci-layout")).unwrap();
    let error = Layout::open(&prepared.layout()).unwrap_err().to_string();
    assert!(error.contains("oci-layout is empty, and belongs to another user"), "{error}");
    assert_eq!(fs::read(victim).unwrap(), b"");
}

#[test]
fn oversized_partial_blob_or_index_is_not_read() {
    let image = SampleImage::new("x");
    let (layer, content) = image.blobs().next().unwrap();
    let prepared = Prepared::new();
    image.write_oci_layout(&prepared.layout(), None).unwrap();
    let opened = run("opening", open(prepared.layout())).unwrap();
    let sparse = |path: &Path| {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().set_len(1 << 40).unwrap();
    };
    let target = Prepared::new();
    let folder = target.layout();
    sparse(&folder.join(".ark-partial").join(format!("sha256-{}", layer.hex())));
    sparse(&folder.join(blob(&layer)));
    fs::write(folder.join("oci-layout"), "").unwrap();
    run("a large partial blob", write(opened.clone(), folder.clone())).unwrap();
    let written = fs::read(folder.join(blob(&layer))).unwrap();
    assert_eq!(Digester::digest(Algorithm::Sha256, &written), layer);
    assert_eq!(written, content);
    sparse(&folder.join("index.json"));
    let error = run("a large index", write(opened, folder)).unwrap_err().to_string();
    assert!(error.ends_with("index.json is larger than 4194304 bytes"), "{error}");
}
