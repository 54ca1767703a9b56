#!/usr/bin/env bash
# Compares pulls from the embedded registry into an OCI layout with skopeo, and crane, regctl and oras if installed.
# Prints medians and ratios, and fails if a goal is missed.
#   benches/pull-side-by-side.sh [RUNS=5]
# About 3 minutes and 4 GB below TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
source benches/common.sh
source benches/images.sh

need hyperfine jq skopeo /usr/bin/time:time
build
isolate
serve

# side_by_side NAME COUNT BYTES
side_by_side() {
  local name=$1 peer fresh="rm -rf $work/pulled"
  layout "$work/image" "$2" "$3"
  "$tool" --quiet --create-repository "bench/$name" >/dev/null
  "$tool" --quiet --push "bench/$name:v1" --from "oci:$work/image" >/dev/null
  "$tool" --quiet --login "bench/$name" --access pull --docker-config "$work/login" >/dev/null
  rm -r "$work/image"
  measure ours "$runs" "$fresh" "$tool --quiet --pull bench/$name:v1 --to oci:$work/pulled"
  for peer in "${peers[@]}"; do
    measure "$peer" "$runs" "$fresh" "$(peer_pull "$peer" "$registry/prod/$organization/bench/$name:v1" "$work/pulled")"
  done
  lines ours "${peers[@]}"
  ratio $wall ours crane 0.5
  ratio $wall ours regctl
  ratio $wall ours oras
  ratio $wall ours skopeo
}

mkdir -p "$work/login"
title "pull 8 x 128 MiB into an OCI layout, embedded registry"
side_by_side large 8 $((128 << 20))
title "pull 200 x 100 kB into an OCI layout, embedded registry"
side_by_side many 200 100000
exit $failed
