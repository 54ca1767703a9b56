#!/usr/bin/env bash
# ./make.sh TARGET...: builds targets of CMakeLists.txt in build/. Configures build/ first if necessary.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"

if ! command -v ark-catalog-container-tool >/dev/null; then
  # The tool is in the checkout around this example.
  if [[ ! -e ../../ark-container-cli/Cargo.toml ]]; then
    echo "error: ark-catalog-container-tool is not on PATH, and this folder is not in a checkout of Ark containers" >&2
    echo "  help: cargo install --locked --git URL ark-container-cli, where URL is that of the repository of Ark containers" >&2
    exit 1
  fi
  target=$PWD/../../target
  cargo build --quiet --locked --release --manifest-path ../../Cargo.toml --target-dir "$target" \
    -p ark-container-cli
  export PATH=$target/release:$PATH
fi
if [[ ! -e build/build.ninja && ! -e build/Makefile ]]; then
  ArkDocker_DIR=$(ark-catalog-container-tool --cmake-dir)
  generator=Unix\ Makefiles
  command -v ninja >/dev/null && generator=Ninja
  cmake -S . -B build -G "$generator" -DArkDocker_DIR="$ArkDocker_DIR" -DARK_DOCKER_STREAM=ON
fi
export CTEST_OUTPUT_ON_FAILURE=1
cmake --build build ${@:+--target "$@"}
