#!/usr/bin/env bash
# Copies an image of two platforms, ten layers and 1 GiB from a registry with TLS into the embedded registry, next to
# skopeo, and crane where it is installed, in one run. Prints medians, the requests to the source of a first and of an
# unchanged copy, and fails where a limit is passed.
#   benches/copy-side-by-side.sh [RUNS=5]
# About 5 minutes and 4 GB below TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
source benches/images.sh

missing() { echo "missing: $1; apt-get install -y $2" >&2; exit 1; }
for command in docker-registry hyperfine jq openssl skopeo /usr/bin/time:time; do
  command -v "${command%:*}" >/dev/null || missing "${command%:*}" "${command#*:}"
done
cargo build --quiet --release -p ark-container-cli
tool=$PWD/target/release/ark-catalog-container-tool

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$work"' EXIT
export ARK_REGISTRY="local:$work/registry" ARK_ORGANIZATION=2ea25035-6aa4-42fb-9955-92288ea1b972
export HOME="$work/home" XDG_CONFIG_HOME="$work/config" XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data"
mkdir -p "$HOME" "$work/login"

# 0.0.0.0 is an address of this machine that no client takes for
# loopback, so that all of them use TLS.
authority "$work"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("0.0.0.0", 0)); print(s.getsockname()[1])')
cat >"$work/source.yml" <<YAML
version: 0.1
log: {level: info, accesslog: {disabled: false}}
storage: {filesystem: {rootdirectory: $work/source}}
http: {addr: "0.0.0.0:$port", tls: {certificate: $work/certificate.pem, key: $work/key.pem}}
YAML
docker-registry serve "$work/source.yml" >"$work/source.log" 2>&1 & pids+=($!)
"$tool" --serve --listen 127.0.0.1:0 >"$work/address" 2>/dev/null & pids+=($!)
for _ in $(seq 100); do [[ -s "$work/address" ]] && break; sleep 0.05; done
target=$(<"$work/address")

# Two platforms of five layers.
for platform in amd64 arm64; do layout "$work/$platform" 5 $((107 << 20)); done
cp -r "$work/amd64" "$work/image"
cp "$work"/arm64/blobs/sha256/* "$work/image/blobs/sha256/"
jq -c -s '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [
    .[0].manifests[0] + {platform: {os: "linux", architecture: "amd64"}},
    .[1].manifests[0] + {platform: {os: "linux", architecture: "arm64"}}]}' \
  "$work/amd64/index.json" "$work/arm64/index.json" | tr -d '\n' >"$work/index"
described application/vnd.oci.image.index.v1+json "$work/index" |
  jq -c '{schemaVersion: 2, manifests: [.]}' >"$work/image/index.json"
keep "$work/image" "$work/index"
rm -r "$work/amd64" "$work/arm64"
skopeo --insecure-policy copy -q --all --dest-cert-dir "$work/tls" "oci:$work/image" "docker://0.0.0.0:$port/bench/image:v1"
rm -r "$work/image"

renew() { "$tool" --quiet --delete-repository bench/image --force >/dev/null 2>&1 || true; "$tool" --quiet --create-repository bench/image >/dev/null; }
export -f renew; export tool
renew
"$tool" --quiet --login bench/image --docker-config "$work/login" >/dev/null
ours="$tool --quiet --copy docker://0.0.0.0:$port/bench/image:v1 --to bench/image:v1"
copies="docker://0.0.0.0:$port/bench/image:v1 docker://$target/prod/$ARK_ORGANIZATION/bench/image:v1"
peer="env DOCKER_CONFIG=$work/login skopeo --insecure-policy copy -q --all --src-cert-dir $work/tls --dest-tls-verify=false --authfile $work/login/config.json $copies"

# measure NAME COMMAND: median seconds, mean CPU seconds and most KiB in memory.
measure() {
  : >"$work/memory"
  hyperfine -N --style none --runs "$runs" --prepare "bash -c renew" --export-json "$work/result.json" \
    "/usr/bin/time -a -o $work/memory -f %M $2" >/dev/null
  echo "$(jq -r '.results[0] | "\(.median) \(.user + .system)"' "$work/result.json") $(sort -n "$work/memory" | tail -1)" >"$work/$1.result"
  awk -v what="$1" '{ printf "  %-10s %8.3f s %8.3f s CPU %6.0f MiB\n", what, $1, $2, $3 / 1024 }' "$work/$1.result"
}
# requests COMMAND: how many requests it makes to the source.
requests() {
  local before; before=$(grep -c '" 200\|" 404\|" 401\|" 206' "$work/source.log" || true)
  $1 >/dev/null
  sleep 0.2
  echo $(($(grep -c '" 200\|" 404\|" 401\|" 206' "$work/source.log" || true) - before))
}

echo "copy of 10 x 107 MiB, two platforms, from TLS into the embedded registry"
measure ours "$ours"
measure skopeo "$peer"
if command -v crane >/dev/null; then
  measure crane "env DOCKER_CONFIG=$work/login crane copy ${copies//docker:\/\//}"
fi
renew
echo "  requests to the source: $(requests "$ours") of a first copy, $(requests "$ours") of an unchanged one"
awk '
  NR == 1 { ours = $1; memory = $3 } NR == 2 { peer = $1 }
  END {
    printf "  ours / skopeo %.3f, at most 0.5; memory %.0f MiB, at most 64\n", ours / peer, memory / 1024
    exit !(ours / peer <= 0.5 && memory <= 64 * 1024)
  }' "$work/ours.result" "$work/skopeo.result"
