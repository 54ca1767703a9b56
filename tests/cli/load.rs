//! Large layers in little memory, and more clients than the server can serve.

use std::fs::{self, File};
use std::io::{Read, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::json;

use crate::sandbox::{BINARY, Sandbox, Served, Server, TBD, is_full_scale};
use crate::tools::component;

pub(crate) const MIB: u64 = 1024 * 1024;
/// Maximum memory of client and server, independent of the layer size.
const MAX_MEMORY_BYTES: u64 = 64 * MIB;

fn layer_size() -> u64 {
    if is_full_scale() { 2048 * MIB } else { 256 * MIB }
}

#[test]
fn server_handles_a_large_layer_in_little_memory() {
    let served = Served::with_repositories(&["a"]);
    let tools = served.tools(&["a"]);
    let layer = write_layout(&served.sandbox, layer_size());
    let remote = served.image("a:v1");
    // The layer is not an archive, which skopeo accepts with --preserve-digests.
    let copy = "skopeo copy -q --preserve-digests";
    tools.printed(&format!("{copy} oci:layout docker://{remote}"));
    fs::remove_dir_all(served.sandbox.path("layout")).unwrap();
    tools.printed(&format!("{copy} docker://{remote} dir:pulled"));
    let pulled = served.sandbox.path("pulled").join(&layer["sha256:".len()..]);
    assert_eq!(sha256_of(&pulled), layer);
    assert_under_limit("the server", peak_memory(served.server.process_id()));
}

#[test]
fn large_layer_is_uploaded_whole_and_in_parts() {
    let served = Served::with_repositories(&["a"]);
    let curl = served.curl("a", "push");
    let layer = write_layout(&served.sandbox, layer_size());
    let file = served.sandbox.path("layout/blobs/sha256").join(&layer["sha256:".len()..]);
    let file = file.display().to_string();
    // After a slash, curl would append the name of the file.
    let uploads = format!("/v2/prod/{TBD}/a/blobs/uploads");

    let whole = curl.send("POST", &format!("{uploads}?digest={layer}"), &[("upload-file", &file)]);
    assert_eq!(whole.status, 201, "{whole:?}");
    let blob = whole.header("location").unwrap().to_owned();
    let part = curl.send("GET", &blob, &[("range", "1000000-1999999")]);
    assert_eq!((part.status, part.body.len()), (206, 1_000_000));

    let started = curl.send("POST", &uploads, &[]);
    let location = started.header("location").unwrap();
    // With chunked encoding, the server does not know the size.
    let chunked = [("header", "Transfer-Encoding: chunked"), ("upload-file", file.as_str())];
    assert_eq!(curl.send("PATCH", location, &chunked).status, 202);
    let finished = curl.send("PUT", &format!("{location}?digest={layer}"), &[]);
    assert_eq!(finished.status, 201, "{finished:?}");
    assert_under_limit("the server", peak_memory(served.server.process_id()));
}

#[test]
fn push_sends_a_large_layer_in_little_memory() {
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

/// Returns the digest of a file without reading it into memory.
fn sha256_of(file: &Path) -> String {
    let output = component("sha256sum").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    format!("sha256:{}", text.split(' ').next().unwrap())
}

/// Returns the peak memory of a running process, in bytes.
///
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_status.5.html>
pub(crate) fn peak_memory(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    peak_in(&status).unwrap()
}

/// Returns the peak memory in a status file, or `None` for a zombie process.
fn peak_in(status: &str) -> Option<u64> {
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(peak.trim().strip_suffix(" kB")?.parse::<u64>().unwrap() * 1024)
}

/// Waits for a process, and returns its peak memory and whether it succeeded.
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

#[expect(clippy::print_stdout, reason = "tests/heavy/run shows the measured value")]
fn assert_under_limit(process: &str, peak: u64) {
    let (peak, limit) = (peak / MIB, MAX_MEMORY_BYTES / MIB);
    println!("{process}: peak {peak} MiB, with a layer of {} MiB", layer_size() / MIB);
    assert!(0 < peak && peak < limit, "{process}: peak {peak} MiB, limit {limit} MiB");
}

const CONNECTIONS: usize = 1000;
/// Number of file descriptors of the server, which a few clients exhaust.
const DESCRIPTORS: usize = 40;
/// Maximum time that a test waits for an event.
const TIMEOUT: Duration = Duration::from_secs(20);

/// Returns a request for the manifest of `a:v1`, which closes the connection if `closes`.
fn request(sandbox: &Sandbox, closes: bool) -> String {
    let password = sandbox.printed(&format!("--quiet --login a --organization {TBD}"));
    let password = STANDARD.encode(format!("AWS:{}", password.trim_end()));
    let connection = if closes { "close" } else { "keep-alive" };
    format!(
        "GET /v2/prod/{TBD}/a/manifests/v1 HTTP/1.1\r\nhost: registry\r\n\
         authorization: Basic {password}\r\nconnection: {connection}\r\n\r\n"
    )
}

fn connect(server: &Server) -> TcpStream {
    let address = server.host().parse().unwrap();
    let stream = TcpStream::connect_timeout(&address, TIMEOUT).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream
}

fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn thousand_clients_are_all_answered() {
    let sandbox = Sandbox::new();
    sandbox.push("a:v1");
    let server = sandbox.serve();
    let request = request(&sandbox, true);
    // Each client sends its request immediately: the server closes the oldest of many silent connections.
    let mut crowd: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = connect(&server);
            stream.write_all(request.as_bytes()).unwrap();
            stream
        })
        .collect();
    for stream in &mut crowd {
        let answer = read_to_end(stream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[test]
fn exhausted_file_descriptors_are_reported_and_recovered() {
    let sandbox = Sandbox::new();
    sandbox.push("a:v1");
    let serve = format!("ulimit -n {DESCRIPTORS}; exec {BINARY} --serve --listen 127.0.0.1:0");
    let server = sandbox.serve_by(sandbox.shell(&serve));
    let process = format!("/proc/{}", server.process_id());
    let open = || fs::read_dir(format!("{process}/fd")).unwrap().count();
    let request = request(&sandbox, false);
    let mut first = connect(&server);
    let answer = |stream: &mut TcpStream| {
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = [0; 4096];
        let len = stream.read(&mut answer).unwrap();
        String::from_utf8_lossy(&answer[..len]).into_owned()
    };
    let whole = answer(&mut first);
    assert!(whole.starts_with("HTTP/1.1 200 "), "{whole}");

    let crowd: Vec<_> = (0..DESCRIPTORS).map(|_| connect(&server)).collect();
    let deadline = Instant::now() + TIMEOUT;
    while open() < DESCRIPTORS {
        assert!(Instant::now() < deadline, "{} are open", open());
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = answer(&mut first);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    let before = processor_time(&process);
    std::thread::sleep(Duration::from_millis(500));
    // In hundredths of a second: the server waits, and does not poll.
    assert!(processor_time(&process) - before < 25);

    drop(crowd);
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    let mut other = connect(&server);
    for stream in [&mut other, &mut first] {
        let again = answer(stream);
        assert!(again.starts_with("HTTP/1.1 200 "), "{again}");
        assert_eq!(body(&again), body(&whole));
    }
}

/// Returns the processor time of a process, in hundredths of a second.
///
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
fn processor_time(process: &str) -> u64 {
    let stat = fs::read_to_string(format!("{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let time = |index: usize| fields[index].parse::<u64>().unwrap();
    // User and system time are fields 14 and 15, and `fields` starts with field 3.
    time(11) + time(12)
}
