//! [`Server`]: the process under test. [`Environment`]: its address, folder and counters, shared by the users.

use std::fs::{self, File};
use std::io::{self, BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use ark_container_core::backend::local::LocalBackend;
use ark_container_core::model::RegistryHost;

use crate::Problem;
use crate::measurements::Latencies;

/// Ports that the system does not assign to outgoing connections. With an assigned port, a client that connects to a
/// killed server could connect to itself.
const PORTS: std::ops::Range<u16> = 21_000..32_000;

/// Longer than the time after which uploads are swept.
const EXPIRED_UPLOAD_AGE: Duration = Duration::from_secs(2 * 24 * 60 * 60);
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// The program, its folder and address, and the counters of a run.
pub(crate) struct Environment {
    program: PathBuf,
    home: PathBuf,
    pub(crate) backend: LocalBackend,
    pub(crate) host: RegistryHost,
    port: u16,
    pub(crate) latencies: Latencies,
    /// Whether the server is killed repeatedly.
    pub(crate) kills_server: AtomicBool,
    kills: AtomicUsize,
    client_kills: AtomicUsize,
}

impl Environment {
    pub(crate) fn new(program: PathBuf, home: &Path) -> Result<Self, Problem> {
        let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
        let port = PORTS.into_iter().find(is_free).ok_or("no port is free")?;
        Ok(Self {
            program: program.canonicalize()?,
            home: home.to_owned(),
            backend: LocalBackend::open(Some(&home.join("data/ark/registry")))?,
            host: format!("127.0.0.1:{port}").parse()?,
            port,
            latencies: Latencies::default(),
            kills_server: AtomicBool::new(true),
            kills: AtomicUsize::default(),
            client_kills: AtomicUsize::default(),
        })
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.home.join(relative)
    }

    /// Returns a command that runs the program with its own home.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(line.split_whitespace()).current_dir(&self.home).env_clear();
        command.env("HOME", &self.home).env("XDG_DATA_HOME", self.home.join("data"));
        command.stdin(Stdio::null());
        command
    }

    pub(crate) fn kills(&self) -> usize {
        self.kills.load(Ordering::SeqCst)
    }

    pub(crate) fn client_kills(&self) -> usize {
        self.client_kills.load(Ordering::SeqCst)
    }

    pub(crate) fn count_client_kill(&self) {
        self.client_kills.fetch_add(1, Ordering::SeqCst);
    }

    /// Returns the permanent files of the registry, and the temporary ones, including uploads.
    pub(crate) fn files(&self) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
        let mut folders = vec![self.backend.directory().to_owned()];
        let (mut permanent, mut temporary) = (Vec::new(), Vec::new());
        while let Some(folder) = folders.pop() {
            // A listed folder may be deleted meanwhile.
            let Ok(entries) = fs::read_dir(folder) else { continue };
            for entry in entries {
                let Ok(entry) = entry else { continue };
                let path = entry.path();
                let is_temporary = ["/uploads/", "/_tmp/", "/_trash/"]
                    .iter()
                    .any(|part| path.to_string_lossy().contains(part));
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => folders.push(path),
                    _ if is_temporary => temporary.push(path),
                    _ => permanent.push(path),
                }
            }
        }
        Ok((permanent, temporary))
    }
}

/// A server process. Dropping kills it.
pub(crate) struct Server {
    process: Child,
}

impl Server {
    pub(crate) fn start(environment: &Environment) -> Result<Self, Problem> {
        let line = format!("--serve --listen 127.0.0.1:{}", environment.port);
        let log = File::options().create(true).append(true).open(environment.path("server.log"))?;
        let mut process =
            environment.command(&line).stdout(Stdio::piped()).stderr(Stdio::from(log)).spawn()?;
        let stdout = process.stdout.take().ok_or("no output")?;
        let mut printed = String::new();
        BufReader::new(stdout).read_line(&mut printed)?;
        if printed.trim_end() != environment.host.to_string() {
            let log = fs::read_to_string(environment.path("server.log"))?;
            return Err(format!("the server printed {printed:?}, and to its log: {log}").into());
        }
        Ok(Self { process })
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn kill_and_restart(&mut self, environment: &Environment) -> Result<(), Problem> {
        self.process.kill()?;
        self.process.wait()?;
        environment.kills.fetch_add(1, Ordering::SeqCst);
        *self = Self::start(environment)?;
        Ok(())
    }

    /// Terminates the server, and checks that a server started two days later removes the temporary files. Returns the
    /// number of these files.
    pub(crate) async fn restart_and_check_sweep(
        &mut self,
        environment: &Environment,
    ) -> Result<usize, Problem> {
        let ended = Command::new("kill").arg(self.id().to_string()).status()?;
        if !ended.success() || self.process.wait()?.code() != Some(0) {
            return Err("the server did not exit with 0".into());
        }
        let (_, temporary) = environment.files()?;
        for path in &temporary {
            File::options()
                .write(true)
                .open(path)?
                .set_modified(SystemTime::now() - EXPIRED_UPLOAD_AGE)?;
        }
        *self = Self::start(environment)?;
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let (_, left) = environment.files()?;
            if left.is_empty() {
                return Ok(temporary.len());
            }
            if Instant::now() > deadline {
                return Err(format!("not swept: {left:?}").into());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Fails only if the process has ended.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
