//! A server with more clients than it can serve at once, and one that has no file descriptor left for them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::sandbox::{BINARY, Sandbox, Server, TBD};

const CONNECTIONS: usize = 1000;
/// So few that a handful of clients take them all.
const DESCRIPTORS: usize = 40;
/// How long anything may take that a test waits for.
const PATIENCE: Duration = Duration::from_secs(20);

/// What asks for the manifest of `a:v1`; the connection ends with the answer where it `closes`.
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
    let stream = TcpStream::connect_timeout(&address, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn read_to_end(stream: &mut TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn a_thousand_clients_at_once_are_all_answered() {
    let sandbox = Sandbox::new();
    sandbox.push("a:v1");
    let server = sandbox.serve();
    let request = request(&sandbox, true);
    // All are connected before the first is served.
    let mut crowd: Vec<_> = (0..CONNECTIONS).map(|_| connect(&server)).collect();
    for stream in &mut crowd {
        stream.write_all(request.as_bytes()).unwrap();
    }
    for stream in &mut crowd {
        let answer = read_to_end(stream);
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[test]
fn without_file_descriptors_it_says_so_and_goes_on_when_there_are_some() {
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
    let deadline = Instant::now() + PATIENCE;
    while open() < DESCRIPTORS {
        assert!(Instant::now() < deadline, "{} are open", open());
        std::thread::sleep(Duration::from_millis(5));
    }
    let refused = answer(&mut first);
    assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
    assert!(refused.contains("retry-after: 1"), "{refused}");
    let before = processor_time(&process);
    std::thread::sleep(Duration::from_millis(500));
    // In hundredths of a second: it waits, and does not ask again and again.
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

/// How long a process has been at work, in hundredths of a second.
///
/// Source: <https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>
fn processor_time(process: &str) -> u64 {
    let stat = fs::read_to_string(format!("{process}/stat")).unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = fields.split_whitespace().collect();
    let time = |index: usize| fields[index].parse::<u64>().unwrap();
    // User and system: fields 14 and 15, of which 3 is the first here.
    time(11) + time(12)
}
