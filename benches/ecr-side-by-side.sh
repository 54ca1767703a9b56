#!/usr/bin/env bash
# Compares this project's command line with the AWS command line and a bare aws-sdk-ecr program (benches/bare_ecr.rs): a
# listing and a login on moto. Then measures, on the fake of AWS, a login from the cache and listings of an account with
# 100,000 repositories. Prints medians and CPU time, and fails if a limit is exceeded.
#   benches/ecr-side-by-side.sh [RUNS=100]
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-100}
# tests/run installs Python programs there.
PATH="$PWD/target/test-components/venv/bin:$PATH"

source benches/common.sh

need curl hyperfine jq /usr/bin/time:time
for command in moto_server aws; do
  has "$command" || { echo "missing: $command; pip install -r tests/python-components.txt" >&2; exit 1; }
done
build bare-ecr fake-aws
bare=target/release/examples/bare-ecr
fake=target/release/examples/fake-aws
trap 'kill "${pids[@]}" ${FAKE_PID:-} 2>/dev/null; wait; rm -rf "$work"' EXIT
isolate
export ARK_REGISTRY=ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod AWS_PAGER= AWS_DEFAULT_REGION=us-east-1

port=$(free_port)
moto_server -H 127.0.0.1 -p "$port" >"$work/moto.log" 2>&1 & pids+=($!)
export AWS_ENDPOINT_URL="http://127.0.0.1:$port"
until_answers "$AWS_ENDPOINT_URL"
for number in $(seq 10); do "$tool" --create-repository "bench/$number" >/dev/null; done

# milliseconds NAME RUNS COMMAND…: writes the median wall time and the mean CPU time to NAME.
milliseconds() {
  local name=$1 count=$2; shift 2
  hyperfine -N --style none --warmup 3 --runs "$count" --export-json "$work/result.json" "$*" >/dev/null
  jq -r '.results[0] | "\(.median * 1000) \((.user + .system) * 1000)"' "$work/result.json" >"$work/$name"
}
# side_by_side NAME OURS BARE AWS
side_by_side() {
  milliseconds ours "$runs" "$2"
  milliseconds bare "$runs" "$3"
  milliseconds aws 10 "$4"
  awk -v what="$1" '
    FILENAME ~ /ours$/ { ours = $1; ours_cpu = $2 }
    FILENAME ~ /bare$/ { bare = $1; bare_cpu = $2 }
    FILENAME ~ /aws$/  { aws = $1; aws_cpu = $2 }
    END {
      format = "%-18s %10s %10s %10s %12s %12s\n"
      printf format, what, "ours", "bare SDK", "aws", "ours/bare", "aws/ours"
      printf "%-18s %7.1f ms %7.1f ms %7.1f ms %12.2f %12.1f\n", "  wall, median", ours, bare, aws, ours/bare, aws/ours
      printf "%-18s %7.1f ms %7.1f ms %7.1f ms %12.2f %12.1f\n", "  CPU, mean", ours_cpu, bare_cpu, aws_cpu, ours_cpu/bare_cpu, aws_cpu/ours_cpu
      exit !(ours / bare < 1.2 && aws / ours >= 20)
    }' "$work/ours" "$work/bare" "$work/aws" || { echo "  over the limit: under 1.2 bare, at least 20 times faster than aws" >&2; failed=1; }
}
side_by_side "list-repositories" "$tool --quiet --list-repositories" "$bare list" "aws ecr describe-repositories"
# The passwords of moto expired in 2015, so no login uses the cache.
side_by_side "login" "$tool --quiet --login bench/1" "$bare login" "aws ecr get-login-password"

# The fake of AWS: 100,000 repositories, 100 of them of the organization.
coproc FAKE { exec "$fake" 100000 100; }
exec 3<&"${FAKE[0]}" 4>&"${FAKE[1]}"
while read -r line <&3 && [[ -n "$line" ]]; do export "${line?}"; done
calls() { local count; echo >&4; read -r count <&3; echo "$count"; }
"$tool" --quiet --login bench/1 >/dev/null
milliseconds cached "$runs" "$tool --quiet --login bench/1"
awk '{ printf "%-30s %6.2f ms wall, median; %.2f ms CPU, mean\n", "cached login", $1, $2; exit !($2 < 5) }' \
  "$work/cached" || { echo "  over the limit of 5 ms of CPU" >&2; failed=1; }

# listing NAME CALLS ROWS OPTIONS…: reads ROWS rows of a listing. Fails after more than CALLS calls.
listing() {
  local what=$1 max_calls=$2 rows=$3 seconds kibibytes count; shift 3
  calls >/dev/null
  /usr/bin/time -f '%e %M' -o "$work/time" "$tool" --quiet --list-repositories "$@" | head -n $((rows + 1)) >"$work/rows"
  read -r seconds kibibytes <"$work/time"
  count=$(calls)
  printf '%-30s %6.2f s %4d MiB %8d rows %4d calls\n' "$what" "$seconds" $((kibibytes / 1024)) $(($(wc -l <"$work/rows") - 1)) "$count"
  ((kibibytes < 32 * 1024 && count <= max_calls && $(wc -l <"$work/rows") == rows + 1)) ||
    { echo "  over the limit: 32 MiB, $max_calls calls; or not $rows rows" >&2; failed=1; }
}
echo "an account with 100,000 repositories, 100 of them the organization's"
listing "  by the index" 3 100 --organization $organization
listing "  by the scan" 100 100 --organization $organization --all-pages
listing "  all of them" 100 100000
listing "  the first of all" 2 1
exit $failed
