#!/usr/bin/env bash
# Measures the example catalog_service under load, with and without the permission layer. Prints requests per second and
# latencies of listings and logins by 100 users. The fake of AWS runs on the same processors, with 10,000 organizations
# and 100,000 repositories.
#   benches/catalog-service.sh [SECONDS=10] [CONNECTIONS=16]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-10} connections=${2:-16}

source benches/common.sh

need wrk
build catalog-service
trap 'exec 3>&- || true; wait; rm -rf "$work"' EXIT
mkfifo "$work/end"

# Each connection sends requests of all users in turn, each with its own token.
cat >"$work/load.lua" <<'LUA'
local users = {}
for line in io.lines(os.getenv("TOKENS")) do
  local token, organization, name = line:match("(%S+) (%S+) (%S+)")
  users[#users + 1] = { token = token, organization = organization, name = name }
end
local next_user = 0
function request()
  next_user = next_user % #users + 1
  local user = users[next_user]
  local headers = { ["Authorization"] = "Bearer " .. user.token }
  if os.getenv("OPERATION") == "list" then
    return wrk.format("GET", "/repositories?organization=" .. user.organization, headers)
  end
  headers["Content-Type"] = "application/json"
  local body = string.format('{"organization":"%s","name":"%s"}', user.organization, user.name)
  return wrk.format("POST", "/credentials", headers, body)
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format("RESULT %.0f %.2f %.2f %d\n", summary.requests / summary.duration * 1e6,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000,
    errors.status + errors.connect + errors.read + errors.write + errors.timeout))
end
LUA

printf '%-12s %-8s %12s %12s %12s %8s\n' operation layer requests/s "median ms" "99th ms" errors
for layer in bare guarded bare guarded; do
  rm -f "$work/url"
  target/release/examples/catalog-service "$layer" "$work/tokens" <"$work/end" >"$work/url" & pid=$!
  exec 3>"$work/end"
  until grep -q http "$work/url"; do kill -0 "$pid"; sleep 0.1; done
  url=$(<"$work/url")
  export TOKENS=$work/tokens
  for operation in list credentials; do
    export OPERATION=$operation
    # Warm-up: afterwards, all logins are in the cache and all connections are open.
    wrk -t1 -c"$connections" -d3s -s "$work/load.lua" "$url" >/dev/null
    result=$(wrk -t1 -c"$connections" -d"${seconds}s" -s "$work/load.lua" "$url" | grep ^RESULT)
    read -r _ rate median high errors <<<"$result"
    printf '%-12s %-8s %12s %12s %12s %8s\n' "$operation" "$layer" "$rate" "$median" "$high" "$errors"
  done
  rss=$(awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$pid/status")
  exec 3>&-
  wait "$pid"
done
echo "memory of the service and the fake together, at most: $rss MiB"
