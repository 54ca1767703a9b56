//! Repositories in a folder, and the registry that serves them.
