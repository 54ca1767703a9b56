#!/usr/bin/env bash
# Compares pushes with skopeo, docker, podman and curl, and crane, regctl and oras if installed. The registry discards
# the content (benches/sink.rs), to measure only the client. Prints medians and ratios, and fails if a goal is missed.
#   benches/push-side-by-side.sh [RUNS=5] [layout|tls|archive|kinds|small|many|large]…
# The default is all: about 25 minutes and 8 GB below TMPDIR.
set -euo pipefail
cd "$(dirname "$0")/.."
runs=${1:-5}
(($#)) && shift
scenarios=("$@")
((${#scenarios[@]})) || scenarios=(layout tls archive kinds small many large)
source benches/common.sh
source benches/images.sh

need curl dockerd:docker.io hyperfine jq openssl podman skopeo /usr/bin/time:time
build encoder-limit sink
isolate
export ARK_REGISTRY=ecr://123456789012.dkr.ecr.us-east-1.amazonaws.com/prod
certificate_authority "$work"

# sink NAME OPTIONS…: starts a sink, and sets NAME to its host for HTTP and NAME_tls to its host for TLS.
sink() {
  local name=$1; shift
  target/release/examples/sink "$@" >"$work/$name.env" & pids+=($!)
  until_written "$work/$name.env"
  printf -v "$name" '%s' "$(sed -n 's/^PLAIN=//p' "$work/$name.env")"
  printf -v "${name}_tls" '%s' "$(sed -n 's/^TLS=//p' "$work/$name.env")"
}
# ours SINK SOURCE [OPTIONS…]: prints the command of a push, and logs in, so that the login is in the cache.
ours() {
  local sink=$1 source=$2; shift 2
  echo "env AWS_ENDPOINT_URL=http://$sink $tool --quiet --push bench/image:v1 --from $source $*"
  AWS_ENDPOINT_URL="http://$sink" "$tool" --quiet --login bench/image >/dev/null
}
# archive_by_skopeo SINK ARCHIVE: prints the command of a push.
archive_by_skopeo() {
  echo "skopeo --insecure-policy copy -q --dest-tls-verify=false docker-archive:$2 docker://$1/bench/skopeo:v1"
}
# Print commands with SINK that delete the sink's contents, those and the push cache, or only the sink's counts.
delete_contents() { echo "curl -sf -o /dev/null -X DELETE http://$1/counts"; }
delete_all() { echo "sh -c 'rm -rf $XDG_CACHE_HOME; $(delete_contents "$1")'"; }
reset_counts() { echo "curl -sf -o /dev/null http://$1/counts"; }

# measure_push NAME SINK RUNS PREPARE COMMAND: measures, and adds the requests and bytes of the last run to the result.
measure_push() {
  measure "$1" "$3" "$4" "$5"
  echo "$(<"$work/$1.result") $(curl -sf "http://$2/counts")" >"$work/$1.result"
}
# measure_peers SINK HOST RUNS PREPARE LAYOUT [tls]
measure_peers() {
  local peer
  for peer in "${peers[@]}"; do
    measure_push "$peer" "$1" "$3" "$4" "$(peer_push "$peer" "$5" "$2" "${6:-}")"
  done
}

# uploads URL LAYOUT: prints the command of a curl that uploads the blobs of a layout sequentially.
uploads() {
  local blob
  printf 'curl -sf --cacert %s -H Expect:' "$SSL_CERT_FILE"
  for blob in "$2"/blobs/sha256/*; do
    printf ' -T %s -o /dev/null %s/v2/bench/blobs/uploads/%s?digest=sha256:%s' "$blob" "$1" "${blob##*/}" "${blob##*/}"
  done
}

# Eight layers of 128 MiB, over HTTP and over TLS.
large_layout() { [[ -d "$work/large" ]] || layout "$work/large" 8 $((128 << 20)); }
# compare_layout CRANE_GOAL
compare_layout() {
  lines ours "${peers[@]}" curl
  ratio $wall ours crane "$1"
  ratio $wall ours regctl
  ratio $wall ours oras
  ratio $wall ours skopeo 0.2
  ratio $wall ours curl 1.3
  at_most $memory ours $((24 << 10))
}
scenario_layout() {
  large_layout
  title "push OCI layout of 8 x 128 MiB, HTTP"
  local fresh; fresh=$(delete_contents "$plain")
  measure_push ours "$plain" "$runs" "$fresh" "$(ours "$plain" "oci:$work/large")"
  measure_peers "$plain" "$plain" "$runs" "$fresh" "$work/large"
  measure_push curl "$plain" "$runs" "$fresh" "$(uploads "http://$plain" "$work/large")"
  compare_layout 1
}
scenario_tls() {
  large_layout
  title "push OCI layout of 8 x 128 MiB, TLS"
  local fresh; fresh=$(delete_contents "$encrypted")
  measure_push ours "$encrypted" "$runs" "$fresh" "$(ours "$encrypted" "oci:$work/large")"
  measure_peers "$encrypted" "$encrypted_tls" "$runs" "$fresh" "$work/large" tls
  measure_push curl "$encrypted" "$runs" "$fresh" "$(uploads "https://$encrypted_tls" "$work/large")"
  compare_layout 0.8
}

start_docker() {
  docker="docker --host unix://$work/docker.sock"
  dockerd --iptables=false --ip6tables=false --bridge=none --data-root "$work/docker-data" \
    --exec-root "$work/docker-exec" --pidfile "$work/docker.pid" --host "unix://$work/docker.sock" \
    2>"$work/docker.log" & pids+=($!)
  for _ in $(seq 600); do $docker version >/dev/null 2>&1 && return; sleep 0.05; done
  echo "dockerd does not start (it needs root)" >&2; tail "$work/docker.log" >&2; exit 1
}

# measure_compression ARCHIVE LAYER…: measures pushes with each compression, and the encoder alone.
measure_compression() {
  local archive=$1 fresh compression; shift
  fresh=$(delete_all "$plain")
  for compression in gzip zstd; do
    measure_push $compression "$plain" "$runs" "$fresh" "$(ours "$plain" "docker-archive:$archive" --compression $compression)"
    measure $compression-limit "$runs" "" "target/release/examples/encoder-limit $compression $*"
  done
  measure_push skopeo "$plain" "$runs" "$fresh" "$(archive_by_skopeo "$plain" "$archive")"
}
# compare_compression [GZIP_GOAL ZSTD_GOAL ZSTD_SIZE_GOAL LIMIT_GOAL]: compares CPU time with the limit, the encoder with
# both SHA-256 on one thread.
compare_compression() {
  ratio $wall gzip skopeo "${1:-}"
  ratio $bytes gzip skopeo 1.05
  ratio $cpu gzip gzip-limit "${4:-}"
  ratio $wall zstd skopeo "${2:-}"
  ratio $bytes zstd skopeo "${3:-}"
  ratio $cpu zstd zstd-limit "${4:-}"
}

# Layers of real files, which the push compresses. Only the wall time of docker is valid, because its daemon pushes.
scenario_archive() {
  local image=$work/image.tar rebuilt=$work/rebuilt.tar first
  real_layers "$work/layers" 5 192
  docker_archive "$image" bench:v1 "$work"/layers/{0,1,2,3,4}.tar
  # A rebuild changes the last layer.
  tar -C "$PWD" --mtime=@0 -cf "$work/layers/changed.tar" ark-container-core ark-container-cli
  docker_archive "$rebuilt" bench:v1 "$work"/layers/{0,1,2,3,changed}.tar

  title "push docker archive of $(($(stat -c %s "$image") >> 20)) MiB of /usr"
  measure_compression "$image" "$work"/layers/{0,1,2,3,4}.tar
  rm -r "$work/layers"
  first="sh -c '$(delete_contents "$plain"); $(ours "$plain" "docker-archive:$image") >/dev/null; $(reset_counts "$plain")'"
  measure_push rebuilt "$plain" "$runs" "$first" "$(ours "$plain" "docker-archive:$rebuilt")"
  first="sh -c '$(delete_contents "$plain"); $(archive_by_skopeo "$plain" "$image"); $(reset_counts "$plain")'"
  measure_push skopeo-rebuilt "$plain" "$runs" "$first" "$(archive_by_skopeo "$plain" "$rebuilt")"

  start_docker
  $docker load -q -i "$image" >/dev/null
  $docker tag bench:v1 "$plain/bench/docker:v1"
  measure_push docker "$plain" "$runs" "$(delete_all "$plain")" "$docker push -q $plain/bench/docker:v1"
  local podman="podman --root $work/podman --runroot $work/podman-run --storage-driver vfs"
  $podman load -q -i "$image" >/dev/null
  measure_push podman "$plain" "$runs" "$(delete_all "$plain")" "$podman push -q --tls-verify=false bench:v1 docker://$plain/bench/podman:v1"
  $podman system reset -f >/dev/null 2>&1

  lines gzip gzip-limit zstd zstd-limit rebuilt skopeo skopeo-rebuilt docker podman
  compare_compression 0.4 0.33 0.9 1.05
  ratio $wall gzip docker 0.4
  ratio $wall rebuilt skopeo-rebuilt
  rm "$image" "$rebuilt"
}

# One layer of each kind of content, to check the settings of the encoders.
scenario_kinds() {
  local kind
  for kind in system python binaries media; do
    kind_layer $kind "$work/$kind.tar"
    docker_archive "$work/image.tar" bench:v1 "$work/$kind.tar"
    title "push docker archive of $(($(stat -c %s "$work/$kind.tar") >> 20)) MiB of $kind files"
    measure_compression "$work/image.tar" "$work/$kind.tar"
    lines gzip gzip-limit zstd zstd-limit skopeo
    compare_compression
    rm "$work/image.tar" "$work/$kind.tar"
  done
}

# With 50 ms per request, the time depends on the number of sequential requests.
scenario_small() {
  layout "$work/small" 5 10000
  title "push 5 layers of 10 kB, 50 ms per request"
  local first again; first=$(delete_contents "$slow") again=$(reset_counts "$slow")
  measure_push first "$slow" "$((runs * 4))" "$first" "$(ours "$slow" "oci:$work/small")"
  measure_push again "$slow" "$((runs * 4))" "$again" "$(ours "$slow" "oci:$work/small")"
  measure_peers "$slow" "$slow" "$runs" "$first" "$work/small"
  lines first again "${peers[@]}"
  ratio $wall first crane
  ratio $wall first skopeo
  at_most $wall first 0.25
  at_most $wall again 0.085
}

scenario_many() {
  local speed
  layout "$work/many" 200 100000
  for speed in plain slow; do
    title "push 200 layers of 100 kB$([[ $speed == plain ]] || echo ', 50 ms per request')"
    measure_push ours "${!speed}" "$runs" "$(delete_contents "${!speed}")" "$(ours "${!speed}" "oci:$work/many")"
    measure_peers "${!speed}" "${!speed}" "$runs" "$(delete_contents "${!speed}")" "$work/many"
    lines ours "${peers[@]}"
    ratio $wall ours crane
    ratio $wall ours skopeo 1
  done
}

# One layer far larger than the memory limit, from a sparse file.
scenario_large() {
  layout "$work/hole" 1 $((10 << 30)) zero
  title "push one layer of 10 GiB"
  measure_push ours "$plain" 1 "$(delete_contents "$plain")" "$(ours "$plain" "oci:$work/hole")"
  measure_push curl "$plain" 1 "$(delete_contents "$plain")" "$(uploads "http://$plain" "$work/hole")"
  lines ours curl
  ratio $wall ours curl 1.3
  at_most $memory ours $((24 << 10))
}

sink plain
sink encrypted --tls "$work/certificate.pem" "$work/key.pem"
sink slow --delay 50
for scenario in "${scenarios[@]}"; do "scenario_$scenario"; done
exit $failed
