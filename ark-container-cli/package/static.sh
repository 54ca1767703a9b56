#!/usr/bin/env bash
# Builds both programs for release, statically linked, and prints their folder.
#
# The static glibc can resolve names. With --target, the flags do not apply to build scripts and procedural macros,
# which cannot be static.
set -euo pipefail
cd "$(dirname "$0")/../.."

target="$(rustc -vV | sed -n 's/^host: //p')"
folder="${CARGO_TARGET_DIR:-target}/$target/dist"
RUSTFLAGS="-C target-feature=+crt-static" \
  cargo build --locked --profile dist -p ark-container-cli --target "$target" >&2
for program in ark-catalog-container-tool docker-credential-ark; do
  if readelf --program-headers "$folder/$program" | grep -q INTERP; then
    echo "static.sh: $program is not static" >&2
    exit 1
  fi
done
echo "$folder"
