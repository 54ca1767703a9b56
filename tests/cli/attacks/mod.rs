//! Attempts to reach what is another organization's, by the program. `tests/README.md` lists every attack.

mod files;
mod spellings;
mod tokens;
