//! curl, a client that sends exactly what it is told and shows all that it gets.

use std::io::Write as _;
use std::process::{Child, Stdio};

use crate::component::component;

/// Someone who talks HTTP to a registry, with a password or without.
#[derive(Debug, Clone)]
pub(crate) struct Curl {
    host: String,
    password: Option<String>,
}

/// What is sent: the path of the URL, and further options as curl's, each with a value.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) options: Vec<(&'static str, String)>,
}

/// What a registry answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the headers as they were sent, but for the date.
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Curl {
    pub(crate) fn new(host: &str, password: Option<&str>) -> Self {
        Self { host: host.to_owned(), password: password.map(str::to_owned) }
    }

    /// Sends a request, and waits for the answer.
    pub(crate) fn send(
        &self,
        method: &'static str,
        path: &str,
        options: &[(&'static str, &str)],
    ) -> Answer {
        Answer::to(self.start(method, path, options))
    }

    /// Starts to send a request; the answer comes [with its end](Answer::to).
    pub(crate) fn start(
        &self,
        method: &'static str,
        path: &str,
        options: &[(&'static str, &str)],
    ) -> Child {
        let options = options.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        self.run(&[Request { method, path: path.to_owned(), options }])
    }

    /// Sends one request after the other in a single process; no answer may hold [`SEPARATOR`].
    pub(crate) fn send_all(&self, requests: &[Request]) -> Vec<Answer> {
        let output = output_of(self.run(requests));
        let answers = output.split(|byte| *byte == SEPARATOR);
        let answers: Vec<_> = answers.take(requests.len()).map(Answer::parse).collect();
        assert_eq!(answers.len(), requests.len());
        answers
    }

    /// The requests come through a pipe: other users of the machine see what is in a command line.
    fn run(&self, requests: &[Request]) -> Child {
        let mut process = component("curl")
            .args(["--config", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let sections: Vec<_> = requests.iter().map(|request| self.section(request)).collect();
        let mut stdin = process.stdin.take().unwrap();
        stdin.write_all(sections.join("next\n").as_bytes()).unwrap();
        process
    }

    /// A request as curl's configuration files have it.
    fn section(&self, request: &Request) -> String {
        let Request { method, path, options } = request;
        let mut section = "silent\nshow-error\ninclude\n".to_owned();
        match *method {
            "HEAD" => section.push_str("head\n"),
            _ => section.push_str(&format!("request = {method}\n")),
        }
        let url = format!("http://{}{path}", self.host);
        let user = self.password.as_ref().map(|password| format!("AWS:{password}"));
        let separator = char::from(SEPARATOR).to_string();
        let own = [("url", Some(url)), ("user", user), ("write-out", Some(separator))];
        let own = own.into_iter().filter_map(|(name, value)| Some((name, value?)));
        for (name, value) in own.chain(options.clone()) {
            section.push_str(&format!("{name} = \"{value}\"\n"));
        }
        section
    }
}

/// What follows each answer; text has no such character.
const SEPARATOR: u8 = 0x1e;

fn output_of(process: Child) -> Vec<u8> {
    let output = process.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

impl Answer {
    /// Waits for the answer to a request.
    pub(crate) fn to(request: Child) -> Self {
        let output = output_of(request);
        Self::parse(output.strip_suffix(&[SEPARATOR]).unwrap())
    }

    fn parse(mut bytes: &[u8]) -> Self {
        loop {
            let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let head = std::str::from_utf8(&bytes[..end]).unwrap();
            bytes = &bytes[end + 4..];
            let status = head.split(' ').nth(1).unwrap().parse().unwrap();
            // Leave to go on comes before the answer.
            if status != 100 {
                let lines = head.lines().filter(|line| !line.starts_with("date:"));
                let head = lines.collect::<Vec<_>>().join("\n");
                return Self { status, head, body: bytes.to_vec() };
            }
        }
    }

    /// The value of a header, whose name is given in lower case.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.head.lines().filter_map(|line| line.split_once(": "));
        headers.find_map(|(key, value)| (key == name).then_some(value))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}
