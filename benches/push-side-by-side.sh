#!/usr/bin/env bash
# Pushes by this project's command line, next to skopeo, docker, podman and curl, in one run, into a
# registry that discards (benches/sink.rs), so that what is measured is the client. Prints medians,
# and fails where a limit is passed.
#   benches/push-side-by-side.sh [RUNS=5] [layout|tls|archive|small|many|large]…
# Without a choice, all of them: about 15 minutes and 8 GB below TMPDIR.
#
# Where the time of an archive goes, on two cores that are busy to 95%: seven tenths to the encoder, an eighth to both
# digests, a twentieth to reading and sending, the rest to threads and memory. A faster deflate needs assembler that
# writes other bytes where there is none, and no setting of zstd is 10% smaller than skopeo's gzip in less than 3 s of
# processor time for 900 MiB; so on two cores gzip stays near 0.46 of skopeo's time and zstd near 0.35.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
(($#)) && shift
parts=("$@")
((${#parts[@]})) || parts=(layout tls archive small many large)
source benches/images.sh

missing() { echo "missing: $1; apt-get install -y $2" >&2; exit 1; }
for command in curl dockerd:docker.io hyperfine jq openssl podman skopeo /usr/bin/time:time; do
  command -v "${command%:*}" >/dev/null || missing "${command%:*}" "${command#*:}"
done
cargo build --quiet --release -p ark-container-cli
cargo build --quiet --release -p ark-container-benches --example sink
tool=target/release/ark-catalog-container-tool

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$work"' EXIT

# Nothing of this machine's own settings, and keys that no account knows.
organization=2ea25035-6aa4-42fb-9955-92288ea1b972
export ARK_REGISTRY=ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod ARK_ORGANIZATION=$organization
export HOME="$work/home" XDG_CONFIG_HOME="$work/config" XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data"
export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
export AWS_ACCESS_KEY_ID=AKIAEXAMPLE AWS_SECRET_ACCESS_KEY=example AWS_REGION=us-east-1
mkdir -p "$HOME"

# An authority for the registry's certificate, which each client is told to trust.
authority "$work"

# sink NAME OPTIONS…: starts one, and sets NAME to its host and NAME_tls to that for TLS.
sink() {
  local name=$1; shift
  target/release/examples/sink "$@" >"$work/$name.env" & pids+=($!)
  for _ in $(seq 200); do [[ -s "$work/$name.env" ]] && break; sleep 0.05; done
  printf -v "$name" '%s' "$(sed -n 's/^PLAIN=//p' "$work/$name.env")"
  printf -v "${name}_tls" '%s' "$(sed -n 's/^TLS=//p' "$work/$name.env")"
}
# ours SINK SOURCE [OPTIONS…]: the command line of a push; its login is in the cache from then on.
ours() {
  local sink=$1 source=$2; shift 2
  echo "env AWS_ENDPOINT_URL=http://$sink $tool --quiet --push bench/image:v1 --from $source $*"
  AWS_ENDPOINT_URL="http://$sink" "$tool" --quiet --login bench/image >/dev/null
}
# skopeo_copy SINK SOURCE [OPTIONS…]
skopeo_copy() {
  local sink=$1 source=$2; shift 2
  echo "skopeo --insecure-policy copy -q --dest-tls-verify=false $* $source docker://$sink/bench/skopeo:v1"
}
# The registry forgets what it has, or so does this machine too.
forget() { echo "curl -sf -o /dev/null -X DELETE http://$1/counts"; }
forget_all() { echo "sh -c 'rm -rf $XDG_CACHE_HOME; $(forget "$1")'"; }
counts() { curl -sf "http://$1/counts"; }
remember() { echo "curl -sf -o /dev/null http://$1/counts"; }

# measure NAME SINK RUNS PREPARE COMMAND: median seconds, mean CPU seconds, most KiB in memory, and the
# requests and bytes of the last run.
measure() {
  local name=$1 sink=$2 count=$3 prepare=$4 command=$5
  : >"$work/memory"
  hyperfine -N --style none --runs "$count" --prepare "$prepare" --export-json "$work/result.json" \
    "/usr/bin/time -a -o $work/memory -f %M $command" >/dev/null
  echo "$(jq -r '.results[0] | "\(.median) \(.user + .system)"' "$work/result.json")" \
    "$(sort -n "$work/memory" | tail -1)" "$(counts "$sink")" >"$work/$name.result"
}

failed=0
over() { echo "    over the limit: $1" >&2; failed=1; }
title() { printf '\n%s\n  %-24s %10s %10s %10s %9s %11s\n' "$1" "" wall CPU memory requests sent; }
# line NAME [WHAT]
line() {
  awk -v what="${2:-$1}" '{ printf "  %-24s %8.3f s %8.3f s %6.0f MiB %9d %8.1f MB\n", what, $1, $2, $3 / 1024, $4, $5 / 1e6 }' "$work/$1.result"
}
# ratio FIELD OURS PEER LIMIT
wall=1 memory=3 bytes=5
ratio() {
  awk -v field="$1" -v what="$2 / $3" -v limit="$4" '
    NR == 1 { ours = $field } NR == 2 { peer = $field }
    END { printf "    %-38s %8.3f, at most %s\n", what, ours / peer, limit; exit !(ours / peer <= limit) }' \
    "$work/$2.result" "$work/$3.result" || over "$2 / $3"
}
# at_most FIELD NAME LIMIT UNIT
at_most() {
  awk -v field="$1" -v what="$2" -v limit="$3" -v unit="$4" '
    { printf "    %-38s %8.3f, at most %s %s\n", what, $field, limit, unit; exit !($field <= limit) }' \
    "$work/$2.result" || over "$2"
}

# uploads URL LAYOUT: one curl that sends the blobs of a layout, one after the other.
uploads() {
  local blob
  printf 'curl -sf --cacert %s -H Expect:' "$SSL_CERT_FILE"
  for blob in "$2"/blobs/sha256/*; do
    printf ' -T %s -o /dev/null %s/v2/bench/blobs/uploads/%s?digest=sha256:%s' "$blob" "$1" "${blob##*/}" "${blob##*/}"
  done
}

# Eight layers of 128 MiB, over HTTP and over TLS.
large_layout() { [[ -d "$work/large" ]] || layout "$work/large" 8 $((128 << 20)); }
compare_layout() {
  line ours; line skopeo; line curl
  ratio $wall ours skopeo 0.2
  ratio $wall ours curl 1.3
  at_most $memory ours $((24 << 10)) KiB
}
part_layout() {
  large_layout
  local source="oci:$work/large"
  measure ours "$plain" "$runs" "$(forget "$plain")" "$(ours "$plain" "$source")"
  measure skopeo "$plain" "$runs" "$(forget "$plain")" "$(skopeo_copy "$plain" "$source")"
  measure curl "$plain" "$runs" "$(forget "$plain")" "$(uploads "http://$plain" "$work/large")"
  title "OCI layout of 8 x 128 MiB, HTTP"
  compare_layout
}
part_tls() {
  large_layout
  local source="oci:$work/large" options="--dest-tls-verify=true --dest-cert-dir $work/tls"
  measure ours "$encrypted" "$runs" "$(forget "$encrypted")" "$(ours "$encrypted" "$source")"
  measure skopeo "$encrypted" "$runs" "$(forget "$encrypted")" "$(skopeo_copy "$encrypted_tls" "$source" "$options")"
  measure curl "$encrypted" "$runs" "$(forget "$encrypted")" "$(uploads "https://$encrypted_tls" "$work/large")"
  title "OCI layout of 8 x 128 MiB, TLS"
  compare_layout
}

start_docker() {
  docker="docker --host unix://$work/docker.sock"
  dockerd --iptables=false --ip6tables=false --bridge=none --data-root "$work/docker-data" \
    --exec-root "$work/docker-exec" --pidfile "$work/docker.pid" --host "unix://$work/docker.sock" \
    2>"$work/docker.log" & pids+=($!)
  for _ in $(seq 600); do $docker version >/dev/null 2>&1 && return; sleep 0.05; done
  echo "dockerd does not start (it needs root)" >&2; tail "$work/docker.log" >&2; exit 1
}

# Real files in layers that are compressed on the way. Of docker, whose daemon pushes, only the time counts.
part_archive() {
  real_layers "$work/layers" 5 192
  docker_archive "$work/image.tar" bench:v1 "$work"/layers/{0,1,2,3,4}.tar
  # A rebuild: the last layer is another.
  tar -C "$PWD" --mtime=@0 -cf "$work/layers/changed.tar" ark-container-core ark-container-cli
  docker_archive "$work/rebuilt.tar" bench:v1 "$work"/layers/{0,1,2,3,changed}.tar
  rm -r "$work/layers"
  local image="docker-archive:$work/image.tar" rebuilt="docker-archive:$work/rebuilt.tar"
  local fresh; fresh=$(forget_all "$plain")
  measure gzip "$plain" "$runs" "$fresh" "$(ours "$plain" "$image")"
  measure zstd "$plain" "$runs" "$fresh" "$(ours "$plain" "$image" --compression zstd)"
  local first; first="sh -c '$(forget "$plain"); $(ours "$plain" "$image") >/dev/null'"
  measure rebuilt "$plain" "$runs" "$first" "$(ours "$plain" "$rebuilt")"
  measure skopeo "$plain" "$runs" "$fresh" "$(skopeo_copy "$plain" "$image")"
  first="sh -c '$(forget "$plain"); $(skopeo_copy "$plain" "$image")'"
  measure skopeo-rebuilt "$plain" "$runs" "$first" "$(skopeo_copy "$plain" "$rebuilt")"

  start_docker
  $docker load -q -i "$work/image.tar" >/dev/null
  $docker tag bench:v1 "$plain/bench/docker:v1"
  measure docker "$plain" "$runs" "$fresh" "$docker push -q $plain/bench/docker:v1"
  local podman="podman --root $work/podman --runroot $work/podman-run --storage-driver vfs"
  $podman load -q -i "$work/image.tar" >/dev/null
  measure podman "$plain" "$runs" "$fresh" "$podman push -q --tls-verify=false bench:v1 docker://$plain/bench/podman:v1"
  $podman system reset -f >/dev/null 2>&1

  title "docker archive of $(($(stat -c %s "$work/image.tar") >> 20)) MiB of real files"
  local name
  for name in gzip zstd rebuilt skopeo skopeo-rebuilt docker podman; do line $name; done
  ratio $wall gzip skopeo 0.4
  ratio $wall gzip docker 0.4
  ratio $bytes gzip skopeo 1.05
  ratio $wall zstd skopeo 0.22
  ratio $bytes zstd skopeo 0.9
  ratio $wall rebuilt skopeo 0.1
  rm "$work/image.tar" "$work/rebuilt.tar"
}

# 50 ms per request: what counts is how many follow each other.
part_small() {
  layout "$work/small" 5 10000
  local source="oci:$work/small"
  measure first "$slow" "$((runs * 4))" "$(forget "$slow")" "$(ours "$slow" "$source")"
  measure again "$slow" "$((runs * 4))" "$(remember "$slow")" "$(ours "$slow" "$source")"
  measure skopeo "$slow" "$runs" "$(forget "$slow")" "$(skopeo_copy "$slow" "$source")"
  measure skopeo-again "$slow" "$runs" "$(remember "$slow")" "$(skopeo_copy "$slow" "$source")"
  title "5 layers of 10 kB, 50 ms per request"
  line first; line again; line skopeo; line skopeo-again
  at_most $wall first 0.26 s
  at_most $wall again 0.11 s
}

part_many() {
  layout "$work/many" 200 100000
  local source="oci:$work/many"
  measure ours "$plain" "$runs" "$(forget "$plain")" "$(ours "$plain" "$source")"
  measure skopeo "$plain" "$runs" "$(forget "$plain")" "$(skopeo_copy "$plain" "$source")"
  measure ours-slow "$slow" "$runs" "$(forget "$slow")" "$(ours "$slow" "$source")"
  measure skopeo-slow "$slow" "$runs" "$(forget "$slow")" "$(skopeo_copy "$slow" "$source")"
  title "200 layers of 100 kB; slow: 50 ms per request"
  line ours; line skopeo; line ours-slow; line skopeo-slow
  ratio $wall ours skopeo 1
  ratio $wall ours-slow skopeo-slow 1
}

# One layer that is far larger than what may be in memory; it is read from a hole.
part_large() {
  layout "$work/hole" 1 $((10 << 30)) zero
  measure ours "$plain" 1 "$(forget "$plain")" "$(ours "$plain" "oci:$work/hole")"
  measure curl "$plain" 1 "$(forget "$plain")" "$(uploads "http://$plain" "$work/hole")"
  title "one layer of 10 GiB"
  line ours; line curl
  ratio $wall ours curl 1.3
  at_most $memory ours $((24 << 10)) KiB
}

sink plain
sink encrypted --tls "$work/certificate.pem" "$work/key.pem"
sink slow --delay 50
for part in "${parts[@]}"; do "part_$part"; done
exit $failed
