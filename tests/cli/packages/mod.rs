//! What is installed, and what a package holds.
