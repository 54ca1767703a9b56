//! Pins the images of a batch job: replaces every `container_image: <url>:<tag>` of a configuration with the image by
//! digest. Fails if the user may not pull an image, or if it does not run on this machine.
//!
//!     cargo run --example batch_job -- job.yaml >pinned.yaml
//!
//! The rest of the file, including comments, does not change. With `--outside`, repositories without an organization
//! are accepted too. The digests and sizes are printed on standard error.

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
        // The policy and the registry authorize this with the permissions of the user.
        let resolved = retry.run(|| catalog.resolve_for(image, &platform)).await;
        let resolved = resolved.map_err(|error| format!("{image}: {}", with_causes(&error)))?;
        eprintln!("{image} is {} ({} bytes, {platform})", resolved.digest(), resolved.size);
        pinned.insert(image.as_str(), resolved.url.to_string());
    }
    print!("{}", with_images(&configuration, &pinned));
    Ok(())
}

/// Returns the images in a configuration, without duplicates.
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
        true => Err(format!("the file has no {KEY}").into()),
        false => Ok(images),
    }
}

/// Returns the configuration with pinned images.
fn with_images(configuration: &str, pinned: &BTreeMap<&str, String>) -> String {
    let lines = configuration.split_inclusive('\n').map(|line| {
        let Some((key, value)) = line.split_once(KEY) else { return line.to_owned() };
        // The longest match first: an image's name may be the prefix of another's.
        let named = pinned.iter().filter(|(image, _)| value.contains(**image));
        match named.max_by_key(|(image, _)| image.len()) {
            Some((image, pinned)) => format!("{key}{KEY}{}", value.replacen(image, pinned, 1)),
            None => line.to_owned(),
        }
    });
    lines.collect()
}

/// Returns an error with its causes.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text += &format!(": {error}");
        cause = error.source();
    }
    text
}
