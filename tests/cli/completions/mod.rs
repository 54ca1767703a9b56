//! What shells complete, and the man pages.
