//! `--inspect`: prints a report about an image.

use std::io::{self, IsTerminal as _};

use ark_container_core::model::{Platform, Tag};
use ark_container_core::transfer::{Inspected, InspectedManifest};

use crate::arguments::OrganizationArgs;
use crate::context::Context;
use crate::failure::{Failure, Stop};
use crate::output::{Format, Lines, human_size, print_text, visible};

const EXAMPLES: &str = "\
Examples:
  ark-catalog-container-tool --inspect test/repo:v1 --organization GUID
  ark-catalog-container-tool --inspect test/repo:v1 --organization GUID --digest
  ark-catalog-container-tool --inspect test/repo:v1 --organization GUID --platform linux/arm64 \\
      --output json | jq .manifests[0].config.labels";

/// Show an image: digest, size, platforms, layers, configuration and referrers
///
/// Layers are not fetched.
#[derive(Debug, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub(crate) struct Args {
    /// Name, path or URL of a repository, with a tag or digest, or docker://HOST/REPOSITORY[:TAG|@DIGEST]
    ///
    /// The default tag is latest.
    #[arg(value_name = "NAME[:TAG|@DIGEST]")]
    image: String,

    #[command(flatten)]
    owner: OrganizationArgs,

    /// Show only the image for this platform, such as linux/arm64
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<Platform>,

    /// Print only the digest; as JSON, the digest, size, media type and platforms
    #[arg(long, conflicts_with = "raw")]
    digest: bool,

    /// Print the manifest as it is stored; as JSON, add all manifests and configurations
    #[arg(long)]
    raw: bool,
}

pub(crate) async fn run(args: Args, context: &Context) -> Result<(), Stop> {
    let (catalog, image, origin) = context.connect_to_image(&args.image, &args.owner).await?;
    let explain = |error| origin.explain(error);
    if args.digest {
        let resolved = match &args.platform {
            Some(platform) => catalog.resolve_for(&image, platform).await,
            None => catalog.resolve(&image).await,
        };
        let resolved = resolved.map_err(explain)?;
        return context.output.result(&resolved.digest().to_string(), &resolved);
    }
    let mut inspect = catalog.inspect(image).with_documents(args.raw);
    if let Some(platform) = args.platform {
        inspect = inspect.with_platform(platform);
    }
    let inspected = inspect.await.map_err(explain)?;
    let is_table = context.output.format == Format::Table;
    match inspected.documents.get(inspected.image.digest()).filter(|_| is_table) {
        Some(manifest) => print_document(manifest),
        None => context.output.result(&report(&inspected)?, &inspected),
    }
}

/// Prints a document: unchanged, or with control characters escaped on a terminal.
fn print_document(text: &str) -> Result<(), Stop> {
    match io::stdout().is_terminal() {
        true => print_text(&format!("{}\n", visible(text))),
        false => print_text(text),
    }
}

/// Returns a paragraph on the image, one on each of its manifests, and one on its referrers.
fn report(inspected: &Inspected) -> Result<String, Failure> {
    let image = &inspected.image;
    let mut whole = Lines::default();
    whole.line("Image", &image.url);
    let platforms: Vec<String> = image.platforms.iter().map(ToString::to_string).collect();
    if inspected.manifests.iter().all(|manifest| manifest.digest != *image.digest()) {
        whole.line("Media type", &image.media_type);
        whole.line("Size", &human_size(image.size));
        whole.line("Platforms", &platforms.join(", "));
        for (key, value) in &inspected.annotations {
            whole.line("Annotation", &format!("{key}={value}"));
        }
    }
    let mut paragraphs = vec![whole];
    for manifest in &inspected.manifests {
        paragraphs.push(manifest_lines(manifest)?);
    }
    let mut referrers = Lines::default();
    for referrer in &inspected.referrers {
        let tag = referrer.tag.as_ref().map(Tag::as_str);
        let kind = referrer.artifact_type.as_deref().or(tag).unwrap_or(&referrer.media_type);
        let size = human_size(referrer.size);
        referrers.line("Referrer", &format!("{} {size:>8} {kind}", referrer.digest));
    }
    paragraphs.push(referrers);
    let texts = paragraphs.iter().map(Lines::text).filter(|text| !text.is_empty());
    Ok(texts.collect::<Vec<_>>().join("\n\n"))
}

fn manifest_lines(manifest: &InspectedManifest) -> Result<Lines, Failure> {
    let mut lines = Lines::default();
    let mut line = |label, value: &str| lines.line(label, &value);
    match &manifest.platform {
        Some(platform) => line("Platform", &platform.to_string()),
        None => line("Artifact", &manifest.artifact_type),
    }
    line("Digest", &manifest.digest.to_string());
    line("Media type", &manifest.media_type);
    line("Size", &human_size(manifest.size));
    if let Some(created) = &manifest.created {
        line("Created", created);
    }
    if let Some(config) = &manifest.config {
        for (label, words) in [("Entrypoint", &config.entrypoint), ("Command", &config.cmd)] {
            if !words.is_empty() {
                line(label, &json(words)?);
            }
        }
        for (label, text) in [("Directory", &config.working_dir), ("User", &config.user)] {
            if let Some(text) = text {
                line(label, text);
            }
        }
        config.env.iter().for_each(|variable| line("Environment", variable));
        for (key, value) in &config.labels {
            line("Label", &format!("{key}={value}"));
        }
    }
    for (key, value) in &manifest.annotations {
        line("Annotation", &format!("{key}={value}"));
    }
    for layer in &manifest.layers {
        let size = human_size(layer.size);
        line("Layer", &format!("{} {size:>8} {}", layer.digest, layer.media_type));
    }
    Ok(lines)
}

fn json(words: &[String]) -> Result<String, Failure> {
    serde_json::to_string(words)
        .map_err(|error| Failure::io("cannot write a result as JSON", &error.into()))
}
