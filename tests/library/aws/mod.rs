//! The fake of AWS, as AWS's own SDK and a client of the registry see it, and the ECR backend on it
//! and on emulators that others wrote.

mod access;
mod cloud;
mod conformance;
mod emulator;
mod faults;
mod images;
mod index;
mod put_image;
mod registry;
mod repositories;
mod sessions;
mod signatures;
