//! What succeeds: on standard output the result and nothing else, the rest on standard error.

mod json;
mod serve;
mod streams;
mod tables;
