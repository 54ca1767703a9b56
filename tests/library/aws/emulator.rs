//! [`Emulator`]: moto or ministack, as a process on a free port.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_sdk_ecr::config::{Credentials, SharedCredentialsProvider};
use serde_json::Value;
use tempfile::TempDir;

use crate::python_component::python_component;

const DEADLINE: Duration = Duration::from_secs(60);
/// The region of the requests to both emulators.
pub(crate) const REGION: &str = "us-east-1";

/// An emulator of AWS. Dropping it ends the process.
pub(crate) struct Emulator {
    process: Child,
    pub(crate) address: SocketAddr,
    /// The access key for signing requests: its ID and its secret.
    pub(crate) key: (String, String),
    _home: TempDir,
}

impl Emulator {
    /// Starts moto, which does not check signatures.
    ///
    /// Source: <https://docs.getmoto.org/en/latest/docs/server_mode.html>
    pub(crate) fn moto() -> Self {
        let key = ("testing".to_owned(), "testing".to_owned());
        Self::start("moto_server", key, |command, address| {
            command.args(["-H", &address.ip().to_string(), "-p", &address.port().to_string()]);
        })
    }

    /// Starts ministack with checks of signatures and policies, and creates the key of a user with full access.
    /// ministack does not check its built-in keys.
    pub(crate) fn ministack() -> Self {
        let root = ("test".to_owned(), "test".to_owned());
        let mut emulator = Self::start("ministack", root, |command, address| {
            command
                .env("BIND_HOST", address.ip().to_string())
                .env("GATEWAY_PORT", address.port().to_string())
                .env("AUTH", "true")
                .env("IOT_MTLS_PORT", "0");
        });
        let everything = r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"*"}}"#;
        emulator.aws(&["iam", "create-user", "--user-name", "alice"]);
        let user =
            ["--user-name", "alice", "--policy-name", "all", "--policy-document", everything];
        emulator.aws(&[&["iam", "put-user-policy"], &user[..]].concat());
        let created = emulator.aws(&["iam", "create-access-key", "--user-name", "alice"]);
        let created: Value = serde_json::from_str(&created).unwrap();
        let text = |name: &str| created["AccessKey"][name].as_str().unwrap().to_owned();
        emulator.key = (text("AccessKeyId"), text("SecretAccessKey"));
        emulator
    }

    fn start(
        name: &str,
        key: (String, String),
        configure: impl FnOnce(&mut Command, SocketAddr),
    ) -> Self {
        let home = tempfile::tempdir().unwrap();
        // The port was just free. If another process takes it first, the emulator fails to start.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = python_component(name);
        command.current_dir(home.path()).env("HOME", home.path());
        configure(&mut command, address);
        let mut process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let started = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert_eq!(process.try_wait().unwrap(), None, "{name} ended");
            assert!(started.elapsed() < DEADLINE, "{name} does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { process, address, key, _home: home }
    }

    /// Returns the value of `AWS_ENDPOINT_URL`.
    pub(crate) fn endpoint_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns the configuration of the AWS SDK for the emulator.
    pub(crate) fn sdk_config(&self) -> SdkConfig {
        let (id, secret) = &self.key;
        let credentials = Credentials::new(id, secret, None, None, "test");
        SdkConfig::builder()
            .behavior_version(BehaviorVersion::v2026_01_12())
            .endpoint_url(self.endpoint_url())
            .region(Region::new(REGION))
            .credentials_provider(SharedCredentialsProvider::new(credentials))
            .build()
    }

    /// Runs the AWS command line, which must succeed, and returns its output.
    fn aws(&self, arguments: &[&str]) -> String {
        let output = python_component("aws")
            .args(["--output", "json", "--region", REGION, "--endpoint-url", &self.endpoint_url()])
            .args(arguments)
            .env("AWS_ACCESS_KEY_ID", &self.key.0)
            .env("AWS_SECRET_ACCESS_KEY", &self.key.1)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // The calls fail only if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
