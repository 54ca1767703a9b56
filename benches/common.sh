# Functions for the scripts of this folder: programs, a working folder, measurements and goals.
#
# Each goal prints one line and, if BENCH_TABLE names a file, appends one row to its Markdown table (benches/table.sh).

tool=${ARK_BIN:-$PWD/target/release/ark-catalog-container-tool}
organization=2ea25035-6aa4-42fb-9955-92288ea1b972

# need COMMAND[:PACKAGE]…: exits if a command is missing.
need() {
  local command
  for command; do
    command -v "${command%:*}" >/dev/null ||
      { echo "missing: ${command%:*}; apt-get install -y ${command#*:}" >&2; exit 1; }
  done
}
has() { command -v "$1" >/dev/null; }

# build [EXAMPLE…]: builds the tool and examples of this folder.
build() {
  cargo build --quiet --release -p ark-container-cli
  (($# == 0)) || cargo build --quiet --release -p ark-container-benches "${@/#/--example=}"
}

work=$(mktemp -d)
pids=()
trap 'kill "${pids[@]}" 2>/dev/null; wait; rm -rf "$work"' EXIT

# isolate: sets an empty home with its own cache, and invalid AWS keys.
isolate() {
  export ARK_ORGANIZATION=$organization
  export HOME="$work/home" XDG_CONFIG_HOME="$work/config" XDG_CACHE_HOME="$work/cache" XDG_DATA_HOME="$work/data"
  export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_EC2_METADATA_DISABLED=true
  export AWS_ACCESS_KEY_ID=AKIAEXAMPLE AWS_SECRET_ACCESS_KEY=example AWS_REGION=us-east-1
  mkdir -p "$HOME"
}

# free_port [ADDRESS]
free_port() { python3 -c 'import socket, sys; s = socket.socket(); s.bind((sys.argv[1], 0)); print(s.getsockname()[1])' "${1:-127.0.0.1}"; }
until_answers() {
  for _ in $(seq 200); do curl -so /dev/null "$1" && return; sleep 0.05; done
  echo "no answer: $1" >&2; exit 1
}
until_written() { for _ in $(seq 200); do [[ -s "$1" ]] && return; sleep 0.05; done; echo "nothing in $1" >&2; exit 1; }

# serve: starts the embedded registry in the folder $work/registry, and sets `registry` to its host.
serve() {
  export ARK_REGISTRY="local:$work/registry"
  "$tool" --quiet --serve --listen 127.0.0.1:0 >"$work/address" 2>"$work/serve.log" & pids+=($!)
  until_written "$work/address"
  registry=$(cut -d/ -f1 "$work/address")
}
# distribution FOLDER ADDRESS LEVEL [HTTP_OPTIONS]: starts Debian's docker-registry. The level info logs requests.
distribution() {
  cat >"$work/distribution.yml" <<YAML
version: 0.1
log: {level: $3, accesslog: {disabled: $([[ $3 == info ]] && echo false || echo true)}}
storage: {filesystem: {rootdirectory: $1}, delete: {enabled: true}}
http: {addr: "$2"${4:+, $4}}
YAML
  docker-registry serve "$work/distribution.yml" >"$work/distribution.log" 2>&1 & pids+=($!)
}

# measure NAME RUNS PREPARE COMMAND: writes NAME.result: median seconds, mean CPU seconds, maximum memory in KiB.
measure() {
  local name=$1 count=$2 prepare=$3 command=$4
  : >"$work/memory"
  hyperfine -N --style none --runs "$count" ${prepare:+--prepare "$prepare"} --export-json "$work/hyperfine.json" \
    "/usr/bin/time -a -o $work/memory -f %M $command" >/dev/null
  echo "$(jq -r '.results[0] | "\(.median) \(.user + .system)"' "$work/hyperfine.json")" \
    "$(sort -n "$work/memory" | tail -1)" >"$work/$name.result"
}

# The installed peers that copy images. The scripts require skopeo.
peers=(skopeo)
for peer in crane regctl oras; do has "$peer" && peers+=("$peer"); done
# peer_push PEER LAYOUT HOST [tls]: prints the peer's command that pushes a layout.
peer_push() {
  local peer=$1 layout=$2 to=$3/bench/$1:v1 from
  from=$layout@$(jq -r '.manifests[0].digest' "$layout/index.json")
  case $peer${4:+-tls} in
    skopeo) echo "skopeo --insecure-policy copy -q --dest-tls-verify=false oci:$layout docker://$to" ;;
    skopeo-tls) echo "skopeo --insecure-policy copy -q --dest-cert-dir $work/tls oci:$layout docker://$to" ;;
    crane*) echo "crane push $layout $to" ;;
    regctl) echo "regctl --host reg=$3,tls=disabled image copy ocidir://$from $to" ;;
    regctl-tls) echo "regctl image copy ocidir://$from $to" ;;
    oras) echo "oras copy --no-tty --from-oci-layout $from --to-plain-http $to" ;;
    oras-tls) echo "oras copy --no-tty --from-oci-layout $from --to-ca-file $SSL_CERT_FILE $to" ;;
  esac
}
# peer_pull PEER IMAGE LAYOUT: prints the peer's command that pulls over HTTP with the login in $work/login.
peer_pull() {
  local from=$2 to=$3
  printf 'env DOCKER_CONFIG=%s ' "$work/login"
  case $1 in
    skopeo) echo "skopeo --insecure-policy copy -q --src-tls-verify=false --authfile $work/login/config.json docker://$from oci:$to:v1" ;;
    crane) echo "crane pull --format=oci $from $to" ;;
    regctl) echo "regctl --host reg=${from%%/*},tls=disabled image copy $from ocidir://$to:v1" ;;
    oras) echo "oras copy --no-tty --from-plain-http $from --to-oci-layout $to:v1" ;;
  esac
}

failed=0
# title WORK: prints the title of the next results, and deletes the earlier results.
title() { printf '\n%s\n' "$1"; work_title=$1; rm -f "$work"/*.result; }
# lines NAME…: prints the results that exist.
lines() {
  local name
  printf '  %-20s %10s %10s %10s %9s %11s\n' "" wall CPU memory requests sent
  for name; do
    [[ ! -s "$work/$name.result" ]] || awk -v name="$name" '
      { printf "  %-20s %8.3f s %8.3f s %6.0f MiB", name, $1, $2, $3 / 1024 }
      NF > 3 { printf " %9d %8.1f MB", $4, $5 / 1e6 }
      { print "" }' "$work/$name.result"
  done
}
# The fields of a result.
wall=1 cpu=2 memory=3 bytes=5
# ratio FIELD OURS PEER [GOAL]: prints the ratio, and fails if it exceeds the goal. A peer without a result is skipped.
ratio() {
  [[ -s "$work/$3.result" ]] || return 0
  awk -v field="$1" -v name="$2" -v peer="$3" -v goal="${4:-}" -v work="$work_title" -v table="${BENCH_TABLE:-/dev/null}" '
    BEGIN { split("time,CPU,memory,,size", kinds, ",") }
    function text() {
      return field == 3 ? sprintf("%.0f MiB", $3 / 1024) : field == 5 ? sprintf("%.1f MB", $5 / 1e6) \
        : NF == 1 ? sprintf("%.3f s", $1) : sprintf("%.3f s, %.2f CPU s", $1, $2)
    }
    NR == 1 { value = $field; ours = text() }
    NR == 2 { ratio = value / $field; theirs = text() }
    END {
      met = goal == "" ? "–" : ratio <= goal ? "yes" : "no"
      what = name == "ours" ? kinds[field] : name ", " kinds[field]
      printf "    %s: %.2f of %s%s\n", what, ratio, peer, goal == "" ? "" : ", goal " goal
      printf "| %s (%s) | %s | %s %s | %.2f | %s | %s |\n", work, what, ours, peer, theirs, ratio, goal == "" ? "–" : "≤ " goal, met >>table
      exit met == "no"
    }' "$work/$2.result" "$work/$3.result" || failed=1
}
# at_most FIELD NAME LIMIT: compares a value with a limit in seconds or KiB.
at_most() {
  awk -v field="$1" -v name="$2" -v limit="$3" -v work="$work_title" -v table="${BENCH_TABLE:-/dev/null}" '
    {
      unit = field == 3 ? "MiB" : "s"; scale = field == 3 ? 1024 : 1; digits = field == 3 ? "%.0f" : "%.3g"
      value = sprintf(digits " %s", $field / scale, unit); goal = sprintf(digits " %s", limit / scale, unit)
      met = $field <= limit ? "yes" : "no"
      printf "    %s: %s, goal %s\n", name, value, goal
      printf "| %s (%s) | %s | – | – | ≤ %s | %s |\n", work, name, value, goal, met >>table
      exit met == "no"
    }' "$work/$2.result" || failed=1
}
