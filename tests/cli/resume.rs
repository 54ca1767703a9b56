//! Resuming an upload after the server was killed.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use ark_container_core::distribution::Manifest;

use crate::sandbox::{Sandbox, Served, TBD};
use crate::tools::{Answer, Curl};

const BLOB_BYTES: usize = 8_000_000;
/// Size of the first part, which is interrupted.
const PART_BYTES: usize = 5_000_000;
/// Rate of the first part, which takes two seconds and is interrupted in the middle.
const BYTES_PER_SECOND: &str = "2500000";

/// A blob that is uploaded in parts.
struct Blob {
    content: Vec<u8>,
    digest: String,
}

impl Blob {
    fn new() -> Self {
        let content: Vec<u8> = (0..BLOB_BYTES as u32 / 4).flat_map(u32::to_le_bytes).collect();
        let digest = Manifest::new("", content.clone()).digest.to_string();
        Self { content, digest }
    }

    /// Starts to send the first part slowly.
    fn send_slowly(&self, sandbox: &Sandbox, curl: &Curl, location: &str) -> Child {
        let part = sandbox.write("first", &self.content[..PART_BYTES]);
        let range = format!("Content-Range: 0-{}", PART_BYTES - 1);
        let data = format!("@{}", part.display());
        curl.start(
            "PATCH",
            location,
            &[("header", &range), ("limit-rate", BYTES_PER_SECOND), ("data-binary", &data)],
        )
    }

    /// Sends the rest from `start` as the last part, with the digest.
    fn send_rest(&self, sandbox: &Sandbox, curl: &Curl, location: &str, start: usize) -> Answer {
        let rest = sandbox.write("rest", &self.content[start..]);
        let range = format!("Content-Range: {start}-{}", BLOB_BYTES - 1);
        let data = format!("@{}", rest.display());
        let end = format!("{location}?digest={}", self.digest);
        curl.send("PUT", &end, &[("header", &range), ("data-binary", &data)])
    }

    /// Resumes the upload at the offset of the registry, and checks the blob.
    fn resumes(&self, sandbox: &Sandbox, curl: &Curl, location: &str) {
        // A wrong offset is rejected with the offset of the registry.
        let wrong = self.send_rest(sandbox, curl, location, PART_BYTES);
        assert_eq!(wrong.status, 416, "{wrong:?}");
        let status = curl.send("GET", location, &[]);
        assert_eq!(status.status, 204, "{status:?}");
        assert_eq!(wrong.header("range"), status.header("range"));
        let start = stored(&status);
        assert!(0 < start && start < PART_BYTES, "{start} of {PART_BYTES}");

        let done = self.send_rest(sandbox, curl, location, start);
        assert_eq!(done.status, 201, "{done:?}");
        assert_eq!(done.header("docker-content-digest"), Some(self.digest.as_str()));
        let pulled = curl.send("GET", done.header("location").unwrap(), &[]);
        assert!(pulled.body == self.content, "the blob is complete");
        assert_eq!(curl.send("GET", location, &[]).status, 404, "the upload is closed");
    }
}

#[test]
fn upload_resumes_after_the_server_was_killed() {
    let Served { server, sandbox } = Served::with_repositories(&["a/b"]);
    let login = format!("--login a/b --organization {TBD}");
    let password = sandbox.printed(&login);
    let password = Some(password.trim_end());
    let blob = Blob::new();
    let curl = Curl::new(server.host(), password);
    let location = start(&curl);
    let mut client = blob.send_slowly(&sandbox, &curl, &location);
    wait_until_stored(&curl, &location, &mut client);
    assert_eq!(server.end_by("-KILL").0, None);
    assert!(!client.wait().unwrap().success());

    let server = sandbox.serve();
    blob.resumes(&sandbox, &Curl::new(server.host(), password), &location);
}

/// Starts an upload, and returns the path of its URL.
fn start(curl: &Curl) -> String {
    let started = curl.send("POST", &format!("/v2/prod/{TBD}/a/b/blobs/uploads/"), &[]);
    assert_eq!(started.status, 202, "{started:?}");
    started.header("location").unwrap().to_owned()
}

/// Returns the number of bytes of an upload that the registry has.
fn stored(answer: &Answer) -> usize {
    let last = answer.header("range").unwrap().strip_prefix("0-").unwrap();
    last.parse::<usize>().unwrap() + 1
}

/// Waits until a beginning of the part is on disk, while the client is still sending.
fn wait_until_stored(curl: &Curl, location: &str, client: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while stored(&curl.send("GET", location, &[])) < 500_000 {
        assert!(client.try_wait().unwrap().is_none(), "the client has ended");
        assert!(Instant::now() < deadline, "timeout");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(client.try_wait().unwrap().is_none(), "the client has ended");
}
