//! A record of what the helper does, where one is asked for: clients run it where nobody looks.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Mutex;

use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;

use super::HELPER;

/// Names the file.
pub(super) const VARIABLE: &str = "ARK_CREDENTIAL_LOG";

/// Whose lines the helper's own are.
pub(super) const TARGET: &str = "docker_credential_ark";

/// Begins to append to the file that [`VARIABLE`] names, if it names one.
///
/// Other libraries stay silent, so that nothing they know of headers and passwords gets there. That
/// there is no record is no reason to give no login.
pub(super) fn start() {
    let Some(path) = std::env::var_os(VARIABLE).filter(|path| !path.is_empty()) else { return };
    let path = Path::new(&path);
    match open(path) {
        Ok(file) => {
            let targets = Targets::new()
                .with_target(TARGET, LevelFilter::DEBUG)
                .with_target("ark_container_core", LevelFilter::DEBUG)
                .with_target(ark_container_core::permission::AUDIT_TARGET, LevelFilter::DEBUG);
            let lines =
                tracing_subscriber::fmt::layer().with_writer(Mutex::new(file)).with_ansi(false);
            // It fails only where another subscriber was installed, and there is none.
            let _ = tracing_subscriber::registry().with(lines).with(targets).try_init();
        }
        Err(error) => {
            let file = path.display();
            // What cannot be told is not worth failing for.
            let _ = writeln!(io::stderr(), "{HELPER}: no log: {VARIABLE}: {file}: {error}");
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}
