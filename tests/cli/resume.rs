//! Uploads that are cut off half way, by the client's end or the server's, and go on.

use std::process::Child;
use std::thread;
use std::time::{Duration, Instant};

use ark_container_core::distribution::Manifest;

use crate::sandbox::{Sandbox, Served, TBD};
use crate::tools::{Answer, Curl};

const BLOB_BYTES: usize = 8_000_000;
/// The first chunk: it never arrives as a whole.
const CHUNK_BYTES: usize = 5_000_000;
/// Bytes a second: the chunk takes two seconds, and is cut off in the middle.
const BYTES_PER_SECOND: &str = "2500000";

/// A blob that is uploaded in chunks.
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

    /// Starts to send the first chunk, slowly.
    fn send_slowly(&self, sandbox: &Sandbox, curl: &Curl, location: &str) -> Child {
        let chunk = sandbox.write("first", &self.content[..CHUNK_BYTES]);
        let range = format!("Content-Range: 0-{}", CHUNK_BYTES - 1);
        let data = format!("@{}", chunk.display());
        curl.start(
            "PATCH",
            location,
            &[("header", &range), ("limit-rate", BYTES_PER_SECOND), ("data-binary", &data)],
        )
    }

    /// Sends the rest from `start` as the last chunk, with the digest.
    fn send_rest(&self, sandbox: &Sandbox, curl: &Curl, location: &str, start: usize) -> Answer {
        let rest = sandbox.write("rest", &self.content[start..]);
        let range = format!("Content-Range: {start}-{}", BLOB_BYTES - 1);
        let data = format!("@{}", rest.display());
        let end = format!("{location}?digest={}", self.digest);
        curl.send("PUT", &end, &[("header", &range), ("data-binary", &data)])
    }

    /// The upload goes on from where the registry says that it is, and ends as the blob.
    fn resumes(&self, sandbox: &Sandbox, curl: &Curl, location: &str) {
        // One who goes on from elsewhere is reported where the upload is.
        let wrong = self.send_rest(sandbox, curl, location, CHUNK_BYTES);
        assert_eq!(wrong.status, 416, "{wrong:?}");
        let status = curl.send("GET", location, &[]);
        assert_eq!(status.status, 204, "{status:?}");
        assert_eq!(wrong.header("range"), status.header("range"));
        let start = stored(&status);
        assert!(0 < start && start < CHUNK_BYTES, "{start} of {CHUNK_BYTES}");

        let done = self.send_rest(sandbox, curl, location, start);
        assert_eq!(done.status, 201, "{done:?}");
        assert_eq!(done.header("docker-content-digest"), Some(self.digest.as_str()));
        let pulled = curl.send("GET", done.header("location").unwrap(), &[]);
        assert!(pulled.body == self.content, "it is whole");
        assert_eq!(curl.send("GET", location, &[]).status, 404, "the upload is no more");
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

/// How many bytes of an upload the registry says that it has.
fn stored(answer: &Answer) -> usize {
    let last = answer.header("range").unwrap().strip_prefix("0-").unwrap();
    last.parse::<usize>().unwrap() + 1
}

/// Waits until some of the chunk is on the disk, while the client is still sending it.
fn wait_until_stored(curl: &Curl, location: &str, client: &mut Child) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while stored(&curl.send("GET", location, &[])) < 500_000 {
        assert!(client.try_wait().unwrap().is_none(), "it is still sending");
        assert!(Instant::now() < deadline, "nothing is stored");
        thread::sleep(Duration::from_millis(20));
    }
    assert!(client.try_wait().unwrap().is_none(), "it is still sending");
}
