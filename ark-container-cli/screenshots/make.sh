#!/usr/bin/env bash
# Regenerates the pictures of ark-container-cli/README.md and docs/identities.md from the output of the tool:
#
#     ark-container-cli/screenshots/make.sh [TOOL]
#
# Requires python3 with venv, and unshare for a temporary home folder.
set -euo pipefail
cd "$(dirname "$0")/../.."

tool="${1:-}"
if [[ -z "$tool" ]]; then
  cargo build --release -p ark-container-cli
  tool="${CARGO_TARGET_DIR:-target}/release/ark-catalog-container-tool"
fi
venv="${CARGO_TARGET_DIR:-target}/screenshots-venv"
if [[ ! -x "$venv/bin/python" ]]; then
  python3 -m venv "$venv"
  # pyte is a terminal emulator without a screen.
  "$venv/bin/pip" install --quiet --disable-pip-version-check pyte==0.8.2
fi
folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
cp "$tool" "$folder/ark-catalog-container-tool"
cp ark-container-cli/screenshots/home.sh "$folder/"
"$venv/bin/python" ark-container-cli/screenshots/record.py "$folder" ark-container-cli/screenshots
