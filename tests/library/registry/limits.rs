//! Limits that protect the registry from clients, its shutdown, and its log.

use std::time::{Duration, Instant};

use ark_container_core::backend::local::{LocalBackend, Registry};
use ark_container_core::{Error, RegistryBackend};
use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tracing::Level;

use super::server::{Log, OURS, Server, answer, pass, path, read_to_end, sample, sha256};

#[tokio::test]
async fn endless_headers_are_cut() {
    let server = Server::start().await;
    for line in ["x-many: x\r\n".to_owned(), format!("x-long: {}\r\n", "x".repeat(10_000))] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let sending = async {
            let _ = writer.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n").await;
            for _ in 0..20_000 {
                if writer.write_all(line.as_bytes()).await.is_err() {
                    break;
                }
            }
        };
        let reading = async {
            let mut start = [0; 32];
            let _ = reader.read_exact(&mut start).await;
            String::from_utf8_lossy(&start).into_owned()
        };
        let ((), start) = tokio::join!(sending, reading);
        assert!(start.starts_with("HTTP/1.1 431 "), "{start:?}");
    }
    server.our_client().await.get("/v2/").await.expect(StatusCode::OK);
}

#[tokio::test]
async fn url_has_a_maximum_length() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let fits = format!("/v2/{app}/tags/list?last={}", "x".repeat(8000));
    client.get(&fits).await.expect(StatusCode::OK);
    let long = format!("/v2/{app}/tags/list?last={}", "x".repeat(9000));
    client.get(&long).await.expect_error(StatusCode::URI_TOO_LONG, "UNSUPPORTED");
}

#[tokio::test]
async fn malformed_http_is_rejected() {
    let server = Server::start().await;
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"hello\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let reply = read_to_end(&mut stream).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{reply:?}");
    }
}

#[tokio::test]
async fn missing_doubled_and_invalid_host_is_rejected() {
    let server = Server::start().await;
    for (head, status) in [
        ("GET /v2/ HTTP/1.1\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nhost: a\r\nhost: a\r\n", 400),
        ("GET /v2/ HTTP/1.0\r\nhost: a\r\nhost: b\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nhost: a b\r\n", 400),
        ("GET /v2/ HTTP/1.1\r\nhost: user@a\r\n", 400),
        ("GET http://a/v2/ HTTP/1.1\r\n", 400),
        ("GET http://a/v2/ HTTP/1.1\r\nhost: b\r\n", 401),
        ("GET /v2/ HTTP/1.1\r\nhost:\r\n", 401),
        ("GET /v2/ HTTP/1.1\r\nhost: [::1]:5050\r\n", 401),
        ("GET /v2/ HTTP/1.0\r\n", 401),
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(format!("{head}connection: close\r\n\r\n").as_bytes()).await.unwrap();
        let reply = read_to_end(&mut stream).await;
        let version = if head.contains("HTTP/1.0") { "1.0" } else { "1.1" };
        assert!(reply.starts_with(&format!("HTTP/{version} {status} ")), "{head}: {reply}");
    }
}

#[tokio::test]
async fn bare_line_feed_is_rejected() {
    let server = Server::start().await;
    for head in [
        "GET /v2/ HTTP/1.1\nhost: x\n\n",
        "GET /v2/ HTTP/1.1\r\nhost: x\nx: y\r\n\r\n",
        "GET /v2/ HTTP/1.1\r\nhost: x\r\n\n",
        "\nGET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        let reply = read_to_end(&mut stream).await;
        assert!(reply.starts_with("HTTP/1.1 400 "), "{head:?}: {reply}");
    }
    // The rule also applies to later requests of a connection. An empty line before a request is ignored, and a body
    // may have any bytes.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let first = "\r\nPOST /v2/ HTTP/1.1\r\nhost: x\r\ncontent-length: 4\r\n\r\na\nb\n";
    stream.write_all(first.as_bytes()).await.unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 401");
    let mut rest = vec![0; 4096];
    while !rest.ends_with(b"}") {
        let length = stream.read(&mut rest).await.unwrap();
        rest.truncate(length);
    }
    stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\n\r\n").await.unwrap();
    let reply = read_to_end(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 400 "), "{reply}");
}

/// More connections than the registry's limit.
const CROWD_CONNECTIONS: usize = 300;

#[tokio::test]
async fn crowd_without_password_does_not_stop_the_service() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    let bytes = sample(200_000);
    let upload = client.start_upload(&app).await;
    let mut running = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..1000]).await;
    client.wait_for_size(&upload, 1000).await;
    let mut crowd = Vec::new();
    let pipelined = b"GET /v2/ HTTP/1.1\r\nhost: a\r\n\r\n".repeat(20_000);
    for number in 0..2 * CROWD_CONNECTIONS {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        match number % 3 {
            0 => stream.write_all(b"GET /v2/ HTTP/1.1\r\nhost:").await.unwrap(),
            // Requests whose responses are not read.
            1 => drop(stream.try_write(&pipelined)),
            _ => {}
        }
        crowd.push(stream);
    }
    client.get(&format!("/v2/{app}/tags/list")).await.expect(StatusCode::OK);
    assert_eq!(read_to_end(&mut crowd[0]).await, "");
    // A connection with a password stays open.
    running.write_all(&bytes[1000..]).await.unwrap();
    let mut start = [0; 12];
    running.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 202");
}

#[tokio::test]
async fn crowd_with_passwords_waits_for_its_turn() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let mut crowd = Vec::new();
    for _ in 0..CROWD_CONNECTIONS {
        crowd.push(client.send_part(Method::GET, "/v2/", 0, b"").await);
    }
    let answered = crowd.iter_mut().take(200).map(async |stream| {
        let mut start = [0; 12];
        stream.read_exact(&mut start).await.unwrap();
        assert_eq!(&start, b"HTTP/1.1 200");
    });
    futures_util::future::join_all(answered).await;
    let mut last = crowd.pop().unwrap();
    drop(crowd);
    let mut start = [0; 12];
    last.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
}

#[tokio::test]
async fn headers_have_ten_seconds_and_idle_connections_sixty() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nhost:").await.unwrap();
    let mut idle = client.send_part(Method::GET, "/v2/", 0, b"").await;
    let mut late = client.send_part(Method::GET, "/v2/", 0, b"").await;
    let mut answer = [0; 4096];
    for stream in [&mut idle, &mut late] {
        let length = stream.read(&mut answer).await.unwrap();
        assert!(answer[..length].starts_with(b"HTTP/1.1 200"));
    }
    pass(Duration::from_secs(30)).await;
    late.write_all(b"GET ").await.unwrap();
    for mut stream in [silent, slow] {
        assert_eq!(read_to_end(&mut stream).await, "");
    }
    idle.write_all(b"GET /v2/ HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let length = idle.read(&mut answer).await.unwrap();
    assert!(answer[..length].starts_with(b"HTTP/1.1 401"));
    pass(Duration::from_secs(11)).await;
    assert_eq!(read_to_end(&mut late).await, "");
    pass(Duration::from_secs(61)).await;
    assert_eq!(read_to_end(&mut idle).await, "");
}

#[tokio::test(start_paused = true)]
async fn idle_connection_is_closed() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let silent = TcpStream::connect(server.address).await.unwrap();
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /v2/ HTTP/1.1\r\nhost:").await.unwrap();
    let mut kept = client.send_part(Method::GET, "/v2/", 0, b"").await;
    let mut start = [0; 12];
    kept.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    let started = tokio::time::Instant::now();
    for mut stream in [silent, slow, kept] {
        read_to_end(&mut stream).await;
    }
    assert!(started.elapsed() >= Duration::from_secs(30));
}

#[tokio::test]
async fn stalled_upload_is_cut_and_resumed() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(500_000);
    let upload = client.start_upload(&path(OURS, "app")).await;
    let half = 200_000;
    let mut stream = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..half]).await;
    client.wait_for_size(&upload, half).await;
    pass(Duration::from_secs(61)).await;
    let reply = read_to_end(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 408 "), "{reply}");
    let status = client.get(&upload).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), format!("0-{}", half - 1));
    client.chunk(&upload, half, &bytes[half..]).await.expect(StatusCode::ACCEPTED);
    let finish = format!("{upload}?digest={}", sha256(&bytes));
    client.put(&finish, "").await.expect(StatusCode::CREATED);
}

#[tokio::test]
async fn client_that_reads_nothing_is_cut() {
    let server = Server::start().await;
    let client = server.our_client().await;
    let app = path(OURS, "app");
    // More than the operating system buffers for a connection.
    let digest = client.push_blob(&app, &vec![0; 64 << 20]).await;
    let mut stream =
        client.send_part(Method::GET, &format!("/v2/{app}/blobs/{digest}"), 0, b"").await;
    let mut start = [0; 12];
    stream.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    // After the cut, the operating system answers sent bytes with a reset.
    let started = std::time::Instant::now();
    tokio::time::pause();
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::advance(Duration::from_secs(61)).await;
        assert!(started.elapsed() < Duration::from_secs(20), "the connection is not cut");
    }
}

#[tokio::test]
async fn refusal_is_read_while_sending() {
    let server = Server::start().await;
    let mut client = server.our_client().await;
    client.password = "wrong".to_owned();
    let url = format!("/v2/{}/blobs/uploads/", path(OURS, "app"));
    let refused = answer(client.request(Method::POST, &url).body(sample(4_000_000))).await;
    refused.expect_error(StatusCode::UNAUTHORIZED, "UNAUTHORIZED");
}

#[tokio::test]
async fn expect_continue_is_refused_before_the_body() {
    let server = Server::start().await;
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let url = format!("/v2/{}/blobs/uploads/", path(OURS, "app"));
    let head = format!(
        "POST {url} HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\nexpect: 100-continue\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let reply = read_to_end(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 401 "), "{reply}");
}

#[tokio::test]
async fn shutdown_waits_for_a_running_upload() {
    let mut server = Server::start().await;
    let client = server.our_client().await;
    let bytes = sample(500_000);
    let upload = client.start_upload(&path(OURS, "app")).await;
    let mut stream = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..1000]).await;
    client.wait_for_size(&upload, 1000).await;
    server.tell_to_stop();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    stream.write_all(&bytes[1000..]).await.unwrap();
    let reply = read_to_end(&mut stream).await;
    assert!(reply.starts_with("HTTP/1.1 202 "), "{reply}");
    assert!(reply.contains("range: 0-499999"), "{reply}");
    server.stopped().await;
}

#[tokio::test]
async fn cut_upload_resumes_at_the_next_registry() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start_in(folder.path());
    let app = path(OURS, "app");
    server.create(&app).await;
    let client = server.our_client().await;
    let bytes = sample(500_000);
    let upload = client.start_upload(&app).await;
    let half = 123_456;
    let mut stream = client.send_part(Method::PATCH, &upload, bytes.len(), &bytes[..half]).await;
    client.wait_for_size(&upload, half).await;
    server.tell_to_stop();
    while TcpStream::connect(server.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    pass(Duration::from_secs(9)).await;
    server.stopped().await;
    assert_eq!(read_to_end(&mut stream).await, "");

    let server = Server::start_in(folder.path());
    let client = server.our_client().await;
    let status = client.get(&upload).await.expect(StatusCode::NO_CONTENT);
    assert_eq!(status.header("range"), format!("0-{}", half - 1));
    client.chunk(&upload, half, &bytes[half..]).await.expect(StatusCode::ACCEPTED);
    let created = client.put(&format!("{upload}?digest={}", sha256(&bytes)), "").await;
    let location = created.expect(StatusCode::CREATED).header("location");
    assert!(client.get(&location).await.body == bytes);
}

#[tokio::test]
async fn idle_connections_do_not_delay_shutdown() {
    let server = Server::start().await;
    let client = server.our_client().await;
    client.get("/v2/").await.expect(StatusCode::OK);
    let _silent = TcpStream::connect(server.address).await.unwrap();
    let started = std::time::Instant::now();
    server.stopped().await;
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn dropped_registry_closes_its_connections() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(folder.path())).unwrap();
    let registry = Registry::bind(backend, "127.0.0.1:0".parse().unwrap()).unwrap();
    let address = registry.local_addr();
    let serving = tokio::spawn(registry.serve(std::future::pending()));
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET /v2/ HTTP/1.1\r\n").await.unwrap();
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled());
    assert_eq!(read_to_end(&mut stream).await, "");
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn announced_registry_is_the_host() {
    let folder = tempfile::tempdir().unwrap();
    let backend = LocalBackend::open(Some(folder.path())).unwrap();
    let bind = || Registry::bind(backend.clone(), "127.0.0.1:0".parse().unwrap()).unwrap();
    let default = backend.host();
    let quiet = bind();
    assert_eq!(backend.host(), default);
    let registry = bind().announced().unwrap();
    assert_eq!(backend.host().to_string(), registry.local_addr().to_string());
    assert!(matches!(quiet.announced(), Err(Error::Conflict { .. })));
    registry.serve(async {}).await.unwrap();
    assert_eq!(backend.host(), default);
}

#[tokio::test]
async fn used_address_is_reported() {
    let server = Server::start().await;
    let error = Registry::bind(server.backend.clone(), server.address).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot listen on {}", server.address));
}

#[tokio::test]
async fn request_log_has_no_password() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(Level::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let server = Server::start().await;
    let mut client = server.our_client().await;
    let app = path(OURS, "app");
    let digest = client.push_blob(&app, b"twelve bytes").await;
    client.get(&format!("/v2/{app}/blobs/{digest}")).await.expect(StatusCode::OK);
    let good = std::mem::replace(&mut client.password, "a-wrong-password".to_owned());
    client.get("/v2/").await.expect(StatusCode::UNAUTHORIZED);

    let wanted = [
        "method=POST kind=\"uploads\" status=201 received=12 sent=0",
        "method=GET kind=\"blob\" status=200 received=0 sent=12",
        "method=GET kind=\"base\" status=401 received=0",
    ];
    let deadline = Instant::now() + Duration::from_secs(20);
    while !wanted.iter().all(|event| log.text().contains(event)) {
        assert!(Instant::now() < deadline, "{}", log.text());
        tokio::task::yield_now().await;
    }
    let text = log.text();
    assert_eq!(text.matches(" request ").count(), wanted.len(), "{text}");
    for secret in [good.as_str(), "a-wrong-password", "Basic "] {
        assert!(!text.contains(secret), "{text}");
    }
}
