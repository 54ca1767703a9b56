//! [`Error`]: why a path cannot be described.

use std::fmt;
use std::io;

/// The text of an error follows the path and a colon.
#[derive(Debug)]
pub(crate) enum Error {
    /// An error of the operating system.
    Read(io::Error),
    /// A device, a pipe or a socket.
    NeitherFileNorFolder,
    /// The file has no box of a video container.
    NotAContainer,
    /// The file has boxes, but none with the header.
    NoMovie { cut_off: Option<String> },
    /// The header contradicts itself.
    Broken(String),
    /// The folder has no numbered PNG or JPEG.
    NoFrames,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Read(error) => error.fmt(formatter),
            Self::NeitherFileNorFolder => {
                formatter.write_str("neither a regular file nor a folder")
            }
            Self::NotAContainer => formatter.write_str("not an MP4 or QuickTime file"),
            Self::NoMovie { cut_off: None } => {
                formatter.write_str("no header (moov): the recording was not finished")
            }
            Self::NoMovie { cut_off: Some(cut_off) } => {
                write!(formatter, "no header (moov), since the file is truncated: {cut_off}")
            }
            Self::Broken(why) => write!(formatter, "invalid header: {why}"),
            Self::NoFrames => {
                formatter.write_str("the folder has no numbered frame, such as frame_0001.png")
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
