//! Tests of the library through its public API, with real components. The library target is empty, since a package
//! needs one.
