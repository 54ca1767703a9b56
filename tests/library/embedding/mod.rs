//! The library as a new program would link it.
