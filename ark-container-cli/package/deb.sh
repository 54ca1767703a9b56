#!/usr/bin/env bash
# Builds the Debian package, target/debian/*.deb, and prints its path. Requires cargo-deb:
#
#     cargo install --locked cargo-deb@3.8.0
#
# A package built on Debian 12 runs on Debian 12 and later, and on Ubuntu 24.04 and later.
set -euo pipefail
cd "$(dirname "$0")/../.."

command -v cargo-deb >/dev/null || {
  echo "deb.sh: cargo-deb is missing; install it: cargo install --locked cargo-deb@3.8.0" >&2
  exit 1
}
target="${CARGO_TARGET_DIR:-target}"
cargo build --locked --profile dist -p ark-container-cli >&2
ark-container-cli/package/shell-files.sh "$target/dist/ark-catalog-container-tool" target/package
cargo deb --quiet --profile dist --no-build --no-strip -p ark-container-cli
