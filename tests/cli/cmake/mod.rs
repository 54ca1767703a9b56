//! The CMake rules of `ark-container-cli/cmake`, with real builders.
