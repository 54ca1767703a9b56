//! What shells complete, and the manual pages.

mod offers;
mod pages;
mod shell;
mod silence;
