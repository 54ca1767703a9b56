#!/usr/bin/env bash
# Starts the shell of alice in a temporary home folder. record.py runs this script with unshare.
set -euo pipefail
here="$1"
mount -t tmpfs home /home
mkdir -p /home/alice/bin /home/alice/.config/ark /home/alice/registry
cp "$here/ark-catalog-container-tool" /home/alice/bin/
cp "$here/extract-video.tar" /home/alice/
cat > /home/alice/.config/ark/container.toml <<'TOML'
registry = "local:/home/alice/registry"
organization = "2ea25035-6aa4-42fb-9955-92288ea1b972"
TOML
cat > /home/alice/registry/memberships.toml <<'TOML'
[[organization]]
id = "2ea25035-6aa4-42fb-9955-92288ea1b972"
members = ["user:alice"]
TOML
chmod -R go-w /home/alice
cd /home/alice
exec env -i HOME=/home/alice PATH=/home/alice/bin:/usr/bin:/bin TERM=xterm-256color LANG=C.UTF-8 \
  ARK_PRINCIPAL=user:alice PS1='$ ' bash --norc --noprofile -i
