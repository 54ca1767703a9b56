//! Layers of any size pass through the server and the tool in little memory.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::component::component;
use crate::sandbox::{Sandbox, TBD};
use crate::scale;
use crate::served::Served;

pub(crate) const MIB: u64 = 1024 * 1024;
/// What neither process may pass, whatever the layer's size.
const LIMIT: u64 = 64 * MIB;

fn layer_size() -> u64 {
    if scale::is_full() { 2048 * MIB } else { 256 * MIB }
}

#[test]
fn the_server_takes_and_gives_a_large_layer_in_little_memory() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&["a"]);
    let layer = write_layout(&served.sandbox, layer_size());
    let remote = served.image("a:v1");
    // The layer is in no archive's format, which skopeo does not mind as long as it keeps it.
    let copy = "skopeo copy -q --preserve-digests";
    tools.printed(&format!("{copy} oci:layout docker://{remote}"));
    fs::remove_dir_all(served.sandbox.path("layout")).unwrap();
    tools.printed(&format!("{copy} docker://{remote} dir:pulled"));
    let pulled = served.sandbox.path("pulled").join(&layer["sha256:".len()..]);
    assert_eq!(sha256_of(&pulled), layer);
    assert_under_limit("the server", peak_memory(served.server.process_id()));
}

#[test]
fn a_large_layer_comes_in_one_request_and_in_parts() {
    let served = Served::with_repositories(&["a"]);
    let curl = served.curl("a", "push");
    let layer = write_layout(&served.sandbox, layer_size());
    let file = served.sandbox.path("layout/blobs/sha256").join(&layer["sha256:".len()..]);
    let file = file.display().to_string();
    // Behind a slash curl would put the name of the file.
    let uploads = format!("/v2/prod/{TBD}/a/blobs/uploads");

    let whole = curl.send("POST", &format!("{uploads}?digest={layer}"), &[("upload-file", &file)]);
    assert_eq!(whole.status, 201, "{whole:?}");
    let blob = whole.header("location").unwrap().to_owned();
    let part = curl.send("GET", &blob, &[("range", "1000000-1999999")]);
    assert_eq!((part.status, part.body.len()), (206, 1_000_000));

    let started = curl.send("POST", &uploads, &[]);
    let location = started.header("location").unwrap();
    // Chunked, so that the server does not know how much will come.
    let chunked = [("header", "Transfer-Encoding: chunked"), ("upload-file", file.as_str())];
    assert_eq!(curl.send("PATCH", location, &chunked).status, 202);
    let finished = curl.send("PUT", &format!("{location}?digest={layer}"), &[]);
    assert_eq!(finished.status, 201, "{finished:?}");
    assert_under_limit("the server", peak_memory(served.server.process_id()));
}

#[test]
fn a_push_sends_a_large_layer_in_little_memory() {
    let served = Served::with_repositories(&["a"]);
    write_layout(&served.sandbox, layer_size());
    let push = format!("--quiet --push a:v1 --from oci:layout --organization {TBD}");
    let (peak, ended) = watched(served.sandbox.command(&push).spawn().unwrap());
    assert!(ended, "the push failed");
    assert_under_limit("the push", peak);
}

/// Writes an image whose only layer has `size` random bytes, and returns the layer's digest.
pub(crate) fn write_layout(sandbox: &Sandbox, size: u64) -> String {
    let blobs = sandbox.path("layout/blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let new = sandbox.path("layout/new");
    let mut random = File::open("/dev/urandom").unwrap().take(4 * MIB);
    let mut bytes = Vec::new();
    random.read_to_end(&mut bytes).unwrap();
    let mut file = File::create(&new).unwrap();
    for index in 0..size / bytes.len() as u64 {
        bytes[..8].copy_from_slice(&index.to_le_bytes());
        file.write_all(&bytes).unwrap();
    }
    let layer = sha256_of(&new);
    fs::rename(&new, blobs.join(&layer["sha256:".len()..])).unwrap();

    let keep = |content: serde_json::Value| {
        sandbox.write("layout/new", content.to_string());
        let digest = sha256_of(&new);
        fs::rename(&new, blobs.join(&digest["sha256:".len()..])).unwrap();
        (digest, content.to_string().len())
    };
    let descriptor = |kind: &str, digest: &str, size: u64| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({ "mediaType": media_type, "digest": digest, "size": size })
    };
    let (config, config_size) = keep(json!({
        "os": "linux",
        "architecture": "amd64",
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    }));
    let (manifest, manifest_size) = keep(json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("config.v1+json", &config, config_size as u64),
        "layers": [descriptor("layer.v1.tar", &layer, size)],
    }));
    let entry = descriptor("manifest.v1+json", &manifest, manifest_size as u64);
    let index = json!({ "schemaVersion": 2, "manifests": [entry] });
    sandbox.write("layout/index.json", index.to_string());
    sandbox.write("layout/oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#);
    layer
}

/// The digest of a file that is too large to be read into memory.
fn sha256_of(file: &Path) -> String {
    let output = component("sha256sum").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    format!("sha256:{}", text.split(' ').next().unwrap())
}

/// The most memory that a running process ever had, in bytes.
///
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    peak_in(&status).unwrap()
}

/// Without a value where the process has ended, and is only yet to be waited for.
fn peak_in(status: &str) -> Option<u64> {
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().strip_suffix(" kB")?.parse::<u64>().unwrap() * 1024)
}

/// Watches a process to its end: the most memory that it had, and whether it succeeded.
pub(crate) fn watched(mut process: Child) -> (u64, bool) {
    let status = format!("/proc/{}/status", process.id());
    let mut peak = 0;
    loop {
        peak = peak_in(&fs::read_to_string(&status).unwrap()).unwrap_or(peak);
        if let Some(ended) = process.try_wait().unwrap() {
            return (peak, ended.success());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

#[expect(clippy::print_stdout, reason = "tests/heavy/run shows what was measured")]
fn assert_under_limit(who: &str, peak: u64) {
    let (peak, limit) = (peak / MIB, LIMIT / MIB);
    println!("{who}: {peak} MiB at most, with a layer of {} MiB", layer_size() / MIB);
    assert!(0 < peak && peak < limit, "{who} took {peak} MiB, of less than {limit}");
}
