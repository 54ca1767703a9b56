//! `docker-credential-ark`, alone and as docker, podman, buildah and skopeo run it.
