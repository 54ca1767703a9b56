//! [`Plain`]: a layer before compression, read and hashed in blocks.

use std::io;

use crate::digester::Digester;
use crate::error::Result;
use crate::model::Digest;
use crate::push::LocalBlob;
use crate::push::open_file::Cursor;
use crate::push::pieces::{PIECE_LEN, fill};

/// A layer as far as it has been read.
pub(super) struct Plain {
    file: Cursor,
    remaining: u64,
    digester: Digester,
}

impl Plain {
    /// A layer from its start.
    ///
    /// # Errors
    /// Those of [`LocalBlob::open`].
    pub(super) async fn open(tar: &LocalBlob) -> Result<Self> {
        let digester = Digester::new(tar.digest().algorithm());
        Ok(Self { file: tar.open(0).await?, remaining: tar.size(), digester })
    }

    /// Replaces what is in `block` by the next `length` bytes, or by what is left.
    pub(super) fn read(&mut self, block: &mut Vec<u8>, length: usize) -> io::Result<()> {
        let length = usize::try_from(self.remaining).unwrap_or(length).min(length);
        block.resize(length, 0);
        // Each piece is hashed while it is in the processor's cache.
        for piece in block.chunks_mut(PIECE_LEN) {
            fill(&mut self.file, piece, self.remaining)?;
            self.digester.update(piece);
            self.remaining -= piece.len() as u64;
        }
        Ok(())
    }

    /// Whether all has been read.
    pub(super) fn is_read(&self) -> bool {
        self.remaining == 0
    }

    /// The digest of what has been read.
    pub(super) fn finish(self) -> Digest {
        self.digester.finish()
    }
}
