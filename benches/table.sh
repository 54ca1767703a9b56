#!/usr/bin/env bash
# Prints the table of benches/README.md, measured on this machine. The output of the scripts goes to standard error.
# About 45 minutes, on an otherwise idle machine.
#   benches/table.sh [RUNS=5] >table.md
set -euo pipefail
cd "$(dirname "$0")"
runs=${1:-5}
BENCH_TABLE=$(mktemp)
export BENCH_TABLE
trap 'rm "$BENCH_TABLE"' EXIT

failed=0
for script in "push-side-by-side.sh $runs" "pull-side-by-side.sh $runs" "copy-side-by-side.sh $runs" \
  "registry-throughput.sh 512 $runs" builds.sh; do
  # shellcheck disable=SC2086 # a script and its options
  ./$script >&2 || { echo "a goal is missed, or the script failed: $script" >&2; failed=1; }
done

version() { command -v "$1" >/dev/null && "$@" 2>/dev/null | grep -o '[0-9]\+\.[0-9.]*[0-9]' | head -1 | sed "s/^/$1 /" || true; }
printf 'Measured on %s with %d cores (%s), %d GiB of memory, Linux %s, in runs of %d. Peers: %s.\n\n' \
  "$(date +%F)" "$(nproc)" "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -1)" \
  "$(awk '/^MemTotal/ { print int($2 / 1048576 + 0.5) }' /proc/meminfo)" "$(uname -r)" "$runs" \
  "$({ version skopeo --version; version crane version; version regctl version; version oras version
    version docker --version; version podman --version; version docker-registry --version; version curl --version
  } | paste -sd, | sed 's/,/, /g')"
printf '| work | ours | peer | ratio | goal | met |\n|---|---|---|---|---|---|\n'
cat "$BENCH_TABLE"
exit $failed
