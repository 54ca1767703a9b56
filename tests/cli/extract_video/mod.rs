//! `examples/extract-video` as its user builds and uploads it.
