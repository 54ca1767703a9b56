//! Images on their way: pushed, pulled and copied by the program, and what it tells meanwhile.

mod copy;
mod ecr;
mod front;
mod kill;
mod progress;
mod pull;
mod screen;
mod sources;
mod untaken;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::sandbox::{Run, Sandbox};

/// The object that a run printed, which must have succeeded.
fn object(sandbox: &Sandbox, line: &str) -> Value {
    let printed = sandbox.printed(&format!("{line} --output json"));
    serde_json::from_str(&printed).unwrap()
}

/// Stops a run by Ctrl-C when the bytes of a blob move, which it has to tell.
fn interrupt(sandbox: &Sandbox, line: &str) {
    let mut command = sandbox.command(&format!("{line} --output json"));
    let mut process = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    while !line.contains("\"moved\"") {
        line.clear();
        assert_ne!(stderr.read_line(&mut line).unwrap(), 0, "it ended before it could be stopped");
    }
    let id = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(130), "{rest}");
    let last: Value = serde_json::from_str(rest.lines().last().unwrap()).unwrap();
    assert!(last["note"].as_str().unwrap().starts_with("interrupted: "), "{last}");
}

/// The events that a run told on standard error.
fn events(run: &Run) -> Vec<Value> {
    let lines = run.stderr.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    lines.filter_map(|mut line| line.get_mut("progress").map(Value::take)).collect()
}

/// A manifest of a layout, the one that `index.json` lists at a place.
fn listed_manifest(layout: &Path, place: usize) -> (Value, Value) {
    let index: Value =
        serde_json::from_slice(&fs::read(layout.join("index.json")).unwrap()).unwrap();
    let entry = index["manifests"][place].clone();
    let hex = entry["digest"].as_str().unwrap().trim_start_matches("sha256:");
    let manifest = fs::read(layout.join("blobs/sha256").join(hex)).unwrap();
    (entry, serde_json::from_slice(&manifest).unwrap())
}
