//! The server's memory with clients that request much, send much, or read no responses.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::net::sockopt::set_socket_recv_buffer_size;

use crate::load::{MIB, peak_memory};
use crate::sandbox::{Served, TBD};

/// Maximum memory of the server.
const MAX_MEMORY_BYTES: u64 = 96 * MIB;
/// Timeout of each read.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Number of connections, more than the server serves concurrently.
const CONNECTIONS: usize = 600;
/// Maximum size of a manifest.
const MAX_MANIFEST_BYTES: usize = 4 << 20;

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Digest of `{}`.
const CONFIG: &str = "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a";

/// A server with the repository `a`, and a password for it.
struct AttackedServer {
    served: Served,
    authorization: String,
}

impl AttackedServer {
    fn new() -> Self {
        let served = Served::with_repositories(&["a"]);
        let password = served.password("a", "push");
        let authorization = STANDARD.encode(format!("AWS:{password}"));
        Self { served, authorization }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.served.server.host()).unwrap();
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        // A small buffer keeps unread responses in the server.
        set_socket_recv_buffer_size(&stream, 4096).unwrap();
        stream
    }

    fn send(&self, method: &str, below: &str, body: &[u8]) -> TcpStream {
        let mut stream = self.connect();
        let head = format!(
            "{method} /v2/prod/{TBD}/a/{below} HTTP/1.1\r\nhost: registry\r\nconnection: close\r\n\
             authorization: Basic {}\r\ncontent-type: {MANIFEST}\r\ncontent-length: {}\r\n\r\n",
            self.authorization,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body).unwrap();
        stream
    }

    fn answer(&self, method: &str, below: &str, body: &[u8]) -> String {
        let mut answer = String::new();
        self.send(method, below, body).read_to_string(&mut answer).unwrap();
        answer
    }

    /// Sends `count` requests, and reads no response.
    fn unread(&self, count: usize, below: &str) -> Vec<TcpStream> {
        (0..count).map(|_| self.send("GET", below, b"")).collect()
    }

    /// Sends a manifest `count` times concurrently, and checks that each is rejected.
    fn put(&self, count: usize, manifest: &[u8], expected: &str) {
        thread::scope(|scope| {
            for _ in 0..count {
                scope.spawn(|| {
                    let answer = self.answer("PUT", "manifests/v1", manifest);
                    assert!(answer.contains(expected), "{answer}");
                });
            }
        });
    }

    /// Checks that the server still responds, and that its memory is below the limit.
    fn check(&self, attack: &str) {
        let answer = self.answer("GET", "tags/list", b"");
        assert!(answer.starts_with("HTTP/1.1 200 "), "after {attack}: {answer}");
        let peak = peak_memory(self.served.server.process_id());
        assert!(peak < MAX_MEMORY_BYTES, "{attack}: {} MiB", peak / MIB);
    }

    /// Returns the path of a file or folder of the repository.
    fn path(&self, below: &str) -> PathBuf {
        let repository = format!("data/ark/registry/prod/{TBD}/a/_repository");
        self.served.sandbox.path(repository).join(below)
    }

    fn write(&self, below: &str, content: &str) {
        let path = self.path(below);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
}

#[test]
fn referrers_take_little_memory() {
    let attacked = AttackedServer::new();
    let subject = format!("sha256:{}", "5".repeat(64));
    let many: Vec<_> = (0..100_000).map(|number| format!(r#""{number}":"v""#)).collect();
    let many = many.join(",");
    let long = format!(r#""k":"{}""#, "v".repeat(MAX_MANIFEST_BYTES));
    // Manifests in the format of an older version.
    for number in 0..4 {
        let hex = format!("{number:064x}");
        let annotations = if number % 2 == 0 { &many } else { &long };
        let stored = format!(
            r#"{{"media_type":"{MANIFEST}","pushed_at":"2026-01-01T00:00:00Z","length":2,"image_size":2,"platforms":[],"subject":"{subject}","annotations":{{{annotations}}}}}"#
        );
        attacked.write(&format!("manifests/sha256/{hex}"), &format!("{stored}\n{{}}"));
        attacked.write(&format!("referrers/sha256/{}/sha256:{hex}", &subject[7..]), "");
    }
    let unread = attacked.unread(4, &format!("referrers/{subject}"));
    let listed = attacked.answer("GET", &format!("referrers/{subject}"), b"");
    assert_eq!(listed.matches(r#""digest""#).count(), 4);
    attacked.check("annotations of an older version");
    drop(unread);

    let annotations: Vec<_> = (0..1000).map(|n| format!(r#""{n}":"{:0240}""#, n)).collect();
    let config = format!(r#"{{"mediaType":"x/y","digest":"{CONFIG}","size":2}}"#);
    let blob = attacked.answer("POST", &format!("blobs/uploads/?digest={CONFIG}"), b"{}");
    assert!(blob.starts_with("HTTP/1.1 201 "), "{blob}");
    for number in 0..10 {
        let manifest = format!(
            r#"{{"schemaVersion":2,"artifactType":"x/{number}","config":{config},"subject":{{"mediaType":"{MANIFEST}","digest":"{subject}","size":2}},"annotations":{{{}}}}}"#,
            annotations.join(",")
        );
        let put = attacked.answer("PUT", &format!("manifests/v{number}"), manifest.as_bytes());
        assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
    }
    let last = format!("sha256:{:064x}", 3);
    let unread = attacked.unread(100, &format!("referrers/{subject}?last={last}"));
    attacked.check("unread pages of referrers");
    drop(unread);
}

#[test]
fn hostile_manifests_take_little_memory() {
    let attacked = AttackedServer::new();
    let annotations: Vec<_> = (0..400_000).map(|number| format!(r#""{number}":"#)).collect();
    let many = format!(r#"{{"annotations":{{{}}}}}"#, annotations.join(r#""","#));
    attacked.put(12, &many.as_bytes()[..MAX_MANIFEST_BYTES], "more than 10000 annotations");
    attacked.check("400,000 annotations");
    let fields: Vec<_> = (0..300_000).map(|number| format!(r#""x{number}":0"#)).collect();
    let wide = format!("{{{}}}", fields.join(","));
    attacked.put(4, wide.as_bytes(), "more than 10000 annotations and unknown fields");
    let deep = format!(r#"{{"x":{}"#, "[".repeat(MAX_MANIFEST_BYTES - 5));
    attacked.put(1, deep.as_bytes(), "MANIFEST_INVALID");
    attacked.check("wide and deep JSON");
    let layer = format!(r#"{{"mediaType":"","digest":"sha256:{}","size":1}}"#, "0".repeat(64));
    let annotated = format!(r#"{},"annotations":{{"":""}}}}"#, layer.strip_suffix('}').unwrap());
    let layers = [vec![annotated; 9_900], vec![layer.clone(); 26_000]].concat();
    let layers = format!(r#"{{"config":{layer},"layers":[{}]}}"#, layers.join(","));
    attacked.put(2, layers.as_bytes(), "MANIFEST_BLOB_UNKNOWN");
    attacked.check("manifests of 36,000 layers");
}

#[test]
fn unread_responses_take_little_memory() {
    let attacked = AttackedServer::new();
    attacked.answer("POST", &format!("blobs/uploads/?digest={CONFIG}"), b"{}");
    let config = format!(r#"{{"mediaType":"x/y","digest":"{CONFIG}","size":2}}"#);
    let manifest =
        format!(r#"{{"config":{config},"x":"{}"}}"#, "x".repeat(MAX_MANIFEST_BYTES - 200));
    let put = attacked.answer("PUT", "manifests/v1", manifest.as_bytes());
    assert!(put.starts_with("HTTP/1.1 201 "), "{put}");
    let unread = attacked.unread(200, "manifests/v1");
    thread::sleep(Duration::from_secs(1));
    attacked.check("manifests of 4 MiB");
    drop(unread);

    let blob = "1".repeat(64);
    attacked.write(&format!("blobs/sha256/{blob}"), "");
    let file = fs::File::options().write(true).open(attacked.path("blobs/sha256").join(&blob));
    file.unwrap().set_len(64 * MIB).unwrap();
    let unread = attacked.unread(200, &format!("blobs/sha256:{blob}"));
    thread::sleep(Duration::from_secs(1));
    attacked.check("blobs");
    drop(unread);

    let tags = attacked.path("tags");
    for number in 0..100_000 {
        let first = tags.join(format!("{:0128}", number - number % 10_000));
        match number % 10_000 {
            0 => fs::copy(tags.join("v1"), first).map(drop).unwrap(),
            _ => fs::hard_link(first, tags.join(format!("{number:0128}"))).unwrap(),
        }
    }
    let unread = attacked.unread(8, "tags/list?n=100000");
    attacked.check("100,000 tags");
    drop(unread);
}

#[test]
fn crowd_of_connections_takes_little_memory() {
    let attacked = AttackedServer::new();
    let silent: Vec<_> = (0..CONNECTIONS).map(|_| attacked.connect()).collect();
    attacked.check("silent connections");
    drop(silent);
    let header = format!("x: {}\r\n", "y".repeat(1000)).repeat(60);
    let half: Vec<_> = (0..CONNECTIONS)
        .map(|_| {
            let mut stream = attacked.connect();
            // The server may have closed the connection for a later one.
            let _ = stream.write_all(format!("GET /v2/ HTTP/1.1\r\n{header}").as_bytes());
            stream
        })
        .collect();
    attacked.check("requests without an end");
    drop(half);
    let blob = vec![0; 4 << 20];
    thread::scope(|scope| {
        for _ in 0..100 {
            let upload = format!("blobs/uploads/?digest=sha256:{}", "0".repeat(64));
            let (attacked, blob) = (&attacked, &blob);
            scope.spawn(move || attacked.answer("POST", &upload, blob));
        }
    });
    attacked.check("uploads at once");
}
