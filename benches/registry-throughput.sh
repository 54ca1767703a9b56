#!/usr/bin/env bash
# Upload and download of one blob: this project's registry next to Debian's docker-registry, in one
# run, on the same bytes and disk, through curl. Prints medians and the ratio (below 1: ours is faster).
#   benches/registry-throughput.sh [MEBIBYTES=512] [ROUNDS=5]
set -euo pipefail
cd "$(dirname "$0")/.."
mebibytes=${1:-512} rounds=${2:-5}

for command in curl docker-registry sha256sum; do
  command -v "$command" >/dev/null ||
    { echo "missing: $command; apt-get install -y curl docker-registry coreutils" >&2; exit 1; }
done
cargo build --quiet --release -p ark-container-cli
tool=target/release/ark-catalog-container-tool

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$work"' EXIT

free_port() { python3 -c 'import socket; s=socket.socket(); s.bind(("127.0.0.1",0)); print(s.getsockname()[1])'; }
until_answers() { for _ in $(seq 100); do curl -so /dev/null "$1" && return; sleep 0.05; done; echo "no answer: $1" >&2; exit 1; }

# Ours: one repository, and a login to it.
organization=2ea25035-6aa4-42fb-9955-92288ea1b972
export ARK_REGISTRY="local:$work/ours" XDG_CONFIG_HOME="$work"
"$tool" --quiet --serve --listen 127.0.0.1:0 >"$work/address" & pids+=($!)
for _ in $(seq 100); do [[ -s "$work/address" ]] && break; sleep 0.05; done
url=$("$tool" --create-repository bench/blob --organization $organization)
password=$("$tool" --quiet --login bench/blob --organization $organization --access delete)
ours_repository="http://${url%%/*}/v2/${url#*/}"
printf 'user = "AWS:%s"\n' "$password" >"$work/ours.curl"

# The peer: Debian's docker-registry on a folder of the same disk.
port=$(free_port)
cat >"$work/peer.yml" <<YAML
version: 0.1
log: {level: error, accesslog: {disabled: true}}
storage: {filesystem: {rootdirectory: $work/peer}, delete: {enabled: true}}
http: {addr: "127.0.0.1:$port"}
YAML
docker-registry serve "$work/peer.yml" 2>"$work/peer.log" & pids+=($!)
until_answers "http://127.0.0.1:$port/v2/"
peer_repository="http://127.0.0.1:$port/v2/bench/blob"
: >"$work/peer.curl"

head -c "$((mebibytes << 20))" /dev/urandom >"$work/blob"
digest="sha256:$(sha256sum "$work/blob" | cut -d' ' -f1)"

# upload NAME REPOSITORY: one POST, one streamed PUT; then the blob is deleted for the next round.
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
    # The peer unlinks a deleted blob but keeps its bytes; a fresh upload must write them again.
    rm -rf "$work/peer/docker/registry/v2/blobs"
  done
done

printf '%-10s %12s %12s %8s\n' "$mebibytes MiB" ours docker-registry ratio
for way in upload download; do
  ours=$(median "$work/ours.$way") peer=$(median "$work/peer.$way")
  awk -v way="$way" -v o="$ours" -v p="$peer" -v m="$mebibytes" \
    'BEGIN { printf "%-10s %7.0f MB/s %10.0f MB/s %8.2f\n", way, m*1.048576/o, m*1.048576/p, o/p }'
done
