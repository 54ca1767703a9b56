//! `docker-credential-ark`: credential helper for docker, podman, buildah and skopeo.

use std::process::ExitCode;

fn main() -> ExitCode {
    ark_container_cli::run_credential_helper(std::env::args_os().collect())
}
