//! `docker-credential-ark`: docker, podman, buildah and skopeo log in by themselves.

use std::process::ExitCode;

fn main() -> ExitCode {
    ark_container_cli::run_credential_helper(std::env::args_os().collect())
}
