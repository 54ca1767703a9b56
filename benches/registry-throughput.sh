#!/usr/bin/env bash
# Compares the upload and download of one blob to the embedded registry and Debian's docker-registry, with curl, on the
# same bytes and disk. Prints medians and ratios, and fails if a goal is missed.
#   benches/registry-throughput.sh [MEBIBYTES=512] [ROUNDS=5]
# About 1 minute and 2 GB below TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
mebibytes=${1:-512} rounds=${2:-5}
source benches/common.sh

need curl docker-registry jq sha256sum:coreutils
build
isolate

# The embedded registry: one repository, and a login to it.
serve
url=$("$tool" --quiet --create-repository bench/blob)
password=$("$tool" --quiet --login bench/blob --access delete)
ours_repository="http://${url%%/*}/v2/${url#*/}"
printf 'user = "AWS:%s"\n' "$password" >"$work/ours.curl"

# The peer, in a folder on the same disk.
port=$(free_port)
distribution "$work/peer" "127.0.0.1:$port" error
until_answers "http://127.0.0.1:$port/v2/"
peer_repository="http://127.0.0.1:$port/v2/bench/blob"
: >"$work/peer.curl"

head -c "$((mebibytes << 20))" /dev/urandom >"$work/blob"
digest="sha256:$(sha256sum "$work/blob" | cut -d' ' -f1)"

# upload NAME REPOSITORY: one POST and one streamed PUT.
upload() {
  local location
  location=$(curl -sf -K "$work/$1.curl" -X POST -D - -o /dev/null "$2/blobs/uploads/" |
    tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
  [[ "$location" == http* ]] || location="${2%%/v2/*}$location"
  local separator='?'; [[ "$location" == *\?* ]] && separator='&'
  curl -sf -K "$work/$1.curl" -T "$work/blob" -H 'Content-Type: application/octet-stream' -H 'Expect:' \
    -o /dev/null -w '%{time_total}\n' "$location${separator}digest=$digest" >>"$work/$1.upload"
}
download() {
  curl -sf -K "$work/$1.curl" -o /dev/null -w '%{time_total}\n' "$2/blobs/$digest" >>"$work/$1.download"
}
median() { sort -n "$1" | sed -n "$((rounds / 2 + 1))p"; }

for _ in $(seq "$rounds"); do
  for name in ours peer; do
    repository="${name}_repository"
    upload "$name" "${!repository}"
    download "$name" "${!repository}"
    curl -sf -K "$work/$name.curl" -X DELETE -o /dev/null "${!repository}/blobs/$digest"
    # docker-registry keeps the bytes of a deleted blob. The next upload must write them again.
    rm -rf "$work/peer/docker/registry/v2/blobs"
  done
done

# The goals are ratios of times: 2.5 times the throughput of the peer for an upload, twice for a download.
for goal in upload:0.4 download:0.5; do
  way=${goal%:*}
  title "$way of $mebibytes MiB, embedded registry"
  for name in ours peer; do
    median "$work/$name.$way" >"$work/${name/peer/docker-registry}.result"
    awk -v name="$name" -v mebibytes="$mebibytes" '{ printf "  %-20s %8.0f MB/s\n", name, mebibytes * 1.048576 / $1 }' \
      "$work/${name/peer/docker-registry}.result"
  done
  ratio $wall ours docker-registry "${goal#*:}"
done
exit $failed
