//! Why nothing can be said of a path.

use std::fmt;
use std::io;

/// Each is a sentence that follows the path and a colon.
#[derive(Debug)]
pub(crate) enum Error {
    /// The operating system's word.
    Read(io::Error),
    /// A device, a pipe or a socket.
    NeitherFileNorFolder,
    /// Not one box of a video container is in the file.
    NotAContainer,
    /// The file has boxes, and the one with the header is not among them.
    NoMovie { cut_off: Option<String> },
    /// Something in the header contradicts itself.
    Broken(String),
    /// No file in the folder is a numbered PNG or JPEG.
    NoFrames,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(formatter),
            Self::NeitherFileNorFolder => formatter.write_str("it is neither a file nor a folder"),
            Self::NotAContainer => formatter.write_str("it is no MP4 or QuickTime file"),
            Self::NoMovie { cut_off: None } => {
                formatter.write_str("it has no header (moov): the recording was not finished")
            }
            Self::NoMovie { cut_off: Some(cut_off) } => {
                write!(formatter, "it has no header (moov), for it is cut off: {cut_off}")
            }
            Self::Broken(why) => write!(formatter, "its header is broken: {why}"),
            Self::NoFrames => {
                formatter.write_str("no file in it is a numbered frame, such as frame_0001.png")
            }
        }
    }
}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::Read(error.into())
    }
}
