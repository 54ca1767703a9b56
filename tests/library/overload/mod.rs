//! The registry under more than it can take.
