//! Pins the images of a batch job: every `container_image: <url>:<tag>` of its configuration becomes the
//! image by digest, once it is known that whoever runs this may pull it, and that it is for this machine.
//!
//!     cargo run --example batch_job -- job.yaml >pinned.yaml
//!
//! The rest of the file stays as it is, comments among it. With `--outside`, repositories that belong to no
//! organization do, too. What was found is told on standard error.

#![expect(clippy::print_stderr, clippy::print_stdout, reason = "this program talks to a person")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::fs;

use ark_container_core::Catalog;
use ark_container_core::distribution::Retry;
use ark_container_core::model::Platform;
use serde_json::Value;

const KEY: &str = "container_image";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments: Vec<String> = std::env::args().skip(1).collect();
    let outside = arguments.iter().position(|argument| argument == "--outside");
    let outside = outside.map(|at| arguments.remove(at)).is_some();
    let [file] = arguments.as_slice() else { return Err("expected one file".into()) };
    let configuration = fs::read_to_string(file).map_err(|error| format!("{file}: {error}"))?;
    let images = images_of(&configuration).map_err(|error| format!("{file}: {error}"))?;

    let catalog = Catalog::builder().with_environment().with_outside_repositories(outside);
    let catalog = catalog.connect().await?;
    let platform = Platform::of_this_machine();
    let (retry, mut pinned) = (Retry::default(), BTreeMap::new());
    for image in &images {
        // It asks the policy, and the registry under the caller's own rights.
        let resolved = retry.run(|| catalog.resolve_for(image, &platform)).await;
        let resolved = resolved.map_err(|error| format!("{image}: {}", told(&error)))?;
        eprintln!("{image} is {} ({} bytes, {platform})", resolved.digest(), resolved.size);
        pinned.insert(image.as_str(), resolved.url.to_string());
    }
    print!("{}", with_images(&configuration, &pinned));
    Ok(())
}

/// The images that a configuration names, each once.
fn images_of(configuration: &str) -> Result<BTreeSet<String>, Box<dyn Error>> {
    let mut images = BTreeSet::new();
    let mut values: Vec<Value> = vec![serde_saphyr::from_str(configuration)?];
    while let Some(value) = values.pop() {
        match value {
            Value::Array(items) => values.extend(items),
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(image) if key == KEY => drop(images.insert(image)),
                        _ if key == KEY => return Err(format!("{KEY} is not a text").into()),
                        value => values.push(value),
                    }
                }
            }
            _ => {}
        }
    }
    match images.is_empty() {
        true => Err(format!("it has no {KEY}").into()),
        false => Ok(images),
    }
}

/// The configuration with other images in the lines that name them.
fn with_images(configuration: &str, pinned: &BTreeMap<&str, String>) -> String {
    let lines = configuration.split_inclusive('\n').map(|line| {
        let Some((key, value)) = line.split_once(KEY) else { return line.to_owned() };
        // The longest first: one image's name may be the beginning of another's.
        let named = pinned.iter().filter(|(image, _)| value.contains(**image));
        match named.max_by_key(|(image, _)| image.len()) {
            Some((image, pinned)) => format!("{key}{KEY}{}", value.replacen(image, pinned, 1)),
            None => line.to_owned(),
        }
    });
    lines.collect()
}

/// An error with its causes.
fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
