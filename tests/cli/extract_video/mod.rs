//! `examples/extract-video` as its user builds and uploads it.

mod checkout;
mod inside;
mod setup;
mod video;
mod workflow;

use std::fs;
use std::time::SystemTime;

use serde_json::Value;

use crate::daemon::Daemon;
use crate::ecr::Cloud;
use crate::sandbox::TBD;
use crate::tools::Tools;
use checkout::Checkout;
use inside::Inside;

const REPOSITORY: &str = "catalog/extract-video";
const TARGET: &str = "ark-extract-catalog-video-docker";

/// What a run of `make.sh` left for deployments to use.
#[derive(Debug)]
struct Pushed {
    url: String,
    blobs: (u64, u64),
    at: SystemTime,
}

impl Pushed {
    fn read(checkout: &Checkout<'_>) -> Self {
        let image = checkout.example("build/ark-extract-catalog-video.image");
        let json = checkout.example("build/ark-extract-catalog-video.json");
        let pushed: Value = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        let url = fs::read_to_string(&image).unwrap().trim_end().to_owned();
        assert_eq!(pushed["url"], url.as_str());
        let number = |name: &str| pushed[name].as_u64().unwrap();
        Self {
            url,
            blobs: (number("blobs_sent"), number("blobs_skipped")),
            at: fs::metadata(image).unwrap().modified().unwrap(),
        }
    }

    fn digest(&self) -> &str {
        self.url.split_once('@').unwrap().1
    }
}

/// One test: what takes most of its time is done once, in one folder.
#[test]
fn the_example_is_built_and_pushed_as_the_document_says() {
    let cloud = Cloud::new();
    let checkout = Checkout::new(&cloud.sandbox);
    let first = to_the_embedded_registry(&cloud, &checkout);
    to_ecr(&cloud, &checkout, &first);
    with_one_source_changed(&cloud, &checkout);
    checkout.succeeds(&mut checkout.make("test"));
    without_cmake(&cloud, &checkout);
}

fn to_the_embedded_registry(cloud: &Cloud, checkout: &Checkout<'_>) -> Pushed {
    checkout.succeeds(&mut checkout.make(TARGET));
    let pushed = Pushed::read(checkout);
    assert_eq!(pushed.blobs, (3, 0), "samples, program and configuration");
    inside_of_embedded(cloud, &pushed).gives_the_right_json();

    checkout.succeeds(&mut checkout.make(TARGET));
    assert_eq!(Pushed::read(checkout).at, pushed.at, "nothing was changed");
    pushed
}

/// What skopeo pulls from the embedded registry, which is served for that.
fn inside_of_embedded(cloud: &Cloud, pushed: &Pushed) -> Inside {
    let server = cloud.sandbox.serve();
    let tools = Tools::new(&cloud.sandbox, server.host());
    let login = format!("--login {REPOSITORY} --organization {TBD}");
    let login = tools.log_in("skopeo", server.host(), cloud.sandbox.command(&login));
    assert_eq!(login.code, 0, "{login:?}");
    let image = format!("{}/prod/{TBD}/{REPOSITORY}@{}", server.host(), pushed.digest());
    Inside::pulled(&cloud.sandbox, &tools, &image)
}

fn to_ecr(cloud: &Cloud, checkout: &Checkout<'_>, before: &Pushed) {
    checkout.succeeds(&mut checkout.make_for(cloud, TARGET));
    let pushed = Pushed::read(checkout);
    assert_eq!(pushed.url, format!("{}@{}", cloud.image(REPOSITORY), before.digest()));
    assert_eq!(pushed.blobs, (3, 0));
    inside_of_ecr(cloud, &pushed).gives_the_right_json();

    cloud.aws.forget_calls();
    checkout.succeeds(&mut checkout.make_for(cloud, TARGET));
    assert_eq!(cloud.aws.calls().len(), 0, "nothing was changed");
    assert_eq!(Pushed::read(checkout).at, pushed.at);
}

fn inside_of_ecr(cloud: &Cloud, pushed: &Pushed) -> Inside {
    let tools = Tools::new(&cloud.sandbox, &cloud.host());
    let login = format!("--login {REPOSITORY} --organization {TBD}");
    let login = tools.log_in("skopeo", &cloud.host(), cloud.narrowed_command(&login));
    assert_eq!(login.code, 0, "{login:?}");
    Inside::pulled(&cloud.sandbox, &tools, &pushed.url)
}

fn with_one_source_changed(cloud: &Cloud, checkout: &Checkout<'_>) {
    let source = checkout.example("src/main.rs");
    let text = fs::read_to_string(&source).unwrap();
    let changed = text.replace("usage: ark", "Usage: ark");
    assert_ne!(text, changed);
    fs::write(source, changed).unwrap();
    checkout.succeeds(&mut checkout.make_for(cloud, TARGET));
    let pushed = Pushed::read(checkout);
    assert_eq!(pushed.blobs, (2, 1), "the program and the configuration; the samples were there");
    let inside = inside_of_ecr(cloud, &pushed);
    assert!(inside.printed(&["--help"]).starts_with("Usage: ark"));
    inside.gives_the_right_json();
}

/// The lines of the example's README, with docker.
fn without_cmake(cloud: &Cloud, checkout: &Checkout<'_>) {
    let readme = fs::read_to_string(checkout.example("README.md")).unwrap();
    let lines = readme.split_once("## Without CMake").unwrap().1;
    let lines: String = lines
        .lines()
        .skip_while(|line| !line.starts_with("    "))
        .take_while(|line| !line.is_empty())
        .map(|line| format!("{line}\n"))
        .collect();
    assert!(lines.contains("cargo rustc"), "{lines}");
    let daemon = Daemon::start();
    let mut shell = checkout.command("bash");
    shell.args(["-euc", &lines]).env("DOCKER_HOST", daemon.host());
    let printed = checkout.succeeds(&mut shell).stdout;
    let url = printed.lines().last().unwrap().to_owned();
    let digest = url.split_once('@').unwrap().1;
    let listed = cloud.sandbox.printed(&format!("--list-images {REPOSITORY} --organization {TBD}"));
    assert!(listed.contains(digest), "{url}: {listed}");
}
