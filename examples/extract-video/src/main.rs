//! Reads the header of a video container, or a directory of frames, and writes JSON.
//!
//! The files are not trusted: the program checks every size in a file, and limits the memory that a header takes.

mod container;
mod error;
mod frames;

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::Serialize;

use container::Container;
use error::Error;
use frames::Frames;

const USAGE: &str = "\
usage: ark-extract-catalog-video PATH

PATH is a video (MP4, QuickTime and other ISO base media) or a folder of numbered PNG or JPEG files.
Writes the headers to standard output, as one line of JSON.
";

/// The description of a path.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Report {
    Container(Container),
    Frames(Frames),
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = env::args_os().skip(1).collect();
    match &arguments[..] {
        [only] if only == "--help" || only == "-h" => {
            written(io::stdout(), USAGE, ExitCode::SUCCESS)
        }
        [path] => extract(&PathBuf::from(path)),
        _ => written(io::stderr(), USAGE, ExitCode::from(2)),
    }
}

/// Writes the description of a path, or the error.
fn extract(path: &Path) -> ExitCode {
    let line = report(path).and_then(|report| serde_json::to_string(&report).map_err(Error::from));
    match line {
        Ok(line) => written(io::stdout(), &format!("{line}\n"), ExitCode::SUCCESS),
        Err(error) => {
            let message = format!("error: {}: {error}\n", path.display());
            written(io::stderr(), &message, ExitCode::FAILURE)
        }
    }
}

fn report(path: &Path) -> Result<Report, Error> {
    let kind = fs::metadata(path)?.file_type();
    if kind.is_dir() {
        return frames::read(path).map(Report::Frames);
    }
    // Opening a pipe would wait for its writer.
    if !kind.is_file() {
        return Err(Error::NeitherFileNorFolder);
    }
    container::read(path).map(Report::Container)
}

/// Writes a text. Returns the given exit code, or a failure if the text could not be written.
fn written(mut output: impl io::Write, text: &str, code: ExitCode) -> ExitCode {
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Ok(()) => code,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_is_not_opened() {
        let refused = report(Path::new("/dev/zero"));
        assert_eq!(refused.unwrap_err().to_string(), "neither a regular file nor a folder");
    }

    #[test]
    fn report_starts_with_its_kind() {
        let line = serde_json::to_string(&report(Path::new("samples/clip.mp4")).unwrap()).unwrap();
        assert!(line.starts_with(r#"{"kind":"container","bytes":979,"#), "{line}");
    }
}
