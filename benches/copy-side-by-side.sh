#!/usr/bin/env bash
# Copies an image of two platforms, ten layers and 1 GiB from a registry with TLS into the embedded registry, compared
# with skopeo, and crane if installed. Prints medians, and the requests to the source for a first and an unchanged copy.
# Fails if a goal is missed.
#   benches/copy-side-by-side.sh [RUNS=5]
# About 5 minutes and 4 GB below TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
source benches/common.sh
source benches/images.sh

need docker-registry hyperfine jq openssl skopeo /usr/bin/time:time
build
isolate
mkdir -p "$work/login"

# All clients use TLS for 0.0.0.0, an address of this machine that is not a loopback address.
certificate_authority "$work"
port=$(free_port 0.0.0.0)
distribution "$work/source" "0.0.0.0:$port" info "tls: {certificate: $work/certificate.pem, key: $work/key.pem}"
serve

# Two platforms of five layers.
for platform in amd64 arm64; do layout "$work/$platform" 5 $((107 << 20)); done
cp -r "$work/amd64" "$work/image"
cp "$work"/arm64/blobs/sha256/* "$work/image/blobs/sha256/"
jq -c -s '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [
    .[0].manifests[0] + {platform: {os: "linux", architecture: "amd64"}},
    .[1].manifests[0] + {platform: {os: "linux", architecture: "arm64"}}]}' \
  "$work/amd64/index.json" "$work/arm64/index.json" | tr -d '\n' >"$work/index"
descriptor application/vnd.oci.image.index.v1+json "$work/index" |
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
copies="docker://0.0.0.0:$port/bench/image:v1 docker://$registry/prod/$organization/bench/image:v1"
peer="env DOCKER_CONFIG=$work/login skopeo --insecure-policy copy -q --all --src-cert-dir $work/tls --dest-tls-verify=false --authfile $work/login/config.json $copies"

# requests COMMAND: prints the number of requests to the source.
requests() {
  local before; before=$(grep -c '" 200\|" 404\|" 401\|" 206' "$work/distribution.log" || true)
  $1 >/dev/null
  sleep 0.2
  echo $(($(grep -c '" 200\|" 404\|" 401\|" 206' "$work/distribution.log" || true) - before))
}

title "copy of 10 x 107 MiB, two platforms, from TLS into the embedded registry"
fresh="bash -c renew"
measure ours "$runs" "$fresh" "$ours"
measure skopeo "$runs" "$fresh" "$peer"
if has crane; then
  measure crane "$runs" "$fresh" "env DOCKER_CONFIG=$work/login crane copy ${copies//docker:\/\//}"
fi
renew
lines ours skopeo crane
echo "  requests to the source: $(requests "$ours") of a first copy, $(requests "$ours") of an unchanged one"
ratio $wall ours skopeo 0.5
ratio $wall ours crane
at_most $memory ours $((64 << 10))
exit $failed
