//! Image sources: docker archives and OCI archives, compressed or not, and OCI layouts in folders.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::symlink;
use std::path::{Component, Path};

use ark_container_core::model::Digest;
use ark_container_core::transfer::{Blob, Image, ImageSource, PlatformChoice};
use aws_lc_rs::digest::{SHA256, SHA512};
use flate2::write::GzEncoder;
use futures_util::TryStreamExt as _;

use crate::environment;

const BLOCK_BYTES: usize = 512;
/// The content of a file next to the source, which must not appear in the image.
const SECRET: &[u8] = b"a secret outside of the source";

/// Opens an image source.
///
/// The input starts with a line `<form> <packing> [<reference>]`. The members follow: `=== <name>` for a file,
/// `=== <name> -> <target>` for a symbolic link, `=== <name> => <target>` for a hard link, and `=== <name>/` for a
/// folder. The next lines are the content of a member.
///
/// Forms are `docker`, `oci` and `layout`; packings are `plain`, `gzip` and `zstd`. `@digest:N@` and `@size:N@` are
/// replaced by digest and size of member N. The forms `raw-docker` and `raw-oci` have the bytes of a tar instead of
/// members. The checksums of the tar are corrected, unless the packing is `is`.
pub fn archive(data: &[u8]) {
    let end = data.iter().position(|byte| *byte == b'\n').unwrap_or(data.len());
    let Ok(line) = std::str::from_utf8(&data[..end]) else { return };
    let rest = data.get(end + 1..).unwrap_or_default();
    let mut words = line.split(' ');
    let (Some(form), Some(packing)) = (words.next(), words.next()) else { return };
    let outside = environment::folder();
    environment::write(outside.path(), "secret", SECRET);
    let path = outside.path().join("source");
    let members = || members(&String::from_utf8_lossy(rest));
    let source = match form {
        "layout" => {
            unpack(&path, &members());
            ImageSource::oci_layout(&path)
        }
        _ => {
            let tar = match form {
                "docker" | "oci" => tar(&members()),
                _ if packing == "is" => rest.to_owned(),
                _ => repaired(rest.to_owned()),
            };
            fs::write(&path, packed(tar, packing)).expect("a file can be written");
            match form.ends_with("docker") {
                true => ImageSource::docker_archive(&path),
                false => ImageSource::oci_archive(&path),
            }
        }
    };
    let source = match words.next() {
        Some(reference) => source.with_reference(reference),
        None => source,
    };
    let is_docker = form.ends_with("docker");
    let linux = "linux/amd64".parse().expect("a platform");
    for choice in [PlatformChoice::All, PlatformChoice::AsIs, PlatformChoice::One(linux)] {
        match environment::runtime().block_on(Image::open(&source, &choice)) {
            Ok(image) => check_image(&image, is_docker),
            Err(error) => assert!(error.to_string().len() < 4096 + 8 * data.len()),
        }
    }
}

/// Checks that manifests have their digests, and blobs have their sizes.
fn check_image(image: &Image, is_docker: bool) {
    for manifest in image.children().iter().chain(image.referrers()).chain([image.root()]) {
        assert!(verifies(&manifest.digest, &manifest.bytes));
    }
    for blob in image.blobs() {
        let Some(content) = content(blob) else { continue };
        assert_eq!(content.len() as u64, blob.size());
        assert!(content != SECRET, "{}", blob.location());
        // The digests of a docker archive are computed. The digests of a layout are verified during an upload.
        if is_docker && image.children().is_empty() && !blob.is_tar() {
            assert!(verifies(blob.digest(), &content));
        }
    }
}

fn content(blob: &Blob) -> Option<Vec<u8>> {
    let reading = async { blob.pieces(0).await.ok()?.try_collect::<Vec<_>>().await.ok() };
    Some(environment::runtime().block_on(reading)?.concat())
}

fn verifies(digest: &Digest, content: &[u8]) -> bool {
    let algorithm = if digest.to_string().starts_with("sha256") { &SHA256 } else { &SHA512 };
    let found = aws_lc_rs::digest::digest(algorithm, content);
    Digest::from_bytes(digest.algorithm(), found.as_ref()).as_ref() == Some(digest)
}

struct Member {
    name: String,
    kind: u8,
    target: String,
    content: Vec<u8>,
}

fn members(text: &str) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for part in text.split("=== ").skip(1) {
        let (head, content) = part.split_once('\n').unwrap_or((part, ""));
        let fill = |text: &str| {
            let mut filled = text.to_owned();
            for (index, member) in members.iter().enumerate() {
                let found = aws_lc_rs::digest::digest(&SHA256, &member.content);
                let hex: String = found.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
                filled = filled.replace(&format!("@digest:{index}@"), &format!("sha256:{hex}"));
                filled = filled.replace(&format!("@hex:{index}@"), &hex);
                filled =
                    filled.replace(&format!("@size:{index}@"), &member.content.len().to_string());
            }
            filled
        };
        let head = fill(head);
        let (name, kind, target) = if let Some((name, target)) = head.split_once(" -> ") {
            (name, b'2', target)
        } else if let Some((name, target)) = head.split_once(" => ") {
            (name, b'1', target)
        } else {
            (head.as_str(), if head.ends_with('/') { b'5' } else { b'0' }, "")
        };
        let content = if kind == b'0' { content.strip_suffix('\n').unwrap_or(content) } else { "" };
        let content = fill(content).into_bytes();
        members.push(Member { name: name.to_owned(), kind, target: target.to_owned(), content });
    }
    members
}

/// Returns a POSIX tar archive with arbitrary names.
fn tar(members: &[Member]) -> Vec<u8> {
    let mut tar = Vec::new();
    for member in members {
        let mut header = [0; BLOCK_BYTES];
        let mut put = |at: usize, room: usize, text: &[u8]| {
            let length = text.len().min(room);
            header[at..at + length].copy_from_slice(&text[..length]);
        };
        put(0, 100, member.name.as_bytes());
        put(100, 8, b"0000644\0");
        put(124, 12, format!("{:011o}", member.content.len()).as_bytes());
        put(136, 12, b"00000000000");
        put(156, 1, &[member.kind]);
        put(157, 100, member.target.as_bytes());
        put(257, 8, b"ustar\x0000");
        sign(&mut header);
        tar.extend_from_slice(&header);
        tar.extend_from_slice(&member.content);
        tar.resize(tar.len().next_multiple_of(BLOCK_BYTES), 0);
    }
    tar.resize(tar.len() + 2 * BLOCK_BYTES, 0);
    tar
}

/// Sets the correct checksum of a header.
fn sign(header: &mut [u8]) {
    header[148..156].fill(b' ');
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

/// Returns the bytes with corrected checksums of all blocks that look like headers.
fn repaired(mut tar: Vec<u8>) -> Vec<u8> {
    for header in tar.chunks_exact_mut(BLOCK_BYTES).filter(|block| &block[257..262] == b"ustar") {
        sign(header);
    }
    tar
}

fn packed(tar: Vec<u8>, packing: &str) -> Vec<u8> {
    match packing {
        "gzip" => {
            let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&tar).expect("a write to memory succeeds");
            encoder.finish().expect("a write to memory succeeds")
        }
        "zstd" => zstd::encode_all(&tar[..], 1).expect("a write to memory succeeds"),
        _ => tar,
    }
}

/// Writes the members to a folder. Members with names outside the folder are skipped, and links are written.
fn unpack(folder: &Path, members: &[Member]) {
    fs::create_dir(folder).expect("a folder can be created");
    for member in members {
        let name = Path::new(&member.name);
        let is_within = name.components().all(|part| matches!(part, Component::Normal(_)));
        if !is_within || name.components().next().is_none() || member.name.contains('\0') {
            continue;
        }
        // A link among the parent folders could lead outside.
        let mut parent = folder.to_owned();
        let parents = name.parent().into_iter().flat_map(Path::components);
        let is_real = parents.into_iter().all(|part| {
            parent.push(part);
            let _ = fs::create_dir(&parent);
            fs::symlink_metadata(&parent).is_ok_and(|found| found.is_dir())
        });
        let path = folder.join(name);
        if !is_real || fs::symlink_metadata(&path).is_ok() {
            continue;
        }
        // Names that the file system does not accept are skipped.
        let _ = match member.kind {
            b'5' => fs::create_dir(&path),
            b'2' if !member.target.contains('\0') => symlink(&member.target, &path),
            b'0' => fs::write(&path, &member.content),
            _ => Ok(()),
        };
    }
}
