#!/usr/bin/env bash
# Measures builds from an empty target folder: the quickstart of the README, and the release build of the tool. Prints
# wall-clock and CPU seconds, and fails if a goal is missed. Dependencies are downloaded before.
#   benches/builds.sh [quickstart|release]…
# About 10 minutes and 4 GB below TMPDIR, on an otherwise idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
builds=("$@")
((${#builds[@]})) || builds=(quickstart release)
source benches/common.sh

need jq /usr/bin/time:time
cargo fetch --quiet --locked

# timed NAME COMMAND…: writes NAME.result.
timed() {
  local name=$1; shift
  CARGO_TARGET_DIR="$work/target" /usr/bin/time -o "$work/time" -f '%e %U %S %M' "$@" >"$work/$name.log" 2>&1 ||
    { tail "$work/$name.log" >&2; exit 1; }
  awk '{ print $1, $2 + $3, $4 }' "$work/time" >"$work/$name.result"
  rm -r "$work/target"
  lines "$name"
}
build_quickstart() {
  title "quickstart from an empty target folder"
  timed quickstart cargo build --quiet --locked -p quickstart
  at_most $wall quickstart 90
}
build_release() {
  title "release build of the tool from an empty target folder"
  timed release cargo build --quiet --locked --release -p ark-container-cli
  at_most $wall release 300
}
for build in "${builds[@]}"; do "build_$build"; done
exit $failed
