# Functions that create OCI layouts, archives, and the certificate of a registry. The images are not runnable.

# certificate_authority FOLDER: creates the authority FOLDER/tls/ca.crt, and its certificate and key for 0.0.0.0,
# FOLDER/certificate.pem and FOLDER/key.pem. Programs started afterwards trust the authority.
certificate_authority() {
  local folder=$1
  mkdir -p "$folder/tls"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=bench-authority \
      -keyout "$folder/ca.key" -out "$folder/tls/ca.crt"
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=bench \
      -keyout "$folder/key.pem" -out "$folder/request.pem"
    openssl x509 -req -in "$folder/request.pem" -CA "$folder/tls/ca.crt" -CAkey "$folder/ca.key" -CAcreateserial \
      -days 2 -extfile <(echo subjectAltName=IP:0.0.0.0) -out "$folder/certificate.pem"
  } 2>/dev/null
  export SSL_CERT_FILE="$folder/tls/ca.crt"
}

# descriptor MEDIA_TYPE FILE: prints the descriptor of a file.
descriptor() {
  printf '{"mediaType":"%s","digest":"sha256:%s","size":%d}' \
    "$1" "$(sha256sum "$2" | cut -d' ' -f1)" "$(stat -c %s "$2")"
}
# keep LAYOUT FILE: moves the file to the path of its digest.
keep() { mv "$2" "$1/blobs/sha256/$(sha256sum "$2" | cut -d' ' -f1)"; }
joined() { local IFS=,; echo "$*"; }
quoted() { joined "${@/#/\"}" | sed 's/,/",/g; s/$/"/'; }
# configuration DIFF_ID…
configuration() {
  printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":[%s]}}' \
    "$(quoted "$@")"
}

# layout FOLDER COUNT BYTES [zero]: creates an image with COUNT layers of random bytes or zeros. The media type is gzip:
# no client decompresses the layers.
layout() {
  local folder=$1 count=$2 bytes=$3 layers=() diff_ids=() layer config manifest
  mkdir -p "$folder/blobs/sha256"
  layer="$folder/layer" config="$folder/config" manifest="$folder/manifest"
  for _ in $(seq "$count"); do
    case ${4:-} in
      zero) truncate -s "$bytes" "$layer" ;;
      *) head -c "$bytes" /dev/urandom >"$layer" ;;
    esac
    layers+=("$(descriptor application/vnd.oci.image.layer.v1.tar+gzip "$layer")")
    diff_ids+=("$(grep -o 'sha256:[0-9a-f]*' <<<"${layers[-1]}")")
    mv "$layer" "$folder/blobs/sha256/${diff_ids[-1]#sha256:}"
  done
  configuration "${diff_ids[@]}" >"$config"
  printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s]}' \
    application/vnd.oci.image.manifest.v1+json \
    "$(descriptor application/vnd.oci.image.config.v1+json "$config")" "$(joined "${layers[@]}")" >"$manifest"
  printf '{"schemaVersion":2,"manifests":[%s]}' \
    "$(descriptor application/vnd.oci.image.manifest.v1+json "$manifest")" >"$folder/index.json"
  echo '{"imageLayoutVersion":"1.0.0"}' >"$folder/oci-layout"
  keep "$folder" "$config"
  keep "$folder" "$manifest"
}

# real_layers FOLDER COUNT MEBIBYTES: creates reproducible tar files NUMBER.tar of files of this machine. As in an image,
# a layer has whole folders: it is the start of one of COUNT equal parts of /usr.
real_layers() {
  local folder=$1 count=$2 mebibytes=$3 number
  mkdir -p "$folder"
  files /usr -xdev >"$folder/all"
  awk -v count="$count" -v limit="$((mebibytes << 20))" -v folder="$folder" '
    NR == FNR { total += $1; next }
    { layer = int(seen / total * count); seen += $1 }
    size[layer] + $1 <= limit { size[layer] += $1; sub(/^[0-9]+ /, ""); print > (folder "/" layer ".list") }' \
    "$folder/all" "$folder/all"
  for number in $(seq 0 "$((count - 1))"); do archive_of "$folder/$number.list" "$folder/$number.tar"; done
}
# archive_of LIST FILE
archive_of() { tar -P --mtime=@0 --owner=0 --group=0 --numeric-owner -cf "$2" -T "$1" 2>/dev/null; }

# kind_layer system|python|binaries|media FILE: creates a tar of at most 200 MiB of files of one kind.
kind_layer() {
  case $1 in
    system) files /usr/sbin | take 100; files /usr/share | take 100 ;;
    python) files / -xdev -path '*/site-packages/*' | take 200 ;;
    binaries) files "$PWD/target" -perm -u+x -size +1M | take 100; files /usr/lib -name '*.so*' | take 100 ;;
    media)
      files / -xdev -size +10k '(' -name '*.jpg' -o -name '*.png' -o -name '*.gz' -o -name '*.xz' -o -name '*.deb' \
        -o -name '*.whl' -o -name '*.crate' ')' | take 200 ;;
  esac >"$2.list"
  archive_of "$2.list" "$2"
}
# files FOLDER [FIND_OPTION…]: prints sizes and paths. Unreadable folders are skipped.
files() {
  { find "$@" -type f -readable -size -64M ! -path "${TMPDIR:-/tmp}/*" -printf '%s %p\n' 2>/dev/null || true; } |
    LC_ALL=C sort -k2
}
# take MEBIBYTES: prints the paths of the first files up to a total size.
take() { awk -v limit="$(($1 << 20))" 'size + $1 <= limit { size += $1; sub(/^[0-9]+ /, ""); print }'; }

# docker_archive FILE NAME LAYER…: creates an archive in the format of `docker save`.
docker_archive() {
  local file=$1 name=$2 layer folder layers=() diff_ids=(); shift 2
  folder=$(mktemp -d -p "$(dirname "$file")")
  for layer in "$@"; do
    diff_ids+=("sha256:$(sha256sum "$layer" | cut -d' ' -f1)")
    layers+=("$(basename "$layer")")
    ln "$layer" "$folder/"
  done
  configuration "${diff_ids[@]}" >"$folder/config.json"
  printf '[{"Config":"config.json","RepoTags":["%s"],"Layers":[%s]}]' \
    "$name" "$(quoted "${layers[@]}")" >"$folder/manifest.json"
  tar -C "$folder" -cf "$file" manifest.json config.json "${layers[@]}"
  rm -r "$folder"
}
