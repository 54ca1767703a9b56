//! The policies that the library writes, judged by the fake of AWS with tokens of an identity provider.

mod actions;
mod creation;
mod deployment;
mod reach;
mod repository_policy;
mod trust;
