#!/usr/bin/env bash
# Compares the wall time of commands while AWS fails with the same commands without a failure, on the fake of AWS. The
# failures: a throttled call, STS without a response (as in a private network without its endpoint), the tag index
# without a response (first and repeated), and a refused connection. Prints medians and ratios, and fails if a limit is
# exceeded.
#   benches/ecr-failures.sh [RUNS=7]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-7}

source benches/common.sh

build fake-aws
trap 'kill ${FAKE_PID:-} 2>/dev/null || true; wait; rm -rf "$work"' EXIT
isolate

# The tag index is used, because the account has more than one page of repositories.
coproc FAKE { exec target/release/examples/fake-aws 2000 10; }
exec 3<&"${FAKE[0]}" 4>&"${FAKE[1]}"
while read -r line <&3 && [[ -n "$line" ]]; do export "${line?}"; done
fake() { echo "$1" >&4; read -r _ <&3; }

# median FAULT CODE COMMAND…: prints the median time in milliseconds. Each run has the fault, and an empty cache unless
# KEEP_CACHE is set.
median() {
  local fault=$1 code=$2 start actual; shift 2
  for _ in $(seq "$runs"); do
    fake clear
    [[ -n "${KEEP_CACHE:-}" ]] || rm -rf "$work/cache"
    [[ -z "$fault" ]] || fake "$fault"
    start=${EPOCHREALTIME/./} actual=0
    "$tool" --quiet "$@" >/dev/null 2>&1 || actual=$?
    echo $((${EPOCHREALTIME/./} - start))
    ((actual == code)) || { echo "exit code $actual, not $code: $*" >&2; return 1; }
  done | sort -n | awk '{ all[NR] = $1 } END { print all[int((NR + 1) / 2)] / 1000 }'
}

# compare NAME LIMIT FAULT CODE COMMAND…: LIMIT is the additional time in milliseconds.
compare() {
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
compare "listing, one call throttled" 2000 "throttle ecr:DescribeRepositories" 0 --list-repositories
compare "login, one call throttled" 2000 "throttle ecr:GetAuthorizationToken" 0 --login bench/1
compare "login, STS hangs" 100 "hang sts:GetCallerIdentity" 0 --login bench/1
index=(--list-repositories --organization "$ARK_ORGANIZATION")
compare "listing, the tag index hangs" 3500 "hang tag:GetResources" 0 "${index[@]}"
KEEP_CACHE=1 compare "  again within the hour" 500 "hang tag:GetResources" 0 "${index[@]}"
AWS_ENDPOINT_URL=http://127.0.0.1:1 compare "listing, connection refused" 100 "" 7 --list-repositories
exit $failed
