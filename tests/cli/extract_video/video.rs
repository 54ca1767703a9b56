//! A video that a test writes.

/// A box of ISO base media.
fn boxed(kind: &str, content: &[u8]) -> Vec<u8> {
    let size = u32::try_from(8 + content.len()).unwrap();
    [&size.to_be_bytes(), kind.as_bytes(), content].concat()
}

/// A box in which there are others.
fn parent(kind: &str, children: &[Vec<u8>]) -> Vec<u8> {
    boxed(kind, &children.concat())
}

/// A box of version 0, whose content is numbers of 32 bits.
fn numbers(kind: &str, numbers: &[u32]) -> Vec<u8> {
    let content: Vec<u8> = numbers.iter().flat_map(|number| number.to_be_bytes()).collect();
    boxed(kind, &[&[0; 4], &content[..]].concat())
}

/// An MP4 of three seconds, with a track of 2.5 in German, of 75 frames of 1920 × 1080 in HEVC.
pub(super) fn video() -> Vec<u8> {
    let deu = [b'd', b'e', b'u'].iter().fold(0, |code, letter| code << 5 | u32::from(letter - 96));
    // One description: reserved, of the first source, and after 16 bytes of zeros the size.
    let description = [&[0, 0, 0, 0, 0, 0, 0, 1], &[0; 16][..], &[7, 128, 4, 56], &[0; 50]];
    let descriptions = [&[0; 4], &[0, 0, 0, 1], &boxed("hvc1", &description.concat())[..]];
    let table =
        parent("stbl", &[boxed("stsd", &descriptions.concat()), numbers("stsz", &[1000, 75])]);
    let media = parent(
        "mdia",
        &[
            numbers("mdhd", &[0, 0, 90_000, 225_000, deu << 16]),
            boxed("hdlr", b"\0\0\0\0\0\0\0\0vide\0\0\0\0\0\0\0\0\0\0\0\0\0"),
            parent("minf", &[table]),
        ],
    );
    let track = parent("trak", &[numbers("tkhd", &[0, 0, 7, 0, 2500]), media]);
    let movie = parent("moov", &[numbers("mvhd", &[0, 0, 1000, 3000]), track]);
    [boxed("ftyp", b"mp42\0\0\0\0isom"), boxed("mdat", &[1; 500]), movie].concat()
}
