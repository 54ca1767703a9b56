#!/usr/bin/env bash
# What failures of AWS cost: the wall time of a command next to the same command on a healthy AWS, in one
# run, on this project's own fake of AWS. One call is throttled; STS is silent, as in a private network without
# an endpoint for it; the tag index is silent, at first and again; nobody listens. Prints medians and
# ratios, and fails where a limit is passed.
#   benches/ecr-failures.sh [RUNS=7]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-7}

source benches/common.sh

build fake-aws
trap 'kill ${FAKE_PID:-} 2>/dev/null || true; wait; rm -rf "$work"' EXIT
isolate

# More repositories than one page of the account has, so that the tag index is asked.
coproc FAKE { exec target/release/examples/fake-aws 2000 10; }
exec 3<&"${FAKE[0]}" 4>&"${FAKE[1]}"
while read -r line <&3 && [[ -n "$line" ]]; do export "${line?}"; done
fake() { echo "$1" >&4; read -r _ <&3; }

# median FAULT CODE COMMAND…: the median time in milliseconds, each run with the fault and an empty cache,
# unless KEEP_CACHE is set.
median() {
  local fault=$1 code=$2 start actual; shift 2
  for _ in $(seq "$runs"); do
    fake heal
    [[ -n "${KEEP_CACHE:-}" ]] || rm -rf "$work/cache"
    [[ -z "$fault" ]] || fake "$fault"
    start=${EPOCHREALTIME/./} actual=0
    "$tool" --quiet "$@" >/dev/null 2>&1 || actual=$?
    echo $((${EPOCHREALTIME/./} - start))
    ((actual == code)) || { echo "exit code $actual, not $code: $*" >&2; return 1; }
  done | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] / 1000 }'
}

# next_to WHAT LIMIT FAULT CODE COMMAND…: the limit is in milliseconds more than on a healthy AWS.
next_to() {
  local what=$1 limit=$2 fault=$3 code=$4 healthy faulty; shift 4
  healthy=$(AWS_ENDPOINT_URL=$endpoint median "" 0 "$@")
  faulty=$(median "$fault" "$code" "$@")
  awk -v what="$what" -v healthy="$healthy" -v faulty="$faulty" -v limit="$limit" 'BEGIN {
    printf "%-34s %9.1f ms %9.1f ms %8.1f\n", what, healthy, faulty, faulty / healthy
    exit !(faulty - healthy <= limit)
  }' || { echo "  over the limit of $limit ms more" >&2; failed=1; }
}

endpoint=$AWS_ENDPOINT_URL
printf '%-34s %12s %12s %8s\n' "" healthy failing ratio
next_to "listing, one call throttled" 2000 "throttle ecr:DescribeRepositories" 0 --list-repositories
next_to "login, one call throttled" 2000 "throttle ecr:GetAuthorizationToken" 0 --login bench/1
next_to "login, STS is silent" 100 "silence sts:GetCallerIdentity" 0 --login bench/1
index=(--list-repositories --organization "$ARK_ORGANIZATION")
next_to "listing, the tag index is silent" 3500 "silence tag:GetResources" 0 "${index[@]}"
KEEP_CACHE=1 next_to "  again within the hour" 500 "silence tag:GetResources" 0 "${index[@]}"
AWS_ENDPOINT_URL=http://127.0.0.1:1 next_to "listing, nobody listens" 100 "" 7 --list-repositories
exit $failed
