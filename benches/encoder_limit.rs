//! The minimum CPU time of a push of uncompressed layers: the encoder and both SHA-256 on one thread, without a push.
//!
//! `encoder-limit COMPRESSION FILE…` compresses each file as one layer.

use std::error::Error;
use std::fs::File;

use ark_container_core::transfer::compress_on_one_thread;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let compression = arguments.next().unwrap_or_default().parse()?;
    for file in arguments {
        let file = File::open(file)?;
        let size = file.metadata()?.len();
        compress_on_one_thread(compression, file, size)?;
    }
    Ok(())
}
